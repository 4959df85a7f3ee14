"""Drivers of Winograd's convolution: 3 x 3 kernels at stride 1, in tiles of m x m outputs, m = 2 or 4.

    WinogradConv        y = clamp(conv(x, w) + b), or that max-pooled; the input gradient with turned weights
    PackWinograd        U = G w G', the transformed weights
    WinogradWeightGrad  dw and db

The mathematics, and how transformed tiles lie in memory, are in csrc/winograd.h and csrc/fc_winograd.h.
"""

import numpy as np

from libc.math cimport INFINITY

from fastcnn.kernels._cpu cimport fc_kernels, table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_winograd_tile:
        const float *x
        Py_ssize_t row, pixel
        const float *const *at
        Py_ssize_t c

    ctypedef struct fc_winograd_target:
        float *y
        Py_ssize_t row, pixel
        int rows, cols, n
        const float *bias
        float lo, hi
        int relu
        unsigned char *arg
        Py_ssize_t arg_row, arg_pixel

    ctypedef void (*fc_tile_transform)(const fc_winograd_tile *t, float *v, Py_ssize_t group,
                                       Py_ssize_t point) noexcept nogil
    ctypedef void (*fc_block_transform)(const float *v, Py_ssize_t group, Py_ssize_t point,
                                        const fc_winograd_target *t) noexcept nogil

    ctypedef struct fc_winograd_transforms:
        fc_tile_transform input
        fc_tile_transform gradient
        fc_block_transform output
        fc_block_transform pool
        void (*weights)(const float *w, Py_ssize_t tap, Py_ssize_t row, Py_ssize_t rows, int n, float *u,
                        Py_ssize_t point) noexcept nogil
        void (*inverse)(const float *u, Py_ssize_t point, Py_ssize_t rows, int n, float *dw, Py_ssize_t tap,
                        Py_ssize_t row, int accumulate) noexcept nogil

    ctypedef struct fc_winograd_product:
        const float *v
        Py_ssize_t v_group, v_point
        float *u
        Py_ssize_t u_point
        float *m
        Py_ssize_t m_group, m_point
        Py_ssize_t points, tiles, depth
        int vectors, accumulate
        float *const *targets
        const Py_ssize_t *fetch
        Py_ssize_t fetches

    ctypedef struct fc_winograd_kernels:
        fc_winograd_transforms f2, f4
        void (*multiply)(const fc_winograd_product *g) noexcept nogil
        void (*outer)(const fc_winograd_product *g) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_winograd_kernels winograd

cdef extern from *:
    """
    static inline void fc_prefetch(const float *p) { __builtin_prefetch(p, 0, 2); }
    """
    void fc_prefetch(const float *p) noexcept nogil

# The transformed inputs and products of a block of tiles should stay in a core's L2 beside a block of weights. Weights
# that are transformed where they are used must serve more tiles.
BLOCK_BYTES, UNPACKED_BLOCK_BYTES = 768 << 10, 1280 << 10
MIN_TILES, MAX_TILES = 28, 112
# Unpacked weights are transformed for so many input channels at a time: 36 * 64 * NR floats, in L2.
SLAB = 64
# Work is cut by output channels too where there are few tiles, but the inputs are then transformed again.
SHARE_CHANNELS = 128
FEW_UNITS = 8
# A weight gradient's transformed sums stay in L2, and beside them as many tiles as this: the sums are loaded and
# stored once per block of tiles.
SUM_BYTES = 640 << 10
# Slices of channels that a weight gradient is cut into for the threads' sake; each slice repeats some transforms.
LEAST_SLICES = 4
GRAD_BLOCK_BYTES = 1100 << 10
cdef Py_ssize_t SLAB_ROWS = SLAB


cdef inline const fc_winograd_kernels *kernels() noexcept nogil:
    return &(<const kernel_table *>table()).winograd


cdef inline const fc_winograd_transforms *transforms(int m) noexcept nogil:
    return &kernels().f4 if m == 4 else &kernels().f2


