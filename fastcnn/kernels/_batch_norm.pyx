"""Batch normalisation: the statistics of a batch, and the sums of its gradient, in steps that wait for each other.

Forward: `Moments` (of groups of images), `BatchStatistics` (of all), then _norm.pyx's `Normalize`. Backward:
`GradSums`, `BatchNormGrad`, `InputGrad`. Sums of groups are float64 and are merged in the order of the groups.
"""

from libc.math cimport sqrt
from libc.string cimport memset

from fastcnn.kernels._check import same_shape
from fastcnn.kernels._norm cimport (
    CHANNEL_BLOCK, Channels, channel_blocks, check_channels, check_epsilon, doubles, fc_channel_norm, floats, kernels,
    line, lines, lines_of, padded,
)
from fastcnn.kernels._op cimport Op, Tensor, fc_task, fc_tensor


def sums_width(c: int) -> int:
    """Elements of one row of the float64 array that holds a group's sums for `c` channels."""
    return 2 * padded(c) + 1


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
    const float *beta
    double epsilon, momentum
    float *mean
    float *scale
    float *shift
    double *inverse
    double *rest
    float *moving_mean
    float *moving_variance


cdef void run_statistics(const void *op, const fc_task *task) noexcept nogil:
    cdef const statistics_args *a = <const statistics_args *>op
    cdef Py_ssize_t pad = padded(a.c), j, p
    cdef const double *part
    cdef double mean, m2, count, pixels, delta, scale
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
        scale = a.inverse[j] * (1 if a.gamma == NULL else a.gamma[j])
        a.mean[j], a.scale[j] = <float>mean, <float>scale
        a.rest[j] = a.mean[j] - mean
        a.shift[j] = <float>((0 if a.beta == NULL else a.beta[j]) + a.rest[j] * scale)
        if a.moving_mean != NULL:
            a.moving_mean[j] = <float>(a.momentum * a.moving_mean[j] + (1 - a.momentum) * mean)
            a.moving_variance[j] = <float>(a.momentum * a.moving_variance[j] + (1 - a.momentum) * (m2 / count))


cdef class BatchStatistics(Op):
    """The moments of the batch from those of its groups (Chan, Golub and LeVeque, 1983); items are blocks of channels.

    `parts` comes from Moments. Written are, as float64, inverse = 1 / sqrt(variance + epsilon), with the variance's
    biased estimate, and rest = mean - that of the batch, as mean is rounded to float32; and as float32 the affine map:
    mean, scale = gamma * inverse and shift = beta + rest * scale. `gamma` and `beta` may be None, for ones and zeros.
    `moving` = (mean, variance), float32, moves to momentum * moving + (1 - momentum) * batch.
    """
    cdef statistics_args a

    def __init__(self, parts, gamma, beta, double epsilon, mean, scale, shift, inverse, rest, moving=None,
                 double momentum=0):
        check_epsilon("BatchStatistics", epsilon)
        cdef Py_ssize_t c = mean.size
        self.a.rows, self.a.c, self.a.epsilon, self.a.momentum = len(parts), c, epsilon, momentum
        self.a.parts = doubles("BatchStatistics parts", parts, self.a.rows * sums_width(c))
        self.a.gamma = floats("BatchStatistics gamma", gamma, c)
        self.a.beta = floats("BatchStatistics beta", beta, c)
        self.a.mean = floats("BatchStatistics mean", mean, c, True)
        self.a.scale = floats("BatchStatistics scale", scale, c, True)
        self.a.shift = floats("BatchStatistics shift", shift, c, True)
        self.a.inverse = doubles("BatchStatistics inverse", inverse, c)
        self.a.rest = doubles("BatchStatistics rest", rest, c)
        moving_mean, moving_variance = moving or (None, None)
        self.a.moving_mean = floats("BatchStatistics moving mean", moving_mean, c, True)
        self.a.moving_variance = floats("BatchStatistics moving variance", moving_variance, c, True)
        self.run, self.args, self.items = run_statistics, &self.a, channel_blocks(c)
        self.keep = (parts, gamma, beta, mean, scale, shift, inverse, rest, moving)
        self.name = "batch_statistics"


cdef struct batch_grad_args:
    const double *parts
    Py_ssize_t rows, c
    const float *scale
    const double *inverse
    const double *rest
    float *dgamma
    float *dbeta
    float *offset
    float *slope


cdef void run_batch_grad(const void *op, const fc_task *task) noexcept nogil:
    cdef const batch_grad_args *a = <const batch_grad_args *>op
    cdef Py_ssize_t pad = padded(a.c), j, p
    cdef const double *part
    cdef double total, product, count, slope
    for j in range(task.begin * CHANNEL_BLOCK, min(task.end * CHANNEL_BLOCK, a.c)):
        total = product = count = 0
        for p in range(a.rows):
            part = a.parts + p * (2 * pad + 1)
            total += part[j]
            product += part[pad + j]
            count += part[2 * pad]
        product = (product + a.rest[j] * total) * a.inverse[j]  # with xhat = (x - mean + rest) * inverse
        if a.dgamma != NULL:
            a.dgamma[j] = <float>product
        if a.dbeta != NULL:
            a.dbeta[j] = <float>total
        slope = a.scale[j] * a.inverse[j] * product / count
        a.slope[j] = <float>slope
        a.offset[j] = <float>(a.scale[j] * total / count + a.rest[j] * slope)


cdef class BatchNormGrad(Op):
    """dgamma = sum of dz * xhat, dbeta = sum of dz, and what InputGrad needs; items are blocks of channels.

    `parts` comes from GradSums; scale, inverse and rest from BatchStatistics. slope = scale * inverse *
    mean(dz * xhat), offset = scale * mean(dz) + rest * slope. dgamma and dbeta (float32) may be None.
    """
    cdef batch_grad_args a

    def __init__(self, parts, scale, inverse, rest, dgamma, dbeta, offset, slope):
        cdef Py_ssize_t c = scale.size
        self.a.rows, self.a.c = len(parts), c
        self.a.parts = doubles("BatchNormGrad parts", parts, self.a.rows * sums_width(c))
        self.a.scale = floats("BatchNormGrad scale", scale, c)
        self.a.inverse = doubles("BatchNormGrad inverse", inverse, c)
        self.a.rest = doubles("BatchNormGrad rest", rest, c)
        self.a.dgamma = floats("BatchNormGrad dgamma", dgamma, c, True)
        self.a.dbeta = floats("BatchNormGrad dbeta", dbeta, c, True)
        self.a.offset = floats("BatchNormGrad offset", offset, c, True)
        self.a.slope = floats("BatchNormGrad slope", slope, c, True)
        self.run, self.args, self.items = run_batch_grad, &self.a, channel_blocks(c)
        self.keep, self.name = (parts, scale, inverse, rest, dgamma, dbeta, offset, slope), "batch_norm_grad"
