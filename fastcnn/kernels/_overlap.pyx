"""Gradients of a convolution with few channels on the side of the result, at stride 1.

The tiles of `csrc/tile.h` spread these channels over the lanes of a vector; with few of them most lanes are idle.
Here the lanes are (column of the kernel, channel) pairs, kw times as many.

Input gradient, by overlap-add: each column q of dy is multiplied by a whole row of the kernel, and the overlapping
products are added,

    P[r, q][t, c] = sum over i, o of dy[r + top - i, q, o] * w[i, t, c, o]        r: row of dx
    dx[r, j, c] = sum over t of P[r, j + left - t][t, c]

The first line is a matrix product, done by gather tiles; rows and columns outside dy take no part.

Weight gradient: a column of x meets the kw * oc numbers of dy that lie side by side around it,

    dw[i, kw-1-t, c, o] = sum over r, q of x[r + i - top, q - left, c] * dy[r, q + t - (kw-1), o]

which is an outer tile, with the columns of the kernel in reverse order.

    OverlapInputGrad   dx
    OverlapWeightGrad  dw and db
    PackOverlap        lays w out as the tiles of the first want it
"""

import numpy as np

from libc.math cimport INFINITY
from libc.string cimport memset

from fastcnn.kernels._cpu cimport fc_gather_tile, fc_kernels, fc_outer_tile, table
from fastcnn.kernels._gather cimport gather_stretch
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._panels cimport Panel, load_panel, panel_t, table_address

from fastcnn.kernels._check import address
from fastcnn.kernels._panels import check_span, grid_offsets

cdef extern from "fc_kernels.h":
    ctypedef struct fc_overlap_row:
        const float *p
        Py_ssize_t ld, pixels
        Py_ssize_t taps, c, shift
        float *y
        Py_ssize_t n

    ctypedef struct fc_overlap_kernels:
        void (*row)(const fc_overlap_row *t) noexcept nogil
        void (*channel_sums)(const float *dy, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t c,
                             float *lanes, int accumulate, float *db) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_overlap_kernels overlap

# Products that wait to be added should stay in the first-level cache.
BAND_BYTES = 16 << 10


cdef inline const fc_overlap_kernels *kernels() noexcept nogil:
    return &(<const kernel_table *>table()).overlap


cdef inline Py_ssize_t round_up(Py_ssize_t size, Py_ssize_t to) noexcept nogil:
    return (size + to - 1) // to * to


# ---------------------------------------------------------------------------------------------------- weights

cdef struct weights_t:
    const float *w       # (kh, kw, ic, oc)
    float *packed        # [rows of the kernel from the last][oc][ld], of which kw * ic floats are weights
    Py_ssize_t kh, kw, ic, oc, ld


cdef void run_pack(const void *args, const fc_task *task) noexcept nogil:
    cdef const weights_t *s = <const weights_t *>args
    cdef Py_ssize_t i, j, o, width = s.kw * s.ic
    cdef const float *w
    cdef float *dst
    for i in range(task.begin, task.end):
        w = s.w + (s.kh - 1 - i) * width * s.oc
        for o in range(s.oc):
            dst = s.packed + (i * s.oc + o) * s.ld
            for j in range(width):
                dst[j] = w[j * s.oc + o]


cdef class OverlapWeights:
    """The weight array `w` (kh, kw, ic, oc) as the input gradient reads it.

    `packed` is a float32 array of `packed_size` that PackOverlap fills once a step; without, this tells its size.
    """

    cdef weights_t c
    cdef readonly Py_ssize_t packed_size
    cdef object keep

    def __init__(self, w, packed=None):
        cdef weights_t *s = &self.c
        s.kh, s.kw, s.ic, s.oc = w.shape
        s.ld = round_up(s.kw * s.ic, table().vlen)
        s.w = <const float *><Py_ssize_t>address("OverlapWeights", w, np.float32, w.size)
        self.packed_size = s.kh * s.oc * s.ld
        if packed is not None:
            s.packed = <float *><Py_ssize_t>address("OverlapWeights: packed", packed, np.float32, self.packed_size,
                                                    True)
        self.keep = (w, packed)


cdef class PackOverlap(Op):
    """Packs an OverlapWeights; items are rows of the kernel."""

    def __init__(self, OverlapWeights weights, name="pack"):
        if weights.c.packed == NULL:
            raise ValueError("PackOverlap: the weights have no packed form")
        self.run, self.args, self.items = <fc_run>run_pack, &weights.c, weights.c.kh
        self.name, self.keep = name, weights


