/* Schedules: the lists that the runtime executes, the validator that would catch a wrong one, and the splits. */
#include "pac/rng.h"
#include "pac/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_P = 6, MAX_M = 9 };

typedef pac_err (*maker)(int64_t p, int64_t P, int64_t M, pac_oplist *out);

static void make(maker f, int64_t P, int64_t M, pac_oplist *l)
{
    for (int64_t p = 0; p < P; p++)
        assert_int_equal(f(p, P, M, &l[p]), PAC_OK);
}

static void drop(pac_oplist *l, int64_t P)
{
    for (int64_t p = 0; p < P; p++)
        pac_oplist_free(&l[p]);
}

/* The largest number of forwards without their backward, counted independently of slots. */
static int64_t most_in_flight(const pac_oplist *l)
{
    int64_t now = 0, most = 0;
    for (int64_t i = 0; i < l->count; i++) {
        now += (l->v[i].kind == PAC_OP_FWD) - (l->v[i].kind == PAC_OP_BWD);
        most = now > most ? now : most;
    }
    return most;
}

static void for_all_sizes(void (*check)(int64_t P, int64_t M))
{
    for (int64_t P = 1; P <= MAX_P; P++)
        for (int64_t M = 1; M <= MAX_M; M++)
            check(P, M);
}

static void check_valid(int64_t P, int64_t M)
{
    static const struct {
        maker f;
        bool train;
    } kinds[] = {{pac_schedule_1f1b, true}, {pac_schedule_gpipe, true}, {pac_schedule_forward, false}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        pac_oplist l[MAX_P];
        make(kinds[k].f, P, M, l);
        if (pac_schedule_validate(l, P, M, kinds[k].train) != PAC_OK)
            fail_msg("P %d M %d kind %d: %s", (int)P, (int)M, (int)k, pac_err_message());
        assert_int_equal(pac_schedule_validate(l, P, M, !kinds[k].train), PAC_EINTERNAL);
        drop(l, P);
    }
}

static void test_all_lists_validate(void **state)
{
    (void)state;
    for_all_sizes(check_valid);
}

static void check_in_flight(int64_t P, int64_t M)
{
    for (int64_t p = 0; p < P; p++) {
        pac_oplist l;
        assert_int_equal(pac_schedule_1f1b(p, P, M, &l), PAC_OK);
        int64_t bound = M < P - p ? M : P - p;
        assert_int_equal(l.in_flight, bound);
        assert_int_equal(most_in_flight(&l), bound);
        pac_oplist_free(&l);
        assert_int_equal(pac_schedule_gpipe(p, P, M, &l), PAC_OK);
        assert_int_equal(most_in_flight(&l), M);
        pac_oplist_free(&l);
    }
}

static void test_1f1b_keeps_few_in_flight(void **state)
{
    (void)state;
    for_all_sizes(check_in_flight);
}

/* The steady phase of 1F1B alternates: after the warm-up no two forwards follow each other. */
static void test_1f1b_alternates(void **state)
{
    (void)state;
    pac_oplist l;
    assert_int_equal(pac_schedule_1f1b(1, 3, 4, &l), PAC_OK);
    static const struct {
        pac_op_kind kind;
        int64_t m;
    } want[] = {{PAC_OP_RECV_FWD, 0}, {PAC_OP_FWD, 0},      {PAC_OP_SEND_FWD, 0}, {PAC_OP_RECV_FWD, 1}, {PAC_OP_FWD, 1},
                {PAC_OP_SEND_FWD, 1}, {PAC_OP_RECV_BWD, 0}, {PAC_OP_BWD, 0},      {PAC_OP_SEND_BWD, 0}, {PAC_OP_RECV_FWD, 2}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(l.v[i].kind, want[i].kind);
        assert_int_equal(l.v[i].m, want[i].m);
    }
    pac_oplist_free(&l);
}

/* ---- broken lists ---- */

static void remove_op(pac_oplist *l, int64_t i)
{
    memmove(&l->v[i], &l->v[i + 1], (size_t)(l->count - i - 1) * sizeof *l->v);
    l->count--;
}

/* Every single operation dropped is noticed, in every list of every size. */
static void check_dropped(int64_t P, int64_t M)
{
    pac_oplist l[MAX_P];
    make(pac_schedule_1f1b, P, M, l);
    for (int64_t p = 0; p < P; p++)
        for (int64_t i = 0; i < l[p].count; i++) {
            pac_op saved[6 * MAX_M + 2];
            int64_t count = l[p].count;
            memcpy(saved, l[p].v, (size_t)count * sizeof *saved);
            remove_op(&l[p], i);
            assert_int_equal(pac_schedule_validate(l, P, M, true), PAC_EINTERNAL);
            l[p].count = count;
            memcpy(l[p].v, saved, (size_t)count * sizeof *saved);
        }
    assert_int_equal(pac_schedule_validate(l, P, M, true), PAC_OK);
    drop(l, P);
}

