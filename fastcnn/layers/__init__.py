"""The layers of a network, with Keras's names and arguments. Images are (batch, height, width, channels)."""

from fastcnn.layers.activations import ELU, Activation, LeakyReLU, ReLU, Softmax
from fastcnn.layers.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from fastcnn.layers.base import Layer
from fastcnn.layers.conv import Conv2D, DepthwiseConv2D
from fastcnn.layers.core import Dense, Flatten, Input, InputLayer, Reshape
from fastcnn.layers.pooling import (
    AveragePooling2D,
    AvgPool2D,
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GlobalMaxPooling2D,
    MaxPool2D,
    MaxPooling2D,
    MinPooling2D,
)
from fastcnn.layers.preprocessing import Rescaling
from fastcnn.layers.regularization import Dropout, SpatialDropout2D
from fastcnn.layers.reshaping import ZeroPadding2D
from fastcnn.layers.serialization import deserialize, serialize

__all__ = [
    "ELU",
    "Activation",
    "AveragePooling2D",
    "AvgPool2D",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "MinPooling2D",
    "ReLU",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "Reshape",
    "Rescaling",
    "Softmax",
    "SpatialDropout2D",
    "ZeroPadding2D",
    "deserialize",
    "serialize",
]
