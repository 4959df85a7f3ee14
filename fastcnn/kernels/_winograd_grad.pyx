"""Gradients of Winograd's convolution: dU_p = V_p' D_p with D = A dy A', summed over tiles, and dw = G' dU G.

    WinogradGradients   dw and db; with weights and a place for it, dx too

Run backwards, the convolution's steps give dx = B (D_p U_p')_p B', tile by tile: tiles of dx overlap and are added.
One pass over the gradient's transformed tiles then serves both, while they are in cache.
"""

import numpy as np

from fastcnn.kernels._cpu cimport fc_kernels, table
from fastcnn.kernels._op cimport Op, fc_run, fc_task
from fastcnn.kernels._winograd_tiles cimport (
    Tiles, ceil_div, fc_winograd_fetch, fc_winograd_product, fc_winograd_range, fetch_tiles, find_corners, find_ranges,
    kernels, new_pixel_offsets, pixel_offsets, point_stride, spread_tiles, tiles_t, transform_tiles, transforms)
from fastcnn.kernels._winograd_weights cimport WinogradWeights, weights_t
from fastcnn.kernels._winograd_tiles import tiles_per_block

# A weight gradient's transformed sums stay in L2 with the lines of the gradient they become, and beside them as many
# tiles as this: the sums are loaded and stored once per block of tiles.
SUM_BYTES = 800 << 10
GRAD_BLOCK_BYTES = 512 << 10
# Slices of channels that a weight gradient is cut into for the threads' sake; each slice repeats some transforms.
LEAST_SLICES = 4

cdef struct grad_t:
    tiles_t x, dy
    Py_ssize_t n, m, points, middle, ic, oc  # middle: the point (1, 1)
    Py_ssize_t ic_slice, oc_slice          # channels whose sums fit the cache together
    Py_ssize_t oc_slices, slices
    Py_ssize_t tiles                       # of a block
    Py_ssize_t u_point, u_block            # of the sums: [block of nr output channels][point][ic, whole vectors][nr]
    Py_ssize_t u_floats, v_floats, d_floats
    float *dw                              # [parts][3][3][ic][oc]
    float *db                              # [parts][oc] or NULL
    int wants_dx
    tiles_t dx
    weights_t weights
    const int *lines                       # [tiles] offsets of the vectors of one point
    int by_channels                        # items are slices, each over all images; else images
    Py_ssize_t x_pixels[16]
    Py_ssize_t dy_pixels[16]
    Py_ssize_t dx_pixels[16]
    Py_ssize_t taps[9]                     # offsets of the taps in dw


# Channels [c0, c0 + c) of x and [j0, j0 + j) of dy, and where their gradients go.
cdef struct slice_t:
    Py_ssize_t c0, c, j0, j
    float *dw
    float *db


# Tiles [first, first + count).
cdef struct range_t:
    Py_ssize_t first, count


# The scratch memory of a thread; the sums u come first.
cdef struct memory_t:
    float *u
    float *v
    float *d
    float **x_at       # corners of the next tiles in x and in dy; rows of dw
    float **dy_at
    float **dw_at
    float *nowhere     # a pixel's block of channels that nobody reads


cdef memory_t memory_of(const grad_t *g, const fc_task *task) noexcept nogil:
    cdef memory_t t
    t.u = <float *>task.scratch
    t.v = t.u + g.u_floats
    t.d = t.v + g.v_floats
    t.nowhere = t.d + g.d_floats
    t.x_at = <float **>(t.nowhere + table().nr)
    t.dy_at = t.x_at + g.tiles
    t.dw_at = t.dy_at + g.tiles
    return t


cdef void add_bias_gradient(const grad_t *g, const slice_t *s, const fc_winograd_product *p, const float *d,
                            int accumulate) noexcept nogil:
    """At the point (1, 1) a transformed tile of dy is the sum of its pixels."""
    cdef Py_ssize_t vlen = table().vlen, j = 0
    d += g.middle * p.m_point
    while j < s.j:
        table().sum_rows(d, g.lines, p.range[g.middle].count, min(vlen, s.j - j), accumulate, s.db + s.j0 + j)
        j += vlen
        d += p.m_group


