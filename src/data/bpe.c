/*
 * GPT-2's byte-level byte pair encoding (BART, RoBERTa: vocab.json, merges.txt): text is split by a pattern, the bytes of each
 * piece are tokens to begin with, and merges join them. Every byte has a printable character that stands for it in the files
 * (a space is "\u0120"), so nothing is unknown and decoding gives back the bytes.
 *
 * Source: Hugging Face tokenizers, pre_tokenizers/byte_level.rs and models/bpe.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "bpe_merge.h"
#include "lines.h"

#include <pcre2.h>
#include <string.h>
#include <utf8proc.h>

/* GPT-2's pattern with \s written out: PCRE2's \s also takes U+180E, which is no white space since Unicode 6.3. */
#define SPACE "\\p{Z}\\t-\\r\\x{85}"
static const char pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

enum { BYTE_CHARS = 256 + 68 }; /* the characters that stand for bytes are below this */

typedef struct bpe {
    pac_vocab vocab;
    pac_specials specials;
    pac_merges merges;
    int32_t byte_id[256];
    int16_t byte_of[BYTE_CHARS]; /* character -> byte, -1: stands for none */
    bool prefix_space;
    pcre2_general_context *memory;
    pcre2_code *split;
} bpe;

/* ---- opening ---- */

static void *pcre_alloc(size_t bytes, void *unused)
{
    (void)unused;
    void *p;
    return pac_mem_alloc(PAC_MEM_DATA, bytes, &p) == PAC_OK ? p : NULL;
}

static void pcre_free(void *p, void *unused)
{
    (void)unused;
    pac_mem_free(p);
}

static pac_err compile_pattern(bpe *t)
{
    t->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    PAC_CHECK(t->memory != NULL, PAC_ENOMEM, "no memory for the pattern that splits text");
    pcre2_compile_context *how = pcre2_compile_context_create(t->memory);
    PAC_CHECK(how != NULL, PAC_ENOMEM, "no memory for the pattern that splits text");
    int why = 0;
    size_t at = 0;
    t->split = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &why, &at, how);
    pcre2_compile_context_free(how);
    PAC_CHECK(t->split != NULL, why == PCRE2_ERROR_HEAP_FAILED ? PAC_ENOMEM : PAC_EINTERNAL,
              "the pattern that splits text does not compile: PCRE2 error %d at %zu", why, at);
    return PAC_OK;
}

/* Printable Latin-1 stands for itself, the other bytes in order for the characters from 256. */
static void map_bytes(bpe *t, int32_t *character)
{
    int next = 256;
    for (int i = 0; i < BYTE_CHARS; i++)
        t->byte_of[i] = -1;
    for (int b = 0; b < 256; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        character[b] = printable ? b : next++;
        t->byte_of[character[b]] = (int16_t)b;
    }
}

static pac_err find_bytes(bpe *t, const char *path)
{
    int32_t character[256];
    map_bytes(t, character);
    for (int b = 0; b < 256; b++) {
        utf8proc_uint8_t s[4];
        int64_t n = utf8proc_encode_char(character[b], s);
        t->byte_id[b] = pac_vocab_find(&t->vocab, (const char *)s, n);
        PAC_CHECK(t->byte_id[b] >= 0, PAC_EDATA,
                  "%s: no token \"%.*s\" for the byte 0x%02x; a byte-level vocabulary has one for each byte", path, (int)n,
                  (const char *)s, (unsigned)b);
    }
    return PAC_OK;
}

static pac_err fill_vocab(pac_vocab *v, const char *path, const json_t *object)
{
    const char *token;
    const json_t *id;
    void *walk = json_object_iter((json_t *)object);
    for (; walk != NULL; walk = json_object_iter_next((json_t *)object, walk)) {
        token = json_object_iter_key(walk);
        id = json_object_iter_value(walk);
        PAC_CHECK(json_is_integer(id), PAC_EDATA, "%s: the id of \"%.40s\" is no integer", path, token);
        pac_err err = pac_vocab_put(v, token, (int64_t)strlen(token), json_integer_value(id));
        if (err != PAC_OK)
            return pac_fail_context(err, "%s", path);
    }
    return PAC_OK;
}

