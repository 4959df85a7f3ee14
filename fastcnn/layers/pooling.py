"""Pooling layers: a window, or the entire image, becomes one value per channel.

`MaxPooling2D`, `MinPooling2D` and `AveragePooling2D` take images (batch, height, width, channels) and give
(batch, oh, ow, channels). Their arguments:

pool_size : an int, or a pair (rows, columns).
strides : likewise; None for `pool_size`, windows side by side.
padding : 'valid', 'same' (TensorFlow's rule), an int, a pair, or ((top, bottom), (left, right)), less than
    `pool_size` on each side. Padded pixels never count.

The global forms give (batch, channels), or with `keepdims` (batch, 1, 1, channels).

ValueError and TypeError are raised for wrong arguments; when called, ValueError for inputs of another rank
or smaller than the window.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from fastcnn.geometry import Window, pair
from fastcnn.layers.arguments import Shape, flag
from fastcnn.layers.conv import check_padding
from fastcnn.layers.declared import IMAGES, DeclaredLayer
from fastcnn.plan import operations

if TYPE_CHECKING:
    from fastcnn.plan.lowering import Lowering
    from fastcnn.plan.operations import Value


class _Pooling(DeclaredLayer):
    """A window slides over each channel."""

    axes = IMAGES

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: Any = "valid",
                 input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.pool_size = pair(pool_size, "pool_size", self.name)
        self.strides = self.pool_size if strides is None else pair(strides, "strides", self.name)
        self.padding = check_padding(padding, self.name)
        if not isinstance(self.padding, str) and any(
                max(sides) >= size for sides, size in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(f"{self.name}: padding must be less than pool_size {self.pool_size} on each "
                             f"side, got {self.padding}: a window could hold only padding; use less")

    def window(self, shape: tuple[int, ...]) -> Window:
        """The sizes for a sample of `shape`."""
        return Window.resolve(shape[:2], self.pool_size, self.strides, self.padding, 1, self.name, "pool_size")

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        window = self.window(shape)
        return window.oh, window.ow, shape[2]

    def flops(self, output_shape: Shape) -> int:
        return prod(output_shape[1:]) * prod(self.pool_size)


class MaxPooling2D(_Pooling):
    """The largest value of each window; see `fastcnn.layers.pooling` for arguments."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.MaxPool(x, self.window(x.shape), layer=self))


class MinPooling2D(_Pooling):
    """The smallest value of each window; see `fastcnn.layers.pooling` for arguments."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.MaxPool(x, self.window(x.shape), minimum=True, layer=self))


class AveragePooling2D(_Pooling):
    """The mean of each window; see `fastcnn.layers.pooling` for arguments."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.AvgPool(x, self.window(x.shape), layer=self))


class _GlobalPooling(DeclaredLayer):
    """What the global forms share."""

    axes = IMAGES

    def __init__(self, keepdims: bool = False, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(input_shape, name)
        self.keepdims = flag(keepdims, "keepdims", self.name)

    def sample_output(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, 1, shape[2]) if self.keepdims else (shape[2],)

    def flops(self, output_shape: Shape) -> int:
        return prod(self.input_shape[1:])


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel over the image."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.GlobalPool(x, maximum=False, keepdims=self.keepdims, layer=self))


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value of each channel over the image."""

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add(operations.GlobalPool(x, maximum=True, keepdims=self.keepdims, layer=self))


MaxPool2D = MaxPooling2D
AvgPool2D = AveragePooling2D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalMaxPool2D = GlobalMaxPooling2D
