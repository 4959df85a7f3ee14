"""Layers that prepare raw data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastcnn.layers.declared import DeclaredLayer
from fastcnn.plan import operations
from fastcnn.utils import real_number

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class Rescaling(DeclaredLayer):
    """y = x * scale + offset, with numbers for both: `Rescaling(1 / 255)` brings bytes to [0, 1]."""

    def __init__(self, scale: float, offset: float = 0.0, input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.scale = real_number(scale, "scale", self.name)
        self.offset = real_number(offset, "offset", self.name)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.Affine(x, self.scale, self.offset, layer=self))