cdef int fetch_ahead(const grad_t *g, const slice_t *s, const fc_task *task, range_t next, Py_ssize_t j,
                     const memory_t *t, fc_winograd_fetch *f) noexcept nogil:
    """What memory is to bring while output channels from j on are multiplied: the next tiles or, if there are none,
    where the gradients will be written; the number of fetches."""
    cdef Py_ssize_t nr = table().nr, share = j // nr, shares = ceil_div(s.j, nr), i
    cdef int n
    if next.count:
        n = fetch_tiles(f, t.x_at, next.count, g.x_pixels, g.m * g.m, s.c, share, shares)
        return n + fetch_tiles(f + n, t.dy_at, next.count, g.dy_pixels, g.dy.edge * g.dy.edge, s.j, share, shares)
    for i in range(s.c):
        t.dw_at[i] = s.dw + (s.c0 + i) * g.oc + s.j0 + j
    return fetch_tiles(f, t.dw_at, s.c, g.taps, 9, min(nr, s.j - j), 0, 1)


cdef void input_gradient(const grad_t *g, const fc_task *task, range_t now, fc_winograd_product p,
                         const memory_t *t) noexcept nogil:
    """A block of tiles' share of dx, from their transformed gradients and all weights; the products take the place of
    the transformed x. Meanwhile memory brings the lines of dx that will be written."""
    cdef Py_ssize_t vlen = table().vlen, nr = table().nr, b, n
    cdef fc_winograd_fetch fetch
    p.v, p.v_group, p.v_point = p.m, p.m_group, p.m_point
    p.m, p.m_group, p.m_point = t.v, now.count * vlen, point_stride(now.count * nr)
    p.u_point, p.depth, p.accumulate, p.fetch = g.weights.point, g.oc, False, &fetch
    for b in range(g.weights.blocks):
        n = min(nr, g.ic - b * nr)
        p.u, p.vectors = g.weights.packed + b * g.weights.block, <int>ceil_div(n, vlen)
        find_corners(&g.dx, task, &g.dx.x, g.m, now.first, now.count, b * nr, t.x_at)
        p.fetches = fetch_tiles(&fetch, t.x_at, now.count, g.dx_pixels, g.m * g.m, n, 0, 1)
        kernels().multiply(&p)
        spread_tiles(&g.dx, task, now.first, now.count, b * nr, n, p.m, p.m_group, p.m_point, t.nowhere)


cdef void add_tiles(const grad_t *g, const slice_t *s, const fc_task *task, range_t now, range_t next,
                    bint accumulate, bint accumulate_bias) noexcept nogil:
    """A block of tiles' share of the sums, which start the scratch memory, and of db."""
    cdef const fc_kernels *k = table()
    cdef memory_t t = memory_of(g, task)
    cdef fc_winograd_fetch fetch[2]
    cdef fc_winograd_range ranges[36]
    cdef fc_winograd_product p
    cdef Py_ssize_t j = 0
    p.v, p.v_group, p.v_point = t.v, now.count * k.vlen, point_stride(ceil_div(s.c, k.vlen) * now.count * k.vlen)
    p.m, p.m_group, p.m_point = t.d, p.v_group, point_stride(ceil_div(s.j, k.vlen) * now.count * k.vlen)
    p.u, p.u_point, p.points, p.range, p.depth = t.u, g.u_point, g.points, ranges, s.c
    find_ranges(&g.x, now.first, now.count, ranges)
    p.accumulate, p.fetch = accumulate, fetch
    transform_tiles(&g.x, task, transforms(g.points).input, now.first, now.count, s.c0, s.c, t.v, p.v_group, p.v_point)
    transform_tiles(&g.dy, task, transforms(g.points).gradient, now.first, now.count, s.j0, s.j, t.d, p.m_group,
                    p.m_point)
    find_corners(&g.x, task, &g.x.x, g.m, next.first, next.count, s.c0, t.x_at)
    find_corners(&g.dy, task, &g.dy.x, g.dy.edge, next.first, next.count, s.j0, t.dy_at)
    while j < s.j:
        p.vectors = <int>ceil_div(min(<Py_ssize_t>k.nr, s.j - j), k.vlen)
        p.fetches = fetch_ahead(g, s, task, next, j, &t, fetch)
        kernels().outer(&p)
        j += k.nr
        p.m += k.nr // k.vlen * p.m_group
        p.u += g.u_block
    p.m = t.d
    if s.db != NULL and s.c0 == 0:
        add_bias_gradient(g, s, &p, t.d, accumulate_bias)
    if g.wants_dx:
        input_gradient(g, task, now, p, &t)


