/* Pooling of NHWC images: sizes, and the kernels of one row. */
#ifndef FC_POOL_H
#define FC_POOL_H

#include <stddef.h>

/* Window (o, j) covers the pixels (o*sh - pt + r, j*sw - pl + i), r < kh, i < kw: taps with index r*kw + i.
 * Taps outside the image are skipped. Every window holds at least one pixel of the image. */
typedef struct fc_pool {
    ptrdiff_t h, w, c;        /* image */
    ptrdiff_t oh, ow;         /* windows down and across */
    ptrdiff_t kh, kw, sh, sw; /* window, stride */
    ptrdiff_t pt, pl;         /* padding above, to the left */
    int minimum;              /* max_row takes the minimum */
    int relu;                 /* max_row clamps its result at 0 and closes what did not pass */
    int arg_bytes;            /* size of one arg: 1 is uint8 (kh*kw <= 255), 4 is int32 */
    int count_padding;        /* averages divide by kh*kw even where a window hangs over the edge */
    int overlap;              /* gradients add to dx, which starts as 0; else they overwrite their windows */
} fc_pool;

typedef struct fc_pool_kernels {
    /* Row o of outputs: y[j*c + v] is the largest tap of window (o, j) in channel v, the first of equals; a
     * window that holds NaN gives its first NaN. `x` is the first image row of these windows, row
     * max(0, o*sh - pt); image rows are `row` floats apart. `arg` (ow*c of arg_bytes each, or NULL) receives
     * the tap's index; with `relu`, -1 (255 as uint8) where the result is 0 because no tap was above it. */
    void (*max_row)(const fc_pool *p, ptrdiff_t o, const float *x, ptrdiff_t row, float *y, void *arg);

    /* The gradient through row o of windows: dx at the tap that `arg` names += dy if `overlap`; else = dy,
     * and 0 at the window's other taps. Pixels outside the windows are not touched. `dy` and `arg` are the
     * ow*c of row o; `dx` is the first image row of these windows, as x above. */
    void (*max_grad_row)(const fc_pool *p, ptrdiff_t o, const float *dy, const void *arg, float *dx,
                         ptrdiff_t row);

    /* The mean of each window, and its gradient; arguments as above. */
    void (*avg_row)(const fc_pool *p, ptrdiff_t o, const float *x, ptrdiff_t row, float *y);
    void (*avg_grad_row)(const fc_pool *p, ptrdiff_t o, const float *dy, float *dx, ptrdiff_t row);
} fc_pool_kernels;

#endif
