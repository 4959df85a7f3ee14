"""Networks without branches or normalisation: a small one of today, LeNet-5 and AlexNet."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.layers import AveragePooling2D, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from fastcnn.models import Sequential


def simple_cnn(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, width: int = 32) -> Sequential:
    """Two convolutions of 3x3 with max-pooling, and two dense layers.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, 4x4 pixels or more.
    classes : number of outputs, which are probabilities.
    width : filters of the first convolution; the second has twice as many, the first dense layer four times.
    """
    return Sequential([
        Conv2D(width, 3, padding="same", activation="relu", input_shape=tuple(input_shape)),
        MaxPooling2D(2),
        Conv2D(2 * width, 3, padding="same", activation="relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(4 * width, activation="relu"),
        Dense(classes, activation="softmax"),
    ])


def lenet5(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, width: int = 6) -> Sequential:
    """LeNet-5 with plain average pooling, full connections between maps, and softmax.

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.
    Images of less than 32x32 pixels, such as MNIST's, are padded in the first layer, as they were there.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, 28x28 pixels or more.
    classes : number of outputs, which are probabilities.
    width : filters of the first convolution; the others grow with it.
    """
    padding = "same" if min(input_shape[:2]) < 32 else "valid"
    return Sequential([
        Conv2D(width, 5, padding=padding, activation="tanh", input_shape=tuple(input_shape)),
        AveragePooling2D(2),
        Conv2D(16 * width // 6, 5, activation="tanh"),
        AveragePooling2D(2),
        Conv2D(20 * width, 5, activation="tanh"),
        Flatten(),
        Dense(14 * width, activation="tanh"),
        Dense(classes, activation="softmax"),
    ])


def alexnet(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64, units: int = 4096,
            dropout: float = 0.5) -> Sequential:
    """AlexNet in its form for one processor, without the local normalisation of 2012.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014. With the default
    arguments 61,100,840 parameters.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, 63x63 pixels or more.
    classes : number of outputs, which are probabilities.
    width : filters of the first convolution; the others have 3, 6, 4 and 4 times as many.
    units : width of the two hidden dense layers.
    dropout : share of the values dropped before each of these.
    """
    conv = {"activation": "relu", "kernel_initializer": "he_normal"}
    return Sequential([
        Conv2D(width, 11, strides=4, padding=2, input_shape=tuple(input_shape), **conv),
        MaxPooling2D(3, strides=2),
        Conv2D(3 * width, 5, padding="same", **conv),
        MaxPooling2D(3, strides=2),
        Conv2D(6 * width, 3, padding="same", **conv),
        Conv2D(4 * width, 3, padding="same", **conv),
        Conv2D(4 * width, 3, padding="same", **conv),
        MaxPooling2D(3, strides=2),
        Flatten(),
        Dropout(dropout),
        Dense(units, **conv),
        Dropout(dropout),
        Dense(units, **conv),
        Dense(classes, activation="softmax"),
    ])
