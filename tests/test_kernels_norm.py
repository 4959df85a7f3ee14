"""Normalisation kernels against NumPy and fastcnn.reference, on every instruction set and several thread counts."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.kernels import _batch_norm, _norm, _sample_norm
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from tests.check import EPS32, Framed, assert_close, assert_same, guarded, small_ints

CHANNELS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 80)
SHAPES = [(3, 2, 4, c) for c in CHANNELS] + [
    (5, 9, 8, 6),  # 72 pixels: more than one block where the image has no halo
    (2, 13, 21, 17),
    (7, 1, 1, 40),  # a dense layer
    (1, 1, 1, 5),
    (1, 70, 1, 2),
    (4, 1, 130, 3),
]
HALOS = [((0, 0), (0, 0)), ((1, 2), (2, 1))]
CLAMPS = [(-inf, inf), (0.0, inf), (0.0, 6.0)]
EPSILON = 1e-3
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_halo = pytest.mark.parametrize("halo", HALOS, ids=["dense", "halo"])
each_clamp = pytest.mark.parametrize("clamp", CLAMPS, ids=["linear", "relu", "relu6"])


def sums_of(make, n, channels, group=2, chunk=1):
    """The rows that an op fills when it runs over groups of images, in chunks."""
    groups = -(-n // group)
    parts, check = guarded((groups, _batch_norm.sums_width(channels)), dtype=np.float64)
    Program([Stage([make(parts)], n, group, chunk)]).run()
    check()
    return parts


def statistics(x, halo=HALOS[0], gamma=None, moving=None, momentum=0.0, **cut):
    """(mean, scale, shift, inverse, rest) of a batch."""
    c = x.shape[3]
    parts = sums_of(lambda parts: _batch_norm.Moments(Framed(x.shape, x, halo).tensor, parts), len(x), c, **cut)
    arrays = (*np.full((3, c), np.nan, np.float32), *np.full((2, c), np.nan))
    run_op(_batch_norm.BatchStatistics(parts, gamma, None, EPSILON, *arrays, moving, momentum))
    return arrays


def channels_of(rng, c, clamp=CLAMPS[0]):
    """Whole numbers, as arrays and as what the drivers read."""
    mean, scale, shift = (small_ints(rng, (c,)) for _ in range(3))
    return (mean, scale, shift), _norm.Channels(mean, scale, shift, clamp)


def passed(x, arrays, clamp):
    """Where the clamp lets a gradient through."""
    mean, scale, shift = arrays
    z = (x.astype(np.float64) - mean) * scale + shift
    return (z > clamp[0]) & (z < clamp[1])


# ---- batch normalisation


@each_shape
@each_halo
def test_moments(shape, halo, isa, rng):
    x = rng.normal(rng.normal(0, 5, shape[3]), 2.0, shape).astype(np.float32)
    gamma = rng.normal(size=shape[3]).astype(np.float32)
    mean, scale, shift, inverse, rest = statistics(x, halo, gamma)
    wanted, variance = (a.reshape(-1) for a in reference.moments(x, (0, 1, 2)))
    np.testing.assert_allclose(mean - rest, wanted, rtol=0, atol=1e-6)
    assert_same(mean, (mean - rest).astype(np.float32))
    np.testing.assert_allclose(shift, rest * scale, rtol=1e-6)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(variance + EPSILON), rtol=2e-6)
    np.testing.assert_allclose(scale, gamma / np.sqrt(variance + EPSILON), rtol=2e-6)


@pytest.mark.parametrize("c", [1, 16, 33])
def test_moments_of_whole_numbers_are_exact(c, isa, rng):
    """With powers of two for all counts no step rounds."""
    x = small_ints(rng, (4, 8, 8, c))
    parts = sums_of(lambda parts: _batch_norm.Moments(Tensor(x.shape, x), parts), 4, c)
    padded = (_batch_norm.sums_width(c) - 1) // 2
    for group, part in enumerate(parts):
        mean, variance = reference.moments(x[2 * group : 2 * group + 2], (0, 1, 2))
        assert_same(part[:c], mean.reshape(-1))
        assert_same(part[padded : padded + c], 128 * variance.reshape(-1))
        assert part[-1] == 128


@pytest.mark.parametrize("offset", [1e3, -1e5])
def test_variance_of_values_far_from_zero(offset, isa, rng):
    """The textbook's mean of squares minus square of mean would have no correct digit."""
    x = (rng.normal(0, 1, (6, 10, 10, 20)) + offset).astype(np.float32)
    x[0, 0, 0] = 0  # the worst case: a block's first pixel, from which its 64 deviations are taken
    mean, _, _, inverse, rest = statistics(x)
    wanted, variance = (a.reshape(-1) for a in reference.moments(x, (0, 1, 2)))
    np.testing.assert_allclose(inverse**-2 - EPSILON, variance, rtol=64 * 4 * EPS32)
    np.testing.assert_allclose(mean - rest, wanted, rtol=1e-7)
    constant = np.full_like(x, offset)
    assert_same(statistics(constant)[3], np.full(20, 1 / np.sqrt(EPSILON)))


