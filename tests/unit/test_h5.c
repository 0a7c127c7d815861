/* HDF5 files: arrays and attributes there and back, hostile files, a killed writer, two threads at once. */
#include "pac/h5.h"
#include "pac/mem.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MARK "test mark\n"

static char base[] = "/tmp/pac-h5-XXXXXX";
static char path[64];

static int make_base(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/file.h5", mkdtemp(base));
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(base);
}

static void write_example(void)
{
    pac_h5 *f;
    pac_h5_array *a;
    int64_t numbers[1000];
    unlink(path);
    for (int64_t i = 0; i < 1000; i++)
        numbers[i] = i * i - 7;
    assert_int_equal(pac_h5_create(path, MARK, &f), PAC_OK);
    assert_int_equal(pac_h5_set(f, "answer", 41), PAC_OK);
    assert_int_equal(pac_h5_set(f, "answer", UINT64_MAX), PAC_OK);
    assert_int_equal(pac_h5_array_new(f, "numbers", PAC_I64, 64, &a), PAC_OK);
    assert_int_equal(pac_h5_array_append(a, numbers, 10), PAC_OK);
    assert_int_equal(pac_h5_array_append(a, numbers + 10, 990), PAC_OK);
    assert_int_equal(pac_h5_array_length(a), 1000);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_array_new(f, "none", PAC_F32, 8, &a), PAC_OK);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
    assert_null(f);
}

static void test_there_and_back(void **state)
{
    (void)state;
    pac_h5 *f;
    pac_h5_array *a;
    uint64_t answer;
    int64_t some[300];
    write_example();
    assert_int_equal(pac_h5_open(path, false, &f), PAC_OK);
    assert_int_equal(pac_h5_get(f, "answer", &answer), PAC_OK);
    assert_true(answer == UINT64_MAX);
    assert_int_equal(pac_h5_array_open(f, "numbers", PAC_I64, &a), PAC_OK);
    static const int64_t hints[][2] = {{50, 300}, {0, 1000}, {999, 1}, {999, 2},
                                       {-1, 5},   {5, -1},   {0, 0},   {INT64_MAX, INT64_MAX}};
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        pac_h5_array_will_read(a, hints[i][0], hints[i][1]); /* never an error */
    assert_int_equal(pac_h5_array_read(a, 50, 300, some), PAC_OK);
    for (int64_t i = 0; i < 300; i++)
        assert_int_equal(some[i], (i + 50) * (i + 50) - 7);
    assert_int_equal(pac_h5_array_read(a, 1000, 0, some), PAC_OK);
    assert_int_equal(pac_h5_array_read(a, 999, 2, some), PAC_EDATA);
    assert_int_equal(pac_h5_array_read(a, -1, 1, some), PAC_EDATA);
    assert_int_equal(pac_h5_array_read(a, INT64_MAX, INT64_MAX, some), PAC_EDATA);
    assert_int_equal(pac_h5_array_write(a, 0, some, 1), PAC_EIO); /* opened for reading */
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

static void test_extend_and_write(void **state)
{
    (void)state;
    pac_h5 *f;
    pac_h5_array *a;
    uint8_t bytes[100], back[10];
    for (int i = 0; i < 100; i++)
        bytes[i] = (uint8_t)i;
    unlink(path);
    assert_int_equal(pac_h5_create(path, MARK, &f), PAC_OK);
    assert_int_equal(pac_h5_array_new(f, "bytes", PAC_U8, 16, &a), PAC_OK);
    assert_int_equal(pac_h5_array_extend(a, 200), PAC_OK);
    assert_int_equal(pac_h5_array_extend(a, 100), PAC_EINVAL);
    assert_int_equal(pac_h5_array_write(a, 100, bytes, 100), PAC_OK);
    assert_int_equal(pac_h5_array_write(a, 101, bytes, 100), PAC_EINVAL);
    assert_int_equal(pac_h5_array_read(a, 145, 10, back), PAC_OK);
    assert_memory_equal(back, bytes + 45, 10);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_array_new(f, "i8", PAC_I8, 16, &a), PAC_EINVAL);
    assert_int_equal(pac_h5_array_new(f, "bytes", PAC_U8, 16, &a), PAC_EIO); /* there already */
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

static void test_what_is_missing_or_wrong(void **state)
{
    (void)state;
    pac_h5 *f;
    pac_h5_array *a;
    uint64_t value;
    write_example();
    assert_int_equal(pac_h5_create(path, MARK, &f), PAC_EIO);
    assert_int_equal(pac_h5_open("/tmp/is-not-there.h5", false, &f), PAC_EIO);
    assert_int_equal(pac_h5_open(path, false, &f), PAC_OK);
    assert_int_equal(pac_h5_get(f, "question", &value), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), path));
    assert_int_equal(pac_h5_array_open(f, "letters", PAC_I64, &a), PAC_EDATA);
    assert_int_equal(pac_h5_array_open(f, "numbers", PAC_I32, &a), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "not a plain list of i32"));
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

