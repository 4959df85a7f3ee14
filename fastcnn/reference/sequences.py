"""Convolution and pooling of sequences (n, steps, channels), which are images of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, IntOrPair, Padding, Pair, as_float64, in_small_letters, pair
from fastcnn.reference._windows import kernel_extent
from fastcnn.reference.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from fastcnn.reference.pooling import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad


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
    """Cross-correlation of sequences with a bank of filters: `conv2d` of images of one row.

        y[n, p, o] = b[o] + sum_{i, c} x[n, p*stride + i*dilation - before, c] * w[i, c, o]

    Parameters
    ----------
    x : (n, steps, ic)
    w : (k, ic // groups, oc)
    b : (oc,), optional
    padding : 'valid', 'same', 'causal' (all zeros before the sequence), an int, or a pair (before, after)

    Returns
    -------
    (n, outputs, oc)
    """
    x, w = as_float64(x, "conv1d: x", 3), as_float64(w, "conv1d: w", 3)
    padding = _row_padding(padding, len(w), dilation)
    return conv2d(x[:, None], w[None], b, (1, _step(strides)), padding, (1, _step(dilation)), groups)[:, 0]


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
    """Gradient of `conv1d` with respect to x, of `input_shape` (n, steps, ic)."""
    dy, w = as_float64(dy, "conv1d_input_grad: dy", 3), as_float64(w, "conv1d_input_grad: w", 3)
    (n, steps, ic), padding = input_shape, _row_padding(padding, len(w), dilation)
    words = (1, _step(strides)), padding, (1, _step(dilation)), groups
    return conv2d_input_grad(dy[:, None], w[None], (n, 1, steps, ic), *words)[:, 0]


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
    """Gradient of `conv1d` with respect to w, (k, ic // groups, oc)."""
    x, dy = as_float64(x, "conv1d_weight_grad: x", 3), as_float64(dy, "conv1d_weight_grad: dy", 3)
    padding = _row_padding(padding, kernel_size, dilation)
    words = (1, _step(strides)), padding, (1, _step(dilation)), groups
    return conv2d_weight_grad(x[:, None], dy[:, None], (1, _step(kernel_size)), *words)[0]


def max_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Maximum of each window, y[n, p, c] = max over i of x[n, p*stride + i - before, c]; as `max_pool2d`."""
    return max_pool2d(as_float64(x, "max_pool1d: x", 3)[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def max_pool1d_grad(
    dy: ArrayLike,
    x: ArrayLike,
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `max_pool1d` with respect to x: dy goes to the first maximum of its window."""
    dy, x = as_float64(dy, "max_pool1d_grad: dy", 3), as_float64(x, "max_pool1d_grad: x", 3)
    return max_pool2d_grad(dy[:, None], x[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def avg_pool1d(
    x: ArrayLike, pool_size: IntOrPair, strides: IntOrPair | None = None, padding: Padding = "valid"
) -> Array:
    """Mean of the steps of each window that are in the sequence."""
    return avg_pool2d(as_float64(x, "avg_pool1d: x", 3)[:, None], *_row_windows(pool_size, strides, padding))[:, 0]


def avg_pool1d_grad(
    dy: ArrayLike,
    input_shape: Sequence[int],
    pool_size: IntOrPair,
    strides: IntOrPair | None = None,
    padding: Padding = "valid",
) -> Array:
    """Gradient of `avg_pool1d` with respect to x: each step gets dy / count of its windows."""
    (n, steps, c), dy = input_shape, as_float64(dy, "avg_pool1d_grad: dy", 3)
    words = _row_windows(pool_size, strides, padding)
    return avg_pool2d_grad(dy[:, None], (n, 1, steps, c), *words)[:, 0]


def _row_padding(padding: Padding, kernel_size: Any, dilation: Any) -> Padding:
    """The padding of an image of one row, from that of a sequence.

    'causal' puts the extent of the kernel less one before it; a pair is (before, after); (pair,) the same.
    """
    padding = in_small_letters(padding)
    if padding == "causal":
        return (0, 0), (kernel_extent(_step(kernel_size), _step(dilation)) - 1, 0)
    if isinstance(padding, str):
        return padding
    sides = padding[0] if isinstance(padding, (tuple, list)) and len(padding) == 1 else padding
    return (0, 0), pair(sides, "padding", 0)


def _row_windows(pool_size: Any, strides: Any, padding: Padding) -> tuple[Pair, Pair, Padding]:
    """(pool_size, strides, padding) for images of one row."""
    pool = _step(pool_size)
    return (1, pool), (1, pool if strides is None else _step(strides)), _row_padding(padding, pool, 1)


def _step(value: Any) -> int:
    """An int, or the one int of a tuple."""
    return value[0] if isinstance(value, (tuple, list)) else value
