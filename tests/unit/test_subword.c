/* Byte-level BPE and WordPiece: Hugging Face's ids for texts, pairs and truncation; settings; hostile files; real data when
 * there is any. */
#include "pac/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "tiny_spm.h"

enum { BPE, WORDPIECE, KINDS };
static const char *const folder[KINDS] = {"bpe", "wordpiece"};

static pac_tokenizer *open_kind(const char *kind)
{
    pac_tokenizer *t = NULL;
    if (pac_tokenizer_open(case_file(kind), &t) != PAC_OK)
        fail_msg("%s", pac_err_message());
    return t;
}

static pac_data_opts opts_of(const pac_tokenizer *t, const char *kind, const char *task)
{
    bool bpe = strcmp(kind, "bpe") == 0;
    pac_data_opts o = {.tokenizer = t,
                       .max_source = 4000,
                       .max_target = 100,
                       .classification = true,
                       .pad_id = bpe ? 1 : 0,
                       .eos_id = bpe ? 2 : -1,
                       .vocab = 60000};
    assert_int_equal(pac_task_find(task, &o.task), PAC_OK);
    return o;
}

static void check_ids(const int32_t *ids, int64_t n, const json_t *expected, const char *what)
{
    bool same = n == (int64_t)json_array_size(expected);
    for (int64_t i = 0; same && i < n; i++)
        same = ids[i] == json_integer_value(json_array_get(expected, (size_t)i));
    if (!same)
        fail_msg("other ids than Hugging Face's: %s", what);
}

/* ---- cases ---- */

static char scratch[64];

/* One row through predict's way in: JSON lines with text and text_pair. */
static void check_sequence(const pac_tokenizer *t, const json_t *c, const char *line)
{
    char path[128];
    const json_t *pair = json_object_get(c, "pair");
    pac_data_opts o = opts_of(t, json_string_value(json_object_get(c, "kind")), json_is_string(pair) ? "mrpc" : "sst2");
    o.max_source = json_integer_value(json_object_get(c, "max"));
    json_t *row = json_pack("{ss}", "text", json_string_value(json_object_get(c, "text")));
    if (json_is_string(pair))
        json_object_set(row, "text_pair", (json_t *)pair);
    char *text = json_dumps(row, 0);
    write_file(scratch, "data", text, strlen(text));
    free(text);
    json_decref(row);
    pac_dataset d;
    snprintf(path, sizeof path, "%s/data", scratch);
    if (pac_data_load_inputs(path, &o, &d) != PAC_OK)
        fail_msg("%s: %s", line, pac_err_message());
    check_ids(d.sids, d.soff[1], json_object_get(c, "ids"), line);
    assert_int_equal(d.second != NULL ? d.second[0] : 0, json_integer_value(json_object_get(c, "second")));
    pac_dataset_free(&d);
}

static void check_plain(const pac_tokenizer *t, const json_t *c, const char *line)
{
    const char *text = json_string_value(json_object_get(c, "text"));
    int32_t *ids = NULL;
    int64_t n = 0, capacity = 0;
    assert_int_equal(pac_tokenizer_encode(t, text, strlen(text), &ids, &n, &capacity), PAC_OK);
    check_ids(ids, n, json_object_get(c, "plain"), line);
    const char *expected = json_string_value(json_object_get(c, "decoded"));
    if (expected != NULL) {
        char *decoded;
        assert_int_equal(pac_tokenizer_decode(t, ids, n, &decoded), PAC_OK);
        assert_string_equal(decoded, expected);
        pac_mem_free(decoded);
    }
    pac_mem_free(ids);
}

