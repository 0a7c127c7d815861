/*
 * Attention of bf16 rows on AMX's tiles, for frozen blocks: scores of 32 query rows with f32 sums, soft-max in f32,
 * probabilities rounded to bf16 for the product with the values, whose sums are divided in f32 by the sum of the probabilities.
 *
 * Of each head of a sequence the keys become tiles of the transposed matrix, and the values tiles of pairs of rows, once.
 */
#include "cpu.h"

#ifdef __AMX_BF16__

#include "cpu_attn.h"
#include "cpu_half.h"

enum { ROWS = 32, TILE = HALF_SIDE * HALF_K };

/* Buffers of a call, for sequences of at most S keys, rounded up to 32, and T query rows. */
typedef struct places {
    uint16_t *keys, *values; /* [S / 16][K / 32] and [K / 16][S / 32] tiles */
    uint16_t *p;             /* [2][S / 32] tiles */
    float *scores, *o;       /* [32, S], [32, K] */
    float *bias;             /* [H, span], bias[origin] of key 0 seen from query 0; NULL: none */
    int64_t S, span, origin;
} places;

static int64_t up(int64_t n)
{
    return (n + HALF_K - 1) / HALF_K * HALF_K;
}

static void lay_out_bias(const places *at, const pac_attn *p)
{
    for (int64_t i = 0; i < at->span; i++) {
        int64_t bucket = pac_rel_bucket(i - at->origin - p->qpos, p->bidirectional, p->buckets, p->max_distance);
        for (int64_t h = 0; h < p->H; h++)
            at->bias[h * at->span + i] = p->bias_table[bucket * p->H + h];
    }
}

static bool get_places(places *at, const pac_attn *p)
{
    int64_t T = longest(p->toff, p->B), S = up(longest(p->soff, p->B)), K = p->K;
    *at = (places){.S = S, .span = T + S, .origin = T > 0 ? T - 1 : 0};
    size_t halves = (size_t)(2 * S * K + ROWS * S) * sizeof *at->p;
    size_t floats = (size_t)(ROWS * (S + K) + (p->bias_table != NULL ? p->H * at->span : 0)) * sizeof *at->o;
    char *room = pac_scratch(halves + floats);
    if (room == NULL)
        return false;
    at->keys = (uint16_t *)(void *)room;
    at->values = at->keys + S * K;
    at->p = at->values + S * K;
    at->scores = (float *)(void *)(room + halves);
    at->o = at->scores + ROWS * S;
    at->bias = p->bias_table != NULL ? at->o + ROWS * K : NULL;
    if (at->bias != NULL)
        lay_out_bias(at, p);
    return true;
}

/* ---- operands ---- */

/* 32 numbers of row i; zeros behind the last. */
ALWAYS_INLINE __m512i row_of(const uint16_t *x, int64_t ld, int64_t i, int64_t rows)
{
    return i < rows ? _mm512_loadu_si512(x + i * ld) : _mm512_setzero_si512();
}

/* Keys [S, K]: strips of 16, in which k runs downwards in pairs. */
static void turn_keys(uint16_t *to, const uint16_t *k, int64_t ld, int64_t S, int64_t K)
{
    for (int64_t s = 0; s < up(S); s += HALF_SIDE)
        for (int64_t c = 0; c < K; c += HALF_K, to += TILE) {
            for (int64_t i = 0; i < HALF_SIDE; i++)
                _mm512_store_si512(to + i * HALF_K, row_of(k + c, ld, s + i, S));
            turn(to);
        }
}

/* Values [S, K]: for each 16 columns, keys run downwards in pairs. */
static void pair_values(uint16_t *to, const uint16_t *v, int64_t ld, int64_t S, int64_t K)
{
    const int64_t side = up(S) * HALF_SIDE;
    for (int64_t c = 0; c < K; c += HALF_K, to += 2 * side)
        for (int64_t s = 0; s < up(S); s += 2) {
            __m512i a = row_of(v + c, ld, s, S), b = row_of(v + c, ld, s + 1, S);
            half_pair(to + s * HALF_SIDE, to + side + s * HALF_SIDE, a, b);
        }
}

/* ---- soft-max ---- */

/* exp(x) for x <= 0 with a relative error of 4e-6, far below the rounding of what it becomes. NaN stays NaN. */
ALWAYS_INLINE __m512 exp_half(__m512 x)
{
    __m512 t = _mm512_max_ps(_mm512_set1_ps(-126.0f), _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)));
    __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(t, n);
    __m512 p = _mm512_set1_ps(0.00961812910f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.0555041087f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240226507f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693147181f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f)), n);
}

/* Of `n` keys that a row sees, of `keys` (a multiple of 32) that are multiplied: p = exp(score - max) in a row of tiles.
 * Returns the sum. */
