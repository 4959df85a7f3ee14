"""The one source of randomness: initial weights, shuffles and dropout draw from it."""

from __future__ import annotations

import operator

import numpy as np

_generator: np.random.Generator | None = None  # made when first asked for: numpy.random is slow to import


def seed(n: int) -> None:
    """Restart the global generator, so that a whole program repeats itself.

    Parameters
    ----------
    n : a whole number, 0 or more.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number, or is negative.
    """
    global _generator
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"seed: expected a whole number, got {n!r}") from None
    if number < 0:
        raise ValueError(f"seed: expected 0 or more, got {number}")
    _generator = np.random.default_rng(number)


def generator() -> np.random.Generator:
    """Return the global generator (ask again after `seed`, which replaces it)."""
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


def next_seed() -> int:
    """Draw an unsigned 64-bit seed for an independent stream, such as one dropout layer's."""
    return int(generator().integers(2**64, dtype=np.uint64))
