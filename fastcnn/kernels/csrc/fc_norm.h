/* Normalisation kernels: runs of pixels of c channels, contiguous. NaN in gives NaN out. */
#ifndef FC_NORM_H
#define FC_NORM_H

#include <stddef.h>

/* Sums are kept in double, in arrays of a multiple of this many elements: whole vectors on every ISA. */
#define FC_NORM_PAD 16

/* y = clamp(z, lo, hi) with z = (x - mean) * scale + shift; the arrays have c elements. */
typedef struct fc_channel_norm {
    const float *mean, *scale, *shift;
    float lo, hi; /* ReLU is (0, inf), nothing is (-inf, inf) */
} fc_channel_norm;

typedef struct fc_norm_kernels {
    /* mean and m2, the sum of squared deviations from it, of `count` pixels, become those of count + pixels. */
    void (*moments)(double *mean, double *m2, double count, const float *x, ptrdiff_t pixels, ptrdiff_t c);
    void (*normalize)(float *y, const float *x, ptrdiff_t pixels, ptrdiff_t c, const fc_channel_norm *p);

    /* Below, dz is dy where lo < z < hi, else 0. */
    /* sum[j] += sum of dz, product[j] += sum of dz * (x - mean), over the pixels. */
    void (*grad_sums)(double *sum, double *product, const float *dy, const float *x, ptrdiff_t pixels,
                      ptrdiff_t c, const fc_channel_norm *p);
    /* dx = dz * scale - offset - (x - mean) * slope; dx may be dy. */
    void (*input_grad)(float *dx, const float *dy, const float *x, ptrdiff_t pixels, ptrdiff_t c,
                       const fc_channel_norm *p, const float *offset, const float *slope);

    /* y = gamma * xhat + beta with xhat = (x - mean) / sqrt(variance + epsilon) over the c values of each row. */
    void (*layer_norm)(float *y, const float *x, ptrdiff_t rows, ptrdiff_t c, const float *gamma,
                       const float *beta, float epsilon);
    /* dgamma += sum of dy * xhat, dbeta += sum of dy; dx, unless NULL, may be dy. */
    void (*layer_norm_grad)(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                            ptrdiff_t rows, ptrdiff_t c, const float *gamma, float epsilon);
} fc_norm_kernels;

#endif
