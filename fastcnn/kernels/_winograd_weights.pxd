from fastcnn.kernels._cpu cimport fc_kernels, table
from fastcnn.kernels._op cimport Op, fc_fetch, fc_run, fc_task
from fastcnn.kernels._winograd_tiles cimport ceil_div, fc_winograd_fetch, point_stride, transforms

cdef struct weights_t:
    const float *w                 # the user's array (3, 3, ic, oc)
    float *packed                  # [block][point][inner][nr], or NULL: transformed where they are used
    int transposed                 # channels exchanged, for an input gradient,
    int turned                     # and turned by 180 degrees, for one that is a convolution itself
    Py_ssize_t points
    Py_ssize_t ic, oc
    Py_ssize_t inner, outputs      # channels that the pass sums over, and writes
    Py_ssize_t blocks              # of nr outputs
    Py_ssize_t point, block        # floats from point to point, from block to block
    Py_ssize_t taps[9]             # offsets of the taps in w


cdef class WinogradWeights:
    cdef weights_t c
    cdef object keep


cdef void transform_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows, float *u,
                            Py_ssize_t point, float *scratch) noexcept nogil
cdef Py_ssize_t turning_floats(const weights_t *s) noexcept nogil
cdef int fetch_weights(const weights_t *s, Py_ssize_t block, Py_ssize_t first, Py_ssize_t rows, const float **at,
                       fc_winograd_fetch *f) noexcept nogil
