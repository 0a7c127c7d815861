/*
 * Random numbers as a function of position, not of history.
 *
 * Every draw is a hash of (seed, stream, index): initial weights, data order and dropout masks are then the same on every layout,
 * and nothing has to be saved for an exact resume. Source of the mixer: Steele et al. 2014, SplitMix64's finaliser.
 */
#ifndef PAC_RNG_H
#define PAC_RNG_H

#include "pac/err.h"

#include <stdint.h>

/* Streams keep uses apart: the same seed never gives the same numbers to two purposes. */
enum { PAC_STREAM_INIT = 1, PAC_STREAM_ORDER = 2, PAC_STREAM_DROPOUT = 3, PAC_STREAM_TEST = 4 };

/** 64 random bits. */
uint64_t pac_rng_u64(uint64_t seed, uint64_t stream, uint64_t index);

/** Uniform in [0, 1), 24 bits. */
float pac_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/** Standard normal (Box-Muller on draws 2*index and 2*index+1). */
float pac_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);

/** A stable 64-bit hash of a name, to derive a stream for each parameter: seed ^ pac_rng_name(name). FNV-1a. */
uint64_t pac_rng_name(const char *name);

/** perm[0..n) becomes the random order of 0..n-1 for (seed, epoch): Fisher-Yates on stream PAC_STREAM_ORDER. */
void pac_rng_permutation(uint64_t seed, uint64_t epoch, int64_t n, int64_t *perm);

#endif