static pac_err read_vocab(const pac_tokenizer_file *file, pac_vocab *v)
{
    json_error_t why;
    json_t *object = json_loadb(file->data, (size_t)file->bytes, JSON_REJECT_DUPLICATES, &why);
    PAC_CHECK(object != NULL, PAC_EDATA, "%s:%d:%d: %s", file->path, why.line, why.column, why.text);
    pac_err err = json_is_object(object)
                      ? fill_vocab(v, file->path, object)
                      : pac_fail(PAC_EDATA, "%s: a JSON object {\"token\": id, ...} is expected", file->path);
    json_decref(object);
    return err;
}

static pac_err read_settings(const pac_tokenizer_file *file, bpe *t)
{
    static const char *const usual[PAC_SPECIALS] = {
        [PAC_UNK] = "<unk>", [PAC_CLS] = "<s>",  [PAC_SEP] = "</s>",   [PAC_PAD] = "<pad>",
        [PAC_BOS] = "<s>",   [PAC_EOS] = "</s>", [PAC_MASK] = "<mask>"};
    pac_settings settings;
    PAC_TRY(pac_settings_read(file + 2, &settings));
    pac_err err = pac_specials_find(&settings, usual, &t->vocab, file[0].path, &t->specials);
    if (err == PAC_OK)
        err = pac_settings_bool(&settings, "add_prefix_space", false, &t->prefix_space);
    pac_settings_free(&settings);
    return err;
}

static void bpe_close(void *state)
{
    bpe *t = state;
    pac_vocab_free(&t->vocab);
    pac_merges_free(&t->merges);
    pcre2_code_free(t->split);
    pcre2_general_context_free(t->memory);
    pac_mem_free(t);
}

static pac_err bpe_open(const pac_tokenizer_file *file, void **state)
{
    void *block;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, sizeof(bpe), &block));
    pac_err err;
    bpe *t = block;
    PAC_GO(read_vocab(&file[0], &t->vocab));
    PAC_GO(find_bytes(t, file[0].path));
    PAC_GO(pac_merges_read(&file[1], &t->vocab, &t->merges));
    PAC_GO(read_settings(file, t));
    PAC_GO(compile_pattern(t));
    *state = t;
out:
    if (err != PAC_OK)
        bpe_close(t);
    return err;
}

/* ---- text to ids ---- */

typedef struct splitter {
    pcre2_match_data *match;
    pac_ids word; /* ids of the bytes of one piece */
    pac_merge_work work;
} splitter;

static pac_err encode_piece(const bpe *t, splitter *p, const char *s, int64_t n, pac_ids *out)
{
    p->word.n = 0;
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(pac_ids_push(&p->word, t->byte_id[(unsigned char)s[i]]));
    return pac_merges_apply(&t->merges, p->word.ids, n, &p->work, out);
}

static pac_err encode_pieces(const bpe *t, splitter *p, const char *text, size_t n, pac_ids *out)
{
    const size_t *span = pcre2_get_ovector_pointer(p->match);
    for (size_t at = 0; at < n; at = span[1]) {
        int rc = pcre2_match(t->split, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, p->match, NULL);
        PAC_CHECK(rc != PCRE2_ERROR_NOMEMORY, PAC_ENOMEM, "no memory to split a text of %zu bytes", n);
        PAC_CHECK(rc > 0 && span[0] == at && span[1] > at, PAC_EDATA, "PCRE2 cannot split the text at byte %zu: error %d",
                  at + 1, rc);
        PAC_TRY(encode_piece(t, p, text + span[0], (int64_t)(span[1] - span[0]), out));
    }
    return PAC_OK;
}

