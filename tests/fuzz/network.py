"""One training step of a small random model, and its prediction, against the chain rule in float64.

Half of the models are exact: their layers make whole numbers of whole numbers, and all gradients must agree to the
bit. Others have smooth activations, normalisations and Winograd's algorithm. Their results are held to ULPS units in
the last place of the largest value, plus some times what a rounding of all inputs and weights changes. Data are
drawn again where a value lies so near to a kink (a clamp, a maximum) that rounding could decide on its side; where
that does not help, gradients are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import layers, losses
from fastcnn.geometry import resolve_padding
from tests import float64_graph
from tests.check import small_ints
from tests.fuzz.graphs import Drawing, Graph
from tests.fuzz.step import GivenGradient, step
from tests.fuzz.trial import Trial, Want, choose, normal, rounded, sensitive, whole

ULPS = 200.0
KINK = 3e-5  # of the largest value around: the nearest that a value may come to a kink
EXACT = 2.0**19  # the largest result of an exact model: then its partial sums are below 2**24
DRAWS = 40


@dataclass(frozen=True)
class Case:
    """`n` samples; an exact model has given gradients, others `loss`."""

    n: int
    exact: bool
    loss: str
    graph: Graph


def draw(rng: np.random.Generator) -> Case:
    exact = bool(rng.random() < 0.5)
    graph = Drawing(rng, exact).grow(whole(rng, 1, 4))
    return Case(choose(rng, (1, 2, 3, 5)), exact, choose(rng, ("given", "mse", "softmax", "sigmoid")), graph)


def trials(case: Case, rng: np.random.Generator) -> Iterator[Trial]:
    model = case.graph.build()
    yield from exact(case, model, rng) if case.exact else close(case, model, rng)


def exact(case: Case, model: fc.Model, rng: np.random.Generator) -> Iterator[Trial]:
    """Weights of 0, 1 and -1, with more zeros until no sum is too large."""
    x, density = small_ints(rng, (case.n, *case.graph.shape), 2), 0.6
    dys = [small_ints(rng, (case.n, *t.sample_shape), 1) for t in model.graph.outputs]
    for _ in range(DRAWS):
        weights = {v: (rng.integers(-1, 2, v.shape) * (rng.random(v.shape) < density)).astype(float)
                   for v in model.weights}
        results = textbook(model, [x], weights, [Given(dy) for dy in dys])
        if max(np.abs(value).max(initial=0) for value in results.values()) < EXACT:
            break
        density *= 0.8
    else:
        return
    yield Trial(lambda: of_engine(model, weights, x, [GivenGradient() for _ in dys], dys, results),
                {name: Want(value) for name, value in results.items()})


def close(case: Case, model: fc.Model, rng: np.random.Generator) -> Iterator[Trial]:
    """Weights that keep values near one."""
    for _ in range(DRAWS):
        x = normal(rng, (case.n, *case.graph.shape))
        weights = {v: drawn(v, rng).astype(np.float64) for v in model.weights}
        known, _ = float64_graph.run(model, [x], weights)
        if distance_to_kinks(model, known) > KINK:
            break
    outputs = [known[t] for t in model.graph.outputs]
    pairs = [loss_of(case.loss, y, rng) for y in outputs]
    objects, targets = [loss for loss, _ in pairs], [target for _, target in pairs]
    want = textbook(model, [x], weights, [Defined(*pair) for pair in pairs])
    moved = [textbook(model, [rounded(x, rng)], {v: rounded(w, rng) for v, w in weights.items()},
                      [Defined(*pair) for pair in pairs]) for _ in range(2)]
    largest = max(np.abs(value).max(initial=0) for name, value in want.items() if "/" in name)
    # Before a normalisation gradients cancel, be it to zero, from numbers up to 1 / sqrt(epsilon) times as large.
    share = 1.0 if any("Norm" in name for name, *_ in case.graph.specs) else 0.1
    clear, wants = distance_to_kinks(model, known) > KINK, {}
    for name, value in want.items():
        if clear or "/" not in name:  # else no draw kept clear of all kinks, and gradients may jump
            size = max(np.abs(value).max(initial=0), share * largest if "/" in name else 1.0)
            wants[name] = sensitive(value, [other[name] for other in moved], size, ULPS)
    yield Trial(lambda: of_engine(model, weights, x, objects, targets, wants), wants)


def drawn(variable: Any, rng: np.random.Generator) -> np.ndarray:
    """Kernels of norm one for each filter; variances and gammas around one."""
    if variable.name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, variable.shape).astype(np.float32)
    fan = max(1, int(np.prod(variable.shape[:-1]))) if len(variable.shape) > 1 else 4
    return normal(rng, variable.shape, fan**-0.5)


def distance_to_kinks(model: fc.Model, known: dict[Any, np.ndarray]) -> float:
    """How near any value comes to a kink of its layer, as a share of the largest around.

    What lies exactly on a kink does not count: zeros that were padded, or equal values of a maximum, are so in float32.
    """
    nearest = 1.0
    for node in model.graph.nodes:
        inputs = [known[t] for t in node.inputs]
        gaps = gaps_of(node.layer, inputs)
        size = max(np.abs(x).max(initial=1e-30) for x in inputs)
        nearest = min(nearest, gaps[gaps > 0].min(initial=np.inf) / size)
    return nearest


def gaps_of(layer: Any, inputs: list[np.ndarray]) -> np.ndarray:
    """Distances to the kinks of a layer."""
    (x, *others) = inputs
    if isinstance(layer, layers.ReLU):
        return np.minimum(np.abs(x), np.abs(x - (layer.max_value or 0)))
    if isinstance(layer, layers.PReLU):
        return np.abs(x)
    if isinstance(layer, layers.Maximum | layers.Minimum):
        return np.abs(x - others[0])
    name = type(layer).__name__
    if name.startswith(("MaxPooling", "MinPooling")):
        return gaps_of_windows(layer, x if name.startswith("Max") else -x)
    return np.empty(0)


def gaps_of_windows(layer: Any, x: np.ndarray) -> np.ndarray:
    """By how much the maximum of each window surpasses its next value."""
    size, strides = x.shape[1:-1], layer.strides
    pads = resolve_padding(layer.padding, size, layer.pool_size, strides, (1,) * layer.rank, layer.name)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-np.inf)
    seen = np.lib.stride_tricks.sliding_window_view(padded, layer.pool_size, tuple(range(1, 1 + layer.rank)))
    seen = seen[(slice(None), *(slice(None, None, step) for step in strides))]
    ordered = np.sort(seen.reshape(*seen.shape[: x.ndim], -1), -1)
    return ordered[..., -1:] - ordered[..., -2:-1]


# ---- losses


@dataclass
class Given:
    """A loss of no value, with this gradient."""

    dy: np.ndarray

    def of(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        return 0.0, self.dy


@dataclass
class Defined:
    """The value and the gradient of a loss, in float64."""

    loss: losses.Loss
    target: np.ndarray

    def of(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        return self.loss(self.target, y), self.loss.gradient(self.target, y)


def loss_of(name: str, y: np.ndarray, rng: np.random.Generator) -> tuple[losses.Loss, np.ndarray]:
    """(the loss, targets) for an output."""
    if name == "given":
        return GivenGradient(), normal(rng, y.shape)
    if name == "mse":
        return losses.MeanSquaredError(), normal(rng, y.shape)
    if name == "softmax":
        return losses.SparseCategoricalCrossentropy(True, ignore_class=choose(rng, (None, 255))), rng.integers(
            0, y.shape[-1], y.shape[:-1])
    return losses.BinaryCrossentropy(True), rng.integers(0, 2, y.shape).astype(np.float32)


# ---- both sides


def textbook(model: fc.Model, xs: list[np.ndarray], weights: dict[Any, np.ndarray], ends: list[Any]) -> dict[str, Any]:
    """Loss, prediction, gradients and moving statistics in float64."""
    known, pulls = float64_graph.run(model, xs, weights)
    values, dys = zip(*(end.of(known[t]) for end, t in zip(ends, model.graph.outputs, strict=True)), strict=True)
    gradients = float64_graph.gradients_of(model, known, pulls, dys)
    moved = {**weights, **float64_graph.moved_statistics(model, known, weights)}
    inferred, _ = float64_graph.run(model, xs, weights, training=False)
    return {"loss": np.float64(sum(values)),
            **{f"prediction {i}": inferred[t] for i, t in enumerate(model.graph.outputs)},
            **{v.path: (gradients if v.trainable else moved)[v] for v in model.weights}}


def of_engine(model: fc.Model, weights: dict[Any, np.ndarray], x: np.ndarray, objects: list[Any],
              targets: list[np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the engine that have `names`."""
    for variable, value in weights.items():
        variable.assign(value)
    results = step(model, [x], targets, objects)
    predicted = model.predict(x)
    predicted = predicted if isinstance(predicted, list) else [predicted]
    results |= {f"prediction {i}": y for i, y in enumerate(predicted)}
    return {name: results[name] for name in names}
