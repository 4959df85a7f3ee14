"""Normalisation drivers: batch, layer and group normalisation.

All but layer normalisation are an affine map of each channel, z = (x - mean) * scale + shift, and its gradient,
dx = dz * scale - offset - (x - mean) * slope; they differ in where these vectors come from.

Batch normalisation takes them from the whole batch, in steps that wait for each other: `Moments` (of groups of
images), `BatchStatistics` (of all), `Normalize`; backward `GradSums`, `BatchNormGrad`, `InputGrad`. Sums of groups are
float64 and are merged in the order of the groups.
"""

from libc.math cimport INFINITY, sqrt
from libc.string cimport memset

import numpy as np

from fastcnn.kernels cimport _cpu
from fastcnn.kernels._check import address, same_shape
from fastcnn.kernels._op cimport Op, Tensor, fc_image, fc_task, fc_tensor

cdef extern from "fc_kernels.h":
    enum:
        FC_NORM_PAD
    ctypedef struct fc_channel_norm:
        const float *mean
        const float *scale
        const float *shift
        float lo, hi
    ctypedef struct fc_norm_kernels:
        void (*moments)(double *mean, double *m2, double count, const float *x, Py_ssize_t pixels,
                        Py_ssize_t c) noexcept nogil
        void (*normalize)(float *y, const float *x, Py_ssize_t pixels, Py_ssize_t c,
                          const fc_channel_norm *p) noexcept nogil
        void (*grad_sums)(double *sum, double *product, const float *dy, const float *x, Py_ssize_t pixels,
                          Py_ssize_t c, const fc_channel_norm *p) noexcept nogil
        void (*input_grad)(float *dx, const float *dy, const float *x, Py_ssize_t pixels, Py_ssize_t c,
                           const fc_channel_norm *p, const float *offset, const float *slope) noexcept nogil
        void (*layer_norm)(float *y, const float *x, Py_ssize_t rows, Py_ssize_t c, const float *gamma,
                           const float *beta, float epsilon) noexcept nogil
        void (*layer_norm_grad)(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                                Py_ssize_t rows, Py_ssize_t c, const float *gamma, float epsilon) noexcept nogil
    ctypedef struct fc_eltwise_kernels:
        void (*multiply)(float *y, const float *a, const float *b, Py_ssize_t n) noexcept nogil
    ctypedef struct fc_kernels:
        fc_norm_kernels norm
        fc_eltwise_kernels eltwise

cdef enum:
    CHANNEL_BLOCK = 64  # channels of one item, where work is cut by channels

cdef double LEAST_DEVIATION = 1e-7  # of what is divided by in Standardize


cdef inline const fc_kernels *kernels() noexcept nogil:
    return <const fc_kernels *>_cpu.table()


cdef inline Py_ssize_t padded(Py_ssize_t c) noexcept nogil:
    return (c + FC_NORM_PAD - 1) // FC_NORM_PAD * FC_NORM_PAD


cdef inline Py_ssize_t channel_blocks(Py_ssize_t c) noexcept nogil:
    return (c + CHANNEL_BLOCK - 1) // CHANNEL_BLOCK


cdef struct lines:
    Py_ssize_t count, pixels


cdef lines lines_of(const fc_tensor *a, const fc_tensor *b, const fc_tensor *c) noexcept nogil:
    """The fewest contiguous runs of pixels that an image has in all three tensors, which have one shape."""
    cdef Py_ssize_t row = a.w * a.c
    cdef lines r
    r.count, r.pixels = a.h, a.w
    if a.row == row and b.row == row and c.row == row:
        r.count, r.pixels = 1, a.h * a.w
    return r


