/*
 * Types of configuration values: each is a pair, read from a YAML node and write as YAML. What is written reads back as the
 * same value.
 */
#include "internal.h"

#include "pac/data.h"
#include "pac/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pac_err pac_config_print(pac_config_out *out, const char *fmt, ...)
{
    char text[2 * PAC_PATH + 8];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    PAC_CHECK(n >= 0 && (size_t)n < sizeof text, PAC_EINTERNAL, "a configuration value is too long");
    void *s = out->s;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &s, &out->capacity, out->n + n + 1, 1));
    out->s = s;
    memcpy(out->s + out->n, text, (size_t)n + 1);
    out->n += n;
    return PAC_OK;
}

pac_err pac_config_later(const pac_yaml_node *n, const char *what, const char *word)
{
    pac_err err = pac_yaml_fail(n, "not built yet: %s: %s", what, word);
    return err == PAC_ECONFIG ? pac_fail(PAC_ENOTBUILT, "%s", pac_err_message()) : err;
}

static bool is_word(const pac_yaml_node *n, const char *word)
{
    return pac_yaml_kind_of(n) == PAC_YAML_SCALAR && strcmp(pac_yaml_text(n), word) == 0;
}

/* ---- text ---- */

static pac_err read_text(const pac_key *k, const pac_yaml_node *n, void *field)
{
    if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR)
        return pac_yaml_fail(n, "%s: expected text", k->name);
    const char *text = pac_yaml_text(n);
    if (*text == '\0')
        return pac_yaml_fail(n, "%s: empty", k->name);
    for (const char *t = text; *t != '\0'; t++)
        if ((unsigned char)*t < ' ' || *t == 0x7f)
            return pac_yaml_fail(n, "%s: a control character in the text", k->name);
    if (strlen(text) >= k->bytes)
        return pac_yaml_fail(n, "%s: longer than %zu bytes", k->name, k->bytes - 1);
    snprintf(field, k->bytes, "%s", text);
    return PAC_OK;
}

static pac_err write_text(const pac_key *k, const void *field, pac_config_out *out)
{
    char quoted[2 * PAC_PATH + 4], *to = quoted;
    (void)k;
    *to++ = '\'';
    for (const char *from = field; *from != '\0' && to < quoted + sizeof quoted - 3; from++) {
        if (*from == '\'')
            *to++ = '\'';
        *to++ = *from;
    }
    *to++ = '\'';
    *to = '\0';
    return pac_config_print(out, "%s", quoted);
}

/* The known names and what they mean belong to src/data. */
static pac_err read_task(const pac_key *k, const pac_yaml_node *n, void *field)
{
    char name[64];
    const pac_task *task;
    pac_key whole = *k;
    whole.bytes = sizeof name;
    PAC_TRY(read_text(&whole, n, name));
    if (pac_task_find(name, &task) != PAC_OK || strlen(name) >= k->bytes)
        return pac_yaml_fail(n, "%s: %s", k->name, pac_err_message());
    snprintf(field, k->bytes, "%s", name);
    return PAC_OK;
}

/* ---- numbers ---- */

static pac_err read_int(const pac_key *k, const pac_yaml_node *n, void *field)
{
    int64_t max = k->max >= (double)INT64_MAX ? INT64_MAX : (int64_t)k->max;
    return pac_yaml_int(n, k->name, (int64_t)k->min, max, field);
}

static pac_err write_int(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    return pac_config_print(out, "%" PRId64, *(const int64_t *)field);
}

static pac_err read_auto_int(const pac_key *k, const pac_yaml_node *n, void *field)
{
    if (is_word(n, "auto")) {
        *(int64_t *)field = 0;
        return PAC_OK;
    }
    pac_err err = read_int(k, n, field);
    return err == PAC_ECONFIG ? pac_fail(err, "%s (or auto)", pac_err_message()) : err;
}

static pac_err write_auto_int(const pac_key *k, const void *field, pac_config_out *out)
{
    return *(const int64_t *)field == 0 ? pac_config_print(out, "auto") : write_int(k, field, out);
}

static pac_err read_bytes(const pac_key *k, const pac_yaml_node *n, void *field)
{
    double v;
    PAC_TRY(pac_yaml_bytes(n, k->name, &v));
    if (v < k->min || v > k->max)
        return pac_yaml_fail(n, "%s: %.0f bytes: must be %.0f to %.0f", k->name, v, k->min, k->max);
    *(int64_t *)field = (int64_t)v;
    return PAC_OK;
}

static pac_err write_bytes(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    return pac_config_print(out, "%" PRId64 " B", *(const int64_t *)field);
}

static pac_err read_double(const pac_key *k, const pac_yaml_node *n, void *field)
{
    return pac_yaml_double(n, k->name, k->min, k->max, field);
}

