"""Layers that enlarge images."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn.errors import unknown_name
from fastcnn.geometry import pair
from fastcnn.kernels._resize import INTERPOLATIONS
from fastcnn.layers.arguments import Shape
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan import resizing

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class UpSampling2D(DeclaredLayer):
    """Images a whole number of times larger.

    Input (batch, h, w, channels), output (batch, rows * h, columns * w, channels).

    Parameters
    ----------
    size : an int, or a pair (rows, columns).
    interpolation : 'nearest' repeats pixels; 'bilinear' interpolates between their centres, which lie at
        half-integers, as TensorFlow and Keras do. Beyond the outer centres the border's values go on.

    Raises
    ------
    TypeError, ValueError
        For wrong arguments; when called, for inputs of another rank.
    """

    axes = IMAGES

    def __init__(self, size: Any = 2, interpolation: str = "nearest", input_shape: Any = None,
                 name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.size = pair(size, "size", self.name)
        if interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", interpolation, INTERPOLATIONS, self.name)
        self.interpolation = interpolation

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0] * self.size[0], shape[1] * self.size[1], shape[2]

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(resizing.Upsample(x, self.size, self.interpolation, layer=self))

    def flops(self, output_shape: Shape) -> int:
        return 6 * prod(output_shape[1:]) if self.interpolation == "bilinear" else 0
