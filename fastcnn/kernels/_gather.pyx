"""Y = clamp(A W + b): the forward pass, and the input gradient with one Gather per phase of the stride.

    PackWeights lays W out block by block of output channels as the tiles want it
    Gather      walks gather tiles over panels of A (`_panels.pyx`) and blocks of W
"""

import numpy as np

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from fastcnn.kernels._cpu cimport fc_dot_tile, fc_gather_tile, fc_kernels, fc_pool, table
from fastcnn.kernels._op cimport Op, Tensor, fc_fetch, fc_fetch_near, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._panels cimport Panel, load_panel, panel_t, table_address

from fastcnn.kernels._panels import algorithm_of, grid_offsets

# Rows that wait for pooling should stay in the first-level cache, unless the weights are so large that more
# pixels must share one pass over them.
STRIP_PIXELS = 28
SMALL_WEIGHTS = 256 << 10
# Tiles of whole windows save that way through memory, which is worth so many steps of the depth on rows that are left
# idle because a tile's height is no multiple of a window's four pixels.
IDLE_DEPTH = 32
# Rows of W that stay in the first-level cache while the few pixels of a dense layer pass, which is why the sums wait
# in y meanwhile. A convolution's many pixels make that cost more than it saves.
SLICE_DEPTH = 256
# Blocks of columns that are read together: rows of W are far apart, and each page of memory, once found, then serves
# all of them.
WIDE_BLOCKS = 8
cdef Py_ssize_t WIDE = WIDE_BLOCKS
# A dense layer is cut into this many units of work if its batch allows; fewer where that lets each unit read longer
# stretches of the rows of W.
DENSE_UNITS, LEAST_DENSE_UNITS = 16, 8
# For so few pixels W is read where it lies, once, and that is most of the time: some rows side by side, while the next
# ones are asked for. 151 MB take 18 ms as many rows of a few blocks, 10 ms as 32 rows in stretches of 2 KB, and 8 ms as
# 16 rows in stretches of 4 KB; shorter stretches are better read as 32 rows.
FEW_PIXELS = 28
STREAM_DEPTH, STREAM_UNITS, LONG_STRETCH = 32, 4, 16
# Rows of W that are asked for ahead: no hardware foresees short stretches that lie far apart.
ROWS_AHEAD = 32
cdef Py_ssize_t AHEAD = ROWS_AHEAD

cdef struct weights_t:
    const float *w                # the user's array: (taps of the kernel) x (channels) rows
    const float *packed           # [group][block][depth][nr], or NULL: read w in place or pack on the fly
    int transposed                # W[(tap, o)][i] = w[tap][i][o]: the input gradient's order
    Py_ssize_t groups, inner      # inner: channels of A per group (rows of W per tap)
    Py_ssize_t outputs, blocks    # columns of W per group, and blocks of nr of them
    Py_ssize_t taps, ldw
    const Py_ssize_t *tap_at      # [taps] where each tap's rows start in w
    int nr
    int in_order                  # rows of W follow each other in w, of all channels of a single group
    int few                       # so few columns that lanes are rows: packed for dot tiles


cdef inline Py_ssize_t block_size(const weights_t *s) noexcept nogil:
    return s.taps * s.inner * s.nr


