/*
 * cpu attention: sequence by sequence, head by head, in blocks of query rows. A block of scores [rows, S] is made by one small
 * matrix product, becomes probabilities in place, and is consumed by the next product; no [T, S] matrix of a whole batch ever
 * exists.
 *
 * The relative position bias depends on key minus query position only, so it is laid out once per call as a line [H, span] over
 * all such differences: a row of scores adds a contiguous piece of it. Its gradient is collected in the same layout and folded
 * into buckets at the end.
 *
 * Narrow heads go another way (cpu_attn_narrow.c).
 */
#include "cpu_attn.h"
#include "cpu_products.h"

enum { BLOCK_ROWS = 128 };

/* Scratch of a call. Position 0 of a line belongs to key 0 seen from the last query row of the longest sequence. */
typedef struct work {
    float *scores, *dscores; /* [BLOCK_ROWS, ld] */
    float *bias, *dbias;     /* [H, span], NULL: no bias, no gradient */
    int32_t *bucket;         /* [span] */
    int64_t ld, span, origin;
} work;

/* One block of query rows t0..t0+rows of one head of one sequence; `keys` is how many keys its last row sees. */
typedef struct block {
    int64_t b, h, t0, rows, S, keys;
    int64_t q0, k0; /* index of the first query row and the first key row in the batch */
} block;

/* A single query row is a vector of scores however narrow the head. */
static bool is_narrow(const pac_attn *p)
{
    return p->K <= NARROW && longest(p->toff, p->B) > 1;
}

static void lay_out_bias(const work *w, const pac_attn *p)
{
    for (int64_t i = 0; i < w->span; i++)
        w->bucket[i] = (int32_t)pac_rel_bucket(i - w->origin - p->qpos, p->bidirectional, p->buckets, p->max_distance);
    for (int64_t h = 0; h < p->H; h++)
        for (int64_t i = 0; i < w->span; i++)
            w->bias[h * w->span + i] = p->bias_table[w->bucket[i] * p->H + h];
}

static bool get_work(work *w, const pac_attn *p, bool backward, bool want_dbias)
{
    int64_t T = longest(p->toff, p->B), S = longest(p->soff, p->B);
    int64_t rows = T < BLOCK_ROWS ? T : BLOCK_ROWS;
    *w = (work){.ld = round_up(S), .span = T + S, .origin = T > 0 ? T - 1 : 0};
    int64_t tile = rows * w->ld, lines = p->bias_table != NULL ? round_up(p->H * w->span + PAD) : 0;
    int64_t dlines = want_dbias ? lines : 0;
    float *next = pac_scratch((size_t)(tile * (backward ? 2 : 1) + lines + dlines + (lines > 0 ? w->span : 0)) * sizeof *next);
    if (next == NULL)
        return false;
    w->scores = next;
    w->dscores = next += tile;
    next += backward ? tile : 0;
    if (lines > 0) {
        w->bias = next;
        w->dbias = dlines > 0 ? w->bias + lines : NULL;
        w->bucket = (int32_t *)(w->bias + lines + dlines);
        lay_out_bias(w, p);
        memset(w->bias + lines, 0, (size_t)dlines * sizeof *next);
    }
    return true;
}

static block block_at(const pac_attn *p, int64_t b, int64_t h, int64_t t0)
{
    int64_t T = p->toff[b + 1] - p->toff[b], S = p->soff[b + 1] - p->soff[b];
    int64_t rows = T - t0 < BLOCK_ROWS ? T - t0 : BLOCK_ROWS;
    return (block){.b = b,
                   .h = h,
                   .t0 = t0,
                   .rows = rows,
                   .S = S,
                   .keys = keys_seen(p, t0 + rows - 1, S),
                   .q0 = p->toff[b] + t0,
                   .k0 = p->soff[b]};
}

