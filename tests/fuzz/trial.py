"""What a family of random cases is made of: trials of the engine, and what each of their results must be.

A family is a module with two functions:

    draw(rng)          a case: sizes and options, no data; its repr says all
    trials(case, rng)  the trials of a case, on data from `rng`; each is run before the next is made
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import ops, reference
from tests.check import EPS32, assert_close, assert_same, small_ints

# Around the vector lengths of 4, 8 and 16 floats, and around twice the longest.
AWKWARD = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
BATCHES = (0, 1, 1, 2, 2, 3, 5)


@dataclass(frozen=True)
class Want:
    """One result: equal to `value`, or with `terms` within the bound of `assert_close` for sums of so many."""

    value: ArrayLike
    terms: int | None = None
    scale: ArrayLike | None = None
    ulps: float = 4.0

    def check(self, got: ArrayLike) -> None:
        """Raise AssertionError where `got` is something else."""
        if self.terms is None:
            assert_same(got, self.value)
        else:
            assert_close(got, self.value, self.terms, self.ulps, self.scale)


@dataclass(frozen=True)
class Trial:
    """A computation: its results by name, and what they must be.

    One of `kernels` is run anew for each instruction set.
    """

    run: Callable[[], Mapping[str, ArrayLike]]
    wants: Mapping[str, Want]
    kernels: bool = True

    def check(self) -> int:
        """Run and compare; the number of results. AssertionError names the result that is wrong."""
        results = self.run()
        if results.keys() != self.wants.keys():
            raise AssertionError(f"got the results {sorted(results)}, want {sorted(self.wants)}")
        for name, want in self.wants.items():
            try:
                want.check(results[name])
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from None
        return len(results)


def twin(function: str, *arrays: Any, terms: Any = None, scale: Any = None, ulps: float = 4.0, **words: Any) -> Trial:
    """`fastcnn.ops.function(*arrays, **words)` against the function of that name in the reference.

    Of a function with several results, `terms` and `scale` are tuples with an entry for each.
    """
    values = results_of(reference, function, *arrays, **words)
    terms, scale = (x if isinstance(x, tuple) else (x,) * len(values) for x in (terms, scale))
    wants = {name: Want(value, t, s, ulps) for (name, value), t, s in zip(values.items(), terms, scale, strict=True)}
    return Trial(lambda: results_of(ops, function, *arrays, **words), wants)


def results_of(module: Any, function: str, *arrays: Any, **words: Any) -> dict[str, np.ndarray]:
    """What a function of `fastcnn.ops` or `fastcnn.reference` returns, by name."""
    result = getattr(module, function)(*arrays, **words)
    return {f"{function}[{i}]": a for i, a in enumerate(result)} if isinstance(result, tuple) else {function: result}


def linear(rng: np.random.Generator, function: str, shapes: Sequence[Sequence[int]], terms: int,
           **words: Any) -> Iterator[Trial]:
    """`twin` of a function linear in each array: on integers; on reals."""
    yield twin(function, *(small_ints(rng, shape) for shape in shapes), **words)
    yield close(rng, function, shapes, terms, **words)


def close(rng: np.random.Generator, function: str, shapes: Sequence[Sequence[int]], terms: int, **words: Any) -> Trial:
    """`twin` of a function linear in each array on reals, whose magnitudes give the scale of errors."""
    arrays = [normal(rng, shape) for shape in shapes]
    scale = getattr(reference, function)(*map(np.abs, arrays), **words)
    return twin(function, *arrays, terms=terms, scale=scale, **words)


SENSITIVITY = 30.0


def sensitive(value: ArrayLike, moved: Sequence[ArrayLike], magnitude: float, ulps: float) -> Want:
    """Within `ulps` of `magnitude`, that of what is summed, and SENSITIVITY times what rounded data change.

    `moved` are results from data that were `rounded`.
    """
    change = max(np.abs(np.asarray(m) - value).max(initial=0.0) for m in moved)
    return Want(value, 1, magnitude + SENSITIVITY * change / (ulps * EPS32), ulps)


def rounded(values: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """As far from `values` as a rounding to float32 may take them."""
    values = np.asarray(values, np.float64)
    return values * (1 + EPS32 * rng.uniform(-1, 1, values.shape))


# ---- draws


def normal(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """Normal float32 numbers."""
    return (scale * rng.standard_normal(tuple(shape))).astype(np.float32)


def choose(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
    """One of `choices`, as it is: no NumPy number or array."""
    return choices[int(rng.integers(len(choices)))]


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(rng.integers(low, high + 1))


def channels(rng: np.random.Generator, most: int = 70) -> int:
    """A count of channels: two in three times an awkward one."""
    awkward = [c for c in AWKWARD if c <= most]
    return choose(rng, awkward) if rng.random() < 2 / 3 else whole(rng, 1, most)


def halo(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns around each image of a tensor: none every second time."""
    if rng.random() < 0.5:
        return (0, 0), (0, 0)
    top, bottom, left, right = (whole(rng, 0, 2) for _ in range(4))
    return (top, bottom), (left, right)


@dataclass(frozen=True)
class Window:
    """A kernel or pool over `size`, with an entry for each axis, in the words of `fastcnn.ops`."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]


def window(rng: np.random.Generator, rank: int, most: int, kernel: int, pool: bool = False) -> Window:
    """Any window: larger than the image, strides beyond it, padding of every kind.

    Sizes go up to `most`, kernels to `kernel`. Of a `pool` no side's padding reaches the window's size, so that no
    window lies in padding alone, and there is no dilation.
    """
    size, taps = rng.integers(1, most + 1, rank), rng.integers(1, kernel + 1, rank)
    strides = rng.choice([1, 1, 1, 2, 2, 3, 4], rank)
    dilation = np.ones(rank, int) if pool else rng.choice([1, 1, 1, 2, 3], rank)
    extent = (taps - 1) * dilation + 1
    kind = choose(rng, ["valid", "same", "int", "axes", "sides"] + ["causal"] * (rank == 1 and not pool))
    if kind == "valid":
        size = np.maximum(size, extent)
    least = -(-np.maximum(extent - size, 0) // 2)
    pads = least[:, None] + rng.integers(0, 4, (rank, 2))
    if pool:
        pads = np.maximum(np.minimum(pads, taps[:, None] - 1), least[:, None])
    padding: Any = kind
    if kind == "int":
        padding = int(pads.min() if pool else pads.max())
        size = np.maximum(size, extent - 2 * padding)
    elif kind in ("axes", "sides"):
        padding = [(a, a) if kind == "axes" else (a, b) for a, b in pads.tolist()]
        padding = tuple(a for a, _ in padding) if kind == "axes" else tuple(padding)
        padding = padding[0] if rank == 1 else padding
    return Window(*(tuple(map(int, a)) for a in (size, taps, strides)), padding, tuple(map(int, dilation)))
