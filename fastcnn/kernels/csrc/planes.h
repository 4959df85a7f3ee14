/* Convolution of few channels, plane by plane; contracts in fc_planes.h. After pool.h, whose maxima these are.
 *
 * Every number of channels is an instantiation of its own: the sums stay in registers, and the order of the lanes, when
 * planes become pixels, is made of constants. */
#include "vec.h"
#include "fc_planes.h"

/* Sums that stay in registers, and the most strips of a tile: enough to hide the latency of a multiply-add. */
#define PLANE_SUMS (MR * NV - 4)
#define PLANE_STRIPS(n) (PLANE_SUMS / (n) < 1 ? 1 : PLANE_SUMS / (n) > 8 ? 8 : PLANE_SUMS / (n))

INLINE void plane_tile(const fc_plane_strips *t, const int32_t *xoff, float *z, const int m, const int n)
{
    vf acc[8][VLEN / 2];
    const float *x[8], *w = t->w;
    UNROLL for (int i = 0; i < m; i++) {
        x[i] = t->x + xoff[i];
        UNROLL for (int j = 0; j < n; j++) acc[i][j] = splat(0);
    }
    const int32_t *koff = t->koff;
    for (const int32_t *end = koff + t->depth; koff < end; koff++, w += n) {
        vf xv[8];
        UNROLL for (int i = 0; i < m; i++) xv[i] = load(x[i] + *koff);
        UNROLL for (int j = 0; j < n; j++) {
            const vf wj = splat(w[j]);
            UNROLL for (int i = 0; i < m; i++) acc[i][j] += xv[i] * wj;
        }
    }
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int j = 0; j < n; j++) store(z + (i * n + j) * VLEN, acc[i][j]);
}

INLINE void plane_tiles(const fc_plane_strips *t, const int n)
{
    const int m = PLANE_STRIPS(n);
    ptrdiff_t i = 0;
    for (; i + m <= t->m; i += m) plane_tile(t, t->xoff + i, t->z + i * n * VLEN, m, n);
    for (; i < t->m; i++) plane_tile(t, t->xoff + i, t->z + i * n * VLEN, 1, n);
}

/* Vector v of n planes as pixels: float f = v*VLEN + l of the pixels is channel f % n of pixel f / n. */
INLINE vf joined(const vf *plane, const int v, const int n)
{
    const vi f = LANES + v * VLEN, pixel = f / n;
    vf r = plane[0];
    UNROLL for (int j = 1; j < n; j++) {
        const vi mine = f % n == j, others = j == 1 ? pixel : LANES;
        r = shuffle(r, plane[j], (mine & (pixel + VLEN)) | (~mine & others));
    }
    return r;
}

INLINE void plane_join(const float *z, const int n, int pixels, const float *bias, float lo, float hi, float *y)
{
    vf plane[VLEN / 2];
    UNROLL for (int j = 0; j < n; j++)
        plane[j] = clamp(load(z + j * VLEN) + splat(bias ? bias[j] : 0), splat(lo), splat(hi));
    UNROLL for (int v = 0; v < n; v++) {
        const int left = pixels * n - v * VLEN;
        if (left >= VLEN) store(y + v * VLEN, joined(plane, v, n));
        else if (left > 0) store_part(y + v * VLEN, joined(plane, v, n), left);
    }
}

/* The maximum of each 2 x 2 window of one channel, and its tap. */
INLINE vf plane_maximum(const float *z, ptrdiff_t row, ptrdiff_t strip, vf bias, int relu, vi *at)
{
    const vf top[2] = {load(z) + bias, load(z + strip) + bias};
    const vf bottom[2] = {load(z + row) + bias, load(z + row + strip) + bias};
    vf best = shuffle(top[0], top[1], 2 * LANES);
    *at = splat_i(0);
    max_tap(&best, at, shuffle(top[0], top[1], 2 * LANES + 1), 1);
    max_tap(&best, at, shuffle(bottom[0], bottom[1], 2 * LANES), 2);
    max_tap(&best, at, shuffle(bottom[0], bottom[1], 2 * LANES + 1), 3);
    if (relu) relu_maximum(&best, at);
    return best;
}

INLINE void plane_pool(const float *z, ptrdiff_t row, const int n, int pixels, const float *bias, int relu, float *y,
                       uint8_t *arg)
{
    vf best[VLEN / 2];
    vi at[VLEN / 2];
    const ptrdiff_t strip = 2 * pixels > VLEN ? n * VLEN : 0;
    UNROLL for (int j = 0; j < n; j++)
        best[j] = plane_maximum(z + j * VLEN, row, strip, splat(bias ? bias[j] : 0), relu, &at[j]);
    UNROLL for (int v = 0; v < n; v++) {
        const int left = pixels * n - v * VLEN, lanes = left < VLEN ? left : VLEN;
        if (left <= 0) break;
        pool_store(y + v * VLEN, joined(best, v, n), lanes);
        if (arg) store_arg(arg, v * VLEN, (vi)joined((const vf *)at, v, n), lanes, 1);
    }
}

static void plane_strips(const fc_plane_strips *t)
{
    switch (t->n) {
#define CASE(n) case n: plane_tiles(t, n); break;
        FOR_EACH_FEW(CASE)
#undef CASE
    }
}

static void plane_split(const float *src, ptrdiff_t pixels, ptrdiff_t c, float *dst, ptrdiff_t plane)
{
    for (ptrdiff_t j = 0; j < c; j++)
        for (ptrdiff_t p = 0; p < pixels; p++) dst[j * plane + p] = src[p * c + j];
}

static void plane_join_row(const float *z, int n, int pixels, const float *bias, float lo, float hi, float *y)
{
    switch (n) {
#define CASE(n) case n: plane_join(z, n, pixels, bias, lo, hi, y); break;
        FOR_EACH_FEW(CASE)
#undef CASE
    }
}

static void plane_pool_row(const float *z, ptrdiff_t row, int n, int pixels, const float *bias, int relu, float *y,
                           uint8_t *arg)
{
    switch (n) {
#define CASE(n) case n: plane_pool(z, row, n, pixels, bias, relu, y, arg); break;
        FOR_EACH_FEW(CASE)
#undef CASE
    }
}

#define PLANE_KERNELS {plane_strips, plane_split, plane_join_row, plane_pool_row}
