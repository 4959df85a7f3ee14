"""Pooling of images: the maximum, minimum or mean of windows or of whole images, and the gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.reference._arguments import Array, IntOrPair, Padding, as_float64, check_shape, image_shape, pair
from fastcnn.reference._windows import Windows


def max_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Maximum of each window, per channel.

        y[n, p, q, c] = max over i, j of x[n, p*sh + i - top, q*sw + j - left, c]   (pixels of the image only)

    Padding never wins. Of equal maxima the first in row order counts. A window that holds a NaN gives NaN.

    Parameters
    ----------
    x : (n, ih, iw, c)
    strides : defaults to pool_size

    Returns
    -------
    y : (n, oh, ow, c)
    indices : (n, oh, ow, c) int64, with return_indices: position h * iw + w of the maximum (or first NaN)
    """
    x = as_float64(x, "max_pool2d: x", 4)
    windows = _pool_windows(x.shape, pool_size, strides, padding, "max_pool2d")
    y, index = _window_maxima(x, windows)
    return (y, index) if return_indices else y


def max_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool2d` with respect to x, (n, ih, iw, c): dy goes to the winner of its window."""
    x = as_float64(x, "max_pool2d_grad: x", 4)
    y, index = _window_maxima(x, _pool_windows(x.shape, pool_size, strides, padding, "max_pool2d_grad"))
    dy = as_float64(dy, "max_pool2d_grad: dy", 4)
    check_shape(dy.shape, y.shape, "max_pool2d_grad: dy")
    n, ih, iw, c = x.shape
    dx = np.zeros((n, ih * iw, c))
    np.add.at(dx, (np.arange(n)[:, None, None, None], index, np.arange(c)), dy)
    return dx.reshape(x.shape)


def min_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Minimum of each window, min(x) = -max(-x); arguments, ties and NaN as in `max_pool2d`."""
    x = as_float64(x, "min_pool2d: x", 4)
    y, index = _window_maxima(-x, _pool_windows(x.shape, pool_size, strides, padding, "min_pool2d"))
    return (-y, index) if return_indices else -y


def min_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `min_pool2d` with respect to x, (n, ih, iw, c)."""
    return max_pool2d_grad(dy, -as_float64(x, "min_pool2d_grad: x", 4), pool_size, strides, padding)


def avg_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Mean of each window, per channel.

        y[n, p, q, c] = sum_{i, j} x[n, p*sh + i - top, q*sw + j - left, c] / count[p, q]

    count is the number of the window's pixels inside the image, or kh * kw with count_include_pad.

    Parameters
    ----------
    x : (n, ih, iw, c)
    strides : defaults to pool_size

    Returns
    -------
    (n, oh, ow, c)
    """
    x = as_float64(x, "avg_pool2d: x", 4)
    windows = _pool_windows(x.shape, pool_size, strides, padding, "avg_pool2d")
    padded = windows.pad(x)
    y = np.zeros((x.shape[0], *windows.output, x.shape[3]))
    for _, _, rows, cols in windows.taps():
        y += padded[:, rows, cols]
    return y / _pool_counts(windows, count_include_pad)


def avg_pool2d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Gradient of `avg_pool2d` with respect to x, of `input_shape`: each pixel gets dy / count."""
    n, ih, iw, c = image_shape(input_shape, "avg_pool2d_grad")
    windows = _pool_windows((n, ih, iw, c), pool_size, strides, padding, "avg_pool2d_grad")
    dy = as_float64(dy, "avg_pool2d_grad: dy", 4)
    check_shape(dy.shape, (n, *windows.output, c), "avg_pool2d_grad: dy")
    share = dy / _pool_counts(windows, count_include_pad)
    padded = windows.zeros(n, c)
    for _, _, rows, cols in windows.taps():
        padded[:, rows, cols] += share
    return windows.crop(padded)


def global_avg_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Mean over all pixels: (n, ih, iw, c) -> (n, c), or (n, 1, 1, c) with keepdims."""
    x = as_float64(x, "global_avg_pool2d: x", 4)
    pair(x.shape[1:3], "global_avg_pool2d: image size", 1)
    return x.mean((1, 2), keepdims=keepdims)


def global_avg_pool2d_grad(dy: ArrayLike, input_shape: Sequence[int]) -> Array:
    """Gradient of `global_avg_pool2d` with respect to x: dy / (ih * iw) for every pixel."""
    n, ih, iw, c = image_shape(input_shape, "global_avg_pool2d_grad")
    dy = as_float64(dy, "global_avg_pool2d_grad: dy").reshape(n, 1, 1, c)
    return np.broadcast_to(dy / (ih * iw), (n, ih, iw, c)).copy()


def global_max_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Maximum over all pixels: (n, ih, iw, c) -> (n, c), or (n, 1, 1, c) with keepdims; NaN wins."""
    x = as_float64(x, "global_max_pool2d: x", 4)
    y, _ = _window_maxima(x, _pool_windows(x.shape, x.shape[1:3], None, "valid", "global_max_pool2d"))
    return y if keepdims else y[:, 0, 0]


def global_max_pool2d_grad(dy: ArrayLike, x: ArrayLike) -> Array:
    """Gradient of `global_max_pool2d` with respect to x: dy goes to the first maximum of each channel."""
    x = as_float64(x, "global_max_pool2d_grad: x", 4)
    n, ih, iw, c = x.shape
    return max_pool2d_grad(as_float64(dy, "global_max_pool2d_grad: dy").reshape(n, 1, 1, c), x, (ih, iw))


def _pool_windows(
    shape: Sequence[int], pool_size: IntOrPair, strides: IntOrPair | None, padding: Padding, where: str
) -> Windows:
    """Pooling windows; strides default to the pool size, and every window must hold a pixel of the image."""
    step = pool_size if strides is None else strides
    windows = Windows.over(shape[1:3], pool_size, step, padding, 1, where)
    for size, pad in zip(windows.kernel, windows.pads, strict=True):
        if max(pad) >= size:
            raise ValueError(
                f"{where}: padding {pad} must be below the pool size {size}, or windows would be empty"
            )
    return windows


def _window_maxima(x: Array, windows: Windows) -> tuple[Array, NDArray[np.int64]]:
    padded = windows.pad(x)
    best = np.zeros((x.shape[0], *windows.output, x.shape[3]))
    index = np.full(best.shape, -1, np.int64)
    for _, _, rows, cols in windows.taps():
        value = padded[:, rows, cols]
        position, inside = (a[..., None] for a in windows.positions(rows, cols))
        wins = inside & ((index < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best)))
        best = np.where(wins, value, best)
        index = np.where(wins, position, index)
    return best, index


def _pool_counts(windows: Windows, count_include_pad: bool) -> Array:
    """(oh, ow, 1): what the sum over each window is divided by."""
    if count_include_pad:
        return np.full((*windows.output, 1), float(math.prod(windows.kernel)))
    counts = sum(windows.positions(rows, cols)[1].astype(np.float64) for _, _, rows, cols in windows.taps())
    return np.asarray(counts)[..., None]
