/*
 * The runtime's searches for a plan that fits by its dry run: the candidate that is called the best is the plan, and searches
 * are counted, so that "nothing fits" is said in time.
 */
#include "hostile_file.h"
#include "pac/cluster.h"
#include "pac/estimate.h"

#include "../../src/runtime/plan_search.h"
#include "../../src/runtime/planning.h"

#include <math.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

static pac_job *open_job(void)
{
    static pac_config c; /* large */
    const char *sets[] = {"model.path=shape:t5-small", "technique.name=lora", "task={name: tokens, train: none/}",
                          "task.max_source=64",        "task.max_target=4",   "train.batch=8"};
    pac_job *job = NULL;
    OK(pac_config_read(NULL, sets, sizeof sets / sizeof sets[0], &c));
    OK(pac_estimate_open(&c, &job));
    return job;
}

/* Three devices, of which the last has less memory. */
static void three_devices(pac_job *job, double mib, pac_profile *p)
{
    char text[512];
    snprintf(text, sizeof text,
             "devices:\n  - {name: a, count: 2, flops: 1e10, memory_bandwidth: 1e10, memory: %.0f}\n  - {name: b, flops: 3e10, "
             "memory_bandwidth: 3e10, memory: %.0f}\n"
             "network: {topology: switch, bandwidth: 1 Gbit/s, latency: 100 us}\n",
             mib * 1048576, 0.9 * mib * 1048576);
    put(text, strlen(text));
    OK(pac_job_cluster_profile(job, path, p));
}

static double tightest(const pac_profile *p, const pac_plan *plan)
{
    double bytes[PAC_MAX_DEVICES], over = -INFINITY, most = 0;
    plan_bytes_by_device(plan, bytes);
    for (int64_t d = 0; d < p->devices; d++)
        if (bytes[d] > 0 && bytes[d] - p->device[d].memory > over) {
            over = bytes[d] - p->device[d].memory;
            most = bytes[d];
        }
    return most;
}

static void check_best(const pac_profile *p, const pac_plan_answer *a)
{
    const pac_candidate *c = &a->candidate[0];
    char shape[64];
    pac_plan_shape(&a->plan, shape, sizeof shape);
    assert_true(c->best);
    assert_string_equal(c->why, "best");
    assert_string_equal(c->shape, shape);
    assert_int_equal(c->microbatches, a->plan.microbatches);
    assert_true(isfinite(c->total_s) && isfinite(c->bottleneck_s) && c->bottleneck_s > 0);
    assert_true(c->most_bytes == tightest(p, &a->plan));
    for (int64_t i = 1; i < a->candidates; i++)
        assert_true(!a->candidate[i].best && strcmp(a->candidate[i].why, "best") != 0);
}

/* At every budget, also where a plan fits by its dry run only. */
static void the_best_candidate_is_the_plan(void **state)
{
    int found = 0;
    (void)state;
    pac_job *job = open_job();
    for (double mib = 140; mib < 260; mib += 2.5) {
        pac_profile p;
        pac_plan_answer a;
        three_devices(job, mib, &p);
        pac_plan_request q = plan_request(job, &p);
        if (plan_search(job, &p, &q, &a) == PAC_OK) {
            check_best(&p, &a);
            pac_plan_answer_free(&a);
            found++;
        }
        pac_profile_free(&p);
    }
    assert_true(found >= 20 && found < 48);
    pac_job_close(&job);
}

static void searches_are_counted(void **state)
{
    pac_profile p;
    pac_plan_answer a;
    double budget[PAC_MAX_DEVICES], lacks;
    (void)state;
    pac_job *job = open_job();
    three_devices(job, 20, &p);
    pac_plan_request q = plan_request(job, &p);
    for (int64_t d = 0; d < p.devices; d++)
        budget[d] = p.device[d].memory;
    int64_t one = 1, many = 100;
    OK(plan_fit(job, &p, budget, &q, &one, &a, &lacks));
    assert_true(one == 0 && lacks > 0);
    pac_plan_answer_free(&a);
    OK(plan_fit(job, &p, budget, &q, &many, &a, &lacks));
    assert_true(many < 99 && many >= 88 && lacks > 0);
    assert_int_equal(plan_misfit(job, &p, &q, 1, &a), PAC_ENOMEM);
    assert_non_null(strstr(pac_err_message(), "the search was ended"));
    OK(plan_fit(job, &p, budget, &q, &many, &a, &lacks));
    assert_int_equal(plan_misfit(job, &p, &q, 200, &a), PAC_ENOMEM);
    assert_null(strstr(pac_err_message(), "the search was ended"));
    assert_non_null(strstr(pac_err_message(), "makes one fit"));
    pac_profile_free(&p);
    pac_job_close(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_candidate_is_the_plan),
        cmocka_unit_test(searches_are_counted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
