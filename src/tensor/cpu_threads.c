/*
 * The cpu kernels on all threads: each op cuts its rows, elements or sequences into parts, on which the kernel of one thread
 * runs. Sums over rows (gradients of parameters) are made part by part and added in the order of the parts. The table of the
 * backend is at the end.
 */
#include "cpu.h"

#include "pac/pool.h"

/* Below so many elements a part does not pay for waking its thread: some 5 microseconds of work. */
enum { GRAIN = 1 << 14, GRAIN_MATH = 1 << 12 /* with exponentials */, MOST_SUMS = 4096 };

static int64_t rows_of_grain(int64_t grain, int64_t D)
{
    return D < grain ? grain / (D > 0 ? D : 1) : 1;
}

/* The arguments of any op that goes row by row; every op uses those that it has. */
typedef struct args {
    float *y, *y2, *y3, *sum, *sum2; /* outputs; sums over rows */
    float *partial;                  /* [parts - 1, 2 D] of such sums */
    const float *a, *b, *c, *d, *e;
    const int32_t *ids;
    const uint64_t *row;
    int64_t N, D, A;
    float x;
    pac_act act;
    uint64_t key;
    bool grad;
} args;

static float *out_at(float *x, int64_t i)
{
    return x != NULL ? x + i : NULL;
}

/*
 * Places for the sums of all parts but the first, which adds to the result itself: [parts - 1, width] of zeros. NULL: one part,
 * or no memory.
 */
static float *partial_sums(int64_t parts, int64_t width)
{
    if (parts < 2)
        return NULL;
    float *sums = pac_scratch((size_t)((parts - 1) * width) * sizeof *sums);
    if (sums != NULL)
        memset(sums, 0, (size_t)((parts - 1) * width) * sizeof *sums);
    return sums;
}

/* ---- parts of ops that go row by row, or element by element ---- */

#define PART(op, ...)                                                                                                          \
    static void op##_part(void *user, int64_t lo, int64_t hi)                                                                  \
    {                                                                                                                          \
        const args *g = user;                                                                                                  \
        const int64_t n = hi - lo, at_row = lo * g->D;                                                                         \
        (void)at_row;                                                                                                          \
        CPU(op)(__VA_ARGS__);                                                                                                  \
    }

PART(bias_fwd, g->y + at_row, g->a, n, g->D)
PART(rmsnorm_fwd, g->y + at_row, out_at(g->y2, lo), g->a + at_row, g->b, n, g->D, g->x)
PART(layernorm_fwd, g->y + at_row, out_at(g->y2, lo), out_at(g->y3, lo), g->a + at_row, g->b, g->c, n, g->D, g->x)
PART(act_fwd, g->y + lo, g->a + lo, n, g->act)
PART(act_bwd, g->y + lo, g->a + lo, g->b + lo, n, g->act)
PART(glu_fwd, g->y + lo, g->a + lo, g->b + lo, n, g->act)
PART(glu_bwd, g->y + lo, g->y2 + lo, g->a + lo, g->b + lo, g->c + lo, n, g->act)
PART(add, g->y + lo, g->a + lo, g->b + lo, n)
PART(axpy, g->y + lo, g->a + lo, n, g->x)
PART(gate_fwd, g->y + at_row, g->a + at_row, g->b + at_row, g->c, n, g->D, g->A, g->x)
PART(xent, g->y2 + lo, g->y + at_row, g->ids + lo, n, g->D, g->x, g->grad)
PART(dropout, g->y + at_row, g->a + at_row, g->row + lo, n, g->D, g->key, g->x)
PART(zero, g->y + lo, n)
PART(scale, g->y + lo, n, g->x)
PART(copy, g->y + lo, g->a + lo, n)
PART(add_squares, g->y + lo, g->a + lo, n)
PART(sgd, g->y + lo, g->a + lo, n, g->x, g->c[0])

static void par_bias_fwd(float *y, const float *b, int64_t N, int64_t D)
{
    args g = {.y = y, .a = b, .D = D};
    pac_pool_run(N, rows_of_grain(GRAIN, D), bias_fwd_part, &g);
}

static void par_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    args g = {.y = y, .y2 = rrms, .a = x, .b = w, .D = D, .x = eps};
    pac_pool_run(N, rows_of_grain(GRAIN, D), rmsnorm_fwd_part, &g);
}

