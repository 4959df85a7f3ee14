"""Checks of what users hand to layers; errors name the layer, what was expected and what came."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastcnn.utils import whole_number

Shape = tuple[Any, ...]  # whole numbers, None for the batch


def axis_number(axis: Any, where: str) -> int:
    """`axis` as an int; TypeError for anything else."""
    try:
        if not isinstance(axis, (bool, np.bool_)):
            return operator.index(axis)
    except TypeError:
        pass
    raise TypeError(f"{where}: axis must be a whole number, got {axis!r}; use -1, the last axis")


def own_seed(seed: Any, where: str) -> int | None:
    """The seed of a layer's own random numbers, a whole number of 64 bits; or None, for those of the model."""
    if seed is None:
        return None
    if isinstance(seed, (bool, np.bool_)) or not hasattr(seed, "__index__"):
        raise TypeError(f"{where}: seed must be a whole number or None, got {seed!r}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"{where}: seed must lie in 0 .. 2**64 - 1, got {seed}")
    return operator.index(seed)


def sample_shape(shape: Any, what: str, where: str) -> tuple[int, ...]:
    """The shape of one sample, without the batch axis, as a tuple of positive ints.

    Raises
    ------
    TypeError
        When `shape` is no tuple or list of whole numbers.
    ValueError
        When a size is unknown (None) or below 1.
    """
    if not isinstance(shape, (tuple, list)) or not shape:
        hint = f"; write ({shape},)" if isinstance(shape, int) else ""
        raise TypeError(f"{where}: {what} must be a tuple such as (28, 28, 1) or (784,), got {shape!r}{hint}")
    if None in shape:
        raise ValueError(f"{where}: {what} must have known sizes and no batch axis, got {tuple(shape)}; "
                         f"leave the batch out and give every size of one sample, such as (28, 28, 1)")
    return tuple(whole_number(size, f"every size in {what}", where) for size in shape)
