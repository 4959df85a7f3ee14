/* All kernel bodies, and the table of this ISA. Included once by each kernels_<isa>.c after ISA, VLEN, MR, NR. */
#include "fc_kernels.h"
#include "tile.h"
#include "eltwise.h"
#include "loss.h"
#include "optim.h"

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
    .outer_tile = outer_tile,
    .eltwise = ELTWISE_KERNELS,
    .loss = LOSS_KERNELS,
    .optim = OPTIM_KERNELS,
};
