"""Layers that change the size of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.geometry import SIDES, resolve_padding
from fastcnn.layers.declared import IMAGES, SEQUENCES, DeclaredLayer
from fastcnn.plan import operations

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _ZeroPadding(DeclaredLayer):
    """What both ranks share."""

    rank = 2

    def __init__(self, padding: Any = 1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        if isinstance(padding, str):
            raise TypeError(f"{self.name}: padding must be an int, {SIDES[self.rank]}, got {padding!r}; give the "
                            f"number of zeros")
        ones = (1,) * self.rank
        self.padding = resolve_padding(padding, ones, ones, ones, ones, self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *(size + sum(zeros) for size, zeros in zip(shape, self.padding, strict=False)), shape[-1]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Pad(x, ((0, 0), *self.padding)[-2:], layer=self))


class ZeroPadding1D(_ZeroPadding):
    """Zeros around sequences.

    Input (batch, steps, channels), output (batch, before + steps + after, channels).

    Parameters
    ----------
    padding : an int for both sides, or a pair (before, after).

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """

    axes, rank = SEQUENCES, 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images.

    Input (batch, h, w, channels), output (batch, top + h + bottom, left + w + right, channels).

    Parameters
    ----------
    padding : an int for all sides, a pair (rows, columns), or ((top, bottom), (left, right)).

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """

    axes = IMAGES