def test_moving_statistics(isa, rng):
    x = rng.normal(3, 2, (4, 5, 5, 70)).astype(np.float32)
    moving = rng.random((2, 70)).astype(np.float32)
    wanted = [reference.moving_average(old, new.reshape(-1), 0.9)
              for old, new in zip(moving, reference.moments(x, (0, 1, 2)), strict=True)]
    statistics(x, moving=tuple(moving), momentum=0.9)
    np.testing.assert_allclose(moving, wanted, rtol=1e-6)


@each_shape
@each_halo
@each_clamp
def test_normalize(shape, halo, clamp, isa, rng):
    x, (arrays, channels) = small_ints(rng, shape), channels_of(rng, shape[3], clamp)
    y = Framed(shape, halo=halo)
    run_op(_norm.Normalize(Framed(shape, x, halo).tensor, y.tensor, channels))
    mean, scale, shift = arrays
    assert_same(y.result(), np.clip((x - mean) * scale + shift, *clamp))


@each_shape
@each_halo
@each_clamp
def test_gradients_of_whole_numbers(shape, halo, clamp, isa, rng):
    c = shape[3]
    x, dy, (arrays, channels) = small_ints(rng, shape), small_ints(rng, shape), channels_of(rng, c, clamp)
    mean, scale, _ = arrays
    dz = np.where(passed(x, arrays, clamp), dy, 0).astype(np.float64)
    given = [Framed(shape, a, halo).tensor for a in (dy, x)]
    parts = sums_of(lambda parts: _batch_norm.GradSums(*given, parts, channels), shape[0], c)
    total, padded = parts.sum(0), (_batch_norm.sums_width(c) - 1) // 2
    assert_same(total[:c], dz.sum((0, 1, 2)))
    assert_same(total[padded : padded + c], (dz * (x - mean)).sum((0, 1, 2)))
    assert total[-1] == x.size // c
    offset, slope, dx = small_ints(rng, (c,)), small_ints(rng, (c,)), Framed(shape, halo=halo)
    run_op(_norm.InputGrad(*given, dx.tensor, channels, offset, slope))
    assert_same(dx.result(), dz * scale - offset - (x - mean) * slope)


@pytest.mark.parametrize("c", [1, 65])
def test_batch_norm_grad(c, rng):
    x, dy = rng.normal(size=(2, 5, 3, 4, c)).astype(np.float32)
    gamma = rng.normal(size=c).astype(np.float32)
    *affine, inverse, rest = statistics(x, gamma=gamma)
    channels, scale = _norm.Channels(*affine), affine[1]
    given = Tensor(dy.shape, dy), Tensor(x.shape, x)
    parts = sums_of(lambda parts: _batch_norm.GradSums(*given, parts, channels), 5, c)
    dgamma, dbeta, offset, slope = np.full((4, c), np.nan, np.float32)
    run_op(_batch_norm.BatchNormGrad(parts, scale, inverse, rest, dgamma, dbeta, offset, slope))
    dx = np.full_like(x, np.nan)
    run_op(_norm.InputGrad(*given, Tensor(x.shape, dx), channels, offset, slope))
    for got, want in zip((dx, dgamma, dbeta), reference.batch_norm_grad(dy, x, gamma), strict=True):
        assert_close(got, want, 60)
    run_op(_batch_norm.BatchNormGrad(parts, scale, inverse, rest, None, None, offset, slope))


