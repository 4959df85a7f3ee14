"""Pooling over NHWC images: maximum, minimum, mean, their gradients, and the global forms.

Windows of `pool` (height, width) pixels lie `strides` apart over an image padded by `pads` = ((top, bottom),
(left, right)); padding never takes part in a maximum. Items are images, which do not depend on each other.
"""

from libc.string cimport memset

import numpy as np

from fastcnn.kernels._cpu cimport fc_pool, fc_pool_kernels, table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

NO_PADS = ((0, 0), (0, 0))

cdef struct pool_op:
    fc_pool size
    fc_tensor x, y  # the image side and the pooled side: dx and dy in a gradient
    char *arg       # (n, oh, ow, c) indices of size.arg_bytes, or NULL
    const fc_pool_kernels *kernels


cdef inline char *arg_row(const pool_op *op, Py_ssize_t n, Py_ssize_t o) noexcept nogil:
    """Where the indices of windows (o, ...) of image n are, or NULL."""
    if op.arg == NULL:
        return NULL
    return op.arg + (n * op.size.oh + o) * op.size.ow * op.size.c * op.size.arg_bytes


cdef inline Py_ssize_t first_row(const fc_pool *size, Py_ssize_t o) noexcept nogil:
    """The first image row of windows (o, ...)."""
    return max(<Py_ssize_t>0, o * size.sh - size.pt)


cdef void run_max(const void *args, const fc_task *task) noexcept nogil:
    cdef const pool_op *op = <const pool_op *>args
    cdef Py_ssize_t n, o
    cdef const float *x
    cdef float *y
    for n in range(task.begin, task.end):
        x, y = fc_image(&op.x, task, n), fc_image(&op.y, task, n)
        for o in range(op.size.oh):
            op.kernels.max_row(&op.size, o, x + first_row(&op.size, o) * op.x.row, op.x.row,
                               y + o * op.y.row, arg_row(op, n, o))


cdef void run_avg(const void *args, const fc_task *task) noexcept nogil:
    cdef const pool_op *op = <const pool_op *>args
    cdef Py_ssize_t n, o
    cdef const float *x
    cdef float *y
    for n in range(task.begin, task.end):
        x, y = fc_image(&op.x, task, n), fc_image(&op.y, task, n)
        for o in range(op.size.oh):
            op.kernels.avg_row(&op.size, o, x + first_row(&op.size, o) * op.x.row, op.x.row, y + o * op.y.row)


cdef void clear_rows(const pool_op *op, float *dx, Py_ssize_t begin, Py_ssize_t end,
                     Py_ssize_t column) noexcept nogil:
    """Zeros in the rows [begin, end) of dx, from a column on."""
    cdef Py_ssize_t i
    for i in range(begin, end):
        memset(dx + i * op.x.row + column * op.size.c, 0, (op.size.w - column) * op.size.c * sizeof(float))


cdef void run_grad(const void *args, const fc_task *task) noexcept nogil:
    """Rows of windows from the top; what no window overwrites in their rows of dx is cleared just before."""
    cdef const pool_op *op = <const pool_op *>args
    cdef const fc_pool *size = &op.size
    cdef Py_ssize_t covered = 0 if size.overlap else min(size.w, size.ow * size.kw - size.pl)
    cdef Py_ssize_t n, o, end, cleared
    cdef const float *dy
    cdef float *dx
    cdef float *dx_o
    for n in range(task.begin, task.end):
        dy, dx, cleared = fc_image(&op.y, task, n), fc_image(&op.x, task, n), 0
        for o in range(size.oh):
            end = min(size.h, o * size.sh - size.pt + size.kh)
            clear_rows(op, dx, cleared, end, covered)
            cleared = max(cleared, end)
            dx_o = dx + first_row(size, o) * op.x.row
            if op.arg != NULL:
                op.kernels.max_grad_row(size, o, dy + o * op.y.row, arg_row(op, n, o), dx_o, op.x.row)
            else:
                op.kernels.avg_grad_row(size, o, dy + o * op.y.row, dx_o, op.x.row)
        clear_rows(op, dx, cleared, size.h, 0)


