"""Checks that op constructors share: every pointer handed to C comes from here."""

from __future__ import annotations

import numpy as np


def address(where: str, array: np.ndarray, dtype: type, size: int, writable: bool = False) -> int:
    """Address of a C-contiguous array of exactly this dtype and number of elements; ValueError otherwise."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.size != size:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(array)
        raise ValueError(f"{where}: expected {size} elements of {np.dtype(dtype)}, got {got}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{where}: expected a C-contiguous array, got strides {array.strides}")
    if writable and not array.flags.writeable:
        raise ValueError(f"{where}: expected a writable array, got a read-only one")
    return array.ctypes.data


def same_shape(where: str, *tensors) -> None:
    """Raise ValueError unless all tensors have one shape (images, h, w, c)."""
    shapes = [tensor.shape for tensor in tensors]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"{where}: tensors must have one shape, got {', '.join(map(str, shapes))}")
