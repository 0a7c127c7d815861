/*
 * Estimates against what is published: parameters to the unit, Fig. 3's FLOP within 0.5 %, Table 1's weights and gradients
 * after rounding to two decimals, activations below the paper's. And that a dry run takes no memory and returns all it took.
 */
#include "pac/estimate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

enum { MOST_SETS = 12 };

/* The paper's conditions, a model shape and up to four more overrides. */
static pac_job *open_shape(const char *shape, const char *const more[4])
{
    static pac_config c; /* large */
    char path[64];
    const char *sets[MOST_SETS] = {path,
                                   "task={name: tokens, train: none/}",
                                   "task.max_source=128",
                                   "task.max_target=1",
                                   "train.batch=16",
                                   "train.optimizer=sgd"};
    int64_t n = 6;
    pac_job *job = NULL;
    snprintf(path, sizeof path, "model.path=shape:%s", shape);
    for (int i = 0; i < 4 && more[i] != NULL; i++)
        sets[n++] = more[i];
    OK(pac_config_read(NULL, sets, n, &c));
    OK(pac_estimate_open(&c, &job));
    return job;
}

static void estimate(const char *shape, const char *const more[4], bool inference, pac_estimate *e)
{
    int64_t blocks = pac_mem_blocks();
    pac_job *job = open_shape(shape, more);
    OK(pac_estimate_run(job, NULL, inference, e));
    pac_job_close(&job);
    assert_int_equal(pac_mem_blocks(), blocks);
}

/* ---- parameters ---- */

static void parameters_are_those_published(void **state)
{
    static const struct {
        const char *shape, *set[4];
        int64_t backbone, tuned, head;
    } rows[] = {
        {"t5-small", {"technique={gate: none}"}, 60506624, 1183616, 0},
        {"t5-base", {"technique={gate: none}"}, 222903552, 5097216, 0},
        {"t5-base", {"technique.gate=learned"}, 222903552, 5097240, 0},
        {"t5-base", {"technique={gate: none, merge: add}"}, 222903552, 5097216, 0},
        {"t5-base", {"technique={gate: none, merge: gated}"}, 222903552, 5097216 + 768, 0},
        {"bart-large", {"technique={gate: none}"}, 406291456, 9097472, 0},
        {"t5-large", {"technique={gate: none}"}, 737668096, 17718784, 0},
        {"t5-large", {"technique.name=adapters"}, 737668096, 12687360, 0},
        {"t5-large", {"technique.name=lora"}, 737668096, 9437184, 0},
        {"t5-large", {"technique.name=full"}, 737668096, 737668096, 0},
        {"bart-large", {"technique.name=full"}, 406291456, 406291456, 0},
        /* two classes: dense 1024 x 1024 and projection 1024 x 2, with biases */
        {"bart-large", {"technique.name=lora", "task.name=mrpc", "head=classification"}, 406291456, 4718592, 1051650},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        pac_estimate e;
        estimate(rows[i].shape, rows[i].set, false, &e);
        assert_int_equal(e.backbone, rows[i].backbone);
        assert_int_equal(e.tuned, rows[i].tuned);
        assert_int_equal(e.head, rows[i].head);
        pac_estimate_free(&e);
    }
}

/* ---- Fig. 3 ---- */

static void assert_near(double ours, double paper, double tolerance)
{
    if (fabs(ours / paper - 1) > tolerance)
        fail_msg("%.4f is not within %.1f %% of %.4f", ours, 100 * tolerance, paper);
}

static void flop_is_that_of_figure_3(void **state)
{
    static const struct {
        const char *shape;
        double exact, forward, backward; /* method.md section 7; Fig. 3 */
    } rows[] = {{"t5-base", 0.4188, 0.419, 0.837}, {"bart-large", 0.7402, 0.741, 1.481}, {"t5-large", 1.4804, 1.480, 2.960}};
    static const char *const full[4] = {"technique.name=full"}, *const none[4] = {NULL};
    (void)state;
    for (int i = 0; i < 3; i++) {
        pac_estimate e, f;
        estimate(rows[i].shape, full, false, &e);
        estimate(rows[i].shape, none, true, &f);
        const pac_flop *x = &e.one.flop;
        assert_near(x->forward / 1e12, rows[i].forward, 0.005);
        assert_near(x->backward / 1e12, rows[i].backward, 0.005);
        assert_near((x->forward - x->head_forward) / 1e12, rows[i].exact, 0.0002);
        assert_true(f.one.flop.forward == x->forward && f.one.flop.backward == 0);
        assert_true(x->head_backward == 2 * x->head_forward);
        pac_estimate_free(&e);
        pac_estimate_free(&f);
    }
}

