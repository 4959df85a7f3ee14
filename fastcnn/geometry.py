"""Sizes of a windowed operation, worked out in one place from the user's words.

Key equation, for rows (columns alike): output row `oh` reads input rows `oh*stride + k*dilation - top`,
k < kernel, where rows outside 0..in-1 hold zeros. Hence
`out = (in + top + bottom - ((kernel-1)*dilation + 1)) // stride + 1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arrays import IMAGES
from fastcnn.utils import whole_number

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]
Padding = str | int | Sequence[Any]

# Every size a user gives is below this, so that products of two of them fit 64 bits.
SIZE_LIMIT = 2**31

# By number of axes: what an input is made of and what it is; what a size may be besides an int; how padding is named,
# and how its sides are written.
ONE_OF = {1: ("step", "sequence"), 2: ("pixel", "image"), 3: ("voxel", "volume")}
SEVERAL = {1: "", 2: " or a pair of ints", 3: " or three ints"}
NAMED = {1: "'valid', 'same', 'causal'", 2: "'valid', 'same'", 3: "'valid', 'same'"}
SIDES = {1: "a pair (before, after)", 2: "a pair or ((top, bottom), (left, right))",
         3: "three ints or ((front, back), (top, bottom), (left, right))"}


def pair(value, what: str, where: str, least: int = 1) -> Pair:
    """`value`, an int or a pair of ints, as a pair; ValueError or TypeError names `where` and `what`."""
    return sizes(value, 2, what, where, least)


def sizes(value, rank: int, what: str, where: str, least: int = 1) -> tuple[int, ...]:
    """`value`, an int or one int for each of `rank` axes, as a tuple; errors as for `pair`."""
    values = (value,) * rank if _is_int(value) else value
    if not isinstance(values, (tuple, list)) or len(values) != rank or not all(_is_int(v) for v in values):
        raise TypeError(f"{where}: {what} must be an int{SEVERAL[rank]}, got {value!r}")
    if not least <= min(values) <= max(values) < SIZE_LIMIT:
        raise ValueError(f"{where}: {what} must be at least {least} and below 2**31, got {value!r}")
    return tuple(map(int, values))


def image_shape(shape, what: str, where: str, axes: str = IMAGES) -> tuple[int, ...]:
    """`shape` as (batch, height, width, channels), or as other `axes`; ValueError names `where` and `what`."""
    given = shape if isinstance(shape, (tuple, list)) else ()
    if len(given) != axes.count(",") + 1 or not all(_is_int(size) and size >= 0 for size in given):
        raise ValueError(f"{where}: {what} must be {axes}, got {shape!r}")
    return tuple(map(int, given))


def _is_int(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def resolve_padding(padding: Padding, size, kernel, strides, dilation, where: str):
    """A pair of zeros for each axis, ((top, bottom), (left, right)) for images.

    From 'valid' or 'same' (TensorFlow's rule) in small letters or capitals, an int for all sides, an int for each axis,
    or the result itself; with one axis, a pair of ints is its two sides, and 'causal' puts all zeros of 'same' at
    stride 1 before it.
    """
    rank = len(size)
    if isinstance(padding, str):
        if is_named(padding, "valid"):
            return ((0, 0),) * rank
        if is_named(padding, "same"):
            return tuple(_same(*axis) for axis in zip(size, kernel, strides, dilation, strict=True))
        if is_named(padding, "causal") and rank == 1:
            return (((kernel[0] - 1) * dilation[0], 0),)
        raise ValueError(f"{where}: padding must be {NAMED[rank]}, an int, {SIDES[rank]}, got {padding!r}")
    if _is_int(padding):
        padding = (padding,) * rank
    elif rank == 1 and isinstance(padding, (tuple, list)) and len(padding) == 2:
        padding = (padding,)
    if isinstance(padding, (tuple, list)) and len(padding) == rank:
        return tuple(pair(sides, "padding", where, least=0) for sides in padding)
    raise TypeError(f"{where}: padding must be {NAMED[rank]}, an int, {SIDES[rank]}, got {padding!r}")


def is_named(padding: Padding, name: str) -> bool:
    """Whether `padding` is that name, in small letters or TensorFlow's capitals."""
    return isinstance(padding, str) and padding.lower() == name


def _same(size, kernel, stride, dilation) -> Pair:
    """Enough zeros for ceil(size / stride) outputs; the odd one goes to the end, as in TensorFlow."""
    extent = (kernel - 1) * dilation + 1
    total = max(0, (-(-size // stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


def resolve_transpose(size: Pair, kernel, strides, padding, output_padding, dilation,
                      where: str) -> tuple[Pair, tuple[Pair, Pair]]:
    """Output size of a transposed convolution, and the pads of the convolution that leads back to `size`.

    Keras's rules. Per axis, with extent = (kernel - 1) * dilation + 1, `(size - 1) * stride + extent` pixels
    are reached; explicit pads are cut off, `output_padding` pixels added at the end (None: as many as make it at
    least `size * stride`). 'same' keeps `size * stride` of them, but with an `output_padding`, be it 0,
    `(size - 1) * stride + extent % 2 + output_padding`.
    """
    kernel, strides = pair(kernel, "kernel_size", where), pair(strides, "strides", where)
    dilation = pair(dilation, "dilation", where)
    extra = (None, None) if output_padding is None else pair(output_padding, "output_padding", where, least=0)
    same = is_named(padding, "same")
    pads = ((0, 0), (0, 0)) if same else resolve_padding(padding, size, kernel, strides, dilation, where)
    axes = [_transpose_axis(*axis, same, where)
            for axis in zip(size, kernel, strides, dilation, extra, pads, strict=True)]
    return tuple(length for length, _ in axes), tuple(pad for _, pad in axes)


def _transpose_axis(size, kernel, stride, dilation, extra, pads, same, where) -> tuple[int, Pair]:
    extent = (kernel - 1) * dilation + 1
    reached = (size - 1) * stride + extent
    if same:
        length = size * stride if extra is None else (size - 1) * stride + extent % 2 + extra
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


def _outputs(size, kernel, strides, pads, dilation, where: str) -> tuple[int, ...]:
    """Output size along each axis; ValueError where the window does not fit the padded input."""
    of_what, whole = ONE_OF[len(size)]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = [length + sum(sides) for length, sides in zip(size, pads, strict=True)]
    if min(size) < 1:
        raise ValueError(f"{where}: {whole}s must have at least one {of_what}, got {_by(size)}")
    if max(padded) >= SIZE_LIMIT:
        raise ValueError(f"{where}: the padded {whole} must be below 2**31 {of_what}s a side, got {tuple(padded)}")
    if any(length < reach for length, reach in zip(padded, extent, strict=True)):
        raise ValueError(
            f"{where}: the window of {_by(extent)} {of_what}s is larger than the {whole} of {_by(padded)} "
            f"{of_what}s (padding included); use a smaller kernel or pool, padding='same', or fewer pooling "
            f"layers before this one")
    return tuple((length - reach) // stride + 1 for length, reach, stride in zip(padded, extent, strides, strict=True))


def _by(size) -> str:
    return "x".join(map(str, size))


class Window(NamedTuple):
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
        return cls(*size, *kernel, *strides, *dilation, pads, *_outputs(size, kernel, strides, pads, dilation, where))

    @classmethod
    def over_steps(cls, size, kernel, strides, padding, dilation, where: str, word="kernel_size") -> Window:
        """Likewise for sequences of `size` = (steps,): images of one row."""
        kernel = sizes(kernel, 1, word, where)
        strides, dilation = sizes(strides, 1, "strides", where), sizes(dilation, 1, "dilation", where)
        pads = resolve_padding(padding, size, kernel, strides, dilation, where)
        outputs = _outputs(size, kernel, strides, pads, dilation, where)
        return cls(1, *size, 1, *kernel, 1, *strides, 1, *dilation, ((0, 0), *pads), 1, *outputs)

    @property
    def kernel(self) -> Pair:
        return self.kh, self.kw

    @property
    def strides(self) -> Pair:
        return self.sh, self.sw

    @property
    def dilation(self) -> Pair:
        return self.dh, self.dw

    @property
    def output(self) -> Pair:
        return self.oh, self.ow

    @property
    def top(self) -> int:
        return self.pads[0][0]

    @property
    def left(self) -> int:
        return self.pads[1][0]


class Window3D(NamedTuple):
    """A window of (kd, kh, kw) taps sliding over volumes: `plane` over each slice, `depth` over (depth, 1) pixels."""

    depth: Window
    plane: Window

    @classmethod
    def resolve(cls, size, kernel, strides, padding, dilation, where: str, word="kernel_size") -> Window3D:
        """Sizes from Keras's words, as `Window.resolve`. `size` is (depth, height, width)."""
        kernel = sizes(kernel, 3, word, where)
        strides, dilation = sizes(strides, 3, "strides", where), sizes(dilation, 3, "dilation", where)
        pads = resolve_padding(padding, size, kernel, strides, dilation, where)
        (d, *plane), (kd, *taps), (sd, *steps), (dd, *gaps) = size, kernel, strides, dilation
        od, *output = _outputs(size, kernel, strides, pads, dilation, where)
        depth = Window(d, 1, kd, 1, sd, 1, dd, 1, (pads[0], (0, 0)), od, 1)
        return cls(depth, Window(*plane, *taps, *steps, *gaps, pads[1:], *output))

    @property
    def output(self) -> tuple[int, int, int]:
        return self.depth.oh, *self.plane.output


def check_channels(x_shape, w_shape, groups, where: str) -> int:
    """`groups` as an int; ValueError unless it divides the channels of x (n, ..., ic) and w (..., ic/groups, oc)."""
    ic, (wic, oc) = x_shape[-1], w_shape[-2:]
    groups = whole_number(groups, "groups", where)
    if ic % groups or oc % groups:
        raise ValueError(f"{where}: groups={groups} must divide both the input channels ({ic}) and "
                         f"the filters ({oc})")
    if wic * groups != ic:
        raise ValueError(f"{where}: weights of shape {tuple(w_shape)} expect {wic * groups} input channels "
                         f"with groups={groups}, but the input of shape {tuple(x_shape)} has {ic}")
    return groups


class Conv(NamedTuple):
    """A 2-D convolution: x (n, ih, iw, ic) with w (kh, kw, ic/groups, oc) gives y (n, oh, ow, oc)."""

    n: int
    ic: int
    oc: int
    groups: int
    window: Window

    @classmethod
    def resolve(cls, x_shape, w_shape, strides, padding, dilation, groups, where: str) -> Conv:
        """Sizes from array shapes and Keras's words; ValueError when they do not fit together."""
        groups = check_channels(x_shape, w_shape, groups, where)
        window = Window.resolve(x_shape[1:3], w_shape[:2], strides, padding, dilation, where)
        return cls(x_shape[0], x_shape[3], w_shape[3], groups, window)

    @classmethod
    def over_steps(cls, x_shape, w_shape, strides, padding, dilation, groups, where: str) -> Conv:
        """Likewise for sequences, x (n, steps, ic) and w (k, ic/groups, oc): images of one row."""
        groups = check_channels(x_shape, w_shape, groups, where)
        window = Window.over_steps(x_shape[1:2], w_shape[:1], strides, padding, dilation, where)
        return cls(x_shape[0], x_shape[2], w_shape[2], groups, window)

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


class Conv3D(NamedTuple):
    """A 3-D convolution: x (n, d, h, w, ic) with w (kd, kh, kw, ic/groups, oc) gives y (n, od, oh, ow, oc)."""

    n: int
    ic: int
    oc: int
    groups: int
    window: Window3D

    @classmethod
    def resolve(cls, x_shape, w_shape, strides, padding, dilation, groups, where: str) -> Conv3D:
        """Sizes from array shapes and Keras's words; ValueError when they do not fit together."""
        groups = check_channels(x_shape, w_shape, groups, where)
        window = Window3D.resolve(x_shape[1:4], w_shape[:3], strides, padding, dilation, where)
        return cls(x_shape[0], x_shape[4], w_shape[4], groups, window)

    @property
    def plane(self) -> Conv:
        """The convolution within slices."""
        return Conv(self.n, self.ic, self.oc, self.groups, self.window.plane)

    @property
    def depth(self) -> Conv:
        """The convolution along the depth axis."""
        return Conv(self.n, self.ic, self.oc, self.groups, self.window.depth)

    @property
    def x_shape(self):
        return self.n, self.window.depth.ih, self.window.plane.ih, self.window.plane.iw, self.ic

    @property
    def y_shape(self):
        return self.n, *self.window.output, self.oc

    @property
    def w_shape(self):
        return self.window.depth.kh, *self.window.plane.kernel, self.ic // self.groups, self.oc
