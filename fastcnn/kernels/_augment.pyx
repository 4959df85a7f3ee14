"""Augmentation ops: images moved, turned, zoomed, cropped or shaded, each by numbers drawn for it alone."""

from libc.math cimport M_PI, cos, floor, sin
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    enum: FC_DRAWS
    enum: FC_FILL_CONSTANT, FC_FILL_NEAREST, FC_FILL_REFLECT, FC_FILL_WRAP
    ctypedef struct fc_sampling:
        const float *x
        Py_ssize_t row, h, w, c
        float *y
        Py_ssize_t n
        float y0, dy, x0, dx
        int fill, bilinear
        float value

ctypedef void (*draw_kernel)(float *u, uint64_t seed, uint32_t step, uint32_t stream, uint32_t image) noexcept nogil
ctypedef void (*sample_kernel)(const fc_sampling *s) noexcept nogil
ctypedef void (*shade_kernel)(float *y, const float *x, Py_ssize_t pixels, Py_ssize_t c, float scale,
                              const float *offset, float lo, float hi) noexcept nogil
ctypedef void (*sum_kernel)(float *y, const float *x, Py_ssize_t rows, Py_ssize_t c) noexcept nogil

cdef extern from "fc_kernels.h":
    ctypedef struct fc_augment_kernels:
        draw_kernel draw
        sample_kernel sample_row
        shade_kernel shade
    ctypedef struct fc_eltwise_kernels:
        sum_kernel channel_sum
    ctypedef struct fc_kernels:
        fc_augment_kernels augment
        fc_eltwise_kernels eltwise

FILL_MODES = {"constant": FC_FILL_CONSTANT, "nearest": FC_FILL_NEAREST, "reflect": FC_FILL_REFLECT,
              "wrap": FC_FILL_WRAP}
INTERPOLATIONS = ("nearest", "bilinear")


cdef const fc_augment_kernels *kernels() noexcept:
    return &(<const fc_kernels *>_cpu.table()).augment


# Random numbers

cdef struct source:
    const uint64_t *state  # seed and step, read at every run
    uint64_t seed          # instead of state[0], if `own`
    bint own
    uint32_t stream
    draw_kernel draw


cdef source source_of(name, state, uint32_t stream, seed) except *:
    cdef source s
    s.state = <const uint64_t *><Py_ssize_t>address(f"{name} state", state, np.uint64, 2)
    s.own, s.seed, s.stream, s.draw = seed is not None, seed or 0, stream, kernels().draw
    return s


cdef inline void draw(const source *s, Py_ssize_t image, float *u) noexcept nogil:
    s.draw(u, s.seed if s.own else s.state[0], <uint32_t>s.state[1], s.stream, <uint32_t>image)


cdef struct span:
    double low, high


cdef span span_of(name, what, bounds) except *:
    cdef span s
    s.low, s.high = bounds
    if not -1e6 <= s.low <= s.high <= 1e6:
        raise ValueError(f"{name}: expected bounds (low, high) of {what} within 1e6, got {bounds}")
    return s


cdef inline double within(const span *s, float u) noexcept nogil:
    return s.low + u * (s.high - s.low)


# Positions

# Output pixel (i, j) reads row y + yi i + yj j, column x + xi i + xj j.
cdef struct affine:
    double y, yi, yj, x, xi, xj


cdef struct sample_args:
    const fc_tensor *x
    const fc_tensor *y
    affine at
    fc_sampling sampling
    sample_kernel kernel


cdef void sample_image(const sample_args *a, const affine *at, const fc_task *task, Py_ssize_t n) noexcept nogil:
    cdef fc_sampling s = a.sampling
    cdef float *y = fc_image(a.y, task, n)
    cdef Py_ssize_t i
    s.x, s.dy, s.dx = fc_image(a.x, task, n), at.yj, at.xj
    for i in range(a.y.h):
        s.y, s.y0, s.x0 = y + i * a.y.row, at.y + i * at.yi, at.x + i * at.xi
        a.kernel(&s)


cdef void run_affine(const void *op, const fc_task *task) noexcept nogil:
    cdef const sample_args *a = <const sample_args *>op
    cdef Py_ssize_t n
    for n in range(task.begin, task.end):
        sample_image(a, &a.at, task, n)


