/*
 * Special tokens of a tokenizer directory, and text cut at them (the leftmost, of those the longest).
 *
 * Source: Hugging Face tokenizers, AddedVocabulary (special tokens are matched before normalisation).
 */
#include "specials.h"

#include "lines.h"

#include <string.h>

pac_err pac_ids_push(pac_ids *to, int32_t id)
{
    void *ids = to->ids;
    pac_err err = pac_mem_grow(PAC_MEM_DATA, &ids, &to->capacity, to->n + 1, sizeof(int32_t));
    to->ids = ids;
    if (err == PAC_OK)
        to->ids[to->n++] = id;
    return err;
}

/* ---- settings ---- */

static pac_err read_object(const pac_tokenizer_file *file, json_t **out)
{
    if (file->data == NULL)
        return PAC_OK;
    json_error_t why;
    json_t *value = json_loadb(file->data, (size_t)file->bytes, 0, &why);
    PAC_CHECK(value != NULL, PAC_EDATA, "%s:%d: %s", file->path, why.line, why.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return pac_fail(PAC_EDATA, "%s: a JSON object {...} is expected", file->path);
    }
    *out = value;
    return PAC_OK;
}

pac_err pac_settings_read(const pac_tokenizer_file *file, pac_settings *out)
{
    pac_settings s = {.config_path = file[0].path};
    pac_err err = read_object(&file[0], &s.config);
    if (err == PAC_OK)
        err = read_object(&file[1], &s.map);
    if (err != PAC_OK)
        pac_settings_free(&s);
    else
        *out = s;
    return err;
}

void pac_settings_free(pac_settings *s)
{
    json_decref(s->config);
    json_decref(s->map);
    *s = (pac_settings){0};
}

pac_err pac_settings_bool(const pac_settings *s, const char *key, bool otherwise, bool *out)
{
    const json_t *value = json_object_get(s->config, key);
    PAC_CHECK(value == NULL || json_is_null(value) || json_is_boolean(value), PAC_EDATA,
              "%s: \"%s\" is not true, false or null", s->config_path, key);
    *out = json_is_boolean(value) ? json_is_true(value) : otherwise;
    return PAC_OK;
}

/* A token is given as a string or as {"content": string}; NULL: it is not given. */
static const char *token_in(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

/* ---- which they are ---- */

static const struct {
    const char *key;
    bool needed;
} names[PAC_SPECIALS] = {
    [PAC_UNK] = {"unk_token", true},  [PAC_CLS] = {"cls_token", true},    [PAC_SEP] = {"sep_token", true},
    [PAC_PAD] = {"pad_token", false}, [PAC_MASK] = {"mask_token", false}, [PAC_BOS] = {"bos_token", false},
    [PAC_EOS] = {"eos_token", false},
};

pac_err pac_specials_find(const pac_settings *s, const char *const *usual, const pac_vocab *v, const char *path,
                          pac_specials *out)
{
    pac_specials found;
    for (int i = 0; i < PAC_SPECIALS; i++) {
        const char *token = token_in(s->config, names[i].key);
        if (token == NULL)
            token = token_in(s->map, names[i].key);
        if (token == NULL)
            token = usual[i];
        found.id[i] = token != NULL && *token != '\0' ? pac_vocab_find(v, token, (int64_t)strlen(token)) : -1;
        PAC_CHECK(found.id[i] >= 0 || !names[i].needed, PAC_EDATA,
                  "%s: no token \"%.40s\"; name the right one as \"%s\" in tokenizer_config.json", path,
                  token != NULL ? token : "", names[i].key);
    }
    *out = found;
    return PAC_OK;
}

bool pac_specials_has(const pac_specials *s, int32_t id)
{
    for (int i = 0; i < PAC_SPECIALS; i++)
        if (s->id[i] == id)
            return true;
    return false;
}

/* ---- text cut at them ---- */

/* The longest special token at the very start of the text; *bytes is 0 where there is none. */
static int32_t special_here(const pac_specials *s, const pac_vocab *v, const char *text, int64_t n, int64_t *bytes)
{
    int32_t best = -1;
    *bytes = 0;
    for (int i = 0; i < PAC_SPECIALS; i++) {
        int64_t length = 0;
        const char *token = pac_vocab_text(v, s->id[i], &length);
        if (token != NULL && length > *bytes && length <= n && memcmp(text, token, (size_t)length) == 0) {
            best = s->id[i];
            *bytes = length;
        }
    }
    return best;
}

/* Bytes before the next special token, n where there is none. */
static int64_t plain_bytes(const pac_specials *s, const pac_vocab *v, const char *text, int64_t n, int32_t *id, int64_t *bytes)
{
    bool first[256] = {false};
    for (int i = 0; i < PAC_SPECIALS; i++) {
        int64_t length;
        const char *token = pac_vocab_text(v, s->id[i], &length);
        if (token != NULL)
            first[(unsigned char)token[0]] = true;
    }
    for (int64_t at = 0; at < n; at++) {
        if (!first[(unsigned char)text[at]])
            continue;
        *id = special_here(s, v, text + at, n - at, bytes);
        if (*bytes > 0)
            return at;
    }
    *bytes = 0;
    return n;
}

pac_err pac_specials_encode(const pac_specials *s, const pac_vocab *v, const char *text, size_t bytes, pac_encode_plain plain,
                            const void *state, pac_ids *out)
{
    int64_t n = (int64_t)bytes, valid = pac_utf8_valid(text, n);
    PAC_CHECK(valid == n, PAC_EDATA, "byte %lld (0x%02x) of the text is not UTF-8", (long long)valid + 1,
              (unsigned)(unsigned char)text[valid]);
    PAC_CHECK(n < INT32_MAX, PAC_EDATA, "a text of more than 2 GiB");
    while (n > 0) {
        int32_t id = -1;
        int64_t taken, before = plain_bytes(s, v, text, n, &id, &taken);
        if (before > 0)
            PAC_TRY(plain(state, text, before, out));
        if (taken > 0)
            PAC_TRY(pac_ids_push(out, id));
        text += before + taken;
        n -= before + taken;
    }
    return PAC_OK;
}
