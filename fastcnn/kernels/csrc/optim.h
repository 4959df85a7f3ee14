/* Update rules of optimisers over n contiguous weights, as Keras 3 states them; contracts in fc_optim.h. */
#include "vmath.h"
#include "fc_optim.h"

/* A rule changes w and its slots, given the gradient, the learning rate and its own scalars. */
#define RULE(name) INLINE void name##_rule(vf *w, vf g, vf slot[], float rate, const double own[])

RULE(sgd) { *w -= g * rate; }

/* own: momentum. Polyak, 1964. */
RULE(sgd_momentum)
{
    const float momentum = own[0];
    slot[0] = add_two_products(slot[0], splat(momentum), g, splat(-rate));
    *w += slot[0];
}

/* own: momentum. The form of Sutskever et al., ICML 2013. */
RULE(sgd_nesterov)
{
    const float momentum = own[0];
    slot[0] = add_two_products(slot[0], splat(momentum), g, splat(-rate));
    *w += add_two_products(slot[0], splat(momentum), g, splat(-rate));
}

/* own: alpha beta_1 beta_2 epsilon, where alpha = rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) at step t.
 * Kingma and Ba, arXiv:1412.6980; with `decay` it is AdamW, Loshchilov and Hutter, arXiv:1711.05101. */
RULE(adam)
{
    const float alpha = own[0], fresh_1 = 1 - own[1], fresh_2 = 1 - own[2], epsilon = own[3];
    slot[0] += (g - slot[0]) * fresh_1;
    slot[1] += (g * g - slot[1]) * fresh_2;
    *w -= slot[0] * alpha / (vsqrt(slot[1]) + epsilon);
}

/* own: beta_1 beta_2 epsilon, then the factors of the moment, the gradient and the mean square, which follow from
 * step t alone; those of the moment and the gradient include the rate. Dozat, ICLR workshop 2016. */
RULE(nadam)
{
    const float fresh_1 = 1 - own[0], fresh_2 = 1 - own[1], epsilon = own[2];
    slot[0] += (g - slot[0]) * fresh_1;
    slot[1] += (g * g - slot[1]) * fresh_2;
    const vf step = add_two_products(slot[0], splat(own[3]), g, splat(own[4]));
    *w -= step / (vsqrt(slot[1] * (float)own[5]) + epsilon);
}

/* own: rho epsilon [momentum]. Tieleman and Hinton, 2012; centered: Graves, arXiv:1308.0850. Slots are the
 * mean square of g, then its mean if centered, then the velocity if there is momentum. */
INLINE vf rmsprop_step(vf g, vf *square, vf *mean, float rate, const double own[])
{
    const float fresh = 1 - own[0], epsilon = own[1];
    *square += (g * g - *square) * fresh;
    if (!mean) return g * rate / vsqrt(*square + epsilon);
    *mean += (g - *mean) * fresh;
    return g * rate / vsqrt(*square - *mean * *mean + epsilon);
}
RULE(rmsprop) { *w -= rmsprop_step(g, &slot[0], 0, rate, own); }
RULE(rmsprop_centered) { *w -= rmsprop_step(g, &slot[0], &slot[1], rate, own); }
RULE(rmsprop_momentum)
{
    slot[1] = slot[1] * (float)own[2] + rmsprop_step(g, &slot[0], 0, rate, own);
    *w -= slot[1];
}
RULE(rmsprop_centered_momentum)
{
    slot[2] = slot[2] * (float)own[2] + rmsprop_step(g, &slot[0], &slot[1], rate, own);
    *w -= slot[2];
}

/* own: epsilon. Duchi, Hazan and Singer, JMLR 2011. */
RULE(adagrad)
{
    slot[0] += g * g;
    *w -= g * rate / vsqrt(slot[0] + (float)own[0]);
}