cdef class Affine(Op):
    """y[i, j] = x at row m0 + m1 i + m2 j, column m3 + m4 i + m5 j, `matrix` being the six numbers m.

    Positions between pixels are interpolated as `interpolation` says ('nearest' or 'bilinear'); beyond the
    borders, `fill_mode` ('constant', 'nearest', 'reflect' or 'wrap') and `fill_value` say what is there. The images
    of y may have another size than those of x.
    """
    cdef sample_args a

    def __init__(self, Tensor x not None, Tensor y not None, matrix, fill_mode="reflect", interpolation="bilinear",
                 float fill_value=0):
        at = [span_of("Affine", "positions", (m, m)).low for m in matrix]
        self.a.at.y, self.a.at.yi, self.a.at.yj, self.a.at.x, self.a.at.xi, self.a.at.xj = at
        self.set_sampling("Affine", x, y, fill_mode, interpolation, fill_value)
        self.run, self.args, self.keep = run_affine, &self.a, (x, y)

    cdef set_sampling(self, name, Tensor x, Tensor y, fill_mode, interpolation, float fill_value):
        if x.images != y.images or x.c.c != y.c.c:
            raise ValueError(f"{name}: {y.shape} has other images or channels than {x.shape}")
        if min(x.c.h, x.c.w) < 1 or max(x.c.h, x.c.w) > 1 << 20:
            raise ValueError(f"{name}: expected images of 1 to {1 << 20} rows and columns, got {x.shape}")
        if x.c.h * x.c.row >= 1 << 31:
            raise ValueError(f"{name}: expected images of less than 2**31 numbers, got {x.shape}")
        if fill_mode not in FILL_MODES or interpolation not in INTERPOLATIONS:
            raise ValueError(f"{name}: expected one of {list(FILL_MODES)} and one of {INTERPOLATIONS}, got "
                             f"{fill_mode!r}, {interpolation!r}")
        cdef fc_sampling *s = &self.a.sampling
        s.row, s.h, s.w, s.c, s.n = x.c.row, x.c.h, x.c.w, x.c.c, y.c.w
        s.fill, s.bilinear, s.value = FILL_MODES[fill_mode], interpolation == "bilinear", fill_value
        self.a.x, self.a.y, self.a.kernel = &x.c, &y.c, kernels().sample_row
        self.items, self.name = x.images, name.lower()


cdef struct motion:
    bint flip_rows, flip_columns, same_zoom, whole
    span turn, zoom_rows, zoom_columns, shift_rows, shift_columns


cdef struct motion_args:
    sample_args sample
    motion m
    source random


cdef affine drawn_motion(const motion_args *a, Py_ssize_t image) noexcept nogil:
    """Where an image is read: about its centre flipped, zoomed and turned, then shifted."""
    cdef const motion *m = &a.m
    cdef float u[FC_DRAWS]
    cdef affine at
    cdef double turn, down, right, row, column, zoom_rows, zoom_columns
    draw(&a.random, image, u)
    turn = 2 * M_PI * within(&m.turn, u[0])
    zoom_rows = within(&m.zoom_rows, u[1])
    zoom_columns = zoom_rows if m.same_zoom else within(&m.zoom_columns, u[2])
    down, right = within(&m.shift_rows, u[3]), within(&m.shift_columns, u[4])
    if m.whole:
        down, right = floor(down), floor(right)
    if m.flip_rows and u[5] < 0.5:
        zoom_rows = -zoom_rows
    if m.flip_columns and u[6] < 0.5:
        zoom_columns = -zoom_columns
    at.yi, at.yj = cos(turn) * zoom_rows, sin(turn) * zoom_columns
    at.xi, at.xj = -sin(turn) * zoom_rows, cos(turn) * zoom_columns
    row, column = (a.sample.sampling.h - 1) / 2.0, (a.sample.sampling.w - 1) / 2.0
    at.y = row + down - at.yi * row - at.yj * column
    at.x = column + right - at.xi * row - at.xj * column
    return at


cdef void run_motion(const void *op, const fc_task *task) noexcept nogil:
    cdef const motion_args *a = <const motion_args *>op
    cdef affine at
    cdef Py_ssize_t n
    for n in range(task.begin, task.end):
        at = drawn_motion(a, n)
        sample_image(&a.sample, &at, task, n)


