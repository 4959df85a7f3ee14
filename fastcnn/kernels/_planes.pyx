"""The forward convolution of few channels, plane by plane, at stride 1.

The tiles of `csrc/tile.h` spread output channels over the lanes of a vector; with few of them most lanes are idle.
Here the lanes are neighbouring pixels: a band of the image is copied into one plane per input channel, with its
border of zeros, and every vector of such a plane serves all output channels,

    z[strip][o] = sum over i, t, a of plane[a][row + i, col + t .. col + t + vlen - 1] * w[i, t, a, o]

The weights are used as they lie in the array. The planes of the result become pixels again together with bias and
clamp, or with bias and 2 x 2 max-pooling.
"""

import numpy as np

from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_run, fc_task, fc_tensor
from fastcnn.kernels._panels cimport table_address

from fastcnn.kernels._check import address
from fastcnn.kernels._panels import check_span, grid_offsets

cdef extern from "fc_kernels.h":
    ctypedef struct fc_plane_strips:
        const float *x
        const int *xoff
        const int *koff
        Py_ssize_t depth
        const float *w
        float *z
        Py_ssize_t m
        int n

    ctypedef struct fc_plane_kernels:
        void (*strips)(const fc_plane_strips *t) noexcept nogil
        void (*split)(const float *src, Py_ssize_t pixels, Py_ssize_t c, float *dst, Py_ssize_t plane) noexcept nogil
        void (*join)(const float *z, int n, int pixels, const float *bias, float lo, float hi,
                     float *y) noexcept nogil
        void (*pool)(const float *z, Py_ssize_t row, int n, int pixels, const float *bias, int relu, float *y,
                     unsigned char *arg) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_plane_kernels planes

# Sums that wait to become pixels should stay in the first-level cache.
BAND_BYTES = 16 << 10

cdef struct planes_t:
    fc_tensor x, y
    const float *w
    const float *bias
    float lo, hi
    Py_ssize_t n, bands            # items are bands of rows, `bands` to an image
    Py_ssize_t kh, kw, top, left
    Py_ssize_t rows, cols          # of the result before pooling
    Py_ssize_t band, unit          # rows computed together; rows that are pooled together
    Py_ssize_t strips              # to a row
    Py_ssize_t pitch, plane        # floats between rows of a plane, between planes
    const int *xoff                # of the strips of a band
    const int *koff
    int pooled, relu
    unsigned char *arg             # (n, oh, ow, oc) taps of the maxima, or NULL
    Py_ssize_t sums                # floats of scratch before them


cdef inline const fc_plane_kernels *kernels() noexcept nogil:
    return &(<const kernel_table *>table()).planes


cdef void load_row(const planes_t *g, const float *x, float *dst) noexcept nogil:
    """One row of the image, or NULL for zeros, into all planes, with its border."""
    cdef Py_ssize_t a, c = g.x.c, stop = max(<Py_ssize_t>0, min(g.pitch, g.x.w + g.left)), lead = min(g.left, stop)
    if x == NULL:
        lead = stop = 0
    for a in range(c):
        memset(dst + a * g.plane, 0, lead * sizeof(float))
        memset(dst + a * g.plane + stop, 0, (g.pitch - stop) * sizeof(float))
    if stop > lead:
        x += (lead - g.left) * c
        if c == 1:
            memcpy(dst + lead, x, (stop - lead) * sizeof(float))
        else:
            kernels().split(x, stop - lead, c, dst + lead, g.plane)


cdef void load_planes(const planes_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                      float *dst) noexcept nogil:
    """What rows [row, row + rows) of the result of image n read."""
    cdef Py_ssize_t i, r
    cdef const float *x = fc_image(&g.x, task, n)
    for i in range(rows - 1 + g.kh):
        r = row - g.top + i
        load_row(g, x + r * g.x.row if 0 <= r < g.x.h else NULL, dst + i * g.pitch)


cdef void join_row(const planes_t *g, const float *z, float *y) noexcept nogil:
    """One row of y from its sums."""
    cdef Py_ssize_t s, c = g.y.c, vlen = table().vlen
    for s in range(g.strips):
        kernels().join(z + s * c * vlen, <int>c, <int>min(vlen, g.cols - s * vlen), g.bias, g.lo, g.hi,
                       y + s * vlen * c)


cdef void pool_rows(const planes_t *g, const float *z, float *y, unsigned char *arg) noexcept nogil:
    """One row of y from the sums of two rows; a vector of it takes two strips of each."""
    cdef Py_ssize_t s = 0, first, c = g.y.c, vlen = table().vlen
    while s < g.strips:
        first = s // 2 * vlen
        kernels().pool(z + s * c * vlen, g.strips * c * vlen, <int>c, <int>min(vlen, g.y.w - first), g.bias, g.relu,
                       y + first * c, arg + first * c if arg != NULL else NULL)
        s += 2


