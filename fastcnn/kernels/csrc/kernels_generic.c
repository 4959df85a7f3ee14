/* The baseline of the architecture: SSE2 on x86-64. */
#define ISA generic
#define VLEN 4
#define MR 4
#define NR 8
#include "kernels.h"
