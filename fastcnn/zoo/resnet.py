"""Residual networks: each block adds what it computes to its input.

Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", 2015: section 4.2 for small images
(20, 32 and 56 layers), table 1 for those of ImageNet (18, 34 and 50).
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.graph import SymbolicTensor
from fastcnn.layers import (
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    Input,
    MaxPooling2D,
    ReLU,
    Rescaling,
)
from fastcnn.models import Model


def resnet20(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, width: int = 16) -> Model:
    """20 layers for small images, 269,722 trainable parameters by default.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image.
    classes : number of outputs, which are probabilities.
    width : filters of the first of three stages; the others have 2 and 4 times as many.
    """
    return _small_resnet(3, input_shape, classes, width)


def resnet32(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, width: int = 16) -> Model:
    """32 layers for small images, 464,154 trainable parameters by default; arguments as of `resnet20`."""
    return _small_resnet(5, input_shape, classes, width)


def resnet56(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, width: int = 16) -> Model:
    """56 layers for small images, 853,018 trainable parameters by default; arguments as of `resnet20`."""
    return _small_resnet(9, input_shape, classes, width)


def resnet18(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64) -> Model:
    """18 layers, 11,689,512 trainable parameters by default.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image; it is made 32 times smaller.
    classes : number of outputs, which are probabilities.
    width : filters of the first of four stages; the others have 2, 4 and 8 times as many.
    """
    return _large_resnet(_basic, (2, 2, 2, 2), input_shape, classes, width)


def resnet34(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64) -> Model:
    """34 layers, 21,797,672 trainable parameters by default; arguments as of `resnet18`."""
    return _large_resnet(_basic, (3, 4, 6, 3), input_shape, classes, width)


def resnet50(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, width: int = 64) -> Model:
    """50 layers, 25,557,032 trainable parameters by default; arguments as of `resnet18`.

    Each block narrows to a quarter of its output's channels; its stride is that of the 3x3 convolution between, not
    of the first one, as in most implementations since.
    """
    return _large_resnet(_bottleneck, (3, 4, 6, 3), input_shape, classes, width)


def _small_resnet(blocks: int, input_shape, classes: int, width: int) -> Model:
    """Three stages of so many basic blocks."""
    image = Input(tuple(input_shape))
    x = ReLU()(_normed(image, width, 3))
    for stage in range(3):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            x = ReLU()(Add()([_basic(x, width << stage, strides), _padded_shortcut(x, strides)]))
    return _classifier(image, x, classes)


def _large_resnet(branch, depths: Sequence[int], input_shape, classes: int, width: int) -> Model:
    """Four stages of `depths` blocks with `branch` in them, on an image made four times smaller first."""
    image = Input(tuple(input_shape))
    x = ReLU()(_normed(image, width, 7, 2))
    x = MaxPooling2D(3, strides=2, padding=1)(x)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            strides = 2 if stage > 0 and block == 0 else 1
            y = branch(x, width << stage, strides)
            x = ReLU()(Add()([y, _projected_shortcut(x, y, strides)]))
    return _classifier(image, x, classes)


def _basic(x: SymbolicTensor, filters: int, strides: int) -> SymbolicTensor:
    """Two convolutions of 3x3."""
    return _normed(ReLU()(_normed(x, filters, 3, strides)), filters, 3)


def _bottleneck(x: SymbolicTensor, filters: int, strides: int) -> SymbolicTensor:
    """1x1, 3x3, and 1x1 to four times the filters."""
    x = ReLU()(_normed(x, filters, 1))
    return _normed(ReLU()(_normed(x, filters, 3, strides)), 4 * filters, 1)


def _padded_shortcut(x: SymbolicTensor, strides: int) -> SymbolicTensor:
    """The paper's option A, without weights: every second pixel, and zeros for as many channels more."""
    if strides == 1:
        return x
    x = AveragePooling2D(1, strides=strides)(x)
    return Concatenate()([x, Rescaling(0.0)(x)])


def _projected_shortcut(x: SymbolicTensor, y: SymbolicTensor, strides: int) -> SymbolicTensor:
    """The paper's option B: a convolution of 1x1 where the shape changes from that of x to that of y."""
    return x if x.shape == y.shape else _normed(x, y.shape[-1], 1, strides)


def _normed(x: SymbolicTensor, filters: int, kernel: int, strides: int = 1) -> SymbolicTensor:
    """Convolution and batch normalisation, which makes a bias superfluous."""
    x = Conv2D(filters, kernel, strides, padding=kernel // 2, use_bias=False, kernel_initializer="he_normal")(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def _classifier(image: SymbolicTensor, x: SymbolicTensor, classes: int) -> Model:
    return Model(image, Dense(classes, activation="softmax")(GlobalAveragePooling2D()(x)))