/* The piece of a bias line that a row of the block adds; NULL if there are none. Reading PAD elements too far is safe. */
static float *line_of(const work *w, float *lines, const block *x, int64_t row)
{
    return lines != NULL ? lines + x->h * w->span + w->origin - (x->t0 + row) : NULL;
}

static void scores_of(const work *w, const block *x, const float *q, int64_t ldq, const float *k, int64_t ldk,
                      const pac_attn *p)
{
    int64_t column = x->h * p->K;
    product_bt(w->scores, w->ld, q + x->q0 * ldq + column, ldq, k + x->k0 * ldk + column, ldk, x->rows, x->keys, p->K,
               p->scale);
}

/* Rows are worked on in whole vectors: what lies behind the n keys that a row sees becomes -infinity, whose exponential is 0.
 */
static int64_t bias_and_pad(float *score, const float *bias, int64_t n)
{
    int64_t padded = round_up(n);
    if (bias != NULL) {
        SIMD for (int64_t s = 0; s < padded; s++) score[s] += bias[s];
    }
    for (int64_t s = n; s < padded; s++)
        score[s] = -INFINITY;
    return padded;
}

static void zero(float *x, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        x[i] = 0;
}

/* score[0..n) + bias becomes its soft-max, score[n..keys) zero. Returns log(sum exp). */
static float softmax_row(float *score, const float *bias, int64_t n, int64_t keys)
{
    int64_t padded = bias_and_pad(score, bias, n);
    float max = -INFINITY, sum = 0;
    SIMD_MAX(max)
    for (int64_t s = 0; s < padded; s++)
        max = score[s] > max ? score[s] : max;
    SIMD_SUM(sum)
    for (int64_t s = 0; s < padded; s++) {
        score[s] = exp_(score[s] - max);
        sum += score[s];
    }
    float c = 1 / sum;
    SIMD for (int64_t s = 0; s < padded; s++) score[s] *= c;
    zero(score, padded, keys);
    return max + logf(sum);
}

void CPU(attn_fwd)(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk, const float *v,
                   int64_t ldv, const pac_attn *p)
{
    if (is_narrow(p)) {
        CPU(attn_narrow_fwd)(o, ldo, lse, q, ldq, k, ldk, v, ldv, p);
        return;
    }
    work w;
    if (!get_work(&w, p, false, false)) {
        pac_fill_nan(o + p->toff[0] * ldo, ldo, p->toff[p->B] - p->toff[0], p->H * p->K);
        return;
    }
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t t0 = 0; t0 < p->toff[b + 1] - p->toff[b]; t0 += BLOCK_ROWS) {
                block x = block_at(p, b, h, t0);
                scores_of(&w, &x, q, ldq, k, ldk, p);
                for (int64_t row = 0; row < x.rows; row++) {
                    float l =
                        softmax_row(w.scores + row * w.ld, line_of(&w, w.bias, &x, row), keys_seen(p, t0 + row, x.S), x.keys);
                    if (lse != NULL)
                        lse[(x.q0 + row) * p->H + h] = l;
                }
                product(o + x.q0 * ldo + h * p->K, ldo, w.scores, w.ld, v + x.k0 * ldv + h * p->K, ldv, x.rows, p->K, x.keys,
                        1);
            }
}

/*
 * p = softmax(score): dscore = p (dp - sum_s p dp), in place of dp; score[0..n) becomes p. lse only keeps exp() in range:
 * dividing by the sum anew removes its rounding error.
 */
static void softmax_row_bwd(float *score, float *dp, const float *bias, float lse, int64_t n, int64_t keys)
{
    int64_t padded = bias_and_pad(score, bias, n);
    float sum = 0, dot = 0;
    zero(dp, n, padded > keys ? padded : keys);
    PAC_PRAGMA(omp simd reduction(+ : sum, dot))
    for (int64_t s = 0; s < padded; s++) {
        score[s] = exp_(score[s] - lse);
        sum += score[s];
        dot += score[s] * dp[s];
    }
    float c = 1 / sum, mean = dot / sum;
    SIMD for (int64_t s = 0; s < padded; s++)
    {
        score[s] *= c;
        dp[s] = score[s] * (dp[s] - mean);
    }
    if (n == 1) { /* exactly, not up to rounding */
        score[0] = 1;
        dp[0] = 0;
    }
    zero(score, padded, keys);
}

