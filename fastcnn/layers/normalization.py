"""Layers that normalise activations: over the batch, over each position, over groups of channels."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn import initializers, regularizers
from fastcnn.layers.arguments import Shape, axis_number
from fastcnn.layers.declared import DeclaredLayer
from fastcnn.plan import normalization, operations
from fastcnn.utils import flag, real_number, whole_number

if TYPE_CHECKING:
    from fastcnn.layers.base import Variable
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _Normalization(DeclaredLayer):
    """What the layers share: gamma and beta, one of each per normalised value or channel."""

    def __init__(self, epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
                 gamma_regularizer, input_shape, name, trainable) -> None:
        super().__init__(input_shape, name, trainable)
        self.epsilon = real_number(epsilon, "epsilon", self.name, low=0.0, open_low=True)
        self.center = flag(center, "center", self.name)
        self.scale = flag(scale, "scale", self.name)
        self.beta_initializer = initializers.get(beta_initializer, self.name)
        self.gamma_initializer = initializers.get(gamma_initializer, self.name)
        self.beta_regularizer = regularizers.get(beta_regularizer, self.name)
        self.gamma_regularizer = regularizers.get(gamma_regularizer, self.name)
        self.gamma: Variable | None = None
        self.beta: Variable | None = None
        self.sizes: tuple[int, ...] | None = None  # of gamma and beta

    def parameter_shape(self, shape: Shape) -> tuple[int, ...]:
        """Shape of gamma and beta for an input of `shape`; ValueError for one that the layer cannot take."""
        raise NotImplementedError

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if len(input_shape) < 2:
            raise ValueError(f"{self.name}: expected an input of shape (batch, ..., channels), got "
                             f"{tuple(input_shape)}; add the channel axis, e.g. x[:, None]")
        sizes = self.parameter_shape(tuple(input_shape))
        if self.sizes not in (None, sizes):
            raise ValueError(f"{self.name}: expected values to normalise of shape {self.sizes}, for which its weights "
                             f"were made, got {sizes} in an input of shape {tuple(input_shape)}; make a new layer "
                             f"for this input")

    def build(self, input_shape: Shape) -> None:
        self.sizes = self.parameter_shape(tuple(input_shape))
        if self.scale:
            self.gamma = self.add_weight(self.sizes, self.gamma_initializer, "gamma",
                                         regularizer=self.gamma_regularizer)
        if self.center:
            self.beta = self.add_weight(self.sizes, self.beta_initializer, "beta", regularizer=self.beta_regularizer)

    def flops(self, output_shape: Shape) -> int:
        return 2 * prod(output_shape[1:])


class _ChannelNormalization(_Normalization):
    """gamma and beta of each channel; `axis` names the last axis."""

    axis: int

    def parameter_shape(self, shape: Shape) -> tuple[int, ...]:
        if self.axis not in (-1, len(shape) - 1):
            raise ValueError(f"{self.name}: expected axis to be the last one, that of the channels, got "
                             f"axis={self.axis} for an input of shape {shape}; use axis=-1")
        return (shape[-1],)


class BatchNormalization(_ChannelNormalization):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta for each channel (Ioffe & Szegedy, 2015).

    In training, mean and (biased) variance are those of the batch, over all axes but the last, and the moving
    statistics follow them: moving = momentum * moving + (1 - momentum) * batch. In inference, and in training if
    `trainable` is False, the moving statistics take their place.

    Input and output (batch, ..., channels); weights `gamma`, `beta`, `moving_mean` and `moving_variance`, all
    (channels,), the last two not trainable. In inference a layer that follows a convolution or dense layer without
    activation, and alone reads its result, costs nothing: it becomes part of that layer's weights.

    Parameters
    ----------
    axis : the channels' axis: the last one, as -1 or by its number.
    momentum : of the moving statistics, in [0, 1].
    epsilon : above 0.
    center, scale : whether there is a `beta`, a `gamma`.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer : see
        `fastcnn.initializers`.
    beta_regularizer, gamma_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for another axis than the last, or other channels than at first.
    """

    def __init__(self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True,
                 scale: bool = True, beta_initializer: Any = "zeros", gamma_initializer: Any = "ones",
                 moving_mean_initializer: Any = "zeros", moving_variance_initializer: Any = "ones",
                 beta_regularizer: Any = None, gamma_regularizer: Any = None, input_shape: Any = None,
                 name: str | None = None, trainable: bool = True) -> None:
        super().__init__(epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
                         gamma_regularizer, input_shape, name, trainable)
        self.axis = axis_number(axis, self.name)
        self.momentum = real_number(momentum, "momentum", self.name, low=0.0, high=1.0)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer, self.name)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer, self.name)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.moving_mean = self.add_weight(self.sizes, self.moving_mean_initializer, "moving_mean", trainable=False)
        self.moving_variance = self.add_weight(self.sizes, self.moving_variance_initializer, "moving_variance",
                                               trainable=False)

    def lower(self, plan: Lowering, x: Value) -> Value:
        moving = self.moving_mean, self.moving_variance
        if plan.training and self.trainable:
            return plan.add(normalization.BatchNorm(x, self.gamma, self.beta, moving, self.momentum, self.epsilon,
                                                    layer=self))
        return plan.add(normalization.MovingNorm(x, self.gamma, self.beta, moving, self.epsilon,
                                                 foldable=not plan.training, layer=self))


