/* Normalisation: x, y, dx, dy are runs of pixels of c channels; contracts in fc_norm.h.
 *
 * Vectors run over channels. Maps of pixels go through memory from end to end, as that is what bounds them. Sums walk
 * blocks of pixels, whose sums are floats; those are added up in double. `*_vector` takes n <= VLEN channels, with
 * n = VLEN as a constant or for the tail. */
#include "vmath.h"
#include "fc_norm.h"

#define NORM_BLOCK 64  /* pixels */
#define NORM_AHEAD 512 /* floats between what is computed and what is fetched from memory meanwhile */

/* CALL(j, n) for n channels from j on; ends in n = VLEN everywhere but at the tail. */
#define EACH_CHANNEL_VECTOR(c, CALL)                          \
    do {                                                      \
        ptrdiff_t j = 0;                                      \
        for (; j + VLEN <= (c); j += VLEN) CALL(j, VLEN);     \
        if (j < (c)) CALL(j, (c) - j);                        \
    } while (0)

INLINE ptrdiff_t block_of(ptrdiff_t pixels) { return pixels < NORM_BLOCK ? pixels : NORM_BLOCK; }

INLINE vd load_vd(const double *p)
{
    vd v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store_vd(double *p, vd v) { memcpy(p, &v, sizeof v); }

/* A vector of floats as two of doubles. */
typedef struct double_pair { vd half[2]; } double_pair;
INLINE double_pair to_double(vf v)
{
    float lanes[VLEN];
    store(lanes, v);
    return (double_pair){{load_double(lanes), load_double(lanes + VLEN / 2)}};
}

/* ---- moments of each channel ---- */

/* The block's sums are taken from its first pixel: as that is one of the n values, the squares add up to at most n
 * times their sum around the mean, which bounds the cancellation. Merging: Chan, Golub and LeVeque, "Algorithms
 * for computing the sample variance", 1983. */
INLINE void merge_moments(double *mean, double *m2, double count, double pixels, vf first, vf sum, vf squares)
{
    const double share = pixels / (count + pixels), inverse = 1 / pixels;
    const double_pair f = to_double(first), s = to_double(sum), q = to_double(squares);
    UNROLL for (int h = 0; h < 2; h++, mean += VLEN / 2, m2 += VLEN / 2) {
        const vd m = load_vd(mean), offset = s.half[h] * inverse, delta = f.half[h] + offset - m;
        store_vd(mean, m + delta * share);
        store_vd(m2, load_vd(m2) + (q.half[h] - s.half[h] * offset) + delta * delta * (count * share));
    }
}

INLINE void moments_vector(double *mean, double *m2, double count, const float *x, ptrdiff_t pixels,
                           ptrdiff_t c, ptrdiff_t n)
{
    const vf first = load_upto(x, n);
    vf sum[4] = {{0}}, squares[4] = {{0}};
    const float *p = x;
    ptrdiff_t i = 0;
    for (; i + 4 <= pixels; i += 4)
        UNROLL for (int k = 0; k < 4; k++, p += c) {
            const vf d = load_upto(p, n) - first;
            sum[k] += d;
            squares[k] += d * d;
        }
    for (; i < pixels; i++, p += c) {
        const vf d = load_upto(p, n) - first;
        sum[0] += d;
        squares[0] += d * d;
    }
    merge_moments(mean, m2, count, (double)pixels, first, (sum[0] + sum[1]) + (sum[2] + sum[3]),
                  (squares[0] + squares[1]) + (squares[2] + squares[3]));
}

static void norm_moments(double *mean, double *m2, double count, const float *x, ptrdiff_t pixels, ptrdiff_t c)
{
    for (; pixels > 0; pixels -= NORM_BLOCK, x += NORM_BLOCK * c, count += NORM_BLOCK) {
#define BLOCK(j, n) moments_vector(mean + (j), m2 + (j), count, x + (j), block_of(pixels), c, n)
        EACH_CHANNEL_VECTOR(c, BLOCK);
#undef BLOCK
    }
}

/* ---- y = clamp((x - mean) * scale + shift) ---- */

/* The parameters of one vector of channels. */
typedef struct norm_lanes { vf mean, scale, shift, lo, hi; } norm_lanes;
INLINE norm_lanes lanes_at(const fc_channel_norm *p, ptrdiff_t j, ptrdiff_t n)
{
    return (norm_lanes){load_upto(p->mean + j, n), load_upto(p->scale + j, n), load_upto(p->shift + j, n),
                        splat(p->lo), splat(p->hi)};
}

INLINE void normalize_vector(float *y, const float *x, norm_lanes p, ptrdiff_t n)
{
    __builtin_prefetch(x + NORM_AHEAD);
    const vf z = (load_upto(x, n) - p.mean) * p.scale + p.shift;
    store_upto(y, clamp(z, p.lo, p.hi), n);
}

static void norm_normalize(float *y, const float *x, ptrdiff_t pixels, ptrdiff_t c, const fc_channel_norm *map)
{
    const fc_channel_norm p = *map; /* a copy, lest its pointers be loaded anew after each store to y */
    for (; pixels > 0; pixels--, x += c, y += c) {
#define VECTOR(j, n) normalize_vector(y + (j), x + (j), lanes_at(&p, j, n), n)
        EACH_CHANNEL_VECTOR(c, VECTOR);
#undef VECTOR
    }
}

INLINE int is_clamped(const fc_channel_norm *p) { return p->lo > -__builtin_inff() || p->hi < __builtin_inff(); }

/* dz from dy and d = x - mean: what the clamp lets through. */
INLINE vf through_clamp(vf dy, vf d, norm_lanes p, const int clamped)
{
    if (!clamped) return dy;
    const vf z = d * p.scale + p.shift;
    return zero_unless((z > p.lo) & (z < p.hi), dy);
}

INLINE void add_doubles(double *sum, vf v)
{
    const double_pair d = to_double(v);
    store_vd(sum, load_vd(sum) + d.half[0]);
    store_vd(sum + VLEN / 2, load_vd(sum + VLEN / 2) + d.half[1]);
}

INLINE void grad_sums_vector(double *sum, double *product, const float *dy, const float *x, ptrdiff_t pixels,
                             ptrdiff_t c, norm_lanes p, ptrdiff_t n, const int clamped)
{
    vf s[4] = {{0}}, q[4] = {{0}};
    ptrdiff_t i = 0;
    for (; i + 4 <= pixels; i += 4)
        UNROLL for (int k = 0; k < 4; k++, x += c, dy += c) {
            const vf d = load_upto(x, n) - p.mean, dz = through_clamp(load_upto(dy, n), d, p, clamped);
            s[k] += dz;
            q[k] += dz * d;
        }
    for (; i < pixels; i++, x += c, dy += c) {
        const vf d = load_upto(x, n) - p.mean, dz = through_clamp(load_upto(dy, n), d, p, clamped);
        s[0] += dz;
        q[0] += dz * d;
    }
    add_doubles(sum, (s[0] + s[1]) + (s[2] + s[3]));
    add_doubles(product, (q[0] + q[1]) + (q[2] + q[3]));
}

INLINE void grad_sums_body(double *sum, double *product, const float *dy, const float *x, ptrdiff_t pixels,
                           ptrdiff_t c, const fc_channel_norm *p, const int clamped)
{
    for (; pixels > 0; pixels -= NORM_BLOCK, x += NORM_BLOCK * c, dy += NORM_BLOCK * c) {
#define BLOCK(j, n) grad_sums_vector(sum + (j), product + (j), dy + (j), x + (j), block_of(pixels), c, \
                                     lanes_at(p, j, n), n, clamped)
        EACH_CHANNEL_VECTOR(c, BLOCK);
#undef BLOCK
    }
}