/* score = scale <q, k> + bias: dq = scale ds k, dk += scale ds^T q, dv += p^T do. */
static void block_bwd(const work *w, const block *x, float *dq, float *dk, float *dv, const float *d_o, int64_t ldo,
                      const float *q, int64_t ldq, const float *k, int64_t ldk, int64_t ldv, const pac_attn *p)
{
    int64_t column = x->h * p->K, K = p->K;
    product(dq + x->q0 * ldq + column, ldq, w->dscores, w->ld, k + x->k0 * ldk + column, ldk, x->rows, K, x->keys, p->scale);
    add_product_at(dk + x->k0 * ldk + column, ldk, w->dscores, w->ld, q + x->q0 * ldq + column, ldq, x->keys, K, x->rows,
                   p->scale);
    add_product_at(dv + x->k0 * ldv + column, ldv, w->scores, w->ld, d_o + x->q0 * ldo + column, ldo, x->keys, K, x->rows, 1);
    for (int64_t row = 0; row < x->rows && w->dbias != NULL; row++) {
        const float *ds = w->dscores + row * w->ld;
        float *line = line_of(w, w->dbias, x, row);
        SIMD for (int64_t s = 0; s < x->keys; s++) line[s] += ds[s];
    }
}

static void zero_rows(float *y, int64_t ld, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++)
        memset(y + i * ld, 0, (size_t)columns * sizeof *y);
}

static void fold_dbias(const work *w, float *dbias_table, int64_t H)
{
    for (int64_t i = 0; i < w->span; i++)
        for (int64_t h = 0; h < H; h++)
            dbias_table[w->bucket[i] * H + h] += w->dbias[h * w->span + i];
}

void CPU(attn_bwd)(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                   int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse, const pac_attn *p)
{
    if (is_narrow(p)) {
        CPU(attn_narrow_bwd)(dq, dk, dv, dbias_table, d_o, ldo, q, ldq, k, ldk, v, ldv, lse, p);
        return;
    }
    work w;
    int64_t first = p->soff[0], keys = p->soff[p->B] - first; /* offsets start elsewhere than at 0 in a part of a batch */
    if (!get_work(&w, p, true, dbias_table != NULL)) {
        pac_fill_nan(dq + p->toff[0] * ldq, ldq, p->toff[p->B] - p->toff[0], p->H * p->K);
        pac_fill_nan(dk + first * ldk, ldk, keys, p->H * p->K);
        pac_fill_nan(dv + first * ldv, ldv, keys, p->H * p->K);
        return;
    }
    zero_rows(dk + first * ldk, ldk, keys, p->H * p->K);
    zero_rows(dv + first * ldv, ldv, keys, p->H * p->K);
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t t0 = 0; t0 < p->toff[b + 1] - p->toff[b]; t0 += BLOCK_ROWS) {
                block x = block_at(p, b, h, t0);
                scores_of(&w, &x, q, ldq, k, ldk, p);
                product_bt(w.dscores, w.ld, d_o + x.q0 * ldo + h * p->K, ldo, v + x.k0 * ldv + h * p->K, ldv, x.rows, x.keys,
                           p->K, 1);
                for (int64_t row = 0; row < x.rows; row++)
                    softmax_row_bwd(w.scores + row * w.ld, w.dscores + row * w.ld, line_of(&w, w.bias, &x, row),
                                    lse[(x.q0 + row) * p->H + h], keys_seen(p, t0 + row, x.S), x.keys);
                block_bwd(&w, &x, dq, dk, dv, d_o, ldo, q, ldq, k, ldk, ldv, p);
            }
    if (w.dbias != NULL)
        fold_dbias(&w, dbias_table, p->H);
}
