"""Winograd's convolution of 3 x 3 kernels at stride 1, forward or, with turned weights, the input gradient.

    WinogradConv        y = clamp(conv(x, w) + b), or that max-pooled
    WinogradAdjoint     dx by the steps of the convolution run backwards

Blocks of tiles are transformed and then, one block of output channels after another, multiplied with the weights
and transformed back. Meanwhile memory brings what comes next: the inputs of the next tiles, weights, and the lines
of y that will be written.
"""

import numpy as np

from libc.math cimport INFINITY

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Op, Tensor, fc_run, fc_task, fc_tensor
from fastcnn.kernels._winograd_tiles cimport (
    Tiles, ceil_div, fc_block_transform, fc_tile_transform, fc_winograd_fetch, fc_winograd_product, fc_winograd_range,
    fc_winograd_target, fc_winograd_transforms, fetch_tiles, find_corners, find_ranges, first_place, kernels,
    new_pixel_offsets, next_place, pixel_offsets, place_t, point_stride, spread_tiles, tiles_t, transform_tiles,
    transforms)
from fastcnn.kernels._winograd_weights cimport (
    WinogradWeights, fetch_weights, transform_weights, turning_floats, weights_t)
from fastcnn.kernels._winograd_tiles import tiles_per_block

# The transformed inputs and products of a block of tiles should stay in a core's L2 beside a block of weights. Weights
# that are transformed where they are used must serve more tiles.
BLOCK_BYTES, UNPACKED_BLOCK_BYTES = 384 << 10, 896 << 10
# With unpacked weights, so many input channels are transformed at a time: 36 * 64 * NR weights fit L2.
SLAB = 64
# Work is cut by output channels too where there are few tiles, but the inputs are then transformed again.
SHARE_CHANNELS = 128
FEW_UNITS = 8

cdef struct conv_t:
    tiles_t tiles
    int adjoint                # tiles are those of dy, and y is dx, cut into overlapping tiles `spread`
    tiles_t spread
    weights_t weights
    fc_tensor y
    const float *bias
    float lo, hi
    int pooled, relu
    unsigned char *arg         # (n, oh, ow, oc) taps of the maxima, or NULL
    Py_ssize_t count, block    # tiles in all, and in a block
    Py_ssize_t units, shares   # items are not images, but units of tiles times shares of the output channels; or 0
    Py_ssize_t slab, slabs     # input channels transformed at a time
    Py_ssize_t u_floats, turning_floats, v_floats, m_floats  # scratch: weights transformed, turned; inputs; products
    Py_ssize_t kept            # blocks of output channels whose products wait for the next slab
    Py_ssize_t edge            # of what a tile writes
    Py_ssize_t x_pixels[16]
    Py_ssize_t y_pixels[16]


# What is transformed at a time: channels [c0, c0 + c) of tiles [first, first + count).
cdef struct portion_t:
    Py_ssize_t first, count, c0, c


# The scratch memory of a thread.
cdef struct memory_t:
    float *u
    float *turned
    float *v
    float *m
    float **x_at                # corners of the next tiles' inputs,
    float **y_at                # of the outputs,
    const float **w_at          # rows of the next weights
    float *nowhere              # a pixel's block of channels that nobody reads


cdef memory_t memory_of(const conv_t *g, const fc_task *task) noexcept nogil:
    cdef memory_t t
    t.u = <float *>task.scratch
    t.turned = t.u + g.u_floats
    t.v = t.turned + g.turning_floats
    t.m = t.v + g.v_floats
    t.nowhere = t.m + g.kept * g.m_floats
    t.x_at = <float **>(t.nowhere + table().nr)
    t.y_at = t.x_at + g.block
    t.w_at = <const float **>(t.y_at + g.block)
    return t


cdef portion_t portion_of(const conv_t *g, Py_ssize_t first, Py_ssize_t last, Py_ssize_t index) noexcept nogil:
    """The portions of tiles [first, last), in blocks of nearly equal size, slab after slab; none beyond the last."""
    cdef Py_ssize_t count = last - first, blocks = ceil_div(count, g.block), block = index // g.slabs
    cdef portion_t t
    t.first, t.count, t.c0, t.c = first, 0, 0, 0
    if block < blocks:
        t.first = first + count * block // blocks
        t.count = first + count * (block + 1) // blocks - t.first
        t.c0 = index % g.slabs * g.slab
        t.c = min(g.slab, g.weights.inner - t.c0)
    return t


