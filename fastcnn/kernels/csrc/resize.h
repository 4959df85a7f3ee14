/* Enlarging rows of pixels; contracts in fc_resize.h. */

INLINE void repeat_pixel(float *y, const float *x, ptrdiff_t c, ptrdiff_t times)
{
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const vf v = load_upto(x + j, c - j);
        for (ptrdiff_t k = 0; k < times; k++) store_upto(y + k * c + j, v, c - j);
    }
}

static void repeat_pixels(float *y, const float *x, ptrdiff_t w, ptrdiff_t c, ptrdiff_t times)
{
    for (ptrdiff_t i = 0; i < w; i++) repeat_pixel(y + i * times * c, x + i * c, c, times);
}

static void sum_repeats(float *dx, const float *dy, ptrdiff_t w, ptrdiff_t c, ptrdiff_t times)
{
    for (ptrdiff_t i = 0; i < w; i++, dx += c, dy += times * c)
        for (ptrdiff_t j = 0; j < c; j += VLEN) {
            vf s = load_upto(dx + j, c - j);
            for (ptrdiff_t k = 0; k < times; k++) s += load_upto(dy + k * c + j, c - j);
            store_upto(dx + j, s, c - j);
        }
}

static void lerp(float *y, const float *a, const float *b, ptrdiff_t n, float t)
{
    for (ptrdiff_t i = 0; i < n; i += VLEN)
        store_upto(y + i, load_upto(a + i, n - i) * (1 - t) + load_upto(b + i, n - i) * t, n - i);
}

static void add_scaled(float *y, const float *x, ptrdiff_t n, float scale)
{
    for (ptrdiff_t i = 0; i < n; i += VLEN)
        store_upto(y + i, load_upto(y + i, n - i) + load_upto(x + i, n - i) * scale, n - i);
}

static void lerp_row(float *y, const float *x, const fc_lerp *l, ptrdiff_t outputs, ptrdiff_t c)
{
    for (ptrdiff_t i = 0; i < outputs; i++)
        lerp(y + i * c, x + l->lower[i] * c, x + l->upper[i] * c, c, l->t[i]);
}

static void lerp_grad_row(float *dx, const float *dy, const fc_lerp *l, ptrdiff_t outputs, ptrdiff_t c)
{
    for (ptrdiff_t i = 0; i < outputs; i++) {
        add_scaled(dx + l->lower[i] * c, dy + i * c, c, 1 - l->t[i]);
        add_scaled(dx + l->upper[i] * c, dy + i * c, c, l->t[i]);
    }
}

#define RESIZE_KERNELS {            \
    .repeat = repeat_pixels,        \
    .sum_repeats = sum_repeats,     \
    .lerp = lerp,                   \
    .add_scaled = add_scaled,       \
    .lerp_row = lerp_row,           \
    .lerp_grad_row = lerp_grad_row, \
}
