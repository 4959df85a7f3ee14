/* Depthwise convolution; contracts in fc_depthwise.h. x (rows of pixels of n channels), w (kh, kw, n).
 *
 * Accumulators stay in registers: their number is a constant of each instantiation of the inlined bodies. */
#include "fc_depthwise.h"
#include "vec.h"

/* A vector of channels: all VLEN (lanes is 0), or the first `lanes`. */
INLINE vf load_lanes(const float *p, int lanes) { return lanes ? load_part(p, lanes) : load(p); }
INLINE void store_lanes(float *p, vf v, int lanes)
{
    if (lanes) store_part(p, v, lanes);
    else store(p, v);
}

INLINE vf load_unless(int outside, const float *p, int lanes) { return outside ? splat(0) : load_lanes(p, lanes); }

#define DW_PIXELS 8 /* of the largest gather tile: enough independent sums to hide the latency of an FMA */
#define DW_COLS 3   /* most columns of taps that get a tile of their own */

/* m pixels from pixel `at` on, one vector of channels from c on. cols > 0: neighbouring taps are neighbouring
 * pixels (xcol == xpixel) and there are that many columns of them; each x serves all its taps at once. */
INLINE void dw_gather_tile(const fc_depthwise_gather *t, ptrdiff_t at, ptrdiff_t c,
                           const int m, const int cols, const int lanes)
{
    vf acc[DW_PIXELS];
    const ptrdiff_t xpixel = t->xpixel, ypixel = t->ypixel;
    const int before = t->before && at == 0, after = t->after && at + m == t->pixels;
    const float *x_row = t->x + at * xpixel + c, *w_row = t->w + c;
    float *y = t->y + at * ypixel + c;
    UNROLL for (int i = 0; i < m; i++) {
        acc[i] = splat(0);
        __builtin_prefetch(y + (i + 2 * m) * ypixel, 1); /* of the tile after the next: y is new in the cache */
    }
    for (ptrdiff_t a = 0; a < t->rows; a++, x_row += t->xrow, w_row += t->wrow) {
        const float *x = x_row, *w = w_row;
        if (cols) {
            vf wv[DW_COLS];
            UNROLL for (int b = 0; b < cols; b++) wv[b] = load_lanes(w + b * t->wcol, lanes);
            UNROLL for (int j = 0; j < m + cols - 1; j++) {
                const vf xv = load_unless((j == 0 && before) || (j == m + cols - 2 && after), x + j * xpixel, lanes);
                UNROLL for (int b = 0; b < cols; b++)
                    if (b <= j && j < b + m) acc[j - b] += xv * wv[b];
            }
        } else {
            for (ptrdiff_t b = 0; b < t->cols; b++, x += t->xcol, w += t->wcol) {
                const vf wv = load_lanes(w, lanes);
                const int no_first = before && b == 0, no_last = after && b == t->cols - 1;
                UNROLL for (int i = 0; i < m; i++)
                    acc[i] += load_unless((i == 0 && no_first) || (i == m - 1 && no_last), x + i * xpixel, lanes) * wv;
            }
        }
    }
    const vf bias = t->bias ? load_lanes(t->bias + c, lanes) : splat(0);
    const vf lo = splat(t->lo), hi = splat(t->hi);
    UNROLL for (int i = 0; i < m; i++) store_lanes(y + i * ypixel, clamp(acc[i] + bias, lo, hi), lanes);
}

/* All pixels and channels, m pixels at a time; the last tile may overlap the one before it. */
INLINE void dw_gather_run(const fc_depthwise_gather *t, const int m, const int cols)
{
    const int tail = (int)(t->n % VLEN);
    for (ptrdiff_t p = 0; p < t->pixels; p += m) {
        const ptrdiff_t at = p + m <= t->pixels ? p : t->pixels - m;
        ptrdiff_t c = 0;
        for (; c + VLEN <= t->n; c += VLEN) dw_gather_tile(t, at, c, m, cols, 0);
        if (tail) dw_gather_tile(t, at, c, m, cols, tail);
    }
}

/* The largest tile that fits into the run. */
INLINE void dw_gather_cols(const fc_depthwise_gather *t, const int cols)
{
    if (t->pixels >= 8) dw_gather_run(t, 8, cols);
    else if (t->pixels >= 4) dw_gather_run(t, 4, cols);
    else if (t->pixels >= 2) dw_gather_run(t, 2, cols);
    else if (t->pixels == 1) dw_gather_run(t, 1, cols);
}

