"""Depthwise convolution: x (n, ih, iw, ic) and w (kh, kw, ic, m) give y (n, oh, ow, ic*m).

    y[n, o, p, c*m + j] = sum_ab x[n, o*sh - pt + a*dh, p*sw - pl + b*dw, c] * w[a, b, c, j] + bias[c*m + j]

With each channel of x repeated m times this is the case m = 1 of ic*m channels: w, bias and y lie in memory
that way already. So only m = 1 is computed; for m > 1 the repeated x, or the parts of dx, go through scratch.
"""

import numpy as np

from libc.string cimport memset

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_depthwise_gather:
        const float *x
        Py_ssize_t xpixel, xrow, xcol
        const float *w
        Py_ssize_t wrow, wcol
        Py_ssize_t rows, cols
        const float *bias
        float lo, hi
        float *y
        Py_ssize_t ypixel
        Py_ssize_t pixels, n
        int before, after

    ctypedef struct fc_depthwise_outer:
        const float *x
        Py_ssize_t xline, xpixel, xrow, xcol
        const float *dy
        Py_ssize_t yline
        Py_ssize_t lines, pixels
        Py_ssize_t rows, cols
        float *dw
        Py_ssize_t wrow
        float *db
        Py_ssize_t n
        int before, after

    ctypedef struct fc_depthwise_kernels:
        void (*gather)(const fc_depthwise_gather *t) noexcept nogil
        void (*outer)(const fc_depthwise_outer *t) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_depthwise_kernels depthwise

# Floats of x that one weight-gradient call may walk, once per vector of channels: few enough to stay in L2.
cdef Py_ssize_t BAND = 32768


# A run of `count` target pixels that see the same taps k, k + k_step, ...: those that fall inside the source.
# `source` is the source pixel of the first tap of the first target pixel. With `before`, that one is outside; with
# `after`, that of the last tap of the last target pixel.
cdef struct span:
    Py_ssize_t first, count, k, taps, source, before, after


# One axis of a pass from source pixels to target pixels (x to y, or dy to dx).
cdef struct axis:
    span *spans
    Py_ssize_t n
    Py_ssize_t step         # pixels between the targets of a span
    Py_ssize_t source_step  # source pixels between them
    Py_ssize_t k_step       # between the taps of a span
    Py_ssize_t tap_step     # source pixels between them


cdef struct axis_shape:
    Py_ssize_t inputs, outputs, kernel, stride, dilation, pad


cdef struct depthwise_args:
    fc_tensor source, target
    axis rows, cols
    Py_ssize_t kernel_width, multiplier
    Py_ssize_t channels  # ic * m
    Py_ssize_t weights   # kh * kw * ic * m
    const float *w
    const float *bias
    float lo, hi
    float *dw_parts
    float *db_parts


cdef span reach(const axis_shape *s, Py_ssize_t target, bint gradient) noexcept:
    """The taps that link one target pixel to source pixels, in the order of these pixels.

    Tap k links input and output where input = output * stride - pad + k * dilation."""
    cdef span found = span(target, 1, 0, 0, 0, 0, 0)
    cdef Py_ssize_t i, k, source
    for i in range(s.kernel):
        k = s.kernel - 1 - i if gradient else i
        if gradient:
            source = target + s.pad - k * s.dilation
            if source % s.stride:
                continue
            source //= s.stride
        else:
            source = target * s.stride - s.pad + k * s.dilation
        if 0 <= source < (s.outputs if gradient else s.inputs):
            if found.taps == 0:
                found.k, found.source = k, source
            found.taps += 1
    return found


cdef bint joins(span *run, const span *one, const axis *a) noexcept:
    """Whether the target pixel `one` continues the run. A pixel that lacks one tap may be an end, which is marked."""
    if run.after:
        return False
    if (run.k, run.taps) == (one.k, one.taps):
        return True
    if run.taps == 0 or one.taps == 0:
        return False
    if run.count == 1 and one.k + a.k_step == run.k and 0 <= one.taps - run.taps <= 1:  # one has a tap before those
        run.before, run.after = 1, one.taps == run.taps
        run.k, run.taps, run.source = one.k, run.taps + 1, run.source - a.tap_step
        return True
    run.after = one.k == run.k and one.taps == run.taps - 1
    return run.after