cdef range_t block_of(const grad_t *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t index) noexcept nogil:
    """Blocks of nearly equal size of tiles [first, first + count); none beyond the last."""
    cdef Py_ssize_t blocks = ceil_div(count, g.tiles)
    cdef range_t t
    t.first, t.count = first, 0
    if index < blocks:
        t.first = first + count * index // blocks
        t.count = first + count * (index + 1) // blocks - t.first
    return t


cdef slice_t slice_of(const grad_t *g, Py_ssize_t index, Py_ssize_t part) noexcept nogil:
    cdef slice_t s
    s.c0, s.j0 = index // g.oc_slices * g.ic_slice, index % g.oc_slices * g.oc_slice
    s.c, s.j = min(g.ic_slice, g.ic - s.c0), min(g.oc_slice, g.oc - s.j0)
    s.dw, s.db = g.dw + part * 9 * g.ic * g.oc, NULL
    if g.db != NULL:
        s.db = g.db + part * g.oc
    return s


cdef void grad_slice(const grad_t *g, slice_t s, const fc_task *task, Py_ssize_t first, Py_ssize_t count,
                     bint accumulate) noexcept nogil:
    """One slice of dw and db over some tiles."""
    cdef Py_ssize_t nr = table().nr, index = 0, j = 0
    cdef range_t now = block_of(g, first, count, 0), next
    while now.count:
        next = block_of(g, first, count, index + 1)
        add_tiles(g, &s, task, now, next, index > 0, accumulate or index > 0)
        now = next
        index += 1
    while j < s.j:
        transforms(g.points).inverse(<float *>task.scratch + j // nr * g.u_block, g.u_point, s.c,
                                     <int>min(nr, s.j - j), s.dw + s.c0 * g.oc + s.j0 + j, g.ic * g.oc, g.oc,
                                     accumulate)
        j += nr


cdef void run_grad(const void *args, const fc_task *task) noexcept nogil:
    cdef const grad_t *g = <const grad_t *>args
    cdef Py_ssize_t per_image = g.x.down * g.x.across, i
    if g.by_channels:
        for i in range(task.begin, task.end):
            grad_slice(g, slice_of(g, i, 0), task, 0, g.n * per_image, False)
        return
    for i in range(g.slices):
        grad_slice(g, slice_of(g, i, task.part), task, task.begin * per_image, (task.end - task.begin) * per_image,
                   not task.first)


