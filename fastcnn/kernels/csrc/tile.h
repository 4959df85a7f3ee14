/* The two matrix tiles that all convolutions and dense layers are made of; contracts in fc_kernels.h.
 *
 * Accumulators stay in registers: every loop over them has a constant trip count, so each (m, vectors, partial)
 * triple is its own instantiation of the always-inlined body. */
#include "vec.h"
#include "fc_kernels.h"

#define NV (NR / VLEN)

/* A pointer or stride as it is: keeps gcc from adding the parts of an address again for every pixel of a tile. */
#define KEEP(value) ({ __auto_type v_ = (value); __asm__("" : "+r"(v_)); v_; })

/* A row of a tile: acc[v] += *x * w[v]. On a core shared with a neighbour the front end and the load ports decide, not
 * the multiply-adds. So half of the rows have their broadcast inside each multiply-add (`embedded`): fewer operations
 * than one broadcast more for every row, fewer loads than for none. */
INLINE void fma_row(vf *acc, const float *x, const vf *w, const int nv, const int embedded)
{
    if (embedded || nv == 1) {
        UNROLL for (int v = 0; v < nv; v++) acc[v] = fma_splat(acc[v], x, w[v]);
    } else {
        const vf xi = splat(*x);
        UNROLL for (int v = 0; v < nv; v++) acc[v] = vfma(acc[v], xi, w[v]);
    }
}

/* A row of a tile's columns. */
INLINE void load_columns(vf *wv, const float *w, const int nv, const int partial, const int last)
{
    UNROLL for (int v = 0; v < nv; v++)
        wv[v] = partial && v == nv - 1 ? load_part(w + v * VLEN, last) : load(w + v * VLEN);
}

/* acc[i] += x[xoff[i] + koff[k]] * w[k] over k, for any offsets. */
INLINE void sum_scattered(const fc_gather_tile *t, vf (*acc)[NV], const int m, const int nv, const int partial)
{
    const int last = t->n - (nv - 1) * VLEN;
    ptrdiff_t at[MR];
    UNROLL for (int i = 0; i < m; i++) at[i] = t->xoff[i];
    const float *w = t->w, *x0 = t->x;
    const ptrdiff_t ldw = t->ldw;
    const int32_t *koff = t->koff;
    for (const int32_t *end = koff + t->depth; koff < end; koff++, w += ldw) {
        const float *x = KEEP(x0 + *koff);
        vf wv[NV];
        load_columns(wv, w, nv, partial, last);
        UNROLL for (int i = 0; i < m; i++) fma_row(acc[i], x + at[i], wv, nv, i % 2);
    }
}

/* One k of sum_paired: pixel 2j at x[j], pixel 2j + 1 `step` further on. */
INLINE void fma_pairs(vf (*acc)[NV], const float *const *x, ptrdiff_t step, const float *w, const int m, const int nv,
                      const int partial, const int last)
{
    vf wv[NV];
    load_columns(wv, w, nv, partial, last);
    UNROLL for (int j = 0; j < (m + 1) / 2; j++) {
        if (2 * j + 1 < m) fma_row(acc[2 * j + 1], x[j] + step, wv, nv, 0);
        fma_row(acc[2 * j], x[j], wv, nv, 1);
    }
}

/* The same sum where pixels 2j and 2j + 1 are equally far apart for all j: one pointer serves both. All pointers fit
 * in registers, walk along a run of neighbouring channels, UNROLLED of them at a time (rows of most kernels have three
 * taps), and jump to the next run together. */
INLINE void sum_paired(const fc_gather_tile *t, vf (*acc)[NV], const int m, const int nv, const int partial)
{
    enum { UNROLLED = 3, PAIRS = (MR + 1) / 2 };
    if (t->depth == 0) return;
    const int last = t->n - (nv - 1) * VLEN, pairs = (m + 1) / 2;
    const float *x[PAIRS], *w = t->w;
    const ptrdiff_t step = m > 1 ? t->xoff[1] - t->xoff[0] : 0, ldw = t->ldw;
    const int32_t *koff = t->koff, *const end = koff + t->depth;
    UNROLL for (int j = 0; j < pairs; j++) x[j] = KEEP(t->x + *koff + t->xoff[2 * j]);
    for (ptrdiff_t run = t->lead;; run = t->run) {
        ptrdiff_t left = run < end - koff ? run : end - koff;
        koff += left;
        for (; left >= UNROLLED; left -= UNROLLED) {
            UNROLL for (int u = 0; u < UNROLLED; u++) {
                fma_pairs(acc, x, step, w, m, nv, partial, last);
                w += ldw;
                UNROLL for (int j = 0; j < pairs; j++) x[j]++;
            }
            UNROLL for (int j = 0; j < pairs; j++) x[j] = KEEP(x[j]);
        }
        for (; left > 0; left--, w += ldw) {
            fma_pairs(acc, x, step, w, m, nv, partial, last);
            UNROLL for (int j = 0; j < pairs; j++) x[j] = KEEP(x[j] + 1);
        }
        if (koff == end) return;
        const ptrdiff_t jump = koff[0] - koff[-1] - 1;
        UNROLL for (int j = 0; j < pairs; j++) x[j] = KEEP(x[j] + jump);
    }
}

