"""Overlap-add convolution drivers: stride 1 with few channels on the side of the result.

The tiles of `_conv` spread output channels over the lanes of a vector; with few of them most lanes are idle. Here the
lanes are (column of the kernel, channel) pairs, kw times as many:

    P[r, q][t, o] = sum over i, a of x[r + i - top, q - left, a] * W[i, a][t, o]      r: row of y, q: column of x
    y[r, j][o] = clamp(sum over t of P[r, j + shift - t][t, o] + bias[o])

The first line is a matrix product, done by gather tiles, the second adds overlapping rows of it. With W[i, a][t, o] =
w[i, kw-1-t, a, o] this is the forward pass (shift = kw - 1), with w[kh-1-i, t, o, a], and dy for x, the input gradient
(shift = padding on the left). The weight gradient turns it round: a column of x meets the kw * oc numbers of dy that
lie side by side around it,

    dw[i, kw-1-t, a, o] = sum over r, q of x[r + i - top, q - left, a] * dy[r, q + t - (kw-1)][o]

which is an outer tile, the kernel's columns in reverse order.

    OverlapAdd         y, the forward pass or the input gradient
    OverlapWeightGrad  dw and db
    PackOverlap        lays W out as the tiles want it
"""

import numpy as np

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from fastcnn.kernels._cpu cimport fc_gather_tile, fc_outer_tile, fc_pool, fc_pool_kernels, table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._conv import check_span

cdef extern from "fc_kernels.h":
    ctypedef struct fc_overlap_row:
        const float *p
        Py_ssize_t ld, pixels
        Py_ssize_t taps, c, shift
        const float *bias
        float lo, hi
        float *y
        Py_ssize_t n

    ctypedef struct fc_overlap_kernels:
        void (*row)(const fc_overlap_row *t) noexcept nogil
        void (*channel_sums)(const float *dy, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t c,
                             float *lanes, int accumulate, float *db) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        int vlen, mr, nr
        void (*gather_tile)(const fc_gather_tile *t) noexcept nogil
        void (*outer_tile)(const fc_outer_tile *t) noexcept nogil
        fc_pool_kernels pool
        fc_overlap_kernels overlap

# Products that wait to be added should stay in the first-level cache.
BAND_BYTES = 16 << 10
# A weight gradient reads the same pixels once per tile of it.
GRAD_PIXELS = 1024


cdef inline const kernel_table *kernels() noexcept nogil:
    return <const kernel_table *>table()


cdef inline Py_ssize_t round_up(Py_ssize_t size, Py_ssize_t to) noexcept nogil:
    return (size + to - 1) // to * to


cdef int *table_address(array):
    return <int *><Py_ssize_t>array.ctypes.data


cdef const float *address(array, size, what) except? NULL:
    """Where `size` contiguous float32 values lie; ValueError for anything else."""
    if array.dtype != np.float32 or array.size != size or not array.flags.c_contiguous:
        raise ValueError(f"{what}: expected {size} contiguous float32 values")
    return <const float *><Py_ssize_t>array.ctypes.data


# ------------------------------------------------------------------------------------- rows of a bordered image

# The input rows of a pass: where the zeros around the image may be read they are used where they lie, else a band is
# copied with its border.
cdef struct source_t:
    fc_tensor x
    Py_ssize_t top, left  # row r of the pass starts at row r - top of x, its columns at -left
    Py_ssize_t extent     # rows of x that one row reaches
    Py_ssize_t cols       # columns, those of the border included
    int in_place
    Py_ssize_t pitch      # floats between rows


cdef Py_ssize_t set_source(source_t *s, Tensor x, origin, grid, extent, bint bare) except -1:
    """Floats of scratch per row of a band that is copied, or 0. `bare`: rows outside the image are never read."""
    s.x = x.c
    (s.top, s.left), s.extent, s.cols = origin, extent, grid[1]
    s.in_place = bare or (s.top <= x.c.top and grid[0] - 1 - s.top + s.extent <= x.c.h + x.c.bottom
                          and s.left <= x.c.left and s.cols - s.left <= x.c.w + x.c.right)
    s.pitch = s.x.row if s.in_place else s.cols * s.x.c
    check_span((int(extent) + 1) * int(s.pitch))
    return 0 if s.in_place else s.pitch


