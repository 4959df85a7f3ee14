"""MobileNets: convolutions cut into one over the pixels of each channel and one over the channels of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.graph import SymbolicTensor
from fastcnn.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    Input,
    ReLU,
)
from fastcnn.models import Model

# (filters, stride) of the blocks of version 1.
BLOCKS_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# (expansion, filters, blocks, stride of the first) of the stages of version 2: table 2 of the paper.
STAGES_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v1(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, alpha: float = 1.0,
                 dropout: float = 1e-3) -> Model:
    """MobileNet: a chain of 3x3 depthwise and 1x1 convolutions, 4,253,864 parameters by default.

    Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image; it is made 32 times smaller.
    classes : number of outputs, which are probabilities.
    alpha : width multiplier, of the filters of all layers.
    dropout : share of the values dropped before the last layer.
    """
    image = Input(tuple(input_shape))
    x = ReLU()(_normed(image, int(32 * alpha), 3, 2))
    for filters, strides in BLOCKS_V1:
        x = ReLU()(_depthwise(x, strides))
        x = ReLU()(_normed(x, int(filters * alpha)))
    return _classifier(image, x, classes, dropout)


def mobilenet_v2(input_shape: Sequence[int] = (224, 224, 3), classes: int = 1000, alpha: float = 1.0,
                 dropout: float = 0.2) -> Model:
    """MobileNetV2: residual blocks that are wide inside and narrow between, 3,538,984 parameters by default.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image; it is made 32 times smaller.
    classes : number of outputs, which are probabilities.
    alpha : width multiplier, of the filters of all layers, but at most of the last; filters are multiples of 8.
    dropout : share of the values dropped before the last layer.
    """
    image = Input(tuple(input_shape))
    x = _relu6(_normed(image, _of_eight(32 * alpha), 3, 2))
    for expansion, filters, blocks, strides in STAGES_V2:
        for block in range(blocks):
            x = _inverted_residual(x, expansion, _of_eight(filters * alpha), strides if block == 0 else 1)
    x = _relu6(_normed(x, _of_eight(1280 * max(1.0, alpha))))
    return _classifier(image, x, classes, dropout)


def _inverted_residual(x: SymbolicTensor, expansion: int, filters: int, strides: int) -> SymbolicTensor:
    """1x1 to `expansion` times the channels, 3x3 of each channel, 1x1 without activation; plus x where that fits."""
    y = x if expansion == 1 else _relu6(_normed(x, expansion * x.shape[-1]))
    y = _normed(_relu6(_depthwise(y, strides)), filters)
    return Add()([x, y]) if x.shape == y.shape else y


def _normed(x: SymbolicTensor, filters: int, kernel: int = 1, strides: int = 1) -> SymbolicTensor:
    return BatchNormalization()(Conv2D(filters, kernel, strides, padding="same", use_bias=False)(x))


def _depthwise(x: SymbolicTensor, strides: int) -> SymbolicTensor:
    return BatchNormalization()(DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x))


def _relu6(x: SymbolicTensor) -> SymbolicTensor:
    """ReLU up to 6."""
    return ReLU(max_value=6.0)(x)


def _of_eight(filters: float) -> int:
    """The nearest multiple of 8, at least 8, and the next one where that is more than a tenth less."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8


def _classifier(image: SymbolicTensor, x: SymbolicTensor, classes: int, dropout: float) -> Model:
    x = Dropout(dropout)(GlobalAveragePooling2D()(x))
    return Model(image, Dense(classes, activation="softmax")(x))
