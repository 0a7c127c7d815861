/*
 * The cost model: what a plan takes, term by term, against sums made by hand; its timeline against the operation lists.
 */
#include "tiny_profile.h"

#include "../../planner/timeline.h"

#include "pac/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void predict(const fixture *x, int64_t batch, pac_plan *plan)
{
    pac_plan_request q = request(x, batch, 0);
    if (pac_plan_predict(&x->p, &q, plan) != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static void test_predicts_a_pipeline_of_equal_stages(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    memset(x.device[0].cost, 0, sizeof x.device[0].cost);
    x.device[0].cost[PAC_COST_ENC_BLOCK] = curve(PAC_COST_ENC_BLOCK, 0, 1e-3);
    for (int i = 0; i < 4; i++)
        x.device[0].cost[PAC_COST_ENC_BLOCK].bwd[i] = 0;
    x.device[0].cost[PAC_COST_ENC_SIDE] = curve(PAC_COST_ENC_SIDE, 0, 5e-4); /* backward 1e-3 */
    memcpy(x.device[1].cost, x.device[0].cost, sizeof x.device[0].cost);
    memset(x.latency, 0, sizeof x.latency);
    for (int i = 0; i < 4; i++)
        x.bandwidth[i] = INFINITY;
    pac_plan plan = even((const int64_t[]){1, 1}, 2, 4, 4);
    predict(&x, 8, &plan);
    /* a stage: 2 layers x 2 samples: forward 6 ms, backward 4 ms; (M + P - 1) of both */
    near(plan.predicted.hybrid_step_s, 5 * 10e-3);
    near(plan.predicted.hybrid_epoch_s, 13 * 5 * 10e-3);
    assert_true(plan.predicted.cached_epoch_s > 0 && plan.predicted.cached_epoch_s < plan.predicted.hybrid_epoch_s);
    near(plan.predicted.total_s,
         plan.predicted.hybrid_epoch_s + plan.predicted.redistribute_s + 2 * plan.predicted.cached_epoch_s);
    pac_plan_free(&plan);
}

/* What slow links add to the epochs after the first: the redistribution and the all-reduce of a cached step. */
static void test_predicts_what_links_cost_the_cached_phase(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    memset(x.latency, 0, sizeof x.latency);
    pac_predicted on[2];
    for (int slow = 0; slow < 2; slow++) {
        for (int i = 0; i < 4; i++)
            x.bandwidth[i] = slow ? 1e6 : INFINITY;
        pac_plan plan = even((const int64_t[]){2}, 1, 4, 1);
        predict(&x, 8, &plan);
        on[slow] = plan.predicted;
        pac_plan_free(&plan);
    }
    const double tuned = 4 * 1e4, rows = (double)request(&x, 8, 0).rows, steps = ceil(rows / 8);
    near(on[1].cached_epoch_s - on[0].cached_epoch_s, steps * tuned / 1e6); /* 2 rounds of half */
    near(on[1].redistribute_s - on[0].redistribute_s,
         (rows * x.p.cached_step_bytes_read / 2 + tuned * 3) / 1e6); /* with two moments */
}

/* Sums behind the last backward: in pieces of a bucket all but the last one hide; with train.overlap: false none does. */
static void test_sums_hide_behind_the_backward(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    memset(x.latency, 0, sizeof x.latency);
    for (int i = 0; i < 4; i++)
        x.bandwidth[i] = 4e6; /* of 4e4 bytes that learn: 10 ms in two rounds of half, less than the backward takes */
    const double bucket[] = {INFINITY, 2e4, 1e4, 0}, left[] = {1, 0.5, 0.25, 1}; /* 0: a MiB holds all */
    double step[4];
    for (int i = 0; i < 4; i++) {
        pac_plan plan = even((const int64_t[]){2}, 1, 4, 1);
        pac_plan_request q = request(&x, 8, 0);
        q.bucket = bucket[i];
        assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_OK);
        step[i] = plan.predicted.hybrid_step_s;
        pac_plan_free(&plan);
    }
    for (int i = 0; i < 4; i++)
        near(step[0] - step[i], (1 - left[i]) * 4e4 / 4e6);
}

/* For given stages: as many as hide the pipeline's ends, one where they only cost, as many as memory asks for. */
static void test_chooses_microbatches(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan plan = even((const int64_t[]){1, 1}, 2, 4, 1);
    pac_plan_request q = request(&x, 16, 0);
    assert_int_equal(pac_plan_microbatches(&x.p, &q, &plan), PAC_OK);
    int64_t chosen = plan.microbatches;
    double best = plan.predicted.total_s, bytes = plan.stage[0].bytes[0];
    assert_true(chosen > 1 && chosen < 16);
    for (int64_t M = 1; M <= 16; M++) {
        plan.microbatches = M;
        predict(&x, 16, &plan);
        assert_true(plan.predicted.total_s >= best);
    }
    for (int d = 0; d < 2; d++)
        x.device[d].memory = bytes - 1; /* smaller ones then */
    assert_int_equal(pac_plan_microbatches(&x.p, &q, &plan), PAC_OK);
    assert_true(plan.microbatches > chosen && plan.stage[0].bytes[0] < bytes);
    x.device[0].memory = x.device[1].memory = 1; /* never */
    assert_int_equal(pac_plan_microbatches(&x.p, &q, &plan), PAC_OK);
    assert_int_equal(plan.microbatches, 16);
    q.microbatches = 3;
    assert_int_equal(pac_plan_microbatches(&x.p, &q, &plan), PAC_OK);
    assert_int_equal(plan.microbatches, 3);
    pac_plan_free(&plan);
}

static void test_predicts_bytes_in_flight(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 3);
    pac_plan plan = even((const int64_t[]){2, 1}, 2, 4, 4);
    plan.stage[0].last = plan.stage[1].first = 3;
    plan.stage[0].share[0] = 0.75;
    plan.stage[0].share[1] = 0.25;
    predict(&x, 16, &plan);
    double parameters = 1e6 + 1e4 * 4;
    near(plan.stage[0].bytes[0], 3 * parameters + 3 * 2 * (3e4 + 1e3)); /* 3 samples, 2 in flight, each receives a gradient */
    near(plan.stage[0].bytes[1], 3 * parameters + 1 * 2 * (3e4 + 1e3));
    near(plan.stage[1].bytes[0], parameters + 4 * (1e4 + 1e3)); /* 1 in flight, its activations were received */
    pac_plan_free(&plan);
}

