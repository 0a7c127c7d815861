/*
 * Frozen sub-layers at once against the same one op after the other, at odd sizes and ragged lengths.
 *
 * A feed-forward rounds what its products one by one round, and sums in the same order: the same bits. Attention also rounds
 * queries, keys, values, probabilities (2^-9 of each at most, one in ten of it in the mean of many) and is compared with the
 * reference's on rounded queries, keys and values; what is left is two roundings, of probabilities and outputs.
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

static float *fill(int64_t n, uint64_t seed, float size)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = size * (float)pac_rng_normal(seed, PAC_STREAM_TEST, (uint64_t)i);
    return x;
}

static pac_packed *matrix(const pac_backend *be, int64_t out, int64_t in, uint64_t seed)
{
    pac_packed *p = NULL;
    float *w = fill(out * in, seed, 1 / sqrtf((float)in));
    OK(pac_packed_new(be, w, PAC_F32, out, in, &p));
    free(w);
    return p;
}

static bool native(const pac_backend *be)
{
    return strcmp(be->name, "cpu-amx") == 0;
}

static void norm(const pac_backend *be, float *y, const float *x, const pac_packed_edge *e, int64_t N, int64_t D)
{
    if (e->layer)
        be->layernorm_fwd(y, NULL, NULL, x, e->w, e->b, N, D, e->eps);
    else
        be->rmsnorm_fwd(y, NULL, x, e->w, N, D, e->eps);
}

/* y = x + f, or its norm */
static void leave(const pac_backend *be, float *y, const float *x, const float *f, const pac_packed_edge *e, int64_t N,
                  int64_t D)
{
    be->add(y, x, f, N * D);
    if (e->post)
        norm(be, y, y, e, N, D);
}

/* ---- feed-forward ---- */

static void feed(const pac_backend *be, int64_t N, bool gated, bool layer, bool post)
{
    enum { D = 70, F = 300 };
    float *x = fill(N * D, 1, 1), *bi = fill(F, 5, 1), *bo = fill(D, 6, 1), *w = fill(D, 7, 1), *b = fill(D, 8, 1);
    float *n = fill(N * D, 9, 1), *h = fill(N * F, 7, 1), *g = fill(N * F, 8, 1), *want = fill(N * D, 9, 1);
    float *y = fill(N * D, 10, 1);
    pac_packed *p[] = {matrix(be, F, D, 2), matrix(be, F, D, 3), matrix(be, D, F, 4)};
    const pac_packed_ff ff = {.wi = p[0], .wg = gated ? p[1] : NULL, .wo = p[2], .bi = bi, .bo = bo, .act = PAC_ACT_GELU_NEW};
    const pac_packed_edge edge = {.w = w, .b = b, .eps = 1e-5f, .layer = layer, .post = post};
    memcpy(n, x, (size_t)(N * D) * sizeof *n);
    if (!post)
        norm(be, n, x, &edge, N, D);
    pac_packed_fwd(be, h, n, p[0], bi, N, 1.0f);
    pac_packed_fwd(be, g, n, p[1], NULL, N, 1.0f);
    if (gated)
        be->glu_fwd(h, h, g, N * F, ff.act);
    else
        be->act_fwd(h, h, N * F, ff.act);
    pac_packed_fwd(be, want, h, p[2], bo, N, 1.0f);
    leave(be, want, x, want, &edge, N, D);
    assert_int_equal(pac_packed_feed(be, y, x, &ff, &edge, N), native(be));
    if (native(be)) {
        assert_memory_equal(y, want, (size_t)(N * D) * sizeof *y);
        assert_true(pac_packed_feed(be, x, x, &ff, &edge, N)); /* in place */
        assert_memory_equal(x, want, (size_t)(N * D) * sizeof *x);
    }
    for (int i = 0; i < 3; i++)
        pac_packed_free(&p[i]);
    free(x), free(bi), free(bo), free(w), free(b), free(n), free(h), free(g), free(want), free(y);
}

