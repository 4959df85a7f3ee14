/* Kernels of a convolution with few input and few output channels, plane by plane: a lane is a pixel of a row. */
#ifndef FC_PLANES_H
#define FC_PLANES_H

#include <stddef.h>
#include <stdint.h>

/* z[(i*n + j)*vlen + l] = sum_k x[xoff[i] + koff[k] + l] * w[k*n + j]   i < m, j < n <= vlen / 2, l < vlen
 * A *strip* is vlen neighbouring pixels of a row; z holds the n output channels of each strip. The sums run over k in
 * order. All lanes are read and written. */
typedef struct fc_plane_strips {
    const float *x;
    const int32_t *xoff, *koff; /* [m], [depth] */
    ptrdiff_t depth;
    const float *w;             /* [depth][n] */
    float *z;
    ptrdiff_t m;
    int n;
} fc_plane_strips;

typedef struct fc_plane_kernels {
    void (*strips)(const fc_plane_strips *t);

    /* dst[j*plane + p] = src[p*c + j]   p < pixels, j < c */
    void (*split)(const float *src, ptrdiff_t pixels, ptrdiff_t c, float *dst, ptrdiff_t plane);

    /* y[l*n + j] = clamp(z[j*vlen + l] + bias[j], lo, hi)   l < pixels <= vlen; a bias of NULL is 0 */
    void (*join)(const float *z, int n, int pixels, const float *bias, float lo, float hi, float *y);

    /* The maxima of 2 x 2 windows of z + bias, as pool.max_row: y[l*n + j] is the largest of the pixels 2l and 2l + 1
     * of two rows, which lie at z and z + row; each is two strips, or one if pixels <= vlen / 2.   l < pixels <= vlen
     */
    void (*pool)(const float *z, ptrdiff_t row, int n, int pixels, const float *bias, int relu, float *y, uint8_t *arg);
} fc_plane_kernels;

#endif
