"""Convolution of images and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, IntOrPair, Padding, as_float64, check_shape, image_shape, integer
from fastcnn.reference._windows import Windows


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
    """Cross-correlation of images with a bank of filters (Goodfellow et al., Deep Learning, eq. 9.6).

        y[n, p, q, o] = b[o] + sum_{i, j, c} x[n, p*sh + i*dh - top, q*sw + j*dw - left, c] * w[i, j, c, o]

    where x is 0 outside the image. With groups > 1, output channels of group g see only input channels of
    group g; groups == in_channels is a depthwise convolution.

    Parameters
    ----------
    x : (n, ih, iw, ic)
    w : (kh, kw, ic // groups, oc)
    b : (oc,), optional
    algorithm : ignored; there is one formula. It keeps the signature of `fastcnn.ops`.

    Returns
    -------
    (n, oh, ow, oc)

    Raises ValueError where shapes do not match or the kernel does not fit into the padded image.
    """
    x, w = as_float64(x, "conv2d: x", 4), as_float64(w, "conv2d: w", 4)
    (n, ih, iw, ic), (kh, kw, _, oc) = x.shape, w.shape
    channels = _channel_groups(ic, oc, groups, "conv2d")
    check_shape(w.shape, (kh, kw, ic // groups, oc), "conv2d: w")
    windows = Windows.over((ih, iw), (kh, kw), strides, padding, dilation, "conv2d")
    padded = windows.pad(x)
    y = np.zeros((n, *windows.output, oc))
    for i, j, rows, cols in windows.taps():
        for inputs, outputs in channels:
            y[..., outputs] += np.tensordot(padded[:, rows, cols, inputs], w[i, j, :, outputs], axes=1)
    return add_bias(y, b, "conv2d")


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
    """Gradient of `conv2d` with respect to x: each output spreads over the pixels it was computed from.

        dx[n, h, v, c] = sum over i, j, o and the p, q with h = p*sh + i*dh - top, v = q*sw + j*dw - left
                         of dy[n, p, q, o] * w[i, j, c, o]

    Parameters
    ----------
    dy : (n, oh, ow, oc)
    w : (kh, kw, ic // groups, oc)
    input_shape : (n, ih, iw, ic), the shape of x

    Returns
    -------
    (n, ih, iw, ic)
    """
    where = "conv2d_input_grad"
    dy, w = as_float64(dy, f"{where}: dy", 4), as_float64(w, f"{where}: w", 4)
    (n, ih, iw, ic), (kh, kw, _, oc) = image_shape(input_shape, where), w.shape
    channels = _channel_groups(ic, oc, groups, where)
    check_shape(w.shape, (kh, kw, ic // groups, oc), f"{where}: w")
    windows = Windows.over((ih, iw), (kh, kw), strides, padding, dilation, where)
    check_shape(dy.shape, (n, *windows.output, oc), f"{where}: dy")
    padded = windows.zeros(n, ic)
    for i, j, rows, cols in windows.taps():
        for inputs, outputs in channels:
            padded[:, rows, cols, inputs] += np.tensordot(dy[..., outputs], w[i, j, :, outputs], axes=(3, 1))
    return windows.crop(padded)


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
    """Gradient of `conv2d` with respect to w: each tap correlates the pixels it saw with the outputs.

        dw[i, j, c, o] = sum_{n, p, q} x[n, p*sh + i*dh - top, q*sw + j*dw - left, c] * dy[n, p, q, o]

    Parameters
    ----------
    x : (n, ih, iw, ic)
    dy : (n, oh, ow, oc)
    kernel_size : (kh, kw)

    Returns
    -------
    (kh, kw, ic // groups, oc)
    """
    where = "conv2d_weight_grad"
    x, dy = as_float64(x, f"{where}: x", 4), as_float64(dy, f"{where}: dy", 4)
    (n, ih, iw, ic), oc = x.shape, dy.shape[3]
    channels = _channel_groups(ic, oc, groups, where)
    windows = Windows.over((ih, iw), kernel_size, strides, padding, dilation, where)
    check_shape(dy.shape, (n, *windows.output, oc), f"{where}: dy")
    padded = windows.pad(x)
    dw = np.zeros((*windows.kernel, ic // groups, oc))
    for i, j, rows, cols in windows.taps():
        for inputs, outputs in channels:
            dw[i, j, :, outputs] = np.tensordot(
                padded[:, rows, cols, inputs], dy[..., outputs], axes=([0, 1, 2],) * 2
            )
    return dw


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

    y[p, q] = sum_{i, j} x[p - i, q - j] * w[i, j]      (valid part, strides 1)
    """
    w = as_float64(w, "convolve2d: w", 4)
    return conv2d(x, w[::-1, ::-1], b, strides, padding, dilation, groups, algorithm)


def _channel_groups(ic: int, oc: int, groups: int, where: str) -> list[tuple[slice, slice]]:
    """The slices of input and output channels that belong together."""
    groups = integer(groups, f"{where}: groups", 1)
    if ic % groups or oc % groups:
        raise ValueError(
            f"{where}: groups={groups} must divide the input channels {ic} and output channels {oc}"
        )
    gi, go = ic // groups, oc // groups
    return [(slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)) for g in range(groups)]


def add_bias(y: Array, b: ArrayLike | None, where: str) -> Array:
    if b is None:
        return y
    b = as_float64(b, f"{where}: b", 1)
    check_shape(b.shape, y.shape[-1:], f"{where}: b")
    return y + b
