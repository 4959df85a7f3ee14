"""Depthwise convolution kernels against their definition, exactly: small integers make every sum exact."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from fastcnn.kernels import _cpu
from fastcnn.kernels._depthwise import DepthwiseConv, DepthwiseInputGrad, DepthwiseWeightGrad
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor

INF = float("inf")
THREADS = (1, 2, 3)


class Case(NamedTuple):
    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    dilation: tuple[int, int] = (1, 1)
    multiplier: int = 1
    images: int = 3

    @property
    def x_shape(self):
        return (self.images, *self.size, self.channels)

    @property
    def w_shape(self):
        return (*self.kernel, self.channels, self.multiplier)

    @property
    def y_shape(self):
        sizes = [
            (i + sum(p) - (k - 1) * d - 1) // s + 1
            for i, p, k, d, s in zip(
                self.size, self.pads, self.kernel, self.dilation, self.strides, strict=True
            )
        ]
        return (self.images, *sizes, self.channels * self.multiplier)

    def windows(self, padded):
        """(tap row, tap column, the padded image's pixels (n, oh, ow, ic) under that tap) for every tap."""
        _, oh, ow, _ = self.y_shape
        (sh, sw), (dh, dw) = self.strides, self.dilation
        for a in range(self.kernel[0]):
            for b in range(self.kernel[1]):
                rows = slice(a * dh, a * dh + (oh - 1) * sh + 1, sh)
                cols = slice(b * dw, b * dw + (ow - 1) * sw + 1, sw)
                yield a, b, padded[:, rows, cols]


CHANNELS = [Case((5, 6), c) for c in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64)]
SIZES = [Case((h, w), 5) for h, w in [(1, 1), (2, 9), (3, 4), (4, 17), (6, 2), (7, 8), (8, 10), (9, 7)]]
SAME = ((0, 1), (0, 1))  # what "same" padding becomes for an even size at stride 2
BORDERS = [
    Case((8, 8), 17, strides=(2, 2), pads=SAME),
    Case((7, 9), 8, strides=(2, 2)),
    Case((9, 8), 3, strides=(3, 2), pads=((1, 0), (0, 2))),
    Case((9, 9), 16, strides=(1, 3), pads=((0, 0), (0, 0))),
    Case((5, 5), 4, kernel=(1, 1), strides=(3, 3), pads=((0, 0), (0, 0))),
    Case((8, 9), 5, pads=((2, 2), (2, 2)), dilation=(2, 2)),
    Case((9, 9), 9, strides=(2, 2), pads=((2, 1), (1, 2)), dilation=(2, 2)),
    Case((9, 7), 9, strides=(3, 2), pads=((2, 3), (3, 4)), dilation=(2, 3)),
    Case((7, 7), 6, strides=(2, 4), pads=((3, 3), (3, 3)), dilation=(3, 2)),
    Case((2, 3), 5, kernel=(5, 7), pads=((2, 3), (4, 3))),
    Case((1, 1), 16, kernel=(3, 5), strides=(2, 2), pads=((3, 4), (5, 6))),
    Case((6, 5), 7, kernel=(4, 2), pads=((1, 2), (0, 1))),
    Case((9, 8), 20, kernel=(7, 4), pads=((3, 3), (2, 1))),
    Case((1, 30), 12, kernel=(1, 5), pads=((0, 0), (2, 2))),
    Case((4, 4), 3, kernel=(2, 2), strides=(3, 3), pads=((4, 3), (3, 4))),  # windows that see only padding
    Case((5, 4), 5, images=0),
]
# Rows whose first and last pixels lack taps, alone, both at once, and beside every length of tile.
ENDS = [
    *(Case((2, w), 17, images=2) for w in (1, 2, 3, 5, 8, 9, 11, 16, 17, 18)),
    *(Case((3, w), 5, strides=(2, 2), images=2) for w in (2, 3, 4, 7, 16, 17)),
    *(Case((2, w), 9, kernel=(3, 5), pads=((1, 1), (2, 2)), images=2) for w in (1, 2, 3, 4, 9, 12)),
    *(Case((2, w), 4, pads=((1, 1), (2, 2)), dilation=(1, 2), images=2) for w in (2, 3, 9)),
    *(Case((2, w), 3, kernel=(2, 2), pads=((1, 0), (0, 1)), images=2) for w in (1, 4)),
]
MULTIPLIERS = [
    Case((5, 7), c, multiplier=m, strides=s, pads=((1, 0), (0, 1)), dilation=d)
    for c, m, s, d in [
        (1, 2, (1, 1), (1, 1)),
        (3, 2, (2, 2), (1, 1)),
        (5, 3, (1, 2), (2, 1)),
        (8, 2, (1, 1), (1, 2)),
        (11, 3, (3, 1), (1, 1)),
        (17, 2, (2, 3), (2, 2)),
    ]
]
# Enough rows for the weight gradient to walk a map in several bands.
LARGE = [Case((40, 33), 48, images=2), Case((41, 33), 48, strides=(2, 2), images=2)]


