"""Convolution of images, and what all convolution layers share."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn import algorithms, initializers, regularizers
from fastcnn.geometry import Window, Window3D, resolve_padding, sizes
from fastcnn.layers.activations import activation_name, lower_activation
from fastcnn.layers.arguments import Shape
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan import convolution
from fastcnn.utils import flag, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value

PLANNED_ALGORITHMS = ("fft",)
WINDOWS = {1: Window.over_steps, 2: Window.resolve, 3: Window3D.resolve}


def check_padding(padding: Any, where: str, rank: int = 2) -> Any:
    """'valid', 'same', or explicit zeros as ((top, bottom), (left, right)); errors name the layer."""
    ones = (1,) * rank
    zeros = resolve_padding(padding, ones, ones, ones, ones, where)
    return padding.lower() if isinstance(padding, str) else zeros


def check_algorithm(algorithm: Any, where: str) -> str:
    """The name of an algorithm of this version; ValueError for others."""
    if algorithm in PLANNED_ALGORITHMS:
        raise ValueError(f"{where}: algorithm {algorithm!r} is not available in this version; use one of "
                         f"{', '.join(map(repr, algorithms.ALGORITHMS))}")
    return algorithms.check_algorithm(algorithm, where)


def check_groups(filters: int, groups: Any, where: str) -> int:
    """`groups` as an int that divides `filters`; ValueError or TypeError names the layer."""
    groups = whole_number(groups, "groups", where)
    if filters % groups:
        raise ValueError(f"{where}: groups={groups} must divide the filters, got filters={filters}; use a "
                         f"multiple of {groups}")
    return groups


class Convolution(DeclaredLayer):
    """What the convolutions share: a window with weights over `rank` axes, a bias, an activation."""

    axes, rank = IMAGES, 2
    groups = 1

    def __init__(self, kernel_size, strides, padding, dilation_rate, activation, use_bias, bias_initializer,
                 input_shape, name, trainable) -> None:
        super().__init__(input_shape, name, trainable)
        self.kernel_size = sizes(kernel_size, self.rank, "kernel_size", self.name)
        self.strides = sizes(strides, self.rank, "strides", self.name)
        self.padding = self.check_padding(padding)
        self.dilation_rate = sizes(dilation_rate, self.rank, "dilation_rate", self.name)
        self.activation = activation_name(activation, self.name)
        self.use_bias = flag(use_bias, "use_bias", self.name)
        self.bias_initializer = initializers.get(bias_initializer, self.name)
        self.channels: int | None = None

    def check_padding(self, padding: Any) -> Any:
        return check_padding(padding, self.name, self.rank)

    def window(self, shape: tuple[int, ...]) -> Any:
        """The sizes for a sample of `shape`."""
        resolve = WINDOWS[self.rank]
        return resolve(shape[:-1], self.kernel_size, self.strides, self.padding, self.dilation_rate, self.name)

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if self.channels not in (None, input_shape[-1]):
            raise ValueError(f"{self.name}: expected {self.channels} channels, for which its weights were "
                             f"made, got {input_shape[-1]} in an input of shape {tuple(input_shape)}; give it "
                             f"{self.channels} channels, or make a new layer for this input")
        if input_shape[-1] % self.groups:
            raise ValueError(f"{self.name}: groups={self.groups} must divide the input's channels, got "
                             f"{input_shape[-1]} in an input of shape {tuple(input_shape)}; change groups")
        self.sample_output(tuple(input_shape[1:]))

    def make_weights(self, kernel_shape: tuple[int, ...], initializer: Any, regularizer: Any,
                     filters: int) -> None:
        self.kernel = self.add_weight(kernel_shape, initializer, "kernel", regularizer=regularizer)
        self.bias = self.add_weight((filters,), self.bias_initializer, "bias") if self.use_bias else None

    def lower_depthwise(self, plan: Lowering, x: Value) -> Value:
        conv = convolution.DepthwiseConv(x, self.window(x.shape), self.kernel, self.bias, layer=self)
        return lower_activation(plan, plan.add(conv), self.activation, self)

    def flops(self, output_shape: Shape) -> int:
        return 2 * prod(output_shape[1:]) * prod(self.kernel_size)


class FilterBank(Convolution):
    """What `Conv1D`, `Conv2D` and `Conv3D` share: a bank of filters, each of which sees all channels of its group."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: Any = "valid",
                 dilation_rate: Any = 1, groups: int = 1, activation: str | None = None,
                 use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, algorithm: str = "auto",
                 input_shape: Any = None, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, activation, use_bias, bias_initializer,
                         input_shape, name, trainable)
        self.filters = whole_number(filters, "filters", self.name)
        self.groups = check_groups(self.filters, groups, self.name)
        self.kernel_initializer = initializers.get(kernel_initializer, self.name)
        self.kernel_regularizer = regularizers.get(kernel_regularizer, self.name)
        self.algorithm = check_algorithm(algorithm, self.name)
        algorithms.check_winograd(self.algorithm, self.kernel_size, self.strides, self.dilation_rate, self.groups,
                                  self.name)

    def build(self, input_shape: Shape) -> None:
        self.channels = input_shape[-1]
        kernel_shape = (*self.kernel_size, self.channels // self.groups, self.filters)
        self.make_weights(kernel_shape, self.kernel_initializer, self.kernel_regularizer, self.filters)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *self.window(shape).output[-self.rank:], self.filters

    @property
    def is_depthwise(self) -> bool:
        """One filter per channel; then the weights lie in memory as a depthwise convolution's do."""
        return self.channels == self.groups == self.filters > 1 and self.algorithm == "auto"

    def lower(self, plan: Lowering, x: Value) -> Value:
        if self.is_depthwise:
            return self.lower_depthwise(plan, x)
        window = self.window(x.shape)
        words = {"strides": window.strides, "padding": window.pads, "dilation": window.dilation,
                 "groups": self.groups}
        y = plan.add(convolution.Conv(x, words, self.kernel, self.bias, self.algorithm, layer=self))
        return lower_activation(plan, y, self.activation, self)

    def flops(self, output_shape: Shape) -> int:
        return super().flops(output_shape) * self.kernel.shape[-2]


class Conv2D(FilterBank):
    """Cross-correlation of images with a bank of filters, then bias and activation.

    Input (batch, height, width, channels), output (batch, oh, ow, filters); weights `kernel`
    (kh, kw, channels // groups, filters) and `bias` (filters,).

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, dilation_rate : an int, or a pair (rows, columns).
    padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right)).
    groups : divides the input's channels and `filters`; each group of filters sees its share of the channels.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    kernel_initializer, bias_initializer : see `fastcnn.initializers`.
    kernel_regularizer : see `fastcnn.regularizers`.
    algorithm : 'auto', 'direct', 'im2col' or, for 3 x 3 kernels without strides, dilation and groups, 'winograd'.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for inputs of another rank, with other channels than at first, or
        smaller than the kernel.
    """


class Depthwise(Convolution):
    """What `DepthwiseConv1D` and `DepthwiseConv2D` share: filters that see one channel each."""

    def __init__(self, kernel_size: Any, strides: Any = 1, padding: Any = "valid", depth_multiplier: int = 1,
                 dilation_rate: Any = 1, activation: str | None = None, use_bias: bool = True,
                 depthwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 depthwise_regularizer: Any = None, input_shape: Any = None, name: str | None = None,
                 trainable: bool = True) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, activation, use_bias, bias_initializer,
                         input_shape, name, trainable)
        self.depth_multiplier = whole_number(depth_multiplier, "depth_multiplier", self.name)
        self.depthwise_initializer = initializers.get(depthwise_initializer, self.name)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer, self.name)

    def build(self, input_shape: Shape) -> None:
        self.channels = input_shape[-1]
        kernel_shape = (*self.kernel_size, self.channels, self.depth_multiplier)
        self.make_weights(kernel_shape, self.depthwise_initializer, self.depthwise_regularizer,
                          self.channels * self.depth_multiplier)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *self.window(shape).output[-self.rank:], shape[-1] * self.depth_multiplier

    def lower(self, plan: Lowering, x: Value) -> Value:
        return self.lower_depthwise(plan, x)


class DepthwiseConv2D(Depthwise):
    """A convolution of each channel with its own `depth_multiplier` filters, then bias and activation.

    Input (batch, height, width, channels), output (batch, oh, ow, channels * depth_multiplier), where
    channel c gives the outputs c * depth_multiplier and following; weights `kernel` (kh, kw, channels,
    depth_multiplier) and `bias` (channels * depth_multiplier,).

    Parameters
    ----------
    kernel_size, strides, dilation_rate : an int, or a pair (rows, columns).
    padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right)).
    depth_multiplier : filters per channel.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    depthwise_initializer, bias_initializer : see `fastcnn.initializers`.
    depthwise_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        As for `Conv2D`.
    """