/* The shortest of the usual precisions that reads back as the same number. */
static pac_err write_number(double v, pac_config_out *out)
{
    char text[40];
    snprintf(text, sizeof text, "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof text, "%.17g", v);
    return pac_config_print(out, "%s", text);
}

static pac_err write_double(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    return write_number(*(const double *)field, out);
}

static pac_err read_float(const pac_key *k, const pac_yaml_node *n, void *field)
{
    double v = 0;
    PAC_TRY(pac_yaml_double(n, k->name, k->min, k->max, &v));
    *(float *)field = (float)v;
    return PAC_OK;
}

static pac_err write_float(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    char text[40];
    float v = *(const float *)field;
    snprintf(text, sizeof text, "%.6g", (double)v);
    if (strtof(text, NULL) != v)
        snprintf(text, sizeof text, "%.9g", (double)v);
    return pac_config_print(out, "%s", text);
}

/* Steps, or a fraction of all steps if below 1. */
static pac_err read_warmup(const pac_key *k, const pac_yaml_node *n, void *field)
{
    double v = 0;
    PAC_TRY(pac_yaml_double(n, k->name, k->min, k->max, &v));
    if (v >= 1 && v != floor(v))
        return pac_yaml_fail(n, "%s: %g is neither a number of steps nor a fraction below 1", k->name, v);
    *(double *)field = v;
    return PAC_OK;
}

/* ---- words ---- */

static pac_err read_bool(const pac_key *k, const pac_yaml_node *n, void *field)
{
    return pac_yaml_bool(n, k->name, field);
}

static pac_err write_bool(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    return pac_config_print(out, "%s", *(const bool *)field ? "true" : "false");
}

static pac_err find_word(const pac_key *k, const pac_yaml_node *n, const pac_word **out)
{
    enum { MOST = 15 };
    const char *names[MOST + 1] = {NULL};
    int64_t i = 0;
    for (int w = 0; w < MOST && k->words[w].word != NULL; w++)
        names[w] = k->words[w].word;
    PAC_TRY(pac_yaml_choice(n, k->name, names, &i));
    if (k->words[i].later)
        return pac_config_later(n, k->name, names[i]);
    *out = &k->words[i];
    return PAC_OK;
}

/* The words of a key; one without a word where there is no such key. */
static const pac_word *words_of(const char *key)
{
    static const pac_word none = {0};
    for (const pac_key *k = pac_keys; k->name != NULL; k++)
        if (strcmp(k->name, key) == 0 && k->words != NULL)
            return k->words;
    return &none;
}

const char *pac_config_word(const char *key, int value)
{
    const pac_word *w = words_of(key);
    while (w->word != NULL && w->value != value)
        w++;
    return w->word;
}

bool pac_config_value(const char *key, const char *word, int *value)
{
    for (const pac_word *w = words_of(key); word != NULL && w->word != NULL; w++)
        if (strcmp(w->word, word) == 0 && !w->later) {
            *value = w->value;
            return true;
        }
    return false;
}

/* Choices are kept in an enum or in a bool. */
static pac_err read_choice(const pac_key *k, const pac_yaml_node *n, void *field)
{
    const pac_word *word = NULL;
    PAC_TRY(find_word(k, n, &word));
    if (k->bytes == sizeof(bool))
        *(bool *)field = word->value != 0;
    else
        memcpy(field, &word->value, sizeof word->value);
    return PAC_OK;
}

static pac_err write_choice(const pac_key *k, const void *field, pac_config_out *out)
{
    int value = 0;
    if (k->bytes == sizeof(bool))
        value = *(const bool *)field;
    else
        memcpy(&value, field, sizeof value);
    const pac_word *w = k->words;
    while (w[1].word != NULL && w->value != value)
        w++;
    return pac_config_print(out, "%s", w->word);
}

static pac_err read_word(const pac_key *k, const pac_yaml_node *n, void *field)
{
    const pac_word *word = NULL;
    PAC_TRY(find_word(k, n, &word));
    snprintf(field, k->bytes, "%s", word->word);
    return PAC_OK;
}

static pac_err write_word(const pac_key *k, const void *field, pac_config_out *out)
{
    (void)k;
    return pac_config_print(out, "%s", (const char *)field);
}

const pac_key_type pac_type_text = {read_text, write_text};
const pac_key_type pac_type_task = {read_task, write_word};
const pac_key_type pac_type_int = {read_int, write_int};
const pac_key_type pac_type_auto_int = {read_auto_int, write_auto_int};
const pac_key_type pac_type_bytes = {read_bytes, write_bytes};
const pac_key_type pac_type_double = {read_double, write_double};
const pac_key_type pac_type_float = {read_float, write_float};
const pac_key_type pac_type_warmup = {read_warmup, write_double};
const pac_key_type pac_type_bool = {read_bool, write_bool};
const pac_key_type pac_type_choice = {read_choice, write_choice};
const pac_key_type pac_type_word = {read_word, write_word};
