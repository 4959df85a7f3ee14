/* The transforms of Winograd's convolution F(4 x 4, 3 x 3) and F(2 x 2, 3 x 3): tiles to points and back; contracts and
 * layouts in fc_winograd.h. Columns, then rows take the transforms of lines in winograd_lines.h; the products between
 * them are in winograd_products.h. */
#include "fc_winograd.h"
#include "winograd_lines.h"

/* ---- memory of a tile */

/* Vector i of a line whose neighbours are `step` bytes apart, i < 6. x86 adds one, two or four times a register to
 * an address: with two more of them there is no arithmetic; left alone, gcc keeps 36 offsets on the stack. */
typedef struct line_steps { ptrdiff_t one, three, five; } line_steps;

INLINE line_steps steps_of(ptrdiff_t floats)
{
    line_steps s = {4 * floats, 12 * floats, 20 * floats};
    __asm__("" : "+r"(s.one), "+r"(s.three), "+r"(s.five));
    return s;
}

#define ALONG(pointer, s, i)                                                                           \
    ((__typeof__(pointer))((uintptr_t)(pointer) +                                                      \
        ((i) == 0 ? 0 : (i) == 1 ? (s).one : (i) == 2 ? 2 * (s).one : (i) == 3 ? (s).three             \
                      : (i) == 4 ? 4 * (s).one : (s).five)))
#define KEEP_POINTER(pointer) __asm__("" : "+r"(pointer))

/* How the pixels of a tile are found: side by side, each at an address of its own, or behind a max-pooling. */
enum { INSIDE, ANYWHERE, POOLED };

/* Pixel (i, j) of an s x s tile of the gradient before a max-pooling. */
INLINE vf load_unpooled(const fc_winograd_tile *t, ptrdiff_t c, int n, int i, int j, const int s)
{
    const int window = i / 2 * (s / 2) + j / 2;
    const vi g = (vi)pool_load(t->at[window] + c, n), at = load_arg(t->arg[window], c, n, 1);
    return (vf)((at == splat_i(i % 2 * 2 + j % 2)) & g);
}

/* Column j of an s x s tile, channels from c on. */
INLINE void load_column(const fc_winograd_tile *t, const float *x, const line_steps rows, ptrdiff_t c, int n, int j,
                        const int s, const int found, vf *d)
{
    UNROLL for (int i = 0; i < s; i++)
        d[i] = found == POOLED ? load_unpooled(t, c, n, i, j, s)
                               : pool_load(found == INSIDE ? ALONG(x, rows, i) + c : t->at[i * s + j] + c, n);
}

/* ---- tiles to points */

/* Rows 3*half to 3*half + 2 of the points, so that 18 sums fit the registers; the tile is read twice. */
INLINE void input_half(const fc_winograd_tile *t, ptrdiff_t c, int n, float *v, ptrdiff_t point, const int found,
                       int down, int across, const int half)
{
    const line_steps rows = steps_of(t->row), points = steps_of(point);
    vf r[3][6];
    const float *x = t->x;
    UNROLL for (int j = 0; j < 6; j++) {
        vf d[6], w[3] = {splat(0), splat(0), splat(0)};
        KEEP_POINTER(x);
        if (HAS(j, across)) {
            load_column(t, x, rows, c, n, j, 6, found, d);
            extend_line(d, down);
            input_half_line(d, w, half);
        }
        UNROLL for (int i = 0; i < 3; i++) r[i][j] = w[i];
        x += t->pixel;
    }
    v += 18 * half * point;
    UNROLL for (int i = 0; i < 3; i++) {
        vf w[6];
        if (!HAS(3 * half + i, down)) break;
        KEEP_POINTER(v);
        extend_line(r[i], across);
        input_line4(r[i], w);
        UNROLL for (int j = 0; j < 6; j++)
            if (HAS(j, across)) store(ALONG(v, points, j), w[j]);
        v += 6 * point;
    }
}

INLINE void input_vector4(const fc_winograd_tile *t, ptrdiff_t c, int n, float *v, ptrdiff_t point, const int found,
                          int down, int across)
{
    input_half(t, c, n, v, point, found, down, across, 0);
    input_half(t, c, n, v, point, found, down, across, 1);
}

