"""What layers become: operations on values, each with its forward and backward steps on one screen.

Here are the base and the operations of images: convolution, pooling, activations, dropout, changes of shape. Those of
other layers are in the modules beside this one.

A `Value` is an activation of one sample. An operation adds steps to a `Builder`: a step is a driver of the engine
with the buffers it reads and writes. Backward steps overwrite the gradient they produce; where several
consumers' gradients meet, the builder adds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

from fastcnn.algorithms import FORWARD, INPUT_GRAD, WEIGHT_GRAD, sums_by_channels, winograd_tile
from fastcnn.geometry import Conv as ConvSizes
from fastcnn.geometry import Window
from fastcnn.kernels import _depthwise, _eltwise, _pool, winograd
from fastcnn.kernels import conv as passes
from fastcnn.kernels._winograd_weights import PackWinograd

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer, Variable
    from fastcnn.plan.builder import Builder

NO_HALO = ((0, 0), (0, 0))
MANY = 1 << 20  # images
CLAMPS = {"linear": (-inf, inf), "relu": (0.0, inf), "relu6": (0.0, 6.0)}


class Value:
    """An activation: `shape` of one sample; the engine sees it as h x w pixels of c channels."""

    def __init__(self, shape: Sequence[int], producer: Operation | None = None):
        self.shape = tuple(shape)
        self.producer = producer
        self.consumers: list[Operation] = []
        self.halo = NO_HALO  # zeros around the image that some consumer wants to read

    @property
    def hwc(self) -> tuple[int, int, int]:
        *outer, c = self.shape or (1,)
        if len(outer) < 2:
            return 1, prod(outer), c
        return prod(outer[:-1]), outer[-1], c

    def want_halo(self, halo) -> None:
        self.halo = merge_halos(self.halo, halo)


def like(x: Value, h: int, w: int, c: int) -> tuple[int, ...]:
    """The shape of h x w pixels of c channels; where x is a sequence, of its w steps."""
    return (w, c) if len(x.shape) == 2 else (h, w, c)


def merge_halos(a, b):
    return tuple(tuple(max(p) for p in zip(*axis, strict=True)) for axis in zip(a, b, strict=True))


class Operation:
    """Base: `inputs` and `y` are values, `variables` the weights it reads."""

    name = "operation"

    def __init__(self, inputs: Sequence[Value], shape, layer: Layer | None = None,
                 variables: Sequence[Variable | None] = ()):
        self.inputs = list(inputs)
        self.variables = [v for v in variables if v is not None]
        self.layer = layer
        self.y = Value(shape, self)
        for x in self.inputs:
            x.consumers.append(self)

    @property
    def x(self) -> Value:
        return self.inputs[0]

    def forward(self, b: Builder) -> None:
        raise NotImplementedError

    def backward(self, b: Builder) -> None:
        raise NotImplementedError

    def step(self, b: Builder, direction: str, make, reads, writes, **options) -> None:
        b.step(f"{self.layer.name if self.layer else self.name} {direction}", make, reads, writes,
               layer=self.layer, **options)


class Conv(Operation):
    """Convolution or dense layer, with what follows it in the same pass: bias, clamp (ReLU), max-pooling."""

    name = "conv"

    def __init__(self, x, words: dict[str, Any], kernel, bias, algorithm="auto", layer=None):
        self.words, self.kernel, self.bias = words, kernel, bias
        self.algorithm = algorithm
        self.activation, self.pool = "linear", None
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

    def absorb_activation(self, activation: Operation) -> bool:
        """Take over a following clamp, if nothing else reads the unclamped values."""
        if self.activation != "linear" or activation.kind not in CLAMPS or (self.pool and activation.kind != "relu"):
            return False
        self.activation = activation.kind
        take_over(self, activation)
        return True

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
        x, y = b.buffer(self.x), b.buffer(self.y)
        by_channels = self.is_dense or (not self.pool and passes.is_dense_like(conv))
        weights = b.weights(self.kernel, self.kernel_shape, self,
                            lambda w, packed: passes.forward_weights(conv, w, packed), pack=not by_channels)
        writes, options = self.pool_options(b)
        if by_channels:
            options["by_channels"] = True

        def make():
            return [passes.forward(conv, x.tensor, weights(), y.tensor, b.value(self.bias), self.algorithm, **options)]

        self.step(b, "forward", make, [x], [y, *writes], pipelined=not by_channels, weight_bytes=self.weight_bytes)

    def pool_options(self, b):
        """What else the forward pass writes, and the words that tell it of the clamp and the pooling."""
        if not self.pool:
            return [], {"clamp": CLAMPS[self.activation]}
        arg = b.args(self, self.y.shape) if b.training else None
        return [arg] if arg else [], {"pool": (self.pool.kh, self.pool.kw), "arg": arg.array if arg else None,
                                      "pool_relu": self.activation == "relu"}

    def winograd_forward(self, b, conv, m):
        x, y = b.buffer(self.x), b.buffer(self.y)
        weights, options = self.winograd_weights(b, conv, m, winograd.forward_weights)
        writes, words = self.pool_options(b)
        self.step(b, "forward", lambda: [winograd.forward(
            conv, m, x.tensor, weights(), y.tensor, b.value(self.bias), by_blocks=not options["pipelined"], **words)],
                  [x], [y, *writes], **options)

    def winograd_weights(self, b, conv, m, make):
        """The weights, and how the step that reads them is run: large ones are a stage of their own."""
        weights = b.weights(self.kernel, self.kernel_shape, self, lambda w, packed: make(m, w, packed),
                            winograd.stores_weights(conv, m), PackWinograd)
        weight_bytes = winograd.transformed_bytes(conv, m)
        return weights, {"pipelined": weight_bytes <= passes.LARGE_WEIGHTS, "weight_bytes": weight_bytes}

    def backward(self, b):
        conv = self.sizes(self.x, b.n)
        dz = self.unpool_and_mask(b, conv)
        if any(v.trainable for v in self.variables):
            self.weight_grad(b, conv, dz)
        if b.wants_gradient(self.x):
            self.input_grad(b, conv, dz)

    def unpool_and_mask(self, b, conv):
        """The gradient with respect to the bare convolution, where the input gradient finds its halo."""
        dy, y = b.grad(self.y), b.buffer(self.y)
        if not self.pool and self.activation == "linear":
            return dy
        dz = b.scratch(conv.y_shape[1:], self.grad_halo(b))
        if self.pool:
            arg, window = b.args(self, self.y.shape), (self.pool.kh, self.pool.kw)
            self.step(b, "unpool", lambda: [_pool.MaxPoolGrad(dy.tensor, dz.tensor, arg.array, window, window)],
                      [dy, arg], [dz])
        else:
            self.step(b, "mask", lambda: [_eltwise.ActivationGrad(
                self.activation, dy.tensor, None, y.tensor, dz.tensor)],
                      [dy, y], [dz])
        return dz

    def grad_halo(self, b):
        """Zeros around dz that the input gradient reads."""
        conv = self.sizes(self.x, b.n)
        if not b.wants_gradient(self.x) or self.algorithm == "im2col" \
                or winograd_tile(conv, INPUT_GRAD, self.algorithm):
            return NO_HALO
        return input_grad_halo(conv)

    def weight_grad(self, b, conv, dz):
        m = winograd_tile(conv, WEIGHT_GRAD, self.algorithm)
        if m:
            self.winograd_weight_grad(b, conv, m, dz)
            return
        x = b.buffer(self.x)
        by_channels = conv.groups == 1 and (self.is_dense or self.weight_bytes > passes.LARGE_WEIGHTS)
        parts = b.partial_gradients(self.kernel, self.bias)

        def make():
            dw, db = parts()
            return [passes.weight_grad(conv, x.tensor, dz.tensor, dw.reshape(len(dw), *self.kernel_shape), db,
                                       self.algorithm, by_channels=by_channels)]

        self.step(b, "weight gradient", make, [x, dz], [], pipelined=not by_channels, deferred=by_channels,
                  partial=None if by_channels else parts)

    def winograd_weight_grad(self, b, conv, m, dz):
        x, parts = b.buffer(self.x), b.partial_gradients(self.kernel, self.bias)
        by_channels = sums_by_channels(conv, m)

        def make():
            dw, db = parts()
            return [winograd.weight_grad(conv, m, x.tensor, dz.tensor, dw.reshape(len(dw), *self.kernel_shape), db,
                                         by_channels=by_channels)]

        self.step(b, "weight gradient", make, [x, dz], [], pipelined=not by_channels, deferred=by_channels,
                  partial=None if by_channels else parts)

    def input_grad(self, b, conv, dz):
        m = winograd_tile(conv, INPUT_GRAD, self.algorithm)
        if m:
            self.winograd_input_grad(b, conv, m, dz)
            return
        with b.gradient_of(self.x) as dx:
            for phase in passes.phases(conv):
                weights = b.weights(self.kernel, self.kernel_shape, self,
                                    lambda w, packed, p=phase: passes.input_grad_weights(conv, p, w, packed),
                                    pack=not self.is_dense)
                self.step(b, "input gradient", lambda p=phase, w=weights: [
                    passes.input_grad(conv, p, dz.tensor, w(), dx.tensor, self.algorithm, **self.dense_options)],
                    [dz], [dx], pipelined=not self.is_dense, weight_bytes=self.weight_bytes)

    def winograd_input_grad(self, b, conv, m, dz):
        weights, options = self.winograd_weights(b, conv, m, winograd.input_grad_weights)
        with b.gradient_of(self.x) as dx:
            self.step(b, "input gradient", lambda: [winograd.input_grad(
                conv, m, dz.tensor, weights(), dx.tensor, by_blocks=not options["pipelined"])],
                      [dz], [dx], **options)

    @property
    def dense_options(self):
        return {"by_channels": True} if self.is_dense else {}

    @property
    def weight_bytes(self) -> int:
        return 4 * prod(self.kernel_shape)


def take_over(op: Operation, next_op: Operation) -> None:
    """`op` now produces what `next_op` did."""
    op.y = next_op.y
    op.y.producer = op


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


class DepthwiseConv(Operation):
    """One filter (or a few) per channel."""

    name = "depthwise"

    def __init__(self, x, window: Window, kernel, bias, layer=None):
        self.window, self.kernel, self.bias = window, kernel, bias
        channels = prod(kernel.shape[-2:])
        super().__init__([x], like(x, window.oh, window.ow, channels), layer, (kernel, bias))
        self.activation = "linear"
        self.sizes = (window.sh, window.sw), window.pads, (window.dh, window.dw)

    @property
    def weights(self):
        """(kh, kw, channels, filters per channel); a grouped Conv2D's (kh, kw, 1, filters) is the same memory."""
        return self.kernel.value.reshape(self.window.kh, self.window.kw, self.x.hwc[2], -1)

    def absorb_activation(self, activation):
        if self.activation != "linear" or activation.kind not in CLAMPS:
            return False
        self.activation = activation.kind
        take_over(self, activation)
        return True

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_depthwise.DepthwiseConv(
            x.tensor, self.weights, b.value(self.bias), y.tensor, *self.sizes, *CLAMPS[self.activation])], [x], [y])

    def backward(self, b):
        dy, x, y = b.grad(self.y), b.buffer(self.x), b.buffer(self.y)
        if self.activation != "linear":
            dz = b.scratch(self.y.shape)
            self.step(b, "mask", lambda: [_eltwise.ActivationGrad(
                self.activation, dy.tensor, None, y.tensor, dz.tensor)],
                      [dy, y], [dz])
        else:
            dz = dy
        if any(v.trainable for v in self.variables):
            parts = b.partial_gradients(self.kernel, self.bias)

            def make():
                dw, db = parts()
                return [_depthwise.DepthwiseWeightGrad(x.tensor, dz.tensor, dw.reshape(len(dw), -1), db,
                                                       (self.window.kh, self.window.kw), *self.sizes)]

            self.step(b, "weight gradient", make, [x, dz], [], partial=parts)
        if b.wants_gradient(self.x):
            with b.gradient_of(self.x) as dx:
                self.step(b, "input gradient", lambda: [_depthwise.DepthwiseInputGrad(
                    dz.tensor, self.weights, dx.tensor, *self.sizes)], [dz], [dx])


