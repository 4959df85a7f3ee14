"""One update of weights w with gradient g, by the rules and defaults of Keras 3.

Each function returns the new weights and the new state; `step` counts from 1. Weight decay shrinks w before the
update, apart from the gradient.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64


def sgd_step(
    w: ArrayLike,
    g: ArrayLike,
    velocity: ArrayLike = 0.0,
    learning_rate: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float | None = None,
) -> tuple[Array, Array]:
    """Gradient descent with momentum (Sutskever et al., 2013). Returns (w, velocity).

    v = momentum * v - lr * g;   w = w + v,   with nesterov w = w + momentum * v - lr * g
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    velocity = momentum * as_float64(velocity, "velocity") - learning_rate * g
    return (w + momentum * velocity - learning_rate * g if nesterov else w + velocity), velocity


def adam_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adam (Kingma and Ba, 2015), with epsilon as in the text before its section 2.1. Returns (w, m, v).

    m = b1 * m + (1 - b1) * g;   v = b2 * v + (1 - b2) * g^2
    w = w - lr * sqrt(1 - b2^step) / (1 - b1^step) * m / (sqrt(v) + epsilon)
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    m, v = _mean_of(m, g, beta_1), _mean_of(v, g * g, beta_2)
    rate = learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
    return w - rate * m / (np.sqrt(v) + epsilon), m, v


def adamw_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float = 0.004,
) -> tuple[Array, Array, Array]:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019). Returns (w, m, v)."""
    return adam_step(w, g, m, v, step, learning_rate, beta_1, beta_2, epsilon, weight_decay)


def nadam_step(
    w: ArrayLike,
    g: ArrayLike,
    m: ArrayLike,
    v: ArrayLike,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adam with Nesterov momentum (Dozat, 2016). Returns (w, m, v).

    u_t = b1 * (1 - 0.96^t / 2),   P_t = u_1 * ... * u_t
    m^ = u_{t+1} * m / (1 - P_{t+1}) + (1 - u_t) * g / (1 - P_t),   v^ = v / (1 - b2^t)
    w = w - lr * m^ / (sqrt(v^) + epsilon)
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    m, v = _mean_of(m, g, beta_1), _mean_of(v, g * g, beta_2)
    u = [beta_1 * (1.0 - 0.5 * 0.96**t) for t in range(1, step + 2)]
    m_hat = u[step] * m / (1.0 - math.prod(u)) + (1.0 - u[step - 1]) * g / (1.0 - math.prod(u[:step]))
    return w - learning_rate * m_hat / (np.sqrt(v / (1.0 - beta_2**step)) + epsilon), m, v


def rmsprop_step(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    velocity: ArrayLike = 0.0,
    average: ArrayLike = 0.0,
    learning_rate: float = 0.001,
    rho: float = 0.9,
    momentum: float = 0.0,
    epsilon: float = 1e-7,
    centered: bool = False,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array, Array]:
    """RMSprop (Hinton, Coursera lecture 6, 2012), epsilon inside the root. Returns (w, v, velocity, average).

    v = rho * v + (1 - rho) * g^2;   average = rho * average + (1 - rho) * g   (centered)
    velocity = momentum * velocity + lr * g / sqrt(v - average^2 + epsilon);   w = w - velocity
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    v = _mean_of(v, g * g, rho)
    average = _mean_of(average, g, rho) if centered else np.zeros_like(g)
    step = learning_rate * g / np.sqrt(v - average * average + epsilon)
    velocity = momentum * as_float64(velocity, "velocity") + step
    return w - velocity, v, velocity, average


def adagrad_step(
    w: ArrayLike,
    g: ArrayLike,
    accumulator: ArrayLike = 0.1,
    learning_rate: float = 0.001,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array]:
    """Adagrad (Duchi et al., 2011), epsilon inside the root. Returns (w, accumulator).

    a = a + g^2;   w = w - lr * g / sqrt(a + epsilon)      (a starts at 0.1)
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    accumulator = as_float64(accumulator, "accumulator") + g * g
    return w - learning_rate * g / np.sqrt(accumulator + epsilon), accumulator


def adadelta_step(
    w: ArrayLike,
    g: ArrayLike,
    v: ArrayLike,
    d: ArrayLike,
    learning_rate: float = 0.001,
    rho: float = 0.95,
    epsilon: float = 1e-7,
    weight_decay: float | None = None,
) -> tuple[Array, Array, Array]:
    """Adadelta (Zeiler, 2012). Returns (w, v, d), the averages of squared gradients and squared changes.

    v = rho * v + (1 - rho) * g^2;   delta = -sqrt(d + epsilon) / sqrt(v + epsilon) * g
    d = rho * d + (1 - rho) * delta^2;   w = w + lr * delta
    """
    w, g = _decayed(w, learning_rate, weight_decay), as_float64(g, "g")
    v = _mean_of(v, g * g, rho)
    delta = -np.sqrt(as_float64(d, "d") + epsilon) / np.sqrt(v + epsilon) * g
    return w + learning_rate * delta, v, _mean_of(d, delta * delta, rho)


def _decayed(w: ArrayLike, learning_rate: float, weight_decay: float | None) -> Array:
    return as_float64(w, "w") * (1.0 - learning_rate * (weight_decay or 0.0))


def _mean_of(old: ArrayLike, new: Array, rate: float) -> Array:
    """Exponential moving average of the state of an optimiser."""
    return rate * as_float64(old, "state") + (1.0 - rate) * new
