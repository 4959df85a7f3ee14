"""Pooling kernels against their definitions in NumPy, on every instruction set and several thread counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn.kernels import _pool
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.kernels._op import Tensor
from tests.check import Framed

NO_PADS = ((0, 0), (0, 0))
HALO = ((1, 2), (2, 1))

# (n, h, w, c), pool, strides, pads
CASES = [
    ((2, 4, 6, 6), (2, 2), (2, 2), NO_PADS),  # LeNet's 6 channels
    ((3, 5, 7, 16), (2, 2), (2, 2), NO_PADS),  # a row and a column are left over
    ((2, 8, 8, 32), (2, 2), (2, 2), NO_PADS),
    ((2, 5, 5, 33), (2, 2), (2, 2), ((0, 1), (0, 1))),  # same padding of an odd size
    ((2, 7, 8, 17), (3, 3), (2, 2), ((1, 1), (0, 1))),  # overlapping, asymmetric
    ((1, 6, 5, 4), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 9, 7, 5), (3, 2), (3, 2), NO_PADS),  # apart, not square
    ((2, 9, 10, 3), (2, 2), (3, 4), NO_PADS),  # gaps between windows
    ((1, 4, 4, 2), (1, 1), (1, 1), NO_PADS),
    ((2, 3, 2, 9), (5, 4), (1, 3), ((3, 4), (3, 3))),  # window larger than the image
    ((1, 1, 11, 8), (1, 3), (1, 2), ((0, 0), (1, 1))),  # one row
    ((1, 40, 1, 1), (3, 1), (2, 1), ((2, 0), (0, 0))),  # one column
    ((0, 4, 4, 3), (2, 2), (2, 2), NO_PADS),  # no images
]
FLAGS = [{}, {"minimum": True}, {"relu": True}, {"minimum": True, "relu": True}]
CHANNELS = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
EACH_CHANNELS = [((1, 5, 6, c), (2, 2), (2, 2), NO_PADS) for c in CHANNELS] + [
    ((1, 4, 5, c), (3, 3), (2, 2), ((1, 1), (1, 1))) for c in CHANNELS
]
cases = pytest.mark.parametrize("shape, pool, strides, pads", CASES + EACH_CHANNELS)


# ---- the definitions ----


def pooled_size(shape, pool, strides, pads):
    return tuple((shape[1 + a] + sum(pads[a]) - pool[a]) // strides[a] + 1 for a in (0, 1))


def each_window(shape, pool, strides, pads):
    """(o, j), rows and columns inside the image, and the tap index of each of those pixels."""
    for o, j in np.ndindex(*pooled_size(shape, pool, strides, pads)):
        rows = o * strides[0] - pads[0][0] + np.arange(pool[0])
        cols = j * strides[1] - pads[1][0] + np.arange(pool[1])
        in_rows, in_cols = (rows >= 0) & (rows < shape[1]), (cols >= 0) & (cols < shape[2])
        taps = np.arange(pool[0] * pool[1]).reshape(pool)[np.ix_(in_rows, in_cols)]
        yield (o, j), rows[in_rows], cols[in_cols], taps.ravel()


def max_pool(x, pool, strides, pads, minimum=False, relu=False):
    """(values float64, indices); NumPy's argmax also takes the first of equals and the first NaN."""
    n, _, _, c = x.shape
    y = np.empty((n, *pooled_size(x.shape, pool, strides, pads), c))
    arg = np.empty(y.shape, np.int32)
    for (o, j), rows, cols, taps in each_window(x.shape, pool, strides, pads):
        pixels = x[:, rows][:, :, cols].reshape(n, len(taps), c).astype(np.float64)
        best = (np.argmin if minimum else np.argmax)(pixels, axis=1)
        y[:, o, j] = np.take_along_axis(pixels, best[:, None], axis=1)[:, 0]
        arg[:, o, j] = taps[best]
    if relu:
        closed = y <= 0
        y[closed], arg[closed] = 0, -1
    return y, arg


