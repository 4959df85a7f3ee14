"""Convolution problems, chosen by risk and by network, shared by the tests and the benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvCase:
    """One 2-D convolution: x (n, ih, iw, ic), w (kh, kw, ic // groups, oc)."""

    name: str
    n: int
    ih: int
    iw: int
    ic: int
    oc: int
    kh: int
    kw: int
    strides: Pair = (1, 1)
    padding: str | int | Sequence[Any] = "valid"
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.ih, self.iw, self.ic

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.kh, self.kw, self.ic // self.groups, self.oc

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.n, self._output_size(0), self._output_size(1), self.oc

    def _output_size(self, axis: int) -> int:
        """Counted: window starts from the first to the last whose taps all lie in the padded image."""
        size, kernel, stride = (self.ih, self.iw)[axis], (self.kh, self.kw)[axis], self.strides[axis]
        if self.padding == "same":
            return math.ceil(size / stride)
        before, after = (0, 0) if self.padding == "valid" else self._pads(axis)
        last_tap = (kernel - 1) * self.dilation[axis]
        return len(range(-before, size + after - last_tap, stride))

    def _pads(self, axis: int) -> Pair:
        sides: Any = self.padding if isinstance(self.padding, int) else self.padding[axis]
        return (sides, sides) if isinstance(sides, int) else (sides[0], sides[1])

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of conv2d and its gradients."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def flops(self) -> int:
        """Two per multiply-add, taps on padding included; the same for each of the three passes."""
        return 2 * math.prod(self.output_shape) * math.prod(self.weight_shape[:3])

    def with_batch(self, n: int) -> ConvCase:
        return replace(self, n=n)


def _same3(name: str, n: int, size: int, ic: int, oc: int) -> ConvCase:
    """A 3x3 layer with 'same' padding on a square image."""
    return ConvCase(name, n, size, size, ic, oc, 3, 3, padding="same")


TILE_SIZES = (4, 6, 8, 14, 16, 28, 32)
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33)

# Around every tile size: widths and channels together, then each channel count on either side.
TAILS = [
    ConvCase(f"tail_w{tile + d}_o{tile - d}", 2, 3, tile + d, 5, max(tile - d, 1), 3, 3, padding="same")
    for tile in TILE_SIZES
    for d in (-1, 0, 1)
]
TAILS += [
    ConvCase(f"tail_pixels{width}", 1, 1, width, 8, 16, 1, 1)
    for width in sorted({tile + d for tile in TILE_SIZES for d in (-1, 1)})
]
TAILS += [ConvCase(f"tail_oc{c}", 2, 5, 7, 3, c, 3, 3, padding="same") for c in CHANNELS]
TAILS += [ConvCase(f"tail_ic{c}", 2, 5, 7, c, 8, 3, 3, padding="same") for c in CHANNELS]
TAILS += [ConvCase(f"tail_both{c}", 1, 6, 5, c, c, 3, 3) for c in (15, 17, 31, 33)]

STRIDES = [
    ConvCase("s2_odd_same", 2, 9, 11, 5, 8, 3, 3, (2, 2), "same"),
    ConvCase("s2_odd_valid", 2, 9, 11, 5, 8, 3, 3, (2, 2)),
    ConvCase("s2_even_same", 2, 8, 10, 16, 17, 3, 3, (2, 2), "same"),
    ConvCase("s2_last_row_unused", 2, 8, 8, 4, 16, 3, 3, (2, 2)),
    ConvCase("s2_k2", 2, 7, 9, 3, 8, 2, 2, (2, 2)),
    ConvCase("s2_k5_same", 2, 13, 11, 3, 16, 5, 5, (2, 2), "same"),
    ConvCase("s2_k1_projection", 2, 9, 9, 16, 32, 1, 1, (2, 2)),
    ConvCase("s3_same", 2, 11, 13, 4, 9, 3, 3, (3, 3), "same"),
    ConvCase("s3_k5_valid", 1, 17, 16, 2, 33, 5, 5, (3, 3)),
    ConvCase("s21", 2, 9, 10, 6, 8, 3, 3, (2, 1), "same"),
    ConvCase("s13", 2, 9, 10, 6, 8, 3, 3, (1, 3)),
    ConvCase("stride_above_kernel", 2, 11, 13, 5, 7, 2, 2, (3, 4)),
    ConvCase("stride_above_kernel_same", 2, 10, 11, 5, 7, 1, 2, (3, 4), "same"),
    ConvCase("stride_above_image", 2, 5, 4, 3, 8, 3, 3, (7, 9)),
    ConvCase("s4_k11", 1, 31, 35, 3, 8, 11, 11, (4, 4)),
]

