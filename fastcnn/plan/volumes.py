"""Operations on volumes, sample shape (d, h, w, c): to the engine, images of d * h rows of w pixels."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING

from fastcnn.geometry import Conv3D as ConvSizes
from fastcnn.geometry import Window
from fastcnn.kernels import _eltwise, _pool
from fastcnn.kernels import conv3d as passes
from fastcnn.kernels._op import Op, Tensor
from fastcnn.kernels._series import Series
from fastcnn.kernels.conv import LARGE_WEIGHTS, weight_bytes
from fastcnn.kernels.conv3d import Fold
from fastcnn.plan.convolution import forward_halo, input_grad_halo
from fastcnn.plan.operations import CLAMPS, NO_HALO, Clamped, Operation

if TYPE_CHECKING:
    from fastcnn.plan.buffers import Buffer
    from fastcnn.plan.builder import Builder


def slices(buffer: Buffer, fold: Fold) -> list[Tensor]:
    """The slices of a folded volume."""
    return [buffer.rows(first, fold.height) for first in fold.first_rows()]


def slice_by_slice(make: Callable[..., Op], *volumes: tuple[Buffer, Fold]) -> Callable[[], list[Op]]:
    """What makes the op that does `make(i, *slices)` with the i-th slice of each volume, for all i."""
    def ops():
        matching = zip(*(slices(buffer, fold) for buffer, fold in volumes), strict=True)
        return [Series([make(i, *parts) for i, parts in enumerate(matching)])]

    return ops


class Conv3D(Clamped):
    """Convolution of volumes, then bias and clamp: 2-D passes over the folded volume, see `kernels.conv3d`.

    Where slices have no border of zeros, x is read where it lies; else it is first copied slice by slice into
    memory that has one.
    """

    name = "conv3d"

    def __init__(self, x, sizes: ConvSizes, kernel, bias, algorithm="auto", layer=None):
        self.kernel, self.bias = kernel, bias
        self.algorithm = "im2col" if algorithm == "im2col" else "direct"
        self._sizes = sizes
        super().__init__([x], sizes.y_shape[1:], layer, (kernel, bias))
        d, h = x.shape[:2]
        self.x_fold = Fold.around(d, h, forward_halo(sizes.window.depth), forward_halo(sizes.window.plane))
        if self.x_fold.is_dense:
            x.want_halo(self.x_fold.halo)
        self.folded_x: Buffer | None = None

    def sizes(self, n: int) -> ConvSizes:
        conv = self._sizes
        return ConvSizes(n, conv.ic, conv.oc, conv.groups, conv.window)

    @property
    def weight_bytes(self) -> int:
        return weight_bytes(self._sizes)

    def forward(self, b):
        conv, y = self.sizes(b.n), b.buffer(self.y)
        x = self.folded_x = self.fold(b, b.buffer(self.x), self.x_fold, "fold")
        weights = b.weights(self.kernel, conv.w_shape,
                            lambda w, packed: passes.forward_weights(conv, w, packed), pack=True)
        self.step(b, "forward", lambda: [
            passes.forward(conv, x.tensor, self.x_fold.pitch, weights(), y.tensor, b.value(self.bias), self.algorithm,
                           clamp=CLAMPS[self.activation])], [x, weights], [y], weight_bytes=self.weight_bytes)

    def fold(self, b: Builder, buffer: Buffer, fold: Fold, what: str) -> Buffer:
        """`buffer`, or a copy of it with zeros between the slices."""
        if fold.is_dense:
            return buffer
        folded, dense = b.scratch((fold.rows, *buffer.hwc[1:]), fold.halo), Fold.dense(fold.depth, fold.height)
        self.step(b, what, slice_by_slice(lambda i, source, target: _eltwise.Copy(source, target),
                                          (buffer, dense), (folded, fold)), [buffer], [folded])
        return folded

    def dz_fold(self, b: Builder) -> Fold:
        """How the input gradient wants to read dz."""
        depth, height, _, _ = self.y.shape
        if not b.wants_gradient(self.x):
            return Fold.dense(depth, height)
        return Fold.around(depth, height, input_grad_halo(self._sizes.depth), input_grad_halo(self._sizes.plane))

    def grad_halo(self, b):
        fold = self.dz_fold(b)
        return fold.halo if fold.is_dense else NO_HALO

    def backward(self, b):
        conv, fold = self.sizes(b.n), self.dz_fold(b)
        dz = self.folded_gradient(b, fold)
        if any(v.trainable for v in self.variables):
            self.weight_grad(b, conv, dz, fold)
        if b.wants_gradient(self.x):
            self.input_grad(b, conv, dz, fold)

    def folded_gradient(self, b, fold: Fold) -> Buffer:
        """The gradient with respect to the unclamped result, folded."""
        dy, y = b.grad(self.y), b.buffer(self.y)
        if self.activation == "linear":
            return self.fold(b, dy, fold, "fold gradient")
        dz, dense = b.scratch((fold.rows, *dy.hwc[1:]), fold.halo), Fold.dense(fold.depth, fold.height)
        self.step(b, "mask", slice_by_slice(
            lambda i, dy, y, dz: _eltwise.ActivationGrad(self.activation, dy, None, y, dz),
            (dy, dense), (y, dense), (dz, fold)), [dy, y], [dz])
        return dz

    def weight_grad(self, b, conv, dz, fold: Fold):
        x, parts = self.folded_x, b.partial_gradients(self.kernel, self.bias)

        def make():
            dw, db = parts()
            return [passes.weight_grad(conv, x.tensor, self.x_fold.pitch, slices(dz, fold),
                                       dw, db, self.algorithm)]

        self.step(b, "weight gradient", make, [x, dz], [], deferred=self.weight_bytes > LARGE_WEIGHTS,
                  partial=parts)

    def input_grad(self, b, conv, dz, fold: Fold):
        with b.gradient_of(self.x) as dx:
            for phase in passes.phases3d(conv):
                weights = b.weights(self.kernel, conv.w_shape,
                                    lambda w, packed, p=phase: passes.input_grad_weights(conv, p, w, packed), pack=True)
                self.step(b, "input gradient", lambda p=phase, w=weights: [
                    passes.input_grad(conv, p, dz.tensor, fold.pitch, w(), dx.tensor, self.algorithm)],
                    [dz, weights], [dx], weight_bytes=self.weight_bytes)


class SlicePool(Operation):
    """Max- or average pooling of every slice on its own."""

    name = "slice_pool"

    def __init__(self, x, window: Window, maximum: bool, layer=None):
        depth, _, _, channels = x.shape
        super().__init__([x], (depth, *window.output, channels), layer)
        self.maximum, self.window = maximum, window
        self.sizes = window.kernel, window.strides, window.pads

    def volumes(self, x: Buffer, y: Buffer):
        """The image side and the pooled side, as `slice_by_slice` wants them."""
        depth = self.y.shape[0]
        return (x, Fold.dense(depth, self.window.ih)), (y, Fold.dense(depth, self.window.oh))

    def args(self, b):
        """Taps of the maxima."""
        return b.args(self, self.y.shape, wide=prod(self.window.kernel) > 255)

    def taps(self, arg, i: int):
        """Those of the i-th slice, an array (n, oh, ow, c)."""
        depth, oh, ow, c = self.y.shape
        return arg.array.reshape(depth, -1, oh, ow, c)[i]

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        arg = self.args(b) if self.maximum and b.training else None

        def pool(i, x, y):
            if not self.maximum:
                return _pool.AvgPool(x, y, *self.sizes)
            return _pool.MaxPool(x, y, *self.sizes, self.taps(arg, i) if arg else None)

        self.step(b, "forward", slice_by_slice(pool, *self.volumes(x, y)), [x], [y, arg])

    def backward(self, b):
        dy = b.grad(self.y)
        arg = self.args(b) if self.maximum else None

        def grad(i, dx, dy):
            return (_pool.MaxPoolGrad(dy, dx, self.taps(arg, i), *self.sizes) if self.maximum
                    else _pool.AvgPoolGrad(dy, dx, *self.sizes))

        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", slice_by_slice(grad, *self.volumes(dx, dy)),
                      [dy, arg], [dx])
