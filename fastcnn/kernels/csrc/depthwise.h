/* Depthwise convolution; contracts in fc_depthwise.h. x (rows of pixels of n channels), w (kh, kw, n).
 *
 * Accumulators stay in registers: their number is a constant of each instantiation of the inlined bodies. */
#include "fc_depthwise.h"
#include "vec.h"

INLINE vf load_lanes(const float *p, int lanes) { return lanes == VLEN ? load(p) : load_part(p, lanes); }
INLINE void store_lanes(float *p, vf v, int lanes)
{
    if (lanes == VLEN) store(p, v);
    else store_part(p, v, lanes);
}

#define DW_PIXELS 8 /* of one gather tile: enough independent sums to hide the latency of an FMA */

INLINE void dw_gather_tile(const fc_depthwise_gather *t, ptrdiff_t at, ptrdiff_t c, const int m, const int lanes)
{
    vf acc[DW_PIXELS];
    UNROLL for (int i = 0; i < m; i++) acc[i] = splat(0);
    const ptrdiff_t step = t->xpixel;
    const float *xa = t->x + at * step + c, *wa = t->w + c;
    for (ptrdiff_t a = 0; a < t->rows; a++, xa += t->xrow, wa += t->wrow) {
        const float *x = xa, *w = wa;
        for (ptrdiff_t b = 0; b < t->cols; b++, x += t->xcol, w += t->wcol) {
            const vf wv = load_lanes(w, lanes);
            UNROLL for (int i = 0; i < m; i++) acc[i] += load_lanes(x + i * step, lanes) * wv;
        }
    }
    const vf bias = t->bias ? load_lanes(t->bias + c, lanes) : splat(0);
    const vf lo = splat(t->lo), hi = splat(t->hi);
    float *y = t->y + at * t->ypixel + c;
    UNROLL for (int i = 0; i < m; i++) store_lanes(y + i * t->ypixel, clamp(acc[i] + bias, lo, hi), lanes);
}

/* All channels of `m` pixels. */
INLINE void dw_gather_pixels(const fc_depthwise_gather *t, ptrdiff_t at, const int m)
{
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->n; c += VLEN) dw_gather_tile(t, at, c, m, VLEN);
    if (c < t->n) dw_gather_tile(t, at, c, m, (int)(t->n - c));
}

static void depthwise_gather(const fc_depthwise_gather *t)
{
    ptrdiff_t p = 0;
    for (; p + DW_PIXELS <= t->pixels; p += DW_PIXELS) dw_gather_pixels(t, p, DW_PIXELS);
    switch (t->pixels - p) {
    case 1: dw_gather_pixels(t, p, 1); break;
    case 2: dw_gather_pixels(t, p, 2); break;
    case 3: dw_gather_pixels(t, p, 3); break;
    case 4: dw_gather_pixels(t, p, 4); break;
    case 5: dw_gather_pixels(t, p, 5); break;
    case 6: dw_gather_pixels(t, p, 6); break;
    case 7: dw_gather_pixels(t, p, 7); break;
    }
}

#define DW_TAPS 3 /* rows and columns of the block of taps whose gradients one pass sums */

/* The block of `rows` x `cols` taps that starts at tap (a, b); the first block also sums dy for the bias. */
INLINE void dw_outer_block(const fc_depthwise_outer *t, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c,
                           const int rows, const int cols, const int lanes)
{
    vf acc[DW_TAPS][DW_TAPS], sum = splat(0);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < cols; j++) acc[i][j] = splat(0);
    const ptrdiff_t xrow = t->xrow, xcol = t->xcol, xpixel = t->xpixel, n = t->n;
    const float *x_line = t->x + a * xrow + b * xcol + c, *dy_line = t->dy + c;
    for (ptrdiff_t l = 0; l < t->lines; l++, x_line += t->xline, dy_line += t->yline) {
        const float *x = x_line, *dy = dy_line;
        for (const float *end = dy + t->pixels * n; dy < end; dy += n, x += xpixel) {
            const vf d = load_lanes(dy, lanes);
            sum += d;
            UNROLL for (int i = 0; i < rows; i++)
                UNROLL for (int j = 0; j < cols; j++) acc[i][j] += load_lanes(x + i * xrow + j * xcol, lanes) * d;
        }
    }
    float *dw = t->dw + a * t->wrow + b * n + c;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < cols; j++) {
            float *at = dw + i * t->wrow + j * n;
            store_lanes(at, load_lanes(at, lanes) + acc[i][j], lanes);
        }
    if (t->db && a == 0 && b == 0) store_lanes(t->db + c, load_lanes(t->db + c, lanes) + sum, lanes);
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
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->n; c += VLEN) dw_outer_channels(t, c, VLEN);
    if (c < t->n) dw_outer_channels(t, c, (int)(t->n - c));
}
