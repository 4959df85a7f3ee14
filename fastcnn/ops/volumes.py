"""Convolution and pooling of volumes (n, depth, height, width, channels)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.arrays import VOLUMES, Array, as_float32
from fastcnn.errors import unknown_name
from fastcnn.geometry import Conv3D, IntOrPair, Padding, Window3D, image_shape, sizes
from fastcnn.kernels import conv3d as passes
from fastcnn.kernels._op import Tensor
from fastcnn.kernels._pool import AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad
from fastcnn.ops._engine import run, sum_over_images, tensor
from fastcnn.ops.convolution import as_bias, check_shape, packed_weights
from fastcnn.plan.convolution import forward_halo, input_grad_halo
from fastcnn.utils import whole_number

ALGORITHMS = ("auto", "direct", "im2col")
FILTERS = "(kernel depth, kernel height, kernel width, input channels, output channels)"


def conv3d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Cross-correlation of volumes with a bank of filters.

    y[n, p, q, r, o] = b[o] + sum_{i, j, k, c} x[n, p*sd + i*dd - front, q*sh + j*dh - top, r*sw + k*dw - left, c]
                       * w[i, j, k, c, o]

    Parameters
    ----------
    x : (n, depth, height, width, in_channels)
    w : (kd, kh, kw, in_channels // groups, filters)
    b : (filters,), optional
    strides, dilation : an int, or three (depth, height, width)
    padding : 'valid', 'same', an int, three, or ((front, back), (top, bottom), (left, right))
    algorithm : 'auto', 'direct' or 'im2col'

    Returns
    -------
    (n, od, oh, ow, filters) float32

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, naming both.
    """
    where = "conv3d"
    x, w = as_float32(x, 5, f"{where}: x", axes=VOLUMES), as_float32(w, 5, f"{where}: w", axes=FILTERS)
    conv = Conv3D.resolve(x.shape, w.shape, strides, padding, dilation, groups, where)
    b, algorithm = as_bias(b, conv.oc, where), _check_algorithm(algorithm, where)
    fold, y = _x_fold(conv), np.empty(conv.y_shape, np.float32)
    weights, pack = packed_weights(lambda packed: passes.forward_weights(conv, w, packed))
    run(pack, passes.forward(conv, _folded(x, fold), fold.pitch, weights, _flat(y), b, algorithm))
    return y


