"""VGG: nothing but convolutions of 3x3, five times made half as large, and three dense layers.

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.layers import Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from fastcnn.models import Sequential


def vgg11(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64, units: int = 4096,
          dropout: float = 0.5) -> Sequential:
    """Configuration A, 132,863,336 parameters by default; arguments as of `vgg16`."""
    return _vgg((1, 1, 2, 2, 2), input_shape, classes, width, units, dropout)


def vgg13(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64, units: int = 4096,
          dropout: float = 0.5) -> Sequential:
    """Configuration B, 133,047,848 parameters by default; arguments as of `vgg16`."""
    return _vgg((2, 2, 2, 2, 2), input_shape, classes, width, units, dropout)


def vgg16(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64, units: int = 4096,
          dropout: float = 0.5) -> Sequential:
    """Configuration D, 138,357,544 parameters by default.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image of any size; where it is no multiple of 32, the last windows
        of the pooling layers reach over the edge.
    classes : number of outputs, which are probabilities.
    width : filters of the first block; the others have 2, 4, 8 and 8 times as many.
    units : width of the two hidden dense layers.
    dropout : share of the values dropped after each of these.
    """
    return _vgg((2, 2, 3, 3, 3), input_shape, classes, width, units, dropout)


def vgg19(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64, units: int = 4096,
          dropout: float = 0.5) -> Sequential:
    """Configuration E, 143,667,240 parameters by default; arguments as of `vgg16`."""
    return _vgg((2, 2, 4, 4, 4), input_shape, classes, width, units, dropout)


def _vgg(depths: Sequence[int], input_shape, classes: int, width: int, units: int, dropout: float) -> Sequential:
    """`depths` are the numbers of convolutions in the blocks."""
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    model = Sequential([Input(tuple(input_shape))])
    for depth, factor in zip(depths, (1, 2, 4, 8, 8), strict=True):
        for _ in range(depth):
            model.add(Conv2D(factor * width, 3, padding="same", **relu))
        model.add(MaxPooling2D(2, padding="same"))
    for layer in (Flatten(), Dense(units, **relu), Dropout(dropout), Dense(units, **relu), Dropout(dropout),
                  Dense(classes, activation="softmax")):
        model.add(layer)
    return model
