"""Several ops as one, for layers that do the same to many parts of a sample."""

import numpy as np

from fastcnn.kernels._op cimport Op, fc_run, fc_task

cdef struct entry_t:
    fc_run run
    const void *args


cdef struct series_t:
    const entry_t *entries
    Py_ssize_t n


cdef void run_series(const void *args, const fc_task *task) noexcept nogil:
    cdef const series_t *s = <const series_t *>args
    cdef fc_task part = task[0]
    cdef Py_ssize_t i
    for i in range(s.n):
        s.entries[i].run(s.entries[i].args, &part)
        part.first = False


cdef class Series(Op):
    """Ops over the same items, one after the other.

    All but the first find `first` false in their task: ops that sum over items, and have the same partial sums as
    target, add to what the first one wrote. `algorithm`, for profiles, is theirs, or the family of their kernels.
    """

    cdef series_t s
    cdef readonly str algorithm

    def __init__(self, ops, name="series"):
        cdef Op op
        cdef Py_ssize_t i
        if not ops or len({op.items for op in ops}) > 1:
            raise ValueError(f"{name}: expected ops over the same items, got {[op.items for op in ops]}")
        entries = np.empty((len(ops), 2), np.intp)
        for i, op in enumerate(ops):
            entries[i] = <Py_ssize_t>op.run, <Py_ssize_t>op.args
            self.scratch = max(self.scratch, op.scratch)
        self.s.entries, self.s.n = <const entry_t *><Py_ssize_t>entries.ctypes.data, len(ops)
        self.run, self.args, self.items = run_series, &self.s, ops[0].items
        self.algorithm = getattr(ops[0], "algorithm", None) or type(ops[0]).__module__.rpartition("._")[2]
        self.name, self.keep = name, (ops, entries)
