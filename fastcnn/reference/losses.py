"""Losses, each with the gradient of its mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, as_float64, check_shape
from fastcnn.reference.activation import log_softmax, sigmoid, softmax, softplus


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Cross-entropy of softmax(logits) with the labels, and the gradient of its mean.

        loss = -sum_k t_k * log_softmax(logits)_k,   t = onehot * (1 - s) + s / classes
        d mean(loss) / d logits = (softmax(logits) * sum_k t_k - t) / samples

    Parameters
    ----------
    logits : (..., classes)
    labels : one-hot (or probabilities) of the same shape, or integer class numbers (...,) or (..., 1)

    Returns
    -------
    loss : (...), one per sample
    dlogits : (..., classes), of the mean over all samples
    """
    logits = as_float64(logits, "softmax_cross_entropy: logits")
    target = _smoothed_one_hot(labels, logits.shape, label_smoothing)
    loss = -(target * log_softmax(logits)).sum(-1)
    dlogits = softmax(logits) * target.sum(-1, keepdims=True) - target
    return loss, dlogits / max(loss.size, 1)


def sigmoid_binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, label_smoothing: float = 0.0
) -> tuple[Array, Array]:
    """Binary cross-entropy of sigmoid(logits), averaged over the last axis, and the gradient of its mean.

        loss = mean_k [softplus(z_k) - t_k * z_k],   t = labels * (1 - s) + s / 2
        d mean(loss) / dz = (sigmoid(z) - t) / size

    logits and labels: (..., outputs). Returns loss (...) and dlogits (..., outputs).
    """
    z, labels = as_float64(logits, "sigmoid_binary_cross_entropy: logits"), as_float64(labels, "labels")
    check_shape(labels.shape, z.shape, "sigmoid_binary_cross_entropy: labels")
    target = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
    loss = (softplus(z) - target * z).mean(-1)
    return loss, (sigmoid(z) - target) / max(z.size, 1)


def mean_squared_error(prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """mean((prediction - target)^2) over the last axis, (...), and the gradient of its mean."""
    error = _error(prediction, target, "mean_squared_error")
    return (error * error).mean(-1), 2.0 * error / max(error.size, 1)


def mean_absolute_error(prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """mean(|prediction - target|) over the last axis, (...), and the gradient of its mean; sign(0) = 0."""
    error = _error(prediction, target, "mean_absolute_error")
    return np.abs(error).mean(-1), np.sign(error) / max(error.size, 1)


def _smoothed_one_hot(labels: ArrayLike, shape: tuple[int, ...], label_smoothing: float) -> Array:
    """Target probabilities of `shape` (..., classes) from one-hot rows or class numbers (...) or (..., 1)."""
    labels, classes = np.asarray(labels), shape[-1]
    if labels.shape == shape:
        target = as_float64(labels, "softmax_cross_entropy: labels")
    elif labels.dtype.kind not in "iu":
        raise TypeError(f"softmax_cross_entropy: class numbers must be integers, got dtype {labels.dtype}")
    else:
        if labels.shape == (*shape[:-1], 1):
            labels = labels[..., 0]
        check_shape(labels.shape, shape[:-1], "softmax_cross_entropy: labels")
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"softmax_cross_entropy: labels must lie in [0, {classes}), "
                f"got {labels.min()} to {labels.max()}"
            )
        target = np.eye(classes)[labels]
    return target * (1.0 - label_smoothing) + label_smoothing / classes


def _error(prediction: ArrayLike, target: ArrayLike, where: str) -> Array:
    prediction, target = as_float64(prediction, f"{where}: prediction"), as_float64(target, f"{where}: target")
    check_shape(target.shape, prediction.shape, f"{where}: target")
    return prediction - target
