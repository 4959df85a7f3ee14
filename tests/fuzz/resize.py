"""Upsampling, padding, cropping and permuting images, between frames of NaN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _eltwise, _resize
from fastcnn.kernels._executor import run_op
from fastcnn.kernels._op import Op
from tests.check import Framed, small_ints
from tests.fuzz.trial import BATCHES, Trial, Want, channels, choose, halo, normal, whole


@dataclass(frozen=True)
class Case:
    """x `shape`; times it is enlarged; pixels padded or cut off at each side; order of its axes."""

    shape: tuple[int, int, int, int]
    times: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    order: tuple[int, int, int]
    halos: tuple


def draw(rng: np.random.Generator) -> Case:
    pads = tuple((whole(rng, 0, 3), whole(rng, 0, 3)) for _ in range(2))
    shape = choose(rng, BATCHES), whole(rng, 1, 9), whole(rng, 1, 9), channels(rng)
    order = tuple(map(int, rng.permutation(3)))
    return Case(shape, (whole(rng, 1, 5), whole(rng, 1, 5)), pads, order, (halo(rng), halo(rng)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    x = small_ints(rng, case.shape)
    for interpolation in _resize.INTERPOLATIONS:
        yield from upsampled(case, interpolation, rng)
    yield one(case, "pad", lambda a, b: _eltwise.ZeroPad(a, b, case.pads), x, np.pad(x, ((0, 0), *case.pads, (0, 0))))
    padded = small_ints(rng, np.pad(x, ((0, 0), *case.pads, (0, 0))).shape)
    (top, _), (left, _) = case.pads
    inside = padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    yield one(case, "crop", lambda a, b: _eltwise.Crop(a, b, case.pads), padded, inside)
    turned = x.transpose(0, *(axis + 1 for axis in case.order))
    yield one(case, "permute", lambda a, b: _resize.Permute(a, b, case.order), x, turned)


def one(case: Case, name: str, make, x: np.ndarray, want: np.ndarray, *bound) -> Trial:
    """The op `make(x, y)`, whose y must be `want`."""
    def run():
        own, other = case.halos
        y = Framed(want.shape, halo=other)
        op: Op = make(Framed(x.shape, x, own).tensor, y.tensor)
        run_op(op)
        return {name: y.result()}

    return Trial(run, {name: Want(want, *bound)})


def upsampled(case: Case, interpolation: str, rng: np.random.Generator) -> Iterator[Trial]:
    """Both ways: exact on integers where the weights are sums of powers of two."""
    words = case.times, interpolation
    exact = interpolation == "nearest" or all(times in (1, 2, 4) for times in case.times)
    draw = small_ints if exact else normal
    x = draw(rng, case.shape)
    y = reference.upsample2d(x, *words)
    dy = draw(rng, y.shape)
    bounds = [() if exact else (terms, scale) for terms, scale in (
        (4, reference.upsample2d(np.abs(x), *words)),
        (4 * case.times[0] * case.times[1], reference.upsample2d_grad(np.abs(dy), *words)))]
    yield one(case, interpolation, lambda a, b: _resize.Upsample(a, b, *words), x, y, *bounds[0])
    yield one(case, f"{interpolation}_grad", lambda a, b: _resize.UpsampleGrad(a, b, *words), dy,
              reference.upsample2d_grad(dy, *words), *bounds[1])
