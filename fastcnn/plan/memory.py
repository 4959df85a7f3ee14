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


def place(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """The offset of each block, and how much memory that takes in all.

    Greedy by size (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): the largest
    first, each at the lowest offset where it overlaps no block that is in use at the same time.
    """
    offsets = [0] * len(blocks)
    placed: list[tuple[int, Block]] = []  # by offset
    for index in sorted(range(len(blocks)), key=lambda i: -blocks[i].size):
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
