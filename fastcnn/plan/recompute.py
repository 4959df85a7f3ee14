"""Which activations a training step keeps, and which it computes a second time, when they are needed again.

The operations are cut into *segments*. What one segment computes for another is kept. Everything else is given up after
the forward pass, and computed anew, a segment at a time, before the segment's backward pass. The last segment
is not given up: its backward pass comes next. With n equal operations, segments of sqrt(n) need memory for about
2 sqrt(n) activations (Chen, Xu, Zhang & Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import inf, prod

from fastcnn.plan.operations import Operation, Value

Segments = list[list[Operation]]

# In how many segments, roughly, to cut a network when it is not said where.
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
PATIENCE = 2  # how many that need more memory are tried before the search ends


def inner_values(segment: Collection[Operation]) -> set[Value]:
    """The results of a segment's operations that nothing outside of it reads."""
    own = set(segment)
    return {op.y for op in segment if own.issuperset(op.y.consumers)}


def cut_after(ops: Sequence[Operation], ends: Collection[Operation]) -> Segments:
    """`ops` in segments, each of which ends with one of `ends`, or with the last."""
    return cut_at(ops, [i + 1 for i, op in enumerate(ops) if op in ends])


def cut_at(ops: Sequence[Operation], places: Iterable[int]) -> Segments:
    """`ops` in segments that begin at these places, and at 0."""
    bounds = sorted({0, len(ops), *places})
    return [list(ops[first:last]) for first, last in zip(bounds, bounds[1:], strict=False)]


def smallest(ops: Sequence[Operation], memory: Callable[[Segments], int]) -> Segments:
    """The segments for which a step takes the least `memory`: more and more of them, until that no longer helps."""
    total = sum(size(op.y) for op in ops)
    best, least, vain = [list(ops)], inf, 0
    for count in COUNTS:
        segments = cut_at(ops, fewest_kept(ops, total / count))
        needed = memory(segments)
        if needed < least:
            best, least, vain = segments, needed, 0
        else:
            vain += 1
        if vain == PATIENCE or count > len(ops):
            break
    return best


def size(value: Value) -> int:
    return prod(value.shape)


def fewest_kept(ops: Sequence[Operation], limit: float) -> list[int]:
    """The places where segments begin such that none of several operations computes more than `limit` values, and as
    few values as possible are kept for later segments."""
    number = {op: i for i, op in enumerate(ops)}
    last_use = [max((number.get(reader, i) for reader in op.y.consumers), default=i) for i, op in enumerate(ops)]
    least = [0.0] + [inf] * len(ops)  # kept of the operations before a place, if it is cut there
    cut_before = [0] * (len(ops) + 1)
    for first in range(len(ops)):
        computed, used_later = 0, {}
        for last in range(first, len(ops)):
            y = ops[last].y
            computed += size(y)
            if computed > limit and last > first:
                break
            used_later[last] = size(y)
            used_later = {i: values for i, values in used_later.items() if last_use[i] > last}
            kept = least[first] + sum(used_later.values())
            if kept < least[last + 1]:
                least[last + 1], cut_before[last + 1] = kept, first
    places, place = [], len(ops)
    while place:
        place = cut_before[place]
        places.append(place)
    return places
