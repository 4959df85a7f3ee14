"""Losses: the kernels between frames of NaN; the objects, with their weights and ignored class.

Errors. A softmax of logits of magnitude x carries 2 * |x| roundings into its exponentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn import losses, reference
from fastcnn.kernels import _loss
from fastcnn.kernels._executor import Program, Stage
from tests.check import Framed, guarded
from tests.fuzz.trial import Trial, Want, channels, choose, halo, normal, whole

TEXTBOOK_ULPS = 1e-5 / np.finfo(np.float32).eps  # float64 results by another formula, gradients by differences


@dataclass(frozen=True)
class Case:
    """Logits (*rows, classes) of about `size`; `ignored` is a label that does not count, for this share of the rows."""

    rows: tuple[int, int, int]
    classes: int
    size: float
    smoothing: float
    weighted: bool
    ignored: int | None
    share: float
    group: int
    halos: tuple
    delta: float
    axis: Any


def draw(rng: np.random.Generator) -> Case:
    rows = choose(rng, (0, 1, 2, 3, 9)), *(choose(rng, ((1, 1), (1, 1), (whole(rng, 1, 5), whole(rng, 1, 5)))))
    classes = channels(rng, 100)
    ignored = choose(rng, [None, None, 255, -1, whole(rng, 0, classes - 1)])
    return Case(rows, classes, choose(rng, (0.5, 3.0, 12.0)), choose(rng, (0.0, 0.0, 0.125)), bool(rng.random() < 0.5),
                ignored, choose(rng, (0.0, 0.3, 1.0)), whole(rng, 1, 4), (halo(rng), halo(rng)),
                choose(rng, (0.3, 1.0, 2.0)), choose(rng, [None, (1, 2), (1, 2, 3), (3,)]))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    x = normal(rng, (*case.rows, case.classes), case.size)
    yield from cross_entropies(case, x, rng)
    yield from means(case, x, rng)
    if x.size:
        yield from objects(case, x, rng)


def weights_of(case: Case, rng: np.random.Generator) -> np.ndarray | None:
    return rng.uniform(0, 2, case.rows).astype(np.float32) if case.weighted else None


def labels_of(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Class numbers, some of them the one that is ignored."""
    labels = rng.integers(0, case.classes, case.rows).astype(np.int32)
    if case.ignored is not None:
        labels[rng.random(case.rows) < case.share] = case.ignored
    return labels


