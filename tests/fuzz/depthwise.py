"""Depthwise convolutions of images and sequences, and separable layers, which mix the channels afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import fastcnn as fc
from fastcnn import layers
from tests.check import small_ints
from tests.fuzz.convolution import trials_of
from tests.fuzz.step import exact_step, set_weights
from tests.fuzz.trial import BATCHES, Trial, Window, channels, choose, whole, window


@dataclass(frozen=True)
class Case:
    """x (n, *window.size, c), w (*window.kernel, c, multiplier), then (c * multiplier, filters)."""

    n: int
    c: int
    multiplier: int
    filters: int
    window: Window


def draw(rng: np.random.Generator) -> Case:
    rank = choose(rng, (1, 2, 2))
    return Case(choose(rng, BATCHES), channels(rng, 40), whole(rng, 1, 3), channels(rng, 33),
                window(rng, rank, 24 // rank, 9 // rank))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    over, rank = case.window, len(case.window.size)
    strides, dilation = (over.strides[0], over.dilation[0]) if rank == 1 else (over.strides, over.dilation)
    words = {"strides": strides, "padding": over.padding, "dilation": dilation, "groups": case.c}
    shape = (case.n, *over.size, case.c)
    yield from trials_of(f"conv{rank}d", rng, shape, (*over.kernel, 1, case.c * case.multiplier), words)
    yield from separable(case, rng)


def separable(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    """Behind a layer whose weights need the gradient of the separable one's input."""
    over, rank = case.window, len(case.window.size)
    kind = layers.SeparableConv1D if rank == 1 else layers.SeparableConv2D
    model = fc.Sequential([
        fc.Input((*over.size, case.c)), layers.Dense(case.c, use_bias=False),
        kind(case.filters, over.kernel, strides=over.strides, padding=over.padding, dilation_rate=over.dilation,
             depth_multiplier=case.multiplier)])
    set_weights(model, lambda shape: small_ints(rng, shape, 1))
    n = max(1, case.n)
    yield exact_step(model, [small_ints(rng, (n, *over.size, case.c), 1)],
                     [small_ints(rng, (n, *model.output_shape[1:]), 1)])
