"""Reads a batch from the user's array into the plan: picks samples, converts to float32, leaves the halo alone."""

import numpy as np

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_eltwise_kernels:
        int (*all_finite)(const float *x, Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_eltwise_kernels eltwise

DTYPES = (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.float64))
cdef bytes FORMATS = "".join(dtype.char for dtype in DTYPES).encode()  # as the buffer protocol calls them
cdef bytes LABEL_FORMATS = b"Bi" + np.dtype(np.intp).char.encode()
cdef bytes INTP = np.dtype(np.intp).char.encode()


cdef struct load_t:
    fc_tensor x
    const char *source         # (samples, h*w*c), C-contiguous
    Py_ssize_t item_bytes      # of one number
    int kind                   # index in DTYPES
    const Py_ssize_t *samples  # which sample each image is, or NULL: first, first + 1, ...
    Py_ssize_t first


cdef void load_row(const load_t *a, const char *source, float *dst, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    if a.kind == 0:
        memcpy(dst, source, count * sizeof(float))
    elif a.kind == 1:
        for i in range(count):
            dst[i] = (<const unsigned char *>source)[i]
    else:
        for i in range(count):
            dst[i] = <float>(<const double *>source)[i]


cdef void run_load(const void *args, const fc_task *task) noexcept nogil:
    cdef const load_t *a = <const load_t *>args
    cdef Py_ssize_t n, row, sample, pixels = a.x.w * a.x.c
    for n in range(task.begin, task.end):
        sample = a.first + n if a.samples == NULL else a.samples[n]
        for row in range(a.x.h):
            load_row(a, a.source + (sample * a.x.h + row) * pixels * a.item_bytes,
                     fc_image(&a.x, task, n) + row * a.x.row, pixels)


cdef class Load(Op):
    """Fills x from the array last given to `point_at`; items are images."""

    cdef load_t c
    cdef object source, samples

    def __init__(self, Tensor x, name="load"):
        self.c.x = x.c
        self.items = x.images
        self.run, self.args = <fc_run>run_load, &self.c
        self.name, self.keep = name, x

    def point_at(self, source, samples=None, Py_ssize_t first=0):
        """Read from `source` (samples, ...), C-contiguous, of a dtype in DTYPES: the `samples` (an intp array of as
        many indices as images), or those from `first` on. Raises IndexError if one is not there."""
        cdef load_t *a = &self.c
        cdef Py_ssize_t length = len(source), i
        cdef array_t data = look_at(source), indices
        if data.start == NULL or data.format not in FORMATS:
            raise ValueError(f"Load: expected a contiguous array of {[d.name for d in DTYPES]}, got {source.dtype}")
        if data.size != length * a.x.h * a.x.w * a.x.c:
            raise ValueError(f"Load: expected samples of {a.x.h * a.x.w * a.x.c} numbers, got shape {source.shape}")
        if samples is not None:
            indices = look_at(samples)
            if indices.start == NULL or indices.format not in INTP or indices.size != self.items:
                raise ValueError(f"Load: expected {self.items} intp indices")
            a.samples = <const Py_ssize_t *>indices.start
            for i in range(self.items):
                if not 0 <= a.samples[i] < length:
                    raise IndexError("Load: sample index out of range")
        else:
            if first < 0 or first + self.items > length:
                raise IndexError("Load: sample index out of range")
            a.samples = NULL
        a.kind = FORMATS.index(data.format)
        a.item_bytes, a.first = data.item_bytes, first
        a.source = data.start
        self.source, self.samples = source, samples


def all_finite(source):
    """Whether no value of a C-contiguous float32 array is NaN or infinite."""
    cdef array_t data = look_at(source)
    if data.start == NULL or data.format != FORMATS[0]:
        raise ValueError(f"all_finite: expected a contiguous array of float32, got {source.dtype}")
    return (<const fc_kernels *>_cpu.table()).eltwise.all_finite(<const float *>data.start, data.size) != 0


def class_labels(source, Py_ssize_t classes, ignored=None):
    """The integers of an array as int32, or None if one is neither in 0..classes-1 nor `ignored`, or if the array is
    not C-contiguous, of intp, int32 or uint8. One pass: a step of a small net takes hardly longer than a few calls of
    NumPy."""
    cdef array_t data = look_at(source)
    cdef const char *at = data.start
    cdef bint ignores = ignored is not None
    cdef Py_ssize_t i, label, ignored_label = ignored if ignores else 0
    if at == NULL or data.format not in LABEL_FORMATS:
        return None
    labels = np.empty(source.shape, np.int32)
    cdef int *result = <int *>look_at(labels).start
    for i in range(data.size):
        if data.format == c"B":
            label = (<const unsigned char *>at)[i]
        elif data.format == c"i":
            label = (<const int *>at)[i]
        else:
            label = (<const Py_ssize_t *>at)[i]
        if not 0 <= label < classes and not (ignores and label == ignored_label):
            return None
        result[i] = <int>label
    return labels


cdef struct array_t:
    const char *start  # NULL unless the array is C-contiguous and of a plain dtype
    char format
    Py_ssize_t size, item_bytes


cdef array_t look_at(array):
    """Where an array is and what it holds, by the buffer protocol: NumPy's own attributes take far longer."""
    cdef array_t found
    cdef Py_buffer view
    found.start, found.format, found.size, found.item_bytes = NULL, 0, 0, 1
    if array.flags.c_contiguous:
        PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        if view.format[1] == 0:
            found.start, found.format = <const char *>view.buf, view.format[0]
            found.size, found.item_bytes = view.len // view.itemsize, view.itemsize
        PyBuffer_Release(&view)
    return found
