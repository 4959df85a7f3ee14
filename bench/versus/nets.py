"""The networks that are compared: graphs of layers as plain data, with their sizes, weights, samples and FLOPs.

Images are NHWC, weights as in Keras: convolution (kh, kw, in, out), depthwise (kh, kw, channels, 1), dense
(in, out), batch normalization gamma, beta, mean, variance. The last layer gives the logits of softmax
cross-entropy, of the image or of each of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]
Batch = tuple[Array, NDArray[np.int32]]
Weights = list[tuple[Array, ...]]  # of each node, in the order of the nodes; empty where it has none

# Of batch normalization, in every framework. Keras's momentum, which is one less PyTorch's.
MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5


@dataclass(frozen=True)
class Weight:
    """Uniform in `middle` +- `reach` before training."""

    shape: Shape
    middle: float
    reach: float


class Layer:
    """What a node does: shapes of one sample, without the batch."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]

    def weights(self, shape: Shape) -> tuple[Weight, ...]:
        """For an input of that shape: Glorot-uniform kernels, the others near their usual start."""
        return ()

    def multiply_adds(self, shape: Shape) -> int:
        """Of one sample, taps on padding included; only kernels count."""
        return 0


@dataclass(frozen=True)
class Conv(Layer):
    """`padding` is so many zeros on every side."""

    filters: int
    kernel: int
    strides: int = 1
    padding: int = 0
    bias: bool = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return *window_sizes(self, shapes[0]), self.filters

    def weights(self, shape: Shape) -> tuple[Weight, ...]:
        kernel = glorot((self.kernel, self.kernel, shape[2], self.filters))
        return (kernel, near(0, self.filters)) if self.bias else (kernel,)

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.kernel**2 * shape[2]


@dataclass(frozen=True)
class DepthwiseConv(Layer):
    """One filter for each channel, no bias."""

    kernel: int
    strides: int = 1
    padding: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        return *window_sizes(self, shapes[0]), shapes[0][2]

    def weights(self, shape: Shape) -> tuple[Weight, ...]:
        return (glorot((self.kernel, self.kernel, shape[2], 1), fans=(1, 1)),)

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.kernel**2


@dataclass(frozen=True)
class Dense(Layer):
    units: int

    def output_shape(self, *shapes: Shape) -> Shape:
        return (self.units,)

    def weights(self, shape: Shape) -> tuple[Weight, ...]:
        return glorot((shape[0], self.units)), near(0, self.units)

    def multiply_adds(self, shape: Shape) -> int:
        return shape[0] * self.units


@dataclass(frozen=True)
class BatchNorm(Layer):
    def weights(self, shape: Shape) -> tuple[Weight, ...]:
        return tuple(near(start, shape[2]) for start in (1, 0, 0, 1))


@dataclass(frozen=True)
class MaxPool(Layer):
    kernel: int
    strides: int
    padding = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        return *window_sizes(self, shapes[0]), shapes[0][2]


@dataclass(frozen=True)
class Relu(Layer):
    pass


@dataclass(frozen=True)
class Flatten(Layer):
    def output_shape(self, *shapes: Shape) -> Shape:
        return (math.prod(shapes[0]),)


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0][2:]


@dataclass(frozen=True)
class UpSample(Layer):
    """Every pixel becomes `size` x `size` of the same."""

    size: int

    def output_shape(self, *shapes: Shape) -> Shape:
        rows, columns, channels = shapes[0]
        return rows * self.size, columns * self.size, channels


@dataclass(frozen=True)
class Add(Layer):
    pass


@dataclass(frozen=True)
class Concat(Layer):
    """Channels of all inputs, one input after another."""

    def output_shape(self, *shapes: Shape) -> Shape:
        return *shapes[0][:2], sum(shape[2] for shape in shapes)


