"""Metrics: numbers that tell how good predictions are, gathered batch by batch.

Targets and predictions are (n, ...) arrays as a model and its loss use them; sample weights are (n,) and
hold for every position of a sample, or (n, ...), one for each. A metric without any sample yet has the result 0.
"""

from __future__ import annotations

from inspect import isfunction
from typing import Any

from fastcnn import losses
from fastcnn.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from fastcnn.metrics.accuracy import (
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from fastcnn.metrics.base import FunctionMetric, Mean, MeanAbsoluteError, MeanLoss, MeanSquaredError, Metric
from fastcnn.metrics.confusion import ConfusionMatrix, MeanIoU, OneHotMeanIoU
from fastcnn.metrics.detection import AUC, Precision, Recall
from fastcnn.metrics.functions import (
    CLASS_OF,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from fastcnn.utils import look_up, resolve

__all__ = [
    "AUC",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ConfusionMatrix",
    "FunctionMetric",
    "Mean",
    "MeanAbsoluteError",
    "MeanIoU",
    "MeanLoss",
    "MeanSquaredError",
    "Metric",
    "OneHotMeanIoU",
    "Precision",
    "Recall",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]

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
    "one_hot_mean_iou": OneHotMeanIoU,
}


def get(
    identifier: Any,
    loss: losses.Loss | None = None,
    output_shape: losses.Shape | None = None,
    where: str | None = None,
) -> Metric:
    """Return the metric meant by a name, an object, a class, a loss or a function ``f(y_true, y_pred)``.

    Functions of this module and of `losses` mean the classes they belong to.

    Parameters
    ----------
    identifier : a name also becomes the name of the metric; the name of a loss means its mean.
    loss, output_shape : of the output measured (batch axis first). ``'accuracy'`` and ``'acc'`` mean
        `BinaryAccuracy` for one unit, else `SparseCategoricalAccuracy` for the sparse loss, else
        `CategoricalAccuracy`. With a binary loss on logits the threshold is 0, the logit of 0.5. ``'accuracy'`` and
        ``'mean_iou'`` leave out the class that the loss ignores; the latter takes the output for scores.

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
    if isfunction(identifier) and identifier in losses.CLASS_OF:
        return MeanLoss(losses.CLASS_OF[identifier](), identifier.__name__)
    if isfunction(identifier):
        identifier = CLASS_OF.get(identifier, identifier)
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
    if name.lower().replace("_", "") == "meaniou":
        sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
        return MeanIoU(ignore_class=getattr(loss, "ignore_class", None), sparse_y_true=sparse, sparse_y_pred=False)
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
    if isinstance(loss, losses.SparseCategoricalCrossentropy):
        return SparseCategoricalAccuracy(ignore_class=loss.ignore_class)
    return CategoricalAccuracy()
