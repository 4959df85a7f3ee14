"""Symbolic tensors, nodes and their order: what a model is before it has a batch size.

A `Node` is one call of a layer, so a layer that is called twice has two nodes and one set of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.utils import real_number

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer


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

    # Arithmetic makes layers. NumPy must leave `array + tensor` to the methods here, which refuse it.
    __array_ufunc__ = None

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

    def __array__(self, *_args, **_kwargs):
        raise TypeError(f"{self!r} stands for a layer's output and holds no numbers; build a Model and call it "
                        f"with an array")


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
