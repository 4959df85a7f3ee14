"""Element-wise activations and softmax, as layers and as the `activation` argument of others."""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

from fastcnn import initializers, regularizers
from fastcnn.errors import unknown_name
from fastcnn.layers.arguments import Shape
from fastcnn.layers.base import Layer
from fastcnn.layers.declared import DeclaredLayer
from fastcnn.plan import merging, operations
from fastcnn.utils import real_number, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value

SOFTMAXES = ("softmax", "log_softmax")
ACTIVATIONS = ("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "sigmoid", "tanh", "softplus",
               "softsign", "silu", "swish", "hard_sigmoid", "hard_swish", "mish", *SOFTMAXES)
FUNCTIONS = ("fastcnn.activations", "fastcnn.ops.activation")  # the modules of those that names stand for


def activation_name(activation: Any, where: str) -> str:
    """The name of an activation, 'linear' for None.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything but a name, or a function of `fastcnn.activations` or `fastcnn.ops`.
    """
    if activation is None:
        return "linear"
    if isfunction(activation) and activation.__module__ in FUNCTIONS and activation.__name__ in ACTIVATIONS:
        return activation.__name__
    if not isinstance(activation, str):
        raise TypeError(f"{where}: activation must be a name such as 'relu', got {activation!r}; put a "
                        f"layer such as LeakyReLU, or one of your own, after this one instead")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS, where)
    return activation


def lower_activation(plan: Lowering, x: Value, kind: str, layer: Layer, param: float | None = None) -> Value:
    """`x` after the activation named `kind`; `param` is the slope of 'leaky_relu' or the alpha of 'elu'."""
    if kind == "linear":
        return x
    if kind in SOFTMAXES:
        return plan.add(operations.Softmax(x, log=kind == "log_softmax", layer=layer))
    return plan.add(operations.Activation(x, kind, param, layer=layer))