# ---------------------------------------------------------------------------------------------- input gradient

cdef struct input_grad_t:
    fc_tensor dy, dx
    weights_t weights
    Py_ssize_t n, bands      # items are bands of rows, `bands` to an image
    Py_ssize_t top, left     # row r of dx reads rows r - top, ..., r - top + kh - 1 of dy; left: the padding
    Py_ssize_t band          # rows whose products wait in scratch
    Py_ssize_t ld            # floats between the products of columns
    const int *xoff          # of the columns of a band in dy
    const int *poff          # in P
    const int *koff


cdef void multiply(const input_grad_t *g, const float *dy, Py_ssize_t first, Py_ssize_t last, Py_ssize_t k0,
                   Py_ssize_t k1, float *p) noexcept nogil:
    """The products of columns [first, last) of a band with rows [k0, k1) of the kernel."""
    cdef fc_gather_tile t
    cdef Py_ssize_t width = g.weights.kw * g.weights.ic, nr = table().nr, j = 0
    t.x, t.koff, t.depth = dy, g.koff + k0 * g.weights.oc, (k1 - k0) * g.weights.oc
    t.run = t.lead = g.weights.oc
    t.ldw, t.bias, t.lo, t.hi, t.accumulate = g.weights.ld, NULL, -INFINITY, INFINITY, 0
    while j < width:
        t.w, t.y = g.weights.packed + k0 * g.weights.oc * t.ldw + j, p + j
        t.n = <int>min(nr, width - j)
        gather_stretch(&t, g.xoff + first, g.poff + first, last - first)
        j += nr


cdef void multiply_band(const input_grad_t *g, const float *dy, Py_ssize_t row, Py_ssize_t rows,
                        float *p) noexcept nogil:
    """Rows that reach the same rows of the kernel are multiplied together; `dy` is where the first starts."""
    cdef Py_ssize_t r = 0, stop, k0 = 0, k1 = 0, start
    while r < rows:
        stop = r
        while stop < rows:
            start = row + stop - g.top
            if stop > r and (max(<Py_ssize_t>0, -start) != k0 or min(g.weights.kh, g.dy.h - start) != k1):
                break
            k0, k1 = max(<Py_ssize_t>0, -start), min(g.weights.kh, g.dy.h - start)
            stop += 1
        multiply(g, dy, r * g.dy.w, stop * g.dy.w, k0, max(k0, k1), p)
        r = stop


cdef void run_input_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const input_grad_t *g = <const input_grad_t *>args
    cdef Py_ssize_t item, n, row, stop, rows, r
    cdef float *p = <float *>task.scratch + table().vlen
    cdef float *dx
    cdef fc_overlap_row t
    t.ld, t.pixels, t.taps, t.c, t.shift, t.n = g.ld, g.dy.w, g.weights.kw, g.dx.c, g.left, g.dx.w * g.dx.c
    memset(task.scratch, 0, (table().vlen + g.band * g.dy.w * g.ld) * sizeof(float))  # zeros around products stay
    for item in range(task.begin, task.end):
        n = item // g.bands
        row, stop = g.dx.h * (item % g.bands) // g.bands, g.dx.h * (item % g.bands + 1) // g.bands
        dx = fc_image(&g.dx, task, n)
        while row < stop:
            rows = min(g.band, stop - row)
            multiply_band(g, fc_image(&g.dy, task, n) + (row - g.top) * g.dy.row, row, rows, p)
            for r in range(rows):
                t.p, t.y = p + r * g.dy.w * g.ld, dx + (row + r) * g.dx.row
                kernels().row(&t)
            row += rows