def test_the_same_bits_however_a_batch_is_walked(machine, rng):
    """Groups follow from shapes; chunks and threads must not matter."""
    x, dy = (rng.normal(size=(11, 6, 7, 35)).astype(np.float32) for _ in range(2))
    _, channels = channels_of(rng, 35, CLAMPS[1])
    given = Tensor(dy.shape, dy), Tensor(x.shape, x)
    seen = {
        (
            sums_of(lambda parts: _batch_norm.Moments(given[1], parts), 11, 35, 3, chunk).tobytes(),
            sums_of(lambda parts: _batch_norm.GradSums(*given, parts, channels), 11, 35, 3, chunk).tobytes(),
        )
        for chunk in (1, 2, 3)
    }
    assert len(seen) == 1


def test_rows_of_groups_beyond_the_array_are_left_out(rng):
    x = rng.normal(size=(4, 2, 2, 3)).astype(np.float32)
    parts, check = guarded((1, _batch_norm.sums_width(3)), dtype=np.float64)
    Program([Stage([_batch_norm.Moments(Tensor(x.shape, x), parts)], 4, 2)]).run()
    check()
    np.testing.assert_allclose(parts[0, :3], x[:2].mean((0, 1, 2)), rtol=1e-6, atol=1e-7)


# ---- given statistics


@pytest.mark.parametrize("c", [1, 5, 64, 130])
@pytest.mark.parametrize("given", [True, False], ids=["affine", "bare"])
def test_folded_weights(c, given, machine, rng):
    w, b, gamma, beta, mean = (rng.normal(size=size).astype(np.float32) for size in ((3, 3, 2, c), c, c, c, c))
    variance = rng.random(c).astype(np.float32)
    if not given:
        b = gamma = beta = None
    (folded, check), bias = guarded(w.shape), np.full(c, np.nan, np.float32)
    run_op(_norm.FoldNorm(w, b, gamma, beta, mean, variance, EPSILON, folded, bias))
    check()
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance.astype(np.float64) + EPSILON)
    np.testing.assert_allclose(folded, w * scale, rtol=1e-6)
    shift = ((0.0 if b is None else b) - mean.astype(np.float64)) * scale + (0.0 if beta is None else beta)
    np.testing.assert_allclose(bias, shift, rtol=1e-6, atol=1e-6 * np.abs(scale).max())
    got = np.full(c, np.nan, np.float32)
    run_op(_norm.MovingScale(gamma, variance, EPSILON, got))
    np.testing.assert_allclose(got, scale, rtol=1e-6)


@pytest.mark.parametrize("invert", [False, True])
def test_standardize(invert, rng):
    mean, variance = rng.normal(size=3).astype(np.float32), np.array([4.0, 0.0, 0.25], np.float32)
    source = np.tile(np.arange(3, dtype=np.intp), 40)
    arrays = tuple(np.full(120, np.nan, np.float32) for _ in range(3))
    run_op(_norm.Standardize(mean, variance, source, arrays, invert))
    deviation = np.tile(np.array([2.0, 1e-7, 0.5]), 40)
    moved = np.tile(mean, 40)
    wanted = (np.zeros(120), deviation, moved) if invert else (moved, 1 / deviation, np.zeros(120))
    for got, want in zip(arrays, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7)


# ---- layer and group normalisation


