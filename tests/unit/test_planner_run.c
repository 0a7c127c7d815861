/* What a run asks of planner and cost model: device 0 stays in, embeddings that several stages hold are paid for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tiny_profile.h"

static bool uses(const pac_plan *p, int64_t device)
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(p, ranks);
    for (int64_t i = 0; i < n; i++)
        if (ranks[i] == device)
            return true;
    return false;
}

/* Device 0 slows down whoever works with it. */
static void lame(fixture *x, int64_t layers, int64_t devices)
{
    plain(x, layers, 0, devices);
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        x->device[0].cost[k] = curve(k, 1, 1);
}

static pac_plan_answer best(const fixture *x, bool keep_first)
{
    pac_plan_request q = request(x, 8, 0);
    pac_plan_answer a = {0};
    q.keep_first = keep_first;
    if (pac_plan_best(&q, &a) != PAC_OK)
        fail_msg("%s", pac_err_message());
    return a;
}

/* Exact search and local search alike. */
static void test_the_first_device_stays(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{4, 1}, {4, 2}, {4, 3}, {12, 8}}; /* layers, devices */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fixture x;
        lame(&x, sizes[i][0], sizes[i][1]);
        pac_plan_answer free_choice = best(&x, false), kept = best(&x, true);
        assert_true(uses(&free_choice.plan, 0) == (sizes[i][1] == 1));
        assert_true(uses(&kept.plan, 0));
        assert_true(kept.plan.predicted.total_s >= free_choice.plan.predicted.total_s);
        for (int64_t c = 0; c < kept.candidates; c++)
            assert_true(strchr(kept.candidate[c].devices, '0') != NULL);
        pac_plan_answer_free(&free_choice);
        pac_plan_answer_free(&kept);
    }
}

/* A cluster for which the paper's programme would run for hours. */
static void test_the_papers_programme_has_an_end(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 24, 24, 8);
    pac_plan_answer a = {0};
    pac_plan_request q = request(&x, 1 << 24, 0);
    assert_int_equal(pac_plan_paper(&q, &a), PAC_EINVAL);
    assert_non_null(strstr(pac_err_message(), "planner: pac"));
    assert_null(a.candidate);
}

static double step(const fixture *x, const int64_t *groups, int64_t stages)
{
    pac_plan_request q = request(x, 8, 2);
    pac_plan plan;
    assert_int_equal(pac_plan_even(groups, stages, 4, 2, &plan), PAC_OK);
    assert_int_equal(pac_plan_predict(&x->p, &q, &plan), PAC_OK);
    double s = plan.predicted.hybrid_step_s;
    pac_plan_free(&plan);
    return s;
}

/* As the runtime sums them: in each group, then over all devices whose stage holds them. */
static void test_tied_embeddings_are_summed_over_stages(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 2, 3);
    double apart = step(&x, (int64_t[]){1, 1, 1}, 3), together = step(&x, (int64_t[]){3}, 1);
    x.layer[0].shared_tuned = x.layer[3].shared_tuned = 9e3; /* in the first and the last stage */
    double pair = 2 * (1e-4 + 9e3 / 2 / 1e8);
    assert_true(fabs(step(&x, (int64_t[]){1, 1, 1}, 3) - apart - pair) < 1e-12);
    assert_true(step(&x, (int64_t[]){3}, 1) < together); /* held once, so less is summed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_device_stays),
        cmocka_unit_test(test_the_papers_programme_has_an_end),
        cmocka_unit_test(test_tied_embeddings_are_summed_over_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
