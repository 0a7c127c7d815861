/* Systems are conditions on the plan: one stage (EDDL), one rank a stage (Eco-FL), in the planner. */
#include "pac/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { L = 6, D = 3 };

typedef struct fixture {
    pac_profile p;
    pac_layer_bytes layer[L];
    double fwd[L + 1], bwd[L + 1], bandwidth[D * D], latency[D * D];
    pac_device device[D];
} fixture;

static void setup(fixture *x, double memory)
{
    *x = (fixture){.p = {.layers_enc = 4, .layers_dec = 2, .devices = D, .optimizer_states = 2}};
    x->p.source_tokens = 1;
    x->p.layer = x->layer;
    x->p.boundary_fwd = x->fwd;
    x->p.boundary_bwd = x->bwd;
    x->p.bandwidth = x->bandwidth;
    x->p.latency = x->latency;
    x->p.device = x->device;
    for (int l = 0; l < L; l++)
        x->layer[l] = (pac_layer_bytes){.weights = 1e6, .tuned = 1e4, .activations = 1e4};
    for (int i = 0; i < D * D; i++)
        x->bandwidth[i] = 1e9;
    for (int d = 0; d < D; d++) {
        x->device[d].memory = memory;
        x->device[d].cost[PAC_COST_ENC_BLOCK] = (pac_cost_curve){.points = 1, .tokens = {1}, .fwd = {1e-3}, .bwd = {2e-3}};
        x->device[d].cost[PAC_COST_DEC_BLOCK] = x->device[d].cost[PAC_COST_ENC_BLOCK];
    }
}

static pac_plan_request request(const fixture *x, int64_t most_stages, int64_t most_ranks)
{
    return (pac_plan_request){
        .profile = &x->p, .batch = 12, .rows = 100, .epochs = 1, .most_stages = most_stages, .most_ranks = most_ranks};
}

static void test_data_parallel_is_one_stage(void **state)
{
    (void)state;
    fixture x;
    pac_plan_answer a;
    setup(&x, 1e9);
    pac_plan_request q = request(&x, 1, 0);
    assert_int_equal(pac_plan_paper(&q, &a), PAC_OK);
    assert_int_equal(a.plan.stages, 1);
    assert_int_equal(a.plan.stage[0].ranks, D);
    assert_int_equal(a.candidates, 1);
    pac_plan_answer_free(&a);
}

static void test_pipeline_has_one_rank_a_stage(void **state)
{
    (void)state;
    fixture x;
    pac_plan_answer a;
    setup(&x, 1e9);
    pac_plan_request q = request(&x, 0, 1);
    assert_int_equal(pac_plan_paper(&q, &a), PAC_OK);
    assert_int_equal(a.plan.stages, D);
    for (int s = 0; s < D; s++) {
        assert_int_equal(a.plan.stage[s].ranks, 1);
        assert_int_equal(a.plan.stage[s].last - a.plan.stage[s].first, L / D);
    }
    assert_int_equal(a.candidates, 1); /* what the condition rules out is not listed */
    pac_plan_answer_free(&a);
}

static void test_what_cannot_be_is_refused(void **state)
{
    (void)state;
    fixture x;
    pac_plan_answer a;
    setup(&x, 5e6); /* two layers fit, six do not */
    pac_plan_request q = request(&x, 1, 0);
    assert_int_equal(pac_plan_paper(&q, &a), PAC_ENOMEM);
    assert_non_null(strstr(pac_err_message(), "lacks"));
    q = request(&x, 0, 1);
    assert_int_equal(pac_plan_paper(&q, &a), PAC_OK);
    pac_plan_answer_free(&a);
    x.p.layers_enc = 1; /* three devices, two layers */
    x.p.layers_dec = 1;
    assert_int_equal(pac_plan_paper(&q, &a), PAC_EINVAL);
    assert_non_null(strstr(pac_err_message(), "only 2 layers"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_parallel_is_one_stage),
        cmocka_unit_test(test_pipeline_has_one_rank_a_stage),
        cmocka_unit_test(test_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
