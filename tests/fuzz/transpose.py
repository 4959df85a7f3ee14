"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import reference
from tests.fuzz.convolution import grouped, trials_of
from tests.fuzz.trial import BATCHES, Trial, choose, whole


@dataclass(frozen=True)
class Case:
    """x (n, *size, ic), w (*kernel, filters // groups, ic)."""

    n: int
    size: tuple[int, int]
    ic: int
    filters: int
    groups: int
    kernel: tuple[int, int]
    words: dict[str, Any]


def draw(rng: np.random.Generator) -> Case:
    """Padding and output padding are drawn until they leave a pixel and lead back to the size of x."""
    ic, filters, groups = grouped(rng, 48)
    size, kernel = ((whole(rng, 1, most), whole(rng, 1, most)) for most in (10, 5))
    strides, dilation = ((choose(rng, steps), choose(rng, steps)) for steps in ((1, 1, 2, 2, 3, 4), (1, 1, 1, 2, 3)))
    while True:
        words = {"strides": strides, "padding": _padding(rng), "dilation": dilation,
                 "output_padding": choose(rng, [None, 0, (whole(rng, 0, 2), whole(rng, 0, 2))])}
        try:
            reference.resolve_transpose_padding(input_size=size, kernel_size=kernel, **words)
        except ValueError:
            continue
        return Case(choose(rng, BATCHES), size, ic, filters, groups, kernel, {**words, "groups": groups})


def _padding(rng: np.random.Generator) -> Any:
    top, bottom, left, right = (whole(rng, 0, 3) for _ in range(4))
    return choose(rng, ["valid", "same", top, (top, left), ((top, bottom), (left, right))])


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    w_shape = (*case.kernel, case.filters // case.groups, case.ic)
    return trials_of("conv2d_transpose", rng, (case.n, *case.size, case.ic), w_shape, case.words)