static bool begins_with_space(const char *text, int64_t n)
{
    utf8proc_int32_t c = 0;
    utf8proc_iterate((const utf8proc_uint8_t *)text, n, &c);
    utf8proc_category_t category = utf8proc_category(c);
    return (c >= '\t' && c <= '\r') || c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

static pac_err with_space(const char *text, int64_t n, void **out)
{
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, (size_t)n + 1, out));
    memcpy(*out, " ", 1);
    memcpy((char *)*out + 1, text, (size_t)n);
    return PAC_OK;
}

static pac_err encode_plain(const void *state, const char *text, int64_t n, pac_ids *out)
{
    const bpe *t = state;
    void *spaced = NULL;
    splitter p = {.match = pcre2_match_data_create(1, t->memory)};
    pac_err err = p.match != NULL ? PAC_OK : pac_fail(PAC_ENOMEM, "no memory to split text");
    if (err == PAC_OK && t->prefix_space && !begins_with_space(text, n)) {
        err = with_space(text, n, &spaced);
        text = spaced;
        n++;
    }
    if (err == PAC_OK)
        err = encode_pieces(t, &p, text, (size_t)n, out);
    pac_mem_free(spaced);
    pac_mem_free(p.word.ids);
    pac_merge_work_free(&p.work);
    pcre2_match_data_free(p.match);
    return err;
}

static pac_err bpe_encode(const void *state, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity)
{
    const bpe *t = state;
    pac_ids out = {*ids, *n, *capacity};
    pac_err err = pac_specials_encode(&t->specials, &t->vocab, text, bytes, encode_plain, t, &out);
    *ids = out.ids;
    *n = out.n;
    *capacity = out.capacity;
    return err;
}

/* ---- ids to text ---- */

/* The bytes that the characters of a token stand for; characters of other kinds (added tokens) stand for themselves. */
static int64_t token_bytes(const bpe *t, const char *token, int64_t n, char *out)
{
    int64_t used = 0;
    for (int64_t at = 0; at < n;) {
        utf8proc_int32_t c;
        int64_t length = utf8proc_iterate((const utf8proc_uint8_t *)token + at, n - at, &c);
        if (length <= 0)
            break;
        if (c < BYTE_CHARS && t->byte_of[c] >= 0) {
            out[used++] = (char)t->byte_of[c];
        } else {
            memcpy(out + used, token + at, (size_t)length);
            used += length;
        }
        at += length;
    }
    return used;
}

static pac_err bpe_decode(const void *state, const int32_t *ids, int64_t n, char **out)
{
    const bpe *t = state;
    int64_t bytes = 0, used = 0, length;
    for (int64_t i = 0; i < n; i++)
        if (pac_vocab_text(&t->vocab, ids[i], &length) != NULL)
            bytes += length;
    void *raw;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, (size_t)bytes + 1, &raw));
    for (int64_t i = 0; i < n; i++) {
        const char *token = pac_vocab_text(&t->vocab, ids[i], &length);
        if (token != NULL && !pac_specials_has(&t->specials, ids[i]))
            used += token_bytes(t, token, length, (char *)raw + used);
    }
    pac_err err = pac_utf8_repair(raw, used, out);
    pac_mem_free(raw);
    return err;
}

static int64_t bpe_size(const void *state)
{
    return ((const bpe *)state)->vocab.size;
}

static pac_form bpe_form(const void *state)
{
    const pac_specials *s = &((const bpe *)state)->specials;
    return (pac_form){.begin = s->id[PAC_CLS], .end = s->id[PAC_SEP], .between = s->id[PAC_SEP]};
}

const pac_tokenizer_kind pac_tokenizer_bpe = {
    .name = "byte-level BPE",
    .files = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"},
    .needed = 2,
    .open = bpe_open,
    .close = bpe_close,
    .encode = bpe_encode,
    .decode = bpe_decode,
    .size = bpe_size,
    .form = bpe_form,
};
