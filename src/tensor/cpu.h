/*
 * Common to the cpu kernels: names per instruction set, and elementary functions that compilers vectorise.
 *
 * Loops carry SIMD (or a reduction clause), which lets the compiler keep one partial sum per vector lane: the order of a sum is
 * fixed for an instruction set. The elementary functions are branch-free float code with a relative error of about 1e-7.
 */
#ifndef PAC_CPU_H
#define PAC_CPU_H

#include "kernels.h"

#include <math.h>
#include <string.h>

#define PAC_CAT_(isa, op)   pac_##isa##_##op
#define PAC_CAT(isa, op)    PAC_CAT_(isa, op)
#define CPU(op)             PAC_CAT(PAC_ISA, op) /* pac_avx2_gemm, ... */
#define CPU_PROTOTYPES(isa) PAC_PROTOTYPES(isa)
CPU_PROTOTYPES(PAC_ISA)

/* gemm for narrow matrices, in the calling thread and its scratch. False: nothing done, gemm is the faster one (or there is no
 * memory). */
bool CPU(panels)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                 int64_t n, int64_t k, float alpha, float beta);

/* gemm on AMX's tiles, in the calling thread and its scratch. False: nothing done, as above, or there are no tiles. */
bool CPU(tiles)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                int64_t n, int64_t k, float alpha, float beta);

/* The op of the table, on all threads. */
bool CPU(head_xent)(float *loss, float *dh, const float *h, const float *w, const int32_t *labels, int64_t N, int64_t D,
                    int64_t V, float alpha, float scale);

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Iterations are independent, also where an output is one of the inputs. */
#define SIMD             _Pragma("omp simd")
#define SIMD_SUM(x)      PAC_PRAGMA(omp simd reduction(+ : x))
#define SIMD_MAX(x)      PAC_PRAGMA(omp simd reduction(max : x))
#define PAC_PRAGMA(text) _Pragma(#text)

ALWAYS_INLINE float bits_float(int32_t i)
{
    float f;
    memcpy(&f, &i, sizeof f);
    return f;
}

ALWAYS_INLINE int32_t float_bits(float f)
{
    int32_t i;
    memcpy(&i, &f, sizeof i);
    return i;
}

/*
 * exp(x) = 2^k exp(r), k = round(x / ln 2), |r| <= ln(2)/2, and a polynomial for exp(r) (least squares, error 4e-9). k is read
 * off the low bits of x/ln 2 + 1.5 * 2^23; 2^k is applied in two steps because k = 128 is no float. Results below 2.4e-38
 * become 0.
 */
ALWAYS_INLINE float exp_(float x)
{
    const float low = -86.6f, high = 88.722839f, shifter = 0x1.8p23f;
    float c = x < low ? low : x;
    c = c > high ? high : c;
    float shifted = c * 1.44269504f + shifter;
    float k = shifted - shifter;
    float r = c - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    float p = 0.00137513883f;
    p = p * r + 0.00836892174f;
    p = p * r + 0.041669534f;
    p = p * r + 0.166665184f;
    p = p * r + 0.499999886f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    float y = p * bits_float((int32_t)((uint32_t)(float_bits(shifted) + 126) << 23)) * 2.0f;
    y = x < low ? 0.0f : y;
    return x > high ? INFINITY : y;
}

ALWAYS_INLINE float sigmoid_(float x)
{
    return 1.0f / (1.0f + exp_(-x));
}

/* Below 0.625 an odd polynomial, because 1 - 2/(exp(2x) + 1) cancels there. */
ALWAYS_INLINE float tanh_(float x)
{
    float a = fabsf(x), z = x * x;
    float p = -0.00561808239f;
    p = p * z + 0.0205665786f;
    p = p * z - 0.0537195641f;
    p = p * z + 0.133312338f;
    p = p * z - 0.33333276f;
    float small = x + x * z * p;
    float large = copysignf(1.0f - 2.0f / (exp_(2.0f * a) + 1.0f), x);
    return a < 0.625f ? small : large;
}

/*
 * The normal distribution function P(X <= x), given e = exp(-x^2/2): its tail is e * t Q(t) with t = 1 / (1 + 0.3 |x| / sqrt
 * 2), Q of degree 8 fitted to erfc (relative error 2e-8, so that the far tail keeps its digits).
 */
ALWAYS_INLINE float normal_cdf(float x, float e)
{
    float t = 1.0f / (1.0f + 0.212132034f * fabsf(x));
    float q = -0.0647615694f;
    q = q * t + 0.242782208f;
    q = q * t - 0.25614037f;
    q = q * t + 0.273861637f;
    q = q * t - 0.0473265695f;
    q = q * t + 0.107463586f;
    q = q * t + 0.0741694298f;
    q = q * t + 0.0853576374f;
    q = q * t + 0.0845940011f;
    float tail = e * t * q;
    return x > 0 ? 1.0f - tail : tail;
}

#endif
