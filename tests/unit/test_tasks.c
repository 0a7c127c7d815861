/* Tasks: GLUE files as they are, prompts, targets, truncation and padding; rows that are wrong; typed lines; real data when
 * there is any. */
#include "pac/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tiny_spm.h"

static struct {
    char dir[64], path[128];
    pac_tokenizer *tokenizer;
} fixture;

static int set_up(void **state)
{
    (void)state;
    strcpy(fixture.dir, tiny_dir());
    snprintf(fixture.path, sizeof fixture.path, "%s/data", fixture.dir);
    return pac_tokenizer_open(fixture.dir, &fixture.tokenizer) != PAC_OK;
}

static int tear_down(void **state)
{
    (void)state;
    pac_tokenizer_close(&fixture.tokenizer);
    remove_dir(fixture.dir);
    return 0;
}

static pac_data_opts opts_of(const char *task)
{
    pac_data_opts o = {.tokenizer = fixture.tokenizer,
                       .max_source = 1000,
                       .max_target = 100,
                       .pad_id = TINY_PAD,
                       .eos_id = TINY_EOS,
                       .vocab = TINY_PIECES};
    assert_int_equal(pac_task_find(task, &o.task), PAC_OK);
    return o;
}

static pac_err load(const pac_data_opts *o, const char *content, pac_dataset *out, pac_gold *gold)
{
    write_file(fixture.dir, "data", content, strlen(content));
    return pac_data_load(fixture.path, o, out, gold);
}

/* Row `row` is exactly these ids. */
static void check_row(const int32_t *ids, const int64_t *off, int64_t row, const int32_t *expected, int64_t n)
{
    assert_int_equal(off[row + 1] - off[row], n);
    assert_memory_equal(ids + off[row], expected, (size_t)n * sizeof *ids);
}

/* Row `row` is the tokenised text and the end of sequence. */
static void check_text(const int32_t *ids, const int64_t *off, int64_t row, const char *text)
{
    int32_t *expected = NULL;
    int64_t n = 0, capacity = 0;
    assert_int_equal(pac_tokenizer_encode(fixture.tokenizer, text, strlen(text), &expected, &n, &capacity), PAC_OK);
    assert_int_equal(off[row + 1] - off[row], n + 1);
    assert_memory_equal(ids + off[row], expected, (size_t)n * sizeof *ids);
    assert_int_equal(ids[off[row + 1] - 1], TINY_EOS);
    pac_mem_free(expected);
}

static void free_both(pac_dataset *data, pac_gold *gold)
{
    pac_dataset_free(data);
    pac_gold_free(gold);
}

static void test_mrpc_as_it_is_distributed(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("mrpc");
    pac_dataset d;
    pac_gold g;
    assert_int_equal(load(&o,
                          "\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
                          "1\t10\t11\tthe \" ab\tnot \" a\r\n"
                          "0\t12\t13\t\"b\tc\" d\n\n",
                          &d, &g),
                     PAC_OK);
    assert_int_equal(d.rows, 2);
    check_text(d.sids, d.soff, 0, "mrpc sentence1: the \" ab sentence2: not \" a");
    check_text(d.sids, d.soff, 1, "mrpc sentence1: \"b sentence2: c\" d");
    check_text(d.labels, d.toff, 0, "equivalent");
    check_text(d.labels, d.toff, 1, "not_equivalent");
    assert_true(g.label[0] == 1 && g.label[1] == 0);
    assert_string_equal(g.target[1], "not_equivalent");
    assert_null(d.cls);
    assert_null(d.value);
    assert_int_equal(pac_task_classes(o.task), 2);
    assert_string_equal(pac_task_label_words(o.task)[1], "equivalent");
    free_both(&d, &g);
}

static void test_columns_are_found_by_name(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("qnli");
    pac_dataset d;
    pac_gold g;
    assert_int_equal(load(&o, "label\tsentence\tquestion\nnot_entailment\tb c\ta\nentailment\td\te", &d, &g), PAC_OK);
    check_text(d.sids, d.soff, 0, "qnli question: a sentence: b c");
    check_text(d.labels, d.toff, 0, "not_entailment");
    check_text(d.labels, d.toff, 1, "entailment");
    assert_true(g.label[0] == 1 && g.label[1] == 0);
    free_both(&d, &g);

    o = opts_of("sst2");
    assert_int_equal(load(&o, "sentence\tlabel\na bet \t1\nc\t0\n", &d, &g), PAC_OK);
    check_text(d.sids, d.soff, 0, "sst2 sentence: a bet ");
    assert_string_equal(g.target[0], "positive");
    assert_string_equal(g.target[1], "negative");
    free_both(&d, &g);
}

