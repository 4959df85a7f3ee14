"""From a convolution's sizes to its overlap-add passes, for few channels on the side of the result."""

from __future__ import annotations

from fastcnn.geometry import Conv
from fastcnn.kernels._overlap import OverlapAdd, OverlapWeightGrad, OverlapWeights


def forward_weights(w, packed=None) -> OverlapWeights:
    return OverlapWeights(w, packed=packed)


def forward(conv: Conv, x, weights: OverlapWeights, y, bias=None, **options) -> OverlapAdd:
    """y = clamp(conv(x, w) + bias), max-pooled over windows of `pool` = (kh, kw) side by side."""
    w = conv.window
    return OverlapAdd(x, weights, y, w.ow + w.kw - 1, w.kw - 1, (w.top, w.left), bias=bias, **options)


def input_grad_weights(w, packed=None) -> OverlapWeights:
    return OverlapWeights(w, transposed=True, packed=packed)


def input_grad(conv: Conv, dy, weights: OverlapWeights, dx, bias=None, **options) -> OverlapAdd:
    """dx: every column of dy, spread over the pixels that it was computed from; with a bias, a transposed
    convolution's result."""
    w = conv.window
    return OverlapAdd(dy, weights, dx, w.ow, w.left, (w.kh - 1 - w.top, 0), bare=True, bias=bias, **options)


def weight_grad(conv: Conv, x, dy, dw, db=None) -> OverlapWeightGrad:
    return OverlapWeightGrad(x, dy, dw, db, (conv.window.top, conv.window.left))
