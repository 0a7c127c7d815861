/*
 * Which elements dropout drops: a hash of (key, row, column), nothing else, so that the mask is the same on every backend and
 * layout and in the backward pass, and none is ever stored.
 *
 * A row's 64 bits come from the mixer of pac_rng (Steele et al. 2014, SplitMix64); an element's 32 bits from a two-round
 * multiply-xorshift hash (constants: Wellons 2018, hash-prospector), which compilers vectorise.
 */
#ifndef PAC_DROP_H
#define PAC_DROP_H

#include <stdint.h>

static inline uint64_t pac_drop_mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** What the hashes of a row's elements start from. */
static inline uint64_t pac_drop_row(uint64_t key, uint64_t row)
{
    return pac_drop_mix(pac_drop_mix(key) ^ row);
}

/** 32 random bits for column d; low and high are the halves of pac_drop_row(). */
static inline uint32_t pac_drop_hash(uint32_t low, uint32_t high, uint32_t d)
{
    uint32_t x = d ^ low;
    x = (x ^ (x >> 16)) * UINT32_C(0x21f0aaad);
    x += high;
    x = (x ^ (x >> 15)) * UINT32_C(0xd35a2d97);
    return x ^ (x >> 15);
}

/** An element is dropped where its hash is below this. */
static inline uint32_t pac_drop_below(float p)
{
    return (uint32_t)((double)p * 0x1p32);
}

/** What the others are multiplied by. */
static inline float pac_drop_scale(float p)
{
    return (float)(1 / (1 - (double)p));
}

#endif