cdef void write_tiles(const conv_t *g, const fc_task *task, const portion_t *t, Py_ssize_t j, int n, float *const *y,
                      const fc_winograd_product *p) noexcept nogil:
    """Output channels [j, j + n) of some tiles, from the products of all points."""
    cdef const tiles_t *s = &g.tiles
    cdef fc_block_transform transform = transforms(s.points).pool if g.pooled else transforms(s.points).output
    cdef Py_ssize_t i, row, col
    cdef place_t place = first_place(s, t.first, t.count)
    cdef fc_winograd_target to
    to.row, to.pixel, to.n, to.lo, to.hi, to.relu = g.y.row, g.y.c, n, g.lo, g.hi, g.relu
    to.bias, to.arg = NULL, NULL
    if g.bias != NULL:
        to.bias = g.bias + j
    to.arg_row, to.arg_pixel = g.y.w * g.y.c, g.y.c
    for i in range(t.count):
        row, col = place.row * g.edge, place.col * g.edge
        to.y = y[i]
        to.rows, to.cols = <int>min(g.edge, g.y.h - row), <int>min(g.edge, g.y.w - col)
        if g.arg != NULL:
            to.arg = g.arg + ((place.n * g.y.h + row) * g.y.w + col) * g.y.c + j
        to.down, to.across = place.down, place.across
        transform(p.m + table().vlen * place.seat, p.m_group, p.m_point, &to)
        next_place(s, &place)


cdef int fetch_ahead(const conv_t *g, const fc_task *task, const portion_t *now, const portion_t *next, Py_ssize_t b,
                     Py_ssize_t begin, Py_ssize_t end, const memory_t *t, fc_winograd_fetch *f) noexcept nogil:
    """What memory is to bring while block b of [begin, end) is multiplied; the number of fetches."""
    cdef Py_ssize_t nr = table().nr, j = b * nr, edge = g.edge, m = g.tiles.edge
    cdef int n = 0
    if now.c0 + now.c == g.weights.inner:
        n += fetch_tiles(f, t.y_at, now.count, g.y_pixels, edge * edge, min(nr, g.weights.outputs - j), 0, 1)
    n += fetch_tiles(f + n, t.x_at, next.count, g.x_pixels, m * m, next.c, b - begin, end - begin)
    if g.weights.packed == NULL and b + 1 < end and now.c:
        n += fetch_weights(&g.weights, b + 1, now.c0, now.c, t.w_at, f + n)
    elif g.weights.packed == NULL and next.c:
        n += fetch_weights(&g.weights, begin, next.c0, next.c, t.w_at, f + n)
    return n


