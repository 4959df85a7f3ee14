"""Where the batches of fit and evaluate come from: arrays in memory, or any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import random
from fastcnn.batches import is_list_of_arrays, output_weights, slices

if TYPE_CHECKING:
    from fastcnn.training import Trainer


class Source:
    """Where batches come from.

    `batches()` yields (inputs, targets, samples, weights); samples are a slice of the arrays, or indices into them.
    """

    batch_size = 0
    steps: int | None = None

    def batches(self):
        raise NotImplementedError

    def split_off(self, fraction: float) -> Source:
        raise ValueError("validation_split needs arrays; give validation_data")


class ArraySource(Source):
    """Arrays in memory, shuffled anew for every pass; `test_weights` are those of samples held back."""

    def __init__(self, xs, ys, weights, batch_size: int, shuffle: bool, test_weights=None):
        self.xs, self.ys, self.weights, self.test_weights = xs, ys, weights, test_weights
        self.batch_size, self.shuffle = batch_size, shuffle
        self.first, self.last = 0, len(xs[0])

    @property
    def steps(self) -> int:
        return -(-(self.last - self.first) // self.batch_size)

    def batches(self):
        order = None
        if self.shuffle:
            order = random.generator().permutation(np.arange(self.first, self.last, dtype=np.intp))
        for first, last in slices(self.last - self.first, self.batch_size):
            samples = slice(self.first + first, self.first + last) if order is None else order[first:last]
            yield self.xs, self.ys, samples, self.weights

    def split_off(self, fraction: float) -> ArraySource:
        """The last `fraction` of the samples, before any shuffling, as a source of their own."""
        rest = ArraySource(self.xs, self.ys, self.test_weights, self.batch_size, False)
        self.last = rest.first = int(self.last * (1 - fraction))
        if self.last == 0 or rest.first == rest.last:
            raise ValueError(f"validation_split={fraction} leaves no samples to train on, or none to validate with")
        return rest


class IterableSource(Source):
    """Any iterable of (x, y) or (x, y, sample_weight) batches."""

    def __init__(self, model: Trainer, iterable: Iterable[Any], where: str):
        self.model, self.iterable, self.where = model, iterable, where
        self.batch_size = getattr(iterable, "batch_size", None) or 32
        self.steps = number_of_batches(iterable)

    def batches(self):
        for batch in batches_of(self.iterable, self.where):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(f"{self.where}: every batch must be (x, y) or (x, y, sample_weight), got "
                                 f"{type(batch).__name__}")
            xs, ys = self.model._batch(batch[0], batch[1], self.where)
            weights = output_weights(self.model._outputs, batch[2] if len(batch) == 3 else None, None, ys, len(xs[0]),
                                     self.where)
            yield xs, ys, slice(0, len(xs[0])), weights


def batches_of(iterable: Any, where: str) -> Iterator[Any]:
    """What it yields, or its items if it has as many as `len` says; TypeError for what yields nothing."""
    if not hasattr(iterable, "__iter__") and hasattr(iterable, "__getitem__") and hasattr(iterable, "__len__"):
        # As Keras's PyDataset: its items are often slices, which never end by themselves.
        return (iterable[i] for i in range(len(iterable)))
    try:
        return iter(iterable)
    except TypeError:
        raise TypeError(f"{where}: x must be an array, a list or dictionary of arrays, a Dataset, or an iterable of "
                        f"batches, got {type(iterable).__name__}") from None


def number_of_batches(iterable: Any) -> int | None:
    """Its length, None where it has none: a loader of a stream has a method that says so."""
    try:
        return len(iterable)
    except TypeError:
        return None


def inputs_of(batch: Any, model: Trainer) -> Any:
    """x of a batch (x, y) or (x, y, sample_weight), or x itself.

    Loaders may give a list [x, y]. One of two or three arrays is that for a model of one input, if the first array has
    as many axes as the input.
    """
    if isinstance(batch, tuple):
        return batch[0]
    is_pair = (isinstance(batch, list) and len(batch) in (2, 3) and model.built and len(model.graph.inputs) == 1
               and is_list_of_arrays(batch) and np.ndim(batch[0]) == model.graph.inputs[0].ndim)
    return batch[0] if is_pair else batch


def is_arrays(x) -> bool:
    """Whether x is an array, or a list or dictionary of arrays or numbers, not something that yields batches."""
    return (hasattr(x, "__array__") or isinstance(x, (tuple, int, float, str, Mapping)) or x is None
            or (isinstance(x, list) and not is_list_of_batches(x)))


def is_list_of_batches(x) -> bool:
    """Whether a list holds tuples of arrays: the rows of a table are tuples of numbers."""
    return bool(x) and all(isinstance(batch, tuple) and batch
                           and (isinstance(batch[0], Mapping) or np.ndim(batch[0]) > 0) for batch in x)
