/*
 * Sets of parts: which parts a record has. A rank writes the parts of its layers, so a file has one set or a few, numbered in
 * the order in which they turn up.
 */
#include "internal.h"

#include <string.h>

pac_err cache_sets_find(cache_sets *s, const uint8_t *has, const uint8_t *stack, int64_t *out)
{
    const size_t parts = (size_t)s->parts;
    for (int64_t i = 0; i < s->count; i++)
        if (memcmp(s->has + (size_t)i * parts, has, parts) == 0) {
            *out = i;
            return PAC_OK;
        }
    PAC_CHECK(s->count < CACHE_MAX_SETS, PAC_EINVAL, "parts are appended in more than %d different combinations",
              CACHE_MAX_SETS);
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&s->has, &s->capacity[2], (s->count + 1) * s->parts, 1));
    for (int k = 0; k < 2; k++)
        PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&s->of[k], &s->capacity[k], s->count + 1, sizeof(int64_t)));
    memcpy(s->has + (size_t)s->count * parts, has, parts);
    s->of[0][s->count] = s->of[1][s->count] = 0;
    for (size_t p = 0; p < parts; p++)
        s->of[stack[p]][s->count] += has[p];
    *out = s->count++;
    return PAC_OK;
}

void cache_sets_free(cache_sets *s)
{
    pac_mem_free(s->has);
    pac_mem_free(s->of[0]);
    pac_mem_free(s->of[1]);
    *s = (cache_sets){0};
}

int64_t cache_sums_bytes(const cache_sets *s, int64_t set)
{
    return (s->of[0][set] + s->of[1][set]) * (int64_t)sizeof(uint64_t);
}

int64_t cache_record_bytes(const pac_cache_layout *l, const cache_sets *s, int64_t set, int64_t sample)
{
    int64_t rows = s->of[0][set] * l->len[0][sample] + s->of[1][set] * l->len[1][sample];
    return cache_sums_bytes(s, set) + rows * pac_cache_row_bytes(l);
}
