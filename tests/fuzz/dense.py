"""Dense layers, along the last axis of an array of any number of axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from tests.check import small_ints
from tests.fuzz.trial import BATCHES, Trial, channels, choose, linear, twin, whole


@dataclass(frozen=True)
class Case:
    """x (*samples, inputs), w (inputs, units)."""

    samples: tuple[int, ...]
    inputs: int
    units: int


def draw(rng: np.random.Generator) -> Case:
    axes = choose(rng, (1, 1, 1, 2, 3))
    samples = (choose(rng, (*BATCHES, 8, 17, 40)), *(whole(rng, 1, 5) for _ in range(axes - 1)))
    return Case(samples, *(channels(rng, choose(rng, (40, 300, 1100))) for _ in range(2)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    x, w, dy = (*case.samples, case.inputs), (case.inputs, case.units), (*case.samples, case.units)
    yield from linear(rng, "dense", [x, w, w[1:]], case.inputs + 1)
    yield from linear(rng, "dense_input_grad", [dy, w], case.units)
    yield from linear(rng, "dense_weight_grad", [x, dy], prod(case.samples))
    yield twin("dense", small_ints(rng, x), small_ints(rng, w))
