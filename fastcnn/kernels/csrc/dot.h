/* The matrix tile of a convolution with few output channels, n <= VLEN / 2: in the tiles of tile.h most lanes would be
 * idle. Here the lanes are channels of the input, and the sum over them is taken at the end.
 *
 *     y[m][n] = clamp(A[m][taps * inner] W + b)      W packed as [tap][vector of channels][n][VLEN], zeros past `inner`
 */
#include "vec.h"
#include "fc_kernels.h"

/* Accumulators: the rest of the registers holds weights and pixels. */
#define DOT_SUMS (MR * NV - 4)

INLINE void dot_step(vf acc[][VLEN / 2], const float *const *x, ptrdiff_t at, const float *w, int m, int n, int lanes)
{
    vf wv[VLEN / 2];
    UNROLL for (int j = 0; j < n; j++) wv[j] = load(w + j * VLEN);
    UNROLL for (int i = 0; i < m; i++) {
        const vf xi = lanes == VLEN ? load(x[i] + at) : load_part(x[i] + at, lanes);
        UNROLL for (int j = 0; j < n; j++) acc[i][j] += xi * wv[j];
    }
}

/* Sums of neighbouring lanes: those of a, then those of b. */
INLINE vf halves(vf a, vf b) { return shuffle(a, b, 2 * LANES) + shuffle(a, b, 2 * LANES + 1); }

/* Lane j is the sum of the lanes of v[j], j < n <= VLEN / 2: each round halves the lanes of a vector that are left,
 * and the vectors while there are several. */
INLINE vf sums_of(vf *v, const int n)
{
    int count = n > 4 ? 8 : n > 2 ? 4 : n;
    UNROLL for (int j = n; j < count; j++) v[j] = splat(0);
    UNROLL for (int lanes = VLEN; lanes > 1; lanes /= 2) {
        const int alone = count == 1;
        if (!alone) count /= 2;
        UNROLL for (int j = 0; j < count; j++) v[j] = halves(v[2 * j], v[alone ? 0 : 2 * j + 1]);
    }
    return v[0];
}

INLINE void dot_rows(const fc_dot_tile *t, const int32_t *xoff, const int32_t *yoff, const int m, const int n)
{
    vf acc[DOT_SUMS][VLEN / 2];
    const float *x[DOT_SUMS];
    UNROLL for (int i = 0; i < m; i++) {
        x[i] = t->x + xoff[i];
        UNROLL for (int j = 0; j < n; j++) acc[i][j] = splat(0);
    }
    const float *w = t->w;
    for (ptrdiff_t k = 0; k < t->taps; k++) {
        ptrdiff_t at = t->koff[k * t->inner], left = t->inner;
        for (; left >= VLEN; left -= VLEN, at += VLEN, w += n * VLEN) dot_step(acc, x, at, w, m, n, VLEN);
        if (left) {
            dot_step(acc, x, at, w, m, n, (int)left);
            w += n * VLEN;
        }
    }
    const vf bias = t->bias ? load_part(t->bias, n) : splat(0), lo = splat(t->lo), hi = splat(t->hi);
    UNROLL for (int i = 0; i < m; i++) store_part(t->y + yoff[i], clamp(sums_of(acc[i], n) + bias, lo, hi), n);
}

INLINE void dot_pixels(const fc_dot_tile *t, const int n)
{
    const int m = DOT_SUMS / n < 1 ? 1 : DOT_SUMS / n < 8 ? DOT_SUMS / n : 8;
    ptrdiff_t p = 0;
    for (; p + m <= t->pixels; p += m) dot_rows(t, t->xoff + p, t->yoff + p, m, n);
    for (; p < t->pixels; p++) dot_rows(t, t->xoff + p, t->yoff + p, 1, n);
}

static void dot_tile(const fc_dot_tile *t)
{
    switch (t->n) {
    case 1: dot_pixels(t, 1); break;
    case 2: dot_pixels(t, 2); break;
#if VLEN >= 8
    case 3: dot_pixels(t, 3); break;
    case 4: dot_pixels(t, 4); break;
#endif
#if VLEN >= 16
    case 5: dot_pixels(t, 5); break;
    case 6: dot_pixels(t, 6); break;
    case 7: dot_pixels(t, 7); break;
    case 8: dot_pixels(t, 8); break;
#endif
    }
}
