/* Optimiser kernels: one pass over a run of weights, its gradients and the optimiser's slots. */
#ifndef FC_OPTIM_H
#define FC_OPTIM_H

#include <stddef.h>

#define FC_SLOTS_MAX 3
#define FC_SCALARS 9

/* The scalars of a step, in double precision because rules need 1 - beta. */
typedef struct fc_step_scalars {
    double decay; /* learning rate * weight decay: w -= decay * w before the update */
    double clip;  /* gradients are limited to [-clip, clip]; infinity for no limit */
    double rate;  /* learning rate */
    double own[FC_SCALARS - 3]; /* of the rule, in the order of its names */
} fc_step_scalars;

typedef struct fc_update {
    ptrdiff_t n;
    float *w;
    const float *g;
    float *slot[FC_SLOTS_MAX]; /* moments, as many as the rule has */
    float scale;               /* of the gradient, before clipping */
    fc_step_scalars scalars;
} fc_update;

typedef struct fc_rule {
    const char *name;
    const char *slots;   /* their names, in order, separated by spaces */
    const char *scalars; /* names of its own scalars, likewise */
    void (*update)(const fc_update *u);
} fc_rule;

typedef struct fc_optim_kernels {
    const fc_rule *rules; /* ends with a NULL name */
    double (*sum_squares)(const float *x, ptrdiff_t n);
} fc_optim_kernels;

#endif