def random_cases(count):
    rng = np.random.default_rng(7)

    def pick(low, high):
        return tuple(map(int, rng.integers(low, high, 2)))

    while count:
        case = Case(
            pick(1, 10),
            int(rng.integers(1, 40)),
            pick(1, 5),
            pick(1, 4),
            (pick(0, 4), pick(0, 4)),
            pick(1, 3),
            int(rng.integers(1, 4)),
        )
        if min(case.y_shape) > 0:
            count -= 1
            yield case


CASES = [*CHANNELS, *SIZES, *BORDERS, *ENDS, *MULTIPLIERS, *LARGE, *random_cases(24)]


@pytest.fixture(params=_cpu.isas(), autouse=True)
def isa(request):
    before = _cpu.isa(), _cpu.get_num_threads()
    _cpu.select_isa(request.param)
    yield request.param
    _cpu.select_isa(before[0])
    _cpu.set_num_threads(before[1])


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def haloed(shape, values=np.nan):
    """(frame, view): an array of that shape inside a frame of NaN; its rows and images are not contiguous."""
    n, h, w, c = shape
    frame = np.full((n + 2, h + 2, w + 3, c), np.nan, np.float32)
    view = frame[1:-1, 1:-1, 1:-2]
    view[...] = values
    return frame, view


def result(frame):
    """The inside of a frame, after a check that nothing was written outside it."""
    inside = frame[1:-1, 1:-1, 1:-2].copy()
    frame = frame.copy()
    frame[1:-1, 1:-1, 1:-2] = np.nan
    assert np.isnan(frame).all(), "wrote outside the output"
    return inside


def data(case):
    return integers(1, case.x_shape), integers(2, case.w_shape), integers(3, case.y_shape)


def reals(case):
    rng = np.random.default_rng(5)
    return [rng.standard_normal(s).astype(np.float32) for s in (case.x_shape, case.w_shape, case.y_shape)]


def pad(x, case):
    return np.pad(x.astype(np.float64), ((0, 0), *case.pads, (0, 0)))


def convolve(x, w, case):
    y = np.zeros((*case.y_shape[:3], case.channels, case.multiplier))
    for a, b, pixels in case.windows(pad(x, case)):
        y += pixels[..., None] * w[a, b].astype(np.float64)
    return y.reshape(case.y_shape)


def input_gradient(dy, w, case):
    dy = dy.astype(np.float64).reshape(*case.y_shape[:3], case.channels, case.multiplier)
    dx = pad(np.zeros(case.x_shape), case)
    for a, b, pixels in case.windows(dx):
        pixels += (dy * w[a, b].astype(np.float64)).sum(-1)
    (top, _), (left, _) = case.pads
    return dx[:, top : top + case.size[0], left : left + case.size[1]]


def weight_gradients(x, dy, case):
    """One gradient for each image: (n, kh, kw, ic, m)."""
    dy = dy.astype(np.float64).reshape(*case.y_shape[:3], case.channels, case.multiplier)
    dw = np.zeros((case.images, *case.w_shape))
    for a, b, pixels in case.windows(pad(x, case)):
        dw[:, a, b] = (pixels[..., None] * dy).sum((1, 2))
    return dw


