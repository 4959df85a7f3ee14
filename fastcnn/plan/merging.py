"""Operations on several branches, with broadcasting; PReLU, whose slopes broadcast likewise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastcnn.kernels import _merge
from fastcnn.kernels._op import Tensor
from fastcnn.plan.operations import CLAMPS, NO_HALO, Clamped, Operation, Value, merge_halos


class Merge(Clamped):
    """A sum, product, mean, maximum ... of values that broadcast to `shape`; a sum with the clamp that follows it.

    A convolution that alone feeds a sum could add the other branch where it adds its bias: `fuse` asks operations
    in order, so that is where a sum would offer itself to the convolution before it.
    """

    name = "merge"

    def __init__(self, inputs: Sequence[Value], kind: str, shape, layer=None):
        super().__init__(inputs, shape, layer)
        self.kind = kind

    def can_clamp(self, kind):
        return self.kind == "add" and super().can_clamp(kind)

    def forward(self, b):
        inputs, y = [b.buffer(x) for x in self.inputs], b.buffer(self.y)
        self.step(b, "forward", lambda: [_merge.Merge(self.kind, [x.tensor for x in inputs], y.tensor,
                                                      CLAMPS[self.activation])], inputs, [y])

    def backward(self, b):
        """One input after the other; where the gradient is the result's, they share its memory."""
        dz, y = self.unclamped_gradient(b), b.buffer(self.y)
        needed = self.kind not in ("add", "subtract", "average")  # else gradients do not depend on values
        inputs = [b.buffer(x) for x in self.inputs] if needed else []
        for index, x in enumerate(self.inputs):
            same = x.hwc == self.y.hwc and (self.kind == "add" or (self.kind == "subtract" and index == 0))
            if not b.wants_gradient(x) or (same and b.share_gradient(x, dz)):
                continue
            with b.gradient_of(x) as dx:
                self.step(b, f"backward {index}", lambda i=index, dx=dx: [self.gradient(i, dz, inputs, y, dx)],
                          [dz, *inputs, y] if needed else [dz], [dx])

    def gradient(self, index: int, dz, inputs, y, dx):
        """The op for one input; inputs and y, where the gradient does not read them, are stood in for by shape."""
        tensors = [x.tensor for x in inputs] or [Tensor((dz.n, *x.hwc)) for x in self.inputs]
        return _merge.MergeGrad(self.kind, dz.tensor, tensors, y.tensor if inputs else dz.tensor, index, dx.tensor)

    def grad_halo(self, b):
        """Zeros around dz that convolutions want to read which share it as the gradient of their results."""
        halo = NO_HALO
        for x in self.inputs:
            if self.kind == "add" and x.hwc == self.y.hwc and not isinstance(x.producer, Merge):
                halo = merge_halos(halo, b.gradient_halo(x))
        return halo


class Concatenate(Operation):
    """Values side by side along one axis of their pixels: rows (0), columns (1) or channels (2)."""

    name = "concatenate"

    def __init__(self, inputs: Sequence[Value], axis: int, shape, layer=None):
        super().__init__(inputs, shape, layer)
        self.places: list[list[int]] = []
        at = [0, 0, 0]
        for x in self.inputs:
            self.places.append(list(at))
            at[axis] += x.hwc[axis]

    def forward(self, b):
        inputs, y = [b.buffer(x) for x in self.inputs], b.buffer(self.y)
        self.step(b, "forward", lambda: [_merge.Paste(x.tensor, y.tensor, at)
                                         for x, at in zip(inputs, self.places, strict=True)], inputs, [y])

    def backward(self, b):
        dy = b.grad(self.y)
        for x, at in zip(self.inputs, self.places, strict=True):
            if b.wants_gradient(x):
                with b.gradient_of(x) as dx:
                    self.step(b, "backward", lambda at=at, dx=dx: [_merge.Cut(dy.tensor, dx.tensor, at)], [dy], [dx])


class PRelu(Operation):
    """y = x above zero, slope * x below; the slope is a weight that broadcasts to x."""

    name = "prelu"

    def __init__(self, x: Value, slope: Any, layer=None):
        super().__init__([x], x.shape, layer, (slope,))
        self.slope = slope

    def slopes(self, b) -> Tensor:
        shape = (1, *Value(self.slope.shape).hwc)
        return Tensor(shape, b.value(self.slope).reshape(shape))

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_merge.PRelu(x.tensor, self.slopes(b), y.tensor)], [x], [y])

    def backward(self, b):
        dy, x = b.grad(self.y), b.buffer(self.x)
        if self.slope.trainable:
            parts = b.partial_gradients(self.slope, None)

            def make():
                slopes, _ = parts()
                return [_merge.PReluSlopeGrad(dy.tensor, x.tensor, self.slopes(b), slopes.reshape(len(slopes), -1))]

            self.step(b, "slope gradient", make, [dy, x], [], partial=parts)
        if b.wants_gradient(self.x):
            with b.gradient_of(self.x) as dx:
                self.step(b, "backward", lambda: [_merge.PReluGrad(dy.tensor, x.tensor, self.slopes(b), dx.tensor)],
                          [dy, x], [dx])