cdef class OverlapInputGrad(Op):
    """dx of a convolution of few input channels; `padding` = (top, left) is the convolution's.

    Items are images, or with `bands` > 1 bands of rows.
    """

    cdef input_grad_t c
    cdef readonly str algorithm

    def __init__(self, Tensor dy, OverlapWeights weights, Tensor dx, padding=(0, 0), Py_ssize_t bands=1,
                 name="input gradient"):
        cdef input_grad_t *g = &self.c
        g.dy, g.dx, g.weights, g.n, g.bands = dy.c, dx.c, weights.c, dx.images, bands
        if weights.c.packed == NULL or (g.dx.c, g.dy.c, dy.images) != (g.weights.ic, g.weights.oc, g.n):
            raise ValueError(f"{name}: gradients and packed weights do not fit together")
        top, g.left = padding
        g.top = g.weights.kh - 1 - <Py_ssize_t>top
        # Behind the products and after them: zeros for a vector that reaches beyond them.
        g.ld = round_up((g.weights.kw + 1) * g.weights.ic, table().vlen) + table().vlen
        fit = BAND_BYTES // max(1, 4 * g.dy.w * g.ld)
        g.band = max(1, min(g.dx.h, <Py_ssize_t>fit))
        self.scratch = 4 * (table().vlen + g.band * g.dy.w * g.ld)
        check_span((g.band + g.weights.kh) * max(g.dy.row, g.dy.w * g.ld))
        tables = (grid_offsets(1, g.band, g.dy.w, 0, g.dy.row, g.dy.c),
                  grid_offsets(1, g.band, g.dy.w, 0, g.dy.w * g.ld, g.ld),
                  grid_offsets(1, g.weights.kh, g.weights.oc, 0, g.dy.row, 1))
        g.xoff, g.poff, g.koff = table_address(tables[0]), table_address(tables[1]), table_address(tables[2])
        self.run, self.args, self.items = <fc_run>run_input_grad, g, g.n * bands
        self.algorithm, self.name, self.keep = "direct", name, (dy, weights, dx, tables)


# --------------------------------------------------------------------------------------------- weight gradient

# Columns of x that see the same columns of the kernel: in band order, `cols` to a row, from `table` on.
cdef struct columns_t:
    Py_ssize_t table, cols
    Py_ssize_t t, taps        # the columns of the kernel, reversed: [t, t + taps)


cdef struct weight_grad_t:
    panel_t panel                 # of rows of dy by columns of x
    fc_tensor dy
    Py_ssize_t kh, kw, ic, oc
    const columns_t *columns
    Py_ssize_t kinds              # of columns
    const int *xoff               # of the pixels of a band, kind by kind of columns
    const int *yoff
    const int *sum_row            # where the sums of each row of the panel's matrix lie
    Py_ssize_t sums, lanes        # floats of scratch before the sums of an image, before those of db
    float *dw                     # [parts][kh][kw][ic][oc]
    float *db                     # [parts][oc] or NULL
    Py_ssize_t dw_part


cdef void outer_columns(const weight_grad_t *g, const columns_t *s, const float *x, const float *dy, Py_ssize_t rows,
                        float *sums) noexcept nogil:
    """Adds the share of some rows of one kind of columns."""
    cdef const fc_kernels *k = table()
    cdef fc_outer_tile t
    cdef Py_ssize_t depth = g.panel.depth, tiles = (depth + k.mr - 1) // k.mr, i, j, first = 0, last
    cdef Py_ssize_t width = s.taps * g.oc
    t.x, t.xoff, t.yoff, t.accumulate = x, g.xoff + s.table, g.yoff + s.table, 1
    t.pixels, t.cols, t.xstep, t.ystep = rows * s.cols, s.cols, g.ic, g.oc
    for i in range(tiles):
        last = depth * (i + 1) // tiles
        t.koff, t.dw_row, t.m, j = g.panel.koff + first, g.sum_row + first, <int>(last - first), 0
        while j < width:
            t.n = <int>min(<Py_ssize_t>k.nr, width - j)
            t.dy, t.dw = dy + j, sums + s.t * g.oc + j
            k.outer_tile(&t)
            j += k.nr
        first = last


cdef void add_image(const weight_grad_t *g, const float *sums, int accumulate, float *dw) noexcept nogil:
    """The sums of one image, with the columns of the kernel in order again."""
    cdef Py_ssize_t i, t, a, o
    cdef const float *src
    for i in range(g.kh):
        for t in range(g.kw):
            for a in range(g.ic):
                src = sums + ((i * g.ic + a) * g.kw + g.kw - 1 - t) * g.oc
                for o in range(g.oc):
                    dw[o] = dw[o] + src[o] if accumulate else src[o]
                dw += g.oc