/* round(5x)/5 with ties to even in f32, as TensorFlow and NumPy do: 2.5 -> 2, 7.5 -> 8, 12.5 -> 12, 13.5 -> 14. */
static void test_stsb_targets(void **state)
{
    (void)state;
    static const struct {
        const char *score, *target;
    } cases[] = {{"0", "0.0"},     {"5.000", "5.0"}, {"0.5", "0.4"}, {"1.5", "1.6"}, {"2.5", "2.4"},
                 {"2.7", "2.8"},   {"0.1", "0.0"},   {"0.3", "0.4"}, {"4.9", "4.8"}, {"3.800", "3.8"},
                 {"4.750", "4.8"}, {"3.667", "3.6"}, {"0.09", "0.0"}};
    pac_data_opts o = opts_of("stsb");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char content[128];
        pac_dataset d;
        pac_gold g;
        snprintf(content, sizeof content, "sentence1\tsentence2\tscore\na\tb\t%s\n", cases[i].score);
        assert_int_equal(load(&o, content, &d, &g), PAC_OK);
        assert_string_equal(g.target[0], cases[i].target);
        assert_true(g.label[0] == strtod(cases[i].score, NULL)); /* metrics compare with the score itself */
        check_text(d.labels, d.toff, 0, cases[i].target);
        check_text(d.sids, d.soff, 0, "stsb sentence1: a sentence2: b");
        free_both(&d, &g);
    }
}

static void test_seq2seq_json_lines_and_tsv_are_the_same(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("seq2seq");
    pac_dataset a, b;
    pac_gold ga, gb;
    assert_int_equal(
        load(&o, "{\"text\": \"a \\u00e9\", \"target\": \"b\", \"more\": 1}\n{\"target\": \"\", \"text\": \"\"}\n", &a, &ga),
        PAC_OK);
    assert_int_equal(load(&o, "id\ttext\ttarget\n1\ta \xc3\xa9\tb\n2\t\t", &b, &gb), PAC_OK);
    assert_int_equal(a.rows, 2);
    check_text(a.sids, a.soff, 0, "a \xc3\xa9");
    check_text(a.labels, a.toff, 0, "b");
    check_row(a.sids, a.soff, 1, (int32_t[]){TINY_EOS}, 1);
    assert_true(a.identity == b.identity);
    assert_string_equal(ga.target[0], gb.target[0]);
    assert_int_equal(pac_task_classes(o.task), 0);
    assert_null(pac_task_label_words(o.task));
    free_both(&a, &ga);
    free_both(&b, &gb);
}

static void test_tokens_are_taken_as_they_are(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("tokens");
    o.tokenizer = NULL;
    o.max_source = 3;
    o.max_target = 2;
    pac_dataset d;
    pac_gold g;
    assert_false(pac_task_needs_tokenizer(o.task));
    assert_int_equal(load(&o,
                          "{\"input_ids\": [4, 5, 6, 7, 1], \"labels\": [8, 9, 1]}\n"
                          "{\"input_ids\": [4, 5, 6, 7], \"labels\": [8, 9, 10]}\n"
                          "{\"input_ids\": [30], \"labels\": [0, 1]}",
                          &d, &g),
                     PAC_OK);
    check_row(d.sids, d.soff, 0, (int32_t[]){4, 5, 1}, 3); /* the end of sequence is kept */
    check_row(d.sids, d.soff, 1, (int32_t[]){4, 5, 6}, 3);
    check_row(d.sids, d.soff, 2, (int32_t[]){30}, 1);
    check_row(d.labels, d.toff, 0, (int32_t[]){8, 1}, 2);
    check_row(d.labels, d.toff, 1, (int32_t[]){8, 9}, 2);
    assert_string_equal(g.target[0], "8 9"); /* untruncated, without the end of sequence */
    assert_string_equal(g.target[1], "8 9 10");
    assert_string_equal(g.target[2], "0");
    free_both(&d, &g);
}

