/* Which kernel tables this build holds and which of them this CPU can run. */
#ifndef FC_DISPATCH_H
#define FC_DISPATCH_H

#include "fc_kernels.h"

/* The i-th table, best first, whether or not the CPU can run it; NULL past the end. */
const fc_kernels *fc_table(int i);

/* Whether the CPU and the operating system support the table's instructions. */
int fc_usable(const fc_kernels *table);

#endif
