"""Batch, layer and group normalisation and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.reference._arguments import Array, IntOrPair, as_float64, integer


def moments(x: ArrayLike, axes: Sequence[int]) -> tuple[Array, Array]:
    """Mean and variance (mean of squared deviations, not Bessel's) over `axes`, which stay with length 1."""
    x = as_float64(x, "moments: x")
    if x.size == 0:
        raise ValueError(f"moments: statistics of an empty array of shape {x.shape} are undefined")
    mean = x.mean(tuple(axes), keepdims=True)
    return mean, ((x - mean) ** 2).mean(tuple(axes), keepdims=True)


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike = 1.0,
    beta: ArrayLike = 0.0,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: float = 1e-3,
) -> Array:
    """Batch normalisation (Ioffe and Szegedy, 2015): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Without `mean` and `variance` they are those of each channel over the batch (training); given, they are
    the moving statistics (inference). x (..., c); gamma, beta, mean, variance (c,).
    """
    x = as_float64(x, "batch_norm: x")
    gamma, beta = as_float64(gamma, "batch_norm: gamma"), as_float64(beta, "batch_norm: beta")
    if mean is None or variance is None:
        return gamma * _normalize(x, range(x.ndim - 1), epsilon) + beta
    mean, variance = as_float64(mean, "batch_norm: mean"), as_float64(variance, "batch_norm: variance")
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_norm_grad(
    dy: ArrayLike,
    x: ArrayLike,
    gamma: ArrayLike = 1.0,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    epsilon: float = 1e-3,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `batch_norm`; given statistics are constants, as in a frozen layer."""
    dy, x = as_float64(dy, "batch_norm_grad: dy"), as_float64(x, "batch_norm_grad: x")
    gamma = as_float64(gamma, "batch_norm_grad: gamma")
    axes = tuple(range(x.ndim - 1))
    dgamma = (dy * batch_norm(x, 1.0, 0.0, mean, variance, epsilon)).sum(axes)
    if mean is None or variance is None:
        dx = _normalize_grad(dy * gamma, x, axes, epsilon)
    else:
        dx = dy * gamma / np.sqrt(as_float64(variance, "batch_norm_grad: variance") + epsilon)
    return dx, dgamma, dy.sum(axes)


def moving_average(old: ArrayLike, new: ArrayLike, momentum: float = 0.99) -> Array:
    """momentum * old + (1 - momentum) * new: how batch normalisation follows the batch statistics."""
    old, new = as_float64(old, "moving_average: old"), as_float64(new, "moving_average: new")
    return momentum * old + (1.0 - momentum) * new


def layer_norm(
    x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, axis: IntOrPair = -1, epsilon: float = 1e-3
) -> Array:
    """Layer normalisation (Ba et al., 2016): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    The statistics are those of each sample over `axis`; gamma and beta have the sizes of `axis`.
    """
    x = as_float64(x, "layer_norm: x")
    axes = _axes(axis, x.ndim)
    return _along(gamma, x, axes) * _normalize(x, axes, epsilon) + _along(beta, x, axes)


def layer_norm_grad(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, axis: IntOrPair = -1, epsilon: float = 1e-3
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `layer_norm`."""
    dy, x = as_float64(dy, "layer_norm_grad: dy"), as_float64(x, "layer_norm_grad: x")
    axes = _axes(axis, x.ndim)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    dx = _normalize_grad(dy * _along(gamma, x, axes), x, axes, epsilon)
    return dx, (dy * _normalize(x, axes, epsilon)).sum(others), dy.sum(others)


def group_norm(
    x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, groups: int = 32, epsilon: float = 1e-3
) -> Array:
    """Group normalisation (Wu and He, 2018): `layer_norm` over the pixels and channels of each group.

    x (n, ..., c); gamma and beta (c,).
    """
    x = as_float64(x, "group_norm: x")
    y = _normalize(_split_groups(x, groups, "group_norm"), (1, 3), epsilon).reshape(x.shape)
    return as_float64(gamma, "group_norm: gamma") * y + as_float64(beta, "group_norm: beta")


def group_norm_grad(
    dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, groups: int = 32, epsilon: float = 1e-3
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `group_norm`."""
    dy, x = as_float64(dy, "group_norm_grad: dy"), as_float64(x, "group_norm_grad: x")
    dnorm = _split_groups(dy * as_float64(gamma, "group_norm_grad: gamma"), groups, "group_norm_grad")
    dx = _normalize_grad(dnorm, _split_groups(x, groups, "group_norm_grad"), (1, 3), epsilon).reshape(x.shape)
    axes = tuple(range(x.ndim - 1))
    return dx, (dy * group_norm(x, 1.0, 0.0, groups, epsilon)).sum(axes), dy.sum(axes)


def _normalize(x: Array, axes: Sequence[int], epsilon: float) -> Array:
    mean, variance = moments(x, axes)
    return (x - mean) / np.sqrt(variance + epsilon)


def _normalize_grad(dy: Array, x: Array, axes: Sequence[int], epsilon: float) -> Array:
    """Gradient through the statistics: (dy - mean(dy) - y * mean(dy * y)) / sqrt(variance + epsilon)."""
    y = _normalize(x, axes, epsilon)
    mean_dy, mean_dy_y = (a.mean(tuple(axes), keepdims=True) for a in (dy, dy * y))
    return (dy - mean_dy - y * mean_dy_y) / np.sqrt(moments(x, axes)[1] + epsilon)


def _along(parameter: ArrayLike, x: Array, axes: Sequence[int]) -> Array:
    """A parameter with the sizes of `axes`, shaped to broadcast against x; a scalar stays one."""
    parameter = as_float64(parameter, "gamma or beta")
    if parameter.ndim == 0:
        return parameter
    return parameter.reshape([size if axis in axes else 1 for axis, size in enumerate(x.shape)])


def _axes(axis: IntOrPair, ndim: int) -> tuple[int, ...]:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return tuple(sorted(a % ndim for a in axes))


def _split_groups(x: Array, groups: int, where: str) -> Array:
    """(n, ..., c) as (n, pixels, groups, c // groups)."""
    groups = integer(groups, f"{where}: groups", 1)
    if x.shape[-1] % groups:
        raise ValueError(f"{where}: groups={groups} must divide the {x.shape[-1]} channels")
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
