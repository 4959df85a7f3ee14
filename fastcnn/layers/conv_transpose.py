"""Transposed convolution of images."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn import initializers, regularizers
from fastcnn.geometry import Conv, Window, pair, resolve_transpose
from fastcnn.layers.activations import lower_activation
from fastcnn.layers.arguments import Shape
from fastcnn.layers.conv import Convolution, check_groups
from fastcnn.plan.transposed import ConvTranspose
from fastcnn.utils import whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class Conv2DTranspose(Convolution):
    """Transposed convolution ("deconvolution"), which enlarges images, then bias and activation.

    A convolution's input gradient as a forward operation (Zeiler et al., 2010). Input (batch, height, width,
    channels), output (batch, oh, ow, filters); weights `kernel` (kh, kw, filters // groups, channels) and `bias`
    (filters,). Sizes follow Keras 3, with extent = (kernel_size - 1) * dilation_rate + 1:

        'valid'          (size - 1) * strides + extent + output_padding, where None is max(strides - extent, 0)
        'same'           size * strides, or with an output_padding (size - 1) * strides + extent % 2 + output_padding
        explicit zeros   (size - 1) * strides + extent - zeros + output_padding

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, dilation_rate : an int, or a pair (rows, columns).
    padding : 'valid', 'same', an int, a pair, or ((top, bottom), (left, right)): what is cut off the result.
    output_padding : None, an int, or a pair, less than `strides`: rows and columns more at the bottom and right.
    groups : divides the input's channels and `filters`.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    kernel_initializer, bias_initializer : see `fastcnn.initializers`.
    kernel_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for inputs of another rank, with other channels than at first, or of
        which the padding leaves nothing.
    """

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: Any = "valid",
                 output_padding: Any = None, dilation_rate: Any = 1, groups: int = 1,
                 activation: str | None = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 kernel_regularizer: Any = None, input_shape: Any = None, name: str | None = None,
                 trainable: bool = True) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, activation, use_bias, bias_initializer,
                         input_shape, name, trainable)
        self.filters = whole_number(filters, "filters", self.name)
        self.groups = check_groups(self.filters, groups, self.name)
        self.output_padding = self.check_output_padding(output_padding)
        self.kernel_initializer = initializers.get(kernel_initializer, self.name)
        self.kernel_regularizer = regularizers.get(kernel_regularizer, self.name)

    def check_output_padding(self, output_padding: Any) -> Any:
        """None, or a pair of ints, each less than the stride."""
        if output_padding is None:
            return None
        extra = pair(output_padding, "output_padding", self.name, least=0)
        if any(more >= stride for more, stride in zip(extra, self.strides, strict=True)):
            raise ValueError(f"{self.name}: output_padding must be less than the strides {self.strides}, got "
                             f"{output_padding!r}; lower it")
        return extra

    def build(self, input_shape: Shape) -> None:
        self.channels = input_shape[-1]
        kernel_shape = (*self.kernel_size, self.filters // self.groups, self.channels)
        self.make_weights(kernel_shape, self.kernel_initializer, self.kernel_regularizer, self.filters)

    def sizes(self, shape: tuple[int, ...]) -> Conv:
        """The convolution that leads back from the output to an input of `shape`."""
        size, pads = resolve_transpose(shape[:2], self.kernel_size, self.strides, self.padding,
                                       self.output_padding, self.dilation_rate, self.name)
        window = Window.resolve(size, self.kernel_size, self.strides, pads, self.dilation_rate, self.name)
        return Conv(1, self.filters, shape[2], self.groups, window)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.sizes(shape).x_shape[1:]

    def lower(self, plan: Lowering, x: Value) -> Value:
        y = plan.add(ConvTranspose(x, self.sizes(x.shape), self.kernel, self.bias, layer=self))
        return lower_activation(plan, y, self.activation, self)

    def flops(self, output_shape: Shape) -> int:
        return 2 * prod(self.input_shape[1:]) * prod(self.kernel.shape[:3])
