/* Typed, bounded reading of a Hugging Face config.json. */
#include "hf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

pac_err pac_hf_parse(const char *path, const char *text, size_t bytes, hf_config *out)
{
    json_error_t e;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &e);
    PAC_CHECK(root != NULL, PAC_EDATA, "%s:%d:%d: not valid JSON: %s", path, e.line, e.column, e.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return pac_fail(PAC_EDATA, "%s: not a JSON object", path);
    }
    *out = (hf_config){.path = path, .root = root};
    return PAC_OK;
}

void pac_hf_done(hf_config *c)
{
    json_decref(c->root);
    c->root = NULL;
}

static json_t *value_of(const hf_config *c, const char *key)
{
    json_t *v = json_object_get(c->root, key);
    return json_is_null(v) ? NULL : v;
}

bool pac_hf_has(const hf_config *c, const char *key)
{
    return value_of(c, key) != NULL;
}

static pac_err checked_int(const hf_config *c, const char *key, const json_t *v, int64_t min, int64_t max, int64_t *out)
{
    PAC_CHECK(json_is_integer(v), PAC_EDATA, "%s: %s must be an integer from %lld to %lld", c->path, key, (long long)min,
              (long long)max);
    int64_t n = json_integer_value(v);
    PAC_CHECK(n >= min && n <= max, PAC_EDATA, "%s: %s is %lld; allowed are %lld to %lld", c->path, key, (long long)n,
              (long long)min, (long long)max);
    *out = n;
    return PAC_OK;
}

pac_err pac_hf_int(const hf_config *c, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out)
{
    const json_t *v = value_of(c, key);
    if (v != NULL)
        return checked_int(c, key, v, min, max, out);
    PAC_CHECK(fallback >= min, PAC_EDATA, "%s: %s is missing", c->path, key);
    *out = fallback;
    return PAC_OK;
}

pac_err pac_hf_number(const hf_config *c, const char *key, double fallback, double *out)
{
    const json_t *v = value_of(c, key);
    if (v == NULL) {
        *out = fallback;
        return PAC_OK;
    }
    double x = json_number_value(v);
    PAC_CHECK(json_is_number(v) && isfinite(x) && x > 0, PAC_EDATA, "%s: %s must be a number above 0", c->path, key);
    *out = x;
    return PAC_OK;
}

pac_err pac_hf_bool(const hf_config *c, const char *key, bool fallback, bool *out)
{
    const json_t *v = value_of(c, key);
    PAC_CHECK(v == NULL || json_is_boolean(v), PAC_EDATA, "%s: %s must be true or false", c->path, key);
    *out = v == NULL ? fallback : json_is_true(v);
    return PAC_OK;
}

pac_err pac_hf_choice(const hf_config *c, const char *key, const char *const *choices, int *out)
{
    const json_t *v = value_of(c, key);
    if (v == NULL) {
        *out = 0;
        return PAC_OK;
    }
    char known[256] = "";
    for (int i = 0; choices[i] != NULL; i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), choices[i]) == 0) {
            *out = i;
            return PAC_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s\"%s\"", i > 0 ? ", " : "", choices[i]);
    }
    return pac_fail(PAC_EDATA, "%s: %s is \"%s\"; supported are %s", c->path, key,
                    json_is_string(v) ? json_string_value(v) : "not a string", known);
}

pac_err pac_hf_token(const hf_config *c, const char *key, int64_t vocab, int64_t fallback, int32_t *out)
{
    const json_t *v = value_of(c, key);
    if (json_is_array(v))
        v = json_array_get(v, 0);
    int64_t id = fallback;
    if (v != NULL)
        PAC_TRY(checked_int(c, key, v, 0, vocab - 1, &id));
    *out = (int32_t)id;
    return PAC_OK;
}