class MaxPool(Operation):
    """Max- or min-pooling."""

    name = "max_pool"

    def __init__(self, x, window: Window, minimum=False, layer=None):
        super().__init__([x], like(x, window.oh, window.ow, x.hwc[2]), layer)
        self.window, self.minimum = window, minimum
        self.sizes = (window.kh, window.kw), (window.sh, window.sw), window.pads

    @property
    def is_simple(self) -> bool:
        """Windows side by side, no padding, few enough taps for a byte."""
        w = self.window
        return (not self.minimum and (w.kh, w.kw) == (w.sh, w.sw) and w.pads == NO_HALO and w.kh * w.kw < 255)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        arg = b.args(self, self.y.shape, wide=self.window.kh * self.window.kw > 255) if b.training else None
        self.step(b, "forward", lambda: [_pool.MaxPool(x.tensor, y.tensor, *self.sizes, arg.array if arg else None,
                                                       minimum=self.minimum)], [x], [y] + ([arg] if arg else []))

    def backward(self, b):
        dy, arg = b.grad(self.y), b.args(self, self.y.shape)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_pool.MaxPoolGrad(dy.tensor, dx.tensor, arg.array, *self.sizes)],
                      [dy, arg], [dx])


class AvgPool(Operation):
    """Average pooling."""

    name = "avg_pool"

    def __init__(self, x, window: Window, layer=None):
        super().__init__([x], like(x, window.oh, window.ow, x.hwc[2]), layer)
        self.sizes = (window.kh, window.kw), (window.sh, window.sw), window.pads

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_pool.AvgPool(x.tensor, y.tensor, *self.sizes)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_pool.AvgPoolGrad(dy.tensor, dx.tensor, *self.sizes)], [dy], [dx])


