"""Element-wise ops: activations, softmax, sums, padding, bias gradients and dropout."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_dropout:
        uint64_t seed
        uint32_t step, stream, image
        int32_t threshold
        float scale

ctypedef void (*forward_kernel)(float *y, const float *x, Py_ssize_t n, float param) noexcept nogil
ctypedef void (*grad_kernel)(float *dx, const float *dy, const float *saved, Py_ssize_t n,
                             float param) noexcept nogil
ctypedef void (*rows_kernel)(float *y, const float *x, Py_ssize_t rows, Py_ssize_t c) noexcept nogil
ctypedef void (*rows_grad_kernel)(float *dx, const float *dy, const float *y, Py_ssize_t rows,
                                  Py_ssize_t c) noexcept nogil
ctypedef void (*binary_kernel)(float *y, const float *a, const float *b, Py_ssize_t n) noexcept nogil
ctypedef void (*affine_kernel)(float *y, const float *x, Py_ssize_t n, float scale,
                               float offset) noexcept nogil
ctypedef void (*dropout_kernel)(float *out, const fc_dropout *d, Py_ssize_t first,
                                Py_ssize_t n) noexcept nogil

cdef extern from "fc_kernels.h":
    ctypedef struct fc_activation:
        const char *name
        int grad_from_x
        float param
        forward_kernel forward
        grad_kernel grad
    ctypedef struct fc_eltwise_kernels:
        const fc_activation *activations
        rows_kernel softmax, log_softmax, channel_sum
        rows_grad_kernel softmax_grad, log_softmax_grad
        binary_kernel add, multiply
        affine_kernel affine
        dropout_kernel dropout_scale
    ctypedef struct fc_kernels:
        fc_eltwise_kernels eltwise

cdef enum:
    REDUCE_BLOCK = 4096   # floats of one item of Reduce: they stay in L1 while the parts stream by
    DROPOUT_CHUNK = 1024  # floats of scratch that hold a mask


cdef const fc_eltwise_kernels *kernels() noexcept:
    return &(<const fc_kernels *>_cpu.table()).eltwise


cdef inline float *row(const fc_tensor *t, const fc_task *task, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    return fc_image(t, task, n) + i * t.row


cdef struct runs:
    Py_ssize_t images, rows, length


cdef runs runs_of(const fc_task *task, const fc_tensor *a, const fc_tensor *b,
                  const fc_tensor *c) noexcept nogil:
    """The fewest contiguous runs that the task's images have in all three tensors, which have one shape."""
    cdef Py_ssize_t row = a.w * a.c, image = a.h * row
    cdef runs r
    r.images, r.rows, r.length = task.end - task.begin, a.h, row
    if a.row == row and b.row == row and c.row == row:
        r.rows, r.length = 1, image
        if a.image == image and b.image == image and c.image == image:
            r.images, r.length = 1, image * r.images
    return r


# Activations

cdef const fc_activation *activation_named(kind) except NULL:
    cdef const fc_activation *entry = kernels().activations
    while entry.name != NULL:
        if entry.name.decode() == kind:
            return entry
        entry += 1
    raise ValueError(f"unknown activation {kind!r}; choose from {', '.join(activations())}")


cdef float parameter(const fc_activation *entry, param) except? -1:
    cdef float value = entry.param if param is None else param
    if not value >= 0:
        raise ValueError(f"{entry.name.decode()}: expected a parameter of at least 0, got {param!r}")
    return value


def activations() -> list:
    """Names of the element-wise activations."""
    cdef const fc_activation *entry = kernels().activations
    names = []
    while entry.name != NULL:
        names.append(entry.name.decode())
        entry += 1
    return names


def grad_needs(kind: str) -> str:
    """What the gradient of an activation is computed from: its input 'x' or its output 'y'."""
    return "x" if activation_named(kind).grad_from_x else "y"


def default_param(kind: str) -> float:
    """Default of an activation's parameter (leaky_relu: slope, elu: alpha); 0 where it has none."""
    return activation_named(kind).param


cdef struct activation_args:
    const fc_tensor *x
    const fc_tensor *y
    forward_kernel kernel
    float param


