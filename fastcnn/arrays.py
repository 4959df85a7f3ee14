"""What users hand in, as the float32 arrays the engine reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = "NDArray[np.float32]"

ALIGN = 16  # floats in a cache line
MOST_VALUES = sys.maxsize // 8  # that an array of float64 may hold

SEQUENCES = "(batch, steps, channels)"
IMAGES = "(batch, height, width, channels)"
VOLUMES = "(batch, depth, height, width, channels)"
WEIGHTS = "(kernel height, kernel width, input channels, output channels)"


def as_float32(value: ArrayLike, ndim: int | None, what: str, shape: Sequence[int] | None = None,
               axes: str = "") -> Array:
    """`value` as a C-contiguous, aligned float32 array of `ndim` axes (None: any number), called `axes`.

    It is a copy only where `value` is not such an array already.
    `what` names function and argument for errors.

    Raises
    ------
    TypeError
        For values that are not real numbers (complex, objects, text).
    ValueError
        For the wrong number of axes, or a shape other than `shape`.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} must be an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, got dtype {array.dtype}"
                        + ("; stack equal-sized arrays into one" if array.dtype.kind == "O" else ""))
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{what} must have {ndim} axes{axes and ' ' + axes}, got {array.ndim}: shape {array.shape}"
        )
    if shape is not None and array.shape != tuple(shape):
        raise ValueError(f"{what} must have shape {tuple(shape)}, got {array.shape}")
    return np.require(array, np.float32, "CA")


def returned(value: Any, shape: Sequence[int], where: str) -> np.ndarray:
    """What a function of a user gave back, as an array of real numbers of `shape`; `where` names the function.

    Raises
    ------
    TypeError
        For None, which a function without `return` gives, and for values that are not real numbers.
    ValueError
        For another shape.
    """
    wanted = f"{where} must return an array of shape {tuple(shape)}"
    if value is None:
        raise TypeError(f"{wanted}, got None; does it end with return?")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{wanted} that holds real numbers, got dtype {array.dtype}")
    if array.shape != tuple(shape):
        raise ValueError(f"{wanted}, got {array.shape}")
    return array


def read_only(array: np.ndarray) -> np.ndarray:
    """A view of `array` through which it cannot be changed."""
    view = array.view()
    view.flags.writeable = False
    return view


def aligned_zeros(shape: int | Sequence[int]) -> Array:
    """float32 zeros that start on a cache line, so that no vector of theirs lies in two; or MemoryError."""
    return _aligned(np.zeros, shape)


def aligned_empty(shape: int | Sequence[int]) -> Array:
    """The same without values: for what a kernel writes in full. Zeros are a pass over memory, on one thread."""
    return _aligned(np.empty, shape)


def _aligned(allocate, shape: int | Sequence[int]) -> Array:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if prod(shape) > MOST_VALUES:
        raise MemoryError(f"no array can have the shape {shape}")
    memory = allocate(prod(shape) + ALIGN, np.float32)
    start = -(memory.ctypes.data // 4) % ALIGN
    return memory[start : start + prod(shape)].reshape(shape)
