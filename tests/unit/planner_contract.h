/* What both planners owe their callers: they refuse requests that make no sense, and failed allocations leave nothing behind.
 */
#ifndef PAC_TEST_PLANNER_CONTRACT_H
#define PAC_TEST_PLANNER_CONTRACT_H

#include "tiny_profile.h"
#include "pac/mem.h"

typedef pac_err planner_fn(const pac_plan_request *q, pac_plan_answer *out);

static inline void check_refused(planner_fn *planner, const fixture *x, pac_plan_request q)
{
    pac_plan_answer a = {0};
    q.profile = &x->p;
    assert_int_equal(planner(&q, &a), PAC_EINVAL);
    assert_null(a.candidate);
}

static inline void check_requests_are_checked(planner_fn *planner, const fixture *x)
{
    static const pac_plan_request bad[] = {
        {.batch = 0, .rows = 1, .epochs = 1},
        {.batch = 1, .rows = 0, .epochs = 1},
        {.batch = 1, .rows = 1, .epochs = 0},
        {.batch = 4, .rows = 1, .epochs = 1, .microbatches = 5},
        {.batch = 4, .rows = 1, .epochs = 1, .microbatches = -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_refused(planner, x, bad[i]);
}

static inline void check_failed_allocations(planner_fn *planner, const pac_plan_request *q)
{
    int64_t blocks = pac_mem_blocks(), k = 0;
    pac_err err = PAC_ENOMEM;
    while (err == PAC_ENOMEM) {
        pac_plan_answer a = {0};
        pac_mem_fail_at(++k);
        err = planner(q, &a);
        pac_plan_answer_free(&a);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    pac_mem_fail_at(0);
    assert_int_equal(err, PAC_OK);
    assert_true(k > 10);
}

#endif
