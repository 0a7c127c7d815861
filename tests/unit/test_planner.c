/*
 * The planner against an independent statement of equations 2-6 that enumerates every partition of small instances, and the
 * properties that any plan and prediction must have.
 */
#include "planner_contract.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static pac_plan_answer solve(const fixture *x, int64_t batch, int64_t microbatches)
{
    pac_plan_request q = request(x, batch, microbatches);
    pac_plan_answer a = {0};
    if (pac_plan_paper(&q, &a) != PAC_OK)
        fail_msg("%s", pac_err_message());
    return a;
}

/* ---- equations 2-6 stated again: no recursion over W, no prefix sums, own interpolation ---- */

typedef struct cut {
    int64_t s;
    int64_t first[MAX_D], last[MAX_D]; /* layers [first, last) */
    int64_t lo[MAX_D], hi[MAX_D];      /* devices [lo, hi) */
} cut;

static double at(const pac_cost_curve *c, double beta, bool backward)
{
    const double *y = backward ? c->bwd : c->fwd;
    beta *= c->tokens[0]; /* of one sample */
    if (beta >= c->tokens[3])
        return y[3] * beta / c->tokens[3];
    for (int i = 2; i >= 0; i--)
        if (beta >= c->tokens[i])
            return y[i] + (y[i + 1] - y[i]) * (beta - c->tokens[i]) / (c->tokens[i + 1] - c->tokens[i]);
    return y[0] * beta / c->tokens[0];
}

static double t_layer(const pac_profile *p, int64_t d, int64_t l, double beta, bool backward)
{
    const pac_cost_curve *c = p->device[d].cost;
    bool enc = l < p->layers_enc;
    double t = at(&c[enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK], beta, backward);
    if (p->layer[l].tuned > 0)
        t += at(&c[enc ? PAC_COST_ENC_SIDE : PAC_COST_DEC_SIDE], beta, backward);
    if (l == 0)
        t += at(&c[PAC_COST_ENC_EMBED], beta, backward);
    if (l == p->layers_enc && !enc)
        t += at(&c[PAC_COST_DEC_EMBED], beta, backward);
    if (l == p->layers_enc + p->layers_dec - 1)
        t += at(&c[PAC_COST_HEAD], beta, backward);
    return t;
}

static double beta_of(const cut *c, int64_t i, double B)
{
    double each = B / (double)(c->hi[i] - c->lo[i]);
    return each < 1 ? 1 : each;
}

/* e_f or e_b of stage i. */
static double e_of(const pac_profile *p, const cut *c, int64_t i, double B, bool backward)
{
    double worst = 0;
    for (int64_t d = c->lo[i]; d < c->hi[i]; d++) {
        double sum = 0;
        for (int64_t l = c->first[i]; l < c->last[i]; l++)
            sum += t_layer(p, d, l, beta_of(c, i, B), backward);
        worst = fmax(worst, sum);
    }
    return worst;
}

/* T of stage i; infinity when a device lacks memory. */
static double T_of(const pac_profile *p, const cut *c, int64_t i, double B)
{
    double worst = 0;
    for (int64_t d = c->lo[i]; d < c->hi[i]; d++) {
        double bytes = 0, sum = 0;
        for (int64_t l = c->first[i]; l < c->last[i]; l++) {
            const pac_layer_bytes *b = &p->layer[l];
            bytes += b->weights + b->tuned + b->tuned + p->optimizer_states * b->tuned + b->activations * beta_of(c, i, B);
            sum += t_layer(p, d, l, beta_of(c, i, B), false) + t_layer(p, d, l, beta_of(c, i, B), true);
        }
        if (bytes > p->device[d].memory)
            return INFINITY;
        worst = fmax(worst, sum);
    }
    return worst;
}

static double W_of(const pac_profile *p, const cut *c, double B)
{
    double worst = 0;
    for (int64_t i = 0; i < c->s; i++)
        worst = fmax(worst, T_of(p, c, i, B));
    return worst;
}

