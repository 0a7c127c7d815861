/*
 * `planner: pac`: its plan is never worse than what anybody would try, keeps to conditions and budgets, and says what it
 * decided. tests/planner/campaign compares it with all plans.
 */
#include "planner_contract.h"

#include "../../planner/pac.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static pac_plan_answer solve(const pac_plan_request *q)
{
    pac_plan_answer a = {0};
    if (pac_plan_best(q, &a) != PAC_OK)
        fail_msg("%s", pac_err_message());
    return a;
}

/* Ranks once, layers once, shares above 0, every budget kept; predicted by the cost model. */
static void check_plan(const pac_plan_request *q, pac_plan *p)
{
    int64_t layer = 0, seen[MAX_D] = {0}, ranks = 0;
    for (int64_t i = 0; i < p->stages; i++) {
        const pac_stage_plan *st = &p->stage[i];
        assert_int_equal(st->first, layer);
        assert_true(st->last > layer);
        layer = st->last;
        for (int64_t r = 0; r < st->ranks; r++, ranks++) {
            assert_int_equal(seen[st->rank[r]]++, 0);
            assert_true(st->share[r] > 0 && st->bytes[r] <= q->profile->device[st->rank[r]].memory);
        }
    }
    assert_int_equal(layer, q->profile->layers_enc + q->profile->layers_dec);
    assert_int_equal(ranks + p->left_out, q->profile->devices);
    double total = p->predicted.total_s;
    assert_int_equal(pac_plan_predict(q->profile, q, p), PAC_OK);
    assert_true(p->predicted.total_s == total);
}

/* ---- never worse ---- */

static bool fits(const pac_profile *p, const pac_plan *plan)
{
    for (int64_t i = 0; i < plan->stages; i++)
        for (int64_t r = 0; r < plan->stage[i].ranks; r++)
            if (plan->stage[i].bytes[r] > p->device[plan->stage[i].rank[r]].memory)
                return false;
    return true;
}

static void check_not_worse(const pac_plan_request *q, pac_plan *other, double best)
{
    assert_int_equal(pac_plan_predict(q->profile, q, other), PAC_OK);
    if (fits(q->profile, other))
        assert_true(best <= other->predicted.total_s * (1 + 1e-12));
}

static void check_shapes(const pac_plan_request *q, double best)
{
    const pac_profile *p = q->profile;
    int64_t L = p->layers_enc + p->layers_dec, ones[MAX_D] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (int64_t M = 1; M <= q->batch; M++) {
        pac_plan plan;
        assert_int_equal(pac_plan_even(&p->devices, 1, L, M, &plan), PAC_OK);
        check_not_worse(q, &plan, best);
        pac_plan_free(&plan);
        if (p->devices > L)
            continue;
        assert_int_equal(pac_plan_even(ones, p->devices, L, M, &plan), PAC_OK);
        check_not_worse(q, &plan, best);
        pac_plan_free(&plan);
    }
}

static void check_one_device(const pac_plan_request *q, double best)
{
    const pac_profile *p = q->profile;
    for (int64_t d = 0; d < p->devices; d++) {
        pac_plan plan;
        assert_int_equal(pac_plan_even((int64_t[]){1}, 1, p->layers_enc + p->layers_dec, 1, &plan), PAC_OK);
        plan.world = p->devices;
        plan.left_out = p->devices - 1;
        plan.stage[0].rank[0] = d;
        check_not_worse(q, &plan, best);
        pac_plan_free(&plan);
    }
}

static void never_worse(pac_way way, int instances)
{
    int found = 0;
    for (int t = 0; t < instances; t++) {
        fixture x;
        randomise(&x);
        pac_plan_request q = request(&x, integer(1, 12), 0);
        pac_plan_answer a = {0}, paper = {0};
        pac_err err = pac_plan_best_by(&q, way, &a);
        if (pac_plan_paper(&q, &paper) == PAC_OK && fits(&x.p, &paper.plan)) {
            assert_int_equal(err, PAC_OK);
            assert_true(a.plan.predicted.total_s <= paper.plan.predicted.total_s * (1 + 1e-12));
        }
        if (err == PAC_OK) {
            check_plan(&q, &a.plan);
            check_shapes(&q, a.plan.predicted.total_s);
            check_one_device(&q, a.plan.predicted.total_s);
            found++;
        }
        pac_plan_answer_free(&a);
        pac_plan_answer_free(&paper);
    }
    assert_true(found > instances / 2);
}

