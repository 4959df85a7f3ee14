"""The weight gradient of a max-pooled convolution at stride 1, from the gradient of the pooled result.

With a max-pooling over 2 x 2 windows, side by side, one of four pixels of a convolution's result has a gradient.
`_weight_grad.pyx` would multiply all four. Here each pooled pixel meets each tap of the kernel once, and every output
channel picks its own of four neighbouring pixels of x, the one that `arg` names,

    dw[i, t, c, o] = sum over r, q of x[2 r + i - top + arg // 2, 2 q + t - left + arg % 2, c] * dy[r, q, o]
    db[o]          = sum over r, q of dy[r, q, o]

over the windows that are not closed. For that, x is copied into quads, the four pixels side by side: one permutation
then picks for all lanes.
"""

import numpy as np

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._panels cimport Panel, load_panel, panel_t

from fastcnn.kernels._check import address
from fastcnn.kernels._panels import algorithm_of

cdef extern from "fc_kernels.h":
    ctypedef struct fc_pooled_tile:
        const float *q
        Py_ssize_t row, step
        const float *g
        Py_ssize_t rows, cols
        int accumulate
        float *dw
        Py_ssize_t ldw
        int m, n

    ctypedef struct fc_pooled_grad_kernels:
        void (*tile)(const fc_pooled_tile *t) noexcept nogil
        void (*quads)(const float *x, const float *below, Py_ssize_t c, Py_ssize_t n, float *q) noexcept nogil
        void (*open)(const float *dy, const unsigned char *arg, Py_ssize_t pixels, Py_ssize_t c, int n, float *g,
                     int accumulate, float *db) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_pooled_grad_kernels pooled_grad

# The quads of a band of rows, and the gradients of a block of channels, should stay in the first-level cache.
BAND_BYTES = 16 << 10

cdef struct pooled_grad_t:
    panel_t panel                   # of the pixels of the convolution that windows cover
    fc_tensor dy
    const unsigned char *arg        # (n, rows, cols, oc)
    Py_ssize_t kh, width, oc        # taps of a row of the kernel, channels of x included
    Py_ssize_t pitch                # floats between rows of x
    Py_ssize_t band                 # rows of windows whose quads wait in scratch
    Py_ssize_t row, quads           # floats, quads of a row
    Py_ssize_t at_quads, at_g       # where they start in scratch
    float *dw                       # [parts][kh][width][oc]
    float *db                       # [parts][oc] or NULL


cdef inline const fc_pooled_grad_kernels *kernels() noexcept nogil:
    return &(<const kernel_table *>table()).pooled_grad


cdef void open_block(const pooled_grad_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                     Py_ssize_t j, int width, int accumulate, float *dst) noexcept nogil:
    """Gradients and indices of `rows` rows of windows of image n, for `width` output channels from j on."""
    cdef Py_ssize_t r, vlen = table().vlen, vectors = (width + vlen - 1) // vlen
    cdef const float *dy = fc_image(&g.dy, task, n) + j
    for r in range(row, row + rows):
        kernels().open(dy + r * g.dy.row, g.arg + (n * g.dy.h + r) * g.dy.w * g.oc + j, g.dy.w, g.oc, width, dst,
                       accumulate or r > row, g.db + task.part * g.oc + j if g.db != NULL else NULL)
        dst += 2 * g.dy.w * vectors * vlen


