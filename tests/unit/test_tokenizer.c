/* Tokenizers: cases against SentencePiece's own ids, special ids, other kinds, hostile model files, T5's real vocabulary. */
#include "pac/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tiny_spm.h"

static pac_tokenizer *open_tiny(void)
{
    pac_tokenizer *t = NULL;
    char *dir = tiny_dir();
    pac_err err = pac_tokenizer_open(dir, &t);
    remove_dir(dir);
    assert_int_equal(err, PAC_OK);
    return t;
}

/* "1 2 3" -> ids */
static int64_t parse_ids(const char *s, int32_t *out)
{
    int64_t n = 0;
    char *end;
    for (long v = strtol(s, &end, 10); end != s; v = strtol(s = end, &end, 10))
        out[n++] = (int32_t)v;
    return n;
}

static void check_case(const pac_tokenizer *t, const char *text, const char *ids_text, const char *shown)
{
    int32_t expected[256], *ids = NULL;
    int64_t n = 0, capacity = 0, want = parse_ids(ids_text, expected);
    char *decoded;
    assert_int_equal(pac_tokenizer_encode(t, text, strlen(text), &ids, &n, &capacity), PAC_OK);
    if (n != want || (n > 0 && memcmp(ids, expected, (size_t)n * sizeof *ids) != 0))
        fail_msg("\"%s\": other ids than %s", text, ids_text);
    assert_int_equal(pac_tokenizer_decode(t, ids, n, &decoded), PAC_OK);
    assert_string_equal(decoded, shown);
    pac_mem_free(decoded);
    pac_mem_free(ids);
}

static void test_ids_equal_sentencepiece(void **state)
{
    (void)state;
    pac_tokenizer *t = open_tiny();
    assert_int_equal(pac_tokenizer_size(t), TINY_PIECES);
    char line[1024];
    int cases = 0;
    FILE *f = fopen(case_file("tokenizer.txt"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#')
            continue;
        char *ids = strchr(line, '\t'), *shown = ids != NULL ? strchr(ids + 1, '\t') : NULL;
        assert_non_null(shown);
        *ids = *shown = '\0';
        check_case(t, line, ids + 1, shown + 1);
        cases++;
    }
    fclose(f);
    assert_true(cases >= 10);
    pac_tokenizer_close(&t);
    assert_null(t);
}

static void test_encode_appends(void **state)
{
    (void)state;
    pac_tokenizer *t = open_tiny();
    int32_t *ids = NULL;
    int64_t n = 0, capacity = 0;
    assert_int_equal(pac_tokenizer_encode(t, "a", 1, &ids, &n, &capacity), PAC_OK);
    assert_int_equal(pac_tokenizer_encode(t, "abX", 2, &ids, &n, &capacity), PAC_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 19);
    assert_int_equal(ids[1], 22);
    pac_mem_free(ids);
    pac_tokenizer_close(&t);
}

static void test_decode_leaves_out_special_ids(void **state)
{
    (void)state;
    pac_tokenizer *t = open_tiny();
    const int32_t ids[] = {TINY_PAD,    18,    TINY_UNKNOWN, 20,         TINY_EOS,  TINY_PAD,
                           TINY_PIECES, 32099, -1,           PAC_IGNORE, INT32_MAX, INT32_MIN};
    char *text;
    assert_int_equal(pac_tokenizer_decode(t, ids, sizeof ids / sizeof ids[0], &text), PAC_OK);
    assert_string_equal(text, "the sentence");
    pac_mem_free(text);
    assert_int_equal(pac_tokenizer_decode(t, NULL, 0, &text), PAC_OK);
    assert_string_equal(text, "");
    pac_mem_free(text);
    pac_tokenizer_close(&t);
}

static void test_kind_follows_from_the_files(void **state)
{
    (void)state;
    pac_tokenizer *t = NULL;
    char *dir = tiny_dir();
    write_file(dir, "vocab.txt", "[PAD]\n", 6);
    assert_int_equal(pac_tokenizer_open(dir, &t), PAC_OK); /* spiece.model comes first */
    pac_tokenizer_close(&t);
    remove_dir(dir);

    dir = tiny_dir();
    remove_dir(dir);
    assert_int_equal(pac_tokenizer_open(dir, &t), PAC_EIO);
    assert_non_null(strstr(pac_err_message(), "spiece.model"));
}

/* Loading these bytes gives a message with the file's name, or a tokenizer that works; never a crash. */
static pac_err load_bytes(const char *dir, const void *p, size_t n)
{
    pac_tokenizer *t = NULL;
    write_file(dir, "spiece.model", p, n);
    pac_err err = pac_tokenizer_open(dir, &t);
    if (err != PAC_OK) {
        assert_null(t);
        assert_non_null(strstr(pac_err_message(), "spiece.model"));
        return err;
    }
    int32_t *ids = NULL;
    int64_t count = 0, capacity = 0;
    if (pac_tokenizer_encode(t, "the ab é 12", 12, &ids, &count, &capacity) == PAC_OK) {
        char *text;
        if (pac_tokenizer_decode(t, ids, count, &text) == PAC_OK)
            pac_mem_free(text);
    }
    pac_mem_free(ids);
    pac_tokenizer_close(&t);
    return PAC_OK;
}

static void test_cut_off_and_mutated_models(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    bytes model;
    char *dir = tiny_dir();
    tiny_model(&model, "", 0);
    assert_int_equal(load_bytes(dir, model.b, model.n), PAC_OK);
    assert_int_equal(load_bytes(dir, "", 0), PAC_EDATA);
    assert_int_equal(load_bytes(dir, "this is no model\n", 17), PAC_EDATA);
    for (size_t n = 1; n < model.n; n++)
        load_bytes(dir, model.b, n);
    for (size_t i = 0; i < model.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes wrong = model;
            wrong.b[i] ^= (unsigned char)(1 << bit);
            load_bytes(dir, wrong.b, wrong.n);
        }
    }
    remove_dir(dir);
    assert_int_equal(pac_mem_blocks(), blocks);
}