static void test_cases_equal_hugging_face(void **state)
{
    (void)state;
    static char line[1 << 16];
    int64_t blocks = pac_mem_blocks();
    pac_tokenizer *t[KINDS] = {open_kind("bpe"), open_kind("wordpiece")};
    strcpy(scratch, tiny_dir());
    int cases = 0;
    FILE *f = fopen(case_file("subword.jsonl"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        json_t *c = json_loads(line, 0, NULL);
        assert_non_null(c);
        int kind = strcmp(json_string_value(json_object_get(c, "kind")), "bpe") == 0 ? BPE : WORDPIECE;
        check_sequence(t[kind], c, line);
        if (json_object_get(c, "plain") != NULL)
            check_plain(t[kind], c, line);
        json_decref(c);
        cases++;
    }
    fclose(f);
    remove_dir(scratch);
    assert_true(cases >= 150);
    for (int k = 0; k < KINDS; k++)
        pac_tokenizer_close(&t[k]);
    assert_int_equal(pac_mem_blocks(), blocks);
}

/* ---- sequences ---- */

static void load_line(const pac_data_opts *o, const char *line, pac_dataset *d)
{
    if (pac_data_from_line(line, o, d) != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static void test_separate_sentences_are_sequences_of_their_own(void **state)
{
    (void)state;
    pac_tokenizer *t = open_kind("wordpiece");
    pac_data_opts o = opts_of(t, "wordpiece", "mrpc"), one = opts_of(t, "wordpiece", "sst2");
    pac_dataset d, a, b;
    for (int64_t most = 4; most < 40; most += 35) {
        o.separate = true;
        o.max_source = one.max_source = most;
        load_line(&o, "the cat sat on\twhat they said, is what", &d);
        load_line(&one, "the cat sat on", &a);
        load_line(&one, "what they said, is what", &b);
        assert_int_equal(d.second[0], a.soff[1]);
        assert_int_equal(d.soff[1], a.soff[1] + b.soff[1]);
        assert_memory_equal(d.sids, a.sids, (size_t)a.soff[1] * sizeof(int32_t));
        assert_memory_equal(d.sids + a.soff[1], b.sids, (size_t)b.soff[1] * sizeof(int32_t));
        assert_null(a.second);
        pac_dataset_free(&d);
        pac_dataset_free(&a);
        pac_dataset_free(&b);
    }
    o.max_source = 30;
    o.pad_max = true;
    load_line(&o, "the cat\tsat", &d);
    assert_int_equal(d.second[0], 30);
    assert_int_equal(d.soff[1], 60);
    assert_int_equal(d.sids[29], 0);
    assert_int_equal(d.sids[30], d.sids[0]);
    pac_dataset_free(&d);
    pac_tokenizer_close(&t);
}

static void test_text_to_text_bart(void **state)
{
    (void)state;
    pac_tokenizer *t = open_kind("bpe");
    pac_data_opts o = opts_of(t, "bpe", "seq2seq");
    pac_dataset d;
    char path[128];
    static const char content[] = "{\"text\": \"the cat\", \"target\": \"a mat\"}\n";
    o.classification = false;
    strcpy(scratch, tiny_dir());
    write_file(scratch, "data", content, sizeof content - 1);
    snprintf(path, sizeof path, "%s/data", scratch);
    assert_int_equal(pac_data_load(path, &o, &d, NULL), PAC_OK);
    assert_int_equal(d.sids[0], 0);
    assert_int_equal(d.sids[d.soff[1] - 1], 2);
    assert_int_equal(d.labels[0], 0);
    assert_int_equal(d.labels[d.toff[1] - 1], 2);
    char *text;
    assert_int_equal(pac_task_output_text(o.task, t, o.eos_id, d.labels, d.toff[1], &text), PAC_OK);
    assert_string_equal(text, "a mat");
    pac_mem_free(text);
    pac_dataset_free(&d);

    assert_int_equal(pac_task_find("mrpc", &o.task), PAC_OK); /* a model that answers in words reads T5's prompt */
    load_line(&o, "the cat\tthe mat", &d);
    assert_int_equal(pac_tokenizer_decode(t, d.sids, d.soff[1], &text), PAC_OK);
    assert_string_equal(text, "mrpc sentence1: the cat sentence2: the mat");
    assert_null(d.second);
    pac_mem_free(text);
    pac_dataset_free(&d);
    remove_dir(scratch);
    pac_tokenizer_close(&t);
}

static pac_err try_line(const pac_data_opts *o)
{
    pac_dataset d;
    pac_err err = pac_data_from_line("the cat\tthe mat", o, &d);
    if (err == PAC_OK)
        pac_dataset_free(&d);
    return err;
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    pac_tokenizer *bpe = open_kind("bpe"), *pieces = open_kind("wordpiece");
    pac_data_opts o = opts_of(bpe, "bpe", "mrpc");
    assert_int_equal(try_line(&o), PAC_OK);
    o.max_source = 4; /* <s> </s> </s> </s> */
    assert_int_equal(try_line(&o), PAC_OK);
    o.max_source = 3;
    assert_int_equal(try_line(&o), PAC_ECONFIG);
    assert_non_null(strstr(pac_err_message(), "max_source"));
    o = opts_of(bpe, "bpe", "mrpc");
    o.eos_id = 1; /* the model's end is not the tokenizer's */
    assert_int_equal(try_line(&o), PAC_EDATA);
    o = opts_of(bpe, "bpe", "mrpc");
    o.separate = true;
    assert_int_equal(try_line(&o), PAC_ECONFIG);
    o = opts_of(pieces, "wordpiece", "sst2");
    o.separate = true;
    assert_int_equal(try_line(&o), PAC_ECONFIG);
    o = opts_of(pieces, "wordpiece", "mrpc");
    o.vocab = pac_tokenizer_size(pieces) - 1;
    assert_int_equal(try_line(&o), PAC_EDATA);
    pac_tokenizer_close(&bpe);
    pac_tokenizer_close(&pieces);
}

/* ---- settings and decoding ---- */

static const char tiny_vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nThe\nthe\ncafe\ncaf\xc3\xa9\n##"
                                 "s\n\xe4\xb8\xad\n\xe4\xb8\xad\xe6\x96\x87\r\n!\n<c>\ni\xcc\x87\n<c>x";

static pac_err open_pieces(const char *dir, const char *vocab, const char *config, pac_tokenizer **t)
{
    write_file(dir, "vocab.txt", vocab, strlen(vocab));
    write_file(dir, "tokenizer_config.json", config, strlen(config));
    return pac_tokenizer_open(dir, t);
}

static char *fresh_dir(void)
{
    static char dir[64];
    strcpy(dir, "/tmp/pac-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void check_text(const pac_tokenizer *t, const char *text, const char *expected)
{
    int32_t *ids = NULL;
    int64_t n = 0, capacity = 0;
    char shown[256] = "";
    assert_int_equal(pac_tokenizer_encode(t, text, strlen(text), &ids, &n, &capacity), PAC_OK);
    for (int64_t i = 0; i < n; i++)
        snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%s%d", i > 0 ? " " : "", (int)ids[i]);
    assert_string_equal(shown, expected);
    pac_mem_free(ids);
}

static void test_wordpiece_settings(void **state)
{
    (void)state;
    static const struct {
        const char *config, *ids; /* of "The thes caf\u00e9 \u4e2d\u6587!" */
    } cases[] = {
        {"{}", "5 5 8 6 9 1 11"},
        {"{\"do_lower_case\": false}", "4 5 8 7 9 1 11"},
        {"{\"strip_accents\": false}", "5 5 8 7 9 1 11"},
        {"{\"do_lower_case\": false, \"strip_accents\": true}", "4 5 8 6 9 1 11"},
        {"{\"strip_accents\": null, \"tokenize_chinese_chars\": false}", "5 5 8 6 10 11"},
        {"{\"unk_token\": {\"content\": \"<c>\"}, \"tokenize_chinese_chars\": true}", "5 5 8 6 9 12 11"},
    };
    char *dir = fresh_dir();
    uint64_t before = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pac_tokenizer *t;
        if (open_pieces(dir, tiny_vocab, cases[i].config, &t) != PAC_OK)
            fail_msg("%s", pac_err_message());
        check_text(t, "The thes caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87!", cases[i].ids);
        assert_int_not_equal(pac_tokenizer_identity(t), before); /* the settings belong to it */
        before = pac_tokenizer_identity(t);
        pac_tokenizer_close(&t);
    }
    pac_tokenizer *t;
    assert_int_equal(open_pieces(dir, tiny_vocab, "{\"strip_accents\": false}", &t), PAC_OK);
    check_text(t, "\xc4\xb0", "13"); /* lower case of two characters */
    pac_tokenizer_close(&t);
    assert_int_equal(open_pieces(dir, tiny_vocab, "{\"unk_token\": \"<c>x\", \"mask_token\": \"<c>\"}", &t), PAC_OK);
    check_text(t, "the<c>x<c>the", "5 14 12 5"); /* the longest special token */
    pac_tokenizer_close(&t);
    remove_dir(dir);
}

static void test_decoding(void **state)
{
    (void)state;
    char *text, *dir = fresh_dir();
    pac_tokenizer *t;
    assert_int_equal(open_pieces(dir, tiny_vocab, "{}", &t), PAC_OK);
    const int32_t pieces[] = {2, 5, 8, 6, 3, 8, 11, 0, 99, -1, PAC_IGNORE};
    assert_int_equal(pac_tokenizer_decode(t, pieces, 11, &text), PAC_OK);
    assert_string_equal(text, "thes cafes !");
    pac_mem_free(text);
    pac_tokenizer_close(&t);
    remove_dir(dir);

    t = open_kind("bpe"); /* half a character, whole ones, a broken beginning: U+FFFD as Python's errors="replace" */
    int32_t *ids = NULL, cut[8];
    int64_t n = 0, capacity = 0;
    assert_int_equal(pac_tokenizer_encode(t, "\xf0\x9f\x98\x80", 4, &ids, &n, &capacity), PAC_OK);
    assert_int_equal(n, 4);
    memcpy(cut, (int32_t[]){ids[1], ids[0], ids[1], ids[0], ids[1], ids[2], ids[3], 9999}, sizeof cut);
    assert_int_equal(pac_tokenizer_decode(t, cut, 8, &text), PAC_OK);
    assert_string_equal(text, "\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80");
    pac_mem_free(text);
    pac_mem_free(ids);
    pac_tokenizer_close(&t);
}

static void test_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        pac_tokenizer *t = open_kind(folder[k]);
        int32_t *ids = NULL;
        int64_t n = 0, capacity = 0;
        assert_int_equal(pac_tokenizer_encode(t, "ab\xff", 3, &ids, &n, &capacity), PAC_EDATA);
        assert_non_null(strstr(pac_err_message(), "byte 3"));
        assert_int_equal(pac_tokenizer_encode(t, "\xc3", 1, &ids, &n, &capacity), PAC_EDATA);
        pac_mem_free(ids);
        pac_tokenizer_close(&t);
    }
}

/* ---- files that are wrong ---- */

typedef struct content {
    char *s;
    size_t n;
} content;

static content read_case(const char *name)
{
    FILE *f = fopen(case_file(name), "rb");
    content c = {malloc(1 << 16), 0};
    assert_non_null(f);
    assert_non_null(c.s);
    c.n = fread(c.s, 1, 1 << 16, f);
    fclose(f);
    return c;
}

static pac_err try_open(const char *dir)
{
    pac_tokenizer *t = NULL;
    pac_err err = pac_tokenizer_open(dir, &t);
    if (err != PAC_OK) {
        assert_null(t);
        return err;
    }
    int32_t *ids = NULL;
    int64_t n = 0, capacity = 0;
    char *text;
    if (pac_tokenizer_encode(t, "the cats' \xc3\xa9 12 <s>", 18, &ids, &n, &capacity) == PAC_OK &&
        pac_tokenizer_decode(t, ids, n, &text) == PAC_OK)
        pac_mem_free(text);
    pac_mem_free(ids);
    pac_tokenizer_close(&t);
    return PAC_OK;
}

static void expect_refusal(const char *dir, const char *place)
{
    assert_int_equal(try_open(dir), PAC_EDATA);
    if (strstr(pac_err_message(), place) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", pac_err_message(), place);
}

static void test_wrong_bpe_files(void **state)
{
    (void)state;
    static const struct {
        const char *vocab, *merges, *place; /* NULL: the right file */
    } cases[] = {
        {"", NULL, "vocab.json:1"},
        {"{\"a\": 1,\n \"b\": }", NULL, "vocab.json:2"},
        {"[1]", NULL, "vocab.json"},
        {"{\"a\": 1.5}", NULL, "\"a\""},
        {"{\"a\": -1}", NULL, "id -1"},
        {"{\"a\": 99999999999}", NULL, "id 99999999999"},
        {"{\"a\": 1, \"b\": 1}", NULL, "another"},
        {"{\"a\": 1, \"a\": 2}", NULL, "vocab.json:1"},
        {"{\"a\": 1}", NULL, "byte 0x00"},
        {NULL, "#version: 0.2\nh e\nhe\n", "merges.txt:3"},
        {NULL, "h e\nh  e\n", "merges.txt:2"},
        {NULL, "h e e\n", "merges.txt:1"},
        {NULL, "h e\n\nh e\n", "merges.txt:2"},
        {NULL, "z z\n", "merges.txt:1"},
        {NULL, "zz h\n", "merges.txt:1"},
    };
    content vocab = read_case("bpe/vocab.json"), merges = read_case("bpe/merges.txt");
    char *dir = fresh_dir();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *v = cases[i].vocab, *m = cases[i].merges;
        write_file(dir, "vocab.json", v != NULL ? v : vocab.s, v != NULL ? strlen(v) : vocab.n);
        write_file(dir, "merges.txt", m != NULL ? m : merges.s, m != NULL ? strlen(m) : merges.n);
        expect_refusal(dir, cases[i].place);
    }
    write_file(dir, "merges.txt", "", 0); /* only bytes */
    assert_int_equal(try_open(dir), PAC_OK);
    write_file(dir, "tokenizer_config.json", "{\"cls_token\": \"<nobody>\"}", 25);
    expect_refusal(dir, "<nobody>");
    write_file(dir, "tokenizer_config.json", "{\"add_prefix_space\": 3}", 23);
    expect_refusal(dir, "add_prefix_space");
    remove_dir(dir);
    free(vocab.s);
    free(merges.s);
}

static void test_wrong_wordpiece_files(void **state)
{
    (void)state;
    pac_tokenizer *t = NULL;
    char *dir = fresh_dir();
    assert_int_equal(open_pieces(dir, "", "{}", &t), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "vocab.txt"));
    assert_int_equal(open_pieces(dir, "a\nb\n", "{}", &t), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "[UNK]"));
    assert_int_equal(open_pieces(dir, "a\n\xff\n", "{}", &t), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "vocab.txt:2"));
    assert_int_equal(open_pieces(dir, tiny_vocab, "{\n\"a\": }", &t), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "tokenizer_config.json:2"));
    assert_int_equal(open_pieces(dir, tiny_vocab, "3", &t), PAC_EDATA);
    assert_int_equal(open_pieces(dir, tiny_vocab, "{\"do_lower_case\": \"yes\"}", &t), PAC_EDATA);
    assert_non_null(strstr(pac_err_message(), "do_lower_case"));
    assert_null(t);
    remove_dir(dir);
}

