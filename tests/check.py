"""What the tests compare arrays with, and memory that notices when a kernel strays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastcnn.kernels._op import Tensor

EPS32 = float(np.finfo(np.float32).eps)
TINY32 = float(np.finfo(np.float32).tiny)
_FLOATS = (np.float32, np.float64)
_GUARD_BYTES = 1024
_GUARD_VALUE = 0xFF  # as float32 a NaN, so that what is read from a guard shows in the result as well


def assert_same(got: ArrayLike, want: ArrayLike) -> None:
    """Same shape, same dtype and equal values; NaN equals NaN, and 0.0 equals -0.0.

    float32 and float64 count as one dtype: the values are compared exactly, as real numbers.
    """
    got, want = _comparable(got, want)
    equal = (got == want) | (_isnan(got) & _isnan(want))
    if not equal.all():
        index = _first(~equal)
        raise AssertionError(
            f"{np.count_nonzero(~equal)} of {got.size} values differ, first at {index}: "
            f"got {got[index]!r}, want {want[index]!r}"
        )


def assert_close(
    got: ArrayLike, want: ArrayLike, reduction: int, ulps: float = 4.0, scale: ArrayLike | None = None
) -> None:
    """|got - want| <= ulps * eps32 * sqrt(reduction) * scale, element by element.

    `reduction` is the number of products summed into one element. Rounding errors of a float32 sum behave
    like a random walk, so they grow with its square root; the guaranteed bound is linear, but so loose that a
    missing term of a long sum would fit under it. `scale` is the sum of the magnitudes of those products (an
    array like `want`, or a scalar), which cancellation in `want` cannot shrink; by default the largest
    magnitude in `want`. Results below the smallest normal float32 may be flushed to zero. NaN and infinities
    must match exactly.
    """
    got, want = (a.astype(np.float64) for a in _comparable(got, want))
    finite = np.isfinite(want)
    wrong = ~finite & (got != want) & ~(_isnan(got) & _isnan(want))
    if wrong.any():
        index = _first(wrong)
        raise AssertionError(f"got {got[index]} at {index}, want {want[index]}")
    if scale is None:
        scale = np.abs(want[finite]).max(initial=0.0)
    factor = ulps * EPS32 * max(reduction, 1) ** 0.5
    bound = np.broadcast_to(factor * np.asarray(scale, np.float64) + TINY32, want.shape)
    error = np.zeros(want.shape)
    error[finite] = np.abs(got[finite] - want[finite])
    if not (error <= bound).all():
        index = _index(int(np.argmax(error / bound)), error.shape)
        raise AssertionError(
            f"error {error[index]:.3g} at {index} is {error[index] / bound[index]:.3g} times the bound "
            f"{bound[index]:.3g} (reduction {reduction}, ulps {ulps}): got {got[index]}, want {want[index]}; "
            f"{np.count_nonzero(~(error <= bound))} of {error.size} values are out of bounds"
        )


def assert_near(got: ArrayLike, want: ArrayLike, tolerance: float = 1e-12) -> None:
    """float64 results that may differ by rounding."""
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def assert_gradient(function: Callable[[NDArray[Any]], Any], x: NDArray[Any], gradient: NDArray[Any]) -> None:
    """Central differences of the scalar `function` along random directions, in float64."""
    rng = np.random.default_rng(20240607)
    assert gradient.shape == x.shape and gradient.dtype == np.float64
    for _ in range(3):
        direction, h = rng.normal(size=x.shape), 1e-5
        slope = (function(x + h * direction) - function(x - h * direction)) / (2 * h)
        assert_near((gradient * direction).sum(), slope, 1e-6)


def _comparable(got: ArrayLike, want: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise AssertionError(f"shape {got.shape}, want {want.shape}")
    if got.dtype != want.dtype and not (got.dtype in _FLOATS and want.dtype in _FLOATS):
        raise AssertionError(f"dtype {got.dtype}, want {want.dtype}")
    return got, want


def _isnan(a: NDArray[Any]) -> NDArray[np.bool_]:
    return a != a  # unlike np.isnan, for every dtype


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return _index(int(np.argmax(mask)), mask.shape)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def small_ints(rng: np.random.Generator, shape: Sequence[int], bits: int = 3) -> NDArray[np.float32]:
    """float32 integers of magnitude below 2**bits.

    Sums of n products of two such arrays are exact in float32, in any order, while n < 2**(24 - 2 * bits):
    262144 products at three bits.
    """
    limit = 2**bits - 1
    return rng.integers(-limit, limit, tuple(shape), endpoint=True).astype(np.float32)


def guarded(
    shape: Sequence[int], fill: float = np.nan, dtype: DTypeLike = np.float32
) -> tuple[NDArray[Any], Callable[[], None]]:
    """A C-ordered array of `shape`, aligned to 64 bytes, with guard bands before and after it.

    Returns the array, filled with `fill`, and a function that raises AssertionError if a guard byte changed.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.full(size + 2 * _GUARD_BYTES + 64, _GUARD_VALUE, np.uint8)
    start = _GUARD_BYTES + -(memory.ctypes.data + _GUARD_BYTES) % 64
    array = memory[start : start + size].view(dtype).reshape(tuple(shape))
    array[...] = fill

    def check() -> None:
        for side, band in (("before", memory[:start][::-1]), ("after", memory[start + size :])):
            changed = np.flatnonzero(band != _GUARD_VALUE)
            if changed.size:
                raise AssertionError(
                    f"{changed.size} bytes {side} the array were overwritten, "
                    f"the nearest {changed[0]} bytes away"
                )

    return array, check


class Framed:
    """A tensor inside a larger array of NaN: a halo, and guard bands around all images.

    It holds `values`, or NaN, in pixels of `shape` (n, h, w, c).
    """

    def __init__(self, shape: Sequence[int], values: ArrayLike = np.nan, halo: Any = ((1, 2), (2, 1))):
        n, h, w, c = shape
        (top, bottom), (left, right) = halo
        pixels = (n + 2, top + h + bottom, left + w + right, c)
        inside = np.s_[1 : n + 1, top : top + h, left : left + w]
        self.buffer = np.full(pixels, np.nan, np.float32)
        self.outside = np.ones(pixels, bool)
        self.outside[inside] = False
        self.view = self.buffer[inside]
        self.view[...] = values
        self.tensor = Tensor(tuple(shape), self.view, halo)

    def result(self) -> NDArray[np.float32]:
        """A copy of the values, once nothing around them was touched."""
        if not np.isnan(self.buffer[self.outside]).all():
            raise AssertionError("written outside the tensor")
        return self.view.copy()


def poison(array: NDArray[Any]) -> NDArray[Any]:
    """Fills an array in place with garbage, NaN or the least integer, and returns it."""
    array[...] = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).min
    return array


def bits(model: Any) -> bytes:
    """All weights of a model."""
    return b"".join(w.tobytes() for w in model.get_weights())


def assert_allocates_nothing(plan: Any, runs: int = 100) -> None:
    """Runs of a plan, as in steady training, make a few Python numbers and nothing else."""
    kept, peak = traced(plan.run, runs)
    assert kept < 3000 and peak < 5000


def traced(call: Callable[[], Any], times: int) -> tuple[int, int]:
    """(bytes kept, most bytes in use at once) by so many calls, after one that is not counted."""
    call()
    tracemalloc.start()
    try:
        for _ in range(times):
            call()
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], peak
    finally:
        tracemalloc.stop()
