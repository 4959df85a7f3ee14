/* Pooling, one row at a time: images (h, w, c), windows (oh, ow) of (kh, kw) taps; contracts in fc_pool.h.
 *
 * Vectors run over channels. `*_vector` works on n channels, from channel v on, of one pixel; `*_pixel` calls
 * it for all channels, with n = VLEN as a constant, then for the tail. `two`: a whole 2 x 2 window. */
#include "vec.h"
#include "fc_pool.h"

INLINE vf pool_load(const float *p, int n) { return n == VLEN ? load(p) : load_part(p, n); }

INLINE void pool_store(float *p, vf v, int n)
{
    if (n == VLEN) store(p, v);
    else store_part(p, v, n);
}

/* Elements at, ..., at + n - 1 of an array of indices of `bytes` each. */
INLINE vi load_arg(const void *arg, ptrdiff_t at, int n, const int bytes)
{
    if (bytes == 4) return (vi)pool_load((const float *)arg + at, n);
    return n == VLEN ? load_bytes((const uint8_t *)arg + at) : load_bytes_part((const uint8_t *)arg + at, n);
}

INLINE void store_arg(void *arg, ptrdiff_t at, vi v, int n, const int bytes)
{
    if (bytes == 4) pool_store((float *)arg + at, (vf)v, n);
    else if (n == VLEN) store_bytes((uint8_t *)arg + at, v);
    else store_bytes_part((uint8_t *)arg + at, v, n);
}

typedef struct pool_span { ptrdiff_t begin, end; } pool_span;

/* Which of the k taps of a window that starts at pixel `start` are inside an image of `size` pixels. */
INLINE pool_span taps_inside(ptrdiff_t start, ptrdiff_t k, ptrdiff_t size)
{
    return (pool_span){start < 0 ? -start : 0, start + k > size ? size - start : k};
}

/* The taps of a window that are inside the image: rows x cols of them, the first with index `first` and
 * `offset` floats into its row. */
typedef struct pool_window {
    ptrdiff_t offset, rows, cols, first;
} pool_window;

INLINE pool_window window_at(const fc_pool p, pool_span r, ptrdiff_t j)
{
    const ptrdiff_t start = j * p.sw - p.pl;
    const pool_span i = taps_inside(start, p.kw, p.w);
    return (pool_window){(start + i.begin) * p.c, r.end - r.begin, i.end - i.begin, r.begin * p.kw + i.begin};
}

INLINE int is_whole_2x2(const pool_window w, ptrdiff_t kw)
{
    return w.rows == 2 && w.cols == 2 && kw == 2 && w.first == 0;
}

/* ---- maximum ---- */

/* The larger of `best` and x in each lane, the first of equals, or the first NaN; `at` is its index. */
INLINE void max_tap(vf *best, vi *at, vf x, ptrdiff_t index)
{
    take_above(best, at, x, splat_i((int32_t)index));
}

/* Clamps a maximum at 0; the index is -1 where nothing was above. */
INLINE void relu_maximum(vf *best, vi *at)
{
    const vi closed = *best <= splat(0);
    *best = choose(closed, splat(0), *best);
    *at |= closed;
}

INLINE void max_vector(const fc_pool p, const pool_window w, const float *x, ptrdiff_t row, ptrdiff_t v,
                       int n, float *y, void *arg, const int bytes, const int two)
{
    const vi flip = splat_i(p.minimum ? INT32_MIN : 0); /* minimum: the maximum with all signs flipped */
#define TAP(r, i) (vf)(flip ^ (vi)pool_load(x + (r) * row + (i) * p.c + v, n))
    vf best = TAP(0, 0);
    vi at = splat_i((int32_t)w.first);
    if (two) {
        max_tap(&best, &at, TAP(0, 1), 1);
        max_tap(&best, &at, TAP(1, 0), 2);
        max_tap(&best, &at, TAP(1, 1), 3);
    } else {
        for (ptrdiff_t r = 0; r < w.rows; r++)
            for (ptrdiff_t i = 0; i < w.cols; i++) max_tap(&best, &at, TAP(r, i), w.first + r * p.kw + i);
    }
#undef TAP
    best = (vf)(flip ^ (vi)best);
    if (p.relu) relu_maximum(&best, &at);
    pool_store(y + v, best, n);
    if (bytes) store_arg(arg, v, at, n, bytes);
}

INLINE void max_pixel(const fc_pool p, const pool_window w, const float *x, ptrdiff_t row, float *y,
                      void *arg, const int bytes, const int two)
{
    ptrdiff_t v = 0;
    for (; v + VLEN <= p.c; v += VLEN) max_vector(p, w, x, row, v, VLEN, y, arg, bytes, two);
    if (v < p.c) max_vector(p, w, x, row, v, (int)(p.c % VLEN), y, arg, bytes, two);
}