class GlobalPool(Operation):
    """Maximum or mean of each channel over the image."""

    name = "global_pool"

    def __init__(self, x, maximum: bool, keepdims=False, layer=None):
        c = x.hwc[2]
        super().__init__([x], (*[1] * (len(x.shape) - 1), c) if keepdims else (c,), layer)
        self.maximum = maximum

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        if not self.maximum:
            self.step(b, "forward", lambda: [_pool.GlobalAvgPool(x.tensor, y.tensor)], [x], [y])
            return
        arg = b.args(self, self.y.hwc, wide=True) if b.training else None
        self.step(b, "forward", lambda: [_pool.GlobalMaxPool(x.tensor, y.tensor, arg.array if arg else None)],
                  [x], [y] + ([arg] if arg else []))

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            if self.maximum:
                arg = b.args(self, self.y.hwc, wide=True)
                self.step(b, "backward", lambda: [_pool.GlobalMaxPoolGrad(dy.tensor, dx.tensor, arg.array)],
                          [dy, arg], [dx])
            else:
                self.step(b, "backward", lambda: [_pool.GlobalAvgPoolGrad(dy.tensor, dx.tensor)], [dy], [dx])


class Activation(Operation):
    """An element-wise function."""

    name = "activation"

    def __init__(self, x, kind: str, param=None, layer=None):
        super().__init__([x], x.shape, layer)
        self.kind, self.param = kind, param

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_eltwise.Activation(self.kind, x.tensor, y.tensor, self.param)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        from_x = _eltwise.grad_needs(self.kind) == "x"
        saved = b.buffer(self.x if from_x else self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.ActivationGrad(
                self.kind, dy.tensor, saved.tensor if from_x else None, None if from_x else saved.tensor, dx.tensor,
                self.param)], [dy, saved], [dx])


