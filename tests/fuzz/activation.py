"""Activations by name, those with a parameter, PReLU, and the softmaxes along any axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _merge
from fastcnn.kernels._executor import Program, Stage, run_op
from fastcnn.plan.operations import NO_HALO
from tests.check import EPS32, TINY32, Framed, small_ints
from tests.fuzz.trial import BATCHES, Trial, Want, channels, choose, halo, normal, twin, whole

EXACT = ("linear", "relu", "relu6")


@dataclass(frozen=True)
class Case:
    """x of `shape`, with values of about `size`; `shared` axes of PReLU's slopes; images in a group of its sums."""

    shape: tuple[int, ...]
    size: float
    parameter: float
    axis: int
    shared: tuple[bool, bool, bool]
    group: int
    halos: tuple


def draw(rng: np.random.Generator) -> Case:
    shape = (choose(rng, BATCHES), *(whole(rng, 1, 6) for _ in range(whole(rng, 0, 3))), channels(rng))
    shared = tuple(bool(rng.random() < 0.3) for _ in range(3))
    return Case(shape, choose(rng, (0.3, 3.0, 20.0)), choose(rng, (0.0, 0.25, 1.5)),
                whole(rng, -len(shape) + 1, -1), shared, whole(rng, 1, 3), (halo(rng), halo(rng)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    for name in reference.ACTIVATIONS:
        if "softmax" not in name:
            yield from by_name(case, name, rng)
    for name in ("leaky_relu", "elu"):
        x = values(case, rng)
        want = getattr(reference, name)(x, case.parameter)
        yield twin(name, x, case.parameter, terms=1, scale=np.abs(want))
    for name in ("softmax", "log_softmax"):
        yield from along(case, name, rng)
    yield prelu(case, rng)


def values(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Nothing beyond 80: further out, exponentials are no normal float32 numbers."""
    return np.clip(normal(rng, case.shape, case.size), -80, 80)


def by_name(case: Case, name: str, rng: np.random.Generator) -> Iterator[Trial]:
    """Of integers to the bit where there is no rounding; else 4 units in the last place, and 16 of the slope.

    The density in gelu is that of a rounded x * x. Results below the smallest normal number are zero.
    """
    exact = name in EXACT
    x, dy = (small_ints(rng, case.shape), small_ints(rng, case.shape)) if exact else (
        values(case, rng), normal(rng, case.shape))
    if exact:
        yield twin("activation", x, name=name)
        yield twin("activation_grad", dy, x, name=name)
        return
    y, slope = reference.activation(x, name), reference.activation_grad(np.ones_like(x), x, name)
    density = 1 + np.float64(x) ** 2 / 4 if name == "gelu" else 1.0
    tiny = TINY32 / EPS32 * (1 + np.abs(x))
    yield twin("activation", x, name=name, terms=1, scale=np.abs(y) * density + tiny)
    yield twin("activation_grad", dy, x, name=name, terms=1, ulps=16.0, scale=np.abs(dy) * (1 + np.abs(slope)))


def along(case: Case, name: str, rng: np.random.Generator) -> Iterator[Trial]:
    """The exponentials are of differences that carry the rounding of x; those too small to be normal are zero."""
    x, dy = values(case, rng), normal(rng, case.shape)
    size, terms = 1 + 2 * np.abs(x).max(initial=0.0), x.shape[case.axis]
    p, magnitude = reference.softmax(x, case.axis) + TINY32 / EPS32, np.abs(dy)
    if name == "softmax":
        scales = p, p * (magnitude + (p * magnitude).sum(case.axis, keepdims=True))
    else:
        scales = np.ones_like(p), magnitude + p * magnitude.sum(case.axis, keepdims=True)
    yield twin(name, x, axis=case.axis, terms=terms, scale=size * scales[0])
    yield twin(f"{name}_grad", dy, x, axis=case.axis, terms=terms, scale=size * scales[1])


def prelu(case: Case, rng: np.random.Generator) -> Trial:
    """Slopes that broadcast to images; their gradient is summed over groups of images."""
    n, *outer, c = case.shape
    shape = n, *(outer[:2] + [1, 1])[:2], c
    x, dy = small_ints(rng, shape), small_ints(rng, shape)
    alpha = small_ints(rng, [1 if shared else size for shared, size in zip(case.shared, shape[1:], strict=True)])
    dx, _ = reference.prelu_grad(dy, x, alpha)
    parts = [slice(start, start + case.group) for start in range(0, n, case.group)]
    sums = [reference.prelu_grad(dy[part], x[part], alpha)[1].reshape(-1) for part in parts]
    wants = {"prelu": Want(reference.prelu(x, alpha)), "dx": Want(dx),
             "dalpha": Want(np.reshape(sums, (len(parts), alpha.size)))}

    def run():
        own, other = case.halos
        given, errors = Framed(shape, x, own).tensor, Framed(shape, dy, other).tensor
        slopes = Framed((1, *alpha.shape), alpha, NO_HALO).tensor
        y, back = Framed(shape, halo=other), Framed(shape, halo=own)
        dalpha = np.full((len(parts), alpha.size), np.nan, np.float32)
        run_op(_merge.PRelu(given, slopes, y.tensor))
        run_op(_merge.PReluGrad(errors, given, slopes, back.tensor))
        if parts:
            Program([Stage([_merge.PReluSlopeGrad(errors, given, slopes, dalpha)], n, case.group, 1)]).run()
        return {"prelu": y.result(), "dx": back.result(), "dalpha": dalpha}

    return Trial(run, wants)
