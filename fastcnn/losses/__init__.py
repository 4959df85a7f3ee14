"""Losses: a number per sample to be made small, and its gradient by the prediction.

Predictions are (n, ..., k) arrays. Most losses give one value per position, reducing the last axis, then the mean over
positions; `Dice` gives one per region. The loss of a batch is the mean over its samples. All is computed in float64.
"""

from __future__ import annotations

from inspect import isfunction
from typing import Any

from fastcnn.losses.base import Loss, PositionLoss, Shape
from fastcnn.losses.crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from fastcnn.losses.errors import Hinge, Huber, MeanAbsoluteError, MeanSquaredError
from fastcnn.losses.functions import (
    CLASS_OF,
    binary_crossentropy,
    categorical_crossentropy,
    hinge,
    huber,
    kl_divergence,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from fastcnn.losses.regions import Dice
from fastcnn.utils import resolve

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PositionLoss",
    "Shape",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_crossentropy",
]

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
    "dice": Dice,
}


def get(identifier: Any, where: str | None = None) -> Loss:
    """Return the loss meant by a name, an object, a class, a function of this module or a serialized form.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is something else; a function of one's own has no gradient and is refused.
    """
    if isfunction(identifier):
        identifier = CLASS_OF.get(identifier, identifier)
    if callable(identifier) and not isinstance(identifier, (Loss, type)):
        raise TypeError(
            f"{where or 'losses.get'}: the function {identifier!r} has no gradient; make a subclass of "
            "fastcnn.losses.Loss with per_sample(y_true, y_pred) and gradient(y_true, y_pred)"
        )
    return resolve("loss", identifier, TABLE, Loss, where)
