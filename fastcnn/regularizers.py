"""Penalties on weights, added to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.utils import Configurable, real_number, resolve


class Regularizer(Configurable):
    """Base class: a penalty of one weight array and the penalty's gradient."""

    def __call__(self, w: np.ndarray) -> float:
        """Return the penalty."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(w)")

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Return the derivative of the penalty by `w`, of the shape and dtype of `w`."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(w)")


class L1L2(Regularizer):
    """Penalty l1 * sum |w| + l2 * sum w²; its gradient takes sign(0) = 0."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = real_number(l1, "l1", type(self).__name__, low=0.0)
        self.l2 = real_number(l2, "l2", type(self).__name__, low=0.0)

    def __call__(self, w: np.ndarray) -> float:
        w = np.asarray(w, np.float64)
        return float(self.l1 * np.abs(w).sum() + self.l2 * np.square(w).sum())

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.l1 * np.sign(w) + 2.0 * self.l2 * w


class L1(L1L2):
    """Penalty l1 * sum |w|."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)


class L2(L1L2):
    """Penalty l2 * sum w²."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(l2=l2)


l1, l2, l1_l2 = L1, L2, L1L2  # which Keras calls by both names

_TABLE: dict[str, type[Regularizer]] = {"l1": L1, "l2": L2, "l1_l2": L1L2}


def get(identifier: Any, where: str | None = None) -> Regularizer | None:
    """Return the regularizer meant by a name, an object or a class; None stays None.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is something else.
    """
    return None if identifier is None else resolve("regularizer", identifier, _TABLE, Regularizer, where)
