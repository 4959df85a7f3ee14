/* The table of micro-kernels: one instance per ISA, pointers together with the tile sizes they imply.
 *
 * This is the only kernel header the drivers see. Kernels are serial and pure: no allocation, no threads,
 * no Python, no branch on anything but their arguments. */
#ifndef FC_KERNELS_H
#define FC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Both matrix tiles read the patch matrix A of a convolution in place, through two offset tables:
 *     A[p][k] = x[xoff[p] + koff[k]]      p: output pixel, k: element of its receptive field.
 * The forward pass and the input gradient are Y = A W, the weight gradient is dW = A' dY. A dense layer is the same
 * with one pixel per sample. */
#include "fc_pool.h"
#include "fc_depthwise.h"
#include "fc_eltwise.h"
#include "fc_loss.h"
#include "fc_merge.h"
#include "fc_norm.h"
#include "fc_optim.h"
#include "fc_overlap.h"
#include "fc_planes.h"
#include "fc_pooled_grad.h"
#include "fc_augment.h"
#include "fc_probe.h"
#include "fc_resize.h"
#include "fc_winograd.h"

#define FC_MR_MAX 14 /* rows of the largest tile of any ISA */

/* y[yoff[i] + j] = clamp(sum_k x[xoff[i] + koff[k]] * w[k*ldw + j] + bias[j], lo, hi)   i < m <= mr, j < n <= nr.
 * The sum runs over k in order for every output, whatever m and n are; with `accumulate` it starts from y. */
typedef struct fc_gather_tile {
    const float *x;
    const int32_t *xoff, *koff; /* [m], [depth] */
    ptrdiff_t depth, run, lead; /* koff[k] are consecutive for the first `lead` k, then in every run of `run` */
    const float *w;             /* [depth][n], rows ldw apart */
    ptrdiff_t ldw;
    const float *bias;          /* [n] or NULL */
    float lo, hi;               /* ReLU is (0, inf), nothing is (-inf, inf); NaN passes through */
    float *y;
    const int32_t *yoff;        /* [m] */
    int accumulate;
    int m, n;
    int relu;                   /* these are for gather_windows */
    unsigned char *arg;         /* [m / 4][n], rows arg_step apart, or NULL */
    ptrdiff_t arg_step;
} fc_gather_tile;

/* y[yoff[p] + j] = clamp(sum_k x[xoff[p] + koff[k]] * w(k, j) + bias[j], lo, hi)   p < pixels, j < n <= vlen / 2;
 * w is packed as dot.h says, k = (tap, channel) with `inner` neighbouring channels a tap. The lanes of a vector are
 * summed apart and then together. */
typedef struct fc_dot_tile {
    const float *x;
    const int32_t *xoff, *koff; /* [pixels], [taps * inner] */
    ptrdiff_t pixels, taps, inner;
    const float *w;
    const float *bias;          /* [n] or NULL */
    float lo, hi;
    float *y;
    const int32_t *yoff;        /* [pixels] */
    int n;
} fc_dot_tile;

/* dw[dw_row[i] + j] (+)= sum_p x[xoff[p] + koff[i]] * dy[yoff[p] + j]   i < m <= mr, j < n <= nr; p in order.
 * Pixels lie in rows of `cols`, where neighbours are xstep and ystep apart. */
typedef struct fc_outer_tile {
    const float *x, *dy;
    const int32_t *xoff, *yoff; /* [pixels] */
    ptrdiff_t pixels, cols, xstep, ystep;
    const int32_t *koff;        /* [m] */
    int accumulate;             /* add to dw instead of overwriting it */
    float *dw;
    const int32_t *dw_row;      /* [m] */
    int m, n;
} fc_outer_tile;

typedef struct fc_kernels {
    const char *isa;
    int vlen;   /* floats per vector */
    int mr, nr; /* largest tile: mr pixels (or weight rows) x nr output channels */
    void (*gather_tile)(const fc_gather_tile *t);
    /* Pixels 4i to 4i + 3 are the taps of a 2 x 2 window, equally far apart in all windows: the largest of their sums
     * goes to y[yoff[i] + j], the tap to arg. As fc_pool.h's max_row; lo, hi and accumulate are not read. */
    void (*gather_windows)(const fc_gather_tile *t);
    void (*outer_tile)(const fc_outer_tile *t);
    void (*dot_tile)(const fc_dot_tile *t);
    /* dst[j*ldd + i] = src[i*lds + j]   i < rows, j < cols */
    void (*transpose)(const float *src, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t cols, float *dst, ptrdiff_t ldd);
    /* dst[j/width*block + i*ldd + j%width] = src[i*lds + j]   i < rows, j < n: a matrix in blocks of columns */
    void (*copy_rows)(const float *src, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t n, float *dst, ptrdiff_t ldd,
                      ptrdiff_t width, ptrdiff_t block);
    /* db[j] (+)= sum_p dy[yoff[p] + j]   j < n; p in order */
    void (*sum_rows)(const float *dy, const int32_t *yoff, ptrdiff_t pixels, ptrdiff_t n, int accumulate, float *db);
    fc_pool_kernels pool;
    fc_depthwise_kernels depthwise;
    fc_eltwise_kernels eltwise;
    fc_merge_kernels merge;
    fc_resize_kernels resize;
    fc_loss_kernels loss;
    fc_norm_kernels norm;
    fc_optim_kernels optim;
    fc_augment_kernels augment;
    fc_probe_kernels probe;
    fc_winograd_kernels winograd;
    fc_overlap_kernels overlap;
    fc_plane_kernels planes;
    fc_pooled_grad_kernels pooled_grad;
} fc_kernels;

#endif
