/* Vectors of VLEN floats (VLEN = 4, 8 or 16, set by the including kernels_<isa>.c), in GNU C vector types.
 *
 * `vf` lives in registers; `vfu` is the same vector in memory with the alignment of one float.
 * Two types, because a single under-aligned type makes gcc keep accumulators in memory. */
#ifndef FC_VEC_H
#define FC_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

typedef float vf __attribute__((vector_size(VLEN * 4)));
typedef float vfu __attribute__((vector_size(VLEN * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VLEN * 4)));
typedef int32_t viu __attribute__((vector_size(VLEN * 4), aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const vfu *)p; }
INLINE void store(float *p, vf v) { *(vfu *)p = v; }
INLINE vf splat(float s) { return s - (vf){0}; }
INLINE vi splat_i(int32_t s) { return s - (vi){0}; }

/* Per-lane choice; `mask` lanes are 0 or -1 as comparisons give them. */
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* max and min return the second operand when either is NaN (as x86 does): max(bound, v) keeps a NaN in v. */
#if VLEN == 16
INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif VLEN == 8
INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#else
INLINE vf vmax(vf a, vf b) { return choose(a > b, a, b); }
INLINE vf vmin(vf a, vf b) { return choose(a < b, a, b); }
#endif
INLINE vf clamp(vf v, vf lo, vf hi) { return vmin(hi, vmax(lo, v)); }

/* The first n lanes (0 < n <= VLEN) of memory; other lanes read as zero and are not written. */
#if VLEN == 16
INLINE vf load_part(const float *p, int n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void store_part(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }
#elif VLEN == 8
INLINE vi lanes_below(int n) { return (vi){0, 1, 2, 3, 4, 5, 6, 7} < splat_i(n); }
INLINE vf load_part(const float *p, int n) { return (vf)_mm256_maskload_ps(p, (__m256i)lanes_below(n)); }
INLINE void store_part(float *p, vf v, int n) { _mm256_maskstore_ps(p, (__m256i)lanes_below(n), (__m256)v); }
#else
INLINE vf load_part(const float *p, int n)
{
    float lanes[VLEN] = {0};
    for (int i = 0; i < n; i++) lanes[i] = p[i];
    return load(lanes);
}
INLINE void store_part(float *p, vf v, int n)
{
    float lanes[VLEN];
    store(lanes, v);
    for (int i = 0; i < n; i++) p[i] = lanes[i];
}
#endif

/* Square root of each lane, correctly rounded. */
#if VLEN == 16
INLINE vf vsqrt(vf v) { return (vf)_mm512_sqrt_ps((__m512)v); }
#elif VLEN == 8
INLINE vf vsqrt(vf v) { return (vf)_mm256_sqrt_ps((__m256)v); }
#elif defined(__SSE2__)
INLINE vf vsqrt(vf v) { return (vf)_mm_sqrt_ps((__m128)v); }
#else
INLINE vf vsqrt(vf v)
{
    for (int i = 0; i < VLEN; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
}
#endif

/* The 64-bit products of the low halves of 64-bit lanes. */
typedef uint64_t vu64 __attribute__((vector_size(VLEN * 4)));
#if VLEN == 16
INLINE vu64 mul_low(vu64 a, vu64 b) { return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
#elif VLEN == 8
INLINE vu64 mul_low(vu64 a, vu64 b) { return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#elif defined(__SSE2__)
INLINE vu64 mul_low(vu64 a, vu64 b) { return (vu64)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#else
INLINE vu64 mul_low(vu64 a, vu64 b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif

INLINE float sum_lanes(vf v)
{
    float s = v[0];
    for (int i = 1; i < VLEN; i++) s += v[i];
    return s;
}

#endif
