"""From a graph of layers to a list of fused operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn.graph import Graph, SymbolicTensor
from fastcnn.plan.normalization import Fold, MovingNorm, can_fold
from fastcnn.plan.operations import Activation, MaxPool, Operation, Python, Value


class Lowering:
    """Collects the operations that layers become; layers call `add` from their `lower`."""

    def __init__(self, training: bool):
        self.training = training
        self.ops: list[Operation] = []

    def add(self, op: Operation) -> Value:
        """Append an operation; its output."""
        self.ops.append(op)
        return op.y

    def python(self, layer: Any, inputs: Sequence[Value], shape) -> Value:
        """A layer that runs its own NumPy code; it keeps what its backward pass needs, hence once in training."""
        if self.training and any(op.layer is layer for op in self.ops):
            raise ValueError(f"{layer.name}: a layer written in NumPy can be called only once in a model that "
                             f"is trained; make another one for the second place")
        return self.add(Python(inputs, shape, layer, layer.variables))


def lower(graph: Graph, training: bool) -> tuple[list[Operation], dict[SymbolicTensor, Value]]:
    """(operations in order, fused; the value of each tensor of the graph).

    Of a tensor that an operation computes on the way to another, as a convolution does before its ReLU, there is no
    value in memory, but it still has its producer.
    """
    lowering = Lowering(training)
    values = {tensor: Value(tensor.sample_shape) for tensor in graph.inputs}
    for node in graph.nodes:
        values[node.outputs[0]] = node.layer.lower(lowering, *(values[tensor] for tensor in node.inputs))
    return fuse(lowering.ops, [values[tensor] for tensor in graph.outputs]), values


def fuse(ops: Sequence[Operation], outputs: Sequence[Value]) -> list[Operation]:
    """Let operations take over what alone reads their result.

    For convolutions and dense layers that is a ReLU, a max-pooling, and in inference a batch normalisation; for others
    a ReLU, if they can.
    """
    kept: list[Operation] = []
    for op in ops:
        before = op.inputs[0].producer if op.inputs else None
        alone = before is not None and op.inputs[0].consumers == [op] and op.inputs[0] not in outputs
        absorbed = alone and (
            (isinstance(op, Activation) and hasattr(before, "absorb_activation") and before.absorb_activation(op))
            or (isinstance(op, MaxPool) and hasattr(before, "absorb_pool") and before.absorb_pool(op)))
        if alone and isinstance(op, MovingNorm) and op.foldable and can_fold(before):
            kept.append(Fold(op, before))
        elif not absorbed:
            kept.append(op)
    return kept