static void test_never_worse_than_what_anybody_would_try(void **state)
{
    (void)state;
    never_worse(PAC_WAY_AUTO, 60);
    never_worse(PAC_WAY_LARGE, 15);
}

/* Of a large batch not every number of micro-batches: what a search takes does not grow with the batch's square. */
static void test_some_numbers_of_microbatches(void **state)
{
    (void)state;
    static const int64_t batches[] = {1, 12, 64, 65, 96, 4096, 720720};
    fixture x;
    plain(&x, 4, 0, 2);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        const pac_plan_request q = request(&x, batches[i], 0);
        void *v;
        assert_int_equal(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_search), &v), PAC_OK);
        pac_search *k = v;
        assert_int_equal(pac_search_init(k, &q), PAC_OK);
        assert_true(k->nM == batches[i] || (batches[i] > 64 && k->nM <= 64));
        assert_true(k->M[0] == 1 && k->M[k->nM - 1] == batches[i]);
        for (int64_t m = 1; m < k->nM; m++)
            assert_true(k->M[m] > k->M[m - 1]);
        pac_search_done(k);
        pac_mem_free(k);
    }
    const pac_plan_request q = request(&x, 1 << 13, 0);
    pac_plan_answer a = solve(&q);
    assert_true(a.seconds < 30);
    pac_plan_answer_free(&a);
}

/* Devices that take no time, as a profile may say: speeds have no number. */
static void test_no_time_at_all(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 8, 0, 8);
    for (int64_t d = 0; d < 8; d++)
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            x.device[d].cost[k] = curve(k, 0, 0);
    const pac_plan_request q = request(&x, 8, 0);
    pac_plan_answer a = solve(&q);
    check_plan(&q, &a.plan);
    assert_true(a.plan.predicted.total_s >= 0 && isfinite(a.plan.predicted.total_s));
    pac_plan_answer_free(&a);
}

/* ---- decisions ---- */

static void set_links(fixture *x, double bandwidth, double latency)
{
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = bandwidth;
        x->latency[i] = latency;
    }
}

static void test_one_device_when_links_are_slow(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 3);
    set_links(&x, 10, 1);
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        x.device[2].cost[k] = curve(k, 1e-4, 1e-4);
    const pac_plan_request q = request(&x, 8, 0);
    pac_plan_answer a = solve(&q);
    check_plan(&q, &a.plan);
    assert_int_equal(a.plan.stages, 1);
    assert_int_equal(a.plan.left_out, 2);
    assert_int_equal(a.plan.stage[0].rank[0], 2);
    assert_string_equal(a.candidate[0].why, "best");
    assert_string_equal(a.candidate[0].shape, "1");
    assert_string_equal(a.candidate[0].devices, "2");
    assert_string_equal(a.note, "left out, faster without: rank 0 (host:0), rank 1 (host:1)");
    int listed = 0;
    for (int64_t i = 0; i < a.candidates; i++)
        listed += strcmp(a.candidate[i].shape, "1") == 0;
    assert_int_equal(listed, 1); /* the best of one stage and the best device are one line */
    pac_plan_answer_free(&a);
}

/* "Faster without" is said of those only that could have taken part. */
static void test_why_devices_are_left_out(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 3);
    set_links(&x, 10, 1);
    x.device[1].memory = 1e5; /* a layer's weights are 1e6 */
    pac_plan_request q = request(&x, 8, 0);
    q.keep_first = true;
    pac_plan_answer a = solve(&q);
    assert_string_equal(a.note, "left out, no layer fits there: rank 1 (host:1); left out, faster without: rank 2 (host:2)");
    pac_plan_answer_free(&a);
    q.most_stages = 1; /* all four layers on each device */
    x.device[2].memory = 3e6;
    a = solve(&q);
    assert_string_equal(a.note, "left out, the model does not fit there: rank 1 (host:1), rank 2 (host:2)");
    pac_plan_answer_free(&a);
}

