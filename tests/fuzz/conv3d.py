"""Volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.fuzz.conv1d import Case
from tests.fuzz.convolution import grouped
from tests.fuzz.trial import BATCHES, Trial, choose, window


def draw(rng: np.random.Generator) -> Case:
    return Case(choose(rng, BATCHES), *grouped(rng, 33, groups=3), window(rng, 3, 7, 3))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    return case.trials("conv3d", rng)
