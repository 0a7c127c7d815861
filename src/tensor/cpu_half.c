/*
 * Products of bf16 rows with frozen matrices on AMX's tiles. Four tiles of sums at once need as many loads as products, more
 * than the second-level cache gives; so k is cut into depths of which two strips of rows stay in the first-level cache while
 * strips of columns go past them, sums are kept in between, and what becomes of a block of sums (bias, activation, rounding,
 * residual) is done while it is there.
 */
#include "cpu.h"

#ifdef __AMX_BF16__

#include "cpu_half.h"

enum {
    STRIP = 32,            /* rows, and columns, of a block of sums */
    BLOCK = STRIP * STRIP, /* numbers in it */
    STRIPS = 2,            /* of rows, that stay */
    DEPTH = 192 / HALF_K,  /* tiles along k */
    ACROSS = 64,          /* columns whose sums are kept */
    SUMS = STRIPS * ACROSS / STRIP * BLOCK
};

static void half_round(half_place to, const float *x, int64_t ldx, int64_t rows, int64_t K)
{
    for (int64_t i = 0; i < rows; i++, x += ldx) {
        uint16_t *line = half_at(&to, i, 0);
        for (int64_t k = 0; k < K; k += HALF_K, line += to.chunk)
            half_store(line, _mm512_maskz_loadu_ps(first(K - k), x + k), _mm512_maskz_loadu_ps(first(K - k - 16), x + k + 16));
    }
}

/* Rows of a tile are pairs of columns; turned they are rows, two of which are a row of pairs of the result. */
static void half_turn(uint16_t *const to[2], const uint16_t *const from[2])
{
    enum { TILE = HALF_SIDE * HALF_K };
    uint16_t rows[TILE] __attribute__((aligned(64))), nowhere[HALF_K] __attribute__((aligned(64)));
    for (int64_t t = 0; t < 2; t++) {
        if (from[t] != NULL)
            memcpy(rows, from[t], sizeof rows);
        else
            memset(rows, 0, sizeof rows);
        turn(rows);
        for (int64_t i = 0; i < HALF_SIDE; i += 2) {
            int64_t at = (t * HALF_SIDE + i) / 2 * HALF_K;
            half_pair(to[0] + at, to[1] != NULL ? to[1] + at : nowhere, _mm512_load_si512(rows + i * HALF_K),
                      _mm512_load_si512(rows + (i + 1) * HALF_K));
        }
    }
}

/* ---- what becomes of sums ---- */

