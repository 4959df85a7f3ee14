/* NEON, the baseline of aarch64: 32 registers, 8 x 2 accumulators. */
#define ISA neon
#define VLEN 4
#define MR 8
#define NR 8
#include "kernels.h"
