/* AVX-512: 32 registers, 14 x 2 accumulators. */
#define ISA avx512
#define VLEN 16
#define MR 14
#define NR 32
#include "kernels.h"
