/*
 * Packed bf16 matrices: products both ways against double, at odd sizes, on every backend of the host.
 *
 * Bound: operands rounded to bf16 (8 bits) are off by at most 2^-8 each relative to themselves, so one product by 2^-7, and a
 * sum of n products, whose errors point to all sides, by less than 2^-8 of the sum of their magnitudes from 64 on; f32 sums add
 * n 2^-24 at most. Sources that are bf16 already and rows that are small integers must come out exactly.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "pac/mem.h"
#include "pac/packed.h"
#include "pac/pool.h"
#include "pac/rng.h"

#define OK(call) assert_int_equal(call, PAC_OK)

static const int64_t sizes[][3] = {/* rows, out, in */
                                   {1, 1, 1},      {5, 3, 7},      {16, 64, 32},   {17, 65, 33},
                                   {64, 768, 768}, {131, 97, 129}, {300, 48, 80},  {257, 640, 31},
                                   {2, 3000, 256}, {15, 33, 1025}, {128, 16, 512}, {143, 2304, 96}};

static float *fill(int64_t n, uint64_t seed)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)pac_rng_normal(seed, PAC_STREAM_TEST, (uint64_t)i);
    return x;
}

typedef struct trial {
    int64_t N, out, in;
    float *x, *w, *bias, *dy, *y, *dx;
    pac_packed *p;
} trial;

static trial trial_new(const pac_backend *be, const int64_t size[3])
{
    int64_t N = size[0], out = size[1], in = size[2];
    trial t = {.N = N,
               .out = out,
               .in = in,
               .x = fill(N * in, 1),
               .w = fill(out * in, 2),
               .bias = fill(out, 3),
               .dy = fill(N * out, 4),
               .y = fill(N * out, 5),
               .dx = fill(N * in, 6)};
    OK(pac_packed_new(be, t.w, PAC_F32, out, in, &t.p));
    return t;
}

static void trial_free(trial *t)
{
    free(t->x), free(t->w), free(t->bias), free(t->dy), free(t->y), free(t->dx);
    pac_packed_free(&t->p);
    assert_null(t->p);
}

static void check(double got, double expected, double magnitude, int64_t terms)
{
    double bound = magnitude * ((terms < 64 ? 1.0 / 127 : 1.0 / 256) + (double)terms * 0x1p-24) + 1e-6 * fabs(expected);
    if (!(fabs(got - expected) <= bound))
        fail_msg("%g instead of %g, bound %g", got, expected, bound);
}

static void check_forward(const trial *t, bool bias, double alpha)
{
    for (int64_t n = 0; n < t->N; n++)
        for (int64_t o = 0; o < t->out; o++) {
            double sum = bias ? t->bias[o] : 0, all = 0;
            for (int64_t i = 0; i < t->in; i++) {
                double term = alpha * t->x[n * t->in + i] * t->w[o * t->in + i];
                sum += term;
                all += fabs(term);
            }
            check(t->y[n * t->out + o], sum, all, t->in);
        }
}

static void check_backward(const trial *t, const float *before, double alpha)
{
    for (int64_t n = 0; n < t->N; n++)
        for (int64_t i = 0; i < t->in; i++) {
            double sum = before != NULL ? before[n * t->in + i] : 0, all = 0;
            for (int64_t o = 0; o < t->out; o++) {
                double term = alpha * t->dy[n * t->out + o] * t->w[o * t->in + i];
                sum += term;
                all += fabs(term);
            }
            check(t->dx[n * t->in + i], sum, all, t->out);
        }
}

static void test_products(void **state)
{
    (void)state;
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            trial t = trial_new(*be, sizes[s]);
            float *before = fill(t.N * t.in, 6);
            pac_packed_fwd(*be, t.y, t.x, t.p, t.bias, t.N, 1.0f);
            check_forward(&t, true, 1);
            pac_packed_fwd(*be, t.y, t.x, t.p, NULL, t.N, 0.25f);
            check_forward(&t, false, 0.25);
            pac_packed_bwd(*be, t.dx, true, t.dy, t.p, t.N, 1.0f);
            check_backward(&t, before, 1);
            pac_packed_bwd(*be, t.dx, false, t.dy, t.p, t.N, 0.5f);
            check_backward(&t, NULL, 0.5);
            free(before);
            trial_free(&t);
        }
    pac_backend_release();
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
    assert_int_equal(pac_mem_current(PAC_MEM_WORK), 0);
}

