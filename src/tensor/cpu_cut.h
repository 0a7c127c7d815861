/*
 * f32 numbers cut into three bf16 parts, x = x1 + x2 + x3, exactly, in the order of tiles (cpu_tiles.c says why).
 *
 * A cutter works in small steps, each some twenty instructions, so that they fit between tile products: those take their time
 * in a unit of their own, and a core that only waits for them has room for the next block's parts, and for the memory they come
 * from.
 */
#ifndef PAC_CPU_CUT_H
#define PAC_CPU_CUT_H

#include "cpu_amx.h"

enum {
    PARTS = 3,
    SIDE = 16,  /* rows of a tile, and columns of a tile of C */
    CHUNK = 32, /* numbers along k in a tile */
    TILE_BYTES = 1024,
    CHUNK_BYTES = PARTS * TILE_BYTES,
    STRIP = 2 * SIDE /* rows of A, and columns of B, that are multiplied at once: four tiles of C */
};

/* A matrix [i, k], or [j, k] for B transposed: element (i, k) at x + i * row + k * column, one of which is 1. */
typedef struct operand {
    const float *x;
    int64_t row, column;
} operand;

/*
 * What is to be cut: n rows, or columns, and K along k, to [n / 16][K / 32][part][tile], read in the order of memory; zeros
 * behind the last of both, to whole strips. Tiles of A have k side by side, tiles of B pairs of k below each other: one of the
 * ways of reading makes each, and the other its transpose, which is turned when all is cut.
 */
typedef struct cutter {
    operand o;
    char *to;
    int64_t n, K, i_end, k_end; /* the latter with zeros behind */
    int64_t side;               /* bytes of 16 rows */
    bool along, turned;         /* k lies side by side in memory; tiles are turned in the end */
    int64_t i, k;               /* next: row and k, or pair of k and column */
    int64_t tile, bytes;        /* next to turn, of all */
    const struct cutter *then;  /* what is cut behind it, read in the same way */
} cutter;

static inline int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Bytes of n rows, or columns, in parts. */
static inline int64_t cut_bytes(int64_t n, int64_t K)
{
    return up(n, STRIP) / SIDE * (up(K, CHUNK) / CHUNK * CHUNK_BYTES);
}

static inline cutter cutter_of(char *to, operand o, int64_t n, int64_t K, bool of_b)
{
    const int64_t bytes = cut_bytes(n, K);
    const bool along = o.column == 1;
    return (cutter){.o = o,
                    .to = to,
                    .n = n,
                    .K = K,
                    .i_end = up(n, STRIP),
                    .k_end = up(K, CHUNK),
                    .side = up(K, CHUNK) / CHUNK * CHUNK_BYTES,
                    .along = along,
                    .turned = along == of_b,
                    .tile = along == of_b ? 0 : bytes,
                    .bytes = bytes};
}

typedef struct cut_vectors {
    __m512i part[PARTS]; /* 32 bf16 in the order of `how` */
} cut_vectors;

/* The high halves of 16 numbers, then of 16 others; or by turns, which makes pairs. */
static const uint16_t behind_each_other[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                               33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
static const uint16_t by_turns[32] = {1,  33, 3,  35, 5,  37, 7,  39, 9,  41, 11, 43, 13, 45, 15, 47,
                                      17, 49, 19, 51, 21, 53, 23, 55, 25, 57, 27, 59, 29, 61, 31, 63};

/* The leading 8 bits of x, as they stand (half = 0) or rounded (half of what is cut off), go from *x to the result. */
ALWAYS_INLINE __m512i take_part(__m512 *x, int32_t half)
{
    __m512i bits = _mm512_add_epi32(_mm512_castps_si512(*x), _mm512_set1_epi32(half));
    bits = _mm512_and_si512(bits, _mm512_set1_epi32((int32_t)0xffff0000));
    *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(bits));
    return bits;
}

