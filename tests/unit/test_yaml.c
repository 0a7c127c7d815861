/* YAML: trees with lines, typed readers, and files that try to do harm. */
#include "pac/mem.h"
#include "pac/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static pac_yaml *parsed(const char *text)
{
    pac_yaml *y = NULL;
    pac_err err = pac_yaml_parse("run.yaml", text, &y);
    if (err != PAC_OK)
        fail_msg("%s", pac_err_message());
    return y;
}

static void assert_message(const char *part)
{
    if (strstr(pac_err_message(), part) == NULL)
        fail_msg("'%s' is not in '%s'", part, pac_err_message());
}

static void assert_refused(const char *text, const char *part)
{
    pac_yaml *y = NULL;
    if (pac_yaml_parse("run.yaml", text, &y) != PAC_ECONFIG)
        fail_msg("accepted: %.60s", text);
    assert_null(y);
    assert_message(part);
}

static void test_tree_knows_order_and_lines(void **state)
{
    (void)state;
    pac_yaml *y = parsed("# c\nb: 1\na:\n  - x\n  - {k: 'v w', z: \"\"}\nempty: []\n");
    const pac_yaml_node *root = pac_yaml_root(y);
    assert_int_equal(pac_yaml_kind_of(root), PAC_YAML_MAP);
    assert_int_equal(pac_yaml_count(root), 3);
    assert_string_equal(pac_yaml_key(root, 0), "b");
    assert_null(pac_yaml_key(root, 3));
    assert_null(pac_yaml_item(root, -1));
    assert_int_equal(pac_yaml_line(pac_yaml_get(root, "b")), 2);
    const pac_yaml_node *a = pac_yaml_get(root, "a");
    assert_int_equal(pac_yaml_kind_of(a), PAC_YAML_LIST);
    assert_int_equal(pac_yaml_count(a), 2);
    assert_string_equal(pac_yaml_text(pac_yaml_item(a, 0)), "x");
    const pac_yaml_node *k = pac_yaml_get(pac_yaml_item(a, 1), "k");
    assert_string_equal(pac_yaml_text(k), "v w");
    assert_int_equal(pac_yaml_line(k), 5);
    assert_int_equal(pac_yaml_count(pac_yaml_get(root, "empty")), 0);
    assert_null(pac_yaml_get(root, "absent"));
    assert_null(pac_yaml_get(a, "x"));
    pac_yaml_close(&y);
    assert_null(y);
}

static void test_typed_values(void **state)
{
    (void)state;
    pac_yaml *y = parsed("i: -7\nd: 3.0e-3\nt: true\nf: false\nb: 16 GiB\nm: 200 MB\nn: 1048576\nc: bf16\n");
    const pac_yaml_node *r = pac_yaml_root(y);
    static const char *const names[] = {"f32", "bf16", NULL};
    int64_t i;
    double d;
    bool t;
    assert_int_equal(pac_yaml_int(pac_yaml_get(r, "i"), "i", -10, 10, &i), PAC_OK);
    assert_int_equal(i, -7);
    assert_int_equal(pac_yaml_double(pac_yaml_get(r, "d"), "d", 0, 1, &d), PAC_OK);
    assert_true(d == 3.0e-3);
    assert_int_equal(pac_yaml_bool(pac_yaml_get(r, "t"), "t", &t), PAC_OK);
    assert_true(t);
    assert_int_equal(pac_yaml_bool(pac_yaml_get(r, "f"), "f", &t), PAC_OK);
    assert_false(t);
    assert_int_equal(pac_yaml_bytes(pac_yaml_get(r, "b"), "b", &d), PAC_OK);
    assert_true(d == 16.0 * (1 << 30));
    assert_int_equal(pac_yaml_bytes(pac_yaml_get(r, "m"), "m", &d), PAC_OK);
    assert_true(d == 200e6);
    assert_int_equal(pac_yaml_bytes(pac_yaml_get(r, "n"), "n", &d), PAC_OK);
    assert_true(d == 1048576);
    assert_int_equal(pac_yaml_choice(pac_yaml_get(r, "c"), "c", names, &i), PAC_OK);
    assert_int_equal(i, 1);
    pac_yaml_close(&y);
}

