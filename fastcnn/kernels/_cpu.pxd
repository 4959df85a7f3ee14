cdef extern from "fc_kernels.h":
    ctypedef struct fc_gather_tile:
        const float *x
        const int *xoff
        const int *koff
        Py_ssize_t depth
        const float *w
        Py_ssize_t ldw
        const float *bias
        float lo, hi
        float *y
        const int *yoff
        int m, n

    ctypedef struct fc_outer_tile:
        const float *x
        const float *dy
        const int *xoff
        const int *yoff
        Py_ssize_t pixels
        const int *koff
        int accumulate
        float *dw
        Py_ssize_t lddw
        int m, n

    ctypedef struct fc_kernels:
        const char *isa
        int vlen, mr, nr
        void (*gather_tile)(const fc_gather_tile *t) noexcept nogil
        void (*outer_tile)(const fc_outer_tile *t) noexcept nogil
        void (*transpose)(const float *src, Py_ssize_t lds, Py_ssize_t rows, Py_ssize_t cols,
                          float *dst, Py_ssize_t ldd) noexcept nogil
        void (*sum_rows)(const float *dy, const int *yoff, Py_ssize_t pixels, Py_ssize_t n, int accumulate,
                         float *db) noexcept nogil

cdef const fc_kernels *table() noexcept nogil
