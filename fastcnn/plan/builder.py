"""From operations to a program: steps, stages, memory.

Three decisions are made here, all from shapes alone, so that results never depend on the number of threads:

* Consecutive steps whose items are images are chained into one *stage*: a thread carries a chunk of images through
  all of them while they sit in its L2 cache. A step that wants all images at once (a dense layer, a weight gradient
  too large to copy) is a stage of its own, cut by output channels or input channels. A stage waits for the
  one before it.
* A buffer that lives and dies inside one chained stage is *local*: each thread has room for one chunk of it. All
  others have room for the whole batch, and share memory where no stage uses both.
* Weight gradients in a chained stage are summed per group of images, and the groups' sums added in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from fastcnn.arrays import aligned_zeros
from fastcnn.kernels import _eltwise
from fastcnn.kernels._executor import Stage
from fastcnn.kernels._gather import PackWeights
from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels.conv import LARGE_WEIGHTS
from fastcnn.plan.memory import Block, place
from fastcnn.plan.operations import NO_HALO, Operation, Value, merge_halos

# A chunk of images and what a stage does to it should stay in a core's L2 (1 to 2 MB today).
CHUNK_BYTES = 768 << 10
# Groups of images: work for that many threads; half or a quarter as many where partial gradients outgrow this memory.
MAX_GROUPS = 16
PARTIAL_BYTES = 5 << 20


class Buffer:
    """Memory of a value or gradient: (h, w, c) floats per image, with a halo of zeros around each image."""

    def __init__(self, n: int, hwc, halo=NO_HALO, root: Buffer | None = None, external=False):
        self.n, self.hwc = n, tuple(hwc)
        self.root = root.root if root else self
        self.halo = halo if root is None else self.root.halo if self.hwc == self.root.hwc else NO_HALO
        self.external = external    # the user reads or writes it between runs: never local
        self.is_input = False
        self.stages: set[int] = set()
        self.local_offset: int | None = None
        self.array: np.ndarray | None = None  # (n, h, w, c) view of the batch's memory
        self._tensor: Tensor | None = None

    @property
    def has_halo(self) -> bool:
        return self.root.halo != NO_HALO

    @property
    def padded(self):
        (top, bottom), (left, right) = self.halo
        h, w, c = self.hwc
        return top + h + bottom, left + w + right, c

    @property
    def image_bytes(self) -> int:
        return 4 * prod(self.padded)

    @property
    def tensor(self) -> Tensor:
        """What the drivers read and write; exists once memory is assigned."""
        if self._tensor is None:
            self._tensor = self.reshaped(self.hwc)
        return self._tensor

    def reshaped(self, hwc) -> Tensor:
        """The same memory seen as other pixels; with a halo there is only one way to see it."""
        root, shape = self.root, (self.n, *hwc)
        own = tuple(hwc) == root.hwc
        if root.halo != NO_HALO and not own:
            raise RuntimeError(f"memory of {root.hwc} with a halo cannot be seen as {tuple(hwc)}")
        halo = root.halo if own else NO_HALO
        if root.local_offset is not None:
            return Tensor(shape, None, halo, root.local_offset)
        array = root.array
        return Tensor(shape, array if own else array.reshape(shape), halo)

    def rows(self, first: int, count: int) -> Tensor:
        """Some rows of each image, such as one slice of a volume."""
        h, w, c = self.hwc
        if self.root.local_offset is None:
            return Tensor((self.n, count, w, c), self.tensor.owner[:, first:first + count])
        (top, bottom), sides = self.halo
        around = (top + first, bottom + h - first - count), sides
        return Tensor((self.n, count, w, c), None, around, self.root.local_offset)

    @property
    def view(self) -> np.ndarray:
        """The values as an array (n, h, w, c)."""
        return self.root.array.reshape(self.n, *self.hwc)

    def fill(self, values, where: str) -> None:
        """Overwrite with what a NumPy layer returned."""
        values = np.asarray(values)
        if values.size != self.n * prod(self.hwc) or len(values) != self.n:
            raise ValueError(f"{where} must return {self.n} samples of {prod(self.hwc)} numbers, got shape "
                             f"{values.shape}")
        self.root.array[...] = values.reshape(self.root.array.shape)


class ArgBuffer:
    """For each pooled value the tap it came from; whole batch."""

    def __init__(self, shape, wide: bool):
        self.array = np.zeros(shape, np.int32 if wide else np.uint8)


@dataclass(eq=False)
class Step:
    """One driver call (or a few) of the plan, made once memory is assigned."""

    name: str
    make: Callable[[], Sequence[Op]]
    buffers: list[Buffer]
    pipelined: bool
    weight_bytes: int
    partial: Any  # with `bytes` per group of images and `rows`, the groups: PartialGradient, or sums of an operation
    layer: Any
    python: Callable[[], None] | None = None


@dataclass(eq=False)
class PartialGradient:
    """The partial sums that one weight-gradient step writes, one row per group of images."""

    variables: list[Any]
    rows: int = 1
    arrays: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(v.value.nbytes for v in self.variables if v is not None)

    def __call__(self):
        """(dw, db) as (rows, ...) arrays; None for a missing bias."""
        return tuple(None if v is None else self.arrays[v].reshape(self.rows, *v.shape) for v in self.variables)


@dataclass(eq=False)
class StageDraft:
    """Steps that will run together."""

    steps: list[Step]
    pipelined: bool
    group: int = 1
    chunk: int = 1
    python: bool = False


class Builder:
    """Collects the steps of a pass over `n` samples and turns them into stages."""

    share_memory = True  # between buffers that are not in use at the same time

    def __init__(self, n: int, training: bool, inputs: Sequence[Value], outputs: Sequence[Value], gradients):
        self.n, self.training = n, training
        self.gradient_arrays = gradients  # Variable -> float32 array of its gradient
        self.steps: list[Step] = []
        self.deferred: list[Step] = []
        self.origins: dict[Op, Step] = {}  # for profiles: which step an op came from
        self.preparations: list[Op] = []
        self.packs: list[Op] = []
        self.weight_bytes = 0  # of packed weights and partial gradients
        self.buffers: dict[Value, Buffer] = {}
        self.grads: dict[Value, Buffer] = {}
        self.shared: set[Value] = set()  # values whose gradient is another value's too
        self.all_buffers: list[Buffer] = []
        self.partials: list[PartialGradient] = []
        self.python_gradients: list[Any] = []
        self.arg_buffers: dict[Operation, ArgBuffer] = {}
        self.streams: dict[Operation, int] = {}
        self.counter = np.zeros(2, np.uint64)
        self.needs_gradient: set[Value] = set()
        for value in [*inputs, *outputs]:
            self.buffer(value).external = True
        for value in inputs:
            self.buffers[value].is_input = True

    # -- buffers

    def new_buffer(self, hwc, halo=NO_HALO, **options) -> Buffer:
        buffer = Buffer(self.n, hwc, halo, **options)
        self.all_buffers.append(buffer)
        return buffer

    def buffer(self, value: Value) -> Buffer:
        """Where a value lives."""
        if value not in self.buffers:
            self.buffers[value] = self.new_buffer(value.hwc, value.halo)
        return self.buffers[value]

    def saved(self, value: Value) -> Buffer:
        """Where the one consumer of a value finds it in its backward pass.

        If the producer can, it computes the value anew: then neither pass needs it outside a chunk in the cache.
        """
        again = getattr(value.producer, "recompute", None)
        if again is None or len(value.consumers) > 1 or self.buffer(value).root.external:
            return self.buffer(value)
        buffer = self.scratch(value.shape, value.halo)
        again(self, buffer)
        return buffer

    def scratch(self, shape, halo=NO_HALO) -> Buffer:
        return self.new_buffer(Value(shape).hwc, halo)

    def alias(self, value: Value, buffer: Buffer) -> None:
        """`value` is what `buffer` holds, in another shape."""
        if value in self.buffers:  # an output: its memory was promised to the user
            buffer.root.external = True
        self.buffers[value] = Buffer(self.n, value.hwc, root=buffer)

    def args(self, op: Operation, shape, wide=False) -> ArgBuffer:
        if op not in self.arg_buffers:
            self.arg_buffers[op] = ArgBuffer((self.n, *shape), wide)
        return self.arg_buffers[op]

    def value(self, variable):
        return None if variable is None else variable.value

    def stream(self, op: Operation) -> int:
        """Number of an operation that draws random bits."""
        return self.streams.setdefault(op, len(self.streams))

    # -- gradients of values

    def find_gradients(self, ops: Sequence[Operation]) -> None:
        """Which values lie behind a trainable weight, and so need a gradient."""
        for op in ops:
            if any(v.trainable for v in op.variables) or any(x in self.needs_gradient for x in op.inputs):
                self.needs_gradient.add(op.y)

    def wants_gradient(self, value: Value) -> bool:
        return value in self.needs_gradient

    def grad(self, value: Value) -> Buffer:
        """Gradient of the loss with respect to a value."""
        if value not in self.grads:
            self.grads[value] = self.new_buffer(value.hwc, self.gradient_halo(value))
        return self.grads[value]

    def gradient_halo(self, value: Value):
        """Zeros around a value's gradient that the backward pass of its producer reads."""
        producer = value.producer
        bare = hasattr(producer, "grad_halo") and producer.activation == "linear" and not producer.pool
        return producer.grad_halo(self) if bare else NO_HALO

    @contextmanager
    def gradient_of(self, value: Value) -> Iterator[Buffer]:
        """Where a consumer writes its share; shares after the first are added to it."""
        with self.gradients_of([value]) as targets:
            yield targets[0] or self.scratch(value.shape)

    @contextmanager
    def gradients_of(self, values: Sequence[Value]) -> Iterator[list[Buffer | None]]:
        targets: list[Buffer | None] = []
        sums: list[tuple[Buffer, Buffer, Buffer]] = []
        for value in values:
            total, share = self.grads.get(value), None
            if self.wants_gradient(value) and total is None:
                share = self.grad(value)
            elif self.wants_gradient(value):
                share, target = self.scratch(value.shape), total
                if value in self.shared:  # the memory belongs to another gradient too: sum elsewhere
                    self.shared.remove(value)
                    del self.grads[value]
                    share = target = self.grad(value)
                sums.append((target, total, share))
            targets.append(share)
        yield targets
        for target, total, share in sums:
            self.step("add gradients", lambda y=target, t=total, s=share: [
                _eltwise.AddTensors(y.tensor, t.tensor, s.tensor)], [total, share], [target])

    def share_gradient(self, value: Value, buffer: Buffer) -> bool:
        """Let `buffer`, which holds the whole gradient of another value, be that of `value` too, if it can.

        It cannot where another consumer's share is there already, and should not where the producer of `value`
        would have to copy it, to have zeros around it. Later shares are added up elsewhere: nobody writes to
        `buffer` again.
        """
        wanted, halo = self.gradient_halo(value), buffer.root.halo
        same = value.hwc == buffer.root.hwc
        fits = merge_halos(wanted, halo) == halo if same else wanted == halo == NO_HALO
        if value in self.grads or not fits:
            return False
        self.grads[value] = Buffer(self.n, value.hwc, root=buffer)
        self.shared.add(value)
        return True

    # -- weights

    def prepare(self, op: Op) -> None:
        """Run `op`, which computes from weights alone, whenever these have changed, before weights are packed."""
        self.preparations.append(op)

    def weights(self, variable, shape, op, make, pack: bool, packer: type[Op] = PackWeights):
        """A function that gives the Weights; packed ones are filled by a step at the start of the program."""
        array = variable.value.reshape(shape)
        packed = aligned_zeros(make(array, None).packed_size) if pack else None
        weights = make(array, packed)
        if pack:
            self.weight_bytes += packed.nbytes
            self.packs.append(packer(weights))
        return lambda: weights

    def partial_gradients(self, kernel, bias) -> PartialGradient:
        partial = PartialGradient([kernel, bias])
        self.partials.append(partial)
        return partial

    def set_gradient(self, variable, gradient) -> None:
        """Take over a gradient that a NumPy layer computed."""
        if not variable.trainable:
            return
        if gradient is None:
            raise ValueError(f"{variable.layer.name}: backward must set self.gradients[{variable.name!r}]")
        self.gradient_arrays[variable][...] = np.asarray(gradient).reshape(variable.shape)

    # -- steps

    def step(self, name, make, reads, writes, layer=None, pipelined=True, weight_bytes=0, partial=None,
             deferred=False) -> None:
        """Add a step; `deferred` ones (nothing waits for them) run after all others."""
        buffers = [b for b in (*reads, *writes) if isinstance(b, Buffer)]
        if weight_bytes > LARGE_WEIGHTS:
            pipelined = False
        step = Step(name, make, buffers, pipelined, weight_bytes, partial, layer)
        (self.deferred if deferred else self.steps).append(step)

    def python_step(self, name, call, reads, writes, layer) -> None:
        for buffer in (*reads, *writes):
            buffer.root.external = True
        self.steps.append(Step(name, list, [], False, 0, None, layer, python=call))

    # -- stages

    def draft_stages(self) -> list[StageDraft]:
        """Chain steps over images until one needs all images or the weights outgrow the cache."""
        drafts: list[StageDraft] = []
        weight_bytes = 0
        for step in [*self.steps, *self.deferred]:
            chain = step.pipelined and drafts and drafts[-1].pipelined
            if chain and weight_bytes + step.weight_bytes <= LARGE_WEIGHTS:
                drafts[-1].steps.append(step)
                weight_bytes += step.weight_bytes
            else:
                drafts.append(StageDraft([step], step.pipelined, python=step.python is not None))
                weight_bytes = step.weight_bytes
        for index, draft in enumerate(drafts):
            for step in draft.steps:
                for buffer in step.buffers:
                    buffer.root.stages.add(index)
        for draft in drafts:
            if draft.pipelined:
                self.size_chunks(draft)
        return drafts

    def size_chunks(self, draft: StageDraft) -> None:
        """How many images a thread takes at once, and how many share a row of partial sums."""
        touched = {buffer.root for step in draft.steps for buffer in step.buffers}
        image_bytes = sum(buffer.image_bytes for buffer in touched)
        partial = sum(step.partial.bytes for step in draft.steps if step.partial)
        groups = MAX_GROUPS
        while groups > 1 and groups * partial > PARTIAL_BYTES:
            groups //= 2  # three or seven would leave two threads unequal shares
        draft.group = -(-self.n // groups)
        chunks = -(-draft.group // max(1, CHUNK_BYTES // max(1, image_bytes)))
        draft.chunk = -(-draft.group // chunks)  # of nearly equal size: some steps have a price for each
        for step in draft.steps:
            if step.partial is not None:
                step.partial.rows = -(-self.n // draft.group)

    def assign_memory(self, drafts: Sequence[StageDraft]) -> tuple[int, int]:
        """Place every buffer; (bytes of the batch's memory, bytes of each thread's local memory)."""
        roots = [b for b in self.all_buffers if b.root is b and (b.stages or b.external)]
        local, groups = [], defaultdict(list)
        for buffer in roots:
            if len(buffer.stages) == 1 and not buffer.external and drafts[next(iter(buffer.stages))].pipelined:
                local.append(buffer)
            else:
                # Nobody writes the zeros of a halo, so it shares memory only with halos in the same places.
                groups[(buffer.padded, buffer.halo) if buffer.has_halo else None].append(buffer)
        places, floats = [], 0
        for group in groups.values():
            offsets, size = place([self.block(buffer, len(drafts)) for buffer in group])
            places += [(buffer, floats + offset) for buffer, offset in zip(group, offsets, strict=True)]
            floats += size
        arena = aligned_zeros(floats)
        for buffer, offset in places:
            (top, _), (left, _) = buffer.halo
            h, w, _ = buffer.hwc
            size = self.n * prod(buffer.padded)
            full = arena[offset: offset + size].reshape(self.n, *buffer.padded)
            buffer.array = full[:, top:top + h, left:left + w]
        return arena.nbytes, assign_local(local, drafts)

    def block(self, buffer: Buffer, stages: int) -> Block:
        """What a buffer needs, in floats, and when; what the user reads or writes is in use all the time."""
        size = _round(self.n * prod(buffer.padded), 16) + 16
        if buffer.external or not self.share_memory:
            return Block(size, 0, stages)
        return Block(size, min(buffer.stages), max(buffer.stages))

    def assign_gradients(self) -> list[Op]:
        """Give every weight-gradient step its rows of partial sums; the ops that add the rows up."""
        shares = defaultdict(list)
        for partial in self.partials:
            for variable in partial.variables:
                if variable is not None:
                    shares[variable].append(partial)
        sums = []
        for variable, owners in shares.items():
            target = self.gradient_arrays[variable].reshape(1, -1)
            rows = sum(owner.rows for owner in owners)
            array = target if rows == 1 else aligned_zeros((rows, variable.value.size))
            row = 0
            for owner in owners:
                owner.arrays[variable] = array[row: row + owner.rows]
                row += owner.rows
            if rows > 1:
                self.weight_bytes += array.nbytes
                sums.append(_eltwise.Reduce(array, target[0]))
        return sums

    def finish(self, drafts: Sequence[StageDraft]) -> list[list[Stage]]:
        """The stages of the engine that each draft becomes."""
        stages = []
        for draft in drafts:
            origins = {op: step for step in draft.steps for op in step.make()}
            self.origins.update(origins)
            ops = list(origins)
            if draft.pipelined:
                stages.append([Stage(ops, self.n, draft.group, draft.chunk)])
            else:
                stages.append([Stage([op], op.items, -(-op.items // (2 * MAX_GROUPS))) for op in ops])
        return stages


def assign_local(buffers: Sequence[Buffer], drafts: Sequence[StageDraft]) -> int:
    """Place the local buffers of all stages; the bytes that a thread needs.

    Those with a halo have memory of their own, as nobody writes its zeros. The others of all stages share the rest, so
    that it stays in the cache.
    """
    common, ends = 0, defaultdict(int)
    for buffer in sorted(buffers, key=lambda buffer: not buffer.has_halo):
        (stage,) = buffer.stages
        size = _round(drafts[stage].chunk * buffer.image_bytes, 64)
        if buffer.has_halo:
            buffer.local_offset = common
            common += size
        else:
            buffer.local_offset = common + ends[stage]
            ends[stage] += size
    return common + max(ends.values(), default=0)


def _round(size: int, to: int) -> int:
    return -(-size // to) * to
