"""Sizes of a windowed operation, worked out in one place from the user's words.

Key equation, for rows (columns alike): output row `oh` reads input rows `oh*stride + k*dilation - top`,
k < kernel, where rows outside 0..in-1 hold zeros. Hence
`out = (in + top + bottom - ((kernel-1)*dilation + 1)) // stride + 1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]
Padding = str | int | Sequence[Any]

# Every size a user gives is below this, so that products of two of them fit 64 bits.
SIZE_LIMIT = 2**31


def pair(value, what: str, where: str, least: int = 1) -> Pair:
    """`value`, an int or a pair of ints, as a pair; ValueError or TypeError names `where` and `what`."""
    values = (value, value) if _is_int(value) else value
    if not isinstance(values, (tuple, list)) or len(values) != 2 or not all(_is_int(v) for v in values):
        raise TypeError(f"{where}: {what} must be an int or a pair of ints, got {value!r}")
    if not least <= min(values) <= max(values) < SIZE_LIMIT:
        raise ValueError(f"{where}: {what} must be at least {least} and below 2**31, got {value!r}")
    return int(values[0]), int(values[1])


def positive(value, what: str, where: str) -> int:
    """`value` as an int of at least 1; ValueError or TypeError names `where` and `what`."""
    if not _is_int(value):
        raise TypeError(f"{where}: {what} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{where}: {what} must be at least 1, got {value}")
    return int(value)


def image_shape(shape, what: str, where: str) -> tuple[int, int, int, int]:
    """`shape` as (batch, height, width, channels); ValueError names `where` and `what`."""
    sizes = shape if isinstance(shape, (tuple, list)) else ()
    if len(sizes) != 4 or not all(_is_int(size) and size >= 0 for size in sizes):
        raise ValueError(f"{where}: {what} must be (batch, height, width, channels), got {shape!r}")
    n, h, w, c = map(int, sizes)
    return n, h, w, c


def _is_int(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def resolve_padding(padding: Padding, size: Pair, kernel: Pair, strides: Pair, dilation: Pair, where: str):
    """((top, bottom), (left, right)) from 'valid', 'same' (TensorFlow's rule), an int, a pair or all four."""
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            return tuple(_same(*axis) for axis in zip(size, kernel, strides, dilation, strict=True))
        raise ValueError(f"{where}: padding must be 'valid', 'same', an int, a pair or "
                         f"((top, bottom), (left, right)), got {padding!r}")
    if _is_int(padding):
        return tuple((side, side) for side in pair(padding, "padding", where, least=0))
    if isinstance(padding, (tuple, list)) and len(padding) == 2:
        return tuple(pair(side, "padding", where, least=0) for side in padding)
    raise TypeError(f"{where}: padding must be 'valid', 'same', an int, a pair or "
                    f"((top, bottom), (left, right)), got {padding!r}")


def _same(size, kernel, stride, dilation) -> Pair:
    """Enough zeros for ceil(size / stride) outputs; the odd one goes to the end, as in TensorFlow."""
    extent = (kernel - 1) * dilation + 1
    total = max(0, (-(-size // stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


def resolve_transpose(size: Pair, kernel, strides, padding, output_padding, dilation,
                      where: str) -> tuple[Pair, tuple[Pair, Pair]]:
    """Output size of a transposed convolution, and the pads of the convolution that leads back to `size`.

    Keras's rules. Per axis, with extent = (kernel - 1) * dilation + 1, `(size - 1) * stride + extent` pixels
    are reached; 'same' keeps `size * stride` of them, explicit pads are cut off, `output_padding` pixels are
    added at the end (None: with 'valid' as many as make it at least `size * stride`).
    """
    kernel, strides = pair(kernel, "kernel_size", where), pair(strides, "strides", where)
    dilation = pair(dilation, "dilation", where)
    extra = (None, None) if output_padding is None else pair(output_padding, "output_padding", where, least=0)
    same = isinstance(padding, str) and padding == "same"
    pads = ((0, 0), (0, 0)) if same else resolve_padding(padding, size, kernel, strides, dilation, where)
    axes = [_transpose_axis(*axis, same, where)
            for axis in zip(size, kernel, strides, dilation, extra, pads, strict=True)]
    return tuple(length for length, _ in axes), tuple(pad for _, pad in axes)


def _transpose_axis(size, kernel, stride, dilation, extra, pads, same, where) -> tuple[int, Pair]:
    extent = (kernel - 1) * dilation + 1
    reached = (size - 1) * stride + extent
    if same:
        length = (size - 1) * stride + extent % 2 + extra if extra else size * stride
        cut = max(0, reached - length)
        pads = cut // 2, cut - cut // 2
    else:
        length = reached - sum(pads) + (max(0, stride - extent) if extra is None else extra)
    if size < 1 or length < 1:
        raise ValueError(f"{where}: {size} pixels with a kernel of extent {extent} and pads {pads} leave no "
                         f"output pixel; use less padding")
    if length + sum(pads) - reached >= stride:
        raise ValueError(f"{where}: output_padding {extra} is too large for stride {stride}; lower it")
    return length, pads


def _outputs(size, extent, stride, pads) -> int:
    return (size + sum(pads) - extent) // stride + 1


@dataclass(frozen=True)
class Window:
    """A window of (kh, kw) taps sliding over images of (ih, iw) pixels: what conv and pooling share."""

    ih: int
    iw: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pads: tuple[Pair, Pair]
    oh: int
    ow: int

    @classmethod
    def resolve(cls, size, kernel, strides, padding, dilation, where: str, word="kernel_size") -> Window:
        """Sizes from Keras's words. `size` is (ih, iw). Raises ValueError when the window does not fit.

        `word` is what the user calls the window, for messages.
        """
        kernel = pair(kernel, word, where)
        strides, dilation = pair(strides, "strides", where), pair(dilation, "dilation", where)
        pads = resolve_padding(padding, size, kernel, strides, dilation, where)
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if min(size) < 1:
            raise ValueError(f"{where}: images must have at least one pixel, got {size[0]}x{size[1]}")
        padded = tuple(size[i] + sum(pads[i]) for i in (0, 1))
        if max(padded) >= SIZE_LIMIT:
            raise ValueError(f"{where}: the padded image must be below 2**31 pixels a side, got {padded}")
        if any(padded[i] < extent[i] for i in (0, 1)):
            raise ValueError(
                f"{where}: the window of {extent[0]}x{extent[1]} pixels is larger than the image of "
                f"{padded[0]}x{padded[1]} pixels (padding included); use a smaller kernel or pool, "
                f"padding='same', or fewer pooling layers before this one")
        out = [_outputs(size[i], extent[i], strides[i], pads[i]) for i in (0, 1)]
        return cls(*size, *kernel, *strides, *dilation, pads, *out)

    @property
    def top(self) -> int:
        return self.pads[0][0]

    @property
    def left(self) -> int:
        return self.pads[1][0]


@dataclass(frozen=True)
class Conv:
    """A 2-D convolution: x (n, ih, iw, ic) with w (kh, kw, ic/groups, oc) gives y (n, oh, ow, oc)."""

    n: int
    ic: int
    oc: int
    groups: int
    window: Window

    @classmethod
    def resolve(cls, x_shape, w_shape, strides, padding, dilation, groups, where: str) -> Conv:
        """Sizes from array shapes and Keras's words; ValueError when they do not fit together."""
        n, ih, iw, ic = x_shape
        kh, kw, wic, oc = w_shape
        groups = positive(groups, "groups", where)
        if ic % groups or oc % groups:
            raise ValueError(f"{where}: groups={groups} must divide both the input channels ({ic}) and "
                             f"the filters ({oc})")
        if wic * groups != ic:
            raise ValueError(f"{where}: weights of shape {tuple(w_shape)} expect {wic * groups} input channels "
                             f"with groups={groups}, but the input of shape {tuple(x_shape)} has {ic}")
        return cls(n, ic, oc, groups, Window.resolve((ih, iw), (kh, kw), strides, padding, dilation, where))

    @property
    def x_shape(self):
        return self.n, self.window.ih, self.window.iw, self.ic

    @property
    def y_shape(self):
        return self.n, self.window.oh, self.window.ow, self.oc

    @property
    def w_shape(self):
        return self.window.kh, self.window.kw, self.ic // self.groups, self.oc

    @property
    def flops(self) -> int:
        """Floating-point operations of one pass, two per multiply-add, taps in the padding included."""
        w = self.window
        return 2 * self.n * w.oh * w.ow * w.kh * w.kw * (self.ic // self.groups) * self.oc
