/*
 * Cross-entropy of a few rows straight from the head's matrix, which is far larger than any cache and is read once: a block of
 * its rows gives logits, these exponentials relative to the largest logit so far, and these are at once the factors with which
 * the same block, now in a cache, goes into the gradient of h. What was summed before a larger logit turned up is scaled down
 * then (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax").
 *
 *   dh = scale alpha (sum_v p_v w_v - w_label),  p = softmax(alpha h w^T)
 *
 * Each thread has its own part of the vocabulary and its own sums; they are put together in the order of the parts.
 */
#include "cpu_vec.h"

#include "pac/pool.h"

/* Rows that panels() reads a matrix for where it lies, and rows of the matrix that stay in the second-level cache. */
enum { MOST_ROWS = 16, BLOCK = 64 };

/* What a part has summed: of each row the largest logit, the sum of exponentials, and the sum of w's rows times these. */
typedef struct sums {
    float *largest, *sum, *rows; /* [N], [N], [N, D] */
} sums;

typedef struct head {
    const float *h, *w;
    const int32_t *labels;
    float *at_label; /* [N] the label's logit */
    float *places;   /* [parts] sums */
    int64_t N, D, V;
    float alpha;
} head;

static int64_t place_floats(const head *g)
{
    return (2 * MOST_ROWS + g->N * g->D + 15) / 16 * 16;
}

static sums sums_of(const head *g, int64_t part)
{
    float *at = g->places + part * place_floats(g);
    return (sums){at, at + MOST_ROWS, at + 2 * MOST_ROWS};
}

static void product(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, bool tb, int64_t m,
                    int64_t n, int64_t k, float alpha, float beta)
{
    if (!CPU(panels)(c, ldc, a, lda, false, b, ldb, tb, m, n, k, alpha, beta))
        CPU(gemm)(c, ldc, a, lda, false, b, ldb, tb, m, n, k, alpha, beta);
}

/* logit[n] becomes exp(logit - largest), which may be a larger one than before. */
static void add_exponentials(sums *s, int64_t row, float *logit, int64_t n, int64_t D)
{
    float largest = s->largest[row], sum = 0;
    SIMD_MAX(largest)
    for (int64_t v = 0; v < n; v++)
        largest = logit[v] > largest ? logit[v] : largest;
    if (largest > s->largest[row]) {
        float c = exp_(s->largest[row] - largest), *rows = s->rows + row * D;
        SIMD for (int64_t d = 0; d < D; d++) rows[d] *= c;
        s->sum[row] *= c;
        s->largest[row] = largest;
    }
    SIMD_SUM(sum)
    for (int64_t v = 0; v < n; v++) {
        logit[v] = exp_(logit[v] - largest);
        sum += logit[v];
    }
    s->sum[row] += sum;
}

static void add_block(const head *g, sums *s, int64_t v)
{
    float logits[MOST_ROWS * BLOCK];
    const int64_t n = g->V - v < BLOCK ? g->V - v : BLOCK;
    const float *w = g->w + v * g->D;
    product(logits, BLOCK, g->h, g->D, w, g->D, true, g->N, n, g->D, g->alpha, 0);
    for (int64_t i = 0; i < g->N; i++) {
        const int64_t label = g->labels[i] - v;
        if (label >= 0 && label < n)
            g->at_label[i] = logits[i * BLOCK + label];
        add_exponentials(s, i, logits + i * BLOCK, n, g->D);
    }
    product(s->rows, g->D, logits, BLOCK, w, g->D, false, g->N, g->D, n, 1, 1);
}

/* All of them before the run: where the pool is another's, one part does the work of all. */
static void clear_sums(const head *g, int64_t parts)
{
    for (int64_t p = 0; p < parts; p++) {
        sums s = sums_of(g, p);
        for (int64_t i = 0; i < g->N; i++) {
            s.largest[i] = -INFINITY;
            s.sum[i] = 0;
        }
        memset(s.rows, 0, (size_t)(g->N * g->D) * sizeof *s.rows);
    }
}

static void head_part(void *user, int64_t lo, int64_t hi)
{
    const head *g = user;
    sums s = sums_of(g, pac_pool_part());
    for (int64_t block = lo; block < hi; block++)
        add_block(g, &s, block * BLOCK);
}

/* Of row i, the parts put together. */
static void finish_row(const head *g, int64_t i, int64_t parts, float scale, float *loss, float *dh)
{
    const float *label = g->w + g->labels[i] * g->D;
    float largest = -INFINITY;
    double sum = 0;
    for (int64_t p = 0; p < parts; p++)
        largest = sums_of(g, p).largest[i] > largest ? sums_of(g, p).largest[i] : largest;
    SIMD for (int64_t d = 0; d < g->D; d++) dh[d] = 0;
    for (int64_t p = 0; p < parts; p++) {
        const sums s = sums_of(g, p);
        if (s.sum[i] == 0)
            continue; /* a part without blocks */
        const float c = exp_(s.largest[i] - largest), *rows = s.rows + i * g->D;
        sum += (double)c * s.sum[i];
        SIMD for (int64_t d = 0; d < g->D; d++) dh[d] += c * rows[d];
    }
    const float factor = scale * g->alpha, share = (float)(factor / sum);
    SIMD for (int64_t d = 0; d < g->D; d++) dh[d] = share * dh[d] - factor * label[d];
    *loss = (float)(log(sum) + ((double)largest - g->at_label[i]));
}

bool CPU(head_xent)(float *loss, float *dh, const float *h, const float *w, const int32_t *labels, int64_t N, int64_t D,
                    int64_t V, float alpha, float scale)
{
    float at_label[MOST_ROWS];
    head g = {.h = h, .w = w, .labels = labels, .at_label = at_label, .N = N, .D = D, .V = V, .alpha = alpha};
    const int64_t blocks = (V + BLOCK - 1) / BLOCK, parts = pac_pool_parts(blocks, 1);
    if (N > MOST_ROWS || V < 1)
        return false;
    g.places = pac_scratch((size_t)(parts * place_floats(&g)) * sizeof *g.places);
    if (g.places == NULL)
        return false;
    clear_sums(&g, parts);
    pac_pool_run(blocks, 1, head_part, &g);
    for (int64_t i = 0; i < N; i++)
        if (labels[i] >= 0) {
            finish_row(&g, i, parts, scale, loss + i, dh + i * D);
        } else {
            loss[i] = 0;
            memset(dh + i * D, 0, (size_t)D * sizeof *dh);
        }
    return true;
}