/* A table of 256 units of which all lead nowhere, and two strings. */
typedef struct charsmap {
    uint32_t trie_bytes, unit[256];
    char strings[4];
} charsmap;

static pac_err load_charsmap(const char *dir, const charsmap *map, size_t n)
{
    bytes model;
    tiny_model(&model, map, n);
    return load_bytes(dir, model.b, model.n);
}

static void test_normalisation_tables_that_point_outside(void **state)
{
    (void)state;
    char *dir = tiny_dir();
    charsmap map = {.trie_bytes = sizeof map.unit, .strings = "b"};
    for (uint32_t i = 0; i < 256; i++)
        map.unit[i] = 0xff; /* label 255, offset 0: stays in the block */
    assert_int_equal(load_charsmap(dir, &map, sizeof map), PAC_OK);
    charsmap bad = map;
    bad.unit[0] = 0xffu << 10; /* the next block does not exist */
    bad.unit[0] |= 1u << 18;
    assert_int_equal(load_charsmap(dir, &bad, sizeof bad), PAC_EDATA);
    bad = map;
    bad.unit['a'] = 'a' | 1u << 8 | 7u << 10; /* a leaf at 'a' ^ 7, whose string lies beyond the end */
    bad.unit['a' ^ 7] = 1u << 31 | 1000;
    assert_int_equal(load_charsmap(dir, &bad, sizeof bad), PAC_EDATA);
    bad = map;
    bad.strings[3] = 'x'; /* no end */
    assert_int_equal(load_charsmap(dir, &bad, sizeof bad), PAC_EDATA);
    bad = map;
    bad.trie_bytes = sizeof bad.unit + 4;
    assert_int_equal(load_charsmap(dir, &bad, sizeof bad), PAC_EDATA);
    assert_int_equal(load_charsmap(dir, &map, 3), PAC_EDATA);
    remove_dir(dir);
}

static void test_out_of_memory_leaves_nothing(void **state)
{
    (void)state;
    int64_t blocks = pac_mem_blocks();
    char *dir = tiny_dir();
    for (int k = 1;; k++) {
        assert_true(k < 100);
        pac_tokenizer *t = NULL;
        pac_mem_fail_at(k);
        pac_err err = pac_tokenizer_open(dir, &t);
        pac_mem_fail_at(0);
        pac_tokenizer_close(&t);
        assert_int_equal(pac_mem_blocks(), blocks);
        if (err == PAC_OK)
            break;
        assert_int_equal(err, PAC_ENOMEM);
    }
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_equal_sentencepiece),
        cmocka_unit_test(test_encode_appends),
        cmocka_unit_test(test_decode_leaves_out_special_ids),
        cmocka_unit_test(test_kind_follows_from_the_files),
        cmocka_unit_test(test_cut_off_and_mutated_models),
        cmocka_unit_test(test_normalisation_tables_that_point_outside),
        cmocka_unit_test(test_out_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
