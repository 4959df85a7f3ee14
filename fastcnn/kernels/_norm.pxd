"""What the normalisation drivers share: see _norm.pyx."""

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._op cimport Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    enum:
        FC_NORM_PAD
    ctypedef struct fc_channel_norm:
        const float *mean
        const float *scale
        const float *shift
        float lo, hi
    ctypedef struct fc_norm_kernels:
        void (*moments)(double *mean, double *m2, double count, const float *x, Py_ssize_t pixels,
                        Py_ssize_t c) noexcept nogil
        void (*normalize)(float *y, const float *x, Py_ssize_t pixels, Py_ssize_t c,
                          const fc_channel_norm *p) noexcept nogil
        void (*grad_sums)(double *sum, double *product, const float *dy, const float *x, Py_ssize_t pixels,
                          Py_ssize_t c, const fc_channel_norm *p) noexcept nogil
        void (*input_grad)(float *dx, const float *dy, const float *x, Py_ssize_t pixels, Py_ssize_t c,
                           const fc_channel_norm *p, const float *offset, const float *slope) noexcept nogil
        void (*layer_norm)(float *y, const float *x, Py_ssize_t rows, Py_ssize_t c, const float *gamma,
                           const float *beta, float epsilon) noexcept nogil
        void (*layer_norm_grad)(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                                Py_ssize_t rows, Py_ssize_t c, const float *gamma, float epsilon) noexcept nogil
    ctypedef struct fc_eltwise_kernels:
        void (*multiply)(float *y, const float *a, const float *b, Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_norm_kernels norm
        fc_eltwise_kernels eltwise

cdef enum:
    CHANNEL_BLOCK = 64  # channels of one item, where work is cut by channels


cdef inline const fc_kernels *kernels() noexcept nogil:
    return <const fc_kernels *>_cpu.table()


cdef inline Py_ssize_t padded(Py_ssize_t c) noexcept nogil:
    return (c + FC_NORM_PAD - 1) // FC_NORM_PAD * FC_NORM_PAD


cdef inline Py_ssize_t channel_blocks(Py_ssize_t c) noexcept nogil:
    return (c + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK


cdef struct lines:
    Py_ssize_t count, pixels


cdef inline lines lines_of(const fc_tensor *a, const fc_tensor *b, const fc_tensor *c) noexcept nogil:
    """The fewest contiguous runs of pixels that an image has in all three tensors, which have one shape."""
    cdef Py_ssize_t row = a.w * a.c
    cdef lines r
    r.count, r.pixels = a.h, a.w
    if a.row == row and b.row == row and c.row == row:
        r.count, r.pixels = 1, a.h * a.w
    return r


cdef inline float *line(const fc_tensor *t, const fc_task *task, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    return fc_image(t, task, n) + i * t.row


cdef float *floats(where, array, Py_ssize_t size, bint writable=*) except? NULL
cdef double *doubles(where, array, Py_ssize_t size) except NULL
cdef check_epsilon(where, double epsilon)


cdef class Channels:
    cdef fc_channel_norm c
    cdef readonly Py_ssize_t channels
    cdef object keep


cdef check_channels(where, Tensor x, Channels p)