static void norm_grad_sums(double *sum, double *product, const float *dy, const float *x, ptrdiff_t pixels,
                           ptrdiff_t c, const fc_channel_norm *p)
{
    if (is_clamped(p)) grad_sums_body(sum, product, dy, x, pixels, c, p, 1);
    else grad_sums_body(sum, product, dy, x, pixels, c, p, 0);
}

INLINE void input_grad_vector(float *dx, const float *dy, const float *x, norm_lanes p, vf offset, vf slope,
                              ptrdiff_t n, const int clamped)
{
    __builtin_prefetch(x + NORM_AHEAD);
    __builtin_prefetch(dy + NORM_AHEAD);
    const vf d = load_upto(x, n) - p.mean, dz = through_clamp(load_upto(dy, n), d, p, clamped);
    store_upto(dx, dz * p.scale - offset - d * slope, n);
}

INLINE void input_grad_body(float *dx, const float *dy, const float *x, ptrdiff_t pixels, ptrdiff_t c,
                            const fc_channel_norm *map, const float *offset, const float *slope, const int clamped)
{
    const fc_channel_norm p = *map;
    for (; pixels > 0; pixels--, x += c, dy += c, dx += c) {
#define VECTOR(j, n) input_grad_vector(dx + (j), dy + (j), x + (j), lanes_at(&p, j, n), load_upto(offset + (j), n), \
                                       load_upto(slope + (j), n), n, clamped)
        EACH_CHANNEL_VECTOR(c, VECTOR);
#undef VECTOR
    }
}

