/* Packed batches: order, offsets, shifting, gold values, faults. */
#include "pac/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Three rows with sources of 2, 1 and 3 ids and labels of 1, 3 and 2. */
static int64_t soff[] = {0, 2, 3, 6}, toff[] = {0, 1, 4, 6}, no_targets[] = {0, 0, 0, 0};
static int32_t sids[] = {10, 11, 20, 30, 31, 32}, labels[] = {50, 60, PAC_IGNORE, 62, 70, 71}, cls[] = {1, 0, 2};
static float value[] = {0.5f, 1.5f, 2.5f};
static const pac_dataset text_rows = {.rows = 3, .soff = soff, .toff = toff, .sids = sids, .labels = labels};

static pac_arena *arena;

static int set_up(void **state)
{
    (void)state;
    return pac_arena_new(PAC_MEM_WORK, &arena) != PAC_OK;
}

static int tear_down(void **state)
{
    (void)state;
    pac_arena_free(&arena);
    return 0;
}

#define CHECK_ARRAY(got, ...)                                                                                                  \
    do {                                                                                                                       \
        assert_memory_equal(got, ((__VA_ARGS__)), sizeof(__VA_ARGS__));                                                        \
    } while (0)

static void test_rows_in_the_order_asked(void **state)
{
    (void)state;
    pac_batch b;
    int64_t rows[] = {2, 0, 2};
    const pac_batch_opts o = {.start_id = 7, .pad_id = 9};
    assert_int_equal(pac_batch_gather(&text_rows, rows, 3, &o, arena, &b), PAC_OK);
    rows[0] = 99; /* the batch has its own copy */
    assert_int_equal(b.B, 3);
    CHECK_ARRAY(b.sample, (int64_t[]){2, 0, 2});
    CHECK_ARRAY(b.soff, (int64_t[]){0, 3, 5, 8});
    CHECK_ARRAY(b.sids, (int32_t[]){30, 31, 32, 10, 11, 30, 31, 32});
    CHECK_ARRAY(b.toff, (int64_t[]){0, 2, 3, 5});
    CHECK_ARRAY(b.labels, (int32_t[]){70, 71, 50, 70, 71});
    CHECK_ARRAY(b.tids, (int32_t[]){7, 70, 7, 7, 70});
    assert_null(b.cls);
    assert_null(b.value);
    pac_arena_reset(arena);
}

/* Rows 0 and 2 have a second sentence, which begins at their rows 1 and 2. */
static void test_second_sentences(void **state)
{
    (void)state;
    static int32_t second[] = {1, 0, 2};
    pac_dataset pairs = text_rows;
    pac_batch b;
    const int64_t rows[] = {2, 1, 0};
    pairs.second = second;
    pac_batch_opts o = {.start_id = 7, .types = true};
    assert_int_equal(pac_batch_gather(&pairs, rows, 3, &o, arena, &b), PAC_OK);
    assert_int_equal(b.A, 3);
    assert_null(b.aoff);
    CHECK_ARRAY(b.stypes, (int32_t[]){0, 0, 1, 0, 0, 1});
    o.separate = true;
    assert_int_equal(pac_batch_gather(&pairs, rows, 3, &o, arena, &b), PAC_OK);
    assert_int_equal(b.A, 5);
    CHECK_ARRAY(b.aoff, (int64_t[]){0, 2, 3, 4, 5, 6});
    CHECK_ARRAY(b.soff, (int64_t[]){0, 3, 4, 6});
    CHECK_ARRAY(b.stypes, (int32_t[]){0, 0, 0, 0, 0, 0});
    o.types = false;
    assert_int_equal(pac_batch_gather(&text_rows, rows, 3, &o, arena, &b), PAC_OK); /* nobody has a second sentence */
    assert_int_equal(b.A, 3);
    CHECK_ARRAY(b.aoff, (int64_t[]){0, 3, 4, 6});
    assert_null(b.stypes);
    pac_arena_reset(arena);
}