INLINE int is_paired(const fc_gather_tile *t)
{
    for (int i = 2; i + 1 < t->m; i += 2)
        if (t->xoff[i + 1] - t->xoff[i] != t->xoff[1] - t->xoff[0]) return 0;
    return 1;
}

INLINE void zero_sums(vf (*acc)[NV], const int m, const int nv)
{
    UNROLL for (int i = 0; i < m; i++) UNROLL for (int v = 0; v < nv; v++) acc[i][v] = splat(0);
}

INLINE void load_bias(vf *bias, const fc_gather_tile *t, const int nv, const int partial, const int last)
{
    UNROLL for (int v = 0; v < nv; v++) bias[v] = splat(0);
    if (t->bias) load_columns(bias, t->bias, nv, partial, last);
}

INLINE void gather_tile_body(const fc_gather_tile *t, const int m, const int nv, const int partial)
{
    vf acc[MR][NV], bias[NV];
    const int last = t->n - (nv - 1) * VLEN;
    zero_sums(acc, m, nv);
    if (t->accumulate)
        UNROLL for (int i = 0; i < m; i++) load_columns(acc[i], t->y + t->yoff[i], nv, partial, last);
    if (is_paired(t)) sum_paired(t, acc, m, nv, partial);
    else sum_scattered(t, acc, m, nv, partial);
    load_bias(bias, t, nv, partial, last);
    const vf lo = splat(t->lo), hi = splat(t->hi);
    UNROLL for (int i = 0; i < m; i++) {
        float *y = t->y + t->yoff[i];
        UNROLL for (int v = 0; v < nv; v++) {
            const vf s = clamp(acc[i][v] + bias[v], lo, hi);
            if (partial && v == nv - 1) store_part(y + v * VLEN, s, last);
            else store(y + v * VLEN, s);
        }
    }
}

/* `run`: koff is a run of consecutive offsets, as it is but where a tile spans two rows of the kernel. */
INLINE void outer_tile_sum(const fc_outer_tile *t, const int m, const int nv, const int partial, const int run)
{
    vf acc[MR][NV];
    ptrdiff_t at[MR];
    const int last = t->n - (nv - 1) * VLEN;
    UNROLL for (int i = 0; i < m; i++) {
        at[i] = run ? i : t->koff[i];
        UNROLL for (int v = 0; v < nv; v++) acc[i][v] = splat(0);
    }
    const ptrdiff_t xstep = t->xstep, ystep = t->ystep;
    for (ptrdiff_t p = 0; p < t->pixels; p += t->cols) {
        const float *x = t->x + (run ? t->koff[0] : 0) + t->xoff[p], *dy = t->dy + t->yoff[p];
        for (ptrdiff_t left = t->cols; left > 0; left--, x = KEEP(x + xstep), dy += ystep) {
            vf dv[NV];
            load_columns(dv, dy, nv, partial, last);
            UNROLL for (int i = 0; i < m; i++) fma_row(acc[i], x + at[i], dv, nv, i % 2);
        }
    }
    UNROLL for (int i = 0; i < m; i++) {
        float *dw = t->dw + t->dw_row[i];
        UNROLL for (int v = 0; v < nv; v++) {
            const int tail = partial && v == nv - 1;
            vf s = acc[i][v];
            if (t->accumulate) s += tail ? load_part(dw + v * VLEN, last) : load(dw + v * VLEN);
            if (tail) store_part(dw + v * VLEN, s, last);
            else store(dw + v * VLEN, s);
        }
    }
}

INLINE void outer_tile_body(const fc_outer_tile *t, const int m, const int nv, const int partial)
{
    int run = 1; /* the taps of a volume may go back: first and last do not tell */
    for (int i = 1; i < m; i++) run &= t->koff[i] == t->koff[0] + i;
    if (run) outer_tile_sum(t, m, nv, partial, 1);
    else outer_tile_sum(t, m, nv, partial, 0);
}

/* One case per row count; MR differs between ISAs, so larger cases are compiled only where they exist. */
#if MR == 14
#define FOR_EACH_M(C) C(1) C(2) C(3) C(4) C(5) C(6) C(7) C(8) C(9) C(10) C(11) C(12) C(13) C(14)
#elif MR == 8
#define FOR_EACH_M(C) C(1) C(2) C(3) C(4) C(5) C(6) C(7) C(8)
#elif MR == 6
#define FOR_EACH_M(C) C(1) C(2) C(3) C(4) C(5) C(6)
#elif MR == 4
#define FOR_EACH_M(C) C(1) C(2) C(3) C(4)
#endif

