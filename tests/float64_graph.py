"""Any graph of layers in float64, run by the textbook; gradients by differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import layers as L  # noqa: N812
from fastcnn import optimizers, reference


def outputs_of(model: Any, xs, weights: dict[Any, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model for these inputs and weights (variable -> array), in float64."""
    known = {tensor: np.asarray(x, np.float64) for tensor, x in zip(model.graph.inputs, xs, strict=True)}
    for node in model.graph.nodes:
        own = [weights[v] for v in node.layer.variables]
        known[node.outputs[0]] = _run(node.layer, [known[t] for t in node.inputs], own)
    return [known[t] for t in model.graph.outputs]


def _run(layer, inputs, w):
    x = inputs[0]
    if isinstance(layer, L.Conv2D):
        y = reference.conv2d(x, *w, strides=layer.strides, padding=layer.padding, groups=layer.groups)
        return reference.activation(y, layer.activation)
    if isinstance(layer, L.Dense):
        return reference.activation(reference.dense(x, *w), layer.activation)
    if isinstance(layer, L.Concatenate):
        return np.concatenate(inputs, axis=layer.axis)
    if hasattr(layer, "kind"):
        rank = max(a.ndim for a in inputs)
        return reference.merge(layer.kind, [a.reshape(len(a), *(1,) * (rank - a.ndim), *a.shape[1:]) for a in inputs])
    simple = {
        L.PReLU: lambda: reference.prelu(x, *w),
        L.UpSampling2D: lambda: reference.upsample2d(x, layer.size, layer.interpolation),
        L.Cropping2D: lambda: _cropped(x, layer.cropping),
        L.ZeroPadding2D: lambda: np.pad(x, ((0, 0), *layer.padding, (0, 0))),
        L.Permute: lambda: x.transpose(0, *layer.dims),
        L.Flatten: lambda: x.reshape(len(x), -1),
        L.Reshape: lambda: x.reshape(len(x), *layer.target_shape),
        L.ReLU: lambda: np.maximum(x, 0),
        L.Activation: lambda: reference.activation(x, layer.activation),
        L.GlobalAveragePooling2D: lambda: reference.global_avg_pool2d(x),
        L.MaxPooling2D: lambda: reference.max_pool2d(x, layer.pool_size, layer.strides, layer.padding),
        L.Rescaling: lambda: x * layer.scale + layer.offset,
    }
    return simple[type(layer)]()


def _cropped(x, cropping):
    (top, bottom), (left, right) = cropping
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


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
