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

    def may_run_beside(self, others: Sequence[Step]) -> bool:
        """Whether steps over all images, this one last, need not wait for each other."""
        steps = [*others, self]
        written = {buffer.root for step in steps for buffer in step.writes}
        apart = not any(buffer.root in written for step in steps for buffer in step.reads)
        shared = any(one in self.others for step in others for one in step.others)
        return apart and not shared and not any(step.pipelined or step.python for step in steps)


@dataclass(eq=False)
class StageDraft:
    """Steps that will run together: a chain over images, or steps over all of them that do not wait for each other."""

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

    Deferred steps come where a chain has ended, beside the step that ends it if they can.
    """
    drafts: list[StageDraft] = []
    waiting: list[Step] = []
    for step in steps:
        if step.deferred:
            waiting.append(step)
        elif drafts and drafts[-1].takes(step):
            drafts[-1].steps.append(step)
        else:
            beside = step.may_run_beside(waiting)
            drafts += [StageDraft([*waiting, step])] if beside else [StageDraft([one]) for one in [*waiting, step]]
            waiting = []
    return drafts + [StageDraft([one]) for one in waiting]


def weights_of(drafts: Sequence[StageDraft]) -> list[PackedWeights]:
    """What is packed for these stages, each once."""
    return list(dict.fromkeys(weights for draft in drafts for step in draft.steps for weights in step.weights))


def stages_of(ops: Sequence[Op], barrier: bool = True) -> list[Stage]:
    """Independent ops; with a `barrier`, what comes next waits for all of them."""
    return [Stage([op], op.items, max(1, op.items // 32), barrier=barrier and op is ops[-1]) for op in ops]
