/* Kernels of overlap-add convolution: where few channels would leave most lanes of a matrix tile idle, the columns of a
 * tile are (column of the kernel, channel) pairs. */
#ifndef FC_OVERLAP_H
#define FC_OVERLAP_H

#include <stddef.h>

/* One row of y, n floats that are pixels of c channels, from the taps*c products p of each of `pixels` columns:
 *     y[f] = sum_q p[q*ld + f - (q - shift)*c]   f < n
 * over the q < pixels for which that is a product of q, in order. At least vlen zeros stand before the products of each
 * column, and vlen + c after them. */
typedef struct fc_overlap_row {
    const float *p;
    ptrdiff_t ld, pixels;
    ptrdiff_t taps, c, shift;
    float *y;
    ptrdiff_t n;
} fc_overlap_row;

typedef struct fc_overlap_kernels {
    void (*row)(const fc_overlap_row *t);
    /* db[j] (+)= sum of channel j over `rows` rows of `cols` pixels of c channels, `row` floats apart; `lanes` is
     * scratch of c vectors. Each lane is summed in order, then the lanes of a channel are added. */
    void (*channel_sums)(const float *dy, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t c, float *lanes,
                         int accumulate, float *db);
} fc_overlap_kernels;

#endif
