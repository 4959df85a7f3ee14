cdef extern from "fc_op.h":
    ctypedef struct fc_tensor:
        float *data
        Py_ssize_t offset, image, row, h, w, c, top, left, bottom, right

    ctypedef struct fc_task:
        Py_ssize_t begin, end, chunk, part
        int first
        char *scratch
        char *local

    ctypedef void (*fc_run)(const void *op, const fc_task *task) noexcept nogil

    float *fc_image(const fc_tensor *t, const fc_task *task, Py_ssize_t n) noexcept nogil
    void fc_fetch_near(const float *p) noexcept nogil
    void fc_fetch(const float *p) noexcept nogil


cdef class Tensor:
    cdef fc_tensor c
    cdef readonly object owner
    cdef readonly Py_ssize_t images


cdef class Op:
    cdef fc_run run
    cdef const void *args
    cdef readonly Py_ssize_t scratch
    cdef readonly Py_ssize_t items
    cdef readonly str name
    cdef object keep