def max_pool_grad(dy, arg, shape, pool, strides, pads):
    dx = np.zeros(shape)
    for (o, j), rows, cols, taps in each_window(shape, pool, strides, pads):
        for tap, (row, col) in zip(taps, ((r, c) for r in rows for c in cols), strict=True):
            dx[:, row, col] += np.where(arg[:, o, j] == tap, dy[:, o, j], 0)
    return dx


def avg_pool(x, pool, strides, pads, count_include_pad=False):
    y = np.empty((x.shape[0], *pooled_size(x.shape, pool, strides, pads), x.shape[3]))
    for (o, j), rows, cols, taps in each_window(x.shape, pool, strides, pads):
        count = pool[0] * pool[1] if count_include_pad else len(taps)
        y[:, o, j] = x[:, rows][:, :, cols].astype(np.float64).sum(axis=(1, 2)) / count
    return y


def avg_pool_grad(dy, shape, pool, strides, pads, count_include_pad=False):
    dx = np.zeros(shape)
    for (o, j), rows, cols, taps in each_window(shape, pool, strides, pads):
        count = pool[0] * pool[1] if count_include_pad else len(taps)
        dx[:, rows[:, None], cols] += dy[:, o, j][:, None, None] / count
    return dx


# ---- runs whose surroundings are watched ----


def guarded_arg(shape, dtype):
    """(array with bands of 99 around it, the part to use)."""
    size, band = int(np.prod(shape)), 64
    whole = np.full(size + 2 * band, 99, dtype)
    return whole, whole[band : band + size].reshape(shape)


def whole_numbers(seed, shape, low=-9, high=10):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def run_max_pool(x, pool, strides, pads, dtype=np.uint8, **flags):
    y = Framed((x.shape[0], *pooled_size(x.shape, pool, strides, pads), x.shape[3]))
    whole, arg = guarded_arg(y.view.shape, dtype)
    run_op(_pool.MaxPool(Framed(x.shape, x).tensor, y.tensor, pool, strides, pads, arg, **flags))
    assert (whole[:64] == 99).all() and (whole[-64:] == 99).all(), "written outside arg"
    return y.result(), arg


def run_max_pool_grad(dy, arg, shape, pool, strides, pads):
    dx = Framed(shape)
    run_op(_pool.MaxPoolGrad(Framed(dy.shape, dy).tensor, dx.tensor, arg, pool, strides, pads))
    return dx.result()


def run_avg_pool(x, pool, strides, pads, **flags):
    y = Framed((x.shape[0], *pooled_size(x.shape, pool, strides, pads), x.shape[3]))
    run_op(_pool.AvgPool(Framed(x.shape, x).tensor, y.tensor, pool, strides, pads, **flags))
    return y.result()


def run_avg_pool_grad(dy, shape, pool, strides, pads, **flags):
    dx = Framed(shape)
    run_op(_pool.AvgPoolGrad(Framed(dy.shape, dy).tensor, dx.tensor, pool, strides, pads, **flags))
    return dx.result()


# ---- maximum and minimum ----


@cases
@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_max_pool(machine, shape, pool, strides, pads, flags):
    x = whole_numbers(1, shape)  # few distinct values: many ties
    y, arg = run_max_pool(x, pool, strides, pads, **flags)
    expected_y, expected_arg = max_pool(x, pool, strides, pads, **flags)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(arg, expected_arg.astype(np.uint8))


@cases
def test_max_pool_without_indices(machine, shape, pool, strides, pads):
    x = whole_numbers(2, shape)
    y = Framed((shape[0], *pooled_size(shape, pool, strides, pads), shape[3]))
    run_op(_pool.MaxPool(Framed(shape, x).tensor, y.tensor, pool, strides, pads))
    np.testing.assert_array_equal(y.result(), max_pool(x, pool, strides, pads)[0])


