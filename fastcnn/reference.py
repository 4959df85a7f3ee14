"""Every operation of fastcnn in float64, written from its definition.

This is the oracle of the tests and a textbook for readers: one formula per function, nothing clever, and
nothing shared with the fast code. Every function takes real arrays of any dtype and layout, leaves them
unchanged and returns new float64 arrays (int64 for indices).

Notation: x, w, b, y are input, weights, bias and output; dx, dw, dy are the gradients of a scalar loss with
respect to them. Images are NHWC (batch, height, width, channels), convolution weights
(kh, kw, in_channels // groups, out_channels). Pairs are (height, width), or one int for both.

`padding` is one of
    'valid'                           no padding;
    'same'                            TensorFlow's rule: the output has ceil(size / stride) pixels, and an
                                      odd number of padded pixels puts the extra one at the bottom or right;
    p or (ph, pw)                     that many pixels on both sides;
    ((top, bottom), (left, right))    each side on its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]
IntOrPair = int | Sequence[int]
Padding = str | int | Sequence[Any]

# ------------------------------------------------------------------------------------------ arguments


def _array(a: ArrayLike, name: str, ndim: int | None = None) -> Array:
    """`a` as float64, after checking that it is real and has `ndim` axes."""
    a = np.asarray(a)
    if a.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {a.dtype}; convert it first")
    if ndim is not None and a.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {a.shape}")
    return a.astype(np.float64)


def _integer(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def _pair(value: Any, name: str, least: int) -> Pair:
    """`value` as (height, width): an int counts for both."""
    if isinstance(value, (tuple, list, np.ndarray)):
        if len(value) != 2:
            raise ValueError(f"{name} must be an int or a pair, got {value!r}")
        return _integer(value[0], name, least), _integer(value[1], name, least)
    number = _integer(value, name, least)
    return number, number


def _extent(kernel_size: int, dilation: int) -> int:
    """Pixels from the first to the last tap of a dilated kernel, both included."""
    return (kernel_size - 1) * dilation + 1


def resolve_padding(
    padding: Padding,
    input_size: Sequence[int],
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    dilation: IntOrPair = 1,
) -> tuple[Pair, Pair]:
    """Padding in pixels, ((top, bottom), (left, right)), for an image of `input_size` = (height, width).

    'same' pads each axis by max((ceil(size / stride) - 1) * stride + extent - size, 0) in total, with
    extent = (kernel - 1) * dilation + 1, and puts the smaller half first.

    Raises ValueError for an unknown or negative padding, TypeError for one of the wrong type.
    """
    kernel, step, gap = (
        _pair(kernel_size, "kernel_size", 1),
        _pair(strides, "strides", 1),
        _pair(dilation, "dilation", 1),
    )
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            return tuple(map(_same_padding, input_size, kernel, step, gap))  # type: ignore[return-value]
        raise ValueError(f"padding must be 'valid', 'same', an int or a pair, got {padding!r}")
    if isinstance(padding, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in padding):
        if len(padding) != 2:
            raise ValueError(f"padding must be ((top, bottom), (left, right)), got {padding!r}")
        return _pair(padding[0], "padding", 0), _pair(padding[1], "padding", 0)
    vertical, horizontal = _pair(padding, "padding", 0)
    return (vertical, vertical), (horizontal, horizontal)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    output = -(-size // stride)
    total = max((output - 1) * stride + _extent(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def conv_output_size(
    input_size: Sequence[int],
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
) -> Pair:
    """(height, width) of a convolution or pooling output: floor((size + pads - extent) / stride) + 1.

    Raises ValueError where the kernel does not fit into the padded image, or the image has no pixel.
    """
    return _Windows.over(input_size, kernel_size, strides, padding, dilation, "conv_output_size").output


@dataclass(frozen=True)
class _Windows:
    """The windows a sliding kernel sees: window (p, q), tap (i, j) is pixel (p*sh + i*dh, q*sw + j*dw) of the
    padded image."""

    image: Pair
    kernel: Pair
    strides: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]
    output: Pair

    @classmethod
    def over(
        cls,
        input_size: Sequence[int],
        kernel_size: IntOrPair,
        strides: IntOrPair,
        padding: Padding,
        dilation: IntOrPair,
        where: str,
    ) -> _Windows:
        image = _pair(tuple(input_size), f"{where}: image size", 1)
        kernel = _pair(kernel_size, f"{where}: kernel size", 1)
        step = _pair(strides, f"{where}: strides", 1)
        gap = _pair(dilation, f"{where}: dilation", 1)
        pads = resolve_padding(padding, image, kernel, step, gap)
        output = []
        for axis, size, k, s, d, pad in zip(("height", "width"), image, kernel, step, gap, pads, strict=True):
            room = size + sum(pad) - _extent(k, d)
            if room < 0:
                raise ValueError(
                    f"{where}: the kernel's {axis} {_extent(k, d)} (dilation included) exceeds the image's "
                    f"{axis} {size} with padding {pad}; enlarge the image or use padding='same'"
                )
            output.append(room // s + 1)
        return cls(image, kernel, step, gap, pads, (output[0], output[1]))

    def taps(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Each tap (i, j) with the rows and columns of the padded image where the windows have it."""
        (oh, ow), (sh, sw), (dh, dw) = self.output, self.strides, self.dilation
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
                yield i, j, rows, cols

    def pad(self, x: Array) -> Array:
        return np.pad(x, ((0, 0), *self.pads, (0, 0)))

    def crop(self, padded: Array) -> Array:
        (top, _), (left, _) = self.pads
        return padded[:, top : top + self.image[0], left : left + self.image[1]].copy()

    def zeros(self, n: int, channels: int) -> Array:
        """A padded image to sum gradients into."""
        return self.pad(np.zeros((n, *self.image, channels)))

    def positions(self, rows: slice, cols: slice) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For one tap, (oh, ow): flat position h * iw + w in the image, and whether it is inside."""
        h = np.arange(rows.start, rows.stop, rows.step)[:, None] - self.pads[0][0]
        w = np.arange(cols.start, cols.stop, cols.step)[None, :] - self.pads[1][0]
        inside = (h >= 0) & (h < self.image[0]) & (w >= 0) & (w < self.image[1])
        return h * self.image[1] + w, inside


# ---------------------------------------------------------------------------------------- convolution


def _channel_groups(ic: int, oc: int, groups: int, where: str) -> list[tuple[slice, slice]]:
    """The slices of input and output channels that belong together."""
    groups = _integer(groups, f"{where}: groups", 1)
    if ic % groups or oc % groups:
        raise ValueError(
            f"{where}: groups={groups} must divide the input channels {ic} and output channels {oc}"
        )
    gi, go = ic // groups, oc // groups
    return [(slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)) for g in range(groups)]


def _check_shape(got: Sequence[int], want: Sequence[int], name: str) -> None:
    if tuple(got) != tuple(want):
        raise ValueError(f"{name} must have shape {tuple(want)}, got {tuple(got)}")


def _image_shape(shape: Sequence[int], where: str) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ValueError(f"{where}: input_shape must be (batch, height, width, channels), got {tuple(shape)}")
    n, ih, iw, ic = (_integer(size, f"{where}: input_shape", 0) for size in shape)
    return n, ih, iw, ic


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
    x, w = _array(x, "conv2d: x", 4), _array(w, "conv2d: w", 4)
    (n, ih, iw, ic), (kh, kw, _, oc) = x.shape, w.shape
    channels = _channel_groups(ic, oc, groups, "conv2d")
    _check_shape(w.shape, (kh, kw, ic // groups, oc), "conv2d: w")
    windows = _Windows.over((ih, iw), (kh, kw), strides, padding, dilation, "conv2d")
    padded = windows.pad(x)
    y = np.zeros((n, *windows.output, oc))
    for i, j, rows, cols in windows.taps():
        for inputs, outputs in channels:
            y[..., outputs] += np.tensordot(padded[:, rows, cols, inputs], w[i, j, :, outputs], axes=1)
    return _add_bias(y, b, "conv2d")


def _add_bias(y: Array, b: ArrayLike | None, where: str) -> Array:
    if b is None:
        return y
    b = _array(b, f"{where}: b", 1)
    _check_shape(b.shape, y.shape[-1:], f"{where}: b")
    return y + b


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
    dy, w = _array(dy, f"{where}: dy", 4), _array(w, f"{where}: w", 4)
    (n, ih, iw, ic), (kh, kw, _, oc) = _image_shape(input_shape, where), w.shape
    channels = _channel_groups(ic, oc, groups, where)
    _check_shape(w.shape, (kh, kw, ic // groups, oc), f"{where}: w")
    windows = _Windows.over((ih, iw), (kh, kw), strides, padding, dilation, where)
    _check_shape(dy.shape, (n, *windows.output, oc), f"{where}: dy")
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
    x, dy = _array(x, f"{where}: x", 4), _array(dy, f"{where}: dy", 4)
    (n, ih, iw, ic), oc = x.shape, dy.shape[3]
    channels = _channel_groups(ic, oc, groups, where)
    windows = _Windows.over((ih, iw), kernel_size, strides, padding, dilation, where)
    _check_shape(dy.shape, (n, *windows.output, oc), f"{where}: dy")
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
    w = _array(w, "convolve2d: w", 4)
    return conv2d(x, w[::-1, ::-1], b, strides, padding, dilation, groups, algorithm)


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
    image = _pair(tuple(input_size), "conv2d_transpose: image size", 1)
    kernel, step, gap = (
        _pair(kernel_size, "kernel_size", 1),
        _pair(strides, "strides", 1),
        _pair(dilation, "dilation", 1),
    )
    extra = (
        (None, None)
        if output_padding is None
        else _pair(output_padding, "conv2d_transpose: output_padding", 0)
    )
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else resolve_padding(padding, image, kernel)
    if isinstance(padding, str) and padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid', 'same', an int or a pair, got {padding!r}")
    output, explicit = [], []
    for size, k, s, d, op, pad in zip(image, kernel, step, gap, extra, pads, strict=True):
        extent = _extent(k, d)
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
    x, w = _array(x, "conv2d_transpose: x", 4), _array(w, "conv2d_transpose: w", 4)
    size, pads = resolve_transpose_padding(
        padding, x.shape[1:3], w.shape[:2], strides, output_padding, dilation
    )
    filters = w.shape[2] * _integer(groups, "conv2d_transpose: groups", 1)
    _check_shape(w.shape[3:], x.shape[3:], "conv2d_transpose: the last axis of w")
    y = conv2d_input_grad(x, w, (x.shape[0], *size, filters), strides, pads, dilation, groups)
    return _add_bias(y, b, "conv2d_transpose")


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
    w = _array(w, "conv2d_transpose_input_grad: w", 4)
    _, ih, iw, _ = _image_shape(input_shape, "conv2d_transpose_input_grad")
    _, pads = resolve_transpose_padding(padding, (ih, iw), w.shape[:2], strides, output_padding, dilation)
    dx = conv2d(dy, w, None, strides, pads, dilation, groups)
    _check_shape(input_shape, dx.shape, "conv2d_transpose_input_grad: input_shape")
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
    x = _array(x, "conv2d_transpose_weight_grad: x", 4)
    _, pads = resolve_transpose_padding(padding, x.shape[1:3], kernel_size, strides, output_padding, dilation)
    return conv2d_weight_grad(dy, x, kernel_size, strides, pads, dilation, groups)


# ---------------------------------------------------------------- sequences: images of one row, (n, steps, channels)


def _row_padding(padding: Padding, kernel_size: Any, dilation: Any) -> Padding:
    """The padding of an image of one row, from that of a sequence.

    'causal' puts the extent of the kernel less one before it; a pair is (before, after); (pair,) the same.
    """
    if isinstance(padding, str) and padding == "causal":
        return (0, 0), (_extent(_step(kernel_size), _step(dilation)) - 1, 0)
    if isinstance(padding, str):
        return padding
    sides = padding[0] if isinstance(padding, (tuple, list)) and len(padding) == 1 else padding
    return (0, 0), _pair(sides, "padding", 0)


def _step(value: Any) -> int:
    """An int, or the one int of a tuple."""
    return value[0] if isinstance(value, (tuple, list)) else value


def conv1d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Cross-correlation of sequences with a bank of filters: `conv2d` of images of one row.

        y[n, p, o] = b[o] + sum_{i, c} x[n, p*stride + i*dilation - before, c] * w[i, c, o]

    Parameters
    ----------
    x : (n, steps, ic)
    w : (k, ic // groups, oc)
    b : (oc,), optional
    padding : 'valid', 'same', 'causal' (all zeros before the sequence), an int, or a pair (before, after)

    Returns
    -------
    (n, outputs, oc)
    """
    x, w = _array(x, "conv1d: x", 3), _array(w, "conv1d: w", 3)
    padding = _row_padding(padding, len(w), dilation)
    return conv2d(x[:, None], w[None], b, (1, _step(strides)), padding, (1, _step(dilation)), groups)[:, 0]