cdef void run_weight_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const weight_grad_t *g = <const weight_grad_t *>args
    cdef Py_ssize_t n, row, rows, i
    cdef float *scratch = <float *>task.scratch
    cdef float *sums = scratch + g.sums
    cdef const float *x
    cdef const float *dy
    cdef int accumulate = not task.first
    for n in range(task.begin, task.end):
        memset(sums, 0, g.dw_part * sizeof(float))
        row, dy = 0, fc_image(&g.dy, task, n)
        while row < g.panel.rows:
            rows = min(g.panel.band, g.panel.rows - row)
            x = load_panel(&g.panel, task, n, 1, row, rows, 0, g.ic, scratch)
            for i in range(g.kinds):
                outer_columns(g, &g.columns[i], x, dy + row * g.dy.row, rows, sums)
            row += rows
        add_image(g, sums, accumulate, g.dw + task.part * g.dw_part)
        if g.db != NULL:
            kernels().channel_sums(dy, g.dy.row, g.dy.h, g.dy.w, g.oc, scratch + g.lanes, accumulate,
                                           g.db + task.part * g.oc)
        accumulate = 1


cdef class OverlapWeightGrad(Op):
    """dw and db of a convolution of few output channels.

    `panel` covers the rows of dy by the columns of x, border included, with the first column of the kernel as taps.
    Items are images, and each group of images overwrites or adds to its own partial sum: `dw` is (parts, kh, kw, ic,
    oc) and `db` (parts, oc) or None.
    """

    cdef weight_grad_t c
    cdef readonly str algorithm

    def __init__(self, Panel panel, Tensor dy, dw, db=None, name="weight gradient"):
        cdef weight_grad_t *g = &self.c
        parts, g.kh, g.kw, g.ic, g.oc = dw.shape
        g.panel, g.dy, g.dw_part = panel.c, dy.c, g.kh * g.kw * g.ic * g.oc
        if (g.panel.x.c, g.panel.width, g.panel.taps, g.dy.c) != (g.ic, g.ic, g.kh, g.oc) or \
                (g.panel.rows, g.panel.cols) != (g.dy.h, g.dy.w + g.kw - 1):
            raise ValueError(f"{name}: panel and gradients do not fit together")
        g.dw = <float *><Py_ssize_t>address(f"{name}: dw", dw, np.float32, parts * g.dw_part, True)
        if db is not None:
            g.db = <float *><Py_ssize_t>address(f"{name}: db", db, np.float32, parts * g.oc, True)
        tables = self.build_tables(panel.mode == "in place")
        g.sums = round_up(panel.scratch // 4, 16)
        g.lanes = g.sums + round_up(g.dw_part, 16)
        self.scratch = 4 * (g.lanes + g.oc * table().vlen)
        self.run, self.args, self.items = <fc_run>run_weight_grad, g, dy.images
        self.algorithm, self.name, self.keep = "direct", name, (panel, dy, dw, db, tables)

    cdef build_tables(self, bint in_place):
        """The kinds of columns, and for each the offsets of its pixels in x and of what they meet in dy."""
        cdef weight_grad_t *g = &self.c
        cdef panel_t *p = &g.panel
        pitch = p.x.row if in_place else p.pw * g.ic
        check_span((p.band + g.kh) * max(pitch, g.dy.row))
        q, row = np.arange(p.cols), np.arange(p.band)[:, None]
        first = np.maximum(q - (g.kw - 1), 0)                  # of the columns of dy that a column of x meets
        taps = np.minimum(q, g.dy.w - 1) + 1 - first
        starts = np.flatnonzero(np.diff(taps, prepend=-1) | np.diff(first - q, prepend=g.kw))
        kinds, xoff, yoff, at = [], [], [], 0
        for begin, end in zip(starts, [*starts[1:], p.cols], strict=True):
            kinds.append((at, end - begin, first[begin] - q[begin] + g.kw - 1, taps[begin]))
            xoff.append((row * pitch + q[begin:end] * g.ic).ravel())
            yoff.append((row * g.dy.row + first[begin:end] * g.oc).ravel())
            at += p.band * (end - begin)
        memory = [np.array(kinds, np.intp)]
        memory += [np.concatenate(table, dtype=np.int32, casting="unsafe") for table in (
            xoff, yoff, [np.arange(p.depth) * (g.kw * g.oc)])]
        g.kinds, g.columns = len(kinds), <const columns_t *><Py_ssize_t>memory[0].ctypes.data
        g.xoff, g.yoff, g.sum_row = table_address(memory[1]), table_address(memory[2]), table_address(memory[3])
        return memory
