/* Kernels that merge branches, and PReLU: runs of n contiguous floats, or rows of c of them. Outputs may be the
 * inputs themselves, but must not overlap them otherwise. NaN in gives NaN out unless said. */
#ifndef FC_MERGE_H
#define FC_MERGE_H

#include <stddef.h>

typedef struct fc_merge_kernels {
    void (*subtract)(float *y, const float *a, const float *b, ptrdiff_t n); /* y = a - b */
    void (*maximum)(float *y, const float *a, const float *b, ptrdiff_t n);
    void (*minimum)(float *y, const float *a, const float *b, ptrdiff_t n);
    /* y = min(hi, max(lo, a + b)) */
    void (*add_clamp)(float *y, const float *a, const float *b, ptrdiff_t n, float lo, float hi);

    /* dx[i] = dy[i] where (a[i] == b[i]) is `equal`, else 0; a NaN equals nothing */
    void (*select)(float *dx, const float *dy, const float *a, const float *b, ptrdiff_t n, int equal);
    /* sum[i] += x[i][0] + x[i][1] + ... over the c floats of each row */
    void (*row_sum)(float *sum, const float *x, ptrdiff_t rows, ptrdiff_t c);

    /* y = x where x > 0, else slope x; its gradients with respect to x, and (not yet summed) to slope */
    void (*prelu)(float *y, const float *x, const float *slope, ptrdiff_t n);
    void (*prelu_grad)(float *dx, const float *dy, const float *x, const float *slope, ptrdiff_t n);
    void (*prelu_slope_grad)(float *g, const float *dy, const float *x, ptrdiff_t n);
} fc_merge_kernels;

#endif
