/* Kernels of depthwise convolution: every channel has its own filter, so a vector lane is a channel. */
#ifndef FC_DEPTHWISE_H
#define FC_DEPTHWISE_H

#include <stddef.h>

/* y[p*ypixel + c] =
 *     clamp(sum_ab x[p*xpixel + a*xrow + b*xcol + c] * w[a*wrow + b*wcol + c] + bias[c], lo, hi)
 * for p < pixels and c < n; the sum runs over a < rows, then b < cols. Steps are in floats, of any sign.
 * x is not read, but counts as 0, for the first column of taps of the first pixel if `before`, and for the last column
 * of the last pixel if `after`: they lie in the padding.
 * This is a run of one row of the output, or of the input gradient (x is then dy, and y is dx). */
typedef struct fc_depthwise_gather {
    const float *x;
    ptrdiff_t xpixel, xrow, xcol;
    const float *w;
    ptrdiff_t wrow, wcol;
    ptrdiff_t rows, cols;
    const float *bias; /* [n] or NULL */
    float lo, hi;
    float *y;
    ptrdiff_t ypixel;
    ptrdiff_t pixels, n;
    int before, after;
} fc_depthwise_gather;

/* dw[a*wrow + b*n + c] += sum_lp x[l*xline + p*xpixel + a*xrow + b*xcol + c] * dy[l*yline + p*n + c]
 * db[c] += sum_lp dy[l*yline + p*n + c]
 * for a < rows, b < cols, c < n; the sums run over l < lines, then p < pixels, without the x that lie in the padding as
 * told by `before` and `after` (see above). */
typedef struct fc_depthwise_outer {
    const float *x;
    ptrdiff_t xline, xpixel, xrow, xcol;
    const float *dy;
    ptrdiff_t yline;
    ptrdiff_t lines, pixels;
    ptrdiff_t rows, cols;
    float *dw;
    ptrdiff_t wrow;
    float *db; /* [n] or NULL */
    ptrdiff_t n;
    int before, after;
} fc_depthwise_outer;

typedef struct fc_depthwise_kernels {
    void (*gather)(const fc_depthwise_gather *t);
    void (*outer)(const fc_depthwise_outer *t);
} fc_depthwise_kernels;

#endif