/* s x s pixels to a x a points in one go: columns, then rows, each by `line`. Only where pixels may be anywhere is it
 * asked whether a tile is narrow; elsewhere that costs more than the stores it saves. */
#define DEFINE_SPREAD(name, s, a, line)                                                                \
    INLINE void name(const fc_winograd_tile *t, ptrdiff_t c, int n, float *v, ptrdiff_t point,         \
                     const int found)                                                                  \
    {                                                                                                  \
        const line_steps rows = steps_of(t->row), points = steps_of(point);                            \
        vf r[a][s];                                                                                    \
        const float *x = t->x;                                                                         \
        UNROLL for (int j = 0; j < s; j++) {                                                           \
            vf d[s], w[a];                                                                             \
            KEEP_POINTER(x);                                                                           \
            load_column(t, x, rows, c, n, j, s, found, d);                                             \
            line(d, w);                                                                                \
            UNROLL for (int i = 0; i < a; i++) r[i][j] = w[i];                                         \
            x += t->pixel;                                                                             \
        }                                                                                              \
        UNROLL for (int i = 0; i < a; i++) {                                                           \
            const int down = a == 6 && found == ANYWHERE ? t->down : a;                                \
            const int across = a == 6 && found == ANYWHERE ? t->across : a;                            \
            vf w[a];                                                                                   \
            if (!HAS(i, down)) break;                                                                  \
            KEEP_POINTER(v);                                                                           \
            line(r[i], w);                                                                             \
            UNROLL for (int j = 0; j < a; j++)                                                         \
                if (HAS(j, across)) store(ALONG(v, points, j), w[j]);                                  \
            v += a * point;                                                                            \
        }                                                                                              \
    }
DEFINE_SPREAD(input_vector2, 4, 4, input_line2)
DEFINE_SPREAD(gradient_vector4, 4, 6, gradient_line4)
DEFINE_SPREAD(gradient_vector2, 2, 4, gradient_line2)
DEFINE_SPREAD(input_vector_whole, 2, 3, input_line_whole)
DEFINE_SPREAD(gradient_vector_whole, 2, 3, gradient_line_whole)

/* All channels of a tile; `pooled`: it may lie behind a max-pooling. */
#define DEFINE_TILE_TRANSFORM(name, vector, pooled)                                                    \
    INLINE void name##_tile(const fc_winograd_tile *t, float *v, ptrdiff_t group, ptrdiff_t point,     \
                            const int found)                                                           \
    {                                                                                                  \
        ptrdiff_t c = 0;                                                                               \
        for (; c + VLEN <= t->c; c += VLEN, v += group) vector(t, c, VLEN, v, point, found);           \
        if (c < t->c) vector(t, c, (int)(t->c - c), v, point, found);                                  \
    }                                                                                                  \
    static void name(const fc_winograd_tile *t, float *v, ptrdiff_t group, ptrdiff_t point)            \
    {                                                                                                  \
        const fc_winograd_tile tile = *t;                                                              \
        if (pooled && tile.arg) name##_tile(&tile, v, group, point, POOLED);                           \
        else if (tile.at) name##_tile(&tile, v, group, point, ANYWHERE);                               \
        else name##_tile(&tile, v, group, point, INSIDE);                                              \
    }
DEFINE_TILE_TRANSFORM(winograd_input2, input_vector2, 0)
DEFINE_TILE_TRANSFORM(winograd_gradient4, gradient_vector4, 1)
DEFINE_TILE_TRANSFORM(winograd_gradient2, gradient_vector2, 1)
DEFINE_TILE_TRANSFORM(winograd_input_whole, input_vector_whole, 0)
DEFINE_TILE_TRANSFORM(winograd_gradient_whole, gradient_vector_whole, 1)

INLINE void input_tile4(const fc_winograd_tile *t, float *v, ptrdiff_t group, ptrdiff_t point, const int found,
                        int down, int across)
{
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->c; c += VLEN, v += group) input_vector4(t, c, VLEN, v, point, found, down, across);
    if (c < t->c) input_vector4(t, c, (int)(t->c - c), v, point, found, down, across);
}

