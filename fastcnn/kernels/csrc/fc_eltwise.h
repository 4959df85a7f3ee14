/* Element-wise kernels: runs of n contiguous floats, or rows of c of them. Outputs may be the inputs
 * themselves (y == x, dx == dy), but must not overlap them otherwise. NaN in gives NaN out unless said. */
#ifndef FC_ELTWISE_H
#define FC_ELTWISE_H

#include <stddef.h>
#include <stdint.h>

/* y[i] = f(x[i]); its derivative f' is taken at the saved output y or, where y does not determine it, at the
 * saved input x: dx[i] = dy[i] * f'. At a kink, f' is that of the flat or, for leaky ones, the left side; the
 * relu-like functions treat a NaN as if it were on that side. */
typedef struct fc_activation {
    const char *name;
    int grad_from_x;  /* whether the gradient reads x instead of y */
    float param;      /* the default of the one parameter: leaky_relu's slope, elu's alpha */
    void (*forward)(float *y, const float *x, ptrdiff_t n, float param);
    void (*grad)(float *dx, const float *dy, const float *saved, ptrdiff_t n, float param);
} fc_activation;

/* Which dropout decisions: those of the elements of one image, at one step, in one layer. */
typedef struct fc_dropout {
    uint64_t seed;
    uint32_t step, stream, image;
    int32_t threshold;  /* keep where a uniform int32 is at least this */
    float scale;        /* 1 / (1 - rate) */
} fc_dropout;

typedef struct fc_eltwise_kernels {
    const fc_activation *activations; /* ends with a NULL name */

    /* Over rows of c floats, rows apart by c. A row with NaN, +inf or only -inf becomes NaN. */
    void (*softmax)(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c);
    void (*softmax_grad)(float *dx, const float *dy, const float *y, ptrdiff_t rows, ptrdiff_t c);
    void (*log_softmax)(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c);
    void (*log_softmax_grad)(float *dx, const float *dy, const float *y, ptrdiff_t rows, ptrdiff_t c);

    void (*add)(float *y, const float *a, const float *b, ptrdiff_t n);      /* y = a + b */
    void (*multiply)(float *y, const float *a, const float *b, ptrdiff_t n); /* y = a * b */
    int (*all_finite)(const float *x, ptrdiff_t n);                          /* whether none is NaN or infinite */
    /* y = x * scale + offset */
    void (*affine)(float *y, const float *x, ptrdiff_t n, float scale, float offset);
    /* sum[j] += x[0][j] + x[1][j] + ... over the rows */
    void (*channel_sum)(float *sum, const float *x, ptrdiff_t rows, ptrdiff_t c);

    /* out[i] = scale if element first + i of the image is kept, else 0. */
    void (*dropout_scale)(float *out, const fc_dropout *d, ptrdiff_t first, ptrdiff_t n);
} fc_eltwise_kernels;

#endif
