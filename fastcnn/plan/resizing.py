"""Operations that move pixels: enlarging, cropping, exchanging axes."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.kernels import _eltwise, _resize
from fastcnn.plan.operations import Operation, Value


class Upsample(Operation):
    """Images `size` (rows, columns) times larger, by repeated or interpolated pixels."""

    name = "upsample"

    def __init__(self, x: Value, size: tuple[int, int], interpolation: str, layer=None):
        h, w, c = x.hwc
        super().__init__([x], (h * size[0], w * size[1], c), layer)
        self.words = size, interpolation

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_resize.Upsample(x.tensor, y.tensor, *self.words)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_resize.UpsampleGrad(dy.tensor, dx.tensor, *self.words)], [dy], [dx])


class Crop(Operation):
    """An image without some pixels at its borders."""

    name = "crop"

    def __init__(self, x: Value, pads, layer=None):
        (top, bottom), (left, right) = self.pads = pads
        h, w, c = x.hwc
        super().__init__([x], (h - top - bottom, w - left - right, c), layer)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_eltwise.Crop(x.tensor, y.tensor, self.pads)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.ZeroPad(dy.tensor, dx.tensor, self.pads)], [dy], [dx])


class Permute(Operation):
    """Axes in another order; `order` counts (rows, columns, channels) from 0."""

    name = "permute"

    def __init__(self, x: Value, order: Sequence[int], shape, layer=None):
        super().__init__([x], shape, layer)
        self.order = tuple(order)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_resize.Permute(x.tensor, y.tensor, self.order)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        back = [self.order.index(axis) for axis in range(3)]
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_resize.Permute(dy.tensor, dx.tensor, back)], [dy], [dx])
