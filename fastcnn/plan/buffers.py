"""What the steps of a plan read and write, before and after it has a place in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels._op import Op, Tensor
from fastcnn.plan.operations import NO_HALO

FLOAT, FLOAT64 = 4, 8  # bytes


class Buffer:
    """Memory of a value or gradient: (h, w, c) floats per image, with a halo of zeros around each image."""

    def __init__(self, n: int, hwc, halo=NO_HALO, root: Buffer | None = None, external=False):
        self.n, self.hwc = n, tuple(hwc)
        self.root = root.root if root else self
        self.halo = halo if root is None else self.root.halo if self.hwc == self.root.hwc else NO_HALO
        self.external = external    # the user reads or writes it between runs: never local
        self.is_input = False
        self.stages: set[int] = set()
        self.steps: set[int] = set()
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
    def floats(self) -> int:
        """Of the whole batch."""
        return self.n * prod(self.padded)

    def take(self, memory: np.ndarray) -> None:
        (top, _), (left, _) = self.halo
        h, w, _ = self.hwc
        self.array = memory.reshape(self.n, *self.padded)[:, top:top + h, left:left + w]

    @property
    def view(self) -> np.ndarray:
        """The values as an array (n, h, w, c)."""
        return self.root.array.reshape(self.n, *self.hwc)

    def fill(self, values: np.ndarray) -> None:
        """Overwrite with as many values, the batch first."""
        self.root.array[...] = values.reshape(self.root.array.shape)


@dataclass(eq=False)
class Succession:
    """Buffers of one size in the same place: within a stage, image by image, each takes over what the one before it
    gives up there."""

    buffers: list[Buffer]

    @property
    def floats(self) -> int:
        return self.buffers[0].floats

    def take(self, memory: np.ndarray) -> None:
        for buffer in self.buffers:
            buffer.take(memory)


class ArgBuffer:
    """For each pooled value the tap it came from; whole batch."""

    def __init__(self, shape, wide: bool):
        self.shape, self.dtype = shape, np.dtype(np.int32 if wide else np.uint8)
        self.floats = -(-prod(shape) * self.dtype.itemsize // FLOAT)
        self.stages: set[int] = set()
        self.array: np.ndarray | None = None

    def take(self, memory: np.ndarray) -> None:
        self.array = memory.view(self.dtype)[:prod(self.shape)].reshape(self.shape)


class PartialSums:
    """float64 sums that a step writes, one row per group of images, and another reads: a step's `partial`."""

    def __init__(self, width: int):
        self.width, self.rows = width, 1
        self.stages: set[int] = set()
        self.array: np.ndarray | None = None

    @property
    def bytes(self) -> int:
        """Of one row."""
        return FLOAT64 * self.width

    @property
    def floats(self) -> int:
        return self.rows * self.bytes // FLOAT

    def take(self, memory: np.ndarray) -> None:
        self.array = memory[:self.floats].view(np.float64).reshape(self.rows, self.width)


class PackedWeights:
    """Weights in the order in which a pass reads them, in memory only as long as there are stages that do."""

    def __init__(self, array: np.ndarray, make: Callable[..., Any], packer: type[Op]):
        self.source, self.make, self.packer = array, make, packer
        self.floats = make(array, None).packed_size
        self.stages: set[int] = set()
        self.array: np.ndarray | None = None
        self._weights: Any = None

    def __call__(self) -> Any:
        """The Weights; exist once memory is assigned."""
        if self.array is None:
            raise RuntimeError("packed weights have no memory; a step must name the weights among what it reads")
        if self._weights is None:
            self._weights = self.make(self.source, self.array)
        return self._weights

    def take(self, memory: np.ndarray) -> None:
        self.array = memory

    def pack(self) -> Op:
        """What fills them."""
        return self.packer(self())


@dataclass(eq=False)
class PartialGradient:
    """The partial sums that one weight-gradient step writes, one row per group of images: its `partial`."""

    variables: list[Any]
    rows: int = 1
    stage: int | None = None
    arrays: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(v.value.nbytes for v in self.variables if v is not None)

    def __call__(self):
        """(dw, db) as (rows, ...) arrays; None for a missing bias."""
        return tuple(None if v is None else self.arrays[v].reshape(self.rows, *v.shape) for v in self.variables)


@dataclass(eq=False)
class GradientRows:
    """All partial sums of a weight's gradient: one row after the other, each to be added to the sum."""

    variable: Any
    owners: list[PartialGradient] = field(default_factory=list)
    array: np.ndarray | None = None

    @property
    def count(self) -> int:
        return sum(owner.rows for owner in self.owners)

    @property
    def stages(self) -> set[int]:
        return {owner.stage for owner in self.owners}

    @property
    def floats(self) -> int:
        return self.count * self.variable.value.size

    def take(self, memory: np.ndarray) -> None:
        """Give each owner its rows of it."""
        self.array, row = memory[:self.floats].reshape(self.count, -1), 0
        for owner in self.owners:
            owner.arrays[self.variable] = self.array[row: row + owner.rows]
            row += owner.rows
