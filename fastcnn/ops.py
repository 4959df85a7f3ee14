"""The kernels, NumPy in and NumPy out: convolution, pooling, dense layers, activations, normalisation.

Activations are (n, h, w, c), convolution weights (kh, kw, in_channels // groups, out_channels), all computed in
float32. Any real dtype, memory order and stride is accepted and never modified. Each function has a twin of the
same name and signature in :mod:`fastcnn.reference`, in float64 and written from the formula.
"""

from __future__ import annotations

import numpy as np

from fastcnn.arrays import as_float32
from fastcnn.geometry import Conv, pair
from fastcnn.kernels import conv as passes
from fastcnn.kernels._conv import PackWeights
from fastcnn.kernels._eltwise import Reduce
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._op import Tensor

ALGORITHMS = ("auto", "direct", "im2col")

# Partial weight gradients: groups of images that are summed apart, as many as this much memory holds.
PARTIAL_BYTES = 16 << 20
MAX_PARTS = 16


def conv2d(x, w, b=None, strides=1, padding="valid", dilation=1, groups=1, algorithm="auto"):
    """Cross-correlation of images with a bank of filters, as "convolution" means in every framework.

    y[n, i, j, o] = b[o] + sum_{r, s, c} x[n, i*sh + r*dh - top, j*sw + s*dw - left, c] * w[r, s, c, o]

    Parameters
    ----------
    x : (n, h, w, in_channels)
    w : (kh, kw, in_channels // groups, filters)
    b : (filters,), optional
    padding : 'valid', 'same', an int, a pair, or ((top, bottom), (left, right))
    algorithm : 'auto', 'direct' or 'im2col'

    Returns
    -------
    (n, oh, ow, filters) float32

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, naming both.
    """
    x, w = as_float32(x, 4, "conv2d: x"), as_float32(w, 4, "conv2d: w")
    conv = Conv.resolve(x.shape, w.shape, strides, padding, dilation, groups, "conv2d")
    algorithm = _choose(algorithm, "conv2d")
    if b is not None:
        b = as_float32(b, 1, "conv2d: b", (conv.oc,))
    y = np.empty(conv.y_shape, np.float32)
    weights, stages = _packed(lambda packed: passes.forward_weights(conv, w, packed))
    op = passes.forward(conv, Tensor(x.shape, x), weights, Tensor(y.shape, y), b, algorithm,
                        bands=_bands(conv.n, conv.window.oh))
    _run([*stages, Stage([op], op.items, _group(op))])
    return y


def conv2d_input_grad(dy, w, input_shape, strides=1, padding="valid", dilation=1, groups=1, algorithm="auto"):
    """Gradient of a loss with respect to conv2d's `x`, from its gradient `dy` with respect to conv2d's result.

    dx[n, h, w, c] = sum over all (i, j, o, r, s) with i*sh + r*dh - top = h and j*sw + s*dw - left = w of
    dy[n, i, j, o] * w[r, s, c, o]

    Parameters
    ----------
    dy : (n, oh, ow, filters)
    w : (kh, kw, in_channels // groups, filters)
    input_shape : the shape (n, h, w, in_channels) of conv2d's x

    Returns
    -------
    (n, h, w, in_channels) float32
    """
    dy, w = as_float32(dy, 4, "conv2d_input_grad: dy"), as_float32(w, 4, "conv2d_input_grad: w")
    conv = Conv.resolve(_shape4(input_shape, "conv2d_input_grad"), w.shape, strides, padding, dilation, groups,
                        "conv2d_input_grad")
    _check_dy(dy, conv, "conv2d_input_grad")
    algorithm = _choose(algorithm, "conv2d_input_grad")
    dx = np.empty(conv.x_shape, np.float32)
    source, target = Tensor(dy.shape, dy), Tensor(dx.shape, dx)
    stages = []
    for phase in passes.phases(conv):
        weights, packing = _packed(lambda packed, p=phase: passes.input_grad_weights(conv, p, w, packed))
        op = passes.input_grad(conv, phase, source, weights, target, algorithm, bands=_bands(conv.n, phase.rows))
        stages += [*packing, Stage([op], op.items, _group(op))]
    _run(stages)
    return dx


def conv2d_weight_grad(x, dy, kernel_size, strides=1, padding="valid", dilation=1, groups=1, algorithm="auto"):
    """Gradient of a loss with respect to conv2d's `w`, from its gradient `dy` with respect to conv2d's result.

    dw[r, s, c, o] = sum_{n, i, j} x[n, i*sh + r*dh - top, j*sw + s*dw - left, c] * dy[n, i, j, o]

    Parameters
    ----------
    x : (n, h, w, in_channels)
    dy : (n, oh, ow, filters)
    kernel_size : int or (kh, kw)

    Returns
    -------
    (kh, kw, in_channels // groups, filters) float32
    """
    where = "conv2d_weight_grad"
    x, dy = as_float32(x, 4, f"{where}: x"), as_float32(dy, 4, f"{where}: dy")
    kernel = pair(kernel_size, "kernel_size", where)
    conv = Conv.resolve(x.shape, (*kernel, x.shape[3] // max(1, groups), dy.shape[3]), strides, padding, dilation,
                        groups, where)
    _check_dy(dy, conv, where)
    algorithm = _choose(algorithm, where)
    if conv.n == 0:
        return np.zeros(conv.w_shape, np.float32)
    group = images_per_part(conv.n, 4 * int(np.prod(conv.w_shape)))
    parts = np.empty((-(-conv.n // group), *conv.w_shape), np.float32)
    op = passes.weight_grad(conv, Tensor(x.shape, x), Tensor(dy.shape, dy), parts, None, algorithm)
    stages = [Stage([op], op.items, group)]
    if len(parts) == 1:
        _run(stages)
        return parts[0]
    dw = np.empty(conv.w_shape, np.float32)
    total = Reduce(parts, dw)
    _run([*stages, Stage([total], total.items)])
    return dw


def images_per_part(n: int, weight_bytes: int) -> int:
    """How many images share one partial weight gradient: a matter of shapes, so that the bits are always the same."""
    parts = max(1, min(n, MAX_PARTS, PARTIAL_BYTES // max(1, weight_bytes)))
    return -(-n // parts)


def _choose(algorithm, where):
    if algorithm not in ALGORITHMS:
        raise ValueError(f"{where}: algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {algorithm!r}")
    return "direct" if algorithm == "auto" else algorithm


def _check_dy(dy, conv, where):
    if dy.shape != conv.y_shape:
        raise ValueError(f"{where}: dy must have the shape of conv2d's result, {conv.y_shape}, got {dy.shape}")


def _shape4(shape, where):
    shape = tuple(int(s) for s in shape)
    if len(shape) != 4 or min(shape) < 0:
        raise ValueError(f"{where}: input_shape must be (n, h, w, channels), got {shape}")
    return shape


def _packed(make):
    """(weights in packed form, the stages that pack them)."""
    packed = np.empty(make(None).packed_size, np.float32)
    weights = make(packed)
    pack = PackWeights(weights)
    return weights, [Stage([pack], pack.items)]


def _bands(n: int, rows: int) -> int:
    """Bands of rows per image, so that even one image is work for several threads."""
    return max(1, min(rows, 8 // max(1, n)))


def _group(op) -> int:
    """Items handed out at once: enough of them that threads share evenly, and images enough for a panel."""
    return max(1, op.items // 16)


def _run(stages):
    Program([stage for stage in stages if stage.items]).run()