static double c_of(const pac_profile *p, const cut *c, int64_t i, double B, bool backward)
{
    double bandwidth = INFINITY, latency = 0;
    for (int64_t a = c->lo[i]; a < c->hi[i]; a++)
        for (int64_t b = c->lo[i + 1]; b < c->hi[i + 1]; b++) {
            int64_t k = backward ? b * p->devices + a : a * p->devices + b;
            bandwidth = fmin(bandwidth, p->bandwidth[k]);
            latency = fmax(latency, p->latency[k]);
        }
    double bytes = backward ? p->boundary_bwd[c->last[i]] : p->boundary_fwd[c->last[i]];
    return latency + bytes * fmax(beta_of(c, i, B), beta_of(c, i + 1, B)) / bandwidth;
}

static double AR_of(const pac_profile *p, const cut *c, int64_t i)
{
    double bandwidth = INFINITY, latency = 0, bytes = 0, g = (double)(c->hi[i] - c->lo[i]);
    for (int64_t a = c->lo[i]; a < c->hi[i]; a++)
        for (int64_t b = c->lo[i]; b < c->hi[i]; b++)
            if (a != b) {
                bandwidth = fmin(bandwidth, p->bandwidth[a * p->devices + b]);
                latency = fmax(latency, p->latency[a * p->devices + b]);
            }
    for (int64_t l = c->first[i]; l < c->last[i]; l++)
        bytes += p->layer[l].tuned;
    return g < 2 ? 0 : 2 * (g - 1) * latency + 2 * (g - 1) / g * bytes / bandwidth;
}

static double step_of(const pac_profile *p, const cut *c, double B, int64_t M)
{
    double L_b = 0, L_n = 0, L_e = (double)M * (e_of(p, c, c->s - 1, B, false) + e_of(p, c, c->s - 1, B, true));
    for (int64_t i = 0; i < c->s - 1; i++)
        L_b += e_of(p, c, i, B, false) + c_of(p, c, i, B, false);
    for (int64_t i = 0; i < c->s; i++) {
        double sum = AR_of(p, c, i);
        for (int64_t j = i; j < c->s - 1; j++)
            sum += e_of(p, c, j, B, true) + c_of(p, c, j, B, true);
        L_n = fmax(L_n, sum);
    }
    return L_b + L_e + L_n;
}

/* Every way to cut layers and devices into c->s stages, and the smallest W. */
static void enumerate(const pac_profile *p, cut *c, int64_t i, int64_t layer, int64_t device, double B, double *best)
{
    int64_t L = p->layers_enc + p->layers_dec;
    if (i == c->s) {
        if (layer == L && device == p->devices)
            *best = fmin(*best, W_of(p, c, B));
        return;
    }
    for (int64_t y = layer + 1; y <= L; y++)
        for (int64_t n = device + 1; n <= p->devices; n++) {
            c->first[i] = layer;
            c->last[i] = y;
            c->lo[i] = device;
            c->hi[i] = n;
            enumerate(p, c, i + 1, y, n, B, best);
        }
}

static double best_W(const pac_profile *p, int64_t s, double B)
{
    cut c = {.s = s};
    double best = INFINITY;
    enumerate(p, &c, 0, 0, 0, B, &best);
    return best;
}

static cut cut_of(const pac_candidate *k)
{
    cut c = {.s = k->stages};
    const char *ranks = k->shape, *layers = k->layers;
    int64_t layer = 0, device = 0;
    for (int64_t i = 0; i < k->stages; i++) {
        char *end;
        c.lo[i] = device;
        device = c.hi[i] = device + strtoll(ranks, &end, 10);
        ranks = end + 1;
        c.first[i] = layer;
        layer = c.last[i] = layer + strtoll(layers, &end, 10);
        layers = end + 1;
    }
    return c;
}

/* Each candidate attains the smallest W of its s, and its step is equation 6 of that partition. */
static void check_candidates(const fixture *x, const pac_plan_answer *a, double B, int64_t M)
{
    const pac_profile *p = &x->p;
    int64_t L = p->layers_enc + p->layers_dec;
    assert_int_equal(a->candidates, p->devices < L ? p->devices : L);
    for (int64_t i = 0; i < a->candidates; i++) {
        const pac_candidate *k = &a->candidate[i];
        cut c = cut_of(k);
        near(k->bottleneck_s, best_W(p, k->stages, B));
        near(k->bottleneck_s, W_of(p, &c, B));
        assert_int_equal(k->microbatches, M);
        if (isfinite(k->step_s))
            near(k->step_s, step_of(p, &c, B, M));
        if (i > 0)
            assert_true(k->step_s >= k[-1].step_s);
    }
}

