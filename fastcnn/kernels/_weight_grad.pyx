"""dW = A' dY and db = 1' dY: outer tiles over panels of A (`_panels.pyx`).

A tile reads nr channels of every pixel of dY. Where pixels have many channels these are short pieces, far apart: they
fall into few sets of the first-level cache, on a page each, and no hardware foresees them. Then a panel's dY may first
be copied, block by block of nr channels, so that each tile reads one stretch of memory. That pays for kernels one or
two columns wide; wider ones spend as much time in copies as they gain.
"""

from math import isqrt

import numpy as np

from fastcnn.kernels._cpu cimport fc_kernels, fc_outer_tile, table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._optim cimport Rule, apply_rule, rule_t
from fastcnn.kernels._panels cimport Panel, load_panel, panel_t, table_address

from fastcnn.kernels._panels import algorithm_of, grid_offsets

# A weight gradient reads a few channels of every pixel, one cache line each, once per block of output channels:
# so many lines stay in the first-level cache.
GRAD_PIXELS = 256
# A weight gradient that is cut by channels is cut into this many units of work.
GRAD_UNITS = 16


cdef struct weight_grad_t:
    panel_t panel
    fc_tensor dy
    const int *yoff                       # of a full panel's pixels in dy,
    const int *tile_yoff                  # and where tiles read them
    Py_ssize_t n, groups, inner, outputs  # per group: channels of x, of dy
    float *dw                             # [parts][taps][inner][groups * outputs]
    const int *dw_row                     # [panel.depth] where the rows of dW for a slice start
    float *db                             # [parts][groups * outputs] or NULL
    Py_ssize_t dw_part, db_part           # floats between partial sums
    Py_ssize_t block                      # floats of nr channels of a panel's dy, copied; 0: read in place
    Py_ssize_t x_floats                   # scratch of the panel, before that of dy
    Py_ssize_t cols, xstep, ystep         # pixels lie in rows of `cols`, neighbours so many floats apart in x and dy,
    Py_ssize_t tile_ystep                 # or where tiles read dy
    int by_channels                       # items are parts of dW, each over all images; else images
    Py_ssize_t unit, blocks, shares       # by_channels: input channels of an item; blocks of nr columns of dW, and the
                                          # items that share them
    rule_t update                         # by_channels: what updates the weights, item by item, or w == NULL;
    Py_ssize_t held                       # the item's rows of dW are then scratch, from here on


# Some rows and columns of dW: channels [c0, c1) of x in each group, and [j0, j1) of dy.
cdef struct grad_share_t:
    Py_ssize_t c0, c1, j0, j1
    float *dw                      # where channel 0 of all dW would be


cdef void outer_rows(const weight_grad_t *g, const grad_share_t *s, const float *x, Py_ssize_t k, Py_ssize_t rows,
                     const float *dy, Py_ssize_t pixels, int accumulate, float *dw) noexcept nogil:
    """The rows of dW of k to k + rows in a slice, in tiles of nearly equal height; dy and dw from column s.j0 on.

    Rows outside, columns inside: a tile's few channels of x, one line per pixel, are then in the first-level cache for
    all blocks of columns but the first.
    """
    cdef const fc_kernels *kernels = table()
    cdef fc_outer_tile t
    cdef Py_ssize_t tiles = (rows + kernels.mr - 1) // kernels.mr, i, j, first = 0, last
    cdef Py_ssize_t block = g.block if g.block else kernels.nr
    t.x, t.xoff, t.yoff, t.pixels, t.accumulate = x, g.panel.xoff, g.tile_yoff, pixels, accumulate
    t.cols, t.xstep, t.ystep = min(g.cols, pixels), g.xstep, g.tile_ystep
    for i in range(tiles):
        last = rows * (i + 1) // tiles
        t.koff, t.dw_row, t.m = g.panel.koff + k + first, g.dw_row + k + first, <int>(last - first)
        t.dy, t.dw, j = dy, dw, s.j0
        while j < s.j1:
            t.n = <int>min(<Py_ssize_t>kernels.nr, s.j1 - j)
            kernels.outer_tile(&t)
            t.dy += block
            t.dw += kernels.nr
            j += kernels.nr
        first = last


cdef void grad_slice(const weight_grad_t *g, const grad_share_t *s, Py_ssize_t c0, Py_ssize_t c, const float *x,
                     const float *dy, Py_ssize_t pixels, int accumulate, float *dw) noexcept nogil:
    """Adds a panel's share to the rows of channels [c0, c0 + c): a slice, or less at the end of the channels."""
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t k = 0, t
    cdef Py_ssize_t stretch = p.run if 2 * p.run >= table().mr else p.depth  # tiles like their rows side by side
    dw += c0 * g.groups * g.outputs
    if c == p.width:
        while k < p.depth:
            outer_rows(g, s, x, k, min(stretch, p.depth - k), dy, pixels, accumulate, dw)
            k += stretch
    else:
        for t in range(p.taps):
            outer_rows(g, s, x, t * p.width, c, dy, pixels, accumulate, dw)