static void test_predicts_the_steady_phase_by_the_slowest_stage(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan plan = even((const int64_t[]){1, 1}, 2, 4, 8);
    plan.stage[0].last = plan.stage[1].first = 3;
    predict(&x, 8, &plan);
    double slow = 3 * (2e-3 + 2e-3) * 3 + 2e-3 * 3; /* 3 layers of block and side, forward + twice that backward; embedding */
    assert_true(plan.predicted.hybrid_step_s >= 8 * slow);
    pac_plan_free(&plan);
}

static void test_without_cache_epochs_are_equal(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 2, 2);
    pac_plan plan = even((const int64_t[]){2}, 1, 4, 2);
    pac_plan_request q = request(&x, 8, 0);
    q.cached = false;
    assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_OK);
    assert_true(plan.predicted.redistribute_s == 0 && plan.predicted.cached_epoch_s == 0);
    near(plan.predicted.total_s, 3 * plan.predicted.hybrid_epoch_s);
    pac_plan_free(&plan);
}

static void test_a_plan_for_others_is_refused(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 2, 2);
    pac_plan_request q = request(&x, 8, 0);
    pac_plan plan = even((const int64_t[]){2, 1}, 2, 4, 2);
    assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_ECONFIG);
    assert_non_null(strstr(pac_err_message(), "3 ranks"));
    pac_plan_free(&plan);
    plan = even((const int64_t[]){1, 1}, 2, 5, 2);
    assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_ECONFIG);
    assert_non_null(strstr(pac_err_message(), "5 layers"));
    assert_true(plan.predicted.hybrid_step_s == 0);
    pac_plan_free(&plan);
}