static bool anything_fits(const fixture *x, double B)
{
    for (int64_t s = 1; s <= x->p.devices; s++)
        if (isfinite(best_W(&x->p, s, B)))
            return true;
    return false;
}

static void test_equals_enumeration(void **state)
{
    (void)state;
    int fitting = 0, not_fitting = 0;
    for (int t = 0; t < 600; t++) {
        fixture x;
        randomise(&x);
        int64_t batch = integer(1, 20), M = integer(1, batch);
        double B = (double)batch / (double)M;
        pac_plan_request q = request(&x, batch, M);
        pac_plan_answer a = {0};
        pac_err err = pac_plan_paper(&q, &a);
        if (anything_fits(&x, B)) {
            assert_int_equal(err, PAC_OK);
            check_candidates(&x, &a, B, M);
            fitting++;
        } else {
            assert_int_equal(err, PAC_ENOMEM);
            not_fitting++;
        }
        pac_plan_answer_free(&a);
    }
    assert_true(fitting > 200 && not_fitting > 20);
}

static void test_tries_every_number_of_microbatches(void **state)
{
    (void)state;
    for (int t = 0; t < 60; t++) {
        fixture x;
        randomise(&x);
        for (int64_t d = 0; d < x.p.devices; d++)
            x.device[d].memory = 1e9;
        int64_t batch = integer(1, 16);
        pac_plan_answer best = solve(&x, batch, 0);
        double smallest = INFINITY;
        for (int64_t M = 1; M <= batch; M++) {
            pac_plan_answer one = solve(&x, batch, M);
            smallest = fmin(smallest, one.candidate[0].step_s);
            pac_plan_answer_free(&one);
        }
        near(best.candidate[0].step_s, smallest);
        assert_int_equal(best.plan.microbatches, best.candidate[0].microbatches);
        pac_plan_answer_free(&best);
    }
}

/* ---- what a person would expect ---- */

static void test_one_device(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 3, 2, 1);
    pac_plan_answer a = solve(&x, 8, 0);
    check_whole(&a.plan, 1, 5);
    assert_int_equal(a.candidates, 1);
    assert_int_equal(a.plan.microbatches, 1); /* every further micro-batch costs its overhead and hides nothing */
    near(a.candidate[0].step_s, a.plan.predicted.hybrid_step_s);
    assert_string_equal(a.candidate[0].why, "best");
    assert_true(a.seconds >= 0 && a.seconds < 10);
    pac_plan_answer_free(&a);
}

static void test_small_memory_forces_stages(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 8, 0, 4);
    for (int64_t d = 0; d < 4; d++)
        x.device[d].memory = 4.5e6; /* four of the eight layers of 1.05 MB */
    pac_plan_answer a = solve(&x, 8, 0);
    check_whole(&a.plan, 4, 8);
    assert_true(a.plan.stages >= 2);
    assert_int_equal(a.candidates, 4);
    const pac_candidate *last = &a.candidate[3]; /* one stage does not fit, hence comes last */
    assert_int_equal(last->stages, 1);
    assert_true(isinf(last->step_s) && isinf(last->total_s));
    assert_non_null(strstr(last->why, "lacks"));
    assert_string_equal(last->devices, "0,1,2,3");
    for (int64_t i = 0; i < 3; i++) { /* shape, devices and layers of a candidate say the same; the whole run is predicted */
        const pac_candidate *c = &a.candidate[i];
        assert_true(isfinite(c->total_s) && c->total_s > c->step_s && c->cached);
        assert_true(c->stages != 4 || strcmp(c->devices, "0 1 2 3") == 0);
        if (c->stages == a.plan.stages)
            near(c->total_s, a.plan.predicted.total_s);
    }
    pac_plan_answer_free(&a);
}

/* The message names the device and the bytes; with exactly those bytes more there the plan exists, with one less it does not.
 */
