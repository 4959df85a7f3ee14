"""Convolution of sequences: images of one row to the engine."""

from __future__ import annotations

from fastcnn.layers.conv import Depthwise, FilterBank
from fastcnn.layers.declared import SEQUENCES


class Conv1D(FilterBank):
    """Cross-correlation of sequences with a bank of filters, then bias and activation.

    Input (batch, steps, channels), output (batch, outputs, filters); weights `kernel`
    (kernel_size, channels // groups, filters) and `bias` (filters,).

    Parameters
    ----------
    filters : number of output channels.
    kernel_size, strides, dilation_rate : an int.
    padding : 'valid', 'same' (TensorFlow's rule), 'causal' (zeros before the sequence only, so that no output
        depends on later steps; van den Oord et al., 2016), an int, or a pair (before, after).
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
        shorter than the kernel.
    """

    axes, rank = SEQUENCES, 1


class DepthwiseConv1D(Depthwise):
    """A convolution of each channel with its own `depth_multiplier` filters, then bias and activation.

    Input (batch, steps, channels), output (batch, outputs, channels * depth_multiplier), where channel c gives the
    outputs c * depth_multiplier and following; weights `kernel` (kernel_size, channels, depth_multiplier) and
    `bias` (channels * depth_multiplier,).

    Parameters
    ----------
    kernel_size, strides, padding, dilation_rate : as for `Conv1D`.
    depth_multiplier : filters per channel.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    depthwise_initializer, bias_initializer : see `fastcnn.initializers`.
    depthwise_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        As for `Conv1D`.
    """

    axes, rank = SEQUENCES, 1
