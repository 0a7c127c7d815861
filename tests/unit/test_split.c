/* Rows of a data set as one of their own, and the paper's split of the four tasks. */
#include "pac/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const pac_task *task_of(const char *name)
{
    const pac_task *t = NULL;
    assert_int_equal(pac_task_find(name, &t), PAC_OK);
    return t;
}

/* Both lists ascend and together are 0..n-1 once each. */
static void check_division(const pac_split *s, int64_t n)
{
    int64_t v = 0, r = 0;
    for (int64_t row = 0; row < n; row++) {
        bool left = v < s->nvalidation && s->validation[v] == row, right = r < s->nrest && s->rest[r] == row;
        assert_true(left != right);
        v += left;
        r += right;
    }
    assert_int_equal(v, s->nvalidation);
    assert_int_equal(r, s->nrest);
}

static void test_sizes_of_the_paper(void **state)
{
    (void)state;
    static const struct {
        const char *task;
        int64_t train, eval, validation, rest;
        bool from_eval;
    } cases[] = {
        {"mrpc", 3668, 408, 204, 204, true},
        {"stsb", 5749, 1500, 750, 750, true},
        {"mrpc", 5, 7, 3, 4, true},
        {"sst2", 67349, 872, 1000, 66349, false},
        {"qnli", 104743, 5463, 1000, 103743, false},
        {"qnli", 1001, 1, 1000, 1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pac_split s, again;
        assert_int_equal(pac_split_paper(task_of(cases[i].task), cases[i].train, cases[i].eval, &s), PAC_OK);
        assert_int_equal(s.nvalidation, cases[i].validation);
        assert_int_equal(s.nrest, cases[i].rest);
        assert_int_equal(s.from_eval, cases[i].from_eval);
        check_division(&s, s.nvalidation + s.nrest);
        assert_int_equal(pac_split_paper(task_of(cases[i].task), cases[i].train, cases[i].eval, &again), PAC_OK);
        assert_memory_equal(s.validation, again.validation, (size_t)s.nvalidation * sizeof(int64_t));
        pac_split_free(&s);
        pac_split_free(&again);
    }
}

/* The rows are part of every result that is published: they may not change from version to version. */
static void test_the_rows_stay_the_same(void **state)
{
    (void)state;
    static const int64_t first[] = {1, 3, 5, 7, 11, 12, 13, 14, 17, 19, 21, 22};
    pac_split s;
    assert_int_equal(pac_split_paper(task_of("mrpc"), 3668, 408, &s), PAC_OK);
    assert_memory_equal(s.validation, first, sizeof first);
    pac_split_free(&s);
}

static void test_what_cannot_be_split(void **state)
{
    (void)state;
    pac_split s;
    assert_int_equal(pac_split_paper(task_of("seq2seq"), 10, 10, &s), PAC_ECONFIG);
    assert_int_equal(pac_split_paper(task_of("tokens"), 10, 10, &s), PAC_ECONFIG);
    assert_int_equal(pac_split_paper(task_of("mrpc"), 3668, 1, &s), PAC_EDATA);
    assert_int_equal(pac_split_paper(task_of("sst2"), 1000, 872, &s), PAC_EDATA);
}

/* Row r has r % 3 + 1 source ids from 100 * r on, r % 2 labels, class r % 2, score r / 10 and "r" as the expected text. */
static pac_labelled rows_of(int64_t n)
{
    pac_labelled l = {.data = {.rows = n, .identity = 7}, .gold = {.rows = n}};
    pac_dataset *d = &l.data;
    void *p[8];
    const size_t size[8] = {8, 8, 4, 4, 4, 4, 8, sizeof(char *)};
    for (int i = 0; i < 8; i++)
        assert_int_equal(pac_mem_array(PAC_MEM_DATA, 3 * n + 1, size[i], &p[i]), PAC_OK);
    d->soff = p[0], d->toff = p[1], d->sids = p[2], d->labels = p[3], d->cls = p[4], d->second = p[5];
    l.gold.label = p[6], l.gold.target = p[7];
    for (int64_t r = 0; r < n; r++) {
        char text[24];
        d->soff[r + 1] = d->soff[r] + r % 3 + 1;
        d->toff[r + 1] = d->toff[r] + r % 2;
        for (int64_t i = d->soff[r]; i < d->soff[r + 1]; i++)
            d->sids[i] = (int32_t)(100 * r + i - d->soff[r]);
        if (r % 2 == 1)
            d->labels[d->toff[r]] = (int32_t)r;
        d->cls[r] = (int32_t)(r % 2);
        d->second[r] = (int32_t)(r % 3);
        l.gold.label[r] = (double)r / 10;
        snprintf(text, sizeof text, "%d", (int)r);
        assert_int_equal(pac_mem_strdup(text, &l.gold.target[r]), PAC_OK);
    }
    return l;
}

/* Row i of `l` is what rows_of() made of row r. */
static void check_row(const pac_labelled *l, int64_t i, int64_t r)
{
    const pac_dataset *d = &l->data;
    assert_int_equal(d->soff[i + 1] - d->soff[i], r % 3 + 1);
    assert_int_equal(d->sids[d->soff[i]], 100 * r);
    assert_int_equal(d->sids[d->soff[i + 1] - 1], 100 * r + r % 3);
    assert_int_equal(d->toff[i + 1] - d->toff[i], r % 2);
    if (r % 2 == 1)
        assert_int_equal(d->labels[d->toff[i]], r);
    assert_int_equal(d->cls[i], r % 2);
    assert_int_equal(d->second[i], r % 3);
    assert_true(l->gold.label[i] == (double)r / 10);
    assert_int_equal(atoi(l->gold.target[i]), r);
}

static void test_rows_as_a_data_set(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    static const int64_t rows[] = {6, 1, 1, 0}, outside[] = {7};
    pac_labelled all = rows_of(7), some = {0}, other = {0};
    assert_int_equal(pac_data_rows(&all.data, &all.gold, rows, 4, &some.data, &some.gold), PAC_OK);
    assert_int_equal(some.data.rows, 4);
    assert_int_equal(some.gold.rows, 4);
    for (int i = 0; i < 4; i++)
        check_row(&some, i, rows[i]);
    assert_null(some.data.value);
    assert_int_equal(pac_data_rows(&all.data, NULL, rows, 3, &other.data, NULL), PAC_OK);
    assert_int_not_equal(some.data.identity, all.data.identity);
    assert_int_not_equal(some.data.identity, other.data.identity);
    pac_labelled_free(&some);
    pac_labelled_free(&other);
    assert_int_equal(pac_data_rows(&all.data, NULL, outside, 1, &other.data, NULL), PAC_EINVAL);
    assert_int_equal(pac_data_rows(&all.data, NULL, rows, 0, &other.data, NULL), PAC_EINVAL);
    pac_labelled_free(&all);
    assert_int_equal(pac_mem_blocks(), blocks);
}

static void test_three_parts(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    for (int held_out = 0; held_out < 2; held_out++) {
        int64_t n[2] = {held_out ? 1012 : 5, 9};
        const pac_task *t = task_of(held_out ? "qnli" : "stsb");
        for (int k = 1;; k++) { /* the k-th allocation fails: nothing is lost */
            pac_labelled train = rows_of(n[0]), eval = rows_of(n[1]);
            pac_parts p = {0};
            pac_split s;
            pac_mem_fail_at(k);
            pac_err err = pac_data_split(t, &train, &eval, &p);
            pac_mem_fail_at(0);
            if (err == PAC_OK) {
                assert_null(train.data.soff);
                assert_null(eval.data.soff);
                assert_int_equal(pac_split_paper(t, n[0], n[1], &s), PAC_OK);
                const pac_labelled *rest = held_out ? &p.train : &p.test, *whole = held_out ? &p.test : &p.train;
                assert_int_equal(p.validation.data.rows, held_out ? 1000 : 4);
                assert_int_equal(rest->data.rows, held_out ? 12 : 5);
                for (int64_t i = 0; i < s.nvalidation; i++)
                    check_row(&p.validation, i, s.validation[i]);
                for (int64_t i = 0; i < s.nrest; i++)
                    check_row(rest, i, s.rest[i]);
                assert_int_equal(whole->data.rows, n[!!held_out]);
                for (int64_t i = 0; i < whole->data.rows; i++)
                    check_row(whole, i, i);
                pac_split_free(&s);
            } else {
                assert_int_equal(err, PAC_ENOMEM);
                assert_int_equal(train.data.rows, n[0]);
                check_row(&eval, 8, 8);
            }
            pac_parts_free(&p);
            pac_labelled_free(&train);
            pac_labelled_free(&eval);
            assert_int_equal(pac_mem_blocks(), blocks);
            if (err == PAC_OK)
                break;
            k += held_out ? 200 : 0; /* a thousand texts are copied */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_of_the_paper),   cmocka_unit_test(test_the_rows_stay_the_same),
        cmocka_unit_test(test_what_cannot_be_split), cmocka_unit_test(test_rows_as_a_data_set),
        cmocka_unit_test(test_three_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