cdef class RandomAffine(Affine):
    """y = x moved: pixel p of y is read at R Z F (p - c) + c + s, c being the centre of x.

    Drawn for each image: F mirrors the axes in `flips` (rows, columns), each with chance 1/2; Z scales rows and
    columns by numbers within the bounds `zoom` (both by the same if the second is None); R turns by a share within
    `turn` of a full turn; s is within the bounds `shift` for rows and columns, in pixels, rounded down if `whole`. The
    numbers are a function of (seed, step, stream, image): `state` is the uint64 array [seed, step], read at every
    run, `seed` takes the place of state[0] unless None, and `stream` tells layers apart. The other arguments are
    those of Affine.
    """
    cdef motion_args m

    def __init__(self, Tensor x not None, Tensor y not None, state, uint32_t stream, flips=(False, False),
                 turn=(0, 0), zoom=((1, 1), None), shift=((0, 0), (0, 0)), whole=False, fill_mode="reflect",
                 interpolation="bilinear", float fill_value=0, seed=None):
        name = "RandomAffine"
        self.set_sampling(name, x, y, fill_mode, interpolation, fill_value)
        cdef motion *m = &self.m.m
        m.flip_rows, m.flip_columns = flips
        m.turn, m.whole, m.same_zoom = span_of(name, "turn", turn), whole, zoom[1] is None
        m.zoom_rows, m.zoom_columns = span_of(name, "zoom", zoom[0]), span_of(name, "zoom", zoom[1] or (1, 1))
        m.shift_rows, m.shift_columns = span_of(name, "shift", shift[0]), span_of(name, "shift", shift[1])
        self.m.sample, self.m.random = self.a, source_of(name, state, stream, seed)
        self.run, self.args, self.keep = run_motion, &self.m, (x, y, state)


# Values

cdef struct shade_args:
    const fc_tensor *x
    const fc_tensor *y
    source random
    span range
    float low, high
    bint about_mean
    shade_kernel shade
    sum_kernel channel_sum


cdef void channel_means(const shade_args *a, const fc_task *task, Py_ssize_t n, float *mean) noexcept nogil:
    cdef Py_ssize_t i, j, c = a.x.c
    memset(mean, 0, c * sizeof(float))
    for i in range(a.x.h):
        a.channel_sum(mean, fc_image(a.x, task, n) + i * a.x.row, a.x.w, c)
    for j in range(c):
        mean[j] /= a.x.h * a.x.w


cdef void run_shade(const void *op, const fc_task *task) noexcept nogil:
    cdef const shade_args *a = <const shade_args *>op
    cdef float *offset = <float *>task.scratch
    cdef float u[FC_DRAWS]
    cdef float drawn, scale
    cdef Py_ssize_t n, i, j
    for n in range(task.begin, task.end):
        draw(&a.random, n, u)
        drawn = within(&a.range, u[0])
        scale = drawn if a.about_mean else 1
        if a.about_mean:
            channel_means(a, task, n, offset)
        for j in range(a.x.c):
            offset[j] = offset[j] * (1 - scale) if a.about_mean else drawn
        for i in range(a.x.h):
            a.shade(fc_image(a.y, task, n) + i * a.y.row, fc_image(a.x, task, n) + i * a.x.row, a.x.w, a.x.c, scale,
                    offset, a.low, a.high)


cdef class RandomBrightness(Op):
    """y = clip(x + d) to `limits` (low, high), d within the bounds `delta` drawn for each image.

    `state`, `stream` and `seed` are those of RandomAffine; y may be x.
    """
    cdef shade_args a

    def __init__(self, Tensor x not None, Tensor y not None, state, uint32_t stream, delta, limits, seed=None):
        self.setup("RandomBrightness", x, y, state, stream, delta, limits, seed)

    cdef setup(self, name, Tensor x, Tensor y, state, uint32_t stream, bounds, limits, seed):
        same_shape(name, x, y)
        self.a.x, self.a.y, self.a.random = &x.c, &y.c, source_of(name, state, stream, seed)
        self.a.range = span_of(name, "values", bounds)
        self.a.low, self.a.high = limits
        self.a.shade = kernels().shade
        self.a.channel_sum = (<const fc_kernels *>_cpu.table()).eltwise.channel_sum
        self.run, self.args, self.items, self.keep = run_shade, &self.a, x.images, (x, y, state)
        self.scratch, self.name = 4 * x.c.c, name.lower()


cdef class RandomContrast(RandomBrightness):
    """y = clip((x - m) f + m), m the mean of each channel of an image, f within the bounds `factor` drawn for it.

    The other arguments are those of RandomBrightness.
    """

    def __init__(self, Tensor x not None, Tensor y not None, state, uint32_t stream, factor, limits, seed=None):
        self.setup("RandomContrast", x, y, state, stream, factor, limits, seed)
        self.a.about_mean = True