/* The second part is rounded so that the third has either sign, and what is left out of products no bias. */
ALWAYS_INLINE cut_vectors cut(__m512 low, __m512 high, __m512i how)
{
    cut_vectors c;
#pragma GCC unroll 3
    for (int i = 0; i < PARTS - 1; i++) {
        __m512i a = take_part(&low, i * 0x8000), b = take_part(&high, i * 0x8000);
        c.part[i] = _mm512_permutex2var_epi16(a, how, b);
    }
    c.part[PARTS - 1] = _mm512_permutex2var_epi16(_mm512_castps_si512(low), how, _mm512_castps_si512(high));
    return c;
}

/* Two lines that are needed some hundred nanoseconds later, to the second-level cache: what comes from memory is what takes the
 * time where a matrix is narrow. */
ALWAYS_INLINE void fetch(const float *x)
{
    _mm_prefetch((const char *)x, _MM_HINT_T1);
    _mm_prefetch((const char *)(x + SIDE), _MM_HINT_T1);
}

ALWAYS_INLINE void put_parts(char *line, cut_vectors c)
{
#pragma GCC unroll 3
    for (int p = 0; p < PARTS; p++)
        _mm512_store_si512(line + p * TILE_BYTES, c.part[p]);
}

/* 32 numbers along k of a row. */
ALWAYS_INLINE void step_along(cutter *c)
{
    const int64_t left = c->K - c->k;
    char *line = c->to + c->i / SIDE * c->side + c->k / CHUNK * CHUNK_BYTES + c->i % SIDE * 64;
    cut_vectors v = {0};
    if (c->i < c->n) {
        const float *x = c->o.x + c->i * c->o.row + c->k;
        fetch(x + 4 * c->o.row);
        v = cut(_mm512_maskz_loadu_ps(first(left), x), _mm512_maskz_loadu_ps(first(left - SIDE), x + SIDE),
                _mm512_loadu_si512(behind_each_other));
    }
    put_parts(line, v);
    c->k += CHUNK;
    if (c->k >= c->K) {
        c->k = 0;
        c->i++;
    }
}

/* 16 columns of a pair of rows, which are a pair of k. */
ALWAYS_INLINE void step_across(cutter *c)
{
    const __mmask16 there = first(c->n - c->i);
    const float *x = c->o.x + c->k * c->o.column + c->i;
    char *line = c->to + c->i / SIDE * c->side + c->k / CHUNK * CHUNK_BYTES + c->k % CHUNK / 2 * 64;
    _mm_prefetch((const char *)(x + 4 * c->o.column), _MM_HINT_T0);
    _mm_prefetch((const char *)(x + 5 * c->o.column), _MM_HINT_T0);
    put_parts(line, cut(_mm512_maskz_loadu_ps(c->k < c->K ? there : 0, x),
                        _mm512_maskz_loadu_ps(c->k + 1 < c->K ? there : 0, x + c->o.column), _mm512_loadu_si512(by_turns)));
    c->i += SIDE;
    if (c->i >= c->i_end) {
        c->i = 0;
        c->k += 2;
    }
}

/* Is there nothing left to do? */
ALWAYS_INLINE bool cut_done(const cutter *c, const bool along)
{
    return (along ? c->i >= c->i_end : c->k >= c->k_end) && c->tile >= c->bytes && c->then == NULL;
}

/* One step: numbers first, then tiles to turn. `along` is c->along, a constant of the caller. */
ALWAYS_INLINE void cut_step(cutter *c, const bool along)
{
    if (along && c->i < c->i_end) {
        step_along(c);
    } else if (!along && c->k < c->k_end) {
        step_across(c);
    } else if (c->tile < c->bytes) {
        turn(c->to + c->tile);
        c->tile += TILE_BYTES;
    } else if (c->then != NULL) {
        *c = *c->then;
    }
}

/* All that is left. */
static void cut_rest(cutter *c)
{
    while (c->along && !cut_done(c, true))
        cut_step(c, true);
    while (!c->along && !cut_done(c, false))
        cut_step(c, false);
}

#endif
