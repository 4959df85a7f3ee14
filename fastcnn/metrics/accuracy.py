"""Metrics that count right answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.losses.base import align, spread_weights
from fastcnn.metrics.base import Mean, labels_of
from fastcnn.utils import check_labels, class_number, real_number


class BinaryAccuracy(Mean):
    """Fraction of units for which (y_pred > threshold) equals the target 0 or 1."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        super().__init__(name)
        self.threshold = real_number(threshold, "threshold", name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return (y_pred > self.threshold) == align(y_true, y_pred, self.name)


class CategoricalAccuracy(Mean):
    """Fraction of positions whose largest score is at the class of the one-hot target."""

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return align(y_true, y_pred, self.name).argmax(axis=-1) == y_pred.argmax(axis=-1)


class SparseCategoricalAccuracy(Mean):
    """Fraction of positions whose largest score is at the label; labels are (n, ...) or (n, ..., 1).

    Parameters
    ----------
    ignore_class : a label whose positions do not count.
    """

    def __init__(self, name: str = "sparse_categorical_accuracy", ignore_class: int | None = None) -> None:
        super().__init__(name)
        self.ignore_class = None if ignore_class is None else class_number(ignore_class, "ignore_class", name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return labels_of(y_true, y_pred, self.name) == y_pred.argmax(axis=-1)

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        if self.ignore_class is not None:
            labels = labels_of(y_true, y_pred, self.name)
            sample_weight = spread_weights(sample_weight, labels.shape, self.name) * (labels != self.ignore_class)
        super().update(y_true, y_pred, sample_weight)


class SparseTopKCategoricalAccuracy(Mean):
    """Fraction of positions at which fewer than k classes score above the label."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(name)
        self.k = int(real_number(k, "k", name, low=1))

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._among_best(labels_of(y_true, y_pred, self.name), y_pred)

    def _among_best(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        check_labels(labels, scores.shape[-1], self.name, "The labels must be classes of the model.")
        own = np.take_along_axis(scores, labels[..., None], axis=-1)
        return ((scores > own).sum(axis=-1) < self.k) & np.isfinite(own[..., 0])


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """Fraction of positions at which fewer than k classes score above the class of the one-hot target."""

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        super().__init__(k, name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._among_best(align(y_true, y_pred, self.name).argmax(axis=-1), y_pred)
