"""Dropout."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64


def dropout(x: ArrayLike, mask: ArrayLike, rate: float) -> Array:
    """Inverted dropout: x * mask / (1 - rate), mask 1 where a value is kept; linear, so its own gradient."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: rate must lie in [0, 1), got {rate}")
    return as_float64(x, "dropout: x") * as_float64(mask, "dropout: mask") / (1.0 - rate)
