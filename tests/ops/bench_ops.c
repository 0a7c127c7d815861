/*
 * The benchmark: every op on every backend at sizes of T5-Base (768 wide, a mini-batch of 16 sequences of 128) and of its side
 * network (96), with the ratio to what the machine does in the same run with as many threads: OpenBLAS's sgemm of 2048 x 2048 x
 * 2048 for products and attention, a copy of as many bytes by the pool's threads for the others, and the bandwidth of a triad
 * beside it.
 */
#include "ops_fixture.h"

#include "../bench/rates.h"
#include "pac/blas.h"
#include "pac/clock.h"
#include "pac/pool.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MEMORY = 32 << 20 }; /* bytes that no processor's own caches hold */

static const struct {
    const char *op;
    int64_t n, d; /* rows and width; attention: rows of a sequence and width of a head */
    int variant;
} benches[] = {
    {"gemm", 2048, 768, GEMM_BACK + GEMM_WEIGHT}, /* 768 to 768: q, k, v, o */
    {"gemm", 2048, 3072, GEMM_BACK + GEMM_WEIGHT},
    {"gemm", 2048, 768, GEMM_INNER + GEMM_WEIGHT}, /* 3072 to 768 */
    {"gemm", 16, 32128, GEMM_BACK + GEMM_WEIGHT},  /* the head of one target row */
    {"gemm", 2048, 96, GEMM_BACK + GEMM_WEIGHT},   /* down */
    {"gemm", 2048, 96, GEMM_SIDE + GEMM_WEIGHT},
    {"gemm", 2048, 384, GEMM_SIDE + GEMM_WEIGHT},
    {"gemm", 2048, 96, GEMM_SIDE},              /* dx of a side layer */
    {"gemm", 96, 768, GEMM_ROWS + GEMM_TURNED}, /* dw of down: dy^T x */
    {"gemm", 96, 384, GEMM_ROWS + GEMM_TURNED},
    {"bias_fwd", 2048, 768, 0},
    {"bias_bwd", 2048, 96, 0},
    {"rmsnorm_fwd", 2048, 768, 0},
    {"rmsnorm_fwd", 2048, 96, 0},
    {"rmsnorm_bwd", 2048, 96, 0},
    {"layernorm_fwd", 2048, 768, 0},
    {"layernorm_bwd", 2048, 96, 0},
    {"act_fwd", 2048, 3072, PAC_ACT_RELU},
    {"act_fwd", 2048, 3072, PAC_ACT_GELU},
    {"act_fwd", 2048, 768, PAC_ACT_TANH},
    {"act_bwd", 2048, 384, PAC_ACT_RELU},
    {"act_bwd", 2048, 384, PAC_ACT_GELU},
    {"glu_fwd", 2048, 2048, PAC_ACT_GELU_NEW},
    {"glu_bwd", 2048, 256, PAC_ACT_GELU_NEW},
    {"embed_fwd", 2048, 768, 0},
    {"embed_bwd", 2048, 96, 0},
    {"add", 2048, 768, 0},
    {"axpy", 2048, 96, 0},
    {"sumsq", 2048, 768, 0},
    {"gate_fwd", 2048, 96, 0},
    {"gate_bwd", 2048, 96, 0},
    {"dropout", 2048, 768, 0},
    {"mean_rows_fwd", 2048, 384, 0},
    {"mean_rows_bwd", 2048, 384, 0},
    {"pair_fwd", 16, 384, 0},
    {"pair_bwd", 16, 384, 0},
    {"xent", 16, 32128, 1},
    {"head_xent", 8, 32128, 1},
    {"argmax", 16, 32128, 0},
    {"sgd", 2500, 2048, 0},
    {"adamw", 2500, 2048, 0},
    {"attn_fwd", 72, 64, 2},
    {"attn_fwd", 72, 8, 2},
    {"attn_bwd", 72, 64, 2},
    {"attn_bwd", 72, 8, 2},
    {"attn_fwd", 1, 64, 0},
    {"attn_fwd", 256, 64, 2},
    {"attn_fwd", 20, 64, 8},
    {"attn_fwd", 128, 64, 10},
    {"attn_fwd", 128, 8, 10},
    {"attn_bwd", 1, 64, 0},
    {"attn_bwd", 128, 64, 10},
    {"attn_bwd", 128, 8, 10},
    {"attn_fwd", 128, 8, 2},
    {"attn_bwd", 128, 8, 2},
};

