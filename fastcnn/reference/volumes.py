"""Convolution and pooling of volumes (n, depth, height, width, channels), which are stacks of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, IntOrPair, Padding, as_float64, pair, triple
from fastcnn.reference._windows import Windows, conv_output_size, resolve_padding
from fastcnn.reference.convolution import add_bias, conv2d, conv2d_input_grad, conv2d_weight_grad


def conv3d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Cross-correlation of volumes with a bank of filters: a sum of `conv2d` over the depth taps.

        y[n, p] = b + sum_i conv2d(x[n, p*sd + i*dd - front], w[i])

    Parameters
    ----------
    x : (n, depth, height, width, ic)
    w : (kd, kh, kw, ic // groups, oc)
    b : (oc,), optional
    strides, dilation : an int, or three (depth, height, width)
    padding : 'valid', 'same', an int, three, or three pairs

    Returns
    -------
    (n, od, oh, ow, oc)
    """
    x, w = as_float64(x, "conv3d: x", 5), as_float64(w, "conv3d: w", 5)
    slices = _Slices.over(x.shape[1:4], w.shape[:3], strides, padding, dilation, "conv3d")
    size = conv_output_size(x.shape[2:4], w.shape[1:3], **slices.plane)
    y = np.zeros((len(x), slices.windows.output[0], *size, w.shape[4]))
    for p, i, d in slices.taps():
        y[:, p] += conv2d(x[:, d], w[i], groups=groups, **slices.plane)
    return add_bias(y, b, "conv3d")


def conv3d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv3d` with respect to x: dx[:, d] = sum of conv2d_input_grad(dy[:, p], w[i]) over its taps."""
    dy, w = as_float64(dy, "conv3d_input_grad: dy", 5), as_float64(w, "conv3d_input_grad: w", 5)
    dx = np.zeros(input_shape)
    slices = _Slices.over(input_shape[1:4], w.shape[:3], strides, padding, dilation, "conv3d_input_grad")
    for p, i, d in slices.taps():
        dx[:, d] += conv2d_input_grad(dy[:, p], w[i], dx[:, d].shape, groups=groups, **slices.plane)
    return dx


def conv3d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv3d` with respect to w: dw[i] = sum of conv2d_weight_grad(x[:, d], dy[:, p]) over its taps."""
    x, dy = as_float64(x, "conv3d_weight_grad: x", 5), as_float64(dy, "conv3d_weight_grad: dy", 5)
    kernel = triple(kernel_size, "conv3d_weight_grad: kernel_size", 1)
    slices = _Slices.over(x.shape[1:4], kernel, strides, padding, dilation, "conv3d_weight_grad")
    dw = np.zeros((*kernel, x.shape[4] // groups, dy.shape[4]))
    for p, i, d in slices.taps():
        dw[i] += conv2d_weight_grad(x[:, d], dy[:, p], kernel[1:], groups=groups, **slices.plane)
    return dw


@dataclass(frozen=True)
class _Slices:
    """The windows along the depth axis: tap i of output slice p is slice p*stride + i*dilation of the padded volume.

    `plane` are the other arguments of the 2-D operation within slices.
    """

    windows: Windows
    plane: dict[str, Any]

    @classmethod
    def over(cls, size: Sequence[int], kernel_size: Any, strides: Any, padding: Padding, dilation: Any,
             where: str) -> _Slices:
        (kernel, *_), (step, *steps), (gap, *gaps) = (
            triple(value, f"{where}: {name}", 1)
            for value, name in ((kernel_size, "kernel size"), (strides, "strides"), (dilation, "dilation"))
        )
        depth, plane = padding, padding
        if not isinstance(padding, str):
            sides = (padding,) * 3 if isinstance(padding, int) else padding
            depth, *plane = (pair(side, f"{where}: padding", 0) for side in sides)
            depth = depth, (0, 0)
        windows = Windows.over((size[0], 1), (kernel, 1), (step, 1), depth, (gap, 1), where)
        return cls(windows, {"strides": steps, "padding": plane, "dilation": gaps})

    def taps(self) -> Iterator[tuple[int, int, int]]:
        """(output slice, tap, input slice), for taps inside the volume."""
        windows = self.windows
        for p in range(windows.output[0]):
            for i in range(windows.kernel[0]):
                d = p * windows.strides[0] + i * windows.dilation[0] - windows.pads[0][0]
                if 0 <= d < windows.image[0]:
                    yield p, i, d


def max_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of the voxels of each window that are in the volume; ties and NaN as in `max_pool2d`."""
    x = as_float64(x, "max_pool3d: x", 5)
    return _pooled(x, list(_voxels(x.shape, pool_size, strides, padding, "max_pool3d")), lambda v: v.max(1))