cdef const float *load_rows(const source_t *s, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                            float *scratch) noexcept nogil:
    """Where the pixels of rows [row, row + rows) of image n start."""
    cdef Py_ssize_t r, i, stop = max(<Py_ssize_t>0, min(s.cols, s.x.w + s.left)), c = s.x.c
    cdef Py_ssize_t lead = min(s.left, stop)
    cdef const float *x = fc_image(&s.x, task, n)
    cdef float *dst = scratch
    if s.in_place:
        return x + (row - s.top) * s.x.row - s.left * c
    for i in range(rows - 1 + s.extent):
        r = row - s.top + i
        if r < 0 or r >= s.x.h:
            memset(dst, 0, s.pitch * sizeof(float))
        else:
            memset(dst, 0, lead * c * sizeof(float))
            memcpy(dst + lead * c, x + r * s.x.row + (lead - s.left) * c, (stop - lead) * c * sizeof(float))
            memset(dst + stop * c, 0, (s.cols - stop) * c * sizeof(float))
        dst += s.pitch
    return scratch


# ---------------------------------------------------------------------------------------------------- weights

cdef struct weights_t:
    const float *w      # (kh, kw, ic, oc)
    float *packed       # [kh * inner][ld]
    Py_ssize_t kh, kw, inner, c, ld
    int transposed


cdef void pack_row(const weights_t *s, Py_ssize_t i, float *dst) noexcept nogil:
    """W[i]: the rows of one row of the kernel."""
    cdef Py_ssize_t a, t, o
    cdef const float *w
    for a in range(s.inner):
        for t in range(s.kw):
            if s.transposed:
                w = s.w + ((s.kh - 1 - i) * s.kw + t) * s.c * s.inner + a
                for o in range(s.c):
                    dst[t * s.c + o] = w[o * s.inner]
            else:
                w = s.w + ((i * s.kw + s.kw - 1 - t) * s.inner + a) * s.c
                memcpy(dst + t * s.c, w, s.c * sizeof(float))
        dst += s.ld


cdef void run_pack(const void *args, const fc_task *task) noexcept nogil:
    cdef const weights_t *s = <const weights_t *>args
    cdef Py_ssize_t i
    for i in range(task.begin, task.end):
        pack_row(s, i, s.packed + i * s.inner * s.ld)


cdef class OverlapWeights:
    """W of an overlap-add pass, from the weight array `w` (kh, kw, ic, oc); `transposed` for the input gradient.

    `packed` is a float32 array of `packed_size` that PackOverlap fills once a step; without, this tells its size.
    """

    cdef weights_t c
    cdef readonly Py_ssize_t packed_size
    cdef object keep

    def __init__(self, w, bint transposed=False, packed=None):
        cdef weights_t *s = &self.c
        s.kh, s.kw, ic, oc = w.shape
        s.inner, s.c = (oc, ic) if transposed else (ic, oc)
        s.transposed = transposed
        s.ld = round_up(s.kw * s.c, kernels().vlen)
        s.w = address(w, s.kh * s.kw * ic * oc, "OverlapWeights")
        self.packed_size = s.kh * s.inner * s.ld
        if packed is not None:
            s.packed = <float *>address(packed, self.packed_size, "OverlapWeights: packed")
        self.keep = (w, packed)


cdef class PackOverlap(Op):
    """Packs an OverlapWeights; items are rows of the kernel."""

    def __init__(self, OverlapWeights weights, name="pack"):
        if weights.c.packed == NULL:
            raise ValueError("PackOverlap: the weights have no packed form")
        self.run, self.args, self.items = <fc_run>run_pack, &weights.c, weights.c.kh
        self.name, self.keep = name, weights


