"""Pooling: the maximum, minimum or mean of windows or of whole images, and the gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastcnn.arrays import IMAGES, Array, as_float32
from fastcnn.geometry import IntOrPair, Padding, Window, image_shape
from fastcnn.kernels._pool import (
    AvgPool,
    AvgPoolGrad,
    GlobalAvgPool,
    GlobalAvgPoolGrad,
    GlobalMaxPool,
    GlobalMaxPoolGrad,
    MaxPool,
    MaxPoolGrad,
)
from fastcnn.ops._engine import run, tensor
from fastcnn.utils import flag


def max_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Maximum of each window, per channel.

    y[n, i, j, c] = max over r, s of x[n, i*sh + r - top, j*sw + s - left, c]   (pixels of the image only)

    Padding never wins. Of equal maxima the first in row order counts. A window that holds NaN gives NaN.

    Parameters
    ----------
    x : (n, h, w, c)
    pool_size : an int, or a pair (rows, columns)
    strides : likewise; defaults to pool_size
    padding : 'valid', 'same', an int, a pair, or ((top, bottom), (left, right)), less than pool_size on each side

    Returns
    -------
    y : (n, oh, ow, c) float32
    indices : (n, oh, ow, c) int64, with return_indices: row * w + column of the maximum (or first NaN)
    """
    return _extreme(x, pool_size, strides, padding, return_indices, False, "max_pool2d")


def min_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Minimum of each window, min(x) = -max(-x); arguments, ties and NaN as in `max_pool2d`."""
    return _extreme(x, pool_size, strides, padding, return_indices, True, "min_pool2d")


def max_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool2d` with respect to x, (n, h, w, c): dy goes to the maximum of its window.

    dy has the shape of the result; the other arguments are those of the forward pass.
    """
    return _extreme_grad(dy, x, pool_size, strides, padding, False, "max_pool2d_grad")


def min_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `min_pool2d` with respect to x, (n, h, w, c): dy goes to the minimum of its window.

    dy has the shape of the result; the other arguments are those of the forward pass.
    """
    return _extreme_grad(dy, x, pool_size, strides, padding, True, "min_pool2d_grad")


def avg_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Mean of each window, per channel.

    y[n, i, j, c] = sum_{r, s} x[n, i*sh + r - top, j*sw + s - left, c] / count[i, j]

    count is the number of the window's pixels inside the image, or kh * kw with count_include_pad.

    Parameters
    ----------
    x : (n, h, w, c)
    pool_size, strides, padding : as of `max_pool2d`

    Returns
    -------
    (n, oh, ow, c) float32
    """
    x = _images(x, "avg_pool2d: x")
    sizes, y_shape = _windows(x.shape, pool_size, strides, padding, "avg_pool2d")
    y = np.empty(y_shape, np.float32)
    whole = flag(count_include_pad, "count_include_pad", "avg_pool2d")
    run(AvgPool(tensor(x), tensor(y), *sizes, count_include_pad=whole))
    return y


def avg_pool2d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Gradient of `avg_pool2d` with respect to x: each pixel gets dy / count of its windows.

    dy has the shape of the result, `input_shape` is x's; the other arguments are those of the forward pass.
    """
    where = "avg_pool2d_grad"
    shape = image_shape(input_shape, "input_shape", where)
    sizes, y_shape = _windows(shape, pool_size, strides, padding, where)
    dy = as_float32(dy, 4, f"{where}: dy", y_shape, IMAGES)
    dx = np.empty(shape, np.float32)
    whole = flag(count_include_pad, "count_include_pad", where)
    run(AvgPoolGrad(tensor(dy), tensor(dx), *sizes, count_include_pad=whole))
    return dx


def global_avg_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Mean of x over all pixels: (n, h, w, c) -> (n, c), or (n, 1, 1, c) with keepdims."""
    x, keepdims = _images(x, "global_avg_pool2d: x"), flag(keepdims, "keepdims", "global_avg_pool2d")
    y = np.empty((len(x), 1, 1, x.shape[3]), np.float32)
    run(GlobalAvgPool(tensor(x), tensor(y)))
    return y if keepdims else y[:, 0, 0]


def global_avg_pool2d_grad(dy: ArrayLike, input_shape: Sequence[int]) -> Array:
    """Gradient of `global_avg_pool2d` with respect to x, of `input_shape`: dy / (h * w).

    dy is (n, c) or (n, 1, 1, c).
    """
    where = "global_avg_pool2d_grad"
    dx = np.empty(_with_pixels(image_shape(input_shape, "input_shape", where), where), np.float32)
    run(GlobalAvgPoolGrad(tensor(_pooled(dy, dx.shape, where)), tensor(dx)))
    return dx