static void test_ignored_labels_are_fed_as_pad(void **state)
{
    (void)state;
    pac_batch b;
    const pac_batch_opts o = {.start_id = 7, .pad_id = 9};
    assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){1}, 1, &o, arena, &b), PAC_OK);
    CHECK_ARRAY(b.labels, (int32_t[]){60, PAC_IGNORE, 62});
    CHECK_ARRAY(b.tids, (int32_t[]){7, 60, 9});
    pac_arena_reset(arena);
}

static void test_classification_shifts_the_source(void **state)
{
    (void)state;
    pac_batch b;
    pac_dataset d = {.rows = 3, .soff = soff, .toff = no_targets, .sids = sids, .cls = cls};
    const pac_batch_opts o = {.start_id = 7, .shift_source = true};
    assert_int_equal(pac_batch_gather(&d, (int64_t[]){2, 1}, 2, &o, arena, &b), PAC_OK);
    CHECK_ARRAY(b.toff, (int64_t[]){0, 3, 4});
    CHECK_ARRAY(b.tids, (int32_t[]){7, 30, 31, 7});
    CHECK_ARRAY(b.cls, (int32_t[]){2, 0});
    assert_null(b.labels);
    d.cls = NULL;
    d.value = value;
    assert_int_equal(pac_batch_gather(&d, (int64_t[]){1}, 1, &o, arena, &b), PAC_OK);
    CHECK_ARRAY(b.value, (float[]){1.5f});
    assert_null(b.cls);
    pac_arena_reset(arena);
}

static void test_rows_without_targets(void **state)
{
    (void)state;
    pac_batch b;
    const pac_dataset d = {.rows = 3, .soff = soff, .toff = no_targets, .sids = sids};
    const pac_batch_opts o = {.start_id = 7};
    assert_int_equal(pac_batch_gather(&d, (int64_t[]){0, 1}, 2, &o, arena, &b), PAC_OK);
    CHECK_ARRAY(b.toff, (int64_t[]){0, 0, 0});
    CHECK_ARRAY(b.sids, (int32_t[]){10, 11, 20});
    pac_arena_reset(arena);
}

static void test_rows_that_do_not_exist(void **state)
{
    (void)state;
    pac_batch b;
    const pac_batch_opts o = {0};
    assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){0, 3}, 2, &o, arena, &b), PAC_EINVAL);
    assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){-1}, 1, &o, arena, &b), PAC_EINVAL);
    assert_int_equal(pac_batch_gather(&text_rows, NULL, 0, &o, arena, &b), PAC_OK);
}

static void test_steady_gathering_allocates_nothing(void **state)
{
    (void)state;
    pac_batch b;
    const pac_batch_opts o = {.start_id = 7};
    assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){0, 1, 2}, 3, &o, arena, &b), PAC_OK);
    int64_t blocks = pac_mem_blocks(), bytes = pac_mem_current_total();
    for (int i = 0; i < 100; i++) {
        pac_arena_reset(arena);
        assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){0, 1, 2}, 3, &o, arena, &b), PAC_OK);
    }
    assert_int_equal(pac_mem_blocks(), blocks);
    assert_int_equal(pac_mem_current_total(), bytes);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    pac_batch b = {.B = -1};
    const pac_batch_opts o = {0};
    pac_arena *fresh;
    assert_int_equal(pac_arena_new(PAC_MEM_WORK, &fresh), PAC_OK);
    pac_mem_fail_at(1);
    assert_int_equal(pac_batch_gather(&text_rows, (int64_t[]){0}, 1, &o, fresh, &b), PAC_ENOMEM);
    pac_mem_fail_at(0);
    assert_int_equal(b.B, -1); /* unchanged */
    pac_arena_free(&fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_in_the_order_asked),
        cmocka_unit_test(test_second_sentences),
        cmocka_unit_test(test_ignored_labels_are_fed_as_pad),
        cmocka_unit_test(test_classification_shifts_the_source),
        cmocka_unit_test(test_rows_without_targets),
        cmocka_unit_test(test_rows_that_do_not_exist),
        cmocka_unit_test(test_steady_gathering_allocates_nothing),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