/* Where cache and no cache are chosen for each candidate, the list says which. */
static void test_candidates_say_whether_they_cache(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan_request q = request(&x, 8, 0);
    for (int cached = 0; cached < 2; cached++) {
        q.cached = cached;
        pac_plan_answer a = solve(&q);
        for (int64_t i = 0; i < a.candidates; i++)
            assert_int_equal(a.candidate[i].cached, cached);
        pac_plan_answer_free(&a);
    }
    x.device[1].disk_space = 1; /* one device alone still can */
    q.cached = true;
    pac_plan_answer a = solve(&q);
    int with = 0, without = 0;
    for (int64_t i = 0; i < a.candidates; i++) {
        bool second = strchr(a.candidate[i].devices, '1') != NULL;
        assert_int_equal(a.candidate[i].cached, !second);
        with += !second;
        without += second;
    }
    assert_true(with > 0 && without > 0);
    pac_plan_answer_free(&a);
}

static void test_every_device_when_asked(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 3);
    set_links(&x, 10, 1);
    pac_plan_request q = request(&x, 8, 0);
    q.every_device = true;
    pac_plan_answer a = solve(&q);
    check_plan(&q, &a.plan);
    assert_int_equal(a.plan.left_out, 0);
    pac_plan_answer_free(&a);
}

static void test_conditions_are_kept(void **state)
{
    (void)state;
    for (int t = 0; t < 40; t++) {
        fixture x;
        plain(&x, integer(1, 6), integer(0, 3), integer(1, 5));
        pac_plan_request q = request(&x, integer(1, 12), 0);
        q.microbatches = integer(0, 1) ? integer(1, q.batch) : 0;
        q.most_stages = integer(0, 2);
        q.most_ranks = integer(0, 2);
        pac_plan_answer a = solve(&q);
        check_plan(&q, &a.plan);
        assert_true(q.microbatches == 0 || a.plan.microbatches == q.microbatches);
        assert_true(q.most_stages == 0 || a.plan.stages <= q.most_stages);
        for (int64_t i = 0; i < a.plan.stages; i++)
            assert_true(q.most_ranks == 0 || a.plan.stage[i].ranks <= q.most_ranks);
        pac_plan_answer_free(&a);
    }
}

static void test_faster_devices_take_more(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 1, 0, 2);
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        x.device[0].cost[k] = curve(k, 0, 1e-2);
        x.device[1].cost[k] = curve(k, 0, 3e-2);
    }
    pac_plan_request q = request(&x, 8, 1);
    q.every_device = true;
    pac_plan_answer a = solve(&q);
    assert_true(a.plan.stage[0].share[0] == 0.75 && a.plan.cached && a.plan.cached_share[0] == 0.75);
    bool equal = false;
    for (int64_t i = 0; i < a.candidates; i++)
        equal = equal || strstr(a.candidate[i].why, "equal shares: slower by") != NULL;
    assert_true(equal);
    pac_plan_answer_free(&a);
}

static void test_the_cache_is_refused(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    const pac_plan_request q = request(&x, 8, 0);
    pac_plan_answer a = solve(&q);
    assert_true(a.plan.cached);
    assert_string_equal(a.note, "");
    pac_plan_answer_free(&a);
    x.device[0].disk_space = x.device[1].disk_space = 100 * 1000 - 1; /* of 100 rows */
    a = solve(&q);
    assert_false(a.plan.cached);
    assert_non_null(strstr(a.note, "no cache: the disk of rank"));
    pac_plan_answer_free(&a);
    x.device[0].disk_space = x.device[1].disk_space = 100 * 1000;
    x.device[0].disk_write = x.device[1].disk_write = 10;
    a = solve(&q);
    assert_false(a.plan.cached);
    assert_non_null(strstr(a.note, "no cache: an epoch from it takes"));
    pac_plan_answer_free(&a);
}

