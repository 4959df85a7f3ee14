"""Small networks that tests train, and data for them."""

from __future__ import annotations

import numpy as np

import fastcnn as fc
from fastcnn import layers as L  # noqa: N812

_RNG = np.random.default_rng(0)
X = _RNG.standard_normal((23, 12, 12, 3)).astype(np.float32)
Y = _RNG.integers(0, 5, 23)
SPARSE = "sparse_categorical_crossentropy"


def tiny_cnn(**words) -> fc.Sequential:
    """Like SimpleCNN, for images of 12x12x3 and five classes."""
    return fc.Sequential(
        [
            L.Conv2D(8, 3, padding="same", activation="relu", input_shape=(12, 12, 3), **words),
            L.MaxPooling2D(2),
            L.Conv2D(16, 3, padding="same", activation="relu", **words),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(20, activation="relu", **words),
            L.Dense(5, activation="softmax"),
        ]
    )


def smooth_cnn() -> fc.Sequential:
    """Strides, dilation, groups, overlapping and average pooling, and activations with curves."""
    return fc.Sequential(
        [
            L.Conv2D(8, 5, strides=2, padding="same", activation="tanh", input_shape=(12, 12, 3)),
            L.AveragePooling2D(3, strides=2, padding="same"),
            L.Conv2D(6, 3, dilation_rate=2, padding=((2, 1), (2, 3)), groups=2, activation="gelu"),
            L.AveragePooling2D(2, strides=1),
            L.Conv2D(9, (1, 2), use_bias=False),
            L.Activation("swish"),
            L.GlobalAveragePooling2D(),
            L.Dense(5, activation="softmax"),
        ]
    )


def odd_cnn() -> fc.Sequential:
    """A convolution per channel, overlapping max-pooling, and no softmax."""
    return fc.Sequential(
        [
            L.Conv2D(
                6,
                3,
                groups=3,
                padding=((1, 0), (2, 1)),
                activation="sigmoid",
                use_bias=False,
                input_shape=(12, 12, 3),
            ),
            L.MaxPooling2D(3, strides=2, padding="same"),
            L.Flatten(),
            L.Dense(5, activation="elu"),
        ]
    )


def compiled(model: fc.Model, optimizer="sgd", loss=SPARSE, **words) -> fc.Model:
    model.compile(optimizer, loss, **words)
    return model


class NumpyAdd(L.Layer):
    """The sum of two inputs, as a layer of the user's own."""

    def compute_output_shape(self, shapes):
        return shapes[0]

    def forward(self, x, training):
        return x[0] + x[1]

    def backward(self, dy):
        return [dy, dy]


def unet() -> fc.Model:
    """Encoder and decoder with skips, wide enough that buffers live across stages."""
    x = fc.Input((16, 16, 3))
    a = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = L.Conv2D(64, 3, padding="same", activation="relu")(L.MaxPooling2D(2)(a))
    b = L.Conv2D(256, 3, padding="same", activation="relu")(b)
    c = L.Conv2D(256, 3, padding="same", activation="relu")(b)
    y = L.Concatenate()([L.UpSampling2D(2, "bilinear")(L.Conv2D(8, 1)(L.Add()([b, c]))), a])
    y = L.Dropout(0.2)(L.Conv2D(8, 3, padding="same", activation="relu")(y))
    return fc.Model(x, L.Dense(5, activation="softmax")(L.Flatten()(y)))