class LayerNormalization(_Normalization):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta over the last axis or axes (Ba, Kiros & Hinton, 2016).

    Input and output (batch, ..., channels); mean and (biased) variance are those of each sample, at each position of
    the other axes. Weights `gamma` and `beta`, of the shape of the normalised axes.

    Parameters
    ----------
    axis : the last axis, as -1, or a list of the last few, such as [1, 2, 3] for whole images.
    epsilon : above 0.
    center, scale : whether there is a `beta`, a `gamma`.
    beta_initializer, gamma_initializer : see `fastcnn.initializers`.
    beta_regularizer, gamma_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for axes that are not the last ones, or of other sizes than at first.
    """

    def __init__(self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None,
                 gamma_regularizer: Any = None, input_shape: Any = None, name: str | None = None,
                 trainable: bool = True) -> None:
        super().__init__(epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
                         gamma_regularizer, input_shape, name, trainable)
        many = isinstance(axis, (list, tuple))
        self.axis = [axis_number(a, self.name) for a in axis] if many else axis_number(axis, self.name)

    def parameter_shape(self, shape: Shape) -> tuple[int, ...]:
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        places = sorted(a + len(shape) if a < 0 else a for a in axes)
        if not places or places[0] < 1 or places != list(range(places[0], len(shape))):
            raise ValueError(f"{self.name}: expected axis to be the last one, or several last ones without the batch, "
                             f"got axis={self.axis} for an input of shape {shape}; use axis=-1")
        return shape[places[0]:]

    def lower(self, plan: Lowering, x: Value) -> Value:
        """Several axes are normalised as one axis of channels."""
        shape = x.shape
        if len(self.sizes) > 1:
            x = plan.add(operations.Reshape([x], (*shape[:len(shape) - len(self.sizes)], prod(self.sizes)), self))
        y = plan.add(normalization.LayerNorm(x, self.gamma, self.beta, self.epsilon, layer=self))
        return y if y.shape == shape else plan.add(operations.Reshape([y], shape, self))


class GroupNormalization(_ChannelNormalization):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, groups of channels normalised (Wu & He, 2018).

    Input and output (batch, ..., channels); mean and (biased) variance are those of each sample, over all positions
    and the channels of one group. Weights `gamma` and `beta` (channels,).

    Parameters
    ----------
    groups : divides the channels; 1 normalises whole samples. -1: one group for each channel (instance normalisation).
    axis : the channels' axis: the last one, as -1 or by its number.
    epsilon : above 0.
    center, scale : whether there is a `beta`, a `gamma`.
    beta_initializer, gamma_initializer : see `fastcnn.initializers`.
    beta_regularizer, gamma_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments; when called, for another axis than the last, for channels that `groups` does not divide,
        or other ones than at first.
    """

    def __init__(self, groups: int = 32, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None,
                 gamma_regularizer: Any = None, input_shape: Any = None, name: str | None = None,
                 trainable: bool = True) -> None:
        super().__init__(epsilon, center, scale, beta_initializer, gamma_initializer, beta_regularizer,
                         gamma_regularizer, input_shape, name, trainable)
        self.groups = -1 if groups == -1 else whole_number(groups, "groups", self.name)
        self.axis = axis_number(axis, self.name)

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if input_shape[-1] % self.groups:
            raise ValueError(f"{self.name}: groups={self.groups} must divide the input's channels, got "
                             f"{input_shape[-1]} in an input of shape {tuple(input_shape)}; change groups")

    def lower(self, plan: Lowering, x: Value) -> Value:
        groups = x.shape[-1] if self.groups == -1 else self.groups
        return plan.add(normalization.GroupNorm(x, groups, self.gamma, self.beta, self.epsilon, layer=self))
