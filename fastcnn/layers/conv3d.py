"""Convolution of volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcnn.geometry import Conv3D as ConvSizes
from fastcnn.layers.activations import lower_activation
from fastcnn.layers.conv import FilterBank
from fastcnn.layers.declared import VOLUMES
from fastcnn.plan import volumes

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class Conv3D(FilterBank):
    """Cross-correlation of volumes with a bank of filters, then bias and activation.

    Input (batch, depth, height, width, channels), output (batch, od, oh, ow, filters); weights `kernel`
    (kd, kh, kw, channels // groups, filters) and `bias` (filters,).

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, dilation_rate : an int, or three (depth, rows, columns).
    padding : 'valid', 'same' (TensorFlow's rule), an int, three, or ((front, back), (top, bottom), (left, right)).
    groups : divides the input's channels and `filters`; each group of filters sees its share of the channels.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    kernel_initializer, bias_initializer : see `fastcnn.initializers`.
    kernel_regularizer : see `fastcnn.regularizers`.
    algorithm : 'auto', 'direct' or 'im2col'.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for inputs of another rank, with other channels than at first, or
        smaller than the kernel.
    """

    axes, rank = VOLUMES, 3

    def lower(self, plan: Lowering, x: Value) -> Value:
        sizes = ConvSizes(1, x.shape[-1], self.filters, self.groups, self.window(x.shape))
        y = plan.add(volumes.Conv3D(x, sizes, self.kernel, self.bias, self.algorithm, layer=self))
        return lower_activation(plan, y, self.activation, self)