/* Random instances: finite, positive, and no prediction below what any single stage must compute. */
static void test_predictions_of_random_plans(void **state)
{
    (void)state;
    for (int t = 0; t < 200; t++) {
        fixture x;
        randomise(&x);
        int64_t L = x.p.layers_enc + x.p.layers_dec, D = x.p.devices, groups[MAX_D], s = 0, left = D;
        while (left > 0 && s < L) {
            groups[s] = s == L - 1 ? left : integer(1, left);
            left -= groups[s++];
        }
        int64_t batch = integer(1, 12), M = integer(1, batch);
        pac_plan plan = even(groups, s, L, M);
        check_whole(&plan, D, L);
        predict(&x, batch, &plan);
        assert_true(isfinite(plan.predicted.total_s) && plan.predicted.hybrid_step_s > 0);
        for (int64_t i = 0; i < plan.stages; i++)
            for (int64_t r = 0; r < plan.stage[i].ranks; r++)
                assert_true(plan.stage[i].bytes[r] > 0);
        pac_plan_free(&plan);
    }
}

/* ---- the timeline ---- */

/* The operation lists that the runtime executes, executed on clocks: receives wait, messages of a link follow one another. */
typedef struct lists {
    const pac_stage_times *t;
    int64_t P, M, larger;
    double clock[8], link[8][2], fwd[9][20], bwd[9][20]; /* arrivals at each stage, 0 before they are known */
} lists;

static bool run_op(lists *x, int64_t p, const pac_op *op)
{
    int k = op->m >= 0 && op->m < x->larger;
    double *now = &x->clock[p], *link;
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
    case PAC_OP_RECV_BWD: {
        double arrival = op->kind == PAC_OP_RECV_FWD ? x->fwd[p][op->m] : x->bwd[p][op->m];
        *now = fmax(*now, arrival);
        return arrival > 0;
    }
    case PAC_OP_FWD:
    case PAC_OP_BWD:
        *now += op->kind == PAC_OP_FWD ? x->t[p].fwd[k] : x->t[p].bwd[k];
        return true;
    case PAC_OP_SEND_FWD:
        link = &x->link[p][0];
        x->fwd[p + 1][op->m] = *link = fmax(*link, *now) + x->t[p].send_fwd[k];
        return true;
    case PAC_OP_SEND_BWD:
        link = &x->link[p][1];
        x->bwd[p - 1][op->m] = *link = fmax(*link, *now) + x->t[p].send_bwd[k];
        return true;
    default:
        return true;
    }
}

static double run_lists(lists *x)
{
    pac_oplist list[8];
    int64_t at[8] = {0}, left = 0;
    double reduced = 0, update = 0;
    for (int64_t p = 0; p < x->P; p++) {
        assert_int_equal(pac_schedule_1f1b(p, x->P, x->M, &list[p]), PAC_OK);
        left += list[p].count;
    }
    while (left > 0)
        for (int64_t p = 0; p < x->P; p++)
            for (; at[p] < list[p].count && run_op(x, p, &list[p].v[at[p]]); left--)
                at[p]++;
    for (int64_t p = 0; p < x->P; p++) {
        reduced = fmax(reduced, x->clock[p] + x->t[p].reduce);
        update = fmax(update, x->t[p].update);
        pac_oplist_free(&list[p]);
    }
    return reduced + update;
}

static void test_timeline_is_that_of_the_operation_lists(void **state)
{
    (void)state;
    for (int n = 0; n < 500; n++) {
        pac_stage_times t[8];
        lists x = {.t = t, .P = integer(1, 8), .M = integer(1, 20)};
        x.larger = integer(0, x.M - 1);
        for (int64_t p = 0; p < x.P; p++) {
            double *v = (double *)&t[p];
            for (size_t i = 0; i < sizeof t[p] / sizeof *v; i++)
                v[i] = uniform(0.1, integer(0, 1) ? 1 : 5);
        }
        double arrive[20];
        near(pac_timeline_1f1b(t, x.P, x.M, x.larger, arrive), run_lists(&x));
    }
}