@pytest.mark.parametrize("minimum", [False, True])
@pytest.mark.parametrize("pool, pads", [((2, 2), NO_PADS), ((3, 3), ((1, 0), (2, 1)))])
def test_max_pool_of_nan_and_infinity(machine, minimum, pool, pads):
    """NaN wins wherever it stands in a window; infinities are ordinary values."""
    values = np.array([np.nan, np.inf, -np.inf, 0, 1], np.float32)
    x = values[np.random.default_rng(3).integers(0, 5, (2, 8, 9, 19))]
    for relu in (False, True):
        y, arg = run_max_pool(x, pool, (2, 2), pads, minimum=minimum, relu=relu)
        expected_y, expected_arg = max_pool(x, pool, (2, 2), pads, minimum=minimum, relu=relu)
        np.testing.assert_array_equal(y, expected_y)
        np.testing.assert_array_equal(arg, expected_arg.astype(np.uint8))
    assert np.isnan(y).any() and not np.isnan(y).all()


@pytest.mark.parametrize("value", [-np.inf, -3.0])
def test_padding_never_wins(machine, value):
    x = np.full((1, 3, 3, 5), value, np.float32)
    y, arg = run_max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    np.testing.assert_array_equal(y, np.full((1, 2, 2, 5), value))
    np.testing.assert_array_equal(arg[0, :, :, 0], [[4, 3], [1, 0]])


def test_relu_result_is_positive_zero(machine):
    y, _ = run_max_pool(np.full((1, 2, 2, 21), -0.0, np.float32), (2, 2), (2, 2), NO_PADS, relu=True)
    assert not np.signbit(y).any()


@cases
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize("relu", [False, True])
def test_max_pool_grad(machine, shape, pool, strides, pads, dtype, relu):
    x = whole_numbers(4, shape)
    _, arg = run_max_pool(x, pool, strides, pads, dtype, relu=relu)
    dy = whole_numbers(5, arg.shape)
    dx = run_max_pool_grad(dy, arg, shape, pool, strides, pads)
    expected_arg = max_pool(x, pool, strides, pads, relu=relu)[1]
    np.testing.assert_array_equal(dx, max_pool_grad(dy, expected_arg, shape, pool, strides, pads))


def test_max_pool_grad_keeps_nan_to_its_pixel(machine):
    x = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
    _, arg = run_max_pool(x, (2, 2), (2, 2), NO_PADS)
    dx = run_max_pool_grad(np.full((1, 2, 2, 4), np.nan, np.float32), arg, x.shape, (2, 2), (2, 2), NO_PADS)
    assert np.isnan(dx[:, 1::2, 1::2]).all() and np.isnan(dx).sum() == 16


def test_large_windows_use_int32(machine):
    shape, geometry = (2, 20, 21, 18), ((16, 17), (4, 4), ((3, 2), (1, 2)))
    x = whole_numbers(6, shape, -10**6, 10**6)
    y, arg = run_max_pool(x, *geometry, np.int32)
    expected_y, expected_arg = max_pool(x, *geometry)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(arg, expected_arg)
    assert arg.max() > 255
    dy = whole_numbers(7, y.shape)
    np.testing.assert_array_equal(run_max_pool_grad(dy, arg, shape, *geometry),
                                  max_pool_grad(dy, expected_arg, shape, *geometry))


def test_largest_uint8_window(machine):
    """255 pixels still fit: the last index is 254, and 255 means closed."""
    x = np.zeros((1, 15, 17, 3), np.float32)
    x[0, 14, 16] = 1
    y, arg = run_max_pool(x, (15, 17), (1, 1), NO_PADS, relu=True)
    np.testing.assert_array_equal(arg.ravel(), [254] * 3)
    dx = run_max_pool_grad(2 * y, arg, x.shape, (15, 17), (1, 1), NO_PADS)
    np.testing.assert_array_equal(dx, 2 * x)


# ---- average ----


def divisible(seed, shape, pool):
    """Whole numbers that every possible count of a window's pixels divides, so that means are exact."""
    counts = [r * i for r in range(1, pool[0] + 1) for i in range(1, pool[1] + 1)]
    return whole_numbers(seed, shape, -3, 4) * np.float32(np.lcm.reduce(counts))


@cases
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool(machine, shape, pool, strides, pads, count_include_pad):
    """Sums of whole numbers are exact, and the division is correctly rounded."""
    x = whole_numbers(8, shape)
    y = run_avg_pool(x, pool, strides, pads, count_include_pad=count_include_pad)
    expected = avg_pool(x, pool, strides, pads, count_include_pad)
    np.testing.assert_array_equal(y, expected.astype(np.float32))


