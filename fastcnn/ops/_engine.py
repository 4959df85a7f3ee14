"""One call of the engine per operation: float32 arrays in, ops run, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from fastcnn.arrays import Array, aligned_empty, aligned_zeros
from fastcnn.kernels._eltwise import Reduce
from fastcnn.kernels._executor import Program, Stage
from fastcnn.kernels._op import Op, Tensor

# Groups of items that threads take one at a time: enough to share evenly.
GROUPS = 16
# Partial weight gradients: groups of images that are summed apart, as many as this much memory holds.
PARTIAL_BYTES = 5 << 20


def tensor(array: Array) -> Tensor:
    """An array of two or four axes as the drivers see it."""
    return Tensor(array.shape, array)


def run(*ops: Op) -> None:
    """Run ops one after the other, each over all its items."""
    Program([Stage([op], op.items, max(1, op.items // GROUPS)) for op in ops if op.items]).run()


def bands(n: int, rows: int) -> int:
    """Bands of rows per image, so that even one image is work for several threads."""
    return max(1, min(rows, 8 // max(1, n)))


def sum_over_images(n: int, shape: tuple[int, ...], make: Callable[[Array], Op]) -> Array:
    """A sum over n images, an array of `shape`: each group of images apart, then the groups in order.

    `make(parts)` is the op that fills `parts` (groups, *shape), whose items are images. How many images share
    a group follows from sizes alone, so the bits do not depend on the number of threads.
    """
    if n == 0 or prod(shape) == 0:
        return aligned_zeros(shape)
    total = aligned_empty(shape)
    groups = max(1, min(n, GROUPS, PARTIAL_BYTES // total.nbytes))
    images = -(-n // groups)
    groups = -(-n // images)
    parts = total[None] if groups == 1 else aligned_empty((groups, *shape))
    op = make(parts)
    stages = [Stage([op], op.items, images)]
    if groups > 1:
        add = Reduce(parts, total)
        stages.append(Stage([add], add.items))
    Program(stages).run()
    return total


def as_matrix(array: Array) -> Array:
    """An array of any number of axes as (rows, columns), without a copy."""
    return (
        array.reshape(array.shape[0], prod(array.shape[1:]))
        if array.ndim > 1
        else array.reshape(1, array.size)
    )
