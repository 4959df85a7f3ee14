"""Initial values of weights.

An initializer is called with a shape and a random generator and returns a float32 array. Fans are counted
as in Glorot & Bengio (2010): a dense weight (in, out) has fans in and out, a convolution weight
(..., in, out) those times the number of its taps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn import random
from fastcnn.errors import unknown_name
from fastcnn.utils import Configurable, real_number, resolve

# Standard deviation of a standard normal variable cut off at two standard deviations.
_TRUNCATED_STDDEV = 0.87962566103423978

# Values drawn at a time. They are float64: a whole weight's would take twice its memory, which the allocator may keep.
_PIECE = 1 << 15


class Initializer(Configurable):
    """Base class: subclasses define `values`, or `__call__` itself.

    Parameters
    ----------
    seed : a whole number makes every call return the same values; None draws from the generator given.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def __call__(self, shape: Sequence[int], rng: np.random.Generator | None = None) -> np.ndarray:
        """Return a new float32 array of `shape`; `rng` defaults to the package's generator."""
        if self.seed is not None:
            rng = np.random.default_rng(self.seed)
        values = self.values(tuple(shape), random.generator() if rng is None else rng)
        return np.ascontiguousarray(values, np.float32)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Return values of `shape`, in any real dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define values(shape, rng)")


class Zeros(Initializer):
    """All zeros."""

    def __init__(self) -> None:
        super().__init__()

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.zeros(shape, np.float32)


class Ones(Initializer):
    """All ones."""

    def __init__(self) -> None:
        super().__init__()

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return np.ones(shape, np.float32)


class Constant(Initializer):
    """`value` everywhere: a number, or an array that broadcasts to the shape."""

    def __init__(self, value: Any = 0.0) -> None:
        super().__init__()
        self.value = np.asarray(value, np.float32)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        try:
            return np.broadcast_to(self.value, shape).copy()
        except ValueError:
            raise ValueError(
                f"Constant: value of shape {self.value.shape} does not fit a weight of shape {shape}; "
                "pass a number or an array of the weight's shape"
            ) from None


class RandomNormal(Initializer):
    """Normal distribution of this `mean` and standard deviation, `stddev`."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = real_number(mean, "mean", "RandomNormal")
        self.stddev = real_number(stddev, "stddev", "RandomNormal", low=0.0)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return _drawn(shape, lambda count: rng.normal(self.mean, self.stddev, count))


class TruncatedNormal(Initializer):
    """Normal distribution of `mean` and `stddev`; values beyond two standard deviations are drawn again."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = real_number(mean, "mean", "TruncatedNormal")
        self.stddev = real_number(stddev, "stddev", "TruncatedNormal", low=0.0)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return _truncated_normal(shape, rng, self.mean, self.stddev)


class RandomUniform(Initializer):
    """Uniform distribution on [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = real_number(minval, "minval", "RandomUniform")
        self.maxval = real_number(maxval, "maxval", "RandomUniform", low=self.minval)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return _drawn(shape, lambda count: rng.uniform(self.minval, self.maxval, count))


class VarianceScaling(Initializer):
    """Values of variance scale / fan, which keeps the size of signals through a layer.

    Parameters
    ----------
    scale : positive factor.
    mode : fan to divide by: ``'fan_in'``, ``'fan_out'`` or ``'fan_avg'`` (their mean).
    distribution : ``'truncated_normal'`` (or ``'normal'``), ``'untruncated_normal'`` or ``'uniform'``.
    """

    _MODES = ("fan_in", "fan_out", "fan_avg")
    _DISTRIBUTIONS = ("truncated_normal", "normal", "untruncated_normal", "uniform")

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.scale = real_number(scale, "scale", type(self).__name__, low=0.0, open_low=True)
        if mode not in self._MODES:
            raise unknown_name("mode", mode, self._MODES, "VarianceScaling")
        if distribution not in self._DISTRIBUTIONS:
            raise unknown_name("distribution", distribution, self._DISTRIBUTIONS, "VarianceScaling")
        self.mode = mode
        self.distribution = distribution

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return _drawn(shape, lambda count: rng.uniform(-limit, limit, count))
        if self.distribution == "untruncated_normal":
            return _drawn(shape, lambda count: rng.normal(0.0, math.sqrt(variance), count))
        return _truncated_normal(shape, rng, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV)


class GlorotUniform(VarianceScaling):
    """Uniform of variance 2 / (fan_in + fan_out) (Glorot & Bengio, 2010)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed)


