"""The transposed convolution as an operation: a convolution's input gradient, run forward."""

from __future__ import annotations

from fastcnn.geometry import Conv as ConvSizes
from fastcnn.kernels import _eltwise
from fastcnn.kernels import conv as passes
from fastcnn.plan.convolution import forward_halo, input_grad_halo
from fastcnn.plan.operations import CLAMPS, NO_HALO, Clamped


class ConvTranspose(Clamped):
    """Transposed convolution, then bias and clamp: each pass is one of the convolution `sizes` that leads back.

    Its input gradient is the forward pass here, its forward pass gives the gradient of x, and in its weight
    gradient x and dy exchange roles.
    """

    name = "conv_transpose"

    def __init__(self, x, sizes: ConvSizes, kernel, bias, layer=None):
        self.kernel, self.bias = kernel, bias
        self._sizes = sizes
        super().__init__([x], sizes.x_shape[1:], layer, (kernel, bias))
        x.want_halo(input_grad_halo(sizes))

    def sizes(self, n: int) -> ConvSizes:
        """The convolution from y back to x, for n images."""
        conv = self._sizes
        return ConvSizes(n, conv.ic, conv.oc, conv.groups, conv.window)

    def forward(self, b):
        conv, x, y = self.sizes(b.n), b.buffer(self.x), b.buffer(self.y)
        for phase in passes.phases(conv):
            weights = b.weights(self.kernel, conv.w_shape,
                                lambda w, packed, p=phase: passes.input_grad_weights(conv, p, w, packed), pack=True)
            self.step(b, "forward", lambda p=phase, w=weights: [
                passes.input_grad(conv, p, x.tensor, w(), y.tensor, "direct", b.value(self.bias),
                                  clamp=CLAMPS[self.activation])], [x, weights], [y], weight_bytes=self.weight_bytes)

    def backward(self, b):
        conv, dz = self.sizes(b.n), self.unclamped_gradient(b)
        if self.kernel.trainable:
            self.weight_grad(b, conv, dz)
        if self.bias is not None and self.bias.trainable:
            self.bias_grad(b, dz)
        if b.wants_gradient(self.x):
            self.input_grad(b, conv, dz)

    def grad_halo(self, b):
        return forward_halo(self._sizes.window) if b.wants_gradient(self.x) else NO_HALO

    def weight_grad(self, b, conv, dz):
        x = b.buffer(self.x)
        by_channels = conv.groups == 1 and self.weight_bytes > passes.LARGE_WEIGHTS
        parts = b.partial_gradients(self.kernel, None)

        def make():
            dw, _ = parts()
            return [passes.weight_grad(conv, dz.tensor, x.tensor, dw.reshape(len(dw), *conv.w_shape), None, "direct",
                                       by_channels=by_channels)]

        self.step(b, "weight gradient", make, [x, dz], [], pipelined=not by_channels, deferred=by_channels,
                  partial=parts)

    def bias_grad(self, b, dz):
        parts = b.partial_gradients(None, self.bias)
        self.step(b, "bias gradient", lambda: [_eltwise.BiasGrad(dz.tensor, parts()[1])], [dz], [], partial=parts)

    def input_grad(self, b, conv, dz):
        weights = b.weights(self.kernel, conv.w_shape,
                            lambda w, packed: passes.forward_weights(conv, w, packed), pack=True)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [
                passes.forward(conv, dz.tensor, weights(), dx.tensor, None, "direct")], [dz, weights], [dx],
                      weight_bytes=self.weight_bytes)

    @property
    def weight_bytes(self) -> int:
        return passes.weight_bytes(self._sizes)
