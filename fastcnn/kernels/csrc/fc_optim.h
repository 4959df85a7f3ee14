/* Optimiser kernels: one pass over a run of weights, its gradients and the optimiser's slots. */
#ifndef FC_OPTIM_H
#define FC_OPTIM_H

#include <stddef.h>

#define FC_SLOTS_MAX 3
#define FC_SCALARS 8

/* The scalars of a step; what a..e are is said by the names of the rule. */
typedef struct fc_step_scalars {
    float decay; /* learning rate * weight decay: w -= decay * w before the update */
    float clip;  /* gradients are limited to [-clip, clip]; infinity for no limit */
    float rate;  /* learning rate */
    float a, b, c, d, e;
} fc_step_scalars;

typedef struct fc_update {
    ptrdiff_t n;
    float *w;
    const float *g;
    float *slot[FC_SLOTS_MAX]; /* moments and velocities, as many as the rule has */
    float scale;               /* of the gradient, before clipping */
    fc_step_scalars s;
} fc_update;

typedef struct fc_rule {
    const char *name;
    const char *slots;   /* their names, in order, separated by spaces */
    const char *scalars; /* names of a, b, ... */
    void (*update)(const fc_update *u);
} fc_rule;

typedef struct fc_optim_kernels {
    const fc_rule *rules; /* ends with a NULL name */
    double (*sum_squares)(const float *x, ptrdiff_t n);
} fc_optim_kernels;

#endif