static void norm_input_grad(float *dx, const float *dy, const float *x, ptrdiff_t pixels, ptrdiff_t c,
                            const fc_channel_norm *p, const float *offset, const float *slope)
{
    if (is_clamped(p)) input_grad_body(dx, dy, x, pixels, c, p, offset, slope, 1);
    else input_grad_body(dx, dy, x, pixels, c, p, offset, slope, 0);
}

/* ---- layer normalisation: rows of c values ---- */

/* x - mean in the lanes of the row, 0 beyond its end. */
INLINE vf deviation(const float *x, ptrdiff_t n, vf mean)
{
    if (n >= VLEN) return load(x) - mean;
    return zero_unless(lane_numbers() < (int32_t)n, load_part(x, (int)n) - mean);
}

/* Rows whose reductions are computed side by side, as each is a long chain of dependent steps. */
#define NORM_ROWS 4

/* xhat = (x - mean) * inverse + shift of each row, where inverse = 1 / sqrt(variance + epsilon).
 *
 * mean is rounded: where values lie far from zero, by much of their deviation. So shift holds the mean of the
 * deviations from it, which have no such error. */
typedef struct row_map { vf mean[NORM_ROWS], inverse[NORM_ROWS], shift[NORM_ROWS]; } row_map;

INLINE void row_moments(const float *x, ptrdiff_t c, float epsilon, row_map *m, const int rows)
{
    const float share = 1.0f / c;
    vf rest[NORM_ROWS] = {{0}}, squares[NORM_ROWS] = {{0}};
    UNROLL for (int r = 0; r < rows; r++) m->mean[r] = splat(0);
    for (ptrdiff_t j = 0; j < c; j += VLEN)
        UNROLL for (int r = 0; r < rows; r++) m->mean[r] += load_upto(x + r * c + j, c - j);
    UNROLL for (int r = 0; r < rows; r++) m->mean[r] = sum_all(m->mean[r]) * share;
    for (ptrdiff_t j = 0; j < c; j += VLEN)
        UNROLL for (int r = 0; r < rows; r++) {
            const vf d = deviation(x + r * c + j, c - j, m->mean[r]);
            rest[r] += d;
            squares[r] += d * d;
        }
    UNROLL for (int r = 0; r < rows; r++) {
        const vf correction = sum_all(rest[r]) * share;
        const vf variance = vmax(splat(0), sum_all(squares[r]) * share - correction * correction);
        m->inverse[r] = 1.0f / vsqrt(variance + epsilon);
        m->shift[r] = -correction * m->inverse[r];
    }
}

INLINE vf row_xhat(const float *x, ptrdiff_t n, const row_map *m, int r)
{
    return (load_upto(x, n) - m->mean[r]) * m->inverse[r] + m->shift[r];
}