cdef class Pool(Op):
    """What all pooling ops share: sizes and their checks. Not an op by itself."""

    cdef pool_op op

    cdef _set_up(self, Tensor x, Tensor y, pool, strides, pads):
        """Fill the sizes from the image side `x` and the pooled side `y`."""
        cdef fc_pool *size = &self.op.size
        (top, bottom), (left, right) = pads
        self.name = type(self).__name__
        _, size.h, size.w, size.c = x.shape
        (size.kh, size.kw), (size.sh, size.sw) = pool, strides
        size.pt, size.pl = top, left
        self._check_axis("height", size.h, size.kh, size.sh, top, bottom)
        self._check_axis("width", size.w, size.kw, size.sw, left, right)
        if pool[0] * pool[1] > 2**31 - 1:
            raise ValueError(f"{self.name}: a window of {pool[0]} x {pool[1]} is too large")
        size.oh = (size.h + top + bottom - size.kh) // size.sh + 1
        size.ow = (size.w + left + right - size.kw) // size.sw + 1
        pooled = (x.images, size.oh, size.ow, size.c)
        if y.shape != pooled:
            raise ValueError(f"{self.name}: {x.shape} pools to {pooled}, got {y.shape}")
        size.overlap = size.kh != size.sh or size.kw != size.sw  # or gaps, which must be cleared as well
        self.op.x, self.op.y = x.c, y.c
        self.op.kernels = &table().pool
        self.args = &self.op
        self.items = x.images
        self.keep = [x, y]

    def _check_axis(self, axis, size, k, stride, before, after):
        if size < 1 or k < 1 or stride < 1:
            raise ValueError(f"{self.name}: {axis} {size}, window {k} and stride {stride} must be at least 1")
        if not (0 <= before < k and 0 <= after < k):
            raise ValueError(f"{self.name}: padding {before}, {after} of the {axis} must be 0 to {k - 1}, "
                             f"less than the window, or a window could lie wholly in padding")
        if size + before + after < k:
            raise ValueError(f"{self.name}: window of {axis} {k} is larger than the padded image's "
                             f"{size} + {before} + {after}")

    def _bind_arg(self, arg):
        """Point at the array of indices: int32, or uint8 if all are below 255, which means closed."""
        shape = (self.items, self.op.size.oh, self.op.size.ow, self.op.size.c)
        if arg.dtype not in (np.uint8, np.int32) or arg.size != np.prod(shape):
            raise ValueError(f"{self.name}: arg must be uint8 or int32 {shape}, got {arg.dtype} {arg.shape}")
        if not (arg.flags.c_contiguous and arg.flags.writeable):
            raise ValueError(f"{self.name}: arg must be contiguous and writeable")
        taps = self.op.size.kh * self.op.size.kw
        if arg.dtype == np.uint8 and taps > 255:
            raise ValueError(f"{self.name}: windows of {taps} pixels need arg of int32, got uint8")
        self.op.arg = <char *><Py_ssize_t>arg.ctypes.data
        self.op.size.arg_bytes = arg.itemsize
        self.keep.append(arg)


cdef class MaxPool(Pool):
    """y = the largest pixel of each window, or the smallest if `minimum`; with `relu`, not below 0.

    The first of equal pixels in row-major order is taken; a window that holds NaN gives its first NaN. `arg`
    (n, oh, ow, c), uint8 (windows of up to 255 pixels) or int32, receives the index r*kw + i of that pixel in
    its window, or -1 (255 as uint8) where `relu` put 0 in its place; None computes values only.
    """

    def __init__(self, Tensor x, Tensor y, pool, strides, pads=NO_PADS, arg=None, *,
                 minimum=False, relu=False):
        self._set_up(x, y, pool, strides, pads)
        self.op.size.minimum, self.op.size.relu = bool(minimum), bool(relu)
        if arg is not None:
            self._bind_arg(arg)
        self.run = run_max


cdef class MaxPoolGrad(Pool):
    """dx = for each pixel, the sum of dy over the windows whose `arg` names it. Overwrites all of dx."""

    def __init__(self, Tensor dy, Tensor dx, arg, pool, strides, pads=NO_PADS):
        self._set_up(dx, dy, pool, strides, pads)
        self._bind_arg(arg)
        self.run = run_grad


cdef class AvgPool(Pool):
    """y = the mean of each window's pixels inside the image, or of all, with padding as zeros."""

    def __init__(self, Tensor x, Tensor y, pool, strides, pads=NO_PADS, *, count_include_pad=False):
        self._set_up(x, y, pool, strides, pads)
        self.op.size.count_padding = bool(count_include_pad)
        self.run = run_avg


cdef class AvgPoolGrad(Pool):
    """dx = for each pixel, the sum of dy / count over the windows that hold it. Overwrites all of dx."""

    def __init__(self, Tensor dy, Tensor dx, pool, strides, pads=NO_PADS, *, count_include_pad=False):
        self._set_up(dx, dy, pool, strides, pads)
        self.op.size.count_padding = bool(count_include_pad)
        self.run = run_grad


cdef class GlobalMaxPool(MaxPool):
    """y (n, c) = the largest pixel of each image; `arg` (n, c), int32, receives its row-major index."""

    def __init__(self, Tensor x, Tensor y, arg=None):
        super().__init__(x, y, x.shape[1:3], x.shape[1:3], arg=arg)


cdef class GlobalMaxPoolGrad(MaxPoolGrad):
    """dx = dy at the pixel that `arg` names, 0 elsewhere."""

    def __init__(self, Tensor dy, Tensor dx, arg):
        super().__init__(dy, dx, arg, dx.shape[1:3], dx.shape[1:3])


cdef class GlobalAvgPool(AvgPool):
    """y (n, c) = the mean of each image's pixels."""

    def __init__(self, Tensor x, Tensor y):
        super().__init__(x, y, x.shape[1:3], x.shape[1:3])


cdef class GlobalAvgPoolGrad(AvgPoolGrad):
    """dx = dy / (h * w) at every pixel."""

    def __init__(self, Tensor dy, Tensor dx):
        super().__init__(dy, dx, dx.shape[1:3], dx.shape[1:3])