static void winograd_input4(const fc_winograd_tile *t, float *v, ptrdiff_t group, ptrdiff_t point)
{
    const fc_winograd_tile tile = *t;
    if (tile.down < 6 || tile.across < 6) input_tile4(&tile, v, group, point, ANYWHERE, tile.down, tile.across);
    else if (tile.at) input_tile4(&tile, v, group, point, ANYWHERE, 6, 6);
    else input_tile4(&tile, v, group, point, INSIDE, 6, 6);
}

/* ---- points to tiles */

/* One row of m x m outputs from the columns' sums r[m][a]; before bias and clamp. Points that are missing are zeros. */
#define DEFINE_OUTPUT(name, m, a)                                                                      \
    INLINE void output_columns##name(const float *v, ptrdiff_t point, int down, int across, vf (*r)[a])\
    {                                                                                                  \
        const line_steps lines = steps_of(a * point);                                                  \
        UNROLL for (int j = 0; j < a; j++) {                                                           \
            vf d[a], w[m];                                                                             \
            KEEP_POINTER(v);                                                                           \
            UNROLL for (int i = 0; i < m; i++) w[i] = splat(0);                                        \
            if (HAS(j, across)) {                                                                      \
                UNROLL for (int i = 0; i < a; i++)                                                     \
                    d[i] = HAS(i, down) ? load(ALONG(v, lines, i)) : splat(0);                         \
                output_line##name(d, w);                                                               \
            }                                                                                          \
            UNROLL for (int i = 0; i < m; i++) r[i][j] = w[i];                                         \
            v += point;                                                                                \
        }                                                                                              \
    }                                                                                                  \
    INLINE void output_vector##name(const float *v, ptrdiff_t point, const fc_winograd_target *t,      \
                                 ptrdiff_t c, int n, vf bias, int down, int across)                    \
    {                                                                                                  \
        const vf lo = splat(t->lo), hi = splat(t->hi);                                                 \
        vf r[m][a];                                                                                    \
        output_columns##name(v, point, down, across, r);                                               \
        float *y = t->y + c;                                                                           \
        UNROLL for (int i = 0; i < m; i++) {                                                           \
            vf w[m];                                                                                   \
            if (i >= t->rows) break;                                                                   \
            output_line##name(r[i], w);                                                                \
            float *pixel = y;                                                                          \
            UNROLL for (int j = 0; j < m; j++) {                                                       \
                if (j < t->cols) pool_store(pixel, clamp(w[j] + bias, lo, hi), n);                     \
                pixel += t->pixel;                                                                     \
            }                                                                                          \
            y += t->row;                                                                               \
        }                                                                                              \
    }                                                                                                  \
    INLINE void pool_vector##name(const float *v, ptrdiff_t point, const fc_winograd_target *t,        \
                               ptrdiff_t c, int n, vf bias, int down, int across)                      \
    {                                                                                                  \
        vf r[m][a];                                                                                    \
        output_columns##name(v, point, down, across, r);                                               \
        UNROLL for (int i = 0; i < m / 2; i++) {                                                       \
            vf top[m], bottom[m];                                                                      \
            if (i >= t->rows) break;                                                                   \
            output_line##name(r[2 * i], top);                                                          \
            output_line##name(r[2 * i + 1], bottom);                                                   \
            UNROLL for (int j = 0; j < m / 2; j++) {                                                   \
                const vf window[4] = {top[2 * j] + bias, top[2 * j + 1] + bias,                        \
                                      bottom[2 * j] + bias, bottom[2 * j + 1] + bias};                 \
                if (j < t->cols) pool_four(window, t, i, j, c, n);                                     \
            }                                                                                          \
        }                                                                                              \
    }

/* The maximum of a 2 x 2 window, and which tap it was. */
INLINE void pool_four(const vf *window, const fc_winograd_target *t, int i, int j, ptrdiff_t c, int n)
{
    vf best = window[0];
    vi at = splat_i(0);
    UNROLL for (int k = 1; k < 4; k++) max_tap(&best, &at, window[k], k);
    if (t->relu) relu_maximum(&best, &at);
    pool_store(t->y + i * t->row + j * t->pixel + c, best, n);
    if (t->arg) store_arg(t->arg, i * t->arg_row + j * t->arg_pixel + c, at, n, 1);
}

