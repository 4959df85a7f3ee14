"""From a convolution's sizes to its overlap-add gradients, for few channels on the side of the result."""

from __future__ import annotations

from fastcnn.geometry import Conv
from fastcnn.kernels._overlap import OverlapInputGrad, OverlapWeightGrad, OverlapWeights
from fastcnn.kernels._panels import Panel

# A weight gradient reads the same pixels once per tile of it.
GRAD_PIXELS = 1024


def input_grad_weights(w, packed=None) -> OverlapWeights:
    return OverlapWeights(w, packed)


def input_grad(conv: Conv, dy, weights: OverlapWeights, dx, **options) -> OverlapInputGrad:
    return OverlapInputGrad(dy, weights, dx, (conv.window.top, conv.window.left), **options)


def weight_grad(conv: Conv, x, dy, dw, db=None) -> OverlapWeightGrad:
    w = conv.window
    grid, taps = (w.oh, w.ow + w.kw - 1), [(row, 0) for row in range(w.kh)]
    panel = Panel(x, grid, (1, 1), (w.top, w.left), taps, conv.ic, max_pixels=GRAD_PIXELS)
    return OverlapWeightGrad(panel, dy, dw, db)