cdef void add_block(const pooled_grad_t *g, const float *quads, const float *dy, Py_ssize_t rows, Py_ssize_t j,
                    int width, int accumulate, float *dw) noexcept nogil:
    """The share of `rows` rows of windows in `width` columns of dw from j on."""
    cdef fc_pooled_tile t
    cdef Py_ssize_t most = table().mr - 1, tiles = (g.width + most - 1) // most, i, k, first
    t.row, t.step, t.g, t.rows, t.cols = 2 * g.row, 8 * g.panel.width, dy, rows, g.dy.w
    t.accumulate, t.ldw, t.n = accumulate, g.oc, width
    for k in range(g.kh):
        first = 0
        for i in range(tiles):
            t.q, t.dw = quads + k * g.row + 4 * first, dw + (k * g.width + first) * g.oc + j
            t.m = <int>(g.width * (i + 1) // tiles - first)
            kernels().tile(&t)
            first += t.m


cdef void add_band(const pooled_grad_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                   int accumulate) noexcept nogil:
    """The share of `rows` rows of windows of image n, from `row` on."""
    cdef float *scratch = <float *>task.scratch
    cdef const float *x = load_panel(&g.panel, task, n, 1, 2 * row, 2 * rows, 0, g.panel.width, scratch)
    cdef Py_ssize_t r, j = 0
    cdef int width
    for r in range(2 * rows - 2 + g.kh):
        kernels().quads(x + r * g.pitch, x + (r + 1) * g.pitch, g.panel.width, g.quads,
                        scratch + g.at_quads + r * g.row)
    while j < g.oc:
        width = <int>min(<Py_ssize_t>table().nr, g.oc - j)
        open_block(g, task, n, row, rows, j, width, accumulate, scratch + g.at_g)
        add_block(g, scratch + g.at_quads, scratch + g.at_g, rows, j, width, accumulate,
                  g.dw + task.part * g.kh * g.width * g.oc)
        j += width


cdef void run_pooled_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const pooled_grad_t *g = <const pooled_grad_t *>args
    cdef Py_ssize_t n, row, rows
    cdef int accumulate = not task.first
    for n in range(task.begin, task.end):
        row = 0
        while row < g.dy.h:
            rows = min(g.band, g.dy.h - row)
            add_band(g, task, n, row, rows, accumulate)
            accumulate = 1
            row += rows


cdef inline Py_ssize_t round_up(Py_ssize_t size, Py_ssize_t to) noexcept nogil:
    return (size + to - 1) // to * to


def most_channels():
    """Input channels that quads can have: then two neighbouring pixels lie in one vector."""
    return 3 * table().vlen // 4


cdef class PooledWeightGrad(Op):
    """dw and db from dy (n, rows, cols, oc), the gradient of the max-pooled result, and the taps `arg` of its maxima.

    `panel` covers the 2 rows x 2 cols pixels that windows cover, all channels of x at a time, and is not im2col's.
    Items are images, and each group of images overwrites or adds to its own partial sum: `dw` is (parts, kh, kw, ic,
    oc) and `db` (parts, oc) or None. `arg` (n, rows, cols, oc), uint8, is 0 to 3, or 255 where ReLU closed a window.
    """

    cdef pooled_grad_t c
    cdef readonly str algorithm

    def __init__(self, Panel panel, Tensor dy, arg, dw, db=None, name="weight gradient"):
        cdef pooled_grad_t *g = &self.c
        g.panel, g.dy = panel.c, dy.c
        parts, g.kh, kw, ic, g.oc = dw.shape
        g.width = kw * ic
        if (g.panel.x.c, g.panel.width, g.panel.taps, g.dy.c) != (ic, ic, g.kh * kw, g.oc) or \
                (g.panel.rows, g.panel.cols) != (2 * g.dy.h, 2 * g.dy.w) or panel.mode == "im2col":
            raise ValueError(f"{name}: panel and gradients do not fit together")
        if ic > most_channels():
            raise ValueError(f"{name}: {ic} input channels are more than {most_channels()}")
        g.arg = <const unsigned char *><Py_ssize_t>address(f"{name}: arg", arg, np.uint8,
                                                           dy.images * g.dy.h * g.dy.w * g.oc)
        g.dw = <float *><Py_ssize_t>address(f"{name}: dw", dw, np.float32, parts * g.kh * g.width * g.oc, True)
        if db is not None:
            g.db = <float *><Py_ssize_t>address(f"{name}: db", db, np.float32, parts * g.oc, True)
        self.set_sizes(panel, ic)
        self.run, self.args, self.items = <fc_run>run_pooled_grad, g, dy.images
        self.algorithm, self.name, self.keep = algorithm_of(panel), name, (panel, dy, arg, dw, db)

    cdef set_sizes(self, Panel panel, Py_ssize_t ic):
        """Bands, and where things lie in scratch."""
        cdef pooled_grad_t *g = &self.c
        g.pitch = g.panel.x.row if panel.mode == "in place" else g.panel.pw * ic
        g.quads = (g.panel.pw - 1) * ic
        g.row = round_up(4 * g.quads, table().vlen)
        fit = BAND_BYTES // (4 * max(1, g.row))
        g.band = min(max(1, (int(fit) - g.kh) // 2 + 1), g.panel.band // 2)
        g.at_quads = round_up(panel.scratch // 4, 16)
        g.at_g = g.at_quads + (2 * g.band - 2 + g.kh) * g.row
        self.scratch = 4 * (g.at_g + 2 * g.band * g.dy.w * table().nr)