/* Half the bytes, but for padding; what was bf16 comes back as it was, by rows and as a whole. */
static void test_contents(void **state)
{
    enum { OUT = 130, IN = 67 };
    (void)state;
    uint16_t *half = malloc(OUT * IN * sizeof *half);
    float *w = malloc(OUT * IN * sizeof *w), *got = malloc(OUT * IN * sizeof *got);
    const int32_t ids[] = {129, 0, 64, 64};
    for (int i = 0; i < OUT * IN; i++)
        half[i] = (uint16_t)(i * 7919 % 0x7f80); /* no infinities */
    OK(pac_to_f32(w, half, PAC_BF16, OUT * IN));
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++) {
        pac_packed *p = NULL;
        int64_t held = pac_mem_current(PAC_MEM_WEIGHTS);
        OK(pac_packed_new(*be, half, PAC_BF16, OUT, IN, &p));
        assert_true(pac_packed_bytes(p) >= OUT * IN * 2 && pac_packed_bytes(p) <= 192 * 96 * 2);
        assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS) - held, pac_packed_bytes(p));
        pac_packed_read(got, p);
        assert_memory_equal(got, w, OUT * IN * sizeof *w);
        pac_packed_rows(got, p, ids, 4);
        for (int i = 0; i < 4; i++)
            assert_memory_equal(got + i * IN, w + ids[i] * IN, IN * sizeof *w);
        pac_packed_free(&p);
    }
    free(half), free(w), free(got);
}

/* Integers up to 8 bits are exact in bf16 and their sums in f32: every path gives the same bits. */
static void test_exact(void **state)
{
    enum { N = 83, OUT = 200, IN = 96 };
    (void)state;
    float *x = malloc(N * IN * sizeof *x), *w = malloc(OUT * IN * sizeof *w), *y = malloc(N * OUT * sizeof *y);
    for (int i = 0; i < N * IN; i++)
        x[i] = (float)(i * 31 % 255 - 127);
    for (int i = 0; i < OUT * IN; i++)
        w[i] = (float)(i * 17 % 201 - 100);
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++) {
        pac_packed *p = NULL;
        OK(pac_packed_new(*be, w, PAC_F32, OUT, IN, &p));
        pac_packed_fwd(*be, y, x, p, NULL, N, 1.0f);
        for (int n = 0; n < N; n++)
            for (int o = 0; o < OUT; o++) {
                long sum = 0;
                for (int i = 0; i < IN; i++)
                    sum += (long)x[n * IN + i] * (long)w[o * IN + i];
                assert_true(y[n * OUT + o] == (float)sum);
            }
        pac_packed_free(&p);
    }
    free(x), free(w), free(y);
}

static void test_errors(void **state)
{
    (void)state;
    pac_packed *p = NULL;
    const float w[4] = {0};
    const pac_backend *be = pac_backend_all()[0];
    assert_int_equal(pac_packed_new(be, w, PAC_I8, 2, 2, &p), PAC_EINVAL);
    assert_int_equal(pac_packed_new(be, w, PAC_F32, 0, 2, &p), PAC_EINVAL);
    OK(pac_backend_find("split", &be));
    assert_int_equal(pac_packed_new(be, w, PAC_F32, 2, 2, &p), PAC_EINVAL);
    assert_null(p);
    const char *why = NULL;
    pac_packed_native(pac_backend_all()[0], &why);
    assert_non_null(why);
    assert_int_equal(pac_mem_current(PAC_MEM_WEIGHTS), 0);
}

/* One that is turned, or widened, part by part; on the backend that runs are on. */
static void test_large(void **state)
{
    static const int64_t size[] = {3, 8400, 1025};
    (void)state;
    const pac_backend *be;
    OK(pac_backend_find("cpu", &be));
    trial t = trial_new(be, size);
    assert_true(pac_packed_bytes(t.p) > 1 << 24);
    pac_packed_fwd(be, t.y, t.x, t.p, t.bias, t.N, 1.0f);
    check_forward(&t, true, 1);
    pac_packed_bwd(be, t.dx, false, t.dy, t.p, t.N, 2.0f);
    check_backward(&t, NULL, 2);
    trial_free(&t);
    pac_backend_release();
}

/* All of it again by several threads, whatever the size. */
static void test_threads(void **state)
{
    pac_pool_set_threads(3);
    pac_pool_ignore_grain();
    test_products(state);
    test_contents(state);
    test_exact(state);
    pac_pool_set_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_contents),
                                       cmocka_unit_test(test_exact), cmocka_unit_test(test_large), cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