static void test_nothing_fits(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 0, 1);
    double need = 2 * (1e6 + 4 * 1e4 + 1e4);
    x.device[0].memory = need - 5120;
    pac_plan_request q = request(&x, 4, 0);
    pac_plan_answer a = {0};
    assert_int_equal(pac_plan_paper(&q, &a), PAC_ENOMEM);
    assert_non_null(strstr(pac_err_message(), "rank 0 (host:0) lacks 5.0 KiB"));
    assert_null(strstr(pac_err_message(), "smaller")); /* one sample at a time already */
    x.device[0].memory = need - 1;
    assert_int_equal(pac_plan_paper(&q, &a), PAC_ENOMEM);
    x.device[0].memory = need;
    assert_int_equal(pac_plan_paper(&q, &a), PAC_OK);
    assert_int_equal(a.plan.microbatches, 4);
    pac_plan_answer_free(&a);
}

static void test_given_microbatches_that_are_too_large(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 0, 1);
    x.device[0].memory = 2 * (1e6 + 4 * 1e4 + 2 * 1e4); /* room for two samples */
    pac_plan_request q = request(&x, 4, 1);
    pac_plan_answer a = {0};
    assert_int_equal(pac_plan_paper(&q, &a), PAC_ENOMEM);
    assert_non_null(strstr(pac_err_message(), "of activations for"));
    q.microbatches = 2;
    assert_int_equal(pac_plan_paper(&q, &a), PAC_OK);
    pac_plan_answer_free(&a);
}

/* More memory never makes the balanced bottleneck worse, nor does a faster device; a bigger batch never makes it better. */
static void test_monotone(void **state)
{
    (void)state;
    for (int t = 0; t < 100; t++) {
        fixture x;
        randomise(&x);
        for (int64_t d = 0; d < x.p.devices; d++)
            x.device[d].memory *= 4;
        int64_t batch = integer(4, 12);
        pac_plan_request q = request(&x, batch, 2);
        pac_plan_answer before = {0}, after = {0};
        if (pac_plan_paper(&q, &before) != PAC_OK)
            continue;
        int change = (int)integer(0, 2);
        int64_t d = integer(0, x.p.devices - 1);
        for (int k = 0; k < PAC_COST_NKINDS && change == 0; k++)
            for (int i = 0; i < 4; i++) {
                x.device[d].cost[k].fwd[i] *= 0.5;
                x.device[d].cost[k].bwd[i] *= 0.5;
            }
        x.device[d].memory *= change == 1 ? 2 : 1;
        q.batch += change == 2 ? 3 : 0;
        if (pac_plan_paper(&q, &after) == PAC_OK) {
            for (int64_t s = 1; s <= before.candidates; s++) {
                double w[2] = {0};
                for (int64_t i = 0; i < before.candidates; i++) {
                    w[0] += before.candidate[i].stages == s ? before.candidate[i].bottleneck_s : 0;
                    w[1] += after.candidate[i].stages == s ? after.candidate[i].bottleneck_s : 0;
                }
                assert_true(change == 2 ? w[1] >= w[0] * (1 - 1e-12) : w[1] <= w[0] * (1 + 1e-12));
            }
        } else {
            assert_int_equal(change, 2);
        }
        pac_plan_answer_free(&before);
        pac_plan_answer_free(&after);
    }
}

static void test_fewer_layers_than_devices(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 1, 1, 5);
    pac_plan_answer a = solve(&x, 16, 0);
    check_whole(&a.plan, 5, 2);
    assert_int_equal(a.candidates, 2);
    pac_plan_answer_free(&a);
}

static void test_is_quick(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 24, 24, 8);
    for (int64_t d = 0; d < 8; d++)
        x.device[d].memory = 3e7;
    pac_plan_answer a = solve(&x, 32, 0);
    check_whole(&a.plan, 8, 48);
    assert_true(a.seconds < 3); /* the paper's claim */
    pac_plan_answer_free(&a);
}

static void test_requests_are_checked(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 2, 2);
    check_requests_are_checked(pac_plan_paper, &x);
}

static void test_failed_allocations_leave_nothing(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 3, 2, 3);
    pac_plan_request q = request(&x, 4, 0);
    check_failed_allocations(pac_plan_paper, &q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_enumeration),
        cmocka_unit_test(test_tries_every_number_of_microbatches),
        cmocka_unit_test(test_one_device),
        cmocka_unit_test(test_small_memory_forces_stages),
        cmocka_unit_test(test_nothing_fits),
        cmocka_unit_test(test_given_microbatches_that_are_too_large),
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_fewer_layers_than_devices),
        cmocka_unit_test(test_is_quick),
        cmocka_unit_test(test_requests_are_checked),
        cmocka_unit_test(test_failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
