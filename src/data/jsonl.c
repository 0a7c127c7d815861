/*
 * JSON lines: one object a line, read by jansson (duplicate keys are refused, so that nothing is silently dropped).
 */
#include "lines.h"

#include <string.h>

pac_err pac_jsonl_next(pac_lines *in, json_t **row)
{
    char *line;
    PAC_TRY(pac_lines_next(in, &line));
    *row = NULL;
    if (line == NULL)
        return PAC_OK;
    json_error_t why;
    json_t *value = json_loads(line, JSON_REJECT_DUPLICATES, &why);
    if (value == NULL)
        return pac_lines_fail(in, "not a JSON object: %s (column %d)", why.text, why.column);
    if (!json_is_object(value)) {
        json_decref(value);
        return pac_lines_fail(in, "a JSON object {...} is expected on every line");
    }
    *row = value;
    return PAC_OK;
}

pac_err pac_jsonl_text(const pac_lines *in, const json_t *row, const char *key, const char **out)
{
    const json_t *value = json_object_get(row, key);
    if (!json_is_string(value))
        return pac_lines_fail(in, "%s \"%s\"; a string is expected", value == NULL ? "no key" : "wrong type of", key);
    *out = json_string_value(value);
    return PAC_OK;
}

pac_err pac_jsonl_ids(const pac_lines *in, const json_t *row, const char *key, int64_t vocab, int32_t **ids, int64_t *n,
                      int64_t *capacity)
{
    const json_t *value = json_object_get(row, key);
    if (!json_is_array(value))
        return pac_lines_fail(in, "%s \"%s\"; an array of ids is expected", value == NULL ? "no key" : "wrong type of", key);
    int64_t count = (int64_t)json_array_size(value);
    if (count == 0)
        return pac_lines_fail(in, "\"%s\" is empty; at least one id is expected", key);
    void *array = *ids;
    PAC_TRY(pac_mem_grow(PAC_MEM_DATA, &array, capacity, count, sizeof(int32_t)));
    *ids = array;
    for (int64_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(value, (size_t)i);
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v >= vocab)
            return pac_lines_fail(in, "element %lld of \"%s\" is no id; integers from 0 to %lld are expected", (long long)i + 1,
                                  key, (long long)vocab - 1);
        (*ids)[i] = (int32_t)v;
    }
    *n = count;
    return PAC_OK;
}
