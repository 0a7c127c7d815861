/*
 * f32 matrix products on AMX's bf16 tiles: each number is the sum of three bf16 numbers, x = x1 + x2 + x3, exactly (3 x 8 bits
 * of mantissa hold f32's 24), and of the nine products of parts the six that reach f32's precision are added up in f32:
 *     a b ~ a1 b1 + a1 b2 + a2 b1 + a2 b2 + a1 b3 + a3 b1,    left out: at most 2^-22 |a b|, of either sign.
 * Six tile products in bf16 take less than half the time of one in f32. (The method: Henry, Tang, Heinecke, "Leveraging the
 * bfloat16 artificial intelligence datatype for higher-precision computations", ARITH 2019.)
 *
 * Blocks of B are cut into parts once and stay in the second-level cache while strips of A go past them. A sum over k runs in
 * the same order for every element of C, wherever it stands. Infinite numbers become NaN; parts below 1e-38 become 0.
 */
#include "cpu.h"

#ifdef __AMX_BF16__

#include "cpu_amx.h"

enum {
    PARTS = 3,
    SIDE = 16,  /* rows of a tile, and columns of a tile of C */
    CHUNK = 32, /* numbers along k in a tile */
    TILE_BYTES = 1024,
    CHUNK_BYTES = PARTS * TILE_BYTES,
    STRIP = 2 * SIDE,            /* rows of A, and columns of B, that are multiplied at once: four tiles of C */
    DEPTH = 768,                 /* of a block, at most */
    ACROSS = 384,                /* the same where k has a stride in A */
    GROUP = 3,                   /* strips of such an A that are cut at once, since they lie side by side */
    ROOM = 4 * PAC_PANEL_FLOATS, /* bytes of all buffers, in the second-level cache */
    SUMS = 4 * STRIP * STRIP     /* bytes of a strip by a strip of C */
};

/* Below so many rows B is better read where it lies; below so many columns, or k, cutting costs more than the product. */
enum { FEW = 32, NARROW = 16, SHORT = 32 };

/* A matrix [i, k], or [j, k] for B transposed: element (i, k) at x + i * row + k * column, one of which is 1. */
typedef struct operand {
    const float *x;
    int64_t row, column;
} operand;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- cutting into parts ---- */

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

/* 16 rows and K along k, which lies side by side: [K / 32][part][16][32]; the last rows may be missing. */
static void cut_along(char *to, operand o, int64_t rows, int64_t K)
{
    const __m512i how = _mm512_loadu_si512(behind_each_other);
    for (int64_t i = 0; i < SIDE; i++) {
        const float *row = o.x + i * o.row;
        char *line = to + 64 * i;
        for (int64_t k = 0; k < K; k += CHUNK, line += CHUNK_BYTES) {
            cut_vectors c = {0};
            if (i < rows) {
                c = cut(_mm512_maskz_loadu_ps(first(K - k), row + k),
                        _mm512_maskz_loadu_ps(first(K - k - SIDE), row + k + SIDE), how);
                fetch(row + 4 * o.row + k);
            }
#pragma GCC unroll 3
            for (int p = 0; p < PARTS; p++)
                _mm512_store_si512(line + p * TILE_BYTES, c.part[p]);
        }
    }
}

/* A chunk along k of rows of `columns` side by side, in pairs of k: each side's [part][16 pairs of k][16 columns][2]. */
static void cut_across(char *to, operand o, int64_t side, int64_t columns, int64_t depth)
{
    const __m512i how = _mm512_loadu_si512(by_turns);
    for (int64_t k = 0; k < CHUNK; k += 2, to += 64) {
        const float *row = o.x + (k < depth ? k * o.column : 0), *next = k + 1 < depth ? row + o.column : row;
        char *line = to;
        for (int64_t j = 0; j < columns; j += SIDE, line += side) {
            __mmask16 there = first(columns - j);
            cut_vectors c = cut(_mm512_maskz_loadu_ps(k < depth ? there : 0, row + j),
                                _mm512_maskz_loadu_ps(k + 1 < depth ? there : 0, next + j), how);
            _mm_prefetch((const char *)(row + 2 * o.column + j), _MM_HINT_T0);
            _mm_prefetch((const char *)(next + 2 * o.column + j), _MM_HINT_T0);
#pragma GCC unroll 3
            for (int p = 0; p < PARTS; p++)
                _mm512_store_si512(line + p * TILE_BYTES, c.part[p]);
        }
    }
}

/*
 * n rows, or columns, and K along k: [n / 16][K / 32][part][tile], read in the order of memory; the last strip is filled with
 * zeros. Tiles of A have k side by side, tiles of B pairs of k below each other: one of the ways of reading makes each, and the
 * other its transpose.
 */
static void cut_block(char *to, operand o, int64_t n, int64_t K, bool of_b)
{
    const int64_t side = up(K, CHUNK) / CHUNK * CHUNK_BYTES, bytes = (n + SIDE - 1) / SIDE * side;
    bool along = o.column == 1;
    for (int64_t i = 0; along && i < n; i += SIDE)
        cut_along(to + i / SIDE * side, (operand){o.x + i * o.row, o.row, 1}, least(SIDE, n - i), K);
    for (int64_t k = 0; !along && k < K; k += CHUNK)
        cut_across(to + k / CHUNK * CHUNK_BYTES, (operand){o.x + k * o.column, 1, o.column}, side, n, K - k);
    for (int64_t tile = 0; along == of_b && tile < bytes; tile += TILE_BYTES)
        turn(to + tile);
    memset(to + bytes, 0, (size_t)(up(n, STRIP) / SIDE * side - bytes));
}

