from fastcnn.kernels._cpu cimport table
from fastcnn.kernels._op cimport Tensor, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    ctypedef struct fc_winograd_tile:
        const float *x
        Py_ssize_t row, pixel
        const float *const *at
        const unsigned char *const *arg
        Py_ssize_t c
        int down, across

    ctypedef struct fc_winograd_target:
        float *y
        Py_ssize_t row, pixel
        int rows, cols, n
        int down, across
        const float *bias
        float lo, hi
        int relu
        unsigned char *arg
        Py_ssize_t arg_row, arg_pixel

    ctypedef struct fc_winograd_patch:
        float *x
        Py_ssize_t row, pixel
        float *const *at
        int above, beside, n
        int down, across

    ctypedef void (*fc_tile_transform)(const fc_winograd_tile *t, float *v, Py_ssize_t group,
                                       Py_ssize_t point) noexcept nogil
    ctypedef void (*fc_block_transform)(const float *v, Py_ssize_t group, Py_ssize_t point,
                                        const fc_winograd_target *t) noexcept nogil

    ctypedef struct fc_winograd_transforms:
        fc_tile_transform input
        fc_tile_transform gradient
        fc_block_transform output
        fc_block_transform pool
        void (*spread)(const float *v, Py_ssize_t group, Py_ssize_t point, const fc_winograd_patch *t) noexcept nogil
        void (*weights)(const float *w, Py_ssize_t tap, Py_ssize_t row, Py_ssize_t rows, int n, float *u,
                        Py_ssize_t point) noexcept nogil
        void (*inverse)(const float *u, Py_ssize_t point, Py_ssize_t rows, int n, float *dw, Py_ssize_t tap,
                        Py_ssize_t row, int accumulate) noexcept nogil

    ctypedef struct fc_winograd_fetch:
        const float *const *at
        Py_ssize_t count
        const Py_ssize_t *offset
        Py_ssize_t offsets, skip, lines

    ctypedef struct fc_winograd_range:
        Py_ssize_t first, count

    ctypedef struct fc_winograd_product:
        const float *v
        Py_ssize_t v_group, v_point
        float *u
        Py_ssize_t u_point
        float *m
        Py_ssize_t m_group, m_point
        Py_ssize_t points, depth
        const fc_winograd_range *range
        int vectors, accumulate
        const fc_winograd_fetch *fetch
        int fetches

    ctypedef struct fc_winograd_kernels:
        fc_winograd_transforms f2, f4, whole
        void (*multiply)(const fc_winograd_product *g) noexcept nogil
        void (*outer)(const fc_winograd_product *g) noexcept nogil

    ctypedef struct kernel_table "fc_kernels":
        fc_winograd_kernels winograd


cdef inline const fc_winograd_kernels *kernels() noexcept nogil:
    return &(<const kernel_table *>table()).winograd


cdef inline const fc_winograd_transforms *transforms(Py_ssize_t points) noexcept nogil:
    return &kernels().f4 if points == 36 else &kernels().f2 if points == 16 else &kernels().whole


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t point_stride(Py_ssize_t floats) noexcept nogil:
    """At least `floats`, an odd number of cache lines: neighbouring points then lie in different sets of a cache."""
    return 16 * ((floats + 15) // 16 | 1)


# How the outputs of a pass are cut into tiles, and the tensor that the tiles read: `size` x `size` pixels each,
# the first one's from (-top, -left) on. Of a pooled gradient x, a tile reads the windows that its pixels lie in.
cdef struct tiles_t:
    fc_tensor x
    const unsigned char *arg  # (n, h, w, c) like x: the tap of each window that its gradient belongs to; or NULL
    Py_ssize_t m, size
    Py_ssize_t points         # of a transformed tile
    int line                  # points of one of its lines
    Py_ssize_t low, slim      # the row of tiles with fewer lines, and the column of tiles with shorter ones; or -1
    int low_points, slim_points  # of such a column, and line
    Py_ssize_t reach          # the size of a tile that is an input of m x m outputs
    Py_ssize_t edge           # pixels of x from tile to tile
    Py_ssize_t rows, cols     # outputs per image
    Py_ssize_t down, across   # tiles per image
    Py_ssize_t top, left
    const float *zeros        # a pixel outside the image


# A tile of a block. Kinds are 2 * (it lacks lines of points) + (its lines lack points).
cdef struct place_t:
    Py_ssize_t n, row, col    # image, and tile in it
    int down, across          # lines of points, and points of a line
    Py_ssize_t seat           # where the tile lies in its block,
    Py_ssize_t next[4]        # and the next one of each kind


cdef inline void take_seat(const tiles_t *s, place_t *at) noexcept nogil:
    cdef int low = at.row == s.low, slim = at.col == s.slim
    at.down, at.across = s.line, s.line
    if low:
        at.down = s.low_points
    if slim:
        at.across = s.slim_points
    at.seat = at.next[2 * low + slim]
    at.next[2 * low + slim] += 1


cdef inline void next_place(const tiles_t *s, place_t *at) noexcept nogil:
    at.col += 1
    if at.col == s.across:
        at.col = 0
        at.row += 1
        if at.row == s.down:
            at.row = 0
            at.n += 1
    take_seat(s, at)


cdef class Tiles:
    cdef tiles_t c
    cdef readonly Py_ssize_t images
    cdef object keep


cdef place_t first_place(const tiles_t *s, Py_ssize_t first, Py_ssize_t count) noexcept nogil
cdef void find_ranges(const tiles_t *s, Py_ssize_t first, Py_ssize_t count, fc_winograd_range *ranges) noexcept nogil
cdef void transform_tiles(const tiles_t *s, const fc_task *task, fc_tile_transform transform, Py_ssize_t first,
                          Py_ssize_t count, Py_ssize_t c0, Py_ssize_t c, float *v, Py_ssize_t group,
                          Py_ssize_t point) noexcept nogil
cdef void spread_tiles(const tiles_t *s, const fc_task *task, Py_ssize_t first, Py_ssize_t count, Py_ssize_t c0,
                       Py_ssize_t c, const float *v, Py_ssize_t group, Py_ssize_t point, float *nowhere) noexcept nogil
cdef void find_corners(const tiles_t *s, const fc_task *task, const fc_tensor *t, Py_ssize_t edge, Py_ssize_t first,
                       Py_ssize_t count, Py_ssize_t c0, float **at) noexcept nogil
cdef void pixel_offsets(const fc_tensor *t, Py_ssize_t edge, Py_ssize_t *offset) noexcept nogil
cdef void new_pixel_offsets(const tiles_t *s, Py_ssize_t *offset) noexcept nogil
cdef int fetch_tiles(fc_winograd_fetch *f, float **at, Py_ssize_t count, const Py_ssize_t *offset, Py_ssize_t offsets,
                     Py_ssize_t c, Py_ssize_t share, Py_ssize_t shares) noexcept nogil
