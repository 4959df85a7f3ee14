"""Losses: a number per sample to be made small, and its gradient by the prediction.

Predictions are (n, ..., k) arrays. A loss first gives one value per position, reducing the last axis, then
the mean over positions; the loss of a batch is the mean over its samples. All is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .utils import Configurable, check_labels, first_where, real_number, resolve, whole_numbers

Shape = tuple[Any, ...]  # of an output: the batch size (or None), then whole numbers

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1 before a logarithm


class Loss(Configurable):
    """Base class: a custom loss defines `per_sample` and `gradient`.

    Attributes
    ----------
    name : shown in messages.
    kernel : the fused form the engine may use instead: ``'softmax_cross_entropy'``,
        ``'sigmoid_cross_entropy'``, ``'mse'``, ``'mae'``, or None.
    """

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
        values = self.per_sample(np.asarray(y_true), np.asarray(y_pred))
        if sample_weight is not None:
            values = values * _sample_weight(sample_weight, len(values), self.name)
        return float(values.sum() / max(len(values), 1))

    def weighted_gradient(self, y_true: Any, y_pred: Any, sample_weight: Any) -> np.ndarray:
        """Return the derivative of ``self(y_true, y_pred, sample_weight)`` by `y_pred`."""
        gradient = self.gradient(np.asarray(y_true), np.asarray(y_pred))
        weights = _sample_weight(sample_weight, len(gradient), self.name).astype(gradient.dtype)
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
        return _dense_targets(y, output_shape, self._prefix(where))

    def _prefix(self, where: str) -> str:
        return f"{where}: {self.name}" if where else self.name


class _PositionLoss(Loss):
    """A loss given by its value at each position and the derivative of that value by the prediction."""

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n, ..., k) targets and predictions -> (n, ...)."""
        raise NotImplementedError

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n, ..., k) targets and predictions -> (n, ..., k)."""
        raise NotImplementedError

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        return align(np.asarray(y_true), p, self.name).astype(np.float64)

    def _arrays(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        p = np.asarray(y_pred, np.float64)
        if p.ndim < 2:
            raise ValueError(f"{self.name}: expected predictions (samples, ..., units), got shape {p.shape}")
        return self._targets(y_true, p), p

    def per_sample(self, y_true: Any, y_pred: Any) -> np.ndarray:
        values = self._value(*self._arrays(y_true, y_pred))
        return values.mean(axis=tuple(range(1, values.ndim)))

    def gradient(self, y_true: Any, y_pred: Any) -> np.ndarray:
        t, p = self._arrays(y_true, y_pred)
        positions = max(p.size // p.shape[-1], 1)
        dtype = np.result_type(np.asarray(y_pred).dtype, np.float32)
        return (self._slope(t, p) / positions).astype(dtype)


class _SoftmaxCrossEntropy(_PositionLoss):
    """-sum t log p over the classes, p the softmax of logits or probabilities rescaled to sum 1."""

    kernel = "softmax_cross_entropy"

    def __init__(self, from_logits: bool, label_smoothing: float, name: str) -> None:
        super().__init__(name)
        self.from_logits = bool(from_logits)
        self.label_smoothing = real_number(label_smoothing, "label_smoothing", name, low=0.0, high=1.0)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return -(t * _log_softmax(p)).sum(axis=-1)
        p = p / p.sum(axis=-1, keepdims=True)
        return -(t * np.log(np.clip(p, EPSILON, 1.0 - EPSILON))).sum(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return np.exp(_log_softmax(p)) * t.sum(axis=-1, keepdims=True) - t
        total = p.sum(axis=-1, keepdims=True)
        p = p / total
        slope = -_over_clipped(t, p, 1.0 - EPSILON)
        return (slope - (slope * p).sum(axis=-1, keepdims=True)) / total

    def _smooth(self, t: np.ndarray) -> np.ndarray:
        return t * (1.0 - self.label_smoothing) + self.label_smoothing / t.shape[-1]


class CategoricalCrossentropy(_SoftmaxCrossEntropy):
    """Cross-entropy -sum t log p against one-hot rows or class probabilities t.

    Parameters
    ----------
    from_logits : True if the model ends without softmax; p is then the softmax of its output. Otherwise p is
        the output divided by its sum and clipped to [1e-7, 1 - 1e-7].
    label_smoothing : s of [0, 1]; targets become t (1 - s) + s / classes (Szegedy et al., 2016).
    """

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, name: str = "categorical_crossentropy"
    ) -> None:
        super().__init__(from_logits, label_smoothing, name)

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        return self._smooth(super()._targets(y_true, p))

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        y = np.asarray(y)
        if _look_like_labels(y, output_shape):
            raise ValueError(
                f"{self._prefix(where)}: expected one-hot targets of shape {output_shape}, got class labels "
                f"of shape {y.shape}; use loss='sparse_categorical_crossentropy', or "
                f"fastcnn.utils.to_categorical(y, {output_shape[-1]})"
            )
        return super().check_targets(y, output_shape, where)


class SparseCategoricalCrossentropy(_SoftmaxCrossEntropy):
    """Cross-entropy -log p[label] against integer class labels of shape (n, ...) or (n, ..., 1).

    The parameters are those of `CategoricalCrossentropy`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        name: str = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, name)

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        labels = self.check_targets(y_true, p.shape)
        t = np.zeros(p.shape)
        np.put_along_axis(t, labels[..., None].astype(np.intp), 1.0, axis=-1)
        return self._smooth(t)

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        prefix, classes = self._prefix(where), output_shape[-1]
        y = np.asarray(y)
        if y.ndim == len(output_shape) and y.shape[-1] == 1:
            y = y[..., 0]
        if not _fits(y.shape, output_shape[:-1]):
            one_hot = _fits(y.shape, output_shape) and classes != 1
            raise ValueError(
                f"{prefix}: expected integer labels of shape {output_shape[:-1]} for an output of shape "
                f"{output_shape}, got targets of shape {y.shape}"
                + ("; one-hot targets belong to loss='categorical_crossentropy'" if one_hot else "")
            )
        labels = whole_numbers(y, prefix)
        remedy = (
            "A single output unit belongs to loss='binary_crossentropy'."
            if classes == 1
            else "Number the classes from 0, or give the last layer one unit per class."
        )
        check_labels(labels, classes, prefix, remedy)
        return labels.astype(np.int32)


