"""Where buffers lie in one array: those that are not in use at the same time may share their place."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple


class Block(NamedTuple):
    """A piece of memory: its size, and the first and last stage that use it."""

    size: int
    first: int
    last: int


# Which blocks are placed first: by size, by size and time, by time, and those in use last, that is in the order of the
# backward pass. None is the best for all networks, and each takes but a moment.
ORDERS = (lambda block: -block.size,
          lambda block: -block.size * (block.last - block.first + 1),
          lambda block: (block.first - block.last, -block.size),
          lambda block: (-block.last, -block.size))


def place(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """The offset of each block, and how much memory that takes in all: the least of several orders."""
    orders = (sorted(range(len(blocks)), key=lambda i: key(blocks[i])) for key in ORDERS)
    return min((place_in(order, blocks) for order in orders), key=lambda placed: placed[1])


def place_in(order: Sequence[int], blocks: Sequence[Block]) -> tuple[list[int], int]:
    """One block after the other, each at the lowest offset where it overlaps none that is in use at the same time.

    Source: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
    """
    offsets = [0] * len(blocks)
    placed: list[tuple[int, Block]] = []  # by offset
    for index in order:
        block, at = blocks[index], 0
        for offset, other in placed:
            if other.first <= block.last and block.first <= other.last:
                if at + block.size <= offset:
                    break
                at = max(at, offset + other.size)
        offsets[index] = at
        insort(placed, (at, block))
    return offsets, max((at + block.size for at, block in placed), default=0)


class Layout:
    """Where things lie in one array; only those of the same `kind` share their place."""

    def __init__(self) -> None:
        self.blocks: dict[Any, dict[Any, Block]] = defaultdict(dict)
        self.offsets: dict[Any, int] = {}
        self.size = 0

    def add(self, thing: Any, block: Block, kind: Any = None) -> None:
        self.blocks[kind][thing] = block

    def place(self) -> None:
        """Give each thing its offset."""
        for blocks in self.blocks.values():
            offsets, size = place(list(blocks.values()))
            self.offsets.update((thing, self.size + offset) for thing, offset in zip(blocks, offsets, strict=True))
            self.size += size
