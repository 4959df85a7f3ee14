"""What plans are made of: tensors (where activations live) and ops (drivers with their arguments)."""

import numpy as np


cdef class Tensor:
    """An activation of a plan: `images` images of (h, w, c) floats, inside `owner` or in thread-local memory.

    `view` is the array it lives in: float32 (n, h, w, c), last two axes contiguous, or (n, c). `halo` is
    ((top, bottom), (left, right)): pixels around each image that are zero and may be read. Without a `view` the
    tensor is local: each thread keeps the few images of its chunk at byte `offset` of its own memory.
    """

    def __init__(self, shape, view=None, halo=((0, 0), (0, 0)), Py_ssize_t offset=0):
        n, h, w, c = shape if len(shape) == 4 else (shape[0], 1, 1, shape[1])
        (top, bottom), (left, right) = halo
        self.images = n
        self.c.h, self.c.w, self.c.c = h, w, c
        self.c.top, self.c.bottom, self.c.left, self.c.right = top, bottom, left, right
        self.c.row = (left + w + right) * c
        self.c.image = (top + h + bottom) * self.c.row
        self.c.offset = offset + (top * self.c.row + left * c) * 4
        self.c.data = NULL
        self.owner = view
        if view is not None:
            self._bind(view, n, h, w, c)

    def _bind(self, view, n, h, w, c):
        if view.dtype != np.float32 or view.shape not in ((n, h, w, c), (n, c) if h == w == 1 else None):
            raise ValueError(f"Tensor: expected float32 ({n}, {h}, {w}, {c}), got {view.dtype} {view.shape}")
        if view.ndim == 4:
            strides = [s // 4 for s in view.strides]
            if view.size and ((c > 1 and strides[3] != 1) or (w > 1 and strides[2] != c)):
                raise ValueError(f"Tensor: pixels must be contiguous, got strides {view.strides}")
            self.c.image, self.c.row = strides[0], strides[1]
        elif not view.flags.c_contiguous:
            raise ValueError("Tensor: a flat view must be contiguous")
        self.c.data = <float *><Py_ssize_t>view.ctypes.data

    @property
    def shape(self):
        return self.images, self.c.h, self.c.w, self.c.c


cdef class Op:
    """A driver function, its arguments, and how much work and scratch it has.

    Subclasses fill a C struct that `args` points to, set `run`, `scratch` (bytes per thread) and `items`
    (units of work: images, or what the op says), and put every object whose memory they point into in `keep`.
    """
