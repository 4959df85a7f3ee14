"""The windows that convolution and pooling slide over an image, and what pads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastcnn.reference._arguments import Array, IntOrPair, Padding, Pair, in_small_letters, pair


def kernel_extent(kernel_size: int, dilation: int) -> int:
    """Pixels from the first to the last tap of a dilated kernel, both included."""
    return (kernel_size - 1) * dilation + 1


def resolve_padding(
    padding: Padding,
    input_size: Sequence[int],
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    dilation: IntOrPair = 1,
) -> tuple[Pair, Pair]:
    """Padding in pixels, ((top, bottom), (left, right)), for an image of `input_size` = (height, width).

    'same' pads each axis by max((ceil(size / stride) - 1) * stride + extent - size, 0) in total, with
    extent = (kernel - 1) * dilation + 1, and puts the smaller half first.

    Raises ValueError for an unknown or negative padding, TypeError for one of the wrong type.
    """
    kernel, step, gap = (
        pair(value, name, 1)
        for value, name in ((kernel_size, "kernel_size"), (strides, "strides"), (dilation, "dilation"))
    )
    padding = in_small_letters(padding)
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            return tuple(map(_same_padding, input_size, kernel, step, gap))  # type: ignore[return-value]
        raise ValueError(f"padding must be 'valid', 'same', an int or a pair, got {padding!r}")
    if isinstance(padding, (tuple, list)) and any(isinstance(side, (tuple, list)) for side in padding):
        if len(padding) != 2:
            raise ValueError(f"padding must be ((top, bottom), (left, right)), got {padding!r}")
        return pair(padding[0], "padding", 0), pair(padding[1], "padding", 0)
    vertical, horizontal = pair(padding, "padding", 0)
    return (vertical, vertical), (horizontal, horizontal)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """(before, after) along one axis for padding='same'."""
    output = -(-size // stride)
    total = max((output - 1) * stride + kernel_extent(kernel, dilation) - size, 0)
    return total // 2, total - total // 2


def conv_output_size(
    input_size: Sequence[int],
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
) -> Pair:
    """(height, width) of a convolution or pooling output: floor((size + pads - extent) / stride) + 1.

    Raises ValueError where the kernel does not fit into the padded image, or the image has no pixel.
    """
    return Windows.over(input_size, kernel_size, strides, padding, dilation, "conv_output_size").output


@dataclass(frozen=True)
class Windows:
    """The windows that a sliding kernel sees.

    Tap (i, j) of window (p, q) is pixel (p*sh + i*dh, q*sw + j*dw) of the padded image.
    """

    image: Pair
    kernel: Pair
    strides: Pair
    dilation: Pair
    pads: tuple[Pair, Pair]
    output: Pair

    @classmethod
    def over(
        cls,
        input_size: Sequence[int],
        kernel_size: IntOrPair,
        strides: IntOrPair,
        padding: Padding,
        dilation: IntOrPair,
        where: str,
    ) -> Windows:
        """The windows of a kernel over an image; `where` begins the messages. Raises as `conv_output_size`."""
        image = pair(tuple(input_size), f"{where}: image size", 1)
        kernel = pair(kernel_size, f"{where}: kernel size", 1)
        step = pair(strides, f"{where}: strides", 1)
        gap = pair(dilation, f"{where}: dilation", 1)
        pads = resolve_padding(padding, image, kernel, step, gap)
        output = []
        for axis, size, k, s, d, pad in zip(("height", "width"), image, kernel, step, gap, pads, strict=True):
            room = size + sum(pad) - kernel_extent(k, d)
            if room < 0:
                raise ValueError(
                    f"{where}: the kernel's {axis} {kernel_extent(k, d)} (dilation included) exceeds the image's "
                    f"{axis} {size} with padding {pad}; enlarge the image or use padding='same'"
                )
            output.append(room // s + 1)
        return cls(image, kernel, step, gap, pads, (output[0], output[1]))

    def taps(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Each tap (i, j) with the rows and columns of the padded image where the windows have it."""
        (oh, ow), (sh, sw), (dh, dw) = self.output, self.strides, self.dilation
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                rows = slice(i * dh, i * dh + (oh - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (ow - 1) * sw + 1, sw)
                yield i, j, rows, cols

    def pad(self, x: Array) -> Array:
        """The images x with their border of zeros."""
        return np.pad(x, ((0, 0), *self.pads, (0, 0)))

    def crop(self, padded: Array) -> Array:
        """Padded images without their border."""
        (top, _), (left, _) = self.pads
        return padded[:, top : top + self.image[0], left : left + self.image[1]].copy()

    def zeros(self, n: int, channels: int) -> Array:
        """A padded image to sum gradients into."""
        return self.pad(np.zeros((n, *self.image, channels)))

    def positions(self, rows: slice, cols: slice) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For one tap, (oh, ow): flat position h * iw + w in the image, and whether it is inside."""
        h = np.arange(rows.start, rows.stop, rows.step)[:, None] - self.pads[0][0]
        w = np.arange(cols.start, cols.stop, cols.step)[None, :] - self.pads[1][0]
        inside = (h >= 0) & (h < self.image[0]) & (w >= 0) & (w < self.image[1])
        return h * self.image[1] + w, inside
