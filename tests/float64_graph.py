"""Any graph of layers in float64, run by the textbook; gradients by the chain rule, and by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import layers as L  # noqa: N812
from fastcnn import optimizers, reference
from tests.float64_layers import apply


def run(model: Any, xs, weights: dict[Any, np.ndarray], training: bool = True) -> tuple[dict[Any, np.ndarray], list]:
    """(every tensor of the graph, (node, pull) of each node in order; see `float64_layers.apply`)."""
    known = {tensor: np.asarray(x, np.float64) for tensor, x in zip(model.graph.inputs, xs, strict=True)}
    pulls = []
    for node in model.graph.nodes:
        known[node.outputs[0]], pull = apply(node.layer, [known[t] for t in node.inputs], weights, training)
        pulls.append((node, pull))
    return known, pulls


def outputs_of(model: Any, xs, weights: dict[Any, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model for these inputs and weights (variable -> array), in float64."""
    known, _ = run(model, xs, weights)
    return [known[t] for t in model.graph.outputs]


def gradients_of(model: Any, known: dict[Any, np.ndarray], pulls: list, dys) -> dict[Any, np.ndarray]:
    """The gradient of each weight, from what `run` returned and the gradients of the outputs."""
    slopes = {t: np.zeros_like(known[t]) for t in known}
    for tensor, dy in zip(model.graph.outputs, dys, strict=True):
        slopes[tensor] = slopes[tensor] + dy
    gradients = {v: np.zeros(v.shape) for v in model.weights}
    for node, pull in reversed(pulls):
        dxs, own = pull(slopes[node.outputs[0]])
        for tensor, dx in zip(node.inputs, dxs, strict=True):
            slopes[tensor] = slopes[tensor] + dx
        for variable, gradient in zip(node.layer.variables, own, strict=True):
            if gradient is not None:
                gradients[variable] = gradients[variable] + gradient
    return gradients


def moved_statistics(model: Any, known: dict[Any, np.ndarray], weights: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """The moving statistics of batch normalisation after a step of training, variable -> array."""
    moved = {}
    for node in model.graph.nodes:
        layer = node.layer
        if isinstance(layer, L.BatchNormalization) and layer.trainable:
            x = known[node.inputs[0]]
            for v, new in zip((layer.moving_mean, layer.moving_variance), reference.moments(x, range(x.ndim - 1)),
                              strict=True):
                moved[v] = reference.moving_average(weights[v], new.reshape(-1), layer.momentum)
    return moved


def assert_numerical_gradients(model: Any, xs, rng, step: float = 1e-5, tolerance: float = 2e-4) -> None:
    """The engine's outputs and its gradient of a squared error against float64 and central differences.

    Along random directions, one for each weight: the engine's gradient comes from one step of plain descent.
    """
    weights = {v: v.numpy().astype(np.float64) for v in model.weights}
    wanted = outputs_of(model, xs, weights)
    predicted = model.predict([np.asarray(x, np.float32) for x in xs])
    predicted = predicted if isinstance(predicted, list) else [predicted]
    targets = [rng.standard_normal(y.shape) for y in wanted]
    for got, want in zip(predicted, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1, np.abs(want).max()))

    def loss():
        return sum(((y - t) ** 2).mean() for y, t in zip(outputs_of(model, xs, weights), targets, strict=True))

    differences = {}
    for variable, value in weights.items():
        direction = rng.standard_normal(value.shape)
        sides = []
        for sign in (1, -1):
            weights[variable] = value + sign * step * direction
            sides.append(loss())
        weights[variable] = value
        differences[variable] = direction, (sides[0] - sides[1]) / (2 * step)
    rate = 1e-2
    model.compile(optimizers.SGD(rate), "mse")
    model.train_on_batch(list(xs), targets if len(targets) > 1 else targets[0])
    for variable, (direction, want) in differences.items():
        gradient = (weights[variable] - variable.numpy()) / rate
        np.testing.assert_allclose((gradient * direction).sum(), want, rtol=tolerance,
                                   atol=tolerance * np.abs(gradient).max(initial=0.1) * direction.size ** 0.5,
                                   err_msg=variable.path)


def assert_slopes(model: Any, x, y) -> None:
    """The slope of the training loss along a random direction, for each trainable weight on its own."""
    rng = np.random.default_rng(1)
    model.compile(optimizers.SGD(1.0), "mse")
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()

    def loss(weights):
        model.set_weights(weights)
        return ((np.asarray(model(x, training=True), np.float64) - y) ** 2).mean()

    for i, v in enumerate(model.weights):
        if not v.trainable:
            continue
        g = before[i].astype(np.float64) - after[i]
        direction = g / np.linalg.norm(g) + 0.5 * rng.standard_normal(g.shape) / np.sqrt(g.size)
        step = 2e-3 * max(1.0, np.linalg.norm(before[i])) / np.linalg.norm(direction)
        sides = [loss([*before[:i], before[i] + s * step * direction, *before[i + 1 :]]) for s in (1, -1)]
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx((g * direction).sum(), rel=2e-2), v.path