cdef void conv_portion(const conv_t *g, const fc_task *task, const portion_t *now, const portion_t *next,
                       Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Blocks [begin, end) of output channels: transformed inputs stay in cache, weights pass by."""
    cdef Py_ssize_t vlen = table().vlen, nr = table().nr, b, n
    cdef memory_t t = memory_of(g, task)
    cdef fc_winograd_fetch fetch[3]
    cdef fc_winograd_range ranges[36]
    cdef fc_winograd_product p
    cdef const fc_winograd_transforms *f = transforms(g.tiles.points)
    cdef fc_tile_transform transform = f.gradient if g.adjoint else f.input
    p.v, p.v_group, p.v_point = t.v, now.count * vlen, point_stride(ceil_div(now.c, vlen) * now.count * vlen)
    p.m_group, p.m_point, p.u_point = now.count * vlen, point_stride(now.count * nr), g.weights.point
    p.points, p.range, p.depth, p.accumulate, p.fetch = g.weights.points, ranges, now.c, now.c0 > 0, fetch
    find_ranges(&g.tiles, now.first, now.count, ranges)
    transform_tiles(&g.tiles, task, transform, now.first, now.count, now.c0, now.c, t.v, p.v_group, p.v_point)
    find_corners(&g.tiles, task, &g.tiles.x, g.tiles.edge, next.first, next.count, next.c0, t.x_at)
    for b in range(begin, end):
        n = min(nr, g.weights.outputs - b * nr)
        p.vectors, p.m, p.u = <int>ceil_div(n, vlen), t.m + (b - begin) % g.kept * g.m_floats, t.u
        find_corners(&g.tiles, task, &g.y, g.edge, now.first, now.count, b * nr, t.y_at)
        if g.weights.packed != NULL:
            p.u = g.weights.packed + b * g.weights.block
        elif now.c:
            p.u_point = point_stride(g.slab * nr)
            transform_weights(&g.weights, b, now.c0, now.c, t.u, p.u_point, t.turned)
        p.fetches = fetch_ahead(g, task, now, next, b, begin, end, &t, fetch)
        kernels().multiply(&p)
        if now.c0 + now.c < g.weights.inner:
            continue
        if g.adjoint:
            spread_tiles(&g.spread, task, now.first, now.count, b * nr, n, p.m, p.m_group, p.m_point, t.nowhere)
        else:
            write_tiles(g, task, now, b * nr, <int>n, t.y_at, &p)


cdef void conv_tiles(const conv_t *g, const fc_task *task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t begin,
                     Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t index = 0
    cdef portion_t now = portion_of(g, first, last, 0), next
    while now.count:
        index += 1
        next = portion_of(g, first, last, index)
        conv_portion(g, task, &now, &next, begin, end)
        now = next


cdef inline Py_ssize_t first_tile(const conv_t *g, Py_ssize_t unit) noexcept nogil:
    """Of a unit of work; overlapping tiles of an image are not shared out."""
    cdef Py_ssize_t tile = g.count * unit // g.units
    return tile - tile % (g.tiles.down * g.tiles.across) if g.adjoint else tile


cdef void run_conv(const void *args, const fc_task *task) noexcept nogil:
    cdef const conv_t *g = <const conv_t *>args
    cdef Py_ssize_t per_image = g.tiles.down * g.tiles.across, blocks = g.weights.blocks, item, unit, share
    if not g.units:
        conv_tiles(g, task, task.begin * per_image, task.end * per_image, 0, blocks)
        return
    for item in range(task.begin, task.end):
        unit, share = item // g.shares, item % g.shares
        conv_tiles(g, task, first_tile(g, unit), first_tile(g, unit + 1), blocks * share // g.shares,
                   blocks * (share + 1) // g.shares)


def units_of_work(tiles, block, channels):
    """(units of about `block` tiles, shares of the output channels) to cut a pass into: a few are a power of two,
    which threads share evenly."""
    units = 1
    while units < 2 * FEW_UNITS and 4 * tiles > 5 * block * units:
        units *= 2
    units = max(units, -(-4 * tiles // (5 * block)))
    shares = max(1, min(channels // SHARE_CHANNELS, FEW_UNITS // units))
    return units, 1 << (shares.bit_length() - 1)


cdef Py_ssize_t set_blocks(conv_t *g, Py_ssize_t images, bint by_blocks):
    """How work is cut; the number of items."""
    cdef Py_ssize_t vlen = table().vlen, nr = table().nr, inner = g.weights.inner
    packed = g.weights.packed != NULL
    g.count = images * g.tiles.down * g.tiles.across
    g.slab = inner if packed else min(inner, <Py_ssize_t>SLAB)
    g.slabs = ceil_div(inner, g.slab) if inner else 1
    if packed:
        g.block = tiles_per_block(g.weights.points, ceil_div(inner, vlen) * vlen + nr, BLOCK_BYTES, table().mr)
    else:
        g.block = tiles_per_block(g.weights.points, g.slab + min(g.weights.outputs, <Py_ssize_t>SHARE_CHANNELS),
                                  UNPACKED_BLOCK_BYTES, table().mr)
    g.units = g.shares = 0
    if not by_blocks:
        return images
    if packed:  # small, so that even a few tiles are worth a thread
        g.block = min(g.block, max(8, g.count // 4))
    g.units, g.shares = units_of_work(g.count, g.block, g.weights.outputs)
    g.block = max(g.block, ceil_div(g.count, g.units))
    return g.units * g.shares


cdef Py_ssize_t set_scratch(conv_t *g):
    """Sizes of the scratch memory; bytes of all of it."""
    cdef Py_ssize_t vlen = table().vlen, nr = table().nr, points = g.weights.points
    if g.weights.packed == NULL:
        g.u_floats, g.turning_floats = points * point_stride(g.slab * nr), turning_floats(&g.weights)
    g.v_floats = points * point_stride(ceil_div(g.slab, vlen) * g.block * vlen)
    g.m_floats = points * point_stride(g.block * nr)
    g.kept = ceil_div(g.weights.blocks, max(1, g.shares)) if g.slabs > 1 else 1
    floats = g.u_floats + g.turning_floats + g.v_floats + g.kept * g.m_floats + nr
    return 4 * floats + 8 * (2 * g.block + max(<Py_ssize_t>SLAB, nr))


cdef class WinogradConv(Op):
    """y = clamp(conv(x, w) + b) for the tiles of a 3 x 3 convolution of stride 1.

    Items are images or, with `by_blocks`, blocks of tiles and shares of the output channels (when weights are so
    large that a pass over them must serve many tiles). With `pool` = (2, 2) the result is max-pooled over such
    windows, side by side, before it is written; `arg` (n, oh, ow, oc), uint8 or None, receives the taps of the
    maxima, and `pool_relu` clamps them at 0.
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
        if g.tiles.x.c != g.weights.inner or g.y.c != g.weights.outputs or g.tiles.points != g.weights.points \
                or g.tiles.size != g.tiles.reach or shape != (g.y.h, g.y.w) or tiles.images != y.images:
            raise ValueError(f"{name}: tiles, weights and output do not fit together")
        if bias is not None:
            if bias.dtype != np.float32 or bias.size != g.y.c or not bias.flags.c_contiguous:
                raise ValueError(f"{name}: the bias must be {g.y.c} contiguous float32 values")
            g.bias = <const float *><Py_ssize_t>bias.ctypes.data
        if arg is not None:
            if arg.dtype != np.uint8 or arg.size != y.images * g.y.h * g.y.w * g.y.c or not arg.flags.c_contiguous:
                raise ValueError(f"{name}: arg must be contiguous uint8 of the pooled shape")
            g.arg = <unsigned char *><Py_ssize_t>arg.ctypes.data
        g.edge = g.tiles.m // 2 if g.pooled else g.tiles.m
        pixel_offsets(&g.tiles.x, g.tiles.m, g.x_pixels)
        pixel_offsets(&g.y, g.edge, g.y_pixels)
        self.items, self.scratch = set_blocks(g, tiles.images, by_blocks), set_scratch(g)
        self.run, self.args = <fc_run>run_conv, g
        self.name, self.keep = name, (tiles, weights, y, bias, arg)


cdef class WinogradAdjoint(Op):
    """dx = B (D U')_p B', tile by tile, D = A dy A': for few tiles of dy, where those of dx would be more.

    `dy` are tiles of m x m pixels, `dx` the tiles of m + 2 that a convolution's forward pass would read; `weights` are
    transposed. Items are images or, with `by_blocks`, blocks of them and shares of the channels of dx.
    """

    cdef conv_t c

    def __init__(self, Tiles dy, WinogradWeights weights, Tiles dx, bint by_blocks=False, name="winograd adjoint"):
        cdef conv_t *g = &self.c
        g.adjoint, g.tiles, g.spread, g.weights, g.y = True, dy.c, dx.c, weights.c, dx.c.x
        if g.tiles.x.c != g.weights.inner or g.y.c != g.weights.outputs or g.tiles.points != g.weights.points \
                or (g.tiles.size, g.spread.size) != (g.tiles.m, g.tiles.m + 2) or dy.images != dx.images \
                or (g.spread.points, g.spread.down, g.spread.across) != (g.tiles.points, g.tiles.down, g.tiles.across):
            raise ValueError(f"{name}: tiles and weights do not fit together")
        g.edge = g.tiles.m
        pixel_offsets(&g.tiles.x, g.tiles.edge, g.x_pixels)
        new_pixel_offsets(&g.spread, g.y_pixels)
        self.items, self.scratch = set_blocks(g, dy.images, by_blocks), set_scratch(g)
        self.run, self.args = <fc_run>run_conv, g
        self.name, self.keep = name, (dy, weights, dx)
