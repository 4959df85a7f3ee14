"""The bases of metrics, and how targets and predictions are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import losses
from fastcnn.losses.base import align, spread_weights
from fastcnn.utils import Configurable, whole_numbers


class Metric(Configurable):
    """Base class: a custom metric defines `reset`, `update` and `result`; the constructor resets it."""

    neutral = {"dtype": (None, "float32"), "axis": (-1,), "top_k": (None,), "curve": ("ROC",),
               "summation_method": ("interpolation",), "thresholds": (None,), "multi_label": (False,),
               "num_labels": (None,), "label_weights": (None,), "from_sorted_ids": (False,)}

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        raise NotImplementedError(f"{type(self).__name__} must define reset()")

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch. In training and evaluation the arrays belong to the model, and are read-only."""
        raise NotImplementedError(f"{type(self).__name__} must define update(y_true, y_pred, sample_weight)")

    def result(self) -> Any:
        """Return the value over all samples since `reset`."""
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Call `update`, by Keras's name."""
        self.update(y_true, y_pred, sample_weight)

    def reset_state(self) -> None:
        """Call `reset`, by Keras's name."""
        self.reset()


class Mean(Metric):
    """Base of the weighted means: subclasses define `values`, one number per sample or position."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return an array (n, ...) to average."""
        raise NotImplementedError(f"{type(self).__name__} must define values(y_true, y_pred)")

    def reset(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.add(self.values(np.asarray(y_true), np.asarray(y_pred)), sample_weight)

    def add(self, values: Any, sample_weight: Any) -> None:
        """Take in values, one per sample or position."""
        values = np.asarray(values, np.float64)
        weights = spread_weights(sample_weight, values.shape, self.name)
        self.total += float((values * weights).sum())
        self.weight += float(weights.sum())

    def result(self) -> float:
        return self.total / self.weight if self.weight else 0.0


class FunctionMetric(Mean):
    """A user's function ``f(y_true, y_pred)``, averaged over samples.

    It returns one number per sample or position, or a single number that then counts for all n samples. It gets copies
    and may change them in place.
    """

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], Any], name: str | None = None) -> None:
        super().__init__(name or str(getattr(function, "__name__", "function")))
        self.function = function

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        values = np.asarray(self.function(y_true.copy(), y_pred.copy()))
        if values.dtype.kind not in "fiub" or (values.ndim > 0 and len(values) != len(y_pred)):
            raise ValueError(f"{self.name}: the function must return a number, or one for each of {len(y_pred)} "
                             f"samples, got {values.dtype} of shape {values.shape}")
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

    def update(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        if np.ndim(sample_weight) > 1 and isinstance(self.loss, losses.PositionLoss):
            self.add(self.loss.per_position(y_true, y_pred), sample_weight)
        else:
            super().update(y_true, y_pred, sample_weight)


class MeanSquaredError(MeanLoss):
    """Mean of (y_true - y_pred)²."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(losses.MeanSquaredError(), name)


class MeanAbsoluteError(MeanLoss):
    """Mean of |y_true - y_pred|."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(losses.MeanAbsoluteError(), name)


def labels_of(y_true: np.ndarray, y_pred: np.ndarray, where: str) -> np.ndarray:
    """Return the labels of scores (n, ..., classes) as integers (n, ...)."""
    if y_true.ndim == y_pred.ndim and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    if y_true.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"{where}: expected labels of shape {y_pred.shape[:-1]} for predictions of shape {y_pred.shape}, "
            f"got {y_true.shape}; one-hot targets belong to the metrics without 'sparse' in their names"
        )
    return whole_numbers(y_true, where)


def units_of(y_true: np.ndarray, y_pred: np.ndarray, where: str) -> np.ndarray:
    """Return targets of the shape of `y_pred`; labels of several classes become one-hot rows."""
    without_classes = y_pred.shape[:-1]
    several = y_pred.ndim > 1 and y_pred.shape[-1] > 1
    if several and y_true.shape in (without_classes, (*without_classes, 1)):
        return labels_of(y_true, y_pred, where)[..., None] == np.arange(y_pred.shape[-1])
    return align(y_true, y_pred, where)
