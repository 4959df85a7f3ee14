"""What layers become: operations on values, each with its forward and backward steps on one screen.

Here are the bases, and pooling, activations, dropout and changes of shape. The other operations are in the modules
beside this one.

A `Value` is an activation of one sample. An operation adds steps to a `Builder`: a step is a driver of the engine
with the buffers it reads and writes. Backward steps overwrite the gradient they produce; where several
consumers' gradients meet, the builder adds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arrays import returned
from fastcnn.geometry import Window
from fastcnn.kernels import _eltwise, _pool

if TYPE_CHECKING:
    from fastcnn.layers.base import Layer, Variable
    from fastcnn.plan.buffers import Buffer
    from fastcnn.plan.builder import Builder

NO_HALO = ((0, 0), (0, 0))
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
    cheap = False  # so cheap that a backward pass which reads x anyway computes y anew, rather than have it kept

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

    def recompute(self, b: Builder) -> None:
        """Forward once more, from the same inputs, to memory of its own; the same numbers, and no other effects."""
        self.forward(b)

    def step(self, b: Builder, direction: str, make, reads, writes, **options) -> None:
        b.step(f"{self.layer.name if self.layer else self.name} {direction}", make, reads, writes,
               layer=self.layer, **options)


class Linear(Operation):
    """An operation that is linear in x, up to a constant: its gradient needs neither x nor y.

    `driver(x, y)` and `grad_driver(dy, dx)` make the ops that write y and dx.
    """

    def forward(self, b: Builder) -> None:
        x, y = b.buffer(self.x), b.buffer(self.y)
        self.step(b, "forward", lambda: [self.driver(x.tensor, y.tensor)], [x], [y])

    def backward(self, b: Builder) -> None:
        dy = b.grad(self.y)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [self.grad_driver(dy.tensor, dx.tensor)], [dy], [dx])


class Clamped(Operation):
    """An operation that can do a following ReLU in its own pass: `activation` is the name of that clamp."""

    activation = "linear"
    pool: Window | None = None  # windows of a following max-pooling that is done in the same pass

    def can_clamp(self, kind: str) -> bool:
        """Whether the pass can end with this activation."""
        return kind in CLAMPS

    def absorb_activation(self, activation: Operation) -> bool:
        """Take over a following clamp, if nothing else reads the unclamped values."""
        if self.activation != "linear" or not self.can_clamp(activation.kind):
            return False
        self.activation = activation.kind
        take_over(self, activation)
        return True

    def grad_halo(self, b: Builder):
        """Zeros around the gradient of the unclamped result that the backward pass reads."""
        return NO_HALO

    def unclamped_gradient(self, b: Builder):
        """The gradient with respect to the result before its clamp, with the zeros of `grad_halo`."""
        dy, y = b.grad(self.y), b.buffer(self.y)
        if self.activation == "linear":
            return dy
        dz = b.scratch(self.y.shape, self.grad_halo(b))
        self.step(b, "mask", lambda: [_eltwise.ActivationGrad(self.activation, dy.tensor, None, y.tensor, dz.tensor)],
                  [dy, y], [dz])
        return dz


def take_over(op: Operation, next_op: Operation) -> None:
    """`op` now produces what `next_op` did."""
    op.y = next_op.y
    op.y.producer = op


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
                                                       minimum=self.minimum)], [x], [y, arg])

    def backward(self, b):
        dy, arg = b.grad(self.y), b.args(self, self.y.shape)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_pool.MaxPoolGrad(dy.tensor, dx.tensor, arg.array, *self.sizes)],
                      [dy, arg], [dx])


class AvgPool(Linear):
    """Average pooling."""

    name = "avg_pool"

    def __init__(self, x, window: Window, layer=None):
        super().__init__([x], like(x, window.oh, window.ow, x.hwc[2]), layer)
        self.sizes = (window.kh, window.kw), (window.sh, window.sw), window.pads

    def driver(self, x, y):
        return _pool.AvgPool(x, y, *self.sizes)

    def grad_driver(self, dy, dx):
        return _pool.AvgPoolGrad(dy, dx, *self.sizes)


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
                  [x], [y, arg])

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

    def __init__(self, x, rate: float, spatial=False, seed: int | None = None, layer=None):
        super().__init__([x], x.shape, layer)
        self.rate, self.spatial, self.seed = rate, spatial, seed

    def forward(self, b):
        x, y, state, stream = b.buffer(self.x), b.buffer(self.y), b.state(self.seed), b.stream(self)
        self.step(b, "forward", lambda: [_eltwise.Dropout(
            x.tensor, y.tensor, self.rate, state, stream, self.spatial)], [x], [y])

    def backward(self, b):
        dy, state, stream = b.grad(self.y), b.state(self.seed), b.stream(self)
        with b.gradient_of(self.x) as dx:
            self.step(b, "backward", lambda: [_eltwise.DropoutGrad(
                dy.tensor, dx.tensor, self.rate, state, stream, self.spatial)],
                      [dy], [dx])


class Affine(Linear):
    """y = x * scale + offset with two numbers."""

    name = "affine"

    def __init__(self, x, scale: float, offset: float, layer=None):
        super().__init__([x], x.shape, layer)
        self.scale, self.offset = scale, offset

    def driver(self, x, y):
        return _eltwise.Rescale(x, y, self.scale, self.offset)

    def grad_driver(self, dy, dx):
        return _eltwise.Rescale(dy, dx, self.scale, 0.0)


class Pad(Linear):
    """Zeros around an image."""

    name = "pad"

    def __init__(self, x, pads, layer=None):
        (top, bottom), (left, right) = self.pads = pads
        h, w, c = x.hwc
        super().__init__([x], like(x, h + top + bottom, w + left + right, c), layer)

    def driver(self, x, y):
        return _eltwise.ZeroPad(x, y, self.pads)

    def grad_driver(self, dy, dx):
        return _eltwise.Crop(dy, dx, self.pads)


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
            arrays = [copy_of(x, value) for x, value in zip(inputs, self.inputs, strict=True)]
            result = self.layer.forward(arrays if len(arrays) > 1 else arrays[0], b.training)
            fill_from(result, y, self.y, f"{self.layer.name}: forward")

        b.python_step(f"{self.layer.name} forward", call, inputs, [y], self.layer)

    def recompute(self, b):
        """Nothing: the layer may have a state, and what it reads and writes is kept."""

    def backward(self, b):
        dy = b.grad(self.y)
        with b.gradients_of(self.inputs) as targets:
            def call():
                result = self.layer.backward(copy_of(dy, self.y))
                results = list(result) if isinstance(result, (list, tuple)) else [result]
                if len(results) != len(targets):
                    raise ValueError(f"{self.layer.name}: backward must return the gradients of {len(targets)} inputs, "
                                     f"got {len(results)}")
                for target, x, dx in zip(targets, self.inputs, results, strict=True):
                    if target is not None:
                        fill_from(dx, target, x, f"{self.layer.name}: backward")
                for variable in self.variables:
                    b.set_gradient(variable, self.layer.gradients.get(variable.name))

            b.python_step(f"{self.layer.name} backward", call, [dy], [t for t in targets if t is not None], self.layer)


def copy_of(buffer: Buffer, value: Value) -> np.ndarray:
    """What the buffer of a value holds, (n, ...), for a user's code: it may change that, and others read the buffer."""
    return buffer.view.reshape(buffer.n, *value.shape).copy()


def fill_from(array: Any, buffer: Buffer, value: Value, where: str) -> None:
    """Fill the buffer of a value with what a user's code returned; TypeError or ValueError for what does not fit."""
    buffer.fill(returned(array, (buffer.n, *value.shape), where))
