"""Winograd's convolution: both tiles, all passes, every way to cut the work, against the float64 reference.

Errors. A transform mixes the pixels of a tile, so an error is bounded by the largest sum of magnitudes around, not by
that of one output: with S the maximum over all outputs of sum |x| |w|, errors of up to 12 eps32 * S were seen (4608
products per output); 32 are allowed. F(2 x 2) uses halves and quarters only, so it is exact on small integers and
held to that. For real data the root mean square of the errors may be 4 times that of direct for m = 4, and 1.5 times
for m = 2 (measured: up to 3.3 and 1.0). Of weight gradients it may be 6 times and twice direct's (measured: 5 and
1.7), which has hardly an error when few pixels make a partial sum.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops, reference
from fastcnn.geometry import Conv
from fastcnn.kernels import _cpu, _winograd_conv, _winograd_grad, _winograd_tiles, winograd
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from fastcnn.kernels._pool import MaxPool
from fastcnn.kernels._winograd_conv import WinogradAdjoint, WinogradConv
from fastcnn.kernels._winograd_grad import WinogradGradients
from fastcnn.kernels._winograd_tiles import Tiles
from fastcnn.kernels._winograd_weights import PackWinograd, WinogradWeights
from tests.check import assert_close, assert_same, guarded, poison, small_ints
from tests.fuzz.conv2d import WINOGRAD_ULPS
from tests.test_tiles import haloed

each_m = pytest.mark.parametrize("m", (2, 4))


def tensor(array):
    return Tensor(array.shape, array)


def conv_of(x, w, padding="same"):
    return Conv.resolve(x.shape, w.shape, 1, padding, 1, 1, "test")


def assert_winograd(got, want, scale, m, exact=False):
    """Equal for integers and m = 2; else within WINOGRAD_ULPS of the largest sum of magnitudes."""
    if exact and m == 2:
        assert_same(got, want)
    else:
        assert_close(got, want, 1, WINOGRAD_ULPS, np.max(scale, initial=0.0))


def packed(make):
    """Weights in guarded memory, packed; what no transform writes stays NaN."""
    memory, check = guarded((make(None).packed_size,))
    weights = make(memory)
    run_op(PackWinograd(weights))
    check()
    return weights


def run(op, group=1, chunk=None):
    Program([Stage([op], op.items, group, chunk)]).run()


def forward(conv, m, x, w, b=None, group=1, chunk=None, pack=True, **options):
    y, check = guarded(conv.y_shape)
    weights = winograd.forward_weights(conv, m, w)
    if pack:
        weights = packed(lambda memory: winograd.forward_weights(conv, m, w, memory))
    run(winograd.forward(conv, m, tensor(x), weights, tensor(y), b, **options), group, chunk)
    check()
    return y


def input_grad(conv, m, dy, w, pack=True, **options):
    dx, check = guarded(conv.x_shape)
    weights = winograd.input_grad_weights(conv, m, w)
    if pack:
        weights = packed(lambda memory: winograd.input_grad_weights(conv, m, w, memory))
    run(winograd.input_grad(conv, m, tensor(dy), weights, tensor(dx), **options))
    check()
    return dx


def adjoint(conv, m, dy, w, group=1, chunk=None, pack=True, **options):
    dx, check = guarded(conv.x_shape)
    weights = winograd.adjoint_weights(conv, m, w)
    if pack:
        weights = packed(lambda memory: winograd.adjoint_weights(conv, m, w, memory))
    run(winograd.adjoint(conv, m, tensor(dy), weights, tensor(dx), **options), group, chunk)
    check()
    return dx


def weight_grad(conv, m, x, dy, group=None, chunk=None, **options):
    """(dw, db) summed over the groups' parts."""
    group = group or conv.n
    parts = 1 if "by_channels" in options else -(-conv.n // group)
    (dw, check_dw), (db, check_db) = guarded((parts, *conv.w_shape)), guarded((parts, conv.oc))
    run(winograd.weight_grad(conv, m, tensor(x), tensor(dy), dw, db, **options), group, chunk)
    check_dw()
    check_db()
    return dw.sum(0), db.sum(0)


def gradients(conv, m, x, dy, w, group=None, chunk=None, arg=None):
    """dx and (dw, db), summed over the groups' parts, in one pass."""
    group = group or conv.n
    parts = -(-conv.n // group)
    dx, check_dx = guarded(conv.x_shape)
    (dw, check_dw), (db, check_db) = guarded((parts, *conv.w_shape)), guarded((parts, conv.oc))
    weights = packed(lambda memory: winograd.adjoint_weights(conv, m, w, memory))
    run(winograd.weight_grad(conv, m, tensor(x), tensor(dy), dw, db, arg, dx=tensor(dx), weights=weights), group, chunk)
    for check in (check_dx, check_dw, check_db):
        check()
    return dx, (dw.sum(0), db.sum(0))


class Problem:
    """Integers, what the reference makes of them, and the sums of their magnitudes."""

    def __init__(self, rng, x_shape, oc, padding="same"):
        self.x, self.w = small_ints(rng, x_shape), small_ints(rng, (3, 3, x_shape[3], oc))
        self.conv = conv_of(self.x, self.w, padding)
        self.b, self.dy = small_ints(rng, (oc,)), small_ints(rng, self.conv.y_shape)
        self.words = {"padding": padding}
        self.y, self.dx, self.dw = self.results(self.x, self.w, self.b, self.dy)
        self.scales = self.results(*(np.abs(a) for a in (self.x, self.w, self.b, self.dy)))

    def results(self, x, w, b, dy):
        return (reference.conv2d(x, w, b, **self.words),
                reference.conv2d_input_grad(dy, w, x.shape, **self.words),
                reference.conv2d_weight_grad(x, dy, 3, **self.words))

    def check(self, m, y=None, dx=None, gradients=None):
        if y is not None:
            assert_winograd(y, self.y, self.scales[0], m, exact=True)
        if dx is not None:
            assert_winograd(dx, self.dx, self.scales[1], m, exact=True)
        if gradients is not None:
            assert_winograd(gradients[0], self.dw, self.scales[2], m, exact=True)
            assert_winograd(gradients[1], self.dy.sum((0, 1, 2), dtype=float), np.abs(self.dy).sum(), m, exact=True)

    def check_all(self, m):
        self.check(m, forward(self.conv, m, self.x, self.w, self.b), input_grad(self.conv, m, self.dy, self.w),
                   weight_grad(self.conv, m, self.x, self.dy))
        self.check(m, None, adjoint(self.conv, m, self.dy, self.w))
        if winograd.sums_fit(self.conv, m):
            self.check(m, None, *gradients(self.conv, m, self.x, self.dy, self.w))


# ---- sizes


@each_m
def test_every_size_of_image(m, isa, rng):
    """Whole tiles, ragged ones to the right and below, images smaller than a tile."""
    for h in range(1, 15):
        for w in {h, 15 - h, 1 + 5 * h % 14}:
            Problem(rng, (2, h, w, 3), 5).check_all(m)


@each_m
def test_every_number_of_channels(m, isa, rng):
    for ic in range(1, 71, 3):
        Problem(rng, (1, 6, 5, ic), 71 - ic).check_all(m)


@each_m
@pytest.mark.parametrize("ic, oc", [(1, 1), (5, 40), (64, 33), (65, 31), (130, 70)])
def test_weights_transformed_where_they_are_used(m, ic, oc, isa, rng):
    """Slab by slab of input channels, the last one of any size."""
    p = Problem(rng, (2, 6, 5, ic), oc)
    p.check(m, forward(p.conv, m, p.x, p.w, p.b, pack=False), input_grad(p.conv, m, p.dy, p.w, pack=False))
    for by_blocks in (False, True):
        p.check(m, None, adjoint(p.conv, m, p.dy, p.w, pack=False, by_blocks=by_blocks))


@each_m
@pytest.mark.parametrize("padding", ["valid", "same", 2, ((1, 0), (0, 2)), ((0, 2), (2, 1)), ((4, 5), (6, 3))])
def test_padding(m, padding, isa, rng):
    for size in ((3, 3), (4, 7), (9, 6)):
        Problem(rng, (2, *size, 4), 9, padding).check_all(m)


@each_m
def test_every_number_of_tiles_in_a_product(m, isa, rng, monkeypatch):
    """One to two and a half rows of register tiles; the products' last rows must not touch what follows."""
    monkeypatch.setattr(_winograd_tiles, "MAX_TILES", 64)
    for tiles in range(1, 36):
        Problem(rng, (1, m, m * tiles, 3), 5).check_all(m)


@each_m
@pytest.mark.parametrize("ic, oc, n", [(0, 4, 2), (4, 0, 2), (0, 0, 2), (3, 5, 0)])
def test_nothing_to_sum(m, ic, oc, n, rng):
    p = Problem(rng, (n, 5, 6, ic), oc)
    p.check(m, forward(p.conv, m, p.x, p.w, p.b), input_grad(p.conv, m, p.dy, p.w))
    p.check(m, None, adjoint(p.conv, m, p.dy, p.w))
    assert_same(ops.conv2d_weight_grad(p.x, p.dy, 3, padding="same", algorithm="winograd"), p.dw)


# ---- accuracy


def rms(a):
    return np.sqrt(np.mean(np.square(a, dtype=float)))


@each_m
@pytest.mark.parametrize("shape, oc", [((4, 12, 12, 32), 48), ((32, 4, 4, 128), 64)])
def test_errors_beside_those_of_direct(m, shape, oc, isa, rng, monkeypatch):
    monkeypatch.setattr(_winograd_grad, "SUM_BYTES", 10**9)
    x, w = rng.standard_normal(shape).astype(np.float32), rng.standard_normal((3, 3, shape[3], oc)).astype(np.float32)
    conv, words = conv_of(x, w), {"padding": "same"}
    dy = rng.standard_normal(conv.y_shape).astype(np.float32)
    direct = {"padding": "same", "algorithm": "direct"}
    factor, gradient_factor = (1.5, 2) if m == 2 else (4, 6)
    for got, plain, want, times in (
        (forward(conv, m, x, w), ops.conv2d(x, w, **direct), reference.conv2d(x, w, **words), factor),
        (input_grad(conv, m, dy, w), ops.conv2d_input_grad(dy, w, x.shape, **direct),
         reference.conv2d_input_grad(dy, w, x.shape, **words), factor),
        (gradients(conv, m, x, dy, w)[0], ops.conv2d_input_grad(dy, w, x.shape, **direct),
         reference.conv2d_input_grad(dy, w, x.shape, **words), factor),
        (weight_grad(conv, m, x, dy, group=-(-conv.n // 16))[0], ops.conv2d_weight_grad(x, dy, 3, **direct),
         reference.conv2d_weight_grad(x, dy, 3, **words), gradient_factor),
    ):
        assert rms(got - want) <= times * rms(plain - want)
        assert np.abs(got - want).max() <= 5e-5 * rms(want)


@each_m
def test_adjoint_identities(m, isa, rng):
    """<dy, conv(x, w)> = <input_grad(dy, w), x> = <weight_grad(x, dy), w>."""
    p = Problem(rng, (2, 9, 7, 20), 12)
    products = [np.sum(a.astype(float) * b) for a, b in (
        (p.dy, forward(p.conv, m, p.x, p.w)), (p.x, input_grad(p.conv, m, p.dy, p.w)),
        (p.x, gradients(p.conv, m, p.x, p.dy, p.w)[0]), (p.w, weight_grad(p.conv, m, p.x, p.dy)[0]))]
    assert np.ptp(products) <= (0 if m == 2 else 1e-6 * np.abs(p.dy).sum() * np.abs(p.y).max())


@each_m
def test_the_checker_notices_a_wrong_transform(m, rng):
    """Any one of the points, wrong by a thousandth."""
    p = Problem(rng, (1, 8, 8, 16), 16)
    points, size = (m + 2) ** 2, WinogradWeights(p.w, m).packed_size
    memory = np.zeros(size, np.float32)
    weights = winograd.forward_weights(p.conv, m, p.w, memory)
    for point in range(points):
        run_op(PackWinograd(weights))
        memory.reshape(-1, points, size // points)[:, point] *= 1.001
        y = np.zeros_like(p.dy)
        run(winograd.forward(p.conv, m, tensor(p.x), weights, tensor(y), p.b))
        with pytest.raises(AssertionError):
            p.check(m, y)


# ---- ways to cut the work


@each_m
def test_forward_bits_do_not_depend_on_cuts(m, isa, threads, rng, monkeypatch):
    x, w = rng.standard_normal((7, 9, 10, 20)), rng.standard_normal((3, 3, 20, 40))
    x, w = x.astype(np.float32), w.astype(np.float32)
    conv = conv_of(x, w)
    want = forward(conv, m, x, w)
    for options in ({"group": 3}, {"group": 7, "chunk": 2}, {"by_blocks": True}):
        assert forward(conv, m, x, w, **options).tobytes() == want.tobytes()
    monkeypatch.setattr(_winograd_tiles, "MIN_TILES", 1)
    for size, shares in ((1, 1000), (200_000, 20)):
        monkeypatch.setattr(_winograd_conv, "BLOCK_BYTES", size)
        monkeypatch.setattr(_winograd_conv, "SHARE_CHANNELS", shares)
        for by_blocks in (False, True):
            assert forward(conv, m, x, w, group=3, by_blocks=by_blocks).tobytes() == want.tobytes()


@each_m
def test_weight_gradients_in_parts(m, isa, threads, rng, monkeypatch):
    p = Problem(rng, (5, 9, 6, 17), 40)
    for group, chunk in ((1, 1), (2, 1), (2, 2), (5, 2), (5, 5)):
        p.check(m, gradients=weight_grad(p.conv, m, p.x, p.dy, group, chunk))
    monkeypatch.setattr(_winograd_tiles, "MIN_TILES", 1)
    monkeypatch.setattr(_winograd_grad, "GRAD_BLOCK_BYTES", 1)
    p.check(m, gradients=weight_grad(p.conv, m, p.x, p.dy, 2))


@each_m
@pytest.mark.parametrize("ic, oc", [(17, 40), (130, 5), (64, 33), (70, 70)])
@pytest.mark.parametrize("sum_bytes", (1, 100_000, 10**9))
def test_weight_gradients_in_slices_of_channels(m, ic, oc, sum_bytes, isa, rng, monkeypatch):
    monkeypatch.setattr(_winograd_grad, "SUM_BYTES", sum_bytes)
    p = Problem(rng, (5, 6, 9, ic), oc)
    p.check(m, gradients=weight_grad(p.conv, m, p.x, p.dy, 2))
    p.check(m, gradients=weight_grad(p.conv, m, p.x, p.dy, 1, by_channels=True))


@each_m
def test_all_gradients_in_one_pass(m, isa, threads, rng, monkeypatch):
    """However images are grouped, and with blocks of a few tiles, which end anywhere in a row of tiles."""
    p = Problem(rng, (5, 9, 14, 17), 40)
    for group, chunk in ((1, 1), (2, 1), (2, 2), (5, 2), (5, 5)):
        p.check(m, None, *gradients(p.conv, m, p.x, p.dy, p.w, group, chunk))
    monkeypatch.setattr(_winograd_tiles, "MIN_TILES", 1)
    monkeypatch.setattr(_winograd_grad, "GRAD_BLOCK_BYTES", 1)
    p.check(m, None, *gradients(p.conv, m, p.x, p.dy, p.w, 2))


@each_m
def test_input_gradient_bits_do_not_depend_on_cuts(m, isa, threads, rng, monkeypatch):
    x = rng.standard_normal((7, 9, 10, 20)).astype(np.float32)
    w = rng.standard_normal((3, 3, 20, 40)).astype(np.float32)
    conv = conv_of(x, w)
    dy = rng.standard_normal(conv.y_shape).astype(np.float32)
    want = gradients(conv, m, x, dy, w, 7)[0]
    for group, chunk in ((1, 1), (3, 2), (7, 3)):
        assert gradients(conv, m, x, dy, w, group, chunk)[0].tobytes() == want.tobytes()
        assert adjoint(conv, m, dy, w, group, chunk).tobytes() == want.tobytes()
    monkeypatch.setattr(_winograd_tiles, "MIN_TILES", 1)
    monkeypatch.setattr(_winograd_grad, "GRAD_BLOCK_BYTES", 1)
    assert gradients(conv, m, x, dy, w, 3)[0].tobytes() == want.tobytes()
    for size, shares in ((1, 1000), (200_000, 10)):
        monkeypatch.setattr(_winograd_conv, "BLOCK_BYTES", size)
        monkeypatch.setattr(_winograd_conv, "SHARE_CHANNELS", shares)
        for by_blocks in (False, True):
            assert adjoint(conv, m, dy, w, by_blocks=by_blocks).tobytes() == want.tobytes()


@each_m
@pytest.mark.parametrize("padding", ["same", "valid", ((2, 0), (0, 3))])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (8, 15), (13, 13), (14, 6)])
def test_gradients_behind_a_pooling(m, padding, size, isa, rng):
    """Closed windows, and pixels that no window covers, carry none; nor do pixels of x that only those read."""
    for ic, oc in ((3, 5), (17, 33), (33, 16)):
        p = Problem(rng, (2, *size, ic), oc, padding)
        n, h, w, _ = p.conv.y_shape
        arg = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (n, h // 2, w // 2, oc))
        dy, p.dy = small_ints(rng, arg.shape), np.zeros_like(p.dy)
        for tap in range(4):
            p.dy[:, tap // 2:h // 2 * 2:2, tap % 2:w // 2 * 2:2] = dy * (arg == tap)
        _, p.dx, p.dw = p.results(p.x, p.w, p.b, p.dy)
        p.check(m, None, *gradients(p.conv, m, p.x, dy, p.w, arg=arg))
        p.check(m, None, adjoint(p.conv, m, dy, p.w, arg=arg), weight_grad(p.conv, m, p.x, dy, arg=arg))


def test_slices_bits_do_not_depend_on_threads(threads, rng):
    p = Problem(rng, (5, 6, 9, 130), 70)
    want = weight_grad(p.conv, 4, p.x, p.dy, 10**6, by_channels=True)
    got = weight_grad(p.conv, 4, p.x, p.dy, 1, by_channels=True)
    assert [a.tobytes() for a in got] == [a.tobytes() for a in want]


def test_units_of_work():
    """A few units are a power of two, so that threads share them evenly; few tiles are cut by channels too."""
    assert [_winograd_conv.units_of_work(tiles, 28, 64)[0] for tiles in (0, 1, 28, 35, 36, 70, 128, 448, 561)] == [
        1, 1, 1, 1, 2, 2, 4, 16, 17]
    assert [_winograd_conv.units_of_work(28, 28, channels) for channels in (32, 128, 256, 384, 512, 4096)] == [
        (1, 1), (1, 1), (1, 2), (1, 2), (1, 4), (1, 8)]
    assert _winograd_conv.units_of_work(128, 28, 4096) == (4, 2)
    _, mr, _ = _cpu.tile_sizes()
    for channels in (0, 1, 48, 96, 160, 544, 10_000):
        tiles = _winograd_tiles.tiles_per_block(36, channels, 10**6, mr)
        assert tiles % mr == 0 and _winograd_tiles.MIN_TILES <= tiles <= _winograd_tiles.MAX_TILES


def test_slices_of_the_gradient(isa):
    vlen, _, nr = _cpu.tile_sizes()
    for ic, oc in ((1, 1), (16, 16), (64, 64), (64, 128), (130, 96), (512, 512), (3, 4096), (4096, 3)):
        for least in (1, 4):
            rows, columns = _winograd_grad.gradient_slices(36, ic, oc, least)
            assert rows % vlen == columns % nr == 0
            fits = 4 * (36 + 9) * rows * columns <= _winograd_grad.SUM_BYTES
            enough = -(-ic // rows) * -(-oc // columns) >= least
            assert (fits and enough) or (rows, columns) == (vlen, nr)
            assert rows < ic + vlen and columns < oc + nr


# ---- tensors


@each_m
def test_halos_and_gaps_between_images(m, isa, rng):
    """Only the images themselves are read and written: what lies around them is NaN."""
    p = Problem(rng, (3, 7, 6, 5), 9)
    halo = ((1, 2), (2, 1))
    x, _, _ = haloed(p.x, halo)
    dy, _, _ = haloed(p.dy, halo)
    y, y_view, y_memory = haloed(np.full_like(p.dy, np.nan), halo)
    weights = packed(lambda memory: winograd.forward_weights(p.conv, m, p.w, memory))
    before = y_memory.copy()
    run(winograd.forward(p.conv, m, x, weights, y, p.b))
    p.check(m, np.ascontiguousarray(y_view))
    y_view[...] = np.nan
    assert_same(y_memory, before)
    dw, db = np.full((1, *p.conv.w_shape), np.nan, np.float32), np.full((1, 9), np.nan, np.float32)
    run(winograd.weight_grad(p.conv, m, x, dy, dw, db), 3)
    p.check(m, gradients=(dw[0], db[0]))


@each_m
def test_scratch_may_hold_garbage(m, rng):
    p = Problem(rng, (2, 6, 7, 9), 20)
    weights = packed(lambda memory: winograd.forward_weights(p.conv, m, p.w, memory))
    x, (y, _) = p.x.copy(), guarded(p.conv.y_shape)
    program = Program([Stage([winograd.forward(p.conv, m, tensor(x), weights, tensor(y), p.b)], 2)])
    poison(x)
    program.run()
    x[...] = p.x
    program.run()
    p.check(m, y)


@each_m
def test_clamp(m, isa, rng):
    p = Problem(rng, (2, 6, 7, 5), 19)
    for clamp in ((0, np.inf), (0, 6)):
        got = forward(p.conv, m, p.x, p.w, p.b, clamp=clamp)
        assert_same(got, np.clip(forward(p.conv, m, p.x, p.w, p.b), *clamp))


@each_m
def test_nan_and_infinity_reach_at_least_what_they_should(m, isa, rng):
    """They spread over the tiles that read them, and no further; a clamp lets NaN through."""
    x, w = small_ints(rng, (2, 12, 12, 5)), small_ints(rng, (3, 3, 5, 18))
    conv = conv_of(x, w)
    for value in (np.nan, np.inf, -np.inf):
        x[0, 6, 6, 2] = value
        got = forward(conv, m, x, w, clamp=(0, np.inf))
        lost = ~np.isfinite(got).all(-1)
        assert lost[0, 5:8, 5:8].all() and not lost[1].any()
        assert not lost[0, : 6 - m].any() and not lost[0, 7 + m :].any()


# ---- pooling


def covered(conv, x, w):
    """The convolution of the outputs in windows of 2 x 2 alone: other edges have other tiles."""
    return conv_of(x, w, ((1, 1 - conv.window.oh % 2), (1, 1 - conv.window.ow % 2)))


def pooled(conv, m, x, w, b, relu, n_arg=True):
    """(y, arg) of the fused pass of 'same' padding, and of the same convolution pooled afterwards."""
    oh, ow = conv.window.oh // 2, conv.window.ow // 2
    shape = (conv.n, oh, ow, conv.oc)
    (y, check_y), (arg, check_arg) = guarded(shape), guarded(shape, 77, np.uint8)
    weights = packed(lambda memory: winograd.forward_weights(conv, m, w, memory))
    run(winograd.forward(conv, m, tensor(x), weights, tensor(y), b, pool=(2, 2), arg=arg if n_arg else None,
                         pool_relu=relu), 2, 1)
    check_y()
    check_arg()
    plain = forward(covered(conv, x, w), m, x, w, b)
    want, want_arg = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    pads = ((0, 0), (0, 0))
    run_op(MaxPool(tensor(plain), tensor(want), (2, 2), (2, 2), pads, want_arg))
    if relu:
        want_arg[want <= 0] = 255
        want = np.where(want <= 0, 0, want)
    return y, arg, want, want_arg


@each_m
@pytest.mark.parametrize("relu", (False, True))
def test_pooling_is_that_of_the_pooling_layer(m, relu, isa, rng):
    """The first of equal maxima, the first NaN; rows and columns left over are dropped."""
    for h, w_, ic, oc in ((8, 8, 4, 5), (7, 9, 3, 37), (2, 3, 5, 16), (2, 2, 5, 37), (5, 12, 2, 70)):
        x, w, b = small_ints(rng, (3, h, w_, ic), 1), small_ints(rng, (3, 3, ic, oc), 1), small_ints(rng, (oc,), 1)
        for value in (x[1, 1, 1, 0], np.nan):
            x[1, 1, 1, 0] = value
            y, arg, want, want_arg = pooled(conv_of(x, w), m, x, w, b, relu)
            assert_same(y, want)
            assert_same(arg, want_arg)
    y, arg, want, _ = pooled(conv_of(x, w), m, x, w, b, relu, n_arg=False)
    assert_same(y, want)
    assert (arg == 77).all()


# ---- what does not fit together is refused before C sees it


def test_mistakes_are_refused():
    x, w, y = (np.zeros(s, np.float32) for s in ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5)))
    memory = np.zeros(100_000, np.float32)
    weights, tiles = WinogradWeights(w, 4, packed=memory), Tiles(tensor(x), (4, 4), 4, 6, (1, 1))
    for m, size in ((3, 5), (4, 5), (4, 8)):
        with pytest.raises(ValueError, match="no transform for tiles"):
            Tiles(tensor(x), (4, 4), m, size)
    for bad in (w[:2], w.astype(float), w[..., ::2]):
        with pytest.raises(ValueError, match="contiguous float32 array"):
            WinogradWeights(np.asarray(bad), 4)
    with pytest.raises(ValueError, match="packed floats"):
        WinogradWeights(w, 4, packed=memory[:10])
    with pytest.raises(ValueError, match="no packed form"):
        PackWinograd(WinogradWeights(w, 4))
    for other in (Tiles(tensor(y), (4, 4), 4, 6), Tiles(tensor(x), (4, 5), 4, 6), Tiles(tensor(x), (4, 4), 2, 4),
                  Tiles(tensor(x), (4, 4), 4, 4)):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradConv(other, weights, tensor(y))
    with pytest.raises(ValueError, match="bias must be 5"):
        WinogradConv(tiles, weights, tensor(y), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="windows of 2 x 2"):
        WinogradConv(tiles, weights, tensor(y), pool=(4, 4))
    with pytest.raises(ValueError, match="arg must be contiguous uint8"):
        WinogradConv(tiles, weights, tensor(y[:, :2, :2]), pool=(2, 2), arg=np.zeros(20, np.int32))
    dy = Tiles(tensor(y), (4, 4), 4, 4)
    for errors, gradient, options in ((Tiles(tensor(y), (5, 5), 4, 4), w[None], {}), (tiles, w[None], {}),
                                      (dy, w[None, ..., :4], {}), (dy, np.stack([w, w]), {"by_channels": True})):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradGradients(tiles, errors, gradient, **options)
    for db in (np.zeros(5, np.float32), np.zeros((1, 5))):
        with pytest.raises(ValueError, match=r"expected contiguous float32 \(1, 5\)"):
            WinogradGradients(tiles, dy, w[None], db)


def test_mistakes_about_the_adjoint_are_refused(monkeypatch):
    x, w, y = (np.zeros(s, np.float32) for s in ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5)))
    dx, dy = Tiles(tensor(x), (4, 4), 4, 6, (1, 1)), Tiles(tensor(y), (4, 4), 4, 4)
    conv = conv_of(x, w)
    weights = winograd.adjoint_weights(conv, 4, w, np.zeros(100_000, np.float32))
    for arg in (np.zeros(80, np.int32), np.zeros(79, np.uint8), np.zeros(160, np.uint8)[::2]):
        with pytest.raises(ValueError, match="arg must be contiguous uint8"):
            Tiles(tensor(y), (8, 8), 4, 4, arg=arg)
    with pytest.raises(ValueError, match="the tiles those of a gradient"):
        Tiles(tensor(y), (8, 8), 4, 6, arg=np.zeros(80, np.uint8))
    for errors, matrix, target in ((dx, weights, dx), (dy, weights, dy), (dy, winograd.forward_weights(conv, 4, w), dx),
                                   (dy, winograd.adjoint_weights(conv, 2, w), dx),
                                   (dy, weights, Tiles(tensor(x), (5, 4), 4, 6))):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradAdjoint(errors, matrix, target)
    for target, matrix, options in ((dy, weights, {}), (dx, winograd.adjoint_weights(conv, 4, w), {}),
                                    (dx, winograd.forward_weights(conv, 4, w, np.zeros(100_000, np.float32)), {}),
                                    (dx, weights, {"by_channels": True})):
        with pytest.raises(ValueError, match="do not fit together"):
            WinogradGradients(dx, dy, w[None], dx=target, weights=matrix, **options)
    monkeypatch.setattr(_winograd_grad, "SUM_BYTES", 1)  # two slices of channels, or more
    many = np.zeros((3, 3, 40, 40), np.float32)
    tensors = [Tiles(tensor(np.zeros((1, 4, 4, 40), np.float32)), (4, 4), 4, size, (1, 1)) for size in (6, 4)]
    with pytest.raises(ValueError, match="do not fit together"):
        WinogradGradients(*tensors, many[None], dx=tensors[0],
                           weights=winograd.adjoint_weights(conv, 4, many, np.zeros(10**6, np.float32)))
