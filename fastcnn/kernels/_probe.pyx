"""The machine's limits as ops: multiply-adds without memory, and memory without arithmetic."""

import numpy as np

from libc.string cimport memcpy

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Op, fc_run, fc_task

cdef extern from "fc_kernels.h":
    ctypedef struct fc_probe_kernels:
        double (*fma_loop)(Py_ssize_t iterations, float factor, float term, float *result) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_probe_kernels probe


# a*0.5 + 1 tends to 2 from anywhere: never denormal, never infinite.
cdef double fma_loop(Py_ssize_t iterations) noexcept nogil:
    cdef float result
    return (<const kernel_table *>table()).probe.fma_loop(iterations, 0.5, 1.0, &result)


cdef void run_fma(const void *args, const fc_task *task) noexcept nogil:
    cdef Py_ssize_t item
    for item in range(task.begin, task.end):
        fma_loop((<const Py_ssize_t *>args)[0])


cdef class FmaLoop(Op):
    """`items` register-only loops of `iterations` rounds; `flops` is what one run of the op computes."""

    cdef Py_ssize_t iterations
    cdef readonly double flops

    def __init__(self, Py_ssize_t iterations, Py_ssize_t items):
        if iterations < 1 or items < 1:
            raise ValueError(f"FmaLoop: expected at least one iteration and item, got {iterations} and {items}")
        self.iterations, self.items = iterations, items
        self.flops = fma_loop(1) * iterations * items
        self.run, self.args, self.name = <fc_run>run_fma, &self.iterations, "fma loop"


cdef struct copy_t:
    const char *source
    char *target
    Py_ssize_t item  # bytes


cdef void run_copy(const void *args, const fc_task *task) noexcept nogil:
    cdef const copy_t *c = <const copy_t *>args
    memcpy(c.target + task.begin * c.item, c.source + task.begin * c.item, (task.end - task.begin) * c.item)


cdef class CopyLoop(Op):
    """target = source, in `items` equal parts of whole bytes."""

    cdef copy_t c

    def __init__(self, source, target, Py_ssize_t items):
        for array in (source, target):
            if array.dtype != np.uint8 or not array.flags.c_contiguous or array.size % items:
                raise ValueError(f"CopyLoop: expected contiguous bytes, a multiple of {items}")
        if source.size != target.size:
            raise ValueError(f"CopyLoop: the sizes differ, {source.size} and {target.size}")
        self.c.source = <const char *><Py_ssize_t>source.ctypes.data
        self.c.target = <char *><Py_ssize_t>target.ctypes.data
        self.c.item, self.items = source.size // items, items
        self.run, self.args = <fc_run>run_copy, &self.c
        self.name, self.keep = "copy", (source, target)