cdef object link(axis *a, const axis_shape *s, bint gradient, Py_ssize_t longest, bint ends=False):
    """Fill `a` with spans of at most `longest` pixels, ordered by first pixel; returns their memory.

    With `ends`, the pixels at the ends of a span may lack a tap.
    """
    cdef Py_ssize_t targets = s.inputs if gradient else s.outputs
    cdef Py_ssize_t common = s.stride, rest = s.dilation, phase, target
    cdef span one
    cdef span *last
    memory = np.empty((max(1, targets), sizeof(span) // sizeof(Py_ssize_t)), np.intp)
    cdef span *spans = <span *><Py_ssize_t>memory.ctypes.data
    while rest:
        common, rest = rest, common % rest
    if gradient:
        a.step, a.source_step, a.k_step, a.tap_step = s.stride, 1, -(s.stride // common), s.dilation // common
    else:
        a.step, a.source_step, a.k_step, a.tap_step = 1, s.stride, 1, s.dilation
    a.n = 0
    for phase in range(min(a.step, targets)):
        for target in range(phase, targets, a.step):
            one = reach(s, target, gradient)
            last = spans + a.n - 1
            if target > phase and last.count < longest and (
                    joins(last, &one, a) if ends else (last.k, last.taps) == (one.k, one.taps)):
                last.count += 1
            else:
                spans[a.n] = one
                a.n += 1
    memory = memory[:a.n]
    memory = np.ascontiguousarray(memory[np.argsort(memory[:, 0])])
    a.spans = <span *><Py_ssize_t>memory.ctypes.data
    return memory


cdef void gather_row(const depthwise_args *op, const span *r, const float *x, Py_ssize_t x_row,
                     float *y) noexcept nogil:
    """The target row `r` at y, from the source image x."""
    cdef fc_depthwise_gather t
    cdef Py_ssize_t c = op.channels, i
    cdef const span *s
    t.xpixel, t.xrow, t.xcol = op.cols.source_step * c, op.rows.tap_step * x_row, op.cols.tap_step * c
    t.wrow, t.wcol = op.rows.k_step * op.kernel_width * c, op.cols.k_step * c
    t.ypixel, t.n, t.rows = op.cols.step * c, c, r.taps
    t.bias, t.lo, t.hi = op.bias, op.lo, op.hi
    for i in range(op.cols.n):
        s = op.cols.spans + i
        t.x = x + r.source * x_row + s.source * c
        t.w = op.w + (r.k * op.kernel_width + s.k) * c
        t.y = y + s.first * c
        t.cols, t.pixels, t.before, t.after = s.taps, s.count, s.before, s.after
        (<const kernel_table *>table()).depthwise.gather(&t)


cdef const float *repeated(const depthwise_args *op, const fc_task *task, Py_ssize_t n,
                           Py_ssize_t *row) noexcept nogil:
    """Image n of x with each channel m times, and its row pitch: x itself if m = 1, else in scratch."""
    cdef const float *x = fc_image(&op.source, task, n)
    cdef float *copy = <float *>task.scratch
    cdef Py_ssize_t h, i, j, m = op.multiplier, width = op.source.w * op.source.c
    row[0] = op.source.row
    if m == 1:
        return x
    for h in range(op.source.h):
        for i in range(width):
            for j in range(m):
                copy[(h * width + i) * m + j] = x[h * op.source.row + i]
    row[0] = width * m
    return copy


cdef void sum_groups(const float *x, float *y, Py_ssize_t n, Py_ssize_t m) noexcept nogil:
    """y[i] = sum_j x[i*m + j] for i < n."""
    cdef Py_ssize_t i, j
    cdef float s
    for i in range(n):
        s = x[i * m]
        for j in range(1, m):
            s += x[i * m + j]
        y[i] = s


cdef void run_conv(const void *args, const fc_task *task) noexcept nogil:
    cdef const depthwise_args *op = <const depthwise_args *>args
    cdef const span *r
    cdef const float *x
    cdef Py_ssize_t n, i, x_row
    for n in range(task.begin, task.end):
        x = repeated(op, task, n, &x_row)
        for i in range(op.rows.n):
            r = op.rows.spans + i
            gather_row(op, r, x, x_row, fc_image(&op.target, task, n) + r.first * op.target.row)


cdef void run_input_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const depthwise_args *op = <const depthwise_args *>args
    cdef const span *r
    cdef const float *dy
    cdef float *dx
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        dy = fc_image(&op.source, task, n)
        for i in range(op.rows.n):
            r = op.rows.spans + i
            dx = fc_image(&op.target, task, n) + r.first * op.target.row
            if op.multiplier == 1:
                gather_row(op, r, dy, op.source.row, dx)
            else:
                gather_row(op, r, dy, op.source.row, <float *>task.scratch)
                sum_groups(<float *>task.scratch, dx, op.target.w * op.target.c, op.multiplier)


cdef void run_weight_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const depthwise_args *op = <const depthwise_args *>args
    cdef Py_ssize_t c = op.channels, n, x_row
    cdef float *dw = op.dw_parts + task.part * op.weights
    cdef float *db = op.db_parts + task.part * c if op.db_parts != NULL else NULL
    cdef const float *x
    if task.first:
        memset(dw, 0, op.weights * sizeof(float))
        if db != NULL:
            memset(db, 0, c * sizeof(float))
    for n in range(task.begin, task.end):
        x = repeated(op, task, n, &x_row)
        add_image(op, x, x_row, fc_image(&op.target, task, n), dw, db)


cdef void add_image(const depthwise_args *op, const float *x, Py_ssize_t x_row, const float *dy,
                    float *dw, float *db) noexcept nogil:
    """Add one image's weight gradient to dw and its bias gradient to db (if not NULL)."""
    cdef fc_depthwise_outer t
    cdef Py_ssize_t c = op.channels, i, j
    cdef const span *r
    cdef const span *s
    t.xline, t.xpixel = op.rows.source_step * x_row, op.cols.source_step * c
    t.xrow, t.xcol = op.rows.tap_step * x_row, op.cols.tap_step * c
    t.yline, t.wrow, t.n, t.db = op.target.row, op.kernel_width * c, c, db
    for i in range(op.rows.n):
        r = op.rows.spans + i
        for j in range(op.cols.n):
            s = op.cols.spans + j
            t.x = x + r.source * x_row + s.source * c
            t.dy = dy + r.first * op.target.row + s.first * c
            t.dw = dw + (r.k * op.kernel_width + s.k) * c
            t.lines, t.pixels, t.rows, t.cols = r.count, s.count, r.taps, s.taps
            t.before, t.after = s.before, s.after
            (<const kernel_table *>table()).depthwise.outer(&t)


cdef float *floats(array, shape, str what, bint written=False) except? NULL:
    """The data of a C-contiguous float32 array of that shape (None in a shape: any length)."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not array.flags.c_contiguous:
        raise ValueError(f"{what}: expected a contiguous float32 array")
    if array.ndim != len(shape) or any(want not in (None, size) for want, size in zip(shape, array.shape)):
        raise ValueError(f"{what}: expected shape {shape}, got {array.shape}")
    if written and not array.flags.writeable:
        raise ValueError(f"{what}: expected a writable array")
    return <float *><Py_ssize_t>array.ctypes.data


cdef class _Depthwise(Op):
    """What the passes share: the geometry of x (n, ih, iw, ic), w (kh, kw, ic, m) and y (n, oh, ow, ic*m)."""

    cdef depthwise_args a

    cdef list geometry(self, Tensor x, Tensor y, kernel_shape, strides, pads, dilation, bint gradient,
                       Py_ssize_t longest):
        """Check shapes and link the axes (from y to x for the input gradient); returns what to keep alive."""
        kh, kw, ic, m = kernel_shape
        if min(kernel_shape) < 1 or x.c.c != ic or y.c.c != ic * m or x.images != y.images:
            raise ValueError(f"{self.name}: expected x (n, ih, iw, ic), w (kh, kw, ic, m) and "
                             f"y (n, oh, ow, ic*m), got {x.shape}, {tuple(kernel_shape)}, {y.shape}")
        cdef axis_shape rows = self.check_axis("rows", x.c.h, y.c.h, kh, strides[0], pads[0], dilation[0])
        cdef axis_shape cols = self.check_axis("columns", x.c.w, y.c.w, kw, strides[1], pads[1], dilation[1])
        self.a.source, self.a.target = (y.c, x.c) if gradient else (x.c, y.c)
        self.a.kernel_width, self.a.multiplier = kw, m
        self.a.channels, self.a.weights = ic * m, kh * kw * ic * m
        self.a.lo, self.a.hi = -np.inf, np.inf
        self.args = &self.a
        self.items = x.images
        return [x, y, link(&self.a.rows, &rows, gradient, longest),
                link(&self.a.cols, &cols, gradient, cols.inputs + cols.outputs, True)]

    cdef axis_shape check_axis(self, str axis, inputs, outputs, kernel, stride, pads, dilation):
        before, after = pads
        if min(stride, dilation) < 1 or min(pads) < 0:
            raise ValueError(f"{self.name}: strides and dilation must be positive and padding not negative, "
                             f"got {stride}, {dilation} and {pads} for {axis}")
        room = inputs + before + after - (kernel - 1) * dilation - 1
        if room < 0 or outputs != room // stride + 1:
            raise ValueError(f"{self.name}: y has {outputs} {axis}; x has {inputs}, which give "
                             f"{max(0, room // stride + 1)}")
        return axis_shape(inputs, outputs, kernel, stride, dilation, before)


cdef class DepthwiseConv(_Depthwise):
    """y = clamp(conv(x, w) + bias, lo, hi), an image per item.

    w is float32 (kh, kw, ic, m), bias float32 (ic*m,) or None; strides and dilation are pairs of ints, pads
    ((top, bottom), (left, right)). NaN passes the clamp. ValueError for arrays or sizes that do not fit.
    """

    def __init__(self, Tensor x, w, bias, Tensor y, strides, pads, dilation, float lo, float hi):
        self.name = "DepthwiseConv"
        self.a.w = floats(w, (None, None, x.c.c, None), "DepthwiseConv: w")
        self.a.bias = NULL if bias is None else floats(bias, (y.c.c,), "DepthwiseConv: bias")
        self.keep = [w, bias, self.geometry(x, y, w.shape, strides, pads, dilation, False, 1)]
        self.a.lo, self.a.hi = lo, hi
        self.scratch = x.c.h * x.c.w * y.c.c * 4 if self.a.multiplier > 1 else 0
        self.run = run_conv


cdef class DepthwiseInputGrad(_Depthwise):
    """dx from dy and w, an image per item; dx is overwritten, with zeros where no window saw a pixel.

    Each pixel of dx gathers from the outputs that it reached, in their order. Arguments as for DepthwiseConv.
    """

    def __init__(self, Tensor dy, w, Tensor dx, strides, pads, dilation):
        self.name = "DepthwiseInputGrad"
        self.a.w = floats(w, (None, None, dx.c.c, None), "DepthwiseInputGrad: w")
        self.keep = [w, self.geometry(dx, dy, w.shape, strides, pads, dilation, True, 1)]
        self.scratch = dx.c.w * dy.c.c * 4 if self.a.multiplier > 1 else 0
        self.run = run_input_grad


cdef class DepthwiseWeightGrad(_Depthwise):
    """The gradients of w and of the bias, a sum for each group of images.

    `parts` is float32 (groups, kh*kw*ic*m), `db_parts` float32 (groups, ic*m) or None; the stage may not have
    more groups than that. A task adds its images to the row of its group in a fixed order, and the first task
    of a group overwrites the row. Other arguments as for DepthwiseConv.
    """

    def __init__(self, Tensor x, Tensor dy, parts, db_parts, kernel_size, strides, pads, dilation):
        self.name = "DepthwiseWeightGrad"
        kernel_shape = (*kernel_size, x.c.c, dy.c.c // max(1, x.c.c))
        band = max(1, BAND // max(1, x.c.w * dy.c.c * max(1, strides[0])))
        self.keep = [parts, db_parts,
                     self.geometry(x, dy, kernel_shape, strides, pads, dilation, False, band)]
        self.a.dw_parts = floats(parts, (None, self.a.weights), "DepthwiseWeightGrad: parts", True)
        self.a.db_parts = NULL if db_parts is None else floats(
            db_parts, (len(parts), dy.c.c), "DepthwiseWeightGrad: db_parts", True)
        self.scratch = x.c.h * x.c.w * dy.c.c * 4 if self.a.multiplier > 1 else 0
        self.run = run_weight_grad