/* Frozen weights cost no weight gradients, recomputation one more forward, the cached phase no backbone. */
static void flop_follows_the_technique(void **state)
{
    static const char *const lora[4] = {"technique.name=lora"},
                             *const again[4] = {"technique.name=lora", "train.recompute=true"}, *const side[4] = {NULL};
    pac_estimate a, b, c;
    (void)state;
    estimate("t5-base", lora, false, &a);
    estimate("t5-base", again, false, &b);
    estimate("t5-base", side, false, &c);
    assert_true(a.one.flop.backward < 1.1 * a.one.flop.forward);
    assert_near(b.one.flop.backward, a.one.flop.backward + a.one.flop.forward - a.one.flop.head_forward, 1e-9);
    assert_true(b.one.step.tag[PAC_MEM_ACTIVATIONS] < a.one.step.tag[PAC_MEM_ACTIVATIONS] / 4);
    assert_true(c.caches && c.cached_flop.forward < 0.05 * c.one.flop.forward);
    assert_true(c.cached_flop.backward == c.one.flop.backward);
    assert_true(c.cached.total < c.one.step.total / 4);
    assert_int_equal(c.cache_sample, 4 * 768 * 13 * 129);
    pac_estimate_free(&a);
    pac_estimate_free(&b);
    pac_estimate_free(&c);
}

/* ---- Table 1 ---- */

static double gib(int64_t bytes)
{
    return round((double)bytes / 1073741824 * 100) / 100;
}

