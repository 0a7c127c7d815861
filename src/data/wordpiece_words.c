/*
 * BERT's basic tokenizer, one character at a time: control characters go, CJK ideographs stand alone, accents (the Mn of the
 * canonical decomposition) go, letters become lower case, white space and punctuation end a word.
 *
 * Marks that stay are not reordered canonically: no text is changed by that but runs of musical and Hangul tone marks.
 * Source: Hugging Face tokenizers, normalizers/bert.rs and pre_tokenizers/bert.rs.
 */
#include "wordpiece_words.h"

#include <utf8proc.h>

typedef struct word {
    const pac_word_rules *rules;
    pac_take_word take;
    void *user;
    char s[PAC_WORD_BYTES];
    int64_t bytes, chars; /* chars counts on beyond PAC_WORD_CHARS, bytes does not */
} word;

static bool is_space(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return (c >= '\t' && c <= '\r') || c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL ||
           k == UTF8PROC_CATEGORY_ZP;
}

/* Control, format, private use and surrogates (not what is unassigned), and the replacement character. */
static bool is_dropped(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    utf8proc_category_t k = utf8proc_category(c);
    return c == 0 || c == 0xfffd || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO ||
           k == UTF8PROC_CATEGORY_CS;
}

static bool is_punctuation(int32_t c)
{
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

static bool is_cjk(int32_t c)
{
    static const struct {
        int32_t first, last;
    } block[] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},   {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
                 {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof block / sizeof block[0]; i++)
        if (c >= block[i].first && c <= block[i].last)
            return true;
    return false;
}

static pac_err end_word(word *w)
{
    if (w->chars == 0)
        return PAC_OK;
    bool fits = w->chars <= PAC_WORD_CHARS;
    pac_err err = w->take(w->user, fits ? w->s : NULL, w->bytes);
    w->bytes = w->chars = 0;
    return err;
}

static pac_err add_char(word *w, int32_t c)
{
    if (is_space(c))
        return end_word(w);
    bool alone = is_punctuation(c);
    if (alone)
        PAC_TRY(end_word(w));
    if (w->chars++ < PAC_WORD_CHARS)
        w->bytes += utf8proc_encode_char(c, (utf8proc_uint8_t *)w->s + w->bytes);
    return alone ? end_word(w) : PAC_OK;
}

static pac_err add_lower(word *w, int32_t c)
{
    if (!w->rules->lower)
        return add_char(w, c);
    if (c == 0x130) { /* the one letter whose lower case is two characters */
        PAC_TRY(add_char(w, 'i'));
        return add_char(w, 0x307);
    }
    return add_char(w, utf8proc_tolower(c));
}

static pac_err add_stripped(word *w, int32_t c)
{
    if (!w->rules->strip_accents)
        return add_lower(w, c);
    utf8proc_int32_t part[32]; /* the longest canonical decomposition has 4 */
    int unused = 0;
    int64_t n = utf8proc_decompose_char(c, part, 32, UTF8PROC_DECOMPOSE, &unused);
    for (int64_t i = 0; i < n && i < 32; i++)
        if (utf8proc_category(part[i]) != UTF8PROC_CATEGORY_MN)
            PAC_TRY(add_lower(w, part[i]));
    return PAC_OK;
}

static pac_err add_cleaned(word *w, int32_t c)
{
    if (is_dropped(c))
        return PAC_OK;
    bool alone = w->rules->space_cjk && is_cjk(c);
    if (alone)
        PAC_TRY(end_word(w));
    PAC_TRY(add_stripped(w, c));
    return alone ? end_word(w) : PAC_OK;
}

pac_err pac_words(const pac_word_rules *rules, const char *text, int64_t n, pac_take_word take, void *user)
{
    word w = {.rules = rules, .take = take, .user = user};
    for (int64_t at = 0; at < n;) {
        utf8proc_int32_t c;
        int64_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)text + at, n - at, &c);
        PAC_CHECK(bytes > 0, PAC_EDATA, "byte %lld of the text is not UTF-8", (long long)at + 1);
        PAC_TRY(add_cleaned(&w, c));
        at += bytes;
    }
    return end_word(&w);
}
