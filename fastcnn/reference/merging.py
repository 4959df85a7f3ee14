"""Branches that meet: sums, products, maxima of several arrays, and their gradients."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64, check_choice

_KINDS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "average": np.add, "maximum": np.maximum,
          "minimum": np.minimum}


def merge(kind: str, inputs: Sequence[ArrayLike]) -> Array:
    """The inputs added, subtracted (two of them), multiplied, averaged, or their maximum or minimum.

    kind : 'add', 'subtract', 'multiply', 'average', 'maximum' or 'minimum'
    inputs : two or more of shapes that broadcast, each with all axes of the result

    Raises ValueError for another kind, or shapes that do not broadcast.
    """
    check_choice(kind, _KINDS, "merge: kind")
    arrays = [as_float64(x, f"merge: input {i}") for i, x in enumerate(inputs)]
    y = functools.reduce(_KINDS[kind], arrays)
    return y / len(arrays) if kind == "average" else y


def merge_grad(kind: str, dy: ArrayLike, inputs: Sequence[ArrayLike]) -> list[Array]:
    """Gradients with respect to each input, in their shapes; of equal values, the first is the maximum or minimum.

    dy has the shape of the result. Raises as `merge`.
    """
    check_choice(kind, _KINDS, "merge_grad: kind")
    dy = as_float64(dy, "merge_grad: dy")
    arrays = [as_float64(x, f"merge_grad: input {i}") for i, x in enumerate(inputs)]
    slopes: list[Any] = [1.0] * len(arrays)
    if kind == "subtract":
        slopes[1] = -1.0
    elif kind == "average":
        slopes = [1 / len(arrays)] * len(arrays)
    elif kind == "multiply":
        slopes = [np.prod(np.broadcast_arrays(*arrays[:i], *arrays[i + 1:]), axis=0) for i in range(len(arrays))]
    elif kind in ("maximum", "minimum"):
        whole = np.stack(np.broadcast_arrays(*arrays))
        chosen = whole.argmax(0) if kind == "maximum" else whole.argmin(0)
        slopes = [chosen == i for i in range(len(arrays))]
    return [sum_to(dy * slope, x.shape) for slope, x in zip(slopes, arrays, strict=True)]


def sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of broadcasting an array of `shape`: sums along the axes it was repeated on."""
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return a.sum(axes, keepdims=True) if axes else a
