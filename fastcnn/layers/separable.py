"""Separable convolutions: first each channel on its own, then a mixture of channels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn import initializers, regularizers
from fastcnn.layers.activations import lower_activation
from fastcnn.layers.arguments import Shape
from fastcnn.layers.conv import Convolution
from fastcnn.layers.declared import SEQUENCES
from fastcnn.plan import convolution
from fastcnn.utils import whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _Separable(Convolution):
    """What both ranks share."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: Any = "valid",
                 dilation_rate: Any = 1, depth_multiplier: int = 1, activation: str | None = None,
                 use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform",
                 pointwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, input_shape: Any = None,
                 name: str | None = None, trainable: bool = True) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, activation, use_bias, bias_initializer,
                         input_shape, name, trainable)
        self.filters = whole_number(filters, "filters", self.name)
        self.depth_multiplier = whole_number(depth_multiplier, "depth_multiplier", self.name)
        self.depthwise_initializer = initializers.get(depthwise_initializer, self.name)
        self.pointwise_initializer = initializers.get(pointwise_initializer, self.name)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer, self.name)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer, self.name)

    def build(self, input_shape: Shape) -> None:
        self.channels = input_shape[-1]
        middle = self.channels * self.depth_multiplier
        self.depthwise_kernel = self.add_weight(
            (*self.kernel_size, self.channels, self.depth_multiplier), self.depthwise_initializer,
            "depthwise_kernel", regularizer=self.depthwise_regularizer)
        self.pointwise_kernel = self.add_weight(
            (*[1] * self.rank, middle, self.filters), self.pointwise_initializer, "pointwise_kernel",
            regularizer=self.pointwise_regularizer)
        self.bias = self.add_weight((self.filters,), self.bias_initializer, "bias") if self.use_bias else None

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *self.window(shape).output[-self.rank:], self.filters

    def lower(self, plan: Lowering, x: Value) -> Value:
        middle = plan.add(convolution.DepthwiseConv(x, self.window(x.shape), self.depthwise_kernel, None, layer=self))
        words = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}
        y = plan.add(convolution.Conv(middle, words, self.pointwise_kernel, self.bias, layer=self))
        return lower_activation(plan, y, self.activation, self)

    def flops(self, output_shape: Shape) -> int:
        middle = self.pointwise_kernel.shape[-2]
        return 2 * prod(output_shape[1:-1]) * middle * (prod(self.kernel_size) + self.filters)


class SeparableConv2D(_Separable):
    """A depthwise convolution, then a 1 x 1 convolution that mixes its channels, then bias and activation.

    Far fewer products than `Conv2D` (Chollet, Xception, 2017). Input (batch, height, width, channels), output
    (batch, oh, ow, filters); weights `depthwise_kernel` (kh, kw, channels, depth_multiplier), `pointwise_kernel`
    (1, 1, channels * depth_multiplier, filters) and `bias` (filters,).

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, dilation_rate : an int, or a pair (rows, columns).
    padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right)).
    depth_multiplier : filters per channel of the depthwise convolution.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    depthwise_initializer, pointwise_initializer, bias_initializer : see `fastcnn.initializers`.
    depthwise_regularizer, pointwise_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        As for `Conv2D`.
    """


class SeparableConv1D(_Separable):
    """`SeparableConv2D` for sequences.

    Input (batch, steps, channels), output (batch, outputs, filters); weights `depthwise_kernel` (kernel_size,
    channels, depth_multiplier), `pointwise_kernel` (1, channels * depth_multiplier, filters) and `bias` (filters,).

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, padding, dilation_rate : as for `Conv1D`.
    depth_multiplier, activation, initializers and regularizers : as for `SeparableConv2D`.

    Raises
    ------
    ValueError, TypeError
        As for `Conv1D`.
    """

    axes, rank = SEQUENCES, 1
