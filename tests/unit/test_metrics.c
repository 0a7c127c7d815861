/* Metrics against values worked out by hand or by NumPy; degenerate inputs. */
#include "pac/data.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static pac_metrics metrics_of(const char *task, const double *label, const char *const *target, int64_t n,
                              const char *const *text, const double *score)
{
    const pac_task *t;
    pac_metrics m;
    pac_gold gold = {.rows = n, .label = (double *)label, .target = (char **)target};
    assert_int_equal(pac_task_find(task, &t), PAC_OK);
    assert_int_equal(pac_task_metrics(t, &gold, text, score, &m), PAC_OK);
    return m;
}

static void check(const pac_metrics *m, int64_t i, const char *name, double value)
{
    assert_true(i < m->count);
    assert_string_equal(m->v[i].name, name);
    if (!(fabs(m->v[i].value - value) < 1e-12))
        fail_msg("%s is %.17g, expected %.17g", name, m->v[i].value, value);
}

static void test_accuracy_and_f1(void **state)
{
    (void)state;
    const double gold[] = {1, 1, 1, 0, 0, 1, 0};
    const char *const text[] = {"equivalent", "not_equivalent", "equivalent", "equivalent", "not_equivalent", "gibberish", ""};
    pac_metrics m = metrics_of("mrpc", gold, NULL, 7, text, NULL);
    assert_int_equal(m.count, 2);
    check(&m, 0, "accuracy", 3.0 / 7);
    check(&m, 1, "f1", 2 * 2.0 / (2 * 2 + 1 + 2)); /* TP 2, FP 1, FN 2: the gibberish missed a positive */

    const double classes[] = {1, 0, 1, 1, 0, NAN, 7};
    m = metrics_of("mrpc", gold, NULL, 7, NULL, classes);
    check(&m, 0, "accuracy", 3.0 / 7);
    check(&m, 1, "f1", 4.0 / 7);
}

static void test_f1_without_positives_is_zero(void **state)
{
    (void)state;
    const double gold[] = {0, 0}, classes[] = {0, 0};
    pac_metrics m = metrics_of("mrpc", gold, NULL, 2, NULL, classes);
    check(&m, 0, "accuracy", 1);
    check(&m, 1, "f1", 0);
}

static void test_label_words_must_match_exactly(void **state)
{
    (void)state;
    const double sentiment[] = {1, 1, 1, 0}, inference[] = {0, 1, 1};
    const char *const said[] = {"positive", "Positive", "positive positive", "negative"};
    const char *const inferred[] = {"entailment", "not_entailment", "entailment"};
    pac_metrics m = metrics_of("sst2", sentiment, NULL, 4, said, NULL);
    assert_int_equal(m.count, 1);
    check(&m, 0, "accuracy", 0.5);
    m = metrics_of("qnli", inference, NULL, 3, inferred, NULL);
    check(&m, 0, "accuracy", 2.0 / 3);
}

/* numpy.corrcoef of these columns, and of their ranks (ties averaged). */
static void test_correlations(void **state)
{
    (void)state;
    const double gold[] = {5.0, 3.8, 3.8, 0.5, 2.25, 4.25};
    const double score[] = {4.0, 4.0, 3.0, 1.0, 3.5, 2.0};
    pac_metrics m = metrics_of("stsb", gold, NULL, 6, NULL, score);
    assert_int_equal(m.count, 2);
    check(&m, 0, "pearson", 0.6460180280719083);
    check(&m, 1, "spearman", 0.4852941176470589);
}

static void test_score_texts(void **state)
{
    (void)state;
    const double gold[] = {5, 4, 1, 0, 0, 0, 0};
    const char *const text[] = {"5.0", "4", "1.0", "equivalent", "nan", "", "1.0 2.0"};
    pac_metrics m = metrics_of("stsb", gold, NULL, 7, text, NULL); /* what is no number is 0.0 */
    check(&m, 0, "pearson", 1);
    check(&m, 1, "spearman", 1);
}

static void test_constants_do_not_correlate(void **state)
{
    (void)state;
    const double gold[] = {1, 2, 3}, same[] = {0.1, 0.1, 0.1}, broken[] = {NAN, INFINITY, -INFINITY}, one[] = {2};
    pac_metrics m = metrics_of("stsb", gold, NULL, 3, NULL, same);
    check(&m, 0, "pearson", 0);
    check(&m, 1, "spearman", 0);
    m = metrics_of("stsb", gold, NULL, 3, NULL, broken);
    check(&m, 0, "pearson", 0);
    m = metrics_of("stsb", one, NULL, 1, NULL, one);
    check(&m, 1, "spearman", 0);
    const double huge[] = {1e300, -1e300, 1e300};
    m = metrics_of("stsb", gold, NULL, 3, NULL, huge);
    assert_true(isfinite(m.v[0].value));
}

static void test_exact_match(void **state)
{
    (void)state;
    const double none[5] = {0};
    const char *const gold[] = {"a  b", "ab", "x", "", "a b"};
    const char *const text[] = {"a b ", "a b", "X", "", "a b c"};
    pac_metrics m = metrics_of("seq2seq", none, gold, 5, text, NULL);
    assert_int_equal(m.count, 1);
    check(&m, 0, "exact_match", 2.0 / 5);
    const char *const ids[] = {"1 17 20"}, *const other[] = {"1 17 2"};
    m = metrics_of("tokens", none, ids, 1, ids, NULL);
    check(&m, 0, "exact_match", 1);
    m = metrics_of("tokens", none, ids, 1, other, NULL);
    check(&m, 0, "exact_match", 0);
}

static void test_the_caller_is_checked(void **state)
{
    (void)state;
    const pac_task *t;
    pac_metrics m;
    const double score[] = {0};
    pac_gold gold = {.rows = 1, .label = (double[]){0}};
    assert_int_equal(pac_task_find("tokens", &t), PAC_OK);
    assert_int_equal(pac_task_metrics(t, &gold, NULL, score, &m), PAC_EINVAL);
    assert_int_equal(pac_task_metrics(t, &gold, NULL, NULL, &m), PAC_EINVAL);
    gold.rows = 0;
    assert_int_equal(pac_task_find("stsb", &t), PAC_OK);
    assert_int_equal(pac_task_metrics(t, &gold, NULL, score, &m), PAC_EINVAL);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const pac_task *t;
    pac_metrics m;
    const double x[] = {1, 2, 3};
    pac_gold gold = {.rows = 3, .label = (double *)x};
    int64_t blocks = pac_mem_blocks();
    assert_int_equal(pac_task_find("stsb", &t), PAC_OK);
    for (int k = 1; k <= 2; k++) {
        pac_mem_fail_at(k);
        assert_int_equal(pac_task_metrics(t, &gold, NULL, x, &m), PAC_ENOMEM);
        pac_mem_fail_at(0);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy_and_f1),
        cmocka_unit_test(test_f1_without_positives_is_zero),
        cmocka_unit_test(test_label_words_must_match_exactly),
        cmocka_unit_test(test_correlations),
        cmocka_unit_test(test_score_texts),
        cmocka_unit_test(test_constants_do_not_correlate),
        cmocka_unit_test(test_exact_match),
        cmocka_unit_test(test_the_caller_is_checked),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
