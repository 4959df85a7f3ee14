"""Weights of Winograd's convolution: U = G w G', before the passes that read them or where they are used.

    WinogradWeights     3 x 3 kernels, as they are or for an input gradient
    PackWinograd        transforms all of them, once a step
"""

import numpy as np

from fastcnn.kernels._winograd_tiles import points_of


cdef int fetch_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows, const float **at,
                       fc_winograd_fetch *f) noexcept nogil:
    """Makes f fetch what transform_weights will read: short rows far apart, which no hardware foresees. 1: a fetch."""
    cdef Py_ssize_t nr = table().nr, j = block * nr, across = min(nr, s.outputs - j), i
    if s.transposed:  # rows of w are output channels
        first, j, rows, across = j, first, across, rows
    for i in range(rows):
        at[i] = s.w + (first + i) * s.oc + j
    f.at, f.count, f.skip, f.lines = <const float *const *>at, rows, 0, ceil_div(across, 16)
    f.offset, f.offsets = <const Py_ssize_t *>&s.taps[0], 9
    return 1


cdef void transform_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows, float *u,
                            Py_ssize_t point, float *scratch) noexcept nogil:
    """Input channels [first, first + rows) of one block of output channels, u[point][row][nr].

    Transposed weights go through `scratch`, a vector of input channels at a time.
    """
    cdef const fc_kernels *k = table()
    cdef Py_ssize_t j = block * k.nr, area = k.vlen * k.nr, stop = first + rows, tap, n
    cdef const float *src
    cdef int lanes = <int>min(<Py_ssize_t>k.nr, s.outputs - j)
    if not s.transposed:
        transforms(s.points).weights(s.w + first * s.oc + j, s.ic * s.oc, s.oc, rows, lanes, u, point)
        return
    while first < stop:
        n = min(<Py_ssize_t>k.vlen, stop - first)
        for tap in range(9):
            src = s.w + s.taps[8 - tap if s.turned else tap] + j * s.oc + first
            k.transpose(src, s.oc, lanes, n, scratch + tap * area, k.nr)
        transforms(s.points).weights(scratch, area, k.nr, n, lanes, u, point)
        first += n
        u += n * k.nr


cdef Py_ssize_t turning_floats(const weights_t *s) noexcept nogil:
    """Scratch of transform_weights."""
    return 9 * table().vlen * table().nr if s.transposed else 0


cdef class WinogradWeights:
    """Transformed weights of a pass over tiles of m x m outputs; `w` (3, 3, ic, oc) stays the user's.

    `transposed` exchanges the channels, for an input gradient; `turned` turns the kernel by 180 degrees, for one that
    is computed as a convolution of dy, not as the adjoint of the forward pass. `packed` is a
    float32 array of `packed_size` that PackWinograd fills once a step; without it each unit of work transforms what
    it needs, which is the faster way when the transformed weights would fit no cache. `whole`: for tiles that are.
    """

    def __init__(self, w, Py_ssize_t m, bint transposed=False, bint turned=False, packed=None, bint whole=False):
        cdef weights_t *s = &self.c
        kh, kw, s.ic, s.oc = w.shape
        if (kh, kw) != (3, 3) or w.dtype != np.float32 or not w.flags.c_contiguous or m not in (2, 4) \
                or (whole and m != 2):
            raise ValueError("WinogradWeights: expected a contiguous float32 array (3, 3, ic, oc) and tiles of 2 or 4")
        s.w = <const float *><Py_ssize_t>w.ctypes.data
        s.transposed, s.turned, s.points = transposed, turned, points_of(m, whole)
        s.inner, s.outputs = (s.oc, s.ic) if transposed else (s.ic, s.oc)
        s.blocks = ceil_div(s.outputs, table().nr)
        s.point = point_stride(s.inner * table().nr)
        s.block = s.points * s.point
        for tap in range(9):
            s.taps[tap] = tap * s.ic * s.oc
        if packed is not None:
            if packed.dtype != np.float32 or packed.size < self.packed_size or not packed.flags.c_contiguous:
                raise ValueError(f"WinogradWeights: expected {self.packed_size} packed floats, got {packed.size}")
            s.packed = <float *><Py_ssize_t>packed.ctypes.data
        self.keep = w, packed

    @property
    def packed_size(self):
        """Floats of the transformed weights."""
        return self.c.blocks * self.c.block


# ---------------------------------------------------------------------------------------------------- packing

cdef struct slab_t:
    Py_ssize_t block, first, rows   # input channels [first, first + rows) of a block of output channels


cdef inline slab_t slab_of(const weights_t *s, Py_ssize_t item) noexcept nogil:
    cdef Py_ssize_t vlen = table().vlen, slabs = ceil_div(s.inner, vlen)
    cdef slab_t t
    t.block, t.first = item // slabs, item % slabs * vlen
    t.rows = min(vlen, s.inner - t.first)
    return t


cdef void ask_for(const weights_t *s, slab_t t) noexcept nogil:
    """Has memory bring what transform_weights will read of a slab."""
    cdef const float *at[64]
    cdef fc_winograd_fetch f
    cdef Py_ssize_t i, k, j
    fetch_weights(s, t.block, t.first, t.rows, at, &f)
    for k in range(f.offsets):
        for i in range(f.count):
            for j in range(f.lines):
                fc_fetch(at[i] + f.offset[k] + 16 * j)


cdef void run_pack(const void *args, const fc_task *task) noexcept nogil:
    cdef const weights_t *s = <const weights_t *>args
    cdef slab_t t
    cdef Py_ssize_t item
    for item in range(task.begin, task.end):
        if item + 1 < task.end:
            ask_for(s, slab_of(s, item + 1))
        t = slab_of(s, item)
        transform_weights(s, t.block, t.first, t.rows, s.packed + t.block * s.block + t.first * table().nr, s.point,
                          <float *>task.scratch)


cdef class PackWinograd(Op):
    """Transforms the weights; items are slabs of input channels of the blocks of output channels."""

    def __init__(self, WinogradWeights weights, name="pack"):
        cdef weights_t *s = &weights.c
        if s.packed == NULL:
            raise ValueError("PackWinograd: the weights have no packed form")
        self.items = s.blocks * ceil_div(s.inner, table().vlen)
        self.scratch = 4 * turning_floats(s)
        self.run, self.args = <fc_run>run_pack, s
        self.name, self.keep = name, weights
