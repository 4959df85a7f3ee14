"""Operations that change images at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastcnn.kernels._op import Op
from fastcnn.plan.operations import Operation, Value

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer
    from fastcnn.plan.builder import Builder

Driver = Callable[..., Op]  # of x, y, the state of the random numbers and the number of their stream


class Augment(Operation):
    """What `driver` makes of each image; there is no gradient of its input."""

    name = "augment"

    def __init__(self, x: Value, shape: tuple[int, ...], driver: Driver, layer: Layer) -> None:
        super().__init__([x], shape, layer)
        self.driver = driver

    def forward(self, b: Builder) -> None:
        x, y, stream = b.buffer(self.x), b.buffer(self.y), b.stream(self)
        self.step(b, "forward", lambda: [self.driver(x.tensor, y.tensor, b.counter, stream)], [x], [y])

    def backward(self, b: Builder) -> None:
        raise ValueError(f"{self.layer.name}: a layer with trainable weights stands before this augmentation "
                         f"layer, which has no gradient; move it to the front of the model, or set "
                         f"trainable = False on the layers before it")