static void par_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                              int64_t D, float eps)
{
    args g = {.y = y, .y2 = mean, .y3 = rstd, .a = x, .b = w, .c = b, .D = D, .x = eps};
    pac_pool_run(N, rows_of_grain(GRAIN, D), layernorm_fwd_part, &g);
}

static int64_t grain_of(pac_act act)
{
    return act == PAC_ACT_RELU ? GRAIN : GRAIN_MATH;
}

static void par_act_fwd(float *y, const float *x, int64_t n, pac_act act)
{
    args g = {.y = y, .a = x, .act = act};
    pac_pool_run(n, grain_of(act), act_fwd_part, &g);
}

static void par_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act act)
{
    args g = {.y = dx, .a = dy, .b = x, .act = act};
    pac_pool_run(n, grain_of(act), act_bwd_part, &g);
}

static void par_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act act)
{
    args g = {.y = y, .a = a, .b = b, .act = act};
    pac_pool_run(n, grain_of(act), glu_fwd_part, &g);
}

static void par_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act)
{
    args g = {.y = da, .y2 = db, .a = dy, .b = a, .c = b, .act = act};
    pac_pool_run(n, grain_of(act), glu_bwd_part, &g);
}

static void par_add(float *y, const float *a, const float *b, int64_t n)
{
    args g = {.y = y, .a = a, .b = b};
    pac_pool_run(n, GRAIN, add_part, &g);
}

static void par_axpy(float *y, const float *x, int64_t n, float alpha)
{
    args g = {.y = y, .a = x, .x = alpha};
    pac_pool_run(n, GRAIN, axpy_part, &g);
}

static void par_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                         float temperature)
{
    args g = {.y = y, .a = a, .b = b, .c = alpha, .D = D, .A = A, .x = temperature};
    pac_pool_run(N, rows_of_grain(GRAIN, D), gate_fwd_part, &g);
}

static void par_xent(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    args g = {.y = logits, .y2 = loss, .ids = labels, .D = V, .x = scale, .grad = grad};
    pac_pool_run(N, rows_of_grain(GRAIN_MATH, V), xent_part, &g);
}

static void par_dropout(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    args g = {.y = y, .a = x, .row = row, .D = D, .key = key, .x = p};
    pac_pool_run(N, rows_of_grain(GRAIN_MATH, D), dropout_part, &g);
}

static void par_zero(float *x, int64_t n)
{
    args g = {.y = x};
    pac_pool_run(n, GRAIN, zero_part, &g);
}

static void par_scale(float *x, int64_t n, float a)
{
    args g = {.y = x, .x = a};
    pac_pool_run(n, GRAIN, scale_part, &g);
}

static void par_copy(float *y, const float *x, int64_t n)
{
    args g = {.y = y, .a = x};
    pac_pool_run(n, GRAIN, copy_part, &g);
}

static void par_add_squares(float *y, const float *x, int64_t n)
{
    args g = {.y = y, .a = x};
    pac_pool_run(n, GRAIN, add_squares_part, &g);
}

static void par_sgd(float *w, const float *d, int64_t n, float lr, float weight_decay)
{
    args g = {.y = w, .a = d, .x = lr, .c = &weight_decay};
    pac_pool_run(n, GRAIN, sgd_part, &g);
}

/* ---- ops that also sum over rows: gradients of parameters ---- */

/*
 * Run on all threads, g->sum[A] and g->sum2[D] (each may be NULL) being summed part by part; whole where there is no place for
 * that. A row of places is 2 D wide.
 */
static void run_summing(args *g, pac_part_fn *fn, int64_t grain)
{
    int64_t parts = pac_pool_parts(g->N, grain), width = 2 * g->D;
    bool sums = g->sum != NULL || g->sum2 != NULL;
    g->partial = sums ? partial_sums(parts, width) : NULL;
    if (sums && g->partial == NULL) {
        if (g->N > 0)
            fn(g, 0, g->N);
        return;
    }
    pac_pool_run(g->N, grain, fn, g);
    for (int64_t i = 0; sums && i < parts - 1; i++) {
        if (g->sum != NULL)
            CPU(add)(g->sum, g->sum, g->partial + i * width, g->A);
        if (g->sum2 != NULL)
            CPU(add)(g->sum2, g->sum2, g->partial + i * width + g->D, g->D);
    }
}

