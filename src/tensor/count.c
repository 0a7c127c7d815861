/*
 * The backend "count": every op computes nothing and touches no memory but the sequence offsets of attention; products and
 * attention add their floating-point operations to a sum of the calling thread, and whoever watches is told of every op what it
 * moves. A model run on it, over memory that need not exist, says what it costs.
 *
 * Outputs keep what they held, the losses too: whoever reads them gives memory that holds zeros.
 */
#include "kernels.h"

#include <math.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* every function below is called through its pointer in the table */

static _Thread_local double counted;
static _Thread_local pac_op_seen *watcher;
static _Thread_local void *watcher_user;

void pac_backend_watch(pac_op_seen *seen, void *user)
{
    watcher = seen;
    watcher_user = user;
}

/* An op of so many operations, which reads and writes so many numbers of 4 bytes. */
static void saw(double flop, double numbers, double extent)
{
    counted += flop;
    if (watcher != NULL)
        watcher(watcher_user, flop, 4 * numbers, extent);
}

static double smallest(double a, double b, double c)
{
    return fmin(a, fmin(b, c));
}

/* An op of a row or elementwise kind: `passes` arrays of n numbers. */
static void passes(double n, double times)
{
    saw(0, n * times, 0);
}

double pac_backend_counted(bool reset)
{
    double n = counted;
    if (reset)
        counted = 0;
    return n;
}

static void count_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb,
                       int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    double M = (double)m, N = (double)n, K = (double)k;
    saw(2 * M * N * K, M * K + K * N + M * N * (beta == 0 ? 1 : 2), smallest(M, N, K));
}

/* <q, k> and p v for every query and every key of its sequence, also for those that a causal mask hides. */
static double attention_forward(const pac_attn *p)
{
    double pairs = 0;
    for (int64_t b = 0; b < p->B; b++)
        pairs += (double)(p->toff[b + 1] - p->toff[b]) * (double)(p->soff[b + 1] - p->soff[b]);
    return 4 * pairs * (double)p->H * (double)p->K;
}

/* Of the products of one head and a sequence of mean length. */
static double attention_extent(const pac_attn *p)
{
    double B = p->B > 0 ? (double)p->B : 1;
    return smallest((double)p->K, (double)p->toff[p->B] / B, (double)p->soff[p->B] / B);
}

static void count_attn_fwd(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                           const float *v, int64_t ldv, const pac_attn *p)
{
    double T = (double)p->toff[p->B], S = (double)p->soff[p->B], D = (double)(p->H * p->K);
    saw(attention_forward(p), (2 * T + 2 * S) * D, attention_extent(p));
}

/* Four products, dp, dq, dk and dv, where forward has two. That kernels compute the scores a second time is not counted. */
static void count_attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                           int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                           const pac_attn *p)
{
    double T = (double)p->toff[p->B], S = (double)p->soff[p->B], D = (double)(p->H * p->K);
    saw(2 * attention_forward(p), (3 * T + 4 * S) * D, attention_extent(p));
}

static double count_sumsq(const float *x, int64_t n)
{
    passes((double)n, 1);
    return 0;
}

/* ---- no operations counted, only what they move ---- */

static void count_bias_fwd(float *y, const float *b, int64_t N, int64_t D)
{
    passes((double)N * (double)D, 2);
}

static void count_bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    passes((double)N * (double)D, 1);
}

static void count_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    passes((double)N * (double)D, 2);
}

static void count_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms,
                              int64_t N, int64_t D)
{
    passes((double)N * (double)D, 3);
}

static void count_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                                int64_t D, float eps)
{
    passes((double)N * (double)D, 2);
}

static void count_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                                const float *mean, const float *rstd, int64_t N, int64_t D)
{
    passes((double)N * (double)D, 3);
}

static void count_act_fwd(float *y, const float *x, int64_t n, pac_act act)
{
    passes((double)n, 2);
}

static void count_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act act)
{
    passes((double)n, 3);
}

static void count_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act act)
{
    passes((double)n, 3);
}

static void count_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act)
{
    passes((double)n, 5);
}

static void count_embed_fwd(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    passes((double)N * (double)D, 2);
}

static void count_embed_bwd(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D)
{
    passes((double)N * (double)D, 3);
}

static void count_add(float *y, const float *a, const float *b, int64_t n)
{
    passes((double)n, 3);
}

static void count_axpy(float *y, const float *x, int64_t n, float alpha)
{
    passes((double)n, 3);
}

static void count_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                           float temperature)
{
    passes((double)N * (double)D, 3);
}

static void count_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b,
                           const float *alpha, int64_t N, int64_t D, int64_t A, float temperature)
{
    passes((double)N * (double)D, 5);
}

static void count_xent(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    passes((double)N * (double)V, grad ? 2 : 1);
}

static void count_argmax(int32_t *best, const float *x, int64_t N, int64_t V)
{
    passes((double)N * (double)V, 1);
}

static void count_mse(float *loss, float *y, const float *value, int64_t n, float scale, bool grad)
{
    passes((double)n, grad ? 2 : 1);
}

static void count_dropout(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    passes((double)N * (double)D, 2);
}

static void count_mean_rows_fwd(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    passes((double)A * (double)D, 2);
}

static void count_mean_rows_bwd(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    passes((double)A * (double)D, 2);
}

static void count_pair_fwd(float *y, float *cosine, const float *uv, int64_t B, int64_t D)
{
    passes((double)B * (double)D, 6);
}

static void count_pair_bwd(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D)
{
    passes((double)B * (double)D, 8);
}

static void count_zero(float *x, int64_t n)
{
    passes((double)n, 1);
}

static void count_scale(float *x, int64_t n, float a)
{
    passes((double)n, 2);
}

static void count_copy(float *y, const float *x, int64_t n)
{
    passes((double)n, 2);
}

static void count_add_squares(float *y, const float *x, int64_t n)
{
    passes((double)n, 3);
}

static void count_sgd(float *w, const float *g, int64_t n, float lr, float weight_decay)
{
    passes((double)n, 3);
}

static void count_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    passes((double)n, 7);
}

#define COUNT_ENTRY(b, op) .op = b##_##op,
const pac_backend pac_backend_count = {.name = "count", .counts = true, PAC_EACH_OP(COUNT_ENTRY, count)};
