/*
 * BERT's WordPiece (vocab.txt: one token a line): text is cleaned, lower-cased, stripped of accents and cut into words and
 * punctuation marks (wordpiece_words.c); a word is its longest known beginning, then the longest known continuations "##...",
 * or [UNK] as a whole.
 *
 * Source: Hugging Face tokenizers, models/wordpiece.
 */
#include "lines.h"
#include "specials.h"
#include "wordpiece_words.h"

#include <string.h>

typedef struct wordpiece {
    pac_vocab vocab;
    pac_specials specials;
    pac_word_rules rules;
} wordpiece;

static const char continues[] = "##";
enum { CONTINUES = sizeof continues - 1 };

/* ---- opening ---- */

static pac_err read_vocab(const pac_tokenizer_file *file, pac_vocab *v)
{
    int64_t id = 0;
    for (const char *s = file->data, *end = s + file->bytes; s < end; id++) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        int64_t line = stop != NULL ? stop - s : end - s, n = line;
        if (n > 0 && s[n - 1] == '\r')
            n--;
        PAC_CHECK(pac_utf8_valid(s, n) == n && memchr(s, '\0', (size_t)n) == NULL, PAC_EDATA,
                  "%s:%lld: the token is not UTF-8 text", file->path, (long long)id + 1);
        pac_err err = pac_vocab_put(v, s, n, id);
        if (err != PAC_OK)
            return pac_fail_context(err, "%s:%lld", file->path, (long long)id + 1);
        s += line + 1;
    }
    PAC_CHECK(id > 0, PAC_EDATA, "%s: the file is empty; one token a line is expected", file->path);
    return PAC_OK;
}

static pac_err read_settings(const pac_tokenizer_file *file, wordpiece *t)
{
    static const char *const usual[PAC_SPECIALS] = {
        [PAC_UNK] = "[UNK]", [PAC_CLS] = "[CLS]", [PAC_SEP] = "[SEP]", [PAC_PAD] = "[PAD]", [PAC_MASK] = "[MASK]"};
    pac_settings settings;
    PAC_TRY(pac_settings_read(file + 1, &settings));
    pac_err err;
    PAC_GO(pac_specials_find(&settings, usual, &t->vocab, file[0].path, &t->specials));
    PAC_GO(pac_settings_bool(&settings, "do_lower_case", true, &t->rules.lower));
    PAC_GO(pac_settings_bool(&settings, "strip_accents", t->rules.lower, &t->rules.strip_accents));
    PAC_GO(pac_settings_bool(&settings, "tokenize_chinese_chars", true, &t->rules.space_cjk));
out:
    pac_settings_free(&settings);
    return err;
}

static void wordpiece_close(void *state)
{
    wordpiece *t = state;
    pac_vocab_free(&t->vocab);
    pac_mem_free(t);
}

static pac_err wordpiece_open(const pac_tokenizer_file *file, void **state)
{
    void *block;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, sizeof(wordpiece), &block));
    wordpiece *t = block;
    pac_err err = read_vocab(&file[0], &t->vocab);
    if (err == PAC_OK)
        err = read_settings(file, t);
    if (err != PAC_OK)
        wordpiece_close(t);
    else
        *state = t;
    return err;
}

/* ---- text to ids ---- */

typedef struct encoding {
    const wordpiece *t;
    pac_ids *out;
} encoding;

/* The longest token that begins with the piece's first character; *n becomes its length. The piece ends within `s`. */
static int32_t longest_token(const pac_vocab *v, const char *s, int64_t least, int64_t *n)
{
    for (int64_t length = *n < v->longest ? *n : v->longest; length > least; length--) {
        bool between = length < *n && ((unsigned char)s[length] & 0xc0) == 0x80; /* characters are not cut */
        int32_t id = between ? -1 : pac_vocab_find(v, s, length);
        if (id >= 0) {
            *n = length;
            return id;
        }
    }
    return -1;
}

/* A word of at most PAC_WORD_CHARS characters. */
static pac_err encode_word(const encoding *e, const char *word, int64_t bytes)
{
    const pac_vocab *v = &e->t->vocab;
    char rest[CONTINUES + PAC_WORD_BYTES];
    int64_t before = e->out->n;
    memcpy(rest, continues, CONTINUES);
    for (int64_t at = 0; at < bytes;) {
        int64_t lead = at > 0 ? CONTINUES : 0, n = lead + bytes - at;
        memcpy(rest + lead, word + at, (size_t)(bytes - at));
        int32_t id = longest_token(v, rest, lead, &n);
        if (id < 0) {
            e->out->n = before;
            return pac_ids_push(e->out, e->t->specials.id[PAC_UNK]);
        }
        if (lead == 0)
            memcpy(rest, continues, CONTINUES);
        PAC_TRY(pac_ids_push(e->out, id));
        at += n - lead;
    }
    return PAC_OK;
}

static pac_err take_word(void *user, const char *word, int64_t bytes)
{
    const encoding *e = user;
    return word != NULL ? encode_word(e, word, bytes) : pac_ids_push(e->out, e->t->specials.id[PAC_UNK]);
}

static pac_err encode_plain(const void *state, const char *text, int64_t n, pac_ids *out)
{
    encoding e = {state, out};
    return pac_words(&e.t->rules, text, n, take_word, &e);
}

static pac_err wordpiece_encode(const void *state, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity)
{
    const wordpiece *t = state;
    pac_ids out = {*ids, *n, *capacity};
    pac_err err = pac_specials_encode(&t->specials, &t->vocab, text, bytes, encode_plain, t, &out);
    *ids = out.ids;
    *n = out.n;
    *capacity = out.capacity;
    return err;
}

/* ---- ids to text ---- */

static int64_t append_token(char *out, int64_t used, const char *token, int64_t n)
{
    bool joined = used > 0 && n >= CONTINUES && memcmp(token, continues, CONTINUES) == 0;
    if (used > 0 && !joined)
        out[used++] = ' ';
    int64_t skip = joined ? CONTINUES : 0;
    if (n > skip)
        memcpy(out + used, token + skip, (size_t)(n - skip));
    return used + n - skip;
}

static pac_err wordpiece_decode(const void *state, const int32_t *ids, int64_t n, char **out)
{
    const wordpiece *t = state;
    int64_t bytes = 1, used = 0, length;
    for (int64_t i = 0; i < n; i++)
        if (pac_vocab_text(&t->vocab, ids[i], &length) != NULL)
            bytes += length + 1;
    void *text;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, (size_t)bytes, &text)); /* zeroed: the end is there */
    for (int64_t i = 0; i < n; i++) {
        const char *token = pac_vocab_text(&t->vocab, ids[i], &length);
        if (token != NULL && !pac_specials_has(&t->specials, ids[i]))
            used = append_token(text, used, token, length);
    }
    *out = text;
    return PAC_OK;
}

static int64_t wordpiece_size(const void *state)
{
    return ((const wordpiece *)state)->vocab.size;
}

static pac_form wordpiece_form(const void *state)
{
    const pac_specials *s = &((const wordpiece *)state)->specials;
    return (pac_form){.begin = s->id[PAC_CLS], .end = s->id[PAC_SEP], .between = -1, .seconds = true};
}

const pac_tokenizer_kind pac_tokenizer_wordpiece = {
    .name = "WordPiece",
    .files = {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json"},
    .needed = 1,
    .open = wordpiece_open,
    .close = wordpiece_close,
    .encode = wordpiece_encode,
    .decode = wordpiece_decode,
    .size = wordpiece_size,
    .form = wordpiece_form,
};
