cdef extern from "fc_kernels.h":
    ctypedef struct fc_gather_tile:
        const float *x
        const int *xoff
        const int *tap
        Py_ssize_t taps, run
        const float *w
        Py_ssize_t ldw
        const float *bias
        float lo, hi
        int accumulate
        float *y
        const int *yoff
        int m, n

    ctypedef struct fc_outer_tile:
        const float *x
        const float *dy
        const int *xoff
        const int *yoff
        Py_ssize_t pixels
        int accumulate
        float *dw
        Py_ssize_t lddw
        int m, n

    ctypedef struct fc_kernels:
        const char *isa
        int vlen, mr, nr
        void (*gather_tile)(const fc_gather_tile *t) noexcept nogil
        void (*outer_tile)(const fc_outer_tile *t) noexcept nogil

cdef const fc_kernels *table() noexcept nogil
