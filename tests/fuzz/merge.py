"""Merging branches that broadcast, and joining them along an axis, between frames of NaN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _merge
from fastcnn.kernels._executor import run_op
from tests.check import Framed, small_ints
from tests.fuzz.trial import BATCHES, Trial, Want, channels, choose, halo, whole

KINDS = ("add", "subtract", "multiply", "average", "maximum", "minimum")


@dataclass(frozen=True)
class Case:
    """Inputs of n samples of `shapes`, which broadcast; `sizes` are those of what is joined along `axis`."""

    n: int
    shapes: tuple[tuple[int, int, int], ...]
    axis: int
    sizes: tuple[int, ...]
    halos: tuple

    @property
    def whole(self) -> tuple[int, ...]:
        return self.n, *map(max, *self.shapes)


def draw(rng: np.random.Generator) -> Case:
    full, count = (whole(rng, 1, 7), whole(rng, 1, 7), channels(rng)), whole(rng, 2, 4)
    narrow = [tuple(1 if rng.random() < 0.2 else size for size in full) for _ in range(count - 1)]
    shapes = [full, *narrow]
    rng.shuffle(shapes)
    axis = whole(rng, 1, 3)
    sizes = tuple(channels(rng) if axis == 3 else whole(rng, 1, 5) for _ in range(whole(rng, 2, 4)))
    return Case(choose(rng, BATCHES), tuple(shapes), axis, sizes, (halo(rng), halo(rng)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    for kind in KINDS:
        inputs = [small_ints(rng, (case.n, *shape), 2) for shape in case.shapes]
        yield merged(case, kind, inputs[:2] if kind == "subtract" else inputs, rng)
    yield joined(case, rng)


def merged(case: Case, kind: str, inputs: list[np.ndarray], rng: np.random.Generator) -> Trial:
    """The result, with the clamp that a sum takes over, and the gradient of each input.

    Of integers, equal to the bit but for means: there the reciprocal of the count is rounded.
    """
    shape = np.broadcast_shapes(*(x.shape for x in inputs))
    dy = small_ints(rng, shape, 2)
    clamp = choose(rng, [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]) if kind == "add" else (-np.inf, np.inf)
    want = reference.merge(kind, inputs)
    close = (1, 3.0) if kind == "average" else ()
    sums = (1, 3.0 * dy.size) if kind == "average" else ()
    wants = {kind: Want(np.clip(want, *clamp), *close)}
    wants |= {f"{kind}_grad {i}": Want(dx, *sums) for i, dx in enumerate(reference.merge_grad(kind, dy, inputs))}

    def run():
        own, other = case.halos
        tensors = [Framed(x.shape, x, own).tensor for x in inputs]
        y, given = Framed(shape, halo=other), Framed(shape, dy, own)
        run_op(_merge.Merge(kind, tensors, y.tensor, clamp))
        results, unclamped = {kind: y.result()}, Framed(shape, want, other).tensor
        for i, x in enumerate(inputs):
            dx = Framed(x.shape, halo=other)
            run_op(_merge.MergeGrad(kind, given.tensor, tensors, unclamped, i, dx.tensor))
            results[f"{kind}_grad {i}"] = dx.result()
        return results

    return Trial(run, wants)


def joined(case: Case, rng: np.random.Generator) -> Trial:
    """Pieces pasted side by side, and cut out again."""
    shape = list(case.whole)
    pieces = []
    for size in case.sizes:
        shape[case.axis] = size
        pieces.append(small_ints(rng, shape))
    y = np.concatenate(pieces, case.axis)
    starts = np.cumsum([0, *case.sizes])[:-1]

    def run():
        own, other = case.halos
        joint, results = Framed(y.shape, halo=own), {}
        places = [[0] * (case.axis - 1) + [int(start)] + [0] * (3 - case.axis) for start in starts]
        for piece, at in zip(pieces, places, strict=True):
            run_op(_merge.Paste(Framed(piece.shape, piece, other).tensor, joint.tensor, at))
        for i, (piece, at) in enumerate(zip(pieces, places, strict=True)):
            part = Framed(piece.shape, halo=other)
            run_op(_merge.Cut(joint.tensor, part.tensor, at))
            results[f"cut {i}"] = part.result()
        return {"concatenate": joint.result(), **results}

    return Trial(run, {"concatenate": Want(y), **{f"cut {i}": Want(piece) for i, piece in enumerate(pieces)}})
