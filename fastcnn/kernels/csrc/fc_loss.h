/* Loss kernels: value, gradient and prediction of rows of c floats in one pass over each row. */
#ifndef FC_LOSS_H
#define FC_LOSS_H

#include <stddef.h>
#include <stdint.h>

/* Rows lie c floats apart, per-row values one apart. p or dx may be x itself; p and dx must differ. */
typedef struct fc_loss_rows {
    ptrdiff_t rows, c;
    const float *x;       /* logits or predictions */
    const int32_t *label; /* right column of each row, or NULL: then `target` says */
    const float *target;  /* wanted values */
    int ignores;          /* rows of the label `ignored` do not count: their loss, gradient and `correct` are 0 */
    int32_t ignored;
    const float *weight;  /* of each row, or NULL for 1 */
    float smoothing;      /* label smoothing: targets are pulled this far towards the uniform distribution */
    float scale;          /* of the gradient: 1 / rows of the batch for the mean loss */
    float *p;             /* softmax or sigmoid of x, or NULL */
    float *dx;            /* scale * d(sum of losses) / dx, or NULL */
    float *loss;          /* weighted loss of each row */
    float *correct;       /* fraction of the row that is predicted right, or NULL */
} fc_loss_rows;

typedef struct fc_loss_kernels {
    /* -sum_j t[j] log softmax(x)[j]; right where the first largest x is at the label or at the first
     * largest target. A label outside [0, c) makes the row's loss and gradient NaN; logits that hold NaN are
     * never right. */
    void (*softmax_crossentropy)(const fc_loss_rows *r);

    /* Means over the row. Cross-entropy of sigmoid(x), right where (p > 1/2) equals the target. */
    void (*sigmoid_crossentropy)(const fc_loss_rows *r);
    void (*squared_error)(const fc_loss_rows *r);
    void (*absolute_error)(const fc_loss_rows *r);

    /* Sum of x[0..n) in double precision. */
    double (*sum)(const float *x, ptrdiff_t n);
} fc_loss_kernels;

#endif