static void test_cut_off_and_mutated_files(void **state)
{
    (void)state;
    static const char *const names[] = {"vocab.json", "merges.txt", "vocab.txt"};
    int64_t blocks = pac_mem_blocks();
    for (int f = 0; f < 3; f++) {
        char name[32], *dir = fresh_dir();
        content right[3] = {read_case("bpe/vocab.json"), read_case("bpe/merges.txt"), read_case("wordpiece/vocab.txt")};
        for (int i = f < 2 ? 0 : 2; i < (f < 2 ? 2 : 3); i++)
            write_file(dir, names[i], right[i].s, right[i].n);
        snprintf(name, sizeof name, "%s", names[f]);
        assert_int_equal(try_open(dir), PAC_OK);
        for (size_t n = 0; n < right[f].n; n += 7) {
            write_file(dir, name, right[f].s, n);
            try_open(dir);
            char was = right[f].s[n];
            right[f].s[n] ^= (char)(1 << n % 8);
            write_file(dir, name, right[f].s, right[f].n);
            try_open(dir);
            right[f].s[n] = was;
        }
        for (int i = 0; i < 3; i++)
            free(right[i].s);
        remove_dir(dir);
    }
    assert_int_equal(pac_mem_blocks(), blocks);
}

static void test_out_of_memory_leaves_nothing(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    for (int kind = 0; kind < KINDS; kind++) {
        for (int k = 1;; k++) {
            assert_true(k < 200);
            pac_tokenizer *t = NULL;
            int32_t *ids = NULL;
            int64_t n = 0, capacity = 0;
            pac_mem_fail_at(k);
            pac_err err = pac_tokenizer_open(case_file(folder[kind]), &t);
            if (err == PAC_OK)
                err = pac_tokenizer_encode(t, "the cats <s> sat", 16, &ids, &n, &capacity);
            pac_mem_fail_at(0);
            pac_mem_free(ids);
            pac_tokenizer_close(&t);
            assert_int_equal(pac_mem_blocks(), blocks);
            if (err == PAC_OK)
                break;
            assert_int_equal(err, PAC_ENOMEM);
        }
    }
}

