"""Activation functions: element by element, and the softmaxes along an axis.

Inputs have any number of axes; results are float32 of the same shape. NaN in gives NaN out.
"""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.arrays import Array, as_float32
from fastcnn.errors import unknown_name
from fastcnn.kernels._eltwise import Activation, ActivationGrad, Softmax, SoftmaxGrad, grad_needs
from fastcnn.ops._engine import as_matrix, run, tensor

ELEMENTWISE = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "silu",
    "swish",
    "hard_sigmoid",
    "hard_swish",
    "mish",
)
SOFTMAXES = ("softmax", "log_softmax")


def linear(x: ArrayLike) -> Array:
    """x itself."""
    return _apply("linear", x)


def relu(x: ArrayLike) -> Array:
    """max(x, 0)."""
    return _apply("relu", x)


def relu6(x: ArrayLike) -> Array:
    """min(max(x, 0), 6)."""
    return _apply("relu6", x)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.2) -> Array:
    """x for x > 0, else negative_slope * x, with a slope of at least 0."""
    return _apply("leaky_relu", x, _parameter(negative_slope, "leaky_relu: negative_slope"))


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """x for x > 0, else alpha * (exp(x) - 1), with alpha at least 0 (Clevert et al., 2016)."""
    return _apply("elu", x, _parameter(alpha, "elu: alpha"))


def selu(x: ArrayLike) -> Array:
    """scale * elu(x, alpha), scale = 1.05070098, alpha = 1.67326324 (Klambauer et al., 2017)."""
    return _apply("selu", x)


def gelu(x: ArrayLike) -> Array:
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    return _apply("gelu", x)


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    return _apply("sigmoid", x)


def tanh(x: ArrayLike) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))."""
    return _apply("tanh", x)


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x))."""
    return _apply("softplus", x)


def softsign(x: ArrayLike) -> Array:
    """x / (1 + |x|)."""
    return _apply("softsign", x)


def silu(x: ArrayLike) -> Array:
    """x * sigmoid(x), also called swish (Ramachandran et al., 2017)."""
    return _apply("silu", x)


def swish(x: ArrayLike) -> Array:
    """Another name of `silu`."""
    return _apply("swish", x)


def hard_sigmoid(x: ArrayLike) -> Array:
    """relu6(x + 3) / 6."""
    return _apply("hard_sigmoid", x)


def hard_swish(x: ArrayLike) -> Array:
    """x * relu6(x + 3) / 6 (Howard et al., MobileNetV3, 2019)."""
    return _apply("hard_swish", x)


def mish(x: ArrayLike) -> Array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return _apply("mish", x)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along `axis`."""
    return _normalize(x, axis, "softmax")


def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) along `axis`."""
    return _normalize(x, axis, "log_softmax")


def softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """y * (dy - sum(y * dy)) with y = softmax(x) along `axis`: the gradient of a loss with respect to x."""
    return _normalize_grad(dy, x, axis, "softmax")


def log_softmax_grad(dy: ArrayLike, x: ArrayLike, axis: int = -1) -> Array:
    """dy - softmax(x) * sum(dy) along `axis`: the gradient of a loss with respect to x."""
    return _normalize_grad(dy, x, axis, "log_softmax")


def activation(x: ArrayLike, name: str) -> Array:
    """The activation called `name` of x, with its default parameter; softmaxes along the last axis."""
    _check_name(name, "activation")
    return _normalize(x, -1, name) if name in SOFTMAXES else _apply(name, x)


def activation_grad(dy: ArrayLike, x: ArrayLike, name: str) -> Array:
    """Gradient of `activation` with respect to x: dy * f'(x) where f works element by element.

    At a kink, f' is that of the flat or lower side: relu'(0) = relu6'(6) = 0.
    """
    _check_name(name, "activation_grad")
    if name in SOFTMAXES:
        return _normalize_grad(dy, x, -1, name)
    x = as_float32(x, None, "activation_grad: x")
    dy = as_float32(dy, None, "activation_grad: dy", x.shape)
    y, dx = np.empty_like(x), np.empty_like(x)
    given, result, out = (tensor(as_matrix(a)) for a in (x, y, dx))
    ops = [] if grad_needs(name) == "x" else [Activation(name, given, result)]
    run(*ops, ActivationGrad(name, tensor(as_matrix(dy)), given, result, out))
    return dx


def _apply(name: str, x: ArrayLike, parameter: float | None = None) -> Array:
    x = as_float32(x, None, f"{name}: x")
    y = np.empty_like(x)
    run(Activation(name, tensor(as_matrix(x)), tensor(as_matrix(y)), parameter))
    return y


def _normalize(x: ArrayLike, axis: int, name: str) -> Array:
    x = _along(x, axis, name, f"{name}: x")
    y = np.empty_like(x)
    run(Softmax(_rows(x), _rows(y), log=name == "log_softmax"))
    return np.ascontiguousarray(np.moveaxis(y, -1, axis))


def _normalize_grad(dy: ArrayLike, x: ArrayLike, axis: int, name: str) -> Array:
    x = _along(x, axis, f"{name}_grad", f"{name}_grad: x")
    dy = _along(dy, axis, f"{name}_grad", f"{name}_grad: dy")
    if dy.shape != x.shape:
        raise ValueError(f"{name}_grad: dy and x must have one shape, got {dy.shape} and {x.shape}")
    y, dx, log = np.empty_like(x), np.empty_like(x), name == "log_softmax"
    run(Softmax(_rows(x), _rows(y), log=log), SoftmaxGrad(_rows(dy), _rows(y), _rows(dx), log=log))
    return np.ascontiguousarray(np.moveaxis(dx, -1, axis))


def _along(x: ArrayLike, axis: int, where: str, what: str) -> Array:
    """x with `axis` moved to the end."""
    x = as_float32(x, None, what)
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"{where}: axis must be an int, got {axis!r}") from None
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{where}: axis {axis} does not exist in an array of shape {x.shape}")
    if x.shape[axis] < 1:
        raise ValueError(f"{where}: axis {axis} must hold at least one value, got shape {x.shape}")
    return np.ascontiguousarray(np.moveaxis(x, axis, -1))


def _rows(x: Array):
    return tensor(x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1]))


def _parameter(value: float, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number, got {value!r}") from None
    if not 0 <= number < np.inf:
        raise ValueError(f"{what} must be finite and at least 0, got {value!r}")
    return number


def _check_name(name: str, where: str) -> None:
    if name not in (*ELEMENTWISE, *SOFTMAXES):
        raise unknown_name("activation", name, (*ELEMENTWISE, *SOFTMAXES), where)