cdef void finish_band(const planes_t *g, const fc_task *task, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows,
                      const float *z) noexcept nogil:
    cdef Py_ssize_t r, o, pitch = g.strips * g.y.c * table().vlen
    cdef float *y = fc_image(&g.y, task, n)
    if not g.pooled:
        for r in range(rows):
            join_row(g, z + r * pitch, y + (row + r) * g.y.row)
        return
    for r in range(0, rows, 2):
        o = (row + r) // 2
        pool_rows(g, z + r * pitch, y + o * g.y.row,
                  g.arg + (n * g.y.h + o) * g.y.w * g.y.c if g.arg != NULL else NULL)


cdef void run_planes(const void *args, const fc_task *task) noexcept nogil:
    cdef const planes_t *g = <const planes_t *>args
    cdef Py_ssize_t item, n, row, stop, rows, units = g.rows // g.unit
    cdef float *scratch = <float *>task.scratch
    cdef fc_plane_strips t
    t.x, t.xoff, t.koff, t.depth = scratch, g.xoff, g.koff, g.kh * g.kw * g.x.c
    t.w, t.z, t.n = g.w, scratch + g.sums, <int>g.y.c
    for item in range(task.begin, task.end):
        n = item // g.bands
        row = units * (item % g.bands) // g.bands * g.unit
        stop = units * (item % g.bands + 1) // g.bands * g.unit
        while row < stop:
            rows = min(g.band, stop - row)
            load_planes(g, task, n, row, rows, scratch)
            t.m = rows * g.strips
            kernels().strips(&t)
            finish_band(g, task, n, row, rows, t.z)
            row += rows


cdef class PlaneConv(Op):
    """y = clamp(conv(x, w) + bias), `origin` = (top, left) zeros before x; y of at most vlen / 2 channels.

    Items are images, or with `bands` > 1 bands of rows. With `pooled` the result is max-pooled over 2 x 2 windows, side
    by side, before it is written; `arg` (n, oh, ow, oc), uint8 or None, receives the taps of the maxima, and
    `pool_relu` clamps them at 0.
    """

    cdef planes_t c
    cdef readonly str algorithm

    def __init__(self, Tensor x, w, Tensor y, bias=None, origin=(0, 0), clamp=(-INFINITY, INFINITY),
                 Py_ssize_t bands=1, bint pooled=False, arg=None, bint pool_relu=False, name="plane convolution"):
        cdef planes_t *g = &self.c
        g.x, g.y, g.n, g.bands = x.c, y.c, y.images, bands
        g.kh, g.kw, ic, oc = w.shape
        if (ic, oc, x.images) != (g.x.c, g.y.c, g.n) or oc > table().vlen // 2:
            raise ValueError(f"{name}: input, weights and output do not fit together")
        g.w = <const float *><Py_ssize_t>address(f"{name}: weights", w, np.float32, w.size)
        if bias is not None:
            g.bias = <const float *><Py_ssize_t>address(f"{name}: bias", bias, np.float32, oc)
        (g.top, g.left), (g.lo, g.hi) = origin, clamp
        g.pooled, g.relu, g.unit = pooled, pool_relu, 2 if pooled else 1
        g.rows, g.cols = g.unit * g.y.h, g.unit * g.y.w
        if arg is not None:
            size = g.n * g.y.h * g.y.w * oc
            g.arg = <unsigned char *><Py_ssize_t>address(f"{name}: arg", arg, np.uint8, size, True)
        tables = self.set_sizes()
        self.run, self.args, self.items = <fc_run>run_planes, g, g.n * bands
        self.algorithm, self.name, self.keep = "direct", name, (x, w, y, bias, arg, tables)

    cdef set_sizes(self):
        """Bands, where things lie in scratch, and the offsets of strips and of the depth."""
        cdef planes_t *g = &self.c
        cdef Py_ssize_t vlen = table().vlen
        g.strips = (g.cols + vlen - 1) // vlen
        g.pitch = g.cols + g.kw - 1
        fit = BAND_BYTES // (4 * g.unit * max(1, g.strips * g.y.c * vlen))
        g.band = min(g.rows, g.unit * max(1, int(fit)))
        g.plane = (g.band - 1 + g.kh) * g.pitch
        # The last strip of the last row reads beyond it.
        g.sums = (g.x.c * g.plane + vlen + 15) // 16 * 16
        self.scratch = 4 * (g.sums + g.band * g.strips * g.y.c * vlen)
        check_span(self.scratch // 4)
        xoff = grid_offsets(1, g.band, g.strips, 0, g.pitch, vlen)
        i, t, a = np.indices((g.kh, g.kw, g.x.c))
        koff = (i * g.pitch + t + a * g.plane).ravel().astype(np.int32)
        g.xoff, g.koff = table_address(xoff), table_address(koff)
        return xoff, koff