cdef inline Py_ssize_t point_stride(Py_ssize_t floats) noexcept nogil:
    """At least `floats`, an odd number of cache lines: neighbouring points then lie in different sets of a cache."""
    return 16 * ((floats + 15) // 16 | 1)


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


# ----------------------------------------------------------------------------------------------------- tiles

# How the outputs of a pass are cut into tiles, and the tensor that the tiles read: `size` x `size` pixels each,
# the first one's from (-top, -left) on.
cdef struct tiles_t:
    fc_tensor x
    Py_ssize_t m, size
    Py_ssize_t rows, cols     # outputs per image
    Py_ssize_t down, across   # tiles per image
    Py_ssize_t top, left
    const float *zeros        # a pixel outside the image


cdef struct place_t:
    Py_ssize_t n, row, col    # image, and tile in it


cdef inline place_t place_of(const tiles_t *s, Py_ssize_t tile) noexcept nogil:
    cdef place_t at
    at.n = tile // (s.down * s.across)
    at.row = tile // s.across % s.down
    at.col = tile % s.across
    return at


cdef inline void next_place(const tiles_t *s, place_t *at) noexcept nogil:
    at.col += 1
    if at.col == s.across:
        at.col = 0
        at.row += 1
        if at.row == s.down:
            at.row = 0
            at.n += 1


cdef void find_pixels(const tiles_t *s, const float *image, Py_ssize_t row, Py_ssize_t col,
                      const float **at) noexcept nogil:
    """Where the pixels of a tile from (row, col) on are; those outside the image are zeros."""
    cdef Py_ssize_t i, j
    cdef Py_ssize_t first = max(<Py_ssize_t>0, min(-col, s.size)), last = max(first, min(s.x.w - col, s.size))
    cdef const float *x
    for i in range(row, row + s.size):
        if i < 0 or i >= s.x.h:
            for j in range(s.size):
                at[j] = s.zeros
        else:
            x = image + i * s.x.row + col * s.x.c
            for j in range(first):
                at[j] = s.zeros
            for j in range(first, last):
                at[j] = x + j * s.x.c
            for j in range(last, s.size):
                at[j] = s.zeros
        at += s.size


cdef void transform_tiles(const tiles_t *s, const fc_task *task, fc_tile_transform transform, Py_ssize_t first,
                          Py_ssize_t count, Py_ssize_t c0, Py_ssize_t c, float *v, Py_ssize_t group,
                          Py_ssize_t point) noexcept nogil:
    """Channels [c0, c0 + c) of tiles [first, first + count); the first of them goes to v."""
    cdef const float *pixels[36]
    cdef fc_winograd_tile t
    cdef place_t place = place_of(s, first)
    cdef Py_ssize_t i, row, col
    cdef const float *image
    t.row, t.pixel, t.c = s.x.row, s.x.c, c
    for i in range(count):
        image = fc_image(&s.x, task, place.n) + c0
        row, col = place.row * s.m - s.top, place.col * s.m - s.left
        t.x, t.at = image + row * s.x.row + col * s.x.c, NULL
        if row < 0 or col < 0 or row + s.size > s.x.h or col + s.size > s.x.w:
            find_pixels(s, image, row, col, pixels)
            t.at = pixels
        transform(&t, v, group, point)
        v += table().vlen
        next_place(s, &place)


cdef class Tiles:
    """Tiles of m x m of `grid` = (rows, cols) outputs per image, and the tensor they read.

    x : what is read: `size` x `size` pixels per tile (m + 2, or m for a gradient's own tiles), the first tile's from
    `origin` = (-top, -left) on; pixels outside x are zeros.
    """

    cdef tiles_t c
    cdef readonly Py_ssize_t images
    cdef object keep

    def __init__(self, Tensor x, grid, Py_ssize_t m, Py_ssize_t size, origin=(0, 0)):
        cdef tiles_t *s = &self.c
        if m not in (2, 4) or size not in (m, m + 2):
            raise ValueError(f"Winograd: no transform for tiles of {m} outputs from {size} inputs")
        s.x, s.m, s.size = x.c, m, size
        s.rows, s.cols = grid
        s.top, s.left = origin
        s.down, s.across = ceil_div(s.rows, m), ceil_div(s.cols, m)
        zeros = np.zeros(s.x.c + 1, np.float32)
        s.zeros = <const float *><Py_ssize_t>zeros.ctypes.data
        self.images, self.keep = x.images, (x, zeros)


# --------------------------------------------------------------------------------------------------- weights

cdef struct weights_t:
    const float *w                 # the user's array (3, 3, ic, oc)
    float *packed                  # [block][point][inner][nr], or NULL: transformed where they are used
    int transposed                 # the input gradient's: turned by 180 degrees, channels exchanged
    Py_ssize_t m, points
    Py_ssize_t ic, oc
    Py_ssize_t inner, outputs      # channels that the pass sums over, and writes
    Py_ssize_t blocks              # of nr outputs
    Py_ssize_t point, block        # floats from point to point, from block to block


cdef void fetch_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first) noexcept nogil:
    """Asks for the weights of a vector of input channels: short rows far apart, which no hardware foresees."""
    cdef const fc_kernels *k = table()
    cdef Py_ssize_t j = block * k.nr, across = k.vlen, down = k.nr, tap, i, c
    if not s.transposed:
        first, j, across, down = j, first, down, across  # rows of w are input channels
    down, across = min(down, s.ic - j), min(across, s.oc - first)
    for tap in range(9):
        for i in range(j, j + down):
            c = 0
            while c < across:
                fc_prefetch(s.w + (tap * s.ic + i) * s.oc + first + c)
                c += 16