static void test_truncation_keeps_the_end_of_sequence(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("seq2seq");
    pac_dataset d;
    o.max_source = 3;
    o.max_target = 1;
    assert_int_equal(load(&o, "text\ttarget\na b c d e\tab\na\tab\nab a\tb\n", &d, NULL), PAC_OK);
    check_row(d.sids, d.soff, 0, (int32_t[]){19, 3, TINY_EOS}, 3); /* "a b c d e" is 19 3 5 3 6 ... */
    check_row(d.sids, d.soff, 1, (int32_t[]){19, TINY_EOS}, 2);
    check_row(d.sids, d.soff, 2, (int32_t[]){22, 19, TINY_EOS}, 3); /* exactly full */
    check_row(d.labels, d.toff, 0, (int32_t[]){TINY_EOS}, 1);
    pac_dataset_free(&d);
}

static void test_padding_to_the_maximum(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("seq2seq");
    pac_dataset d;
    o.max_source = 4;
    o.max_target = 3;
    o.pad_max = true;
    assert_int_equal(load(&o, "text\ttarget\na\tab\na b c d e\ta b c\n", &d, NULL), PAC_OK);
    check_row(d.sids, d.soff, 0, (int32_t[]){19, TINY_EOS, TINY_PAD, TINY_PAD}, 4);
    check_row(d.sids, d.soff, 1, (int32_t[]){19, 3, 5, TINY_EOS}, 4);
    check_row(d.labels, d.toff, 0, (int32_t[]){22, TINY_EOS, PAC_IGNORE}, 3);
    check_row(d.labels, d.toff, 1, (int32_t[]){19, 3, TINY_EOS}, 3);
    pac_dataset_free(&d);
}

static void test_classification_heads(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("qnli");
    pac_dataset d;
    o.classification = true;
    assert_int_equal(load(&o, "question\tsentence\tlabel\na\tb\tnot_entailment\na\tb\tentailment\n", &d, NULL), PAC_OK);
    assert_int_equal(d.toff[2], 0);
    assert_null(d.value);
    assert_int_equal(d.cls[0], 1);
    assert_int_equal(d.cls[1], 0);
    pac_dataset_free(&d);

    o = opts_of("stsb");
    o.classification = true;
    assert_int_equal(pac_task_classes(o.task), 1);
    assert_int_equal(load(&o, "sentence1\tsentence2\tscore\na\tb\t4.75\n", &d, NULL), PAC_OK);
    assert_null(d.cls);
    assert_true(d.value[0] == 4.75f);
    pac_dataset_free(&d);

    o = opts_of("seq2seq");
    o.classification = true;
    assert_int_equal(load(&o, "text\ttarget\na\tb\n", &d, NULL), PAC_ECONFIG);
}

/* What the identity must notice. */
static void test_identity(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("seq2seq"), shorter = o;
    pac_dataset a, again, other, cut;
    shorter.max_source = 999;
    assert_int_equal(load(&o, "text\ttarget\na b\tb\nab\tb\n", &a, NULL), PAC_OK);
    assert_int_equal(load(&o, "text\ttarget\na b\tb\nab\tb\n", &again, NULL), PAC_OK);
    assert_int_equal(load(&o, "text\ttarget\nab\tb\na b\tb\n", &other, NULL), PAC_OK);
    assert_int_equal(load(&shorter, "text\ttarget\na b\tb\nab\tb\n", &cut, NULL), PAC_OK);
    assert_true(a.identity == again.identity);
    assert_true(a.identity != other.identity);
    assert_true(a.identity != cut.identity);
    pac_dataset_free(&a);
    pac_dataset_free(&again);
    pac_dataset_free(&other);
    pac_dataset_free(&cut);
}

