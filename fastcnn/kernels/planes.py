"""From a convolution's sizes to its pass plane by plane."""

from __future__ import annotations

from fastcnn.geometry import Conv
from fastcnn.kernels._planes import PlaneConv


def forward(conv: Conv, x, w, y, bias=None, **options) -> PlaneConv:
    """y = clamp(conv(x, w) + bias); with `pooled`, y is max-pooled over 2 x 2 windows."""
    return PlaneConv(x, w, y, bias, (conv.window.top, conv.window.left), **options)