static double seconds_of(const pac_backend *be, const op_case *c, const fixture *f)
{
    double best = INFINITY, spent = 0;
    for (int i = 0; i < 1000 && (i < 3 || spent < 0.15); i++) {
        double start = pac_now();
        c->call(be, f);
        double t = pac_now() - start;
        best = t < best ? t : best;
        spent += t;
    }
    return best;
}

static double bytes_of(const fixture *f)
{
    double n = 0;
    for (int i = 0; i < f->arrays; i++) {
        const array *a = &f->a[i];
        bool twice = a->role == ADDED || a->role == CHANGED;
        n += a->null ? 0 : (double)(a->rows * a->cols) * (twice ? 8 : 4);
    }
    return n;
}

typedef struct copying {
    float *to;
    const float *from;
} copying;

static void copy_part(void *user, int64_t lo, int64_t hi)
{
    const copying *c = user;
    memcpy(c->to + lo, c->from + lo, (size_t)(hi - lo) * sizeof *c->to);
}

/* A copy that reads half the bytes and writes the other half: what caches and memory allow for this footprint. */
static double copy_seconds(double bytes)
{
    int64_t n = (int64_t)(bytes / 8) + 1;
    copying c = {.to = temporary(n), .from = temporary(n)};
    double best = INFINITY;
    for (int i = 0; i < 30; i++) {
        double start = pac_now();
        pac_pool_run(n, 1 << 14, copy_part, &c);
        __asm__ volatile("" ::"r"(c.to) : "memory");
        double t = pac_now() - start;
        best = t < best ? t : best;
    }
    return best;
}

static void bench_case(const pac_backend *be, const op_case *c, int64_t n, int64_t d, int variant, double peak, double triad)
{
    fixture f = make(c, n, d, variant, true);
    load(&f);
    double t = seconds_of(be, c, &f), bytes = bytes_of(&f);
    printf("%-10s %-13s n %5lld d %5lld variant %2d %9.1f us ", be->name, c->name, (long long)n, (long long)d, variant,
           t * 1e6);
    bool reads = bytes / triad > f.flops / peak && bytes > MEMORY; /* more than it computes: a head of few rows */
    if (f.flops > 0 && !reads)
        printf("%7.1f GFLOP/s  %3.0f %% of sgemm\n", f.flops / t * 1e-9, 100 * f.flops / t / peak);
    else if (f.flops > 0)
        printf("%7.1f GB/s     %3.0f %% of triad\n", bytes / t * 1e-9, 100 * bytes / t / triad);
    else
        printf("%7.1f GB/s     %3.0f %% of a copy\n", bytes / t * 1e-9, 100 * copy_seconds(bytes) / t);
    pac_arena_reset(arena);
}

static const op_case *case_of(const char *op)
{
    static const op_case *const tables[] = {row_cases, pool_cases, attn_cases};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const op_case *c = tables[i]; c->name != NULL; c++)
            if (strcmp(c->name, op) == 0)
                return c;
    return NULL;
}

void bench_ops(const char *only)
{
    const pac_backend *const *all = pac_backend_all();
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    double peak = product_rate(threads, 2048, 2048, 2048);
    pac_blas_use_one_thread(); /* inside the pool's parts */
    threads = (int)pac_pool_set_threads(threads);
    double triad = triad_rate(threads);
    printf("%d threads: sgemm %.1f GFLOP/s, triad %.1f GB/s\n", threads, peak * 1e-9, triad * 1e-9);
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        for (int b = 1; all[b] != NULL && (only == NULL || strstr(benches[i].op, only) != NULL); b++)
            bench_case(all[b], case_of(benches[i].op), benches[i].n, benches[i].d, benches[i].variant, peak, triad);
}