static void test_mark(void **state)
{
    (void)state;
    write_example();
    assert_true(pac_h5_marked(path, MARK));
    assert_false(pac_h5_marked(path, "another mark"));
    assert_false(pac_h5_marked(base, MARK));
    assert_false(pac_h5_marked("/tmp/is-not-there.h5", MARK));
    assert_int_equal(truncate(path, 600), 0); /* the mark outlives the rest */
    pac_h5 *f;
    assert_true(pac_h5_marked(path, MARK));
    assert_int_equal(pac_h5_open(path, false, &f), PAC_EDATA);
    assert_int_equal(truncate(path, 3), 0);
    assert_false(pac_h5_marked(path, MARK));
}

/* An array whose recorded length is larger than its file: no memory may be taken for it. */
static void test_claimed_length(void **state)
{
    (void)state;
    pac_h5 *f;
    pac_h5_array *a;
    unlink(path);
    assert_int_equal(pac_h5_create(path, MARK, &f), PAC_OK);
    assert_int_equal(pac_h5_array_new(f, "numbers", PAC_I64, 64, &a), PAC_OK);
    assert_int_equal(pac_h5_array_extend(a, INT64_C(1) << 50), PAC_OK);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
    assert_int_equal(pac_h5_open(path, false, &f), PAC_OK);
    assert_int_equal(pac_h5_array_open(f, "numbers", PAC_I64, &a), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "more than the file holds"));
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

static void test_killed_writer_leaves_what_was_flushed(void **state)
{
    (void)state;
    unlink(path);
    pid_t child = fork();
    if (child == 0) {
        pac_h5 *f;
        pac_h5_array *a;
        float x[100] = {[99] = 1.5f};
        if (pac_h5_create(path, MARK, &f) != PAC_OK || pac_h5_array_new(f, "x", PAC_F32, 64, &a) != PAC_OK ||
            pac_h5_array_append(a, x, 100) != PAC_OK || pac_h5_flush(f) != PAC_OK)
            _exit(1);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    pac_h5 *f;
    pac_h5_array *a;
    float last;
    assert_int_equal(pac_h5_open(path, true, &f), PAC_OK);
    assert_int_equal(pac_h5_array_open(f, "x", PAC_F32, &a), PAC_OK);
    assert_int_equal(pac_h5_array_length(a), 100);
    assert_int_equal(pac_h5_array_read(a, 99, 1, &last), PAC_OK);
    assert_true(last == 1.5f);
    pac_h5_array_close(&a);
    assert_int_equal(pac_h5_close(&f), PAC_OK);
}

/* A limit on the file's size stands for a full disk: the write fails and closing does not hang or crash. */
static void test_write_that_fails(void **state)
{
    (void)state;
    unlink(path);
    pid_t child = fork();
    if (child == 0) {
        pac_h5 *f;
        pac_h5_array *a;
        static uint8_t block[1 << 16];
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 18, 1 << 18});
        if (pac_h5_create(path, MARK, &f) != PAC_OK || pac_h5_array_new(f, "x", PAC_U8, 1 << 12, &a) != PAC_OK)
            _exit(1);
        pac_err err = PAC_OK;
        for (int i = 0; i < 8 && err == PAC_OK; i++)
            err = pac_h5_array_append(a, block, sizeof block);
        pac_h5_array_close(&a);
        pac_err closed = pac_h5_close(&f);
        _exit(err == PAC_EIO && (closed == PAC_OK || closed == PAC_EIO) && f == NULL && strstr(pac_err_message(), path) ? 0
                                                                                                                        : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void *read_often(void *user)
{
    pac_h5 *f;
    pac_h5_array *a;
    int64_t wrong = 0, x;
    if (pac_h5_open(path, false, &f) != PAC_OK || pac_h5_array_open(f, "numbers", PAC_I64, &a) != PAC_OK)
        return user;
    for (int64_t i = 0; i < 2000; i++)
        wrong += pac_h5_array_read(a, i % 1000, 1, &x) != PAC_OK || x != (i % 1000) * (i % 1000) - 7;
    pac_h5_array_close(&a);
    return pac_h5_close(&f) == PAC_OK && wrong == 0 ? NULL : user;
}

static void test_threads(void **state)
{
    pthread_t t[3];
    void *failed;
    write_example();
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_often, state), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(t[i], &failed), 0);
        assert_null(failed);
    }
}

static void test_nothing_leaks(void **state)
{
    (void)state;
    assert_int_equal(pac_mem_blocks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_extend_and_write),
        cmocka_unit_test(test_what_is_missing_or_wrong),
        cmocka_unit_test(test_mark),
        cmocka_unit_test(test_claimed_length),
        cmocka_unit_test(test_killed_writer_leaves_what_was_flushed),
        cmocka_unit_test(test_write_that_fails),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
