/*
 * What attention for narrow heads is made of: a tile of scores [keys, TILE query rows], with rows in the lanes of vectors, and
 * its three products, each with the sums of a chunk of CHUNK numbers in registers. Fixed bounds, so that compilers unroll.
 */
#ifndef PAC_CPU_TILE_H
#define PAC_CPU_TILE_H

#include "cpu_attn.h"
#include "cpu_vec.h"

/* LD: a row of score gradients with zeros for a vector's reach on either side. AT_ONCE: vectors whose CHUNK sums stay in
 * registers, one or two. KEYS: whose sums over rows do. PAIR: rows that fill a vector with a chunk of each, number by number.
 */
enum {
    AT_ONCE = LANES == 16 ? 2 : 1,
    TILE = 32,
    CHUNK = 8,
    LD = TILE + 16,
    KEYS = 8,
    PAIR = LANES > CHUNK ? LANES / CHUNK : 1,
    WIDE = CHUNK * PAIR
};

#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef float wide __attribute__((vector_size(4 * WIDE)));
#if defined(__AVX512F__)
typedef int64_t pair;
#else
typedef float pair;
#endif
typedef pair pairs __attribute__((vector_size(4 * WIDE)));

/* Query rows t0..t0+rows of one head of one sequence; its last row sees `keys`, all rows see `open`. */
typedef struct tile {
    int64_t h, t0, rows, lanes, S, keys, open; /* lanes: whole vectors of rows */
    int64_t q0;                                /* the first row in the batch */
} tile;

/* By masks: what compilers make vectors of. NaN if a is. */
ALWAYS_INLINE vec larger(vec a, vec b)
{
    bits less = (bits)(a < b);
    return (vec)(((bits)b & less) | ((bits)a & ~less));
}

/* exp_() of cpu.h for numbers that are not above zero but for rounding: no upper limit, and 0 where 2^k has no exponent left.
 */
ALWAYS_INLINE vec exp_down(vec x)
{
    const vec low = (vec){0} - 88.03f;
    const float shifter = 0x1.8p23f;
    vec c = larger(x, low);
    vec shifted = c * 1.44269504f + shifter;
    vec k = shifted - shifter;
    vec r = c - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    vec p = r * 0.00137513883f + 0.00836892174f;
    p = p * r + 0.041669534f;
    p = p * r + 0.166665184f;
    p = p * r + 0.499999886f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * (vec)(((bits)shifted + 127) << 23);
}

/* ---- transposing ---- */

/* y[8, 8] = alpha x[8, 8]^T */
ALWAYS_INLINE void turn_chunk(float *y, int64_t ldy, const float *x, int64_t ldx, float alpha)
{
#ifdef __AVX2__
    __m256 r[CHUNK], t[CHUNK];
    const __m256 factor = _mm256_set1_ps(alpha);
    for (int i = 0; i < CHUNK; i++)
        r[i] = _mm256_mul_ps(factor, _mm256_loadu_ps(x + i * ldx));
    for (int i = 0; i < CHUNK; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < CHUNK; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
    for (int i = 0; i < CHUNK / 2; i++) {
        _mm256_storeu_ps(y + i * ldy, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(y + (i + 4) * ldy, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
#else
    for (int i = 0; i < CHUNK; i++)
        for (int d = 0; d < CHUNK; d++)
            y[d * ldy + i] = alpha * x[i * ldx + d];
#endif
}

/* ---- products ---- */

/* y[s, lanes] = start[s] + sum_d b[s, d] a[d, lanes] for `n` vectors; start's rows are `step` apart. */
ALWAYS_INLINE void dots_of(const int n, float *y, int64_t ldy, const float *start, int64_t step, const float *a, const float *b,
                           int64_t keys)
{
    vec line[CHUNK][AT_ONCE];
    for (int d = 0; d < CHUNK; d++)
        for (int j = 0; j < n; j++)
            line[d][j] = load(a + d * TILE + j * LANES);
    for (int64_t s = 0; s < keys; s++) {
        vec sum[AT_ONCE];
        for (int j = 0; j < n; j++)
            sum[j] = load(start + s * step + j * LANES);
        for (int d = 0; d < CHUNK; d++)
            for (int j = 0; j < n; j++)
                sum[j] += b[s * CHUNK + d] * line[d][j];
        for (int j = 0; j < n; j++)
            store(y + s * ldy + j * LANES, sum[j]);
    }
}

static void dots(float *y, int64_t ldy, const float *start, int64_t step, const float *a, const float *b, const tile *x)
{
    int64_t i = 0;
    for (; i + AT_ONCE * LANES <= x->lanes; i += AT_ONCE * LANES)
        dots_of(AT_ONCE, y + i, ldy, start + i, step, a + i, b, x->keys);
    if (i < x->lanes)
        dots_of(1, y + i, ldy, start + i, step, a + i, b, x->keys);
}

/* y[d, lanes] = sum_s b[s, d] a[s, lanes] */
ALWAYS_INLINE void sums_of(const int n, float *y, const float *a, int64_t lda, const float *b, int64_t keys)
{
    vec sum[CHUNK][AT_ONCE];
    for (int d = 0; d < CHUNK; d++)
        for (int j = 0; j < n; j++)
            sum[d][j] = (vec){0};
    for (int64_t s = 0; s < keys; s++) {
        vec line[AT_ONCE];
        for (int j = 0; j < n; j++)
            line[j] = load(a + s * lda + j * LANES);
        for (int d = 0; d < CHUNK; d++)
            for (int j = 0; j < n; j++)
                sum[d][j] += b[s * CHUNK + d] * line[j];
    }
    for (int d = 0; d < CHUNK; d++)
        for (int j = 0; j < n; j++)
            store(y + d * TILE + j * LANES, sum[d][j]);
}

static void sums(float *y, const float *a, int64_t lda, const float *b, const tile *x)
{
    int64_t i = 0;
    for (; i + AT_ONCE * LANES <= x->lanes; i += AT_ONCE * LANES)
        sums_of(AT_ONCE, y + i, a + i, lda, b, x->keys);
    if (i < x->lanes)
        sums_of(1, y + i, a + i, lda, b, x->keys);
}

/* y[s, CHUNK, PAIR] += sum of a[s, row] b[row / PAIR, :, row % PAIR], for `count` keys whose sums stay in registers. */
ALWAYS_INLINE void outer_of(const int count, float *y, const float *a, int64_t lda, const float *b, int64_t rows)
{
    wide sum[KEYS], line;
    for (int i = 0; i < count; i++)
        memcpy(&sum[i], y + i * WIDE, sizeof line);
    for (int64_t row = 0; row < rows; row += PAIR, b += WIDE) {
        memcpy(&line, b, sizeof line);
        for (int i = 0; i < count; i++) {
            pair some;
            memcpy(&some, a + i * lda + row, sizeof some);
            sum[i] += (wide)((pairs){0} + some) * line;
        }
    }
    for (int i = 0; i < count; i++)
        memcpy(y + i * WIDE, &sum[i], sizeof line);
}

static void outer(float *y, const float *a, int64_t lda, const float *b, const tile *x)
{
    int64_t s = 0;
    for (; s + KEYS <= x->keys; s += KEYS)
        outer_of(KEYS, y + s * WIDE, a + s * lda, lda, b, x->rows);
    for (; s < x->keys; s++)
        outer_of(1, y + s * WIDE, a + s * lda, lda, b, x->rows);
}

#endif