/* sums = alpha sums + bias; zero behind n columns. */
static void add_bias(float *sums, const float *bias, int64_t n, float alpha)
{
    __mmask16 there[2] = {first(n), first(n - 16)};
    __m512 b[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, a = _mm512_set1_ps(alpha);
    for (int j = 0; j < 2 && bias != NULL; j++)
        b[j] = _mm512_maskz_loadu_ps(there[j], bias + 16 * j);
    for (int64_t i = 0; i < 2 * STRIP; i++, sums += 16)
        _mm512_store_ps(sums, _mm512_maskz_fmadd_ps(there[i & 1], a, _mm512_load_ps(sums), b[i & 1]));
}

/* Numbers below `least` become it. */
static void put_halves(const half_place *h, int64_t row, int64_t column, int64_t rows, float least, const float *sums)
{
    const __m512 m = _mm512_set1_ps(least);
    for (int64_t i = 0; i < rows; i++, sums += STRIP)
        half_store(half_at(h, row + i, column), _mm512_max_ps(m, _mm512_load_ps(sums)),
                   _mm512_max_ps(m, _mm512_load_ps(sums + 16)));
}

static void put_floats(float *y, const float *add, int64_t ld, int64_t rows, int64_t n, const float *sums)
{
    for (int64_t i = 0; i < rows; i++, y += ld, sums += STRIP)
        for (int64_t j = 0; j < n; j += 16) {
            __mmask16 there = first(n - j);
            __m512 s = _mm512_load_ps(sums + j);
            if (add != NULL)
                s = _mm512_add_ps(_mm512_maskz_loadu_ps(there, add + i * ld + j), s);
            _mm512_mask_storeu_ps(y + j, there, s);
        }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The block at (row, column) of the result: sums of w0, and of w1 behind them by SUMS. */
static void finish(const half_product *c, int64_t row, int64_t column, float *sums)
{
    int64_t rows = least(STRIP, c->rows - row), n = least(STRIP, c->N - column);
    bool cut = c->act == PAC_ACT_RELU && c->w[1] == NULL && c->h.x != NULL; /* while it is rounded */
    for (int i = 0; i < 2 && c->w[i] != NULL; i++)
        if (n < STRIP || c->alpha != 1.0f || c->bias[i] != NULL)
            add_bias(sums + i * SUMS, c->bias[i] != NULL ? c->bias[i] + column : NULL, n, c->alpha);
    if (c->w[1] != NULL)
        CPU(glu_fwd)(sums, sums, sums + SUMS, BLOCK, (pac_act)c->act);
    else if (c->act != HALF_NO_ACT && !cut)
        CPU(act_fwd)(sums, sums, BLOCK, (pac_act)c->act);
    if (c->h.x != NULL)
        put_halves(&c->h, row, column, rows, cut ? 0.0f : -INFINITY, sums);
    else
        put_floats(c->y + row * c->ldy + column, c->add != NULL ? c->add + row * c->ldy + column : NULL, c->ldy, rows, n, sums);
}

/* What the block at (row, column) is added to, and where it goes, comes to the first-level cache while it is multiplied. */
static void fetch_block(const half_product *c, int64_t row, int64_t column)
{
    int64_t rows = least(STRIP, c->rows - row), at = row * c->ldy + column;
    for (int64_t i = 0; i < rows; i++, at += c->ldy) {
        if (c->h.x != NULL) {
            __builtin_prefetch(half_at(&c->h, row + i, column), 1);
            continue;
        }
        for (int64_t j = 0; j < STRIP; j += 16) {
            __builtin_prefetch(c->y + at + j, 1);
            if (c->add != NULL)
                __builtin_prefetch(c->add + at + j);
        }
    }
}

/* ---- the product ---- */

/* Weights of the columns that come next, as far as they are not yet on their way to the second-level cache. */
typedef struct reading {
    const uint16_t *at, *end;
} reading;

/* Over one depth: rows [row, to), columns [column, least(column + ACROSS, N)), tiles [k, k + chunks). */
static void multiply_depth(const half_product *c, int64_t row, int64_t to, int64_t column, int64_t k, int64_t chunks,
                           float *sums, reading *next)
{
    const int64_t tiles = (c->K + HALF_K - 1) / HALF_K, side = tiles * HALF_SIDE * HALF_K, last = least(column + ACROSS, c->N);
    half_strips s = {.a_row = c->x.row, .a_side = c->x.strip, .a_chunk = c->x.chunk};
    for (int64_t j = column; j < last; j += STRIP)
        for (int64_t i = row; i < to; i += STRIP, sums += BLOCK) {
            s.a = half_at(&c->x, i, k * HALF_K);
            if (k + chunks == tiles)
                fetch_block(c, i, j);
            s.b_side = j + HALF_SIDE < c->N ? side : 0; /* where there is no second strip its columns are nobody's */
            for (int w = 0; w < 2 && c->w[w] != NULL; w++) {
                s.b = c->w[w] + j / HALF_SIDE * side + k * HALF_SIDE * HALF_K;
                half_multiply(sums + w * SUMS, STRIP, &s, chunks, k > 0, next->at < next->end ? next->at : NULL);
                next->at += chunks * HALF_AHEAD * HALF_K;
            }
            if (k + chunks == tiles)
                finish(c, i, j, sums);
        }
}

bool CPU(half_product)(const half_product *c)
{
    const int64_t tiles = (c->K + HALF_K - 1) / HALF_K;
    float *sums = pac_panels();
    if (sums == NULL)
        return false;
    configure_tiles();
    for (int64_t column = 0; column < c->N; column += ACROSS) {
        reading next = {c->w[0] + least(column + ACROSS, c->N) * tiles * HALF_K,
                        c->w[0] + least(column + 2 * ACROSS, c->N) * tiles * HALF_K};
        for (int64_t row = 0; row < c->rows; row += STRIPS * STRIP)
            for (int64_t k = 0; k < tiles; k += DEPTH)
                multiply_depth(c, row, least(row + STRIPS * STRIP, c->rows), column, k, least(DEPTH, tiles - k), sums, &next);
    }
    _tile_release();
    return true;
}

const half_ops CPU(half) = {half_turn, half_round, CPU(half_product), CPU(half_attend)};

#endif
