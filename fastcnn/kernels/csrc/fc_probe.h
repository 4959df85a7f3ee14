/* What this machine can do at most: the yardstick of the benchmarks. */
#ifndef FC_PROBE_H
#define FC_PROBE_H

#include <stddef.h>

typedef struct fc_probe_kernels {
    /* `iterations` times a = a*factor + term in as many vectors as the largest tile has, all of them in registers:
     * nothing but multiply-adds, so no kernel of this ISA can be faster. Returns how many floating-point operations
     * that was; `*result` receives the sum of the vectors. */
    double (*fma_loop)(ptrdiff_t iterations, float factor, float term, float *result);
} fc_probe_kernels;

#endif