#define DEFINE_TILE(kind, type, FOR_EACH)                                                           \
    static void kind(const type *t)                                                                 \
    {                                                                                               \
        switch ((t->n + VLEN - 1) / VLEN * 2 + (t->n % VLEN != 0)) {                                \
        case 2: switch (t->m) { FOR_EACH(kind##_1_full) } break;                                    \
        case 3: switch (t->m) { FOR_EACH(kind##_1_part) } break;                                    \
        case 4: switch (t->m) { FOR_EACH(kind##_2_full) } break;                                    \
        case 5: switch (t->m) { FOR_EACH(kind##_2_part) } break;                                    \
        }                                                                                           \
    }
#define gather_tile_1_full(M) case M: gather_tile_body(t, M, 1, 0); break;
#define gather_tile_1_part(M) case M: gather_tile_body(t, M, 1, 1); break;
#define gather_tile_2_full(M) case M: gather_tile_body(t, M, 2, 0); break;
#define gather_tile_2_part(M) case M: gather_tile_body(t, M, 2, 1); break;
#define outer_tile_1_full(M) case M: outer_tile_body(t, M, 1, 0); break;
#define outer_tile_1_part(M) case M: outer_tile_body(t, M, 1, 1); break;
#define outer_tile_2_full(M) case M: outer_tile_body(t, M, 2, 0); break;
#define outer_tile_2_part(M) case M: outer_tile_body(t, M, 2, 1); break;

DEFINE_TILE(gather_tile, fc_gather_tile, FOR_EACH_M)
DEFINE_TILE(outer_tile, fc_outer_tile, FOR_EACH_M)

#if VLEN == 16
#define LANES (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif VLEN == 8
#define LANES (vi){0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANES (vi){0, 1, 2, 3}
#endif

/* VLEN x VLEN transpose in log2(VLEN) rounds, each exchanging `step` lanes between rows i and i + step. */
INLINE void transpose_square(const float *src, ptrdiff_t lds, float *dst, ptrdiff_t ldd)
{
    vf r[VLEN];
    UNROLL for (int i = 0; i < VLEN; i++) r[i] = load(src + i * lds);
    UNROLL for (int step = 1; step < VLEN; step *= 2) {
        const vi upper = (LANES & step) != 0;
        const vi low = (LANES & ~upper) | ((LANES - step + VLEN) & upper);
        const vi high = ((LANES + step) & ~upper) | ((LANES + VLEN) & upper);
        UNROLL for (int i = 0; i < VLEN; i++) {
            if (i & step) continue;
            const vf a = r[i], b = r[i + step];
            r[i] = shuffle(a, b, low);
            r[i + step] = shuffle(a, b, high);
        }
    }
    UNROLL for (int i = 0; i < VLEN; i++) store(dst + i * ldd, r[i]);
}

static void transpose(const float *src, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t cols, float *dst, ptrdiff_t ldd)
{
    const ptrdiff_t whole_rows = rows - rows % VLEN, whole_cols = cols - cols % VLEN;
    for (ptrdiff_t i = 0; i < whole_rows; i += VLEN)
        for (ptrdiff_t j = 0; j < whole_cols; j += VLEN)
            transpose_square(src + i * lds + j, lds, dst + j * ldd + i, ldd);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = i < whole_rows ? whole_cols : 0; j < cols; j++) dst[j * ldd + i] = src[i * lds + j];
}

INLINE void copy_values(const float *src, ptrdiff_t n, float *dst)
{
    ptrdiff_t j = 0;
    for (; j + VLEN <= n; j += VLEN) store(dst + j, load(src + j));
    if (j < n) store_part(dst + j, load_part(src + j, (int)(n - j)), (int)(n - j));
}

static void copy_rows(const float *src, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t n, float *dst, ptrdiff_t ldd,
                      ptrdiff_t width, ptrdiff_t block)
{
    for (ptrdiff_t i = 0; i < rows; i++, src += lds, dst += ldd)
        for (ptrdiff_t j = 0, at = 0; j < n; j += width, at += block)
            copy_values(src + j, n - j < width ? n - j : width, dst + at);
}

static void sum_rows(const float *dy, const int32_t *yoff, ptrdiff_t pixels, ptrdiff_t n, int accumulate, float *db)
{
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        const int lanes = n - j < VLEN ? (int)(n - j) : VLEN;
        vf s = accumulate ? load_part(db + j, lanes) : splat(0);
        if (lanes == VLEN)
            for (ptrdiff_t p = 0; p < pixels; p++) s += load(dy + yoff[p] + j);
        else
            for (ptrdiff_t p = 0; p < pixels; p++) s += load_part(dy + yoff[p] + j, lanes);
        store_part(db + j, s, lanes);
    }
}
