"""Optimizers: each rule against the formulas of its paper, written out for one number in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import optimizers, schedules
from fastcnn.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Nadam, RMSprop

GRADIENTS = [0.3, -0.2, 0.5, 0.1, -0.7, 0.4]
START = 1.5


def run(optimizer, gradients=GRADIENTS, dtype=np.float64, start=START):
    """The weight after each step, beside a second weight at rest whose gradient is 0."""
    w = np.array([start, 0.0], dtype)
    slots = {slot: np.full(2, optimizer.initial_slot(slot), dtype) for slot in optimizer.slots}
    path = []
    for g in gradients:
        optimizer.update(w, np.array([g, 0.0], dtype), slots)
        optimizer.iterations += 1
        path.append(float(w[0]))
    assert w.dtype == dtype and all(slot.dtype == dtype for slot in slots.values())
    assert w[1] == 0.0
    return path


def sgd(w, lr=0.01):
    for g in GRADIENTS:
        yield (w := w - lr * g)


def momentum(w, lr=0.1, mu=0.9):
    """Sutskever et al. (2013), equations 1 and 2."""
    v = 0.0
    for g in GRADIENTS:
        v = mu * v - lr * g
        yield (w := w + v)


def nesterov(w, lr=0.1, mu=0.9):
    """The weights are the look-ahead point θ + μ v of Sutskever et al. (2013), equations 3 and 4."""
    theta, v = w, 0.0
    for g in GRADIENTS:
        v = mu * v - lr * g
        theta += v
        yield theta + mu * v


def adam(w, lr=0.001, b1=0.9, b2=0.999, eps=1e-7, decay=0.0):
    """Kingma & Ba (2015), algorithm 1, with ε̂ scaled as at the end of section 2."""
    m = v = 0.0
    for t, g in enumerate(GRADIENTS, 1):
        w -= lr * decay * w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        w -= lr * m_hat / (math.sqrt(v_hat) + eps / math.sqrt(1 - b2**t))
        yield w


def nadam(w, lr=0.001, b1=0.9, b2=0.999, eps=1e-7):
    """Dozat (2016), algorithm 2 with the schedule of μ."""
    m = v = 0.0
    mu = [b1 * (1 - 0.5 * 0.96**t) for t in range(1, len(GRADIENTS) + 2)]
    for t, g in enumerate(GRADIENTS):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat = mu[t + 1] * m / (1 - math.prod(mu[: t + 2])) + (1 - mu[t]) * g / (1 - math.prod(mu[: t + 1]))
        yield (w := w - lr * m_hat / (math.sqrt(v / (1 - b2 ** (t + 1))) + eps))


def rmsprop(w, lr=0.001, rho=0.9, mu=0.0, eps=1e-7, centered=False):
    v = a = m = 0.0
    for g in GRADIENTS:
        v = rho * v + (1 - rho) * g**2
        a = rho * a + (1 - rho) * g
        m = mu * m + lr * g / math.sqrt(v - centered * a**2 + eps)
        yield (w := w - m)


def adagrad(w, lr=0.001, total=0.1, eps=1e-7):
    for g in GRADIENTS:
        total += g**2
        yield (w := w - lr * g / math.sqrt(total + eps))


def adadelta(w, lr=0.001, rho=0.95, eps=1e-7):
    """Zeiler (2012), algorithm 1, the step scaled by lr."""
    eg = ed = 0.0
    for g in GRADIENTS:
        eg = rho * eg + (1 - rho) * g**2
        delta = -math.sqrt(ed + eps) / math.sqrt(eg + eps) * g
        ed = rho * ed + (1 - rho) * delta**2
        yield (w := w + lr * delta)


CASES = [
    (SGD(), sgd(START)),
    (SGD(0.1, momentum=0.9), momentum(START)),
    (SGD(0.1, momentum=0.9, nesterov=True), nesterov(START)),
    (Adam(), adam(START)),
    (Adam(0.1, 0.5, 0.9, 1e-2), adam(START, 0.1, 0.5, 0.9, 1e-2)),
    (AdamW(), adam(START, decay=0.004)),
    (AdamW(0.1, 0.5), adam(START, 0.1, decay=0.5)),
    (Nadam(), nadam(START)),
    (Nadam(0.1, 0.5, 0.9, 1e-2), nadam(START, 0.1, 0.5, 0.9, 1e-2)),
    (RMSprop(), rmsprop(START)),
    (RMSprop(0.1, 0.5, 0.9, 1e-2), rmsprop(START, 0.1, 0.5, 0.9, 1e-2)),
    (RMSprop(0.1, centered=True), rmsprop(START, 0.1, centered=True)),
    (RMSprop(0.1, momentum=0.5, centered=True), rmsprop(START, 0.1, mu=0.5, centered=True)),
    (Adagrad(), adagrad(START)),
    (Adagrad(0.1, 0.0, 1e-2), adagrad(START, 0.1, 0.0, 1e-2)),
    (Adadelta(), adadelta(START)),
    (Adadelta(1.0, 0.5, 1e-2), adadelta(START, 1.0, 0.5, 1e-2)),
]


@pytest.mark.parametrize(
    ("optimizer", "expected"), [(o, list(e)) for o, e in CASES], ids=lambda v: type(v).__name__
)
def test_rules(optimizer, expected):
    np.testing.assert_allclose(run(optimizer), expected, rtol=1e-12)
    optimizer.iterations = 0
    np.testing.assert_allclose(run(optimizer, dtype=np.float32), expected, rtol=1e-5)


@pytest.mark.parametrize(("optimizer", "want"), [
    (Nadam(0.01), [0.9519058465957642, -1.9604023694992065, 0.5039312243461609, 2.9604029655456543]),
    (Nadam(0.01, weight_decay=0.1),
     [0.9470144510269165, -1.9505093097686768, 0.5014787316322327, 2.9455196857452393]),
    (Adadelta(0.5), [0.9946090579032898, -1.9963971376419067, 0.5010401606559753, 2.9964327812194824]),
    (Adadelta(0.5, weight_decay=0.1, clipvalue=0.3),
     [0.7693349719047546, -1.5442991256713867, 0.3877735137939453, 2.3181121349334717]),
], ids=lambda v: getattr(v, "name", ""))
def test_five_steps_as_keras_does_them(optimizer, want):
    """Stored results of Keras 3.15 on TensorFlow."""
    w = np.array([1.0, -2.0, 0.5, 3.0])
    slots = {slot: np.full(4, optimizer.initial_slot(slot)) for slot in optimizer.slots}
    for k in range(5):
        (g,) = optimizer.clip([np.array([0.1 * (k + 1), -0.4, 1.5 - k, 0.01])])
        optimizer.update(w, g, slots)
        optimizer.iterations += 1
    np.testing.assert_allclose(w, want, rtol=1e-6)


def test_sgd_by_hand():
    np.testing.assert_allclose(run(SGD(0.5), [1.0, 2.0], start=4.0), [3.5, 2.5])
    np.testing.assert_allclose(run(SGD(0.5, 0.5), [1.0, 2.0], start=4.0), [3.5, 2.25])
    np.testing.assert_allclose(run(SGD(0.5, 0.5, True), [1.0, 2.0], start=4.0), [3.25, 1.625])
    np.testing.assert_allclose(run(SGD(0.5, weight_decay=0.25), [1.0], start=4.0), [4 - 0.5 - 0.5])


@pytest.mark.parametrize("make", [SGD, Adam, RMSprop, Adagrad, Adadelta, Nadam])
def test_weight_decay_shrinks_before_the_rule(make):
    decayed = run(make(learning_rate=0.1, weight_decay=0.5), [0.3])
    shrunk = run(make(learning_rate=0.1), [0.3], start=START * (1 - 0.1 * 0.5))
    np.testing.assert_allclose(decayed, shrunk, rtol=1e-14)


def test_scalars_are_those_of_the_next_step():
    adam = Adam(0.1, weight_decay=0.5)
    adam.iterations = 2
    alpha = 0.1 * math.sqrt(1 - 0.999**3) / (1 - 0.9**3)
    assert adam.scalars() == {
        "learning_rate": 0.1, "decay": 0.05, "alpha": alpha, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
    }  # fmt: skip
    assert SGD().scalars()["decay"] == 0.0


def test_nadam_finds_its_product_after_a_jump():
    straight, jumped = Nadam(), Nadam()
    for straight.iterations in range(8):
        expected = straight.scalars()
    for jumped.iterations in (20, 7):
        got = jumped.scalars()
    assert got == expected


@pytest.mark.parametrize(
    ("optimizer", "kernel", "slots"),
    [
        (SGD(), "sgd", ()),
        (SGD(momentum=0.9), "sgd_momentum", ("momentum",)),
        (SGD(momentum=0.9, nesterov=True), "sgd_nesterov", ("momentum",)),
        (Adam(), "adam", ("momentum", "velocity")),
        (AdamW(), "adam", ("momentum", "velocity")),
        (RMSprop(), "rmsprop", ("velocity",)),
        (RMSprop(momentum=0.9), "rmsprop_momentum", ("velocity", "momentum")),
        (RMSprop(momentum=0.9, centered=True), "rmsprop_centered_momentum",
         ("velocity", "average_gradient", "momentum")),
        (Adagrad(), "adagrad", ("accumulator",)),
        (Adadelta(), "adadelta", ("accumulated_grad", "accumulated_delta_var")),
        (Nadam(), "nadam", ("momentum", "velocity")),
    ],
    ids=repr,
)
def test_kernels_and_slots(optimizer, kernel, slots):
    assert (optimizer.kernel, optimizer.slots) == (kernel, slots)


def test_a_schedule_is_asked_at_every_step():
    scheduled = SGD(schedules.PiecewiseConstantDecay([0], [1.0, 0.5]))
    np.testing.assert_allclose(run(scheduled, [1.0, 1.0], start=4.0), [3.0, 2.5])
    assert scheduled.learning_rate == 0.5 and scheduled.has_schedule
    with pytest.raises(TypeError, match="sgd: the learning rate follows PiecewiseConstantDecay"):
        scheduled.learning_rate = 0.1
    scheduled.learning_rate = schedules.CosineDecay(0.2, 10)
    scheduled.iterations = 5
    assert scheduled.learning_rate == pytest.approx(0.1)


def test_the_learning_rate_can_be_set():
    adam = Adam()
    adam.learning_rate = 1
    assert adam.learning_rate == 1.0 and not adam.has_schedule
    assert adam.get_config()["learning_rate"] == 1.0
    with pytest.raises(ValueError, match="adam: learning_rate must be at least 0, got -1"):
        adam.learning_rate = -1
    assert adam.learning_rate == 1.0


G = [np.array([3.0, -4.0], np.float32), np.array([[12.0]], np.float32)]  # norms 5 and 12, together 13


@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        ({}, [[3, -4], [[12]]]),
        ({"clipvalue": 3.5}, [[3, -3.5], [[3.5]]]),
        ({"clipnorm": 10.0}, [[3, -4], [[10]]]),
        ({"clipnorm": 2.5}, [[1.5, -2], [[2.5]]]),
        ({"global_clipnorm": 20.0}, [[3, -4], [[12]]]),
        ({"global_clipnorm": 6.5}, [[1.5, -2], [[6]]]),
    ],
)
def test_clipping(clipping, expected):
    clipped = SGD(**clipping).clip(G)
    for got, want in zip(clipped, expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(G[0], [3, -4])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SGD(-0.1), ValueError, "sgd: learning_rate must be at least 0, got -0.1"),
        (lambda: SGD(math.nan), ValueError, "learning_rate must be at least 0, got nan"),
        (lambda: SGD("fast"), TypeError, "sgd: learning_rate must be a number, got 'fast'"),
        (lambda: SGD(True), TypeError, "must be a number, got True"),
        (lambda: SGD(momentum=1.5), ValueError, "momentum must be at least 0 and at most 1"),
        (
            lambda: SGD(clipnorm=1.0, global_clipnorm=1.0),
            ValueError,
            "set only one of clipnorm, clipvalue and",
        ),
        (lambda: SGD(clipnorm=0), ValueError, "clipnorm must be above 0"),
        (lambda: Adam(beta_1=1.0), ValueError, "adam: beta_1 must be below 1"),
        (lambda: Adam(epsilon=-1), ValueError, "epsilon must be at least 0"),
        (lambda: Adam(weight_decay=-1), ValueError, "weight_decay must be at least 0"),
        (lambda: AdamW(weight_decay=None), ValueError, "weight_decay must be a number, got None"),
        (lambda: RMSprop(rho=-0.1), ValueError, "rho must be at least 0"),
    ],
)
def test_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_defaults():
    defaults = {
        name: (
            optimizers.get(name).learning_rate,
            optimizers.get(name).weight_decay,
            optimizers.get(name).name,
        )
        for name in ("sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "nadam")
    }
    assert defaults == {
        "sgd": (0.01, None, "sgd"),
        "adam": (0.001, None, "adam"),
        "adamw": (0.001, 0.004, "adamw"),
        "rmsprop": (0.001, None, "rmsprop"),
        "adagrad": (0.001, None, "adagrad"),
        "adadelta": (0.001, None, "adadelta"),
        "nadam": (0.001, None, "nadam"),
    }


def test_an_optimizer_of_ones_own():
    class SignDescent(optimizers.Optimizer):
        def step(self, w, g, slots, scalars):
            w -= scalars["learning_rate"] * np.sign(g)

    np.testing.assert_allclose(run(optimizers.get(SignDescent(0.5)), [3.0, -2.0]), [1.0, 1.5])
