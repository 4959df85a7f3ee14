"""Metrics: numbers that tell how good predictions are, gathered batch by batch.

Targets and predictions are (n, ...) arrays as a model and its loss use them; sample weights are (n,) and
hold for every position of a sample. A metric without any sample yet has the result 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import losses
from .losses import align
from .utils import Configurable, check_labels, first_where, look_up, real_number, resolve, whole_numbers


class Metric(Configurable):
    """Base class: a custom metric defines `reset`, `update` and `result`; the constructor resets it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        raise NotImplementedError(f"{type(self).__name__} must define reset()")

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} must define update(y_true, y_pred, sample_weight)")

    def result(self) -> Any:
        """Return the value over all samples since `reset`."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")


class Mean(Metric):
    """Base of the weighted means: subclasses define `values`, one number per sample or position."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return an array (n, ...) to average."""
        raise NotImplementedError(f"{type(self).__name__} must define values(y_true, y_pred)")

    def reset(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        values = np.asarray(self.values(np.asarray(y_true), np.asarray(y_pred)), np.float64)
        weights = _spread(sample_weight, values.shape, self.name)
        self.total += float((values * weights).sum())
        self.weight += float(weights.sum())

    def result(self) -> float:
        return self.total / self.weight if self.weight else 0.0


class FunctionMetric(Mean):
    """A user's function ``f(y_true, y_pred)``, averaged over samples.

    It returns one number per sample or position, or a single number that then counts for all n samples.
    """

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], Any], name: str | None = None) -> None:
        super().__init__(name or str(getattr(function, "__name__", "function")))
        self.function = function

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        values = np.asarray(self.function(y_true, y_pred))
        return np.broadcast_to(values, len(y_pred)) if values.ndim == 0 else values

    def get_config(self) -> dict[str, Any]:
        raise TypeError(
            f"metric {self.name!r} is a function and cannot be written to a file; "
            "make a subclass of fastcnn.metrics.Metric"
        )

    def __repr__(self) -> str:
        return f"FunctionMetric({self.function!r}, name={self.name!r})"


class MeanLoss(Mean):
    """The mean of a loss over samples."""

    def __init__(self, loss: Any, name: str | None = None) -> None:
        self.loss = losses.get(loss)
        super().__init__(name or self.loss.name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self.loss.per_sample(y_true, y_pred)


class MeanSquaredError(MeanLoss):
    """Mean of (y_true - y_pred)²."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(losses.MeanSquaredError(), name)


class MeanAbsoluteError(MeanLoss):
    """Mean of |y_true - y_pred|."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(losses.MeanAbsoluteError(), name)


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
    """Fraction of positions whose largest score is at the label; labels are (n, ...) or (n, ..., 1)."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(name)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return _labels(y_true, y_pred, self.name) == y_pred.argmax(axis=-1)


class SparseTopKCategoricalAccuracy(Mean):
    """Fraction of positions at which fewer than k classes score above the label."""

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        super().__init__(name)
        self.k = int(real_number(k, "k", name, low=1))

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._among_best(_labels(y_true, y_pred, self.name), y_pred)

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
        actual = _units(np.asarray(y_true), y_pred, self.name) > 0.5
        predicted = y_pred > self.thresholds
        if self.class_id is not None:
            if not 0 <= self.class_id < y_pred.shape[-1]:
                last = y_pred.shape[-1] - 1
                raise ValueError(f"{self.name}: class_id {self.class_id} is outside 0..{last}")
            actual, predicted = actual[..., self.class_id], predicted[..., self.class_id]
        weights = _spread(sample_weight, actual.shape, self.name)
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
        self.from_logits = bool(from_logits)
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
        actual = _units(np.asarray(y_true), scores, self.name) > 0.5
        weights = _spread(sample_weight, scores.shape, self.name)
        passed = np.searchsorted(self._thresholds, scores, side="left")
        for row, mask in enumerate((~actual, actual)):
            counts = np.bincount(passed[mask], weights[mask], self.num_thresholds + 1)
            self._above[row] += counts[::-1].cumsum()[-2::-1]

    def result(self) -> float:
        totals = self._above[:, :1]
        false_rate, true_rate = self._above / np.where(totals > 0, totals, 1.0)
        widths = false_rate[:-1] - false_rate[1:]
        return float((widths * (true_rate[:-1] + true_rate[1:])).sum() / 2.0)


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
        weights = _spread(sample_weight, actual.shape, self.name)
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
        actual = y_true.argmax(axis=-1) if one_hot else _labels(y_true, y_pred, self.name)
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
    num_classes : number of classes.
    ignore_class : a label whose positions do not count.
    sparse_y_true, sparse_y_pred : whether these are classes; if False, one-hot rows or scores.
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "mean_io_u",
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
    ) -> None:
        super().__init__(num_classes, name)
        self.ignore_class = ignore_class
        self.sparse_y_true = bool(sparse_y_true)
        self.sparse_y_pred = bool(sparse_y_pred)

    def classes(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.sparse_y_pred and y_pred.dtype.kind == "f" and not np.array_equal(y_pred, np.trunc(y_pred)):
            raise ValueError(f"{self.name}: y_pred holds scores, not classes; pass sparse_y_pred=False")
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


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _spread(sample_weight: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Repeat the weight of each sample over its positions."""
    if sample_weight is None:
        return np.broadcast_to(1.0, shape)
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != shape[:1]:
        raise ValueError(f"{where}: expected sample_weight of shape {shape[:1]}, got {weights.shape}")
    return np.broadcast_to(weights.reshape(-1, *(1,) * (len(shape) - 1)), shape)


def _labels(y_true: np.ndarray, y_pred: np.ndarray, where: str) -> np.ndarray:
    """Return the labels of scores (n, ..., classes) as integers (n, ...)."""
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"{where}: expected labels of shape {y_pred.shape[:-1]} for predictions of shape {y_pred.shape}, "
            f"got {y_true.shape}; one-hot targets belong to the metrics without 'sparse' in their names"
        )
    return whole_numbers(y_true, where)