def conv1d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv1d` with respect to x, of `input_shape` (n, steps, ic)."""
    dy, w = _array(dy, "conv1d_input_grad: dy", 3), _array(w, "conv1d_input_grad: w", 3)
    (n, steps, ic), padding = input_shape, _row_padding(padding, len(w), dilation)
    words = (1, _step(strides)), padding, (1, _step(dilation)), groups
    return conv2d_input_grad(dy[:, None], w[None], (n, 1, steps, ic), *words)[:, 0]


def conv1d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv1d` with respect to w, (k, ic // groups, oc)."""
    x, dy = _array(x, "conv1d_weight_grad: x", 3), _array(dy, "conv1d_weight_grad: dy", 3)
    padding = _row_padding(padding, kernel_size, dilation)
    words = (1, _step(strides)), padding, (1, _step(dilation)), groups
    return conv2d_weight_grad(x[:, None], dy[:, None], (1, _step(kernel_size)), *words)[0]


# ----------------------------------------------- volumes: stacks of images, (n, depth, height, width, channels)


def _triple(value: Any, name: str, least: int) -> tuple[int, int, int]:
    values = (value,) * 3 if isinstance(value, (int, np.integer)) else value
    if len(values) != 3:
        raise ValueError(f"{name} must be an int or three, got {value!r}")
    first, second, third = (_integer(v, name, least) for v in values)
    return first, second, third


@dataclass(frozen=True)
class _Slices:
    """The windows along the depth axis: output slice p, tap i is slice p*stride + i*dilation of the padded volume.
    `plane` are the other arguments of the 2-D operation within slices."""

    windows: _Windows
    plane: dict[str, Any]

    @classmethod
    def over(cls, size, kernel_size, strides, padding, dilation, where: str) -> _Slices:
        (kernel, *_), (step, *steps), (gap, *gaps) = (
            _triple(value, f"{where}: {name}", 1)
            for value, name in ((kernel_size, "kernel size"), (strides, "strides"), (dilation, "dilation"))
        )
        depth, plane = padding, padding
        if not isinstance(padding, str):
            sides = (padding,) * 3 if isinstance(padding, int) else padding
            depth, *plane = (_pair(side, f"{where}: padding", 0) for side in sides)
            depth = depth, (0, 0)
        windows = _Windows.over((size[0], 1), (kernel, 1), (step, 1), depth, (gap, 1), where)
        return cls(windows, {"strides": steps, "padding": plane, "dilation": gaps})

    def taps(self) -> Iterator[tuple[int, int, int]]:
        """(output slice, tap, input slice), for taps inside the volume."""
        windows = self.windows
        for p in range(windows.output[0]):
            for i in range(windows.kernel[0]):
                d = p * windows.strides[0] + i * windows.dilation[0] - windows.pads[0][0]
                if 0 <= d < windows.image[0]:
                    yield p, i, d


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
    """Cross-correlation of volumes with a bank of filters: a sum of `conv2d` over the depth taps.

        y[n, p] = b + sum_i conv2d(x[n, p*sd + i*dd - front], w[i])

    Parameters
    ----------
    x : (n, depth, height, width, ic)
    w : (kd, kh, kw, ic // groups, oc)
    b : (oc,), optional
    strides, dilation : an int, or three (depth, height, width)
    padding : 'valid', 'same', an int, three, or three pairs

    Returns
    -------
    (n, od, oh, ow, oc)
    """
    x, w = _array(x, "conv3d: x", 5), _array(w, "conv3d: w", 5)
    slices = _Slices.over(x.shape[1:4], w.shape[:3], strides, padding, dilation, "conv3d")
    size = conv_output_size(x.shape[2:4], w.shape[1:3], **slices.plane)
    y = np.zeros((len(x), slices.windows.output[0], *size, w.shape[4]))
    for p, i, d in slices.taps():
        y[:, p] += conv2d(x[:, d], w[i], groups=groups, **slices.plane)
    return _add_bias(y, b, "conv3d")


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
    """Gradient of `conv3d` with respect to x: dx[:, d] = sum of conv2d_input_grad(dy[:, p], w[i]) over its taps."""
    dy, w, dx = _array(dy, "conv3d_input_grad: dy", 5), _array(w, "conv3d_input_grad: w", 5), np.zeros(input_shape)
    slices = _Slices.over(input_shape[1:4], w.shape[:3], strides, padding, dilation, "conv3d_input_grad")
    for p, i, d in slices.taps():
        dx[:, d] += conv2d_input_grad(dy[:, p], w[i], dx[:, d].shape, groups=groups, **slices.plane)
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
    """Gradient of `conv3d` with respect to w: dw[i] = sum of conv2d_weight_grad(x[:, d], dy[:, p]) over its taps."""
    x, dy = _array(x, "conv3d_weight_grad: x", 5), _array(dy, "conv3d_weight_grad: dy", 5)
    kernel = _triple(kernel_size, "conv3d_weight_grad: kernel_size", 1)
    slices = _Slices.over(x.shape[1:4], kernel, strides, padding, dilation, "conv3d_weight_grad")
    dw = np.zeros((*kernel, x.shape[4] // groups, dy.shape[4]))
    for p, i, d in slices.taps():
        dw[i] += conv2d_weight_grad(x[:, d], dy[:, p], kernel[1:], groups=groups, **slices.plane)
    return dw


# -------------------------------------------------------------------------------------------- pooling


def _pool_windows(
    shape: Sequence[int], pool_size: IntOrPair, strides: IntOrPair | None, padding: Padding, where: str
) -> _Windows:
    """Pooling windows; strides default to the pool size, and every window must hold a pixel of the image."""
    step = pool_size if strides is None else strides
    windows = _Windows.over(shape[1:3], pool_size, step, padding, 1, where)
    for size, pad in zip(windows.kernel, windows.pads, strict=True):
        if max(pad) >= size:
            raise ValueError(
                f"{where}: padding {pad} must be below the pool size {size}, or windows would be empty"
            )
    return windows


def max_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Maximum of each window, per channel.

        y[n, p, q, c] = max over i, j of x[n, p*sh + i - top, q*sw + j - left, c]   (pixels of the image only)

    Padding never wins. Of equal maxima the first in row order counts. A window that holds a NaN gives NaN.

    Parameters
    ----------
    x : (n, ih, iw, c)
    strides : defaults to pool_size

    Returns
    -------
    y : (n, oh, ow, c)
    indices : (n, oh, ow, c) int64, with return_indices: position h * iw + w of the maximum (or first NaN)
    """
    x = _array(x, "max_pool2d: x", 4)
    windows = _pool_windows(x.shape, pool_size, strides, padding, "max_pool2d")
    y, index = _window_maxima(x, windows)
    return (y, index) if return_indices else y


def _window_maxima(x: Array, windows: _Windows) -> tuple[Array, NDArray[np.int64]]:
    padded = windows.pad(x)
    best = np.zeros((x.shape[0], *windows.output, x.shape[3]))
    index = np.full(best.shape, -1, np.int64)
    for _, _, rows, cols in windows.taps():
        value = padded[:, rows, cols]
        position, inside = (a[..., None] for a in windows.positions(rows, cols))
        wins = inside & ((index < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best)))
        best = np.where(wins, value, best)
        index = np.where(wins, position, index)
    return best, index


def max_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool2d` with respect to x, (n, ih, iw, c): dy goes to the winner of its window."""
    x = _array(x, "max_pool2d_grad: x", 4)
    y, index = _window_maxima(x, _pool_windows(x.shape, pool_size, strides, padding, "max_pool2d_grad"))
    dy = _array(dy, "max_pool2d_grad: dy", 4)
    _check_shape(dy.shape, y.shape, "max_pool2d_grad: dy")
    n, ih, iw, c = x.shape
    dx = np.zeros((n, ih * iw, c))
    np.add.at(dx, (np.arange(n)[:, None, None, None], index, np.arange(c)), dy)
    return dx.reshape(x.shape)


def min_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    return_indices: bool = False,
) -> Array | tuple[Array, NDArray[np.int64]]:
    """Minimum of each window, min(x) = -max(-x); arguments, ties and NaN as in `max_pool2d`."""
    x = _array(x, "min_pool2d: x", 4)
    y, index = _window_maxima(-x, _pool_windows(x.shape, pool_size, strides, padding, "min_pool2d"))
    return (-y, index) if return_indices else -y


def min_pool2d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `min_pool2d` with respect to x, (n, ih, iw, c)."""
    return max_pool2d_grad(dy, -_array(x, "min_pool2d_grad: x", 4), pool_size, strides, padding)


def _pool_counts(windows: _Windows, count_include_pad: bool) -> Array:
    """(oh, ow, 1): what the sum over each window is divided by."""
    if count_include_pad:
        return np.full((*windows.output, 1), float(math.prod(windows.kernel)))
    counts = sum(windows.positions(rows, cols)[1].astype(np.float64) for _, _, rows, cols in windows.taps())
    return np.asarray(counts)[..., None]


def avg_pool2d(
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Mean of each window, per channel.

        y[n, p, q, c] = sum_{i, j} x[n, p*sh + i - top, q*sw + j - left, c] / count[p, q]

    count is the number of the window's pixels inside the image, or kh * kw with count_include_pad.

    Parameters
    ----------
    x : (n, ih, iw, c)
    strides : defaults to pool_size

    Returns
    -------
    (n, oh, ow, c)
    """
    x = _array(x, "avg_pool2d: x", 4)
    windows = _pool_windows(x.shape, pool_size, strides, padding, "avg_pool2d")
    padded = windows.pad(x)
    y = np.zeros((x.shape[0], *windows.output, x.shape[3]))
    for _, _, rows, cols in windows.taps():
        y += padded[:, rows, cols]
    return y / _pool_counts(windows, count_include_pad)


def avg_pool2d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
    count_include_pad: bool = False,
) -> Array:
    """Gradient of `avg_pool2d` with respect to x, of `input_shape`: each pixel gets dy / count."""
    n, ih, iw, c = _image_shape(input_shape, "avg_pool2d_grad")
    windows = _pool_windows((n, ih, iw, c), pool_size, strides, padding, "avg_pool2d_grad")
    dy = _array(dy, "avg_pool2d_grad: dy", 4)
    _check_shape(dy.shape, (n, *windows.output, c), "avg_pool2d_grad: dy")
    share = dy / _pool_counts(windows, count_include_pad)
    padded = windows.zeros(n, c)
    for _, _, rows, cols in windows.taps():
        padded[:, rows, cols] += share
    return windows.crop(padded)


def global_avg_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Mean over all pixels: (n, ih, iw, c) -> (n, c), or (n, 1, 1, c) with keepdims."""
    x = _array(x, "global_avg_pool2d: x", 4)
    _pair(x.shape[1:3], "global_avg_pool2d: image size", 1)
    return x.mean((1, 2), keepdims=keepdims)


def global_avg_pool2d_grad(dy: ArrayLike, input_shape: Sequence[int]) -> Array:
    """Gradient of `global_avg_pool2d` with respect to x: dy / (ih * iw) for every pixel."""
    n, ih, iw, c = _image_shape(input_shape, "global_avg_pool2d_grad")
    dy = _array(dy, "global_avg_pool2d_grad: dy").reshape(n, 1, 1, c)
    return np.broadcast_to(dy / (ih * iw), (n, ih, iw, c)).copy()


def global_max_pool2d(x: ArrayLike, keepdims: bool = False) -> Array:
    """Maximum over all pixels: (n, ih, iw, c) -> (n, c), or (n, 1, 1, c) with keepdims; NaN wins."""
    x = _array(x, "global_max_pool2d: x", 4)
    y, _ = _window_maxima(x, _pool_windows(x.shape, x.shape[1:3], None, "valid", "global_max_pool2d"))
    return y if keepdims else y[:, 0, 0]


def global_max_pool2d_grad(dy: ArrayLike, x: ArrayLike) -> Array:
    """Gradient of `global_max_pool2d` with respect to x: dy goes to the first maximum of each channel."""
    x = _array(x, "global_max_pool2d_grad: x", 4)
    n, ih, iw, c = x.shape
    return max_pool2d_grad(_array(dy, "global_max_pool2d_grad: dy").reshape(n, 1, 1, c), x, (ih, iw))


# pooling of sequences, (n, steps, c) to (n, outputs, c): that of images of one row; `strides` None is `pool_size`


def _row_windows(pool_size: Any, strides: Any, padding: Padding) -> tuple[Pair, Pair, Padding]:
    """(pool_size, strides, padding) for images of one row."""
    pool = _step(pool_size)
    return (1, pool), (1, pool if strides is None else _step(strides)), _row_padding(padding, pool, 1)


def max_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of each window, y[n, p, c] = max over i of x[n, p*stride + i - before, c]; as `max_pool2d`."""
    return max_pool2d(_array(x, "max_pool1d: x", 3)[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def max_pool1d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool1d` with respect to x: dy goes to the first maximum of its window."""
    dy, x = _array(dy, "max_pool1d_grad: dy", 3), _array(x, "max_pool1d_grad: x", 3)
    return max_pool2d_grad(dy[:, None], x[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def avg_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the steps of each window that are in the sequence."""
    return avg_pool2d(_array(x, "avg_pool1d: x", 3)[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def avg_pool1d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool1d` with respect to x: each step gets dy / count of its windows."""
    (n, steps, c), dy = input_shape, _array(dy, "avg_pool1d_grad: dy", 3)
    words = _row_windows(pool_size, strides, padding)
    return avg_pool2d_grad(dy[:, None], (n, 1, steps, c), *words)[:, 0]


# pooling of volumes, (n, d, h, w, c) to (n, od, oh, ow, c); `strides` None is `pool_size`


def _voxels(shape: Sequence[int], pool_size: Any, strides: Any, padding: Padding, where: str):
    """Each output voxel (p, q, r) with the slices of the volume that its window covers, row by row."""
    pool = _triple(pool_size, f"{where}: pool_size", 1)
    step = pool if strides is None else _triple(strides, f"{where}: strides", 1)
    if isinstance(padding, str):
        pads = [resolve_padding(padding, (size, 1), (k, 1), (s, 1))[0] for size, k, s in
                zip(shape[1:4], pool, step, strict=True)]
    else:
        sides = (padding,) * 3 if isinstance(padding, int) else padding
        pads = [_pair(side, f"{where}: padding", 0) for side in sides]
    starts = [range(-before, size + after - k + 1, s)
              for size, k, s, (before, after) in zip(shape[1:4], pool, step, pads, strict=True)]
    output = tuple(map(len, starts))
    for voxel in np.ndindex(output):
        first = [start[i] for start, i in zip(starts, voxel, strict=True)]
        yield voxel, tuple(slice(max(a, 0), a + k) for a, k in zip(first, pool, strict=True))


def _pooled(x: Array, cells: list[Any], value: Callable[[Array], Array]) -> Array:
    """`value` of the voxels (n, voxels, c) of each window."""
    y = np.zeros((len(x), *(size + 1 for size in cells[-1][0]), x.shape[4]))
    for voxel, window in cells:
        y[(slice(None), *voxel)] = value(_flat(x[(slice(None), *window)]))
    return y


def _flat(voxels: Array) -> Array:
    """(n, d, h, w, c) as (n, voxels, c)."""
    n, *sizes, c = voxels.shape
    return voxels.reshape(n, math.prod(sizes), c)


def max_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of the voxels of each window that are in the volume; ties and NaN as in `max_pool2d`."""
    x = _array(x, "max_pool3d: x", 5)
    return _pooled(x, list(_voxels(x.shape, pool_size, strides, padding, "max_pool3d")), lambda v: v.max(1))


def max_pool3d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool3d` with respect to x: dy goes to the first maximum of its window, slice by slice."""
    dy, x = _array(dy, "max_pool3d_grad: dy", 5), _array(x, "max_pool3d_grad: x", 5)
    dx = np.zeros(x.shape)
    for voxel, window in _voxels(x.shape, pool_size, strides, padding, "max_pool3d_grad"):
        seen, share = x[(slice(None), *window)], dx[(slice(None), *window)]
        first = np.unravel_index(_flat(seen).argmax(1), seen.shape[1:4])
        samples, channels = np.indices(first[0].shape)
        share[(samples, *first, channels)] += dy[(slice(None), *voxel)]
    return dx


def avg_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the voxels of each window that are in the volume."""
    x = _array(x, "avg_pool3d: x", 5)
    return _pooled(x, list(_voxels(x.shape, pool_size, strides, padding, "avg_pool3d")), lambda v: v.mean(1))


def avg_pool3d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool3d` with respect to x: each voxel gets dy / count of its windows."""
    dy, dx = _array(dy, "avg_pool3d_grad: dy", 5), np.zeros(input_shape)
    for voxel, window in _voxels(input_shape, pool_size, strides, padding, "avg_pool3d_grad"):
        share = dx[(slice(None), *window)]
        share += dy[(slice(None), *voxel)][:, None, None, None] / np.prod(share.shape[1:4])
    return dx


# ----------------------------------------------------------------------------------------- resampling


def affine_transform(
    x: ArrayLike,
    matrix: ArrayLike,
    output_size: Pair,
    fill_mode: str = "reflect",
    interpolation: str = "bilinear",
    fill_value: float = 0.0,
) -> Array:
    """y[n, i, j] = x[n] at row m0 + m1 i + m2 j and column m3 + m4 i + m5 j, m = matrix[n].

    Parameters
    ----------
    x : images (n, ih, iw, c).
    matrix : (6,) for all images, or (n, 6).
    output_size : (oh, ow) of y.
    fill_mode : what extends the pixels a b c d: 'reflect' (b a | a b c d | d c), 'wrap' (c d | a b c d | a b),
        'nearest' (a a | a b c d | d d) or 'constant' (`fill_value` everywhere).
    interpolation : 'bilinear' between the four pixels around a position, or the 'nearest', floor(position + 1/2).
    """
    x = _array(x, "affine_transform: x", 4)
    m = np.broadcast_to(_array(matrix, "affine_transform: matrix"), (len(x), 6))[:, :, None, None]
    i, j = np.arange(output_size[0])[:, None], np.arange(output_size[1])[None]
    row, column = m[:, 0] + m[:, 1] * i + m[:, 2] * j, m[:, 3] + m[:, 4] * i + m[:, 5] * j
    if interpolation == "nearest":
        return _pixels_at(x, np.floor(row + 0.5), np.floor(column + 0.5), fill_mode, fill_value)
    top, left = np.floor(row), np.floor(column)
    y = np.zeros((len(x), *output_size, x.shape[3]))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            y += share[..., None] * _pixels_at(x, top + down, left + right, fill_mode, fill_value)
    return y


def _pixels_at(x: Array, row: Array, column: Array, fill_mode: str, fill_value: float) -> Array:
    """Pixels of each image at whole positions, on it or beyond its borders."""
    inside = np.ones(row.shape, bool)
    index = []
    for at, size in ((row.astype(np.int64), x.shape[1]), (column.astype(np.int64), x.shape[2])):
        inside &= (at >= 0) & (at < size)
        if fill_mode == "wrap":
            at = at % size
        elif fill_mode == "reflect":
            at = np.minimum(at % (2 * size), 2 * size - 1 - at % (2 * size))
        index.append(np.clip(at, 0, size - 1))
    pixels = x[np.arange(len(x))[:, None, None], index[0], index[1]]
    return np.where(inside[..., None], pixels, fill_value) if fill_mode == "constant" else pixels


# ---------------------------------------------------------------------------------------------- dense


def dense(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """y = x w + b along the last axis: x (..., in), w (in, out), b (out,), y (..., out)."""
    x, w = _array(x, "dense: x"), _array(w, "dense: w", 2)
    _check_shape(x.shape[-1:], w.shape[:1], "dense: the last axis of x")
    return _add_bias(x @ w, b, "dense")


def dense_input_grad(dy: ArrayLike, w: ArrayLike) -> Array:
    """dx = dy w^T: dy (..., out), w (in, out), dx (..., in)."""
    dy, w = _array(dy, "dense_input_grad: dy"), _array(w, "dense_input_grad: w", 2)
    _check_shape(dy.shape[-1:], w.shape[1:], "dense_input_grad: the last axis of dy")
    return dy @ w.T


def dense_weight_grad(x: ArrayLike, dy: ArrayLike) -> Array:
    """dw = x^T dy, summed over all leading axes: x (..., in), dy (..., out), dw (in, out)."""
    x, dy = _array(x, "dense_weight_grad: x"), _array(dy, "dense_weight_grad: dy")
    _check_shape(dy.shape[:-1], x.shape[:-1], "dense_weight_grad: all but the last axis of dy")
    leading = list(range(x.ndim - 1))
    return np.tensordot(x, dy, axes=(leading, leading))


# ---------------------------------------------------------------------------------------- activations

SELU_SCALE = 1.0507009873554805  # Klambauer et al., Self-Normalizing Neural Networks, 2017
SELU_ALPHA = 1.6732632423543772
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def linear(x: ArrayLike) -> Array:
    """x itself."""
    return _array(x, "linear: x")


def relu(x: ArrayLike) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.maximum(_array(x, "relu: x"), 0.0)


def relu6(x: ArrayLike) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(_array(x, "relu6: x"), 0.0, 6.0)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> Array:
    """x for x > 0, else negative_slope * x."""
    x = _array(x, "leaky_relu: x")
    return np.where(x > 0, x, negative_slope * x)


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """x for x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""
    x = _array(x, "elu: x")
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def selu(x: ArrayLike) -> Array:
    """SELU_SCALE * elu(x, SELU_ALPHA) (Klambauer et al., 2017)."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def gelu(x: ArrayLike) -> Array:
    """x * Phi(x), Phi(x) = erfc(-x / sqrt(2)) / 2 the normal distribution (Hendrycks, Gimpel, 2016)."""
    x = _array(x, "gelu: x")
    return 0.5 * x * _erfc(-x / math.sqrt(2.0))


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), as exp(-softplus(-x)), which cannot overflow."""
    return np.exp(-np.logaddexp(0.0, -_array(x, "sigmoid: x")))


def tanh(x: ArrayLike) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.tanh(_array(x, "tanh: x"))


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(0.0, _array(x, "softplus: x"))


def softsign(x: ArrayLike) -> Array:
    """x / (1 + |x|)."""
    x = _array(x, "softsign: x")
    return x / (1.0 + np.abs(x))


def silu(x: ArrayLike) -> Array:
    """x * sigmoid(x), also called swish (Ramachandran et al., 2017)."""
    x = _array(x, "silu: x")
    return x * sigmoid(x)


def swish(x: ArrayLike) -> Array:
    """Another name of `silu`."""
    return silu(x)


def hard_sigmoid(x: ArrayLike) -> Array:
    """relu6(x + 3) / 6."""
    return relu6(_array(x, "hard_sigmoid: x") + 3.0) / 6.0


def hard_swish(x: ArrayLike) -> Array:
    """x * relu6(x + 3) / 6 (Howard et al., MobileNetV3, 2019)."""
    x = _array(x, "hard_swish: x")
    return x * hard_sigmoid(x)


def mish(x: ArrayLike) -> Array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    x = _array(x, "mish: x")
    return x * np.tanh(softplus(x))


def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) along `axis`, with the maximum taken out first."""
    x = _array(x, "log_softmax: x")
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    return np.exp(log_softmax(x, axis))


def softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """y * (dy - sum(y * dy)) with y = softmax(x)."""
    dy, y = _array(dy, "softmax_grad: dy"), softmax(x, axis)
    return y * (dy - (y * dy).sum(axis, keepdims=True))


def log_softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """dy - softmax(x) * sum(dy)."""
    dy = _array(dy, "log_softmax_grad: dy")
    return dy - softmax(x, axis) * dy.sum(axis, keepdims=True)


def _gelu_derivative(x: Array) -> Array:
    """Phi(x) + x * phi(x)."""
    return 0.5 * _erfc(-x / math.sqrt(2.0)) + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _mish_derivative(x: Array) -> Array:
    """t + x * (1 - t^2) * sigmoid(x) with t = tanh(softplus(x))."""
    t = np.tanh(softplus(x))
    return t + x * (1.0 - t * t) * sigmoid(x)


# name: (f, f'). At a kink f' is the derivative from the flat or lower side: relu'(0) = relu6'(6) = 0.
_ELEMENTWISE: dict[str, tuple[Callable[..., Array], Callable[[Array], Array]]] = {
    "linear": (linear, np.ones_like),
    "relu": (relu, lambda x: np.where(x > 0, 1.0, 0.0)),
    "relu6": (relu6, lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0)),
    "leaky_relu": (leaky_relu, lambda x: np.where(x > 0, 1.0, 0.2)),
    "elu": (elu, lambda x: np.exp(np.minimum(x, 0.0))),
    "selu": (selu, lambda x: SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(x, 0.0)))),
    "gelu": (gelu, _gelu_derivative),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (tanh, lambda x: 1.0 / np.cosh(np.clip(x, -300.0, 300.0)) ** 2),
    "softplus": (softplus, sigmoid),
    "softsign": (softsign, lambda x: 1.0 / (1.0 + np.abs(x)) ** 2),
    "silu": (silu, lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "swish": (silu, lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "hard_sigmoid": (hard_sigmoid, lambda x: np.where(np.abs(x) < 3, 1.0 / 6.0, 0.0)),
    "hard_swish": (hard_swish, lambda x: hard_sigmoid(x) + np.where(np.abs(x) < 3, x / 6.0, 0.0)),
    "mish": (mish, _mish_derivative),
}
_ALONG_CHANNELS = {"softmax": (softmax, softmax_grad), "log_softmax": (log_softmax, log_softmax_grad)}
ACTIVATIONS = (*_ELEMENTWISE, *_ALONG_CHANNELS)


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; the names are {', '.join(ACTIVATIONS)}")


def activation(x: ArrayLike, name: str) -> Array:
    """The activation called `name` (see `ACTIVATIONS`), default parameters, softmaxes over the last axis."""
    _check_activation(name)
    return {**_ELEMENTWISE, **_ALONG_CHANNELS}[name][0](x)


def activation_grad(dy: ArrayLike, x: ArrayLike, name: str) -> Array:
    """Gradient of `activation` with respect to its input x: dy * f'(x) where f works element by element."""
    _check_activation(name)
    dy, x = _array(dy, "activation_grad: dy"), _array(x, "activation_grad: x")
    _check_shape(dy.shape, x.shape, "activation_grad: dy")
    if name in _ALONG_CHANNELS:
        return _ALONG_CHANNELS[name][1](dy, x)
    return dy * _ELEMENTWISE[name][1](x)


# --------------------------------------------------------------------------------------------- losses


def _smoothed_one_hot(labels: ArrayLike, shape: tuple[int, ...], label_smoothing: float) -> Array:
    """Target probabilities of `shape` (..., classes) from one-hot rows or class numbers (...) or (..., 1)."""
    labels, classes = np.asarray(labels), shape[-1]
    if labels.shape == shape:
        target = _array(labels, "softmax_cross_entropy: labels")
    elif labels.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: class numbers must be integers, got dtype {labels.dtype}")
    else:
        if labels.shape == (*shape[:-1], 1):
            labels = labels[..., 0]
        _check_shape(labels.shape, shape[:-1], "softmax_cross_entropy: labels")
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"softmax_cross_entropy: labels must lie in [0, {classes}), "
                f"got {labels.min()} to {labels.max()}"
            )
        target = np.eye(classes)[labels]
    return target * (1.0 - label_smoothing) + label_smoothing / classes


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Cross-entropy of softmax(logits) with the labels, and the gradient of its mean.

        loss = -sum_k t_k * log_softmax(logits)_k,   t = onehot * (1 - s) + s / classes
        d mean(loss) / d logits = (softmax(logits) * sum_k t_k - t) / samples

    Parameters
    ----------
    logits : (..., classes)
    labels : one-hot (or probabilities) of the same shape, or integer class numbers (...,) or (..., 1)

    Returns
    -------
    loss : (...), one per sample
    dlogits : (..., classes), of the mean over all samples
    """
    logits = _array(logits, "softmax_cross_entropy: logits")
    target = _smoothed_one_hot(labels, logits.shape, label_smoothing)
    loss = -(target * log_softmax(logits)).sum(-1)
    dlogits = softmax(logits) * target.sum(-1, keepdims=True) - target
    return loss, dlogits / max(loss.size, 1)


def sigmoid_binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Binary cross-entropy of sigmoid(logits), averaged over the last axis, and the gradient of its mean.

        loss = mean_k [softplus(z_k) - t_k * z_k],   t = labels * (1 - s) + s / 2
        d mean(loss) / dz = (sigmoid(z) - t) / size

    logits and labels: (..., outputs). Returns loss (...) and dlogits (..., outputs).
    """
    z, labels = _array(logits, "sigmoid_binary_cross_entropy: logits"), _array(labels, "labels")
    _check_shape(labels.shape, z.shape, "sigmoid_binary_cross_entropy: labels")
    target = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
    loss = (softplus(z) - target * z).mean(-1)
    return loss, (sigmoid(z) - target) / max(z.size, 1)


def mean_squared_error(prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """mean((prediction - target)^2) over the last axis, (...), and the gradient of its mean."""
    error = _error(prediction, target, "mean_squared_error")
    return (error * error).mean(-1), 2.0 * error / max(error.size, 1)


def mean_absolute_error(prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """mean(|prediction - target|) over the last axis, (...), and the gradient of its mean; sign(0) = 0."""
    error = _error(prediction, target, "mean_absolute_error")
    return np.abs(error).mean(-1), np.sign(error) / max(error.size, 1)


def _error(prediction: ArrayLike, target: ArrayLike, where: str) -> Array:
    prediction, target = _array(prediction, f"{where}: prediction"), _array(target, f"{where}: target")
    _check_shape(target.shape, prediction.shape, f"{where}: target")
    return prediction - target


# ------------------------------------------------------------------------------------------ branches


def merge(kind: str, inputs: Sequence[ArrayLike]) -> Array:
    """The inputs, which broadcast, added, subtracted, multiplied, averaged, or their maximum or minimum."""
    arrays = [_array(x, f"merge: input {i}") for i, x in enumerate(inputs)]
    if kind == "subtract":
        first, second = arrays
        return first - second
    y = arrays[0]
    for x in arrays[1:]:
        y = {"add": np.add, "average": np.add, "multiply": np.multiply, "maximum": np.maximum,
             "minimum": np.minimum}[kind](y, x)
    return y / len(arrays) if kind == "average" else y


def merge_grad(kind: str, dy: ArrayLike, inputs: Sequence[ArrayLike]) -> list[Array]:
    """Gradients with respect to each input; of equal values, the first is the maximum or minimum."""
    dy, arrays = _array(dy, "merge_grad: dy"), [_array(x, f"merge_grad: input {i}") for i, x in enumerate(inputs)]
    slopes: list[Any] = [1.0] * len(arrays)
    if kind == "subtract":
        slopes[1] = -1.0
    elif kind == "average":
        slopes = [1 / len(arrays)] * len(arrays)
    elif kind == "multiply":
        slopes = [np.prod(np.broadcast_arrays(*arrays[:i], *arrays[i + 1:]), axis=0) for i in range(len(arrays))]
    elif kind in ("maximum", "minimum"):
        whole = np.stack(np.broadcast_arrays(*arrays))
        chosen = whole.argmax(0) if kind == "maximum" else whole.argmin(0)
        slopes = [chosen == i for i in range(len(arrays))]
    return [_sum_to(dy * slope, x.shape) for slope, x in zip(slopes, arrays, strict=True)]


def _sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting an array of `shape`: sums along the axes it was repeated on."""
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return a.sum(axes, keepdims=True) if axes else a


def prelu(x: ArrayLike, alpha: ArrayLike) -> Array:
    """x where x > 0, else alpha * x; alpha has the shape of a sample, or 1 along some of its axes."""
    x, alpha = _array(x, "prelu: x"), _array(alpha, "prelu: alpha")
    return np.where(x > 0, x, alpha * x)


def prelu_grad(dy: ArrayLike, x: ArrayLike, alpha: ArrayLike) -> tuple[Array, Array]:
    """(dx, dalpha); at zero, the slope is alpha."""
    dy, x, alpha = _array(dy, "prelu_grad: dy"), _array(x, "prelu_grad: x"), _array(alpha, "prelu_grad: alpha")
    return np.where(x > 0, dy, alpha * dy), _sum_to(np.where(x > 0, 0.0, dy * x).sum(0), alpha.shape)


def _upsampling_matrix(inputs: int, times: int, interpolation: str) -> Array:
    """Row i holds the weights of the inputs in output i, whose centre is at (i + 1/2) / times - 1/2."""
    matrix = np.zeros((inputs * times, inputs))
    for i in range(inputs * times):
        if interpolation == "nearest":
            matrix[i, i // times] = 1.0
            continue
        at = (i + 0.5) / times - 0.5
        below = math.floor(at)
        matrix[i, max(below, 0)] += 1 - (at - below)
        matrix[i, min(below + 1, inputs - 1)] += at - below
    return matrix


def upsample2d(x: ArrayLike, size: IntOrPair, interpolation: str = "nearest") -> Array:
    """y = R x C' for each channel, with the interpolation matrices R of the rows and C of the columns."""
    x = _array(x, "upsample2d: x", 4)
    rows, columns = (_upsampling_matrix(n, times, interpolation)
                     for n, times in zip(x.shape[1:3], _pair(size, "size", 1), strict=True))
    return np.einsum("ih,jw,nhwc->nijc", rows, columns, x)


def upsample2d_grad(dy: ArrayLike, size: IntOrPair, interpolation: str = "nearest") -> Array:
    """dx = R' dy C, the transpose of `upsample2d`."""
    dy, size = _array(dy, "upsample2d_grad: dy", 4), _pair(size, "size", 1)
    rows, columns = (_upsampling_matrix(n // times, times, interpolation)
                     for n, times in zip(dy.shape[1:3], size, strict=True))
    return np.einsum("ih,jw,nijc->nhwc", rows, columns, dy)


# -------------------------------------------------------------------------------------- normalisation


def moments(x: ArrayLike, axes: Sequence[int]) -> tuple[Array, Array]:
    """Mean and variance (mean of squared deviations, not Bessel's) over `axes`, which stay with length 1."""
    x = _array(x, "moments: x")
    if x.size == 0:
        raise ValueError(f"moments: statistics of an empty array of shape {x.shape} are undefined")
    mean = x.mean(tuple(axes), keepdims=True)
    return mean, ((x - mean) ** 2).mean(tuple(axes), keepdims=True)


def _normalize(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    mean, variance = moments(x, axes)
    return (x - mean) / np.sqrt(variance + epsilon)


def _normalize_grad(dy: Array, x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """Gradient through the statistics: (dy - mean(dy) - y * mean(dy * y)) / sqrt(variance + epsilon)."""
    y = _normalize(x, axes, epsilon)
    mean_dy, mean_dy_y = (a.mean(tuple(axes), keepdims=True) for a in (dy, dy * y))
    return (dy - mean_dy - y * mean_dy_y) / np.sqrt(moments(x, axes)[1] + epsilon)


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike = 1.0,
    beta: ArrayLike = 0.0,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: float = 1e-3,
) -> Array:
    """Batch normalisation (Ioffe and Szegedy, 2015): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Without `mean` and `variance` they are those of each channel over the batch (training); given, they are
    the moving statistics (inference). x (..., c); gamma, beta, mean, variance (c,).
    """
    x, gamma, beta = (
        _array(x, "batch_norm: x"),
        _array(gamma, "batch_norm: gamma"),
        _array(beta, "batch_norm: beta"),
    )
    if mean is None or variance is None:
        return gamma * _normalize(x, range(x.ndim - 1), epsilon) + beta
    mean, variance = _array(mean, "batch_norm: mean"), _array(variance, "batch_norm: variance")
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_norm_grad(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike = 1.0,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: float = 1e-3,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `batch_norm`; given statistics are constants, as in a frozen layer."""
    dy, x, gamma = _array(dy, "batch_norm_grad: dy"), _array(x, "batch_norm_grad: x"), _array(gamma, "gamma")
    axes = tuple(range(x.ndim - 1))
    dgamma = (dy * batch_norm(x, 1.0, 0.0, mean, variance, epsilon)).sum(axes)
    if mean is None or variance is None:
        dx = _normalize_grad(dy * gamma, x, axes, epsilon)
    else:
        dx = dy * gamma / np.sqrt(_array(variance, "batch_norm_grad: variance") + epsilon)
    return dx, dgamma, dy.sum(axes)


def moving_average(old: ArrayLike, new: ArrayLike, momentum: float = 0.99) -> Array:
    """momentum * old + (1 - momentum) * new: how batch normalisation follows the batch statistics."""
    return momentum * _array(old, "moving_average: old") + (1.0 - momentum) * _array(
        new, "moving_average: new"
    )


def _along(parameter: ArrayLike, x: Array, axes: Sequence[int]) -> Array:
    """A parameter with the sizes of `axes`, shaped to broadcast against x; a scalar stays one."""
    parameter = _array(parameter, "gamma or beta")
    if parameter.ndim == 0:
        return parameter
    return parameter.reshape([size if axis in axes else 1 for axis, size in enumerate(x.shape)])


def _axes(axis: IntOrPair, ndim: int) -> tuple[int, ...]:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return tuple(sorted(a % ndim for a in axes))


def layer_norm(
    x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, axis: IntOrPair = -1, epsilon: float = 1e-3
) -> Array:
    """Layer normalisation (Ba et al., 2016): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    The statistics are those of each sample over `axis`; gamma and beta have the sizes of `axis`.
    """
    x = _array(x, "layer_norm: x")
    axes = _axes(axis, x.ndim)
    return _along(gamma, x, axes) * _normalize(x, axes, epsilon) + _along(beta, x, axes)


def layer_norm_grad(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, axis: IntOrPair = -1, epsilon: float = 1e-3
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `layer_norm`."""
    dy, x = _array(dy, "layer_norm_grad: dy"), _array(x, "layer_norm_grad: x")
    axes = _axes(axis, x.ndim)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    dx = _normalize_grad(dy * _along(gamma, x, axes), x, axes, epsilon)
    return dx, (dy * _normalize(x, axes, epsilon)).sum(others), dy.sum(others)


def _split_groups(x: Array, groups: int, where: str) -> Array:
    """(n, ..., c) as (n, pixels, groups, c // groups)."""
    groups = _integer(groups, f"{where}: groups", 1)
    if x.shape[-1] % groups:
        raise ValueError(f"{where}: groups={groups} must divide the {x.shape[-1]} channels")
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)


def group_norm(
    x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, groups: int = 32, epsilon: float = 1e-3
) -> Array:
    """Group normalisation (Wu and He, 2018): `layer_norm` over the pixels and channels of each group.

    x (n, ..., c); gamma and beta (c,).
    """
    x = _array(x, "group_norm: x")
    y = _normalize(_split_groups(x, groups, "group_norm"), (1, 3), epsilon).reshape(x.shape)
    return _array(gamma, "group_norm: gamma") * y + _array(beta, "group_norm: beta")


def group_norm_grad(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, groups: int = 32, epsilon: float = 1e-3
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `group_norm`."""
    dy, x = _array(dy, "group_norm_grad: dy"), _array(x, "group_norm_grad: x")
    dnorm = _split_groups(dy * _array(gamma, "group_norm_grad: gamma"), groups, "group_norm_grad")
    dx = _normalize_grad(dnorm, _split_groups(x, groups, "group_norm_grad"), (1, 3), epsilon).reshape(x.shape)
    axes = tuple(range(x.ndim - 1))
    return dx, (dy * group_norm(x, 1.0, 0.0, groups, epsilon)).sum(axes), dy.sum(axes)


def dropout(x: ArrayLike, mask: ArrayLike, rate: float) -> Array:
    """Inverted dropout: x * mask / (1 - rate), mask 1 where a value is kept; linear, so its own gradient."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: rate must lie in [0, 1), got {rate}")
    return _array(x, "dropout: x") * _array(mask, "dropout: mask") / (1.0 - rate)


# ------------------------------------------------------------------------------------ optimiser steps
# One update of weights w with gradient g, by the rules and defaults of Keras 3. Each returns the new weights
# and the new state; `step` counts from 1. Weight decay shrinks w before the update, apart from the gradient.


def _decayed(w: ArrayLike, learning_rate: float, weight_decay: float | None) -> Array:
    return _array(w, "w") * (1.0 - learning_rate * (weight_decay or 0.0))


def _mean_of(old: ArrayLike, new: Array, rate: float) -> Array:
    """Exponential moving average of the state of an optimiser."""
    return rate * _array(old, "state") + (1.0 - rate) * new


def sgd_step(
    w: ArrayLike,
    g: ArrayLike,
    velocity: ArrayLike = 0.0,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float | None = None,
) -> tuple[Array, Array]:
    """Gradient descent with momentum (Sutskever et al., 2013). Returns (w, velocity).

    v = momentum * v - lr * g;   w = w + v,   with nesterov w = w + momentum * v - lr * g
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    velocity = momentum * _array(velocity, "velocity") - learning_rate * g
    return (w + momentum * velocity - learning_rate * g if nesterov else w + velocity), velocity


def adam_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adam (Kingma and Ba, 2015), with epsilon as in the text before its section 2.1. Returns (w, m, v).

    m = b1 * m + (1 - b1) * g;   v = b2 * v + (1 - b2) * g^2
    w = w - lr * sqrt(1 - b2^step) / (1 - b1^step) * m / (sqrt(v) + epsilon)
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    m, v = _mean_of(m, g, beta_1), _mean_of(v, g * g, beta_2)
    rate = learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    return w - rate * m / (np.sqrt(v) + epsilon), m, v


def adamw_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.004,
) -> tuple[Array, Array, Array]:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019). Returns (w, m, v)."""
    return adam_step(w, g, m, v, step, learning_rate, beta_1, beta_2, epsilon, weight_decay)


def nadam_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adam with Nesterov momentum (Dozat, 2016). Returns (w, m, v).

    u_t = b1 * (1 - 0.96^t / 2),   P_t = u_1 * ... * u_t
    m^ = u_{t+1} * m / (1 - P_{t+1}) + (1 - u_t) * g / (1 - P_t),   v^ = v / (1 - b2^t)
    w = w - lr * m^ / (sqrt(v^) + epsilon)
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    m, v = _mean_of(m, g, beta_1), _mean_of(v, g * g, beta_2)
    u = [beta_1 * (1.0 - 0.5 * 0.96**t) for t in range(1, step + 2)]
    m_hat = u[step] * m / (1.0 - math.prod(u)) + (1.0 - u[step - 1]) * g / (1.0 - math.prod(u[:step]))
    return w - learning_rate * m_hat / (np.sqrt(v / (1.0 - beta_2**step)) + epsilon), m, v


def rmsprop_step(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    velocity: ArrayLike = 0.0,
    average: ArrayLike = 0.0,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
    centered: bool = False,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array, Array]:
    """RMSprop (Hinton, Coursera lecture 6, 2012), epsilon inside the root. Returns (w, v, velocity, average).

    v = rho * v + (1 - rho) * g^2;   average = rho * average + (1 - rho) * g   (centered)
    velocity = momentum * velocity + lr * g / sqrt(v - average^2 + epsilon);   w = w - velocity
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    v = _mean_of(v, g * g, rho)
    average = _mean_of(average, g, rho) if centered else np.zeros_like(g)
    step = learning_rate * g / np.sqrt(v - average * average + epsilon)
    velocity = momentum * _array(velocity, "velocity") + step
    return w - velocity, v, velocity, average


def adagrad_step(
    w: ArrayLike,
    g: ArrayLike,
    accumulator: ArrayLike = 0.1,
    learning_rate: float = 0.001,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array]:
    """Adagrad (Duchi et al., 2011), epsilon inside the root. Returns (w, accumulator).

    a = a + g^2;   w = w - lr * g / sqrt(a + epsilon)      (a starts at 0.1)
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    accumulator = _array(accumulator, "accumulator") + g * g
    return w - learning_rate * g / np.sqrt(accumulator + epsilon), accumulator


def adadelta_step(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    d: ArrayLike,
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adadelta (Zeiler, 2012). Returns (w, v, d), the averages of squared gradients and squared changes.

    v = rho * v + (1 - rho) * g^2;   delta = -sqrt(d + epsilon) / sqrt(v + epsilon) * g
    d = rho * d + (1 - rho) * delta^2;   w = w + lr * delta
    """
    w, g = _decayed(w, learning_rate, weight_decay), _array(g, "g")
    v = _mean_of(v, g * g, rho)
    delta = -np.sqrt(_array(d, "d") + epsilon) / np.sqrt(v + epsilon) * g
    return w + learning_rate * delta, v, _mean_of(d, delta * delta, rho)