cdef const float *pack_gradient(const weight_grad_t *g, const grad_share_t *s, const float *dy, Py_ssize_t pixels,
                                float *scratch) noexcept nogil:
    """A panel's dy, columns [s.j0, s.j1), as [block of nr][pixel][nr]."""
    cdef Py_ssize_t p = 0, nr = table().nr
    while p < pixels:
        table().copy_rows(dy + g.yoff[p] + s.j0, g.ystep, min(g.cols, pixels - p), s.j1 - s.j0, scratch + p * nr, nr,
                          nr, g.block)
        p += g.cols
    return scratch


cdef void grad_panel(const weight_grad_t *g, const grad_share_t *s, const fc_task *task, Py_ssize_t n,
                     Py_ssize_t images, Py_ssize_t row, Py_ssize_t band, Py_ssize_t part,
                     int accumulate) noexcept nogil:
    """Adds one panel's share to dW, slice by slice of the channels of x."""
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t group, c0, c, k, outputs, pixels = images * band * p.cols
    cdef const float *dy = fc_image(&g.dy, task, n) + row * g.dy.row
    cdef const float *x
    cdef const float *packed = dy + s.j0
    if g.block:
        packed = pack_gradient(g, s, dy, pixels, <float *>task.scratch + g.x_floats)
    for group in range(g.groups):
        c0 = s.c0
        while c0 < s.c1:
            c = min(p.slices * p.width, s.c1 - c0)
            x = load_panel(p, task, n, images, row, band, group * g.inner + c0, c, <float *>task.scratch)
            for k in range((c + p.width - 1) // p.width):
                grad_slice(g, s, c0, min(p.width, s.c1 - c0), x + k * p.slice, packed + group * g.outputs, pixels,
                           accumulate, s.dw + group * g.outputs + s.j0)
                c0 += p.width
    if g.db != NULL and s.c0 == 0:
        outputs = g.groups * g.outputs if g.groups > 1 else s.j1 - s.j0
        table().sum_rows(dy + s.j0, g.yoff, pixels, outputs, accumulate, g.db + part * g.db_part + s.j0)


cdef void grad_images(const weight_grad_t *g, const grad_share_t *s, const fc_task *task, Py_ssize_t begin,
                      Py_ssize_t end, Py_ssize_t part, bint accumulate) noexcept nogil:
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t n = begin, row, images
    while n < end:
        images, row = min(p.images, end - n), 0
        while row < p.rows:
            grad_panel(g, s, task, n, images, row, min(p.band, p.rows - row), part, accumulate)
            accumulate = True
            row += p.band
        n += images


cdef void update_weights(const weight_grad_t *g, const grad_share_t *s) noexcept nogil:
    """The weights of a share, whose gradient is still in the cache."""
    cdef Py_ssize_t c, at
    if s.j1 - s.j0 == g.outputs:
        at = s.c0 * g.outputs
        apply_rule(&g.update, at, (s.c1 - s.c0) * g.outputs, s.dw + at, 1, True)
        return
    for c in range(s.c0, s.c1):
        at = c * g.outputs + s.j0
        apply_rule(&g.update, at, s.j1 - s.j0, s.dw + at, 1, True)


cdef void run_weight_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const weight_grad_t *g = <const weight_grad_t *>args
    cdef Py_ssize_t item, share
    cdef grad_share_t s
    s.c0, s.c1, s.j0, s.j1 = 0, g.inner, 0, g.outputs
    s.dw = g.dw + task.part * g.dw_part
    if not g.by_channels:
        grad_images(g, &s, task, task.begin, task.end, task.part, not task.first)
        return
    s.dw = g.dw
    for item in range(task.begin, task.end):
        share = item % g.shares
        s.c0 = item // g.shares * g.unit
        s.c1 = min(s.c0 + g.unit, g.inner)
        s.j0 = min(g.outputs, g.blocks * share // g.shares * table().nr)
        s.j1 = min(g.outputs, g.blocks * (share + 1) // g.shares * table().nr)
        if g.update.w != NULL:
            s.dw = <float *>task.scratch + g.held - s.c0 * g.outputs
        grad_images(g, &s, task, 0, g.n, 0, False)
        if g.update.w != NULL:
            update_weights(g, &s)


cdef class WeightGrad(Op):
    """dW = A' dY and db = 1' dY.

    The panel covers all input channels of a group or, without groups, a slice of them: all slices of a panel of
    pixels are computed one after the other. By default items are images, and each group of images overwrites or adds
    to its own partial sum: `dw` is (parts, kh, kw, ic/groups, oc) and `db` (parts, oc) or None. With `by_channels`
    items are parts of the input channels, whole slices, and of the output channels, each over all images, and there is
    one part: for weights too large to copy. With `copied` dy is copied panel by panel, so that tiles read it in one
    stretch. With `update`, the Rule of a dense layer's weights, each item updates its own, and dw is not written.
    """

    cdef weight_grad_t c
    cdef readonly str algorithm

    def __init__(self, Panel panel, Tensor dy, dw, db=None, Py_ssize_t groups=1, bint by_channels=False,
                 bint copied=False, Rule update=None, name="weight gradient"):
        cdef weight_grad_t *g = &self.c
        for array in (dw, db):
            if array is not None and (array.dtype != np.float32 or not array.flags.c_contiguous):
                raise ValueError(f"{name}: gradients must be contiguous float32 arrays")
        parts, kh, kw, icg, oc = dw.shape
        g.panel, g.dy = panel.c, dy.c
        g.n, g.groups, g.inner, g.outputs = dy.images, groups, icg, oc // groups
        g.by_channels = by_channels
        if kh * kw != g.panel.taps or oc != g.dy.c or (by_channels and (parts > 1 or groups > 1)):
            raise ValueError(f"{name}: panel and gradients do not fit together")
        if g.panel.width > icg or (groups > 1 and g.panel.width < icg):
            raise ValueError(f"{name}: the panel covers {g.panel.width} channels, the weights have {icg}")
        yoff = panel.pixel_offsets(g.dy.image, g.dy.row, g.dy.c)
        g.yoff = table_address(yoff)
        g.dw, g.dw_part = <float *><Py_ssize_t>dw.ctypes.data, kh * kw * icg * oc
        dw_row = grid_offsets(1, g.panel.taps, g.panel.width, 0, icg * oc, oc)
        g.dw_row = table_address(dw_row)
        g.cols = g.panel.cols if g.panel.rows * g.panel.cols > 1 else len(yoff)
        if g.cols > 1:
            g.xstep, g.ystep = g.panel.xoff[1] - g.panel.xoff[0], g.yoff[1] - g.yoff[0]
        g.tile_yoff, g.tile_ystep = g.yoff, g.ystep
        if db is not None:
            if db.shape != (parts, oc):
                raise ValueError(f"{name}: expected a bias gradient of shape {(parts, oc)}, got {db.shape}")
            g.db, g.db_part = <float *><Py_ssize_t>db.ctypes.data, oc
        self.set_units(copied)
        self.scratch = panel.scratch
        packed_off = self.set_copy(len(yoff)) if copied else None
        if update is not None:
            self.set_update(update)
        self.run, self.args = <fc_run>run_weight_grad, g
        self.algorithm = algorithm_of(panel) if update is None else f"{algorithm_of(panel)}+{update.name}"
        self.name, self.keep = name, (panel, dy, dw, db, yoff, dw_row, packed_off, update)

    cdef set_units(self, bint copied):
        """How dW is shared out by_channels: by slices or, to copy x and dy less often, in parts as long as wide."""
        cdef weight_grad_t *g = &self.c
        slices, blocks = -(-int(g.inner) // max(1, g.panel.width)), -(-int(g.outputs) // table().nr)
        units = min(slices, isqrt(GRAD_UNITS)) if copied else slices
        g.unit = g.panel.width * -(-slices // max(1, units))
        g.blocks, g.shares = blocks, max(1, min(blocks, GRAD_UNITS // max(1, units)))
        self.items = -(-int(g.inner) // max(1, g.unit)) * g.shares if g.by_channels else g.n

    cdef set_update(self, Rule update):
        """Room for the rows of dW of an item."""
        cdef weight_grad_t *g = &self.c
        if not g.by_channels or g.panel.taps > 1 or update.size != g.inner * g.outputs:
            raise ValueError(f"weight gradient: {update.size} weights cannot be updated as the channels of a dense "
                             f"layer are")
        g.update, g.held = update.c, (self.scratch + 63) // 64 * 16
        self.scratch = 4 * (g.held + g.unit * g.outputs)

    cdef set_copy(self, Py_ssize_t pixels):
        """Room for a panel's dy, and where its pixels will lie."""
        cdef weight_grad_t *g = &self.c
        cdef Py_ssize_t nr = table().nr
        if g.groups > 1:
            raise ValueError("weight gradient: dy of several groups is read in place")
        g.x_floats, g.block, g.tile_ystep = (self.scratch + 63) // 64 * 16, pixels * nr, nr
        offsets = grid_offsets(1, 1, pixels, 0, 0, nr)
        g.tile_yoff = table_address(offsets)
        blocks = (g.blocks + g.shares - 1) // g.shares if g.by_channels else g.blocks
        self.scratch = 4 * (g.x_floats + blocks * g.block)
        return offsets
