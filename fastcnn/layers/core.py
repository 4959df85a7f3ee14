"""Where a model begins, and dense layers and changes of shape."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn import initializers, regularizers
from fastcnn.graph import SymbolicTensor
from fastcnn.layers.activations import activation_name, lower_activation
from fastcnn.layers.arguments import Shape, sample_shape
from fastcnn.layers.base import unique_name
from fastcnn.layers.declared import DeclaredLayer
from fastcnn.plan import convolution, operations
from fastcnn.utils import flag, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value

ONE_PIXEL = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1}


def Input(shape: Any = None, batch_size: int | None = None, name: str | None = None,  # noqa: N802
          dtype: Any = None, batch_shape: Any = None) -> SymbolicTensor:
    """A symbolic input of a model, of shape (None, *shape).

    Parameters
    ----------
    shape : shape of one sample, without the batch axis, such as (28, 28, 1) or (784,).
    batch_size : checked, but not used: a model takes batches of any size.
    name : what errors call it.
    dtype : 'float32' or None. Arrays of any real dtype may be given to the model, which computes in float32.
    batch_shape : instead of `shape`, with the size of the batch, or None, before it.

    Raises
    ------
    TypeError, ValueError
        When `shape` is no tuple of known, positive sizes, or `dtype` another one.
    """
    if batch_shape is not None:
        if shape is not None or batch_size is not None:
            raise ValueError("Input: give either shape and batch_size, or batch_shape")
        if not isinstance(batch_shape, (tuple, list)) or len(batch_shape) < 2:
            raise TypeError(f"Input: batch_shape must be a tuple such as (None, 28, 28, 1), got {batch_shape!r}")
        batch_size, *shape = batch_shape
    if batch_size is not None:
        whole_number(batch_size, "batch_size", "Input")
    if dtype is not None and getattr(dtype, "name", getattr(dtype, "__name__", dtype)) != "float32":
        raise ValueError(f"Input: dtype must be 'float32' or None, got {dtype!r}; leave it out: arrays of any real "
                         f"dtype may be given to the model, which computes in float32")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"Input: name must be a string, got {name!r}; a shape is one tuple, such as (28, 28, 1)")
    return SymbolicTensor((None, *sample_shape(shape, "shape", "Input")), None, name or unique_name("Input"))


class InputLayer(DeclaredLayer):
    """The first layer of a Sequential model, which gives the shape of one sample.

    Parameters
    ----------
    shape : shape of one sample, without the batch axis.
    """

    def __init__(self, shape: Any, name: str | None = None) -> None:
        super().__init__(None, name)
        self.shape = self.given_input_shape = sample_shape(shape, "shape", self.name)

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if tuple(input_shape[1:]) != self.shape:
            raise ValueError(f"{self.name}: expected samples of shape {self.shape}, got an input of shape "
                             f"{tuple(input_shape)}; reshape the input or change the layer's shape")

    def lower(self, plan: Lowering, x: Value) -> Value:
        return x


class Dense(DeclaredLayer):
    """y = activation(x w + b) over the last axis.

    Input (batch, ..., features), output (batch, ..., units); weights `kernel` (features, units) and `bias`
    (units,).

    Parameters
    ----------
    units : number of outputs.
    activation : a name, see `Activation`.
    use_bias : whether there is a `bias`.
    kernel_initializer, bias_initializer : see `fastcnn.initializers`.
    kernel_regularizer : see `fastcnn.regularizers`.

    Raises
    ------
    ValueError, TypeError
        For wrong arguments, and when called, for inputs with other features than at first.
    """

    def __init__(self, units: int, activation: str | None = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 kernel_regularizer: Any = None, input_shape: Any = None, name: str | None = None,
                 trainable: bool = True) -> None:
        super().__init__(input_shape, name, trainable)
        self.units = whole_number(units, "units", self.name)
        self.activation = activation_name(activation, self.name)
        self.use_bias = flag(use_bias, "use_bias", self.name)
        self.kernel_initializer = initializers.get(kernel_initializer, self.name)
        self.bias_initializer = initializers.get(bias_initializer, self.name)
        self.kernel_regularizer = regularizers.get(kernel_regularizer, self.name)
        self.features: int | None = None

    def check_input(self, input_shape: Any) -> None:
        super().check_input(input_shape)
        if len(input_shape) < 2:
            raise ValueError(f"{self.name}: expected an input of shape (batch, ..., features), got "
                             f"{tuple(input_shape)}; add the features axis, e.g. x[:, None]")
        if self.features not in (None, input_shape[-1]):
            raise ValueError(f"{self.name}: expected {self.features} features on the last axis, for which "
                             f"its weights were made, got {input_shape[-1]} in an input of shape "
                             f"{tuple(input_shape)}; give it {self.features}, or make a new layer")

    def build(self, input_shape: Shape) -> None:
        self.features = input_shape[-1]
        self.kernel = self.add_weight((self.features, self.units), self.kernel_initializer, "kernel",
                                      regularizer=self.kernel_regularizer)
        self.bias = self.add_weight((self.units,), self.bias_initializer, "bias") if self.use_bias else None

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], self.units)

    def lower(self, plan: Lowering, x: Value) -> Value:
        """A convolution of one pixel; all axes before the last are pixels."""
        y = plan.add(convolution.Conv(x, ONE_PIXEL, self.kernel, self.bias, layer=self))
        return lower_activation(plan, y, self.activation, self)

    def flops(self, output_shape: Shape) -> int:
        return 2 * prod(output_shape[1:]) * self.kernel.shape[0]


class Flatten(DeclaredLayer):
    """All values of a sample in one axis: (batch, h, w, c) becomes (batch, h * w * c)."""

    def __init__(self, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (prod(shape),)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Reshape([x], self.sample_output(x.shape), self))


class Reshape(DeclaredLayer):
    """The values of each sample in another shape, in the same order.

    Parameters
    ----------
    target_shape : shape of one sample, without the batch axis; one size may be -1, which takes what is left.

    Raises
    ------
    TypeError, ValueError
        When `target_shape` is no tuple of sizes; when called, for inputs with another number of values.
    """

    def __init__(self, target_shape: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        free = isinstance(target_shape, (tuple, list)) and -1 in target_shape
        if free and target_shape.count(-1) > 1:
            raise ValueError(f"{self.name}: target_shape may hold one -1, got {target_shape!r}; give all "
                             f"other sizes")
        known = [1 if size == -1 else size for size in target_shape] if free else target_shape
        sizes = sample_shape(known, "target_shape", self.name)
        self.target_shape = tuple(-1 if wanted == -1 else size
                                  for wanted, size in zip(target_shape, sizes, strict=True))

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        size, known = prod(shape), abs(prod(self.target_shape))
        if size % known or (-1 not in self.target_shape and size != known):
            room = f"a multiple of {known}" if -1 in self.target_shape else f"{known}"
            raise ValueError(f"{self.name}: expected a target_shape for the {size} values of a sample of "
                             f"shape {shape}, got {self.target_shape}, which holds {room}; change it")
        return tuple(size // known if s == -1 else s for s in self.target_shape)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Reshape([x], self.sample_output(x.shape), self))