DEFINE_OUTPUT(4, 4, 6)
DEFINE_OUTPUT(2, 2, 4)
DEFINE_OUTPUT(_whole, 2, 3)

/* All channels of a block. */
#define DEFINE_BLOCK_TRANSFORM(name, vector, a)                                                        \
    INLINE void name##_tile(const float *v, ptrdiff_t group, ptrdiff_t point,                          \
                            const fc_winograd_target *t, int down, int across)                         \
    {                                                                                                  \
        ptrdiff_t c = 0;                                                                               \
        for (; c + VLEN <= t->n; c += VLEN, v += group)                                                \
            vector(v, point, t, c, VLEN, t->bias ? load(t->bias + c) : splat(0), down, across);        \
        if (c < t->n) {                                                                                \
            const int n = (int)(t->n - c);                                                             \
            vector(v, point, t, c, n, t->bias ? load_part(t->bias + c, n) : splat(0), down, across);   \
        }                                                                                              \
    }                                                                                                  \
    static void name(const float *v, ptrdiff_t group, ptrdiff_t point, const fc_winograd_target *t)    \
    {                                                                                                  \
        if (a == 6 && (t->down < a || t->across < a)) name##_tile(v, group, point, t, t->down, t->across);\
        else name##_tile(v, group, point, t, a, a);                                                    \
    }
DEFINE_BLOCK_TRANSFORM(winograd_output4, output_vector4, 6)
DEFINE_BLOCK_TRANSFORM(winograd_output2, output_vector2, 4)
DEFINE_BLOCK_TRANSFORM(winograd_pool4, pool_vector4, 6)
DEFINE_BLOCK_TRANSFORM(winograd_pool2, pool_vector2, 4)
DEFINE_BLOCK_TRANSFORM(winograd_output_whole, output_vector_whole, 3)
DEFINE_BLOCK_TRANSFORM(winograd_pool_whole, pool_vector_whole, 3)

/* ---- points of an input gradient to tiles, which overlap by two rows and columns */

/* A tile that adds to others: `above` and `beside` are all ones or all zeros, `either` their union. */
typedef struct patch_masks { vi above, beside, either; } patch_masks;

/* Row i of an a x a tile; it starts at x. */
INLINE void add_row(const fc_winograd_patch *t, float *x, const line_steps pixels, const patch_masks *masks,
                    const vf *w, const int i, ptrdiff_t c, int n, const int a, const int found)
{
    UNROLL for (int j = 0; j < a; j++) {
        float *to = (found == INSIDE ? ALONG(x, pixels, j) : t->at[i * a + j]) + c;
        vf value = w[j];
        if (i < 2 || j < 2) {
            const vi mask = i >= 2 ? masks->beside : j >= 2 ? masks->above : masks->either;
            value += (vf)(mask & (vi)pool_load(to, n));
        }
        pool_store(to, value, n);
    }
}

