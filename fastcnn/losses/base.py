"""The bases of losses, and the checks of their targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arrays import returned
from fastcnn.utils import Configurable, first_where

Shape = tuple[Any, ...]  # of an output: the batch size (or None), then whole numbers


class Loss(Configurable):
    """Base class: a custom loss defines `per_sample` and `gradient`.

    Attributes
    ----------
    name : shown in messages.
    kernel : the fused form the engine may use instead: ``'softmax_cross_entropy'``,
        ``'sigmoid_cross_entropy'``, ``'mse'``, ``'mae'``, or None.
    """

    neutral = {"reduction": ("sum_over_batch_size",), "axis": (-1,), "dtype": (None, "float32")}
    kernel: str | None = None

    def __init__(self, name: str = "loss") -> None:
        self.name = name

    def per_sample(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss of each sample, shape (n,), float64."""
        raise NotImplementedError(f"{type(self).__name__} must define per_sample(y_true, y_pred)")

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the derivative of the batch's mean loss by `y_pred`, of its shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define gradient(y_true, y_pred)")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return sum(weight * loss) / n over the n samples of a batch; 0 for an empty batch.

        Parameters
        ----------
        y_true, y_pred : targets and predictions, as `check_targets` returns and the model gives.
        sample_weight : (n,) factors, all 1 by default.
        """
        y_pred = np.asarray(y_pred)
        values = np.asarray(self.per_sample(np.asarray(y_true), y_pred))
        if values.shape[:1] != y_pred.shape[:1] or values.dtype.kind not in "fiub":
            raise ValueError(f"{self.name}: per_sample must return the loss of each of {len(y_pred)} samples, got "
                             f"{values.dtype} of shape {values.shape}")
        return _weighted_mean(values, sample_weight, self.name)

    def weighted_gradient(self, y_true: Any, y_pred: Any, sample_weight: Any) -> np.ndarray:
        """Return the derivative of ``self(y_true, y_pred, sample_weight)`` by `y_pred`."""
        y_pred = np.asarray(y_pred)
        gradient = returned(self.gradient(np.asarray(y_true), y_pred), y_pred.shape, f"{self.name}: gradient")
        weights = spread_weights(sample_weight, gradient.shape[:1], self.name)
        weights = weights.astype(np.result_type(gradient.dtype, np.float32))
        return gradient * weights.reshape(-1, *(1,) * (gradient.ndim - 1))

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        """Validate the targets of a model's output and convert them to what the loss computes with.

        Parameters
        ----------
        y : the user's targets, any real dtype.
        output_shape : shape of the output, batch axis first; a batch size of None accepts any.
        where : the function that received `y`, for messages.

        Returns
        -------
        float32 array of the output's shape; for sparse labels an int32 array without the class axis.

        Raises
        ------
        TypeError, ValueError
            If dtype, shape or values cannot be targets of this loss; the message names the remedy.
        """
        return dense_targets(y, output_shape, self._prefix(where))

    def _prefix(self, where: str) -> str:
        return f"{where}: {self.name}" if where else self.name


class PositionLoss(Loss):
    """A loss given by its value at each position and the derivative of that value by the prediction.

    Sample weights may be (n,), or one for each position (n, ...).
    """

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n, ..., k) targets and predictions -> (n, ...)."""
        raise NotImplementedError

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n, ..., k) targets and predictions -> (n, ..., k)."""
        raise NotImplementedError

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        return align(np.asarray(y_true), p, self.name).astype(np.float64)

    def _shares(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray | None:
        """How much each position counts, 1 on average: (n, ...), or None if all count alike."""
        return None

    def _arrays(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        p = np.asarray(y_pred, np.float64)
        if p.ndim < 2:
            raise ValueError(f"{self.name}: expected predictions (samples, ..., units), got shape {p.shape}")
        return self._targets(y_true, p), p

    def per_position(self, y_true: Any, y_pred: Any) -> np.ndarray:
        """Return the loss of each position, shape (n, ...), float64; their mean is the loss of the batch."""
        t, p = self._arrays(y_true, y_pred)
        values, shares = self._value(t, p), self._shares(y_true, p)
        return values if shares is None else values * shares

    def per_sample(self, y_true: Any, y_pred: Any) -> np.ndarray:
        values = self.per_position(y_true, y_pred)
        return values.mean(axis=tuple(range(1, values.ndim)))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return sum(weight * loss) / n, or / positions with a `sample_weight` (n, ...) for each position."""
        if np.ndim(sample_weight) < 2:
            return super().__call__(y_true, y_pred, sample_weight)
        return _weighted_mean(self.per_position(y_true, y_pred), sample_weight, self.name)

    def gradient(self, y_true: Any, y_pred: Any) -> np.ndarray:
        t, p = self._arrays(y_true, y_pred)
        positions, shares = max(p.size // p.shape[-1], 1), self._shares(y_true, p)
        slope = self._slope(t, p) if shares is None else self._slope(t, p) * shares[..., None]
        return (slope / positions).astype(np.result_type(np.asarray(y_pred).dtype, np.float32))

    def weighted_gradient(self, y_true: Any, y_pred: Any, sample_weight: Any) -> np.ndarray:
        gradient = self.gradient(y_true, y_pred)
        weights = spread_weights(sample_weight, gradient.shape[:-1], self.name)
        return gradient * weights[..., None].astype(gradient.dtype)


def align(y_true: np.ndarray, y_pred: np.ndarray, where: str) -> np.ndarray:
    """Return `y_true` in the shape of `y_pred`, adding a last axis of 1 where only that is missing."""
    if y_true.shape == y_pred.shape:
        return y_true
    if y_true.shape == y_pred.shape[:-1] and y_pred.shape[-1] == 1:
        return y_true[..., None]
    raise ValueError(
        f"{where}: targets of shape {y_true.shape} do not match predictions of shape {y_pred.shape}; "
        "they must be equal, but for a missing last axis of 1"
    )


def fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and not [s for s, e in zip(shape, expected, strict=True) if e not in (None, s)]


def look_like_labels(y: np.ndarray, output_shape: Shape) -> bool:
    """Whether `y` lacks the class axis of an output of two or more classes."""
    without_axis = y[..., 0] if y.ndim == len(output_shape) and y.shape[-1] == 1 else y
    return output_shape[-1] != 1 and fits(without_axis.shape, output_shape[:-1])


def dense_targets(y: Any, output_shape: Shape, where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected numbers as targets, got an array of dtype {y.dtype}")
    if output_shape[-1] == 1 and fits(y.shape, output_shape[:-1]):
        y = y[..., None]
    if not fits(y.shape, output_shape):
        hint = (
            "; for class labels use loss='sparse_categorical_crossentropy'"
            if y.dtype.kind in "iu" and look_like_labels(y, output_shape)
            else ""
        )
        raise ValueError(
            f"{where}: expected targets of the output's shape {output_shape}, got {y.shape}{hint}; "
            "change the targets or the units of the last layer"
        )
    targets = np.ascontiguousarray(y, np.float32)
    check_values(targets, np.isfinite(targets), where, "that are finite")
    return targets


def check_values(targets: np.ndarray, allowed: np.ndarray, where: str, expected: str) -> None:
    if not allowed.all():
        index, value = first_where(~allowed, targets)
        raise ValueError(f"{where}: expected targets {expected}, got {value} at index {index}")


def spread_weights(sample_weight: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return float64 weights of `shape` from one per sample (n,) or (n, 1), or per position along its first axes."""
    if sample_weight is None:
        return np.broadcast_to(1.0, shape)
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape == (*shape[:1], 1) != shape[:2]:
        weights = weights[:, 0]
    if not 1 <= weights.ndim <= len(shape) or weights.shape != shape[: weights.ndim]:
        choices = f"{shape[:1]}" if len(shape) == 1 else f"{shape[:1]} or {shape}"
        raise ValueError(f"{where}: expected sample_weight of shape {choices}, got {weights.shape}")
    return np.broadcast_to(weights.reshape(*weights.shape, *(1,) * (len(shape) - weights.ndim)), shape)


def _weighted_mean(values: np.ndarray, sample_weight: Any, where: str) -> float:
    if sample_weight is not None:
        values = values * spread_weights(sample_weight, values.shape, where)
    return float(values.sum() / max(values.size, 1))