INLINE void layer_norm_rows(float *y, const float *x, ptrdiff_t c, const float *gamma, const float *beta,
                            float epsilon, const int rows)
{
    row_map m;
    row_moments(x, c, epsilon, &m, rows);
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const vf g = load_upto(gamma + j, c - j), b = load_upto(beta + j, c - j);
        UNROLL for (int r = 0; r < rows; r++)
            store_upto(y + r * c + j, row_xhat(x + r * c + j, c - j, &m, r) * g + b, c - j);
    }
}

static void layer_norm(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c, const float *gamma,
                       const float *beta, float epsilon)
{
    for (; rows >= NORM_ROWS; rows -= NORM_ROWS, x += NORM_ROWS * c, y += NORM_ROWS * c)
        layer_norm_rows(y, x, c, gamma, beta, epsilon, NORM_ROWS);
    for (; rows > 0; rows--, x += c, y += c) layer_norm_rows(y, x, c, gamma, beta, epsilon, 1);
}

/* dx = (g - mean(g) - xhat * mean(g * xhat)) * inverse with g = dy * gamma, as g * inverse - offset - d * slope with
 * d = x - mean. */
INLINE void layer_norm_grad_rows(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x, ptrdiff_t c,
                                 const float *gamma, float epsilon, const int rows)
{
    row_map m;
    vf sum[NORM_ROWS] = {{0}}, product[NORM_ROWS] = {{0}};
    row_moments(x, c, epsilon, &m, rows);
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const vf scale = load_upto(gamma + j, c - j);
        vf to_gamma = load_upto(dgamma + j, c - j), to_beta = load_upto(dbeta + j, c - j);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf d = load_upto(dy + r * c + j, c - j);
            const vf xhat = row_xhat(x + r * c + j, c - j, &m, r);
            to_gamma += d * xhat;
            to_beta += d;
            sum[r] += d * scale;
            product[r] += d * scale * xhat;
        }
        store_upto(dgamma + j, to_gamma, c - j);
        store_upto(dbeta + j, to_beta, c - j);
    }
    if (!dx) return;
    if (c == 1) { /* its own mean: all that could be left of a gradient is rounding */
        for (int r = 0; r < rows; r++) dx[r] = 0 * (x[r] * dy[r]);
        return;
    }
    vf offset[NORM_ROWS], slope[NORM_ROWS];
    UNROLL for (int r = 0; r < rows; r++) {
        const vf share = m.inverse[r] * (1.0f / c), mean_g_xhat = sum_all(product[r]) * share;
        slope[r] = mean_g_xhat * m.inverse[r];
        offset[r] = sum_all(sum[r]) * share + m.shift[r] * mean_g_xhat;
    }
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const vf scale = load_upto(gamma + j, c - j);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf g = load_upto(dy + r * c + j, c - j) * scale, d = load_upto(x + r * c + j, c - j) - m.mean[r];
            store_upto(dx + r * c + j, g * m.inverse[r] - offset[r] - d * slope[r], c - j);
        }
    }
}

static void layer_norm_grad(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                            ptrdiff_t rows, ptrdiff_t c, const float *gamma, float epsilon)
{
    ptrdiff_t done = 0;
    for (; done + NORM_ROWS <= rows; done += NORM_ROWS)
        layer_norm_grad_rows(dx ? dx + done * c : dx, dgamma, dbeta, dy + done * c, x + done * c, c, gamma, epsilon,
                             NORM_ROWS);
    for (; done < rows; done++)
        layer_norm_grad_rows(dx ? dx + done * c : dx, dgamma, dbeta, dy + done * c, x + done * c, c, gamma, epsilon, 1);
}

#define NORM_KERNELS {                     \
    .moments = norm_moments,               \
    .normalize = norm_normalize,           \
    .grad_sums = norm_grad_sums,           \
    .input_grad = norm_input_grad,         \
    .layer_norm = layer_norm,              \
    .layer_norm_grad = layer_norm_grad,    \
}
