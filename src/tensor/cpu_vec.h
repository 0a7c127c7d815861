/* A vector of floats as wide as the instruction set's registers, for kernels that keep sums in registers by name. */
#ifndef PAC_CPU_VEC_H
#define PAC_CPU_VEC_H

#include "cpu.h"

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));

/* Of any address. */
ALWAYS_INLINE vec load(const float *x)
{
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

ALWAYS_INLINE void store(float *x, vec v)
{
    memcpy(x, &v, sizeof v);
}

#endif
