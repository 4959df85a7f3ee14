/* Elementary functions of vectors, about 2 ulp; denormal results may be flushed to zero.
 *
 * Method (Cody and Waite, "Software Manual for the Elementary Functions", 1980): reduce the argument to a
 * short interval, evaluate a polynomial there, rebuild. The polynomials are weighted minimax fits, found by
 * Lawson's iteration. */
#ifndef FC_VMATH_H
#define FC_VMATH_H

#include "vec.h"

#if VLEN == 16
#define LANE_NUMBERS {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
#elif VLEN == 8
#define LANE_NUMBERS {0, 1, 2, 3, 4, 5, 6, 7}
#else
#define LANE_NUMBERS {0, 1, 2, 3}
#endif

INLINE vf zero_unless(vi mask, vf v) { return (vf)(mask & (vi)v); }
INLINE vi lane_numbers(void) { return (vi)LANE_NUMBERS; }

/* At most VLEN of the n floats at p; the other lanes read as zero, or as minus infinity. */
INLINE vf load_upto(const float *p, ptrdiff_t n) { return n >= VLEN ? load(p) : load_part(p, n); }
INLINE vf load_or_minus_inf(const float *p, ptrdiff_t n)
{
    if (n >= VLEN) return load(p);
    return choose(lane_numbers() < (int32_t)n, load_part(p, n), splat(-__builtin_inff()));
}
INLINE void store_upto(float *p, vf v, ptrdiff_t n)
{
    if (n >= VLEN) store(p, v);
    else store_part(p, v, n);
}

INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }

/* Lane i of the result is lane i + by of v, cyclically. */
INLINE vf rotate(vf v, int by) { return shuffle(v, v, (lane_numbers() + by) & (VLEN - 1)); }

/* Reductions whose result fills every lane; always in the same order. */
INLINE vf sum_all(vf v)
{
    UNROLL for (int by = VLEN / 2; by; by /= 2) v += rotate(v, by);
    return v;
}
INLINE vf max_all(vf v)
{
    UNROLL for (int by = VLEN / 2; by; by /= 2) v = vmax(v, rotate(v, by));
    return v;
}
INLINE vf min_all(vf v)
{
    UNROLL for (int by = VLEN / 2; by; by /= 2) v = vmin(v, rotate(v, by));
    return v;
}

/* Sums in double precision: half as many lanes, each float exact. */
typedef double vd __attribute__((vector_size(VLEN * 4)));
typedef float vhu __attribute__((vector_size(VLEN * 2), aligned(4), may_alias));
INLINE vd load_double(const float *p) { return __builtin_convertvector(*(const vhu *)p, vd); }
INLINE double sum_double_lanes(vd v)
{
    double s = v[0];
    for (int i = 1; i < VLEN / 2; i++) s += v[i];
    return s;
}

/* 2^n for integers -126 <= n <= 128, where 2^128 is infinity. */
INLINE vf power_of_two(vi n) { return (vf)((n + 127) << 23); }

/* x = n ln 2 + r with |r| <= ln(2) / 2; returns e^r - 1 without cancellation, and n. Needs |x| < 2^21. */
INLINE vf exp_reduced(vf x, vi *n)
{
    const vf round = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    const vf shifted = x * 1.44269504f + round;
    *n = (vi)shifted - (vi)round;
    const vf k = shifted - round;
    const vf r = (x - k * 0.693359375f) + k * 2.12194440e-4f; /* ln 2 in two parts, the first exact times k */
    vf p = splat(0.001381446f);
    p = p * r + 0.008368781f;
    p = p * r + 0.041668394f;
    p = p * r + 0.166665201f;
    p = p * r + 0.499999934f;
    return r + r * r * p;
}

INLINE vf vexp(vf x)
{
    vi n;
    const vf p = exp_reduced(clamp(x, splat(-104.0f), splat(89.0f)), &n) + 1.0f;
    const vi half = n >> 1; /* in two steps, so that 2^128 and 2^-150 are in reach */
    return p * power_of_two(half) * power_of_two(n - half);
}

/* e^x - 1 for x <= 88, accurate near zero. */
INLINE vf vexpm1(vf x)
{
    vi n;
    const vf p = exp_reduced(clamp(x, splat(-87.0f), splat(88.0f)), &n), scale = power_of_two(n);
    return p * scale + (scale - 1.0f);
}

/* ln x for normal positive x; infinity and NaN come back as they are. */
INLINE vf vlog(vf x)
{
    const vi exponent = ((vi)x - 0x3f3504f3) >> 23; /* so that the mantissa is in [sqrt(1/2), sqrt(2)) */
    const vf f = (vf)((vi)x - (exponent << 23)) - 1.0f;
    const vf e = __builtin_convertvector(exponent, vf);
    vf p = splat(-0.076355882f);
    p = p * f + 0.127633003f;
    p = p * f - 0.131605952f;
    p = p * f + 0.142015575f;
    p = p * f - 0.166232975f;
    p = p * f + 0.200012332f;
    p = p * f - 0.250008227f;
    p = p * f + 0.333333317f;
    const vf ff = f * f;
    const vf tail = f * ff * p - e * 2.12194440e-4f;
    const vf log = (f - (0.5f * ff - tail)) + e * 0.693359375f;
    return choose(x < __builtin_inff(), log, x);
}

/* ln(1 + x) for x >= 0: the logarithm of the rounded sum, corrected to first order. */
INLINE vf vlog1p(vf x)
{
    const vf u = x + 1.0f;
    return vlog(u) + (x - (u - 1.0f)) / u;
}

INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

/* tanh |x| = -m / (2 + m) with m = e^(-2|x|) - 1. */
INLINE vf vtanh(vf x)
{
    const vf m = vexpm1(-2.0f * vabs(x));
    const vi sign = (vi)x & (vi)splat(-0.0f);
    return (vf)((vi)(-m / (2.0f + m)) | sign);
}

/* The normal distribution function at x, and its density without the factor 1/sqrt(2 pi): e^(-x^2/2).
 * The tail is Phi(-a) = e^(-a^2/2) t S(t), t = 1 / (1 + 0.35 a): the form of Hastings,
 * "Approximations for Digital Computers", 1955, with S fitted to a relative error of 3e-8. */
INLINE vf normal_cdf(vf x, vf *density)
{
    const vf a = vmin(splat(20.0f), vabs(x)), t = 1.0f / (1.0f + 0.35f * a);
    vf s = splat(-0.029146139f);
    s = s * t + 0.143972707f;
    s = s * t - 0.255716319f;
    s = s * t + 0.159176492f;
    s = s * t - 0.023111418f;
    s = s * t + 0.105508663f;
    s = s * t + 0.119832704f;
    s = s * t + 0.139861892f;
    s = s * t + 0.139621403f;
    *density = vexp(-0.5f * a * a);
    const vf tail = *density * t * s;
    return choose(x > 0.0f, 1.0f - tail, tail);
}

#endif
