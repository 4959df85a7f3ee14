/* Activations over n contiguous floats: y = f(x), dx = dy * f'(saved). `a` is the parameter in every lane. */
#include "vmath.h"
#include "fc_eltwise.h"

#define SELU_SCALE 1.05070098735548049342f
#define SELU_ALPHA 1.67326324235437728481f
#define SQRT_2_OVER_PI 0.79788456080286535588f
#define INV_SQRT_2PI 0.39894228040143267794f

/* Each pair: the function, then the gradient from the saved value s: y, or x where the table below says. */
INLINE vf act_linear(vf x, vf a) { return x; }
INLINE vf act_linear_grad(vf dy, vf s, vf a) { return dy; }

INLINE vf act_relu(vf x, vf a) { return vmax(splat(0), x); }
INLINE vf act_relu_grad(vf dy, vf s, vf a) { return zero_unless(s > 0.0f, dy); }

INLINE vf act_relu6(vf x, vf a) { return clamp(x, splat(0), splat(6)); }
INLINE vf act_relu6_grad(vf dy, vf s, vf a) { return zero_unless((s > 0.0f) & (s < 6.0f), dy); }

INLINE vf act_leaky_relu(vf x, vf a) { return choose(x > 0.0f, x, a * x); }
INLINE vf act_leaky_relu_grad(vf dy, vf s, vf a) { return choose(s > 0.0f, dy, a * dy); }

INLINE vf act_elu(vf x, vf a) { return choose(x > 0.0f, x, a * vexpm1(x)); }
INLINE vf act_elu_grad(vf dy, vf s, vf a) { return choose(s > 0.0f, dy, dy * (s + a)); }

INLINE vf act_selu(vf x, vf a) { return SELU_SCALE * act_elu(x, splat(SELU_ALPHA)); }
INLINE vf act_selu_grad(vf dy, vf s, vf a)
{
    return dy * choose(s > 0.0f, splat(SELU_SCALE), s + SELU_SCALE * SELU_ALPHA);
}

INLINE vf act_sigmoid(vf x, vf a) { return vsigmoid(x); }
INLINE vf act_sigmoid_grad(vf dy, vf s, vf a) { return dy * s * (1.0f - s); }

INLINE vf act_tanh(vf x, vf a) { return vtanh(x); }
INLINE vf act_tanh_grad(vf dy, vf s, vf a) { return dy * (1.0f - s) * (1.0f + s); }

INLINE vf act_exponential(vf x, vf a) { return vexp(x); }
INLINE vf act_exponential_grad(vf dy, vf s, vf a) { return dy * s; }

/* ln(1 + e^x); its derivative sigmoid(x) is 1 - e^-y. */
INLINE vf act_softplus(vf x, vf a) { return vmax(splat(0), x) + vlog1p(vexp(-vabs(x))); }
INLINE vf act_softplus_grad(vf dy, vf s, vf a) { return dy * -vexpm1(-s); }

INLINE vf act_softsign(vf x, vf a) { return x / (1.0f + vabs(x)); }
INLINE vf act_softsign_grad(vf dy, vf s, vf a)
{
    const vf d = 1.0f + vabs(s);
    return dy / d / d;
}

INLINE vf act_hard_sigmoid(vf x, vf a) { return act_relu6(x + 3.0f, a) * (1 / 6.0f); }
INLINE vf act_hard_sigmoid_grad(vf dy, vf s, vf a)
{
    return zero_unless((s > 0.0f) & (s < 1.0f), dy * (1 / 6.0f));
}

INLINE vf act_hard_swish(vf x, vf a) { return x * act_hard_sigmoid(x, a); }
INLINE vf act_hard_swish_grad(vf dy, vf s, vf a)
{
    const vf ramp = (2.0f * s + 3.0f) * (1 / 6.0f);
    return dy * choose(s >= 3.0f, splat(1), zero_unless(s > -3.0f, ramp));
}

INLINE vf act_silu(vf x, vf a) { return x * vsigmoid(x); }
INLINE vf act_silu_grad(vf dy, vf x, vf a)
{
    const vf s = vsigmoid(x);
    return dy * (s + x * s * (1.0f - s));
}

/* x Phi(x), Phi the normal distribution function: Hendrycks and Gimpel, arXiv:1606.08415, 2016. */
INLINE vf act_gelu(vf x, vf a)
{
    vf density;
    return x * normal_cdf(x, &density);
}
INLINE vf act_gelu_grad(vf dy, vf x, vf a)
{
    vf density;
    const vf cdf = normal_cdf(x, &density);
    return dy * (cdf + x * density * INV_SQRT_2PI);
}

