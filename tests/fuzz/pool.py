"""Pooling of images, sequences and volumes: maximum, minimum and mean of windows and of all pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers, reference
from tests.check import small_ints
from tests.fuzz.step import exact_step, sensitive_step, set_weights
from tests.fuzz.trial import BATCHES, Trial, Window, channels, choose, close, twin, window

SIZES = {1: (30, 9), 2: (12, 5), 3: (6, 3)}  # of images and windows, at most


@dataclass(frozen=True)
class Case:
    """A window of each rank over samples of n batches and c channels; `nan` is the share of NaN among the pixels."""

    n: int
    c: int
    nan: float
    windows: tuple[Window, Window, Window]


def draw(rng: np.random.Generator) -> Case:
    windows = tuple(window(rng, rank, *most, pool=True) for rank, most in SIZES.items())
    return Case(choose(rng, BATCHES), channels(rng, 40), choose(rng, (0.0, 0.0, 0.0, 0.1)), windows)


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    for over in case.windows:
        yield from windows(case, over, rng)
        yield from whole_samples(case, over, rng)


def windows(case: Case, over: Window, rng: np.random.Generator) -> Iterator[Trial]:
    """Maxima and minima are values of x, so they and their gradients are exact, and equal values are frequent.

    Means are of real data: they are divided by counts.
    """
    rank, shape = len(over.size), (case.n, *over.size, case.c)
    words: dict[str, Any] = {"pool_size": over.kernel, "strides": over.strides, "padding": over.padding}
    x = small_ints(rng, shape)
    dy = small_ints(rng, getattr(reference, f"avg_pool{rank}d")(x, **words).shape)
    spoilt = np.where(rng.random(shape) < case.nan, np.float32(np.nan), x)
    for kind in ("max", "min")[: 2 if rank == 2 else 1]:
        yield twin(f"{kind}_pool{rank}d", spoilt, **words)
        yield twin(f"{kind}_pool{rank}d_grad", dy, spoilt, **words)
        if rank == 2:
            yield twin(f"{kind}_pool2d", spoilt, **words, return_indices=True)
    for pads in [{"count_include_pad": flag} for flag in (False, True)] if rank == 2 else [{}]:
        terms = prod(over.kernel)
        yield close(rng, f"avg_pool{rank}d", [shape], terms, **words, **pads)
        yield close(rng, f"avg_pool{rank}d_grad", [dy.shape], terms, input_shape=shape, **words, **pads)


def whole_samples(case: Case, over: Window, rng: np.random.Generator) -> Iterator[Trial]:
    """Global pooling, as functions of images, and as layers behind one that needs their gradients."""
    rank, shape, pixels = len(over.size), (case.n, *over.size, case.c), prod(over.size)
    if rank == 2:
        x, dy = small_ints(rng, shape), small_ints(rng, (case.n, case.c))
        yield twin("global_max_pool2d", x, keepdims=choose(rng, (False, True)))
        yield twin("global_max_pool2d_grad", dy, x)
        yield close(rng, "global_avg_pool2d", [shape], pixels)
        yield close(rng, "global_avg_pool2d_grad", [dy.shape], 1, input_shape=shape)
    n = max(1, case.n)
    for name in ("Max", "Average"):
        kind = getattr(layers, f"Global{name}Pooling{rank}D")
        model = fc.Sequential([fc.Input(shape[1:]), layers.Dense(case.c, use_bias=False), kind()])
        set_weights(model, lambda shape: np.eye(*shape))
        arrays = [small_ints(rng, (n, *shape[1:]))], [small_ints(rng, (n, case.c))]
        if name == "Max":
            yield exact_step(model, *arrays)
        else:
            magnitudes = {"output 0": 7.0, "kernel": 7.0 * (n / pixels) ** 0.5}
            yield sensitive_step(model, *arrays, magnitudes, 4.0, rng)