/* ---- real data, where PAC_SHARED names it (PAC_BERT: a folder with bert-base-uncased's vocab.txt) ---- */

/* FNV-1a 64 over the ids as 32-bit little endian, each row closed by -1. */
static uint64_t fnv(const int32_t *ids, const int64_t *off, int64_t rows)
{
    uint64_t h = 0xcbf29ce484222325;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = off[r]; i <= off[r + 1]; i++) {
            uint32_t id = i < off[r + 1] && ids != NULL ? (uint32_t)ids[i] : i < off[r + 1] ? 0 : UINT32_MAX;
            for (int shift = 0; shift < 32; shift += 8)
                h = (h ^ (id >> shift & 0xff)) * 0x100000001b3;
        }
    }
    return h;
}

static void check_shared_file(const pac_tokenizer *t, const char *root, const char *line)
{
    char kind[16], task[16], name[64], path[4096];
    long long most, rows, ids;
    unsigned long long sources, second;
    pac_dataset d;
    assert_int_equal(
        sscanf(line, "%15s %15s %63s %lld %lld %lld %llx %llx", kind, task, name, &most, &rows, &ids, &sources, &second), 8);
    pac_data_opts o = opts_of(t, kind, task);
    o.max_source = most;
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(pac_data_load(path, &o, &d, NULL), PAC_OK);
    assert_int_equal(d.rows, rows);
    assert_int_equal(d.soff[rows], ids);
    if (fnv(d.sids, d.soff, rows) != sources || fnv(d.second, (int64_t[]){0, rows}, 1) != second)
        fail_msg("%s, %s, at most %lld: other ids than Hugging Face's", kind, name, most);
    pac_dataset_free(&d);
}

