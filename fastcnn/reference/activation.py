"""Activation functions and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64, check_shape
from fastcnn.reference.merging import sum_to

SELU_SCALE = 1.0507009873554805  # Klambauer et al., Self-Normalizing Neural Networks, 2017
SELU_ALPHA = 1.6732632423543772
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def linear(x: ArrayLike) -> Array:
    """x itself."""
    return as_float64(x, "linear: x")


def relu(x: ArrayLike) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.maximum(as_float64(x, "relu: x"), 0.0)


def relu6(x: ArrayLike) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(as_float64(x, "relu6: x"), 0.0, 6.0)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> Array:
    """x for x > 0, else negative_slope * x."""
    x = as_float64(x, "leaky_relu: x")
    return np.where(x > 0, x, negative_slope * x)


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """x for x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""
    x = as_float64(x, "elu: x")
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def selu(x: ArrayLike) -> Array:
    """SELU_SCALE * elu(x, SELU_ALPHA) (Klambauer et al., 2017)."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def gelu(x: ArrayLike) -> Array:
    """x * Phi(x), Phi(x) = erfc(-x / sqrt(2)) / 2 the normal distribution (Hendrycks, Gimpel, 2016)."""
    x = as_float64(x, "gelu: x")
    return 0.5 * x * _erfc(-x / math.sqrt(2.0))


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), as exp(-softplus(-x)), which cannot overflow."""
    return np.exp(-np.logaddexp(0.0, -as_float64(x, "sigmoid: x")))


def tanh(x: ArrayLike) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return np.tanh(as_float64(x, "tanh: x"))


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(0.0, as_float64(x, "softplus: x"))


def softsign(x: ArrayLike) -> Array:
    """x / (1 + |x|)."""
    x = as_float64(x, "softsign: x")
    return x / (1.0 + np.abs(x))


def silu(x: ArrayLike) -> Array:
    """x * sigmoid(x), also called swish (Ramachandran et al., 2017)."""
    x = as_float64(x, "silu: x")
    return x * sigmoid(x)


def swish(x: ArrayLike) -> Array:
    """Another name of `silu`."""
    return silu(x)


def hard_sigmoid(x: ArrayLike) -> Array:
    """relu6(x + 3) / 6."""
    return relu6(as_float64(x, "hard_sigmoid: x") + 3.0) / 6.0


def hard_swish(x: ArrayLike) -> Array:
    """x * relu6(x + 3) / 6 (Howard et al., MobileNetV3, 2019)."""
    x = as_float64(x, "hard_swish: x")
    return x * hard_sigmoid(x)


def mish(x: ArrayLike) -> Array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    x = as_float64(x, "mish: x")
    return x * np.tanh(softplus(x))


def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) along `axis`, with the maximum taken out first."""
    x = as_float64(x, "log_softmax: x")
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    return np.exp(log_softmax(x, axis))


def softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """y * (dy - sum(y * dy)) with y = softmax(x)."""
    dy, y = as_float64(dy, "softmax_grad: dy"), softmax(x, axis)
    return y * (dy - (y * dy).sum(axis, keepdims=True))


def log_softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """dy - softmax(x) * sum(dy)."""
    dy = as_float64(dy, "log_softmax_grad: dy")
    return dy - softmax(x, axis) * dy.sum(axis, keepdims=True)


def prelu(x: ArrayLike, alpha: ArrayLike) -> Array:
    """x where x > 0, else alpha * x; alpha has the shape of a sample, or 1 along some of its axes."""
    x, alpha = as_float64(x, "prelu: x"), as_float64(alpha, "prelu: alpha")
    return np.where(x > 0, x, alpha * x)


def prelu_grad(dy: ArrayLike, x: ArrayLike, alpha: ArrayLike) -> tuple[Array, Array]:
    """(dx, dalpha); at zero, the slope is alpha."""
    dy, x = as_float64(dy, "prelu_grad: dy"), as_float64(x, "prelu_grad: x")
    alpha = as_float64(alpha, "prelu_grad: alpha")
    return np.where(x > 0, dy, alpha * dy), sum_to(np.where(x > 0, 0.0, dy * x).sum(0), alpha.shape)


def _gelu_derivative(x: Array) -> Array:
    """Phi(x) + x * phi(x)."""
    return 0.5 * _erfc(-x / math.sqrt(2.0)) + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _mish_derivative(x: Array) -> Array:
    """t + x * (1 - t^2) * sigmoid(x) with t = tanh(softplus(x))."""
    t = np.tanh(softplus(x))
    return t + x * (1.0 - t * t) * sigmoid(x)


# name: (f, f'). At a kink f' is the derivative from the flat or lower side: relu'(0) = relu6'(6) = 0.
_ELEMENTWISE: dict[str, tuple[Callable[..., Array], Callable[[Array], Array]]] = {
    "linear": (linear, np.ones_like),
    "relu": (relu, lambda x: np.where(x > 0, 1.0, 0.0)),
    "relu6": (relu6, lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0)),
    "leaky_relu": (leaky_relu, lambda x: np.where(x > 0, 1.0, 0.2)),
    "elu": (elu, lambda x: np.exp(np.minimum(x, 0.0))),
    "selu": (selu, lambda x: SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(x, 0.0)))),
    "gelu": (gelu, _gelu_derivative),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (tanh, lambda x: 1.0 / np.cosh(np.clip(x, -300.0, 300.0)) ** 2),
    "softplus": (softplus, sigmoid),
    "softsign": (softsign, lambda x: 1.0 / (1.0 + np.abs(x)) ** 2),
    "silu": (silu, lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "swish": (silu, lambda x: sigmoid(x) * (1.0 + x * sigmoid(-x))),
    "hard_sigmoid": (hard_sigmoid, lambda x: np.where(np.abs(x) < 3, 1.0 / 6.0, 0.0)),
    "hard_swish": (hard_swish, lambda x: hard_sigmoid(x) + np.where(np.abs(x) < 3, x / 6.0, 0.0)),
    "mish": (mish, _mish_derivative),
}
_ALONG_CHANNELS = {"softmax": (softmax, softmax_grad), "log_softmax": (log_softmax, log_softmax_grad)}
ACTIVATIONS = (*_ELEMENTWISE, *_ALONG_CHANNELS)


def activation(x: ArrayLike, name: str) -> Array:
    """The activation called `name` (see `ACTIVATIONS`), default parameters, softmaxes over the last axis."""
    _check_activation(name)
    return {**_ELEMENTWISE, **_ALONG_CHANNELS}[name][0](x)


def activation_grad(dy: ArrayLike, x: ArrayLike, name: str) -> Array:
    """Gradient of `activation` with respect to its input x: dy * f'(x) where f works element by element."""
    _check_activation(name)
    dy, x = as_float64(dy, "activation_grad: dy"), as_float64(x, "activation_grad: x")
    check_shape(dy.shape, x.shape, "activation_grad: dy")
    if name in _ALONG_CHANNELS:
        return _ALONG_CHANNELS[name][1](dy, x)
    return dy * _ELEMENTWISE[name][1](x)


def _check_activation(name: str) -> None:
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; the names are {', '.join(ACTIVATIONS)}")
