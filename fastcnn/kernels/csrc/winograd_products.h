/* The products of Winograd's convolution: for each point, v (tiles, depth) times u (depth, NR), and v' times m (tiles,
 * NR), the gradient of u; contracts and layouts in fc_winograd.h. After tile.h, whose tile sizes these are.
 *
 * All three lie in L2, where transforms have put them; meanwhile memory is asked for what comes next. */
#include "vec.h"
#include "fc_winograd.h"

/* acc[v] += *x * w[v]. Every second row, and all rows of a single vector, are spread inside the multiply-add: loads
 * and instructions then both stay below what a core issues beside two multiply-adds a cycle. */
INLINE void add_products(vf *acc, const float *x, const vf *w, const int nv, const int row)
{
    if (row % 2 || nv == 1) {
        UNROLL for (int v = 0; v < nv; v++) acc[v] = fma_splat(acc[v], x, w[v]);
        return;
    }
    const vf value = splat(*x);
    UNROLL for (int v = 0; v < nv; v++) acc[v] = vfma(acc[v], value, w[v]);
}

/* Where a fetch has come to: at[i] + offset[k] is next, and `due` is what it owes, in shares of a line. */
typedef struct fetch_place {
    ptrdiff_t i, k, due;
} fetch_place;

/* The lines that are due at each of `steps` steps. They are as many at all of them: a core has some 16 buffers for
 * lines on their way, and waits when it asks for more. */
INLINE void fetch_lines(const fc_winograd_product *g, fetch_place *places, ptrdiff_t steps)
{
    for (int n = 0; n < g->fetches; n++) {
        const fc_winograd_fetch *f = g->fetch + n;
        fetch_place *t = places + n;
        for (t->due += f->count * f->offsets; t->due >= steps; t->due -= steps) {
            const float *at = f->at[t->i] + f->offset[t->k] + f->skip;
            for (ptrdiff_t j = 0; j < f->lines; j++) __builtin_prefetch(at + 16 * j, 0, 2);
            if (++t->i == f->count) t->i = 0, t->k++;
        }
    }
}

/* `steps` input channels of m tiles times nv vectors of output channels. */
INLINE void multiply_steps(vf (*acc)[NR / VLEN], const float *x, const float *u, const int m, const int nv,
                           const int steps)
{
    UNROLL for (int k = 0; k < steps; k++) {
        vf w[NR / VLEN];
        UNROLL for (int j = 0; j < nv; j++) w[j] = load(u + k * NR + j * VLEN);
        UNROLL for (int i = 0; i < m; i++) add_products(acc[i], x + k + i * VLEN, w, nv, i);
    }
}

/* m tiles times nv vectors of output channels at one point. Meanwhile it asks for what lies in L2 at best: the rows of
 * the next tile, and half of the next point's weights, from next_u on. */
INLINE void multiply_tile(const fc_winograd_product *g, const float *v, const float *u, float *out,
                          const float *next_v, const float *next_u, fetch_place *places, ptrdiff_t steps, const int m,
                          const int nv)
{
    vf acc[MR][NR / VLEN];
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = splat(0);
    ptrdiff_t left = g->depth;
    for (; left >= VLEN; left -= VLEN, v += g->v_group, next_v += g->v_group) {
        fetch_lines(g, places, steps);
        UNROLL for (int i = 0; i < m; i++) __builtin_prefetch(next_v + i * VLEN, 0, 3);
        for (const float *x = v; x < v + VLEN; x += 4, u += 4 * NR, next_u += 2 * NR) {
            UNROLL for (int k = 0; k < 2 * NR; k += 16) __builtin_prefetch(next_u + k, 0, 3);
            multiply_steps(acc, x, u, m, nv, 4);
        }
    }
    for (; left > 0; left--, v++, u += NR) multiply_steps(acc, v, u, m, nv, 1);
    const int accumulate = g->accumulate;
    UNROLL for (int j = 0; j < nv; j++)
        UNROLL for (int i = 0; i < m; i++) {
            float *to = out + j * g->m_group + i * VLEN;
            if (accumulate) acc[i][j] += load(to);
            store(to, acc[i][j]);
        }
}