PADDING = [
    ConvCase("same_k2", 2, 6, 7, 4, 8, 2, 2, padding="same"),
    ConvCase("same_k4", 2, 6, 7, 4, 8, 4, 4, padding="same"),
    ConvCase("same_k3x2", 2, 6, 7, 4, 8, 3, 2, padding="same"),
    ConvCase("same_s2_k4", 2, 9, 8, 4, 8, 4, 4, (2, 2), "same"),
    ConvCase("pad1", 2, 6, 7, 4, 8, 3, 3, padding=1),
    ConvCase("pad02", 2, 6, 7, 4, 8, 3, 3, padding=(0, 2)),
    ConvCase("pad_each_side", 2, 6, 7, 4, 8, 3, 3, padding=((0, 1), (2, 0))),
    ConvCase("pad_bottom_right", 2, 6, 7, 4, 8, 3, 3, (2, 2), ((0, 1), (0, 1))),
    ConvCase("pad_top_left", 2, 6, 7, 4, 8, 3, 3, (2, 2), ((2, 0), (2, 0))),
    ConvCase("pad_above_kernel", 2, 4, 5, 3, 8, 3, 3, padding=((4, 5), (6, 3))),
    ConvCase("pad_above_kernel_s2", 2, 4, 5, 3, 8, 2, 3, (2, 2), ((5, 3), (4, 7))),
    ConvCase("pad_k1", 2, 3, 4, 5, 8, 1, 1, padding=2),
    ConvCase("full", 2, 4, 5, 3, 8, 3, 3, padding=2),
]

ODD = [
    ConvCase("kernel_above_image_same", 2, 3, 2, 4, 8, 5, 7, padding="same"),
    ConvCase("kernel_above_image_pad", 2, 2, 3, 4, 8, 5, 5, padding=2),
    ConvCase("one_pixel_same", 3, 1, 1, 8, 16, 3, 3, padding="same"),
    ConvCase("kernel_is_image", 2, 4, 4, 16, 33, 4, 4),
    ConvCase("k1", 2, 5, 6, 16, 32, 1, 1),
    ConvCase("row_kernel", 2, 6, 9, 4, 8, 1, 5, padding="same"),
    ConvCase("column_kernel", 2, 9, 6, 4, 8, 5, 1, padding="same"),
    ConvCase("one_row", 2, 1, 19, 4, 8, 1, 3),
    ConvCase("one_column", 2, 19, 1, 4, 8, 3, 1),
    ConvCase("one_channel", 2, 8, 9, 1, 1, 3, 3, padding="same"),
    ConvCase("one_in", 2, 8, 9, 1, 32, 3, 3),
    ConvCase("one_out", 2, 8, 9, 32, 1, 3, 3),
    ConvCase("batch0", 0, 5, 6, 3, 8, 3, 3, padding="same"),
    ConvCase("batch1", 1, 9, 8, 32, 32, 3, 3, padding="same"),
    ConvCase("batch7", 7, 4, 4, 8, 16, 3, 3, padding="same"),
    ConvCase("dilation2", 2, 9, 10, 5, 8, 3, 3, dilation=(2, 2)),
    ConvCase("dilation2_same", 2, 7, 8, 16, 16, 3, 3, padding="same", dilation=(2, 2)),
    ConvCase("dilation3", 2, 9, 10, 5, 8, 3, 3, padding="same", dilation=(3, 3)),
    ConvCase("dilation13", 2, 8, 11, 5, 8, 2, 3, padding=(1, 2), dilation=(1, 3)),
    ConvCase("dilation2_s2", 2, 11, 12, 5, 8, 3, 3, (2, 2), "same", (2, 2)),
    ConvCase("dilation3_s2", 2, 13, 12, 4, 8, 3, 2, (2, 3), 1, (3, 2)),
    ConvCase("groups2", 2, 6, 7, 8, 16, 3, 3, padding="same", groups=2),
    ConvCase("groups3_s2", 2, 7, 9, 6, 33, 3, 3, (2, 2), "same", groups=3),
    ConvCase("groups4_k1", 2, 6, 5, 16, 8, 1, 1, groups=4),
    ConvCase("depthwise", 2, 7, 8, 19, 19, 3, 3, padding="same", groups=19),
    ConvCase("depthwise_s2", 2, 9, 8, 32, 32, 3, 3, (2, 2), "same", groups=32),
    ConvCase("depthwise_dilation2", 2, 9, 8, 7, 7, 3, 3, padding="same", dilation=(2, 2), groups=7),
    ConvCase("depthwise_multiplier2", 2, 6, 7, 9, 18, 3, 3, padding="same", groups=9),
    ConvCase("depthwise_one_channel", 2, 6, 7, 1, 2, 3, 3, groups=1),
]

