"""Images enlarged by whole factors, and resampled at transformed positions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, IntOrPair, Pair, as_float64, check_choice, pair

_INTERPOLATIONS = ("nearest", "bilinear")


def upsample2d(x: ArrayLike, size: IntOrPair, interpolation: str = "nearest") -> Array:
    """y = R x C' for each channel, with the interpolation matrices R of the rows and C of the columns.

    Parameters
    ----------
    x : (n, h, w, c)
    size : how many times larger, (rows, columns)
    interpolation : 'nearest', or 'bilinear' between pixel centres; beyond the outermost, their values

    Returns
    -------
    (n, h * rows, w * columns, c)

    Raises ValueError for another interpolation or a size below 1.
    """
    x = as_float64(x, "upsample2d: x", 4)
    rows, columns = (_upsampling_matrix(n, times, interpolation)
                     for n, times in zip(x.shape[1:3], pair(size, "size", 1), strict=True))
    return np.einsum("ih,jw,nhwc->nijc", rows, columns, x)


def upsample2d_grad(dy: ArrayLike, size: IntOrPair, interpolation: str = "nearest") -> Array:
    """dx = R' dy C, the transpose of `upsample2d`: dy (n, h * rows, w * columns, c), dx (n, h, w, c)."""
    dy, size = as_float64(dy, "upsample2d_grad: dy", 4), pair(size, "size", 1)
    rows, columns = (_upsampling_matrix(n // times, times, interpolation)
                     for n, times in zip(dy.shape[1:3], size, strict=True))
    return np.einsum("ih,jw,nijc->nhwc", rows, columns, dy)


def affine_transform(
    x: ArrayLike,
    matrix: ArrayLike,
    output_size: Pair,
    fill_mode: str = "reflect",
    interpolation: str = "bilinear",
    fill_value: float = 0.0,
) -> Array:
    """y[n, i, j] = x[n] at row m0 + m1 i + m2 j and column m3 + m4 i + m5 j, m = matrix[n].

    Parameters
    ----------
    x : images (n, ih, iw, c).
    matrix : (6,) for all images, or (n, 6).
    output_size : (oh, ow) of y.
    fill_mode : what extends the pixels a b c d: 'reflect' (b a | a b c d | d c), 'wrap' (c d | a b c d | a b),
        'nearest' (a a | a b c d | d d) or 'constant' (`fill_value` everywhere).
    interpolation : 'bilinear' between the four pixels around a position, or the 'nearest', floor(position + 1/2).

    Returns
    -------
    (n, oh, ow, c)

    Raises ValueError for another fill mode or interpolation.
    """
    check_choice(fill_mode, ("reflect", "wrap", "nearest", "constant"), "affine_transform: fill_mode")
    check_choice(interpolation, _INTERPOLATIONS, "affine_transform: interpolation")
    x = as_float64(x, "affine_transform: x", 4)
    m = np.broadcast_to(as_float64(matrix, "affine_transform: matrix"), (len(x), 6))[:, :, None, None]
    i, j = np.arange(output_size[0])[:, None], np.arange(output_size[1])[None]
    row, column = m[:, 0] + m[:, 1] * i + m[:, 2] * j, m[:, 3] + m[:, 4] * i + m[:, 5] * j
    if interpolation == "nearest":
        return _pixels_at(x, np.floor(row + 0.5), np.floor(column + 0.5), fill_mode, fill_value)
    top, left = np.floor(row), np.floor(column)
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            y += share[..., None] * _pixels_at(x, top + down, left + right, fill_mode, fill_value)
    return y


def _upsampling_matrix(inputs: int, times: int, interpolation: str) -> Array:
    """Row i holds the weights of the inputs in output i, whose centre is at (i + 1/2) / times - 1/2."""
    check_choice(interpolation, _INTERPOLATIONS, "interpolation")
    matrix = np.zeros((inputs * times, inputs))
    for i in range(inputs * times):
        if interpolation == "nearest":
            matrix[i, i // times] = 1.0
            continue
        at = (i + 0.5) / times - 0.5
        below = math.floor(at)
        matrix[i, max(below, 0)] += 1 - (at - below)
        matrix[i, min(below + 1, inputs - 1)] += at - below
    return matrix


def _pixels_at(x: Array, row: Array, column: Array, fill_mode: str, fill_value: float) -> Array:
    """Pixels of each image at whole positions, on it or beyond its borders."""
    inside = np.ones(row.shape, bool)
    index = []
    for at, size in ((row.astype(np.int64), x.shape[1]), (column.astype(np.int64), x.shape[2])):
        inside &= (at >= 0) & (at < size)
        if fill_mode == "wrap":
            at = at % size
        elif fill_mode == "reflect":
            at = np.minimum(at % (2 * size), 2 * size - 1 - at % (2 * size))
        index.append(np.clip(at, 0, size - 1))
    pixels = x[np.arange(len(x))[:, None, None], index[0], index[1]]
    return np.where(inside[..., None], pixels, fill_value) if fill_mode == "constant" else pixels