/* Every one is PAC_EDATA with the line in the message. */
static void test_rows_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *task, *content, *message;
    } cases[] = {
        {"mrpc", "", "is empty"},
        {"mrpc", "\xef\xbb\xbf\r\n\n", "is empty"},
        {"mrpc", "Quality\t#1 String\t#2 String\n", "no rows"},
        {"mrpc", "1\t2\t3\ta\tb\n", "data:1: no column \"Quality\""},
        {"mrpc", "Quality\t#1 String\n1\ta\n", "data:1: no column \"#2 String\""},
        {"mrpc", "Quality\tQuality\t#1 String\t#2 String\n1\t1\ta\tb\n", "data:1: column \"Quality\" appears twice"},
        {"mrpc", "Quality\t#1 String\t#2 String\n1\ta\tb\n2\ta\tb\n", "data:3: \"Quality\" is \"2\"; 0 or 1 is expected"},
        {"mrpc", "Quality\t#1 String\t#2 String\n1\ta\n", "data:2: 2 tab-separated fields"},
        {"mrpc", "Quality\t#1 String\t#2 String\n1\ta\tb\tc\n", "data:2: 4 tab-separated fields"},
        {"mrpc", "Quality\t#1 String\t#2 String\n1\ta\tb\n\n1\ta\tb\n", "data:3: 1 tab-separated fields"},
        {"sst2", "sentence\tlabel\na\tpositive\n", "0 or 1 is expected"},
        {"sst2", "sentence\tlabel\na\t\n", "0 or 1 is expected"},
        {"sst2", "sentence\tlabel\na \xff b\t1\n", "data:2: byte 3 (0xff) is not UTF-8"},
        {"sst2", "sentence\tlabel\n\xc0\xaf\t1\n", "data:2: byte 1 (0xc0) is not UTF-8"},
        {"sst2", "sentence\tlabel\n\xed\xa0\x80\t1\n", "data:2: byte 1 (0xed) is not UTF-8"},
        {"sst2", "sentence\tlabel\na\t1\n\xf4\x90\x80\x80\t1\n", "data:3: byte 1 (0xf4) is not UTF-8"},
        {"sst2", "sentence\tlabel\na\t1\n\xe2\x82", "data:3: byte 1 (0xe2) is not UTF-8"},
        {"qnli", "question\tsentence\tlabel\na\tb\t1\n", "entailment or not_entailment is expected"},
        {"stsb", "sentence1\tsentence2\tscore\na\tb\t5.1\n", "a number from 0 to 5"},
        {"stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", "a number from 0 to 5"},
        {"stsb", "sentence1\tsentence2\tscore\na\tb\t0x1\n", "a number from 0 to 5"},
        {"stsb", "sentence1\tsentence2\tscore\na\tb\t\n", "a number from 0 to 5"},
        {"seq2seq", "text\tlabel\na\tb\n", "data:1: no column \"target\""},
        {"seq2seq", "{\"text\": \"a\", \"target\": \"b\"}\n{\"text\": \"a\"}\n", "data:2: no key \"target\""},
        {"seq2seq", "{\"text\": 3, \"target\": \"b\"}\n", "data:1: wrong type of \"text\""},
        {"seq2seq", "{\"text\": \"a\", \"target\": \"b\"\n", "data:1: not a JSON object"},
        {"seq2seq", "{\"text\": \"a\", \"text\": \"c\", \"target\": \"b\"}\n", "data:1: not a JSON object"},
        {"seq2seq", "{\"text\": \"a\\u0000\", \"target\": \"b\"}\n", "data:1: not a JSON object"},
        {"seq2seq", "{\"text\": \"a\", \"target\": \"b\"}\n[1]\n", "data:2: a JSON object"},
        {"tokens", "{\"input_ids\": [1, 31], \"labels\": [1]}\n",
         "data:1: element 2 of \"input_ids\" is no id; integers from 0 to 30"},
        {"tokens", "{\"input_ids\": [1], \"labels\": [-100]}\n", "element 1 of \"labels\""},
        {"tokens", "{\"input_ids\": [1.0], \"labels\": [1]}\n", "element 1 of \"input_ids\""},
        {"tokens", "{\"input_ids\": [4294967297], \"labels\": [1]}\n", "element 1 of \"input_ids\""},
        {"tokens", "{\"input_ids\": [99999999999999999999], \"labels\": [1]}\n", "data:1: not a JSON object"},
        {"tokens", "{\"input_ids\": [], \"labels\": [1]}\n", "\"input_ids\" is empty"},
        {"tokens", "{\"input_ids\": [1]}\n", "no key \"labels\""},
        {"tokens", "{\"input_ids\": \"1 2\", \"labels\": [1]}\n", "wrong type of \"input_ids\""},
    };
    int64_t blocks = pac_mem_blocks();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pac_data_opts o = opts_of(cases[i].task);
        pac_dataset d = {0};
        pac_gold g = {0};
        if (load(&o, cases[i].content, &d, &g) != PAC_EDATA)
            fail_msg("%s: no PAC_EDATA for: %s", cases[i].task, cases[i].content);
        if (strstr(pac_err_message(), cases[i].message) == NULL || strstr(pac_err_message(), fixture.path) == NULL)
            fail_msg("message \"%s\" lacks \"%s\"", pac_err_message(), cases[i].message);
        assert_null(d.soff);
        assert_null(g.label);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
}

