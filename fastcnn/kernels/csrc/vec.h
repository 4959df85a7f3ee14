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
#define NOINLINE static __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 32")

typedef float vf __attribute__((vector_size(VLEN * 4)));
typedef float vfu __attribute__((vector_size(VLEN * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VLEN * 4)));
typedef int32_t viu __attribute__((vector_size(VLEN * 4), aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const vfu *)p; }
INLINE void store(float *p, vf v) { *(vfu *)p = v; }
INLINE vf splat(float s) { return s - (vf){0}; }
INLINE vi splat_i(int32_t s) { return s - (vi){0}; }

/* acc + x * w and acc + *p * w, the latter with the broadcast inside the multiply-add: one operation for the front end
 * instead of two. As assembly, lest gcc moves accumulators from one register to another in unrolled loops. */
#if defined(__AVX512F__)
INLINE vf vfma(vf acc, vf x, vf w)
{
    __asm__("vfmadd231ps %1, %2, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}
INLINE vf fma_splat(vf acc, const float *p, vf w)
{
    __asm__("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(acc) : "m"(*p), "v"(w));
    return acc;
}
#else
INLINE vf vfma(vf acc, vf x, vf w) { return acc + x * w; }
INLINE vf fma_splat(vf acc, const float *p, vf w) { return acc + splat(*p) * w; }
#endif

/* a * b + c * d, where c * d is rounded first. Left alone, a compiler that fuses may choose either product, and another
 * one in the tail of a loop than in the loop: then bits would depend on where a loop ends. */
INLINE vf add_two_products(vf a, vf b, vf c, vf d)
{
    vf rounded = c * d;
#if defined(__x86_64__)
    __asm__("" : "+x"(rounded));
#elif defined(__aarch64__)
    __asm__("" : "+w"(rounded));
#else
    __asm__("" : "+m"(rounded));
#endif
    return a * b + rounded;
}

/* Per-lane choice; `mask` lanes are 0 or -1 as comparisons give them. */
INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* Lane i is lane index[i] of a followed by b; the index is a constant. */
#if defined(__clang__)
INLINE vf shuffle(vf a, vf b, vi index)
{
    vf r;
    UNROLL for (int i = 0; i < VLEN; i++) r[i] = index[i] < VLEN ? a[index[i]] : b[index[i] - VLEN];
    return r;
}
#else
INLINE vf shuffle(vf a, vf b, vi index) { return __builtin_shuffle(a, b, index); }
#endif

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

/* Puts x, and `index`, into the lanes where x is above *best, or is NaN and *best is not. */
INLINE void take_above(vf *best, vi *at, vf x, vi index)
{
#if VLEN == 16
    const __mmask16 above = _mm512_cmp_ps_mask((__m512)x, (__m512)*best, _CMP_NLE_UQ);
    const __mmask16 take = _mm512_mask_cmp_ps_mask(above, (__m512)*best, (__m512)*best, _CMP_ORD_Q);
    *best = (vf)_mm512_mask_mov_ps((__m512)*best, take, (__m512)x);
    *at = (vi)_mm512_mask_mov_epi32((__m512i)*at, take, (__m512i)index);
#else
    const vi take = ~(x <= *best) & (*best == *best);
    *best = choose(take, x, *best);
    *at = (vi)choose(take, (vf)index, (vf)*at);
#endif
}

/* The first n lanes (0 < n <= VLEN) of memory; other lanes read as zero and are not written. */
#if VLEN == 16
INLINE vf load_part(const float *p, int n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void store_part(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }
#elif VLEN == 8
INLINE vi lanes_below(int n) { return (vi){0, 1, 2, 3, 4, 5, 6, 7} < splat_i(n); }
INLINE vf load_part(const float *p, int n) { return (vf)_mm256_maskload_ps(p, (__m256i)lanes_below(n)); }
INLINE void store_part(float *p, vf v, int n) { _mm256_maskstore_ps(p, (__m256i)lanes_below(n), (__m256)v); }
#else
/* Lane by lane: a vector that is read from memory just written by lanes waits for them. Called, not inlined: tails are
 * in every kernel, and these would be a third of their code. */
NOINLINE vf load_part(const float *p, int n)
{
    vf v = {p[0]};
    if (n > 1) v[1] = p[1];
    if (n > 2) v[2] = p[2];
    if (n > 3) v[3] = p[3];
    return v;
}
NOINLINE void store_part(float *p, vf v, int n)
{
    p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
    if (n > 3) p[3] = v[3];
}
#endif

/* Lanes from and to unsigned bytes; storing keeps the low eight bits of each lane. */
typedef uint8_t vb __attribute__((vector_size(VLEN)));
#if VLEN == 16
INLINE vb low_bytes(vi v) { return (vb)_mm512_cvtepi32_epi8((__m512i)v); }
#elif VLEN == 8
INLINE vb low_bytes(vi v)
{
    const __m256i words = _mm256_packs_epi32((__m256i)(v & 255), (__m256i)(v & 255));
    const __m256i bytes = _mm256_packus_epi16(words, words); /* lanes 0 to 3 low, 4 to 7 high */
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    return (vb)_mm_cvtsi128_si64(_mm_unpacklo_epi32(low, high));
}
#else
INLINE vb low_bytes(vi v) { return __builtin_convertvector(v, vb); }
#endif
#if VLEN == 16
INLINE vi load_bytes(const uint8_t *p) { return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
#elif VLEN == 8
INLINE vi load_bytes(const uint8_t *p) { return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
#else
INLINE vi load_bytes(const uint8_t *p)
{
    vb bytes;
    memcpy(&bytes, p, VLEN);
    return __builtin_convertvector(bytes, vi);
}
#endif
INLINE void store_bytes(uint8_t *p, vi v)
{
    const vb bytes = low_bytes(v);
    memcpy(p, &bytes, VLEN);
}
#if VLEN == 16
INLINE vi load_bytes_part(const uint8_t *p, int n)
{
    return (vi)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1), p));
}
INLINE void store_bytes_part(uint8_t *p, vi v, int n)
{
    _mm512_mask_cvtepi32_storeu_epi8(p, (__mmask16)((1u << n) - 1), (__m512i)v);
}
#else
INLINE void copy_few(uint8_t *to, const uint8_t *from, int n) /* n < 8 */
{
    if (n & 4) memcpy(to, from, 4), to += 4, from += 4;
    if (n & 2) memcpy(to, from, 2), to += 2, from += 2;
    if (n & 1) *to = *from;
}
INLINE vi load_bytes_part(const uint8_t *p, int n)
{
    uint8_t lanes[VLEN] = {0};
    copy_few(lanes, p, n);
    return load_bytes(lanes);
}
INLINE void store_bytes_part(uint8_t *p, vi v, int n)
{
    uint8_t lanes[VLEN];
    store_bytes(lanes, v);
    copy_few(p, lanes, n);
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
