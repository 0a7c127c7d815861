/*
 * What the golden tests want of CMocka, for machines that have no package of it (cuda/build_bare.sh). Each test function runs
 * in turn; the first failure says where and what, and ends the program.
 */
#ifndef PAC_BARE_CMOCKA_H
#define PAC_BARE_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(f)                                                                                                    \
    {                                                                                                                          \
#f, f                                                                                                                  \
    }

#define fail_msg(...)                                                                                                          \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))
#define print_message                printf
#define skip()                       return /* from the test function */
#define assert_true(x)               ((x) ? (void)0 : fail_msg("%s does not hold", #x))
#define assert_null(p)               assert_true((p) == NULL)
#define assert_non_null(p)           assert_true((p) != NULL)
#define assert_int_equal(a, b)       assert_true((long long)(a) == (long long)(b))
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)

static inline int cmocka_bare_run(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        tests[i].run(&state);
        printf("ok %zu %s\n", i + 1, tests[i].name);
        fflush(stdout);
    }
    return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown) cmocka_bare_run(tests, sizeof(tests) / sizeof *(tests))

#endif
