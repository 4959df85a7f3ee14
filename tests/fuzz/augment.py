"""Affine transforms of images, the kernel of all geometric augmentation, between frames of NaN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _augment
from fastcnn.kernels._executor import run_op
from tests.check import Framed, small_ints
from tests.fuzz.trial import BATCHES, Trial, Want, channels, choose, halo, normal, whole


@dataclass(frozen=True)
class Case:
    """x (n, *size, c) read at positions within some sizes of it, for an output of other `pixels`."""

    n: int
    size: tuple[int, int]
    c: int
    pixels: tuple[int, int]
    fill: str
    value: float
    halos: tuple


def draw(rng: np.random.Generator) -> Case:
    size, pixels = ((whole(rng, 1, 20), whole(rng, 1, 20)) for _ in range(2))
    return Case(choose(rng, BATCHES), size, channels(rng, 20), pixels, choose(rng, tuple(_augment.FILL_MODES)),
                choose(rng, (0.0, 9.0)), (halo(rng), halo(rng)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    """Positions in halves of a pixel are exact; at others only bilinear interpolation has no jumps."""
    x = small_ints(rng, (case.n, *case.size, case.c))
    halves = [whole(rng, -60, 60) / 2, *(whole(rng, -5, 5) / 2 for _ in range(2)),
              whole(rng, -60, 60) / 2, *(whole(rng, -5, 5) / 2 for _ in range(2))]
    for interpolation in _augment.INTERPOLATIONS:
        yield transformed(case, x, halves, interpolation)
    matrix = [float(np.float32(a)) for a in normal(rng, (6,), 2.0) * (5, 1, 1, 5, 1, 1)]
    yield transformed(case, normal(rng, x.shape), matrix, "bilinear", reach(case, matrix))


def reach(case: Case, matrix: list[float]) -> float:
    """The largest number that a position is summed from: as many roundings move the result."""
    rows, columns = case.pixels
    return 1 + max(abs(a) + abs(b) * rows + abs(c) * columns for a, b, c in (matrix[:3], matrix[3:]))


def transformed(case: Case, x: np.ndarray, matrix: list[float], interpolation: str, size: float = 0) -> Trial:
    """Exact, or where positions are rounded numbers of up to `size`, as close as these."""
    words = case.fill, interpolation, case.value
    want = reference.affine_transform(x, matrix, case.pixels, *words)
    bound = (1, 8 * size * np.abs(x).max(initial=case.value)) if size else ()

    def run():
        own, other = case.halos
        y = Framed(want.shape, halo=other)
        run_op(_augment.Affine(Framed(x.shape, x, own).tensor, y.tensor, matrix, *words))
        return {f"{interpolation} {case.fill}": y.result()}

    return Trial(run, {f"{interpolation} {case.fill}": Want(want, *bound)})