def global_max_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Maximum of x over all pixels: (n, h, w, c) -> (n, c), or (n, 1, 1, c) with keepdims; NaN wins."""
    x, keepdims = _images(x, "global_max_pool2d: x"), flag(keepdims, "keepdims", "global_max_pool2d")
    y = np.empty((len(x), 1, 1, x.shape[3]), np.float32)
    run(GlobalMaxPool(tensor(x), tensor(y)))
    return y if keepdims else y[:, 0, 0]


def global_max_pool2d_grad(dy: ArrayLike, x: ArrayLike) -> Array:
    """Gradient of `global_max_pool2d` with respect to x: dy goes to the maximum; (n, c) or (n, 1, 1, c)."""
    where = "global_max_pool2d_grad"
    x = _images(x, f"{where}: x")
    dy = _pooled(dy, x.shape, where)
    arg, dx = np.empty(dy.shape, np.int32), np.empty_like(x)
    run(
        GlobalMaxPool(tensor(x), tensor(np.empty_like(dy)), arg),
        GlobalMaxPoolGrad(tensor(dy), tensor(dx), arg),
    )
    return dx


def _extreme(x, pool_size, strides, padding, return_indices, minimum, where):
    flag(return_indices, "return_indices", where)
    x = _images(x, f"{where}: x")
    sizes, y_shape = _windows(x.shape, pool_size, strides, padding, where)
    y = np.empty(y_shape, np.float32)
    arg = np.empty(y_shape, np.int32) if return_indices else None
    run(MaxPool(tensor(x), tensor(y), *sizes, arg, minimum=minimum))
    return (y, _positions(arg, x.shape[2], *sizes)) if return_indices else y


def _extreme_grad(dy, x, pool_size, strides, padding, minimum, where) -> Array:
    x = _images(x, f"{where}: x")
    sizes, y_shape = _windows(x.shape, pool_size, strides, padding, where)
    dy = as_float32(dy, 4, f"{where}: dy", y_shape, IMAGES)
    arg, dx = np.empty(y_shape, np.int32), np.empty_like(x)
    run(
        MaxPool(tensor(x), tensor(np.empty_like(dy)), *sizes, arg, minimum=minimum),
        MaxPoolGrad(tensor(dy), tensor(dx), arg, *sizes),
    )
    return dx


def _positions(arg, width: int, pool, strides, pads) -> NDArray[np.int64]:
    """row * width + column in the image, from indices r * kw + s in the windows."""
    row, column = np.divmod(arg.astype(np.int64), pool[1])
    row += np.arange(arg.shape[1])[:, None, None] * strides[0] - pads[0][0]
    column += np.arange(arg.shape[2])[:, None] * strides[1] - pads[1][0]
    return row * width + column


def _windows(shape, pool_size, strides, padding, where):
    """((pool, strides, pads), shape of the result); every window must hold a pixel of the image."""
    window = Window.resolve(
        shape[1:3], pool_size, pool_size if strides is None else strides, padding, 1, where, "pool_size"
    )
    pool = window.kh, window.kw
    if any(max(pad) >= size for pad, size in zip(window.pads, pool, strict=True)):
        raise ValueError(
            f"{where}: padding {window.pads} must be below the pool_size {pool}, or a window could lie "
            f"wholly in padding"
        )
    sizes = pool, (window.sh, window.sw), window.pads
    return sizes, (shape[0], window.oh, window.ow, shape[3])


def _images(x: ArrayLike, what: str) -> Array:
    x = as_float32(x, 4, what, axes=IMAGES)
    _with_pixels(x.shape, what)
    return x


def _with_pixels(shape, what: str):
    if min(shape[1:3]) < 1:
        raise ValueError(f"{what}: images must have at least one pixel, got shape {tuple(shape)}")
    return shape


def _pooled(dy: ArrayLike, shape, where: str) -> Array:
    """dy of a global pooling, (n, c) or (n, 1, 1, c), as (n, 1, 1, c)."""
    n, _, _, c = shape
    dy = as_float32(dy, None, f"{where}: dy")
    if dy.shape not in ((n, c), (n, 1, 1, c)):
        raise ValueError(f"{where}: dy must have shape {(n, c)} or {(n, 1, 1, c)}, got {dy.shape}")
    return dy.reshape(n, 1, 1, c)
