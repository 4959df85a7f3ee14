"""Convolution of images, its gradients, and the same three passes of the transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.algorithms import (
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    adds_overlaps,
    adjoint_tile,
    check_algorithm,
    check_winograd,
    computes_planes,
    sums_by_channels,
    winograd_tile,
)
from fastcnn.arrays import IMAGES, WEIGHTS, Array, aligned_empty, as_float32
from fastcnn.geometry import Conv, IntOrPair, Padding, image_shape, is_named, pair, resolve_transpose
from fastcnn.kernels import conv as passes
from fastcnn.kernels import overlap, planes, winograd
from fastcnn.kernels._depthwise import DepthwiseConv, DepthwiseInputGrad, DepthwiseWeightGrad
from fastcnn.kernels._gather import PackWeights
from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._overlap import PackOverlap
from fastcnn.kernels._winograd_weights import PackWinograd
from fastcnn.ops._engine import bands, run, sum_over_images, tensor
from fastcnn.utils import whole_number


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Cross-correlation of images with a bank of filters, as "convolution" means in every framework.

    y[n, i, j, o] = b[o] + sum_{r, s, c} x[n, i*sh + r*dh - top, j*sw + s*dw - left, c] * w[r, s, c, o]

    With groups > 1, output channels of a group see only input channels of that group; groups == in_channels
    is a depthwise convolution.

    Parameters
    ----------
    x : (n, h, w, in_channels)
    w : (kh, kw, in_channels // groups, filters)
    b : (filters,), optional
    padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right))
    algorithm : 'auto', 'direct', 'im2col' or, for 3 x 3 kernels at strides, dilation and groups of 1, 'winograd'
        (small integers are then not exact, and a NaN or infinity spreads over the 6 x 6 tile that reads it).
        'auto' chooses between direct and winograd by shape; see `fastcnn.set_algorithm_policy`.

    Returns
    -------
    (n, oh, ow, filters) float32

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, naming both.
    """
    return _correlate(
        x,
        as_float32(w, 4, "conv2d: w", axes=WEIGHTS),
        b,
        strides,
        padding,
        dilation,
        groups,
        algorithm,
        "conv2d",
    )


def convolve2d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Convolution as signal processing defines it: `conv2d` with the kernel turned by 180 degrees.

    y[i, j] = sum_{r, s} x[i - r, j - s] * w[r, s]      (valid part, strides 1); arguments as in `conv2d`
    """
    w = as_float32(w, 4, "convolve2d: w", axes=WEIGHTS)
    return _correlate(
        x, np.ascontiguousarray(w[::-1, ::-1]), b, strides, padding, dilation, groups, algorithm, "convolve2d"
    )


def conv2d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of a loss with respect to conv2d's x, from its gradient dy with respect to conv2d's result.

    dx[n, h, v, c] = sum over all (i, j, o, r, s) with i*sh + r*dh - top = h and j*sw + s*dw - left = v of
    dy[n, i, j, o] * w[r, s, c, o]

    Parameters
    ----------
    dy : (n, oh, ow, filters)
    w : (kh, kw, in_channels // groups, filters)
    input_shape : the shape (n, h, w, in_channels) of conv2d's x
    strides, padding, dilation, groups, algorithm : as in `conv2d`

    Returns
    -------
    (n, h, w, in_channels) float32
    """
    where = "conv2d_input_grad"
    dy, w = as_float32(dy, 4, f"{where}: dy", axes=IMAGES), as_float32(w, 4, f"{where}: w", axes=WEIGHTS)
    shape = image_shape(input_shape, "input_shape", where)
    conv = Conv.resolve(shape, w.shape, strides, padding, dilation, groups, where)
    _check_dy(dy, conv, where)
    return _spread(conv, dy, w, None, _check_algorithm(algorithm, conv, where))