/* own: rho epsilon. Slots are the mean squares of g and of the changes. Zeiler, arXiv:1212.5701. */
RULE(adadelta)
{
    const float fresh = 1 - own[0], epsilon = own[1];
    slot[0] += (g * g - slot[0]) * fresh;
    const vf change = g * vsqrt(slot[1] + epsilon) / vsqrt(slot[0] + epsilon);
    slot[1] += (change * change - slot[1]) * fresh;
    *w -= change * rate;
}

/* At most VLEN of the n weights from i on. */
#define DEFINE_RULE(name, slots)                                                                        \
    INLINE void name##_vector(const fc_update *u, ptrdiff_t i, ptrdiff_t n)                             \
    {                                                                                                   \
        vf w = load_upto(u->w + i, n), slot[FC_SLOTS_MAX];                                              \
        const vf limit = splat(u->scalars.clip);                                                        \
        const vf g = clamp(load_upto(u->g + i, n) * u->scale, -limit, limit);                           \
        UNROLL for (int k = 0; k < slots; k++) slot[k] = load_upto(u->slot[k] + i, n);                  \
        w -= w * (float)u->scalars.decay;                                                               \
        name##_rule(&w, g, slot, u->scalars.rate, u->scalars.own);                                      \
        store_upto(u->w + i, w, n);                                                                     \
        UNROLL for (int k = 0; k < slots; k++) store_upto(u->slot[k] + i, slot[k], n);                  \
    }                                                                                                   \
    static void name##_update(const fc_update *update)                                                  \
    {                                                                                                   \
        const fc_update u = *update; /* a copy that the stores cannot alias */                          \
        ptrdiff_t i = 0;                                                                                \
        for (; i + VLEN <= u.n; i += VLEN) name##_vector(&u, i, VLEN);                                  \
        if (i < u.n) name##_vector(&u, i, u.n - i);                                                     \
    }

DEFINE_RULE(sgd, 0)
DEFINE_RULE(sgd_momentum, 1)
DEFINE_RULE(sgd_nesterov, 1)
DEFINE_RULE(adam, 2)
DEFINE_RULE(nadam, 2)
DEFINE_RULE(rmsprop, 1)
DEFINE_RULE(rmsprop_momentum, 2)
DEFINE_RULE(rmsprop_centered, 2)
DEFINE_RULE(rmsprop_centered_momentum, 3)
DEFINE_RULE(adagrad, 1)
DEFINE_RULE(adadelta, 2)

static const fc_rule rules[] = {
    {"sgd", "", "", sgd_update},
    {"sgd_momentum", "momentum", "momentum", sgd_momentum_update},
    {"sgd_nesterov", "momentum", "momentum", sgd_nesterov_update},
    {"adam", "momentum velocity", "alpha beta_1 beta_2 epsilon", adam_update},
    {"nadam", "momentum velocity", "beta_1 beta_2 epsilon momentum_factor gradient_factor velocity_factor",
     nadam_update},
    {"rmsprop", "velocity", "rho epsilon", rmsprop_update},
    {"rmsprop_momentum", "velocity momentum", "rho epsilon momentum", rmsprop_momentum_update},
    {"rmsprop_centered", "velocity average_gradient", "rho epsilon", rmsprop_centered_update},
    {"rmsprop_centered_momentum", "velocity average_gradient momentum", "rho epsilon momentum",
     rmsprop_centered_momentum_update},
    {"adagrad", "accumulator", "epsilon", adagrad_update},
    {"adadelta", "accumulated_grad accumulated_delta_var", "rho epsilon", adadelta_update},
    {0},
};

static double sum_squares(const float *x, ptrdiff_t n)
{
    vd sum[2] = {{0}};
    for (; n >= VLEN; n -= VLEN, x += VLEN) {
        const vd a = load_double(x), b = load_double(x + VLEN / 2);
        sum[0] += a * a;
        sum[1] += b * b;
    }
    double s = sum_double_lanes(sum[0] + sum[1]);
    for (; n > 0; n--, x++) s += (double)*x * *x;
    return s;
}

#define OPTIM_KERNELS {.rules = rules, .sum_squares = sum_squares}
