"""Metrics of finding what is there: precision, recall, and the area under the ROC curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.losses.base import spread_weights
from fastcnn.metrics.base import Metric, units_of
from fastcnn.utils import first_where, flag, real_number


class _Detection(Metric):
    """Weighted counts of true and false positives and false negatives over all units, or one class's."""

    def __init__(self, thresholds: float | None, class_id: int | None, name: str) -> None:
        super().__init__(name)
        self.thresholds = 0.5 if thresholds is None else real_number(thresholds, "thresholds", name)
        self.class_id = class_id

    def reset(self) -> None:
        self.true_positives = self.false_positives = self.false_negatives = 0.0

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_pred = np.asarray(y_pred)
        actual = units_of(np.asarray(y_true), y_pred, self.name) > 0.5
        predicted = y_pred > self.thresholds
        if self.class_id is not None:
            if not 0 <= self.class_id < y_pred.shape[-1]:
                last = y_pred.shape[-1] - 1
                raise ValueError(f"{self.name}: class_id {self.class_id} is outside 0..{last}")
            actual, predicted = actual[..., self.class_id], predicted[..., self.class_id]
        weights = spread_weights(sample_weight, actual.shape, self.name)
        self.true_positives += float(weights[actual & predicted].sum())
        self.false_positives += float(weights[~actual & predicted].sum())
        self.false_negatives += float(weights[actual & ~predicted].sum())


class Precision(_Detection):
    """True positives / predicted positives; a unit above `thresholds` (0.5) is predicted positive.

    With integer labels and several scores each class is one unit; `class_id` looks at one class alone.
    """

    def __init__(
        self, thresholds: float | None = None, *, class_id: int | None = None, name: str = "precision"
    ) -> None:
        super().__init__(thresholds, class_id, name)

    def result(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)


class Recall(_Detection):
    """True positives / actual positives; the parameters are those of `Precision`."""

    def __init__(
        self, thresholds: float | None = None, *, class_id: int | None = None, name: str = "recall"
    ) -> None:
        super().__init__(thresholds, class_id, name)

    def result(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)


class AUC(Metric):
    """Area under the ROC curve, by the trapezoid rule over evenly spaced thresholds.

    Parameters
    ----------
    num_thresholds : points of the curve; the first lies just below 0 and the last just above 1.
    from_logits : True if predictions still need a sigmoid; otherwise they must lie in [0, 1].
    """

    def __init__(self, num_thresholds: int = 200, name: str = "auc", from_logits: bool = False) -> None:
        self.num_thresholds = int(real_number(num_thresholds, "num_thresholds", name, low=2))
        self.from_logits = flag(from_logits, "from_logits", name)
        self._thresholds = np.linspace(0.0, 1.0, self.num_thresholds)
        self._thresholds[[0, -1]] = -1e-7, 1.0 + 1e-7
        super().__init__(name)

    def reset(self) -> None:
        # Weight of the negatives (row 0) and positives (row 1) above each threshold.
        self._above = np.zeros((2, self.num_thresholds))

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        scores = np.asarray(y_pred, np.float64)
        if self.from_logits:
            scores = np.exp(-np.logaddexp(0.0, -scores))
        wrong = ~((scores >= 0) & (scores <= 1))
        if wrong.any():
            index, value = first_where(wrong, scores)
            raise ValueError(
                f"{self.name}: expected predictions from 0 to 1, got {value} at index {index}; "
                "end the model with a sigmoid, or pass from_logits=True"
            )
        actual = units_of(np.asarray(y_true), scores, self.name) > 0.5
        weights = spread_weights(sample_weight, scores.shape, self.name)
        passed = np.searchsorted(self._thresholds, scores, side="left")
        for row, mask in enumerate((~actual, actual)):
            counts = np.bincount(passed[mask], weights[mask], self.num_thresholds + 1)
            self._above[row] += counts[::-1].cumsum()[-2::-1]

    def result(self) -> float:
        totals = self._above[:, :1]
        false_rate, true_rate = self._above / np.where(totals > 0, totals, 1.0)
        widths = false_rate[:-1] - false_rate[1:]
        return float((widths * (true_rate[:-1] + true_rate[1:])).sum() / 2.0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
