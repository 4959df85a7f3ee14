"""Normalisation of channels by statistics that are there already, and its gradient.

All normalisation drivers but layer normalisation's are an affine map of each channel, z = (x - mean) * scale + shift,
and its gradient, dx = dz * scale - offset - (x - mean) * slope; they differ in where these vectors come from. Here are
the two maps, and the vectors of given statistics; those of a batch are in _batch_norm.pyx, those of a sample in
_sample_norm.pyx.
"""

from libc.math cimport INFINITY, sqrt

import numpy as np

from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_task, fc_tensor

cdef double LEAST_DEVIATION = 1e-7  # of what is divided by in Standardize


cdef float *floats(where, array, Py_ssize_t size, bint writable=False) except? NULL:
    """Address of a float32 array of `size` elements; NULL for None."""
    if array is None:
        return NULL
    return <float *><Py_ssize_t>address(where, array, np.float32, size, writable)


cdef double *doubles(where, array, Py_ssize_t size) except NULL:
    return <double *><Py_ssize_t>address(where, array, np.float64, size, True)


cdef check_epsilon(where, double epsilon):
    if not 0 <= epsilon < INFINITY:
        raise ValueError(f"{where}: expected an epsilon of at least 0, got {epsilon}")


# ---- the affine map of each channel

cdef class Channels:
    """z = (x - mean) * scale + shift, then a clamp: float32 arrays of one element per channel, read at each run."""

    def __init__(self, mean, scale, shift, clamp=(-INFINITY, INFINITY)):
        self.channels = mean.size
        self.c.mean = floats("Channels mean", mean, self.channels)
        self.c.scale = floats("Channels scale", scale, self.channels)
        self.c.shift = floats("Channels shift", shift, self.channels)
        self.c.lo, self.c.hi = clamp
        self.keep = (mean, scale, shift)


cdef check_channels(where, Tensor x, Channels p):
    if p.channels != x.c.c:
        raise ValueError(f"{where}: {p.channels} channels are described, the tensor has {x.c.c}")


cdef struct normalize_args:
    const fc_tensor *x
    const fc_tensor *y
    const fc_channel_norm *p