class Activation(DeclaredLayer):
    """y = f(x) for an activation given by name, or as a function of `fastcnn.activations`.

    Parameters
    ----------
    activation : 'linear', 'relu', 'relu6', 'leaky_relu' (slope 0.2), 'elu', 'selu', 'gelu' (with erf),
        'sigmoid', 'tanh', 'softplus', 'softsign', 'silu' or 'swish', 'hard_sigmoid', 'hard_swish', 'mish',
        and over the last axis 'softmax' or 'log_softmax'.

    Raises
    ------
    ValueError, TypeError
        For an unknown name, or a function of one's own.
    """

    def __init__(self, activation: str | None, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.activation = activation_name(activation, self.name)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_activation(plan, x, self.activation, self)


class ReLU(DeclaredLayer):
    """y = max(x, 0), or with the options min(x, max_value), and negative_slope * x for x < 0.

    Parameters
    ----------
    max_value : None, or 6 for ReLU6.
    negative_slope : 0 or more; a slope and a `max_value` together are refused.
    threshold : 0, the only one.
    """

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0,
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        own = "a layer of your own, a subclass of Layer with forward and backward in NumPy"
        if max_value not in (None, 6):
            raise ValueError(f"{self.name}: max_value must be None or 6, got {max_value!r}; use one of "
                             f"them, or {own}")
        self.threshold = real_number(threshold, "threshold", self.name)
        if self.threshold:
            raise ValueError(f"{self.name}: threshold must be 0, got {threshold!r}; leave it out, use Rescaling(1, "
                             f"offset=-threshold) before a ReLU if values should start from 0 there, or {own}")
        self.max_value = None if max_value is None else 6.0
        self.negative_slope = real_number(negative_slope, "negative_slope", self.name, low=0.0)
        if self.max_value and self.negative_slope:
            raise ValueError(f"{self.name}: expected max_value or negative_slope, got both ({max_value!r} "
                             f"and {negative_slope!r}); leave one out")

    def lower(self, plan: Lowering, x: Value) -> Value:
        if self.negative_slope:
            return lower_activation(plan, x, "leaky_relu", self, self.negative_slope)
        return lower_activation(plan, x, "relu6" if self.max_value else "relu", self)


class LeakyReLU(DeclaredLayer):
    """y = x for x >= 0, negative_slope * x below (Maas, Hannun & Ng, 2013).

    Parameters
    ----------
    negative_slope : 0 or more.
    """

    def __init__(self, negative_slope: float = 0.3, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.negative_slope = real_number(negative_slope, "negative_slope", self.name, low=0.0)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_activation(plan, x, "leaky_relu", self, self.negative_slope)


class PReLU(DeclaredLayer):
    """y = x for x > 0, alpha * x below, with learned slopes (He et al., 2015); at zero the slope is alpha's.

    Parameters
    ----------
    alpha_initializer, alpha_regularizer : of the slopes; see `fastcnn.initializers` and `fastcnn.regularizers`.
    shared_axes : axes, the batch being 0, along which all entries share a slope: (1, 2) gives images one slope
        per channel. None: every entry has its own. The weight `alpha` has the shape of a sample, with size 1
        along shared axes.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments; when called, for inputs without these axes or of another shape than at first.
    """

    def __init__(self, alpha_initializer: Any = "zeros", alpha_regularizer: Any = None, shared_axes: Any = None,
                 input_shape: Any = None, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(input_shape, name, trainable)
        self.alpha_initializer = initializers.get(alpha_initializer, self.name)
        self.alpha_regularizer = regularizers.get(alpha_regularizer, self.name)
        axes = shared_axes if isinstance(shared_axes, (tuple, list)) else [shared_axes]
        self.shared_axes = None if shared_axes is None else tuple(
            whole_number(axis, "every axis in shared_axes", self.name) for axis in axes)

    def slope_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `alpha` for samples of `shape`."""
        return tuple(1 if axis in (self.shared_axes or ()) else size for axis, size in enumerate(shape, 1))

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if len(input_shape) > 4 or max(self.shared_axes or (1,)) >= len(input_shape):
            raise ValueError(f"{self.name}: expected an input of up to four axes, with the shared_axes "
                             f"{self.shared_axes} among them, got shape {tuple(input_shape)}; Reshape it, or share "
                             f"along its own axes")
        slopes = self.slope_shape(tuple(input_shape[1:]))
        if self.built and slopes != self.alpha.shape:
            raise ValueError(f"{self.name}: its slopes have shape {self.alpha.shape}, but an input of shape "
                             f"{tuple(input_shape)} needs {slopes}; share more axes, or make a new layer")

    def build(self, input_shape: Shape) -> None:
        self.alpha = self.add_weight(self.slope_shape(tuple(input_shape[1:])), self.alpha_initializer, "alpha",
                                     regularizer=self.alpha_regularizer)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(merging.PRelu(x, self.alpha, layer=self))


class ELU(DeclaredLayer):
    """y = x for x >= 0, alpha * (exp(x) - 1) below (Clevert, Unterthiner & Hochreiter, 2016).

    Parameters
    ----------
    alpha : 0 or more.
    """

    def __init__(self, alpha: float = 1.0, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.alpha = real_number(alpha, "alpha", self.name, low=0.0)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_activation(plan, x, "elu", self, self.alpha)


class Softmax(DeclaredLayer):
    """y = exp(x) / sum of exp(x) over the last axis.

    Parameters
    ----------
    axis : the last axis, as -1 or by its number; another one raises ValueError.
    """

    def __init__(self, axis: int = -1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise TypeError(f"{self.name}: axis must be a whole number, got {axis!r}; use -1, the last axis")
        self.axis = axis

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if len(input_shape) < 2 or self.axis not in (-1, len(input_shape) - 1):
            raise ValueError(f"{self.name}: expected axis to be the last one of an input of 2 axes or more, "
                             f"got axis={self.axis} for an input of shape {tuple(input_shape)}; use axis=-1")

    def lower(self, plan: Lowering, x: Value) -> Value:
        return lower_activation(plan, x, "softmax", self)
