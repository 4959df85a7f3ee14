"""Layers that merge branches of a graph.

Each is called on a list of two or more symbolic tensors, or arrays. All but `Concatenate` work element by element:
along every axis, sizes must be equal or 1, and where some are 1 those entries serve all others; an input with fewer
axes gets axes of one entry after the batch, so that (batch, c) or (batch, 1, 1, c) scale the channels of images
(batch, h, w, c). `x + y`, `x - y` and `x * y` on symbolic tensors make `Add`, `Subtract` and `Multiply`.

ValueError is raised for one input alone, and for shapes that do not fit together; TypeError for what is no list.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn.errors import explained
from fastcnn.graph import SymbolicTensor
from fastcnn.layers.arguments import Shape
from fastcnn.layers.base import Layer
from fastcnn.layers.declared import DeclaredLayer
from fastcnn.layers.preprocessing import Rescaling
from fastcnn.plan.merging import Concatenate as ConcatenateOperation
from fastcnn.plan.merging import Merge
from fastcnn.plan.operations import Value
from fastcnn.utils import real_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering


class MergingLayer(DeclaredLayer):
    """What all of them share: several inputs, of known shapes that fit together."""

    most = None  # how many inputs it takes, if not any number

    def __init__(self, name: str | None = None) -> None:
        super().__init__(None, name)

    @explained
    def __call__(self, inputs: Any, training: bool = False) -> Any:
        if isinstance(inputs, (list, tuple)) and all(isinstance(x, SymbolicTensor) for x in inputs):
            self.check_branches([x.shape for x in inputs], [x.name for x in inputs])
        return super().__call__(inputs, training)

    def check_input(self, input_shape: Any) -> None:
        if not input_shape or not isinstance(input_shape[0], (tuple, list)):
            raise TypeError(f"{self.name}: expected a list of two or more inputs, got one of shape "
                            f"{tuple(input_shape)}; write {type(self).__name__}()([x, y])")
        self.check_branches(input_shape, [f"input {i}" for i in range(len(input_shape))])

    def check_branches(self, shapes: Sequence[Shape], names: Sequence[str]) -> None:
        """Raise ValueError unless shapes of these names can be merged."""
        if len(shapes) < 2 or len(shapes) > (self.most or len(shapes)):
            raise ValueError(f"{self.name}: expected {'two' if self.most else 'two or more'} inputs, got "
                             f"{len(shapes)}; give a list such as [x, y]")
        for shape, name in zip(shapes, names, strict=True):
            if None in shape[1:]:
                raise ValueError(f"{self.name}: expected known sizes after the batch axis, got {tuple(shape)} "
                                 f"from {name}; give every size in Input or input_shape")
        for i, shape in enumerate(shapes[1:], 1):
            self.check_pair([tuple(s[1:]) for s in shapes[:i]], tuple(shape[1:]), names[:i], names[i])

    def check_pair(self, before: Sequence[Shape], shape: Shape, names: Sequence[str], name: str) -> None:
        """Raise ValueError unless an input fits those before it."""
        raise NotImplementedError

    def merged(self, shapes: Sequence[Shape]) -> Shape:
        """Shape of one sample of the result, for samples of these shapes."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Shape:
        self.check_input(input_shape)
        return (input_shape[0][0], *self.merged([tuple(shape[1:]) for shape in input_shape]))


class _Elementwise(MergingLayer):
    """Sums, products and the like."""

    kind = ""

    def check_pair(self, before: Sequence[Shape], shape: Shape, names: Sequence[str], name: str) -> None:
        for other, other_name in zip(before, names, strict=True):
            if broadcast(other, shape) is None:
                raise ValueError(f"{self.name}: cannot {self.kind} {other_name} of shape {(None, *other)} and {name} "
                                 f"of shape {(None, *shape)}: along every axis sizes must be equal or 1; check the "
                                 f"strides, padding and filters of both branches, or bring one to the other's shape "
                                 f"with a Conv2D(filters, 1, strides=...)")

    def merged(self, shapes: Sequence[Shape]) -> Shape:
        shape: Any = shapes[0]
        for other in shapes[1:]:
            shape = broadcast(shape, other)
        pixels = Value(shape).hwc
        for other in shapes:
            if any(size not in (1, whole) for size, whole in zip(Value(other).hwc, pixels, strict=True)):
                raise ValueError(f"{self.name}: with four axes or more besides the batch, all but the last two must "
                                 f"be equal or all 1, got {other} for a result of {shape}; Reshape the inputs first")
        return shape

    def lower(self, plan: Lowering, *inputs: Value) -> Value:
        return plan.add(Merge(inputs, self.kind, self.merged([x.shape for x in inputs]), layer=self))

    def flops(self, output_shape: Shape) -> int:
        return (len(self.input_shape) - 1) * prod(output_shape[1:])


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """The shape of both together, or None where they do not fit."""
    rank = max(len(a), len(b))
    pairs = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    return tuple(max(pair) for pair in pairs) if all(m == n or 1 in (m, n) for m, n in pairs) else None


