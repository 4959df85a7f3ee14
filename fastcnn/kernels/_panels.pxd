from fastcnn.kernels._op cimport fc_task, fc_tensor


cdef struct panel_t:
    int mode
    fc_tensor x
    Py_ssize_t rows, cols          # output pixels of the pass, per image
    Py_ssize_t sh, sw, top, left   # output (0, 0) starts at input (-top, -left); neighbours are sh, sw apart
    Py_ssize_t images, band        # a full panel: `band` rows of `images` images (band == rows if images > 1)
    Py_ssize_t width               # channels per pixel in scratch; the slice that A covers
    Py_ssize_t slices, slice       # slices that are loaded together at most, and floats from one to the next
    Py_ssize_t extent              # input rows that one output row reaches
    Py_ssize_t ph, pw              # PADDED: rows of a full band and columns, per image, in scratch
    Py_ssize_t taps, depth
    Py_ssize_t run                 # so many consecutive k lie side by side in memory
    const int *tap_row
    const int *tap_col
    const int *xoff
    const int *koff


cdef class Panel:
    cdef panel_t c
    cdef readonly Py_ssize_t scratch
    cdef object keep
    cdef int choose_mode(self, algorithm, bint copied)
    cdef choose_size(self, Py_ssize_t images, Py_ssize_t unit, Py_ssize_t max_pixels, Py_ssize_t slices)
    cdef build_tables(self, taps)


cdef const float *load_panel(const panel_t *p, const fc_task *task, Py_ssize_t n, Py_ssize_t images, Py_ssize_t row,
                             Py_ssize_t band, Py_ssize_t c0, Py_ssize_t c, float *scratch) noexcept nogil

cdef int *table_address(offsets)
