"""Where the batches of fit, evaluate and predict come from: arrays in memory, or any iterable of batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import random
from fastcnn.batches import is_list_of_arrays, output_weights, slices

if TYPE_CHECKING:
    from fastcnn.steps import Stepper

Batch = tuple[Any, Any, Any, Any]  # inputs, targets, samples (a slice of them, or indices into them), weights


class Source:
    """Where batches come from, epoch by epoch.

    Subclasses define `batches()`, one pass over the data, and `length`, how many batches that are, None if unknown.

    Parameters
    ----------
    limit : batches in an epoch; None for all of a pass.
    where : the method that reads them, for messages.
    """

    length: int | None = None

    def __init__(self, limit: int | None, where: str):
        self.limit, self.where = limit, where
        self._rest: Iterator[Batch] = iter(())  # of the pass that the last epoch has not read to the end

    def batches(self) -> Iterator[Batch]:
        raise NotImplementedError

    @property
    def steps(self) -> int | None:
        """Batches in an epoch, None if unknown."""
        return self.limit or self.length

    def epoch(self, anew: bool = False) -> Iterator[Batch]:
        """The batches of the next epoch.

        With a limit it goes on where the last one stopped, unless it starts `anew`. As in Keras, the end of a pass ends
        the epoch as well, with a warning, if more was to come; the next epoch begins a new pass.
        """
        if self.limit is None:
            return self.batches()
        first = None if anew else next(self._rest, None)
        if first is not None:
            return at_most(self.limit, chain((first,), self._rest), self.where)
        self._rest = self.batches()
        return at_most(self.limit, self._rest, self.where)

    def split_off(self, fraction: float, batch_size: int | None, limit: int | None) -> Source:
        """The last `fraction` of the samples, held back for validation."""
        raise ValueError(f"{self.where}: validation_split needs arrays; give validation_data")

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last one."""


class ArraySource(Source):
    """Arrays in memory, shuffled anew for every pass; `test_weights` are those of samples held back."""

    def __init__(self, xs, ys, weights, batch_size: int | None, shuffle: bool, limit: int | None, where: str,
                 test_weights=None):
        super().__init__(limit, where)
        self.xs, self.ys, self.weights, self.test_weights = xs, ys, weights, test_weights
        self.first, self.last = 0, len(xs[0])
        self.given_batch_size, self.shuffle = batch_size, shuffle

    @property
    def batch_size(self) -> int:
        return self.given_batch_size or default_batch_size(self.last - self.first, self.limit)

    @property
    def length(self) -> int:
        return -(-(self.last - self.first) // self.batch_size)

    def batches(self):
        order = None
        if self.shuffle:
            order = random.generator().permutation(np.arange(self.first, self.last, dtype=np.intp))
        for first, last in slices(self.last - self.first, self.batch_size):
            samples = slice(self.first + first, self.first + last) if order is None else order[first:last]
            yield self.xs, self.ys, samples, self.weights

    def split_off(self, fraction: float, batch_size: int | None, limit: int | None) -> ArraySource:
        """The last `fraction` of the samples before any shuffling."""
        cut = int(self.last * (1 - fraction))
        if cut in (0, self.last):
            raise ValueError(f"{self.where}: validation_split={fraction} leaves no samples to train on, or none to "
                             f"validate with")
        rest = ArraySource(self.xs, self.ys, self.test_weights, batch_size, False, limit, f"{self.where}: validation")
        self.last = rest.first = cut
        return rest


class IterableSource(Source):
    """Any iterable of (x, y) or (x, y, sample_weight) batches; their order is shuffled if they come by number."""

    def __init__(self, model: Stepper, iterable: Iterable[Any], class_weight, shuffle: bool, limit: int | None,
                 where: str):
        super().__init__(limit, where)
        self.model, self.iterable, self.class_weight, self.shuffle = model, iterable, class_weight, shuffle
        self.length = number_of_batches(iterable)

    def batches(self):
        for batch in batches_of(self.iterable, self.where, self.shuffle):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise ValueError(f"{self.where}: every batch must be (x, y) or (x, y, sample_weight), got "
                                 f"{type(batch).__name__}")
            xs, ys = self.model._batch(batch[0], batch[1], self.where)
            weights = output_weights(self.model._outputs, batch[2] if len(batch) == 3 else None, self.class_weight, ys,
                                     len(xs[0]), self.where)
            yield xs, ys, slice(0, len(xs[0])), weights

    def on_epoch_begin(self) -> None:
        tell(self.iterable, "on_epoch_begin")

    def on_epoch_end(self) -> None:
        tell(self.iterable, "on_epoch_end")


def default_batch_size(samples: int, steps: int | None) -> int:
    """Where none is given: all samples in `steps` batches, or 32."""
    return max(-(-samples // steps), 1) if steps else 32


def at_most(steps: int, batches: Iterator[Any], where: str) -> Iterator[Any]:
    """The next `steps` batches; a warning if there are fewer."""
    taken = 0
    for batch in islice(batches, steps):
        taken += 1
        yield batch
    if taken < steps:
        warn_of_end(taken, steps, where)


def warn_of_end(taken: int, steps: int, where: str) -> None:
    """That the data ended too early."""
    warnings.warn(f"{where}: the input ran out of data after {taken} of {steps} batches; give a source of as many "
                  f"batches as all epochs need, or one that can be read again, such as a Dataset", stacklevel=3)


def batches_of(iterable: Any, where: str, shuffle: bool = False) -> Iterator[Any]:
    """What it yields, or its items by number, in a random order if asked for; TypeError for what yields nothing."""
    if _comes_by_number(iterable):
        order = random.generator().permutation(len(iterable)) if shuffle else range(len(iterable))
        return (iterable[int(i)] for i in order)
    try:
        return iter(iterable)
    except TypeError:
        raise TypeError(f"{where}: x must be an array, a list or dictionary of arrays, a Dataset, or an iterable of "
                        f"batches, got {type(iterable).__name__}") from None


def _comes_by_number(iterable: Any) -> bool:
    """As Keras's PyDataset: its items are often slices, which never end by themselves."""
    return (hasattr(iterable, "__getitem__") and hasattr(iterable, "__len__")
            and (not hasattr(iterable, "__iter__") or hasattr(iterable, "on_epoch_end")))


def number_of_batches(iterable: Any) -> int | None:
    """Its length, None where it has none: a loader of a stream has a method that says so."""
    try:
        return len(iterable)
    except TypeError:
        return None


def tell(iterable: Any, event: str) -> None:
    """Call the method of this name, which an iterable may have, as Keras's PyDataset."""
    getattr(iterable, event, lambda: None)()


def inputs_of(batch: Any, model: Stepper) -> Any:
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
