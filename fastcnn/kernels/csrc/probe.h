/* The multiply-add peak; contract in fc_probe.h.
 *
 * MR x NV independent chains, as in a tile, hide the latency of the multiply-add. They start from different values,
 * and factor and term are arguments, so that the compiler can neither merge the chains nor foresee the result. */
#include "fc_probe.h"

static double fma_loop(ptrdiff_t iterations, float factor, float term, float *result)
{
    vf acc[MR * NV];
    const vf f = splat(factor), t = splat(term);
    UNROLL for (int i = 0; i < MR * NV; i++) acc[i] = splat((float)i);
    for (ptrdiff_t n = 0; n < iterations; n++)
        UNROLL for (int i = 0; i < MR * NV; i++) acc[i] = acc[i] * f + t;
    vf sum = acc[0];
    UNROLL for (int i = 1; i < MR * NV; i++) sum += acc[i];
    *result = sum_lanes(sum);
    return 2.0 * MR * NR * (double)iterations;
}
