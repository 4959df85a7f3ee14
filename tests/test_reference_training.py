"""The float64 oracle of activations, losses, normalisation and optimiser steps, by hand and by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import reference as ref
from tests.check import assert_gradient, assert_near, assert_same

# --------------------------------------------------------------------------------------- activations

E = math.e
SCALAR_FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "relu": lambda x: x if x > 0 else 0.0,
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "leaky_relu": lambda x: x if x > 0 else x / 5,
    "elu": lambda x: x if x > 0 else E**x - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (E**x - 1)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + E**-x),
    "tanh": lambda x: (E**x - E**-x) / (E**x + E**-x),
    "softplus": lambda x: math.log(1 + E**x),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x / (1 + E**-x),
    "swish": lambda x: x / (1 + E**-x),
    "hard_sigmoid": lambda x: 0.0 if x <= -3 else 1.0 if x >= 3 else x / 6 + 0.5,
    "hard_swish": lambda x: 0.0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6,
    "mish": lambda x: x * math.tanh(math.log(1 + E**x)),
}


@pytest.mark.parametrize("name", SCALAR_FORMULAS)
def test_elementwise_activations(name: str) -> None:
    x = np.array([-7.0, -3.0, -2.3, -1.0, -0.1, 0.0, 0.1, 1.0, 2.9, 3.0, 5.5, 6.0, 8.0])
    assert_near(ref.activation(x, name), [SCALAR_FORMULAS[name](float(v)) for v in x])


def test_every_activation_of_the_contract_exists() -> None:
    assert set(ref.ACTIVATIONS) == {*SCALAR_FORMULAS, "softmax", "log_softmax"}


@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activation_gradients(name: str, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 8)) * 3.0
    dy = rng.normal(size=x.shape)
    assert_gradient(lambda x: (ref.activation(x, name) * dy).sum(), x, ref.activation_grad(dy, x, name))


@pytest.mark.parametrize(
    ("name", "x", "slope"),
    [
        ("relu", 0, 0),
        ("relu6", 0, 0),
        ("relu6", 6, 0),
        ("leaky_relu", 0, 0.2),
        ("elu", 0, 1),
        ("hard_sigmoid", 3, 0),
    ],
)
def test_slopes_at_kinks(name: str, x: float, slope: float) -> None:
    assert ref.activation_grad([2.0], [x], name).tolist() == [2.0 * slope]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activations_do_not_overflow(name: str) -> None:
    x = np.array([-1e4, -750.0, 750.0, 1e4])
    with np.errstate(under="ignore"):
        assert np.isfinite(ref.activation(x, name)).all()
        assert np.isfinite(ref.activation_grad(np.ones(4), x, name)).all()


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activations_pass_nan_on(name: str) -> None:
    assert np.isnan(ref.activation([np.nan], name)).all()


def test_softmax(rng: np.random.Generator) -> None:
    assert_near(ref.softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    assert_near(ref.log_softmax(np.log([[1.0, 2.0, 5.0]])), np.log([[0.125, 0.25, 0.625]]))
    x = rng.normal(size=(3, 4, 5))
    assert_near(ref.softmax(x, axis=1).sum(1), np.ones((3, 5)))
    assert_near(ref.softmax(x + 1000.0), ref.softmax(x), 1e-10)


# -------------------------------------------------------------------------------------------- losses


def test_softmax_cross_entropy_by_hand() -> None:
    logits = np.log([[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]])
    loss, gradient = ref.softmax_cross_entropy(logits, [2, 0])
    assert_near(loss, [-math.log(0.625), -math.log(0.5)])
    assert_near(gradient, np.array([[0.125, 0.25, -0.375], [-0.5, 0.25, 0.25]]) / 2)
    smoothed, _ = ref.softmax_cross_entropy(logits, [2, 0], label_smoothing=0.3)
    assert_near(smoothed[1], -0.8 * math.log(0.5) - 0.2 * math.log(0.25))


def test_softmax_cross_entropy_takes_every_kind_of_label(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, (2, 3))
    want, gradient = ref.softmax_cross_entropy(logits, labels)
    assert want.shape == (2, 3)
    for variant in (labels[..., None], np.eye(4)[labels], np.eye(4, dtype=np.uint8)[labels]):
        got, same = ref.softmax_cross_entropy(logits, variant)
        assert_same(got, want)
        assert_same(same, gradient)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_gradients_of_cross_entropies(label_smoothing: float, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(4, 5)), rng.random((4, 5))
    for loss in (ref.softmax_cross_entropy, ref.sigmoid_binary_cross_entropy):
        gradient = loss(logits, target, label_smoothing)[1]
        assert_gradient(lambda z, loss=loss: loss(z, target, label_smoothing)[0].mean(), logits, gradient)


def test_binary_cross_entropy_by_hand() -> None:
    loss, gradient = ref.sigmoid_binary_cross_entropy([[0.0, math.log(3.0)]], [[1, 0]])
    assert_near(loss, [(math.log(2) + math.log(4)) / 2])
    assert_near(gradient, [[-0.25, 0.375]])
    smoothed, _ = ref.sigmoid_binary_cross_entropy([[math.log(3.0)]], [[1]], label_smoothing=0.2)
    assert_near(smoothed, [-0.9 * math.log(0.75) - 0.1 * math.log(0.25)])
    assert_near(ref.sigmoid_binary_cross_entropy([[1000.0, -1000.0]], [[0, 0]])[0], [500.0])


def test_error_losses() -> None:
    prediction, target = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 5.0], [2.0, 0.0]])
    loss, gradient = ref.mean_squared_error(prediction, target)
    assert_same(loss, np.array([4.5, 8.5]))
    assert_same(gradient, np.array([[0.0, -1.5], [0.5, 2.0]]))
    loss, gradient = ref.mean_absolute_error(prediction, target)
    assert_same(loss, np.array([1.5, 2.5]))
    assert_same(gradient, np.array([[0.0, -0.25], [0.25, 0.25]]))


# ------------------------------------------------------------------------------------- normalisation


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0, 10.0], [3.0, 10.0]])
    y = ref.batch_norm(x, gamma=[2.0, 3.0], beta=[0.5, -1.0], epsilon=3.0)
    assert_near(y, [[0.5 - 1.0, -1.0], [0.5 + 1.0, -1.0]])  # variances 1 and 0
    y = ref.batch_norm(x, [2.0, 3.0], [0.5, -1.0], mean=[0.0, 8.0], variance=[1.0, 6.0], epsilon=3.0)
    assert_near(y, [[1.5, 1.0], [3.5, 1.0]])
    assert_near(ref.moving_average([1.0], [2.0], 0.9), [1.1])


def test_layer_and_group_norm_by_hand() -> None:
    x = np.array([[[[1.0, 3.0, 10.0, 10.0]]]])
    assert_near(ref.layer_norm(x[..., :2], [2.0, 4.0], 1.0, epsilon=3.0), [[[[0.0, 3.0]]]])
    assert_near(
        ref.group_norm(x, [2.0, 2.0, 5.0, 5.0], 1.0, groups=2, epsilon=3.0), [[[[0.0, 2.0, 1.0, 1.0]]]]
    )


def test_norms_standardise_over_their_axes(rng: np.random.Generator) -> None:
    x = rng.normal(3.0, 5.0, (4, 5, 6, 8))
    groups = ref.group_norm(x, groups=4, epsilon=0.0).reshape(4, 5, 6, 4, 2)
    for y, axes in (
        (ref.batch_norm(x, epsilon=0.0), (0, 1, 2)),
        (ref.layer_norm(x, epsilon=0.0), (3,)),
        (ref.layer_norm(x, axis=(1, -1), epsilon=0.0), (1, 3)),
        (groups, (1, 2, 4)),
    ):
        assert_near(y.mean(axes), 0.0)
        assert_near(y.var(axes), 1.0)


STATISTICS = {"mean": np.linspace(-1, 1, 6), "variance": np.linspace(0.5, 2, 6)}
NORMS = [
    (ref.batch_norm, ref.batch_norm_grad, (6,), {}),
    (ref.batch_norm, ref.batch_norm_grad, (6,), STATISTICS),
    (ref.layer_norm, ref.layer_norm_grad, (6,), {}),
    (ref.layer_norm, ref.layer_norm_grad, (5, 6), {"axis": (2, 3)}),
    (ref.group_norm, ref.group_norm_grad, (6,), {"groups": 2}),
]


@pytest.mark.parametrize(("norm", "grad", "shape", "options"), NORMS)
def test_gradients_of_norms(norm: Any, grad: Any, shape: Any, options: Any, rng: np.random.Generator) -> None:
    x, gamma, beta = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=shape), rng.normal(size=shape)
    dy = rng.normal(size=x.shape)
    dx, dgamma, dbeta = grad(dy, x, gamma, **options)
    assert_gradient(lambda x: (norm(x, gamma, beta, **options) * dy).sum(), x, dx)
    assert_gradient(lambda gamma: (norm(x, gamma, beta, **options) * dy).sum(), gamma, dgamma)
    assert_gradient(lambda beta: (norm(x, gamma, beta, **options) * dy).sum(), beta, dbeta)


def test_dropout() -> None:
    assert_same(ref.dropout([1.0, 2.0, 3.0], [1, 0, 1], 0.75), np.array([4.0, 0.0, 12.0]))


# ----------------------------------------------------------------------------------------- optimisers

GRADIENTS = (0.5, -2.0, 3.0)


def test_sgd_by_hand() -> None:
    assert_near(ref.sgd_step(1.0, 2.0, learning_rate=0.1)[0], 0.8)
    assert_near(ref.sgd_step(1.0, 2.0, 0.5, 0.1, 0.9), [1.25, 0.25])
    assert_near(ref.sgd_step(1.0, 2.0, 0.5, 0.1, 0.9, nesterov=True), [1.0 + 0.9 * 0.25 - 0.2, 0.25])
    assert_near(ref.sgd_step(10.0, 2.0, learning_rate=0.1, weight_decay=0.01)[0], 10 * 0.999 - 0.2)


def test_adam_is_the_average_with_its_bias_removed() -> None:
    """The textbook form: weighted means of all gradients so far, epsilon over sqrt(1 - b2^t) as in Keras."""
    w, m, v, want = 1.0, 0.0, 0.0, 1.0
    for t, g in enumerate(GRADIENTS, 1):
        w, m, v = ref.adam_step(w, g, m, v, t, learning_rate=0.1, epsilon=0.01)
        weights_1, weights_2 = ([rate ** (t - i) for i in range(1, t + 1)] for rate in (0.9, 0.999))
        mean = sum(a * g for a, g in zip(weights_1, GRADIENTS, strict=False)) / sum(weights_1)
        square = sum(a * g * g for a, g in zip(weights_2, GRADIENTS, strict=False)) / sum(weights_2)
        want -= 0.1 * mean / (math.sqrt(square) + 0.01 / math.sqrt(1 - 0.999**t))
        assert_near(w, want)


def test_adamw_shrinks_the_weights_first() -> None:
    plain, decayed = ref.adam_step(0.9996, 2.0, 0.1, 0.2, 3, 0.1), ref.adamw_step(1.0, 2.0, 0.1, 0.2, 3, 0.1)
    assert_near(decayed, plain)


def test_nadam_by_hand() -> None:
    """With b1 = 0.5: u1 = 0.26, u2 = 0.2696, u3 = 0.278816."""
    w, m, v = ref.nadam_step(1.0, 2.0, 0.0, 0.0, 1, 0.1, 0.5, 0.75, epsilon=0.5)
    u1, u2, u3 = 0.26, 0.2696, 0.278816
    first = 1.0 - 0.1 * (u2 * 1.0 / (1 - u1 * u2) + 2.0) / (2.0 + 0.5)  # m = 1, v = 1, v / (1 - 0.75) = 4
    assert_near([w, m, v], [first, 1.0, 1.0])
    w, m, v = ref.nadam_step(w, 3.0, m, v, 2, 0.1, 0.5, 0.75, epsilon=0.5)
    m_hat = u3 * 2.0 / (1 - u1 * u2 * u3) + (1 - u2) * 3.0 / (1 - u1 * u2)
    assert_near([w, m, v], [first - 0.1 * m_hat / (math.sqrt(3.0 / 0.4375) + 0.5), 2.0, 3.0])


def test_rmsprop_by_hand() -> None:
    w, v, velocity, average = ref.rmsprop_step(10.0, 10.0, 0.0, learning_rate=0.1, epsilon=0.0)
    assert_near([w, v, velocity, average], [10 - math.sqrt(0.1), 10.0, math.sqrt(0.1), 0.0])
    assert_near(ref.rmsprop_step(1.0, 2.0, 4.0, learning_rate=0.1, rho=0.5, epsilon=5.0)[0], 1.0 - 0.2 / 3.0)
    assert_near(ref.rmsprop_step(1.0, 2.0, 4.0, 0.5, 0.0, 0.1, 0.5, 0.8, 5.0)[0], 1.0 - (0.4 + 0.2 / 3.0))
    centered = ref.rmsprop_step(1.0, 2.0, 4.0, 0.0, 4.0, 0.1, 0.5, epsilon=14.0, centered=True)
    assert_near(centered, [1.0 - 0.2 / 3.0, 4.0, 0.2 / 3.0, 3.0])


def test_adagrad_by_hand() -> None:
    assert_near(ref.adagrad_step(1.0, 2.0, 3.0, learning_rate=0.3, epsilon=2.0), [0.8, 7.0])
    assert_near(ref.adagrad_step(1.0, 2.0, epsilon=0.0)[1], 4.1)


def test_adadelta_by_hand() -> None:
    w, v, d = ref.adadelta_step(1.0, 2.0, 6.0, 3.0, learning_rate=0.5, rho=0.5, epsilon=4.0)
    delta = -math.sqrt(7.0) / 3.0 * 2.0
    assert_near([w, v, d], [1.0 + 0.5 * delta, 5.0, 1.5 + delta**2 / 2])


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (ref.adam_step, (0.0, 0.0, 1)),
        (ref.nadam_step, (0.0, 0.0, 1)),
        (ref.rmsprop_step, (0.0,)),
        (ref.adagrad_step, (0.1,)),
        (ref.adadelta_step, (0.0, 0.0)),
    ],
)
def test_weight_decay_is_apart_from_the_gradient(step: Callable[..., Any], state: tuple[float, ...]) -> None:
    decayed = step(2.0, 0.3, *state, learning_rate=0.1, weight_decay=0.5)
    plain = step(2.0 * (1 - 0.1 * 0.5), 0.3, *state, learning_rate=0.1)
    assert_near(decayed, plain)


def test_optimiser_steps_leave_their_arguments_alone(rng: np.random.Generator) -> None:
    arrays = [rng.random(5) for _ in range(4)]
    copies = [a.copy() for a in arrays]
    ref.adamw_step(*arrays, 1)
    ref.rmsprop_step(*arrays, momentum=0.9)
    for a, copy in zip(arrays, copies, strict=True):
        assert_same(a, copy)