/* ---- multiplying ---- */

#define LOAD_A(part)                                                                                                           \
    _tile_loadd(4, a + (part)*TILE_BYTES, 64);                                                                                 \
    _tile_loadd(5, a + side + (part)*TILE_BYTES, 64);
#define LOAD_B(part)                                                                                                           \
    _tile_loadd(6, b + (part)*TILE_BYTES, 64);                                                                                 \
    _tile_loadd(7, b + side + (part)*TILE_BYTES, 64);
#define MULTIPLY                                                                                                               \
    _tile_dpbf16ps(0, 4, 6);                                                                                                   \
    _tile_dpbf16ps(1, 4, 7);                                                                                                   \
    _tile_dpbf16ps(2, 5, 6);                                                                                                   \
    _tile_dpbf16ps(3, 5, 7);

/* sums[32, 32] = a strip of A times a strip of B, each two sides of `chunks` times three tiles. The small products go first. */
static void multiply_strips(float *sums, int64_t width, const char *a, const char *b, int64_t chunks)
{
    const int64_t side = chunks * CHUNK_BYTES;
    forget_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < chunks; i++, a += CHUNK_BYTES, b += CHUNK_BYTES) {
        LOAD_B(2)
        LOAD_A(0) MULTIPLY LOAD_B(1) MULTIPLY LOAD_A(1) MULTIPLY LOAD_B(0) MULTIPLY LOAD_A(2) MULTIPLY LOAD_A(0) MULTIPLY
    }
    _tile_stored(0, sums, (size_t)width * sizeof *sums);
    _tile_stored(1, sums + SIDE, (size_t)width * sizeof *sums);
    _tile_stored(2, sums + SIDE * width, (size_t)width * sizeof *sums);
    _tile_stored(3, sums + SIDE * width + SIDE, (size_t)width * sizeof *sums);
    forget_memory();
}

/* c[rows, columns] = alpha sums, or += */
static void put_sums(float *c, int64_t ldc, const float *sums, int64_t width, int64_t rows, int64_t columns, float alpha,
                     bool add)
{
    const __m512 scale = _mm512_set1_ps(alpha);
    for (int64_t i = 0; i < rows; i++, c += ldc, sums += width)
        for (int64_t j = 0; j < columns; j += SIDE) {
            __mmask16 there = first(columns - j);
            __m512 old = add ? _mm512_maskz_loadu_ps(there, c + j) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(c + j, there, _mm512_fmadd_ps(scale, _mm512_load_ps(sums + j), old));
            fetch(c + 2 * ldc + j);
        }
}

/* Buffers of the thread: a group of strips of A and a block of B in parts, a strip of C. */
typedef struct places {
    int64_t group;
    char *a, *b;
    float *sums;
} places;

/* C[m, n] (+)= alpha A B over one block of depth K and of columns: B in parts, A a few strips at a time. */
static void multiply_block(float *c, int64_t ldc, operand a, operand b, int64_t m, int64_t n, int64_t K, float alpha, bool add,
                           const places *at)
{
    const int64_t chunks = up(K, CHUNK) / CHUNK, strip = 2 * chunks * CHUNK_BYTES, width = up(n, STRIP);
    cut_block(at->b, b, n, K, true);
    for (int64_t i = 0; i < m; i += STRIP) {
        int64_t in_group = i / STRIP % at->group;
        if (in_group == 0)
            cut_block(at->a, (operand){a.x + i * a.row, a.row, a.column}, least(at->group * STRIP, m - i), K, false);
        for (int64_t j = 0; j < width; j += STRIP)
            multiply_strips(at->sums + j, width, at->a + in_group * strip, at->b + j / STRIP * strip, chunks);
        put_sums(c + i * ldc, ldc, at->sums, width, least(STRIP, m - i), n, alpha, add);
    }
}

bool CPU(tiles)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                int64_t n, int64_t k, float alpha, float beta)
{
    if (m < FEW || n < NARROW || k < SHORT || (beta != 0 && beta != 1))
        return false;
    char *room = (char *)pac_panels();
    if (room == NULL)
        return false;
    operand left = ta ? (operand){a, 1, lda} : (operand){a, lda, 1}, right = tb ? (operand){b, ldb, 1} : (operand){b, 1, ldb};
    const int64_t most = ta ? ACROSS : DEPTH, blocks = (k + most - 1) / most, depth = up((k + blocks - 1) / blocks, CHUNK);
    const int64_t strip = 2 * depth / CHUNK * CHUNK_BYTES, group = ta ? GROUP : 1;
    const int64_t strips = (ROOM - group * strip) / (strip + SUMS);
    const places at = {group, room, room + group * strip, (float *)(void *)(room + (group + strips) * strip)};
    configure_tiles();
    for (int64_t j = 0; j < n; j += strips * STRIP)
        for (int64_t i = 0; i < k; i += depth)
            multiply_block(c + j, ldc, (operand){left.x + i * left.column, left.row, left.column},
                           (operand){right.x + j * right.row + i * right.column, right.row, right.column}, m,
                           least(strips * STRIP, n - j), least(depth, k - i), alpha, beta != 0 || i > 0, &at);
    _tile_release();
    return true;
}

#else

bool CPU(tiles)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                int64_t n, int64_t k, float alpha, float beta)
{
    (void)c, (void)ldc, (void)a, (void)lda, (void)ta, (void)b, (void)ldb, (void)tb, (void)m, (void)n, (void)k, (void)alpha,
        (void)beta;
    return false;
}

#endif
