"""Small networks, ready to compile."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.layers import AveragePooling2D, Conv2D, Dense, Flatten, MaxPooling2D
from fastcnn.models import Sequential


def simple_cnn(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10) -> Sequential:
    """Two convolutions of 3x3 with max-pooling, and two dense layers.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, 4x4 pixels or more.
    classes : number of outputs, which are probabilities.
    """
    return Sequential([
        Conv2D(32, 3, padding="same", activation="relu", input_shape=tuple(input_shape)),
        MaxPooling2D(2),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(classes, activation="softmax"),
    ])


def lenet5(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10) -> Sequential:
    """LeNet-5 with plain average pooling, full connections between maps, and softmax.

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.
    Images
    of less than 32x32 pixels, such as MNIST's, are padded in the first layer, as they were there.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, 28x28 pixels or more.
    classes : number of outputs, which are probabilities.
    """
    padding = "same" if min(input_shape[:2]) < 32 else "valid"
    return Sequential([
        Conv2D(6, 5, padding=padding, activation="tanh", input_shape=tuple(input_shape)),
        AveragePooling2D(2),
        Conv2D(16, 5, activation="tanh"),
        AveragePooling2D(2),
        Conv2D(120, 5, activation="tanh"),
        Flatten(),
        Dense(84, activation="tanh"),
        Dense(classes, activation="softmax"),
    ])
