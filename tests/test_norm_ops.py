"""Normalisations as functions of arrays: against float64, of nothing, and in their mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops, reference
from tests.check import assert_close


@pytest.mark.parametrize("shape", [(5, 4, 3, 8), (17, 12, 11, 16), (3, 7, 40), (9, 5), (1, 2, 30, 30, 33)], ids=str)
def test_ops_follow_the_reference(shape, threads, rng):
    c = shape[-1]
    x, dy = rng.normal(3, 2, shape), rng.normal(size=shape)
    gamma, beta, mean, variance = rng.normal(size=(3, c)).tolist() + [rng.random(c)]
    image = shape[1:]
    cases = [
        ("batch_norm", gamma, beta, {}),
        ("batch_norm", 2.0, 1, {"mean": mean, "variance": variance, "epsilon": 0.1}),
        ("layer_norm", gamma, beta, {}),
        ("layer_norm", 2.0, 0, {"axis": (0, -1)}),
        ("layer_norm", *rng.normal(size=(2, *image)), {"axis": list(range(1, len(shape))), "epsilon": 0.1}),
        ("group_norm", gamma, beta, {"groups": c if len(shape) > 2 else 1}),
        ("group_norm", 2.0, beta, {"groups": 1, "epsilon": 0.0}),
    ]
    for name, gamma, beta, words in cases:
        near(getattr(ops, name)(x, gamma, beta, **words), getattr(reference, name)(x, gamma, beta, **words))
        grad = f"{name}_grad"
        for got, want in zip(getattr(ops, grad)(dy, x, gamma, **words), getattr(reference, grad)(dy, x, gamma, **words),
                             strict=True):  # fmt: skip
            near(got, want)


def near(got, want):
    assert got.dtype == np.float32 and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("values", [2, 3, 8, 35])
@pytest.mark.parametrize(("name", "words"), [("batch_norm", {}), ("layer_norm", {}), ("group_norm", {"groups": 1})])
def test_few_values_far_from_zero(name, words, values, isa, rng):
    """A mean rounded to float32 would move the deviations of values around 1000 by most of their digits."""
    shape = (values, 6) if name == "batch_norm" else (6, values)
    x = (rng.normal(0, 0.05, shape) + rng.choice([1000, -30], (6,) if name == "batch_norm" else (6, 1))).astype("f")
    dy, (gamma, beta) = rng.normal(size=shape).astype("f"), rng.normal(size=(2, shape[1])).astype("f")
    words = {**words, "epsilon": 1e-5}
    xhat = np.abs(getattr(reference, name)(x, 1.0, 0.0, **words)).max()
    steepness = 1 / np.sqrt(reference.moments(x, (int(name != "batch_norm"),))[1] + 1e-5)
    slope = np.abs(dy * gamma).max()
    assert_close(getattr(ops, name)(x, gamma, beta, **words), getattr(reference, name)(x, gamma, beta, **words), 1,
                 scale=np.abs(gamma).max() * xhat + np.abs(beta).max())
    got, want = (getattr(module, f"{name}_grad")(dy, x, gamma, **words) for module in (ops, reference))
    assert_close(got[0], want[0], 1, scale=slope * steepness * (1 + xhat**2))
    assert_close(got[1], want[1], len(dy), scale=np.abs(dy).max() * xhat)


def test_a_single_value_has_no_gradient(isa, rng):
    """It is its own mean: the result is beta, whatever the value. A NaN still shows."""
    x, dy = rng.normal(5, 3, (2, 7, 1)).astype(np.float32)
    dx, dgamma, dbeta = ops.layer_norm_grad(dy, x, 1.3)
    assert not dx.any() and dgamma.tolist() == [0] and dbeta == pytest.approx(dy.sum(0), rel=1e-5)
    x[3] = np.nan
    assert np.isnan(ops.layer_norm_grad(dy, x, 1.3)[0]).ravel().tolist() == [i == 3 for i in range(7)]


def test_ops_of_nothing():
    assert ops.batch_norm(np.zeros((0, 3)), mean=[0, 0, 0], variance=1.0).shape == (0, 3)
    dx, dgamma, dbeta = ops.batch_norm_grad(np.zeros((0, 3)), np.zeros((0, 3)), mean=0.0, variance=1.0)
    assert dx.shape == (0, 3) and dgamma.tolist() == dbeta.tolist() == [0, 0, 0]


# ---- mistakes

X = np.zeros((2, 4, 4, 6))
MISTAKES = [
    (lambda: ops.batch_norm(X, [1, 2]), ValueError, ["batch_norm: gamma", "(6,)", "(2,)"]),
    (lambda: ops.batch_norm(X[:0]), ValueError, ["batch_norm", "empty"]),
    (lambda: ops.batch_norm(X, epsilon=-1), ValueError, ["batch_norm: epsilon"]),
    (lambda: ops.batch_norm(np.zeros(3)), ValueError, ["batch_norm: x", "(3,)"]),
    (lambda: ops.batch_norm_grad(X, X[:1]), ValueError, ["batch_norm_grad: dy", "(1, 4, 4, 6)"]),
    (lambda: ops.layer_norm(X, axis=4), ValueError, ["layer_norm: axis 4"]),
    (lambda: ops.layer_norm(X, axis=(1, -3)), ValueError, ["layer_norm: axis"]),
    (lambda: ops.layer_norm(X, axis=1.5), TypeError, ["layer_norm: axis", "1.5"]),
    (lambda: ops.layer_norm(X[:, :0]), ValueError, ["empty"]),
    (lambda: ops.layer_norm_grad(X, X, np.ones(5)), ValueError, ["layer_norm_grad: gamma"]),
    (lambda: ops.group_norm(X, groups=4), ValueError, ["groups=4 must divide the 6 channels"]),
    (lambda: ops.group_norm(X, groups="2"), TypeError, ["group_norm: groups", "'2'"]),
    (lambda: ops.group_norm_grad(X[:0], X[:0], groups=2), ValueError, ["empty"]),
]


@pytest.mark.parametrize(("attempt", "error", "fragments"), MISTAKES)
def test_mistakes(attempt, error, fragments):
    with pytest.raises(error) as caught:
        attempt()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