static void test_ill_typed_values_name_the_place(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "abc", "1x", "''", "0x10", "nan", "inf", "1e999", "[1]", "{a: 1}", "- 1", "9999999999999999999"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        char text[64];
        snprintf(text, sizeof text, "first: 1\nx: %s\n", bad[k][0] == '-' ? "[-]" : bad[k]);
        pac_yaml *y = parsed(text);
        const pac_yaml_node *x = pac_yaml_get(pac_yaml_root(y), "x");
        int64_t i = 42;
        double d = 42;
        bool b = true;
        assert_int_equal(pac_yaml_int(x, "train.x", 0, INT64_MAX, &i), PAC_ECONFIG);
        assert_message("run.yaml:2: train.x: ");
        assert_int_equal(i, 42);
        if (k < 10) {
            assert_int_equal(pac_yaml_double(x, "train.x", 0, 1, &d), PAC_ECONFIG);
            assert_message("run.yaml:2: train.x: ");
            assert_int_equal(pac_yaml_bytes(x, "train.x", &d), PAC_ECONFIG);
            assert_message("run.yaml:2: train.x: ");
            assert_true(d == 42);
        }
        assert_int_equal(pac_yaml_bool(x, "train.x", &b), PAC_ECONFIG);
        pac_yaml_close(&y);
    }
    pac_yaml *y = parsed("n: 5\ns: -1 GB\nu: 3 parsec\n");
    const pac_yaml_node *r = pac_yaml_root(y);
    int64_t i;
    double d;
    assert_int_equal(pac_yaml_int(pac_yaml_get(r, "n"), "n", 6, INT64_MAX, &i), PAC_ECONFIG);
    assert_message("n: 5 is too small, at least 6");
    assert_int_equal(pac_yaml_int(pac_yaml_get(r, "n"), "n", 1, 4, &i), PAC_ECONFIG);
    assert_message("n: 5 is not between 1 and 4");
    assert_int_equal(pac_yaml_double(pac_yaml_get(r, "n"), "n", 0, 1, &d), PAC_ECONFIG);
    assert_int_equal(pac_yaml_bytes(pac_yaml_get(r, "s"), "s", &d), PAC_ECONFIG);
    assert_int_equal(pac_yaml_bytes(pac_yaml_get(r, "u"), "u", &d), PAC_ECONFIG);
    pac_yaml_close(&y);
}

static void test_unknown_words_get_the_nearest(void **state)
{
    (void)state;
    static const char *const keys[] = {"epochs", "batch", "lr", "microbatches", NULL};
    assert_string_equal(pac_nearest("epoch", keys), "epochs");
    assert_string_equal(pac_nearest("bacth", keys), "batch");
    assert_string_equal(pac_nearest("micro_batches", keys), "microbatches");
    assert_string_equal(pac_nearest("lr", keys), "lr");
    assert_null(pac_nearest("zzzz", keys));
    assert_null(pac_nearest("", keys));
    pac_yaml *y = parsed("lr: 1\nepoch: 2\n");
    assert_int_equal(pac_yaml_known_keys(pac_yaml_root(y), "train", keys), PAC_ECONFIG);
    assert_message("run.yaml:2: unknown key 'train.epoch'; did you mean 'epochs'?");
    int64_t i;
    assert_int_equal(pac_yaml_choice(pac_yaml_get(pac_yaml_root(y), "lr"), "lr", keys, &i), PAC_ECONFIG);
    assert_message("epochs, batch, lr or microbatches");
    assert_int_equal(pac_yaml_known_keys(pac_yaml_get(pac_yaml_root(y), "lr"), "lr", keys), PAC_ECONFIG);
    pac_yaml_close(&y);
    y = parsed("lr: 1\nbatch: 2\n");
    assert_int_equal(pac_yaml_known_keys(pac_yaml_root(y), "train", keys), PAC_OK);
    pac_yaml_close(&y);
}

