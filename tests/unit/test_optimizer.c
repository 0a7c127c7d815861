/* Optimizers: one and two steps by hand, many against the formulas, scaling, zeroing; learning-rate schedules against Hugging
 * Face's formula. */
#include "pac/mem.h"
#include "pac/tune.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { N = 3 };

typedef struct vectors {
    float w[N], g[N];
    pac_params p;
} vectors;

static void set(vectors *v, float w, float g)
{
    for (int i = 0; i < N; i++) {
        v->w[i] = w;
        v->g[i] = g * (float)(i + 1);
    }
    v->p = (pac_params){.total = N, .w = v->w, .g = v->g};
}

static void check_backend(const pac_backend *be)
{
    vectors v;
    pac_optimizer *o = NULL;
    pac_optimizer_opts sgd = {.kind = PAC_SGD}, adamw = {.kind = PAC_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    set(&v, 2, 0.5f);
    assert_int_equal(pac_optimizer_new(&sgd, NULL, N, &o), PAC_OK);
    assert_int_equal(pac_mem_current(PAC_MEM_OPTIMIZER), 0);
    pac_optimizer_step(o, be, &v.p, 0.1f, 0.5f); /* w - lr * scale * g */
    for (int i = 0; i < N; i++)
        assert_true(fabsf(v.w[i] - (2 - 0.1f * 0.25f * (float)(i + 1))) < 1e-6f && v.g[i] == 0);
    pac_optimizer_free(&o);
    assert_null(o);

    set(&v, 2, 0.5f);
    adamw.weight_decay = 0.1f;
    assert_int_equal(pac_optimizer_new(&adamw, NULL, N, &o), PAC_OK);
    assert_int_equal(pac_mem_current(PAC_MEM_OPTIMIZER) >= (int64_t)(2 * N * sizeof(float)), 1);
    pac_optimizer_step(o, be, &v.p, 0.01f, 1.0f); /* the first step is lr * sign(g), after the decay */
    for (int i = 0; i < N; i++)
        assert_true(fabsf(v.w[i] - (2 * (1 - 0.001f) - 0.01f)) < 1e-6f && v.g[i] == 0);
    float before = v.w[0];
    v.g[0] = -0.5f; /* m = 0.9 * 0.05 - 0.05, v = (0.999 + 1) * 0.00025 */
    pac_optimizer_step(o, be, &v.p, 0.01f, 1.0f);
    double m = (0.9 * 0.05 - 0.05) / (1 - 0.81), s = sqrt((0.999 * 0.00025 + 0.00025) / (1 - 0.998001));
    assert_true(fabs((double)v.w[0] - (before * (1 - 0.001) - 0.01 * m / s)) < 1e-6);
    assert_int_equal(o->step, 2);
    pac_optimizer_free(&o);
    assert_int_equal(pac_mem_current(PAC_MEM_OPTIMIZER), 0);
}

static void test_steps_by_hand(void **state)
{
    (void)state;
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        check_backend(*be);
}

/* Every parameter takes its own way over many steps, with decay, against the formulas in double, written as in the papers. */
enum { STEPS = 25, MANY = 37 };

static double gradient_at(int step, int i, double w)
{
    return sin(step * 1.7 + i) * (1 + i % 5) + 0.3 * w;
}

typedef struct parameter {
    double w, m, v;
} parameter;

static void step_by_formula(const pac_optimizer_opts *o, parameter *x, double g, double lr, int t)
{
    if (o->kind == PAC_SGD) {
        x->w -= lr * (g + o->weight_decay * x->w);
        return;
    }
    double b1 = o->beta1, b2 = o->beta2;
    x->m = b1 * x->m + (1 - b1) * g;
    x->v = b2 * x->v + (1 - b2) * g * g;
    double mhat = x->m / (1 - pow(b1, t)), vhat = x->v / (1 - pow(b2, t));
    x->w -= lr * o->weight_decay * x->w;
    x->w -= lr * mhat / (sqrt(vhat) + o->eps);
}

static void check_formula(const pac_backend *be, const pac_optimizer_opts *opts)
{
    const float scale = 0.25f;
    float w[MANY], g[MANY] = {0};
    parameter want[MANY] = {0};
    pac_params p = {.total = MANY, .w = w, .g = g};
    pac_optimizer *o = NULL;
    assert_int_equal(pac_optimizer_new(opts, NULL, MANY, &o), PAC_OK);
    for (int i = 0; i < MANY; i++)
        want[i].w = w[i] = (float)cos(3 * i);
    for (int t = 1; t <= STEPS; t++) {
        float lr = 0.05f / (float)t;
        for (int i = 0; i < MANY; i++) {
            assert_true(g[i] == 0);
            g[i] = (float)gradient_at(t, i, want[i].w);
            step_by_formula(opts, &want[i], scale * (double)g[i], lr, t);
        }
        pac_optimizer_step(o, be, &p, lr, scale);
    }
    for (int i = 0; i < MANY; i++)
        assert_true(fabs(w[i] - want[i].w) <= 1e-5 * (1 + fabs(want[i].w)));
    pac_optimizer_free(&o);
}

static void test_many_steps(void **state)
{
    (void)state;
    static const pac_optimizer_opts all[] = {
        {.kind = PAC_SGD},
        {.kind = PAC_SGD, .weight_decay = 0.2f},
        {.kind = PAC_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f},
        {.kind = PAC_ADAMW, .beta1 = 0.8f, .beta2 = 0.95f, .eps = 0.1f, .weight_decay = 0.2f},
    };
    for (const pac_backend *const *be = pac_backend_all(); *be != NULL; be++)
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            check_formula(*be, &all[i]);
}

static void near(float a, double b)
{
    assert_true(fabs((double)a - b) <= 1e-6);
}

static void test_schedules(void **state)
{
    (void)state;
    near(pac_lr_at(0, 10, 3, 4, true), 0);
    near(pac_lr_at(1, 10, 3, 4, true), 0.75);
    near(pac_lr_at(4, 10, 3, 4, true), 3);
    near(pac_lr_at(7, 10, 3, 4, true), 1.5);
    near(pac_lr_at(9, 10, 3, 4, true), 0.5);
    near(pac_lr_at(10, 10, 3, 4, true), 0);
    near(pac_lr_at(12, 10, 3, 4, true), 0);
    near(pac_lr_at(9, 10, 3, 4, false), 3);
    near(pac_lr_at(2, 10, 3, 4, false), 1.5);
    near(pac_lr_at(0, 10, 3, 0, true), 3);
    near(pac_lr_at(5, 10, 2, 20, true), 0.5); /* more warm-up than steps */
    near(pac_lr_at(0, 0, 2, 0, true), 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    pac_optimizer_opts adamw = {.kind = PAC_ADAMW};
    pac_optimizer *o = NULL;
    int64_t blocks = pac_mem_blocks();
    for (int k = 1; k <= 3; k++) {
        pac_mem_fail_at(k);
        assert_int_equal(pac_optimizer_new(&adamw, NULL, N, &o), PAC_ENOMEM);
        assert_true(o == NULL && pac_mem_blocks() == blocks);
    }
    pac_mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_by_hand), cmocka_unit_test(test_many_steps),
                                       cmocka_unit_test(test_schedules), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