/* Of two equal devices each writes half and receives half of the other half. */
static void test_a_sharded_cache_needs_less_room(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 4, 0, 2);
    pac_plan_request q = request(&x, 8, 0);
    x.device[0].disk_space = x.device[1].disk_space = 75 * 1000 + 1;
    pac_plan_answer a = solve(&q);
    assert_false(a.plan.cached);
    assert_non_null(strstr(a.note, "all activations take"));
    pac_plan_answer_free(&a);
    q.sharded = true;
    a = solve(&q);
    assert_true(a.plan.cached);
    pac_plan_answer_free(&a);
    x.device[0].disk_space = x.device[1].disk_space = 75 * 1000 - 1;
    a = solve(&q);
    assert_false(a.plan.cached);
    assert_non_null(strstr(a.note, "its activations take"));
    pac_plan_answer_free(&a);
}

/* ---- nothing fits ---- */

static void test_the_nearest_plan_is_named(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 0, 1);
    double need = 2 * (1e6 + 4e4) + 2e4; /* one sample at a time */
    x.device[0].memory = need - 1000;
    pac_plan_request q = request(&x, 8, 0);
    pac_plan_answer a = {0};
    assert_int_equal(pac_plan_best(&q, &a), PAC_ENOMEM);
    assert_non_null(strstr(pac_err_message(), "no plan fits; the plan that came nearest"));
    assert_non_null(strstr(pac_err_message(), "rank 0 (host:0, 2.0 MiB) lacks 1000 bytes"));
    x.device[0].memory = need - 1;
    assert_int_equal(pac_plan_best(&q, &a), PAC_ENOMEM);
    x.device[0].memory = need;
    a = solve(&q);
    assert_int_equal(a.plan.microbatches, 8);
    pac_plan_answer_free(&a);
    q.microbatches = 4;
    assert_int_equal(pac_plan_best(&q, &a), PAC_ENOMEM);
    q.nearest = true; /* the same as a plan */
    a = solve(&q);
    assert_int_equal(a.plan.microbatches, 4);
    assert_true(a.plan.stage[0].bytes[0] > need);
    pac_plan_answer_free(&a);
}

/* What every device lacks of the attempt that the message describes. Returns the sum. */
static double named_bytes(const pac_plan_request *q, double *more)
{
    void *v;
    assert_int_equal(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_search), &v), PAC_OK);
    pac_search *k = v;
    pac_layout near = {.lacks = INFINITY};
    assert_int_equal(pac_search_init(k, q), PAC_OK);
    assert_int_equal(pac_search_exact(k), PAC_OK);
    for (int64_t s = 1; s <= k->most_stages; s++)
        if (k->near[s].stages > 0 && k->near[s].lacks < near.lacks)
            near = k->near[s];
    pac_search_score(k, &near);
    for (int64_t r = 0; r < near.ranks; r++)
        more[k->rank[r]] = fmax(k->bytes[r] - q->profile->device[k->rank[r]].memory, 0);
    pac_search_done(k);
    pac_mem_free(k);
    return near.lacks;
}

static bool fits_with(const pac_plan_request *q, fixture *x, const double *more, double part)
{
    pac_plan_answer a = {0};
    for (int64_t d = 0; d < x->p.devices; d++)
        x->device[d].memory += part * more[d];
    pac_err err = pac_plan_best(q, &a);
    for (int64_t d = 0; d < x->p.devices; d++)
        x->device[d].memory -= part * more[d];
    pac_plan_answer_free(&a);
    return err == PAC_OK;
}

/* So much more on the devices that are named, and a plan fits; with a hundredth less, or as much spread in another way, none
 * does. */
static void test_the_named_bytes_suffice(void **state)
{
    (void)state;
    int tried = 0;
    for (int t = 0; t < 400 && tried < 60; t++) {
        fixture x;
        randomise(&x);
        for (int64_t d = 0; d < x.p.devices; d++)
            x.device[d].memory = floor(x.device[d].memory / 2);
        const pac_plan_request q = request(&x, integer(1, 6), 0);
        double more[MAX_D] = {0}, even[MAX_D], none[MAX_D] = {0};
        if (fits_with(&q, &x, none, 0))
            continue;
        double sum = named_bytes(&q, more);
        for (int64_t d = 0; d < x.p.devices; d++)
            even[d] = sum / (double)x.p.devices;
        assert_true(fits_with(&q, &x, more, 1 + 1e-12));
        assert_false(fits_with(&q, &x, more, 0.99));
        assert_false(fits_with(&q, &x, even, 0.99));
        tried++;
    }
    assert_true(tried >= 20);
}

