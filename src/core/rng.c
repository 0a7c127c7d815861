/* Counter-based random numbers: a hash of (seed, stream, index). */
#include "pac/rng.h"

#include <math.h>

static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t pac_rng_u64(uint64_t seed, uint64_t stream, uint64_t index)
{
    return mix(mix(mix(seed) ^ stream) ^ index);
}

float pac_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (float)(pac_rng_u64(seed, stream, index) >> 40) * 0x1p-24f;
}

float pac_rng_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    const double tau = 6.283185307179586;
    double u = 1.0 - (double)(pac_rng_u64(seed, stream, 2 * index) >> 11) * 0x1p-53; /* in (0, 1] */
    double v = (double)(pac_rng_u64(seed, stream, 2 * index + 1) >> 11) * 0x1p-53;
    return (float)(sqrt(-2.0 * log(u)) * cos(tau * v));
}

uint64_t pac_rng_name(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *p = (const unsigned char *)name; *p != 0; p++)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    return h;
}

void pac_rng_permutation(uint64_t seed, uint64_t epoch, int64_t n, int64_t *perm)
{
    for (int64_t i = 0; i < n; i++)
        perm[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint64_t r = pac_rng_u64(seed ^ mix(epoch), PAC_STREAM_ORDER, (uint64_t)i);
        int64_t j = (int64_t)(r % (uint64_t)(i + 1));
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
}
