"""From operations to a program: steps, stages, memory.

Three decisions are made here, all from shapes alone, so that results never depend on the number of threads:

* Consecutive steps whose items are images are chained into one *stage*: a thread carries a chunk of images through
  all of them while they sit in its L2 cache. A step that wants all images at once (a dense layer, a weight gradient
  too large to copy) is a stage of its own, cut by output channels or input channels. A stage waits for the
  one before it.
* A buffer that lives and dies inside one chained stage is *local*: each thread has room for one chunk of it. All
  others have room for the whole batch. Either kind shares memory where no step, or no stage, uses both; within a stage
  a buffer of the batch may take over the place of another, image by image.
* Weight gradients in a chained stage are summed per group of images, and the groups' sums added in order.

Packed weights and the groups' sums lie among the batch's buffers, and have their places only as long as needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from fastcnn.arrays import ALIGN, aligned_zeros
from fastcnn.kernels import _eltwise
from fastcnn.kernels._executor import Stage
from fastcnn.kernels._gather import PackWeights
from fastcnn.kernels._op import Op
from fastcnn.kernels.conv import LARGE_WEIGHTS
from fastcnn.plan.buffers import (
    FLOAT,
    ArgBuffer,
    Buffer,
    GradientRows,
    PackedWeights,
    PartialGradient,
    PartialSums,
    Succession,
)
from fastcnn.plan.memory import Block, Layout
from fastcnn.plan.operations import NO_HALO, Operation, Value, merge_halos
from fastcnn.plan.recompute import inner_values
from fastcnn.plan.stages import StageDraft, Step, chain, stages_of, weights_of
from fastcnn.plan.updates import Updates

# A chunk of images and what a stage does to it should stay in a core's L2 (1 to 2 MB today).
CHUNK_BYTES = 768 << 10
# Groups of images: work for that many threads; half or a quarter as many where partial gradients outgrow this memory.
MAX_GROUPS = 16
PARTIAL_BYTES = 5 << 20


class Builder:
    """Collects the steps of a pass over `n` samples and turns them into stages."""

    share_memory = True  # between buffers that are not in use at the same time

    def __init__(self, n: int, training: bool, inputs: Sequence[Value], outputs: Sequence[Value], gradients,
                 counter: np.ndarray | None = None, updates: Updates | None = None):
        self.n, self.training, self.updates = n, training, updates
        self.gradient_arrays = gradients  # Variable -> float32 array of its gradient
        self.steps: list[Step] = []
        self.recomputing = False  # whether steps are added that recompute
        self.origins: dict[Op, Step] = {}  # for profiles: which step an op came from
        self.preparations: list[Op] = []
        self.packs: list[Op] = []
        self.weight_bytes = 0  # of weights that stay packed
        self.buffers: dict[Value, Buffer] = {}
        self.grads: dict[Value, Buffer] = {}
        self.shared: set[Value] = set()  # values whose gradient is another value's too
        self.all_buffers: list[Buffer] = []
        self.gradient_rows: dict[Any, GradientRows] = {}
        self.arg_buffers: dict[Operation, ArgBuffer] = {}
        self.sums: list[PartialSums] = []
        self.streams: dict[Operation, int] = {}
        self.seeded: dict[int, np.ndarray] = {}  # seed -> [seed, step], for operations with a seed of their own
        self.counter = np.zeros(2, np.uint64) if counter is None else counter  # of random bits
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

        If the producer is cheap, it computes the value anew: then neither pass needs it outside a chunk in the cache.
        """
        kept = self.buffer(value)
        if value.producer is None or not value.producer.cheap or len(value.consumers) > 1 or kept.root.external:
            return kept
        del self.buffers[value]
        value.producer.recompute(self)
        again, self.buffers[value] = self.buffers[value], kept
        return again

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

    def partial_sums(self, width: int) -> PartialSums:
        """Rows of `width` float64 sums; steps name them among what they read and write."""
        self.sums.append(PartialSums(width))
        return self.sums[-1]

    def value(self, variable):
        return None if variable is None else variable.value

    def state(self, seed: int | None) -> np.ndarray:
        """[seed, step], of which random bits are a function: `counter`, or with a `seed` other than the model's."""
        return self.counter if seed is None else self.seeded.setdefault(seed, np.array([seed, 0], np.uint64))

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

    def weights(self, variable, shape, make, pack: bool, packer: type[Op] = PackWeights) -> Callable[[], Any]:
        """A function that gives the Weights; a step names it among what it reads.

        In training, packed ones are filled shortly before they are read, and their memory is used for other things
        before and after; else at the start of the program, unless they are those of the last run.
        """
        array = variable.value.reshape(shape)
        if pack and self.training:
            return PackedWeights(array, make, packer)
        packed = aligned_zeros(make(array, None).packed_size) if pack else None
        weights = make(array, packed)
        if pack:
            self.weight_bytes += packed.nbytes
            self.packs.append(packer(weights))
        return lambda: weights

    def partial_gradients(self, kernel, bias) -> PartialGradient:
        partial = PartialGradient([kernel, bias])
        for variable in partial.variables:
            if variable is not None:
                self.gradient_rows.setdefault(variable, GradientRows(variable)).owners.append(partial)
        return partial

    def set_gradient(self, variable, gradient) -> None:
        """Take over a gradient that a NumPy layer computed."""
        if not variable.trainable:
            return
        if gradient is None:
            raise ValueError(f"{variable.layer.name}: backward must set self.gradients[{variable.name!r}]")
        if np.shape(gradient) != variable.shape:
            raise ValueError(f"{variable.layer.name}: self.gradients[{variable.name!r}] must have the weight's shape "
                             f"{variable.shape}, got {np.shape(gradient)}")
        self.gradient_arrays[variable][...] = gradient

    # -- steps

    def step(self, name, make, reads, writes, layer=None, pipelined=True, weight_bytes=0, partial=None,
             deferred=False) -> None:
        """Add a step."""
        def only(kind, some):
            return [one for one in some if isinstance(one, kind)]

        self.steps.append(Step(
            name, make, only(Buffer, reads), only(Buffer, writes), layer, pipelined and weight_bytes <= LARGE_WEIGHTS,
            weight_bytes, partial, deferred, self.recomputing, weights=only(PackedWeights, reads),
            others=only((ArgBuffer, PartialSums), [*reads, *writes])))

    def python_step(self, name, call, reads, writes, layer) -> None:
        for buffer in (*reads, *writes):
            buffer.root.external = True
        self.steps.append(Step(name, list, [], [], layer, python=call))

    def recompute(self, segment: Sequence[Operation]) -> None:
        """Steps that compute a segment's inner values a second time, to memory of their own.

        What is read outside of the segment is kept, and so is what shares its memory, or is a user's. Steps for values
        that nobody will read turn out not to be needed.
        """
        inner = inner_values(segment)
        kept = {buffer.root for value, buffer in self.buffers.items() if value not in inner or buffer.root.external}
        self.recomputing = True
        for op in segment:
            buffer = self.buffers.pop(op.y)
            op.recompute(self)
            if buffer.root in kept:
                self.buffers[op.y] = buffer
        self.recomputing = False

    def needed_steps(self) -> list[Step]:
        """All steps, without those that recompute what no other reads."""
        needed: list[Step] = []
        wanted: set[Buffer] = set()
        for step in reversed(self.steps):
            if not step.recomputes or any(buffer.root in wanted for buffer in step.writes):
                needed.append(step)
                wanted.update(buffer.root for buffer in step.reads)
        return needed[::-1]

    # -- stages

    def draft_stages(self) -> list[StageDraft]:
        """What runs together.

        Groups and chunks, and with them the bits of sums over images, are those of the plan that recomputes nothing.
        """
        for draft in chain([step for step in self.steps if not step.recomputes]):
            self.cut_images(draft)
        drafts = chain(self.needed_steps())
        number = count()
        for index, draft in enumerate(drafts):
            if draft.cut is None:
                self.cut_images(draft)
            for step, place in zip(draft.steps, number, strict=False):
                for buffer in step.buffers:
                    buffer.root.stages.add(index)
                    buffer.root.steps.add(place)
                for one in (*step.weights, *step.others):
                    one.stages.add(index)
                if isinstance(step.partial, PartialGradient):
                    step.partial.stage = index
        return drafts

    def cut_images(self, draft: StageDraft) -> None:
        """How many images a thread takes at once, and how many share a row of partial sums."""
        touched = {buffer.root for step in draft.steps for buffer in step.buffers}
        image_bytes = sum(buffer.image_bytes for buffer in touched)
        partial = sum(step.partial.bytes for step in draft.steps if step.partial)
        groups = MAX_GROUPS
        while groups > 1 and groups * partial > PARTIAL_BYTES:
            groups //= 2  # three or seven would leave two threads unequal shares
        group = -(-self.n // groups)
        chunks = -(-group // max(1, CHUNK_BYTES // max(1, image_bytes)))
        for step in draft.steps:
            step.cut = group, -(-group // chunks)  # of nearly equal size: some steps have a price for each
            if step.pipelined and step.partial is not None:
                step.partial.rows = -(-self.n // group)

    def memory(self, drafts: Sequence[StageDraft]) -> tuple[int, int]:
        """(bytes of the batch's memory, bytes of each thread's local memory)."""
        batch, local = self.place_buffers(drafts)
        return FLOAT * batch.size, FLOAT * local.size

    def place_buffers(self, drafts: Sequence[StageDraft]) -> tuple[Layout, Layout]:
        """Where buffers lie in the batch's memory, and in each thread's."""
        batch, local = Layout(), Layout()
        of_batch: list[Buffer] = []
        for buffer in self.all_buffers:
            if buffer.root is not buffer or not (buffer.stages or buffer.external):
                continue
            home = drafts[min(buffer.stages)] if buffer.stages else None
            shape = halo_of(buffer)
            if len(buffer.stages) == 1 and not buffer.external and home.pipelined:
                _, chunk = home.cut
                size = _round(chunk * buffer.image_bytes // FLOAT, ALIGN)
                local.add(buffer, Block(size, min(buffer.steps), max(buffer.steps)), (shape, shape and chunk))
            else:
                of_batch.append(buffer)
        for place in self.successions(of_batch, drafts):
            blocks = [self.block(buffer, len(drafts)) for buffer in place.buffers]
            batch.add(place, Block(blocks[0].size, blocks[0].first, blocks[-1].last), halo_of(place.buffers[0]))
        for one in (*self.arg_buffers.values(), *self.sums):
            batch.add(one, Block(_round(one.floats, ALIGN), min(one.stages), max(one.stages)))
        for weights in weights_of(drafts):  # packed while the stage before runs
            batch.add(weights, Block(_round(weights.floats, ALIGN), min(weights.stages) - 1, max(weights.stages)))
        for rows in self.gradient_rows.values():  # added up while the stage after runs
            if rows.count > 1:
                batch.add(rows, Block(_round(rows.floats, ALIGN), min(rows.stages), max(rows.stages) + 1))
        batch.place()
        local.place()
        return batch, local

    def successions(self, buffers: Sequence[Buffer], drafts: Sequence[StageDraft]) -> list[Succession]:
        """The batch's buffers by place.

        A buffer first written in a stage over images takes over that of one last read in an earlier step of the stage:
        its memory is in the cache, so that none is brought there only to be overwritten.
        """
        places: list[Succession] = []
        given_up = defaultdict(list)
        for buffer in sorted(buffers, key=lambda one: min(one.steps, default=0)):
            shared = buffer.stages and not buffer.external and self.share_memory
            shape, free = halo_of(buffer) or buffer.image_bytes, []
            if shared and drafts[min(buffer.stages)].pipelined:
                free = [place for place in given_up[min(buffer.stages), shape]
                        if max(place.buffers[-1].steps) < min(buffer.steps)]
            if free:
                place = free[-1]  # the one written last
                given_up[min(buffer.stages), shape].remove(place)
                place.buffers.append(buffer)
            else:
                place = Succession([buffer])
                places.append(place)
            if shared:
                given_up[max(buffer.stages), shape].append(place)
        return places

    def assign_memory(self, drafts: Sequence[StageDraft]) -> tuple[int, int]:
        """Place every buffer; (bytes of the batch's memory, bytes of each thread's local memory)."""
        batch, local = self.place_buffers(drafts)
        for buffer, offset in local.offsets.items():
            buffer.local_offset = FLOAT * offset
        arena = aligned_zeros(batch.size)
        for user, offset in batch.offsets.items():
            user.take(arena[offset: offset + user.floats])
        for rows in self.gradient_rows.values():
            if rows.count == 1:
                rows.take(self.gradient_arrays[rows.variable].reshape(-1))
        return arena.nbytes, FLOAT * local.size

    def block(self, buffer: Buffer, stages: int) -> Block:
        """What a buffer needs, in floats, and when; what the user reads or writes is in use all the time."""
        size = _round(buffer.floats, ALIGN) + ALIGN
        if buffer.external or not self.share_memory:
            return Block(size, 0, stages)
        return Block(size, min(buffer.stages), max(buffer.stages))

    def finish(self, drafts: Sequence[StageDraft]) -> list[list[Stage]]:
        """The stages of the engine that each draft becomes.

        Weights are packed one stage before they are read, and partial sums added up one stage after they are complete:
        no thread waits for that.
        """
        stages, descending = [], False
        packs, sums = defaultdict(list), defaultdict(list)
        for weights in weights_of(drafts):
            packs[max(0, min(weights.stages) - 1)].append(weights.pack())
        for rows in self.gradient_rows.values():
            if rows.count > 1:
                target = self.gradient_arrays[rows.variable].reshape(-1)
                sums[max(rows.stages)].append(_eltwise.Reduce(rows.array, target))
        for index, draft in enumerate(drafts):
            first, last = index == 0, index == len(drafts) - 1
            descending ^= draft.pipelined  # each begins with the images that are still in the cache
            stages.append([*stages_of(packs[index], first), *self.engine_stages(draft, descending),
                           *stages_of(sums[index], last)])
        return stages

    def engine_stages(self, draft: StageDraft, descending: bool) -> list[Stage]:
        made = [(step, step.make()) for step in draft.steps]
        for step, ops in made:
            step.make = list  # made; it refers to the builder and the plan, which would wait for the garbage collector
            self.origins.update(dict.fromkeys(ops, step))
        if draft.pipelined:
            return [Stage([op for _, ops in made for op in ops], self.n, *draft.cut, descending=descending)]
        last = draft.steps[-1]
        return [Stage([op], op.items, -(-op.items // (2 * MAX_GROUPS)), barrier=step is last or op is not ops[-1])
                for step, ops in made for op in ops]


def halo_of(buffer: Buffer):
    """None, or what buffers that share memory have in common: nobody writes the zeros of a halo."""
    return (buffer.padded, buffer.halo) if buffer.has_halo else None


def _round(size: int, to: int) -> int:
    return -(-size // to) * to