static void test_a_dropped_operation_is_caught(void **state)
{
    (void)state;
    for_all_sizes(check_dropped);
}

/* An operation repeated in place of its successor, a wrong slot, a wrong micro-batch: each is caught wherever it is put. */
static void check_changed(int64_t P, int64_t M)
{
    pac_oplist l[MAX_P];
    make(pac_schedule_1f1b, P, M, l);
    for (int64_t p = 0; p < P; p++)
        for (int64_t i = 0; i < l[p].count; i++) {
            pac_op *op = &l[p].v[i], good = *op;
            if (i > 0) {
                *op = op[-1];
                assert_int_equal(pac_schedule_validate(l, P, M, true), PAC_EINTERNAL);
            }
            *op = good;
            op->slot = good.slot < 0 ? 0 : l[p].in_flight;
            assert_int_equal(pac_schedule_validate(l, P, M, true), PAC_EINTERNAL);
            *op = good;
            op->m = M;
            assert_int_equal(pac_schedule_validate(l, P, M, true), PAC_EINTERNAL);
            *op = good;
        }
    drop(l, P);
}

static void test_a_changed_operation_is_caught(void **state)
{
    (void)state;
    for_all_sizes(check_changed);
}

static void swap_ops(pac_oplist *l, int64_t i, int64_t j)
{
    pac_op t = l->v[i];
    l->v[i] = l->v[j];
    l->v[j] = t;
}

static void test_swaps_are_caught(void **state)
{
    (void)state;
    pac_oplist l[3];
    make(pac_schedule_1f1b, 3, 4, l);
    swap_ops(&l[1], 0, 1); /* forward before its receive */
    assert_int_equal(pac_schedule_validate(l, 3, 4, true), PAC_EINTERNAL);
    assert_non_null(strstr(pac_err_message(), "stage 1"));
    drop(l, 3);
    make(pac_schedule_1f1b, 3, 4, l);
    swap_ops(&l[0], l[0].count - 1, l[0].count - 2); /* step before reduce */
    assert_int_equal(pac_schedule_validate(l, 3, 4, true), PAC_EINTERNAL);
    drop(l, 3);
}

/* Each stage alone is in order, yet together they wait for each other: the last stage wants micro-batch 1 first, the first
 * stage sends it only after the backward of micro-batch 0. */
static void test_deadlock_is_caught(void **state)
{
    (void)state;
    pac_op first[] = {{PAC_OP_FWD, 0, 0},      {PAC_OP_SEND_FWD, 0, 0}, {PAC_OP_RECV_BWD, 0, 0}, {PAC_OP_BWD, 0, 0},
                      {PAC_OP_FWD, 1, 0},      {PAC_OP_SEND_FWD, 1, 0}, {PAC_OP_RECV_BWD, 1, 0}, {PAC_OP_BWD, 1, 0},
                      {PAC_OP_REDUCE, -1, -1}, {PAC_OP_STEP, -1, -1}};
    pac_op second[] = {{PAC_OP_RECV_FWD, 1, 0}, {PAC_OP_FWD, 1, 0},   {PAC_OP_BWD, 1, 0}, {PAC_OP_SEND_BWD, 1, 0},
                       {PAC_OP_RECV_FWD, 0, 0}, {PAC_OP_FWD, 0, 0},   {PAC_OP_BWD, 0, 0}, {PAC_OP_SEND_BWD, 0, 0},
                       {PAC_OP_REDUCE, -1, -1}, {PAC_OP_STEP, -1, -1}};
    pac_oplist l[] = {{10, 1, first}, {10, 1, second}};
    assert_int_equal(pac_schedule_validate(l, 2, 2, true), PAC_EINTERNAL);
    assert_non_null(strstr(pac_err_message(), "waits for ever"));
}

/* Two micro-batches in one slot at a time: GPipe with a slot too few. */
static void test_shared_slot_is_caught(void **state)
{
    (void)state;
    pac_oplist l[2];
    make(pac_schedule_gpipe, 2, 3, l);
    for (int64_t i = 0; i < l[1].count; i++)
        if (l[1].v[i].m == 2)
            l[1].v[i].slot = 0;
    assert_int_equal(pac_schedule_validate(l, 2, 3, true), PAC_EINTERNAL);
    assert_non_null(strstr(pac_err_message(), "taken"));
    drop(l, 2);
}

