"""The layers of a network, with Keras's names and arguments. Images are (batch, height, width, channels)."""

from fastcnn.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from fastcnn.layers.base import Layer
from fastcnn.layers.conv import Conv2D, DepthwiseConv2D
from fastcnn.layers.core import Dense, Flatten, Input, InputLayer, Reshape
from fastcnn.layers.merging import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract
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
from fastcnn.layers.reshaping import Cropping2D, Permute, ZeroPadding2D
from fastcnn.layers.serialization import deserialize, serialize
from fastcnn.layers.upsampling import UpSampling2D

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "Average",
    "AveragePooling2D",
    "AvgPool2D",
    "Concatenate",
    "Conv2D",
    "Cropping2D",
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
    "Maximum",
    "MinPooling2D",
    "Minimum",
    "Multiply",
    "PReLU",
    "Permute",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "SpatialDropout2D",
    "Subtract",
    "UpSampling2D",
    "ZeroPadding2D",
    "deserialize",
    "serialize",
]
