from fastcnn.kernels._cpu cimport fc_gather_tile

cdef void gather_stretch(fc_gather_tile *t, const int *xoff, const int *yoff, Py_ssize_t pixels) noexcept nogil