static void test_hostile_texts_are_refused(void **state)
{
    (void)state;
    assert_refused("", "empty");
    assert_refused("# only a comment\n", "empty");
    assert_refused("a: 1\nb: 2\na: 3\n", "run.yaml:3: key 'a' is given twice, first in line 1");
    assert_refused("a: &x 1\nb: *x\n", "anchors");
    assert_refused("b: *x\n", "aliases");
    assert_refused("b: !!int 3\n", "tags");
    assert_refused("? [a, b]\n: 1\n", "a key must be a word");
    assert_refused("a: 1\n---\nb: 2\n", "second document");
    assert_refused("a: \"x\\0y\"\n", "zero byte");
    assert_refused("a: [1, 2\n", "not YAML");
    assert_refused("a: 1\n b: {\n", "run.yaml:2:");
    assert_refused("\x01\x02", "not YAML");
    assert_refused("\xff\xfe\xfd", "not YAML");
    assert_refused("a: [[[[[[[[[[[[[[[[[[[[[[[[[[", "nested more than 16");
}

static void test_limits_on_size(void **state)
{
    (void)state;
    size_t n = 2200000;
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i + 1 < n; i += 2)
        memcpy(text + i, i == 0 ? "[1" : ",1", 2);
    text[n - 1] = ']';
    text[n] = '\0';
    assert_refused(text, "more than 1000000 values");
    free(text);
    char path[] = "/tmp/pac-test-yaml-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 17 << 20), 0);
    close(fd);
    pac_yaml *y = NULL;
    assert_int_equal(pac_yaml_open(path, &y), PAC_EDATA);
    assert_message("larger than 16777216 bytes");
    unlink(path);
}

static void test_files(void **state)
{
    (void)state;
    pac_yaml *y = NULL;
    assert_int_equal(pac_yaml_open("/nonexistent/run.yaml", &y), PAC_EIO);
    assert_message("/nonexistent/run.yaml: cannot open");
    assert_int_equal(pac_yaml_open("/tmp", &y), PAC_EIO);
    assert_message("/tmp: cannot read");
    char path[] = "/tmp/pac-test-yaml-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "k: v", 4), 4);
    close(fd);
    assert_int_equal(pac_yaml_open(path, &y), PAC_OK);
    assert_string_equal(pac_yaml_text(pac_yaml_get(pac_yaml_root(y), "k")), "v");
    pac_yaml_close(&y);
    unlink(path);
}

static void test_value_of_a_flag_is_placed_by_its_name(void **state)
{
    (void)state;
    pac_yaml *y = NULL;
    int64_t i;
    assert_int_equal(pac_yaml_parse("--set a.b", "x", &y), PAC_OK);
    assert_int_equal(pac_yaml_int(pac_yaml_root(y), "a.b", 0, 1, &i), PAC_ECONFIG);
    assert_string_equal(pac_err_message(), "--set a.b: a.b: 'x' is not a whole number");
    pac_yaml_close(&y);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    pac_err err = PAC_ENOMEM;
    for (int64_t k = 1; err != PAC_OK; k++) {
        pac_yaml *y = NULL;
        pac_mem_fail_at(k);
        err = pac_yaml_parse("run.yaml", "a: [1, 2, {b: c}]\n", &y);
        pac_mem_fail_at(0);
        assert_true(err == PAC_OK || err == PAC_ENOMEM);
        pac_yaml_close(&y);
        assert_int_equal(pac_mem_blocks(), blocks);
        assert_true(k < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_knows_order_and_lines),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_ill_typed_values_name_the_place),
        cmocka_unit_test(test_unknown_words_get_the_nearest),
        cmocka_unit_test(test_hostile_texts_are_refused),
        cmocka_unit_test(test_limits_on_size),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_value_of_a_flag_is_placed_by_its_name),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