#define MULTIPLY_1(M) case M: multiply_tile(g, v, u, out, next_v, next_u, places, steps, M, 1); break;
#define MULTIPLY_2(M) case M: multiply_tile(g, v, u, out, next_v, next_u, places, steps, M, 2); break;

static void multiply_rows(const fc_winograd_product *g, const float *v, const float *u, float *out,
                          const float *next_v, const float *next_u, fetch_place *places, ptrdiff_t steps, ptrdiff_t m)
{
    if (g->vectors == 1)
        switch (m) { FOR_EACH_M(MULTIPLY_1) }
    else
        switch (m) { FOR_EACH_M(MULTIPLY_2) }
}

static void winograd_multiply(const fc_winograd_product *g)
{
    fetch_place places[FC_WINOGRAD_FETCHES] = {{0}};
    ptrdiff_t steps = 0;
    for (ptrdiff_t p = 0; p < g->points; p++) steps += (g->range[p].count + MR - 1) / MR;
    steps *= g->depth / VLEN;
    for (ptrdiff_t p = 0; p < g->points; p++) {
        const ptrdiff_t begin = g->range[p].first * VLEN;
        const float *v = g->v + p * g->v_point + begin, *u = g->u + p * g->u_point;
        float *out = g->m + p * g->m_point + begin;
        const int tiles = (int)g->range[p].count, blocks = (tiles + MR - 1) / MR;
        for (int b = 0, first = 0, last; b < blocks; b++, first = last) {
            last = tiles * (b + 1) / blocks;
            multiply_rows(g, v + first * VLEN, u, out + first * VLEN, b + 1 < blocks ? v + last * VLEN : v + g->v_point,
                          u + g->u_point + (b & 1) * (g->depth / 2 * NR), places, steps, last - first);
        }
    }
}

/* Rows of an outer product's tile: they divide VLEN. */
#define OUTER_ROWS (VLEN == 16 ? 8 : 4)

INLINE void outer_product(const fc_winograd_product *g, const float *v, const float *m, ptrdiff_t tiles, float *u,
                          const int nv)
{
    vf acc[OUTER_ROWS][NR / VLEN];
    UNROLL for (int i = 0; i < OUTER_ROWS; i++)
        UNROLL for (int j = 0; j < nv; j++) acc[i][j] = splat(0);
    for (const float *end = v + tiles * VLEN; v < end; v += VLEN, m += VLEN) {
        vf w[NR / VLEN];
        UNROLL for (int j = 0; j < nv; j++) w[j] = load(m + j * g->m_group);
        UNROLL for (int i = 0; i < OUTER_ROWS; i++) add_products(acc[i], v + i, w, nv, i);
    }
    const int accumulate = g->accumulate;
    UNROLL for (int i = 0; i < OUTER_ROWS; i++)
        UNROLL for (int j = 0; j < nv; j++) {
            float *to = u + i * NR + j * VLEN;
            if (accumulate) acc[i][j] += load(to);
            store(to, acc[i][j]);
        }
}

static void winograd_outer(const fc_winograd_product *g)
{
    const ptrdiff_t blocks = (g->depth + OUTER_ROWS - 1) / OUTER_ROWS;
    fetch_place places[FC_WINOGRAD_FETCHES] = {{0}};
    for (ptrdiff_t p = 0; p < g->points; p++) {
        const ptrdiff_t first = g->range[p].first * VLEN, tiles = g->range[p].count;
        const float *m = g->m + p * g->m_point + first;
        float *u = g->u + p * g->u_point;
        for (ptrdiff_t b = 0; b < blocks; b++, u += OUTER_ROWS * NR) {
            fetch_lines(g, places, g->points * blocks);
            const ptrdiff_t i = b * OUTER_ROWS;
            const float *v = g->v + p * g->v_point + first + i / VLEN * g->v_group + i % VLEN;
            if (g->vectors == 1) outer_product(g, v, m, tiles, u, 1);
            else outer_product(g, v, m, tiles, u, 2);
        }
    }
}
