/* The table of micro-kernels: one instance per ISA, pointers together with the tile sizes they imply.
 *
 * This is the only kernel header the drivers see. Kernels are serial and pure: no allocation, no threads,
 * no Python, no branch on anything but their arguments. */
#ifndef FC_KERNELS_H
#define FC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "fc_eltwise.h"
#include "fc_loss.h"
#include "fc_optim.h"

#define FC_MR_MAX 14 /* rows of the largest tile of any ISA */

/* y[yoff[i] + j] = clamp(sum_t sum_k x[xoff[i] + tap[t] + k] * w[(t*run + k)*ldw + j] + bias[j], lo, hi)
 * for i < m <= MR and j < n <= NR: `m` output pixels by `n` output channels.
 * The sum runs over t, then k, in that order for every output, whatever m and n are. */
typedef struct fc_gather_tile {
    const float *x;       /* input; pixel i starts at x + xoff[i] */
    const int32_t *xoff;  /* [m] floats */
    const int32_t *tap;   /* [taps] floats: where each run of a pixel's receptive field starts */
    ptrdiff_t taps, run;  /* receptive field = taps runs of `run` contiguous floats */
    const float *w;       /* [taps*run][n], rows ldw apart */
    ptrdiff_t ldw;
    const float *bias;    /* [n] or NULL */
    float lo, hi;         /* epilogue clamp: ReLU is (0, inf), none is (-inf, inf) */
    int accumulate;       /* add to y instead of overwriting it (before bias and clamp) */
    float *y;
    const int32_t *yoff;  /* [m] floats */
    int m, n;
} fc_gather_tile;

/* dw[i*lddw + j] (+)= sum_p x[xoff[p] + i] * dy[yoff[p] + j]   for i < m <= MR and j < n <= NR. */
typedef struct fc_outer_tile {
    const float *x, *dy;
    const int32_t *xoff, *yoff; /* [pixels] floats */
    ptrdiff_t pixels;
    int accumulate;
    float *dw;
    ptrdiff_t lddw;
    int m, n;
} fc_outer_tile;

typedef struct fc_kernels {
    const char *isa;
    int vlen;   /* floats per vector */
    int mr, nr; /* largest tile: mr pixels (or weight rows) x nr output channels */
    void (*gather_tile)(const fc_gather_tile *t);
    void (*outer_tile)(const fc_outer_tile *t);
    fc_eltwise_kernels eltwise;
    fc_loss_kernels loss;
    fc_optim_kernels optim;
} fc_kernels;

#endif
