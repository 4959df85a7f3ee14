"""The layers of a network, with Keras's names and arguments. Images are (batch, height, width, channels).

Sequences are (batch, steps, channels), volumes (batch, depth, height, width, channels).
"""

from fastcnn.layers.activations import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
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
from fastcnn.layers.conv1d import Conv1D, DepthwiseConv1D
from fastcnn.layers.conv3d import Conv3D
from fastcnn.layers.conv_transpose import Conv2DTranspose
from fastcnn.layers.core import Dense, Flatten, Input, InputLayer, Reshape
from fastcnn.layers.merging import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract
from fastcnn.layers.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from fastcnn.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalAvgPool3D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPool3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    MinPooling2D,
)
from fastcnn.layers.preprocessing import Normalization, Rescaling
from fastcnn.layers.regularization import Dropout, SpatialDropout2D
from fastcnn.layers.reshaping import Cropping2D, Permute, ZeroPadding1D, ZeroPadding2D
from fastcnn.layers.separable import SeparableConv1D, SeparableConv2D
from fastcnn.layers.serialization import deserialize, serialize
from fastcnn.layers.upsampling import UpSampling2D

__all__ = [
    "Activation",
    "Add",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Dropout",
    "ELU",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "MinPooling2D",
    "Minimum",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Reshape",
    "SeparableConv1D",
    "SeparableConv2D",
    "Softmax",
    "SpatialDropout2D",
    "Subtract",
    "UpSampling2D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "deserialize",
    "serialize",
]