class Softmax(Operation):
    """Softmax or log-softmax over the last axis."""

    name = "softmax"

    def __init__(self, x, log=False, layer=None):
        super().__init__([x], x.shape, layer)
        self.log = log

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_eltwise.Softmax(x.tensor, y.tensor, self.log)], [x], [y])

    def backward(self, b):
        dy, y = b.grad(self.y), b.buffer(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.SoftmaxGrad(dy.tensor, y.tensor, dx.tensor, self.log)],
                      [dy, y], [dx])


class Dropout(Operation):
    """Inverted dropout (training only): each kept value is scaled by 1 / (1 - rate)."""

    name = "dropout"

    def __init__(self, x, rate: float, spatial=False, layer=None):
        super().__init__([x], x.shape, layer)
        self.rate, self.spatial = rate, spatial

    def forward(self, b):
        x, y, stream = b.buffer(self.x), b.buffer(self.y), b.stream(self)
        self.step(b, "forward", lambda: [_eltwise.Dropout(
            x.tensor, y.tensor, self.rate, b.counter, stream, self.spatial)], [x], [y])

    def backward(self, b):
        dy, stream = b.grad(self.y), b.stream(self)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.DropoutGrad(
                dy.tensor, dx.tensor, self.rate, b.counter, stream, self.spatial)],
                      [dy], [dx])