/* ---- further terms ---- */

static void test_predicts_overhead_and_update(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 1);
    pac_plan plan = even((const int64_t[]){1}, 1, 4, 4);
    predict(&x, 8, &plan);
    pac_predicted before = plan.predicted;
    x.device[0].overhead = 0.5;
    x.device[0].update = 1e-4;
    predict(&x, 8, &plan);
    double update = 4 * 1e4 * 1e-4;
    near(plan.predicted.hybrid_step_s - before.hybrid_step_s, 4 * 2 * 0.5 + update);
    near(plan.predicted.cached_epoch_s - before.cached_epoch_s, 13 * (2 * 0.5 + update));
    pac_plan_free(&plan);
}

/* Four encoder layers: five records a sample, of which the first stage of two has three. */
static void test_predicts_writing_the_cache(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan plan = even((const int64_t[]){1, 1}, 2, 4, 4);
    predict(&x, 8, &plan);
    double before = plan.predicted.hybrid_epoch_s;
    x.device[0].disk_write = x.device[1].disk_write = 1e3;
    predict(&x, 8, &plan);
    near(plan.predicted.hybrid_epoch_s, 13 * 8 * 1000 * 3 / 5.0 / 1e3);
    near(plan.predicted.hybrid_step_s, plan.predicted.hybrid_epoch_s / 13); /* the longer of both, not their sum */
    x.device[0].disk_write = x.device[1].disk_write = 1e9; /* behind the step */
    predict(&x, 8, &plan);
    near(plan.predicted.hybrid_epoch_s, before);
    plan.cached = false;
    predict(&x, 8, &plan);
    near(plan.predicted.hybrid_epoch_s, before);
    near(plan.predicted.total_s, 3 * before);
    pac_plan_free(&plan);
}

static void test_predicts_the_cached_phase_by_its_shares(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    for (int i = 0; i < 4; i++)
        x.bandwidth[i] = INFINITY, x.latency[i] = 0;
    pac_plan plan = even((const int64_t[]){2}, 1, 4, 1);
    double share[] = {0.75, 0.25};
    plan.cached_share = share;
    predict(&x, 8, &plan);
    /* 6 samples: four side layers and the head, 7 ms forward, twice that backward */
    near(plan.predicted.cached_epoch_s, 13 * 5 * 7e-3 * 3);
    x.device[0].disk_read = 1e3; /* 6000 bytes take longer to read */
    predict(&x, 8, &plan);
    near(plan.predicted.cached_epoch_s, 13 * 6.0);
    plan.cached_share = NULL;
    predict(&x, 8, &plan);
    near(plan.predicted.cached_epoch_s, 13 * 4.0);
    pac_plan_free(&plan);
}

/* Each has written half; of the other half a device receives the share that the plan gives it, not what a planner would. */
static void test_room_on_disk_is_that_of_the_plans_shares(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan plan = even((const int64_t[]){2}, 1, 4, 1);
    pac_plan_request q = request(&x, 8, 1);
    double share[] = {0.9, 0.1}, need = 0;
    q.sharded = true;
    x.device[0].disk_space = x.device[1].disk_space = 80 * 1000;
    assert_int_equal(pac_plan_lacks_disk(&x.p, &q, &plan, &need), -1); /* equal parts: 75 rows each */
    plan.cached_share = share;
    assert_int_equal(pac_plan_lacks_disk(&x.p, &q, &plan, &need), 0);
    near(need, (50 + 0.9 * 50) * 1000);
    plan.cached_share = NULL;
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        x.device[1].cost[k] = curve(k, 0, 1e-5); /* a planner would give it all */
    assert_int_equal(pac_plan_lacks_disk(&x.p, &q, &plan, &need), -1);
    pac_plan_free(&plan);
}

