cdef extern from "fc_kernels.h":
    ctypedef struct fc_gather_tile:
        const float *x
        const int *xoff
        const int *koff
        Py_ssize_t depth, run, lead
        const float *w
        Py_ssize_t ldw
        const float *bias
        float lo, hi
        float *y
        const int *yoff
        int accumulate
        int m, n
        int relu
        unsigned char *arg
        Py_ssize_t arg_step

    ctypedef struct fc_dot_tile:
        const float *x
        const int *xoff
        const int *koff
        Py_ssize_t pixels, taps, inner
        const float *w
        const float *bias
        float lo, hi
        float *y
        const int *yoff
        int n

    ctypedef struct fc_outer_tile:
        const float *x
        const float *dy
        const int *xoff
        const int *yoff
        Py_ssize_t pixels, cols, xstep, ystep
        const int *koff
        int accumulate
        float *dw
        const int *dw_row
        int m, n

    ctypedef struct fc_pool:
        Py_ssize_t h, w, c, oh, ow, kh, kw, sh, sw, pt, pl
        int minimum, relu, arg_bytes, count_padding, overlap

    ctypedef struct fc_pool_kernels:
        void (*max_row)(const fc_pool *p, Py_ssize_t o, const float *x, Py_ssize_t row, float *y,
                        void *arg) noexcept nogil
        void (*max_grad_row)(const fc_pool *p, Py_ssize_t o, const float *dy, const void *arg, float *dx,
                             Py_ssize_t row) noexcept nogil
        void (*avg_row)(const fc_pool *p, Py_ssize_t o, const float *x, Py_ssize_t row, float *y) noexcept nogil
        void (*avg_grad_row)(const fc_pool *p, Py_ssize_t o, const float *dy, float *dx,
                             Py_ssize_t row) noexcept nogil

    ctypedef struct fc_kernels:
        const char *isa
        int vlen, mr, nr
        void (*gather_tile)(const fc_gather_tile *t) noexcept nogil
        void (*gather_windows)(const fc_gather_tile *t) noexcept nogil
        void (*outer_tile)(const fc_outer_tile *t) noexcept nogil
        void (*dot_tile)(const fc_dot_tile *t) noexcept nogil
        void (*transpose)(const float *src, Py_ssize_t lds, Py_ssize_t rows, Py_ssize_t cols,
                          float *dst, Py_ssize_t ldd) noexcept nogil
        void (*copy_rows)(const float *src, Py_ssize_t lds, Py_ssize_t rows, Py_ssize_t n, float *dst,
                          Py_ssize_t ldd, Py_ssize_t width, Py_ssize_t block) noexcept nogil
        void (*sum_rows)(const float *dy, const int *yoff, Py_ssize_t pixels, Py_ssize_t n, int accumulate,
                         float *db) noexcept nogil
        fc_pool_kernels pool

cdef const fc_kernels *table() noexcept nogil
