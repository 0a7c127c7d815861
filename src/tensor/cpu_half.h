/* What the files of bf16 rows on AMX share: four tiles of sums at once. */
#ifndef PAC_CPU_HALF_H
#define PAC_CPU_HALF_H

#include "cpu_amx.h"
#include "half.h"

enum { HALF_AHEAD = 4 };

/* Two strips of 16 rows of A, and two of 16 columns of B, `side` numbers apart; a tile is `chunk` numbers behind the one
 * before, those of B are behind each other. */
typedef struct half_strips {
    const uint16_t *a, *b;
    int64_t a_row, a_side, a_chunk, b_side;
} half_strips;

/* sums [32, 32] of stride `width` = A B over `chunks` tiles, or +=. HALF_AHEAD lines for each tile, from `ahead` on (NULL:
 * none), come to the second-level cache, the sums behind these to the first. */
ALWAYS_INLINE void half_multiply(float *sums, int64_t width, const half_strips *s, int64_t chunks, bool more,
                                 const uint16_t *ahead)
{
    const size_t line = (size_t)width * sizeof *sums, row = (size_t)s->a_row * sizeof *s->a;
    const uint16_t *a = s->a, *a2 = a + s->a_side, *b = s->b, *b2 = b + s->b_side;
    const int64_t chunk = s->a_chunk;
    forget_memory();
    if (more) {
        _tile_loadd(0, sums, line);
        _tile_loadd(1, sums + 16, line);
        _tile_loadd(2, sums + 16 * width, line);
        _tile_loadd(3, sums + 16 * width + 16, line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < chunks; i++) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, row);
        _tile_loadd(7, b2, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a2, row);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        a += chunk;
        a2 += chunk;
        b += HALF_SIDE * HALF_K;
        b2 += HALF_SIDE * HALF_K;
        if (ahead != NULL) {
#pragma GCC unroll 4
            for (int j = 0; j < HALF_AHEAD; j++)
                _mm_prefetch((const char *)(ahead + (i * HALF_AHEAD + j) * HALF_K), _MM_HINT_T1);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                _mm_prefetch((const char *)(sums + 32 * width + (i * 8 + j) * 16), _MM_HINT_T0);
        }
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + 16, line);
    _tile_stored(2, sums + 16 * width, line);
    _tile_stored(3, sums + 16 * width + 16, line);
    forget_memory();
}

/* 32 numbers, rounded to nearest even, to `to`. */
ALWAYS_INLINE void half_store(uint16_t *to, __m512 low, __m512 high)
{
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* The low and the high 16 numbers of two rows by turns: pairs of numbers that were below each other. */
ALWAYS_INLINE void half_pair(uint16_t *low, uint16_t *high, __m512i a, __m512i b)
{
    static const uint16_t of_low[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    static const uint16_t of_high[32] = {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                         24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
    _mm512_store_si512(low, _mm512_permutex2var_epi16(a, _mm512_loadu_si512(of_low), b));
    _mm512_store_si512(high, _mm512_permutex2var_epi16(a, _mm512_loadu_si512(of_high), b));
}

bool CPU(half_product)(const half_product *c);
bool CPU(half_attend)(const half_attention *a, int64_t from, int64_t to);

#endif