/* Where this part adds to: the first to the result itself. */
static float *sum_of(const args *g, float *result, int64_t offset)
{
    int64_t i = g->partial != NULL ? pac_pool_part() : 0;
    return i == 0 || result == NULL ? result : g->partial + (i - 1) * 2 * g->D + offset;
}

PART(bias_bwd, sum_of(g, g->sum, 0), g->a + at_row, n, g->D)
PART(rmsnorm_bwd, g->y + at_row, sum_of(g, g->sum, 0), g->a + at_row, g->b + at_row, g->c, g->d + lo, n, g->D)
PART(layernorm_bwd, g->y + at_row, sum_of(g, g->sum, 0), sum_of(g, g->sum2, g->D), g->a + at_row, g->b + at_row, g->c,
     g->d + lo, g->e + lo, n, g->D)
PART(gate_bwd, out_at(g->y, at_row), out_at(g->y2, at_row), sum_of(g, g->sum, 0), g->a + at_row, g->b + at_row, g->c + at_row,
     g->d, n, g->D, g->A, g->x)

static void par_bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    args g = {.sum = db, .a = dy, .N = N, .D = D, .A = D};
    run_summing(&g, bias_bwd_part, rows_of_grain(GRAIN, D));
}

static void par_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                            int64_t D)
{
    args g = {.y = dx, .sum = dw, .a = dy, .b = x, .c = w, .d = rrms, .N = N, .D = D, .A = D};
    run_summing(&g, rmsnorm_bwd_part, rows_of_grain(GRAIN, D));
}

static void par_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                              const float *mean, const float *rstd, int64_t N, int64_t D)
{
    args g = {.y = dx, .sum = dw, .sum2 = db, .a = dy, .b = x, .c = w, .d = mean, .e = rstd, .N = N, .D = D, .A = D};
    run_summing(&g, layernorm_bwd_part, rows_of_grain(GRAIN, D));
}

static void par_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b,
                         const float *alpha, int64_t N, int64_t D, int64_t A, float temperature)
{
    args g = {.y = da, .y2 = db, .sum = dalpha, .a = dy, .b = a, .c = b, .d = alpha, .N = N, .D = D, .A = A, .x = temperature};
    run_summing(&g, gate_bwd_part, rows_of_grain(GRAIN, D));
}

/* ---- optimizer ---- */

typedef struct adamw_args {
    float *w, *m, *v;
    const float *g;
    const pac_adamw *p;
} adamw_args;

static void adamw_part(void *user, int64_t lo, int64_t hi)
{
    const adamw_args *a = user;
    CPU(adamw)(a->w + lo, a->m + lo, a->v + lo, a->g + lo, hi - lo, a->p);
}

static void par_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    adamw_args a = {w, m, v, g, p};
    pac_pool_run(n, GRAIN_MATH, adamw_part, &a);
}

typedef struct squares {
    const float *x;
    double sum[PAC_POOL_MOST];
} squares;

static void sumsq_part(void *user, int64_t lo, int64_t hi)
{
    squares *s = user;
    s->sum[pac_pool_part()] = CPU(sumsq)(s->x + lo, hi - lo);
}

static double par_sumsq(const float *x, int64_t n)
{
    squares s = {.x = x};
    int64_t parts = pac_pool_parts(n, GRAIN);
    if (parts < 2)
        return CPU(sumsq)(x, n);
    pac_pool_run(n, GRAIN, sumsq_part, &s);
    double sum = 0;
    for (int64_t i = 0; i < parts; i++)
        sum += s.sum[i];
    return sum;
}

/* ---- matrix product ---- */

typedef struct product {
    float *c;
    const float *a, *b;
    int64_t ldc, lda, ldb, m, n, k;
    float alpha, beta;
    bool ta, tb;
    float *partial; /* [parts - 1, m, n] where the sum is cut */
} product;