class Affine(Operation):
    """y = x * scale + offset with two numbers."""

    name = "affine"

    def __init__(self, x, scale: float, offset: float, layer=None):
        super().__init__([x], x.shape, layer)
        self.scale, self.offset = scale, offset

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_eltwise.Rescale(x.tensor, y.tensor, self.scale, self.offset)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.Rescale(dy.tensor, dx.tensor, self.scale, 0.0)], [dy], [dx])


class Pad(Operation):
    """Zeros around an image."""

    name = "pad"

    def __init__(self, x, pads, layer=None):
        (top, bottom), (left, right) = self.pads = pads
        h, w, c = x.hwc
        super().__init__([x], like(x, h + top + bottom, w + left + right, c), layer)

    def forward(self, b):
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [_eltwise.ZeroPad(x.tensor, y.tensor, self.pads)], [x], [y])

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.Crop(dy.tensor, dx.tensor, self.pads)], [dy], [dx])


class Reshape(Operation):
    """The same numbers in another shape: no work, unless the memory has a halo."""

    name = "reshape"

    def forward(self, b):
        x = b.buffer(self.x)
        if x.has_halo or x.is_input:
            self.copy(b, "forward", x, b.buffer(self.y))
        else:
            b.alias(self.y, x)

    def backward(self, b):
        dy = b.grad(self.y)
        if not b.share_gradient(self.x, dy):
            with b.gradient_of(self.x) as dx:
                self.copy(b, "backward", dy, dx)

    def copy(self, b, direction: str, source, target):
        """Numbers from one shape to another; between two halos through memory without one."""
        if source.has_halo and target.has_halo:
            flat = b.scratch(source.hwc)
            self.copy(b, direction, source, flat)
            self.copy(b, direction, flat, target)
            return
        hwc = source.hwc if source.has_halo else target.hwc
        self.step(b, direction, lambda: [_eltwise.Copy(source.reshaped(hwc), target.reshaped(hwc))],
                  [source], [target])


class Python(Operation):
    """A layer written in NumPy: the engine stops for it."""

    name = "python"

    def forward(self, b):
        inputs, y = [b.buffer(x) for x in self.inputs], b.buffer(self.y)

        def call():
            arrays = [x.view.reshape(b.n, *value.shape) for x, value in zip(inputs, self.inputs, strict=True)]
            result = self.layer.forward(arrays if len(arrays) > 1 else arrays[0], b.training)
            y.fill(result, f"{self.layer.name}: forward")

        b.python_step(f"{self.layer.name} forward", call, inputs, [y], self.layer)

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradients_of(self.inputs) as targets:
            def call():
                result = self.layer.backward(dy.view.reshape(b.n, *self.y.shape))
                results = list(result) if isinstance(result, (list, tuple)) else [result]
                for target, value in zip(targets, results, strict=True):
                    if target is not None:
                        target.fill(value, f"{self.layer.name}: backward")
                for variable in self.variables:
                    b.set_gradient(variable, self.layer.gradients.get(variable.name))

            b.python_step(f"{self.layer.name} backward", call, [dy], [t for t in targets if t is not None], self.layer)