class GlorotNormal(VarianceScaling):
    """Truncated normal of variance 2 / (fan_in + fan_out) (Glorot & Bengio, 2010)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed)


class HeUniform(VarianceScaling):
    """Uniform of variance 2 / fan_in, for ReLU layers (He et al., 2015)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed)


class HeNormal(VarianceScaling):
    """Truncated normal of variance 2 / fan_in, for ReLU layers (He et al., 2015)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed)


class LecunUniform(VarianceScaling):
    """Uniform of variance 1 / fan_in (LeCun et al., 1998)."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed)


class LecunNormal(VarianceScaling):
    """Truncated normal of variance 1 / fan_in (LeCun et al., 1998), the choice for SELU."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed)


class Orthogonal(Initializer):
    """A random matrix with orthonormal columns (or rows, if there are fewer), times `gain`.

    A weight of more than two axes is the matrix (product of all axes but the last, last axis).
    Source: Saxe, McClelland & Ganguli (2014).
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = real_number(gain, "gain", "Orthogonal")

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: expected a weight of two axes or more, got shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        # QR alone prefers some signs; those of R's diagonal make Q uniform over orthogonal matrices.
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q.T if rows < columns else q).reshape(shape)


class FunctionInitializer(Initializer):
    """A user's function ``f(shape, rng) -> array`` as an initializer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        array = np.asarray(self.function(shape, rng))
        if array.shape != shape:
            raise ValueError(f"initializer {self.function!r}: asked for shape {shape}, got {array.shape}")
        return array

    def get_config(self) -> dict[str, Any]:
        raise TypeError(
            f"initializer {self.function!r} is a function and cannot be written to a file; "
            "use a named initializer, or one of the classes of fastcnn.initializers"
        )

    def __repr__(self) -> str:
        return f"FunctionInitializer({self.function!r})"


def compute_fans(shape: Sequence[int]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight of `shape`: inputs feeding one output, outputs fed by one input."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    taps = math.prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def _drawn(shape: tuple[int, ...], draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """float32 values from `draw(count)`, a piece after the other: those that one draw of them all would give."""
    values = np.empty(math.prod(shape), np.float32)
    for first in range(0, values.size, _PIECE):
        piece = values[first: first + _PIECE]
        piece[...] = draw(piece.size)
    return values.reshape(shape)


def _truncated_normal(shape: tuple[int, ...], rng: np.random.Generator, mean: float, stddev: float) -> np.ndarray:
    """Values beyond two standard deviations are drawn again when all others are there."""
    beyond: list[np.ndarray] = []  # where, in each piece
    drawn = 0

    def draw(count: int) -> np.ndarray:
        nonlocal drawn
        values = rng.standard_normal(count)
        beyond.append(drawn + np.flatnonzero(np.abs(values) > 2.0))
        drawn += count
        return mean + stddev * values

    result = _drawn(shape, draw)
    outside = np.concatenate([np.zeros(0, int), *beyond])
    while outside.size:
        values = rng.standard_normal(outside.size)
        result.reshape(-1)[outside] = mean + stddev * values
        outside = outside[np.abs(values) > 2.0]
    return result


# Keras calls them by both names.
zeros, ones, constant = Zeros, Ones, Constant
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal

_TABLE: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
}


def get(identifier: Any, where: str | None = None) -> Initializer:
    """Return the initializer meant by a name, an object, a class, or a function ``f(shape, rng)``.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If `identifier` is none of these.
    """
    if callable(identifier) and not isinstance(identifier, (Initializer, type)):
        return FunctionInitializer(identifier)
    return resolve("initializer", identifier, _TABLE, Initializer, where)