#define DEFINE_SPREADING(name, m, a)                                                                   \
    INLINE void spread_vector##m(const float *v, ptrdiff_t point, const fc_winograd_patch *t,          \
                                 const patch_masks *masks, ptrdiff_t c, int n, const int found)        \
    {                                                                                                  \
        const line_steps lines = steps_of(a * point), points = steps_of(point);                        \
        const line_steps rows = steps_of(t->row), pixels = steps_of(t->pixel);                         \
        vf r[m][a], w[a];                                                                              \
        const float *at = v;                                                                           \
        UNROLL for (int j = 0; j < a; j++) {                                                           \
            vf d[a], middle[m];                                                                        \
            KEEP_POINTER(at);                                                                          \
            UNROLL for (int i = 0; i < a; i++) d[i] = load(ALONG(at, lines, i));                       \
            spread_line##m(d, middle);                                                                 \
            UNROLL for (int i = 0; i < m; i++) r[i][j] = middle[i];                                    \
            at += point;                                                                               \
        }                                                                                              \
        UNROLL for (int i = 0; i < a; i++) {                                                           \
            const int outer = i == 0 || i == a - 1; /* a row of points as it is */                     \
            float *x = ALONG(t->x, rows, i);                                                           \
            at = ALONG(v, lines, i);                                                                   \
            KEEP_POINTER(x);                                                                           \
            KEEP_POINTER(at);                                                                          \
            UNROLL for (int j = 0; j < a; j++) w[j] = outer ? load(ALONG(at, points, j)) : r[i - 1][j];\
            vf middle[m];                                                                              \
            spread_line##m(w, middle);                                                                 \
            UNROLL for (int j = 0; j < m; j++) w[j + 1] = middle[j];                                   \
            add_row(t, x, pixels, masks, w, i, c, n, a, found);                                        \
        }                                                                                              \
    }                                                                                                  \
    INLINE void spread_tile##m(const float *v, ptrdiff_t group, ptrdiff_t point,                       \
                               const fc_winograd_patch *t, const int found)                            \
    {                                                                                                  \
        const vi above = splat_i(-(t->above != 0)), beside = splat_i(-(t->beside != 0));               \
        const patch_masks masks = {above, beside, above | beside};                                     \
        ptrdiff_t c = 0;                                                                               \
        for (; c + VLEN <= t->n; c += VLEN, v += group)                                                \
            spread_vector##m(v, point, t, &masks, c, VLEN, found);                                     \
        if (c < t->n) spread_vector##m(v, point, t, &masks, c, (int)(t->n - c), found);                \
    }                                                                                                  \
    static void name(const float *v, ptrdiff_t group, ptrdiff_t point, const fc_winograd_patch *t)     \
    {                                                                                                  \
        if (t->at) spread_tile##m(v, group, point, t, ANYWHERE);                                       \
        else spread_tile##m(v, group, point, t, INSIDE);                                               \
    }
DEFINE_SPREADING(winograd_spread2, 2, 4)
DEFINE_SPREADING(whole_spread4, 4, 6)

/* A narrow tile is spread as a whole one: its points with zeros for those that it lacks, */
static void widen_points(const float *v, ptrdiff_t point, int down, int across, vf *patch)
{
    UNROLL for (int i = 0; i < 6; i++)
        UNROLL for (int j = 0; j < 6; j++)
            patch[6 * i + j] = HAS(i, down) && HAS(j, across) ? load(v + (6 * i + j) * point) : splat(0);
}

/* and the pixels of this patch, n channels of them from c on, where they belong. */
static void narrow_pixels(vf *patch, const fc_winograd_patch *t, ptrdiff_t c, int n)
{
    for (int j = 0; j < 6; j++) fold_line(patch + j, 6, t->down);
    for (int i = 0; i < t->down; i++) {
        fold_line(patch + 6 * i, 1, t->across);
        for (int j = 0; j < t->across; j++) {
            float *to = t->at[6 * i + j] + c;
            const int adds = (i < 2 && t->above) || (j < 2 && t->beside);
            pool_store(to, adds ? patch[6 * i + j] + pool_load(to, n) : patch[6 * i + j], n);
        }
    }
}

static void winograd_spread4(const float *v, ptrdiff_t group, ptrdiff_t point, const fc_winograd_patch *t)
{
    if (t->down == 6 && t->across == 6) {
        whole_spread4(v, group, point, t);
        return;
    }
    vf points[36], patch[36];
    const fc_winograd_patch tile = {(float *)patch, 6 * VLEN, VLEN, NULL, 0, 0, VLEN, 6, 6};
    for (ptrdiff_t c = 0; c < t->n; c += VLEN, v += group) {
        widen_points(v, point, t->down, t->across, points);
        whole_spread4((const float *)points, 0, VLEN, &tile);
        narrow_pixels(patch, t, c, c + VLEN <= t->n ? VLEN : (int)(t->n - c));
    }
}

/* ---- weights */