static void bytes_are_those_of_table_1(void **state)
{
    static const struct {
        const char *set[4];
        bool inference;
        double weights, activations, gradients;
    } rows[] = {
        {{"technique.name=full"}, false, 2.75, 5.33, 2.75},
        {{"technique.name=adapters"}, false, 2.80, 4.04, 0.05},
        {{"technique.name=lora"}, false, 2.78, 4.31, 0.04},
        {{NULL}, true, 2.75, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        pac_estimate e;
        estimate("t5-large", rows[i].set, rows[i].inference, &e);
        const int64_t *tag = e.one.step.tag;
        assert_true(gib(tag[PAC_MEM_WEIGHTS] + tag[PAC_MEM_TUNED]) == rows[i].weights);
        assert_true(gib(tag[PAC_MEM_GRADIENTS]) == rows[i].gradients);
        if (rows[i].activations > 0)
            assert_true(gib(tag[PAC_MEM_ACTIVATIONS]) < rows[i].activations);
        assert_int_equal(tag[PAC_MEM_OPTIMIZER], 0);
        assert_true(e.one.step.total >=
                    tag[PAC_MEM_WEIGHTS] + tag[PAC_MEM_TUNED] + tag[PAC_MEM_GRADIENTS] + tag[PAC_MEM_ACTIVATIONS]);
        pac_estimate_free(&e);
    }
}

static void adamw_keeps_two_moments(void **state)
{
    static const char *const set[4] = {"technique.name=lora", "train.optimizer=adamw"};
    pac_estimate e;
    (void)state;
    estimate("t5-base", set, false, &e);
    assert_int_equal(e.one.step.tag[PAC_MEM_OPTIMIZER], 2 * e.one.step.tag[PAC_MEM_GRADIENTS]);
    pac_estimate_free(&e);
}

/* ---- devices of a plan ---- */

static void devices_share_the_model(void **state)
{
    static const char *const set[4] = {"technique.name=full", "system.name=ecofl", "train.microbatches=4"};
    pac_job *job = open_shape("t5-base", set);
    pac_plan plan;
    pac_estimate e;
    int64_t tuned = 0, table = 4 * 32128 * 768;
    double forward = 0;
    (void)state;
    OK(pac_estimate_plan(job, 4, &plan));
    OK(pac_estimate_run(job, &plan, false, &e));
    assert_int_equal(e.devices, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(e.device[i].first, 6 * i);
        tuned += e.device[i].step.tag[PAC_MEM_TUNED];
        forward += e.device[i].flop.forward;
        assert_true(e.device[i].step.total < e.one.step.total / 2);
    }
    /* three stages hold the tied table; relative-position tables of a stack lie in two stages each */
    assert_int_equal(tuned, e.one.step.tag[PAC_MEM_TUNED] + 2 * table + 2 * 4 * 32 * 12);
    assert_near(forward, e.one.flop.forward, 1e-9);
    /* 1F1B: the first stage of four keeps four micro-batches of four samples, the last one */
    assert_true(e.device[0].step.tag[PAC_MEM_ACTIVATIONS] > 3 * e.device[1].step.tag[PAC_MEM_ACTIVATIONS] / 4);
    assert_true(e.device[1].step.tag[PAC_MEM_ACTIVATIONS] > 10 * e.device[3].step.tag[PAC_MEM_ACTIVATIONS]);
    pac_estimate_free(&e);
    pac_plan_free(&plan);
    pac_job_close(&job);
}

/* Who is left out is not listed, the others keep their numbers and share the cached phase. */
static void a_device_left_out_takes_nothing(void **state)
{
    static const char *const set[4] = {"technique.name=parallel", "train.microbatches=2", "train.epochs=2"};
    pac_job *job = open_shape("t5-small", set);
    pac_plan two, all;
    pac_estimate e, f;
    (void)state;
    OK(pac_plan_even((int64_t[]){1, 1}, 2, 12, 2, &two));
    OK(pac_plan_even((int64_t[]){1, 1}, 2, 12, 2, &all));
    all.world = 4;
    all.left_out = 2;
    all.stage[0].rank[0] = 2;
    OK(pac_estimate_run(job, &two, false, &e));
    OK(pac_estimate_run(job, &all, false, &f));
    assert_int_equal(f.devices, 2);
    assert_true(e.caches && f.cached.total > 0);
    assert_true(labs(f.cached.total - e.cached.total) < 4096); /* the first result is still there */
    for (int i = 0; i < 2; i++) { /* in the order of ranks: the second stage has rank 1, the first rank 2 */
        assert_int_equal(f.device[i].rank, i + 1);
        assert_int_equal(f.device[i].stage, 1 - i);
        assert_true(labs(f.device[i].step.total - e.device[1 - i].step.total) < 4096);
    }
    pac_estimate_free(&e);
    pac_estimate_free(&f);
    pac_plan_free(&two);
    pac_plan_free(&all);
    pac_job_close(&job);
}

static void a_plan_that_cannot_be_is_refused(void **state)
{
    static const char *const alone[4] = {"system.name=standalone"}, *const many[4] = {"system.name=ecofl"};
    pac_plan plan;
    (void)state;
    pac_job *job = open_shape("t5-small", alone);
    assert_int_equal(pac_estimate_plan(job, 2, &plan), PAC_ECONFIG);
    pac_job_close(&job);
    job = open_shape("t5-small", many);
    assert_int_equal(pac_estimate_plan(job, 13, &plan), PAC_ECONFIG);
    assert_int_equal(pac_estimate_plan(job, 0, &plan), PAC_EUSAGE);
    pac_job_close(&job);
}

/* ---- dry memory ---- */

static void a_dry_run_takes_no_memory(void **state)
{
    static const char *const full[4] = {"technique.name=full"};
    pac_process_memory before, after;
    pac_estimate e;
    (void)state;
    pac_process_reset_peak();
    pac_process_memory_read(&before);
    estimate("t5-large", full, false, &e);
    pac_process_memory_read(&after);
    assert_true(e.one.step.total > 7LL << 30);
    assert_true(after.peak_rss < before.rss + (64LL << 20));
    pac_estimate_free(&e);
}

static void dry_blocks_read_as_zeros_and_outlive_the_mode(void **state)
{
    void *small, *large;
    int64_t before = pac_mem_current(PAC_MEM_WORK);
    (void)state;
    pac_mem_dry(true);
    OK(pac_mem_alloc(PAC_MEM_WORK, 100, &small));
    OK(pac_mem_alloc(PAC_MEM_WORK, 1ULL << 40, &large));
    pac_mem_dry(false);
    assert_int_equal(pac_mem_current(PAC_MEM_WORK) - before, 100 + (1LL << 40));
    assert_int_equal((uintptr_t)large % 64, 0);
    assert_int_equal(((char *)large)[(1ULL << 40) - 1], 0);
    ((char *)large)[1 << 20] = 3;
    assert_int_equal(((char *)large)[1 << 20], 3);
    pac_mem_free(large);
    pac_mem_free(small);
    assert_int_equal(pac_mem_current(PAC_MEM_WORK), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_those_published),
        cmocka_unit_test(flop_is_that_of_figure_3),
        cmocka_unit_test(flop_follows_the_technique),
        cmocka_unit_test(bytes_are_those_of_table_1),
        cmocka_unit_test(adamw_keeps_two_moments),
        cmocka_unit_test(devices_share_the_model),
        cmocka_unit_test(a_device_left_out_takes_nothing),
        cmocka_unit_test(a_plan_that_cannot_be_is_refused),
        cmocka_unit_test(a_dry_run_takes_no_memory),
        cmocka_unit_test(dry_blocks_read_as_zeros_and_outlive_the_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