cdef void transform_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows, float *u,
                            Py_ssize_t point, float *scratch) noexcept nogil:
    """Input channels [first, first + rows) of one block of output channels, u[point][row][nr].

    A vector of input channels at a time, while the next ones are fetched; turned weights go through `scratch`.
    """
    cdef const fc_kernels *k = table()
    cdef Py_ssize_t j = block * k.nr, area = k.vlen * k.nr, stop = first + rows, tap, n
    cdef int lanes = <int>min(<Py_ssize_t>k.nr, s.outputs - j)
    while first < stop:
        n = min(<Py_ssize_t>k.vlen, stop - first)
        if first + n < s.inner:
            fetch_weights(s, block, first + n)
        elif block + 1 < s.blocks:
            fetch_weights(s, block + 1, 0)
        if not s.transposed:
            transforms(<int>s.m).weights(s.w + first * s.oc + j, s.ic * s.oc, s.oc, n, lanes, u, point)
        else:
            for tap in range(9):
                k.transpose(s.w + ((8 - tap) * s.ic + j) * s.oc + first, s.oc, lanes, n, scratch + tap * area, k.nr)
            transforms(<int>s.m).weights(scratch, area, k.nr, n, lanes, u, point)
        first += n
        u += n * k.nr


cdef void run_pack(const void *args, const fc_task *task) noexcept nogil:
    cdef const weights_t *s = <const weights_t *>args
    cdef Py_ssize_t vlen = table().vlen, slabs = ceil_div(s.inner, vlen), item, first
    for item in range(task.begin, task.end):
        first = item % slabs * vlen
        transform_weights(s, item // slabs, first, min(vlen, s.inner - first),
                          s.packed + item // slabs * s.block + first * table().nr, s.point, <float *>task.scratch)


cdef inline Py_ssize_t turning_floats(const weights_t *s) noexcept nogil:
    """Scratch of transform_weights."""
    return 9 * table().vlen * table().nr if s.transposed else 0


cdef class WinogradWeights:
    """Transformed weights of a pass over tiles of m x m outputs; `w` (3, 3, ic, oc) stays the user's.

    `transposed` turns the kernel by 180 degrees and exchanges the channels, for the input gradient. `packed` is a
    float32 array of `packed_size` that PackWinograd fills once a step; without it each unit of work transforms what
    it needs, which is the faster way when the transformed weights would fit no cache.
    """

    cdef weights_t c
    cdef object keep

    def __init__(self, w, Py_ssize_t m, bint transposed=False, packed=None):
        cdef weights_t *s = &self.c
        kh, kw, s.ic, s.oc = w.shape
        if (kh, kw) != (3, 3) or w.dtype != np.float32 or not w.flags.c_contiguous or m not in (2, 4):
            raise ValueError("WinogradWeights: expected a contiguous float32 array (3, 3, ic, oc) and tiles of 2 or 4")
        s.w = <const float *><Py_ssize_t>w.ctypes.data
        s.transposed, s.m, s.points = transposed, m, (m + 2) ** 2
        s.inner, s.outputs = (s.oc, s.ic) if transposed else (s.ic, s.oc)
        s.blocks = ceil_div(s.outputs, table().nr)
        s.point = point_stride(s.inner * table().nr)
        s.block = s.points * s.point
        if packed is not None:
            if packed.dtype != np.float32 or packed.size < self.packed_size or not packed.flags.c_contiguous:
                raise ValueError(f"WinogradWeights: expected {self.packed_size} packed floats, got {packed.size}")
            s.packed = <float *><Py_ssize_t>packed.ctypes.data
        self.keep = w, packed

    @property
    def packed_size(self):
        """Floats of the transformed weights."""
        return self.c.blocks * self.c.block


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


# --------------------------------------------------------------------------------------------------- forward

cdef struct conv_t:
    tiles_t tiles
    weights_t weights
    fc_tensor y
    const float *bias
    float lo, hi
    int pooled, relu
    unsigned char *arg         # (n, oh, ow, oc) taps of the maxima, or NULL
    Py_ssize_t count, block    # tiles in all, and in a block
    Py_ssize_t units, shares   # items are not images, but units of tiles times shares of the output channels; or 0
    Py_ssize_t groups          # vectors of input channels
    Py_ssize_t slab_floats, turning_floats, v_floats, m_floats  # scratch: weights transformed, turned; inputs; products
    Py_ssize_t fetch[16]       # offsets of the outputs of a tile
    Py_ssize_t fetches


cdef void find_targets(const conv_t *g, const fc_task *task, Py_ssize_t first, Py_ssize_t count, Py_ssize_t j,
                       float **targets) noexcept nogil:
    """Where the outputs of tiles go, from channel j on."""
    cdef Py_ssize_t edge = g.tiles.m // 2 if g.pooled else g.tiles.m, i
    cdef place_t place = place_of(&g.tiles, first)
    for i in range(count):
        targets[i] = fc_image(&g.y, task, place.n) + place.row * edge * g.y.row + place.col * edge * g.y.c + j
        next_place(&g.tiles, &place)


cdef void write_tiles(const conv_t *g, const fc_task *task, Py_ssize_t first, Py_ssize_t count, Py_ssize_t j, int n,
                      float *const *targets, const float *products, Py_ssize_t group,
                      Py_ssize_t point) noexcept nogil:
    """Output channels [j, j + n) of some tiles, from the products of all points."""
    cdef const tiles_t *s = &g.tiles
    cdef const fc_winograd_transforms *k = transforms(<int>s.m)
    cdef fc_block_transform transform = k.pool if g.pooled else k.output
    cdef Py_ssize_t edge = s.m // 2 if g.pooled else s.m, i, row, col
    cdef place_t place = place_of(s, first)
    cdef fc_winograd_target t
    t.row, t.pixel, t.n, t.lo, t.hi, t.relu = g.y.row, g.y.c, n, g.lo, g.hi, g.relu
    t.bias, t.arg = NULL, NULL
    if g.bias != NULL:
        t.bias = g.bias + j
    t.arg_row, t.arg_pixel = g.y.w * g.y.c, g.y.c
    for i in range(count):
        row, col = place.row * edge, place.col * edge
        t.y = targets[i]
        t.rows, t.cols = <int>min(edge, g.y.h - row), <int>min(edge, g.y.w - col)
        if g.arg != NULL:
            t.arg = g.arg + ((place.n * g.y.h + row) * g.y.w + col) * g.y.c + j
        transform(products + i * table().vlen, group, point, &t)
        next_place(s, &place)


cdef void multiply_slabs(const conv_t *g, Py_ssize_t b, float *u, fc_winograd_product p) noexcept nogil:
    """The products of unpacked weights: transformed slab by slab, where they are used."""
    cdef const fc_kernels *k = table()
    cdef const weights_t *s = &g.weights
    cdef Py_ssize_t first = 0
    p.u, p.u_point = u, point_stride(SLAB_ROWS * k.nr)
    while first < s.inner:
        p.depth = min(SLAB_ROWS, s.inner - first)
        transform_weights(s, b, first, p.depth, u, p.u_point, u + g.slab_floats)
        kernels().multiply(&p)
        p.v += SLAB_ROWS // k.vlen * p.v_group
        first += SLAB_ROWS
        p.accumulate, p.targets = True, NULL


cdef void conv_block(const conv_t *g, const fc_task *task, Py_ssize_t first, Py_ssize_t count, Py_ssize_t begin,
                     Py_ssize_t end) noexcept nogil:
    """Blocks [begin, end) of output channels of some tiles: transformed inputs stay in cache, weights pass by."""
    cdef const fc_kernels *k = table()
    cdef const tiles_t *s = &g.tiles
    cdef fc_winograd_product p
    cdef float *u = <float *>task.scratch
    cdef float *v = u + g.slab_floats + g.turning_floats
    cdef float **targets = <float **>(v + g.v_floats + g.m_floats)
    cdef Py_ssize_t b, n
    p.v, p.v_group, p.v_point = v, count * k.vlen, point_stride(g.groups * count * k.vlen)
    p.m, p.m_group, p.m_point = v + g.v_floats, p.v_group, point_stride(count * k.nr)
    p.points, p.tiles, p.depth, p.u_point = g.weights.points, count, g.weights.inner, g.weights.point
    p.accumulate, p.targets, p.fetch, p.fetches = False, targets, <const Py_ssize_t *>g.fetch, g.fetches
    transform_tiles(s, task, transforms(<int>s.m).input, first, count, 0, s.x.c, v, p.v_group, p.v_point)
    for b in range(begin, end):
        n = min(<Py_ssize_t>k.nr, g.weights.outputs - b * k.nr)
        p.vectors = <int>ceil_div(n, k.vlen)
        find_targets(g, task, first, count, b * k.nr, targets)
        if g.weights.packed == NULL and p.depth:
            multiply_slabs(g, b, u, p)
        else:
            p.u = g.weights.packed + b * g.weights.block
            kernels().multiply(&p)
        write_tiles(g, task, first, count, b * k.nr, <int>n, targets, p.m, p.m_group, p.m_point)


cdef void conv_tiles(const conv_t *g, const fc_task *task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t begin,
                     Py_ssize_t end) noexcept nogil:
    """Tiles [first, last), in blocks of nearly equal size."""
    cdef Py_ssize_t count = last - first, blocks = ceil_div(count, g.block), i, at, stop
    for i in range(blocks):
        at, stop = count * i // blocks, count * (i + 1) // blocks
        conv_block(g, task, first + at, stop - at, begin, end)


cdef void run_conv(const void *args, const fc_task *task) noexcept nogil:
    cdef const conv_t *g = <const conv_t *>args
    cdef Py_ssize_t per_image = g.tiles.down * g.tiles.across, blocks = g.weights.blocks, item, unit, share
    if not g.units:
        conv_tiles(g, task, task.begin * per_image, task.end * per_image, 0, blocks)
        return
    for item in range(task.begin, task.end):
        unit, share = item // g.shares, item % g.shares
        conv_tiles(g, task, g.count * unit // g.units, g.count * (unit + 1) // g.units, blocks * share // g.shares,
                   blocks * (share + 1) // g.shares)


def tiles_per_block(points, channels, memory):
    """How many tiles of so many transformed channels fit `memory` bytes, in whole tiles of the products."""
    mr = table().mr
    tiles = min(MAX_TILES, memory // (4 * points * max(1, channels))) // mr * mr
    return max(tiles, -(-MIN_TILES // mr) * mr)


def units_of_work(tiles, block, channels):
    """(units of about `block` tiles, shares of the output channels) to cut a pass into: a few are a power of two,
    which threads share evenly."""
    units = 1
    while units < 2 * FEW_UNITS and 4 * tiles > 5 * block * units:
        units *= 2
    units = max(units, -(-4 * tiles // (5 * block)))
    shares = max(1, min(channels // SHARE_CHANNELS, FEW_UNITS // units))
    return units, 1 << (shares.bit_length() - 1)


cdef class WinogradConv(Op):
    """y = clamp(conv(x, w) + b) for the tiles of a 3 x 3 convolution of stride 1.

    Items are images or, with `by_blocks`, blocks of tiles and shares of the output channels (when weights are so
    large that a pass over them must serve many tiles). With `pool` = (2, 2) the result is max-pooled over such
    windows, side by side, before it is written; `arg` (n, oh, ow, oc), uint8 or None, receives the taps of the maxima, and `pool_relu` clamps them at 0.
    """

    cdef conv_t c

    def __init__(self, Tiles tiles, WinogradWeights weights, Tensor y, bias=None, clamp=(-INFINITY, INFINITY),
                 bint by_blocks=False, pool=None, arg=None, bint pool_relu=False, name="winograd"):
        cdef conv_t *g = &self.c
        g.tiles, g.weights, g.y = tiles.c, weights.c, y.c
        g.pooled, g.relu = pool is not None, pool_relu
        g.lo, g.hi = clamp
        if pool not in (None, (2, 2)):
            raise ValueError(f"{name}: pooling is over windows of 2 x 2, got {pool}")
        shape = (g.tiles.rows // 2, g.tiles.cols // 2) if pool else (g.tiles.rows, g.tiles.cols)
        if g.tiles.x.c != g.weights.inner or g.y.c != g.weights.outputs or g.tiles.m != g.weights.m \
                or g.tiles.size != g.tiles.m + 2 or shape != (g.y.h, g.y.w) or tiles.images != y.images:
            raise ValueError(f"{name}: tiles, weights and output do not fit together")
        if bias is not None:
            if bias.dtype != np.float32 or bias.size != g.y.c or not bias.flags.c_contiguous:
                raise ValueError(f"{name}: the bias must be {g.y.c} contiguous float32 values")
            g.bias = <const float *><Py_ssize_t>bias.ctypes.data
        if arg is not None:
            if arg.dtype != np.uint8 or arg.size != y.images * g.y.h * g.y.w * g.y.c or not arg.flags.c_contiguous:
                raise ValueError(f"{name}: arg must be contiguous uint8 of the pooled shape")
            g.arg = <unsigned char *><Py_ssize_t>arg.ctypes.data
        self.set_blocks(tiles.images, by_blocks)
        self.run, self.args = <fc_run>run_conv, g
        self.name, self.keep = name, (tiles, weights, y, bias, arg)

    cdef set_blocks(self, Py_ssize_t images, bint by_blocks):
        cdef conv_t *g = &self.c
        cdef Py_ssize_t vlen = table().vlen, nr = table().nr, points = g.weights.points
        g.count = images * g.tiles.down * g.tiles.across
        g.groups = ceil_div(g.tiles.x.c, vlen)
        g.block = tiles_per_block(points, g.groups * vlen + nr,
                                  UNPACKED_BLOCK_BYTES if g.weights.packed == NULL else BLOCK_BYTES)
        g.units = g.shares = 0
        if by_blocks:
            if g.weights.packed != NULL:  # small, so that even a few tiles are worth a thread
                g.block = min(g.block, max(8, g.count // 4))
            g.units, g.shares = units_of_work(g.count, g.block, g.weights.outputs)
            g.block = max(g.block, ceil_div(g.count, g.units))
        self.items = g.units * g.shares if by_blocks else images
        if g.weights.packed == NULL:
            g.slab_floats, g.turning_floats = points * point_stride(SLAB_ROWS * nr), turning_floats(&g.weights)
        g.v_floats = points * point_stride(g.groups * g.block * vlen)
        g.m_floats = points * point_stride(g.block * nr)
        self.scratch = 4 * (g.slab_floats + g.turning_floats + g.v_floats + g.m_floats) + 8 * g.block
        edge = g.tiles.m // 2 if g.pooled else g.tiles.m
        g.fetches = edge * edge
        for i in range(g.fetches):
            g.fetch[i] = i // edge * g.y.row + i % edge * g.y.c


# ------------------------------------------------------------------------------------------- weight gradient

cdef struct grad_t:
    tiles_t x, dy
    Py_ssize_t n, m, points, ic, oc
    Py_ssize_t ic_slice, oc_slice          # channels whose sums fit the cache together
    Py_ssize_t oc_slices, slices
    Py_ssize_t tiles                       # of a block
    Py_ssize_t u_point, u_block            # of the sums: [block of nr output channels][point][ic, whole vectors][nr]
    Py_ssize_t u_floats, v_floats
    float *dw                              # [parts][3][3][ic][oc]
    float *db                              # [parts][oc] or NULL
    const int *lines                       # [tiles] offsets of the vectors of one point
    int by_channels                        # items are slices, each over all images; else images


# Channels [c0, c0 + c) of x and [j0, j0 + j) of dy.
cdef struct slice_t:
    Py_ssize_t c0, c, j0, j


cdef void add_bias_gradient(const grad_t *g, const slice_t *s, const float *d, Py_ssize_t group, Py_ssize_t point,
                            Py_ssize_t tiles, int accumulate, float *db) noexcept nogil:
    """At the point (1, 1) a transformed tile of dy is the sum of its pixels."""
    cdef Py_ssize_t vlen = table().vlen, j = 0
    d += (g.m + 3) * point
    while j < s.j:
        table().sum_rows(d, g.lines, tiles, min(vlen, s.j - j), accumulate, db + s.j0 + j)
        j += vlen
        d += group


cdef void add_tiles(const grad_t *g, const slice_t *s, const fc_task *task, Py_ssize_t first, Py_ssize_t count,
                    bint accumulate, bint accumulate_bias, float *db) noexcept nogil:
    """A block of tiles' share of the sums, which start the scratch memory, and of db."""
    cdef const fc_kernels *k = table()
    cdef fc_winograd_product p
    cdef float *u = <float *>task.scratch
    cdef float *v = u + g.u_floats
    cdef float *d = v + g.v_floats
    cdef Py_ssize_t j = 0
    p.v, p.v_group, p.v_point = v, count * k.vlen, point_stride(ceil_div(s.c, k.vlen) * count * k.vlen)
    p.m, p.m_group, p.m_point = d, p.v_group, point_stride(ceil_div(s.j, k.vlen) * count * k.vlen)
    p.u, p.u_point, p.points, p.tiles, p.depth, p.accumulate = u, g.u_point, g.points, count, s.c, accumulate
    transform_tiles(&g.x, task, transforms(<int>g.m).input, first, count, s.c0, s.c, v, p.v_group, p.v_point)
    transform_tiles(&g.dy, task, transforms(<int>g.m).gradient, first, count, s.j0, s.j, d, p.m_group, p.m_point)
    while j < s.j:
        p.vectors = <int>ceil_div(min(<Py_ssize_t>k.nr, s.j - j), k.vlen)
        kernels().outer(&p)
        j += k.nr
        p.m += k.nr // k.vlen * p.m_group
        p.u += g.u_block
    if db != NULL and s.c0 == 0:
        add_bias_gradient(g, s, d, p.m_group, p.m_point, count, accumulate_bias, db)


cdef void grad_slice(const grad_t *g, Py_ssize_t index, const fc_task *task, Py_ssize_t first, Py_ssize_t count,
                     Py_ssize_t part, bint accumulate) noexcept nogil:
    """One slice of dw and db over some tiles."""
    cdef Py_ssize_t blocks = ceil_div(count, g.tiles), nr = table().nr, b, at, stop, j = 0
    cdef float *dw = g.dw + part * 9 * g.ic * g.oc
    cdef float *db = NULL
    cdef slice_t s
    if g.db != NULL:
        db = g.db + part * g.oc
    s.c0, s.j0 = index // g.oc_slices * g.ic_slice, index % g.oc_slices * g.oc_slice
    s.c, s.j = min(g.ic_slice, g.ic - s.c0), min(g.oc_slice, g.oc - s.j0)
    for b in range(blocks):
        at, stop = count * b // blocks, count * (b + 1) // blocks
        add_tiles(g, &s, task, first + at, stop - at, b > 0, accumulate or b > 0, db)
    while j < s.j:
        transforms(<int>g.m).inverse(<float *>task.scratch + j // nr * g.u_block, g.u_point, s.c,
                                     <int>min(nr, s.j - j), dw + s.c0 * g.oc + s.j0 + j, g.ic * g.oc, g.oc, accumulate)
        j += nr


cdef void run_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const grad_t *g = <const grad_t *>args
    cdef Py_ssize_t per_image = g.x.down * g.x.across, i
    if g.by_channels:
        for i in range(task.begin, task.end):
            grad_slice(g, i, task, 0, g.n * per_image, 0, False)
        return
    for i in range(g.slices):
        grad_slice(g, i, task, task.begin * per_image, (task.end - task.begin) * per_image, task.part, not task.first)


def gradient_slices(points, ic, oc, least):
    """(ic, oc) of slices of a weight gradient whose transformed sums fit the cache, `least` of them or more: halves of
    halves of nearly equal size, in whole vectors of ic and whole blocks of oc."""
    vlen, nr, parts = table().vlen, table().nr, [1, 1]
    while True:
        ic_slice, oc_slice = (-(-size // (n * unit)) * unit for size, n, unit in zip((ic, oc), parts, (vlen, nr)))
        fit = 4 * points * ic_slice * oc_slice <= SUM_BYTES and parts[0] * parts[1] >= least
        if fit or (ic_slice <= vlen and oc_slice <= nr):
            return max(ic_slice, vlen), max(oc_slice, nr)
        parts[oc_slice // nr * vlen >= ic_slice and oc_slice > nr] *= 2


cdef class WinogradWeightGrad(Op):
    """dw and db from the tiles of x and, of equal m, of dy.

    By default items are images, and each group of images overwrites or adds to its own partial sum: `dw` is (parts,
    3, 3, ic, oc) and `db` (parts, oc) or None. With `by_channels` items are slices of channels, each over all images,
    and there is one part: for weights too large to copy.
    """

    cdef grad_t c

    def __init__(self, Tiles x, Tiles dy, dw, db=None, bint by_channels=False, name="winograd weight gradient"):
        cdef grad_t *g = &self.c
        parts, kh, kw, ic, oc = dw.shape
        g.x, g.dy, g.n, g.m, g.points, g.ic, g.oc = x.c, dy.c, x.images, x.c.m, (x.c.m + 2) ** 2, ic, oc
        if (kh, kw) != (3, 3) or g.x.x.c != ic or g.dy.x.c != oc or g.dy.m != g.m or g.dy.size != g.m \
                or g.x.size != g.m + 2 or (g.x.down, g.x.across) != (g.dy.down, g.dy.across) \
                or x.images != dy.images or (by_channels and parts > 1):
            raise ValueError(f"{name}: tiles and gradients do not fit together")
        for array, shape in ((dw, dw.shape), (db, (parts, oc))):
            if array is not None and (array.dtype != np.float32 or not array.flags.c_contiguous
                                      or array.shape != shape):
                raise ValueError(f"{name}: expected contiguous float32 {shape}, got {array.dtype} {array.shape}")
        g.dw, g.by_channels = <float *><Py_ssize_t>dw.ctypes.data, by_channels
        if db is not None:
            g.db = <float *><Py_ssize_t>db.ctypes.data
        lines = self.set_sizes()
        self.items = g.slices if by_channels else g.n
        self.run, self.args = <fc_run>run_grad, g
        self.name, self.keep = name, (x, dy, dw, db, lines)

    cdef set_sizes(self):
        cdef grad_t *g = &self.c
        cdef Py_ssize_t vlen = table().vlen, nr = table().nr
        g.ic_slice, g.oc_slice = gradient_slices(g.points, g.ic, g.oc, LEAST_SLICES if g.by_channels else 1)
        g.oc_slices = ceil_div(g.oc, g.oc_slice)
        g.slices = ceil_div(g.ic, g.ic_slice) * g.oc_slices
        g.tiles = tiles_per_block(g.points, g.ic_slice + g.oc_slice, GRAD_BLOCK_BYTES)
        g.u_point = point_stride(g.ic_slice * nr)
        g.u_block = g.points * g.u_point
        g.u_floats = g.oc_slice // nr * g.u_block
        g.v_floats = g.points * point_stride(g.ic_slice * g.tiles)
        self.scratch = 4 * (g.u_floats + g.v_floats + g.points * point_stride(g.oc_slice * g.tiles))
        lines = np.arange(0, g.tiles * vlen, vlen, np.int32)
        g.lines = <const int *><Py_ssize_t>lines.ctypes.data
        return lines
