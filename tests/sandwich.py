"""A layer between a dense layer and a loss, against the same in float64: its result and all its gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import fastcnn as fc
from fastcnn import layers, optimizers, reference
from tests.check import assert_close


def sandwich(layer, sample, channels: int = 3) -> fc.Sequential:
    """Dense, then `layer`: the dense layer's weights need the gradient of the layer's input."""
    model = fc.Sequential([fc.Input(sample), layers.Dense(channels, bias_initializer="random_normal"), layer])
    model.compile(optimizers.SGD(1.0), "mse")
    return model


def assert_step_follows_float64(layer, sample, rng, forward: Callable, gradients: Callable, n: int = 5,
                                terms: int = 500, channels: int = 3) -> None:
    """One training step must give the prediction and gradients of float64.

    `forward(x, *weights)` is the layer without its activation; `gradients(dz, x, *weights)` is dx and the list
    of gradients of the weights.
    """
    model = sandwich(layer, sample, channels)
    before = [w.astype(np.float64) for w in model.get_weights()]
    x = rng.standard_normal((n, *sample))
    w, b, *own = before
    inner = x @ w + b
    z = forward(inner, *own)
    y = reference.activation(z, getattr(layer, "activation", "linear"))
    target = rng.standard_normal(y.shape)
    assert_close(model.predict(x), y, terms)
    model.train_on_batch(x, target)
    dy = 2 * (y - target) / y.size
    dx, own_gradients = gradients(reference.activation_grad(dy, z, getattr(layer, "activation", "linear")), inner, *own)
    want = [np.tensordot(x, dx, [range(x.ndim - 1)] * 2), dx.sum(tuple(range(dx.ndim - 1))), *own_gradients]
    for old, new, gradient in zip(before, model.get_weights(), want, strict=True):
        assert_close(new, old - gradient, terms, scale=np.abs(old).max() + np.abs(gradient).max())


def bits_of_training(make, sample, steps: int = 2, n: int = 20) -> bytes:
    """The weights of a sandwich after some steps from a fixed seed."""
    fc.seed(7)
    model = sandwich(make(), sample)
    rng = np.random.default_rng(7)
    for _ in range(steps):
        x = rng.standard_normal((n, *sample))
        model.train_on_batch(x, rng.standard_normal((n, *model.output_shape[1:])))
    return b"".join(w.tobytes() for w in model.get_weights())


def assert_same_after_saving(model, x, path) -> None:
    """A saved model predicts the same bits."""
    model.save(path)
    np.testing.assert_array_equal(fc.load_model(path).predict(x), model.predict(x))


def numbers(shape, scale: int) -> np.ndarray:
    """The whole numbers that stored values of other libraries were computed from."""
    return (np.arange(np.prod(shape)) * 5 % scale - scale // 2).reshape(shape).astype(np.float32)