cdef void pack_dots(const weights_t *s, const float *src, Py_ssize_t t, float *dst) noexcept nogil:
    """All columns of tap t of W, from `src` on, as [tap][vector of rows][column][vlen], zeros past the last row."""
    cdef Py_ssize_t i = 0, j, lane, lanes, vlen = table().vlen
    cdef Py_ssize_t row = 1 if s.transposed else s.ldw, column = s.ldw if s.transposed else 1
    dst += t * ((s.inner + vlen - 1) // vlen) * vlen * s.outputs
    while i < s.inner:
        lanes = min(vlen, s.inner - i)
        for j in range(s.outputs):
            for lane in range(lanes):
                dst[lane] = src[(i + lane) * row + j * column]
            memset(dst + lanes, 0, (vlen - lanes) * sizeof(float))
            dst += vlen
        i += lanes


cdef void pack_tap(const weights_t *s, Py_ssize_t group, Py_ssize_t t, Py_ssize_t begin, Py_ssize_t end,
                   float *dst) noexcept nogil:
    """Tap t of blocks [begin, end) of columns of W as [block][depth][nr]; `dst` is that of block `begin`."""
    cdef Py_ssize_t i, block, n
    cdef const float *src = s.w + s.tap_at[t] + group * (s.inner if s.transposed else s.outputs)
    if s.few:
        pack_dots(s, src, t, dst)
        return
    dst += t * s.inner * s.nr
    if not s.transposed:
        for i in range(s.inner):  # whole rows: what memory is fast at
            for block in range(begin, end):
                n = min(<Py_ssize_t>s.nr, s.outputs - block * s.nr)
                memcpy(dst + (block - begin) * block_size(s) + i * s.nr, src + i * s.ldw + block * s.nr,
                       n * sizeof(float))
        return
    for block in range(begin, end):
        n = min(<Py_ssize_t>s.nr, s.outputs - block * s.nr)
        table().transpose(src + block * s.nr * s.ldw, s.ldw, n, s.inner, dst + (block - begin) * block_size(s), s.nr)


cdef void pack_block(const weights_t *s, Py_ssize_t group, Py_ssize_t block, float *dst) noexcept nogil:
    """One block of columns of W as [depth][nr]."""
    cdef Py_ssize_t t
    for t in range(s.taps):
        pack_tap(s, group, t, block, block + 1, dst)


cdef void run_pack(const void *args, const fc_task *task) noexcept nogil:
    cdef const weights_t *s = <const weights_t *>args
    cdef Py_ssize_t i, group, first, wide = (s.blocks + WIDE - 1) // WIDE
    for i in range(task.begin, task.end):
        group, first = i // (wide * s.taps), i // s.taps % wide * WIDE
        pack_tap(s, group, i % s.taps, first, min(first + WIDE, s.blocks),
                 <float *>s.packed + (group * s.blocks + first) * block_size(s))


cdef class Weights:
    """W of a gather pass, seen in the weight array `w` (kh, kw, ic/groups, oc).

    `taps` are the (kernel row, kernel column) pairs of the pass in the order of k. `transposed` exchanges the
    channels, for the input gradient. `packed` is a float32 array of `packed_size` that PackWeights fills once a
    step, or None; unpacked weights are read in place, or packed into scratch by each unit of work.
    """

    cdef weights_t c
    cdef object keep

    def __init__(self, w, taps, Py_ssize_t groups=1, bint transposed=False, packed=None):
        cdef weights_t *s = &self.c
        kh, kw, icg, oc = w.shape
        if w.dtype != np.float32 or not w.flags.c_contiguous:
            raise ValueError("Weights: expected a contiguous float32 array")
        tap_at = np.ascontiguousarray([(r * kw + c) * icg * oc for r, c in taps], np.intp)
        s.w = <const float *><Py_ssize_t>w.ctypes.data
        s.transposed, s.groups, s.ldw, s.taps, s.nr = transposed, groups, oc, len(tap_at), table().nr
        s.inner, s.outputs = (oc // groups, icg) if transposed else (icg, oc // groups)
        s.blocks = (s.outputs + s.nr - 1) // s.nr
        s.few = packed is not None and 2 * s.outputs <= table().vlen <= s.inner
        s.in_order = groups == 1 and not transposed and list(tap_at) == [t * icg * oc for t in range(len(tap_at))]
        s.tap_at = <const Py_ssize_t *><Py_ssize_t>tap_at.ctypes.data
        if packed is not None:
            if packed.dtype != np.float32 or packed.size < self.packed_size or not packed.flags.c_contiguous:
                raise ValueError(f"Weights: expected {self.packed_size} packed floats, got {packed.size}")
            s.packed = <const float *><Py_ssize_t>packed.ctypes.data
        self.keep = (w, tap_at, packed)

    @property
    def packed_size(self):
        """Floats of the packed form."""
        return self.c.groups * self.c.blocks * block_size(&self.c)


cdef class PackWeights(Op):
    """Packs a Weights; items are taps of some neighbouring blocks."""

    def __init__(self, Weights weights, name="pack"):
        if weights.c.packed == NULL:
            raise ValueError("PackWeights: the weights have no packed form")
        self.run, self.args = <fc_run>run_pack, &weights.c
        self.items = weights.c.groups * -(-weights.c.blocks // WIDE_BLOCKS) * weights.c.taps
        self.name, self.keep = name, weights


cdef struct gather_t:
    panel_t panel
    weights_t weights
    fc_tensor y
    Py_ssize_t y_start, y_row, y_col  # floats: first pixel of the pass in an image of y, between rows, columns
    const int *yoff                   # of a full panel, from its first pixel
    const float *bias
    float lo, hi
    int by_channels                   # items are blocks of output channels, each over all images; else images
    Py_ssize_t n
    Py_ssize_t bands                  # items per image when work is cut finer than images
    Py_ssize_t slices                 # of the depth, one after the other
    Py_ssize_t wide, units            # by_channels: so many blocks make a unit of work, so many units a group
    int copied                        # by_channels: weights that are not packed are copied slice by slice
    int fetched                       # or read in place: rows of the next slice are asked for
    Py_ssize_t weight_floats          # by_channels: scratch for weights, before that of the panel
    Py_ssize_t splits                 # by_channels: items per unit, each a share of the images
    fc_pool pool                      # max-pooling of the result, windows side by side; kh == 0 without
    unsigned char *arg                # (n, oh, ow, c) taps of the maxima, or NULL
    Py_ssize_t strip, pool_scratch    # rows computed before they are pooled; bytes of scratch before their buffer
    const int *strip_off              # offsets of a strip's pixels in the buffer where they wait
    const int *window_xoff            # a full panel's pixels, window by window, where tiles hold windows; else NULL
    const int *window_yoff            # where the windows' maxima go, from the first one


cdef void multiply_few(const gather_t *g, const float *x, const int *xoff, const int *yoff, Py_ssize_t pixels, float *y,
                       Py_ssize_t c, const float *w) noexcept nogil:
    """The few output channels from c on of some pixels."""
    cdef fc_dot_tile t
    t.x, t.xoff, t.koff, t.w, t.lo, t.hi = x, xoff, g.panel.koff, w, g.lo, g.hi
    t.pixels, t.taps, t.inner, t.n = pixels, g.weights.taps, g.weights.inner, <int>g.weights.outputs
    t.y, t.yoff, t.bias = y, yoff, g.bias + c if g.bias != NULL else NULL
    table().dot_tile(&t)


cdef void gather_stretch(fc_gather_tile *t, const int *xoff, const int *yoff, Py_ssize_t pixels) noexcept nogil:
    """Some pixels in tiles of nearly equal, even height: tiles like each pair of pixels to lie in one row."""
    cdef const fc_kernels *k = table()
    cdef Py_ssize_t tiles = (pixels + k.mr - 1) // k.mr, pairs = (pixels + 1) // 2, i, first = 0, last
    for i in range(tiles):
        last = min(pixels, pairs * (i + 1) // tiles * 2)
        t.xoff, t.yoff, t.m = xoff + first, yoff + first, <int>(last - first)
        k.gather_tile(t)
        first = last


cdef void multiply(const gather_t *g, const float *x, const int *xoff, const int *yoff, Py_ssize_t pixels, float *y,
                   Py_ssize_t group, Py_ssize_t block, Py_ssize_t s, const float *w, Py_ssize_t ldw) noexcept nogil:
    """Slice s of the depth of one block of output channels of some pixels, whole rows of them."""
    cdef fc_gather_tile t
    cdef Py_ssize_t j = block * g.weights.nr, c = group * g.weights.outputs + j, depth = g.panel.depth
    cdef Py_ssize_t cols = g.panel.cols, row
    cdef Py_ssize_t begin = depth * s // g.slices, end = depth * (s + 1) // g.slices
    if g.weights.few:
        multiply_few(g, x, xoff, yoff, pixels, y + c, c, w)
        return
    t.x, t.ldw, t.y = x, ldw, y + c
    t.n = <int>min(<Py_ssize_t>g.weights.nr, g.weights.outputs - j)
    t.koff, t.w, t.depth, t.accumulate = g.panel.koff + begin, w + begin * ldw, end - begin, s > 0
    t.run, t.lead = g.panel.run, g.panel.run - begin % g.panel.run
    t.bias, t.lo, t.hi = NULL, -INFINITY, INFINITY
    if s == g.slices - 1:
        t.bias, t.lo, t.hi = g.bias + c if g.bias != NULL else NULL, g.lo, g.hi
    if cols % 2 == 0 or cols == 1 or 2 * cols <= table().mr:
        gather_stretch(&t, xoff, yoff, pixels)
    else:
        for row in range(pixels // cols):
            gather_stretch(&t, xoff + row * cols, yoff + row * cols, cols)


cdef inline const float *block_weights(const gather_t *g, Py_ssize_t group, Py_ssize_t block,
                                       Py_ssize_t *ldw) noexcept nogil:
    """Where a block of W lies: packed, or in the user's array."""
    cdef const weights_t *s = &g.weights
    if s.packed != NULL:
        ldw[0] = s.nr
        return s.packed + (group * s.blocks + block) * block_size(s)
    ldw[0] = s.ldw
    return s.w + group * s.outputs + block * s.nr


cdef inline float *y_pixel(const gather_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row) noexcept nogil:
    return fc_image(&g.y, task, n) + g.y_start + row * g.y_row


cdef void pool_strip(const gather_t *g, const fc_task *task, const float *buffer, Py_ssize_t n, Py_ssize_t images,
                     Py_ssize_t row, Py_ssize_t rows) noexcept nogil:
    """Pool rows [row, row + rows) of some images, which wait in `buffer`."""
    cdef const fc_pool *p = &g.pool
    cdef Py_ssize_t i, o, pitch = p.w * p.c
    cdef void *arg = NULL
    for i in range(images):
        for o in range(row // p.kh, (row + rows) // p.kh):
            if g.arg != NULL:
                arg = g.arg + ((n + i) * p.oh + o) * p.ow * p.c
            table().pool.max_row(p, o, buffer + (i * g.strip + o * p.kh - row) * pitch, pitch,
                                 fc_image(&g.y, task, n + i) + o * g.y.row, arg)


cdef void gather_pooled(const gather_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t images, Py_ssize_t row,
                        Py_ssize_t band, const float *x) noexcept nogil:
    """A loaded panel, strip by strip: convolve into a small buffer, pool, write only the pooled values."""
    cdef const panel_t *p = &g.panel
    cdef float *buffer = <float *>(task.scratch + g.pool_scratch)
    cdef Py_ssize_t r = 0, rows, block, ldw
    cdef const float *w
    while r < band:
        rows = min(g.strip, band - r)
        for block in range(g.weights.blocks):
            w = block_weights(g, 0, block, &ldw)
            multiply(g, x + p.xoff[r * p.cols], p.xoff, g.strip_off, images * rows * p.cols, buffer, 0, block, 0, w,
                     ldw)
        pool_strip(g, task, buffer, n, images, row + r, rows)
        r += rows


cdef void gather_windows(const gather_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t images, Py_ssize_t row,
                         Py_ssize_t band, const float *x) noexcept nogil:
    """A loaded panel in tiles of whole 2 x 2 windows, pooled before anything is written."""
    cdef const fc_pool *p = &g.pool
    cdef const fc_kernels *k = table()
    cdef Py_ssize_t windows = images * (band // 2) * p.ow, tiles = (windows + k.mr // 4 - 1) // (k.mr // 4)
    cdef Py_ssize_t block, c, i, first, last
    cdef fc_gather_tile t
    t.x, t.koff, t.depth, t.run, t.lead = x, g.panel.koff, g.panel.depth, g.panel.run, g.panel.run
    t.relu, t.arg, t.arg_step = p.relu, NULL, p.c
    for block in range(g.weights.blocks):
        c, first = block * g.weights.nr, 0
        t.w, t.n = block_weights(g, 0, block, &t.ldw), <int>min(<Py_ssize_t>g.weights.nr, g.weights.outputs - c)
        t.bias = g.bias + c if g.bias != NULL else NULL
        t.y = fc_image(&g.y, task, n) + row // 2 * g.y.row + c
        for i in range(tiles):
            last = windows * (i + 1) // tiles
            t.xoff, t.yoff, t.m = g.window_xoff + 4 * first, g.window_yoff + first, <int>(4 * (last - first))
            if g.arg != NULL:
                t.arg = g.arg + ((n * p.oh + row // 2) * p.ow + first) * p.c + c
            k.gather_windows(&t)
            first = last


cdef void gather_panel(const gather_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t images, Py_ssize_t row,
                       Py_ssize_t band) noexcept nogil:
    """All output channels of one panel: the panel stays in cache, blocks of weights pass by."""
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t group, block, ldw
    cdef const float *x
    cdef const float *w
    for group in range(g.weights.groups):
        x = load_panel(p, task, n, images, row, band, group * p.width, p.width, <float *>task.scratch)
        if g.window_xoff != NULL:
            gather_windows(g, task, n, images, row, band, x)
            return
        if g.pool.kh:
            gather_pooled(g, task, n, images, row, band, x)
            return
        for block in range(g.weights.blocks):
            w = block_weights(g, group, block, &ldw)
            multiply(g, x, p.xoff, g.yoff, images * band * p.cols, y_pixel(g, task, n, row), group, block, 0, w, ldw)


cdef void gather_images(const gather_t *g, const fc_task *task) noexcept nogil:
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t item = task.begin, n, row, stop
    if p.images > 1:
        while item < task.end:
            n = min(p.images, task.end - item)
            gather_panel(g, task, item, n, 0, p.rows)
            item += n
        return
    for item in range(task.begin, task.end):
        n = item // g.bands
        row = p.rows * (item % g.bands) // g.bands
        stop = p.rows * (item % g.bands + 1) // g.bands
        while row < stop:
            gather_panel(g, task, n, 1, row, min(p.band, stop - row))
            row += p.band


cdef void pack_slice(const gather_t *g, Py_ssize_t s, Py_ssize_t begin, Py_ssize_t end, float *dst) noexcept nogil:
    """Slice s of the depth of blocks [begin, end) of W, as [block][row][nr]: reading whole rows is what memory is fast
    at."""
    cdef const weights_t *w = &g.weights
    cdef Py_ssize_t depth = g.panel.depth, first = depth * s // g.slices
    cdef Py_ssize_t rows = depth * (s + 1) // g.slices - first, i, block, j
    cdef const float *src = w.w + first * w.ldw
    for i in range(rows):
        if first + i + AHEAD < depth:
            for j in range(begin * w.nr, end * w.nr, 16):
                fc_fetch_near(src + AHEAD * w.ldw + j)
        for block in range(begin, end):
            memcpy(dst + ((block - begin) * rows + i) * w.nr, src + block * w.nr,
                   min(<Py_ssize_t>w.nr, w.outputs - block * w.nr) * sizeof(float))
        src += w.ldw


cdef void fetch_rows(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Asks for rows [first, last) of a block of W."""
    cdef Py_ssize_t i, j
    for i in range(first, last):
        for j in range(block * s.nr, min((block + 1) * s.nr, s.outputs), 16):
            fc_fetch(s.w + i * s.ldw + j)


cdef void multiply_blocks(const gather_t *g, const float *x, Py_ssize_t pixels, float *y, Py_ssize_t group,
                          Py_ssize_t begin, Py_ssize_t end, float *scratch) noexcept nogil:
    """Blocks [begin, end) of output channels, slice by slice; `scratch` is for weights that are not packed."""
    cdef Py_ssize_t s, block, first, rows, ldw = g.weights.nr
    cdef const float *w = scratch  # of a single block, if they are transposed
    for s in range(g.slices):
        first = g.panel.depth * s // g.slices
        rows = g.panel.depth * (s + 1) // g.slices - first
        if g.copied:
            pack_slice(g, s, begin, end, scratch)
        for block in range(begin, end):
            if g.copied:
                w = scratch + ((block - begin) * rows - first) * ldw
            elif g.weights.packed != NULL or not g.weights.transposed:
                w = block_weights(g, group, block, &ldw)
            if g.fetched:
                fetch_rows(&g.weights, block, first + rows, min(first + 2 * rows, g.panel.depth))
            multiply(g, x, g.panel.xoff, g.yoff, pixels, y, group, block, s, w, ldw)


cdef void gather_channels(const gather_t *g, const fc_task *task) noexcept nogil:
    """Some blocks of output channels, each of a share of the images: the weights stay in cache, the panels pass by."""
    cdef const panel_t *p = &g.panel
    cdef Py_ssize_t item, unit, group, block, n, last, row, band, images
    cdef float *scratch = <float *>task.scratch
    cdef const float *x
    for item in range(task.begin, task.end):
        unit = item // g.splits
        group, block = unit // g.units, unit % g.units * g.wide
        if g.weights.transposed and g.weights.packed == NULL:
            pack_block(&g.weights, group, block, scratch)
        n, last = g.n * (item % g.splits) // g.splits, g.n * (item % g.splits + 1) // g.splits
        while n < last:
            images, row = min(p.images, last - n), 0
            while row < p.rows:
                band = min(p.band, p.rows - row)
                x = load_panel(p, task, n, images, row, band, group * p.width, p.width, scratch + g.weight_floats)
                multiply_blocks(g, x, images * band * p.cols, y_pixel(g, task, n, row), group, block,
                                min(block + g.wide, g.weights.blocks), scratch)
                row += p.band
            n += images


cdef void run_gather(const void *args, const fc_task *task) noexcept nogil:
    cdef const gather_t *g = <const gather_t *>args
    if g.by_channels:
        gather_channels(g, task)
    else:
        gather_images(g, task)


cdef class Gather(Op):
    """y = clamp(A W + b) for one grid of output pixels.

    Items are images; with `bands` > 1, bands of rows, `bands` to an image; with `by_channels`, blocks of output
    channels (for weights larger than the activations). `y_origin` and `y_strides` say which pixels of y the
    grid's are: phases of a strided input gradient interleave. With `pool` = (kh, kw) the result is max-pooled over
    such windows, side by side, before it is written; `arg` (n, oh, ow, oc), uint8 or None, receives the taps of the
    maxima, and `pool_relu` clamps them at 0.
    """

    cdef gather_t c
    cdef readonly str algorithm

    def __init__(self, Panel panel, Weights weights, Tensor y, bias=None, clamp=(-INFINITY, INFINITY),
                 y_origin=(0, 0), y_strides=(1, 1), Py_ssize_t bands=1, bint by_channels=False, pool=None, arg=None,
                 bint pool_relu=False, name="gather"):
        cdef gather_t *g = &self.c
        g.panel, g.weights, g.y = panel.c, weights.c, y.c
        if g.panel.depth != g.weights.taps * g.weights.inner or g.y.c != g.weights.groups * g.weights.outputs:
            raise ValueError(f"{name}: panel, weights and output do not fit together")
        if g.weights.transposed and g.weights.packed == NULL and not by_channels:
            raise ValueError(f"{name}: transposed weights must be packed")
        g.n, g.bands, g.by_channels = y.images, bands, by_channels
        g.y_row, g.y_col = y_strides[0] * g.y.row, y_strides[1] * g.y.c
        g.y_start = y_origin[0] * g.y.row + y_origin[1] * g.y.c
        yoff = panel.pixel_offsets(g.y.image, g.y_row, g.y_col)
        g.yoff = table_address(yoff)
        g.lo, g.hi = clamp
        if bias is not None:
            if bias.dtype != np.float32 or bias.size != g.y.c or not bias.flags.c_contiguous:
                raise ValueError(f"{name}: the bias must be {g.y.c} contiguous float32 values")
            g.bias = <const float *><Py_ssize_t>bias.ctypes.data
        g.slices = 1
        self.items = g.n * (bands if g.panel.images == 1 else 1)
        if by_channels:
            self.set_channels()
        self.scratch = panel.scratch + 4 * g.weight_floats
        if pool is not None:
            self.set_pool(pool, arg, pool_relu)
            if tuple(pool) == (2, 2) and self.tiles_hold_windows():
                self.set_windows(panel)
            else:
                self.set_strip()
        self.run, self.args = <fc_run>run_gather, g
        self.algorithm = algorithm_of(panel)
        self.name, self.keep = name, (panel, weights, y, yoff, bias, self.keep)

    cdef set_channels(self):
        """How blocks of channels are shared out and the depth is sliced, where weights are most of what is read."""
        cdef gather_t *g = &self.c
        cdef Py_ssize_t pixels = g.panel.rows * g.panel.cols, depth = g.panel.depth
        blocks = g.weights.groups * g.weights.blocks
        g.wide, g.weight_floats = 1, block_size(&g.weights)
        if g.weights.in_order and g.weights.packed == NULL:
            g.copied = g.n * pixels > FEW_PIXELS
            g.wide = max(1, min(WIDE_BLOCKS, blocks // LEAST_DENSE_UNITS) if g.copied else blocks // STREAM_UNITS)
            g.fetched = not g.copied
            stream = STREAM_DEPTH // 2 if g.wide >= LONG_STRETCH else STREAM_DEPTH
            g.slices = max(1, round(int(depth) / (SLICE_DEPTH if g.copied else stream)))
            g.weight_floats = g.wide * g.weights.nr * (depth // g.slices + 1) if g.copied else 0
        elif pixels == 1 and not g.weights.few:
            g.slices = max(1, round(int(depth) / SLICE_DEPTH))
        g.units = (g.weights.blocks + g.wide - 1) // g.wide
        g.splits = max(1, min(g.n // 64, DENSE_UNITS // max(1, blocks)))
        self.items = g.weights.groups * g.units * g.splits

    cdef set_pool(self, window, arg, relu):
        cdef gather_t *g = &self.c
        cdef fc_pool *p = &g.pool
        p.kh, p.kw = p.sh, p.sw = window
        p.h, p.w, p.c, p.oh, p.ow = g.panel.rows, g.panel.cols, g.y.c, g.y.h, g.y.w
        p.relu, p.arg_bytes = relu, 1
        if p.h != p.oh * p.kh or p.w != p.ow * p.kw or g.weights.groups > 1 or g.by_channels or g.bands > 1 \
                or g.panel.band % p.kh:
            raise ValueError("pooled convolution: the grid and the pooled output do not fit together")
        if arg is not None:
            if p.kh * p.kw > 254:
                raise ValueError("pooled convolution: windows of more than 254 pixels cannot be told by a byte")
            if arg.dtype != np.uint8 or arg.size != g.n * p.oh * p.ow * p.c or not arg.flags.c_contiguous:
                raise ValueError("pooled convolution: arg must be contiguous uint8 of the pooled shape")
            g.arg = <unsigned char *><Py_ssize_t>arg.ctypes.data
        self.keep = arg

    cdef bint tiles_hold_windows(self):
        """Whether 2 x 2 windows are pooled in the registers of a tile."""
        cdef Py_ssize_t idle = table().mr % 4, used = table().mr - idle
        return not self.c.weights.few and self.c.panel.depth * idle <= IDLE_DEPTH * used

    cdef set_windows(self, Panel panel):
        cdef gather_t *g = &self.c
        xoff = panel.window_offsets()
        yoff = grid_offsets(g.panel.images, g.panel.band // 2, g.pool.ow, g.y.image, g.y.row, g.y.c)
        g.window_xoff, g.window_yoff = table_address(xoff), table_address(yoff)
        self.keep = self.keep, xoff, yoff

    cdef set_strip(self):
        """Rows that wait for pooling in scratch."""
        cdef gather_t *g = &self.c
        cdef fc_pool *p = &g.pool
        small = 4 * g.weights.groups * g.weights.blocks * block_size(&g.weights) <= SMALL_WEIGHTS
        few = -(-STRIP_PIXELS // max(1, p.kh * p.w)) * p.kh
        g.strip = min(g.panel.band, few) if small and g.panel.images == 1 else g.panel.band
        strip_off = grid_offsets(g.panel.images, g.strip, p.w, g.strip * p.w * p.c, p.w * p.c, p.c)
        g.strip_off = table_address(strip_off)
        g.pool_scratch = (self.scratch + 63) // 64 * 64
        self.scratch = g.pool_scratch + 4 * g.panel.images * g.strip * p.w * p.c
        self.keep = self.keep, strip_off