def conv2d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of a loss with respect to conv2d's w, from its gradient dy with respect to conv2d's result.

    dw[r, s, c, o] = sum_{n, i, j} x[n, i*sh + r*dh - top, j*sw + s*dw - left, c] * dy[n, i, j, o]

    Parameters
    ----------
    x : (n, h, w, in_channels)
    dy : (n, oh, ow, filters)
    kernel_size : int or (kh, kw)
    strides, padding, dilation, groups, algorithm : as in `conv2d`

    Returns
    -------
    (kh, kw, in_channels // groups, filters) float32
    """
    where = "conv2d_weight_grad"
    x, dy = as_float32(x, 4, f"{where}: x", axes=IMAGES), as_float32(dy, 4, f"{where}: dy", axes=IMAGES)
    return _weight_grad(x, dy, kernel_size, strides, padding, dilation, groups, algorithm, where)


def conv2d_transpose(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    output_padding: IntOrPair | None = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Transposed convolution: the input gradient of `conv2d` as a forward operation, which enlarges images.

    y[n, h, v, f] = b[f] + sum over all (i, j, c, r, s) with i*sh + r*dh - top = h and j*sw + s*dw - left = v
    of x[n, i, j, c] * w[r, s, f, c]

    Parameters
    ----------
    x : (n, h, w, in_channels)
    w : (kh, kw, filters // groups, in_channels)
    b : (filters,), optional
    padding : pixels cut off the result's sides; 'same' leaves size * stride of them, 'valid' cuts nothing
    output_padding : rows and columns added at the bottom and right

    Returns
    -------
    (n, oh, ow, filters) float32
    """
    where = "conv2d_transpose"
    x, w = as_float32(x, 4, f"{where}: x", axes=IMAGES), as_float32(w, 4, f"{where}: w", axes=WEIGHTS)
    size, pads = _transposed(
        x.shape[1:3], w.shape[:2], strides, padding, output_padding, dilation, where
    )
    filters = w.shape[2] * whole_number(groups, "groups", where)
    if w.shape[3] != x.shape[3]:
        raise ValueError(
            f"{where}: w of shape {w.shape} expects {w.shape[3]} input channels (its last axis), x of "
            f"shape {x.shape} has {x.shape[3]}"
        )
    conv = Conv.resolve((len(x), *size, filters), w.shape, strides, pads, dilation, groups, where)
    return _spread(conv, x, w, as_bias(b, filters, where), "auto")


def conv2d_transpose_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    output_padding: IntOrPair | None = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d_transpose` with respect to x, of `input_shape`: a plain convolution of dy."""
    where = "conv2d_transpose_input_grad"
    dy, w = as_float32(dy, 4, f"{where}: dy", axes=IMAGES), as_float32(w, 4, f"{where}: w", axes=WEIGHTS)
    n, h, v, channels = image_shape(input_shape, "input_shape", where)
    size, pads = _transposed((h, v), w.shape[:2], strides, padding, output_padding, dilation, where)
    filters = w.shape[2] * whole_number(groups, "groups", where)
    if w.shape[3] != channels:
        raise ValueError(
            f"{where}: w of shape {w.shape} expects {w.shape[3]} input channels (its last axis), "
            f"input_shape {tuple(input_shape)} has {channels}"
        )
    check_shape(dy, (n, *size, filters), f"{where}: dy", "conv2d_transpose's result")
    conv = Conv.resolve(dy.shape, w.shape, strides, pads, dilation, groups, where)
    return _forward(conv, dy, w, None, "auto")


def conv2d_transpose_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    output_padding: IntOrPair | None = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d_transpose` with respect to w, (kh, kw, filters // groups, in_channels).

    It is `conv2d_weight_grad` with x and dy in exchanged roles.
    """
    where = "conv2d_transpose_weight_grad"
    x, dy = as_float32(x, 4, f"{where}: x", axes=IMAGES), as_float32(dy, 4, f"{where}: dy", axes=IMAGES)
    size, pads = _transposed(
        x.shape[1:3], kernel_size, strides, padding, output_padding, dilation, where
    )
    check_shape(dy, (len(x), *size, dy.shape[3]), f"{where}: dy", "conv2d_transpose's result")
    return _weight_grad(dy, x, kernel_size, strides, pads, dilation, groups, "auto", where)


def _transposed(size, kernel, strides, padding, output_padding, dilation, where):
    """Sizes of a transposed convolution, where 'same' without output padding is `size * stride` pixels."""
    if is_named(padding, "same") and not np.any(output_padding):
        output_padding = None
    return resolve_transpose(size, kernel, strides, padding, output_padding, dilation, where)


# ---- the three passes, on checked arrays


def _correlate(x, w, b, strides, padding, dilation, groups, algorithm, where) -> Array:
    x = as_float32(x, 4, f"{where}: x", axes=IMAGES)
    conv = Conv.resolve(x.shape, w.shape, strides, padding, dilation, groups, where)
    return _forward(conv, x, w, as_bias(b, conv.oc, where), _check_algorithm(algorithm, conv, where))


def _forward(conv: Conv, x: Array, w: Array, b: Array | None, algorithm: str) -> Array:
    y = aligned_empty(conv.y_shape)
    if _is_depthwise(conv, algorithm):
        run(DepthwiseConv(tensor(x), _per_channel(conv, w), b, tensor(y), *_steps(conv), -np.inf, np.inf))
        return y
    m = winograd_tile(conv, FORWARD, algorithm)
    if m:
        weights, pack = _winograd_weights(conv, m, lambda packed: winograd.forward_weights(conv, m, w, packed))
        run(*pack, winograd.forward(conv, m, tensor(x), weights, tensor(y), b, by_blocks=True))
        return y
    cuts = bands(conv.n, conv.window.oh)
    if computes_planes(conv, algorithm):
        run(planes.forward(conv, tensor(x), w, tensor(y), b, bands=cuts))
        return y
    weights, pack = packed_weights(lambda packed: passes.forward_weights(conv, w, packed))
    run(pack, passes.forward(conv, tensor(x), weights, tensor(y), b, algorithm, bands=cuts))
    return y


def _spread(conv: Conv, dy: Array, w: Array, b: Array | None, algorithm: str) -> Array:
    """The input gradient, plus b."""
    dx = aligned_empty(conv.x_shape)
    if _is_depthwise(conv, algorithm):
        run(DepthwiseInputGrad(tensor(dy), _per_channel(conv, w), tensor(dx), *_steps(conv)))
        return dx if b is None else np.add(dx, b, out=dx)
    m = adjoint_tile(conv, algorithm)
    if m and b is None:
        weights, pack = _winograd_weights(conv, m, lambda packed: winograd.adjoint_weights(conv, m, w, packed))
        run(*pack, winograd.adjoint(conv, m, tensor(dy), weights, tensor(dx), by_blocks=True))
        return dx
    m = winograd_tile(conv, INPUT_GRAD, algorithm)
    if m:
        weights, pack = _winograd_weights(conv, m, lambda packed: winograd.input_grad_weights(conv, m, w, packed))
        run(*pack, winograd.input_grad(conv, m, tensor(dy), weights, tensor(dx), b, by_blocks=True))
        return dx
    if adds_overlaps(conv, INPUT_GRAD, algorithm):
        weights, pack = packed_weights(lambda packed: overlap.input_grad_weights(w, packed), PackOverlap)
        run(pack, overlap.input_grad(conv, tensor(dy), weights, tensor(dx), bands=bands(conv.n, conv.window.ih)))
        return dx if b is None else np.add(dx, b, out=dx)
    source, target, ops = tensor(dy), tensor(dx), []
    for phase in passes.phases(conv):
        weights, pack = packed_weights(lambda packed, p=phase: passes.input_grad_weights(conv, p, w, packed))
        cuts = bands(conv.n, phase.rows)
        ops += [pack, passes.input_grad(conv, phase, source, weights, target, algorithm, b, bands=cuts)]
    run(*ops)
    return dx


def _weight_grad(
    x: Array, dy: Array, kernel_size, strides, padding, dilation, groups, algorithm, where
) -> Array:
    kernel, groups = pair(kernel_size, "kernel_size", where), whole_number(groups, "groups", where)
    w_shape = (*kernel, x.shape[3] // groups, dy.shape[3])
    conv = Conv.resolve(x.shape, w_shape, strides, padding, dilation, groups, where)
    _check_dy(dy, conv, where)
    algorithm = _check_algorithm(algorithm, conv, where)
    m = winograd_tile(conv, WEIGHT_GRAD, algorithm)
    if m:
        return _winograd_weight_grad(conv, m, tensor(x), tensor(dy))
    inputs, errors = tensor(x), tensor(dy)
    if groups == 1 and conv.n and passes.weight_bytes(conv) > passes.LARGE_WEIGHTS:
        dw = aligned_empty(conv.w_shape)
        run(passes.weight_grad(conv, inputs, errors, dw[None], None, algorithm, by_channels=True))
        return dw

    def one_part_per_group(parts: Array) -> Op:
        if _is_depthwise(conv, algorithm):
            return DepthwiseWeightGrad(
                inputs, errors, parts.reshape(len(parts), -1), None, kernel, *_steps(conv)
            )
        if adds_overlaps(conv, WEIGHT_GRAD, algorithm):
            return overlap.weight_grad(conv, inputs, errors, parts)
        return passes.weight_grad(conv, inputs, errors, parts, None, algorithm)

    return sum_over_images(conv.n, conv.w_shape, one_part_per_group)


def _winograd_weight_grad(conv: Conv, m: int, x: Tensor, dy: Tensor) -> Array:
    if conv.n and sums_by_channels(conv, m):
        dw = aligned_empty(conv.w_shape)
        run(winograd.weight_grad(conv, m, x, dy, dw[None], by_channels=True))
        return dw
    return sum_over_images(conv.n, conv.w_shape, lambda parts: winograd.weight_grad(conv, m, x, dy, parts))


def _winograd_weights(conv: Conv, m: int, make):
    """(weights, the op that transforms them beforehand, if any)."""
    if not winograd.stores_weights(conv, m):
        return make(None), []
    weights, pack = packed_weights(make, PackWinograd)
    return weights, [pack]


def packed_weights(make, pack: type[Op] = PackWeights):
    """(weights in packed form, the op that packs them)."""
    packed = aligned_empty(make(None).packed_size)
    weights = make(packed)
    return weights, pack(weights)


# ---- depthwise convolution: w (kh, kw, 1, channels * m) lies in memory as (kh, kw, channels, m)


def _is_depthwise(conv: Conv, algorithm: str) -> bool:
    return conv.groups == conv.ic > 1 and algorithm != "im2col"


def _per_channel(conv: Conv, w: Array) -> Array:
    return w.reshape(conv.window.kh, conv.window.kw, conv.ic, conv.oc // conv.ic)


def _steps(conv: Conv):
    window = conv.window
    return (window.sh, window.sw), window.pads, (window.dh, window.dw)


# ---- checks


def _check_algorithm(algorithm, conv: Conv, where: str) -> str:
    w = conv.window
    check_winograd(check_algorithm(algorithm, where), (w.kh, w.kw), (w.sh, w.sw), (w.dh, w.dw), conv.groups, where)
    return algorithm


def as_bias(b: ArrayLike | None, channels: int, where: str) -> Array | None:
    """A bias as float32 (channels,), or None."""
    return None if b is None else as_float32(b, 1, f"{where}: b", (channels,))


def _check_dy(dy: Array, conv: Conv, where: str) -> None:
    check_shape(dy, conv.y_shape, f"{where}: dy", "conv2d's result")


def check_shape(array: Array, shape: tuple[int, ...], what: str, whose: str) -> None:
    """Raise ValueError unless `array` has that shape."""
    if array.shape != shape:
        raise ValueError(f"{what} must have the shape of {whose}, {shape}, got {array.shape}")
