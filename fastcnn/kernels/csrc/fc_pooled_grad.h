/* Kernels of the weight gradient of a convolution at stride 1 whose result is max-pooled over 2 x 2 windows side by
 * side, from the gradient dy of the pooled result. Of the four pixels of a window one has a gradient, which one depends
 * on the channel: `arg` names it, 0 to 3 row by row, or 255 where ReLU closed the window. So every tap multiplies dy by
 * one of four neighbouring pixels of x, a *quad*. */
#ifndef FC_POOLED_GRAD_H
#define FC_POOLED_GRAD_H

#include <stddef.h>
#include <stdint.h>

/* dw[k*ldw + j] (+)= sum over r, p of quad(r, p, k)[at(r, p, j)] * g(r, p, j)    k < m < mr, j < n <= nr
 * Pixel p of row r has its first quad at q + r*row + p*step, its others side by side, and its n gradients, in whole
 * vectors, followed by as many indices at g, pixel by pixel. */
typedef struct fc_pooled_tile {
    const float *q;
    ptrdiff_t row, step; /* floats */
    const float *g;
    ptrdiff_t rows, cols;
    int accumulate;
    float *dw;
    ptrdiff_t ldw;
    int m, n;
} fc_pooled_tile;

typedef struct fc_pooled_grad_kernels {
    void (*tile)(const fc_pooled_tile *t);
    /* q[4f..] = x[f], x[f + c], below[f], below[f + c]    f < n, c <= 3/4 vlen; q has room for whole vectors. */
    void (*quads)(const float *x, const float *below, ptrdiff_t c, ptrdiff_t n, float *q);
    /* Gradients and indices as a tile reads them, of n <= nr channels of `pixels` pixels of c channels, and their sum
     * db[j] (+)= sum of g, unless db is NULL. Closed windows and missing lanes become zeros. */
    void (*open)(const float *dy, const uint8_t *arg, ptrdiff_t pixels, ptrdiff_t c, int n, float *g, int accumulate,
                 float *db);
} fc_pooled_grad_kernels;

#endif
