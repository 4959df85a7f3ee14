"""From a convolution's sizes to the passes that compute it: which taps, which grid, which weights."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from fastcnn.geometry import Conv, Conv3D
from fastcnn.kernels import _cpu
from fastcnn.kernels._gather import Gather, Weights
from fastcnn.kernels._panels import Panel
from fastcnn.kernels._pooled_grad import PooledWeightGrad
from fastcnn.kernels._weight_grad import GRAD_PIXELS, WeightGrad

# Weights that push a chunk of images out of a core's L2: their layers are stages of their own, and their gradients
# are cut by channels.
LARGE_WEIGHTS = 1 << 20
# Weights that are better read once, a block of output channels at a time that stays in L2 while all images pass by. So
# are any large ones with less input than weights: each group of images would read them all.
HUGE_WEIGHTS = 4 << 20
# With so few output pixels, as for one image, weights are better read where they lie than packed before.
DENSE_PIXELS, DENSE_WEIGHTS = 64, 64 << 10

# Channels of a pixel from which on a slice of them, read where it lies, would use too few sets of the first-level
# cache; the slice of a weight gradient; the same of a dense layer.
WIDE_PIXELS, GRAD_SLICE, DENSE_SLICE = 128, 16, 64
# Kernels one or two columns wide: rows of the weight gradient that pay for a copy of dy; tiles' heights that make a
# slice, and slices of x that are copied together.
COPY_ROWS, SLICE_TILES, COPIED_SLICES = 128, 2, 8


def weight_bytes(conv: Conv | Conv3D) -> int:
    return 4 * prod(conv.w_shape)


def reads_weights_once(conv: Conv, input_bytes: int) -> bool:
    """Whether a pass that reads so much beside the weights is cut by output channels, not by images."""
    return weight_bytes(conv) > min(HUGE_WEIGHTS, max(LARGE_WEIGHTS, input_bytes))


def is_dense_like(conv: Conv) -> bool:
    """Whether reading the weights is most of the work, as in a dense layer."""
    few = conv.n * conv.window.oh * conv.window.ow <= DENSE_PIXELS
    return few and conv.groups == 1 and weight_bytes(conv) > DENSE_WEIGHTS


def _is_one_pixel(conv: Conv) -> bool:
    """Whether a sample has one output pixel, as in a dense layer."""
    return conv.window.oh * conv.window.ow == 1


def _taps(window):
    """(kernel taps, their input pixels) of the forward pass, in the order of the weight array."""
    taps = [(r, c) for r in range(window.kh) for c in range(window.kw)]
    return taps, [(r * window.dh, c * window.dw) for r, c in taps]


def _panel(conv: Conv, x, width, algorithm, grid=None, **options):
    w = conv.window
    return Panel(x, grid or (w.oh, w.ow), (w.sh, w.sw), (w.top, w.left), _taps(w)[1], width, algorithm, **options)


def forward_weights(conv: Conv, w, packed=None) -> Weights:
    return Weights(w, _taps(conv.window)[0], conv.groups, packed=packed)


def forward(conv: Conv, x, weights: Weights, y, bias, algorithm, pool=None, **options) -> Gather:
    """y = clamp(conv(x, w) + bias), max-pooled over windows of `pool` = (kh, kw) side by side.

    Pixels that no window covers are not computed.
    """
    grid, unit = (None, 1) if pool is None else ((y.shape[1] * pool[0], y.shape[2] * pool[1]), pool[0])
    panel = _panel(conv, x, conv.ic // conv.groups, algorithm, grid, unit=unit)
    w = conv.window
    options.setdefault("by_channels", pool is None and reads_weights_once(conv, 4 * conv.n * w.ih * w.iw * conv.ic))
    return Gather(panel, weights, y, bias, pool=pool, **options)


def _grad_slice(conv: Conv, by_channels: bool) -> int:
    """How many input channels a weight gradient reads at a time.

    Kernels at least three columns wide make whole tiles of the columns of a narrow slice; without groups, narrow
    slices are worth copying out of many channels. Narrower kernels take slices where weights are too large to copy.
    """
    width = conv.ic // conv.groups
    if conv.groups > 1 or (width < WIDE_PIXELS and not by_channels):
        return width
    if conv.window.kw >= 3:
        return min(width, GRAD_SLICE)
    if not by_channels:
        return width
    return min(width, DENSE_SLICE if _is_one_pixel(conv) else SLICE_TILES * _cpu.tile_sizes()[1])


def copies_gradient(conv: Conv) -> bool:
    """Whether a weight gradient copies dy: for narrow kernels, where pixels are wide and the rows of dw many."""
    rows = conv.window.kh * conv.window.kw * conv.ic
    wide = conv.oc >= WIDE_PIXELS and rows >= COPY_ROWS and not _is_one_pixel(conv)
    return wide and conv.window.kw < 3 and conv.groups == 1


def weight_grad(conv: Conv, x, dy, dw, db, algorithm, by_channels=False, slice_channels=None, update=None,
                **options) -> WeightGrad:
    """dw and db from x and dy, a slice of the input channels after the other; items are images, or, by_channels, the
    parts of both channels, whose weights may be given an `update` at once. `slice_channels` overrides the size of a
    slice."""
    if update is not None:  # of weights, which follow the slice's gradient into the cache
        slice_channels = min(conv.ic, SLICE_TILES * _cpu.tile_sizes()[1])
    width = slice_channels or _grad_slice(conv, by_channels)
    sliced = width < conv.ic // conv.groups and (conv.window.kw > 1 or not _is_one_pixel(conv))
    copied = options.setdefault("copied", copies_gradient(conv))
    panel = _panel(conv, x, width, algorithm, max_pixels=GRAD_PIXELS, copied=sliced,
                   slices=COPIED_SLICES if copied else 1)
    return WeightGrad(panel, dy, dw, db, conv.groups, by_channels=by_channels, update=update, **options)


def pooled_weight_grad(conv: Conv, x, dy, arg, dw, db=None) -> PooledWeightGrad:
    """dw and db from x, the gradient dy of the result max-pooled over 2 x 2 windows, and the taps `arg` of its maxima;
    at stride 1. Pixels that no window covers have no gradient."""
    grid = 2 * dy.shape[1], 2 * dy.shape[2]
    panel = _panel(conv, x, conv.ic, "direct", grid, unit=2)
    return PooledWeightGrad(panel, dy, arg, dw, db)


class Phase(NamedTuple):
    """Pixels (row + i*sh, col + j*sw) of dx: all of them are reached by the same taps of the kernel.

    Row a + s*q of dx is input to output row (a + s*q + top - k*d)/s wherever that is whole, which depends on
    a and k alone. So each phase is a plain convolution of dy at stride 1, and no multiplication is wasted.
    """

    row: int
    col: int
    rows: int
    cols: int
    taps: tuple[tuple[int, int], ...]    # of the kernel, in the order of k
    pixels: tuple[tuple[int, int], ...]  # of dy, from the origin
    origin: tuple[int, int]


def _axis_phases(size, kernel, stride, dilation, pad):
    """For each remainder a: (a, rows, [(offset in dy, tap)], origin) along one axis."""
    for a in range(min(stride, size)):
        reach = sorted(((a + pad - k * dilation) // stride, k) for k in range(kernel)
                       if (a + pad - k * dilation) % stride == 0)
        start = reach[0][0] if reach else 0
        yield a, -(-(size - a) // stride), [(offset - start, k) for offset, k in reach], -start


def phases(conv: Conv) -> list[Phase]:
    """The passes that make up the input gradient; together they write every pixel of dx once."""
    w = conv.window
    result = []
    for row, rows, row_taps, top in _axis_phases(w.ih, w.kh, w.sh, w.dh, w.top):
        for col, cols, col_taps, left in _axis_phases(w.iw, w.kw, w.sw, w.dw, w.left):
            pairs = [((r, c), (kr, kc)) for r, kr in row_taps for c, kc in col_taps]
            result.append(Phase(row, col, rows, cols, tuple(tap for _, tap in pairs),
                                tuple(pixel for pixel, _ in pairs), (top, left)))
    return result


def input_grad_weights(conv: Conv, phase: Phase, w, packed=None) -> Weights:
    return Weights(w, phase.taps, conv.groups, transposed=True, packed=packed)


def input_grad(conv: Conv, phase: Phase, dy, weights: Weights, dx, algorithm, bias=None, **options) -> Gather:
    """The pixels of one phase of dx; with a bias, of a transposed convolution's result."""
    grid, width = (phase.rows, phase.cols), conv.oc // conv.groups
    panel = Panel(dy, grid, (1, 1), phase.origin, phase.pixels, width, algorithm)
    w = conv.window
    options.setdefault("by_channels", reads_weights_once(conv, 4 * conv.n * w.oh * w.ow * conv.oc))
    return Gather(panel, weights, dx, bias, y_origin=(phase.row, phase.col),
                  y_strides=(conv.window.sh, conv.window.sw), **options)
