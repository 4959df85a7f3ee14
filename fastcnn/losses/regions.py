"""Losses of the overlap of predicted and true regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.losses.base import Loss, align, spread_weights

EPSILON = 1e-7  # keeps regions without a single pixel from dividing by zero


class Dice(Loss):
    """1 - 2 sum(t p) / (sum(t) + sum(p)), for one-hot maps t and probabilities p (Milletari et al., 2016).

    Parameters
    ----------
    axis : axes to sum over: None for all, the batch included, or some of those behind it, such as (1, 2) for each class
        of each image on its own, or (1, 2, 3) for each image.
    """

    def __init__(self, axis: Any = None, name: str = "dice") -> None:
        super().__init__(name)
        axes = axis if isinstance(axis, (tuple, list)) or axis is None else (axis,)
        if axes is not None and (not axes or not all(isinstance(a, int) and a > 0 for a in axes)):
            raise ValueError(f"{name}: axis must be None or axes behind the batch, such as (1, 2), got {axis!r}")
        self.axis = None if axes is None else tuple(axes)

    def per_sample(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """Return the loss of each sample; with axis None, the batch's for each."""
        overlap, size, _, p = self._sums(y_true, y_pred)
        values = 1.0 - 2.0 * overlap / size
        return np.broadcast_to(values.mean(axis=tuple(range(1, p.ndim))), len(p)).copy()

    def gradient(self, y_true: Any, y_pred: Any) -> np.ndarray:
        overlap, size, t, p = self._sums(y_true, y_pred)
        slope = -2.0 * (t * size - overlap) / np.square(size) / max(overlap.size, 1)
        return slope.astype(np.result_type(np.asarray(y_pred).dtype, np.float32))

    def weighted_gradient(self, y_true: Any, y_pred: Any, sample_weight: Any) -> np.ndarray:
        if self.axis is not None:
            return super().weighted_gradient(y_true, y_pred, sample_weight)
        mean = spread_weights(sample_weight, np.shape(y_pred)[:1], self.name).mean()  # all share one value
        return self.gradient(y_true, y_pred) * np.float32(mean)

    def _sums(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(sum of t p, sum of t and p, t, p), float64; the sums keep their axes."""
        p = np.asarray(y_pred, np.float64)
        t = align(np.asarray(y_true), p, self.name).astype(np.float64)
        if self.axis is not None and max(self.axis) >= p.ndim:
            raise ValueError(f"{self.name}: axis {self.axis} does not fit predictions of shape {p.shape}")
        overlap, size = (values.sum(axis=self.axis, keepdims=True) for values in (t * p, t + p))
        return overlap, size + EPSILON, t, p
