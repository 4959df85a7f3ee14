"""The networks that are compared: layers as plain data, with their sizes, weights, samples and FLOPs.

Images are NHWC, weights as in Keras: convolution (kh, kw, in, out), dense (in, out). Convolutions and dense
layers are followed by ReLU, except the last layer, which gives the logits of softmax cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]
Batch = tuple[Array, NDArray[np.int32]]


@dataclass(frozen=True)
class Conv:
    """`padding` is so many zeros on every side."""

    filters: int
    kernel: int
    strides: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        rows, columns = ((size + 2 * self.padding - self.kernel) // self.strides + 1 for size in shape[:2])
        return rows, columns, self.filters

    def weight_shape(self, shape: Shape) -> Shape:
        return self.kernel, self.kernel, shape[2], self.filters


@dataclass(frozen=True)
class MaxPool:
    size: int
    strides: int

    def output_shape(self, shape: Shape) -> Shape:
        rows, columns = ((size - self.size) // self.strides + 1 for size in shape[:2])
        return rows, columns, shape[2]


@dataclass(frozen=True)
class Flatten:
    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class Dense:
    units: int

    def output_shape(self, shape: Shape) -> Shape:
        return (self.units,)

    def weight_shape(self, shape: Shape) -> Shape:
        return shape[0], self.units


Layer = Conv | MaxPool | Flatten | Dense


@dataclass(frozen=True)
class Net:
    name: str
    input_shape: Shape
    batch: int
    layers: tuple[Layer, ...]

    def steps(self) -> Iterator[tuple[Layer, Shape, Shape]]:
        """(layer, input shape, output shape), of one sample."""
        shape = self.input_shape
        for layer in self.layers:
            yield layer, shape, layer.output_shape(shape)
            shape = layer.output_shape(shape)

    @property
    def classes(self) -> int:
        return [shape for *_, shape in self.steps()][-1][0]

    @property
    def parameters(self) -> int:
        return sum(
            math.prod(layer.weight_shape(shape)) + out[-1]
            for layer, shape, out in self.steps()
            if isinstance(layer, (Conv, Dense))
        )

    def predict_flops(self) -> int:
        """Of one sample: two per multiply-add of convolutions and dense layers, taps on padding included."""
        return sum(self._pass_flops())

    def train_flops(self) -> int:
        """Of one sample: forward, weight gradient and input gradient, the last not for the first layer."""
        first, *others = self._pass_flops()
        return 2 * first + 3 * sum(others)

    def _pass_flops(self) -> list[int]:
        return [
            2 * math.prod(out[:-1]) * math.prod(layer.weight_shape(shape))
            for layer, shape, out in self.steps()
            if isinstance(layer, (Conv, Dense))
        ]

    def weights(self, seed: int = 0) -> list[Array]:
        """Kernel, bias, kernel, ...: Glorot-uniform kernels, small biases, the same for every framework."""
        rng = np.random.default_rng(seed)
        weights = []
        for layer, shape, out in self.steps():
            if isinstance(layer, (Conv, Dense)):
                kernel = layer.weight_shape(shape)
                taps = math.prod(kernel[:-2])
                bound = math.sqrt(6 / (taps * (kernel[-2] + kernel[-1])))
                weights.append(rng.uniform(-bound, bound, kernel).astype(np.float32))
                weights.append(rng.uniform(-0.05, 0.05, out[-1]).astype(np.float32))
        return weights

    def batches(self, count: int, seed: int = 1) -> list[Batch]:
        """Normal images and random labels: speed does not depend on what they show."""
        rng = np.random.default_rng(seed)
        return [
            (
                rng.standard_normal((self.batch, *self.input_shape), np.float32),
                rng.integers(0, self.classes, self.batch, np.int32),
            )
            for _ in range(count)
        ]


def _vgg(*plan: int | str) -> Iterator[Layer]:
    """3x3 convolutions of so many filters; 'M' is 2x2 max-pooling."""
    for word in plan:
        yield MaxPool(2, 2) if isinstance(word, str) else Conv(word, 3, padding=1)


def _head(*units: int) -> tuple[Layer, ...]:
    return Flatten(), *map(Dense, units)


NETS = {
    net.name: net
    for net in (
        Net(
            "lenet5",
            (28, 28, 1),
            64,
            (Conv(6, 5, padding=2), MaxPool(2, 2), Conv(16, 5), MaxPool(2, 2), *_head(120, 84, 10)),
        ),
        Net(
            "simplecnn",
            (28, 28, 1),
            64,
            (Conv(32, 3, padding=1), MaxPool(2, 2), Conv(64, 3, padding=1), MaxPool(2, 2), *_head(128, 10)),
        ),
        Net(
            "keras-cifar",
            (32, 32, 3),
            64,
            (
                Conv(32, 3),
                MaxPool(2, 2),
                Conv(64, 3),
                MaxPool(2, 2),
                Conv(128, 3),
                MaxPool(2, 2),
                *_head(512, 10),
            ),
        ),
        Net(
            "vgg11",
            (32, 32, 3),
            64,
            (*_vgg(64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"), *_head(10)),
        ),
        Net(
            "alexnet",
            (224, 224, 3),
            16,
            (
                Conv(64, 11, strides=4, padding=2),
                MaxPool(3, 2),
                Conv(192, 5, padding=2),
                MaxPool(3, 2),
                Conv(384, 3, padding=1),
                Conv(256, 3, padding=1),
                Conv(256, 3, padding=1),
                MaxPool(3, 2),
                *_head(4096, 4096, 1000),
            ),
        ),
    )
}
