/*
 * The planner's bytes are sums over layers of a profile; a dry run says what the ledger reaches. Over random plans of every
 * family and technique, without a cache, the sums are near. (What is reported of a plan, and what must fit, is the dry run,
 * where the buffers of the cache's writer count too.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pac/estimate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

enum { MOST_SETS = 16, PLANS = 4, DEVICES = 8 };
static const double least = 0.98, most = 1.04, mean_least = 1.0; /* predicted over dry */

static uint64_t state_of_random = 12345;

/* 0 .. n - 1 */
static int64_t below(int64_t n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state_of_random >> 33) % (uint64_t)n);
}

static pac_job *open_shape(const char *shape, const char *technique, const char *const more[3])
{
    static pac_config c; /* large */
    char path[64], name[64];
    const char *sets[MOST_SETS] = {path,
                                   name,
                                   "task={name: tokens, train: none/}",
                                   "task.max_source=64",
                                   "task.max_target=8",
                                   "train.batch=16",
                                   "train.epochs=1"};
    int64_t n = 7;
    pac_job *job = NULL;
    snprintf(path, sizeof path, "model.path=shape:%s", shape);
    snprintf(name, sizeof name, "technique.name=%s", technique);
    for (int i = 0; i < 3 && more[i] != NULL; i++)
        sets[n++] = more[i];
    OK(pac_config_read(NULL, sets, n, &c));
    OK(pac_estimate_open(&c, &job));
    return job;
}

/* A cluster of equal devices; only the bytes of the profile are looked at. */
static void described(pac_job *job, pac_profile *p)
{
    const char *root = getenv("PAC_SOURCE_ROOT");
    char path[4096];
    if (root == NULL)
        skip();
    snprintf(path, sizeof path, "%s/experiments/clusters/nano8.yaml", root);
    OK(pac_job_cluster_profile(job, path, p));
    assert_int_equal(p->devices, DEVICES);
}

/* Stages of one to three devices, cut anywhere; micro-batches whose larger size is the same everywhere, shares equal. */
static void random_plan(int64_t layers, pac_plan *plan)
{
    int64_t groups[DEVICES], left = DEVICES, stages = 0;
    while (left > 0) {
        groups[stages] = 1 + below(left < 3 ? left : 3);
        left -= groups[stages++];
    }
    stages = stages < layers ? stages : layers;
    int64_t ranks = 0;
    for (int64_t s = 0; s < stages; s++)
        ranks += groups[s];
    groups[stages - 1] += DEVICES - ranks;
    OK(pac_plan_even(groups, stages, layers, (int64_t)1 << below(5), plan));
    for (int64_t s = 0; s + 1 < stages; s++) { /* move each cut */
        int64_t lo = plan->stage[s].first + 1, hi = plan->stage[s + 1].last - 1;
        plan->stage[s].last = plan->stage[s + 1].first = lo + below(hi - lo + 1);
    }
}

typedef struct range {
    double lo, hi, sum;
    int64_t n;
    char at_lo[160], at_hi[160];
} range;

static void compare(const pac_plan *plan, const pac_estimate *e, const char *what, range *r)
{
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++) {
            const pac_stage_plan *st = &plan->stage[s];
            const pac_estimate_device *d = &e->device[st->rank[i]];
            double ratio = st->bytes[i] / (double)d->step.total;
            char text[160];
            snprintf(text, sizeof text, "%s: layers %d-%d, stage %d of %d, M %d, share %.2f: %.2f against %.2f MiB", what,
                     (int)st->first, (int)st->last - 1, (int)s, (int)plan->stages, (int)plan->microbatches, st->share[i],
                     st->bytes[i] / 1048576, (double)d->step.total / 1048576);
            r->sum += ratio;
            r->n++;
            if (ratio < r->lo) {
                r->lo = ratio;
                strcpy(r->at_lo, text);
            }
            if (ratio > r->hi) {
                r->hi = ratio;
                strcpy(r->at_hi, text);
            }
        }
}

typedef struct shape_case {
    const char *shape, *technique, *set[3];
} shape_case;

static const shape_case cases[] = {
    {"t5-small", "parallel", {NULL}},
    {"t5-base", "parallel", {"task.max_target=2"}},
    {"t5-base", "lora", {NULL}},
    {"t5-base", "full", {NULL}},
    {"t5-base", "adapters", {"train.recompute=true"}},
    {"t5-large", "parallel", {"train.epochs=1"}},
    {"t5-large", "lora", {"task.max_source=128", "task.max_target=128"}},
    {"bart-base", "parallel", {NULL}},
    {"bart-large", "lora", {NULL}},
    {"bart-large", "full", {"train.optimizer=sgd"}},
    {"bert-base", "parallel", {"task.name=mrpc", "head=classification"}},
    {"bert-base", "lora", {"task.name=mrpc", "head=classification"}},
    {"bert-large", "full", {"task.name=mrpc", "head=classification"}},
    {"bert-base", "adapters", {"task.name=mrpc", "head=classification"}},
};

/* Sums count the two largest blocks and a table's pages on every device: never too little. */
static const shape_case streamed[] = {
    {"t5-base", "parallel", {"model.stream=true"}},
    {"bert-base", "parallel", {"model.stream=true", "task.name=mrpc", "head=classification"}}};

static range over_plans(const shape_case *list, size_t n)
{
    range all = {.lo = INFINITY, .hi = 0};
    for (size_t k = 0; k < n; k++) {
        pac_job *job = open_shape(list[k].shape, list[k].technique, list[k].set);
        pac_profile p;
        range r = {.lo = INFINITY, .hi = 0};
        char what[64];
        snprintf(what, sizeof what, "%s, %s", list[k].shape, list[k].technique);
        described(job, &p);
        for (int i = 0; i < PLANS; i++) {
            pac_plan plan;
            pac_estimate e;
            pac_plan_request q = {.profile = &p, .batch = 16, .rows = 32, .epochs = 1};
            random_plan(p.layers_enc + p.layers_dec, &plan);
            OK(pac_plan_predict(&p, &q, &plan));
            OK(pac_estimate_run(job, &plan, false, &e));
            compare(&plan, &e, what, &r);
            pac_estimate_free(&e);
            pac_plan_free(&plan);
        }
        printf("%-24s predicted / dry bytes: %.4f to %.4f, mean %.4f\n    %s\n    %s\n", what, r.lo, r.hi, r.sum / (double)r.n,
               r.at_lo, r.at_hi);
        all.sum += r.sum;
        all.n += r.n;
        all.lo = fmin(all.lo, r.lo);
        all.hi = fmax(all.hi, r.hi);
        pac_profile_free(&p);
        pac_job_close(&job);
    }
    printf("all: %.4f to %.4f, mean %.4f\n", all.lo, all.hi, all.sum / (double)all.n);
    return all;
}

static void sums_are_near_the_ledger(void **state)
{
    (void)state;
    range all = over_plans(cases, sizeof cases / sizeof cases[0]);
    assert_true(all.lo >= least);
    assert_true(all.hi <= most);
    assert_true(all.sum / (double)all.n >= mean_least);
}

static void sums_cover_streamed_layers(void **state)
{
    (void)state;
    range all = over_plans(streamed, sizeof streamed / sizeof streamed[0]);
    assert_true(all.lo >= least);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_are_near_the_ledger),
                                       cmocka_unit_test(sums_cover_streamed_layers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