/* Rows and columns are cut at multiples of the kernels' own tiles, sums into parts of LONG tiles at least. */
enum { TILE = 32, LONG = 8 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* C[m, n] from (row, column) of the whole on. */
static void multiply(const product *p, int64_t row, int64_t column, int64_t m, int64_t n)
{
    float *c = p->c + row * p->ldc + column;
    const float *a = p->a + row * (p->ta ? 1 : p->lda), *b = p->b + column * (p->tb ? p->ldb : 1);
    if (!CPU(tiles)(c, p->ldc, a, p->lda, p->ta, b, p->ldb, p->tb, m, n, p->k, p->alpha, p->beta) &&
        !CPU(panels)(c, p->ldc, a, p->lda, p->ta, b, p->ldb, p->tb, m, n, p->k, p->alpha, p->beta))
        CPU(gemm)(c, p->ldc, a, p->lda, p->ta, b, p->ldb, p->tb, m, n, p->k, p->alpha, p->beta);
}

static void rows_part(void *user, int64_t lo, int64_t hi)
{
    const product *p = user;
    int64_t first = lo * TILE, last = hi * TILE < p->m ? hi * TILE : p->m;
    multiply(p, first, 0, last - first, p->n);
}

static void columns_part(void *user, int64_t lo, int64_t hi)
{
    const product *p = user;
    int64_t first = lo * TILE, last = hi * TILE < p->n ? hi * TILE : p->n;
    multiply(p, 0, first, p->m, last - first);
}

/* Terms of the sum from lo on: the first part adds to C itself, the others to places of their own. */
static void terms_part(void *user, int64_t lo, int64_t hi)
{
    product p = *(const product *)user;
    const int64_t first = lo * TILE, part = pac_pool_part();
    p.a += first * (p.ta ? p.lda : 1);
    p.b += first * (p.tb ? 1 : p.ldb);
    p.k = least(hi * TILE, p.k) - first;
    if (part > 0) {
        p.c = p.partial + (part - 1) * p.m * p.n;
        p.ldc = p.n;
        p.beta = 0;
    }
    multiply(&p, 0, 0, p.m, p.n);
}

/* A small C of many terms, as gradients of narrow matrices are: it has too few tiles to share out, but the sum can be cut. */
static bool share_terms(product *p, int64_t tiles)
{
    const int64_t terms = (p->k + TILE - 1) / TILE, threads = pac_pool_threads(), parts = pac_pool_parts(terms, LONG);
    const int64_t most = 1 << 21; /* numbers of all parts but one: 8 MiB */
    if (parts < 2 || parts < threads || tiles > 2 * threads || terms < 4 * tiles || (parts - 1) * p->m * p->n > most)
        return false;
    p->partial = partial_sums(parts, p->m * p->n);
    if (p->partial == NULL)
        return false;
    pac_pool_run(terms, LONG, terms_part, p);
    for (int64_t i = 0; i < parts - 1; i++)
        for (int64_t row = 0; row < p->m; row++)
            CPU(add)(p->c + row * p->ldc, p->c + row * p->ldc, p->partial + (i * p->m + row) * p->n, p->n);
    return true;
}

/* The longer side of C is cut. */
static void par_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb,
                     int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    const double worth_a_part = 5e5; /* multiply-adds: some 5 microseconds */
    product p = {c, a, b, ldc, lda, ldb, m, n, k, alpha, beta, ta, tb, NULL};
    int64_t side = m >= n ? m : n, tiles = (side + TILE - 1) / TILE;
    double work = (double)m * (double)n * (double)(k > 0 ? k : 1);
    int64_t grain = work > worth_a_part ? (int64_t)((double)tiles * worth_a_part / work) + 1 : tiles;
    if (!ta || !share_terms(&p, tiles))
        pac_pool_run(tiles, grain, m >= n ? rows_part : columns_part, &p);
}

/* ---- attention: sequence by sequence ---- */

typedef struct attention {
    float *o, *lse, *dq, *dk, *dv, *dbias;
    const float *d_o, *q, *k, *v, *saved;
    int64_t ldo, ldq, ldk, ldv, width; /* of a bias table */
    const pac_attn *p;
    float *partial; /* [parts - 1, width] sums of the bias table's gradient */
} attention;

static pac_attn sequences(const pac_attn *p, int64_t lo, int64_t hi)
{
    pac_attn some = *p;
    some.B = hi - lo;
    some.toff += lo;
    some.soff += lo;
    return some;
}

