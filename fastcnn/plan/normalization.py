"""Operations of normalisation layers: batch, layer and group normalisation, and statistics that are given.

Batch normalisation in training needs all images before it can normalise the first one. So it is cut: the moments of
each group of images are taken in the stage that produces x, a small step merges them, and the normalised values are
computed in the stage that uses them. The normalised input is computed anew in the backward pass, not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcnn.kernels import _batch_norm, _norm, _sample_norm
from fastcnn.plan.convolution import Conv, DepthwiseConv
from fastcnn.plan.operations import CLAMPS, Clamped, Operation, Value, take_over

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer, Variable
    from fastcnn.plan.buffers import PartialSums


class Derived:
    """An array that stands in for a weight of a layer."""

    trainable = False

    def __init__(self, value: np.ndarray):
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class Normalization(Clamped):
    """Base: y = (x - mean) * scale + shift of each channel, and a ReLU that follows.

    gamma and beta are weights, or None for ones and zeros.
    """

    def __init__(self, x: Value, gamma: Variable | None, beta: Variable | None, epsilon: float,
                 layer: Layer | None = None):
        super().__init__([x], x.shape, layer, (gamma, beta))
        self.gamma, self.beta, self.epsilon = gamma, beta, epsilon

    @property
    def channels(self) -> int:
        return self.x.hwc[2]

    @property
    def clamp(self) -> tuple[float, float]:
        return CLAMPS[self.activation]

    def parameter(self, variable: Variable | None, default: float) -> np.ndarray:
        """The values of gamma or beta; an array of `default` if there is none."""
        return np.full(self.channels, default, np.float32) if variable is None else variable.value


class ChannelNorm(Normalization):
    """Base: mean, scale and shift of each channel are known before the first image is normalised."""

    cheap = True

    def normalize(self, b, mean: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> None:
        """The step that writes y from per-channel arrays that are filled before it runs."""
        self.map = _norm.Channels(mean, scale, shift, self.clamp)
        self.write(b, "forward")

    def recompute(self, b) -> None:
        """With the statistics of the first time."""
        self.write(b, "forward again")

    def write(self, b, direction: str) -> None:
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, direction, lambda: [_norm.Normalize(x.tensor, y.tensor, self.map)], [x], [y])

    def input_grad(self, b, offset: np.ndarray, slope: np.ndarray) -> None:
        dy, x = b.grad(self.y), b.buffer(self.x)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [_norm.InputGrad(dy.tensor, x.tensor, dx.tensor, self.map, offset,
                                                                    slope)], [dy, x], [dx])


class BatchNorm(ChannelNorm):
    """Batch normalisation in training: statistics of the batch, which the moving ones follow."""

    name = "batch_norm"

    def __init__(self, x, gamma, beta, moving: tuple[Variable, Variable], momentum: float, epsilon: float, layer=None):
        super().__init__(x, gamma, beta, epsilon, layer)
        self.moving, self.momentum = moving, momentum

    def forward(self, b):
        x, c, sums = b.buffer(self.x), self.channels, self.partial_sums(b)
        mean, self.scale, shift = (np.zeros(c, np.float32) for _ in range(3))
        self.inverse, self.rest = np.zeros(c), np.zeros(c)
        self.step(b, "forward", lambda: [_batch_norm.Moments(x.tensor, sums.array)], [x], [sums], partial=sums)
        self.step(b, "forward", lambda: [_batch_norm.BatchStatistics(
            sums.array, b.value(self.gamma), b.value(self.beta), self.epsilon, mean, self.scale, shift,
            self.inverse, self.rest, tuple(v.value for v in self.moving), self.momentum)], [sums], [],
            pipelined=False)
        self.normalize(b, mean, self.scale, shift)

    def backward(self, b):
        dy, x, c, sums = b.grad(self.y), b.buffer(self.x), self.channels, self.partial_sums(b)
        offset, slope = np.zeros(c, np.float32), np.zeros(c, np.float32)
        gradients = b.partial_gradients(self.gamma, self.beta)
        self.step(b, "weight gradient", lambda: [_batch_norm.GradSums(dy.tensor, x.tensor, sums.array, self.map)],
                  [dy, x], [sums], partial=sums)

        def make():
            dgamma, dbeta = gradients()
            return [_batch_norm.BatchNormGrad(sums.array, self.scale, self.inverse, self.rest, dgamma, dbeta, offset,
                                              slope)]

        self.step(b, "weight gradient", make, [sums], [], pipelined=False, partial=gradients)
        if b.wants_gradient(self.x):
            self.input_grad(b, offset, slope)

    def partial_sums(self, b) -> PartialSums:
        return b.partial_sums(_batch_norm.sums_width(self.channels))


class ConstantNorm(ChannelNorm):
    """Base: statistics that are constants of a pass."""

    def backward(self, b):
        nothing = np.zeros(self.channels, np.float32)
        if b.wants_gradient(self.x):
            self.input_grad(b, nothing, nothing)


class MovingNorm(ConstantNorm):
    """Batch normalisation with the moving statistics, as constants: in inference, and where the layer is frozen.

    `foldable`: the layer before it may take it over (only in inference: there it has no gradients to compute).
    """

    name = "moving_norm"

    def __init__(self, x, gamma, beta, moving: tuple[Variable, Variable], epsilon: float, foldable: bool, layer=None):
        super().__init__(x, gamma, beta, epsilon, layer)
        self.moving, self.foldable = moving, foldable

    def forward(self, b):
        mean, variance = (v.value for v in self.moving)
        scale = np.zeros(self.channels, np.float32)
        b.prepare(_norm.MovingScale(b.value(self.gamma), variance, self.epsilon, scale))
        self.normalize(b, mean, scale, self.parameter(self.beta, 0.0))


def can_fold(op: Operation | None) -> bool:
    """Whether the weights of `op` can do a normalisation by constants that follows."""
    return type(op) in (Conv, DepthwiseConv) and op.activation == "linear" and not op.pool


class Fold(Operation):
    """A normalisation by constants, done by the layer before it with scaled weights."""

    name = "fold_norm"

    def __init__(self, norm: MovingNorm, conv: Conv | DepthwiseConv):
        super().__init__([], (), norm.layer)
        self.norm, self.kernel, self.bias = norm, conv.kernel, conv.bias
        self.folded = Derived(np.zeros_like(conv.kernel.value)), Derived(np.zeros(norm.channels, np.float32))
        conv.kernel, conv.bias = self.folded
        take_over(conv, norm)

    def forward(self, b):
        norm, (kernel, bias) = self.norm, self.folded
        mean, variance = (v.value for v in norm.moving)
        b.prepare(_norm.FoldNorm(self.kernel.value, b.value(self.bias), b.value(norm.gamma), b.value(norm.beta), mean,
                                 variance, norm.epsilon, kernel.value, bias.value))


class Standardize(ConstantNorm):
    """(x - mean) / deviation, or with `invert` x * deviation + mean; channel j takes these from place source[j]."""

    name = "standardize"

    def __init__(self, x, mean: Variable | Derived, variance: Variable | Derived, source: np.ndarray, invert: bool,
                 layer=None):
        super().__init__(x, None, None, 0.0, layer)
        self.mean, self.variance, self.source, self.invert = mean, variance, source, invert

    def forward(self, b):
        arrays = tuple(np.zeros(self.channels, np.float32) for _ in range(3))
        b.prepare(_norm.Standardize(self.mean.value, self.variance.value, self.source, arrays, self.invert))
        self.normalize(b, *arrays)


class SampleNorm(Normalization):
    """Base: statistics of each image on its own, so that forward and backward are one step each."""

    def recompute(self, b):
        self.forward(b)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.parameter(self.gamma, 1.0), self.parameter(self.beta, 0.0)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [self.driver(x.tensor, y.tensor)], [x], [y])

    def backward(self, b):
        dy, x = b.grad(self.y), b.buffer(self.x)
        trained = any(v.trainable for v in self.variables)
        parts = b.partial_gradients(self.gamma, self.beta) if trained else None
        wanted = b.wants_gradient(self.x)
        with b.gradients_of([self.x]) as (dx,):
            def make():
                dgamma, dbeta = parts() if parts else (None, None)
                return [self.grad_driver(dy.tensor, x.tensor, dx.tensor if wanted else None, dgamma, dbeta)]

            self.step(b, "backward", make, [dy, x], [dx] if wanted else [], partial=parts)


class LayerNorm(SampleNorm):
    """Each pixel normalised over its channels."""

    name = "layer_norm"

    def can_clamp(self, kind):
        return False

    def driver(self, x, y):
        return _sample_norm.LayerNorm(x, y, *self.arrays(), self.epsilon)

    def grad_driver(self, dy, x, dx, dgamma, dbeta):
        return _sample_norm.LayerNormGrad(dy, x, dx, dgamma, dbeta, self.arrays()[0], self.epsilon)


class GroupNorm(SampleNorm):
    """Each group of channels of an image normalised over its pixels and channels."""

    name = "group_norm"

    def __init__(self, x, groups: int, gamma, beta, epsilon: float, layer=None):
        super().__init__(x, gamma, beta, epsilon, layer)
        self.groups = groups

    def driver(self, x, y):
        return _sample_norm.GroupNorm(x, y, self.groups, *self.arrays(), self.epsilon, self.clamp)

    def grad_driver(self, dy, x, dx, dgamma, dbeta):
        return _sample_norm.GroupNormGrad(dy, x, dx, dgamma, dbeta, self.groups, *self.arrays(), self.epsilon,
                                          self.clamp)
