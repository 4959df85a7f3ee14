"""Convolution and pooling of sequences (n, steps, channels), which are images of one row to the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.arrays import SEQUENCES, Array, as_float32
from fastcnn.geometry import Conv, IntOrPair, Padding, Window, image_shape, sizes
from fastcnn.kernels._pool import AvgPool, AvgPoolGrad, MaxPool, MaxPoolGrad
from fastcnn.ops._engine import run, tensor
from fastcnn.ops.convolution import as_bias, check_shape, conv2d, conv2d_input_grad, conv2d_weight_grad
from fastcnn.utils import whole_number

FILTERS = "(kernel size, input channels, output channels)"


def conv1d(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Cross-correlation of sequences with a bank of filters.

    y[n, p, o] = b[o] + sum_{i, c} x[n, p*stride + i*dilation - before, c] * w[i, c, o]

    Parameters
    ----------
    x : (n, steps, in_channels)
    w : (kernel_size, in_channels // groups, filters)
    b : (filters,), optional
    strides, dilation : an int
    padding : 'valid', 'same', 'causal' (all zeros before the sequence), an int, or a pair (before, after)
    algorithm : 'auto', 'direct' or 'im2col'

    Returns
    -------
    (n, outputs, filters) float32

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, naming both.
    """
    where = "conv1d"
    x, w = as_float32(x, 3, f"{where}: x", axes=SEQUENCES), as_float32(w, 3, f"{where}: w", axes=FILTERS)
    conv = Conv.over_steps(x.shape, w.shape, strides, padding, dilation, groups, where)
    return conv2d(x[:, None], w[None], as_bias(b, conv.oc, where), *_row(conv, algorithm))[:, 0]


def conv1d_input_grad(
    dy: ArrayLike,
    w: ArrayLike,
    input_shape: Sequence[int],
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv1d` with respect to x, of `input_shape` (n, steps, in_channels).

    dy is (n, outputs, filters); the other arguments are those of the forward pass.
    """
    where = "conv1d_input_grad"
    dy, w = as_float32(dy, 3, f"{where}: dy", axes=SEQUENCES), as_float32(w, 3, f"{where}: w", axes=FILTERS)
    shape = image_shape(input_shape, "input_shape", where, SEQUENCES)
    conv = Conv.over_steps(shape, w.shape, strides, padding, dilation, groups, where)
    check_shape(dy, (conv.n, conv.window.ow, conv.oc), f"{where}: dy", "conv1d's result")
    return conv2d_input_grad(dy[:, None], w[None], conv.x_shape, *_row(conv, algorithm))[:, 0]


def conv1d_weight_grad(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: IntOrPair,
    strides: IntOrPair = 1,
    padding: Padding = "valid",
    dilation: IntOrPair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv1d` with respect to w, (kernel_size, in_channels // groups, filters).

    dy is (n, outputs, filters); the other arguments are those of the forward pass.
    """
    where = "conv1d_weight_grad"
    x, dy = as_float32(x, 3, f"{where}: x", axes=SEQUENCES), as_float32(dy, 3, f"{where}: dy", axes=SEQUENCES)
    (kernel,) = sizes(kernel_size, 1, "kernel_size", where)
    w_shape = (kernel, x.shape[2] // whole_number(groups, "groups", where), dy.shape[2])
    conv = Conv.over_steps(x.shape, w_shape, strides, padding, dilation, groups, where)
    check_shape(dy, (conv.n, conv.window.ow, conv.oc), f"{where}: dy", "conv1d's result")
    return conv2d_weight_grad(x[:, None], dy[:, None], conv.window.kernel, *_row(conv, algorithm))[0]


def _row(conv: Conv, algorithm: str):
    """The other arguments of conv2d, for images of one row."""
    return conv.window.strides, conv.window.pads, conv.window.dilation, conv.groups, algorithm


def max_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of each window of x (n, steps, c), (n, outputs, c); ties, NaN and padding as in `max_pool2d`.

    `pool_size` and `strides` are ints; `padding` is 'valid', 'same', an int or a pair (before, after).
    """
    x = as_float32(x, 3, "max_pool1d: x", axes=SEQUENCES)
    windows, y_shape = _windows(x.shape, pool_size, strides, padding, "max_pool1d")
    y = np.empty(y_shape, np.float32)
    run(MaxPool(tensor(x[:, None]), tensor(y), *windows))
    return y[:, 0]


def max_pool1d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool1d` with respect to x: dy (n, outputs, c) goes to the first maximum of its window."""
    where = "max_pool1d_grad"
    x = as_float32(x, 3, f"{where}: x", axes=SEQUENCES)
    windows, y_shape = _windows(x.shape, pool_size, strides, padding, where)
    dy = _gradient(dy, y_shape, where)
    arg, dx = np.empty(y_shape, np.int32), np.empty_like(x[:, None])
    run(
        MaxPool(tensor(x[:, None]), tensor(np.empty_like(dy)), *windows, arg),
        MaxPoolGrad(tensor(dy), tensor(dx), arg, *windows),
    )
    return dx[:, 0]


def avg_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the steps of each window that are in the sequence; arguments and shapes as of `max_pool1d`."""
    x = as_float32(x, 3, "avg_pool1d: x", axes=SEQUENCES)
    windows, y_shape = _windows(x.shape, pool_size, strides, padding, "avg_pool1d")
    y = np.empty(y_shape, np.float32)
    run(AvgPool(tensor(x[:, None]), tensor(y), *windows))
    return y[:, 0]


def avg_pool1d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool1d` with respect to x, of `input_shape`: each step gets dy / count of its windows."""
    where = "avg_pool1d_grad"
    n, steps, c = image_shape(input_shape, "input_shape", where, SEQUENCES)
    windows, y_shape = _windows((n, steps, c), pool_size, strides, padding, where)
    dx = np.empty((n, 1, steps, c), np.float32)
    run(AvgPoolGrad(tensor(_gradient(dy, y_shape, where)), tensor(dx), *windows))
    return dx[:, 0]


def _windows(shape, pool_size, strides, padding, where):
    """((pool, strides, pads), shape of the result as an image of one row)."""
    step = pool_size if strides is None else strides
    window = Window.over_steps(shape[1:2], pool_size, step, padding, 1, where, "pool_size")
    if max(window.pads[1]) >= window.kw:
        raise ValueError(
            f"{where}: padding {window.pads[1]} must be below the pool_size {window.kw}, or a window could "
            f"lie wholly in padding"
        )
    return (window.kernel, window.strides, window.pads), (shape[0], 1, window.ow, shape[2])


def _gradient(dy: ArrayLike, y_shape, where: str) -> Array:
    n, _, outputs, c = y_shape
    return as_float32(dy, 3, f"{where}: dy", (n, outputs, c), SEQUENCES)[:, None]
