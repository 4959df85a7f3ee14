"""Batch, layer and group normalisation and their gradients.

Means and variances are taken per channel over the batch, per position over the channels, or per sample and group of
channels; the variance is the mean of squared deviations (not Bessel's).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.arrays import Array, as_float32
from fastcnn.kernels import _batch_norm, _norm, _sample_norm
from fastcnn.kernels._eltwise import Reduce
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._op import Op
from fastcnn.ops._engine import GROUPS, run, tensor
from fastcnn.utils import real_number


def batch_norm(x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, mean: ArrayLike | None = None,
               variance: ArrayLike | None = None, epsilon: float = 1e-3) -> Array:
    """Batch normalisation (Ioffe and Szegedy, 2015): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Without `mean` and `variance` they are those of each channel over the batch (training); given, they are the moving
    statistics (inference).

    Parameters
    ----------
    x : (..., c)
    gamma, beta, mean, variance : (c,), or one number for all channels.

    Returns
    -------
    float32 of x's shape

    Raises
    ------
    ValueError, TypeError
        When shapes do not fit together, or there is nothing to take statistics of.
    """
    where = "batch_norm"
    x = _values(x, f"{where}: x")
    gamma, beta = (_parameter(value, x.shape[-1:], f"{where}: {name}") for name, value in
                   (("gamma", gamma), ("beta", beta)))
    y, epsilon = np.empty_like(x), _epsilon(epsilon, where)
    if mean is None or variance is None:
        affine, _ = _batch_statistics(x, gamma, beta, epsilon, where)
    else:
        affine, _ = _given_statistics(x, gamma, beta, mean, variance, epsilon, where)
    if y.size:
        run(_norm.Normalize(_images(x), _images(y), _norm.Channels(*affine)))
    return y


def batch_norm_grad(dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, mean: ArrayLike | None = None,
                    variance: ArrayLike | None = None, epsilon: float = 1e-3) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `batch_norm`, from that of its result, dy; other arguments as there.

    Given statistics are constants, as in a frozen layer.
    """
    where = "batch_norm_grad"
    x = _values(x, f"{where}: x")
    dy = as_float32(dy, None, f"{where}: dy", x.shape)
    gamma, epsilon = _parameter(gamma, x.shape[-1:], f"{where}: gamma"), _epsilon(epsilon, where)
    given = mean is not None and variance is not None
    zeros = np.zeros_like(gamma)
    affine, exact = (_given_statistics(x, gamma, zeros, mean, variance, epsilon, where) if given else
                     _batch_statistics(x, gamma, zeros, epsilon, where))
    dgamma, dbeta, offset, slope = (np.zeros_like(gamma) for _ in range(4))
    dx, channels, scale = np.empty_like(x), _norm.Channels(*affine), affine[1]
    if x.size:
        _over_groups(x, lambda parts: _batch_norm.GradSums(_images(dy), _images(x), parts, channels),
                     lambda parts: _batch_norm.BatchNormGrad(parts, scale, *exact, dgamma, dbeta, offset, slope))
        if given:
            offset, slope = zeros, zeros
        run(_norm.InputGrad(_images(dy), _images(x), _images(dx), channels, offset, slope))
    return dx, dgamma, dbeta


def layer_norm(x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, axis: int | Sequence[int] = -1,
               epsilon: float = 1e-3) -> Array:
    """Layer normalisation (Ba et al., 2016): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    The statistics are those of each sample over `axis` (one axis or several); gamma and beta have the sizes of `axis`,
    or are numbers.
    """
    where = "layer_norm"
    x = _values(x, f"{where}: x")
    axes = _axes(axis, x, where)
    moved = _rows(x, axes)
    gamma, beta = (_parameter(value, [x.shape[a] for a in axes], f"{where}: {name}") for name, value in
                   (("gamma", gamma), ("beta", beta)))
    y = np.empty_like(moved)
    run(_sample_norm.LayerNorm(tensor(moved), tensor(y), gamma, beta, _epsilon(epsilon, where)))
    return _moved_back(y, x, axes)