def run_conv(x, w, bias, case, lo=-INF, hi=INF):
    x, (frame, y) = haloed(case.x_shape, x)[1], haloed(case.y_shape)
    run_op(
        DepthwiseConv(
            Tensor(case.x_shape, x),
            w,
            bias,
            Tensor(case.y_shape, y),
            case.strides,
            case.pads,
            case.dilation,
            lo,
            hi,
        )
    )
    return result(frame)


def run_input_grad(dy, w, case):
    dy, (frame, dx) = haloed(case.y_shape, dy)[1], haloed(case.x_shape)
    run_op(
        DepthwiseInputGrad(
            Tensor(case.y_shape, dy), w, Tensor(case.x_shape, dx), case.strides, case.pads, case.dilation
        )
    )
    return result(frame)


def run_weight_grad(x, dy, case, group=1, chunk=1, bias=True):
    """(dw, db) of each group of images, from parts that start as NaN."""
    x, dy = haloed(case.x_shape, x)[1], haloed(case.y_shape, dy)[1]
    groups = -(-case.images // group)
    parts = np.full((groups + 1, np.prod(case.w_shape)), np.nan, np.float32)
    db_parts = np.full((groups + 1, case.y_shape[-1]), np.nan, np.float32)
    op = DepthwiseWeightGrad(
        Tensor(case.x_shape, x),
        Tensor(case.y_shape, dy),
        parts,
        db_parts if bias else None,
        case.kernel,
        case.strides,
        case.pads,
        case.dilation,
    )
    if op.items:
        Program([Stage([op], op.items, group, chunk)]).run()
    assert np.isnan(parts[-1]).all() and np.isnan(db_parts[-1]).all(), "wrote outside the parts"
    assert bias or np.isnan(db_parts).all(), "wrote a bias gradient that was not asked for"
    return parts[:-1].reshape(groups, *case.w_shape), db_parts[:-1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_passes_match_definition(case):
    x, w, dy = data(case)
    bias = integers(4, case.y_shape[-1:])
    y, dx, dw = convolve(x, w, case), input_gradient(dy, w, case), weight_gradients(x, dy, case)
    for threads in THREADS:
        _cpu.set_num_threads(threads)
        np.testing.assert_array_equal(run_conv(x, w, None, case), y)
        np.testing.assert_array_equal(run_conv(x, w, bias, case, 0, 6), np.clip(y + bias, 0, 6))
        np.testing.assert_array_equal(run_input_grad(dy, w, case), dx)
        parts, db_parts = run_weight_grad(x, dy, case)
        np.testing.assert_array_equal(parts, dw)
        np.testing.assert_array_equal(db_parts, dy.astype(np.float64).sum((1, 2)))


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_passes_are_adjoint(case):
    x, w, dy = data(case)
    product = np.vdot(dy.astype(np.float64), run_conv(x, w, None, case))
    assert product == np.vdot(run_input_grad(dy, w, case), x.astype(np.float64))
    assert product == np.vdot(run_weight_grad(x, dy, case)[0].sum(0), w.astype(np.float64))


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_weight_gradient_groups(chunk):
    """A group's images are all added, however the group is cut into chunks; old contents are lost."""
    case = Case((6, 5), 19, images=7)
    x, _, dy = data(case)
    dw = weight_gradients(x, dy, case)
    expected = np.stack([dw[0:3].sum(0), dw[3:6].sum(0), dw[6:7].sum(0)])
    np.testing.assert_array_equal(run_weight_grad(x, dy, case, 3, chunk)[0], expected)
    np.testing.assert_array_equal(run_weight_grad(x, dy, case, 3, chunk, bias=False)[0], expected)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_same_bits_however_work_is_cut(multiplier):
    case = Case((11, 13), 21, kernel=(5, 4), multiplier=multiplier, images=6)
    x, w, dy = reals(case)

    def passes(threads, chunk):
        _cpu.set_num_threads(threads)
        dw, db = run_weight_grad(x, dy, case, 2, chunk)
        return [a.tobytes() for a in (run_conv(x, w, None, case), run_input_grad(dy, w, case), dw, db)]

    first = passes(1, 1)
    assert all(passes(threads, chunk) == first for threads in THREADS for chunk in (1, 2))


def test_real_numbers():
    case = Case((40, 30), 24, strides=(2, 1), images=2)
    x, w, dy = reals(case)
    np.testing.assert_allclose(run_conv(x, w, None, case), convolve(x, w, case), atol=1e-5)
    np.testing.assert_allclose(run_input_grad(dy, w, case), input_gradient(dy, w, case), atol=1e-5)
    np.testing.assert_allclose(run_weight_grad(x, dy, case)[0], weight_gradients(x, dy, case), atol=1e-4)


def test_nan_reaches_only_what_it_touches():
    case = Case((5, 6), 18)
    x, w, _ = data(case)
    w = w + 10  # no zero weights
    x[1, 2, 3, 17] = np.nan
    y = run_conv(x, w, None, case, 0, 6)
    hit = np.zeros(case.y_shape, bool)
    hit[1, 1:4, 2:5, 17] = True
    np.testing.assert_array_equal(np.isnan(y), hit)


def test_local_tensors():
    """Through thread-local memory: x -> local -> y, with chunks of two images."""
    case = Case((6, 7), 10, images=5)
    x, w, _ = data(case)
    frame, y = haloed(case.y_shape)
    halo = ((1, 2), (2, 1))
    local = Tensor(case.x_shape, None, halo, offset=64)
    geometry = case.strides, case.pads, case.dilation
    ops = [
        DepthwiseConv(Tensor(case.x_shape, x), w, None, local, *geometry, 0, INF),
        DepthwiseConv(local, w, None, Tensor(case.y_shape, y), *geometry, -INF, INF),
    ]
    size = 64 + 2 * 4 * (6 + 3) * (7 + 3) * 10
    Program([Stage(ops, 5, 3, 2)], size).run()
    np.testing.assert_array_equal(result(frame), convolve(np.maximum(convolve(x, w, case), 0), w, case))


@pytest.mark.parametrize(
    "change",
    [
        {"w": integers(1, (3, 3, 4, 1))},
        {"w": integers(1, (3, 3, 5, 2))},
        {"w": integers(1, (3, 3, 5))},
        {"w": integers(1, (3, 3, 5, 1)).astype(np.float64)},
        {"w": np.asfortranarray(integers(1, (3, 3, 5, 1)))},
        {"w": integers(1, (2, 3, 5, 1))},
        {"bias": integers(1, 4)},
        {"strides": (2, 1)},
        {"strides": (0, 1)},
        {"dilation": (1, 2)},
        {"dilation": (0, 1)},
        {"pads": ((1, 0), (1, 1))},
        {"pads": ((3, -1), (1, 1))},
        {"x": Tensor((2, 6, 7, 5), integers(1, (2, 6, 7, 5)))},
        {"x": Tensor((3, 6, 8, 5), integers(1, (3, 6, 8, 5)))},
    ],
    ids=str,
)
def test_misfits_are_refused(change):
    shape = (3, 6, 7, 5)
    fits = {
        "x": Tensor(shape, integers(1, shape)),
        "w": integers(1, (3, 3, 5, 1)),
        "bias": None,
        "y": Tensor(shape, integers(1, shape)),
        "strides": (1, 1),
        "pads": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "lo": -INF,
        "hi": INF,
    }
    DepthwiseConv(**fits)
    with pytest.raises(ValueError, match="DepthwiseConv"):
        DepthwiseConv(**(fits | change))


@pytest.mark.parametrize(
    "parts, db_parts", [((3, 44), None), ((45,), None), ((3, 45), (2, 5)), ((3, 45), (3, 4))]
)
def test_misfit_parts_are_refused(parts, db_parts):
    shape = (3, 6, 7, 5)
    x, dy = Tensor(shape, integers(1, shape)), Tensor(shape, integers(1, shape))
    db_parts = None if db_parts is None else integers(1, db_parts)
    with pytest.raises(ValueError, match="DepthwiseWeightGrad"):
        DepthwiseWeightGrad(x, dy, integers(1, parts), db_parts, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))


def test_read_only_parts_are_refused():
    shape = (3, 6, 7, 5)
    parts = integers(1, (3, 45))
    parts.flags.writeable = False
    x, dy = Tensor(shape, integers(1, shape)), Tensor(shape, integers(1, shape))
    with pytest.raises(ValueError, match="writable"):
        DepthwiseWeightGrad(x, dy, parts, None, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
