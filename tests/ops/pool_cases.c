/*
 * The ops beside the layers: dropout, squared error, mean of rows, features of a pair, and the plain ones (zero, scale, copy,
 * sum of squares by element). Arrays, call and loss as in ops_cases.c.
 */
#include "ops_fixture.h"

#include <math.h>

/* ---- dropout: arrays 0 dx, 1 dy, 2 x. The call is the backward one; the loss goes through the forward one. ---- */

static float drop_rate(const fixture *f)
{
    static const float rates[] = {0.1f, 0.5f, 0, 0.9f};
    return rates[f->variant % 4];
}

static void dropout_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "dx", n, d);
    add(f, IN, "dy", n, d);
    add(f, IN, "x", n, d);
    f->row = (uint64_t *)(void *)temporary(2 * n);
    for (int64_t i = 0; i < n; i++)
        f->row[i] = (uint64_t)(i * i) << (i % 40);
    if (variant >= 4)
        alias(f, 0, 1);
}

static void dropout_call(const pac_backend *be, const fixture *f)
{
    be->dropout(X(0), X(1), f->row, f->N, f->D, 77, drop_rate(f));
}

static double dropout_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->dropout(y, INIT(2), f->row, f->N, f->D, 77, drop_rate(f));
    return dot(y, INIT(1), f->N * f->D);
}

/* ---- squared error: variant 0 without gradient ---- */

static void mse_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "loss", n, d);
    add(f, variant == 0 ? IN : CHANGED, "y", n, d);
    add(f, IN, "value", n, d);
}

static void mse_call(const pac_backend *be, const fixture *f)
{
    be->mse(X(0), X(1), X(2), f->N * f->D, 0.3f, f->variant > 0);
}

static double mse_loss(const fixture *f)
{
    float *each = temporary(f->N * f->D);
    double sum = 0;
    ref->mse(each, INIT(1), INIT(2), f->N * f->D, 0, false);
    for (int64_t i = 0; i < f->N * f->D; i++)
        sum += each[i];
    return f->variant > 0 ? 0.3f * sum : 0;
}

/* ---- mean of rows: five runs of rows, one of them empty; variant 1 leaves out the first row and the last ---- */

enum { RUNS = 5 };

static void runs_of(fixture *f, int64_t n, int variant)
{
    int64_t first = variant == 1 && n > 2 ? 1 : 0, rows = n - 2 * first;
    static const int64_t cut[RUNS + 1] = {0, 3, 3, 4, 8, 8}; /* eighths */
    for (int i = 0; i <= RUNS; i++)
        f->toff[i] = first + rows * cut[i] / 8;
}

static void mean_rows_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    runs_of(f, n, variant);
    add(f, OUT, "y", RUNS, d);
    add(f, IN, "x", n, d);
}

static void mean_rows_fwd_call(const pac_backend *be, const fixture *f)
{
    be->mean_rows_fwd(X(0), X(1), f->toff, RUNS, f->D);
}

/* Rows that no run covers keep what they hold: here 0, which is their gradient too. */
static void mean_rows_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    runs_of(f, n, variant);
    add(f, variant == 1 ? CHANGED : OUT, "dx", n, d);
    add(f, IN, "dy", RUNS, d);
    add(f, IN, "x", n, d);
    for (int64_t i = 0; i < n && variant == 1; i++)
        for (int64_t j = 0; j < d && (i < f->toff[0] || i >= f->toff[RUNS]); j++)
            INIT(0)[i * d + j] = 0;
}

static void mean_rows_bwd_call(const pac_backend *be, const fixture *f)
{
    be->mean_rows_bwd(X(0), X(1), f->toff, RUNS, f->D);
}

static double mean_rows_loss(const fixture *f)
{
    float *y = temporary(RUNS * f->D);
    ref->mean_rows_fwd(y, INIT(2), f->toff, RUNS, f->D);
    return dot(y, INIT(1), RUNS * f->D);
}

