"""The base of data sets whose batches come by number, as Keras has it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from fastcnn.errors import Explained
from fastcnn.utils import flag, whole_number


class PyDataset(Explained):
    """Batches by number: a subclass defines `__getitem__` and `__len__`, or `num_batches`, None for endless.

    `fit`, `evaluate` and `predict` take it, `fit` in a random order of batches unless `shuffle` is False. Any object
    with these methods will do.

    Parameters
    ----------
    workers, use_multiprocessing, max_queue_size : of Keras, which may read ahead; here one batch is made at a time,
        when it is needed.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        where = type(self).__name__
        self.workers = whole_number(workers, "workers", where, 0)
        self.use_multiprocessing = flag(use_multiprocessing, "use_multiprocessing", where)
        self.max_queue_size = whole_number(max_queue_size, "max_queue_size", where, 0)

    def __getitem__(self, index: int) -> Any:
        """The batch of this number: (x, y), (x, y, sample_weight), or for predictions x."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    @property
    def num_batches(self) -> int | None:
        """How many batches there are."""
        if not hasattr(self, "__len__"):
            raise NotImplementedError(f"{type(self).__name__} must define __len__() or the property num_batches")
        return len(self)

    def __iter__(self) -> Iterator[Any]:
        """All batches in order."""
        return (self[i] for i in (count() if self.num_batches is None else range(self.num_batches)))

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self) -> None:
        """Called after each epoch, to prepare the next."""
