"""Dense layers: convolutions of one pixel, in which the weights, not the images, are what is large."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.arrays import Array, aligned_empty, aligned_zeros, as_float32
from fastcnn.geometry import Conv
from fastcnn.kernels import conv as passes
from fastcnn.ops._engine import run, tensor


def dense(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """y = x w + b along the last axis.

    Parameters
    ----------
    x : (..., in)
    w : (in, out)
    b : (out,), optional

    Returns
    -------
    (..., out) float32

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, naming both.
    """
    x, w = _samples(x, "dense: x"), as_float32(w, 2, "dense: w", axes="(in, out)")
    _check_width("x", x, len(w), w, "dense")
    b = None if b is None else as_float32(b, 1, "dense: b", w.shape[1:])
    y = aligned_empty((*x.shape[:-1], w.shape[1]))
    conv = _as_conv(x, w.shape)
    if y.size:
        weights = passes.forward_weights(conv, w[None, None])
        run(passes.forward(conv, _pixels(x), weights, _pixels(y), b, "direct", by_channels=True))
    return y


def dense_input_grad(dy: ArrayLike, w: ArrayLike) -> Array:
    """dx = dy w^T: dy (..., out), w (in, out), dx (..., in) float32."""
    where = "dense_input_grad"
    dy, w = _samples(dy, f"{where}: dy"), as_float32(w, 2, f"{where}: w", axes="(in, out)")
    _check_width("dy", dy, w.shape[1], w, where)
    dx = aligned_empty((*dy.shape[:-1], len(w)))
    conv = _as_conv(dx, w.shape)
    if dx.size:
        (phase,) = passes.phases(conv)
        weights = passes.input_grad_weights(conv, phase, w[None, None])
        run(passes.input_grad(conv, phase, _pixels(dy), weights, _pixels(dx), "direct", by_channels=True))
    return dx


def dense_weight_grad(x: ArrayLike, dy: ArrayLike) -> Array:
    """dw = x^T dy, summed over all leading axes: x (..., in), dy (..., out), dw (in, out) float32."""
    where = "dense_weight_grad"
    x, dy = _samples(x, f"{where}: x"), _samples(dy, f"{where}: dy")
    if x.shape[:-1] != dy.shape[:-1]:
        raise ValueError(
            f"{where}: x and dy must agree in all but the last axis, got {x.shape} and {dy.shape}"
        )
    conv = _as_conv(x, (x.shape[-1], dy.shape[-1]))
    if not conv.n:
        return aligned_zeros((conv.ic, conv.oc))
    dw = aligned_empty((conv.ic, conv.oc))
    if dw.size:
        run(passes.weight_grad(conv, _pixels(x), _pixels(dy), dw[None, None, None], None, "direct", by_channels=True))
    return dw


def _as_conv(x: Array, w_shape) -> Conv:
    """The dense layer of x (..., in) and w (in, out) as a convolution of images of one pixel."""
    return Conv.resolve((_count(x), 1, 1, x.shape[-1]), (1, 1, *w_shape), 1, "valid", 1, 1, "dense")


def _count(x: Array) -> int:
    return int(np.prod(x.shape[:-1]))


def _pixels(x: Array):
    return tensor(x.reshape(_count(x), x.shape[-1]))


def _samples(x: ArrayLike, what: str) -> Array:
    x = as_float32(x, None, what)
    if x.ndim == 0:
        raise ValueError(f"{what} must have at least one axis, got a number")
    return x


def _check_width(name: str, array: Array, width: int, w: Array, where: str) -> None:
    if array.shape[-1] != width:
        raise ValueError(
            f"{where}: {name} of shape {array.shape} must have {width} values in its last axis, for w has "
            f"shape {w.shape}"
        )
