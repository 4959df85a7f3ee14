/* Augmentation kernels: random numbers for an image, rows sampled along a line of another image, shading. */
#ifndef FC_AUGMENT_H
#define FC_AUGMENT_H

#include <stddef.h>
#include <stdint.h>

#define FC_DRAWS 8

/* What lies beyond the borders of the pixels a b c d, k being `value`:
 * constant k k | a b c d | k k, nearest a a | a b c d | d d, reflect b a | a b c d | d c, wrap c d | a b c d | a b. */
enum { FC_FILL_CONSTANT, FC_FILL_NEAREST, FC_FILL_REFLECT, FC_FILL_WRAP };

/* Pixel j of the output row, j < n, is read at row y0 + j dy, column x0 + j dx of an image of h x w pixels. */
typedef struct fc_sampling {
    const float *x;      /* pixel (0, 0); pixels are contiguous, rows `row` floats apart */
    ptrdiff_t row, h, w, c;
    float *y;            /* [n][c] */
    ptrdiff_t n;
    float y0, dy, x0, dx;
    int fill, bilinear;  /* bilinear, or the nearest pixel: floor(position + 1/2) */
    float value;
} fc_sampling;

typedef struct fc_augment_kernels {
    /* Eight independent numbers of [0, 1), a function of the arguments alone. */
    void (*draw)(float u[FC_DRAWS], uint64_t seed, uint32_t step, uint32_t stream, uint32_t image);

    void (*sample_row)(const fc_sampling *s);

    /* y[i*c + j] = clamp(x[i*c + j] * scale + offset[j], lo, hi)   i < pixels, j < c; NaN passes through */
    void (*shade)(float *y, const float *x, ptrdiff_t pixels, ptrdiff_t c, float scale, const float *offset,
                  float lo, float hi);
} fc_augment_kernels;

#endif