def _units(y_true: np.ndarray, y_pred: np.ndarray, where: str) -> np.ndarray:
    """Return targets of the shape of `y_pred`; labels of several classes become one-hot rows."""
    without_classes = y_pred.shape[:-1]
    several = y_pred.ndim > 1 and y_pred.shape[-1] > 1
    if several and y_true.shape in (without_classes, (*without_classes, 1)):
        return _labels(y_true, y_pred, where)[..., None] == np.arange(y_pred.shape[-1])
    return align(y_true, y_pred, where)


_TABLE: dict[str, type[Metric]] = {
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "precision": Precision,
    "recall": Recall,
    "auc": AUC,
    "confusion_matrix": ConfusionMatrix,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "mae": MeanAbsoluteError,
    "mean_iou": MeanIoU,
}


def get(
    identifier: Any,
    loss: losses.Loss | None = None,
    output_shape: losses.Shape | None = None,
    where: str | None = None,
) -> Metric:
    """Return the metric meant by a name, an object, a class, a loss or a function ``f(y_true, y_pred)``.

    Parameters
    ----------
    identifier : a name also becomes the name of the metric; the name of a loss means its mean.
    loss, output_shape : of the output measured (batch axis first). ``'accuracy'`` and ``'acc'`` mean
        `BinaryAccuracy` for one unit, else `SparseCategoricalAccuracy` for the sparse loss, else
        `CategoricalAccuracy`. With a binary loss on logits the threshold is 0, the logit of 0.5.

    Raises
    ------
    ValueError
        If the name is unknown, or is ``'accuracy'`` without loss and output shape.
    TypeError
        If `identifier` is none of these.
    """
    if isinstance(identifier, str):
        metric = _by_name(identifier, loss, output_shape, where)
        metric.name = identifier
        return metric
    if isinstance(identifier, losses.Loss):
        return MeanLoss(identifier)
    if callable(identifier) and not isinstance(identifier, (Metric, type)):
        return FunctionMetric(identifier)
    return resolve("metric", identifier, {**_TABLE, "mean_loss": MeanLoss}, Metric, where)


def _by_name(
    name: str, loss: losses.Loss | None, output_shape: losses.Shape | None, where: str | None
) -> Metric:
    if name.lower() in ("accuracy", "acc"):
        return _accuracy(loss, output_shape, where)
    choices: dict[str, Any] = {**losses.TABLE, **_TABLE, "accuracy": None}
    found = look_up("metric", name, choices, where)()
    return MeanLoss(found) if isinstance(found, losses.Loss) else found


def _accuracy(loss: losses.Loss | None, output_shape: losses.Shape | None, where: str | None) -> Metric:
    if loss is None and output_shape is None:
        raise ValueError(
            f"{where or 'metrics.get'}: 'accuracy' depends on the loss; name binary_accuracy, "
            "categorical_accuracy or sparse_categorical_accuracy"
        )
    single = output_shape[-1] == 1 if output_shape else isinstance(loss, losses.BinaryCrossentropy)
    if single:
        logits = isinstance(loss, losses.BinaryCrossentropy) and loss.from_logits
        return BinaryAccuracy(threshold=0.0 if logits else 0.5)
    sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
    return SparseCategoricalAccuracy() if sparse else CategoricalAccuracy()
