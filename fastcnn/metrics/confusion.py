"""Metrics that tell which class is taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.losses.base import align, spread_weights
from fastcnn.metrics.base import Metric, labels_of
from fastcnn.utils import check_labels, class_number, flag, real_number, whole_numbers


class ConfusionMatrix(Metric):
    """Weight of the samples of each true class (row) predicted as each class (column).

    Targets are labels or one-hot rows. Integer predictions are classes; floating ones are scores along the
    last axis, a single score meaning class 1 above 0.5.

    Parameters
    ----------
    num_classes : size of the matrix; taken from the first scores by default.
    """

    def __init__(self, num_classes: int | None = None, name: str = "confusion_matrix") -> None:
        if num_classes is not None:
            num_classes = int(real_number(num_classes, "num_classes", name, low=1))
        self.num_classes = num_classes
        super().__init__(name)

    def reset(self) -> None:
        size = self.num_classes or 0
        self.matrix = np.zeros((size, size))

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        actual, predicted = self.classes(np.asarray(y_true), np.asarray(y_pred))
        weights = spread_weights(sample_weight, actual.shape, self.name)
        self.add(actual, predicted, weights)

    def classes(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the true and the predicted class of each position."""
        if y_pred.dtype.kind in "biu":
            return align(y_true, y_pred, self.name).astype(np.int64), y_pred.astype(np.int64)
        units = y_pred.shape[-1]
        if self.num_classes is None:
            self.num_classes = max(units, 2)
            self.reset()
        if units == 1:
            labels = whole_numbers(align(y_true, y_pred, self.name), self.name)
            return labels[..., 0], (y_pred[..., 0] > 0.5).astype(np.int64)
        one_hot = y_true.shape == y_pred.shape
        actual = y_true.argmax(axis=-1) if one_hot else labels_of(y_true, y_pred, self.name)
        return actual, y_pred.argmax(axis=-1)

    def add(self, actual: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> None:
        """Count pairs of classes."""
        if self.num_classes is None:
            raise ValueError(f"{self.name}: pass num_classes when the predictions are classes, not scores")
        for classes in (actual, predicted):
            check_labels(classes, self.num_classes, self.name, "Pass the right num_classes.")
        pairs = (actual * self.num_classes + predicted).ravel()
        counts = np.bincount(pairs, weights.ravel(), self.num_classes**2)
        self.matrix += counts.reshape(self.matrix.shape)

    def result(self) -> Any:
        """Return the matrix, a float64 array of shape (num_classes, num_classes)."""
        return self.matrix.copy()


class MeanIoU(ConfusionMatrix):
    """Mean over the classes that occur of TP / (TP + FP + FN), intersection over union.

    Parameters
    ----------
    num_classes : number of classes; taken from the first scores by default.
    ignore_class : a label whose positions do not count.
    sparse_y_true, sparse_y_pred : whether these are classes; if False, one-hot rows or scores.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        name: str = "mean_io_u",
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
    ) -> None:
        super().__init__(num_classes, name)
        self.ignore_class = None if ignore_class is None else class_number(ignore_class, "ignore_class", name)
        self.sparse_y_true = flag(sparse_y_true, "sparse_y_true", name)
        self.sparse_y_pred = flag(sparse_y_pred, "sparse_y_pred", name)

    def classes(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.sparse_y_pred and y_pred.dtype.kind == "f" and not np.array_equal(y_pred, np.trunc(y_pred)):
            raise ValueError(f"{self.name}: y_pred holds scores, not classes; pass sparse_y_pred=False")
        if self.num_classes is None and not self.sparse_y_pred:
            self.num_classes = y_pred.shape[-1]
            self.reset()
        predicted = whole_numbers(y_pred, self.name) if self.sparse_y_pred else y_pred.argmax(axis=-1)
        actual = whole_numbers(y_true, self.name) if self.sparse_y_true else y_true.argmax(axis=-1)
        if actual.shape == (*predicted.shape, 1):
            actual = actual[..., 0]
        return align(actual, predicted, self.name), predicted

    def add(self, actual: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> None:
        if self.ignore_class is not None:
            kept = actual != self.ignore_class
            actual, predicted, weights = actual[kept], predicted[kept], weights[kept]
        super().add(actual, predicted, weights)

    def result(self) -> float:
        hits = np.diagonal(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hits
        present = union > 0
        return float((hits[present] / union[present]).mean()) if present.any() else 0.0


class OneHotMeanIoU(MeanIoU):
    """`MeanIoU` of one-hot targets and scores.

    Parameters
    ----------
    num_classes, ignore_class : see `MeanIoU`.
    sparse_y_pred : whether the predictions are classes; if False, scores.
    """

    def __init__(self, num_classes: int | None = None, name: str = "one_hot_mean_io_u", ignore_class: int | None = None,
                 sparse_y_pred: bool = False) -> None:
        super().__init__(num_classes, name, ignore_class, sparse_y_true=False, sparse_y_pred=sparse_y_pred)
