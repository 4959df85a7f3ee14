"""Transposed convolution: the adjoint of convolution as an operation of its own, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from fastcnn.reference._arguments import (
    Array,
    IntOrPair,
    Padding,
    Pair,
    as_float64,
    check_shape,
    image_shape,
    in_small_letters,
    integer,
    pair,
)
from fastcnn.reference._windows import kernel_extent, resolve_padding
from fastcnn.reference.convolution import add_bias, conv2d, conv2d_input_grad, conv2d_weight_grad


def resolve_transpose_padding(
    padding: Padding,
    input_size: Sequence[int],
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    output_padding: IntOrPair | None = 0,
    dilation: IntOrPair = 1,
) -> tuple[Pair, tuple[Pair, Pair]]:
    """Output size of `conv2d_transpose`, and the explicit padding of the `conv2d` whose adjoint it is.

    With extent = (kernel - 1) * dilation + 1 and op = output_padding, each axis has (Keras 3's rules)

        'valid'        (size - 1) * stride + extent + op         None: op = max(stride - extent, 0)
        'same'         (size - 1) * stride + extent % 2 + op     no op on any axis: size * stride
        explicit pads  (size - 1) * stride + extent - pads + op

    Raises ValueError where no pixel is left, or where op is so large that no convolution with this stride
    would lead from the output back to the input size.
    """
    image = pair(tuple(input_size), "conv2d_transpose: image size", 1)
    kernel, step, gap = (
        pair(value, name, 1)
        for value, name in ((kernel_size, "kernel_size"), (strides, "strides"), (dilation, "dilation"))
    )
    extra = (None, None) if output_padding is None else pair(output_padding, "conv2d_transpose: output_padding", 0)
    padding = in_small_letters(padding)
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else resolve_padding(padding, image, kernel)
    if isinstance(padding, str) and padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid', 'same', an int or a pair, got {padding!r}")
    output, explicit = [], []
    for size, k, s, d, op, pad in zip(image, kernel, step, gap, extra, pads, strict=True):
        extent = kernel_extent(k, d)
        full = (size - 1) * s + extent
        if padding == "same":
            length = (size - 1) * s + extent % 2 + op if any(extra) else size * s
            cut = max(full - length, 0)
            pad = (cut // 2, cut - cut // 2)
        else:
            length = full - sum(pad) + (max(s - extent, 0) if op is None else op)
        if length < 1:
            raise ValueError(f"conv2d_transpose: padding {padding!r} leaves no output pixel of {full}")
        if length + sum(pad) - full >= s:
            raise ValueError(f"conv2d_transpose: output_padding {op} is too large for stride {s}; lower it")
        output.append(length)
        explicit.append(pad)
    return (output[0], output[1]), (explicit[0], explicit[1])


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
    """Transposed convolution: the adjoint of `conv2d` used as a forward operation, which enlarges images.

        y[n, h, v, f] = b[f] + sum over i, j, c and p, q with h = p*sh + i*dh - top, v = q*sw + j*dw - left
                        of x[n, p, q, c] * w[i, j, f, c]

    Parameters
    ----------
    x : (n, ih, iw, in_channels)
    w : (kh, kw, filters // groups, in_channels), as in Keras
    b : (filters,), optional
    output_padding : extra rows and columns at the bottom and right, see `resolve_transpose_padding`

    Returns
    -------
    (n, oh, ow, filters)
    """
    x, w = as_float64(x, "conv2d_transpose: x", 4), as_float64(w, "conv2d_transpose: w", 4)
    size, pads = resolve_transpose_padding(
        padding, x.shape[1:3], w.shape[:2], strides, output_padding, dilation
    )
    filters = w.shape[2] * integer(groups, "conv2d_transpose: groups", 1)
    check_shape(w.shape[3:], x.shape[3:], "conv2d_transpose: the last axis of w")
    y = conv2d_input_grad(x, w, (x.shape[0], *size, filters), strides, pads, dilation, groups)
    return add_bias(y, b, "conv2d_transpose")


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
    """Gradient of `conv2d_transpose` with respect to x, (n, ih, iw, in_channels): a plain `conv2d` of dy."""
    w = as_float64(w, "conv2d_transpose_input_grad: w", 4)
    _, ih, iw, _ = image_shape(input_shape, "conv2d_transpose_input_grad")
    _, pads = resolve_transpose_padding(padding, (ih, iw), w.shape[:2], strides, output_padding, dilation)
    dx = conv2d(dy, w, None, strides, pads, dilation, groups)
    check_shape(input_shape, dx.shape, "conv2d_transpose_input_grad: input_shape")
    return dx


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
    x = as_float64(x, "conv2d_transpose_weight_grad: x", 4)
    _, pads = resolve_transpose_padding(padding, x.shape[1:3], kernel_size, strides, output_padding, dilation)
    return conv2d_weight_grad(dy, x, kernel_size, strides, pads, dilation, groups)
