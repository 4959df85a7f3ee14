"""One step of a model backwards, from given gradients of its outputs: predictions and gradients of all weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn import losses, optimizers
from tests import float64_graph
from tests.fuzz.trial import Trial, Want, rounded, sensitive


class GivenGradient(losses.Loss):
    """A loss whose gradient is its target; it keeps what was predicted."""

    def per_sample(self, y_true, y_pred):
        return np.zeros(len(y_pred))

    def gradient(self, y_true, y_pred):
        self.predicted = y_pred.copy()
        return y_true


def step(model: fc.Model, xs: Sequence[np.ndarray], targets: Sequence[np.ndarray],
         objectives: Sequence[losses.Loss]) -> dict[str, np.ndarray]:
    """The loss, the gradient of each trainable weight and the new value of each other, by their paths.

    Afterwards all weights are what they were.
    """
    model.compile(optimizers.SGD(0.0), list(objectives))
    before = model.get_weights()
    value = model.train_on_batch(list(xs), list(targets) if len(targets) > 1 else targets[0])
    gradients = model._store.gradient_views()
    results = {v.path: (gradients[v] if v.trainable else v.value).copy() for v in model.weights}
    model.set_weights(before)
    return {"loss": np.float64(value[0] if isinstance(value, list) else value), **results}


def step_back(model: fc.Model, xs: Sequence[np.ndarray], dys: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """`step` from given gradients, with the outputs instead of a loss."""
    given = [GivenGradient() for _ in dys]
    results = step(model, xs, dys, given)
    del results["loss"]
    return {**{f"output {i}": loss.predicted for i, loss in enumerate(given)}, **results}


def textbook(model: fc.Model, xs: Sequence[np.ndarray], dys: Sequence[np.ndarray],
             weights: Mapping[Any, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """What `step_back` must return, in float64, for these weights or the model's."""
    weights = weights or {v: v.numpy().astype(np.float64) for v in model.weights}
    known, pulls = float64_graph.run(model, xs, weights)
    gradients = float64_graph.gradients_of(model, known, pulls, dys)
    outputs = {f"output {i}": known[t] for i, t in enumerate(model.graph.outputs)}
    moved = {**weights, **float64_graph.moved_statistics(model, known, weights)}
    return {**outputs, **{v.path: (gradients if v.trainable else moved)[v] for v in model.weights}}


def set_weights(model: fc.Model, draw: Any) -> None:
    """Fill each weight with `draw(shape)`."""
    for variable in model.weights:
        variable.assign(draw(variable.shape))


def exact_step(model: fc.Model, xs: Sequence[np.ndarray], dys: Sequence[np.ndarray]) -> Trial:
    """The step on integers, so small that all of its sums are exact."""
    wants = {name: Want(value) for name, value in textbook(model, xs, dys).items()}
    return Trial(lambda: step_back(model, xs, dys), wants)


def sensitive_step(model: fc.Model, xs: Sequence[np.ndarray], dys: Sequence[np.ndarray],
                   magnitudes: Mapping[str, float], ulps: float, rng: np.random.Generator) -> Trial:
    """The step on real data; `magnitudes` of each result, by the name of the weight; see `sensitive`."""
    weights = {v: v.numpy().astype(np.float64) for v in model.weights}
    want = textbook(model, xs, dys, weights)
    moved = [textbook(model, [rounded(x, rng) for x in xs], dys, {v: rounded(w, rng) for v, w in weights.items()})
             for _ in range(2)]
    wants = {name: sensitive(value, [m[name] for m in moved], magnitudes[name.split("/")[-1]], ulps)
             for name, value in want.items()}
    return Trial(lambda: step_back(model, xs, dys), wants)