/* The same paper's approximation, with x/2 (1 + tanh u) written as x sigmoid(2u). */
INLINE vf act_gelu_tanh(vf x, vf a) { return x * vsigmoid(2 * SQRT_2_OVER_PI * (x + 0.044715f * x * x * x)); }
INLINE vf act_gelu_tanh_grad(vf dy, vf x, vf a)
{
    const vf z = clamp(x, splat(-12), splat(12)); /* beyond, the derivative is 0 or 1; powers stay finite */
    const vf s = vsigmoid(2 * SQRT_2_OVER_PI * (z + 0.044715f * z * z * z));
    const vf slope = 2 * SQRT_2_OVER_PI * (1.0f + 3 * 0.044715f * z * z);
    return dy * (s + z * s * (1.0f - s) * slope);
}

/* x tanh(softplus(x)) = x w / (w + 2) with e = e^x and w = e (e + 2): Misra, arXiv:1908.08681, 2019. */
INLINE vf act_mish(vf x, vf a)
{
    const vf e = vexp(vmin(splat(20), x)), w = e * (e + 2.0f);
    return x * (w / (w + 2.0f));
}
INLINE vf act_mish_grad(vf dy, vf x, vf a)
{
    const vf z = vmin(splat(20), x); /* beyond, the derivative is 1 */
    const vf e = vexp(z), w = e * (e + 2.0f), d = w + 2.0f;
    return dy * (w / d + z * (4.0f * e / d) * ((1.0f + e) / d));
}

#define DEFINE_ACTIVATION(f)                                                                          \
    static void run_##f(float *y, const float *x, ptrdiff_t n, float param)                           \
    {                                                                                                 \
        const vf a = splat(param);                                                                    \
        for (; n >= VLEN; n -= VLEN, x += VLEN, y += VLEN) store(y, act_##f(load(x), a));                   \
        if (n) store_part(y, act_##f(load_part(x, n), a), n);                                               \
    }                                                                                                 \
    static void run_##f##_grad(float *dx, const float *dy, const float *s, ptrdiff_t n, float param)  \
    {                                                                                                 \
        const vf a = splat(param);                                                                    \
        for (; n >= VLEN; n -= VLEN, dy += VLEN, s += VLEN, dx += VLEN)                               \
            store(dx, act_##f##_grad(load(dy), load(s), a));                                                \
        if (n) store_part(dx, act_##f##_grad(load_part(dy, n), load_part(s, n), a), n);                     \
    }

/* X(name, function, gradient from x, default parameter) */
#define ACTIVATIONS(X)                                                                                \
    X("linear", linear, 0, 0) X("relu", relu, 0, 0) X("relu6", relu6, 0, 0)                           \
    X("leaky_relu", leaky_relu, 0, 0.2f) X("elu", elu, 0, 1) X("selu", selu, 0, 0)                    \
    X("sigmoid", sigmoid, 0, 0) X("tanh", tanh, 0, 0) X("exponential", exponential, 0, 0)            \
    X("softplus", softplus, 0, 0) X("softsign", softsign, 1, 0)                                       \
    X("hard_sigmoid", hard_sigmoid, 0, 0) X("hard_swish", hard_swish, 1, 0)                           \
    X("silu", silu, 1, 0) X("swish", silu, 1, 0) X("mish", mish, 1, 0)                                \
    X("gelu", gelu, 1, 0) X("gelu_tanh", gelu_tanh, 1, 0)

DEFINE_ACTIVATION(linear)
DEFINE_ACTIVATION(relu)
DEFINE_ACTIVATION(relu6)
DEFINE_ACTIVATION(leaky_relu)
DEFINE_ACTIVATION(elu)
DEFINE_ACTIVATION(selu)
DEFINE_ACTIVATION(sigmoid)
DEFINE_ACTIVATION(tanh)
DEFINE_ACTIVATION(exponential)
DEFINE_ACTIVATION(softplus)
DEFINE_ACTIVATION(softsign)
DEFINE_ACTIVATION(hard_sigmoid)
DEFINE_ACTIVATION(hard_swish)
DEFINE_ACTIVATION(silu)
DEFINE_ACTIVATION(mish)
DEFINE_ACTIVATION(gelu)
DEFINE_ACTIVATION(gelu_tanh)

#define ACTIVATION_ROW(name, f, grad_from_x, param) {name, grad_from_x, param, run_##f, run_##f##_grad},
static const fc_activation activations[] = {ACTIVATIONS(ACTIVATION_ROW) {0}};