INLINE void max_row_body(const fc_pool p, ptrdiff_t o, const float *x, ptrdiff_t row, float *y, char *arg,
                         const int bytes)
{
    const pool_span r = taps_inside(o * p.sh - p.pt, p.kh, p.h);
    for (ptrdiff_t j = 0; j < p.ow; j++, y += p.c, arg += bytes * p.c) {
        const pool_window w = window_at(p, r, j);
        if (is_whole_2x2(w, p.kw)) max_pixel(p, w, x + w.offset, row, y, arg, bytes, 1);
        else max_pixel(p, w, x + w.offset, row, y, arg, bytes, 0);
    }
}

static void pool_max_row(const fc_pool *p, ptrdiff_t o, const float *x, ptrdiff_t row, float *y, void *arg)
{
    if (!arg) max_row_body(*p, o, x, row, y, arg, 0);
    else if (p->arg_bytes == 1) max_row_body(*p, o, x, row, y, arg, 1);
    else max_row_body(*p, o, x, row, y, arg, 4);
}

/* A gradient arrives at a pixel: added to those of earlier windows, or the only one. */
INLINE void put_grad(const fc_pool p, float *dx, vf g, int n)
{
    pool_store(dx, p.overlap ? pool_load(dx, n) + g : g, n);
}

INLINE void max_grad_vector(const fc_pool p, const pool_window w, const float *dy, const void *arg,
                            ptrdiff_t v, int n, float *dx, ptrdiff_t row, const int bytes, const int two)
{
    const vi g = (vi)pool_load(dy + v, n), at = load_arg(arg, v, n, bytes);
#define TAP(r, i, index) \
    put_grad(p, dx + (r) * row + (i) * p.c + v, (vf)((at == splat_i((int32_t)(index))) & g), n)
    if (two) {
        TAP(0, 0, 0);
        TAP(0, 1, 1);
        TAP(1, 0, 2);
        TAP(1, 1, 3);
    } else {
        for (ptrdiff_t r = 0; r < w.rows; r++)
            for (ptrdiff_t i = 0; i < w.cols; i++) TAP(r, i, w.first + r * p.kw + i);
    }
#undef TAP
}

INLINE void max_grad_pixel(const fc_pool p, const pool_window w, const float *dy, const void *arg, float *dx,
                           ptrdiff_t row, const int bytes, const int two)
{
    ptrdiff_t v = 0;
    for (; v + VLEN <= p.c; v += VLEN) max_grad_vector(p, w, dy, arg, v, VLEN, dx, row, bytes, two);
    if (v < p.c) max_grad_vector(p, w, dy, arg, v, (int)(p.c % VLEN), dx, row, bytes, two);
}

INLINE void max_grad_row_body(const fc_pool p, ptrdiff_t o, const float *dy, const char *arg, float *dx,
                              ptrdiff_t row, const int bytes)
{
    const pool_span r = taps_inside(o * p.sh - p.pt, p.kh, p.h);
    for (ptrdiff_t j = 0; j < p.ow; j++, dy += p.c, arg += bytes * p.c) {
        const pool_window w = window_at(p, r, j);
        if (is_whole_2x2(w, p.kw)) max_grad_pixel(p, w, dy, arg, dx + w.offset, row, bytes, 1);
        else max_grad_pixel(p, w, dy, arg, dx + w.offset, row, bytes, 0);
    }
}

/* Of n / c whole 2 x 2 windows of few channels, VLEN windows at a time: vectors run over pixels and channels alike.
 * Float f of a row of dx belongs to window f / 2c, and to the right half of it where f % 2c >= c. */
INLINE void max_grad_few(const float *dy, const uint8_t *arg, ptrdiff_t n, float *dx, ptrdiff_t row, const int c)
{
    for (; n > 0; n -= c * VLEN, dy += c * VLEN, arg += c * VLEN, dx += 2 * c * VLEN) {
        vf g[VLEN / 2 + 1], at[VLEN / 2 + 1];
        UNROLL for (int v = 0; v <= c; v++) {
            const ptrdiff_t left = v < c ? n - v * VLEN : 0;
            const int lanes = left < VLEN ? (int)left : VLEN;
            g[v] = left > 0 ? pool_load(dy + v * VLEN, lanes) : splat(0);
            at[v] = left > 0 ? (vf)load_arg(arg, v * VLEN, lanes, 1) : splat(0);
        }
        UNROLL for (int v = 0; v < 2 * c; v++) {
            const ptrdiff_t left = 2 * n - v * VLEN;
            const int lanes = left < VLEN ? (int)left : VLEN, first = v * VLEN / (2 * c) * c / VLEN;
            const vi f = LANES + v * VLEN, right = f % (2 * c) >= c, from = f / (2 * c) * c + f % c - first * VLEN;
            const vi dv = (vi)shuffle(g[first], g[first + 1], from), tap = (vi)shuffle(at[first], at[first + 1], from);
            if (left <= 0) break;
            pool_store(dx + v * VLEN, (vf)((tap == -right) & dv), lanes);
            pool_store(dx + row + v * VLEN, (vf)((tap == 2 - right) & dv), lanes);
        }
    }
}