NETWORKS = [
    ConvCase("lenet5_c1", 32, 32, 32, 1, 6, 5, 5),
    ConvCase("lenet5_c3", 32, 14, 14, 6, 16, 5, 5),
    ConvCase("lenet5_c5", 32, 5, 5, 16, 120, 5, 5),
    _same3("simplecnn_conv1", 32, 32, 3, 32),
    _same3("simplecnn_conv2", 32, 16, 32, 64),
    ConvCase("keras_cifar_conv1", 32, 32, 32, 3, 32, 3, 3),
    ConvCase("keras_cifar_conv2", 32, 15, 15, 32, 64, 3, 3),
    ConvCase("keras_cifar_conv3", 32, 6, 6, 64, 128, 3, 3),
    _same3("vgg11_conv1", 32, 32, 3, 64),
    _same3("vgg11_conv2", 32, 16, 64, 128),
    _same3("vgg11_conv3", 32, 8, 128, 256),
    _same3("vgg11_conv4", 32, 8, 256, 256),
    _same3("vgg11_conv5", 32, 4, 256, 512),
    _same3("vgg11_conv6", 32, 4, 512, 512),
    _same3("vgg11_conv7", 32, 2, 512, 512),
    _same3("resnet20_conv1", 32, 32, 3, 16),
    _same3("resnet20_stage1", 32, 32, 16, 16),
    ConvCase("resnet20_down2", 32, 32, 32, 16, 32, 3, 3, (2, 2), "same"),
    ConvCase("resnet20_shortcut2", 32, 32, 32, 16, 32, 1, 1, (2, 2), "same"),
    _same3("resnet20_stage2", 32, 16, 32, 32),
    ConvCase("resnet20_down3", 32, 16, 16, 32, 64, 3, 3, (2, 2), "same"),
    ConvCase("resnet20_shortcut3", 32, 16, 16, 32, 64, 1, 1, (2, 2), "same"),
    _same3("resnet20_stage3", 32, 8, 64, 64),
    ConvCase("alexnet_conv1", 4, 227, 227, 3, 96, 11, 11, (4, 4)),
    ConvCase("alexnet_conv2", 4, 27, 27, 96, 256, 5, 5, padding=2, groups=2),
    _same3("alexnet_conv3", 4, 13, 256, 384),
    ConvCase("alexnet_conv4", 4, 13, 13, 384, 384, 3, 3, padding=1, groups=2),
    ConvCase("alexnet_conv5", 4, 13, 13, 384, 256, 3, 3, padding=1, groups=2),
]

# The shapes whose speed the project promises.
SPEED = [
    _same3("speed_32x32_16_16", 64, 32, 16, 16),
    _same3("speed_28x28_32_32", 64, 28, 32, 32),
    _same3("speed_16x16_32_64", 64, 16, 32, 64),
    _same3("speed_32x32_64_64", 32, 32, 64, 64),
    _same3("speed_16x16_128_128", 32, 16, 128, 128),
    _same3("speed_8x8_256_256", 32, 8, 256, 256),
    _same3("speed_4x4_512_512", 32, 4, 512, 512),
    _same3("speed_32x32_3_32", 64, 32, 3, 32),
]

RISKS = TAILS + STRIDES + PADDING + ODD


def random_case(rng: np.random.Generator) -> ConvCase:
    """A small valid problem that mixes everything: sizes to 20, channels to 72, every kind of padding."""
    ic, oc, groups = _random_channels(rng)
    size, kernel = rng.integers(1, 21, 2), rng.integers(1, 6, 2)
    strides, dilation = rng.choice([1, 1, 1, 2, 2, 3, 4], 2), rng.choice([1, 1, 1, 2, 3], 2)
    extent = (kernel - 1) * dilation + 1
    kind = rng.choice(["valid", "same", "int", "pair", "sides"])
    if kind == "valid":
        size = np.maximum(size, extent)
    # At least so much on every side that the kernel fits, and at times far more than it needs.
    least = -(-np.maximum(extent - size, 0) // 2)
    pads = least + rng.integers(0, 4, (2, 2))
    padding: Any = {
        "valid": "valid",
        "same": "same",
        "int": int(pads.max()),
        "pair": (int(pads[:, 0].max()), int(pads[:, 1].max())),
        "sides": tuple((int(before), int(after)) for before, after in zip(*pads, strict=True)),
    }[str(kind)]
    (ih, iw), (kh, kw), (sh, sw), (dh, dw) = (map(int, pair) for pair in (size, kernel, strides, dilation))
    n = int(rng.choice([0, 1, 1, 2, 2, 3, 5]))
    return ConvCase("random", n, ih, iw, ic, oc, kh, kw, (sh, sw), padding, (dh, dw), groups)


def _random_channels(rng: np.random.Generator) -> tuple[int, int, int]:
    """(in, out, groups): one group mostly, else a few groups or a depthwise convolution."""
    kind = rng.choice(["plain", "plain", "groups", "depthwise"])
    if kind == "plain":
        return int(rng.integers(1, 71)), int(rng.integers(1, 71)), 1
    if kind == "groups":
        groups = int(rng.integers(2, 7))
        return groups * int(rng.integers(1, 13)), groups * int(rng.integers(1, 13)), groups
    channels = int(rng.integers(1, 37))
    return channels, channels * int(rng.integers(1, 3)), channels