static void test_bytes_and_files_that_are_wrong(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("sst2");
    pac_dataset d;
    write_file(fixture.dir, "data", "sentence\tlabel\na\0b\t1\n", 21);
    assert_int_equal(pac_data_load(fixture.path, &o, &d, NULL), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "data:2: byte 2 is zero"));
    assert_int_equal(pac_data_load("/nowhere/train.tsv", &o, &d, NULL), PAC_EIO);
    assert_non_null(strstr(pac_err_message(), "/nowhere/train.tsv"));
    assert_int_equal(pac_data_load(fixture.dir, &o, &d, NULL), PAC_EIO);
    o.vocab = TINY_PIECES - 1;
    assert_int_equal(load(&o, "sentence\tlabel\na\t1\n", &d, NULL), PAC_EDATA);
    const pac_task *t;
    assert_int_equal(pac_task_find("sts-b", &t), PAC_ECONFIG);
    assert_non_null(strstr(pac_err_message(), "mrpc stsb sst2 qnli seq2seq tokens"));
}

static void test_typed_lines(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("mrpc");
    pac_dataset d;
    assert_int_equal(pac_data_from_line("a b\tc", &o, &d), PAC_OK);
    assert_int_equal(d.rows, 1);
    check_text(d.sids, d.soff, 0, "mrpc sentence1: a b sentence2: c");
    assert_int_equal(d.toff[1], 0);
    assert_null(d.cls);
    pac_dataset_free(&d);
    assert_int_equal(pac_data_from_line("a b", &o, &d), PAC_EDATA);
    assert_int_equal(pac_data_from_line("a\t\xff", &o, &d), PAC_EDATA);

    o = opts_of("sst2");
    o.classification = true;
    assert_int_equal(pac_data_from_line("ab", &o, &d), PAC_OK);
    check_text(d.sids, d.soff, 0, "sst2 sentence: ab");
    assert_null(d.cls);
    pac_dataset_free(&d);

    o = opts_of("tokens");
    assert_int_equal(pac_data_from_line(" 4 5  30\n", &o, &d), PAC_OK);
    check_row(d.sids, d.soff, 0, (int32_t[]){4, 5, 30}, 3);
    pac_dataset_free(&d);
    static const char *const wrong[] = {"", "4 x", "31", "-1", "4,5", "99999999999999999999", "4x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(pac_data_from_line(wrong[i], &o, &d), PAC_EDATA);
}

static void test_input_files(void **state)
{
    (void)state;
    pac_data_opts o = opts_of("mrpc");
    pac_dataset d;
    const char *rows = "{\"text\": \"a\", \"text_pair\": \"b\"}\n{\"input_ids\": [4, 5], \"labels\": [6]}\n";
    write_file(fixture.dir, "data", rows, strlen(rows));
    assert_int_equal(pac_data_load_inputs(fixture.path, &o, &d), PAC_OK);
    check_text(d.sids, d.soff, 0, "mrpc sentence1: a sentence2: b");
    check_row(d.sids, d.soff, 1, (int32_t[]){4, 5}, 2);
    assert_int_equal(d.toff[1], 0);
    check_row(d.labels, d.toff, 1, (int32_t[]){6}, 1);
    pac_dataset_free(&d);
    rows = "{\"text\": \"a\", \"text_pair\": \"b\"}\n{\"text\": \"a\"}\n";
    write_file(fixture.dir, "data", rows, strlen(rows));
    assert_int_equal(pac_data_load_inputs(fixture.path, &o, &d), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "data:2: task mrpc takes two texts"));
}

static void test_output_text(void **state)
{
    (void)state;
    const int32_t out[] = {18, 20, TINY_EOS, 19};
    char *text;
    pac_data_opts o = opts_of("sst2");
    assert_int_equal(pac_task_output_text(o.task, o.tokenizer, TINY_EOS, out, 4, &text), PAC_OK);
    assert_string_equal(text, "the sentence");
    pac_mem_free(text);
    o = opts_of("tokens");
    assert_int_equal(pac_task_output_text(o.task, NULL, TINY_EOS, out, 4, &text), PAC_OK);
    assert_string_equal(text, "18 20");
    pac_mem_free(text);
    assert_int_equal(pac_task_output_text(o.task, NULL, TINY_EOS, out, 0, &text), PAC_OK);
    assert_string_equal(text, "");
    pac_mem_free(text);
}

