cdef extern from "fc_kernels.h":
    enum: FC_SLOTS_MAX
    ctypedef struct fc_step_scalars:
        double decay
    ctypedef struct fc_update:
        Py_ssize_t n
        float *w
        const float *g
        float *slot[FC_SLOTS_MAX]
        float scale
        fc_step_scalars scalars

ctypedef void (*update_kernel)(const fc_update *u) noexcept nogil


# The step of an optimiser, on flat arrays of weights and moments.
cdef struct rule_t:
    float *w
    float *slot[FC_SLOTS_MAX]
    const fc_step_scalars *scalars
    update_kernel kernel


cdef inline void apply_rule(const rule_t *r, Py_ssize_t at, Py_ssize_t n, const float *g, float scale,
                            bint decays) noexcept nogil:
    """Updates weights [at, at + n), whose gradients begin at g."""
    cdef fc_update u
    cdef Py_ssize_t k
    u.n, u.w, u.g, u.scale, u.scalars = n, r.w + at, g, scale, r.scalars[0]
    for k in range(FC_SLOTS_MAX):
        u.slot[k] = NULL if r.slot[k] == NULL else r.slot[k] + at
    if not decays:
        u.scalars.decay = 0
    r.kernel(&u)


cdef class Rule:
    cdef rule_t c
    cdef readonly str name
    cdef readonly Py_ssize_t size
    cdef object keep
