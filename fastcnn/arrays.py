"""What users hand in, as the float32 arrays the engine reads."""

from __future__ import annotations

import numpy as np


def as_float32(value, ndim: int, what: str, shape: tuple | None = None) -> np.ndarray:
    """`value` as a C-contiguous float32 array of `ndim` axes; a copy only where it is not one already.

    Raises
    ------
    TypeError
        For values that are not real numbers (complex, objects, text).
    ValueError
        For the wrong number of axes, or a shape other than `shape`.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, got dtype {array.dtype}"
                        + ("; stack equal-sized arrays into one" if array.dtype.kind == "O" else ""))
    if array.ndim != ndim:
        raise ValueError(f"{what} must have {ndim} axes{_axes(ndim)}, got {array.ndim}: shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}, got {array.shape}")
    return np.ascontiguousarray(array, np.float32)


def _axes(ndim: int) -> str:
    return {4: " (batch, height, width, channels)", 2: " (batch, features)"}.get(ndim, "")
