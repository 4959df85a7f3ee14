/* Weight gradient of a max-pooled convolution: dw (taps, oc) from quads of x (rows, cols, ic, 4) and from dy and arg
 * (rows, cols, oc); contracts in fc_pooled_grad.h. After tile.h, whose tile sizes these are.
 *
 * Vectors run over output channels. For each window a tap costs one permutation and one multiply-add, instead of the
 * four multiply-adds of an unpooled gradient. NaN and infinity in x reach the channels that pick their pixel, and those
 * closed windows whose last pixel it is: there they meet a zero, as all zeros of an unpooled gradient do. */
#include "vec.h"
#include "fc_pooled_grad.h"

/* Sums, gradients, indices, a quad and what was picked from it fit the registers. */
#define POOLED_MR (MR - 1)

/* Lane i is p[at[i] & 3], for 16 aligned bytes at p. */
INLINE vf pick(const float *p, vi at)
{
#if VLEN == 16
    return (vf)_mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_load_ps(p)), (__m512i)at);
#elif VLEN == 8
    return (vf)_mm256_permutevar_ps(_mm256_broadcast_ps((const __m128 *)p), (__m256i)at);
#else
    const vf quad = load(p);
    return shuffle(quad, quad, at & 3);
#endif
}

INLINE void pooled_tile_body(const fc_pooled_tile *t, const int m, const int nv)
{
    vf acc[POOLED_MR][NV];
    const float *g = t->g;
    const ptrdiff_t step = t->step;
    UNROLL for (int k = 0; k < m; k++) UNROLL for (int v = 0; v < nv; v++) acc[k][v] = splat(0);
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const float *q = t->q + r * t->row;
        for (ptrdiff_t left = t->cols; left > 0; left--, q += step, g += 2 * nv * VLEN) {
            vf gv[NV];
            vi at[NV];
            UNROLL for (int v = 0; v < nv; v++) gv[v] = load(g + v * VLEN), at[v] = (vi)load(g + (nv + v) * VLEN);
            UNROLL for (int k = 0; k < m; k++)
                UNROLL for (int v = 0; v < nv; v++) acc[k][v] = vfma(acc[k][v], pick(q + 4 * k, at[v]), gv[v]);
        }
    }
    UNROLL for (int k = 0; k < m; k++)
        UNROLL for (int v = 0; v < nv; v++) {
            const int lanes = t->n - v * VLEN < VLEN ? t->n - v * VLEN : VLEN;
            float *dw = t->dw + k * t->ldw + v * VLEN;
            store_part(dw, t->accumulate ? load_part(dw, lanes) + acc[k][v] : acc[k][v], lanes);
        }
}

#define POOLED_CASE(M) case M: \
    if (M > POOLED_MR) break; \
    if (t->n <= VLEN) pooled_tile_body(t, M, 1); \
    else pooled_tile_body(t, M, NV); \
    break;

static void pooled_tile(const fc_pooled_tile *t)
{
    switch (t->m) { FOR_EACH_M(POOLED_CASE) }
}
#undef POOLED_CASE

static void pooled_quads(const float *x, const float *below, ptrdiff_t c, ptrdiff_t n, float *q)
{
    enum { QUADS = VLEN / 4 };
    const vi from = LANES / 4 + LANES % 2 * splat_i((int32_t)c) + LANES % 4 / 2 * VLEN;
    const int reach = QUADS + (int)c; /* floats of each row that a vector of quads is made of */
    ptrdiff_t f = 0;
    for (; f + QUADS <= n; f += QUADS, q += VLEN)
        store(q, shuffle(load_part(x + f, reach), load_part(below + f, reach), from));
    if (f < n) store(q, shuffle(load_part(x + f, (int)(n - f + c)), load_part(below + f, (int)(n - f + c)), from));
}

INLINE void open_body(const float *dy, const uint8_t *arg, ptrdiff_t pixels, ptrdiff_t c, int n, float *g,
                      int accumulate, float *db, const int nv, const int partial)
{
    const int last = n - (nv - 1) * VLEN;
    vf sum[NV];
    UNROLL for (int v = 0; v < nv; v++) sum[v] = splat(0);
    for (ptrdiff_t p = 0; p < pixels; p++, dy += c, arg += c, g += 2 * nv * VLEN)
        UNROLL for (int v = 0; v < nv; v++) {
            const int tail = partial && v == nv - 1;
            const vi at = tail ? load_bytes_part(arg + v * VLEN, last) : load_bytes(arg + v * VLEN);
            const vf d = tail ? load_part(dy + v * VLEN, last) : load(dy + v * VLEN);
            const vf gv = choose(at == 255, splat(0), d);
            sum[v] += gv;
            store(g + v * VLEN, gv);
            store(g + (nv + v) * VLEN, (vf)at);
        }
    UNROLL for (int v = 0; v < nv && db; v++) {
        const int lanes = v == nv - 1 ? last : VLEN;
        store_part(db + v * VLEN, accumulate ? load_part(db + v * VLEN, lanes) + sum[v] : sum[v], lanes);
    }
}

static void pooled_open(const float *dy, const uint8_t *arg, ptrdiff_t pixels, ptrdiff_t c, int n, float *g,
                        int accumulate, float *db)
{
    if (n < VLEN) open_body(dy, arg, pixels, c, n, g, accumulate, db, 1, 1);
    else if (n == VLEN) open_body(dy, arg, pixels, c, n, g, accumulate, db, 1, 0);
    else if (n < NR) open_body(dy, arg, pixels, c, n, g, accumulate, db, NV, 1);
    else open_body(dy, arg, pixels, c, n, g, accumulate, db, NV, 0);
}

#define POOLED_GRAD_KERNELS {pooled_tile, pooled_quads, pooled_open}
