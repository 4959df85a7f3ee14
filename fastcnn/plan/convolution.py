"""Convolution and dense layers as operations, and depthwise convolution: which algorithm computes each pass, and the
steps that makes."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

from fastcnn.algorithms import (
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    adds_overlaps,
    adjoint_tile,
    computes_planes,
    sums_by_channels,
    sums_pooled,
    winograd_gradients,
    winograd_tile,
)
from fastcnn.geometry import Conv as ConvSizes
from fastcnn.geometry import Window
from fastcnn.kernels import _depthwise, _pool, overlap, planes, winograd
from fastcnn.kernels import conv as passes
from fastcnn.kernels._overlap import PackOverlap
from fastcnn.kernels._winograd_weights import PackWinograd
from fastcnn.plan.operations import CLAMPS, NO_HALO, Clamped, Operation, Value, like, merge_halos, take_over

MANY = 1 << 20  # images


class Conv(Clamped):
    """Convolution or dense layer, with what follows it in the same pass: bias, clamp (ReLU), max-pooling."""

    name = "conv"

    def __init__(self, x, words: dict[str, Any], kernel, bias, algorithm="auto", layer=None):
        self.words, self.kernel, self.bias = words, kernel, bias
        self.algorithm = algorithm
        sizes = self.sizes(x, 1)
        shape = (*x.shape[:-1], sizes.oc) if len(kernel.shape) == 2 else like(x, *sizes.y_shape[1:])
        super().__init__([x], shape, layer, (kernel, bias))
        if not (self.algorithm == "im2col" or self.may_be_winograd):
            x.want_halo(forward_halo(sizes.window))

    @property
    def may_be_winograd(self) -> bool:
        """Whether the forward pass over a large enough batch is Winograd's."""
        return winograd_tile(self.sizes(self.x, MANY), FORWARD, self.algorithm) > 0

    def sizes(self, x: Value, n: int) -> ConvSizes:
        return ConvSizes.resolve((n, *x.hwc), self.kernel_shape, where=self.name, **self.words)

    @property
    def kernel_shape(self):
        """(kh, kw, ic // groups, oc): a dense layer's and a sequence's filters lack the first axes."""
        shape = self.kernel.shape
        return (1,) * (4 - len(shape)) + shape

    @property
    def is_dense(self) -> bool:
        return prod(self.kernel_shape[:2]) == 1 and prod(self.x.hwc[:2]) == 1

    def can_clamp(self, kind):
        return kind == "relu" if self.pool else kind in CLAMPS

    def absorb_pool(self, pool: Operation) -> bool:
        """Take over a following max-pooling with windows side by side, for relu(max(x)) = max(relu(x))."""
        if (self.pool or self.is_dense or not pool.is_simple or self.activation not in ("linear", "relu")
                or self.words.get("groups", 1) > 1 or self.weight_bytes > passes.HUGE_WEIGHTS):
            return False
        if self.may_be_winograd and (pool.window.kh, pool.window.kw) != (2, 2):
            return False
        self.pool = pool.window
        take_over(self, pool)
        return True

    def forward(self, b):
        conv = self.sizes(self.x, b.n)
        m = winograd_tile(conv, FORWARD, self.algorithm)
        if m:
            self.winograd_forward(b, conv, m)
            return
        if computes_planes(conv, self.algorithm, self.pool and self.pool.kernel):
            self.plane_forward(b, conv)
            return
        x, y = b.buffer(self.x), b.buffer(self.y)
        by_channels = self.is_dense or (not self.pool and passes.is_dense_like(conv))
        weights = b.weights(self.kernel, self.kernel_shape,
                            lambda w, packed: passes.forward_weights(conv, w, packed), pack=not by_channels)
        arg, options = self.pool_args(b), {"by_channels": True} if by_channels else {}
        self.step(b, "forward", lambda: [passes.forward(
            conv, x.tensor, weights(), y.tensor, b.value(self.bias), self.algorithm, **self.pool_words(arg),
            **options)], [x, weights], [y, arg], pipelined=not by_channels, weight_bytes=self.weight_bytes)

    def pool_args(self, b):
        """What the forward pass writes beside y for the backward pass of a pooling."""
        return b.args(self, self.y.shape) if self.pool and b.training else None

    def pool_words(self, arg):
        """What tells the forward pass of the clamp and the pooling."""
        if not self.pool:
            return {"clamp": CLAMPS[self.activation]}
        return {"pool": (self.pool.kh, self.pool.kw), "arg": arg.array if arg else None,
                "pool_relu": self.activation == "relu"}

    def winograd_forward(self, b, conv, m):
        x, y = b.buffer(self.x), b.buffer(self.y)
        weights, options = self.winograd_weights(b, conv, m, winograd.forward_weights)
        arg = self.pool_args(b)
        self.step(b, "forward", lambda: [winograd.forward(
            conv, m, x.tensor, weights(), y.tensor, b.value(self.bias), by_blocks=not options["pipelined"],
            **self.pool_words(arg))], [x, weights], [y, arg], **options)

    def plane_forward(self, b, conv):
        x, y, arg = b.buffer(self.x), b.buffer(self.y), self.pool_args(b)

        def make():
            words = self.pool_words(arg)
            words["pooled"] = words.pop("pool", None) is not None
            return [planes.forward(conv, x.tensor, self.kernel.value.reshape(self.kernel_shape), y.tensor,
                                   b.value(self.bias), **words)]

        self.step(b, "forward", make, [x], [y, arg], weight_bytes=self.weight_bytes)

    def winograd_weights(self, b, conv, m, make):
        """The weights, and how the step that reads them is run: large ones are a stage of their own."""
        weights = b.weights(self.kernel, self.kernel_shape, lambda w, packed: make(conv, m, w, packed),
                            winograd.stores_weights(conv, m), PackWinograd)
        weight_bytes = winograd.transformed_bytes(conv, m)
        return weights, {"pipelined": weight_bytes <= passes.LARGE_WEIGHTS, "weight_bytes": weight_bytes}

    def backward(self, b):
        conv = self.sizes(self.x, b.n)
        trains, passes_on = any(v.trainable for v in self.variables), b.wants_gradient(self.x)
        m = winograd_gradients(conv, self.algorithm)
        if m and trains and passes_on:
            self.winograd_gradients(b, conv, m)
            return
        dz, arg = self.gradient_source(b, conv, trains, passes_on)
        early = trains and self.is_dense and b.updates is not None and b.updates.may_be_early(self.kernel)
        if trains and not early:
            self.weight_grad(b, conv, dz, arg)
        if passes_on:
            self.input_grad(b, conv, dz, arg)
        if early:  # which changes the weights
            self.update_early(b, conv, dz)

    def gradient_source(self, b, conv, trains, passes_on):
        """(gradient, taps): of the pooled result, where all passes can read that, else of the bare convolution."""
        sums, spreads = sums_pooled(conv, self.algorithm), adjoint_tile(conv, self.algorithm)
        if self.pool and self.pool.kernel == (2, 2) and (sums or not trains) and (spreads or not passes_on):
            return b.grad(self.y), self.pool_args(b)
        return self.unpool_and_mask(b, conv), None

    def winograd_gradients(self, b, conv, m):
        """All gradients in one pass, which reads a pooled one as it is."""
        dz = b.grad(self.y) if self.pool else self.unclamped_gradient(b)
        arg = self.pool_args(b)
        x, parts = b.saved(self.x), b.partial_gradients(self.kernel, self.bias)
        weights, options = self.winograd_weights(b, conv, m, winograd.adjoint_weights)
        with b.gradient_of(self.x) as dx:
            def make():
                dw, db = parts()
                return [winograd.weight_grad(conv, m, x.tensor, dz.tensor, dw.reshape(len(dw), *self.kernel_shape), db,
                                             arg.array if arg else None, dx=dx.tensor, weights=weights())]

            self.step(b, "gradients", make, [x, dz, arg, weights], [dx], partial=parts, **options)

    def unpool_and_mask(self, b, conv):
        """The gradient with respect to the bare convolution, where the input gradient finds its halo."""
        if not self.pool:
            return self.unclamped_gradient(b)
        dy, dz = b.grad(self.y), b.scratch(conv.y_shape[1:], self.grad_halo(b))
        arg, window = b.args(self, self.y.shape), (self.pool.kh, self.pool.kw)
        self.step(b, "unpool", lambda: [_pool.MaxPoolGrad(dy.tensor, dz.tensor, arg.array, window, window)],
                  [dy, arg], [dz])
        return dz

    def grad_halo(self, b):
        conv = self.sizes(self.x, b.n)
        if not b.wants_gradient(self.x) or self.algorithm == "im2col" \
                or winograd_tile(conv, INPUT_GRAD, self.algorithm) or adjoint_tile(conv, self.algorithm) \
                or adds_overlaps(conv, INPUT_GRAD, self.algorithm):
            return NO_HALO
        return input_grad_halo(conv)

    def weight_grad(self, b, conv, dz, arg):
        driver, by_channels = self.weight_grad_driver(conv, arg is not None)
        x = b.buffer(self.x) if by_channels else b.saved(self.x)
        parts = b.partial_gradients(self.kernel, self.bias)

        def make():
            dw, db = parts()
            taps = {"arg": arg.array} if arg else {}
            return [driver(x.tensor, dz.tensor, dw=dw.reshape(len(dw), *self.kernel_shape), db=db, **taps)]

        self.step(b, "weight gradient", make, [x, dz, arg], [], pipelined=not by_channels, deferred=by_channels,
                  partial=parts)

    def update_early(self, b, conv, dz):
        """The gradient and, part by part, the update of weights that are not read any more."""
        x, parts = b.buffer(self.x), b.partial_gradients(self.kernel, self.bias)

        def make():
            dw, db = parts()
            return [passes.weight_grad(conv, x.tensor, dz.tensor, dw.reshape(1, *self.kernel_shape), db, self.algorithm,
                                       by_channels=True, update=b.updates.rule_of(self.kernel))]

        self.step(b, "weight gradient", make, [x, dz], [], pipelined=False, partial=parts)

    def weight_grad_driver(self, conv, pooled):
        """(what makes the op from x, dz, dw, db and, if pooled, arg; whether it is cut by channels, over all images)"""
        m = winograd_tile(conv, WEIGHT_GRAD, self.algorithm)
        if m:
            by_channels = sums_by_channels(conv, m)
            return partial(winograd.weight_grad, conv, m, by_channels=by_channels), by_channels
        if pooled:
            return partial(passes.pooled_weight_grad, conv), False
        if adds_overlaps(conv, WEIGHT_GRAD, self.algorithm):
            return partial(overlap.weight_grad, conv), False
        by_channels = conv.groups == 1 and (self.is_dense or self.weight_bytes > passes.LARGE_WEIGHTS)
        return partial(passes.weight_grad, conv, algorithm=self.algorithm, by_channels=by_channels), by_channels

    def input_grad(self, b, conv, dz, arg):
        m = adjoint_tile(conv, self.algorithm)
        if m:
            self.winograd_adjoint(b, conv, m, dz, arg)
            return
        m = winograd_tile(conv, INPUT_GRAD, self.algorithm)
        if m:
            self.winograd_input_grad(b, conv, m, dz)
            return
        if adds_overlaps(conv, INPUT_GRAD, self.algorithm):
            self.overlap_input_grad(b, conv, dz)
            return
        with b.gradient_of(self.x) as dx:
            for phase in passes.phases(conv):
                weights = b.weights(self.kernel, self.kernel_shape,
                                    lambda w, packed, p=phase: passes.input_grad_weights(conv, p, w, packed),
                                    pack=not self.is_dense)
                self.step(b, "input gradient", lambda p=phase, w=weights: [
                    passes.input_grad(conv, p, dz.tensor, w(), dx.tensor, self.algorithm, **self.dense_options)],
                    [dz, weights], [dx], pipelined=not self.is_dense, weight_bytes=self.weight_bytes)

    def overlap_input_grad(self, b, conv, dz):
        weights = b.weights(self.kernel, self.kernel_shape, overlap.input_grad_weights, True, PackOverlap)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [overlap.input_grad(conv, dz.tensor, weights(), dx.tensor)],
                      [dz, weights], [dx], weight_bytes=self.weight_bytes)

    def winograd_input_grad(self, b, conv, m, dz):
        weights, options = self.winograd_weights(b, conv, m, winograd.input_grad_weights)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [winograd.input_grad(
                conv, m, dz.tensor, weights(), dx.tensor, by_blocks=not options["pipelined"])],
                      [dz, weights], [dx], **options)

    def winograd_adjoint(self, b, conv, m, dz, arg):
        weights, options = self.winograd_weights(b, conv, m, winograd.adjoint_weights)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [winograd.adjoint(
                conv, m, dz.tensor, weights(), dx.tensor, arg.array if arg else None,
                by_blocks=not options["pipelined"])], [dz, arg, weights], [dx], **options)

    @property
    def dense_options(self):
        return {"by_channels": True} if self.is_dense else {}

    @property
    def weight_bytes(self) -> int:
        return 4 * prod(self.kernel_shape)