@each_shape
@each_halo
def test_layer_norm(shape, halo, isa, rng):
    c = shape[3]
    x = rng.normal(3.0, 2.0, shape).astype(np.float32)
    dy, gamma, beta = (rng.normal(size=size).astype(np.float32) for size in (shape, c, c))
    y, dx = Framed(shape, halo=halo), Framed(shape, halo=halo)
    given = [Framed(shape, a, halo).tensor for a in (dy, x)]
    run_op(_sample_norm.LayerNorm(given[1], y.tensor, gamma, beta, EPSILON))
    inverse = 1 / np.sqrt(reference.moments(x, (3,))[1] + EPSILON)
    error = 1 + np.abs(x).max() * inverse  # how the input's rounding errors grow
    close(y.result(), reference.layer_norm(x, gamma, beta), c, np.abs(gamma).max() * error)
    groups = -(-shape[0] // 2)
    dgamma, dbeta = np.full((2, groups, c), np.nan, np.float32)
    op = _sample_norm.LayerNormGrad(*given, dx.tensor, dgamma, dbeta, gamma, EPSILON)
    Program([Stage([op], shape[0], 2, 1)]).run()
    wanted = reference.layer_norm_grad(dy, x, gamma)
    close(dx.result(), wanted[0], c, np.abs(dy * gamma).max() * inverse * error)
    close(dgamma.sum(0), wanted[1], x.size // c, np.abs(dy).max() * error.max())
    close(dbeta.sum(0), wanted[2], x.size // c)


@pytest.mark.parametrize(("shape", "groups"), [
    ((3, 2, 4, 6), 2), ((3, 2, 4, 6), 6), ((2, 9, 8, 17), 1), ((2, 5, 3, 33), 11), ((5, 1, 1, 64), 4),
    ((2, 13, 7, 80), 8), ((1, 1, 1, 2), 1), ((1, 4, 40, 32), 32),
])  # fmt: skip
@each_halo
@each_clamp
def test_group_norm(shape, groups, halo, clamp, isa, rng):
    c = shape[3]
    x = rng.normal(3.0, 2.0, shape).astype(np.float32)
    dy, gamma, beta = (rng.normal(size=size).astype(np.float32) for size in (shape, c, c))
    y, dx = Framed(shape, halo=halo), Framed(shape, halo=halo)
    given = [Framed(shape, a, halo).tensor for a in (dy, x)]
    run_op(_sample_norm.GroupNorm(given[1], y.tensor, groups, gamma, beta, EPSILON, clamp))
    z = reference.group_norm(x, gamma, beta, groups)
    variance = reference.moments(x.reshape(*shape[:3], groups, -1), (1, 2, 4))[1].min()
    error = 1 + np.abs(x).max() / np.sqrt(variance + EPSILON)  # how the input's rounding errors grow
    close(y.result(), np.clip(z, *clamp), x[0].size // groups, np.abs(gamma).max() * error)
    parts = np.full((2, -(-shape[0] // 2), c), np.nan, np.float32)
    op = _sample_norm.GroupNormGrad(*given, dx.tensor, *parts, groups, gamma, beta, EPSILON, clamp)
    Program([Stage([op], shape[0], 2, 1)]).run()
    dz = np.where((z > clamp[0]) & (z < clamp[1]), dy, 0)
    wanted = reference.group_norm_grad(dz, x, gamma, groups)
    steep = np.abs(dy * gamma).max() / np.sqrt(variance + EPSILON)
    close(dx.result(), wanted[0], x[0].size // groups, steep * error)
    for got, want in zip(parts.sum(1), wanted[1:], strict=True):
        close(got, want, x.size // c, np.abs(dy).max() * error)


def close(got, want, reduction, scale=None):
    assert_close(got, want, reduction, ulps=8, scale=max(1.0, np.abs(want).max()) if scale is None else scale)


@pytest.mark.parametrize("make", [
    lambda dy, x, dx, *parts: _sample_norm.LayerNormGrad(dy, x, dx, *parts, np.ones(6, np.float32), EPSILON),
    lambda dy, x, dx, *parts: _sample_norm.GroupNormGrad(
        dy, x, dx, *parts, 3, np.ones(6, np.float32), np.zeros(6, np.float32), EPSILON),
], ids=["layer", "group"])  # fmt: skip
def test_gradients_that_nobody_asked_for(make, machine, rng):
    """Any of dx, dgamma, dbeta may be None; the others keep their bits, on any number of threads."""
    dy, x = (Tensor(a.shape, a) for a in rng.normal(size=(2, 5, 3, 4, 6)).astype(np.float32))

    def run(*wanted):
        dx, dgamma, dbeta = (np.full(s, np.nan, np.float32) if w else None
                             for s, w in zip(((5, 3, 4, 6), (3, 6), (3, 6)), wanted, strict=True))
        Program([Stage([make(dy, x, None if dx is None else Tensor(dx.shape, dx), dgamma, dbeta)], 5, 2)]).run()
        return dx, dgamma, dbeta

    everything = run(True, True, True)
    for wanted in ((True, False, False), (False, True, False), (False, False, True), (True, False, True)):
        for got, want, asked in zip(run(*wanted), everything, wanted, strict=True):
            assert got is None if not asked else np.array_equal(got, want)


# ---- odd values and mistakes


def test_nan_comes_through(isa, rng):
    x = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    x[1, 2, 1, 4] = np.nan
    given, one, zero = Tensor(x.shape, x), np.ones(6, np.float32), np.zeros(6, np.float32)
    assert np.isnan(statistics(x)[0]).tolist() == [False] * 4 + [True, False]
    y = np.zeros_like(x)
    run_op(_norm.Normalize(given, Tensor(x.shape, y), _norm.Channels(zero, one, zero, (0.0, 6.0))))
    assert np.array_equal(np.isnan(y), np.isnan(x))
    run_op(_sample_norm.LayerNorm(given, Tensor(x.shape, y), one, zero, EPSILON))
    assert np.isnan(y[1, 2, 1]).all() and np.isnan(y).sum() == 6
    run_op(_sample_norm.GroupNorm(given, Tensor(x.shape, y), 3, one, zero, EPSILON, (0.0, inf)))
    assert np.isnan(y[1, ..., 4:]).all() and np.isnan(y).sum() == 24
    total = sums_of(lambda parts: _batch_norm.GradSums(given, Tensor(x.shape, np.ones_like(x)), parts,
                                                 _norm.Channels(zero, one, zero)), 2, 6).sum(0)  # fmt: skip
    assert np.isnan(total[:6]).tolist() == [False] * 4 + [True, False]


def tensor(*shape):
    return Tensor(shape, np.zeros(shape, np.float32))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


SUMS = zeros(2, _batch_norm.sums_width(3), dtype=np.float64)
THREE = _norm.Channels(zeros(3), zeros(3), zeros(3))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: _norm.Channels(zeros(3), zeros(4), zeros(3)), "Channels scale"),
    (lambda: _norm.Normalize(tensor(2, 1, 1, 4), tensor(2, 1, 1, 4), THREE), "3 channels are described"),
    (lambda: _norm.Normalize(tensor(2, 1, 1, 3), tensor(2, 1, 2, 3), THREE), "one shape"),
    (lambda: _norm.InputGrad(*[tensor(2, 1, 1, 3)] * 3, THREE, zeros(3), zeros(2)), "InputGrad slope"),
    (lambda: _batch_norm.Moments(tensor(2, 1, 1, 4), zeros(2, 5, dtype=np.float64)), "Moments parts"),
    (lambda: _batch_norm.GradSums(tensor(2, 1, 1, 3), tensor(2, 1, 1, 3), zeros(2, 33), THREE), "float64"),
    (lambda: _batch_norm.BatchStatistics(SUMS, None, None, -1.0, *zeros(3, 3), *zeros(2, 3, dtype=np.float64)),
     "epsilon"),
    (lambda: _batch_norm.BatchStatistics(SUMS, None, None, np.nan, *zeros(3, 3), *zeros(2, 3, dtype=np.float64)),
     "epsilon"),
    (lambda: _batch_norm.BatchNormGrad(SUMS, zeros(3), zeros(3), zeros(3), None, None, zeros(3), zeros(3)), "inverse"),
    (lambda: _norm.MovingScale(None, zeros(2), EPSILON, zeros(3)), "MovingScale variance"),
    (lambda: _norm.FoldNorm(zeros(2, 4), None, None, None, zeros(3), zeros(3), EPSILON, zeros(2, 4), zeros(3)),
     "no 3 output channels"),
    (lambda: _norm.Standardize(zeros(2), zeros(2), np.array([0, 2]), (zeros(2),) * 3), "outside 2 means"),
    (lambda: _sample_norm.LayerNorm(tensor(2, 1, 1, 3), tensor(2, 1, 1, 3), zeros(2), zeros(3), EPSILON), "gamma"),
    (lambda: _sample_norm.LayerNormGrad(*[tensor(2, 1, 1, 3)] * 2, None, zeros(2, 3), zeros(1, 3), zeros(3), EPSILON),
     "as many rows"),
    (lambda: _sample_norm.GroupNorm(tensor(2, 1, 1, 3), tensor(2, 1, 1, 3), 2, zeros(3), zeros(3), EPSILON),
     "2 groups"),
    (lambda: _sample_norm.GroupNorm(tensor(2, 1, 1, 3), tensor(2, 1, 1, 3), 0, zeros(3), zeros(3), EPSILON),
     "0 groups"),
])  # fmt: skip
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