static void attn_fwd_part(void *user, int64_t lo, int64_t hi)
{
    const attention *g = user;
    pac_attn p = sequences(g->p, lo, hi);
    CPU(attn_fwd)(g->o, g->ldo, g->lse, g->q, g->ldq, g->k, g->ldk, g->v, g->ldv, &p);
}

static void par_attn_fwd(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                         const float *v, int64_t ldv, const pac_attn *p)
{
    attention g = {.o = o, .lse = lse, .q = q, .k = k, .v = v, .ldo = ldo, .ldq = ldq, .ldk = ldk, .ldv = ldv, .p = p};
    pac_pool_run(p->B, 1, attn_fwd_part, &g);
}

static void attn_bwd_part(void *user, int64_t lo, int64_t hi)
{
    const attention *g = user;
    int64_t part = pac_pool_part();
    pac_attn p = sequences(g->p, lo, hi);
    float *dbias = g->dbias == NULL || part == 0 ? g->dbias : g->partial + (part - 1) * g->width;
    CPU(attn_bwd)(g->dq, g->dk, g->dv, dbias, g->d_o, g->ldo, g->q, g->ldq, g->k, g->ldk, g->v, g->ldv, g->saved, &p);
}

static void par_attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                         int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                         const pac_attn *p)
{
    float partial[MOST_SUMS];
    int64_t width = dbias_table != NULL ? p->buckets * p->H : 0, parts = pac_pool_parts(p->B, 1);
    attention g = {.dq = dq,
                   .dk = dk,
                   .dv = dv,
                   .dbias = dbias_table,
                   .d_o = d_o,
                   .q = q,
                   .k = k,
                   .v = v,
                   .saved = lse,
                   .ldo = ldo,
                   .ldq = ldq,
                   .ldk = ldk,
                   .ldv = ldv,
                   .width = width,
                   .p = p,
                   .partial = partial};
    int64_t at_once = width > 0 ? MOST_SUMS / width + 1 : parts; /* parts that have a place */
    int64_t grain = at_once < parts ? (p->B + at_once - 1) / at_once : 1;
    memset(partial, 0, sizeof partial);
    pac_pool_run(p->B, grain, attn_bwd_part, &g);
    for (int64_t i = 0; i < (parts < at_once ? parts : at_once) - 1 && width > 0; i++)
        CPU(add)(dbias_table, dbias_table, partial + i * width, width);
}

const pac_backend CPU(backend) = {.name = PAC_ISA_NAME,
                                  .gemm = par_gemm,
                                  .bias_fwd = par_bias_fwd,
                                  .bias_bwd = par_bias_bwd,
                                  .rmsnorm_fwd = par_rmsnorm_fwd,
                                  .rmsnorm_bwd = par_rmsnorm_bwd,
                                  .layernorm_fwd = par_layernorm_fwd,
                                  .layernorm_bwd = par_layernorm_bwd,
                                  .act_fwd = par_act_fwd,
                                  .act_bwd = par_act_bwd,
                                  .glu_fwd = par_glu_fwd,
                                  .glu_bwd = par_glu_bwd,
                                  .attn_fwd = par_attn_fwd,
                                  .attn_bwd = par_attn_bwd,
                                  .embed_fwd = CPU(embed_fwd),
                                  .embed_bwd = CPU(embed_bwd),
                                  .add = par_add,
                                  .axpy = par_axpy,
                                  .gate_fwd = par_gate_fwd,
                                  .gate_bwd = par_gate_bwd,
                                  .xent = par_xent,
                                  .head_xent = CPU(head_xent),
                                  .argmax = CPU(argmax),
                                  .mse = CPU(mse),
                                  .dropout = par_dropout,
                                  .mean_rows_fwd = CPU(mean_rows_fwd),
                                  .mean_rows_bwd = CPU(mean_rows_bwd),
                                  .pair_fwd = CPU(pair_fwd),
                                  .pair_bwd = CPU(pair_bwd),
                                  .zero = par_zero,
                                  .scale = par_scale,
                                  .copy = par_copy,
                                  .add_squares = par_add_squares,
                                  .sgd = par_sgd,
                                  .adamw = par_adamw,
                                  .sumsq = par_sumsq};