def gradient_slices(points, ic, oc, least):
    """(ic, oc) of slices of a weight gradient that fits the cache with its transformed sums, `least` of them or more:
    halves of halves of nearly equal size, in whole vectors of ic and whole blocks of oc."""
    vlen, nr, parts = table().vlen, table().nr, [1, 1]
    while True:
        ic_slice, oc_slice = (-(-size // (n * unit)) * unit for size, n, unit in zip((ic, oc), parts, (vlen, nr)))
        fit = 4 * (points + 9) * ic_slice * oc_slice <= SUM_BYTES and parts[0] * parts[1] >= least
        if fit or (ic_slice <= vlen and oc_slice <= nr):
            return max(ic_slice, vlen), max(oc_slice, nr)
        parts[oc_slice // nr * vlen >= ic_slice and oc_slice > nr] *= 2


cdef class WinogradGradients(Op):
    """dw and db from the tiles of x and, of equal m, of dy.

    By default items are images, and each group of images overwrites or adds to its own partial sum: `dw` is (parts,
    3, 3, ic, oc) and `db` (parts, oc) or None. With `by_channels` items are slices of channels, each over all images,
    and there is one part: for weights too large to copy.

    With tiles `dx` like those of x, and packed adjoint `weights`, the gradient of x is written too; the sums must then
    fit one slice.
    """

    cdef grad_t c

    def __init__(self, Tiles x, Tiles dy, dw, db=None, bint by_channels=False, Tiles dx=None,
                 WinogradWeights weights=None, name="winograd weight gradient"):
        cdef grad_t *g = &self.c
        parts, kh, kw, ic, oc = dw.shape
        g.x, g.dy, g.n, g.m, g.points, g.ic, g.oc = x.c, dy.c, x.images, x.c.m, x.c.points, ic, oc
        g.middle = 4 if g.points == 9 else g.m + 3
        if (kh, kw) != (3, 3) or g.x.x.c != ic or g.dy.x.c != oc or g.dy.points != g.points or g.dy.size != g.m \
                or g.x.size != g.x.reach or (g.x.down, g.x.across) != (g.dy.down, g.dy.across) \
                or x.images != dy.images or (by_channels and parts > 1):
            raise ValueError(f"{name}: tiles and gradients do not fit together")
        for array, shape in ((dw, dw.shape), (db, (parts, oc))):
            if array is not None and (array.dtype != np.float32 or not array.flags.c_contiguous
                                      or array.shape != shape):
                raise ValueError(f"{name}: expected contiguous float32 {shape}, got {array.dtype} {array.shape}")
        g.dw, g.by_channels = <float *><Py_ssize_t>dw.ctypes.data, by_channels
        if db is not None:
            g.db = <float *><Py_ssize_t>db.ctypes.data
        pixel_offsets(&g.x.x, g.m, g.x_pixels)
        pixel_offsets(&g.dy.x, g.dy.edge, g.dy_pixels)
        for tap in range(9):
            g.taps[tap] = tap * ic * oc
        lines = self.set_sizes()
        if dx is not None:
            self.set_input_gradient(dx, weights)
        self.items = g.slices if by_channels else g.n
        self.run, self.args = <fc_run>run_grad, g
        self.name, self.keep = name, (x, dy, dw, db, dx, weights, lines)

    cdef set_input_gradient(self, Tiles dx, WinogradWeights weights):
        cdef grad_t *g = &self.c
        g.wants_dx, g.dx, g.weights = True, dx.c, weights.c
        if (g.dx.x.h, g.dx.x.w, g.dx.x.c) != (g.x.x.h, g.x.x.w, g.ic) or g.dx.size != g.m + 2 \
                or (g.dx.points, g.dx.down, g.dx.across) != (g.points, g.x.down, g.x.across) \
                or (g.weights.points, g.weights.inner, g.weights.outputs) != (g.points, g.oc, g.ic) \
                or g.weights.packed == NULL or g.slices > 1 or g.by_channels:
            raise ValueError("winograd input gradient: dx, weights and tiles do not fit together")
        new_pixel_offsets(&g.dx, g.dx_pixels)

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
        g.v_floats = g.points * point_stride(max(g.ic_slice, nr) * g.tiles)
        g.d_floats = g.points * point_stride(g.oc_slice * g.tiles)
        self.scratch = 4 * (g.u_floats + g.v_floats + g.d_floats + nr) + 8 * (2 * g.tiles + g.ic_slice)
        lines = np.arange(0, g.tiles * vlen, vlen, np.int32)
        g.lines = <const int *><Py_ssize_t>lines.ctypes.data
        return lines
