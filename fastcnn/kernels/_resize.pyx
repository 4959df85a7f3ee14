"""Ops that enlarge images, and that exchange their axes. Items are images."""

from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_lerp:
        const int32_t *lower
        const int32_t *upper
        const float *t
    ctypedef struct fc_resize_kernels:
        void (*repeat)(float *y, const float *x, Py_ssize_t w, Py_ssize_t c, Py_ssize_t times) noexcept nogil
        void (*sum_repeats)(float *dx, const float *dy, Py_ssize_t w, Py_ssize_t c,
                            Py_ssize_t times) noexcept nogil
        void (*lerp)(float *y, const float *a, const float *b, Py_ssize_t n, float t) noexcept nogil
        void (*add_scaled)(float *y, const float *x, Py_ssize_t n, float scale) noexcept nogil
        void (*lerp_row)(float *y, const float *x, const fc_lerp *l, Py_ssize_t outputs,
                         Py_ssize_t c) noexcept nogil
        void (*lerp_grad_row)(float *dx, const float *dy, const fc_lerp *l, Py_ssize_t outputs,
                              Py_ssize_t c) noexcept nogil
    ctypedef struct fc_kernels:
        fc_resize_kernels resize

INTERPOLATIONS = ("nearest", "bilinear")

cdef struct resize_args:
    fc_tensor small, large
    Py_ssize_t rows, columns   # how many times larger
    fc_lerp vertical, horizontal
    const fc_resize_kernels *kernels


cdef void run_repeat(const void *op, const fc_task *task) noexcept nogil:
    cdef const resize_args *a = <const resize_args *>op
    cdef Py_ssize_t n, i, k
    cdef const float *x
    cdef float *y
    for n in range(task.begin, task.end):
        for i in range(a.small.h):
            x = fc_image(&a.small, task, n) + i * a.small.row
            y = fc_image(&a.large, task, n) + i * a.rows * a.large.row
            a.kernels.repeat(y, x, a.small.w, a.small.c, a.columns)
            for k in range(1, a.rows):
                memcpy(y + k * a.large.row, y, a.large.w * a.large.c * sizeof(float))


cdef void run_repeat_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const resize_args *a = <const resize_args *>op
    cdef Py_ssize_t n, i, k
    cdef const float *dy
    cdef float *dx
    for n in range(task.begin, task.end):
        for i in range(a.small.h):
            dx = fc_image(&a.small, task, n) + i * a.small.row
            dy = fc_image(&a.large, task, n) + i * a.rows * a.large.row
            memset(dx, 0, a.small.w * a.small.c * sizeof(float))
            for k in range(a.rows):
                a.kernels.sum_repeats(dx, dy + k * a.large.row, a.small.w, a.small.c, a.columns)


cdef void run_lerp(const void *op, const fc_task *task) noexcept nogil:
    """Each output row: two input rows into one of their length in scratch, then along it."""
    cdef const resize_args *a = <const resize_args *>op
    cdef float *between = <float *>task.scratch
    cdef const float *x
    cdef Py_ssize_t n, o
    for n in range(task.begin, task.end):
        x = fc_image(&a.small, task, n)
        for o in range(a.large.h):
            a.kernels.lerp(between, x + a.vertical.lower[o] * a.small.row, x + a.vertical.upper[o] * a.small.row,
                           a.small.w * a.small.c, a.vertical.t[o])
            a.kernels.lerp_row(fc_image(&a.large, task, n) + o * a.large.row, between, &a.horizontal, a.large.w,
                               a.large.c)


cdef void run_lerp_grad(const void *op, const fc_task *task) noexcept nogil:
    """The transpose of run_lerp, output rows from the top."""
    cdef const resize_args *a = <const resize_args *>op
    cdef float *between = <float *>task.scratch
    cdef Py_ssize_t n, i, o, length = a.small.w * a.small.c
    cdef float *dx
    for n in range(task.begin, task.end):
        dx = fc_image(&a.small, task, n)
        for i in range(a.small.h):
            memset(dx + i * a.small.row, 0, length * sizeof(float))
        for o in range(a.large.h):
            memset(between, 0, length * sizeof(float))
            a.kernels.lerp_grad_row(between, fc_image(&a.large, task, n) + o * a.large.row, &a.horizontal, a.large.w,
                                    a.large.c)
            a.kernels.add_scaled(dx + a.vertical.lower[o] * a.small.row, between, length, 1 - a.vertical.t[o])
            a.kernels.add_scaled(dx + a.vertical.upper[o] * a.small.row, between, length, a.vertical.t[o])


