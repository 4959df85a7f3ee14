"""Layers that change the size of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.geometry import resolve_padding
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan import operations

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class ZeroPadding2D(DeclaredLayer):
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

    def __init__(self, padding: Any = 1, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        if isinstance(padding, str):
            raise TypeError(f"{self.name}: padding must be an int, a pair or ((top, bottom), (left, right)), "
                            f"got {padding!r}; give the number of zeros")
        self.padding = resolve_padding(padding, (1, 1), (1, 1), (1, 1), (1, 1), self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        rows, columns = self.padding
        return shape[0] + sum(rows), shape[1] + sum(columns), shape[2]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Pad(x, self.padding, layer=self))