def conv3d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv3d` with respect to x, of `input_shape` (n, depth, height, width, in_channels).

    dy is (n, od, oh, ow, filters); the other arguments are those of the forward pass.
    """
    where = "conv3d_input_grad"
    dy, w = as_float32(dy, 5, f"{where}: dy", axes=VOLUMES), as_float32(w, 5, f"{where}: w", axes=FILTERS)
    shape = image_shape(input_shape, "input_shape", where, VOLUMES)
    conv = Conv3D.resolve(shape, w.shape, strides, padding, dilation, groups, where)
    check_shape(dy, conv.y_shape, f"{where}: dy", "conv3d's result")
    algorithm = _check_algorithm(algorithm, where)
    fold = passes.Fold.around(*dy.shape[1:3], input_grad_halo(conv.depth), input_grad_halo(conv.plane))
    source, dx, ops = _folded(dy, fold), np.empty(shape, np.float32), []
    for phase in passes.phases3d(conv):
        weights, pack = packed_weights(lambda packed, p=phase: passes.input_grad_weights(conv, p, w, packed))
        ops += [pack, passes.input_grad(conv, phase, source, fold.pitch, weights, _flat(dx), algorithm)]
    run(*ops)
    return dx


def conv3d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv3d` with respect to w, (kd, kh, kw, in_channels // groups, filters).

    `kernel_size` is an int or three; dy is (n, od, oh, ow, filters); the other arguments are those of the forward pass.
    """
    where = "conv3d_weight_grad"
    x, dy = as_float32(x, 5, f"{where}: x", axes=VOLUMES), as_float32(dy, 5, f"{where}: dy", axes=VOLUMES)
    kernel = sizes(kernel_size, 3, "kernel_size", where)
    w_shape = (*kernel, x.shape[4] // whole_number(groups, "groups", where), dy.shape[4])
    conv = Conv3D.resolve(x.shape, w_shape, strides, padding, dilation, groups, where)
    check_shape(dy, conv.y_shape, f"{where}: dy", "conv3d's result")
    algorithm, fold = _check_algorithm(algorithm, where), _x_fold(conv)
    source, errors = _folded(x, fold), [tensor(dy[:, i]) for i in range(dy.shape[1])]
    return sum_over_images(conv.n, conv.w_shape, lambda parts: passes.weight_grad(
        conv, source, fold.pitch, errors, parts, None, algorithm))


def max_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of each window of x (n, d, h, w, c), (n, od, oh, ow, c); ties, NaN and padding as in `max_pool2d`.

    `pool_size` and `strides` are ints or three; `padding` is 'valid', 'same', an int, three, or three pairs.
    """
    x = as_float32(x, 5, "max_pool3d: x", axes=VOLUMES)
    plane, depth, middle, y_shape = _windows(x.shape, pool_size, strides, padding, "max_pool3d")
    slices, y = np.empty(middle, np.float32), np.empty(y_shape, np.float32)
    run(MaxPool(_slices(x), _slices(slices), *plane), MaxPool(_columns(slices), _columns(y), *depth))
    return y


def max_pool3d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool3d` with respect to x: dy goes to the first maximum of its window, slice by slice.

    dy has the shape of the result; the other arguments are those of the forward pass.
    """
    where = "max_pool3d_grad"
    x = as_float32(x, 5, f"{where}: x", axes=VOLUMES)
    plane, depth, middle, y_shape = _windows(x.shape, pool_size, strides, padding, where)
    dy = as_float32(dy, 5, f"{where}: dy", y_shape, VOLUMES)
    slices, d_slices, dx = np.empty(middle, np.float32), np.empty(middle, np.float32), np.empty_like(x)
    taps, deep_taps = np.empty(middle, np.int32), np.empty(y_shape, np.int32)
    run(
        MaxPool(_slices(x), _slices(slices), *plane, taps),
        MaxPool(_columns(slices), _columns(np.empty_like(dy)), *depth, deep_taps),
        MaxPoolGrad(_columns(dy), _columns(d_slices), deep_taps, *depth),
        MaxPoolGrad(_slices(d_slices), _slices(dx), taps, *plane),
    )
    return dx


def avg_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the voxels of each window that are in the volume; arguments and shapes as of `max_pool3d`."""
    x = as_float32(x, 5, "avg_pool3d: x", axes=VOLUMES)
    plane, depth, middle, y_shape = _windows(x.shape, pool_size, strides, padding, "avg_pool3d")
    slices, y = np.empty(middle, np.float32), np.empty(y_shape, np.float32)
    run(AvgPool(_slices(x), _slices(slices), *plane), AvgPool(_columns(slices), _columns(y), *depth))
    return y


def avg_pool3d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool3d` with respect to x, of `input_shape`: each voxel gets dy / count of its windows."""
    where = "avg_pool3d_grad"
    shape = image_shape(input_shape, "input_shape", where, VOLUMES)
    plane, depth, middle, y_shape = _windows(shape, pool_size, strides, padding, where)
    dy = as_float32(dy, 5, f"{where}: dy", y_shape, VOLUMES)
    slices, dx = np.empty(middle, np.float32), np.empty(shape, np.float32)
    run(AvgPoolGrad(_columns(dy), _columns(slices), *depth), AvgPoolGrad(_slices(slices), _slices(dx), *plane))
    return dx


def _check_algorithm(algorithm, where: str) -> str:
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS, where)
    return algorithm


# ---- volumes as the drivers see them


def _x_fold(conv: Conv3D) -> passes.Fold:
    return passes.Fold.around(*conv.x_shape[1:3], forward_halo(conv.window.depth), forward_halo(conv.window.plane))


def _folded(volumes: Array, fold: passes.Fold) -> Tensor:
    """A copy with zeros around the slices."""
    n, _, h, w, c = volumes.shape
    (top, bottom), (left, right) = fold.halo
    memory = np.zeros((n, top + fold.rows + bottom, left + w + right, c), np.float32)
    image = memory[:, top : top + fold.rows, left : left + w]
    for i, first in enumerate(fold.first_rows()):
        image[:, first : first + h] = volumes[:, i]
    return Tensor(image.shape, image, fold.halo)


def _flat(volumes: Array) -> Tensor:
    """Slices below one another."""
    n, d, h, w, c = volumes.shape
    return tensor(volumes.reshape(n, d * h, w, c))


def _slices(volumes: Array) -> Tensor:
    """Every slice an image."""
    n, d, h, w, c = volumes.shape
    return tensor(volumes.reshape(n * d, h, w, c))


def _columns(volumes: Array) -> Tensor:
    """Every slice a row of pixels: to pool along the depth axis."""
    n, d, h, w, c = volumes.shape
    return tensor(volumes.reshape(n, d, h * w, c))


def _windows(shape, pool_size, strides, padding, where):
    """(pool, strides, pads) within slices and along the depth axis; shapes after the first and after both."""
    step = pool_size if strides is None else strides
    window = Window3D.resolve(shape[1:4], pool_size, step, padding, 1, where, "pool_size")
    for part in (window.depth, window.plane):
        if any(max(pad) >= size for pad, size in zip(part.pads, part.kernel, strict=True)):
            raise ValueError(
                f"{where}: padding {padding!r} must be below the pool_size {pool_size} on each side, or a window "
                f"could lie wholly in padding"
            )
    plane, depth = ((part.kernel, part.strides, part.pads) for part in (window.plane, window.depth))
    n, d, c = shape[0], shape[1], shape[4]
    return plane, depth, (n, d, *window.plane.output, c), (n, *window.output, c)