static void test_feed(void **state)
{
    (void)state;
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (int kind = 0; kind < 8; kind++) {
            feed(*be, 333, (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0);
            feed(*be, 20, (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0);
        }
    pac_backend_release();
}

/* ---- attention ---- */

static void round_rows(float *x, int64_t n)
{
    uint16_t *h = malloc((size_t)n * sizeof *h);
    OK(pac_from_f32(h, x, PAC_BF16, n));
    OK(pac_to_f32(x, h, PAC_BF16, n));
    free(h);
}

typedef struct heads {
    int64_t H, K;
    bool causal, bias, layer, post;
} heads;

static const int64_t offsets[] = {5, 6, 6, 39, 168, 171, 203, 270, 283, 347}; /* of 1, 0, 33, 129, 3, 32, 67, 13 and 64 rows */
enum { B = sizeof offsets / sizeof offsets[0] - 1, FROM = 5, N = 347 };

static pac_attn attention_of(const heads *k, const float *table)
{
    return (pac_attn){.B = B,
                      .H = k->H,
                      .K = k->K,
                      .toff = offsets,
                      .soff = offsets,
                      .scale = k->bias ? 1 : 1 / sqrtf((float)k->K),
                      .causal = k->causal,
                      .bias_table = k->bias ? table : NULL,
                      .buckets = 32,
                      .max_distance = 128,
                      .bidirectional = !k->causal};
}

typedef struct trial {
    int64_t D, I;
    float *x, *w, *b, *bias[4], *table, *rows[4], *n, *want, *y;
    pac_packed *p[4];
} trial;

static trial trial_new(const pac_backend *be, const heads *k, int64_t D)
{
    int64_t I = k->H * k->K;
    trial t = {.D = D,
               .I = I,
               .x = fill(N * D, 1, 1),
               .w = fill(D, 2, 1),
               .b = fill(D, 3, 1),
               .table = fill(32 * k->H, 4, 1),
               .n = fill(N * D, 5, 1),
               .want = fill(N * D, 6, 1),
               .y = fill(N * D, 6, 1)};
    for (int i = 0; i < 4; i++) {
        t.p[i] = i < 3 ? matrix(be, I, D, 7 + (uint64_t)i) : matrix(be, D, I, 7 + (uint64_t)i);
        t.bias[i] = fill(i < 3 ? I : D, 11 + (uint64_t)i, 1);
        t.rows[i] = fill(N * I, 15, 1);
    }
    return t;
}

static void trial_free(trial *t)
{
    for (int i = 0; i < 4; i++) {
        pac_packed_free(&t->p[i]);
        free(t->bias[i]), free(t->rows[i]);
    }
    free(t->x), free(t->w), free(t->b), free(t->table), free(t->n), free(t->want), free(t->y);
}

/* One op after the other. */
static void expected(const pac_backend *be, trial *t, const pac_packed_edge *edge, const pac_attn *p)
{
    const int64_t D = t->D, I = t->I;
    memcpy(t->n, t->x, (size_t)(N * D) * sizeof *t->n);
    if (!edge->post)
        norm(be, t->n, t->x, edge, N, D);
    for (int i = 0; i < 3; i++) {
        pac_packed_fwd(be, t->rows[i], t->n, t->p[i], t->bias[i], N, 1.0f);
        round_rows(t->rows[i], N * I);
    }
    pac_backend_all()[0]->attn_fwd(t->rows[3], I, NULL, t->rows[0], I, t->rows[1], I, t->rows[2], I, p);
    pac_packed_fwd(be, t->want, t->rows[3], t->p[3], t->bias[3], N, 1.0f);
    leave(be, t->want, t->x, t->want, edge, N, D);
}

static void compare(const trial *t)
{
    double apart = 0, size = 0;
    for (int64_t i = FROM * t->D; i < N * t->D; i++) {
        apart += pow((double)t->y[i] - (double)t->want[i], 2);
        size += pow(t->want[i], 2);
        assert_true(fabs((double)t->y[i] - (double)t->want[i]) < 0.03);
    }
    assert_true(apart < pow(0.003, 2) * size);
}

static void attend(const pac_backend *be, const heads *k, int64_t D)
{
    trial t = trial_new(be, k, D);
    const pac_packed_edge edge = {.w = t.w, .b = t.b, .eps = 1e-5f, .layer = k->layer, .post = k->post};
    const pac_packed_attn w = {t.p[0], t.p[1], t.p[2], t.p[3], t.bias[0], t.bias[1], t.bias[2], t.bias[3]};
    const pac_attn p = attention_of(k, t.table);
    expected(be, &t, &edge, &p);
    bool done = pac_packed_attend(be, t.y, t.x, &w, &edge, &p);
    assert_int_equal(done, native(be) && k->K % 32 == 0);
    float *whole = malloc((size_t)(N * D) * sizeof *whole);
    memcpy(whole, t.y, (size_t)(N * D) * sizeof *whole);
    if (done)
        compare(&t);
    for (int64_t b = 0; b < B && done; b++) { /* sequence by sequence, in place: the same bits */
        pac_attn one = p;
        one.toff = one.soff = offsets + b;
        one.B = 1;
        assert_true(pac_packed_attend(be, t.x, t.x, &w, &edge, &one));
    }
    if (done)
        assert_memory_equal(t.x + FROM * D, whole + FROM * D, (size_t)((N - FROM) * D) * sizeof *whole);
    free(whole);
    trial_free(&t);
}

static void test_attend(void **state)
{
    static const heads kinds[] = {{3, 64, false, true, false, false},
                                  {2, 32, true, true, true, false},
                                  {2, 96, true, false, true, true},
                                  {1, 32, false, false, false, false},
                                  {3, 24, false, false, false, false}};
    (void)state;
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
            attend(*be, &kinds[i], i % 2 == 0 ? 70 : 200);
    pac_backend_release();
    assert_int_equal(pac_mem_current(PAC_MEM_WORK), 0);
}

/* By several threads: few rows are shared by columns and heads, many by rows. */
static void test_threads(void **state)
{
    pac_pool_set_threads(3);
    test_attend(state);
    pac_pool_ignore_grain();
    test_feed(state);
    test_attend(state);
    pac_pool_set_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_feed), cmocka_unit_test(test_attend),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
