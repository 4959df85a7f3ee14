"""Layers that prepare raw data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arrays import as_float32
from fastcnn.layers.arguments import Shape, axis_number
from fastcnn.layers.declared import DeclaredLayer
from fastcnn.plan import normalization, operations
from fastcnn.utils import flag, real_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


SAMPLES = 1024  # of an array whose moments are taken at once, in float64


class Rescaling(DeclaredLayer):
    """y = x * scale + offset, with numbers for both: `Rescaling(1 / 255)` brings bytes to [0, 1]."""

    def __init__(self, scale: float, offset: float = 0.0, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.scale = real_number(scale, "scale", self.name)
        self.offset = real_number(offset, "offset", self.name)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Affine(x, self.scale, self.offset, layer=self))


class Normalization(DeclaredLayer):
    """y = (x - mean) / sqrt(variance), with constants found by `adapt` or given; with `invert` the way back.

    Input and output (batch, ...). Deviations below 1e-7 count as 1e-7. Without given ones, the layer has weights `mean`
    and `variance`, not trainable, of the sizes of `axis` (one number for None); before `adapt` they are 0 and 1.

    Parameters
    ----------
    axis : the axes that have a mean and a variance for each place: the last one (a pair of numbers for each channel),
        a list of several, or None for one pair for all values.
    mean, variance : numbers, or arrays with the sizes of `axis`; both or neither.
    invert : compute x * sqrt(variance) + mean.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for axes that the input does not have, or of other sizes than the constants.
    """

    def __init__(self, axis: Any = -1, mean: Any = None, variance: Any = None, invert: bool = False,
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.axis = (None if axis is None else [axis_number(a, self.name) for a in axis]
                     if isinstance(axis, (list, tuple)) else axis_number(axis, self.name))
        if (mean is None) != (variance is None):
            raise ValueError(f"{self.name}: give both mean and variance, or neither and call adapt(data)")
        self.mean, self.variance = (None if value is None else as_float32(value, None, f"{self.name}: {what}").tolist()
                                    for what, value in (("mean", mean), ("variance", variance)))
        if variance is not None and not np.min(self.variance) >= 0:
            raise ValueError(f"{self.name}: variance must be at least 0, got {variance!r}")
        self.invert = flag(invert, "invert", self.name)
        self.sizes: tuple[int, ...] | None = None  # of mean and variance

    def kept_axes(self, shape: Shape) -> list[int]:
        """The axes, counted from the batch, along which the constants differ."""
        given = [] if self.axis is None else self.axis if isinstance(self.axis, list) else [self.axis]
        axes = sorted({a + len(shape) if a < 0 else a for a in given})
        if len(axes) < len(given) or any(not 1 <= a < len(shape) for a in axes):
            raise ValueError(f"{self.name}: expected axis to name axes of the input other than the batch, got "
                             f"axis={self.axis} for an input of shape {shape}; use -1 for the channels")
        return axes

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        shape = tuple(input_shape)
        if len(shape) < 2:
            raise ValueError(f"{self.name}: expected an input of shape (batch, ..., features), got {shape}; add the "
                             f"features axis, e.g. x[:, None]")
        sizes = tuple(shape[a] for a in self.kept_axes(shape))
        if self.sizes not in (None, sizes):
            raise ValueError(f"{self.name}: expected sizes {self.sizes} on axis={self.axis}, for which its constants "
                             f"were made, got {sizes} in an input of shape {shape}; make a new layer for this input")

    def build(self, input_shape: Shape) -> None:
        shape = tuple(input_shape)
        self.sizes = tuple(shape[a] for a in self.kept_axes(shape))
        if self.mean is None:
            self.adapt_mean = self.add_weight(self.sizes, "zeros", "mean", trainable=False)
            self.adapt_variance = self.add_weight(self.sizes, "ones", "variance", trainable=False)
        else:
            self.adapt_mean, self.adapt_variance = (self._constant(value, what) for what, value in
                                                    (("mean", self.mean), ("variance", self.variance)))

    def _constant(self, value: Any, what: str) -> normalization.Derived:
        try:
            return normalization.Derived(np.array(np.broadcast_to(np.float32(value), self.sizes)))
        except ValueError:
            raise ValueError(f"{self.name}: expected a {what} of shape {self.sizes}, the sizes of axis={self.axis}, "
                             f"got one of shape {np.shape(value)}") from None

    def adapt(self, data: Any) -> None:
        """Take mean and variance from data: an array of samples, or an iterable of batches x or (x, y).

        Raises
        ------
        ValueError, TypeError
            When there are no samples, they do not fit what the layer was made for, or the constants were given.
        """
        if self.mean is not None:
            raise ValueError(f"{self.name}.adapt: mean and variance were given to the constructor; leave them out")
        count, mean, squares = 0, np.zeros(()), np.zeros(())
        for x in _samples(data, f"{self.name}.adapt: data"):
            self.ensure_built((None, *x.shape[1:]))
            kept = self.kept_axes(x.shape)
            others = tuple(a for a in range(x.ndim) if a not in kept)
            size = prod(x.shape[a] for a in others)
            delta = x.mean(others, dtype=np.float64) - mean
            squares = squares + x.var(others, dtype=np.float64) * size + delta**2 * (count * size / (count + size))
            mean = mean + delta * (size / (count + size))
            count += size
        if not count:
            raise ValueError(f"{self.name}.adapt: the data holds no samples")
        self.adapt_mean.assign(mean.reshape(self.adapt_mean.shape))
        self.adapt_variance.assign((squares / count).reshape(self.adapt_variance.shape))

    def lower(self, plan: Lowering, x: Value) -> Value:
        """The axes from the first kept one on are the channels."""
        shape = (None, *x.shape)
        kept = self.kept_axes(shape)
        first = kept[0] if kept else len(shape) - 1
        places = np.arange(prod(self.sizes), dtype=np.intp)
        places = places.reshape([shape[a] if a in kept else 1 for a in range(first, len(shape))])
        source = np.ascontiguousarray(np.broadcast_to(places, shape[first:])).reshape(-1)
        if first < len(shape) - 1:
            x = plan.add(operations.Reshape([x], (*shape[1:first], source.size), self))
        y = plan.add(normalization.Standardize(x, self.adapt_mean, self.adapt_variance, source, self.invert, self))
        return y if y.shape == shape[1:] else plan.add(operations.Reshape([y], shape[1:], self))


def _samples(data: Any, what: str) -> Iterator[np.ndarray]:
    """Arrays of some samples each."""
    whole = isinstance(data, (np.ndarray, list, np.generic)) or not isinstance(data, Iterable)
    for batch in [data] if whole else data:
        x = np.asarray(batch[0] if isinstance(batch, tuple) else batch)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"{what} must hold real numbers, got dtype {x.dtype}")
        if x.ndim < 2:
            raise ValueError(f"{what} must have a batch axis and one more at least, got shape {x.shape}")
        for start in range(0, len(x), SAMPLES):
            yield x[start: start + SAMPLES]