@cases
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool_grad(machine, shape, pool, strides, pads, count_include_pad):
    dy = divisible(9, (shape[0], *pooled_size(shape, pool, strides, pads), shape[3]), pool)
    dx = run_avg_pool_grad(dy, shape, pool, strides, pads, count_include_pad=count_include_pad)
    np.testing.assert_array_equal(dx, avg_pool_grad(dy, shape, pool, strides, pads, count_include_pad))


def test_avg_pool_of_nan_stays_in_its_window(machine):
    x = np.ones((1, 4, 4, 17), np.float32)
    x[0, 0, 1, 5] = np.nan
    y = run_avg_pool(x, (2, 2), (2, 2), NO_PADS)
    assert np.isnan(y[0, 0, 0, 5]) and np.isnan(y).sum() == 1


# ---- random sizes, all ops ----


@st.composite
def geometries(draw):
    def axis():
        size, k, stride = (draw(st.integers(1, top)) for top in (9, 5, 4))
        before, after = (draw(st.integers(0, k - 1)) for _ in range(2))
        return size + max(0, k - size - before - after), k, stride, (before, after)

    (h, kh, sh, down), (w, kw, sw, across) = axis(), axis()
    return (draw(st.integers(1, 3)), h, w, draw(st.integers(1, 35))), (kh, kw), (sh, sw), (down, across)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(geometries())
def test_random_sizes(geometry):
    shape, pool, strides, pads = geometry
    x = whole_numbers(10, shape)
    y, arg = run_max_pool(x, pool, strides, pads)
    expected_y, expected_arg = max_pool(x, pool, strides, pads)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(arg, expected_arg.astype(np.uint8))
    dy = divisible(11, y.shape, pool)
    np.testing.assert_array_equal(run_max_pool_grad(dy, arg, shape, pool, strides, pads),
                                  max_pool_grad(dy, expected_arg, shape, pool, strides, pads))
    np.testing.assert_array_equal(run_avg_pool(x, pool, strides, pads),
                                  avg_pool(x, pool, strides, pads).astype(np.float32))
    np.testing.assert_array_equal(run_avg_pool_grad(dy, shape, pool, strides, pads),
                                  avg_pool_grad(dy, shape, pool, strides, pads))


# ---- global pooling ----


@pytest.mark.parametrize("shape", [(3, 7, 7, 33), (2, 1, 1, 5), (1, 17, 19, 16), (0, 3, 3, 4)])
def test_global_pooling(machine, shape):
    n, h, w, c = shape
    x = whole_numbers(12, shape)
    source, pixels = Framed(shape, x), x.reshape(n, h * w, c)
    y, arg = np.full((n, c), np.nan, np.float32), np.full((n, c), -9, np.int32)
    run_op(_pool.GlobalMaxPool(source.tensor, Tensor((n, c), y), arg))
    np.testing.assert_array_equal(y, pixels.max(axis=1))
    np.testing.assert_array_equal(arg, pixels.argmax(axis=1))

    run_op(_pool.GlobalAvgPool(source.tensor, Tensor((n, c), y)))
    np.testing.assert_array_equal(y, (pixels.astype(np.float64).sum(axis=1) / (h * w)).astype(np.float32))

    dy, dx = whole_numbers(13, (n, c)) * h * w, Framed(shape)
    run_op(_pool.GlobalAvgPoolGrad(Tensor((n, c), dy), dx.tensor))
    np.testing.assert_array_equal(dx.result(), np.broadcast_to(dy[:, None, None] / (h * w), shape))

    run_op(_pool.GlobalMaxPoolGrad(Tensor((n, c), dy), dx.tensor, arg))
    expected = np.zeros((n, h * w, c))
    np.put_along_axis(expected, arg[:, None], dy[:, None], axis=1)
    np.testing.assert_array_equal(dx.result(), expected.reshape(shape))


