/* What the files of bf16 rows on AMX share: four tiles of sums at once. */
#ifndef PAC_CPU_HALF_H
#define PAC_CPU_HALF_H

#include "cpu_amx.h"
#include "half.h"

/* Two strips of 16 rows of A, and two of 16 columns of B, `side` numbers apart; a tile is `chunk` numbers behind the one
 * before, those of B are behind each other. */
typedef struct half_strips {
    const uint16_t *a, *b;
    int64_t a_row, a_side, a_chunk, b_side;
} half_strips;

/* sums [32, 32] of stride `width` = A B over `chunks` tiles, or += */
ALWAYS_INLINE void half_multiply(float *sums, int64_t width, const half_strips *s, int64_t chunks, bool more)
{
    const size_t line = (size_t)width * sizeof *sums, row = (size_t)s->a_row * sizeof *s->a;
    const uint16_t *a = s->a, *b = s->b;
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
    for (int64_t i = 0; i < chunks; i++, a += s->a_chunk, b += HALF_SIDE * HALF_K) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, row);
        _tile_loadd(7, b + s->b_side, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + s->a_side, row);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
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

bool CPU(half_product)(const half_product *c);
bool CPU(half_attend)(const half_attention *a, int64_t from, int64_t to);

#endif
