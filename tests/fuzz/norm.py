"""Batch, layer and group normalisation: functions; layers with the activation they take over, in all their modes.

Errors. Of the functions, a few units in the last place of what is summed, wherever the values lie: x - mean is exact
to its own last place, as x is near the mean and the mean's own rounding is made up for. Of layers the input is rounded,
which far from zero, or where values deviate little, moves results by far more than their last place; so their bounds
are `sensitive`: what rounded data change is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers, ops, reference
from tests import float64_graph
from tests.fuzz.step import sensitive_step
from tests.fuzz.trial import Trial, Want, channels, choose, normal, results_of, rounded, sensitive, whole

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
    x = normal(rng, case.shape)
    yield from functions(case, (x + normal(rng, (case.c,)) + case.offset).astype(np.float32), rng)
    if len(case.size) == 2:
        yield from layers_between(case, x, rng)


def steepness(x: np.ndarray, axes: tuple[int, ...], epsilon: float, given: Any = None) -> float:
    """The largest 1 / deviation."""
    variance = reference.moments(x, axes)[1] if given is None else given
    return float(np.max(1 / np.sqrt(variance + epsilon)))


def functions(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """Of `fastcnn.ops`, and their gradients."""
    given = {"mean": x.mean(tuple(range(x.ndim - 1))) + normal(rng, (case.c,)), "variance": rng.random(case.c) + 0.1}
    before, groups = tuple(range(x.ndim - 1)), x.reshape(case.n, prod(case.size), case.groups, -1)
    for name, words, shape, steep in (
        ("batch_norm", {}, [case.c], steepness(x, before, case.epsilon)),
        ("batch_norm", given, [case.c], steepness(x, before, case.epsilon, given["variance"])),
        ("layer_norm", {"axis": case.axis}, [x.shape[a] for a in case.axis], steepness(x, case.axis, case.epsilon)),
        ("group_norm", {"groups": case.groups}, [case.c], steepness(groups, (1, 3), case.epsilon)),
    ):
        gamma, beta, dy = (normal(rng, size) for size in (shape, shape, x.shape))
        yield function(name, {**words, "epsilon": case.epsilon}, [x, gamma, beta, dy], steep)


def function(name: str, words: dict[str, Any], arrays: list[np.ndarray], steep: float) -> Trial:
    """A normalisation and its gradient."""
    def compute(module, x, gamma, beta, dy):
        return {**results_of(module, name, x, gamma, beta, **words),
                **results_of(module, f"{name}_grad", dy, x, gamma, **words)}

    x, gamma, _, dy = arrays
    values = np.abs(getattr(reference, name)(x, 1.0, 0.0, **words)).max()
    slope, share = np.abs(gamma).max() * np.abs(dy).max(), dy.size / max(1, gamma.size)
    magnitudes = {name: np.abs(gamma).max() * values + 4, f"{name}_grad[0]": steep * slope * (1 + values),
                  f"{name}_grad[1]": share**0.5 * np.abs(dy).max() * values, f"{name}_grad[2]": share**0.5 * 4}
    wants = {key: Want(value, 1, magnitudes[key], ULPS) for key, value in compute(reference, *arrays).items()}
    return Trial(lambda: compute(ops, *arrays), wants)


def layers_between(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Trial]:
    """Each layer between a dense one, whose weights need the gradient of its input, and a clamp."""
    words = {"epsilon": case.epsilon, "center": case.center, "scale": case.scale}
    for layer in (layers.BatchNormalization(momentum=case.momentum, **words),
                  layers.LayerNormalization(case.last, **words), layers.GroupNormalization(case.groups, **words)):
        first = layers.Dense(case.c)
        model = fc.Sequential([fc.Input(case.shape[1:]), first, layer, layers.ReLU(case.max_value)])
        for variable in model.weights:
            variance = "variance" in variable.name
            variable.assign(rng.random(variable.shape) + 0.5 if variance else normal(rng, variable.shape))
        first.kernel.assign(np.eye(case.c))
        first.bias.assign(first.bias.numpy() + case.offset)
        yield training(case, model, layer, x, rng)
        if isinstance(layer, layers.BatchNormalization):
            yield inference(model, x, rng)
            layer.trainable = False
            yield training(case, model, layer, x, rng)


def training(case: Case, model: fc.Model, layer: Any, x: np.ndarray, rng: np.random.Generator) -> Trial:
    """One step. No gradient enters where rounding could decide on which side of a kink a value lies."""
    weights = {v: v.numpy().astype(np.float64) for v in model.weights}
    known, _ = float64_graph.run(model, [x], weights)
    z = known[model.graph.nodes[-2].outputs[0]]
    near = np.minimum(np.abs(z), np.abs(z - (case.max_value or 0))) < 1e-3 * (1 + np.abs(z).max())
    dy = np.where(near, 0, normal(rng, x.shape)).astype(np.float32)
    gamma = 1.0 if layer.gamma is None else np.abs(layer.gamma.numpy()).max()
    slope, spread = gamma * layer_steepness(case, layer, x + case.offset), x.size**0.5
    shifted = slope * np.abs(known[model.graph.nodes[0].outputs[0]]).max() / ULPS  # the layer's input is rounded too
    magnitudes = {"output 0": np.abs(z).max() + 4 + 2 * shifted, "kernel": slope * spread * np.abs(x).max(),
                  "bias": slope * spread,
                  "gamma": spread * np.abs(z).max(), "beta": spread, "moving_mean": 1.0, "moving_variance": 1.0}
    return sensitive_step(model, [x], [dy], magnitudes, ULPS, rng)


def layer_steepness(case: Case, layer: Any, x: np.ndarray) -> float:
    """`steepness` of a layer's statistics."""
    if isinstance(layer, layers.GroupNormalization):
        return steepness(x.reshape(case.n, -1, case.groups, case.c // case.groups), (1, 3), case.epsilon)
    if isinstance(layer, layers.LayerNormalization):
        return steepness(x, case.last, case.epsilon)
    return steepness(x, (0, 1, 2), case.epsilon, None if layer.trainable else layer.moving_variance.numpy())


def inference(model: fc.Model, x: np.ndarray, rng: np.random.Generator) -> Trial:
    """What a model with batch normalisation predicts."""
    weights = {v: v.numpy() for v in model.weights}
    want, *moved = (float64_graph.run(model, [x], weights, training=False)[0][model.graph.outputs[0]] for weights in
                    (weights, *({v: rounded(w, rng) for v, w in weights.items()} for _ in range(2))))
    return Trial(lambda: {"predicted": model.predict(x)},
                 {"predicted": sensitive(want, moved, np.abs(want).max() + 4, ULPS)})
