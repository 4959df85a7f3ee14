"""Steps, and what runs together: chains of steps over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastcnn.kernels._executor import Stage
from fastcnn.kernels._op import Op
from fastcnn.kernels.conv import LARGE_WEIGHTS
from fastcnn.plan.buffers import ArgBuffer, Buffer, PackedWeights, PartialSums


@dataclass(eq=False)
class Step:
    """One driver call (or a few) of the plan, made once memory is assigned.

    Nothing waits for a `deferred` one: it runs when a chain of others has ended. One that `recomputes` writes anew what
    a step before it has written to memory that was given up meanwhile.
    """

    name: str
    make: Callable[[], Sequence[Op]]
    reads: list[Buffer]
    writes: list[Buffer]
    layer: Any = None
    pipelined: bool = False
    weight_bytes: int = 0
    partial: Any = None  # with `bytes` per group of images and `rows`, the groups: PartialGradient, or an operation's
    deferred: bool = False
    recomputes: bool = False
    cut: tuple[int, int] | None = None  # images per group, which share a row of partial sums, and per chunk
    python: Callable[[], None] | None = None
    weights: list[PackedWeights] = field(default_factory=list)
    others: list[ArgBuffer | PartialSums] = field(default_factory=list)  # that it reads or writes

    @property
    def buffers(self) -> list[Buffer]:
        return [*self.reads, *self.writes]


@dataclass(eq=False)
class StageDraft:
    """Steps that will run together."""

    steps: list[Step]

    @property
    def pipelined(self) -> bool:
        return self.steps[0].pipelined

    @property
    def python(self) -> bool:
        return self.steps[0].python is not None

    @property
    def cut(self) -> tuple[int, int] | None:
        """Images per group and per chunk; None before the builder has decided."""
        return next((step.cut for step in self.steps if step.cut), None)

    def takes(self, step: Step) -> bool:
        """Whether a step can be chained to these."""
        weight_bytes = step.weight_bytes + sum(one.weight_bytes for one in self.steps)
        same_cut = self.cut is None or step.cut in (None, self.cut)
        return self.pipelined and step.pipelined and same_cut and weight_bytes <= LARGE_WEIGHTS


def chain(steps: Sequence[Step]) -> list[StageDraft]:
    """Steps over images together, until one needs all images or the weights outgrow the cache.

    Deferred steps come, each alone, where a chain has ended.
    """
    drafts: list[StageDraft] = []
    waiting: list[StageDraft] = []
    for step in steps:
        if step.deferred:
            waiting.append(StageDraft([step]))
        elif drafts and drafts[-1].takes(step):
            drafts[-1].steps.append(step)
        else:
            drafts += [*waiting, StageDraft([step])]
            waiting = []
    return drafts + waiting


def weights_of(drafts: Sequence[StageDraft]) -> list[PackedWeights]:
    """What is packed for these stages, each once."""
    return list(dict.fromkeys(weights for draft in drafts for step in draft.steps for weights in step.weights))


def stages_of(ops: Sequence[Op], barrier: bool = True) -> list[Stage]:
    """Independent ops; with a `barrier`, what comes next waits for all of them."""
    return [Stage([op], op.items, max(1, op.items // 32), barrier=barrier and op is ops[-1]) for op in ops]
