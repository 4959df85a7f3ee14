"""Symbolic tensors, nodes and their order: what a model is before it has a batch size.

A `Node` is one call of a layer, so a layer that is called twice has two nodes and one set of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from fastcnn.utils import real_number

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer


COMPUTE = "compute with layers: those of fastcnn.layers, or one of your own, written in NumPy"
REARRANGE = "use layers such as Cropping2D, Reshape, Flatten, Permute, Concatenate or GlobalAveragePooling2D"


def _no_numbers(tensor: SymbolicTensor, fact: str, instead: str) -> TypeError:
    return TypeError(f"{tensor!r} {fact}: it stands for what a layer will compute and holds no numbers; {instead}")


def _refused(fact: str, instead: str) -> Callable[..., NoReturn]:
    """A method of symbolic tensors that tells why it does not work."""
    def method(self: SymbolicTensor, *_arguments: Any, **_words: Any) -> NoReturn:
        raise _no_numbers(self, fact, instead)

    return method


class SymbolicTensor:
    """What a layer will produce: `shape` with None for the batch, and the node that makes it (None: an input)."""

    def __init__(self, shape: tuple[Any, ...], node: Node | None = None, name: str = ""):
        self.shape, self.node, self.name = shape, node, name

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<symbolic tensor {self.shape}{' ' + self.name if self.name else ''}>"

    # Some arithmetic makes layers; all else that wants numbers is refused.

    def __add__(self, other):
        return _combine("Add", self, other)

    def __radd__(self, other):
        return _combine("Add", other, self)

    def __sub__(self, other):
        return _combine("Subtract", self, other)

    def __rsub__(self, other):
        return _combine("Subtract", other, self)

    def __mul__(self, other):
        return _combine("Multiply", self, other)

    def __rmul__(self, other):
        return _combine("Multiply", other, self)

    def __truediv__(self, other):
        return _combine("Multiply", self, _reciprocal(other))

    def __neg__(self):
        return _combine("Multiply", self, -1.0)

    def __array_ufunc__(self, ufunc, method, *inputs, **words):
        layer = {"add": "Add", "subtract": "Subtract", "multiply": "Multiply"}.get(ufunc.__name__)
        if layer is None or method != "__call__" or words:
            raise _no_numbers(self, f"is no argument for numpy.{ufunc.__name__}", COMPUTE)
        return _combine(layer, *inputs)

    __array__ = _refused("is no array", f"{COMPUTE}, and call a Model on arrays to get arrays")
    __float__ = __int__ = __complex__ = _refused("is no number", "call a Model on arrays and take it from there")
    __len__ = _refused("has no length", "its sizes are in .shape, with None for the batch")
    __bool__ = _refused("is neither true nor false", "a graph is the same for all data and cannot depend on values")
    __iter__ = __getitem__ = __setitem__ = _refused("cannot be indexed", f"{REARRANGE}, or one of your own")
    __abs__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __rtruediv__ = __floordiv__ = __mod__ = _refused(
        "only takes +, -, * and division by a number", COMPUTE)
    __lt__ = __le__ = __gt__ = __ge__ = _refused("cannot be compared", COMPUTE)

    def __getattr__(self, name: str):
        raise AttributeError(f"a symbolic tensor has no attribute {name!r}: it stands for what a layer will compute; "
                             f"{REARRANGE}")


def _reciprocal(number: Any) -> float:
    """What to multiply by instead; TypeError for anything but a number, ValueError for 0."""
    where = "division of a symbolic tensor"
    if real_number(number, "the divisor", where) == 0:
        raise ValueError(f"{where}: the divisor must not be 0")
    return 1 / number


def _combine(layer: str, x: Any, y: Any) -> SymbolicTensor:
    from fastcnn.layers import merging

    return merging.combine(getattr(merging, layer), x, y)


class Node:
    """One call of `layer` on `inputs`."""

    def __init__(self, layer: Layer, inputs: list[SymbolicTensor]):
        self.layer, self.inputs = layer, inputs
        self.outputs: list[SymbolicTensor] = []
        self.models: tuple[Any, ...] = ()  # the models that were called to make it, the innermost first


class Graph:
    """The nodes between `inputs` and `outputs`, each after all that it needs.

    Raises
    ------
    ValueError
        When an output depends on a symbolic input that is not among `inputs`, or no output on one that is.
    """

    def __init__(self, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]):
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.nodes = self._ordered()
        self.layers = list(dict.fromkeys(node.layer for node in self.nodes))
        self._check_inputs()

    def _check_inputs(self) -> None:
        used = {tensor for node in self.nodes for tensor in node.inputs}.union(self.outputs)
        for i, tensor in enumerate(self.inputs):
            if tensor in self.inputs[:i]:
                raise ValueError(f"{tensor!r} appears twice among the inputs; give each once")
            if tensor not in used:
                raise ValueError(f"no output depends on the input {tensor!r}; connect it, or leave it out")

    def _ordered(self) -> list[Node]:
        """Depth first without recursion: models may be deeper than Python's stack."""
        done: dict[Node, None] = {}
        stack = [(tensor, False) for tensor in reversed(self.outputs)]
        while stack:
            tensor, expanded = stack.pop()
            if tensor in self.inputs or tensor.node in done:
                continue
            if tensor.node is None:
                raise ValueError(f"the outputs depend on {tensor!r}, which is not among the model's inputs; add it, or "
                                 f"check which tensor each layer was called on")
            if expanded:
                done[tensor.node] = None
            else:
                stack.append((tensor, True))
                stack.extend((source, False) for source in reversed(tensor.node.inputs))
        return list(done)