cdef void run_activation(const void *op, const fc_task *task) noexcept nogil:
    cdef const activation_args *a = <const activation_args *>op
    cdef runs r = runs_of(task, a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.y, task, n, i), row(a.x, task, n, i), r.length, a.param)


cdef class Activation(Op):
    """y = f(x), f named by `kind`; y may be x. `param` is the slope of leaky_relu or the alpha of elu."""
    cdef activation_args a

    def __init__(self, kind, Tensor x not None, Tensor y not None, param=None):
        same_shape(f"Activation {kind}", x, y)
        cdef const fc_activation *entry = activation_named(kind)
        self.a.x, self.a.y, self.a.kernel = &x.c, &y.c, entry.forward
        self.a.param = parameter(entry, param)
        self.run, self.args, self.items, self.keep = run_activation, &self.a, x.images, (x, y)
        self.name = kind


cdef struct activation_grad_args:
    const fc_tensor *dy
    const fc_tensor *saved
    const fc_tensor *dx
    grad_kernel kernel
    float param


cdef void run_activation_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const activation_grad_args *a = <const activation_grad_args *>op
    cdef runs r = runs_of(task, a.dy, a.saved, a.dx)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.dx, task, n, i), row(a.dy, task, n, i),
                     row(a.saved, task, n, i), r.length, a.param)


cdef class ActivationGrad(Op):
    """dx = dy * f'(x); dx may be dy. Only what grad_needs(kind) names is read, the other may be None."""
    cdef activation_grad_args a

    def __init__(self, kind, Tensor dy not None, Tensor x, Tensor y, Tensor dx not None, param=None):
        cdef const fc_activation *entry = activation_named(kind)
        cdef Tensor saved = x if entry.grad_from_x else y
        if saved is None:
            raise ValueError(f"ActivationGrad {kind}: needs {grad_needs(kind)}")
        same_shape(f"ActivationGrad {kind}", dy, saved, dx)
        self.a.dy, self.a.saved, self.a.dx, self.a.kernel = &dy.c, &saved.c, &dx.c, entry.grad
        self.a.param = parameter(entry, param)
        self.run, self.args, self.items, self.keep = run_activation_grad, &self.a, dy.images, (dy, saved, dx)
        self.name = kind + "_grad"


# Softmax

cdef struct rows_args:
    const fc_tensor *x
    const fc_tensor *y
    rows_kernel kernel


cdef void run_rows(const void *op, const fc_task *task) noexcept nogil:
    cdef const rows_args *a = <const rows_args *>op
    cdef runs r = runs_of(task, a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.y, task, n, i), row(a.x, task, n, i),
                     r.length // a.x.c, a.x.c)


cdef class Softmax(Op):
    """y = softmax of x over the channels of each pixel, or its logarithm when `log`; y may be x.

    A pixel with NaN, with +inf or with -inf only becomes NaN.
    """
    cdef rows_args a

    def __init__(self, Tensor x not None, Tensor y not None, log=False):
        same_shape("Softmax", x, y)
        if x.c.c < 1:
            raise ValueError("Softmax: needs at least one channel")
        self.a.x, self.a.y = &x.c, &y.c
        self.a.kernel = kernels().log_softmax if log else kernels().softmax
        self.run, self.args, self.items, self.keep = run_rows, &self.a, x.images, (x, y)
        self.name = "log_softmax" if log else "softmax"


cdef struct rows_grad_args:
    const fc_tensor *dy
    const fc_tensor *y
    const fc_tensor *dx
    rows_grad_kernel kernel


cdef void run_rows_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const rows_grad_args *a = <const rows_grad_args *>op
    cdef runs r = runs_of(task, a.dy, a.y, a.dx)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.dx, task, n, i), row(a.dy, task, n, i),
                     row(a.y, task, n, i), r.length // a.y.c, a.y.c)


cdef class SoftmaxGrad(Op):
    """dx = y (dy - sum(dy y)) per pixel; dx = dy - e^y sum(dy) when `log`. dx may be dy or y."""
    cdef rows_grad_args a

    def __init__(self, Tensor dy not None, Tensor y not None, Tensor dx not None, log=False):
        same_shape("SoftmaxGrad", dy, y, dx)
        if y.c.c < 1:
            raise ValueError("SoftmaxGrad: needs at least one channel")
        self.a.dy, self.a.y, self.a.dx = &dy.c, &y.c, &dx.c
        self.a.kernel = kernels().log_softmax_grad if log else kernels().softmax_grad
        self.run, self.args, self.items, self.keep = run_rows_grad, &self.a, dy.images, (dy, y, dx)
        self.name = "log_softmax_grad" if log else "softmax_grad"


