/* One optimizer step of a run: the global norm, clipping by it as torch.nn.utils.clip_grad_norm_ does, the learning rate. */
#include "../../src/runtime/train.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { N = 7 };

static const float gradient[N] = {3, -4, 0.5f, 12, 0, -1, 2};

/* Steps a parameter list of N zeros once by SGD with lr 0.1; returns the norm that was reported. */
static double step(double clip, float w[N])
{
    const pac_optimizer_opts sgd = {.kind = PAC_SGD};
    pac_job job = {.cfg = {.train = {.clip = clip, .lr = 0.1}}};
    train t = {.job = &job, .total_steps = 10};
    float g[N];
    pac_param one = {.name = "w", .ndim = 1, .shape = {N}, .n = N, .w = w, .g = g};
    pac_params p = {.count = 1, .total = N, .v = &one, .w = w, .g = g};
    reducer r;
    double loss = 0;
    step_sums sums;
    assert_int_equal(pac_backend_find("ref", &job.be), PAC_OK);
    assert_int_equal(pac_optimizer_new(&sgd, NULL, N, &t.opt), PAC_OK);
    reducer_for_world(&job, &r);
    memset(w, 0, N * sizeof *w);
    memcpy(g, gradient, sizeof g);
    assert_int_equal(reduce_gradients(&r, &p, 1.25, &sums), PAC_OK);
    assert_int_equal(train_update(&t, &r, &p, 1.25, 3, "hybrid", 1, 0, &loss), PAC_OK);
    assert_true(loss == 1.25);
    assert_int_equal(t.step, 1);
    for (int i = 0; i < N; i++)
        assert_true(g[i] == 0);
    pac_optimizer_free(&t.opt);
    reducer_free(&r);
    return sums.norm;
}

static double norm_of_gradient(void)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += (double)gradient[i] * (double)gradient[i];
    return sqrt(sum);
}

static void check_moves(const float w[N], double scale)
{
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)w[i] + 0.1 * scale * (double)gradient[i]) < 1e-6);
}

static void test_a_long_gradient_is_clipped(void **state)
{
    (void)state;
    float w[N];
    double norm = step(1.5, w);
    assert_true(fabs(norm - norm_of_gradient()) < 1e-9);
    check_moves(w, 1.5 / (norm + 1e-6));
}

static void test_a_short_one_is_not(void **state)
{
    (void)state;
    float w[N];
    step(100, w);
    check_moves(w, 1);
}

static void test_zero_switches_it_off(void **state)
{
    (void)state;
    float w[N];
    step(0, w);
    check_moves(w, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_gradient_is_clipped),
        cmocka_unit_test(test_a_short_one_is_not),
        cmocka_unit_test(test_zero_switches_it_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
