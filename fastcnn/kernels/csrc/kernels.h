/* All kernel bodies, and the table of this ISA. Included once by each kernels_<isa>.c after ISA, VLEN, MR, NR. */
#include "fc_kernels.h"
#include "depthwise.h"
#include "tile.h"
#include "dot.h"
#include "overlap.h"
#include "pool.h"
#include "window_tile.h"
#include "planes.h"
#include "pooled_grad.h"
#include "eltwise.h"
#include "merge.h"
#include "resize.h"
#include "loss.h"
#include "norm.h"
#include "optim.h"
#include "augment.h"
#include "probe.h"
#include "winograd_products.h"
#include "winograd.h"

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)

const fc_kernels PASTE(fc_kernels_, ISA) = {
    .isa = TEXT(ISA),
    .vlen = VLEN,
    .mr = MR,
    .nr = NR,
    .gather_tile = gather_tile,
    .gather_windows = gather_windows,
    .outer_tile = outer_tile,
    .dot_tile = dot_tile,
    .transpose = transpose,
    .copy_rows = copy_rows,
    .sum_rows = sum_rows,
    .pool = {pool_max_row, pool_max_grad_row, pool_avg_row, pool_avg_grad_row},
    .depthwise = {depthwise_gather, depthwise_outer},
    .eltwise = ELTWISE_KERNELS,
    .merge = MERGE_KERNELS,
    .resize = RESIZE_KERNELS,
    .loss = LOSS_KERNELS,
    .norm = NORM_KERNELS,
    .optim = OPTIM_KERNELS,
    .augment = AUGMENT_KERNELS,
    .probe = {fma_loop},
    .winograd = WINOGRAD_KERNELS,
    .overlap = OVERLAP_KERNELS,
    .planes = PLANE_KERNELS,
    .pooled_grad = POOLED_GRAD_KERNELS,
};