/* Channel counts so few that vectors of channels would be half empty at best. */
#if VLEN == 16
#define FOR_EACH_FEW(C) C(1) C(2) C(3) C(4) C(5) C(6) C(7) C(8)
#elif VLEN == 8
#define FOR_EACH_FEW(C) C(1) C(2) C(3) C(4)
#else
#define FOR_EACH_FEW(C) C(1) C(2)
#endif

/* Whether row o consists of whole 2 x 2 windows side by side, of few channels. */
INLINE int has_few_2x2(const fc_pool *p, ptrdiff_t o)
{
    return p->kh == 2 && p->kw == 2 && p->sh == 2 && p->sw == 2 && !p->pt && !p->pl && !p->overlap
        && p->arg_bytes == 1 && 2 * p->c <= VLEN && 2 * o + 2 <= p->h && 2 * p->ow <= p->w;
}

static void pool_max_grad_row(const fc_pool *p, ptrdiff_t o, const float *dy, const void *arg, float *dx,
                              ptrdiff_t row)
{
    if (has_few_2x2(p, o)) {
        switch (p->c) {
#define CASE(c) case c: max_grad_few(dy, arg, p->ow * c, dx, row, c); return;
            FOR_EACH_FEW(CASE)
#undef CASE
        }
    }
    if (p->arg_bytes == 1) max_grad_row_body(*p, o, dy, arg, dx, row, 1);
    else max_grad_row_body(*p, o, dy, arg, dx, row, 4);
}

/* ---- average ---- */

/* What the mean of a window divides by. */
INLINE vf avg_count(const fc_pool p, const pool_window w)
{
    return splat(p.count_padding ? (float)p.kh * (float)p.kw : (float)w.rows * (float)w.cols);
}

/* Rows are summed first, then added: rounding errors grow with rows + cols, not with rows * cols. */
INLINE void avg_vector(const fc_pool p, const pool_window w, const float *x, ptrdiff_t row, ptrdiff_t v,
                       int n, float *y, const int two)
{
#define TAP(r, i) pool_load(x + (r) * row + (i) * p.c + v, n)
    vf sum = splat(0);
    if (two) {
        sum = (TAP(0, 0) + TAP(0, 1)) + (TAP(1, 0) + TAP(1, 1));
    } else {
        for (ptrdiff_t r = 0; r < w.rows; r++) {
            vf part = splat(0);
            for (ptrdiff_t i = 0; i < w.cols; i++) part += TAP(r, i);
            sum += part;
        }
    }
#undef TAP
    pool_store(y + v, sum / avg_count(p, w), n);
}

INLINE void avg_pixel(const fc_pool p, const pool_window w, const float *x, ptrdiff_t row, float *y,
                      const int two)
{
    ptrdiff_t v = 0;
    for (; v + VLEN <= p.c; v += VLEN) avg_vector(p, w, x, row, v, VLEN, y, two);
    if (v < p.c) avg_vector(p, w, x, row, v, (int)(p.c % VLEN), y, two);
}

static void pool_avg_row(const fc_pool *sizes, ptrdiff_t o, const float *x, ptrdiff_t row, float *y)
{
    const fc_pool p = *sizes;
    const pool_span r = taps_inside(o * p.sh - p.pt, p.kh, p.h);
    for (ptrdiff_t j = 0; j < p.ow; j++, y += p.c) {
        const pool_window w = window_at(p, r, j);
        if (is_whole_2x2(w, p.kw)) avg_pixel(p, w, x + w.offset, row, y, 1);
        else avg_pixel(p, w, x + w.offset, row, y, 0);
    }
}

INLINE void avg_grad_vector(const fc_pool p, const pool_window w, const float *dy, ptrdiff_t v, int n,
                            float *dx, ptrdiff_t row)
{
    const vf g = pool_load(dy + v, n) / avg_count(p, w);
    for (ptrdiff_t r = 0; r < w.rows; r++)
        for (ptrdiff_t i = 0; i < w.cols; i++) put_grad(p, dx + r * row + i * p.c + v, g, n);
}

static void pool_avg_grad_row(const fc_pool *sizes, ptrdiff_t o, const float *dy, float *dx, ptrdiff_t row)
{
    const fc_pool p = *sizes;
    const pool_span r = taps_inside(o * p.sh - p.pt, p.kh, p.h);
    for (ptrdiff_t j = 0; j < p.ow; j++, dy += p.c) {
        const pool_window w = window_at(p, r, j);
        ptrdiff_t v = 0;
        for (; v + VLEN <= p.c; v += VLEN) avg_grad_vector(p, w, dy, v, VLEN, dx + w.offset, row);
        if (v < p.c) avg_grad_vector(p, w, dy, v, (int)(p.c % VLEN), dx + w.offset, row);
    }
}