def layer_norm_grad(dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, axis: int | Sequence[int] = -1,
                    epsilon: float = 1e-3) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `layer_norm`, from that of its result, dy; other arguments as there."""
    where = "layer_norm_grad"
    x = _values(x, f"{where}: x")
    dy = as_float32(dy, None, f"{where}: dy", x.shape)
    axes, epsilon = _axes(axis, x, where), _epsilon(epsilon, where)
    sizes = [x.shape[a] for a in axes]
    gamma = _parameter(gamma, sizes, f"{where}: gamma")
    rows, slopes = _rows(x, axes), _rows(dy, axes)
    dx = np.empty_like(rows)
    dgamma, dbeta = _parameter_sums(len(rows), gamma.size, lambda *parts: _sample_norm.LayerNormGrad(
        tensor(slopes), tensor(rows), tensor(dx), *parts, gamma, epsilon))
    return _moved_back(dx, x, axes), dgamma.reshape(sizes), dbeta.reshape(sizes)


def group_norm(x: ArrayLike, gamma: ArrayLike = 1.0, beta: ArrayLike = 0.0, groups: int = 32,
               epsilon: float = 1e-3) -> Array:
    """Group normalisation (Wu and He, 2018): `layer_norm` over the pixels and channels of each group.

    x (n, ..., c); gamma and beta (c,), or numbers. ValueError when `groups` does not divide the channels.
    """
    where = "group_norm"
    x = _values(x, f"{where}: x")
    groups = _groups(groups, x, where)
    gamma, beta = (_parameter(value, x.shape[-1:], f"{where}: {name}") for name, value in
                   (("gamma", gamma), ("beta", beta)))
    y = np.empty_like(x)
    run(_sample_norm.GroupNorm(_images(x), _images(y), groups, gamma, beta, _epsilon(epsilon, where)))
    return y


def group_norm_grad(dy: ArrayLike, x: ArrayLike, gamma: ArrayLike = 1.0, groups: int = 32,
                    epsilon: float = 1e-3) -> tuple[Array, Array, Array]:
    """Gradients (dx, dgamma, dbeta) of `group_norm`, from that of its result, dy; other arguments as there."""
    where = "group_norm_grad"
    x = _values(x, f"{where}: x")
    dy = as_float32(dy, None, f"{where}: dy", x.shape)
    groups, epsilon = _groups(groups, x, where), _epsilon(epsilon, where)
    gamma = _parameter(gamma, x.shape[-1:], f"{where}: gamma")
    dx = np.empty_like(x)
    dgamma, dbeta = _parameter_sums(len(x), gamma.size, lambda *parts: _sample_norm.GroupNormGrad(
        _images(dy), _images(x), _images(dx), *parts, groups, gamma, np.zeros_like(gamma), epsilon))
    return dx, dgamma, dbeta


# ---- statistics of a batch


def _batch_statistics(x: Array, gamma: Array, beta: Array, epsilon: float, where: str) -> tuple[Array, np.ndarray]:
    """The affine map of each channel, (mean, scale, shift) in float32, and (inverse, rest) in float64.

    inverse = 1 / sqrt(variance + epsilon), and rest is what mean was rounded up by.
    """
    if not x.size:
        raise ValueError(f"{where}: statistics of an empty array of shape {x.shape} are undefined")
    affine, exact = np.empty((3, gamma.size), np.float32), np.empty((2, gamma.size))
    _over_groups(x, lambda parts: _batch_norm.Moments(_images(x), parts),
                 lambda parts: _batch_norm.BatchStatistics(parts, gamma, beta, epsilon, *affine, *exact))
    return affine, exact


def _given_statistics(x: Array, gamma: Array, beta: Array, mean: ArrayLike, variance: ArrayLike, epsilon: float,
                      where: str) -> tuple[Array, np.ndarray]:
    """`_batch_statistics` from given ones, which need no rounding."""
    mean = _parameter(mean, x.shape[-1:], f"{where}: mean")
    inverse = 1 / np.sqrt(_parameter(variance, x.shape[-1:], f"{where}: variance").astype(np.float64) + epsilon)
    return np.array([mean, gamma * inverse, beta], np.float32), np.array([inverse, np.zeros_like(inverse)])


def _over_groups(x: Array, sums: Callable[[np.ndarray], Op], merge: Callable[[np.ndarray], Op]) -> None:
    """Sums of groups of images, then what follows from all of them."""
    images = -(-len(x) // GROUPS)
    parts = np.empty((-(-len(x) // images), _batch_norm.sums_width(x.shape[-1])))
    first, last = sums(parts), merge(parts)
    Program([Stage([first], first.items, images), Stage([last], last.items)]).run()


def _parameter_sums(n: int, size: int, make: Callable[[Array, Array], Op]) -> tuple[Array, Array]:
    """dgamma and dbeta by the op `make(dgamma, dbeta)`, whose items are n images: of each group, then added."""
    images = -(-n // GROUPS)
    dgamma, dbeta = parts = np.empty((2, -(-n // images), size), np.float32)
    op, totals = make(dgamma, dbeta), np.empty((2, size), np.float32)
    sums = [Reduce(part, total) for part, total in zip(parts, totals, strict=True)]
    Program([Stage([op], op.items, images), *(Stage([add], add.items) for add in sums)]).run()
    return totals[0], totals[1]


# ---- arguments


def _values(x: ArrayLike, what: str) -> Array:
    x = as_float32(x, None, what)
    if x.ndim < 2:
        raise ValueError(f"{what} must have a batch and a channel axis at least, got shape {x.shape}")
    return x


def _images(x: Array):
    """(n, ..., c) as images of one row."""
    return tensor(x.reshape(len(x), 1, prod(x.shape[1:-1]), x.shape[-1]))


def _parameter(value: ArrayLike, shape: Sequence[int], what: str) -> Array:
    """`value` as a flat array, one number for each element of `shape`."""
    if np.ndim(value) == 0:
        return np.full(prod(shape), as_float32(value, 0, what), np.float32)
    return as_float32(value, None, what, shape).reshape(-1)


def _epsilon(epsilon: float, where: str) -> float:
    return real_number(epsilon, "epsilon", where, low=0.0)


def _groups(groups: int, x: Array, where: str) -> int:
    try:
        groups = operator.index(groups)
    except TypeError:
        raise TypeError(f"{where}: groups must be a whole number, got {groups!r}") from None
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"{where}: groups={groups} must divide the {x.shape[-1]} channels")
    if not x.size:
        raise ValueError(f"{where}: statistics of an empty array of shape {x.shape} are undefined")
    return groups


def _axes(axis: int | Sequence[int], x: Array, where: str) -> list[int]:
    """The axes in ascending order."""
    try:
        given = [operator.index(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    except TypeError:
        raise TypeError(f"{where}: axis must be an int or several, got {axis!r}") from None
    if not given or any(not -x.ndim <= a < x.ndim for a in given) or len({a % x.ndim for a in given}) < len(given):
        raise ValueError(f"{where}: axis {axis} does not name axes of an array of shape {x.shape}")
    if not x.size:
        raise ValueError(f"{where}: statistics of an empty array of shape {x.shape} are undefined")
    return sorted(a % x.ndim for a in given)


def _rows(x: Array, axes: Sequence[int]) -> Array:
    """(rows, values) with the values of `axes` in each row."""
    last = range(x.ndim - len(axes), x.ndim)
    return np.ascontiguousarray(np.moveaxis(x, axes, last)).reshape(-1, prod(x.shape[a] for a in axes))


def _moved_back(rows: Array, x: Array, axes: Sequence[int]) -> Array:
    """What `_rows` made of an array of x's shape, as it was."""
    last = range(x.ndim - len(axes), x.ndim)
    shape = np.moveaxis(x, axes, last).shape
    return np.ascontiguousarray(np.moveaxis(rows.reshape(shape), last, axes))