cdef void run_normalize(const void *op, const fc_task *task) noexcept nogil:
    cdef const normalize_args *a = <const normalize_args *>op
    cdef lines r = lines_of(a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.normalize(line(a.y, task, n, i), line(a.x, task, n, i), r.pixels, a.x.c, a.p)


cdef class Normalize(Op):
    """y = clamp(z) of each channel; y may be x."""
    cdef normalize_args a

    def __init__(self, Tensor x not None, Tensor y not None, Channels channels not None):
        same_shape("Normalize", x, y)
        check_channels("Normalize", x, channels)
        self.a.x, self.a.y, self.a.p = &x.c, &y.c, &channels.c
        self.run, self.args, self.items, self.keep = run_normalize, &self.a, x.images, (x, y, channels)
        self.name = "normalize"


cdef struct input_grad_args:
    const fc_tensor *dy
    const fc_tensor *x
    const fc_tensor *dx
    const fc_channel_norm *p
    const float *offset
    const float *slope


cdef void run_input_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const input_grad_args *a = <const input_grad_args *>op
    cdef lines r = lines_of(a.dy, a.x, a.dx)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.input_grad(line(a.dx, task, n, i), line(a.dy, task, n, i), line(a.x, task, n, i),
                                      r.pixels, a.x.c, a.p, a.offset, a.slope)


cdef class InputGrad(Op):
    """dx = dz * scale - offset - (x - mean) * slope, dz being dy where the clamp lets it through; dx may be dy."""
    cdef input_grad_args a

    def __init__(self, Tensor dy not None, Tensor x not None, Tensor dx not None, Channels channels not None,
                 offset, slope):
        same_shape("InputGrad", dy, x, dx)
        check_channels("InputGrad", x, channels)
        self.a.dy, self.a.x, self.a.dx, self.a.p = &dy.c, &x.c, &dx.c, &channels.c
        self.a.offset = floats("InputGrad offset", offset, x.c.c)
        self.a.slope = floats("InputGrad slope", slope, x.c.c)
        self.run, self.args, self.items = run_input_grad, &self.a, x.images
        self.keep, self.name = (dy, x, dx, channels, offset, slope), "normalize_grad"


# ---- given statistics

cdef struct fold_args:
    const float *gamma
    const float *beta
    const float *mean
    const float *variance
    double epsilon
    Py_ssize_t c, rows
    const float *w
    const float *b
    float *scale
    float *folded
    float *bias


cdef void run_fold(const void *op, const fc_task *task) noexcept nogil:
    cdef const fold_args *a = <const fold_args *>op
    cdef Py_ssize_t begin = task.begin * CHANNEL_BLOCK, end = min(task.end * CHANNEL_BLOCK, a.c), j, i
    cdef double scale
    for j in range(begin, end):
        scale = (1 if a.gamma == NULL else a.gamma[j]) / sqrt(a.variance[j] + a.epsilon)
        a.scale[j] = <float>scale
        if a.bias != NULL:
            a.bias[j] = <float>(((0 if a.b == NULL else a.b[j]) - a.mean[j]) * scale
                                + (0 if a.beta == NULL else a.beta[j]))
    for i in range(a.rows):
        kernels().eltwise.multiply(a.folded + i * a.c + begin, a.w + i * a.c + begin, a.scale + begin, end - begin)


cdef class MovingScale(Op):
    """scale = gamma / sqrt(variance + epsilon), float32; gamma may be None, for ones. Items are blocks of channels."""
    cdef fold_args a

    def __init__(self, gamma, variance, double epsilon, scale):
        check_epsilon("MovingScale", epsilon)
        self.a.c, self.a.epsilon = scale.size, epsilon
        self.a.gamma = floats("MovingScale gamma", gamma, self.a.c)
        self.a.variance = floats("MovingScale variance", variance, self.a.c)
        self.a.scale = floats("MovingScale scale", scale, self.a.c, True)
        self.run, self.args, self.items = run_fold, &self.a, channel_blocks(self.a.c)
        self.keep, self.name = (gamma, variance, scale), "moving_scale"


cdef class FoldNorm(MovingScale):
    """Weights of a layer that also does the normalisation after it: folded = w * scale,
    bias = (b - mean) * scale + beta.

    `w` and `folded` are float32 (..., c); b, gamma and beta may be None.
    """

    def __init__(self, w, b, gamma, beta, mean, variance, double epsilon, folded, bias):
        scale = np.empty_like(bias)
        super().__init__(gamma, variance, epsilon, scale)
        cdef Py_ssize_t c = self.a.c
        if w.size % c:
            raise ValueError(f"FoldNorm: weights of shape {w.shape} have no {c} output channels")
        self.a.rows = w.size // c
        self.a.w = floats("FoldNorm w", w, w.size)
        self.a.b = floats("FoldNorm b", b, c)
        self.a.beta = floats("FoldNorm beta", beta, c)
        self.a.mean = floats("FoldNorm mean", mean, c)
        self.a.folded = floats("FoldNorm folded", folded, w.size, True)
        self.a.bias = floats("FoldNorm bias", bias, c, True)
        self.keep, self.name = (w, b, gamma, beta, mean, variance, folded, bias, scale), "fold_norm"


cdef struct standardize_args:
    const float *mean
    const float *variance
    const Py_ssize_t *source
    Py_ssize_t c
    int invert
    float *to_mean
    float *to_scale
    float *to_shift


cdef void run_standardize(const void *op, const fc_task *task) noexcept nogil:
    cdef const standardize_args *a = <const standardize_args *>op
    cdef Py_ssize_t j
    cdef float mean
    cdef double deviation
    for j in range(task.begin * CHANNEL_BLOCK, min(task.end * CHANNEL_BLOCK, a.c)):
        mean = a.mean[a.source[j]]
        deviation = sqrt(a.variance[a.source[j]])
        if deviation < LEAST_DEVIATION:
            deviation = LEAST_DEVIATION
        a.to_mean[j] = 0 if a.invert else mean
        a.to_scale[j] = <float>(deviation if a.invert else 1 / deviation)
        a.to_shift[j] = mean if a.invert else 0


cdef class Standardize(Op):
    """What Normalize needs for (x - m) / d, or with `invert` for x * d + m, where d = max(sqrt(variance), 1e-7).

    Channel j takes its m and variance from place source[j] (intp) of `mean` and `variance`. Written are the arrays
    `channels` = (mean, scale, shift). All but `source` is float32. Items are blocks of channels.
    """
    cdef standardize_args a

    def __init__(self, mean, variance, source, channels, bint invert=False):
        to_mean, to_scale, to_shift = channels
        self.a.c, self.a.invert = source.size, invert
        if source.size and not 0 <= source.min() <= source.max() < mean.size:
            raise ValueError(f"Standardize: a source lies outside {mean.size} means")
        self.a.mean = floats("Standardize mean", mean, mean.size)
        self.a.variance = floats("Standardize variance", variance, mean.size)
        self.a.source = <const Py_ssize_t *><Py_ssize_t>address("Standardize source", source, np.intp, source.size)
        self.a.to_mean = floats("Standardize channels", to_mean, self.a.c, True)
        self.a.to_scale = floats("Standardize channels", to_scale, self.a.c, True)
        self.a.to_shift = floats("Standardize channels", to_shift, self.a.c, True)
        self.run, self.args, self.items = run_standardize, &self.a, channel_blocks(self.a.c)
        self.keep, self.name = (mean, variance, source, channels), "standardize"
