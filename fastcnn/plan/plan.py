"""A plan: one pass over a batch of fixed size, compiled for the engine.

`Plan.run` does the pass; while nothing changes it allocates nothing and calls Python once per segment (one, unless
NumPy layers or gradient clipping split it). Plans are immutable: another batch size is another plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arrays import read_only
from fastcnn.graph import Graph, SymbolicTensor
from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._load import Load
from fastcnn.plan.builder import Builder
from fastcnn.plan.losses import LossIO, add_loss, take_final_activation
from fastcnn.plan.lowering import lower
from fastcnn.plan.operations import Operation, Value
from fastcnn.plan.recompute import Segments, cut_after, smallest
from fastcnn.plan.stages import StageDraft, stages_of
from fastcnn.plan.updates import Updates
from fastcnn.store import Store

# A pass with less work takes one thread some 20 to 60 microseconds; waking another thread takes as long.
SERIAL_WORK = 2e6
VALUE_WORK = 8  # moving a value takes as long as so many operations on it


class Draft(NamedTuple):
    """A plan before its memory is assigned."""

    builder: Builder
    stages: list[StageDraft]
    losses: list[LossIO | None]

    @property
    def memory(self) -> int:
        """Bytes, at the present number of threads."""
        batch, local = self.builder.memory(self.stages)
        return batch + _cpu.get_num_threads() * local


def segments_of(ops: Sequence[Operation], values: Mapping[SymbolicTensor, Value],
                recompute: bool | Collection[SymbolicTensor], memory: Callable[[Segments], int]) -> Segments:
    """How to cut the operations of a training step: not at all, to need least memory, or after the tensors named."""
    if recompute is True:
        return smallest(ops, memory)
    return cut_after(ops, {values[tensor].producer for tensor in recompute or ()})


def add_backward(b: Builder, segments: Segments) -> None:
    """The backward steps of all segments; before those of each but the last, the steps that recompute its values."""
    for segment in reversed(segments):
        if segment is not segments[-1]:
            b.recompute(segment)
        for op in reversed(segment):
            if b.wants_gradient(op.y) and op.y in b.grads:
                op.backward(b)


class Plan:
    """Forward pass over `n` samples; with `losses` also their values; with `optimizer` a whole training step.

    inputs : `Load` ops, to be pointed at the batch before a run.
    outputs : read-only arrays (n, ...) that hold the predictions after a run.
    losses : for each output a `LossIO`, or None if it has no loss; or empty.

    With `recompute` a training step keeps only some activations: those of the given tensors and what else is read
    across them, or (True) those for which it takes least memory. Its results are the same bits.
    """

    def __init__(self, graph: Graph, n: int, store: Store, losses: Sequence[Any] = (), loss_weights=None,
                 optimizer=None, training: bool = False, weighted: bool = False, counter: np.ndarray | None = None,
                 recompute: bool | Collection[SymbolicTensor] = False):
        self.n, self.store, self.optimizer = n, store, optimizer
        train = optimizer is not None
        self.work = (3 if train else 1) * n * work_of(graph)
        ops, values = lower(graph, training or train)
        outputs = [values[tensor] for tensor in graph.outputs]
        logits = list(outputs)
        for i, loss in enumerate(losses):
            if loss is not None and outputs.count(outputs[i]) == 1:
                ops, logits[i] = take_final_activation(ops, outputs[i], loss)

        updates = self.updates = Updates(store, optimizer, ops) if train else None

        def draft(segments: Segments) -> Draft:
            b = Builder(n, training or train, [values[tensor] for tensor in graph.inputs], outputs,
                        store.gradient_views(), counter, updates)
            self._add_forward(b, [values[tensor] for tensor in graph.inputs], ops)
            io = [None if loss is None else add_loss(b, loss, logits[i], outputs[i], weighted, train, loss_weights[i])
                  for i, loss in enumerate(losses)]
            if train:
                add_backward(b, segments)
            return Draft(b, b.draft_stages(), io)

        def memory(segments: Segments) -> int:
            trial = draft(segments)
            needed = trial.memory
            trial.builder.steps.clear()  # which refer to the builder: it would wait for the garbage collector
            return needed

        self.inputs: list[Load] = []
        chosen = draft(segments_of(ops, values, recompute if train else False, memory))
        self.builder, self.losses = chosen.builder, chosen.losses
        self._compile(chosen, train)
        self.outputs = [read_only(self.builder.buffer(value).view.reshape(n, *value.shape)) for value in outputs]

    def _add_forward(self, b: Builder, inputs: Sequence[Value], ops: Sequence[Operation]) -> None:
        for i, value in enumerate(inputs):
            buffer = b.buffer(value)
            b.step(f"load input {i}", lambda buffer=buffer: self._load(buffer), [], [buffer])
        b.find_gradients(ops)
        for op in ops:
            op.forward(b)

    def _load(self, buffer):
        load = Load(buffer.tensor)
        self.inputs.append(load)
        return [load]

    def _compile(self, draft: Draft, train: bool) -> None:
        b, drafts = draft.builder, draft.stages
        self.activation_bytes, local = b.assign_memory(drafts)
        self.steps = [(step.name, step.layer) for draft in drafts for step in draft.steps]
        segments: list[Any] = [stages_of(b.preparations) + stages_of(b.packs)]
        self.pack_stages = len(segments[0])
        for one, stages in zip(drafts, b.finish(drafts), strict=True):
            segments[-1].extend(stages)
            if one.python:
                segments += [one.steps[0].python, []]
        if train:
            self.updates.add(segments)
        self._link(segments, local)

    @property
    def bytes(self) -> dict[str, int]:
        """The memory of the plan by use, at the present number of threads; weights and their moments excluded.

        'activations' is all that shares one array, in training also gradients, partial sums and packed weights; and the
        arrays of the losses.
        """
        threads = min(_cpu.get_num_threads(), max(1, self.program.groups))
        return {"activations": self.activation_bytes + sum(io.bytes for io in self.losses if io is not None),
                "weights": self.builder.weight_bytes,
                "threads": threads * (self.program.scratch + self.program.local)}

    def _link(self, segments: Sequence[Any], local: int) -> None:
        """One program for all stages, and the order of its parts and of the Python calls between them."""
        stages: list[Stage] = []
        self.calls: list[Callable[[], None] | tuple[int, int]] = []
        for segment in segments:
            if callable(segment):
                self.calls.append(segment)
            elif segment:
                self.calls.append((len(stages), len(stages) + len(segment)))
                stages += segment
        self.program = Program(stages, local, serial=self.work < SERIAL_WORK)

    def run(self, repack: bool = True) -> None:
        """The whole pass. `repack=False` when the weights are those of the last run."""
        if self.optimizer is not None:
            self.updates.refresh()
        for state in self.builder.seeded.values():
            state[1] = self.builder.counter[1]
        for call in self.calls:
            if isinstance(call, tuple):
                first, last = call
                self.program.run(first if repack else max(first, self.pack_stages), last)
            else:
                call()
        if self.builder.training:
            self.builder.counter[1] += 1
        if self.optimizer is not None:
            self.optimizer.iterations += 1


def work_of(graph: Graph) -> int:
    """Roughly, in floating-point operations, the forward pass of one sample."""
    return sum(node.layer.flops(node.outputs[0].shape) + VALUE_WORK * prod(node.outputs[0].sample_shape)
               for node in graph.nodes)
