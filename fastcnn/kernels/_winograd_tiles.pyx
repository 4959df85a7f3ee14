"""Tiles of m x m outputs for Winograd's convolution of 3 x 3 kernels at stride 1, m = 2 or 4.

    Tiles               how the outputs of a pass are cut, and the tensor that the tiles read

The mathematics, and how transformed tiles lie in memory, are in csrc/winograd_lines.h and csrc/fc_winograd.h.
"""

import numpy as np

from libc.string cimport memset

from fastcnn.kernels._op cimport fc_image

# A block of tiles is at most so large: by then a pass over the weights serves enough of them.
MIN_TILES, MAX_TILES = 28, 112


def tiles_per_block(points, channels, memory, unit=1):
    """How many tiles of so many transformed channels fit `memory` bytes, in whole units."""
    tiles = min(MAX_TILES, memory // (4 * points * max(1, channels))) // unit * unit
    return max(tiles, -(-MIN_TILES // unit) * unit)


def line_of(m, whole):
    """Points of a line of a transformed tile of m x m outputs."""
    return 3 if whole else m + 2


def points_of(m, whole):
    """Of a transformed tile of m x m outputs."""
    return line_of(m, whole) ** 2


def points_along(length, m):
    """Of all tiles along a line of outputs; with m = 4, the last one has no more than it needs."""
    tiles = -(-length // m)
    return 2 * tiles + (length if m == 4 else m * tiles)


cdef class Tiles:
    """Tiles of m x m of `grid` = (rows, cols) outputs per image, and the tensor they read.

    x : what is read: `size` x `size` pixels per tile (m + 2, or m for a gradient's own tiles), the first tile's from
    `origin` = (-top, -left) on; pixels outside x are zeros.
    arg : uint8 (n, h, w, c) or None. With it x is the gradient after a max-pooling over 2 x 2 windows side by side, and
    arg holds the taps of the maxima: tiles of `size` = m are those of the gradient before it.
    whole : images are of 2 x 2 pixels, and a tile is one of them; the zeros around it are not read.

    At the edge of the map tiles of 4 may be narrow: they have fewer points. In a block, tiles are ordered so that those
    that have a point are neighbours: first tiles with fewer points in a line, then whole ones, then those with fewer
    lines, last those with both.
    """

    def __init__(self, Tensor x, grid, Py_ssize_t m, Py_ssize_t size, origin=(0, 0), arg=None,
                 bint whole=False):
        cdef tiles_t *s = &self.c
        if m not in (2, 4) or size not in (m, m + 2):
            raise ValueError(f"Winograd: no transform for tiles of {m} outputs from {size} inputs")
        if whole and (m, size, grid, origin) != (2, 2, (2, 2), (0, 0)):
            raise ValueError(f"Winograd: whole maps are of 2 x 2 pixels, got tiles of {size} x {size} for {grid}")
        s.x, s.m, s.size, s.edge = x.c, m, size, m
        s.points, s.line, s.reach = points_of(m, whole), line_of(m, whole), m if whole else m + 2
        if arg is not None:
            if size != m or arg.dtype != np.uint8 or arg.size != x.images * x.c.h * x.c.w * x.c.c \
                    or not arg.flags.c_contiguous:
                raise ValueError("Winograd: arg must be contiguous uint8 of the pooled gradient's shape, and the tiles "
                                 "those of a gradient")
            s.arg, s.edge = <const unsigned char *><Py_ssize_t>arg.ctypes.data, m // 2
        s.rows, s.cols = grid
        s.top, s.left = origin
        s.down, s.across = ceil_div(s.rows, m), ceil_div(s.cols, m)
        s.low_points, s.slim_points = s.line, s.line
        if m == 4:
            s.low_points, s.slim_points = <int>(s.rows - 4 * s.down + 6), <int>(s.cols - 4 * s.across + 6)
        s.low = s.down - 1 if s.low_points < s.line else -1
        s.slim = s.across - 1 if s.slim_points < s.line else -1
        zeros = np.zeros(s.x.c + 1, np.float32)
        s.zeros = <const float *><Py_ssize_t>zeros.ctypes.data
        self.images, self.keep = x.images, (x, arg, zeros)


cdef void count_kinds(const tiles_t *s, Py_ssize_t tiles, Py_ssize_t *kinds) noexcept nogil:
    """How many of the first so many tiles are of each kind."""
    cdef Py_ssize_t per_image = s.down * s.across, images = tiles // per_image, low = 0, slim = 0, both = 0
    if s.low >= 0:
        low = images * s.across + max(<Py_ssize_t>0, tiles - images * per_image - s.low * s.across)
    if s.slim >= 0:
        slim = tiles // s.across
    if s.low >= 0 and s.slim >= 0:
        both = images
    kinds[0], kinds[1], kinds[2], kinds[3] = tiles - low - slim + both, slim - both, low - both, both


cdef void find_seats(const tiles_t *s, Py_ssize_t first, Py_ssize_t count, Py_ssize_t *seats) noexcept nogil:
    """Where the tiles of each kind begin in the block of tiles [first, first + count)."""
    cdef Py_ssize_t before[4]
    cdef Py_ssize_t after[4]
    count_kinds(s, first, before)
    count_kinds(s, first + count, after)
    seats[1], seats[0] = 0, after[1] - before[1]
    seats[2] = seats[0] + after[0] - before[0]
    seats[3] = seats[2] + after[2] - before[2]


cdef void find_ranges(const tiles_t *s, Py_ssize_t first, Py_ssize_t count, fc_winograd_range *ranges) noexcept nogil:
    """The tiles of a block that have each point."""
    cdef Py_ssize_t i, j, last
    cdef Py_ssize_t seats[4]
    find_seats(s, first, count, seats)
    for i in range(s.line):
        for j in range(s.line):
            last = count
            if i >= s.low_points:
                last = seats[2]
            elif j >= s.slim_points:
                last = seats[3]
            ranges.first = seats[0] if j >= s.slim_points else 0
            ranges.count = last - ranges.first
            ranges += 1


cdef place_t first_place(const tiles_t *s, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """The place of the first of a block of tiles."""
    cdef place_t at
    at.n, at.row, at.col = first // (s.down * s.across), first // s.across % s.down, first % s.across
    find_seats(s, first, count, at.next)
    take_seat(s, &at)
    return at


cdef void find_pixels(const tiles_t *s, const fc_tensor *t, float *image, Py_ssize_t row, Py_ssize_t col,
                      float *outside, float **at) noexcept nogil:
    """Where the pixels of a tile from (row, col) on are, in an image of t; those that do not exist are `outside`."""
    cdef Py_ssize_t first = max(<Py_ssize_t>0, min(-col, s.size)), last = max(first, min(t.w - col, s.size)), i, j, lead
    cdef float *x
    for i in range(row, row + s.size):
        x = image + i * t.row + col * t.c
        for j in range(s.size):
            at[j] = x
            x += t.c
        lead = s.size if i < 0 or i >= t.h else first
        for j in range(lead):
            at[j] = outside
        for j in range(last, s.size):
            at[j] = outside
        at += s.size


cdef void find_windows(const tiles_t *s, float *image, const unsigned char *taps, Py_ssize_t row, Py_ssize_t col,
                       float **at, const unsigned char **arg) noexcept nogil:
    """Where the gradients and taps of a tile's windows are, from window (row, col) on; outside the image are zeros."""
    cdef Py_ssize_t i, j
    for i in range(row, row + s.edge):
        for j in range(col, col + s.edge):
            at[0], arg[0] = <float *>s.zeros, <const unsigned char *>s.zeros
            if i < s.x.h and j < s.x.w:
                at[0], arg[0] = image + i * s.x.row + j * s.x.c, taps + (i * s.x.w + j) * s.x.c
            at += 1
            arg += 1


cdef void transform_tiles(const tiles_t *s, const fc_task *task, fc_tile_transform transform, Py_ssize_t first,
                          Py_ssize_t count, Py_ssize_t c0, Py_ssize_t c, float *v, Py_ssize_t group,
                          Py_ssize_t point) noexcept nogil:
    """Channels [c0, c0 + c) of tiles [first, first + count); the first of them goes to v."""
    cdef float *pixels[36]
    cdef const unsigned char *taps[4]
    cdef fc_winograd_tile t
    cdef place_t place = first_place(s, first, count)
    cdef Py_ssize_t i, row, col
    cdef float *image
    t.row, t.pixel, t.c = s.x.row, s.x.c, c
    for i in range(count):
        image = fc_image(&s.x, task, place.n) + c0
        row, col = place.row * s.edge - s.top, place.col * s.edge - s.left
        t.x, t.at, t.arg = image + row * s.x.row + col * s.x.c, NULL, NULL
        t.down, t.across = place.down, place.across
        if s.arg != NULL:
            find_windows(s, image, s.arg + place.n * s.x.h * s.x.w * s.x.c + c0, row, col, pixels, taps)
            t.at, t.arg = <const float **>pixels, taps
        elif t.down < s.line or t.across < s.line or row < 0 or col < 0 or row + s.size > s.x.h or col + s.size > s.x.w:
            find_pixels(s, &s.x, image, row, col, <float *>s.zeros, pixels)
            t.at = <const float **>pixels
        transform(&t, v + table().vlen * place.seat, group, point)
        next_place(s, &place)


# ------------------------------------------------------------------------------- the gradient of what the tiles read

cdef void clear_pixels(const fc_tensor *t, float *image, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t c) noexcept nogil:
    """Zeros, in c channels, for all but the first `rows` x `cols` pixels."""
    cdef Py_ssize_t i, j
    for i in range(t.h):
        for j in range(cols if i < rows else 0, t.w):
            memset(image + i * t.row + j * t.c, 0, c * sizeof(float))


cdef void spread_tiles(const tiles_t *s, const fc_task *task, Py_ssize_t first, Py_ssize_t count, Py_ssize_t c0,
                       Py_ssize_t c, const float *v, Py_ssize_t group, Py_ssize_t point, float *nowhere) noexcept nogil:
    """Adds tiles [first, first + count) to channels [c0, c0 + c) of s.x, which overwrite what was there before the
    first tile of an image. Pixels of no tile become zeros; what lies outside of the image is written to `nowhere`."""
    cdef const fc_tensor *dx = &s.x
    cdef float *pixels[36]
    cdef place_t place = first_place(s, first, count)
    cdef Py_ssize_t i, row, col
    cdef fc_winograd_patch t
    cdef float *image
    t.row, t.pixel, t.n = dx.row, dx.c, <int>c
    for i in range(count):
        image = fc_image(dx, task, place.n) + c0
        row, col = place.row * s.m - s.top, place.col * s.m - s.left
        t.x, t.at, t.above, t.beside = image + row * dx.row + col * dx.c, NULL, place.row > 0, place.col > 0
        t.down, t.across = place.down, place.across
        if t.down < s.line or t.across < s.line or row < 0 or col < 0 or row + s.size > dx.h or col + s.size > dx.w:
            find_pixels(s, dx, image, row, col, nowhere, pixels)
            t.at = pixels
        if not (t.above or t.beside):
            clear_pixels(dx, image, (s.down - 1) * s.m + s.low_points - s.top,
                         (s.across - 1) * s.m + s.slim_points - s.left, c)
        transforms(s.points).spread(v + table().vlen * place.seat, group, point, &t)
        next_place(s, &place)


# ------------------------------------------------------------------------- where tiles are, to be fetched or written

cdef void find_corners(const tiles_t *s, const fc_task *task, const fc_tensor *t, Py_ssize_t edge, Py_ssize_t first,
                       Py_ssize_t count, Py_ssize_t c0, float **at) noexcept nogil:
    """Where the edge x edge pixels of each tile begin in a tensor that is cut like the outputs, from channel c0 on."""
    cdef place_t place = first_place(s, first, count)
    cdef Py_ssize_t i
    for i in range(count):
        at[i] = fc_image(t, task, place.n) + place.row * edge * t.row + place.col * edge * t.c + c0
        next_place(s, &place)


cdef void pixel_offsets(const fc_tensor *t, Py_ssize_t edge, Py_ssize_t *offset) noexcept nogil:
    """Of the pixels of a tile from its corner."""
    cdef Py_ssize_t i
    for i in range(edge * edge):
        offset[i] = i // edge * t.row + i % edge * t.c


cdef void new_pixel_offsets(const tiles_t *s, Py_ssize_t *offset) noexcept nogil:
    """Of the pixels that a tile of overlapping ones is the first to write: all but its first two rows and columns."""
    cdef Py_ssize_t i
    pixel_offsets(&s.x, s.m, offset)
    for i in range(s.m * s.m):
        offset[i] += (2 - s.top) * s.x.row + (2 - s.left) * s.x.c


cdef int fetch_tiles(fc_winograd_fetch *f, float **at, Py_ssize_t count, const Py_ssize_t *offset, Py_ssize_t offsets,
                     Py_ssize_t c, Py_ssize_t share, Py_ssize_t shares) noexcept nogil:
    """Makes f fetch a share of the c channels of tiles with these corners and pixels; the number of fetches, 0 or 1."""
    cdef Py_ssize_t lines = ceil_div(c, 16), first = lines * share // shares
    f.at, f.count, f.offset, f.offsets = <const float *const *>at, count, offset, offsets
    f.skip, f.lines = 16 * first, lines * (share + 1) // shares - first
    return count > 0 and f.lines > 0
