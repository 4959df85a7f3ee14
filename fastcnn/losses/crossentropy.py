"""Losses of probabilities: cross-entropies and the divergence of Kullback and Leibler."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.kernels._load import class_labels
from fastcnn.losses.base import PositionLoss, Shape, check_values, dense_targets, fits, look_like_labels
from fastcnn.utils import check_labels, class_number, flag, real_number, whole_numbers

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1 before a logarithm


class _SoftmaxCrossEntropy(PositionLoss):
    """-sum t log p over the classes, p the softmax of logits or probabilities rescaled to sum 1."""

    kernel = "softmax_cross_entropy"

    def __init__(self, from_logits: bool, label_smoothing: float, name: str) -> None:
        super().__init__(name)
        self.from_logits = flag(from_logits, "from_logits", name)
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
        if look_like_labels(y, output_shape):
            raise ValueError(
                f"{self._prefix(where)}: expected one-hot targets of shape {output_shape}, got class labels "
                f"of shape {y.shape}; use loss='sparse_categorical_crossentropy', or "
                f"fastcnn.utils.to_categorical(y, {output_shape[-1]})"
            )
        return super().check_targets(y, output_shape, where)


class SparseCategoricalCrossentropy(_SoftmaxCrossEntropy):
    """Cross-entropy -log p[label] against integer class labels of shape (n, ...) or (n, ..., 1).

    Parameters
    ----------
    from_logits, label_smoothing : see `CategoricalCrossentropy`.
    ignore_class : a label whose positions do not count, such as 255 for what nobody has named on a map; the loss of
        a batch is the mean over all others.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        name: str = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(from_logits, label_smoothing, name)
        self.ignore_class = None if ignore_class is None else class_number(ignore_class, "ignore_class", name)

    def _targets(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray:
        labels = self._counting(self.check_targets(y_true, p.shape))
        t = np.zeros(p.shape)
        np.put_along_axis(t, labels[..., None].astype(np.intp), 1.0, axis=-1)
        return self._smooth(t)

    def _shares(self, y_true: np.ndarray, p: np.ndarray) -> np.ndarray | None:
        if self.ignore_class is None:
            return None
        counts = self.check_targets(y_true, p.shape) != self.ignore_class
        return counts * (counts.size / max(np.count_nonzero(counts), 1))

    def _counting(self, labels: np.ndarray) -> np.ndarray:
        """The labels, with class 0 for those that do not count."""
        return labels if self.ignore_class is None else np.where(labels == self.ignore_class, 0, labels)

    def check_targets(self, y: Any, output_shape: Shape, where: str = "") -> np.ndarray:
        prefix, classes = self._prefix(where), output_shape[-1]
        y = np.asarray(y)
        if y.ndim == len(output_shape) and y.shape[-1] == 1:
            y = y[..., 0]
        if not fits(y.shape, output_shape[:-1]):
            one_hot = fits(y.shape, output_shape) and classes != 1
            raise ValueError(
                f"{prefix}: expected integer labels of shape {output_shape[:-1]} for an output of shape "
                f"{output_shape}, got targets of shape {y.shape}"
                + ("; one-hot targets belong to loss='categorical_crossentropy'" if one_hot else "")
                + ("; for one label per sample, put Flatten() or GlobalAveragePooling2D() before the last layer"
                   if y.ndim == 1 else "")
            )
        labels = class_labels(y, classes, self.ignore_class)
        if labels is not None:
            return labels
        labels = whole_numbers(y, prefix)
        remedy = (
            "A single output unit belongs to loss='binary_crossentropy'."
            if classes == 1
            else "Number the classes from 0, or give the last layer one unit per class; ignore_class leaves "
            "a label out."
        )
        check_labels(self._counting(labels), classes, prefix, remedy)
        return labels.astype(np.int32)


class BinaryCrossentropy(PositionLoss):
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
        self.from_logits = flag(from_logits, "from_logits", name)
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
        targets = dense_targets(y, output_shape, prefix)
        check_values(targets, (targets >= 0) & (targets <= 1), prefix, "from 0 to 1")
        return targets


class KLDivergence(PositionLoss):
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
        targets = dense_targets(y, output_shape, prefix)
        check_values(targets, (targets >= 0) & (targets <= 1), prefix, "probabilities from 0 to 1")
        return targets


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _over_clipped(t: np.ndarray, p: np.ndarray, high: float) -> np.ndarray:
    """t times the derivative of log(clip(p, EPSILON, high)): t / p inside the bounds, 0 outside."""
    inside = (p >= EPSILON) & (p <= high)
    return np.where(inside, t / np.where(inside, p, 1.0), 0.0)
