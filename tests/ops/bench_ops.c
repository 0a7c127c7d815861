/*
 * The benchmark: every op on every backend at sizes of a backbone (768) and of a side network (96), with the ratio to what the
 * machine does in the same run: sgemm of 1024 x 1024 x 1024 for products, memcpy of as many bytes for the others.
 */
#include "ops_fixture.h"

#include "pac/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *op;
    int64_t n, d; /* rows and width; attention: rows of a sequence and width of a head */
    int variant;
} benches[] = {
    {"gemm", 1024, 1024, GEMM_DEEP},
    {"gemm", 1024, 96, GEMM_SIDE},
    {"gemm", 1024, 96, GEMM_DOWN},
    {"bias_fwd", 1024, 768, 0},
    {"bias_bwd", 1024, 96, 0},
    {"rmsnorm_fwd", 1024, 768, 0},
    {"rmsnorm_fwd", 1024, 96, 0},
    {"rmsnorm_bwd", 1024, 96, 0},
    {"layernorm_fwd", 1024, 768, 0},
    {"layernorm_bwd", 1024, 96, 0},
    {"act_fwd", 1024, 768, PAC_ACT_RELU},
    {"act_fwd", 1024, 768, PAC_ACT_GELU},
    {"act_fwd", 1024, 768, PAC_ACT_TANH},
    {"act_bwd", 1024, 384, PAC_ACT_RELU},
    {"act_bwd", 1024, 384, PAC_ACT_GELU},
    {"glu_fwd", 1024, 2048, PAC_ACT_GELU_NEW},
    {"glu_bwd", 1024, 256, PAC_ACT_GELU_NEW},
    {"embed_fwd", 1024, 768, 0},
    {"embed_bwd", 1024, 96, 0},
    {"add", 1024, 768, 0},
    {"axpy", 1024, 96, 0},
    {"sumsq", 1024, 768, 0},
    {"gate_fwd", 1024, 96, 0},
    {"gate_bwd", 1024, 96, 0},
    {"dropout", 1024, 768, 0},
    {"mean_rows_fwd", 1024, 384, 0},
    {"mean_rows_bwd", 1024, 384, 0},
    {"pair_fwd", 16, 384, 0},
    {"pair_bwd", 16, 384, 0},
    {"xent", 16, 32128, 1},
    {"argmax", 16, 32128, 0},
    {"sgd", 1024, 1024, 0},
    {"adamw", 1024, 1024, 0},
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

/* memcpy that reads half the bytes and writes the other half: what memory allows for this footprint. */
static double copy_seconds(double bytes)
{
    int64_t n = (int64_t)(bytes / 8) + 1;
    float *from = temporary(n), *to = temporary(n);
    double best = INFINITY;
    for (int i = 0; i < 30; i++) {
        double start = pac_now();
        memcpy(to, from, (size_t)n * sizeof *to);
        __asm__ volatile("" ::"r"(to) : "memory");
        double t = pac_now() - start;
        best = t < best ? t : best;
    }
    return best;
}

static void bench_case(const pac_backend *be, const op_case *c, int64_t n, int64_t d, int variant, double peak)
{
    fixture f = make(c, n, d, variant, true);
    load(&f);
    double t = seconds_of(be, c, &f), bytes = bytes_of(&f);
    printf("%-10s %-13s n %5lld d %5lld variant %2d %9.1f us ", be->name, c->name, (long long)n, (long long)d, variant,
           t * 1e6);
    if (f.flops > 0)
        printf("%7.1f GFLOP/s  %3.0f %% of sgemm\n", f.flops / t * 1e-9, 100 * f.flops / t / peak);
    else
        printf("%7.1f GB/s     %3.0f %% of memcpy\n", bytes / t * 1e-9, 100 * copy_seconds(bytes) / t);
    pac_arena_reset(arena);
}

static double sgemm_peak(const pac_backend *be)
{
    const op_case *c = &row_cases[0];
    fixture f = make(c, benches[0].n, benches[0].d, benches[0].variant, true);
    load(&f);
    double rate = f.flops / seconds_of(be, c, &f);
    pac_arena_reset(arena);
    return rate;
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
    double peak = sgemm_peak(all[1]);
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        for (int b = 1; all[b] != NULL && (only == NULL || strstr(benches[i].op, only) != NULL); b++)
            bench_case(all[b], case_of(benches[i].op), benches[i].n, benches[i].d, benches[i].variant, peak);
}