class Add(_Elementwise):
    """The sum of the inputs; see `fastcnn.layers.merging` for shapes. A ReLU after it costs nothing."""

    kind = "add"


class Subtract(_Elementwise):
    """The first input minus the second; see `fastcnn.layers.merging` for shapes."""

    kind = "subtract"
    most = 2


class Multiply(_Elementwise):
    """The product of the inputs; see `fastcnn.layers.merging` for shapes."""

    kind = "multiply"


class Average(_Elementwise):
    """The mean of the inputs; see `fastcnn.layers.merging` for shapes."""

    kind = "average"


class Maximum(_Elementwise):
    """The largest of the inputs, element by element; of equal ones, the first gets the gradient."""

    kind = "maximum"


class Minimum(_Elementwise):
    """The smallest of the inputs, element by element; of equal ones, the first gets the gradient."""

    kind = "minimum"


class Concatenate(MergingLayer):
    """The inputs one after another along an axis.

    Parameters
    ----------
    axis : the axis, the batch being 0; -1 is the last. All others must have equal sizes.

    Raises
    ------
    TypeError, ValueError
        When `axis` is no axis but the batch's, or the inputs do not fit.
    """

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise TypeError(f"{self.name}: axis must be a whole number, got {axis!r}; use -1, the last axis")
        self.axis = axis

    def check_pair(self, before: Sequence[Shape], shape: Shape, names: Sequence[str], name: str) -> None:
        first, at = before[0], self.axis_of(before[0])
        others = [s[:at] + s[at + 1:] for s in (first, shape)]
        if len(first) != len(shape) or others[0] != others[1]:
            raise ValueError(f"{self.name}: cannot join {names[0]} of shape {(None, *first)} and {name} of shape "
                             f"{(None, *shape)} along axis {self.axis}: all other sizes must be equal; crop, pad or "
                             f"resize one of the branches")

    def axis_of(self, shape: Shape) -> int:
        """Which axis of a sample is meant."""
        axis = self.axis + len(shape) if self.axis < 0 else self.axis - 1
        if not 0 <= axis < len(shape):
            raise ValueError(f"{self.name}: expected axis to be one of 1 to {len(shape)} or -1 to {-len(shape)} for "
                             f"inputs of shape {(None, *shape)}, got {self.axis}; images join along -1, the channels")
        if len(shape) > 3 and 0 < axis < len(shape) - 2:
            raise ValueError(f"{self.name}: inputs of shape {(None, *shape)} can be joined along the first or one of "
                             f"the last two axes, got axis={self.axis}; Reshape them first")
        return axis

    def merged(self, shapes: Sequence[Shape]) -> Shape:
        axis = self.axis_of(shapes[0])
        return tuple(sum(s[axis] for s in shapes) if i == axis else size for i, size in enumerate(shapes[0]))

    def lower(self, plan: Lowering, *inputs: Value) -> Value:
        shape = inputs[0].shape
        from_end = len(shape) - self.axis_of(shape)
        return plan.add(ConcatenateOperation(inputs, 3 - min(from_end, 3), self.merged([x.shape for x in inputs]),
                                             layer=self))


def add(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Add` on `inputs`."""
    return Add(name=name)(inputs)


def subtract(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Subtract` on `inputs`."""
    return Subtract(name=name)(inputs)


def multiply(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Multiply` on `inputs`."""
    return Multiply(name=name)(inputs)


def average(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Average` on `inputs`."""
    return Average(name=name)(inputs)


def maximum(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Maximum` on `inputs`."""
    return Maximum(name=name)(inputs)


def minimum(inputs: Sequence[Any], name: str | None = None) -> Any:
    """Call a new `Minimum` on `inputs`."""
    return Minimum(name=name)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, name: str | None = None) -> Any:
    """Call a new `Concatenate` along `axis` on `inputs`."""
    return Concatenate(axis, name)(inputs)


def combine(layer: type[Layer], x: Any, y: Any) -> Any:
    """What an operator between symbolic tensors, or with a number, makes; TypeError for anything else."""
    if isinstance(x, SymbolicTensor) and isinstance(y, SymbolicTensor):
        return layer()([x, y])
    tensor, other = (x, y) if isinstance(x, SymbolicTensor) else (y, x)
    try:
        number = real_number(other, "the other operand", f"operator on {tensor!r}")
    except TypeError:
        raise TypeError(f"{layer.__name__} of {tensor!r}: the other operand must be a symbolic tensor or a number, "
                        f"got {type(other).__name__}; arrays enter a graph as an Input") from None
    if layer is Multiply:
        return Rescaling(number)(tensor)
    if layer is Add:
        return Rescaling(1.0, number)(tensor)
    return Rescaling(1.0, -number)(x) if x is tensor else Rescaling(-1.0, number)(y)
