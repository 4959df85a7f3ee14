"""Where the batches of fit and evaluate come from: arrays in memory, or any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import random
from fastcnn.batches import output_weights, slices

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
        self.batch_size = getattr(iterable, "batch_size", 32)
        self.steps = len(iterable) if hasattr(iterable, "__len__") else None

    def batches(self):
        for batch in self.iterable:
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(f"{self.where}: every batch must be (x, y) or (x, y, sample_weight), got "
                                 f"{type(batch).__name__}")
            xs, ys = self.model._batch(batch[0], batch[1], self.where)
            weights = output_weights(self.model._outputs, batch[2] if len(batch) == 3 else None, None, ys, len(xs[0]),
                                     self.where)
            yield xs, ys, slice(0, len(xs[0])), weights


def is_arrays(x) -> bool:
    """Whether x is an array, or a list or dictionary of arrays or numbers, not something that yields batches."""
    return (hasattr(x, "__array__") or isinstance(x, (tuple, int, float, str, Mapping)) or x is None
            or (isinstance(x, list) and not is_list_of_batches(x)))


def is_list_of_batches(x) -> bool:
    """Whether a list holds tuples of arrays: the rows of a table are tuples of numbers."""
    return bool(x) and all(isinstance(batch, tuple) and batch
                           and (isinstance(batch[0], Mapping) or np.ndim(batch[0]) > 0) for batch in x)
