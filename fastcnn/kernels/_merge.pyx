"""Ops on several branches: element-wise with broadcasting, pasting side by side; and PReLU.

A tensor *broadcasts* along an axis of an image (rows, columns, channels) where it has one entry and the result has
several. Work goes row by row: a row of a tensor that broadcasts along columns or channels is first written out in
scratch, as wide as the result's, so that the kernels see plain runs of floats.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

ctypedef void (*binary_kernel)(float *y, const float *a, const float *b, Py_ssize_t n) noexcept nogil

cdef extern from "fc_kernels.h":
    ctypedef struct fc_eltwise_kernels:
        binary_kernel add, multiply
        void (*affine)(float *y, const float *x, Py_ssize_t n, float scale, float offset) noexcept nogil
        void (*channel_sum)(float *sum, const float *x, Py_ssize_t rows, Py_ssize_t c) noexcept nogil
    ctypedef struct fc_merge_kernels:
        binary_kernel subtract, maximum, minimum, prelu, prelu_slope_grad
        void (*add_clamp)(float *y, const float *a, const float *b, Py_ssize_t n, float lo, float hi) noexcept nogil
        void (*select)(float *dx, const float *dy, const float *a, const float *b, Py_ssize_t n,
                       int equal) noexcept nogil
        void (*row_sum)(float *sum, const float *x, Py_ssize_t rows, Py_ssize_t c) noexcept nogil
        void (*prelu_grad)(float *dx, const float *dy, const float *x, const float *slope,
                           Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_eltwise_kernels eltwise
        fc_merge_kernels merge

cdef enum kind_of_merge:
    ADD, SUBTRACT, MULTIPLY, AVERAGE, MAXIMUM, MINIMUM

KINDS = {"add": ADD, "subtract": SUBTRACT, "multiply": MULTIPLY, "average": AVERAGE, "maximum": MAXIMUM,
         "minimum": MINIMUM}


# Rows with broadcasting

cdef struct operand:
    fc_tensor t
    bint narrow           # broadcasts along columns or channels
    Py_ssize_t expanded   # where its row is written out: floats into the scratch


cdef struct frame:  # the rows that all operands are seen as: those of an image, or one as long as the image
    Py_ssize_t rows, w, c, length


cdef inline const float *expand(float *out, const fc_tensor *t, const float *row, const frame *f) noexcept nogil:
    cdef Py_ssize_t p, k, step = t.c if t.w > 1 else 0
    for p in range(f.w):
        if t.c == f.c:
            memcpy(out + p * f.c, row + p * step, f.c * sizeof(float))
        else:
            for k in range(f.c):
                out[p * f.c + k] = row[p * step]
    return out


cdef inline const float *row_of(const operand *x, const frame *f, const fc_task *task, Py_ssize_t n, Py_ssize_t i,
                                float *scratch) noexcept nogil:
    """Row i of image n, as wide as the frame; an expanded row serves all rows of an image that share it."""
    cdef const float *row = fc_image(&x.t, task, n) + (i * x.t.row if x.t.h > 1 else 0)
    if not x.narrow:
        return row
    if i and x.t.h == 1:
        return scratch + x.expanded
    return expand(scratch + x.expanded, &x.t, row, f)


cdef inline void add_row(float *sum, const operand *x, const float *row, const frame *f,
                         const fc_kernels *k) noexcept nogil:
    """The transpose of `expand`: adds up what one entry of the operand was repeated to."""
    if not x.narrow:
        k.eltwise.add(sum, sum, row, f.length)
    elif x.t.c == f.c:
        k.eltwise.channel_sum(sum, row, f.w, f.c)
    elif x.t.w == f.w:
        k.merge.row_sum(sum, row, f.w, f.c)
    else:
        k.merge.row_sum(sum, row, 1, f.length)


cdef fc_kernels *kernels() noexcept:
    return <fc_kernels *>_cpu.table()


cdef bint is_flat(Tensor t):
    """Whether the rows of an image lie one after another."""
    return t.c.row == t.c.w * t.c.c


cdef operand operand_of(where, Tensor x, Tensor whole, bint one_image=False) except *:
    """x as an operand of a result of the shape of `whole`; ValueError where it does not broadcast to it."""
    cdef operand o
    sizes, wanted = x.shape[1:], whole.shape[1:]
    if x.images != (1 if one_image else whole.images) or any(
            [size not in (1, want) for size, want in zip(sizes, wanted)]):
        raise ValueError(f"{where}: {x.shape} does not broadcast to {whole.shape}")
    o.t = x.c
    o.narrow = sizes[1:] != wanted[1:]
    o.expanded = 0
    return o


cdef frame frame_of(Tensor whole, tensors):
    """One row per image where all tensors have one shape and no gaps, else the rows of the image."""
    cdef frame f
    cdef bint flat = all([t.shape[1:] == whole.shape[1:] and is_flat(t) for t in [whole, *tensors]])
    f.rows, f.w, f.c = whole.c.h, whole.c.w, whole.c.c
    if flat:
        f.rows, f.w = 1, f.rows * f.w
    f.length = f.w * f.c
    return f


# Element-wise

cdef struct merge_args:
    kind_of_merge kind
    frame f
    operand *inputs
    Py_ssize_t count, index     # which input's gradient
    fc_tensor y, dy
    operand dx
    Py_ssize_t gradient         # where a row of a gradient that is summed is: floats into the scratch
    float lo, hi
    const fc_kernels *kernels


cdef inline binary_kernel kernel_of(const merge_args *a) noexcept nogil:
    if a.kind == SUBTRACT:
        return a.kernels.merge.subtract
    if a.kind == MULTIPLY:
        return a.kernels.eltwise.multiply
    if a.kind == MAXIMUM:
        return a.kernels.merge.maximum
    if a.kind == MINIMUM:
        return a.kernels.merge.minimum
    return a.kernels.eltwise.add


cdef void run_merge(const void *op, const fc_task *task) noexcept nogil:
    cdef const merge_args *a = <const merge_args *>op
    cdef float *scratch = <float *>task.scratch
    cdef binary_kernel kernel = kernel_of(a)
    cdef const float *left
    cdef const float *right
    cdef float *y
    cdef Py_ssize_t n, i, j
    for n in range(task.begin, task.end):
        for i in range(a.f.rows):
            y = fc_image(&a.y, task, n) + i * a.y.row
            left = row_of(&a.inputs[0], &a.f, task, n, i, scratch)
            for j in range(1, a.count):
                right = row_of(&a.inputs[j], &a.f, task, n, i, scratch)
                if a.kind == ADD and j == a.count - 1:
                    a.kernels.merge.add_clamp(y, left, right, a.f.length, a.lo, a.hi)
                else:
                    kernel(y, left, right, a.f.length)
                left = y
            if a.kind == AVERAGE:
                a.kernels.eltwise.affine(y, y, a.f.length, 1.0 / a.count, 0)


cdef class _Merge(Op):
    """What the two directions share: the inputs as operands."""
    cdef merge_args a

    def __dealloc__(self):
        free(self.a.inputs)

    cdef set_inputs(self, kind, inputs, Tensor whole, others):
        """Fills the struct; the floats of scratch that the inputs need."""
        cdef Py_ssize_t j, floats = 0
        where = f"{type(self).__name__} {kind}"
        if kind not in KINDS:
            raise ValueError(f"{where}: choose from {', '.join(KINDS)}")
        if len(inputs) < 2 or (kind == "subtract" and len(inputs) > 2):
            raise ValueError(f"{where}: takes {'two' if kind == 'subtract' else 'two or more'} inputs, "
                             f"got {len(inputs)}")
        self.a.kind, self.a.count, self.a.kernels = KINDS[kind], len(inputs), kernels()
        self.a.f = frame_of(whole, [*inputs, *others])
        self.a.inputs = <operand *>calloc(self.a.count, sizeof(operand))
        if self.a.inputs == NULL:
            raise MemoryError(where)
        for j, x in enumerate(inputs):
            self.a.inputs[j] = operand_of(where, x, whole)
            self.a.inputs[j].expanded = floats
            if self.a.inputs[j].narrow:
                floats += self.a.f.length
        self.args, self.items, self.name = &self.a, whole.images, kind
        return floats


cdef class Merge(_Merge):
    """y = the inputs added, multiplied, averaged ... (`kind`, see KINDS), which broadcast to the shape of y.

    `clamp` (lo, hi) bounds the values of a sum: ReLU is (0, inf). Inputs may be y itself. NaN stays NaN.
    """

    def __init__(self, kind, inputs, Tensor y not None, clamp=(-np.inf, np.inf)):
        if clamp != (-np.inf, np.inf) and kind != "add":
            raise ValueError(f"Merge {kind}: only a sum can be clamped")
        self.scratch = 4 * self.set_inputs(kind, inputs, y, [])
        self.a.y, self.a.lo, self.a.hi = y.c, clamp[0], clamp[1]
        self.run, self.keep = run_merge, (list(inputs), y)


cdef void gradient_row(const merge_args *a, const fc_task *task, Py_ssize_t n, Py_ssize_t i, const float *dy,
                       float *g) noexcept nogil:
    """g = dy times the derivative of the result with respect to the chosen input, as wide as the result."""
    cdef float *scratch = <float *>task.scratch
    cdef const float *y
    cdef Py_ssize_t j
    cdef bint first = True
    if a.kind == MULTIPLY:
        for j in range(a.count):
            if j != a.index:
                a.kernels.eltwise.multiply(g, dy if first else g, row_of(&a.inputs[j], &a.f, task, n, i, scratch),
                                           a.f.length)
                first = False
    elif a.kind == MAXIMUM or a.kind == MINIMUM:
        y = fc_image(&a.y, task, n) + i * a.y.row
        a.kernels.merge.select(g, dy, row_of(&a.inputs[a.index], &a.f, task, n, i, scratch), y, a.f.length, 1)
        for j in range(a.index):  # the first of equals gets the gradient
            a.kernels.merge.select(g, g, row_of(&a.inputs[j], &a.f, task, n, i, scratch), y, a.f.length, 0)
    else:
        a.kernels.eltwise.affine(g, dy, a.f.length, 1.0 / a.count if a.kind == AVERAGE else
                                 -1 if a.kind == SUBTRACT and a.index else 1, 0)


cdef void run_merge_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const merge_args *a = <const merge_args *>op
    cdef const fc_tensor *dx = &a.dx.t
    cdef float *g = <float *>task.scratch + a.gradient
    cdef bint summed = a.dx.narrow or (dx.h == 1 and a.f.rows > 1)
    cdef float *row
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(a.f.rows):
            row = fc_image(dx, task, n) + (i * dx.row if dx.h > 1 else 0)
            if not summed:
                gradient_row(a, task, n, i, fc_image(&a.dy, task, n) + i * a.dy.row, row)
                continue
            gradient_row(a, task, n, i, fc_image(&a.dy, task, n) + i * a.dy.row, g)
            if i == 0 or dx.h > 1:
                memset(row, 0, dx.w * dx.c * sizeof(float))
            add_row(row, &a.dx, g, &a.f, a.kernels)


cdef class MergeGrad(_Merge):
    """dx = the gradient of Merge with respect to inputs[index], summed over the axes along which it broadcasts.

    Only a product, a maximum and a minimum read the inputs, and only the last two read y; the others may be
    given with dy in their place. Of equal values, the first in the list counts as the maximum or minimum.
    """

    def __init__(self, kind, Tensor dy not None, inputs, Tensor y not None, Py_ssize_t index, Tensor dx not None):
        same_shape(f"MergeGrad {kind}", dy, y)
        if not 0 <= index < len(inputs) or inputs[index].shape != dx.shape:
            raise ValueError(f"MergeGrad {kind}: {dx.shape} is not the shape of input {index}")
        self.a.gradient = self.set_inputs(kind, inputs, dy, [y, dx])
        self.a.index, self.a.y, self.a.dy = index, y.c, dy.c
        self.a.dx = operand_of("MergeGrad", dx, dy)
        self.scratch = 4 * (self.a.gradient + self.a.f.length)
        self.run, self.keep = run_merge_grad, (list(inputs), y, dy, dx)


# Pasting

cdef struct paste_args:
    fc_tensor part, whole
    Py_ssize_t row, offset, pixels, run   # of the part: first row, floats before it, runs per row, floats per run
    Py_ssize_t step                       # floats between its runs in the whole


cdef void run_paste(const void *op, const fc_task *task) noexcept nogil:
    cdef const paste_args *a = <const paste_args *>op
    cdef const float *part
    cdef float *whole
    cdef Py_ssize_t n, i, p
    for n in range(task.begin, task.end):
        for i in range(a.part.h):
            part = fc_image(&a.part, task, n) + i * a.part.row
            whole = fc_image(&a.whole, task, n) + (a.row + i) * a.whole.row + a.offset
            for p in range(a.pixels):
                memcpy(whole + p * a.step, part + p * a.run, a.run * sizeof(float))


cdef void run_cut(const void *op, const fc_task *task) noexcept nogil:
    cdef const paste_args *a = <const paste_args *>op
    cdef float *part
    cdef const float *whole
    cdef Py_ssize_t n, i, p
    for n in range(task.begin, task.end):
        for i in range(a.part.h):
            part = fc_image(&a.part, task, n) + i * a.part.row
            whole = fc_image(&a.whole, task, n) + (a.row + i) * a.whole.row + a.offset
            for p in range(a.pixels):
                memcpy(part + p * a.run, whole + p * a.step, a.run * sizeof(float))


cdef paste_args paste_of(where, Tensor part, Tensor whole, at) except *:
    cdef paste_args a
    if part.images != whole.images or any(
            [not 0 <= first <= first + size <= room
             for first, size, room in zip(at, part.shape[1:], whole.shape[1:], strict=True)]):
        raise ValueError(f"{where}: {part.shape} at {tuple(at)} does not lie within {whole.shape}")
    a.part, a.whole, a.row, a.offset = part.c, whole.c, at[0], at[1] * whole.c.c + at[2]
    a.pixels, a.run, a.step = part.c.w, part.c.c, whole.c.c
    if a.run == a.step:
        a.pixels, a.run = 1, part.c.w * part.c.c
    return a


cdef class Paste(Op):
    """Writes `part` into `whole` from (row, column, channel) `at` on; the rest of `whole` stays as it is."""
    cdef paste_args a

    def __init__(self, Tensor part not None, Tensor whole not None, at):
        self.a = paste_of("Paste", part, whole, at)
        self.run, self.args, self.items, self.keep = run_paste, &self.a, part.images, (part, whole)
        self.name = "paste"


cdef class Cut(Op):
    """Reads `part` from `whole`, from (row, column, channel) `at` on: the gradient of Paste."""
    cdef paste_args a

    def __init__(self, Tensor whole not None, Tensor part not None, at):
        self.a = paste_of("Cut", part, whole, at)
        self.run, self.args, self.items, self.keep = run_cut, &self.a, part.images, (part, whole)
        self.name = "cut"


# PReLU

cdef struct prelu_args:
    frame f
    fc_tensor x, y, dy
    operand slope
    float *parts
    Py_ssize_t count, size
    const fc_kernels *kernels


cdef void run_prelu(const void *op, const fc_task *task) noexcept nogil:
    cdef const prelu_args *a = <const prelu_args *>op
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(a.f.rows):
            a.kernels.merge.prelu(fc_image(&a.y, task, n) + i * a.y.row, fc_image(&a.x, task, n) + i * a.x.row,
                                  row_of(&a.slope, &a.f, task, 0, i, <float *>task.scratch), a.f.length)


cdef void run_prelu_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const prelu_args *a = <const prelu_args *>op
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(a.f.rows):
            a.kernels.merge.prelu_grad(
                fc_image(&a.y, task, n) + i * a.y.row, fc_image(&a.dy, task, n) + i * a.dy.row,
                fc_image(&a.x, task, n) + i * a.x.row,
                row_of(&a.slope, &a.f, task, 0, i, <float *>task.scratch), a.f.length)


cdef void run_prelu_slope_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const prelu_args *a = <const prelu_args *>op
    cdef const fc_tensor *slope = &a.slope.t
    cdef float *part = a.parts + task.part * a.size
    cdef float *g = <float *>task.scratch
    cdef Py_ssize_t n, i
    if task.part >= a.count:
        return
    if task.first:
        memset(part, 0, a.size * sizeof(float))
    for n in range(task.begin, task.end):
        for i in range(a.f.rows):
            a.kernels.merge.prelu_slope_grad(g, fc_image(&a.dy, task, n) + i * a.dy.row,
                                             fc_image(&a.x, task, n) + i * a.x.row, a.f.length)
            add_row(part + (i * slope.row if slope.h > 1 else 0), &a.slope, g, &a.f, a.kernels)


cdef class PRelu(Op):
    """y = x where x > 0, else slope * x. The slope is a tensor of one image that broadcasts to those of x."""
    cdef prelu_args a

    def __init__(self, Tensor x not None, Tensor slope not None, Tensor y not None):
        same_shape("PRelu", x, y)
        self.set("PRelu", x, slope, [y])
        self.a.y, self.run, self.name = y.c, run_prelu, "prelu"

    cdef set(self, where, Tensor x, Tensor slope, tensors):
        self.a.f, self.a.slope = frame_of(x, [slope, *tensors]), operand_of(where, slope, x, True)
        self.a.x, self.a.kernels = x.c, kernels()
        self.scratch = 4 * self.a.f.length
        self.args, self.items, self.keep = &self.a, x.images, (x, slope, tensors)


cdef class PReluGrad(PRelu):
    """dx = dy where x > 0, else slope * dy."""

    def __init__(self, Tensor dy not None, Tensor x not None, Tensor slope not None, Tensor dx not None):
        same_shape("PReluGrad", dy, x, dx)
        self.set("PReluGrad", x, slope, [dy, dx])
        self.a.dy, self.a.y, self.run, self.name = dy.c, dx.c, run_prelu_grad, "prelu_grad"


cdef class PReluSlopeGrad(PRelu):
    """parts[group] = the gradient with respect to the slope, summed over the group's images in order.

    `parts` is float32 (groups, elements of the slope), at least one row per group of the stage; groups beyond it
    are left out.
    """

    def __init__(self, Tensor dy not None, Tensor x not None, Tensor slope not None, parts):
        same_shape("PReluSlopeGrad", dy, x)
        self.set("PReluSlopeGrad", x, slope, [dy])
        self.keep = (x, slope, dy, parts)
        self.a.count, self.a.size = len(parts), slope.c.h * slope.c.row
        self.a.parts = <float *><Py_ssize_t>address("PReluSlopeGrad parts", parts, np.float32,
                                                    self.a.count * self.a.size, True)
        self.a.dy, self.run, self.name = dy.c, run_prelu_slope_grad, "prelu_slope_grad"