class BinaryCrossentropy(_PositionLoss):
    """Cross-entropy -t log p - (1 - t) log(1 - p) of each unit, averaged over the last axis.

    Parameters
    ----------
    from_logits : True if the model ends without sigmoid. Otherwise p is clipped to [1e-7, 1 - 1e-7].
    label_smoothing : s of [0, 1]; targets become t (1 - s) + s / 2.
    """

    kernel = "sigmoid_cross_entropy"

    def __init__(
        self, from_logits: bool = False, label_smoothing: float = 0.0, name: str = "binary_crossentropy"
    ) -> None:
        super().__init__(name)
        self.from_logits = bool(from_logits)
        self.label_smoothing = real_number(label_smoothing, "label_smoothing", name, low=0.0, high=1.0)

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        return super()._targets(y_true, p) * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return (np.logaddexp(0.0, p) - t * p).mean(axis=-1)
        p = np.clip(p, EPSILON, 1.0 - EPSILON)
        return -(t * np.log(p) + (1.0 - t) * np.log1p(-p)).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.from_logits:
            sigmoid = np.exp(-np.logaddexp(0.0, -p))
            return (sigmoid - t) / p.shape[-1]
        high = 1.0 - EPSILON
        return (_over_clipped(1.0 - t, 1.0 - p, high) - _over_clipped(t, p, high)) / p.shape[-1]

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        prefix = self._prefix(where)
        targets = _dense_targets(y, output_shape, prefix)
        _check_values(targets, (targets >= 0) & (targets <= 1), prefix, "from 0 to 1")
        return targets


class MeanSquaredError(_PositionLoss):
    """Mean over the last axis of (t - p)²."""

    kernel = "mse"

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(name)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.square(p - t).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return 2.0 * (p - t) / p.shape[-1]


