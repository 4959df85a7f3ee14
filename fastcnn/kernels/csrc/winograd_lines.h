/* One dimension of Winograd's convolution: the matrices of F(4 x 4, 3 x 3), F(2 x 2, 3 x 3) and of whole maps, applied
 * to a line of vectors. winograd.h applies them to the columns and rows of tiles.
 *
 * The matrices follow from polynomials (Toom and Cook; Winograd, "Arithmetic Complexity of Computations", 1980;
 * Lavin and Gray, arXiv:1509.09308). F(4 x 4) takes the points 0, 1, -1, 1/2, -2 and infinity: with 1/2 for the usual
 * 2 its rounding errors are smaller by a third (after Barabasz et al., arXiv:1803.10986). With M(x) the product of all
 * (x - point), row p of B' holds the coefficients of M(x) / (x - p), row p of G is (1, p, p^2) / (M'(p)), column p of
 * A' is (1, p, p^2, p^3).
 *
 * A whole map of 2 x 2 pixels with zeros around needs three points a line, not four: y is the product of d and a
 * Toeplitz matrix, y0 = g1 d0 + g2 d1 and y1 = g0 d0 + g1 d1, which is
 *
 *     m0 = (g0 - g1) d0    m1 = g1 (d0 + d1)    m2 = (g2 - g1) d1        y0 = m1 + m2    y1 = m0 + m1 */
#include "vec.h"

/* ---- narrow tiles
 *
 * Nobody asks for outputs i >= e, so it does not matter what only they read, d[e + 2] and later: it is chosen such that
 * all but the first e + 2 rows of B' d are zeros, whose products need not be computed. No matrix changes. Infinity, the
 * last point, alone reads d[5]; row -2 is zero for d[4] = d[2] + (d[3] - d[1]) / 2, row 1/2 as well if d[3] = d[1]. */

/* Whether a line of so many points, at least three, has point i. */
#define HAS(i, points) ((i) < 3 || (i) < (points))

/* The d that follow from the first `points`; d[5] is read for no point that there is. */
INLINE void extend_line(vf *d, int points)
{
    if (points == 3) d[3] = d[1], d[4] = d[2];
    if (points == 4) d[4] = d[2] + 0.5f * (d[3] - d[1]);
}

/* The adjoint: the gradients of such d belong to those that they follow from. */
INLINE void fold_line(vf *d, ptrdiff_t step, int points)
{
    if (points == 3) d[step] += d[3 * step], d[2 * step] += d[4 * step];
    if (points == 4) d[step] -= 0.5f * d[4 * step], d[2 * step] += d[4 * step], d[3 * step] += 0.5f * d[4 * step];
}

/* ---- the transforms of one line, of six points for m = 4; half 0 is the first three of them */

/* B': six inputs to three points. */
INLINE void input_half_line(const vf *d, vf *v, const int half)
{
    const vf w1 = d[3] - d[1], w2 = d[4] - d[2], u1 = w1 + 1.5f * d[2], u2 = w2 + 1.5f * d[3];
    if (half == 0) {
        v[0] = u2 - ((d[2] - d[0]) + 1.5f * d[1]);
        v[1] = u2 + u1;
        v[2] = u2 - u1;
    } else {
        v[0] = w2 + 2.0f * w1;
        v[1] = w2 - 0.5f * w1;
        v[2] = ((d[5] - d[3]) + 1.5f * d[4]) - u1;
    }
}

INLINE void input_line4(const vf *d, vf *v)
{
    input_half_line(d, v, 0);
    input_half_line(d, v + 3, 1);
}

INLINE void input_line2(const vf *d, vf *v)
{
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
}

INLINE void input_line_whole(const vf *d, vf *v)
{
    v[0] = d[0];
    v[1] = d[0] + d[1];
    v[2] = d[1];
}

/* A': six points to four outputs. */
INLINE void output_line4(const vf *v, vf *y)
{
    const vf s = v[1] + v[2], d = v[1] - v[2];
    y[0] = (v[0] + s) + (v[3] + v[4]);
    y[1] = d + 0.5f * v[3] - 2.0f * v[4];
    y[2] = s + 0.25f * v[3] + 4.0f * v[4];
    y[3] = d + 0.125f * v[3] - 8.0f * v[4] + v[5];
}