def test_global_mean_of_many_pixels_is_accurate(machine):
    x = np.random.default_rng(14).random((1, 200, 200, 3), np.float32)
    y = np.empty((1, 3), np.float32)
    run_op(_pool.GlobalAvgPool(Tensor(x.shape, x), Tensor((1, 3), y)))
    np.testing.assert_allclose(y, x.astype(np.float64).mean(axis=(1, 2)), rtol=2e-6)


# ---- in a program ----


@pytest.mark.parametrize("group, chunk", [(1, 1), (2, 1), (5, 2), (7, 7)])
def test_same_bits_however_the_images_are_cut(machine, group, chunk):
    """Max pooling into thread-local memory, then a mean of it; also the first use of local tensors here."""
    x = np.random.default_rng(15).standard_normal((7, 8, 6, 10), np.float32)
    local, y = Tensor((7, 4, 3, 10)), np.full((7, 2, 1, 10), np.nan, np.float32)
    arg = np.full((7, 4, 3, 10), 77, np.uint8)
    ops = [_pool.MaxPool(Tensor(x.shape, x), local, (2, 2), (2, 2), NO_PADS, arg),
           _pool.AvgPool(local, Tensor(y.shape, y), (2, 2), (2, 2))]
    Program([Stage(ops, 7, group, chunk)], local=chunk * 4 * 3 * 10 * 4).run()
    expected, expected_arg = max_pool(x, (2, 2), (2, 2), NO_PADS)
    np.testing.assert_array_equal(arg, expected_arg)
    middle = expected.astype(np.float32)[:, :, :2]
    rows = middle[:, :, 0] + middle[:, :, 1]  # in float32, in the kernel's order: rows first
    np.testing.assert_array_equal(y[:, :, 0], (rows[:, 0::2] + rows[:, 1::2]) / np.float32(4))


# ---- mistakes ----


def tensor(*shape):
    return Tensor(shape, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: _pool.MaxPool(tensor(1, 4, 4, 3), tensor(1, 2, 2, 4), (2, 2), (2, 2)), "pools to"),
        (lambda: _pool.MaxPool(tensor(2, 4, 4, 3), tensor(1, 2, 2, 3), (2, 2), (2, 2)), "pools to"),
        (lambda: _pool.AvgPool(tensor(1, 4, 4, 3), tensor(1, 2, 2, 3), (2, 2), (2, 0)), "at least 1"),
        (lambda: _pool.AvgPool(tensor(1, 4, 0, 3), tensor(1, 2, 1, 3), (2, 2), (2, 2)), "at least 1"),
        (lambda: _pool.AvgPool(tensor(1, 4, 4, 3), tensor(1, 3, 3, 3), (2, 2), (2, 2),
                               ((2, 0), (0, 0))), "padding"),
        (lambda: _pool.AvgPool(tensor(1, 4, 4, 3), tensor(1, 3, 3, 3), (2, 2), (2, 2),
                               ((0, 0), (-1, 0))), "padding"),
        (lambda: _pool.AvgPoolGrad(tensor(1, 1, 1, 3), tensor(1, 4, 4, 3), (5, 5), (1, 1)), "larger than"),
        (lambda: _pool.GlobalAvgPool(tensor(2, 4, 4, 3), tensor(2, 4)), "pools to"),
        (lambda: _pool.MaxPool(tensor(1, 1, 1, 1), tensor(1, 1, 1, 1), (2**16, 2**16), (1, 1),
                               ((2**16 - 1, 0), (2**16 - 1, 0))), "too large"),
    ],
)
def test_wrong_sizes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_arg():
    def grad(arg, size=4, pool=2):
        out = size // pool
        dy, dx = tensor(1, out, out, 3), tensor(1, size, size, 3)
        return _pool.MaxPoolGrad(dy, dx, arg, (pool, pool), (pool, pool))

    with pytest.raises(ValueError, match="uint8 or int32"):
        grad(np.zeros((1, 2, 2, 3), np.int64))
    with pytest.raises(ValueError, match="uint8 or int32"):
        grad(np.zeros((1, 2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="contiguous"):
        grad(np.zeros((1, 2, 2, 6), np.uint8)[..., ::2])
    with pytest.raises(ValueError, match="int32"):
        grad(np.zeros((1, 1, 1, 3), np.uint8), size=16, pool=16)
