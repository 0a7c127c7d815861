/* The pool of threads: every part is worked on once, whoever does it; nested and foreign calls run whole; OpenBLAS's core
 * type. */
#include "pac/blas.h"
#include "../../src/tensor/kernels.h"
#include "pac/mem.h"
#include "pac/pool.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 1000 };

typedef struct count {
    atomic_int times[MOST], parts;
} count;

static void count_part(void *user, int64_t lo, int64_t hi)
{
    count *c = user;
    atomic_fetch_add(&c->parts, 1);
    for (int64_t i = lo; i < hi; i++)
        atomic_fetch_add(&c->times[i], 1);
}

static void assert_each_once(const count *c, int64_t n)
{
    for (int64_t i = 0; i < MOST; i++)
        assert_int_equal(c->times[i], i < n);
}

static void test_every_element_once(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 64, 999, 1000};
    for (int64_t threads = 1; threads <= 5; threads++) {
        assert_int_equal(pac_pool_set_threads(threads), threads);
        assert_int_equal(pac_pool_threads(), threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int64_t grain = 1; grain <= 100; grain *= 10) {
                count c = {0};
                pac_pool_run(sizes[s], grain, count_part, &c);
                assert_each_once(&c, sizes[s]);
                assert_int_equal(c.parts, pac_pool_parts(sizes[s], grain));
                assert_true(c.parts <= threads && (c.parts <= 1 || sizes[s] / c.parts >= grain));
            }
    }
}

static void nested_part(void *user, int64_t lo, int64_t hi)
{
    (void)hi;
    count *c = user;
    if (lo == 0)
        pac_pool_run(MOST, 1, count_part, c);
}

static void test_nested_runs_are_whole(void **state)
{
    (void)state;
    count c = {0};
    pac_pool_set_threads(3);
    pac_pool_run(3, 1, nested_part, &c);
    assert_each_once(&c, MOST);
    assert_int_equal(c.parts, 1);
}

static void *foreign(void *user)
{
    for (int i = 0; i < 200; i++) {
        count *c = user;
        memset(c, 0, sizeof *c);
        pac_pool_run(MOST, 1, count_part, c);
        for (int64_t k = 0; k < MOST; k++)
            if (c->times[k] != 1)
                return user;
    }
    return NULL;
}

/* Two threads that want the pool at the same time: one has it, the other works alone. */
static void test_two_callers(void **state)
{
    (void)state;
    static count mine, theirs;
    pthread_t other;
    void *wrong;
    pac_pool_set_threads(3);
    assert_int_equal(pthread_create(&other, NULL, foreign, &theirs), 0);
    void *here = foreign(&mine);
    pthread_join(other, &wrong);
    assert_null(here);
    assert_null(wrong);
}

static void test_core_types(void **state)
{
    (void)state;
    assert_string_equal(pac_blas_better_core("Haswell", true), "SkylakeX");
    assert_string_equal(pac_blas_better_core("ZEN", true), "SkylakeX");
    assert_null(pac_blas_better_core("Haswell", false));
    assert_null(pac_blas_better_core("SkylakeX", true));
    assert_null(pac_blas_better_core("Cooperlake", true));
}

static int stop(void **state)
{
    (void)state;
    return pac_pool_set_threads(1) != 1;
}

/* ---- what threads keep ---- */

static void see_part(void *user, int64_t lo, int64_t hi)
{
    count *c = user;
    assert_true(pac_pool_inside() && hi > lo);
    atomic_fetch_add(&c->times[pac_pool_part()], 1);
}

/* Whoever does a part, it has its own number, and all are done; on one processor the caller does most of them. */
static void test_parts_of_late_threads(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    assert_int_equal(pac_pool_set_threads(1), 1);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0); /* the threads that start now have it too */
    assert_int_equal(pac_pool_set_threads(5), 5);
    for (int i = 0; i < 500; i++) {
        count c = {0};
        pac_pool_run(MOST, 1, see_part, &c);
        assert_each_once(&c, 5);
        count each = {0};
        pac_pool_run_each(see_part, &each);
        assert_each_once(&each, 5);
    }
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void ask_at(void *user, int64_t lo, int64_t hi)
{
    const int64_t *at = user;
    (void)hi;
    if (*at < 0 || *at == pac_pool_part())
        assert_non_null(pac_scratch((size_t)(1 << 16)));
    (void)lo;
}

/* One part's scratch becomes all threads', since the next time another may do it. */
static void test_scratch_of_all_threads(void **state)
{
    (void)state;
    int64_t last = 3, everyone = -1;
    assert_int_equal(pac_pool_set_threads(4), 4);
    pac_backend_release();
    pac_pool_run(MOST, 1, ask_at, &last);
    int64_t before = pac_mem_allocations();
    pac_pool_run_each(ask_at, &everyone);
    assert_int_equal(pac_mem_allocations(), before);
    pac_backend_release();
    pac_pool_run_each(ask_at, &everyone);
    assert_int_equal(pac_mem_allocations(), before + 4); /* which can be seen */
    pac_backend_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_of_late_threads), cmocka_unit_test(test_scratch_of_all_threads),
        cmocka_unit_test(test_every_element_once),    cmocka_unit_test(test_nested_runs_are_whole),
        cmocka_unit_test(test_two_callers),           cmocka_unit_test(test_core_types)};
    return cmocka_run_group_tests(tests, NULL, stop);
}
