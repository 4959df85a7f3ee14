"""The checkers, fed wrong input: a checker that cannot fail proves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.check import (
    EPS32,
    Framed,
    assert_allocates_nothing,
    assert_close,
    assert_same,
    guarded,
    poison,
    small_ints,
)

WANT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def changed(index: tuple[int, ...], value: float) -> np.ndarray:
    got = WANT.copy()
    got[index] = value
    return got


def test_same_accepts_equal_arrays() -> None:
    assert_same(WANT, WANT.copy())
    assert_same(WANT, WANT.astype(np.float64))
    assert_same(np.float32([np.nan, np.inf, -0.0]), np.float64([np.nan, np.inf, 0.0]))
    assert_same(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    assert_same(np.arange(3), np.arange(3))


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (WANT[:1], r"shape \(1, 3, 4\), want \(2, 3, 4\)"),
        (WANT.ravel(), "shape"),
        (WANT.astype(np.int32), "dtype int32, want float32"),
        (WANT.astype(np.float16), "dtype float16"),
        (
            changed((1, 2, 0), np.nextafter(np.float32(20), np.float32(21))),
            r"1 of 24 .* first at \(1, 2, 0\)",
        ),
        (changed((0, 0, 0), np.nan), r"first at \(0, 0, 0\): got .*nan"),
        (changed((1, 0, 1), np.inf), "inf"),
        (WANT + (WANT > 20), r"3 of 24 values differ, first at \(1, 2, 1\)"),
    ],
)
def test_same_rejects(got: np.ndarray, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_same(got, WANT)


def test_same_compares_float32_with_float64_exactly() -> None:
    third = np.array([1.0 / 3.0])
    with pytest.raises(AssertionError):
        assert_same(third.astype(np.float32), third)


def test_same_wants_nan_where_nan_belongs() -> None:
    with pytest.raises(AssertionError, match="nan"):
        assert_same(np.float32([1.0]), np.float32([np.nan]))


def test_close_accepts_errors_up_to_the_bound() -> None:
    want = np.array([100.0, -50.0])
    bound = 4 * EPS32 * np.sqrt(9) * 100.0
    assert_close(want + 0.99 * bound, want, reduction=9)
    assert_close(want + np.array([0.0, 0.99]) * bound, want, reduction=9, scale=np.array([1.0, 100.0]))
    assert_close(np.float32([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0]), reduction=1)
    assert_close(np.zeros(1), np.array([1e-39]), reduction=1)
    assert_close(np.zeros((0, 2)), np.zeros((0, 2)), reduction=0)


def test_close_rejects_errors_above_the_bound() -> None:
    want = np.array([100.0, -50.0])
    bound = 4 * EPS32 * np.sqrt(9) * 100.0
    with pytest.raises(AssertionError, match=r"at \(1,\) is 1\.01 times the bound .*1 of 2 values"):
        assert_close(want + np.array([0.0, 1.01]) * bound, want, reduction=9)
    with pytest.raises(AssertionError, match=r"at \(0,\)"):
        assert_close(want + 0.99 * bound, want, reduction=9, scale=np.array([1.0, 100.0]))
    with pytest.raises(AssertionError):
        assert_close(want + 0.99 * bound, want, reduction=9, ulps=3)
    with pytest.raises(AssertionError):
        assert_close(want + 0.99 * bound, want, reduction=8)


@pytest.mark.parametrize(
    ("got", "want"),
    [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.inf, -np.inf), (1.0, np.inf), (np.nan, np.inf)],
)
def test_close_rejects_wrong_nan_and_infinity(got: float, want: float) -> None:
    with pytest.raises(AssertionError, match=r"at \(1,\)"):
        assert_close(np.array([0.0, got]), np.array([0.0, want]), reduction=1000, scale=1e30)


def test_close_rejects_wrong_shape_and_dtype() -> None:
    with pytest.raises(AssertionError, match="shape"):
        assert_close(np.ones(1), np.ones(2), reduction=1)
    with pytest.raises(AssertionError, match="dtype"):
        assert_close(np.ones(2, np.int64), np.ones(2), reduction=1)


def test_close_notices_a_missing_term_of_a_long_sum() -> None:
    rng = np.random.default_rng(0)
    terms = rng.uniform(0.5, 1.0, 2000)
    assert_close(
        terms.astype(np.float32).sum(keepdims=True), terms.sum(keepdims=True), 2000, scale=terms.sum()
    )
    with pytest.raises(AssertionError, match="error"):
        assert_close(terms[1:].sum(keepdims=True), terms.sum(keepdims=True), 2000, scale=terms.sum())


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_small_ints_are_integers_below_the_limit(bits: int) -> None:
    a = small_ints(np.random.default_rng(1), (50, 60), bits)
    assert a.dtype == np.float32 and a.shape == (50, 60)
    assert (a == np.round(a)).all()
    assert a.max() == 2**bits - 1 and a.min() == -(2**bits - 1)


def test_small_ints_sum_exactly_in_any_order() -> None:
    rng = np.random.default_rng(2)
    products = small_ints(rng, (4096,)) * small_ints(rng, (4096,))
    exact = products.astype(np.float64).sum()
    assert all(np.cumsum(rng.permutation(products), dtype=np.float32)[-1] == exact for _ in range(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_guarded_array_is_filled_and_contiguous(dtype: type) -> None:
    array, check = guarded((2, 3, 5), fill=7, dtype=dtype)
    assert array.shape == (2, 3, 5) and array.dtype == dtype and (array == 7).all()
    assert array.flags.c_contiguous and array.flags.writeable
    array[...] = 1
    check()


def test_guarded_arrays_are_aligned() -> None:
    arrays = [guarded((n,))[0] for n in range(1, 60)]
    assert all(array.ctypes.data % 64 == 0 for array in arrays)


def test_guarded_fills_with_nan_by_default() -> None:
    array, check = guarded((4, 4))
    assert np.isnan(array).all()
    check()


def test_guarded_may_be_empty() -> None:
    array, check = guarded((0, 4))
    assert array.shape == (0, 4)
    check()


@pytest.mark.parametrize("shape", [(3, 5), (16,), (1, 1, 1, 1)])
@pytest.mark.parametrize(
    ("side", "offset"), [("before", -1), ("before", -900), ("after", 0), ("after", 15), ("after", 900)]
)
def test_guarded_notices_one_changed_byte(shape: tuple[int, ...], side: str, offset: int) -> None:
    array, check = guarded(shape)
    memory = array.base
    while memory.base is not None:
        memory = memory.base
    inside = array.ctypes.data - memory.ctypes.data
    at = inside + offset + (array.nbytes if side == "after" else 0)
    memory.view(np.uint8)[at] = 0
    distance = offset if side == "after" else -offset - 1
    with pytest.raises(AssertionError, match=f"1 bytes {side} the array .* nearest {distance} bytes away"):
        check()


def test_guard_bytes_read_as_nan() -> None:
    array, _ = guarded((8,), fill=0.0)
    outside = np.lib.stride_tricks.as_strided(array, shape=(9,))[8]
    assert np.isnan(outside)


def test_poison_fills_in_place() -> None:
    x = np.zeros((3, 4), np.float32)
    assert poison(x[:, 1:3]).base is x
    assert np.isnan(x[:, 1:3]).all() and (x[:, [0, 3]] == 0).all()
    assert (poison(np.zeros(3, np.int64)) == np.iinfo(np.int64).min).all()
    with pytest.raises(ValueError, match="read-only"):
        poison(np.broadcast_to(np.float32(0), (2, 2)))


def test_framed_notices_a_stray_write() -> None:
    framed = Framed((1, 2, 2, 3), 0)
    assert_same(framed.result(), np.zeros((1, 2, 2, 3), np.float32))
    framed.buffer[1, 0, 0, 0] = 0
    with pytest.raises(AssertionError, match="outside"):
        framed.result()


def test_steady_plans_may_not_allocate() -> None:
    class Hoarder:
        def __init__(self) -> None:
            self.kept: list[bytes] = []

        def run(self) -> None:
            self.kept.append(bytes(100))

    with pytest.raises(AssertionError):
        assert_allocates_nothing(Hoarder())