INLINE void output_line2(const vf *v, vf *y)
{
    y[0] = v[0] + v[1] + v[2];
    y[1] = v[1] - v[2] + v[3];
}

INLINE void output_line_whole(const vf *v, vf *y)
{
    y[0] = v[1] + v[2];
    y[1] = v[0] + v[1];
}

/* A: four output gradients to six points. */
INLINE void gradient_line4(const vf *y, vf *v)
{
    const vf even = y[0] + y[2], odd = y[1] + y[3];
    v[0] = y[0];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = (y[0] + 0.25f * y[2]) + 0.5f * (y[1] + 0.25f * y[3]);
    v[4] = (y[0] + 4.0f * y[2]) - 2.0f * (y[1] + 4.0f * y[3]);
    v[5] = y[3];
}

INLINE void gradient_line2(const vf *y, vf *v)
{
    v[0] = y[0];
    v[1] = y[0] + y[1];
    v[2] = y[0] - y[1];
    v[3] = y[1];
}

INLINE void gradient_line_whole(const vf *y, vf *v)
{
    v[0] = y[1];
    v[1] = y[0] + y[1];
    v[2] = y[0];
}

/* B: six points to six pixels, of which the first and the last are points themselves; here the four between. */
INLINE void spread_line4(const vf *v, vf *d)
{
    const vf s = v[1] + v[2], e = v[1] - v[2];
    const vf even = s + (v[3] + v[4]), odd = e + (2.0f * v[3] - 0.5f * v[4]);
    d[0] = (v[5] - 1.5f * v[0]) - odd;
    d[1] = 1.5f * e - (even + 2.0f * v[0] + 1.5f * v[5]);
    d[2] = odd + 1.5f * (v[0] + s) - 2.0f * v[5];
    d[3] = even + v[0] + 1.5f * v[5];
}

INLINE void spread_line2(const vf *v, vf *d)
{
    d[0] = v[1] - v[2] - v[3];
    d[1] = v[1] + v[2] - v[0];
}

/* G: three weights to six points. */
INLINE void weight_line4(const vf *g, vf *v)
{
    const vf even = (g[0] + g[2]) * (1 / 3.0f), odd = g[1] * (1 / 3.0f);
    v[0] = g[0];
    v[1] = even + odd;
    v[2] = odd - even;
    v[3] = (g[0] + 0.5f * g[1] + 0.25f * g[2]) * (-16 / 15.0f);
    v[4] = (g[0] - 2.0f * g[1] + 4.0f * g[2]) * (1 / 15.0f);
    v[5] = g[2];
}

INLINE void weight_line2(const vf *g, vf *v)
{
    const vf even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
    v[0] = g[0];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = g[2];
}

INLINE void weight_line_whole(const vf *g, vf *v)
{
    v[0] = g[0] - g[1];
    v[1] = g[1];
    v[2] = g[2] - g[1];
}

/* G': six points to three weight gradients. */
INLINE void inverse_line4(const vf *v, vf *g)
{
    const vf s = (v[1] + v[2]) * (1 / 3.0f), d = (v[1] - v[2]) * (1 / 3.0f);
    const vf a = v[3] * (-16 / 15.0f), b = v[4] * (1 / 15.0f);
    g[0] = v[0] + d + a + b;
    g[1] = s + 0.5f * a - 2.0f * b;
    g[2] = d + 0.25f * a + 4.0f * b + v[5];
}

INLINE void inverse_line2(const vf *v, vf *g)
{
    const vf s = 0.5f * (v[1] + v[2]), d = 0.5f * (v[1] - v[2]);
    g[0] = v[0] + s;
    g[1] = d;
    g[2] = s + v[3];
}

INLINE void inverse_line_whole(const vf *v, vf *g)
{
    g[0] = v[0];
    g[1] = v[1] - (v[0] + v[2]);
    g[2] = v[2];
}
