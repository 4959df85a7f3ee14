"""Batch, layer and group normalisation: functions; layers with the activation they take over, in all their modes.

Errors. With E = 1 + max|x| / deviation, a normalised value is wrong by some eps32 * E, as x and its mean are rounded
before one is taken from the other; a gradient by as much of what is summed, times |gamma| / deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers, reference
from tests import float64_graph
from tests.fuzz.step import close_step
from tests.fuzz.trial import Trial, Want, channels, choose, normal, twin, whole

ULPS = 16.0


@dataclass(frozen=True)
class Case:
    """x (n, *size, c) of values around `offset`, with statistics over `axis` or of `groups` of channels."""

    n: int
    size: tuple[int, ...]
    c: int
    offset: float
    epsilon: float
    axis: tuple[int, ...]
    groups: int
    momentum: float
    max_value: float | None
    center: bool
    scale: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.n, *self.size, self.c

    @property
    def last(self) -> tuple[int, ...]:
        """As many axes as `axis` has, but the last ones: the layer takes no others."""
        rank = len(self.shape)
        return tuple(range(rank - len(self.axis), rank))


def draw(rng: np.random.Generator) -> Case:
    rank, c = choose(rng, (0, 1, 2, 2, 2, 3)), channels(rng)
    size = tuple(whole(rng, 1, 9) for _ in range(rank))
    axes = rng.permutation(np.arange(1, rank + 2))[: whole(rng, 1, rank + 1)]
    return Case(choose(rng, (1, 2, 3, 5, 17)), size, c, choose(rng, (0.0, 1.0, -30.0)), choose(rng, (1e-3, 1e-5, 0.1)),
                tuple(sorted(map(int, axes))), choose(rng, [g for g in range(1, c + 1) if c % g == 0]),
                choose(rng, (0.99, 0.5)), choose(rng, (None, 6)), *(bool(rng.random() < 0.8) for _ in range(2)))


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    x = (normal(rng, case.shape) + normal(rng, (case.c,)) + case.offset).astype(np.float32)
    yield from functions(case, x, rng)
    if len(case.size) == 2:
        yield from layers_between(case, x, rng)


def errors(x: np.ndarray, axes: tuple[int, ...], epsilon: float, given: Any = None) -> tuple[float, float]:
    """(largest error of a normalised value in eps32, largest 1 / deviation)."""
    variance = reference.moments(x, axes)[1] if given is None else given
    inverse = float(np.max(1 / np.sqrt(variance + epsilon)))
    return 1 + np.abs(x).max() * inverse, inverse


def functions(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """Of `fastcnn.ops`, and their gradients."""
    dy, statistics = normal(rng, x.shape), {"mean": normal(rng, (case.c,)), "variance": rng.random(case.c) + 0.1}
    before = tuple(range(x.ndim - 1))
    sizes = [x.shape[a] for a in case.axis]
    groups = x.reshape(case.n, prod(case.size), case.groups, -1)
    for name, words, shape, error in (
        ("batch_norm", {}, case.c, errors(x, before, case.epsilon)),
        ("batch_norm", statistics, case.c, errors(x, before, case.epsilon, statistics["variance"])),
        ("layer_norm", {"axis": case.axis}, sizes, errors(x, case.axis, case.epsilon)),
        ("group_norm", {"groups": case.groups}, case.c, errors(groups, (1, 3), case.epsilon)),
    ):
        gamma, beta = (normal(rng, np.atleast_1d(shape)) for _ in range(2))
        words = {**words, "epsilon": case.epsilon}
        error, inverse = error
        yield twin(name, x, gamma, beta, **words, terms=1, ulps=ULPS, scale=np.abs(gamma).max() * error + 4)
        values = np.abs(getattr(reference, name)(x, 1.0, 0.0, **words)).max()
        total = np.abs(dy).sum()
        slope = inverse * np.abs(gamma).max() * np.abs(dy).max() * (1 + values) * error
        yield twin(f"{name}_grad", dy, x, gamma, **words, terms=1, ulps=ULPS, scale=(slope, total * error, total))


def layers_between(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """Each layer between a dense one, whose weights need the gradient of its input, and a clamp."""
    words = {"epsilon": case.epsilon, "center": case.center, "scale": case.scale}
    for layer in (layers.BatchNormalization(momentum=case.momentum, **words), layers.BatchNormalization(**words),
                  layers.LayerNormalization(case.last, **words), layers.GroupNormalization(case.groups, **words)):
        first = layers.Dense(case.c, use_bias=False)
        model = fc.Sequential([fc.Input(case.shape[1:]), first, layer, layers.ReLU(case.max_value)])
        for variable in model.weights:
            variance = "variance" in variable.name
            variable.assign(rng.random(variable.shape) + 0.5 if variance else normal(rng, variable.shape))
        first.kernel.assign(np.eye(case.c))
        yield training(case, model, layer, x, rng)
        if isinstance(layer, layers.BatchNormalization):
            yield inference(model, layer, x)
            layer.trainable = False
            yield training(case, model, layer, x, rng)


def training(case: Case, model: fc.Model, layer: Any, x: np.ndarray, rng: np.random.Generator) -> Trial:
    """One step. No gradient enters where rounding could decide on which side of a kink a value lies."""
    known, _ = float64_graph.run(model, [x], {v: v.numpy() for v in model.weights})
    z = known[model.graph.nodes[-2].outputs[0]]
    near = np.minimum(np.abs(z), np.abs(z - (case.max_value or 0))) < 1e-3 * (1 + np.abs(z).max())
    dy = np.where(near, 0, normal(rng, x.shape)).astype(np.float32)
    error, inverse = layer_errors(case, layer, x)
    gamma = 1.0 if layer.gamma is None else np.abs(layer.gamma.numpy()).max()
    total, values = np.abs(dy).sum(), np.abs(x).max() * inverse + 1
    slope = inverse * gamma * np.abs(dy).max() * (1 + values) * error
    bounds = {"output 0": (1, gamma * error + 4, ULPS), model.weights[0].path: (1, np.abs(x).sum() * slope, ULPS)}
    size = np.abs(x).max() + 4
    for variable in layer.variables if layer.trainable else ():
        bounds[variable.path] = 1, {"moving_mean": size, "moving_variance": size**2}.get(
            variable.name, total * error), ULPS
    return close_step(model, [x], [dy], bounds)


def layer_errors(case: Case, layer: Any, x: np.ndarray) -> tuple[float, float]:
    """`errors` of a layer's statistics."""
    if isinstance(layer, layers.GroupNormalization):
        return errors(x.reshape(case.n, -1, case.groups, case.c // case.groups), (1, 3), case.epsilon)
    if isinstance(layer, layers.LayerNormalization):
        return errors(x, case.last, case.epsilon)
    return errors(x, (0, 1, 2), case.epsilon, None if layer.trainable else layer.moving_variance.numpy())


def inference(model: fc.Model, layer: Any, x: np.ndarray) -> Trial:
    """What a model with batch normalisation predicts."""
    weights = {v: v.numpy().astype(np.float64) for v in model.weights}
    known, _ = float64_graph.run(model, [x], weights, training=False)
    error, _ = errors(x, (0, 1, 2), layer.epsilon, layer.moving_variance.numpy())
    gamma = 1.0 if layer.gamma is None else np.abs(layer.gamma.numpy()).max()
    scale = gamma * error * (np.abs(x).max() + 4)
    return Trial(lambda: {"predicted": model.predict(x)},
                 {"predicted": Want(known[model.graph.outputs[0]], 1, scale, ULPS)})
