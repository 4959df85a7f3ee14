"""Operations that move pixels: enlarging, cropping, exchanging axes."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.kernels import _eltwise, _resize
from fastcnn.plan.operations import Linear, Value


class Upsample(Linear):
    """Images `size` (rows, columns) times larger, by repeated or interpolated pixels."""

    name = "upsample"

    def __init__(self, x: Value, size: tuple[int, int], interpolation: str, layer=None):
        h, w, c = x.hwc
        super().__init__([x], (h * size[0], w * size[1], c), layer)
        self.words = size, interpolation

    def driver(self, x, y):
        return _resize.Upsample(x, y, *self.words)

    def grad_driver(self, dy, dx):
        return _resize.UpsampleGrad(dy, dx, *self.words)


class Crop(Linear):
    """An image without some pixels at its borders."""

    name = "crop"

    def __init__(self, x: Value, pads, layer=None):
        (top, bottom), (left, right) = self.pads = pads
        h, w, c = x.hwc
        super().__init__([x], (h - top - bottom, w - left - right, c), layer)

    def driver(self, x, y):
        return _eltwise.Crop(x, y, self.pads)

    def grad_driver(self, dy, dx):
        return _eltwise.ZeroPad(dy, dx, self.pads)


class Permute(Linear):
    """Axes in another order; `order` counts (rows, columns, channels) from 0."""

    name = "permute"

    def __init__(self, x: Value, order: Sequence[int], shape, layer=None):
        super().__init__([x], shape, layer)
        self.order = tuple(order)

    def driver(self, x, y):
        return _resize.Permute(x, y, self.order)

    def grad_driver(self, dy, dx):
        return _resize.Permute(dy, dx, [self.order.index(axis) for axis in range(3)])
