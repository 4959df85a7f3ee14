"""From a convolution's sizes to its overlap-add gradients, for few channels on the side of the result."""

from __future__ import annotations

from fastcnn.geometry import Conv
from fastcnn.kernels._overlap import OverlapInputGrad, OverlapWeightGrad, OverlapWeights


def input_grad_weights(w, packed=None) -> OverlapWeights:
    return OverlapWeights(w, packed)


def input_grad(conv: Conv, dy, weights: OverlapWeights, dx, **options) -> OverlapInputGrad:
    return OverlapInputGrad(dy, weights, dx, (conv.window.top, conv.window.left), **options)


def weight_grad(conv: Conv, x, dy, dw, db=None) -> OverlapWeightGrad:
    return OverlapWeightGrad(x, dy, dw, db, (conv.window.top, conv.window.left))
