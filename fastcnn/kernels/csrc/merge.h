/* Merging branches, and PReLU, on runs of floats; contracts in fc_merge.h. */

INLINE vf vmax_nan(vf a, vf b) { return choose(a != a, a, vmax(a, b)); }
INLINE vf vmin_nan(vf a, vf b) { return choose(a != a, a, vmin(a, b)); }
INLINE vf prelu_of(vf x, vf slope) { return choose(x > 0.0f, x, x * slope); }

#define BINARY(name, value)                                                          \
    static void name(float *y, const float *a, const float *b, ptrdiff_t n)          \
    {                                                                                \
        for (ptrdiff_t i = 0; i < n; i += VLEN) {                                    \
            const vf u = load_upto(a + i, n - i), v = load_upto(b + i, n - i);       \
            store_upto(y + i, value, n - i);                                         \
        }                                                                            \
    }

BINARY(subtract_floats, u - v)
BINARY(maximum_floats, vmax_nan(u, v))
BINARY(minimum_floats, vmin_nan(u, v))
BINARY(prelu, prelu_of(u, v))
BINARY(prelu_slope_grad, zero_unless(~(v > 0.0f), u * v))

static void add_clamp(float *y, const float *a, const float *b, ptrdiff_t n, float lo, float hi)
{
    const vf low = splat(lo), high = splat(hi);
    for (ptrdiff_t i = 0; i < n; i += VLEN)
        store_upto(y + i, clamp(load_upto(a + i, n - i) + load_upto(b + i, n - i), low, high), n - i);
}

static void select_floats(float *dx, const float *dy, const float *a, const float *b, ptrdiff_t n, int equal)
{
    const vi flip = splat_i(equal ? 0 : -1);
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        const vi same = load_upto(a + i, n - i) == load_upto(b + i, n - i);
        store_upto(dx + i, zero_unless(same ^ flip, load_upto(dy + i, n - i)), n - i);
    }
}

static void row_sum(float *sum, const float *x, ptrdiff_t rows, ptrdiff_t c)
{
    for (ptrdiff_t i = 0; i < rows; i++, x += c) {
        vf s = splat(0);
        for (ptrdiff_t j = 0; j < c; j += VLEN) s += load_upto(x + j, c - j);
        sum[i] += sum_all(s)[0];
    }
}

static void prelu_grad(float *dx, const float *dy, const float *x, const float *slope, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        const vf d = load_upto(dy + i, n - i);
        store_upto(dx + i, choose(load_upto(x + i, n - i) > 0.0f, d, d * load_upto(slope + i, n - i)), n - i);
    }
}

#define MERGE_KERNELS {                   \
    .subtract = subtract_floats,          \
    .maximum = maximum_floats,            \
    .minimum = minimum_floats,            \
    .add_clamp = add_clamp,               \
    .select = select_floats,              \
    .row_sum = row_sum,                   \
    .prelu = prelu,                       \
    .prelu_grad = prelu_grad,             \
    .prelu_slope_grad = prelu_slope_grad, \
}