def forward_halo(w: Window):
    """Zeros that a direct convolution reads around its input."""
    bottom = (w.oh - 1) * w.sh + (w.kh - 1) * w.dh + 1 - w.top - w.ih
    right = (w.ow - 1) * w.sw + (w.kw - 1) * w.dw + 1 - w.left - w.iw
    return (w.top, max(0, bottom)), (w.left, max(0, right))


def input_grad_halo(conv: ConvSizes):
    """Zeros that a direct input gradient reads around dz."""
    halo = NO_HALO
    for phase in passes.phases(conv):
        if phase.pixels:
            reach = [max(p[i] for p in phase.pixels) for i in (0, 1)]
            ends = [size - 1 + far - start for size, far, start in
                    zip((phase.rows, phase.cols), reach, phase.origin, strict=True)]
            halo = merge_halos(halo, ((max(0, phase.origin[0]), max(0, ends[0] + 1 - conv.window.oh)),
                                      (max(0, phase.origin[1]), max(0, ends[1] + 1 - conv.window.ow))))
    return halo


class DepthwiseConv(Clamped):
    """One filter (or a few) per channel."""

    name = "depthwise"

    def __init__(self, x, window: Window, kernel, bias, layer=None):
        self.window, self.kernel, self.bias = window, kernel, bias
        channels = prod(kernel.shape[-2:])
        super().__init__([x], like(x, window.oh, window.ow, channels), layer, (kernel, bias))
        self.sizes = (window.sh, window.sw), window.pads, (window.dh, window.dw)

    @property
    def weights(self):
        """(kh, kw, channels, filters per channel); a grouped Conv2D's (kh, kw, 1, filters) is the same memory."""
        return self.kernel.value.reshape(self.window.kh, self.window.kw, self.x.hwc[2], -1)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_depthwise.DepthwiseConv(
            x.tensor, self.weights, b.value(self.bias), y.tensor, *self.sizes, *CLAMPS[self.activation])], [x], [y])

    def backward(self, b):
        dz = self.unclamped_gradient(b)
        if any(v.trainable for v in self.variables):
            x, parts = b.saved(self.x), b.partial_gradients(self.kernel, self.bias)

            def make():
                dw, db = parts()
                return [_depthwise.DepthwiseWeightGrad(x.tensor, dz.tensor, dw.reshape(len(dw), -1), db,
                                                       (self.window.kh, self.window.kw), *self.sizes)]

            self.step(b, "weight gradient", make, [x, dz], [], partial=parts)
        if b.wants_gradient(self.x):
            with b.gradient_of(self.x) as dx:
                self.step(b, "input gradient", lambda: [_depthwise.DepthwiseInputGrad(
                    dz.tensor, self.weights, dx.tensor, *self.sizes)], [dz], [dx])