# ------------------------------------------------------------------------------------------------- overlap-add

cdef struct overlap_t:
    source_t source
    weights_t weights
    fc_tensor y
    const float *bias
    float lo, hi
    int bare                       # rows of x outside the image are skipped; else they are zeros
    Py_ssize_t n, bands            # items are bands of rows, `bands` to an image
    Py_ssize_t rows, cols          # of y before pooling
    Py_ssize_t band                # rows whose products wait in scratch
    Py_ssize_t unit                # rows that are pooled together
    Py_ssize_t shift, ld           # P: its pixels are ld floats apart
    const int *xoff                # of the columns of a band
    const int *poff
    const int *koff
    Py_ssize_t products, bias_row, strip  # floats of scratch before each part
    fc_pool pool                   # max-pooling of the result, windows side by side; kh == 0 without
    unsigned char *arg             # (n, oh, ow, c) taps of the maxima, or NULL


cdef void multiply(const overlap_t *g, const float *x, Py_ssize_t first, Py_ssize_t last, Py_ssize_t k0, Py_ssize_t k1,
                   float *p) noexcept nogil:
    """The products of columns [first, last) of a band with rows [k0, k1) of the kernel, in tiles of nearly equal
    height."""
    cdef const kernel_table *k = kernels()
    cdef fc_gather_tile t
    cdef Py_ssize_t width = g.weights.kw * g.weights.c, pixels = last - first, tiles = (pixels + k.mr - 1) // k.mr
    cdef Py_ssize_t i, j = 0, at, stop
    t.x, t.koff, t.depth = x, g.koff + k0 * g.weights.inner, (k1 - k0) * g.weights.inner
    t.ldw, t.bias, t.lo, t.hi, t.accumulate = g.weights.ld, NULL, -INFINITY, INFINITY, 0
    while j < width:
        t.w, t.y = g.weights.packed + k0 * g.weights.inner * t.ldw + j, p + j
        t.n = <int>min(<Py_ssize_t>k.nr, width - j)
        at = first
        for i in range(tiles):
            stop = first + pixels * (i + 1) // tiles
            t.xoff, t.yoff, t.m = g.xoff + at, g.poff + at, <int>(stop - at)
            k.gather_tile(&t)
            at = stop
        j += k.nr


cdef void multiply_band(const overlap_t *g, const float *x, Py_ssize_t row, Py_ssize_t rows, float *p) noexcept nogil:
    """Rows that reach the same rows of the kernel are multiplied together."""
    cdef Py_ssize_t r = 0, stop, k0 = 0, k1 = g.weights.kh, start
    if not g.bare:
        multiply(g, x, 0, rows * g.source.cols, k0, k1, p)
        return
    while r < rows:
        stop = r
        while stop < rows:
            start = row + stop - g.source.top
            if stop > r and (max(<Py_ssize_t>0, -start) != k0 or min(g.weights.kh, g.source.x.h - start) != k1):
                break
            k0, k1 = max(<Py_ssize_t>0, -start), min(g.weights.kh, g.source.x.h - start)
            stop += 1
        multiply(g, x, r * g.source.cols, stop * g.source.cols, k0, max(k0, k1), p)
        r = stop