#define DEFINE_WEIGHTS(name, a)                                                                        \
    INLINE void weight_vector##name(const float *w, ptrdiff_t tap, int n, float *u, ptrdiff_t point)   \
    {                                                                                                  \
        vf r[a][3];                                                                                    \
        UNROLL for (int j = 0; j < 3; j++) {                                                           \
            vf g[3], v[a];                                                                             \
            UNROLL for (int i = 0; i < 3; i++) g[i] = pool_load(w + (3 * i + j) * tap, n);             \
            weight_line##name(g, v);                                                                   \
            UNROLL for (int i = 0; i < a; i++) r[i][j] = v[i];                                         \
        }                                                                                              \
        const line_steps points = steps_of(point);                                                     \
        UNROLL for (int i = 0; i < a; i++) {                                                           \
            vf v[a];                                                                                   \
            KEEP_POINTER(u);                                                                           \
            weight_line##name(r[i], v);                                                                \
            UNROLL for (int j = 0; j < a; j++) store(ALONG(u, points, j), v[j]);                       \
            u += a * point;                                                                            \
        }                                                                                              \
    }                                                                                                  \
    static void winograd_weights##name(const float *w, ptrdiff_t tap, ptrdiff_t row, ptrdiff_t rows,   \
                                    int n, float *u, ptrdiff_t point)                                  \
    {                                                                                                  \
        for (ptrdiff_t i = 0; i < rows; i++, w += row, u += NR)                                        \
            for (int c = 0; c < NR; c += VLEN) {                                                       \
                if (c + VLEN <= n) weight_vector##name(w + c, tap, VLEN, u + c, point);                \
                else if (c < n) weight_vector##name(w + c, tap, n - c, u + c, point);                  \
                else                                                                                   \
                    for (int p = 0; p < a * a; p++) store(u + p * point + c, splat(0));                \
            }                                                                                          \
    }                                                                                                  \
    INLINE void inverse_vector##name(const float *u, ptrdiff_t point, int n, float *dw, ptrdiff_t tap, \
                                  int accumulate)                                                      \
    {                                                                                                  \
        const line_steps lines = steps_of(a * point);                                                  \
        vf r[3][a];                                                                                    \
        UNROLL for (int j = 0; j < a; j++) {                                                           \
            vf d[a], g[3];                                                                             \
            KEEP_POINTER(u);                                                                           \
            UNROLL for (int i = 0; i < a; i++) d[i] = load(ALONG(u, lines, i));                        \
            inverse_line##name(d, g);                                                                  \
            UNROLL for (int i = 0; i < 3; i++) r[i][j] = g[i];                                         \
            u += point;                                                                                \
        }                                                                                              \
        UNROLL for (int i = 0; i < 3; i++) {                                                           \
            vf g[3];                                                                                   \
            inverse_line##name(r[i], g);                                                               \
            UNROLL for (int j = 0; j < 3; j++, dw += tap) {                                            \
                if (accumulate) g[j] += pool_load(dw, n);                                              \
                pool_store(dw, g[j], n);                                                               \
            }                                                                                          \
        }                                                                                              \
    }                                                                                                  \
    static void winograd_inverse##name(const float *u, ptrdiff_t point, ptrdiff_t rows, int n, float *dw,\
                                    ptrdiff_t tap, ptrdiff_t row, int accumulate)                      \
    {                                                                                                  \
        for (ptrdiff_t i = 0; i < rows; i++, u += NR, dw += row)                                       \
            for (int c = 0; c < n; c += VLEN) {                                                        \
                if (c + VLEN <= n) inverse_vector##name(u + c, point, VLEN, dw + c, tap, accumulate);  \
                else inverse_vector##name(u + c, point, n - c, dw + c, tap, accumulate);               \
            }                                                                                          \
    }
DEFINE_WEIGHTS(4, 6)
DEFINE_WEIGHTS(2, 4)
DEFINE_WEIGHTS(_whole, 3)

#define WINOGRAD_KERNELS                                                                               \
    {{winograd_input2, winograd_gradient2, winograd_output2, winograd_pool2, winograd_spread2,         \
      winograd_weights2, winograd_inverse2},                                                           \
     {winograd_input4, winograd_gradient4, winograd_output4, winograd_pool4, winograd_spread4,         \
      winograd_weights4, winograd_inverse4},                                                           \
     {winograd_input_whole, winograd_gradient_whole, winograd_output_whole, winograd_pool_whole, NULL, \
      winograd_weights_whole, winograd_inverse_whole},                                                 \
     winograd_multiply, winograd_outer}
