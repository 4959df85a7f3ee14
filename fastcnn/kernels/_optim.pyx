"""Optimiser ops: the whole update in one pass over the flat arrays of weights, gradients and slots."""

from libc.stdint cimport int64_t

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address
from fastcnn.kernels._op cimport Op, fc_task

cdef extern from "fc_kernels.h":
    enum: FC_SCALARS
    ctypedef struct fc_rule:
        const char *name
        const char *slots
        const char *scalars
        update_kernel update
    ctypedef struct fc_optim_kernels:
        const fc_rule *rules
        double (*sum_squares)(const float *x, Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_optim_kernels optim

BLOCK = 8192  # floats of one item
SCALARS = FC_SCALARS  # elements of the array of a step's scalars


cdef const fc_optim_kernels *kernels() noexcept:
    return &(<const fc_kernels *>_cpu.table()).optim


def rules() -> dict:
    """Rule name -> (names of its slots, names of its scalars), both in the order of the arrays."""
    cdef const fc_rule *rule = kernels().rules
    table = {}
    while rule.name != NULL:
        scalars = ["decay", "clip", "rate"] + rule.scalars.decode().split()
        table[rule.name.decode()] = tuple(rule.slots.decode().split()), tuple(scalars)
        rule += 1
    return table


cdef const fc_rule *rule_named(name) except NULL:
    cdef const fc_rule *rule = kernels().rules
    while rule.name != NULL:
        if rule.name.decode() == name:
            return rule
        rule += 1
    raise ValueError(f"unknown update rule {name!r}; choose from {', '.join(rules())}")


cdef class Rule:
    """One step of an optimiser, part by part: for ops that know a part of the gradient before others.

    `w` and every array of `slots` are flat float32 arrays of one size. `rule` names the update; rules() lists them with
    the slots and scalars each takes. `scalars` is float64 with SCALARS elements, in that order, read at every run.
    """

    def __init__(self, rule, w, slots, scalars):
        cdef const fc_rule *entry = rule_named(rule)
        names = rules()[rule][0]
        if len(slots) != len(names):
            raise ValueError(f"{rule}: expected the slots {names}, got {len(slots)} arrays")
        self.name, self.size, self.c.kernel = rule, w.size, entry.update
        self.c.w = <float *><Py_ssize_t>address(f"{rule} w", w, np.float32, w.size, True)
        for k, (name, slot) in enumerate(zip(names, slots)):
            where = f"{rule} {name}"
            self.c.slot[<Py_ssize_t>k] = <float *><Py_ssize_t>address(where, slot, np.float32, w.size, True)
        where = f"{rule} scalars"
        self.c.scalars = <const fc_step_scalars *><Py_ssize_t>address(where, scalars, np.float64, FC_SCALARS)
        self.keep = w, tuple(slots), scalars


cdef struct block:
    int64_t offset, length, variable, decay


cdef cut(segments, size):
    """The blocks of segments (offset, length, variable, decay) of an array, as int64 rows like `block`."""
    blocks = []
    end = 0
    for offset, length, variable, decay in sorted(segments):
        if offset < end or length < 0 or offset + length > size or variable < 0:
            where = f"segment {(offset, length, variable)}"
            raise ValueError(f"{where} overlaps another or leaves the {size} weights")
        end = offset + length
        blocks += [(at, min(BLOCK, end - at), variable, bool(decay)) for at in range(offset, end, BLOCK)]
    return np.array(blocks, np.int64).reshape(-1, 4)


cdef struct update_args:
    const block *blocks
    rule_t rule
    const float *g
    const float *scale


cdef void run_update(const void *op, const fc_task *task) noexcept nogil:
    cdef const update_args *a = <const update_args *>op
    cdef const block *b
    cdef Py_ssize_t i
    for i in range(task.begin, task.end):
        b = &a.blocks[i]
        apply_rule(&a.rule, b.offset, b.length, a.g + b.offset, 1 if a.scale == NULL else a.scale[b.variable],
                   b.decay != 0)


cdef class Update(Op):
    """One step of an optimiser; items are blocks of 8192 weights or less.

    `rule`, `w`, `slots` and `scalars` are those of a Rule, `g` the gradients of all of w. `segments` lists (offset,
    length, variable, decay) of the variables to update; weights in no segment stay. First g = clip(g *
    scale[variable], -clip, clip), scale being a float32 array or None; then w -= decay * w where the segment's flag
    says so; then the rule.
    """
    cdef update_args a

    def __init__(self, rule, w, g, slots, scalars, segments, scale=None):
        cdef Rule whole = Rule(rule, w, slots, scalars)
        blocks = cut(segments, w.size)
        self.a.blocks, self.a.rule = <const block *><Py_ssize_t>blocks.ctypes.data, whole.c
        self.a.g = <const float *><Py_ssize_t>address(f"{rule} g", g, np.float32, w.size)
        if scale is not None:
            variables = max(blocks[:, 2], default=-1) + 1
            if scale.size < variables:
                raise ValueError(f"{rule}: expected a scale for {variables} variables, got {scale.size}")
            self.a.scale = <const float *><Py_ssize_t>address(f"{rule} scale", scale, np.float32, scale.size)
        self.run, self.args, self.items, self.name = run_update, &self.a, len(blocks), rule
        self.keep = blocks, whole, g, scale


cdef struct norm_args:
    const block *blocks
    const float *g
    double *sums
    double (*sum_squares)(const float *x, Py_ssize_t n) noexcept nogil


cdef void run_norm(const void *op, const fc_task *task) noexcept nogil:
    cdef const norm_args *a = <const norm_args *>op
    cdef Py_ssize_t i
    for i in range(task.begin, task.end):
        a.sums[i] = a.sum_squares(a.g + a.blocks[i].offset, a.blocks[i].length)


cdef class SquaredNorm(Op):
    """Sums of squares of the blocks of `g`, in float64; items and segments as in Update."""
    cdef norm_args a
    cdef object blocks, sums

    def __init__(self, g, segments):
        self.blocks = cut(segments, g.size)
        self.sums = np.zeros(len(self.blocks))
        self.a.blocks = <const block *><Py_ssize_t>self.blocks.ctypes.data
        self.a.sums = <double *><Py_ssize_t>self.sums.ctypes.data
        self.a.g = <const float *><Py_ssize_t>address("SquaredNorm g", g, np.float32, g.size)
        self.a.sum_squares = kernels().sum_squares
        self.run, self.args, self.items, self.keep = run_norm, &self.a, len(self.blocks), g
        self.name = "squared_norm"

    def per_variable(self, Py_ssize_t variables):
        """Squared norms of variables 0 to `variables` - 1 after a run: float64, blocks added in order."""
        return np.bincount(self.blocks[:, 2], self.sums, variables)[:variables]
