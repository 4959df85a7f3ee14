"""Batches of examples from arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.random import generator
from fastcnn.utils import flag, whole_number

Arrays = Any  # one array, or a list or dictionary of arrays for a model with several inputs or outputs


class Dataset:
    """Cut ``x`` and ``y`` into batches; each loop over the dataset is one epoch.

    Parameters
    ----------
    x : array of shape (n, ...), or a list or dictionary of such arrays for a model with several inputs.
    y : array of shape (n, ...), a list or dictionary of such arrays, or None.
    batch_size : int >= 1. The last batch of an epoch may be smaller.
    shuffle : if True, every epoch visits the examples in a new random order.
    transform : function ``(x_batch, y_batch) -> (x_batch, y_batch)`` applied to each batch. It gets copies
        and may change them in place.
    drop_last : if True, a last batch smaller than ``batch_size`` is left out.
    seed : int or None. The orders follow from this seed alone, or from ``fastcnn.seed`` when it is None.

    Yields
    ------
    (x_batch, y_batch); ``y_batch`` is None when ``y`` is None.

    Raises
    ------
    ValueError
        If the arrays have no first axis, differ in length, or ``batch_size`` is below 1.
    TypeError
        If ``batch_size`` is not an int, ``transform`` not callable, or its result not a pair.
    """

    def __init__(
        self,
        x: Arrays,
        y: Arrays = None,
        batch_size: int = 32,
        shuffle: bool = False,
        transform: Callable[[Arrays, Arrays], tuple[Arrays, Arrays]] | None = None,
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        self.x = _as_arrays(x)
        self.y = None if y is None else _as_arrays(y)
        self.num_samples = _common_length(self.x, self.y)
        self.batch_size = whole_number(batch_size, "batch_size", "Dataset")
        if transform is not None and not callable(transform):
            raise TypeError(
                f"Dataset: transform must be a function of (x_batch, y_batch), got {type(transform).__name__}"
            )
        self.shuffle = flag(shuffle, "shuffle", "Dataset")
        self.transform = transform
        self.drop_last = flag(drop_last, "drop_last", "Dataset")
        self._rng = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        """Number of batches in one epoch."""
        if self.drop_last:
            return self.num_samples // self.batch_size
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Arrays, Arrays]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            (generator() if self._rng is None else self._rng).shuffle(order)
        return (self._batch(order[i * self.batch_size : (i + 1) * self.batch_size]) for i in range(len(self)))

    def _batch(self, rows: np.ndarray) -> tuple[Arrays, Arrays]:
        x, y = _take(self.x, rows), _take(self.y, rows)
        if self.transform is None:
            return x, y
        result = self.transform(x, y)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"Dataset: transform must return the pair (x_batch, y_batch), got {type(result).__name__}; "
                "end the function with 'return x_batch, y_batch'"
            )
        return result


def _as_arrays(value: Arrays) -> Arrays:
    """Keep a list or dictionary of arrays as such; turn anything else (also a list of numbers) into one array."""
    if isinstance(value, Mapping):
        return {name: np.asarray(array) for name, array in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(item, np.ndarray) for item in value):
        return list(value)
    return np.asarray(value)


def _common_length(x: Arrays, y: Arrays) -> int:
    named = [("x", x)] if y is None else [("x", x), ("y", y)]
    lengths = {}
    for name, value in named:
        parts = dict(enumerate(value)) if isinstance(value, list) else value if isinstance(value, dict) else {"": value}
        for key, array in parts.items():
            label = name if array is value else f"{name}[{key!r}]"
            if array.ndim == 0:
                raise ValueError(f"Dataset: {label} must be an array of shape (n, ...), got a single value")
            lengths[label] = len(array)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{label} has {n}" for label, n in lengths.items())
        raise ValueError(f"Dataset: all arrays need the same number of examples, but {found}")
    return lengths.popitem()[1]


def _take(arrays: Arrays, rows: np.ndarray) -> Arrays:
    if arrays is None:
        return None
    if isinstance(arrays, dict):
        return {name: array[rows] for name, array in arrays.items()}
    return [array[rows] for array in arrays] if isinstance(arrays, list) else arrays[rows]