cdef void add_band(const overlap_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                   float *scratch) noexcept nogil:
    """Add up the products of some rows, into y or, if they are to be pooled, into a strip of rows and then y."""
    cdef const kernel_table *k = kernels()
    cdef fc_overlap_row t
    cdef Py_ssize_t r, o, pitch = g.cols * g.weights.c
    cdef float *y = fc_image(&g.y, task, n)
    cdef void *arg = NULL
    t.ld, t.pixels, t.taps, t.c, t.shift = g.ld, g.source.cols, g.weights.kw, g.weights.c, g.shift
    t.lo, t.hi, t.n = g.lo, g.hi, pitch
    t.bias = scratch + g.bias_row if g.bias != NULL else NULL
    for r in range(rows):
        t.p = scratch + g.products + k.vlen + r * g.source.cols * g.ld
        t.y = scratch + g.strip + r * pitch if g.pool.kh else y + (row + r) * g.y.row
        k.overlap.row(&t)
    if g.pool.kh:
        for o in range(row // g.pool.kh, (row + rows) // g.pool.kh):
            if g.arg != NULL:
                arg = g.arg + (n * g.pool.oh + o) * g.pool.ow * g.pool.c
            k.pool.max_row(&g.pool, o, scratch + g.strip + (o * g.pool.kh - row) * pitch, pitch, y + o * g.y.row, arg)


cdef void run_overlap(const void *args, const fc_task *task) noexcept nogil:
    cdef const overlap_t *g = <const overlap_t *>args
    cdef Py_ssize_t item, n, row, stop, rows, j, units = g.rows // g.unit
    cdef float *scratch = <float *>task.scratch
    cdef const float *x
    memset(scratch + g.products, 0, (g.bias_row - g.products) * sizeof(float))  # the zeros around products stay
    if g.bias != NULL:
        for j in range(g.cols):
            memcpy(scratch + g.bias_row + j * g.weights.c, g.bias, g.weights.c * sizeof(float))
    for item in range(task.begin, task.end):
        n = item // g.bands
        row = units * (item % g.bands) // g.bands * g.unit
        stop = units * (item % g.bands + 1) // g.bands * g.unit
        while row < stop:
            rows = min(g.band, stop - row)
            x = load_rows(&g.source, task, n, row, rows, scratch)
            multiply_band(g, x, row, rows, scratch + g.products + kernels().vlen)
            add_band(g, task, n, row, rows, scratch)
            row += rows


cdef class OverlapAdd(Op):
    """y = clamp(sum of overlapping products + bias).

    x : tensor; `columns` of it, from -left on, are multiplied; `origin` = (top, left); `shift` as above. With `bare`
    only rows of the image itself are read, else the zeros around it are too. Items are images, or with `bands` > 1
    bands of rows. With `pool` = (kh, kw) the result is max-pooled over such windows, side by side, before it is
    written; `arg` (n, oh, ow, oc), uint8 or None, receives the taps of the maxima, and `pool_relu` clamps them at 0.
    """

    cdef overlap_t c
    cdef readonly str algorithm

    def __init__(self, Tensor x, OverlapWeights weights, Tensor y, Py_ssize_t columns, Py_ssize_t shift, origin=(0, 0),
                 bint bare=False, bias=None, clamp=(-INFINITY, INFINITY), Py_ssize_t bands=1, pool=None, arg=None,
                 bint pool_relu=False, name="overlap-add"):
        cdef overlap_t *g = &self.c
        g.weights, g.y, g.bare, g.shift, g.bands, g.n = weights.c, y.c, bare, shift, bands, y.images
        if weights.c.packed == NULL or g.y.c != g.weights.c or x.c.c != g.weights.inner or x.images != y.images:
            raise ValueError(f"{name}: input, packed weights and output do not fit together")
        g.lo, g.hi = clamp
        if bias is not None:
            g.bias = address(bias, g.y.c, f"{name}: bias")
        g.rows, g.cols, g.unit = g.y.h, g.y.w, 1
        if pool is not None:
            self.set_pool(pool, arg, pool_relu)
        copied = set_source(&g.source, x, origin, (g.rows, columns), g.weights.kh, bare)
        g.ld = round_up(g.weights.kw * g.weights.c, kernels().vlen) + kernels().vlen
        fit = BAND_BYTES // (4 * g.source.cols * g.ld * g.unit)
        g.band = min(g.rows, g.unit * max(1, int(fit)))
        tables = self.build_tables()
        g.products = round_up((g.band - 1 + g.weights.kh) * copied, 16)
        g.bias_row = g.products + round_up(g.band * g.source.cols * g.ld + kernels().vlen, 16)
        g.strip = g.bias_row + round_up(g.cols * g.weights.c, 16)
        self.scratch = 4 * (g.strip + (g.band * g.cols * g.weights.c if g.pool.kh else 0))
        self.run, self.args, self.items = <fc_run>run_overlap, g, g.n * g.bands
        self.algorithm, self.name, self.keep = "direct", name, (x, weights, y, bias, arg, tables)

    cdef set_pool(self, window, arg, relu):
        cdef overlap_t *g = &self.c
        cdef fc_pool *p = &g.pool
        p.kh, p.kw = p.sh, p.sw = window
        p.c, p.oh, p.ow = g.y.c, g.y.h, g.y.w
        p.h, p.w = p.oh * p.kh, p.ow * p.kw
        p.relu, p.arg_bytes = relu, 1
        g.rows, g.cols, g.unit = p.h, p.w, p.kh
        if arg is not None:
            if p.kh * p.kw > 254:
                raise ValueError("pooled convolution: windows of more than 254 pixels cannot be told by a byte")
            if arg.dtype != np.uint8 or arg.size != g.n * p.oh * p.ow * p.c or not arg.flags.c_contiguous:
                raise ValueError("pooled convolution: arg must be contiguous uint8 of the pooled shape")
            g.arg = <unsigned char *><Py_ssize_t>arg.ctypes.data

    cdef build_tables(self):
        """Offsets of the columns of a band in x and P, and of the depth."""
        cdef overlap_t *g = &self.c
        check_span(int(g.band) * int(max(g.source.pitch, g.source.cols * g.ld)))
        row, q = np.indices((g.band, g.source.cols), np.int32)
        i, a = np.indices((g.weights.kh, g.weights.inner), np.int32)
        xoff = (row * np.int32(g.source.pitch) + q * np.int32(g.weights.inner)).ravel()
        poff = (row * np.int32(g.source.cols) + q).ravel() * np.int32(g.ld)
        koff = (i * np.int32(g.source.pitch) + a).ravel()
        g.xoff, g.poff, g.koff = table_address(xoff), table_address(poff), table_address(koff)
        return xoff, poff, koff


# --------------------------------------------------------------------------------------------- weight gradient

# Columns of x that see the same columns of the kernel: in band order, `cols` to a row, from `table` on.
cdef struct columns_t:
    Py_ssize_t table, cols
    Py_ssize_t t, taps        # the columns of the kernel, reversed: [t, t + taps)


cdef struct weight_grad_t:
    source_t source
    fc_tensor dy
    Py_ssize_t kh, kw, ic, oc
    Py_ssize_t rows, band
    const columns_t *columns
    Py_ssize_t kinds              # of columns
    const int *xoff
    const int *yoff
    const int *koff
    Py_ssize_t sums, lanes        # floats of scratch before the sums of an image, before those of db
    float *dw                     # [parts][kh][kw][ic][oc]
    float *db                     # [parts][oc] or NULL
    Py_ssize_t dw_part


cdef void outer_columns(const weight_grad_t *g, const columns_t *s, const float *x, const float *dy, Py_ssize_t rows,
                        float *sums) noexcept nogil:
    """Adds the share of some rows of one kind of columns."""
    cdef const kernel_table *k = kernels()
    cdef fc_outer_tile t
    cdef Py_ssize_t depth = g.kh * g.ic, tiles = (depth + k.mr - 1) // k.mr, i, j, first = 0, last, width = s.taps * g.oc
    t.x, t.xoff, t.yoff = x, g.xoff + s.table, g.yoff + s.table
    t.pixels, t.accumulate, t.lddw = rows * s.cols, 1, g.kw * g.oc
    for i in range(tiles):
        last = depth * (i + 1) // tiles
        t.koff, t.m, j = g.koff + first, <int>(last - first), 0
        while j < width:
            t.n = <int>min(<Py_ssize_t>k.nr, width - j)
            t.dy, t.dw = dy + j, sums + first * t.lddw + s.t * g.oc + j
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
        while row < g.rows:
            rows = min(g.band, g.rows - row)
            x = load_rows(&g.source, task, n, row, rows, scratch)
            for i in range(g.kinds):
                outer_columns(g, &g.columns[i], x, dy + row * g.dy.row, rows, sums)
            row += rows
        add_image(g, sums, accumulate, g.dw + task.part * g.dw_part)
        if g.db != NULL:
            kernels().overlap.channel_sums(dy, g.dy.row, g.rows, g.dy.w, g.oc, scratch + g.lanes, accumulate,
                                           g.db + task.part * g.oc)
        accumulate = 1


cdef class OverlapWeightGrad(Op):
    """dw and db of a convolution of few output channels; `origin` = (top, left) is its padding.

    Items are images, and each group of images overwrites or adds to its own partial sum: `dw` is (parts, kh, kw, ic,
    oc) and `db` (parts, oc) or None.
    """

    cdef weight_grad_t c
    cdef readonly str algorithm

    def __init__(self, Tensor x, Tensor dy, dw, db=None, origin=(0, 0), name="weight gradient"):
        cdef weight_grad_t *g = &self.c
        parts, g.kh, g.kw, g.ic, g.oc = dw.shape
        g.dy, g.rows, g.dw_part = dy.c, dy.c.h, g.kh * g.kw * g.ic * g.oc
        if x.c.c != g.ic or g.dy.c != g.oc or x.images != dy.images:
            raise ValueError(f"{name}: input, gradients and output do not fit together")
        g.dw = <float *>address(dw, parts * g.dw_part, f"{name}: dw")
        if db is not None:
            g.db = <float *>address(db, parts * g.oc, f"{name}: db")
        copied = set_source(&g.source, x, origin, (g.rows, g.dy.w + g.kw - 1), g.kh, False)
        g.band = max(1, min(g.rows, <Py_ssize_t>GRAD_PIXELS // g.source.cols))
        tables = self.build_tables()
        g.sums = round_up((g.band - 1 + g.kh) * copied, 16)
        g.lanes = g.sums + round_up(g.dw_part, 16)
        self.scratch = 4 * (g.lanes + g.oc * kernels().vlen)
        self.run, self.args, self.items = <fc_run>run_weight_grad, g, dy.images
        self.algorithm, self.name, self.keep = "direct", name, (x, dy, dw, db, tables)

    cdef build_tables(self):
        """The kinds of columns, and for each the offsets of its pixels in x and of what they meet in dy."""
        cdef weight_grad_t *g = &self.c
        check_span(int(g.band) * int(max(g.source.pitch, g.dy.row)))
        q = np.arange(g.source.cols)
        first = np.maximum(q - (g.kw - 1), 0)                  # of the columns of dy that a column of x meets
        taps = np.minimum(q, g.dy.w - 1) + 1 - first
        starts = np.flatnonzero(np.diff(taps, prepend=-1) | np.diff(first - q, prepend=g.kw))
        row = np.arange(g.band)[:, None]
        kinds, xoff, yoff, at = [], [], [], 0
        for begin, end in zip(starts, [*starts[1:], len(q)], strict=True):
            kinds.append((at, end - begin, first[begin] - q[begin] + g.kw - 1, taps[begin]))
            xoff.append((row * g.source.pitch + q[begin:end] * g.ic).ravel())
            yoff.append((row * g.dy.row + first[begin:end] * g.oc).ravel())
            at += g.band * (end - begin)
        i, a = np.indices((g.kh, g.ic))
        memory = (np.array(kinds, np.intp), np.concatenate(xoff).astype(np.int32),
                  np.concatenate(yoff).astype(np.int32), (i * g.source.pitch + a).ravel().astype(np.int32))
        g.kinds, g.columns = len(kinds), <const columns_t *><Py_ssize_t>memory[0].ctypes.data
        g.xoff, g.yoff, g.koff = (table_address(memory[1]), table_address(memory[2]), table_address(memory[3]))
        return memory
