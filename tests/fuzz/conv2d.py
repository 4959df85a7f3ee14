"""Images: direct and im2col on any case, Winograd's algorithm on the 3 x 3 case nearest to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bench.shapes import ConvCase, random_case
from fastcnn import ops, reference
from tests.fuzz.convolution import passes, trials_of
from tests.fuzz.trial import Trial, Want, normal

ALGORITHMS = ("direct", "im2col")
# Errors of Winograd's algorithm, in units in the last place of the largest sum of magnitudes.
WINOGRAD_ULPS = 32

draw = random_case


def trials(case: ConvCase, rng: np.random.Generator) -> Iterator[Trial]:
    yield from trials_of("conv2d", rng, case.input_shape, case.weight_shape, case.keywords, ALGORITHMS)
    yield winograd(winograd_case(case), rng)


def winograd_case(case: ConvCase) -> ConvCase:
    """The nearest case that Winograd's algorithm can serve."""
    return replace(case, ih=max(3, case.ih), iw=max(3, case.iw), kh=3, kw=3, strides=(1, 1), dilation=(1, 1), groups=1)


def winograd(case: ConvCase, rng: np.random.Generator) -> Trial:
    """Its three passes on real data."""
    shapes = case.input_shape, case.weight_shape, (case.oc,), case.output_shape
    arrays = [normal(rng, shape) for shape in shapes]
    scales = dict(passes(reference, "conv2d", *map(np.abs, arrays), **case.keywords))
    wants = {name: Want(value, 1, np.max(scales[name], initial=0.0), WINOGRAD_ULPS)
             for name, value in passes(reference, "conv2d", *arrays, **case.keywords)}
    return Trial(lambda: dict(passes(ops, "conv2d", *arrays, **case.keywords, algorithm="winograd")), wants)
