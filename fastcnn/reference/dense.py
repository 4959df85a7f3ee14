"""Dense layers and their gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64, check_shape
from fastcnn.reference.convolution import add_bias


def dense(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """y = x w + b along the last axis: x (..., in), w (in, out), b (out,), y (..., out)."""
    x, w = as_float64(x, "dense: x"), as_float64(w, "dense: w", 2)
    check_shape(x.shape[-1:], w.shape[:1], "dense: the last axis of x")
    return add_bias(x @ w, b, "dense")


def dense_input_grad(dy: ArrayLike, w: ArrayLike) -> Array:
    """dx = dy w^T: dy (..., out), w (in, out), dx (..., in)."""
    dy, w = as_float64(dy, "dense_input_grad: dy"), as_float64(w, "dense_input_grad: w", 2)
    check_shape(dy.shape[-1:], w.shape[1:], "dense_input_grad: the last axis of dy")
    return dy @ w.T


def dense_weight_grad(x: ArrayLike, dy: ArrayLike) -> Array:
    """dw = x^T dy, summed over all leading axes: x (..., in), dy (..., out), dw (in, out)."""
    x, dy = as_float64(x, "dense_weight_grad: x"), as_float64(dy, "dense_weight_grad: dy")
    check_shape(dy.shape[:-1], x.shape[:-1], "dense_weight_grad: all but the last axis of dy")
    leading = list(range(x.ndim - 1))
    return np.tensordot(x, dy, axes=(leading, leading))