def max_pool3d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool3d` with respect to x: dy goes to the first maximum of its window, slice by slice."""
    dy, x = as_float64(dy, "max_pool3d_grad: dy", 5), as_float64(x, "max_pool3d_grad: x", 5)
    dx = np.zeros(x.shape)
    for voxel, window in _voxels(x.shape, pool_size, strides, padding, "max_pool3d_grad"):
        seen, share = x[(slice(None), *window)], dx[(slice(None), *window)]
        first = np.unravel_index(_flat(seen).argmax(1), seen.shape[1:4])
        samples, channels = np.indices(first[0].shape)
        share[(samples, *first, channels)] += dy[(slice(None), *voxel)]
    return dx


def avg_pool3d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the voxels of each window that are in the volume."""
    x = as_float64(x, "avg_pool3d: x", 5)
    return _pooled(x, list(_voxels(x.shape, pool_size, strides, padding, "avg_pool3d")), lambda v: v.mean(1))


def avg_pool3d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool3d` with respect to x: each voxel gets dy / count of its windows."""
    dy, dx = as_float64(dy, "avg_pool3d_grad: dy", 5), np.zeros(input_shape)
    for voxel, window in _voxels(input_shape, pool_size, strides, padding, "avg_pool3d_grad"):
        share = dx[(slice(None), *window)]
        share += dy[(slice(None), *voxel)][:, None, None, None] / np.prod(share.shape[1:4])
    return dx


def _voxels(shape: Sequence[int], pool_size: Any, strides: Any, padding: Padding,
            where: str) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each output voxel (p, q, r) with the slices of the volume that its window covers, row by row."""
    pool = triple(pool_size, f"{where}: pool_size", 1)
    step = pool if strides is None else triple(strides, f"{where}: strides", 1)
    if isinstance(padding, str):
        pads = [resolve_padding(padding, (size, 1), (k, 1), (s, 1))[0] for size, k, s in
                zip(shape[1:4], pool, step, strict=True)]
    else:
        sides = (padding,) * 3 if isinstance(padding, int) else padding
        pads = [pair(side, f"{where}: padding", 0) for side in sides]
    starts = [range(-before, size + after - k + 1, s)
              for size, k, s, (before, after) in zip(shape[1:4], pool, step, pads, strict=True)]
    output = tuple(map(len, starts))
    for voxel in np.ndindex(output):
        first = [start[i] for start, i in zip(starts, voxel, strict=True)]
        yield voxel, tuple(slice(max(a, 0), a + k) for a, k in zip(first, pool, strict=True))


def _pooled(x: Array, cells: list[Any], value: Callable[[Array], Array]) -> Array:
    """`value` of the voxels (n, voxels, c) of each window."""
    y = np.zeros((len(x), *(size + 1 for size in cells[-1][0]), x.shape[4]))
    for voxel, window in cells:
        y[(slice(None), *voxel)] = value(_flat(x[(slice(None), *window)]))
    return y


def _flat(voxels: Array) -> Array:
    """(n, d, h, w, c) as (n, voxels, c)."""
    n, *sizes, c = voxels.shape
    return voxels.reshape(n, math.prod(sizes), c)