static void check_shared_kind(const char *root, const char *kind, const char *vocabulary)
{
    char line[256];
    int files = 0;
    pac_tokenizer *t;
    if (pac_tokenizer_open(vocabulary, &t) != PAC_OK)
        fail_msg("%s", pac_err_message());
    FILE *f = fopen(case_file("shared_subword.txt"), "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f) != NULL;) {
        if (strncmp(line, kind, strlen(kind)) != 0)
            continue;
        check_shared_file(t, root, line);
        files++;
    }
    fclose(f);
    assert_int_equal(files, 16);
    pac_tokenizer_close(&t);
}

static void test_real_data_equals_hugging_face(void **state)
{
    (void)state;
    const char *root = getenv("PAC_SHARED"), *bert = getenv("PAC_BERT");
    char dir[4096];
    if (root == NULL) {
        print_message("skipped: PAC_SHARED names no folder with vocab/bart and glue/\n");
        skip();
        return;
    }
    snprintf(dir, sizeof dir, "%s/vocab/bart", root);
    check_shared_kind(root, "bpe", dir);
    if (bert != NULL)
        check_shared_kind(root, "wordpiece", bert);
    else
        print_message("WordPiece skipped: PAC_BERT names no folder with vocab.txt\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases_equal_hugging_face),
        cmocka_unit_test(test_separate_sentences_are_sequences_of_their_own),
        cmocka_unit_test(test_text_to_text_bart),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_wordpiece_settings),
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_bytes_that_are_not_utf8),
        cmocka_unit_test(test_wrong_bpe_files),
        cmocka_unit_test(test_wrong_wordpiece_files),
        cmocka_unit_test(test_cut_off_and_mutated_files),
        cmocka_unit_test(test_out_of_memory_leaves_nothing),
        cmocka_unit_test(test_real_data_equals_hugging_face),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