class MeanAbsoluteError(_PositionLoss):
    """Mean over the last axis of |t - p|; the slope at 0 is 0."""

    kernel = "mae"

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.abs(p - t).mean(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.sign(p - t) / p.shape[-1]


class Huber(_PositionLoss):
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


class KLDivergence(_PositionLoss):
    """Kullback-Leibler divergence sum t log(t / p), both clipped to [1e-7, 1]."""

    def __init__(self, name: str = "kl_divergence") -> None:
        super().__init__(name)

    def _value(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        t = np.clip(t, EPSILON, 1.0)
        return (t * np.log(t / np.clip(p, EPSILON, 1.0))).sum(axis=-1)

    def _slope(self, t: np.ndarray, p: np.ndarray) -> np.ndarray:
        return -_over_clipped(np.clip(t, EPSILON, 1.0), p, 1.0)

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        prefix = self._prefix(where)
        targets = _dense_targets(y, output_shape, prefix)
        _check_values(targets, (targets >= 0) & (targets <= 1), prefix, "probabilities from 0 to 1")
        return targets


class Hinge(_PositionLoss):
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
        targets = _dense_targets(y, output_shape, prefix)
        _check_values(targets, np.isin(targets, (-1, 0, 1)), prefix, "-1 or 1 (or 0 or 1)")
        return np.where(targets == 0, np.float32(-1), targets)


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


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _over_clipped(t: np.ndarray, p: np.ndarray, high: float) -> np.ndarray:
    """t times the derivative of log(clip(p, EPSILON, high)): t / p inside the bounds, 0 outside."""
    inside = (p >= EPSILON) & (p <= high)
    return np.where(inside, t / np.where(inside, p, 1.0), 0.0)


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _look_like_labels(y: np.ndarray, output_shape: Shape) -> bool:
    """Whether `y` lacks the class axis of an output of two or more classes."""
    without_axis = y[..., 0] if y.ndim == len(output_shape) and y.shape[-1] == 1 else y
    return output_shape[-1] != 1 and _fits(without_axis.shape, output_shape[:-1])


def _dense_targets(y: Any, output_shape: Shape, where: str) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected numbers as targets, got an array of dtype {y.dtype}")
    if output_shape[-1] == 1 and _fits(y.shape, output_shape[:-1]):
        y = y[..., None]
    if not _fits(y.shape, output_shape):
        hint = (
            "; for class labels use loss='sparse_categorical_crossentropy'"
            if y.dtype.kind in "iu" and _look_like_labels(y, output_shape)
            else ""
        )
        raise ValueError(
            f"{where}: expected targets of the output's shape {output_shape}, got {y.shape}{hint}; "
            "change the targets or the units of the last layer"
        )
    targets = np.ascontiguousarray(y, np.float32)
    _check_values(targets, np.isfinite(targets), where, "that are finite")
    return targets


def _check_values(targets: np.ndarray, allowed: np.ndarray, where: str, expected: str) -> None:
    if not allowed.all():
        index, value = first_where(~allowed, targets)
        raise ValueError(f"{where}: expected targets {expected}, got {value} at index {index}")


def _sample_weight(sample_weight: Any, n: int, where: str) -> np.ndarray:
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != (n,):
        raise ValueError(f"{where}: expected sample_weight of shape ({n},), got {weights.shape}")
    return weights


TABLE: dict[str, type[Loss]] = {
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "bce": BinaryCrossentropy,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "huber": Huber,
    "kl_divergence": KLDivergence,
    "kld": KLDivergence,
    "hinge": Hinge,
}


def get(identifier: Any, where: str | None = None) -> Loss:
    """Return the loss meant by a name, an object, a class or a serialized form.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is something else; a plain function has no gradient and is refused.
    """
    if callable(identifier) and not isinstance(identifier, (Loss, type)):
        raise TypeError(
            f"{where or 'losses.get'}: the function {identifier!r} has no gradient; make a subclass of "
            "fastcnn.losses.Loss with per_sample(y_true, y_pred) and gradient(y_true, y_pred)"
        )
    return resolve("loss", identifier, TABLE, Loss, where)
