/* Who takes how many samples: the best whole ones under budgets; plans from group sizes. */
#include "tiny_profile.h"

#include "pac/schedule.h"

#include <stdlib.h>

/* The slowest of three ranks, forward and backward, when they take a, b and c samples; infinity: one lacks memory. */
static double slowest(const fixture *x, const pac_plan *plan, const int64_t *count)
{
    double worst = 0;
    for (int64_t d = 0; d < 3; d++) {
        double t = 0, bytes = 0;
        for (int64_t l = 0; l < plan->layers; l++) {
            const pac_cost_curve *c = x->device[d].cost;
            const int kinds[] = {PAC_COST_ENC_BLOCK, PAC_COST_ENC_SIDE, PAC_COST_ENC_EMBED, PAC_COST_HEAD};
            for (int i = 0; i < 4; i++)
                if ((i < 2 || (i == 2 && l == 0) || (i == 3 && l == plan->layers - 1)) && count[d] > 0)
                    for (int backward = 0; backward < 2; backward++)
                        t += pac_cost_at(&c[kinds[i]], (double)count[d], backward);
            bytes += x->layer[l].weights + 2 * x->layer[l].tuned + (double)count[d] * x->layer[l].activations;
        }
        worst = fmax(worst, bytes > x->device[d].memory ? INFINITY : t);
    }
    return worst;
}

static void test_shares_are_the_best_whole_ones(void **state)
{
    (void)state;
    int tight = 0;
    for (int n = 0; n < 300; n++) {
        fixture x;
        plain(&x, integer(1, 4), 0, 3);
        x.p.optimizer_states = 0;
        pac_plan plan = even((const int64_t[]){3}, 1, x.p.layers_enc, 1);
        int64_t batch = integer(1, 30);
        for (int64_t d = 0; d < 3; d++) {
            for (int k = 0; k < PAC_COST_NKINDS; k++)
                x.device[d].cost[k] = curve(k, uniform(0, 1e-2), uniform(1e-4, 1e-2));
            x.device[d].memory = (double)x.p.layers_enc * (1.02e6 + uniform(0, 20) * 1e4);
        }
        const pac_plan_request q = request(&x, batch, 0);
        assert_int_equal(pac_plan_share(&x.p, &q, &plan), PAC_OK);
        int64_t got[3], count[3];
        double best = INFINITY;
        for (int64_t d = 0; d < 3; d++) {
            pac_range r = pac_split_shares(batch, plan.stage[0].share, 3, d);
            got[d] = r.hi - r.lo;
            assert_true(plan.stage[0].share[d] > 0);
        }
        for (count[0] = 0; count[0] <= batch; count[0]++)
            for (count[1] = 0; count[0] + count[1] <= batch; count[1]++) {
                count[2] = batch - count[0] - count[1];
                best = fmin(best, slowest(&x, &plan, count));
            }
        tight += isinf(best);
        near(slowest(&x, &plan, got), best);
        pac_plan_free(&plan);
    }
    assert_true(tight > 10 && tight < 250);
}

/* Many samples are filled up to a common time first; that must not change who gets how many. */
static void test_many_samples_are_shared_like_few(void **state)
{
    (void)state;
    for (int n = 0; n < 50; n++) {
        fixture x;
        plain(&x, 2, 0, 3);
        for (int64_t d = 0; d < 3; d++)
            for (int k = 0; k < PAC_COST_NKINDS; k++)
                x.device[d].cost[k] = curve(k, 0, uniform(1e-4, 1e-2));
        pac_plan plan = even((const int64_t[]){3}, 1, 2, 1);
        const pac_plan_request q = request(&x, 300, 0);
        assert_int_equal(pac_plan_share(&x.p, &q, &plan), PAC_OK);
        double first[3], sum = 0;
        for (int64_t d = 0; d < 3; d++) { /* times are linear: nobody gains by giving one sample away */
            first[d] = slowest(&x, &plan, (int64_t[]){d == 0, d == 1, d == 2});
            sum += 1 / first[d];
        }
        for (int64_t d = 0; d < 3; d++)
            assert_true(fabs(plan.stage[0].share[d] * 300 - 300 / first[d] / sum) <= 2);
        pac_plan_free(&plan);
    }
}

static void test_even_plans(void **state)
{
    (void)state;
    pac_plan p = even((const int64_t[]){2, 1, 1}, 3, 12, 4);
    check_whole(&p, 4, 12);
    assert_int_equal(p.stage[0].last, 6);
    assert_int_equal(p.stage[1].last, 9);
    char shape[16], small[4];
    pac_plan_shape(&p, shape, sizeof shape);
    assert_string_equal(shape, "2-1-1");
    pac_plan_shape(&p, small, sizeof small);
    assert_string_equal(small, "2-1");
    pac_plan_free(&p);
    p = even((const int64_t[]){1, 50, 1, 50}, 4, 12, 1);
    check_whole(&p, 102, 12);
    pac_plan_free(&p);
    p = even((const int64_t[]){50, 1, 1}, 3, 3, 1);
    check_whole(&p, 52, 3);
    pac_plan_free(&p);
    assert_int_equal(pac_plan_even((const int64_t[]){1, 1}, 2, 1, 1, &p), PAC_ECONFIG);
    assert_int_equal(pac_plan_even((const int64_t[]){1, 0}, 2, 4, 1, &p), PAC_ECONFIG);
    assert_int_equal(pac_plan_even((const int64_t[]){200, 100}, 2, 4, 1, &p), PAC_ECONFIG);
    assert_int_equal(pac_plan_even((const int64_t[]){1, 1}, 2, 4, 0, &p), PAC_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_are_the_best_whole_ones),
        cmocka_unit_test(test_many_samples_are_shared_like_few),
        cmocka_unit_test(test_even_plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
