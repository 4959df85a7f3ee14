"""What every function of the reference does with its arguments: arrays in float64, sizes as ints."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]
IntOrPair = int | Sequence[int]
Padding = str | int | Sequence[Any]


def as_float64(a: ArrayLike, name: str, ndim: int | None = None) -> Array:
    """A copy of `a` in float64. Raises TypeError if it is not real, ValueError if it does not have `ndim` axes."""
    a = np.asarray(a)
    if a.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {a.dtype}; convert it first")
    if ndim is not None and a.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {a.shape}")
    return a.astype(np.float64)


def integer(value: Any, name: str, least: int) -> int:
    """`value` as an int of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def pair(value: Any, name: str, least: int) -> Pair:
    """`value` as (height, width): an int counts for both."""
    if isinstance(value, (tuple, list, np.ndarray)):
        if len(value) != 2:
            raise ValueError(f"{name} must be an int or a pair, got {value!r}")
        return integer(value[0], name, least), integer(value[1], name, least)
    number = integer(value, name, least)
    return number, number


def triple(value: Any, name: str, least: int) -> tuple[int, int, int]:
    """`value` as (depth, height, width): an int counts for all."""
    values = (value,) * 3 if isinstance(value, (int, np.integer)) else value
    if len(values) != 3:
        raise ValueError(f"{name} must be an int or three, got {value!r}")
    first, second, third = (integer(v, name, least) for v in values)
    return first, second, third


def in_small_letters(padding: Padding) -> Padding:
    """The name of a padding in small letters, which may come in capitals; numbers as they are."""
    return padding.lower() if isinstance(padding, str) else padding


def check_shape(got: Sequence[int], want: Sequence[int], name: str) -> None:
    """Raise ValueError unless the shapes are equal."""
    if tuple(got) != tuple(want):
        raise ValueError(f"{name} must have shape {tuple(want)}, got {tuple(got)}")


def check_choice(value: Any, choices: Iterable[str], name: str) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def image_shape(shape: Sequence[int], where: str) -> tuple[int, int, int, int]:
    """The `input_shape` of a gradient as four ints, (n, ih, iw, ic)."""
    if len(shape) != 4:
        raise ValueError(f"{where}: input_shape must be (batch, height, width, channels), got {tuple(shape)}")
    n, ih, iw, ic = (integer(size, f"{where}: input_shape", 0) for size in shape)
    return n, ih, iw, ic