/* ---- features of a pair: variant 1 without the cosine, 2 with nothing else ---- */

/* The absolute value has its kink where u = v. */
static void keep_apart(float *uv, int64_t B, int64_t D)
{
    for (int64_t b = 0; b < B; b++)
        for (int64_t d = 0; d < D; d++)
            if (fabsf(uv[2 * b * D + d] - uv[(2 * b + 1) * D + d]) < 0.1f)
                uv[2 * b * D + d] += 0.3f;
}

static void pair_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "y", n, 4 * d);
    add(f, OUT, "cosine", 1, n);
    add(f, IN, "uv", 2 * n, d);
    f->a[0].null = variant == 2;
    f->a[1].null = variant == 1;
}

static void pair_fwd_call(const pac_backend *be, const fixture *f)
{
    be->pair_fwd(X(0), X(1), X(2), f->N, f->D);
}

/* With the cosine alone, the gradient of pairs of numbers would be nothing but rounding. */
static void pair_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "duv", 2 * n, d);
    add(f, IN, "dy", n, 4 * d);
    add(f, IN, "dcosine", 1, n);
    add(f, IN, "uv", 2 * n, d);
    keep_apart(INIT(3), n, d);
    f->a[1].null = variant == 2 && d > 1;
    f->a[2].null = variant == 1;
}

static void pair_bwd_call(const pac_backend *be, const fixture *f)
{
    be->pair_bwd(X(0), X(1), X(2), X(3), f->N, f->D);
}

static double pair_loss(const fixture *f)
{
    float *y = temporary(4 * f->N * f->D), *cosine = temporary(f->N);
    ref->pair_fwd(y, cosine, INIT(3), f->N, f->D);
    return (f->a[1].null ? 0 : dot(y, INIT(1), 4 * f->N * f->D)) + (f->a[2].null ? 0 : dot(cosine, INIT(2), f->N));
}

/* ---- the plain ones ---- */

static void zero_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, OUT, "x", n, d);
}

static void zero_call(const pac_backend *be, const fixture *f)
{
    be->zero(X(0), f->N * f->D);
}

static void scale_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, CHANGED, "x", n, d);
}

static void scale_call(const pac_backend *be, const fixture *f)
{
    be->scale(X(0), f->N * f->D, -0.3f);
}

static void copy_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, OUT, "y", n, d);
    add(f, IN, "x", n, d);
}

static void copy_call(const pac_backend *be, const fixture *f)
{
    be->copy(X(0), X(1), f->N * f->D);
}

static void add_squares_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, CHANGED, "y", n, d);
    add(f, IN, "x", n, d);
}

static void add_squares_call(const pac_backend *be, const fixture *f)
{
    be->add_squares(X(0), X(1), f->N * f->D);
}

#define CASE(op) .name = #op, .setup = op##_setup, .call = op##_call

const op_case pool_cases[] = {
    {CASE(dropout), .variants = 8, .tolerance = EXACT, .loss = dropout_loss, .grads = {{0, 2}}, .ngrads = 1},
    {CASE(mse), .variants = 2, .tolerance = ROUND, .loss = mse_loss, .grads = {{1, 1}}, .ngrads = 1},
    {CASE(mean_rows_fwd), .variants = 2, .tolerance = SUM},
    {CASE(mean_rows_bwd), .variants = 2, .tolerance = ROUND, .loss = mean_rows_loss, .grads = {{0, 2}}, .ngrads = 1},
    {CASE(pair_fwd), .variants = 3, .tolerance = ROUND},
    {CASE(pair_bwd), .variants = 3, .tolerance = ROUND, .loss = pair_loss, .grads = {{0, 3}}, .ngrads = 1},
    {CASE(zero), .variants = 1, .tolerance = EXACT},
    {CASE(scale), .variants = 1, .tolerance = EXACT},
    {CASE(copy), .variants = 1, .tolerance = EXACT},
    {CASE(add_squares), .variants = 1, .tolerance = ROUND},
    {0},
};
