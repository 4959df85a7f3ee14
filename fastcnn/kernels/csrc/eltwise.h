/* Softmax over rows of c floats, sums, and simple arithmetic on runs of floats; contracts in fc_eltwise.h. */
#include "activation.h"
#include "philox.h"

INLINE vf row_max(const float *x, ptrdiff_t c)
{
    vf m = splat(-__builtin_inff());
    for (ptrdiff_t j = 0; j < c; j += VLEN) m = vmax(m, load_or_minus_inf(x + j, c - j));
    return max_all(m);
}

static void softmax(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c)
{
    for (; rows > 0; rows--, x += c, y += c) {
        const vf m = row_max(x, c);
        vf sum = splat(0);
        for (ptrdiff_t j = 0; j < c; j += VLEN) {
            const vf e = vexp(load_or_minus_inf(x + j, c - j) - m);
            sum += e;
            store_upto(y + j, e, c - j);
        }
        const vf inverse = 1.0f / sum_all(sum);
        for (ptrdiff_t j = 0; j < c; j += VLEN) store_upto(y + j, load_upto(y + j, c - j) * inverse, c - j);
    }
}

static void softmax_grad(float *dx, const float *dy, const float *y, ptrdiff_t rows, ptrdiff_t c)
{
    for (; rows > 0; rows--, dx += c, dy += c, y += c) {
        vf dot = splat(0);
        for (ptrdiff_t j = 0; j < c; j += VLEN) dot += load_upto(dy + j, c - j) * load_upto(y + j, c - j);
        dot = sum_all(dot);
        for (ptrdiff_t j = 0; j < c; j += VLEN)
            store_upto(dx + j, load_upto(y + j, c - j) * (load_upto(dy + j, c - j) - dot), c - j);
    }
}

static void log_softmax(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c)
{
    for (; rows > 0; rows--, x += c, y += c) {
        const vf m = row_max(x, c);
        vf sum = splat(0);
        for (ptrdiff_t j = 0; j < c; j += VLEN) sum += vexp(load_or_minus_inf(x + j, c - j) - m);
        const vf log = vlog(sum_all(sum));
        for (ptrdiff_t j = 0; j < c; j += VLEN) store_upto(y + j, load_upto(x + j, c - j) - m - log, c - j);
    }
}

static void log_softmax_grad(float *dx, const float *dy, const float *y, ptrdiff_t rows, ptrdiff_t c)
{
    for (; rows > 0; rows--, dx += c, dy += c, y += c) {
        vf sum = splat(0);
        for (ptrdiff_t j = 0; j < c; j += VLEN) sum += load_upto(dy + j, c - j);
        sum = sum_all(sum);
        for (ptrdiff_t j = 0; j < c; j += VLEN)
            store_upto(dx + j, load_upto(dy + j, c - j) - vexp(load_upto(y + j, c - j)) * sum, c - j);
    }
}

static void add_floats(float *y, const float *a, const float *b, ptrdiff_t n)
{
    for (; n >= VLEN; n -= VLEN, y += VLEN, a += VLEN, b += VLEN) store(y, load(a) + load(b));
    if (n) store_part(y, load_part(a, n) + load_part(b, n), n);
}

static void multiply_floats(float *y, const float *a, const float *b, ptrdiff_t n)
{
    for (; n >= VLEN; n -= VLEN, y += VLEN, a += VLEN, b += VLEN) store(y, load(a) * load(b));
    if (n) store_part(y, load_part(a, n) * load_part(b, n), n);
}

static void affine_floats(float *y, const float *x, ptrdiff_t n, float scale, float offset)
{
    for (; n >= VLEN; n -= VLEN, y += VLEN, x += VLEN) store(y, load(x) * scale + offset);
    if (n) store_part(y, load_part(x, n) * scale + offset, n);
}

/* Zero times a number is zero, but for NaN and infinity; four sums, as each waits for its last addition. */
static int all_finite(const float *x, ptrdiff_t n)
{
    vf s[4] = {{0}};
    for (; n >= 4 * VLEN; n -= 4 * VLEN, x += 4 * VLEN)
        UNROLL for (int k = 0; k < 4; k++) s[k] += load(x + k * VLEN) * 0.0f;
    for (; n > 0; n -= VLEN, x += VLEN) s[0] += load_upto(x, n) * 0.0f;
    return sum_all((s[0] + s[1]) + (s[2] + s[3]))[0] == 0;
}

/* One vector of channels at a time, over four partial sums to hide the latency of addition. */
static void channel_sum(float *sum, const float *x, ptrdiff_t rows, ptrdiff_t c)
{
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const float *p = x + j;
        vf s[4] = {{0}};
        ptrdiff_t i = 0;
        for (; i + 4 <= rows; i += 4)
            UNROLL for (int k = 0; k < 4; k++, p += c) s[k] += load_upto(p, c - j);
        for (; i < rows; i++, p += c) s[0] += load_upto(p, c - j);
        store_upto(sum + j, load_upto(sum + j, c - j) + ((s[0] + s[1]) + (s[2] + s[3])), c - j);
    }
}

#define ELTWISE_KERNELS {                 \
    .activations = activations,           \
    .softmax = softmax,                   \
    .softmax_grad = softmax_grad,         \
    .log_softmax = log_softmax,           \
    .log_softmax_grad = log_softmax_grad, \
    .add = add_floats,                    \
    .multiply = multiply_floats,          \
    .all_finite = all_finite,             \
    .affine = affine_floats,              \
    .channel_sum = channel_sum,           \
    .dropout_scale = dropout_scale,       \
}
