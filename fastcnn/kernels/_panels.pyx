"""Panels: the sets of output pixels that convolutions compute at a time, and where their input lies.

All passes read one matrix, the patch matrix A of the convolution, which is never built:

    A[p][k] = x[xoff[p] + koff[k]]      p: output pixel of a panel, k = (tap, channel) of its receptive field

A *panel* is small enough for the cache: some rows of one image, or some whole images. Its input is read where it lies
(it needs no padding, or the tensor has a halo of zeros), or is first copied into scratch, either with its border of
zeros (`PADDED`, direct convolution) or patch by patch (`IM2COL`).
"""

from math import gcd

import numpy as np

from libc.string cimport memcpy, memset

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Tensor, fc_image

IN_PLACE, PADDED, IM2COL = range(3)
cdef int _IN_PLACE = IN_PLACE, _PADDED = PADDED, _IM2COL = IM2COL

# A panel's input should stay in a core's L2 beside a block of weights; im2col's patches likewise.
PANEL_BYTES = 512 << 10
PANEL_PIXELS = 2048


cdef inline void copy_pixels(const panel_t *p, const float *x, Py_ssize_t row, Py_ssize_t col, Py_ssize_t count,
                             Py_ssize_t c, float *dst) noexcept nogil:
    """`count` pixels of input row `row` from column `col` on, `c` channels each, zeros outside the image."""
    cdef Py_ssize_t lead = min(max(-col, <Py_ssize_t>0), count), stop = max(min(count, p.x.w - col), lead), i
    if c == 0:
        return
    if row < 0 or row >= p.x.h:
        lead, stop = 0, 0
    for i in range((c + p.width - 1) // p.width):
        memset(dst + i * p.slice, 0, lead * p.width * sizeof(float))
        memset(dst + i * p.slice + stop * p.width, 0, (count - stop) * p.width * sizeof(float))
    x += row * p.x.row + col * p.x.c
    if c == p.width and c == p.x.c:
        memcpy(dst + lead * c, x + lead * c, (stop - lead) * c * sizeof(float))
    else:
        table().copy_rows(x + lead * p.x.c, p.x.c, stop - lead, c, dst + lead * p.width, p.width, p.width, p.slice)


cdef const float *load_panel(const panel_t *p, const fc_task *task, Py_ssize_t n, Py_ssize_t images, Py_ssize_t row,
                             Py_ssize_t band, Py_ssize_t c0, Py_ssize_t c, float *scratch) noexcept nogil:
    """Where A of output rows [row, row + band) of `images` images from n on starts; channels [c0, c0 + c), which may be
    several slices."""
    cdef Py_ssize_t i, r, q, t
    cdef const float *x
    cdef float *dst = scratch
    if p.mode == _IN_PLACE:
        return fc_image(&p.x, task, n) + (row * p.sh - p.top) * p.x.row - p.left * p.x.c + c0
    for i in range(images):
        x = fc_image(&p.x, task, n + i) + c0
        if p.mode == _PADDED:
            dst = scratch + i * p.ph * p.pw * p.width
            for r in range((band - 1) * p.sh + p.extent):
                copy_pixels(p, x, row * p.sh - p.top + r, -p.left, p.pw, c, dst + r * p.pw * p.width)
        else:
            for r in range(row, row + band):
                for q in range(p.cols):
                    for t in range(p.taps):
                        copy_pixels(p, x, r * p.sh - p.top + p.tap_row[t], q * p.sw - p.left + p.tap_col[t], 1, c, dst)
                        dst += p.width
    return scratch


cdef class Panel:
    """How a pass cuts its output pixels into panels, and the offset tables that read A there.

    x : the tensor read; `grid` = (rows, cols) output pixels; `strides` input pixels between them;
    `origin` = (top, left); `taps` = [(row, column), ...] input pixels from the origin, in the order of k;
    `width` channels are covered at a time (a group, or a slice of the channels). Bands are whole multiples of
    `unit` rows. `copied` asks for a copy even where x could be read in place: the pixels of a slice then lie side by
    side and spread over the whole cache. Up to `slices` of them are copied together, for memory likes whole pixels.
    """

    def __init__(self, Tensor x, grid, strides, origin, taps, Py_ssize_t width, str algorithm="direct",
                 Py_ssize_t unit=1, Py_ssize_t max_pixels=PANEL_PIXELS, bint copied=False,
                 Py_ssize_t slices=1):
        cdef panel_t *p = &self.c
        p.x = x.c
        p.rows, p.cols = grid
        p.sh, p.sw = strides
        p.top, p.left = origin
        p.width, p.taps = width, len(taps)
        p.extent = 1 + max((row for row, _ in taps), default=0)
        p.depth = p.taps * width
        p.pw = (p.cols - 1) * p.sw + 1 + max((col for _, col in taps), default=0)
        p.mode = self.choose_mode(algorithm, copied)
        self.choose_size(x.images, unit, max_pixels, slices)
        p.ph = (p.band - 1) * p.sh + p.extent
        self.keep = x, self.build_tables(taps)

    cdef int choose_mode(self, algorithm, bint copied):
        """Read in place whenever the zeros that the taps reach are there.

        Taps so far apart that even one padded band is larger than its patches, and than a panel, leave im2col.
        """
        cdef panel_t *p = &self.c
        if algorithm == "im2col":
            return _IM2COL
        if (not copied and p.top <= p.x.top and p.left <= p.x.left and (p.rows - 1) * p.sh - p.top + p.extent
                <= p.x.h + p.x.bottom and p.pw - p.left <= p.x.w + p.x.right):
            return _IN_PLACE
        padded = 4 * int(p.extent) * int(p.pw) * int(p.width)
        return _IM2COL if padded > max(PANEL_BYTES, 4 * p.cols * p.depth) else _PADDED

    cdef choose_size(self, Py_ssize_t images, Py_ssize_t unit, Py_ssize_t max_pixels, Py_ssize_t slices):
        cdef panel_t *p = &self.c
        row_bytes = 4 * (p.cols * p.depth if p.mode == _IM2COL else p.pw * p.width)
        step, extent = (1, 1) if p.mode == _IM2COL else (int(p.sh), int(p.extent))
        fit = max_pixels // max(1, p.rows * p.cols)
        if p.mode != _IN_PLACE or p.rows * p.cols > 1:  # samples of a dense layer pass by, a slice at a time
            fit = min(fit, PANEL_BYTES // max(1, ((p.rows - 1) * step + extent) * row_bytes))
        units = min(PANEL_BYTES // max(1, unit * step * row_bytes), max_pixels // max(1, unit * p.cols))
        p.images = max(1, min(fit, images))
        p.band = p.rows if fit else min(p.rows, unit * max(1, units))
        p.slices, p.slice = slices, p.width
        if p.mode != _IN_PLACE:
            size = p.images * ((p.band - 1) * step + extent) * row_bytes
            p.slices, p.slice = max(1, min(slices, PANEL_BYTES // max(1, size))), size // 4
            self.scratch = p.slices * size

    cdef build_tables(self, taps):
        cdef panel_t *p = &self.c
        cdef Py_ssize_t pitch = p.x.c, row_pitch = p.x.row, image_pitch = p.x.image, start, t, c
        if p.mode == _PADDED:
            pitch, row_pitch, image_pitch = p.width, p.pw * p.width, p.ph * p.pw * p.width
        if p.mode == _IM2COL:
            xoff = self.pixel_offsets(p.rows * p.cols * p.depth, p.cols * p.depth, p.depth)
        else:
            xoff = self.pixel_offsets(image_pitch, p.sh * row_pitch, p.sw * pitch)
            check_span((int(p.extent) - 1) * row_pitch + int(p.pw) * pitch)
        tables = np.empty(2 * p.taps + p.depth, np.int32)
        cdef int *row = table_address(tables)
        cdef int *col = row + p.taps
        cdef int *koff = col + p.taps
        for t in range(p.taps):
            row[t], col[t] = taps[t]
            start = t * p.width if p.mode == _IM2COL else row[t] * row_pitch + col[t] * pitch
            for c in range(p.width):
                koff[t * p.width + c] = <int>(start + c)
        p.run = max(<Py_ssize_t>1, p.depth)
        for c in range(1, p.depth):
            if koff[c] != koff[c - 1] + 1:
                p.run = gcd(p.run, c)
        p.xoff, p.tap_row, p.tap_col, p.koff = table_address(xoff), row, col, koff
        return xoff, tables

    def pixel_offsets(self, image, row, col):
        """int32 offsets of a full panel's pixels in a tensor with these pitches (floats)."""
        return grid_offsets(self.c.images, self.c.band, self.c.cols, image, row, col)

    def window_offsets(self):
        """int32 offsets of a full panel's pixels in x, those of a 2 x 2 window one after the other."""
        cdef panel_t *p = &self.c
        _, (pixels, _) = self.keep
        return pixels.reshape(p.images, p.band // 2, 2, p.cols // 2, 2).swapaxes(2, 3).ravel()

    @property
    def mode(self):
        return ("in place", "padded", "im2col")[self.c.mode]


def algorithm_of(Panel panel):
    """What users call it: 'im2col' where patches are written to memory, else 'direct'."""
    return "im2col" if panel.c.mode == _IM2COL else "direct"


cdef int *table_address(offsets):
    return <int *><Py_ssize_t>offsets.ctypes.data


def check_span(floats):
    """Offset tables hold int32."""
    if floats >= 2**31:
        raise ValueError("convolution: one image row and its kernel span more than 2**31 floats")


def grid_offsets(Py_ssize_t images, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t image, Py_ssize_t row, Py_ssize_t col):
    """int32 offsets, in order, of pixels that lie `image`, `row` and `col` floats apart."""
    cdef Py_ssize_t n, r, c
    check_span(int(images - 1) * image + int(rows - 1) * row + int(cols - 1) * col)
    offsets = np.empty(images * rows * cols, np.int32)
    cdef int *at = table_address(offsets)
    for n in range(images):
        for r in range(rows):
            for c in range(cols):
                at[0] = <int>(n * image + r * row + c * col)
                at += 1
    return offsets
