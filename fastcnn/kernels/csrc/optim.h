/* Update rules of optimisers over n contiguous weights, as Keras 3 states them; contracts in fc_optim.h. */
#include "vmath.h"
#include "fc_optim.h"

/* Each rule changes w and its slots m, v, u, given the scaled, clipped gradient g and the step's scalars. */
#define RULE(name) INLINE void name##_rule(vf *w, vf g, vf *m, vf *v, vf *u, const fc_step_scalars *s)

RULE(sgd) { *w -= g * s->rate; }

/* a = momentum. Polyak, 1964; the Nesterov form looks one step ahead (Sutskever et al., ICML 2013). */
RULE(momentum)
{
    *m = *m * s->a - g * s->rate;
    *w += *m;
}
RULE(nesterov)
{
    *m = *m * s->a - g * s->rate;
    *w += *m * s->a - g * s->rate;
}

/* a = 1 - beta_1, b = 1 - beta_2, c = epsilon; rate = learning rate * sqrt(1 - beta_2^t) / (1 - beta_1^t).
 * Kingma and Ba, arXiv:1412.6980; with `decay` it is AdamW, Loshchilov and Hutter, arXiv:1711.05101. */
RULE(adam)
{
    *m += (g - *m) * s->a;
    *v += (g * g - *v) * s->b;
    *w -= *m * s->rate / (vsqrt(*v) + s->c);
}

/* Adam's a and b; c = epsilon, d = weight of m, e = weight of g, rate = 1 / (1 - beta_2^t).
 * The learning rate and the corrections of the momentum schedule are inside d and e. Dozat, 2016. */
RULE(nadam)
{
    *m += (g - *m) * s->a;
    *v += (g * g - *v) * s->b;
    *w -= (*m * s->d + g * s->e) / (vsqrt(*v * s->rate) + s->c);
}

/* a = rho, b = epsilon, c = momentum. Tieleman and Hinton, 2012; centered: Graves, arXiv:1308.0850. */
RULE(rmsprop)
{
    *m = *m * s->a + g * g * (1 - s->a);
    *w -= g * s->rate / vsqrt(*m + s->b);
}
RULE(rmsprop_momentum)
{
    *m = *m * s->a + g * g * (1 - s->a);
    *v = *v * s->c + g * s->rate / vsqrt(*m + s->b);
    *w -= *v;
}
RULE(rmsprop_centered)
{
    *m = *m * s->a + g * g * (1 - s->a);
    *v = *v * s->a + g * (1 - s->a);
    *w -= g * s->rate / vsqrt(*m - *v * *v + s->b);
}
RULE(rmsprop_centered_momentum)
{
    *m = *m * s->a + g * g * (1 - s->a);
    *v = *v * s->a + g * (1 - s->a);
    *u = *u * s->c + g * s->rate / vsqrt(*m - *v * *v + s->b);
    *w -= *u;
}

/* a = epsilon. Duchi, Hazan and Singer, JMLR 2011. */
RULE(adagrad)
{
    *m += g * g;
    *w -= g * s->rate / vsqrt(*m + s->a);
}

/* a = rho, b = epsilon. Zeiler, arXiv:1212.5701. */
RULE(adadelta)
{
    *m = *m * s->a + g * g * (1 - s->a);
    const vf step = g * vsqrt((*v + s->b) / (*m + s->b));
    *v = *v * s->a + step * step * (1 - s->a);
    *w -= step * s->rate;
}

/* Columns i.. of a rule with `slots` slots: a whole vector, or the last n weights. */
#define DEFINE_RULE(name, slots)                                                                        \
    INLINE void name##_vector(const fc_update *u, ptrdiff_t i, const ptrdiff_t n)                       \
    {                                                                                                   \
        vf w = load_upto(u->w + i, n), slot[FC_SLOTS_MAX] = {{0}};                                      \
        const vf limit = splat(u->s.clip);                                                              \
        const vf g = clamp(load_upto(u->g + i, n) * u->scale, -limit, limit);                           \
        UNROLL for (int k = 0; k < slots; k++) slot[k] = load_upto(u->slot[k] + i, n);                  \
        w -= w * u->s.decay;                                                                            \
        name##_rule(&w, g, &slot[0], &slot[1], &slot[2], &u->s);                                        \
        store_upto(u->w + i, w, n);                                                                     \
        UNROLL for (int k = 0; k < slots; k++) store_upto(u->slot[k] + i, slot[k], n);                  \
    }                                                                                                   \
    static void name##_update(const fc_update *update)                                                  \
    {                                                                                                   \
        const fc_update u = *update;                                                                    \
        ptrdiff_t i = 0;                                                                                \
        for (; i + VLEN <= u.n; i += VLEN) name##_vector(&u, i, VLEN);                                  \
        if (i < u.n) name##_vector(&u, i, u.n - i);                                                     \
    }

DEFINE_RULE(sgd, 0)
DEFINE_RULE(momentum, 1)
DEFINE_RULE(nesterov, 1)
DEFINE_RULE(adam, 2)
DEFINE_RULE(nadam, 2)
DEFINE_RULE(rmsprop, 1)
DEFINE_RULE(rmsprop_momentum, 2)
DEFINE_RULE(rmsprop_centered, 2)
DEFINE_RULE(rmsprop_centered_momentum, 3)
DEFINE_RULE(adagrad, 1)
DEFINE_RULE(adadelta, 2)

#define RMSPROP "rho epsilon momentum"
static const fc_rule rules[] = {
    {"sgd", "", "", sgd_update},
    {"momentum", "velocity", "momentum", momentum_update},
    {"nesterov", "velocity", "momentum", nesterov_update},
    {"adam", "momentum velocity", "one_minus_beta_1 one_minus_beta_2 epsilon", adam_update},
    {"nadam", "momentum velocity",
     "one_minus_beta_1 one_minus_beta_2 epsilon momentum_weight gradient_weight", nadam_update},
    {"rmsprop", "velocity", RMSPROP, rmsprop_update},
    {"rmsprop_momentum", "velocity momentum", RMSPROP, rmsprop_momentum_update},
    {"rmsprop_centered", "velocity average_gradient", RMSPROP, rmsprop_centered_update},
    {"rmsprop_centered_momentum", "velocity average_gradient momentum", RMSPROP,
     rmsprop_centered_momentum_update},
    {"adagrad", "accumulator", "epsilon", adagrad_update},
    {"adadelta", "accumulated_gradient accumulated_delta", "rho epsilon", adadelta_update},
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
