/* Gather tiles whose pixels lie in windows of 2 x 2: their maxima are taken while the sums are in registers; contract
 * in fc_kernels.h. */
#include "vec.h"
#include "fc_kernels.h"

enum { TAPS = 4 };

/* Two taps side by side are a pair of pixels, equally far apart in all windows. */
INLINE void gather_windows_body(const fc_gather_tile *t, const int windows, const int nv, const int partial)
{
    vf acc[MR][NV], bias[NV];
    const int last = t->n - (nv - 1) * VLEN;
    zero_sums(acc, TAPS * windows, nv);
    sum_paired(t, acc, TAPS * windows, nv, partial);
    load_bias(bias, t, nv, partial, last);
    UNROLL for (int i = 0; i < windows; i++) {
        float *y = t->y + t->yoff[i];
        UNROLL for (int v = 0; v < nv; v++) {
            const int n = partial && v == nv - 1 ? last : VLEN;
            vf best = acc[TAPS * i][v] + bias[v];
            vi at = splat_i(0);
            UNROLL for (int tap = 1; tap < TAPS; tap++) max_tap(&best, &at, acc[TAPS * i + tap][v] + bias[v], tap);
            if (t->relu) relu_maximum(&best, &at);
            pool_store(y + v * VLEN, best, n);
            if (t->arg) store_arg(t->arg, i * t->arg_step + v * VLEN, at, n, 1);
        }
    }
}

#if MR == 14
#define FOR_EACH_WINDOW(C) C(1) C(2) C(3)
#elif MR == 8
#define FOR_EACH_WINDOW(C) C(1) C(2)
#else
#define FOR_EACH_WINDOW(C) C(1)
#endif

#define gather_windows_1_full(W) case TAPS * W: gather_windows_body(t, W, 1, 0); break;
#define gather_windows_1_part(W) case TAPS * W: gather_windows_body(t, W, 1, 1); break;
#define gather_windows_2_full(W) case TAPS * W: gather_windows_body(t, W, 2, 0); break;
#define gather_windows_2_part(W) case TAPS * W: gather_windows_body(t, W, 2, 1); break;

DEFINE_TILE(gather_windows, fc_gather_tile, FOR_EACH_WINDOW)