cdef inline float *line(const fc_tensor *t, const fc_task *task, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    return fc_image(t, task, n) + i * t.row


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


def sums_width(c: int) -> int:
    """Elements of one row of the float64 array that holds a group's sums for `c` channels."""
    return 2 * padded(c) + 1


# ---- the affine map of each channel

cdef class Channels:
    """z = (x - mean) * scale + shift, then a clamp: float32 arrays of one element per channel, read at each run."""
    cdef fc_channel_norm c
    cdef readonly Py_ssize_t channels
    cdef object keep

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


# ---- batch normalisation

cdef struct sums_args:
    const fc_tensor *dy
    const fc_tensor *x
    const fc_channel_norm *p
    double *parts
    Py_ssize_t rows


cdef double *group_sums(const sums_args *a, const fc_task *task) noexcept nogil:
    """The row of this group of images, zeros at its first image: two padded vectors, then the pixels so far."""
    cdef Py_ssize_t width = 2 * padded(a.x.c) + 1
    cdef double *part = a.parts + task.part * width
    if task.part >= a.rows:
        return NULL
    if task.first:
        memset(part, 0, width * sizeof(double))
    return part


cdef void run_moments(const void *op, const fc_task *task) noexcept nogil:
    cdef const sums_args *a = <const sums_args *>op
    cdef lines r = lines_of(a.x, a.x, a.x)
    cdef double *part = group_sums(a, task)
    cdef double *count = part + 2 * padded(a.x.c)
    cdef Py_ssize_t n, i
    if part == NULL:
        return
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.moments(part, part + padded(a.x.c), count[0], line(a.x, task, n, i), r.pixels, a.x.c)
            count[0] += r.pixels


cdef class Moments(Op):
    """parts[group] = mean and sum of squared deviations of each channel over the group's images.

    `parts` is float64 (groups, sums_width(c)), at least one row per group of the stage; groups beyond it are left
    out.
    """
    cdef sums_args a

    def __init__(self, Tensor x not None, parts):
        self.a.rows = len(parts)
        self.a.parts = doubles("Moments parts", parts, self.a.rows * sums_width(x.c.c))
        self.a.x = &x.c
        self.run, self.args, self.items, self.keep = run_moments, &self.a, x.images, (x, parts)
        self.name = "moments"


cdef void run_grad_sums(const void *op, const fc_task *task) noexcept nogil:
    cdef const sums_args *a = <const sums_args *>op
    cdef lines r = lines_of(a.dy, a.x, a.x)
    cdef double *part = group_sums(a, task)
    cdef Py_ssize_t n, i
    if part == NULL:
        return
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.grad_sums(part, part + padded(a.x.c), line(a.dy, task, n, i), line(a.x, task, n, i),
                                     r.pixels, a.x.c, a.p)
            part[2 * padded(a.x.c)] += r.pixels


cdef class GradSums(Op):
    """parts[group] = sums of dz and of dz * (x - mean) of each channel; `parts` as in Moments."""
    cdef sums_args a

    def __init__(self, Tensor dy not None, Tensor x not None, parts, Channels channels not None):
        same_shape("GradSums", dy, x)
        check_channels("GradSums", x, channels)
        self.a.rows = len(parts)
        self.a.parts = doubles("GradSums parts", parts, self.a.rows * sums_width(x.c.c))
        self.a.dy, self.a.x, self.a.p = &dy.c, &x.c, &channels.c
        self.run, self.args, self.items = run_grad_sums, &self.a, x.images
        self.keep, self.name = (dy, x, parts, channels), "normalize_grad_sums"


cdef struct statistics_args:
    const double *parts
    Py_ssize_t rows, c
    const float *gamma
    double epsilon, momentum
    float *mean
    float *scale
    double *inverse
    float *moving_mean
    float *moving_variance


cdef void run_statistics(const void *op, const fc_task *task) noexcept nogil:
    cdef const statistics_args *a = <const statistics_args *>op
    cdef Py_ssize_t pad = padded(a.c), j, p
    cdef const double *part
    cdef double mean, m2, count, pixels, delta
    for j in range(task.begin * CHANNEL_BLOCK, min(task.end * CHANNEL_BLOCK, a.c)):
        mean = m2 = count = 0
        for p in range(a.rows):
            part = a.parts + p * (2 * pad + 1)
            pixels = part[2 * pad]
            delta = part[j] - mean
            mean += delta * (pixels / (count + pixels))
            m2 += part[pad + j] + delta * delta * (count * pixels / (count + pixels))
            count += pixels
        a.inverse[j] = 1 / sqrt(m2 / count + a.epsilon)
        a.mean[j] = <float>mean
        a.scale[j] = <float>(a.inverse[j] * (1 if a.gamma == NULL else a.gamma[j]))
        if a.moving_mean != NULL:
            a.moving_mean[j] = <float>(a.momentum * a.moving_mean[j] + (1 - a.momentum) * mean)
            a.moving_variance[j] = <float>(a.momentum * a.moving_variance[j] + (1 - a.momentum) * (m2 / count))


cdef class BatchStatistics(Op):
    """The moments of the batch from those of its groups (Chan, Golub and LeVeque, 1983); items are blocks of channels.

    `parts` comes from Moments. Written are float32 mean and scale = gamma * inverse, and float64
    inverse = 1 / sqrt(variance + epsilon), with the variance's biased estimate. `gamma` may be None, for ones.
    `moving` = (mean, variance), float32, moves to momentum * moving + (1 - momentum) * batch.
    """
    cdef statistics_args a

    def __init__(self, parts, gamma, double epsilon, mean, scale, inverse, moving=None, double momentum=0):
        check_epsilon("BatchStatistics", epsilon)
        cdef Py_ssize_t c = mean.size
        self.a.rows, self.a.c, self.a.epsilon, self.a.momentum = len(parts), c, epsilon, momentum
        self.a.parts = doubles("BatchStatistics parts", parts, self.a.rows * sums_width(c))
        self.a.gamma = floats("BatchStatistics gamma", gamma, c)
        self.a.mean = floats("BatchStatistics mean", mean, c, True)
        self.a.scale = floats("BatchStatistics scale", scale, c, True)
        self.a.inverse = doubles("BatchStatistics inverse", inverse, c)
        moving_mean, moving_variance = moving or (None, None)
        self.a.moving_mean = floats("BatchStatistics moving mean", moving_mean, c, True)
        self.a.moving_variance = floats("BatchStatistics moving variance", moving_variance, c, True)
        self.run, self.args, self.items = run_statistics, &self.a, channel_blocks(c)
        self.keep, self.name = (parts, gamma, mean, scale, inverse, moving), "batch_statistics"


cdef struct batch_grad_args:
    const double *parts
    Py_ssize_t rows, c
    const float *scale
    const double *inverse
    float *dgamma
    float *dbeta
    float *offset
    float *slope


cdef void run_batch_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const batch_grad_args *a = <const batch_grad_args *>op
    cdef Py_ssize_t pad = padded(a.c), j, p
    cdef const double *part
    cdef double total, product, count
    for j in range(task.begin * CHANNEL_BLOCK, min(task.end * CHANNEL_BLOCK, a.c)):
        total = product = count = 0
        for p in range(a.rows):
            part = a.parts + p * (2 * pad + 1)
            total += part[j]
            product += part[pad + j]
            count += part[2 * pad]
        product *= a.inverse[j]  # with xhat = (x - mean) * inverse
        if a.dgamma != NULL:
            a.dgamma[j] = <float>product
        if a.dbeta != NULL:
            a.dbeta[j] = <float>total
        a.offset[j] = <float>(a.scale[j] * total / count)
        a.slope[j] = <float>(a.scale[j] * a.inverse[j] * product / count)


cdef class BatchNormGrad(Op):
    """dgamma = sum of dz * xhat, dbeta = sum of dz, and what InputGrad needs; items are blocks of channels.

    `parts` comes from GradSums. offset = scale * mean(dz), slope = scale * inverse * mean(dz * xhat). dgamma and
    dbeta (float32) may be None.
    """
    cdef batch_grad_args a

    def __init__(self, parts, scale, inverse, dgamma, dbeta, offset, slope):
        cdef Py_ssize_t c = scale.size
        self.a.rows, self.a.c = len(parts), c
        self.a.parts = doubles("BatchNormGrad parts", parts, self.a.rows * sums_width(c))
        self.a.scale = floats("BatchNormGrad scale", scale, c)
        self.a.inverse = doubles("BatchNormGrad inverse", inverse, c)
        self.a.dgamma = floats("BatchNormGrad dgamma", dgamma, c, True)
        self.a.dbeta = floats("BatchNormGrad dbeta", dbeta, c, True)
        self.a.offset = floats("BatchNormGrad offset", offset, c, True)
        self.a.slope = floats("BatchNormGrad slope", slope, c, True)
        self.run, self.args, self.items = run_batch_grad, &self.a, channel_blocks(c)
        self.keep, self.name = (parts, scale, inverse, dgamma, dbeta, offset, slope), "batch_norm_grad"


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
    """Weights of a layer that also does the normalisation after it: folded = w * scale, bias = (b - mean) * scale + beta.

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


# ---- layer normalisation

cdef struct layer_args:
    const fc_tensor *x
    const fc_tensor *y   # dy in the gradient
    const fc_tensor *dx
    const float *gamma
    const float *beta
    float *dgamma
    float *dbeta
    Py_ssize_t rows
    float epsilon


cdef void run_layer_norm(const void *op, const fc_task *task) noexcept nogil:
    cdef const layer_args *a = <const layer_args *>op
    cdef lines r = lines_of(a.x, a.y, a.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.layer_norm(line(a.y, task, n, i), line(a.x, task, n, i), r.pixels, a.x.c, a.gamma,
                                      a.beta, a.epsilon)


cdef class LayerNorm(Op):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta over the channels of each pixel; y may be x.

    gamma and beta are float32 (c,), read at each run.
    """
    cdef layer_args a

    def __init__(self, Tensor x not None, Tensor y not None, gamma, beta, double epsilon):
        same_shape("LayerNorm", x, y)
        check_epsilon("LayerNorm", epsilon)
        self.a.x, self.a.y, self.a.epsilon = &x.c, &y.c, epsilon
        self.a.gamma = floats("LayerNorm gamma", gamma, x.c.c)
        self.a.beta = floats("LayerNorm beta", beta, x.c.c)
        self.run, self.args, self.items, self.keep = run_layer_norm, &self.a, x.images, (x, y, gamma, beta)
        self.name = "layer_norm"


cdef void parameter_sums(float *dgamma, float *dbeta, Py_ssize_t rows, Py_ssize_t c, const fc_task *task,
                         float **to_gamma, float **to_beta) noexcept nogil:
    """Where this group adds up dgamma and dbeta: in its row, or in scratch if nobody asked for them."""
    cdef float *scratch = <float *>task.scratch
    to_gamma[0], to_beta[0] = scratch, scratch + c
    if dgamma != NULL and task.part < rows:
        to_gamma[0] = dgamma + task.part * c
    if dbeta != NULL and task.part < rows:
        to_beta[0] = dbeta + task.part * c
    if task.first or to_gamma[0] == scratch:
        memset(to_gamma[0], 0, c * sizeof(float))
    if task.first or to_beta[0] == scratch + c:
        memset(to_beta[0], 0, c * sizeof(float))


cdef void run_layer_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const layer_args *a = <const layer_args *>op
    cdef lines r = lines_of(a.x, a.y, a.x if a.dx == NULL else a.dx)
    cdef float *dgamma = NULL
    cdef float *dbeta = NULL
    cdef Py_ssize_t n, i
    parameter_sums(a.dgamma, a.dbeta, a.rows, a.x.c, task, &dgamma, &dbeta)
    for n in range(task.begin, task.end):
        for i in range(r.count):
            kernels().norm.layer_norm_grad(NULL if a.dx == NULL else line(a.dx, task, n, i), dgamma, dbeta,
                                           line(a.y, task, n, i), line(a.x, task, n, i), r.pixels, a.x.c, a.gamma,
                                           a.epsilon)


cdef check_parameter_sums(where, dgamma, dbeta):
    if dgamma is not None and dbeta is not None and len(dgamma) != len(dbeta):
        raise ValueError(f"{where}: expected as many rows in dgamma as in dbeta, got {len(dgamma)} and {len(dbeta)}")
    return max(len(parts) if parts is not None else 0 for parts in (dgamma, dbeta))


cdef class LayerNormGrad(Op):
    """dx, and dgamma[group] and dbeta[group]: the sums of dy * xhat and of dy over the group's images.

    dgamma and dbeta are float32 (groups, c), at least one row per group of the stage, or None; dx may be None, or dy.
    """
    cdef layer_args a

    def __init__(self, Tensor dy not None, Tensor x not None, Tensor dx, dgamma, dbeta, gamma, double epsilon):
        same_shape("LayerNormGrad", *(t for t in (dy, x, dx) if t is not None))
        check_epsilon("LayerNormGrad", epsilon)
        self.a.rows = check_parameter_sums("LayerNormGrad", dgamma, dbeta)
        self.a.x, self.a.y, self.a.dx = &x.c, &dy.c, NULL if dx is None else &dx.c
        self.a.epsilon = epsilon
        self.a.gamma = floats("LayerNormGrad gamma", gamma, x.c.c)
        self.a.dgamma = floats("LayerNormGrad dgamma", dgamma, self.a.rows * x.c.c, True)
        self.a.dbeta = floats("LayerNormGrad dbeta", dbeta, self.a.rows * x.c.c, True)
        self.run, self.args, self.items = run_layer_grad, &self.a, x.images
        self.scratch = 8 * x.c.c
        self.keep, self.name = (dy, x, dx, dgamma, dbeta, gamma), "layer_norm_grad"


# ---- group normalisation

cdef struct group_args:
    layer_args l
    Py_ssize_t groups
    float lo, hi


cdef struct group_scratch:
    double *a        # mean, then the sum of dz, of each channel of an image
    double *b        # squared deviations, then the sum of dz * (x - mean)
    double *inverse
    float *mean
    float *scale
    float *offset
    float *slope
    fc_channel_norm p


cdef group_scratch scratch_of(const group_args *g, char *memory) noexcept nogil:
    cdef Py_ssize_t pad = padded(g.l.x.c)
    cdef group_scratch s
    s.a = <double *>memory
    s.b, s.inverse, s.mean = s.a + pad, s.a + 2 * pad, <float *>(s.a + 3 * pad)
    s.scale, s.offset, s.slope = s.mean + pad, s.mean + 2 * pad, s.mean + 3 * pad
    s.p.mean, s.p.scale, s.p.shift, s.p.lo, s.p.hi = s.mean, s.scale, g.l.beta, g.lo, g.hi
    return s


cdef void group_statistics(const group_args *g, const fc_task *task, Py_ssize_t n, const lines *r,
                           group_scratch *s) noexcept nogil:
    """mean, scale = gamma * inverse and inverse of each channel of image n, from the moments of its group."""
    cdef Py_ssize_t c = g.l.x.c, width = c // g.groups, i, j, k, first
    cdef double pixels = r.count * r.pixels, mean, m2, inverse
    memset(s.a, 0, 2 * padded(c) * sizeof(double))
    for i in range(r.count):
        kernels().norm.moments(s.a, s.b, i * r.pixels, line(g.l.x, task, n, i), r.pixels, c)
    for k in range(g.groups):
        first = k * width
        mean = m2 = 0
        for j in range(first, first + width):
            mean += s.a[j]
        mean /= width
        for j in range(first, first + width):
            m2 += s.b[j] + pixels * (s.a[j] - mean) * (s.a[j] - mean)
        inverse = 1 / sqrt(m2 / (pixels * width) + g.l.epsilon)
        for j in range(first, first + width):
            s.inverse[j] = inverse
            s.mean[j] = <float>mean
            s.scale[j] = <float>(inverse * g.l.gamma[j])


cdef void run_group_norm(const void *op, const fc_task *task) noexcept nogil:
    cdef const group_args *g = <const group_args *>op
    cdef group_scratch s = scratch_of(g, task.scratch)
    cdef lines r = lines_of(g.l.x, g.l.y, g.l.y)
    cdef Py_ssize_t n, i
    for n in range(task.begin, task.end):
        group_statistics(g, task, n, &r, &s)
        for i in range(r.count):
            kernels().norm.normalize(line(g.l.y, task, n, i), line(g.l.x, task, n, i), r.pixels, g.l.x.c, &s.p)


cdef check_groups(where, Tensor x, Py_ssize_t groups):
    if groups < 1 or x.c.c % groups or x.c.h * x.c.w == 0:
        raise ValueError(f"{where}: {groups} groups do not divide the channels of images {x.shape}")


cdef class GroupNorm(Op):
    """y = clamp(gamma * xhat + beta), xhat normalised over the pixels and channels of each group of an image.

    gamma and beta are float32 (c,), read at each run; y may be x.
    """
    cdef group_args a

    def __init__(self, Tensor x not None, Tensor y not None, Py_ssize_t groups, gamma, beta, double epsilon,
                 clamp=(-INFINITY, INFINITY)):
        same_shape("GroupNorm", x, y)
        check_groups("GroupNorm", x, groups)
        check_epsilon("GroupNorm", epsilon)
        self.a.l.x, self.a.l.y, self.a.l.epsilon, self.a.groups = &x.c, &y.c, epsilon, groups
        self.a.l.gamma = floats("GroupNorm gamma", gamma, x.c.c)
        self.a.l.beta = floats("GroupNorm beta", beta, x.c.c)
        self.a.lo, self.a.hi = clamp
        self.run, self.args, self.items, self.keep = run_group_norm, &self.a, x.images, (x, y, gamma, beta)
        self.scratch, self.name = padded(x.c.c) * (3 * sizeof(double) + 4 * sizeof(float)), "group_norm"


cdef void group_gradients(const group_args *g, double pixels, group_scratch *s, float *dgamma,
                          float *dbeta) noexcept nogil:
    """Adds one image's sums to dgamma and dbeta; offset and slope of InputGrad from those of each group."""
    cdef Py_ssize_t c = g.l.x.c, width = c // g.groups, j, k, first
    cdef double total, product
    for k in range(g.groups):
        first = k * width
        total = product = 0
        for j in range(first, first + width):
            s.b[j] *= s.inverse[j]
            dgamma[j] += <float>s.b[j]
            dbeta[j] += <float>s.a[j]
            total += g.l.gamma[j] * s.a[j]
            product += g.l.gamma[j] * s.b[j]
        total *= s.inverse[first] / (pixels * width)
        product *= s.inverse[first] * s.inverse[first] / (pixels * width)
        for j in range(first, first + width):
            s.offset[j], s.slope[j] = <float>total, <float>product


cdef void run_group_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const group_args *g = <const group_args *>op
    cdef const layer_args *a = &g.l
    cdef Py_ssize_t c = a.x.c, n, i
    cdef lines r = lines_of(a.x, a.y, a.x if a.dx == NULL else a.dx)
    cdef group_scratch s = scratch_of(g, task.scratch + (2 * c * sizeof(float) + 63) // 64 * 64)
    cdef float *dgamma = NULL
    cdef float *dbeta = NULL
    parameter_sums(a.dgamma, a.dbeta, a.rows, c, task, &dgamma, &dbeta)
    for n in range(task.begin, task.end):
        group_statistics(g, task, n, &r, &s)
        memset(s.a, 0, 2 * padded(c) * sizeof(double))
        for i in range(r.count):
            kernels().norm.grad_sums(s.a, s.b, line(a.y, task, n, i), line(a.x, task, n, i), r.pixels, c, &s.p)
        group_gradients(g, r.count * r.pixels, &s, dgamma, dbeta)
        if a.dx != NULL:
            for i in range(r.count):
                kernels().norm.input_grad(line(a.dx, task, n, i), line(a.y, task, n, i), line(a.x, task, n, i),
                                          r.pixels, c, &s.p, s.offset, s.slope)


cdef class GroupNormGrad(Op):
    """dx, and dgamma[group of images] and dbeta[group of images], of GroupNorm with the same arguments.

    dgamma, dbeta and dx as in LayerNormGrad.
    """
    cdef group_args a

    def __init__(self, Tensor dy not None, Tensor x not None, Tensor dx, dgamma, dbeta, Py_ssize_t groups, gamma, beta,
                 double epsilon, clamp=(-INFINITY, INFINITY)):
        same_shape("GroupNormGrad", *(t for t in (dy, x, dx) if t is not None))
        check_groups("GroupNormGrad", x, groups)
        check_epsilon("GroupNormGrad", epsilon)
        cdef layer_args *a = &self.a.l
        a.rows = check_parameter_sums("GroupNormGrad", dgamma, dbeta)
        a.x, a.y, a.dx, a.epsilon = &x.c, &dy.c, NULL if dx is None else &dx.c, epsilon
        a.gamma = floats("GroupNormGrad gamma", gamma, x.c.c)
        a.beta = floats("GroupNormGrad beta", beta, x.c.c)
        a.dgamma = floats("GroupNormGrad dgamma", dgamma, a.rows * x.c.c, True)
        a.dbeta = floats("GroupNormGrad dbeta", dbeta, a.rows * x.c.c, True)
        self.a.groups = groups
        self.a.lo, self.a.hi = clamp
        self.run, self.args, self.items = run_group_grad, &self.a, x.images
        self.scratch = (8 * x.c.c + 63) // 64 * 64 + padded(x.c.c) * (3 * sizeof(double) + 4 * sizeof(float))
        self.keep, self.name = (dy, x, dx, dgamma, dbeta, gamma, beta), "group_norm_grad"
