"""The losses as functions of targets and predictions, for one's own use and as the `loss` of `compile`.

Predictions are (n, ..., k) arrays, targets those that the class of a similar name takes; the result (n, ...), float64,
has a value for each position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcnn.losses.base import PositionLoss
from fastcnn.losses.crossentropy import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from fastcnn.losses.errors import Hinge, Huber, MeanAbsoluteError, MeanSquaredError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


def categorical_crossentropy(y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False,
                             label_smoothing: float = 0.0) -> NDArray[np.float64]:
    """Cross-entropy of `y_pred` against one-hot rows `y_true`; `from_logits` and `label_smoothing` as in the class."""
    return CategoricalCrossentropy(from_logits, label_smoothing).per_position(y_true, y_pred)


def sparse_categorical_crossentropy(y_true: ArrayLike, y_pred: ArrayLike,
                                    from_logits: bool = False) -> NDArray[np.float64]:
    """Cross-entropy of `y_pred` against class labels `y_true`; `from_logits` as in the class."""
    return SparseCategoricalCrossentropy(from_logits).per_position(y_true, y_pred)


def binary_crossentropy(y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False,
                        label_smoothing: float = 0.0) -> NDArray[np.float64]:
    """Cross-entropy of units `y_pred` against `y_true`; `from_logits` and `label_smoothing` as in the class."""
    return BinaryCrossentropy(from_logits, label_smoothing).per_position(y_true, y_pred)


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Mean of (y_true - y_pred)² over the last axis."""
    return MeanSquaredError().per_position(y_true, y_pred)


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Mean of |y_true - y_pred| over the last axis."""
    return MeanAbsoluteError().per_position(y_true, y_pred)


def huber(y_true: ArrayLike, y_pred: ArrayLike, delta: float = 1.0) -> NDArray[np.float64]:
    """Squares of small errors `y_true - y_pred`, absolute values beyond `delta`."""
    return Huber(delta).per_position(y_true, y_pred)


def hinge(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """How far `y_pred` is from the right side of `y_true`, which is -1 or 1 (0 counts as -1)."""
    return Hinge().per_position(y_true, y_pred)


def kl_divergence(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    """Divergence of the distribution `y_pred` from `y_true`."""
    return KLDivergence().per_position(y_true, y_pred)


CLASS_OF: dict[object, type[PositionLoss]] = {
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    binary_crossentropy: BinaryCrossentropy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    huber: Huber,
    hinge: Hinge,
    kl_divergence: KLDivergence,
}
