"""Normalisation with the statistics of each sample: layer normalisation of each pixel, group normalisation."""

from libc.math cimport INFINITY, sqrt
from libc.string cimport memset

from fastcnn.kernels._check import same_shape
from fastcnn.kernels._norm cimport (
    check_epsilon, fc_channel_norm, floats, kernels, line, lines, lines_of, padded,
)
from fastcnn.kernels._op cimport Op, Tensor, fc_task, fc_tensor


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
    double *rest     # what mean was rounded up by: x - mean as floats give it lacks this
    float *mean
    float *scale
    float *shift
    float *offset
    float *slope
    fc_channel_norm p


cdef Py_ssize_t group_scratch_bytes(Py_ssize_t c):
    return padded(c) * (4 * sizeof(double) + 5 * sizeof(float))


cdef group_scratch scratch_of(const group_args *g, char *memory) noexcept nogil:
    cdef Py_ssize_t pad = padded(g.l.x.c)
    cdef group_scratch s
    s.a = <double *>memory
    s.b, s.inverse, s.rest, s.mean = s.a + pad, s.a + 2 * pad, s.a + 3 * pad, <float *>(s.a + 4 * pad)
    s.scale, s.shift, s.offset, s.slope = s.mean + pad, s.mean + 2 * pad, s.mean + 3 * pad, s.mean + 4 * pad
    s.p.mean, s.p.scale, s.p.shift, s.p.lo, s.p.hi = s.mean, s.scale, s.shift, g.lo, g.hi
    return s


cdef void group_statistics(const group_args *g, const fc_task *task, Py_ssize_t n, const lines *r,
                           group_scratch *s) noexcept nogil:
    """The affine map, inverse and rest of each channel of image n, from the moments of its group."""
    cdef Py_ssize_t c = g.l.x.c, width = c // g.groups, i, j, k, first
    cdef double pixels = r.count * r.pixels, mean, m2, inverse, rest
    cdef float lift
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
        rest = <float>mean - mean
        lift = <float>(rest * inverse)
        for j in range(first, first + width):
            s.inverse[j], s.rest[j], s.mean[j] = inverse, rest, <float>mean
            s.scale[j] = <float>(inverse * g.l.gamma[j])
            s.shift[j] = g.l.beta[j] + lift * g.l.gamma[j]


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
        self.scratch, self.name = group_scratch_bytes(x.c.c), "group_norm"


cdef void group_gradients(const group_args *g, double pixels, group_scratch *s, float *dgamma,
                          float *dbeta) noexcept nogil:
    """Adds one image's sums to dgamma and dbeta; offset and slope of InputGrad from those of each group."""
    cdef Py_ssize_t c = g.l.x.c, width = c // g.groups, j, k, first
    cdef double total, product, inverse, rest
    for k in range(g.groups):
        first = k * width
        total = product = 0
        inverse, rest = s.inverse[first], s.rest[first]
        for j in range(first, first + width):
            s.b[j] = (s.b[j] + rest * s.a[j]) * inverse
            dgamma[j] += <float>s.b[j]
            dbeta[j] += <float>s.a[j]
            total += g.l.gamma[j] * s.a[j]
            product += g.l.gamma[j] * s.b[j]
        total *= inverse / (pixels * width)
        product *= inverse * inverse / (pixels * width)
        for j in range(first, first + width):
            s.offset[j], s.slope[j] = <float>(total + rest * product), <float>product


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
        self.scratch = (8 * x.c.c + 63) // 64 * 64 + group_scratch_bytes(x.c.c)
        self.keep, self.name = (dy, x, dx, dgamma, dbeta, gamma, beta), "group_norm_grad"
