"""Sequences, causal ones among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.fuzz.convolution import grouped, trials_of
from tests.fuzz.trial import BATCHES, Trial, Window, choose, window


@dataclass(frozen=True)
class Case:
    """x (n, *window.size, ic), w (*window.kernel, ic // groups, oc), of any number of axes."""

    n: int
    ic: int
    oc: int
    groups: int
    window: Window

    def trials(self, function: str, rng: np.random.Generator) -> Iterator[Trial]:
        """The three passes of `function`."""
        over, rank = self.window, len(self.window.size)
        strides, dilation = (over.strides[0], over.dilation[0]) if rank == 1 else (over.strides, over.dilation)
        words = {"strides": strides, "padding": over.padding, "dilation": dilation, "groups": self.groups}
        w_shape = (*over.kernel, self.ic // self.groups, self.oc)
        return trials_of(function, rng, (self.n, *over.size, self.ic), w_shape, words, ("direct", "im2col"))


def draw(rng: np.random.Generator) -> Case:
    return Case(choose(rng, BATCHES), *grouped(rng, 70), window(rng, 1, 40, 7))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    return case.trials("conv1d", rng)