/* A device that is left out changes nothing, whatever it is like. */
static void test_devices_left_out_do_not_count(void **state)
{
    (void)state;
    fixture with, without;
    plain(&without, 4, 2, 2);
    plain(&with, 4, 2, 3);
    with.device[2].cost[0] = curve(0, 100, 100);
    with.device[2].update = with.device[2].overhead = 1e3;
    with.device[2].disk_write = 1;
    for (int i = 0; i < 3; i++)
        with.bandwidth[6 + i] = with.bandwidth[3 * i + 2] = 1;
    pac_plan a = even((const int64_t[]){1, 1}, 2, 6, 4), b = even((const int64_t[]){1, 1}, 2, 6, 4);
    b.world = 3;
    b.left_out = 1;
    predict(&without, 8, &a);
    predict(&with, 8, &b);
    assert_memory_equal(&a.predicted, &b.predicted, sizeof a.predicted);
    near(a.stage[0].bytes[0], b.stage[0].bytes[0]);
    pac_plan_free(&a);
    pac_plan_free(&b);
}

static void test_predicts_the_larger_phase(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 0, 1);
    x.p.fixed = 7e3;
    x.layer[1].work = 5e3;
    pac_plan plan = even((const int64_t[]){1}, 1, 2, 2);
    predict(&x, 8, &plan);
    double hybrid = 7e3 + 2 * (1e6 + 4e4) + 4 * (2e4 + 5e3);
    near(plan.stage[0].bytes[0], hybrid);
    x.p.cached_fixed = 1e6;
    x.p.cached_sample = 2e5;
    predict(&x, 8, &plan);
    near(plan.stage[0].bytes[0], 7e3 + 1e6 + 8 * 2e5);
    plan.cached = false;
    predict(&x, 8, &plan);
    near(plan.stage[0].bytes[0], hybrid);
    pac_plan_free(&plan);
}

/* ---- shares ---- */

/* ---- plans from group sizes ---- */

static void test_shared_weights_count_once_in_a_stage(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 1, 2);
    double stage[2];
    for (int shared = 0; shared < 2; shared++) {
        pac_plan plan;
        x.layer[0].shared = x.layer[2].shared = shared ? 4e5 : 0;
        const pac_plan_request q = request(&x, 4, 1);
        assert_int_equal(pac_plan_even((int64_t[]){2}, 1, 3, 1, &plan), PAC_OK);
        assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_OK);
        stage[shared] = plan.stage[0].bytes[0];
        pac_plan_free(&plan);
        assert_int_equal(pac_plan_even((int64_t[]){1, 1}, 2, 3, 1, &plan), PAC_OK);
        assert_int_equal(pac_plan_predict(&x.p, &q, &plan), PAC_OK);
        assert_true(plan.stage[1].bytes[0] > 1e6); /* each stage of its own holds a copy */
        pac_plan_free(&plan);
    }
    near(stage[0] - stage[1], 4e5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_predicts_a_pipeline_of_equal_stages),
        cmocka_unit_test(test_predicts_what_links_cost_the_cached_phase),
        cmocka_unit_test(test_predicts_bytes_in_flight),
        cmocka_unit_test(test_sums_hide_behind_the_backward),
        cmocka_unit_test(test_chooses_microbatches),
        cmocka_unit_test(test_predicts_the_steady_phase_by_the_slowest_stage),
        cmocka_unit_test(test_without_cache_epochs_are_equal),
        cmocka_unit_test(test_a_plan_for_others_is_refused),
        cmocka_unit_test(test_predictions_of_random_plans),
        cmocka_unit_test(test_timeline_is_that_of_the_operation_lists),
        cmocka_unit_test(test_predicts_overhead_and_update),
        cmocka_unit_test(test_predicts_writing_the_cache),
        cmocka_unit_test(test_predicts_the_cached_phase_by_its_shares),
        cmocka_unit_test(test_room_on_disk_is_that_of_the_plans_shares),
        cmocka_unit_test(test_devices_left_out_do_not_count),
        cmocka_unit_test(test_predicts_the_larger_phase),
        cmocka_unit_test(test_shared_weights_count_once_in_a_stage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
