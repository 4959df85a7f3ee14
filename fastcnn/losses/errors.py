"""Losses of the distance between numbers and their targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.losses.base import PositionLoss, Shape, check_values, dense_targets
from fastcnn.utils import real_number


class MeanSquaredError(PositionLoss):
    """Mean over the last axis of (t - p)²."""

    kernel = "mse"

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.square(p - t).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return 2.0 * (p - t) / p.shape[-1]


class MeanAbsoluteError(PositionLoss):
    """Mean over the last axis of |t - p|; the slope at 0 is 0."""

    kernel = "mae"

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.abs(p - t).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.sign(p - t) / p.shape[-1]


class Huber(PositionLoss):
    """Mean over the last axis of e²/2 for errors |e| <= delta, delta |e| - delta²/2 beyond (Huber, 1964)."""

    def __init__(self, delta: float = 1.0, name: str = "huber_loss") -> None:
        super().__init__(name)
        self.delta = real_number(delta, "delta", name, low=0.0, open_low=True)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        size = np.abs(p - t)
        inside = np.minimum(size, self.delta)
        return (inside * (size - 0.5 * inside)).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.clip(p - t, -self.delta, self.delta) / p.shape[-1]


class Hinge(PositionLoss):
    """Mean over the last axis of max(1 - t p, 0), t being -1 or 1; targets 0 count as -1."""

    def __init__(self, name: str = "hinge") -> None:
        super().__init__(name)

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        t = super()._targets(y_true, p)
        return np.where(t == 0, -1.0, t)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.maximum(1.0 - t * p, 0.0).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.where(t * p < 1.0, -t, 0.0) / p.shape[-1]

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        prefix = self._prefix(where)
        targets = dense_targets(y, output_shape, prefix)
        check_values(targets, np.isin(targets, (-1, 0, 1)), prefix, "-1 or 1 (or 0 or 1)")
        return np.where(targets == 0, np.float32(-1), targets)
