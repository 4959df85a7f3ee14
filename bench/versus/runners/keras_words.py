"""Layers in the words that Keras and fastcnn share."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from bench.versus import nets


def make_layer(library: ModuleType, layer: nets.Layer, padding: Any, **options: Any) -> Any:
    """`layer` from the module `library` of layers; `padding` and `options` are those of a convolution there."""
    match layer:
        case nets.Conv(filters, kernel, strides, bias=bias):
            return library.Conv2D(filters, kernel, strides, padding, use_bias=bias, **options)
        case nets.DepthwiseConv(kernel, strides):
            return library.DepthwiseConv2D(kernel, strides, padding, use_bias=False)
        case nets.Dense(units):
            return library.Dense(units)
        case nets.BatchNorm():
            return library.BatchNormalization(momentum=nets.MOMENTUM, epsilon=nets.BATCH_NORM_EPSILON)
        case nets.Relu():
            return library.ReLU()
        case nets.MaxPool(kernel, strides):
            return library.MaxPooling2D(kernel, strides)
        case nets.GlobalAvgPool():
            return library.GlobalAveragePooling2D()
        case nets.Flatten():
            return library.Flatten()
        case nets.UpSample(size):
            return library.UpSampling2D(size)
        case nets.Add():
            return library.Add()
        case nets.Concat():
            return library.Concatenate()
