/* Stands in for xxHash where cuda/build_bare.sh builds: 64 bits of FNV-1a. What is hashed there is compared within one process only. */
#ifndef BARE_XXHASH_H
#define BARE_XXHASH_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t XXH64_hash_t;

static inline XXH64_hash_t XXH3_64bits_withSeed(const void *p, size_t bytes, XXH64_hash_t seed)
{
    XXH64_hash_t h = UINT64_C(0xcbf29ce484222325) ^ seed;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)p)[i]) * UINT64_C(0x100000001b3);
    return h;
}

#endif