static void test_arguments_are_checked(void **state)
{
    (void)state;
    pac_oplist l = {0};
    assert_int_equal(pac_schedule_1f1b(2, 2, 1, &l), PAC_EINVAL);
    assert_int_equal(pac_schedule_1f1b(-1, 2, 1, &l), PAC_EINVAL);
    assert_int_equal(pac_schedule_gpipe(0, 1, 0, &l), PAC_EINVAL);
    assert_int_equal(pac_schedule_forward(0, 1, INT64_MAX, &l), PAC_EINVAL);
    assert_null(l.v);
}

static void test_nothing_leaks_when_allocation_fails(void **state)
{
    (void)state;
    pac_oplist l[2];
    make(pac_schedule_1f1b, 2, 3, l);
    int64_t blocks = pac_mem_blocks();
    pac_err err = PAC_ENOMEM;
    int64_t k = 0;
    while (err == PAC_ENOMEM) {
        pac_mem_fail_at(++k);
        err = pac_schedule_validate(l, 2, 3, true);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    pac_mem_fail_at(0);
    assert_int_equal(err, PAC_OK);
    assert_true(k > 1);
    drop(l, 2);
}

/* ---- splits ---- */

static void test_even_split_covers(void **state)
{
    (void)state;
    for (int64_t n = 0; n <= 40; n++)
        for (int64_t parts = 1; parts <= 12; parts++) {
            int64_t next = 0;
            for (int64_t i = 0; i < parts; i++) {
                pac_range r = pac_split_even(n, parts, i);
                assert_int_equal(r.lo, next);
                assert_true(r.hi - r.lo == n / parts + (i < n % parts));
                next = r.hi;
            }
            assert_int_equal(next, n);
        }
}

static void check_shares(int64_t n, const double *shares, int64_t ranks)
{
    double sum = 0;
    for (int64_t r = 0; r < ranks; r++)
        sum += shares[r];
    int64_t next = 0;
    for (int64_t r = 0; r < ranks; r++) {
        pac_range a = pac_split_shares(n, shares, ranks, r);
        assert_int_equal(a.lo, next);
        assert_true(a.hi >= a.lo);
        assert_true(fabs((double)(a.hi - a.lo) - (double)n * shares[r] / sum) <= 1.0 + 1e-9);
        if (shares[r] == 0)
            assert_int_equal(a.hi, a.lo);
        next = a.hi;
    }
    assert_int_equal(next, n);
}

static void test_share_split_covers(void **state)
{
    (void)state;
    uint64_t draw = 0;
    for (int t = 0; t < 20000; t++) {
        double shares[8];
        int64_t ranks = 1 + (int64_t)(pac_rng_u64(1, PAC_STREAM_TEST, draw++) % 8);
        int64_t n = (int64_t)(pac_rng_u64(1, PAC_STREAM_TEST, draw++) % (t % 2 ? 12 : 100000));
        for (int64_t r = 0; r < ranks; r++) {
            double u = (double)pac_rng_uniform(1, PAC_STREAM_TEST, draw++);
            shares[r] = u < 0.2 ? 0 : u;
        }
        shares[pac_rng_u64(1, PAC_STREAM_TEST, draw++) % (uint64_t)ranks] += 0.1;
        check_shares(n, shares, ranks);
    }
}

/* Boundaries that fall on a half: both neighbours must round it the same way. */
static void test_share_split_ties(void **state)
{
    (void)state;
    static const double equal[8] = {1, 1, 1, 1, 1, 1, 1, 1}, quarters[3] = {1, 2, 1};
    for (int64_t n = 0; n < 40; n++) {
        for (int64_t ranks = 1; ranks <= 8; ranks++)
            check_shares(n, equal, ranks);
        check_shares(n, quarters, 3);
    }
}

static void test_ranges_intersect(void **state)
{
    (void)state;
    pac_range a = pac_range_intersect((pac_range){0, 5}, (pac_range){3, 9});
    assert_true(a.lo == 3 && a.hi == 5);
    pac_range b = pac_range_intersect((pac_range){0, 2}, (pac_range){4, 9});
    assert_true(b.lo == b.hi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_lists_validate),
        cmocka_unit_test(test_1f1b_keeps_few_in_flight),
        cmocka_unit_test(test_1f1b_alternates),
        cmocka_unit_test(test_a_dropped_operation_is_caught),
        cmocka_unit_test(test_a_changed_operation_is_caught),
        cmocka_unit_test(test_swaps_are_caught),
        cmocka_unit_test(test_deadlock_is_caught),
        cmocka_unit_test(test_shared_slot_is_caught),
        cmocka_unit_test(test_arguments_are_checked),
        cmocka_unit_test(test_nothing_leaks_when_allocation_fails),
        cmocka_unit_test(test_even_split_covers),
        cmocka_unit_test(test_share_split_covers),
        cmocka_unit_test(test_share_split_ties),
        cmocka_unit_test(test_ranges_intersect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
