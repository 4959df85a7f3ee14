"""The accuracies as functions of targets and predictions, for one's own use and among the `metrics` of `compile`.

Predictions are (n, ..., k) arrays; the result is True or False for each position, (n, ...), or for each unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.metrics.accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from fastcnn.metrics.base import Mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def binary_accuracy(y_true: ArrayLike, y_pred: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Whether `y_pred > threshold` equals `y_true`, for each unit."""
    return BinaryAccuracy(threshold=threshold).values(np.asarray(y_true), np.asarray(y_pred))


def categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """Whether the largest score of `y_pred` is at the class of the one-hot `y_true`."""
    return CategoricalAccuracy().values(np.asarray(y_true), np.asarray(y_pred))


def sparse_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    """Whether the largest score of `y_pred` is at the label `y_true`."""
    return SparseCategoricalAccuracy().values(np.asarray(y_true), np.asarray(y_pred))


def top_k_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike, k: int = 5) -> np.ndarray:
    """Whether the class of the one-hot `y_true` is among the `k` largest scores of `y_pred`."""
    return TopKCategoricalAccuracy(k).values(np.asarray(y_true), np.asarray(y_pred))


def sparse_top_k_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike, k: int = 5) -> np.ndarray:
    """Whether the label `y_true` is among the `k` largest scores of `y_pred`."""
    return SparseTopKCategoricalAccuracy(k).values(np.asarray(y_true), np.asarray(y_pred))


CLASS_OF: dict[object, type[Mean]] = {
    binary_accuracy: BinaryAccuracy,
    categorical_accuracy: CategoricalAccuracy,
    sparse_categorical_accuracy: SparseCategoricalAccuracy,
    top_k_categorical_accuracy: TopKCategoricalAccuracy,
    sparse_top_k_categorical_accuracy: SparseTopKCategoricalAccuracy,
}