def window_sizes(layer: Conv | DepthwiseConv | MaxPool, shape: Shape) -> tuple[int, int]:
    rows, columns = ((size + 2 * layer.padding - layer.kernel) // layer.strides + 1 for size in shape[:2])
    return rows, columns


def glorot(shape: Shape, fans: tuple[int, int] | None = None) -> Weight:
    """+-sqrt(6 / (taps * (in + out)))."""
    return Weight(shape, 0, math.sqrt(6 / (math.prod(shape[:-2]) * sum(fans or shape[-2:]))))


def near(start: float, size: int) -> Weight:
    """Not quite the usual start, so that arrays given in the wrong order show."""
    return Weight((size,), start, 0.05)


@dataclass(frozen=True)
class Node:
    """A layer applied to values: value 0 is the image, value i the output of the i-th node, counted from 1."""

    layer: Layer
    inputs: tuple[int, ...]


class Sketch:
    """Nodes written down one by one: each call adds a node and returns the number of its value."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def __call__(self, layer: Layer, *inputs: int) -> int:
        self.nodes.append(Node(layer, inputs))
        return len(self.nodes)

    def chain(self, x: int, *layers: Layer) -> int:
        """Layers one after another, from value x on."""
        for layer in layers:
            x = self(layer, x)
        return x


@dataclass(frozen=True)
class Net:
    name: str
    input_shape: Shape
    batch: int
    nodes: tuple[Node, ...]

    @cached_property
    def shapes(self) -> list[Shape]:
        """Of all values."""
        shapes = [self.input_shape]
        for node in self.nodes:
            shapes.append(node.layer.output_shape(*(shapes[i] for i in node.inputs)))
        return shapes

    @property
    def output_shape(self) -> Shape:
        return self.shapes[-1]

    @cached_property
    def last_readers(self) -> dict[int, int]:
        """For each value the number of the last node that reads it."""
        return {i: number for number, node in enumerate(self.nodes, 1) for i in node.inputs}

    @property
    def is_chain(self) -> bool:
        """Whether every node reads just the one before it."""
        return all(node.inputs == (i,) for i, node in enumerate(self.nodes))

    def evaluate(self, image: Any, apply: Callable[..., Any]) -> Any:
        """The last value, where `apply(k, layer, *inputs)` computes that of nodes[k].

        A value is let go after its last reader, as it would be in a function written by hand.
        """
        values = {0: image}
        for number, node in enumerate(self.nodes, 1):
            values[number] = apply(number - 1, node.layer, *[values[i] for i in node.inputs])
            for i in set(node.inputs):
                if self.last_readers[i] == number:
                    del values[i]
        return values[len(self.nodes)]

    def _weights(self) -> list[tuple[Weight, ...]]:
        return [node.layer.weights(self.shapes[node.inputs[0]]) for node in self.nodes]

    @property
    def parameters(self) -> int:
        """All weights, running means and variances of batch normalization included."""
        return sum(math.prod(weight.shape) for weights in self._weights() for weight in weights)

    def predict_flops(self) -> int:
        """Of one sample: two per multiply-add of convolutions and dense layers, taps on padding included."""
        return sum(self._pass_flops())

    def train_flops(self) -> int:
        """Of one sample: forward, weight gradient and input gradient, the last not for the first layer."""
        first, *others = self._pass_flops()
        return 2 * first + 3 * sum(others)

    def _pass_flops(self) -> list[int]:
        counts = [2 * node.layer.multiply_adds(self.shapes[node.inputs[0]]) for node in self.nodes]
        return [count for count in counts if count]

    def weights(self, seed: int = 0) -> Weights:
        """The same for every framework."""
        rng = np.random.default_rng(seed)

        def make(weight: Weight) -> Array:
            values = rng.random(weight.shape, np.float32)  # and in place: the process may keep what others take
            values *= 2 * weight.reach
            values += weight.middle - weight.reach
            return values

        return [tuple(map(make, weights)) for weights in self._weights()]

    def batches(self, count: int, seed: int = 1) -> list[Batch]:
        """Normal images and random labels: speed does not depend on what they show."""
        rng = np.random.default_rng(seed)
        *positions, classes = self.output_shape
        return [
            (
                rng.standard_normal((self.batch, *self.input_shape), np.float32),
                rng.integers(0, classes, (self.batch, *positions), np.int32),
            )
            for _ in range(count)
        ]

    def raw_images(self, count: int, seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Images as files have them, 0 to 255, and labels."""
        rng = np.random.default_rng(seed)
        return (
            rng.integers(0, 256, (count, *self.input_shape), np.uint8),
            rng.integers(0, self.output_shape[-1], count, np.int32),
        )


def chain(*layers: Layer) -> tuple[Node, ...]:
    """Each layer reads the one before it."""
    return tuple(Node(layer, (i,)) for i, layer in enumerate(layers))


def _conv(filters: int, kernel: int, **options: int) -> tuple[Layer, ...]:
    return Conv(filters, kernel, **options), Relu()


def _head(*units: int) -> tuple[Layer, ...]:
    """Dense layers, ReLU between them."""
    dense = [layer for size in units for layer in (Dense(size), Relu())]
    return Flatten(), *dense[:-1]


def lenet5() -> tuple[Node, ...]:
    """With ReLU and max-pooling, as it is used today."""
    return chain(
        *_conv(6, 5, padding=2), MaxPool(2, 2), *_conv(16, 5), MaxPool(2, 2), *_head(120, 84, 10)
    )


def simplecnn() -> tuple[Node, ...]:
    return chain(
        *_conv(32, 3, padding=1), MaxPool(2, 2), *_conv(64, 3, padding=1), MaxPool(2, 2), *_head(128, 10)
    )


def keras_cifar() -> tuple[Node, ...]:
    """Of a Keras tutorial."""
    blocks = [layer for filters in (32, 64, 128) for layer in (*_conv(filters, 3), MaxPool(2, 2))]
    return chain(*blocks, *_head(512, 10))


def vgg11() -> tuple[Node, ...]:
    """Simonyan & Zisserman 2014, configuration A, with one dense layer for small images."""
    plan = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    layers = [(MaxPool(2, 2),) if word == "M" else _conv(word, 3, padding=1) for word in plan]
    return chain(*(layer for part in layers for layer in part), *_head(10))


def alexnet() -> tuple[Node, ...]:
    """Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", without dropout."""
    return chain(
        *_conv(64, 11, strides=4, padding=2),
        MaxPool(3, 2),
        *_conv(192, 5, padding=2),
        MaxPool(3, 2),
        *_conv(384, 3, padding=1),
        *_conv(256, 3, padding=1),
        *_conv(256, 3, padding=1),
        MaxPool(3, 2),
        *_head(4096, 4096, 1000),
    )


def _normed(filters: int, kernel: int, strides: int = 1) -> tuple[Layer, ...]:
    """Convolution and batch normalization, which makes a bias superfluous."""
    return Conv(filters, kernel, strides, kernel // 2, bias=False), BatchNorm()


def resnet(stem: int, stages: Sequence[int], blocks: int) -> tuple[Node, ...]:
    """He et al. 2015 for 32x32 images; shortcuts to other sizes are 1x1 convolutions (their option B)."""
    g = Sketch()
    x, channels = g.chain(0, *_normed(stem, 3), Relu()), stem
    for stage, filters in enumerate(stages):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            y = g.chain(x, *_normed(filters, 3, strides), Relu(), *_normed(filters, 3))
            shortcut = x if channels == filters else g.chain(x, *_normed(filters, 1, strides))
            x, channels = g.chain(g(Add(), y, shortcut), Relu()), filters
    g.chain(x, GlobalAvgPool(), Dense(10))
    return tuple(g.nodes)


def mobilenet() -> tuple[Node, ...]:
    """Howard et al. 2017 for 32x32 images: the first strides are 1."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    layers = [*_normed(32, 3), Relu()]
    for filters, strides in plan:
        layers += [DepthwiseConv(3, strides, 1), BatchNorm(), Relu(), *_normed(filters, 1), Relu()]
    return chain(*layers, GlobalAvgPool(), Dense(10))


def unet(widths: Sequence[int] = (32, 64, 128), bottom: int = 256, classes: int = 2) -> tuple[Node, ...]:
    """Ronneberger et al. 2015, padded so that the output has the input's size; nearest-neighbour upsampling."""
    g = Sketch()

    def two(filters: int) -> tuple[Layer, ...]:
        return *_conv(filters, 3, padding=1), *_conv(filters, 3, padding=1)

    x, skips = 0, []
    for width in widths:
        skips.append(g.chain(x, *two(width)))
        x = g(MaxPool(2, 2), skips[-1])
    x = g.chain(x, *two(bottom))
    for width, skip in zip(reversed(widths), reversed(skips), strict=True):
        up = g.chain(x, UpSample(2), *_conv(width, 3, padding=1))
        x = g.chain(g(Concat(), skip, up), *two(width))
    g(Conv(classes, 1), x)
    return tuple(g.nodes)


MNIST, CIFAR = (28, 28, 1), (32, 32, 3)

NETS = {
    net.name: net
    for net in (
        Net("lenet5", MNIST, 64, lenet5()),
        Net("simplecnn", MNIST, 64, simplecnn()),
        Net("keras-cifar", CIFAR, 64, keras_cifar()),
        Net("vgg11", CIFAR, 64, vgg11()),
        Net("alexnet", (224, 224, 3), 16, alexnet()),
        Net("resnet20", CIFAR, 64, resnet(16, (16, 32, 64), blocks=3)),
        Net("resnet18", CIFAR, 32, resnet(64, (64, 128, 256, 512), blocks=2)),
        Net("mobilenet", CIFAR, 64, mobilenet()),
        Net("unet", (64, 64, 3), 8, unet()),
    )
}
