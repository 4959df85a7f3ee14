/* Compiled with baseline flags only: this file must run on every CPU of the architecture. */
#include "dispatch.h"

#include <string.h>

extern const fc_kernels fc_kernels_generic, fc_kernels_avx2, fc_kernels_avx512, fc_kernels_neon;

static const fc_kernels *const tables[] = {
#ifdef FC_HAVE_AVX512
    &fc_kernels_avx512,
#endif
#ifdef FC_HAVE_AVX2
    &fc_kernels_avx2,
#endif
#ifdef FC_HAVE_NEON
    &fc_kernels_neon,
#endif
    &fc_kernels_generic,
    0,
};

const fc_kernels *fc_table(int i) { return tables[i]; }

int fc_usable(const fc_kernels *table)
{
#if defined(__x86_64__)
    /* __builtin_cpu_supports asks CPUID and, for the wide registers, the operating system (XGETBV). */
    if (!strcmp(table->isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    if (!strcmp(table->isa, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return 1;
}