/* The k-th allocation fails, for every k until a load succeeds: PAC_ENOMEM, and nothing stays behind. */
static void check_faults(const char *task, bool classification, const char *content)
{
    pac_data_opts o = opts_of(task);
    o.classification = classification;
    o.pad_max = true;
    o.max_source = 40;
    int64_t blocks = pac_mem_blocks();
    write_file(fixture.dir, "data", content, strlen(content));
    for (int k = 1;; k++) {
        pac_dataset d = {0};
        pac_gold g = {0};
        assert_true(k < 1000);
        pac_mem_fail_at(k);
        pac_err err = pac_data_load(fixture.path, &o, &d, &g);
        pac_mem_fail_at(0);
        if (err == PAC_OK) {
            assert_true(k > 10);
            free_both(&d, &g);
        }
        assert_int_equal(pac_mem_blocks(), blocks);
        if (err == PAC_OK)
            return;
        assert_int_equal(err, PAC_ENOMEM);
        assert_null(d.soff);
        assert_null(g.target);
    }
}

static void test_out_of_memory_leaves_nothing(void **state)
{
    (void)state;
    char many[4096] = "sentence1\tsentence2\tscore\n";
    for (int i = 0; i < 20; i++)
        strcat(many, "the ab\tnot a sentence é\t4.2\n");
    check_faults("stsb", false, many);
    check_faults("stsb", true, many);
    check_faults("sst2", true, "sentence\tlabel\na\t1\nb\t0\n");
    check_faults("seq2seq", false, "{\"text\": \"a\", \"target\": \"b\"}\n");
    check_faults("tokens", false, "{\"input_ids\": [4, 1], \"labels\": [5, 1]}\n");
}

/* ---- T5's vocabulary and GLUE, where a person has them ---- */

static uint64_t fnv(const int32_t *ids, const int64_t *off, int64_t rows)
{
    uint64_t h = 0xcbf29ce484222325;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = off[r]; i <= off[r + 1]; i++) {
            uint32_t id = i < off[r + 1] ? (uint32_t)ids[i] : UINT32_MAX;
            for (int shift = 0; shift < 32; shift += 8)
                h = (h ^ (id >> shift & 0xff)) * 0x100000001b3;
        }
    }
    return h;
}

static void check_shared_file(const pac_tokenizer *t, const char *root, const char *line)
{
    char task[16], name[64], path[4096];
    long long most, rows, ids;
    unsigned long long sources, labels;
    pac_dataset d;
    assert_int_equal(sscanf(line, "%15s %63s %lld %lld %lld %llx %llx", task, name, &most, &rows, &ids, &sources, &labels), 7);
    pac_data_opts o = opts_of(task);
    o.tokenizer = t;
    o.max_source = most;
    o.max_target = 8;
    o.vocab = 32128;
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(pac_data_load(path, &o, &d, NULL), PAC_OK);
    assert_int_equal(d.rows, rows);
    assert_int_equal(d.soff[rows], ids);
    if (fnv(d.sids, d.soff, rows) != sources || fnv(d.labels, d.toff, rows) != labels)
        fail_msg("%s: other ids than SentencePiece's", name);
    pac_dataset_free(&d);
}

static void test_real_data_equals_sentencepiece(void **state)
{
    (void)state;
    const char *root = getenv("PAC_SHARED");
    if (root == NULL) {
        print_message("skipped: PAC_SHARED names no folder with vocab/t5/spiece.model and glue/\n");
        skip();
        return;
    }
    char dir[4096], line[256];
    pac_tokenizer *t;
    snprintf(dir, sizeof dir, "%s/vocab/t5", root);
    assert_int_equal(pac_tokenizer_open(dir, &t), PAC_OK);
    assert_int_equal(pac_tokenizer_size(t), 32000);
    FILE *f = fopen(case_file("shared_ids.txt"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (line[0] != '#')
            check_shared_file(t, root, line);
    fclose(f);
    pac_tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mrpc_as_it_is_distributed),
        cmocka_unit_test(test_columns_are_found_by_name),
        cmocka_unit_test(test_stsb_targets),
        cmocka_unit_test(test_seq2seq_json_lines_and_tsv_are_the_same),
        cmocka_unit_test(test_tokens_are_taken_as_they_are),
        cmocka_unit_test(test_truncation_keeps_the_end_of_sequence),
        cmocka_unit_test(test_padding_to_the_maximum),
        cmocka_unit_test(test_classification_heads),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_rows_that_are_wrong),
        cmocka_unit_test(test_bytes_and_files_that_are_wrong),
        cmocka_unit_test(test_typed_lines),
        cmocka_unit_test(test_input_files),
        cmocka_unit_test(test_output_text),
        cmocka_unit_test(test_out_of_memory_leaves_nothing),
        cmocka_unit_test(test_real_data_equals_sentencepiece),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
