"""Loss ops: per-row loss, prediction and gradient of the mean loss in one pass over the logits."""

from libc.stdint cimport int32_t

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_loss_rows:
        Py_ssize_t rows, c
        const float *x
        const int32_t *label
        const float *target
        int ignores
        int32_t ignored
        const float *weight
        float smoothing, scale
        float *p
        float *dx
        float *loss
        float *correct

ctypedef void (*loss_kernel)(const fc_loss_rows *r) noexcept nogil

cdef extern from "fc_kernels.h":
    ctypedef struct fc_loss_kernels:
        loss_kernel softmax_crossentropy, sigmoid_crossentropy, squared_error, absolute_error
        double (*sum)(const float *x, Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_loss_kernels loss

cdef Py_ssize_t MAX_COLUMNS = 1 << 24  # columns are compared as floats


cdef const fc_loss_kernels *kernels() noexcept:
    return &(<const fc_kernels *>_cpu.table()).loss


cdef struct loss_args:
    const fc_tensor *x
    const fc_tensor *p   # NULL when not wanted, as every other output and `weight`
    const fc_tensor *dx
    const float *scale
    fc_loss_rows first   # the rows of image 0; x, p and dx are filled in per call
    loss_kernel kernel


cdef inline bint contiguous(const fc_tensor *t, Py_ssize_t row, Py_ssize_t image) noexcept nogil:
    return t == NULL or (t.row == row and t.image == image)


cdef inline float *row_of(const fc_tensor *t, const fc_task *task, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    return NULL if t == NULL else fc_image(t, task, n) + i * t.row


cdef void run_rows(const loss_args *a, const fc_task *task, Py_ssize_t n, Py_ssize_t i,
                   Py_ssize_t rows) noexcept nogil:
    """The kernel on `rows` pixels that start at row i of image n and are contiguous in every tensor."""
    cdef fc_loss_rows r = a.first
    cdef Py_ssize_t at = (n * a.x.h + i) * a.x.w
    r.rows, r.scale = rows, a.scale[0]
    r.x, r.p, r.dx = row_of(a.x, task, n, i), row_of(a.p, task, n, i), row_of(a.dx, task, n, i)
    r.loss += at
    if r.label != NULL:
        r.label += at
    if r.target != NULL:
        r.target += at * r.c
    if r.weight != NULL:
        r.weight += at
    if r.correct != NULL:
        r.correct += at
    a.kernel(&r)


cdef void run_loss(const void *op, const fc_task *task) noexcept nogil:
    cdef const loss_args *a = <const loss_args *>op
    cdef Py_ssize_t n, i, row = a.x.w * a.x.c, image = a.x.h * row
    if contiguous(a.x, row, image) and contiguous(a.p, row, image) and contiguous(a.dx, row, image):
        run_rows(a, task, task.begin, 0, (task.end - task.begin) * a.x.h * a.x.w)
        return
    for n in range(task.begin, task.end):
        for i in range(a.x.h):
            run_rows(a, task, n, i, a.x.w)


cdef class Loss(Op):
    """What the losses share. Rows are the pixels of x, n*h*w of them, each with c columns.

    `targets` is float32 with one value per column; `weights`, `loss_rows` and `correct` are float32 with one
    value per row. `p` (predictions) and `dx` (gradient) are tensors of x's shape; one of them may be x.
    `scale` multiplies the gradient: a float, or a float32 array of one element that is read at every run;
    1 / rows gives the gradient of the mean loss. All of p, dx, weights and correct may be None.
    """
    cdef loss_args a

    cdef setup(self, str name, loss_kernel kernel, Tensor x, Tensor p, Tensor dx, targets, labels, loss_rows,
               weights, correct, scale, double smoothing):
        if not 1 <= x.c.c <= MAX_COLUMNS:
            raise ValueError(f"{name}: expected 1 to {MAX_COLUMNS} columns, got {x.c.c}")
        same_shape(name, *(t for t in (x, p, dx) if t is not None))
        if p is not None and p is dx:
            raise ValueError(f"{name}: p and dx must be different tensors")
        if not 0 <= smoothing < 1:
            raise ValueError(f"{name}: expected label smoothing in [0, 1), got {smoothing}")
        if not isinstance(scale, np.ndarray):
            scale = np.array([scale], np.float32)
        rows = x.images * x.c.h * x.c.w
        self.set_arrays(name, rows, x.c.c, targets, labels, loss_rows, weights, correct, scale)
        self.a.x, self.a.kernel, self.a.first.c, self.a.first.smoothing = &x.c, kernel, x.c.c, smoothing
        self.a.p = NULL if p is None else &p.c
        self.a.dx = NULL if dx is None else &dx.c
        self.run, self.args, self.items, self.name = run_loss, &self.a, x.images, name
        self.keep = (x, p, dx, targets, labels, loss_rows, weights, correct, scale)

    cdef set_arrays(self, str name, Py_ssize_t rows, Py_ssize_t c, targets, labels, loss_rows, weights,
                    correct, scale):
        cdef fc_loss_rows *r = &self.a.first
        if labels is not None:
            r.label = <const int32_t *><Py_ssize_t>address(f"{name} labels", labels, np.int32, rows)
        else:
            r.target = <const float *><Py_ssize_t>address(f"{name} targets", targets, np.float32, rows * c)
        if weights is not None:
            r.weight = <const float *><Py_ssize_t>address(f"{name} weights", weights, np.float32, rows)
        if correct is not None:
            r.correct = <float *><Py_ssize_t>address(f"{name} correct", correct, np.float32, rows, True)
        r.loss = <float *><Py_ssize_t>address(f"{name} loss_rows", loss_rows, np.float32, rows, True)
        self.a.scale = <const float *><Py_ssize_t>address(f"{name} scale", scale, np.float32, 1)


cdef class SoftmaxCrossEntropy(Loss):
    """loss = -sum_j t[j] log softmax(x)[j]; p = softmax(x); dx = (p sum(t) - t) weight scale.

    The wanted distribution t is given by `targets`, or by int32 `labels` of n*h*w; label smoothing s makes it
    t (1 - s) + s / c. `correct` is 1 where the first largest x is at the label or the first largest target.
    A label outside [0, c) makes the row's loss and gradient NaN; they and `correct` are 0 where the label is `ignored`.
    """

    def __init__(self, Tensor x not None, loss_rows, labels=None, targets=None, Tensor p=None, Tensor dx=None,
                 weights=None, correct=None, scale=1.0, double label_smoothing=0, ignored=None):
        if (labels is None) == (targets is None):
            raise ValueError("SoftmaxCrossEntropy: expected either labels or targets")
        self.setup("SoftmaxCrossEntropy", kernels().softmax_crossentropy, x, p, dx, targets, labels,
                   loss_rows, weights, correct, scale, label_smoothing)
        if ignored is not None:
            self.a.first.ignores, self.a.first.ignored = True, ignored


cdef class SigmoidBinaryCrossEntropy(Loss):
    """loss = mean_j max(x, 0) - x t + log(1 + e^-|x|); p = sigmoid(x); dx = (p - t) weight scale / c.

    Label smoothing s makes the targets t (1 - s) + s / 2. `correct` is the fraction of the row's columns
    where (p > 1/2) equals the target.
    """

    def __init__(self, Tensor x not None, loss_rows, targets, Tensor p=None, Tensor dx=None, weights=None,
                 correct=None, scale=1.0, double label_smoothing=0):
        self.setup("SigmoidBinaryCrossEntropy", kernels().sigmoid_crossentropy, x, p, dx, targets, None,
                   loss_rows, weights, correct, scale, label_smoothing)


cdef class MeanSquaredError(Loss):
    """loss = mean_j (x - t)^2; dx = 2 (x - t) weight scale / c."""

    def __init__(self, Tensor x not None, loss_rows, targets, Tensor dx=None, weights=None, scale=1.0):
        self.setup("MeanSquaredError", kernels().squared_error, x, None, dx, targets, None, loss_rows,
                   weights, None, scale, 0)


cdef class MeanAbsoluteError(Loss):
    """loss = mean_j |x - t|; dx = sign(x - t) weight scale / c, with sign(0) = 0."""

    def __init__(self, Tensor x not None, loss_rows, targets, Tensor dx=None, weights=None, scale=1.0):
        self.setup("MeanAbsoluteError", kernels().absolute_error, x, None, dx, targets, None, loss_rows,
                   weights, None, scale, 0)


cdef struct total_args:
    const float *loss
    const float *correct
    double *totals
    Py_ssize_t rows
    double (*sum)(const float *x, Py_ssize_t n) noexcept nogil


cdef void run_total(const void *op, const fc_task *task) noexcept nogil:
    cdef const total_args *a = <const total_args *>op
    a.totals[0] = a.sum(a.loss, a.rows)
    a.totals[1] = a.sum(a.correct, a.rows) if a.correct != NULL else 0


cdef class LossTotal(Op):
    """totals = [sum of loss_rows, sum of correct], float64, summed in a fixed order; one item."""
    cdef total_args a

    def __init__(self, loss_rows, totals, correct=None):
        rows = loss_rows.size
        self.a.rows, self.a.sum = rows, kernels().sum
        self.a.loss = <const float *><Py_ssize_t>address("LossTotal loss_rows", loss_rows, np.float32, rows)
        self.a.totals = <double *><Py_ssize_t>address("LossTotal totals", totals, np.float64, 2, True)
        if correct is not None:
            self.a.correct = <const float *><Py_ssize_t>address("LossTotal", correct, np.float32, rows)
        self.run, self.args, self.items, self.keep = run_total, &self.a, 1, (loss_rows, totals, correct)
        self.name = "loss_total"