def half_pixel_table(inputs, times):
    """(lower, upper, t) of linear interpolation, pixels' centres at i + 1/2, border pixels repeated.

    Output i has its centre at s = (i + 1/2) / times - 1/2 among the inputs, between floor(s) and floor(s) + 1.
    """
    s = (np.arange(inputs * times) + 0.5) / times - 0.5
    lower = np.floor(s)
    return (np.maximum(lower, 0).astype(np.int32), np.minimum(lower + 1, inputs - 1).astype(np.int32),
            (s - lower).astype(np.float32))


cdef class Upsample(Op):
    """y = x enlarged `size` (rows, columns) times: pixels repeated ('nearest'), or interpolated ('bilinear')."""
    cdef resize_args a

    def __init__(self, Tensor x not None, Tensor y not None, size, interpolation="nearest"):
        self.set(x, y, size, interpolation)
        self.run = run_lerp if interpolation == "bilinear" else run_repeat
        self.name = "upsample"

    cdef set(self, Tensor small, Tensor large, size, interpolation):
        n, h, w, c = small.shape
        rows, columns = size
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"Upsample: choose from {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
        if min(rows, columns) < 1 or large.shape != (n, h * rows, w * columns, c):
            raise ValueError(f"Upsample: {large.shape} is not {small.shape} enlarged {size} times")
        self.a.small, self.a.large, self.a.rows, self.a.columns = small.c, large.c, rows, columns
        self.a.kernels = &(<const fc_kernels *>_cpu.table()).resize
        tables = half_pixel_table(h, rows), half_pixel_table(w, columns)
        self.a.vertical, self.a.horizontal = lerp_of(tables[0]), lerp_of(tables[1])
        self.args, self.items, self.keep = &self.a, n, (small, large, tables)
        self.scratch = 4 * w * c


cdef fc_lerp lerp_of(table) except *:
    cdef fc_lerp l
    lower, upper, t = table
    l.lower = <const int32_t *><Py_ssize_t>address("Upsample", lower, np.int32, len(t))
    l.upper = <const int32_t *><Py_ssize_t>address("Upsample", upper, np.int32, len(t))
    l.t = <const float *><Py_ssize_t>address("Upsample", t, np.float32, len(t))
    return l


cdef class UpsampleGrad(Upsample):
    """dx = the gradient of Upsample: each input collects from the outputs it went into."""

    def __init__(self, Tensor dy not None, Tensor dx not None, size, interpolation="nearest"):
        self.set(dx, dy, size, interpolation)
        self.run = run_lerp_grad if interpolation == "bilinear" else run_repeat_grad
        self.name = "upsample_grad"


# Axes

cdef struct permute_args:
    fc_tensor x, y
    Py_ssize_t steps[3]   # floats in x between neighbours along each axis of y


cdef void run_permute(const void *op, const fc_task *task) noexcept nogil:
    cdef const permute_args *a = <const permute_args *>op
    cdef Py_ssize_t n, i, j, k, step = a.steps[2]
    cdef const float *x
    cdef float *y
    for n in range(task.begin, task.end):
        for i in range(a.y.h):
            for j in range(a.y.w):
                x = fc_image(&a.x, task, n) + i * a.steps[0] + j * a.steps[1]
                y = fc_image(&a.y, task, n) + i * a.y.row + j * a.y.c
                for k in range(a.y.c):
                    y[k] = x[k * step]


cdef class Permute(Op):
    """y[i, j, k] = x with its axes (rows, columns, channels: 0, 1, 2) in the given order, image by image."""
    cdef permute_args a

    def __init__(self, Tensor x not None, Tensor y not None, order):
        if sorted(order) != [0, 1, 2] or y.shape != (x.images, *[x.shape[1 + axis] for axis in order]):
            raise ValueError(f"Permute: {y.shape} is not {x.shape} with its axes in the order {tuple(order)}")
        steps = x.c.row, x.c.c, 1
        self.a.x, self.a.y = x.c, y.c
        self.a.steps[0], self.a.steps[1], self.a.steps[2] = [steps[axis] for axis in order]
        self.run, self.args, self.items, self.keep = run_permute, &self.a, x.images, (x, y)
        self.name = "permute"
