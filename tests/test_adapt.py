"""The layer Normalization: adapted to data, in a model, and in its mistakes."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812
from tests.float64_graph import assert_slopes

AXES = [-1, 3, None, (1, 2, 3), 1, [1, -1], 2]


def axes_of(axis):
    kept = [] if axis is None else [a % 4 for a in np.atleast_1d(axis)]
    return tuple(a for a in range(4) if a not in kept)


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_adapt(axis, rng):
    x = rng.normal(100, 7, (50, 6, 5, 3))
    x[:, 0, 0] = 4.0  # without variance for some axes
    layer = L.Normalization(axis)
    layer.adapt(x)
    others = axes_of(axis)
    mean, variance = x.mean(others, keepdims=True), x.var(others, keepdims=True)
    want = (x - mean) / np.maximum(np.sqrt(variance), 1e-7)
    np.testing.assert_allclose(layer(x), want, atol=1e-4 if variance.min() else 2e-3)
    for got, value in zip(layer.get_weights(), (mean, variance), strict=True):
        np.testing.assert_allclose(got.ravel(), value.ravel(), rtol=1e-6, atol=1e-12)
    assert layer.trainable_weights == []
    words = {"axis": axis, "mean": np.squeeze(mean, others), "variance": np.squeeze(variance, others)}
    back = L.Normalization(invert=True, **words)
    np.testing.assert_allclose(back(layer(x)), x, rtol=1e-5)
    np.testing.assert_allclose(L.Normalization(**words)(x), layer(x), atol=1e-6)
    assert back.weights == []


def test_adapt_takes_batches_and_starts_anew(rng):
    x = rng.integers(0, 255, (2500, 4), dtype=np.uint8)
    layer, again = L.Normalization(), L.Normalization()
    layer.adapt(rng.normal(size=(10, 4)))
    layer.adapt(x)
    again.adapt(fc.data.Dataset(x, np.zeros(2500), batch_size=37))
    for got, one, value in zip(layer.get_weights(), again.get_weights(), (x.mean(0), x.var(0)), strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-6)
        np.testing.assert_allclose(one, value, rtol=1e-6)
    assert layer.get_weights()[0].dtype == np.float32


def test_normalization_in_a_model(tmp_path, rng):
    """Adapted after the model was built and used; kept in its file; passed by gradients."""
    layer = L.Normalization(axis=[1, 3])
    model = fc.Sequential([L.Input((6, 5, 3)), L.Conv2D(3, 1, padding="same"), layer, L.Flatten(), L.Dense(2)])
    x, y = rng.normal(2, 3, (20, 6, 5, 3)).astype(np.float32), rng.normal(size=(20, 2))
    before = model.predict(x)
    layer.adapt(model.layers[0](x))
    assert not np.allclose(model.predict(x), before)
    z = model.layers[0](x)
    standard = (z - z.mean((0, 2), keepdims=True)) / z.std((0, 2), keepdims=True)
    np.testing.assert_allclose(model.predict(x), model.layers[3](standard.reshape(20, -1)), rtol=1e-4, atol=1e-4)
    assert_slopes(model, x, y)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(fc.load_model(tmp_path / "m.safetensors").predict(x), model.predict(x))


# ---- mistakes

X = np.zeros((2, 4, 4, 6))
MISTAKES = [
    (lambda: L.Normalization(mean=1.0), ValueError, ["both mean and variance"]),
    (lambda: L.Normalization(mean=0, variance=-1), ValueError, ["variance must be at least 0", "-1"]),
    (lambda: L.Normalization(mean=[1, 2], variance=1)(X), ValueError, ["mean of shape (6,)", "(2,)"]),
    (lambda: L.Normalization(axis=0)(X), ValueError, ["other than the batch", "axis=0"]),
    (lambda: L.Normalization(axis=[1, -3])(X), ValueError, ["axis=[1, -3]"]),
    (lambda: L.Normalization(axis="all"), TypeError, ["axis", "'all'"]),
    (lambda: L.Normalization(invert=1), TypeError, ["invert"]),
    (lambda: other_sizes(L.Normalization(name="n")), ValueError, ["n: expected sizes (6,)", "(5,)"]),
    (lambda: L.Normalization(mean=0, variance=1).adapt(X), ValueError, ["adapt", "leave them out"]),
    (lambda: L.Normalization().adapt(X[:0]), ValueError, ["holds no samples"]),
    (lambda: L.Normalization().adapt([]), ValueError, ["batch axis"]),
    (lambda: L.Normalization().adapt(3), ValueError, ["batch axis"]),
    (lambda: L.Normalization().adapt(np.array([["a"]])), TypeError, ["real numbers"]),
]


def other_sizes(layer):
    layer(X)
    layer(X[..., :5])


@pytest.mark.parametrize(("attempt", "error", "fragments"), MISTAKES)
def test_mistakes(attempt, error, fragments):
    with pytest.raises(error) as caught:
        attempt()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
