/* Kernels that enlarge images: rows of pixels of c contiguous floats. NaN in gives NaN out.
 *
 * Interpolation is linear, one axis after the other. Output i lies between inputs lower[i] and upper[i], at the
 * share t[i] of the way: y[i] = x[lower[i]] (1 - t[i]) + x[upper[i]] t[i]. */
#ifndef FC_RESIZE_H
#define FC_RESIZE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fc_lerp {
    const int32_t *lower, *upper; /* [outputs] */
    const float *t;               /* [outputs] */
} fc_lerp;

typedef struct fc_resize_kernels {
    /* y[i * times + k] = x[i]   i < w, k < times */
    void (*repeat)(float *y, const float *x, ptrdiff_t w, ptrdiff_t c, ptrdiff_t times);
    /* dx[i] += dy[i * times] + ... + dy[i * times + times - 1]   i < w */
    void (*sum_repeats)(float *dx, const float *dy, ptrdiff_t w, ptrdiff_t c, ptrdiff_t times);

    /* y = a (1 - t) + b t for n floats */
    void (*lerp)(float *y, const float *a, const float *b, ptrdiff_t n, float t);
    /* y += x * scale for n floats */
    void (*add_scaled)(float *y, const float *x, ptrdiff_t n, float scale);
    /* One row of `outputs` pixels from a row of inputs, and the transpose of that, which adds to dx. */
    void (*lerp_row)(float *y, const float *x, const fc_lerp *l, ptrdiff_t outputs, ptrdiff_t c);
    void (*lerp_grad_row)(float *dx, const float *dy, const fc_lerp *l, ptrdiff_t outputs, ptrdiff_t c);
} fc_resize_kernels;

#endif
