/* Plan files: what is written reads back, and whatever else a person or a broken disk puts there is refused by line. */
#include "hostile_file.h"

#include <sys/stat.h>

static pac_plan random_plan(void)
{
    int64_t groups[5], stages = integer(1, 5), world = 0;
    for (int64_t i = 0; i < stages; i++)
        world += groups[i] = integer(1, 12);
    pac_plan p;
    assert_int_equal(pac_plan_even(groups, stages, integer(stages, 30), integer(1, 16), &p), PAC_OK);
    for (int64_t i = 0; i < stages; i++) {
        pac_stage_plan *st = &p.stage[i];
        double sum = 0;
        for (int64_t r = 0; r < st->ranks; r++) {
            st->rank[r] = world - 1 - st->rank[r]; /* ranks need not be in order */
            sum += st->share[r] = uniform(0.1, 1);
            st->bytes[r] = (double)integer(1, 1000000000);
        }
        for (int64_t r = 0; r < st->ranks; r++)
            st->share[r] /= sum;
    }
    if (integer(0, 1) == 1)
        p.predicted = (pac_predicted){0.25, uniform(1, 2), 0, 3e-05, uniform(1e3, 1e9)};
    return p;
}

static void same_plan(const pac_plan *a, const pac_plan *b)
{
    assert_true(a->world == b->world && a->layers == b->layers && a->microbatches == b->microbatches && a->stages == b->stages);
    assert_string_equal(a->planner, b->planner);
    assert_true(fabs(a->predicted.total_s - b->predicted.total_s) <= 1e-5 * a->predicted.total_s);
    assert_true(fabs(a->predicted.cached_epoch_s - b->predicted.cached_epoch_s) <= 1e-5 * a->predicted.cached_epoch_s);
    for (int64_t i = 0; i < a->stages; i++) {
        const pac_stage_plan *x = &a->stage[i], *y = &b->stage[i];
        assert_true(x->first == y->first && x->last == y->last && x->ranks == y->ranks);
        for (int64_t r = 0; r < x->ranks; r++) {
            assert_int_equal(x->rank[r], y->rank[r]);
            assert_true(x->share[r] == y->share[r]); /* to the bit: shares decide who gets which sample */
            assert_true(x->bytes[r] == y->bytes[r]);
        }
    }
}

static void test_plans_read_back(void **state)
{
    (void)state;
    for (int t = 0; t < 200; t++) {
        pac_plan a = random_plan(), b;
        assert_int_equal(pac_plan_write(&a, path), PAC_OK);
        if (pac_plan_read(path, &b) != PAC_OK)
            fail_msg("%s", pac_err_message());
        same_plan(&a, &b);
        pac_plan_free(&a);
        pac_plan_free(&b);
    }
}

#define PLAN(...) "world: 3\nlayers: 4\nmicrobatches: 2\nstages:\n" __VA_ARGS__

static void test_a_short_plan_by_hand(void **state)
{
    (void)state;
    const char *text = PLAN("  - {layers: [0, 3], ranks: [2, 0], shares: [0.66, 0.33]}\n"
                            "  - {layers: [3, 4], ranks: [1]}\n");
    put(text, strlen(text));
    pac_plan p;
    if (pac_plan_read(path, &p) != PAC_OK)
        fail_msg("%s", pac_err_message());
    assert_string_equal(p.planner, "given");
    assert_int_equal(p.stage[0].rank[0], 2);
    assert_true(fabs(p.stage[0].share[0] - 2.0 / 3) < 1e-12);
    assert_true(p.stage[1].share[0] == 1.0);
    pac_plan_free(&p);
}

static pac_err read_and_free_plan(const char *from)
{
    pac_plan p;
    PAC_TRY(pac_plan_read(from, &p));
    pac_plan_free(&p);
    return PAC_OK;
}