def shares(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities of classes."""
    t = rng.uniform(0, 1, shape)
    return (t / t.sum(-1, keepdims=True)).astype(np.float32)


# ---- kernels


def cross_entropies(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """Softmax cross-entropy with labels, one-hot rows and any shares."""
    labels, weights = labels_of(case, rng), weights_of(case, rng)
    counts = np.ones(case.rows) if case.ignored is None else (labels != case.ignored).astype(float)
    known, t = np.where(counts > 0, labels, 0), shares(rng, x.shape)
    one_hot = np.eye(case.classes, dtype=np.float32)[known]
    size, p = 1 + 2 * np.abs(x).max(initial=0.0), reference.softmax(x)
    for words, target, right, counted in (
        ({"labels": labels, "ignored": case.ignored}, known, known, counts),
        ({"targets": one_hot}, known, known, np.ones(case.rows)),
        ({"targets": t}, t, t.argmax(-1), np.ones(case.rows)),
    ):
        loss, dx = reference.softmax_cross_entropy(x, target, case.smoothing)
        share = counted if weights is None else counted * weights
        wants = {
            "loss": Want(loss * share, case.classes, size * share),
            "dx": Want(dx * max(1, loss.size) * share[..., None], case.classes, size * share[..., None]),
            "p": Want(p, case.classes, size * p),
            "correct": Want((x.argmax(-1) == right) * counted),
        }
        words = {**words, "weights": weights, "label_smoothing": case.smoothing}
        yield kernel(case, _loss.SoftmaxCrossEntropy, x, words, wants)


def means(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """The losses that are means over the classes."""
    weights, (n, c) = weights_of(case, rng), (max(1, x[..., 0].size), case.classes)
    share = np.ones(case.rows) if weights is None else weights
    bits, targets = rng.integers(0, 2, x.shape).astype(np.float32), normal(rng, x.shape, case.size)
    loss, dx = reference.sigmoid_binary_cross_entropy(x, bits, case.smoothing)
    magnitude = (np.abs(x) + 1).mean(-1) * share
    wants = {"loss": Want(loss * share, 1, magnitude), "dx": Want(dx * n * share[..., None], 1, share[..., None] / c),
             "p": Want(reference.sigmoid(x), 1, 1.0), "correct": Want(((x > 0) == bits).mean(-1), 1, 1.0)}
    yield kernel(case, _loss.SigmoidBinaryCrossEntropy, x, {
        "targets": bits, "weights": weights, "label_smoothing": case.smoothing}, wants)
    for make, function in ((_loss.MeanSquaredError, reference.mean_squared_error),
                           (_loss.MeanAbsoluteError, reference.mean_absolute_error)):
        loss, dx = function(x, targets)
        sizes = function(np.abs(x), -np.abs(targets))[0] * share
        scale = np.abs(dx).max(initial=0.0) * n * share[..., None]
        wants = {"loss": Want(loss * share, 1, sizes), "dx": Want(dx * n * share[..., None], 1, scale)}
        yield kernel(case, make, x, {"targets": targets, "weights": weights}, wants)


def kernel(case: Case, make: Callable[..., Any], x: np.ndarray, words: dict[str, Any],
           wants: dict[str, Want]) -> Trial:
    """A loss over groups of images; of "p" and "correct" those that are wanted."""
    def run():
        own, other = case.halos
        tensors = {name: Framed(x.shape, halo=other) for name in ("p", "dx") if name in wants}
        rows = {name: guarded(case.rows) for name in ("loss", "correct") if name in wants}
        outputs = {name: framed.tensor for name, framed in tensors.items()}
        if "correct" in rows:
            outputs["correct"] = rows["correct"][0]
        op = make(Framed(x.shape, x, own).tensor, rows["loss"][0], **outputs, **words)
        if op.items:
            Program([Stage([op], op.items, case.group, 1)]).run()
        for _, check in rows.values():
            check()
        return {**{name: framed.result() for name, framed in tensors.items()},
                **{name: array.copy() for name, (array, _) in rows.items()}}

    return Trial(run, wants)


# ---- objects


def objects(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """`fastcnn.losses`, computed in float64: the value by its definition, the slope along a random direction."""
    x = x.astype(np.float64)
    p, t = (shares(rng, x.shape).astype(np.float64) for _ in range(2))
    bits = rng.integers(0, 2, x.shape)
    weights, direction = weights_of(case, rng), rng.standard_normal(x.shape)
    if weights is not None and rng.random() < 0.5:
        weights = weights[:, 0, 0]  # one for each sample
    labels = labels_of(case, rng)
    sparse = losses.SparseCategoricalCrossentropy(True, case.smoothing, case.ignored)
    signs, inner, wide = np.where(bits == 0, -1, 1), 0.1 + 0.8 * p, 0.1 + 0.8 * t
    smooth = np.where(np.abs(np.abs(x - t) - case.delta) < 1e-3, x + 0.01, x)  # off the kinks
    margin = np.where(np.abs(1 - signs * x) < 1e-3, x + 0.01, x)
    table = [
        (sparse, labels, x, sparse_values(case, x, labels)),
        (losses.CategoricalCrossentropy(True, case.smoothing), t, x,
         reference.softmax_cross_entropy(x, t, case.smoothing)[0]),
        (losses.CategoricalCrossentropy(), t, p + 0.01, -(t * np.log(normalised(p + 0.01))).sum(-1)),
        (losses.BinaryCrossentropy(True, case.smoothing), bits, x,
         reference.sigmoid_binary_cross_entropy(x, bits, case.smoothing)[0]),
        (losses.BinaryCrossentropy(), bits, inner, -np.log(np.where(bits, inner, 1 - inner)).mean(-1)),
        (losses.MeanSquaredError(), t, x, ((x - t) ** 2).mean(-1)),
        (losses.MeanAbsoluteError(), x + np.where(bits, 1, -1), x, np.ones(case.rows)),
        (losses.Huber(case.delta), t, smooth, huber(smooth - t, case.delta).mean(-1)),
        (losses.KLDivergence(), wide, inner, (wide * np.log(wide / inner)).sum(-1)),
        (losses.Hinge(), bits, margin, np.maximum(0, 1 - signs * margin).mean(-1)),
    ]
    for loss, y_true, y_pred, values in table:
        share = 1.0 if weights is None else weights.reshape(weights.shape + (1,) * (3 - weights.ndim))
        yield object_trial(loss, y_true, y_pred, weights, direction, (values * share).mean())
    sample = None if weights is None else weights.reshape(case.rows[0], -1)[:, 0]
    yield object_trial(losses.Dice(case.axis), bits, p, sample, direction, dice(bits, p, case.axis, sample))


def normalised(p: np.ndarray) -> np.ndarray:
    return p / p.sum(-1, keepdims=True)


def huber(error: np.ndarray, delta: float) -> np.ndarray:
    """e^2 / 2 up to delta, then the tangent."""
    size = np.abs(error)
    return np.where(size <= delta, size**2 / 2, delta * size - delta**2 / 2)


def sparse_values(case: Case, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Those of positions that count, so scaled that their mean over all is their mean over these."""
    counts = np.ones(case.rows) if case.ignored is None else labels != case.ignored
    loss, _ = reference.softmax_cross_entropy(x, np.where(counts, labels, 0), case.smoothing)
    return loss * counts * (counts.size / max(1, np.count_nonzero(counts)))


def dice(t: np.ndarray, p: np.ndarray, axis: Any, weights: np.ndarray | None) -> float:
    """1 - 2 sum(t p) / sum(t + p) over `axis`; of regions that do not span the batch, weighted by sample."""
    overlap, size = ((a.astype(float)).sum(axis=axis, keepdims=True) for a in (t * p, t + p))
    values = 1 - 2 * overlap / (size + 1e-7)
    share = 1.0 if weights is None else weights.reshape(-1, 1, 1, 1).astype(float)
    return float((np.broadcast_to(values.mean((1, 2, 3), keepdims=True), (len(t), 1, 1, 1)) * share).mean())


def object_trial(loss: losses.Loss, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray | None,
                 direction: np.ndarray, value: float) -> Trial:
    """The value, and the slope against the difference quotient."""
    y_pred, step = np.asarray(y_pred, np.float64), 1e-6
    ends = [loss(y_true, y_pred + sign * step * direction, weights) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)

    def run():
        gradient = (loss.gradient(y_true, y_pred) if weights is None else
                    loss.weighted_gradient(y_true, y_pred, weights))
        return {loss.name: np.float64(loss(y_true, y_pred, weights)), "slope": (gradient * direction).sum()}

    scale = 1 + abs(value)
    return Trial(run, {loss.name: Want(np.float64(value), 1, scale, 0.1 * TEXTBOOK_ULPS),
                       "slope": Want(slope, 1, scale, TEXTBOOK_ULPS)}, kernels=False)