static void depthwise_gather(const fc_depthwise_gather *t)
{
    switch (t->xcol == t->xpixel && t->cols <= DW_COLS ? t->cols : 0) {
    case 0: dw_gather_cols(t, 0); break;
    case 1: dw_gather_cols(t, 1); break;
    case 2: dw_gather_cols(t, 2); break;
    case 3: dw_gather_cols(t, 3); break;
    }
}

#define DW_TAPS 3 /* rows and columns of the block of taps whose gradients one pass sums */

typedef struct dw_sums { vf tap[DW_TAPS][DW_TAPS], dy; } dw_sums;

/* Adds one pixel to the sums of `rows` taps in each of the columns [first, last). */
INLINE void dw_outer_pixel(dw_sums *s, const float *x, ptrdiff_t xrow, ptrdiff_t xcol, const float *dy,
                           const int rows, const int first, const int last, const int lanes)
{
    const vf d = load_lanes(dy, lanes);
    s->dy += d;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = first; j < last; j++) s->tap[i][j] += load_lanes(x + i * xrow + j * xcol, lanes) * d;
}

/* The block of `rows` x `cols` taps that starts at tap (a, b); the first block also sums dy for the bias. */
INLINE void dw_outer_block(const fc_depthwise_outer *t, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c,
                           const int rows, const int cols, const int lanes)
{
    dw_sums s = {.dy = splat(0)};
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < cols; j++) s.tap[i][j] = splat(0);
    const ptrdiff_t xrow = t->xrow, xcol = t->xcol, xpixel = t->xpixel, n = t->n;
    const int before = t->before && b == 0, after = t->after && b + cols == t->cols;
    const float *x_line = t->x + a * xrow + b * xcol + c, *dy_line = t->dy + c;
    for (ptrdiff_t l = 0; l < t->lines; l++, x_line += t->xline, dy_line += t->yline) {
        const float *x = x_line, *dy = dy_line, *end = dy + (t->pixels - after) * n;
        if (before) {
            dw_outer_pixel(&s, x, xrow, xcol, dy, rows, 1, cols, lanes);
            dy += n, x += xpixel;
        }
        for (; dy < end; dy += n, x += xpixel) dw_outer_pixel(&s, x, xrow, xcol, dy, rows, 0, cols, lanes);
        if (after) dw_outer_pixel(&s, x, xrow, xcol, dy, rows, 0, cols - 1, lanes);
    }
    float *dw = t->dw + a * t->wrow + b * n + c;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < cols; j++) {
            float *at = dw + i * t->wrow + j * n;
            store_lanes(at, load_lanes(at, lanes) + s.tap[i][j], lanes);
        }
    if (t->db && a == 0 && b == 0) store_lanes(t->db + c, load_lanes(t->db + c, lanes) + s.dy, lanes);
}

/* All taps for the channels [c, c + lanes). */
INLINE void dw_outer_channels(const fc_depthwise_outer *t, ptrdiff_t c, const int lanes)
{
    if (t->rows == 0 || t->cols == 0) dw_outer_block(t, 0, 0, c, 0, 0, lanes);
    for (ptrdiff_t a = 0; a < t->rows; a += DW_TAPS)
        for (ptrdiff_t b = 0; b < t->cols; b += DW_TAPS) {
            const ptrdiff_t rows = t->rows - a < DW_TAPS ? t->rows - a : DW_TAPS;
            const ptrdiff_t cols = t->cols - b < DW_TAPS ? t->cols - b : DW_TAPS;
            switch (rows * 4 + cols) {
            case 5: dw_outer_block(t, a, b, c, 1, 1, lanes); break;
            case 6: dw_outer_block(t, a, b, c, 1, 2, lanes); break;
            case 7: dw_outer_block(t, a, b, c, 1, 3, lanes); break;
            case 9: dw_outer_block(t, a, b, c, 2, 1, lanes); break;
            case 10: dw_outer_block(t, a, b, c, 2, 2, lanes); break;
            case 11: dw_outer_block(t, a, b, c, 2, 3, lanes); break;
            case 13: dw_outer_block(t, a, b, c, 3, 1, lanes); break;
            case 14: dw_outer_block(t, a, b, c, 3, 2, lanes); break;
            case 15: dw_outer_block(t, a, b, c, 3, 3, lanes); break;
            }
        }
}

static void depthwise_outer(const fc_depthwise_outer *t)
{
    const int tail = (int)(t->n % VLEN);
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->n; c += VLEN) dw_outer_channels(t, c, 0);
    if (tail) dw_outer_channels(t, c, tail);
}