static void test_wrong_plans_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *what;
    } bad[] = {
        {PLAN("  - {layers: [0, 4], ranks: [0, 1]}\n"), "5", "rank 2 is in no stage"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 4], ranks: [1, 2]}\n"), "6",
         "rank 1 is given twice, first in line 5"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 3]}\n"), "5", "ranks"},
        {PLAN("  - {layers: [0, 4], ranks: [0, -1, 2]}\n"), "5", "ranks"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [3, 4], ranks: [2]}\n"), "6", "must be 2"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [1, 4], ranks: [2]}\n"), "6", "must be 2"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 2], ranks: [2]}\n"), "6", "empty"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 3], ranks: [2]}\n"), "5", "the model has 4"},
        {PLAN("  - {layers: [0, 5], ranks: [0, 1, 2]}\n"), "5", "layers"},
        {PLAN("  - {layers: [0], ranks: [0, 1, 2]}\n"), "5", "must have 2"},
        {PLAN("  - {layers: 4, ranks: [0, 1, 2]}\n"), "5", "list"},
        {PLAN("  - {layers: [0, 3], ranks: [0, 1, 2]}\n  - {layers: [3, 4], ranks: []}\n"), "6", "has no ranks"},
        {PLAN("  - {layers: [0, 4]}\n"), "5", "ranks is missing"},
        {PLAN("  - {ranks: [0, 1, 2]}\n"), "5", "layers is missing"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5, 0]}\n"), "5", "above 0"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.8, 0.4, -0.2]}\n"), "5", "shares"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.2, 0.2]}\n"), "5", "sum to 0.9"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5]}\n"), "5", "must have 3"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5, nan]}\n"), "5", "not a number"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], bytes: [1, 2, -3]}\n"), "5", "bytes"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], share: [1]}\n"), "5", "shares"},
        {PLAN("  - 3\n"), "5", "map"},
        {PLAN("  {}\n"), "5", "list"},
        {PLAN("  []\n"), "5", "0 items"},
        {"world: 3\nlayers: 4\nmicrobatches: 0\nstages: []\n", "3", "microbatches"},
        {"world: 0\nlayers: 4\nmicrobatches: 1\nstages: []\n", "1", "world"},
        {"world: 100000000000\nlayers: 4\nmicrobatches: 1\nstages: []\n", "1", "world"},
        {"world: 1\nlayers: 99999999999999999999\nmicrobatches: 1\nstages: []\n", "2", "layers"},
        {"world: 1\nmicrobatches: 1\nstages: []\n", "1", "layers is missing"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\n", "1", "stages is missing"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\nstage: []\n", "4", "stages"},
        {"planner: [a]\nworld: 1\n", "1", "expected pac, paper or given"},
        {"planner: foo\nworld: 1\n", "1", "unknown value 'foo'"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\nstages: [{layers: [0, 1], ranks: [0]}]\npredicted: {hybrid_step_s: 1}\n", "5",
         "is missing"},
        {"[]\n", "1", "map"},
        {"world\n", "1", "map"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(read_and_free_plan, bad[i].text, bad[i].line, bad[i].what);
    assert_int_equal(read_and_free_plan("/nowhere/plan.yaml"), PAC_EIO);
}

/* ---- any file ---- */

static pac_err write_it(const void *plan)
{
    return pac_plan_write(plan, path);
}

static pac_err read_it(const void *nothing)
{
    (void)nothing;
    return read_and_free_plan(path);
}

static void test_documented_example(void **state)
{
    (void)state;
    check_example("## plan.yaml", read_and_free_plan);
}

static void test_damaged_files(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    assert_int_equal(pac_plan_write(&plan, path), PAC_OK);
    pac_plan_free(&plan);
    damage(read_and_free_plan);
}

static void test_failed_allocations_leave_nothing(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    fail_allocations(write_it, &plan);
    fail_allocations(read_it, NULL);
    pac_plan_free(&plan);
}

static void test_unwritable_outputs(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    assert_int_equal(pac_plan_write(&plan, "/nowhere/plan.yaml"), PAC_EIO);
    assert_non_null(strstr(pac_err_message(), "/nowhere/plan.yaml"));
    if (access("/dev/full", W_OK) == 0) {
        struct stat still;
        assert_int_equal(pac_plan_write(&plan, "/dev/full"), PAC_ENOSPACE);
        assert_true(stat("/dev/full", &still) == 0 && S_ISCHR(still.st_mode)); /* a device is not replaced by a file */
    }
    remove(path);
    plan.stage[0].share[0] = NAN;
    assert_int_equal(pac_plan_write(&plan, path), PAC_EINVAL);
    assert_true(access(path, F_OK) != 0);
    pac_plan_free(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_read_back),         cmocka_unit_test(test_a_short_plan_by_hand),
        cmocka_unit_test(test_wrong_plans_are_refused), cmocka_unit_test(test_documented_example),
        cmocka_unit_test(test_damaged_files),           cmocka_unit_test(test_failed_allocations_leave_nothing),
        cmocka_unit_test(test_unwritable_outputs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