static float soften(uint16_t *p, float *score, const float *bias, float scale, int64_t n, int64_t keys)
{
    __m512 a = _mm512_set1_ps(scale), most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t s = 0; s < n; s += 16) {
        __mmask16 seen = first(n - s);
        __m512 b = bias != NULL ? _mm512_maskz_loadu_ps(seen, bias + s) : _mm512_setzero_ps();
        __m512 x = _mm512_fmadd_ps(a, _mm512_load_ps(score + s), b);
        _mm512_store_ps(score + s, x);
        most = _mm512_mask_max_ps(most, seen, most, x);
    }
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int64_t s = 0; s < keys; s += HALF_K, p += TILE) {
        __mmask16 low = first(n - s), high = first(n - s - 16);
        __m512 e = _mm512_maskz_mov_ps(low, exp_half(_mm512_sub_ps(_mm512_load_ps(score + s), most)));
        __m512 f = _mm512_maskz_mov_ps(high, exp_half(_mm512_sub_ps(_mm512_load_ps(score + s + 16), most)));
        sum = _mm512_add_ps(sum, _mm512_add_ps(e, f));
        half_store(p, e, f);
    }
    return _mm512_reduce_add_ps(sum);
}

/* ---- attention ---- */

typedef struct one {
    int64_t h, t, rows, S, keys; /* query rows [t, t + rows); keys: that the last of them sees, rounded up to 32 */
    const uint16_t *q;           /* of query row t */
} one;

static void score(const places *at, const one *x, const half_attention *a)
{
    const int64_t K = a->p->K, chunks = K / HALF_K;
    half_strips s = {.a = x->q, .a_row = a->ld, .a_side = HALF_SIDE * a->ld, .a_chunk = HALF_K, .b_side = chunks * TILE};
    for (int64_t j = 0; j < x->keys; j += ROWS) {
        s.b = at->keys + j * K;
        half_multiply(at->scores + j, at->S, &s, chunks, false, NULL);
    }
}

static void weigh(const places *at, const one *x, const pac_attn *p)
{
    const half_strips s = {
        .a = at->p, .a_row = HALF_K, .a_side = HALF_SIDE * at->S, .a_chunk = TILE, .b_side = up(x->S) * HALF_SIDE};
    for (int64_t c = 0; c < p->K; c += ROWS) {
        half_strips here = s;
        here.b = at->values + c * up(x->S);
        half_multiply(at->o + c, p->K, &here, x->keys / HALF_K, false, NULL);
    }
}

static void put(const places *at, const one *x, const half_attention *a, int64_t row, int64_t i, float sum)
{
    const __m512 share = _mm512_set1_ps(1.0f / sum);
    const float *o = at->o + i * a->p->K;
    for (int64_t c = 0; c < a->p->K; c += HALF_K)
        half_store(half_at(&a->o, row + i, x->h * a->p->K + c), _mm512_mul_ps(_mm512_load_ps(o + c), share),
                   _mm512_mul_ps(_mm512_load_ps(o + c + 16), share));
}

/* Rows [row, row + rows) of the call. */
static void attend_rows(const places *at, const one *x, const half_attention *a, int64_t row)
{
    float sum[ROWS];
    score(at, x, a);
    for (int64_t i = 0; i < x->rows; i++) {
        const float *bias = at->bias != NULL ? at->bias + x->h * at->span + at->origin - (x->t + i) : NULL;
        uint16_t *p = at->p + i / HALF_SIDE * HALF_SIDE * at->S + i % HALF_SIDE * HALF_K;
        sum[i] = soften(p, at->scores + i * at->S, bias, a->p->scale, keys_seen(a->p, x->t + i, x->S), x->keys);
    }
    weigh(at, x, a->p);
    for (int64_t i = 0; i < x->rows; i++)
        put(at, x, a, row, i, sum[i]);
}

static void attend_head(const places *at, const half_attention *a, int64_t b, int64_t h)
{
    const pac_attn *p = a->p;
    int64_t row = p->toff[b] - p->toff[0], T = p->toff[b + 1] - p->toff[b], first_key = p->soff[b] - p->soff[0];
    one x = {.h = h, .S = p->soff[b + 1] - p->soff[b]};
    turn_keys(at->keys, a->k + first_key * a->ld + h * p->K, a->ld, x.S, p->K);
    pair_values(at->values, a->v + first_key * a->ld + h * p->K, a->ld, x.S, p->K);
    for (x.t = 0; x.t < T; x.t += ROWS) {
        x.rows = T - x.t < ROWS ? T - x.t : ROWS;
        x.keys = up(keys_seen(p, x.t + x.rows - 1, x.S));
        x.q = a->q + (row + x.t) * a->ld + h * p->K;
        attend_rows(at, &x, a, row + x.t);
    }
}

bool CPU(half_attend)(const half_attention *a, int64_t from, int64_t to)
{
    places at;
    if (!get_places(&at, a->p))
        return false;
    configure_tiles();
    for (int64_t b = 0; b < a->p->B; b++)
        for (int64_t h = from; h < to; h++)
            attend_head(&at, a, b, h);
    _tile_release();
    return true;
}

#endif
