/* AVX2 with FMA: 16 registers, 6 x 2 accumulators. */
#define ISA avx2
#define VLEN 8
#define MR 6
#define NR 16
#include "kernels.h"