/* ---- the answer as a value ---- */

static void test_the_same_answer_twice(void **state)
{
    (void)state;
    fixture x;
    randomise(&x);
    plain(&x, 16, 8, 8);
    for (int64_t d = 0; d < 8; d++)
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            x.device[d].cost[k] = curve(k, 1e-3, 1e-3 * (double)(1 + d % 3));
    const pac_plan_request q = request(&x, 16, 0);
    pac_plan_answer a = solve(&q), b = solve(&q);
    check_plan(&q, &a.plan);
    assert_int_equal(a.candidates, b.candidates);
    assert_memory_equal(a.candidate, b.candidate, (size_t)a.candidates * sizeof *a.candidate);
    assert_true(a.plan.predicted.total_s == b.plan.predicted.total_s);
    for (int64_t i = 1; i < a.candidates; i++)
        assert_true(a.candidate[i - 1].total_s <= a.candidate[i].total_s);
    assert_string_equal(a.candidate[0].why, "best");
    pac_plan_answer_free(&a);
    pac_plan_answer_free(&b);
}

static void test_the_plan_survives_its_file(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 5, 0, 4);
    set_links(&x, 1e6, 1e-3);
    for (int64_t d = 0; d < 4; d++)
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            x.device[d].cost[k] = curve(k, 0, 1e-3 * (double)(1 + 3 * d));
    const pac_plan_request q = request(&x, 13, 0);
    pac_plan_answer a = solve(&q);
    char path[] = "/tmp/pac_plan_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(pac_plan_write(&a.plan, path), PAC_OK);
    pac_plan back;
    assert_int_equal(pac_plan_read(path, &back), PAC_OK);
    unlink(path);
    assert_int_equal(pac_plan_predict(&x.p, &q, &back), PAC_OK);
    assert_true(fabs(back.predicted.total_s - a.plan.predicted.total_s) <= 1e-12 * a.plan.predicted.total_s);
    pac_plan_free(&back);
    pac_plan_answer_free(&a);
}

static void test_requests_are_checked(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 0, 4);
    check_requests_are_checked(pac_plan_best, &x);
    check_refused(pac_plan_best, &x,
                  (pac_plan_request){.batch = 4, .rows = 1, .epochs = 1, .most_ranks = 1, .every_device = true});
}

static pac_err exactly(const pac_plan_request *q, pac_plan_answer *out)
{
    return pac_plan_best_by(q, PAC_WAY_EXACT, out);
}

static void test_failed_allocations_leave_nothing(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 3, 2, 3);
    pac_plan_request q = request(&x, 4, 0);
    check_failed_allocations(exactly, &q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_worse_than_what_anybody_would_try),
        cmocka_unit_test(test_some_numbers_of_microbatches),
        cmocka_unit_test(test_no_time_at_all),
        cmocka_unit_test(test_one_device_when_links_are_slow),
        cmocka_unit_test(test_why_devices_are_left_out),
        cmocka_unit_test(test_candidates_say_whether_they_cache),
        cmocka_unit_test(test_every_device_when_asked),
        cmocka_unit_test(test_conditions_are_kept),
        cmocka_unit_test(test_faster_devices_take_more),
        cmocka_unit_test(test_the_cache_is_refused),
        cmocka_unit_test(test_a_sharded_cache_needs_less_room),
        cmocka_unit_test(test_the_nearest_plan_is_named),
        cmocka_unit_test(test_the_named_bytes_suffice),
        cmocka_unit_test(test_the_same_answer_twice),
        cmocka_unit_test(test_the_plan_survives_its_file),
        cmocka_unit_test(test_requests_are_checked),
        cmocka_unit_test(test_failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