# Arithmetic and copies

cdef struct binary_args:
    const fc_tensor *y
    const fc_tensor *a
    const fc_tensor *b
    binary_kernel kernel


cdef void run_binary(const void *op, const fc_task *task) noexcept nogil:
    cdef const binary_args *a = <const binary_args *>op
    cdef runs r = runs_of(task, a.y, a.a, a.b)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.y, task, n, i), row(a.a, task, n, i),
                     row(a.b, task, n, i), r.length)


cdef class AddTensors(Op):
    """y = a + b; y may be a or b."""
    cdef binary_args a

    def __init__(self, Tensor y not None, Tensor a not None, Tensor b not None):
        same_shape("AddTensors", y, a, b)
        self.a.y, self.a.a, self.a.b, self.a.kernel = &y.c, &a.c, &b.c, kernels().add
        self.run, self.args, self.items, self.keep = run_binary, &self.a, y.images, (y, a, b)
        self.name = "add"


cdef struct rescale_args:
    const fc_tensor *x
    const fc_tensor *y
    affine_kernel kernel
    float scale, offset


cdef void run_rescale(const void *op, const fc_task *task) noexcept nogil:
    cdef const rescale_args *a = <const rescale_args *>op
    cdef runs r = runs_of(task, a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            a.kernel(row(a.y, task, n, i), row(a.x, task, n, i), r.length,
                     a.scale, a.offset)


cdef class Rescale(Op):
    """y = x * scale + offset; y may be x."""
    cdef rescale_args a

    def __init__(self, Tensor x not None, Tensor y not None, float scale=1, float offset=0):
        same_shape("Rescale", x, y)
        self.a.x, self.a.y, self.a.kernel = &x.c, &y.c, kernels().affine
        self.a.scale, self.a.offset = scale, offset
        self.run, self.args, self.items, self.keep = run_rescale, &self.a, x.images, (x, y)
        self.name = "rescale"


cdef struct copy_args:
    const fc_tensor *x
    const fc_tensor *y
    Py_ssize_t top, left


cdef void run_copy(const void *op, const fc_task *task) noexcept nogil:
    cdef const copy_args *a = <const copy_args *>op
    cdef runs r = runs_of(task, a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.begin + r.images):
        for i in range(r.rows):
            memmove(row(a.y, task, n, i), row(a.x, task, n, i), r.length * sizeof(float))


cdef class Copy(Op):
    """y = x between tensors of any row pitch."""
    cdef copy_args a

    def __init__(self, Tensor x not None, Tensor y not None):
        same_shape("Copy", x, y)
        self.a.x, self.a.y = &x.c, &y.c
        self.run, self.args, self.items, self.keep = run_copy, &self.a, x.images, (x, y)
        self.name = "copy"


cdef check_pads(name, Tensor small, Tensor large, pads):
    (top, bottom), (left, right) = pads
    n, h, w, c = small.shape
    if min(top, bottom, left, right) < 0 or large.shape != (n, top + h + bottom, left + w + right, c):
        raise ValueError(f"{name}: pads {pads} do not lie between {small.shape} and {large.shape}")


cdef void run_zero_pad(const void *op, const fc_task *task) noexcept nogil:
    cdef const copy_args *a = <const copy_args *>op
    cdef Py_ssize_t n, i, c = a.x.c, inner = a.x.w * c, left = a.left * c, outer = a.y.w * c
    cdef float *y
    for n in range(task.begin, task.end):
        for i in range(a.y.h):
            y = row(a.y, task, n, i)
            if i < a.top or i >= a.top + a.x.h:
                memset(y, 0, outer * sizeof(float))
                continue
            memset(y, 0, left * sizeof(float))
            memcpy(y + left, row(a.x, task, n, i - a.top), inner * sizeof(float))
            memset(y + left + inner, 0, (outer - left - inner) * sizeof(float))


cdef class ZeroPad(Op):
    """y = x with ((top, bottom), (left, right)) pixels of zeros around; also the gradient of Crop."""
    cdef copy_args a

    def __init__(self, Tensor x not None, Tensor y not None, pads):
        check_pads("ZeroPad", x, y, pads)
        self.a.x, self.a.y, self.a.top, self.a.left = &x.c, &y.c, pads[0][0], pads[1][0]
        self.run, self.args, self.items, self.keep = run_zero_pad, &self.a, x.images, (x, y)
        self.name = "zero_pad"


cdef void run_crop(const void *op, const fc_task *task) noexcept nogil:
    cdef const copy_args *a = <const copy_args *>op
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(a.y.h):
            memcpy(row(a.y, task, n, i),
                   row(a.x, task, n, a.top + i) + a.left * a.x.c, a.y.w * a.y.c * sizeof(float))


cdef class Crop(Op):
    """y = x without ((top, bottom), (left, right)) pixels at its borders; also the gradient of ZeroPad."""
    cdef copy_args a

    def __init__(self, Tensor x not None, Tensor y not None, pads):
        check_pads("Crop", y, x, pads)
        self.a.x, self.a.y, self.a.top, self.a.left = &x.c, &y.c, pads[0][0], pads[1][0]
        self.run, self.args, self.items, self.keep = run_crop, &self.a, x.images, (x, y)
        self.name = "crop"


# Sums

cdef struct bias_grad_args:
    const fc_tensor *dy
    float *parts
    Py_ssize_t count
    rows_kernel channel_sum


cdef void run_bias_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const bias_grad_args *a = <const bias_grad_args *>op
    cdef Py_ssize_t n, i, c = a.dy.c
    cdef bint dense = a.dy.row == a.dy.w * c
    cdef Py_ssize_t rows = 1 if dense else a.dy.h, pixels = a.dy.h * a.dy.w if dense else a.dy.w
    cdef float *part = a.parts + task.part * c
    if task.part >= a.count:
        return
    if task.first:
        memset(part, 0, c * sizeof(float))
    for n in range(task.begin, task.end):
        for i in range(rows):
            a.channel_sum(part, row(a.dy, task, n, i), pixels, c)


cdef class BiasGrad(Op):
    """parts[group] = sum of dy over the pixels of the group's images, added image by image.

    `parts` is float32 (groups, c), at least one row per group of the stage; groups beyond it are left out.
    """
    cdef bias_grad_args a

    def __init__(self, Tensor dy not None, parts):
        if parts.ndim != 2:
            raise ValueError(f"BiasGrad: expected parts of shape (groups, channels), got {parts.shape}")
        self.a.count = parts.shape[0]
        size = self.a.count * dy.c.c
        self.a.parts = <float *><Py_ssize_t>address("BiasGrad parts", parts, np.float32, size, True)
        self.a.dy, self.a.channel_sum = &dy.c, kernels().channel_sum
        self.run, self.args, self.items, self.keep = run_bias_grad, &self.a, dy.images, (dy, parts)
        self.name = "bias_grad"


cdef struct reduce_args:
    const float *parts
    float *out
    Py_ssize_t count, length
    binary_kernel add


cdef void run_reduce(const void *op, const fc_task *task) noexcept nogil:
    cdef const reduce_args *a = <const reduce_args *>op
    cdef Py_ssize_t block, p, at, n
    for block in range(task.begin, task.end):
        at = block * REDUCE_BLOCK
        n = min(<Py_ssize_t>REDUCE_BLOCK, a.length - at)
        memcpy(a.out + at, a.parts + at, n * sizeof(float))
        for p in range(1, a.count):
            a.add(a.out + at, a.out + at, a.parts + p * a.length + at, n)


cdef class Reduce(Op):
    """out = parts[0] + parts[1] + ... in that order; items are blocks of 4096 floats.

    `parts` is float32 (count, ...) with at least one part, `out` float32 with the elements of one part.
    """
    cdef reduce_args a

    def __init__(self, parts, out):
        self.a.count, self.a.length = len(parts), out.size
        if not self.a.count:
            raise ValueError("Reduce: expected at least one part")
        size = self.a.count * self.a.length
        self.a.parts = <const float *><Py_ssize_t>address("Reduce parts", parts, np.float32, size)
        self.a.out = <float *><Py_ssize_t>address("Reduce out", out, np.float32, self.a.length, True)
        self.a.add = kernels().add
        self.run, self.args, self.keep = run_reduce, &self.a, (parts, out)
        self.items = (self.a.length + REDUCE_BLOCK - 1) // REDUCE_BLOCK
        self.name = "reduce"


# Dropout

cdef struct dropout_args:
    const fc_tensor *x
    const fc_tensor *y
    const uint64_t *state
    fc_dropout d
    dropout_kernel mask
    binary_kernel multiply


cdef fc_dropout decisions(const dropout_args *a, Py_ssize_t image) noexcept nogil:
    cdef fc_dropout d = a.d
    d.seed, d.step, d.image = a.state[0], <uint32_t>a.state[1], <uint32_t>image
    return d


cdef void mask_run(const dropout_args *a, const fc_dropout *d, Py_ssize_t first, float *y, const float *x,
                   Py_ssize_t length, float *mask) noexcept nogil:
    cdef Py_ssize_t at = 0, count
    while at < length:
        count = min(<Py_ssize_t>DROPOUT_CHUNK, length - at)
        a.mask(mask, d, first + at, count)
        a.multiply(y + at, x + at, mask, count)
        at += count


cdef void run_dropout(const void *op, const fc_task *task) noexcept nogil:
    cdef const dropout_args *a = <const dropout_args *>op
    cdef Py_ssize_t length = a.x.w * a.x.c, rows = a.x.h, n, i
    cdef fc_dropout d
    if a.x.row == length and a.y.row == length:
        rows, length = 1, rows * length
    for n in range(task.begin, task.end):
        d = decisions(a, n)
        for i in range(rows):
            mask_run(a, &d, i * length, row(a.y, task, n, i), row(a.x, task, n, i), length,
                     <float *>task.scratch)


cdef void run_spatial_dropout(const void *op, const fc_task *task) noexcept nogil:
    cdef const dropout_args *a = <const dropout_args *>op
    cdef Py_ssize_t n, i, j, c = a.x.c
    cdef float *mask = <float *>task.scratch
    cdef fc_dropout d
    for n in range(task.begin, task.end):
        d = decisions(a, n)
        a.mask(mask, &d, 0, c)
        for i in range(a.x.h):
            for j in range(a.x.w):
                a.multiply(row(a.y, task, n, i) + j * c, row(a.x, task, n, i) + j * c, mask, c)


cdef class Dropout(Op):
    """y = x * mask / (1 - rate); elements (whole channels of an image if `spatial`) stay by chance 1 - rate.

    The mask is a function of (seed, step, stream, image, element) and of nothing else: Philox4x32-10, Salmon
    et al., SC 2011. `state` is the uint64 array [seed, step], read at every run (the step modulo 2^32);
    `stream`, a uint32, tells layers apart. Nothing is kept for the backward pass: DropoutGrad counts to the
    same mask.
    """
    cdef dropout_args a

    def __init__(self, Tensor x not None, Tensor y not None, double rate, state, uint32_t stream,
                 spatial=False):
        same_shape("Dropout", x, y)
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: expected a rate in [0, 1), got {rate}")
        self.a.state = <const uint64_t *><Py_ssize_t>address("Dropout state", state, np.uint64, 2)
        self.a.x, self.a.y = &x.c, &y.c
        self.a.mask, self.a.multiply = kernels().dropout_scale, kernels().multiply
        self.a.d.stream, self.a.d.scale = stream, 1 / (1 - rate)
        self.a.d.threshold = min(round(rate * 2**32), 2**32 - 1) - 2**31
        self.run = run_spatial_dropout if spatial else run_dropout
        self.args, self.items, self.keep = &self.a, x.images, (x, y, state)
        self.scratch = 4 * (x.c.c if spatial else DROPOUT_CHUNK)
        self.name = "dropout"


cdef class DropoutGrad(Dropout):
    """dx = dy * mask / (1 - rate) with the mask of the Dropout of the same rate, state and stream."""

    def __init__(self, Tensor dy not None, Tensor dx not None, double rate, state, uint32_t stream,
                 spatial=False):
        super().__init__(dy, dx, rate, state, stream, spatial)
        self.name = "dropout_grad"
