"""The base of all layers, and the weights they own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import initializers, random, regularizers
from fastcnn.arrays import MOST_VALUES, as_float32
from fastcnn.errors import Explained, explained
from fastcnn.graph import Node, SymbolicTensor
from fastcnn.utils import flag, whole_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value

# Of Keras's layers.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "dtype": (None, "float32"), "data_format": (None, "channels_last"), "noise_shape": (None,), "mask": (None,),
    **dict.fromkeys(("bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint",
                     "depthwise_constraint", "pointwise_constraint", "beta_constraint", "gamma_constraint",
                     "alpha_constraint"), (None,)),
}

_names: Counter[str] = Counter()


def unique_name(kind: str) -> str:
    """'conv2d', then 'conv2d_1', ...: the class's name in snake case, numbered per process."""
    base = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])|(?<=\dD)(?=[A-Z])", "_", kind).lower()
    base = re.sub(r"_(\d)d\b", r"\1d", base)
    _names[base] += 1
    return base if _names[base] == 1 else f"{base}_{_names[base] - 1}"


def reserve_name(name: str) -> None:
    """Keep `unique_name` from giving out a name that a layer read from a file has."""
    base, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()
    _names[base] = max(_names[base], int(number or 0) + 1)


class Variable:
    """A weight: `value` is a float32 array that kernels read and optimisers change in place."""

    def __init__(self, value: np.ndarray, name: str, layer: Layer, trainable: bool = True, regularizer=None):
        self.value = np.ascontiguousarray(value, np.float32)
        self.name = name
        self.layer = layer
        self.own_trainable = trainable
        self.regularizer = regularizer

    @property
    def trainable(self) -> bool:
        return self.own_trainable and self.layer.trainable

    @property
    def path(self) -> str:
        """'layer/weight', unique within a model."""
        return f"{self.layer.name}/{self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return self.value.copy()

    def assign(self, value) -> None:
        """Overwrite the values; ValueError for another shape."""
        value = as_float32(value, None, f"{self.path}: the values")
        if value.shape != self.shape:
            raise ValueError(f"{self.path}: expected values of shape {self.shape}, got {value.shape}")
        self.value[...] = value

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype)

    def __repr__(self) -> str:
        return f"<Variable {self.path} {self.shape}>"


