/* Core: errors, the memory ledger, arenas, random numbers. */
#include "pac/err.h"
#include "pac/mem.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_message_and_context(void **state)
{
    (void)state;
    assert_int_equal(pac_fail(PAC_EDATA, "row %d", 7), PAC_EDATA);
    assert_int_equal(pac_fail_context(PAC_EDATA, "%s", "train.tsv"), PAC_EDATA);
    assert_string_equal(pac_err_message(), "train.tsv: row 7");
    pac_fail(PAC_EIO, "again: %s", pac_err_message());
    assert_string_equal(pac_err_message(), "again: train.tsv: row 7");
    assert_int_equal(pac_err_exit_code(PAC_EDATA), 3);
    assert_int_equal(pac_err_exit_code(PAC_EPEER), 75);
    assert_int_equal(pac_err_exit_code((pac_err)999), 70);
}

static void test_ledger_counts_current_and_peak(void **state)
{
    (void)state;
    pac_mem_reset_peaks();
    int64_t before = pac_mem_current(PAC_MEM_WORK);
    void *a, *b;
    assert_int_equal(pac_mem_alloc(PAC_MEM_WORK, 100, &a), PAC_OK);
    assert_int_equal(pac_mem_array(PAC_MEM_WORK, 10, 8, &b), PAC_OK);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal(pac_mem_current(PAC_MEM_WORK), before + 180);
    pac_mem_free(a);
    pac_mem_free(b);
    assert_int_equal(pac_mem_current(PAC_MEM_WORK), before);
    assert_int_equal(pac_mem_peak(PAC_MEM_WORK), before + 180);
    assert_int_equal(pac_mem_array(PAC_MEM_WORK, INT64_MAX, 8, &b), PAC_ENOMEM);
}

static void test_fault_injection_fails_the_kth(void **state)
{
    (void)state;
    void *p, *q;
    pac_mem_fail_at(2);
    assert_int_equal(pac_mem_alloc(PAC_MEM_WORK, 8, &p), PAC_OK);
    assert_int_equal(pac_mem_alloc(PAC_MEM_WORK, 8, &q), PAC_ENOMEM);
    assert_int_equal(pac_mem_alloc(PAC_MEM_WORK, 8, &q), PAC_OK);
    pac_mem_free(p);
    pac_mem_free(q);
}

static void test_grow_keeps_contents(void **state)
{
    (void)state;
    void *v = NULL;
    int64_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(pac_mem_grow(PAC_MEM_WORK, &v, &capacity, i + 1, sizeof(int)), PAC_OK);
        ((int *)v)[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(((int *)v)[i], i);
    pac_mem_free(v);
}

static void test_arena_settles_in_one_chunk(void **state)
{
    (void)state;
    pac_arena *a;
    assert_int_equal(pac_arena_new(PAC_MEM_WORK, &a), PAC_OK);
    for (int step = 0; step < 3; step++) {
        int64_t blocks = pac_mem_blocks();
        float *first, *last = NULL;
        assert_int_equal(pac_arena_floats(a, 10, &first), PAC_OK);
        first[9] = 3.0f;
        for (int i = 0; i < 100; i++) {
            assert_int_equal(pac_arena_floats(a, 5000, &last), PAC_OK);
            memset(last, 0xff, 5000 * sizeof(float));
        }
        assert_true(first[9] == 3.0f);
        if (step > 0)
            assert_int_equal(pac_mem_blocks(), blocks);
        pac_arena_reset(a);
    }
    float *p, *q;
    size_t mark = pac_arena_mark(a);
    assert_int_equal(pac_arena_floats(a, 7, &p), PAC_OK);
    pac_arena_release(a, mark);
    assert_int_equal(pac_arena_floats(a, 7, &q), PAC_OK);
    assert_ptr_equal(p, q);
    pac_arena_free(&a);
    assert_null(a);
}

static void test_random_is_a_function_of_position(void **state)
{
    (void)state;
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        float x = pac_rng_normal(1, PAC_STREAM_TEST, i);
        sum += x;
        squares += (double)x * x;
        assert_true(pac_rng_normal(1, PAC_STREAM_TEST, i) == x);
    }
    assert_true(fabs(sum / 10000) < 0.05);
    assert_true(fabs(squares / 10000 - 1) < 0.05);
    int64_t perm[50], seen[50] = {0};
    pac_rng_permutation(3, 1, 50, perm);
    for (int i = 0; i < 50; i++)
        seen[perm[i]]++;
    for (int i = 0; i < 50; i++)
        assert_int_equal(seen[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_and_context),     cmocka_unit_test(test_ledger_counts_current_and_peak),
        cmocka_unit_test(test_fault_injection_fails_the_kth), cmocka_unit_test(test_grow_keeps_contents),
        cmocka_unit_test(test_arena_settles_in_one_chunk), cmocka_unit_test(test_random_is_a_function_of_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