def assign_all(variables: Sequence[Variable], values: Sequence[np.ndarray], where: str) -> None:
    """Overwrite each variable; ValueError, with nothing changed, when the number of arrays or a shape does not fit."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{where}: expected a list of {len(variables)} arrays, got {values!r}")
    values = list(values)
    if len(values) != len(variables):
        raise ValueError(f"{where}: expected {len(variables)} arrays, got {len(values)}")
    for variable, value in zip(variables, values, strict=True):
        if np.shape(value) != variable.shape:
            raise ValueError(f"{where}: {variable.path} has shape {variable.shape}, got {np.shape(value)}")
    values = [as_float32(v, None, f"{where}: {variable.path}") for variable, v in zip(variables, values, strict=True)]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _weight_shape(shape: Any, where: str) -> tuple[int, ...]:
    """`shape` as a tuple of ints; a number stands for one axis."""
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(whole_number(size, "every size in shape", where, 0) for size in sizes)


class Layer(Explained):
    """A declaration: which shapes, which weights, and which operations of the engine it becomes.

    A layer of your own, in NumPy, defines `compute_output_shape(input_shape)`, `forward(x, training)` and
    `backward(dy)`, and `build(input_shape)` if it has weights (made with `add_weight`). Shapes have None for the
    batch. `forward` gets and returns float32 arrays with the batch first; `backward` gets the gradient of the loss
    with respect to what `forward` returned, sets `self.gradients[name]` for each weight, and returns the gradient
    with respect to `x`. The engine runs it among the compiled layers.

    Parameters
    ----------
    trainable : False freezes the weights.
    name : unique within a model; by default the class's name in snake case, numbered.

    Attributes
    ----------
    input_shape, output_shape : of the first and the latest call, None before.
    """

    neutral = NEUTRAL

    def __init__(self, trainable: bool = True, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{type(self).__name__}: name must be a string, got {name!r}")
        self.name = name or unique_name(type(self).__name__)
        self.trainable = trainable
        self.built = False
        self.variables: list[Variable] = []
        self.gradients: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []  # its calls on symbolic tensors
        self.input_shape: Any = None
        self.output_shape: Any = None

    def __getattr__(self, name: str):
        if "variables" not in vars(self):
            raise AttributeError(f"{type(self).__name__}.__init__ must call super().__init__() first")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, key, value):
        if key == "trainable" and not isinstance(value, (bool, np.bool_)):
            where = getattr(self, "name", type(self).__name__)
            raise TypeError(f"{where}: trainable must be True or False, got {value!r}")
        super().__setattr__(key, value)

    # -- building

    def build(self, input_shape) -> None:
        """Make the weights; called once, with the shape of the first input (None for the batch)."""

    def compute_output_shape(self, input_shape):
        """Shape of the output, None for the batch."""
        return input_shape

    def add_weight(self, shape: Sequence[int], initializer="glorot_uniform", name: str = "weight",
                   trainable: bool = True, regularizer=None) -> Variable:
        """Make a weight: a float32 `Variable` drawn from `initializer`, at the end of `variables`."""
        if any(variable.name == name for variable in self.variables):
            raise ValueError(f"{self.name}.add_weight: two weights named {name!r}; give each its own name=")
        trainable = flag(trainable, "trainable", f"{self.name}.add_weight")
        make, shape = initializers.get(initializer, self.name), _weight_shape(shape, f"{self.name}.add_weight")
        try:
            if prod(shape) > MOST_VALUES:
                raise MemoryError
            value = make(shape, random.generator())
        except MemoryError:
            raise MemoryError(f"{self.name}: no memory for the weight {name!r} of shape {shape}, "
                              f"{4 * prod(shape) / 2**30:.3g} GiB; check the layer's arguments and the shape of its "
                              f"input") from None
        variable = Variable(value, name, self, trainable, regularizers.get(regularizer, self.name))
        self.variables.append(variable)
        return variable

    # -- calling

    @explained
    def __call__(self, inputs, training: bool = False):
        """On symbolic tensors: a node of a graph. On arrays: one forward pass."""
        if hasattr(type(self), "call"):
            raise TypeError(f"{self.name}: a layer has no call method here; what is made of other layers is a subclass "
                            f"of Model, what computes in NumPy defines forward and backward")
        many = isinstance(inputs, (list, tuple))
        tensors = list(inputs) if many else [inputs]
        if not tensors:
            raise ValueError(f"{self.name}: called on an empty list")
        if not all(isinstance(t, SymbolicTensor) for t in tensors):
            if any(isinstance(t, SymbolicTensor) for t in tensors):
                other = next(t for t in tensors if not isinstance(t, SymbolicTensor))
                raise TypeError(f"{self.name}: called on symbolic tensors and {type(other).__name__} together; arrays "
                                f"enter a graph as an Input, constants by operators such as 2 * x")
            from fastcnn.models import run_layer
            return run_layer(self, tensors, training)
        shapes = [t.shape for t in tensors]
        self.ensure_built(shapes if many else shapes[0])
        shape = self.output_shape_of(shapes if many else shapes[0])
        node = Node(self, tensors)
        node.outputs = [SymbolicTensor(tuple(shape), node, self.name)]
        self.nodes.append(node)
        return node.outputs[0]

    @property
    def input(self):
        """The symbolic tensor, or list of them, that the layer was called on; ValueError unless that was once."""
        inputs = self._only_node().inputs
        return inputs if len(inputs) > 1 else inputs[0]

    @property
    def output(self) -> SymbolicTensor:
        """The symbolic tensor that the layer gave; ValueError unless it was called once."""
        return self._only_node().outputs[0]

    def _only_node(self) -> Node:
        if len(self.nodes) != 1:
            raise ValueError(f"{self.name} was called {len(self.nodes)} times on symbolic tensors, so it has no single "
                             f"input and output; keep the tensor that the call returned")
        return self.nodes[0]

    def ensure_built(self, input_shape) -> None:
        """Build on the first call; later calls must agree with the weights."""
        if not self.built:
            self.check_input(input_shape)
            self.build(input_shape)
            self.built = True
            self.input_shape = input_shape
        else:
            self.check_input(input_shape)

    def output_shape_of(self, input_shape):
        """`compute_output_shape`, kept as `output_shape`."""
        shape = self.compute_output_shape(input_shape)
        if not isinstance(shape, (tuple, list)) or len(shape) == 0 or shape[0] is not None or None in shape[1:]:
            raise ValueError(f"{self.name}: compute_output_shape must return a shape with None for the batch and "
                             f"nothing else unknown, such as (None, 10), got {shape!r} for an input of shape "
                             f"{input_shape}")
        self.output_shape = tuple(shape)
        return self.output_shape

    def check_input(self, input_shape) -> None:
        """Raise ValueError for an input shape that this layer cannot take."""

    # -- running

    def lower(self, plan: Lowering, *inputs: Value) -> Value:
        """The operations of the engine that this layer becomes."""
        shapes = [(None, *x.shape) for x in inputs]
        shape = self.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])
        return plan.python(self, inputs, shape[1:])

    def forward(self, x, training: bool):
        """The output for x, an array or a list of them, the batch first: for layers written in NumPy."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, training)")

    def backward(self, dy):
        """The gradient with respect to x, from that of the output; sets `gradients` of the weights."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(dy)")

    def flops(self, output_shape) -> int:
        """Floating-point operations of a forward pass on one sample, two per multiply-add."""
        return 0

    # -- weights

    @property
    def weights(self) -> list[Variable]:
        """All weights, kernel before bias."""
        return list(self.variables)

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes; none in a frozen layer."""
        return [v for v in self.variables if v.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other weights: moving averages, and all of a frozen layer."""
        return [v for v in self.variables if not v.trainable]

    trainable_variables, non_trainable_variables = trainable_weights, non_trainable_weights

    def count_params(self) -> int:
        """How many numbers the weights hold."""
        return sum(v.value.size for v in self.variables)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights, kernel before bias."""
        return [v.numpy() for v in self.variables]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Overwrite the weights with arrays of the same shapes in the same order."""
        assign_all(self.variables, weights, self.name)

    # -- files

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON values."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """A layer from what `get_config` gave."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
