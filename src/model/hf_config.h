/*
 * config.json of a Hugging Face model, read key by key. Every error names file, key, what was found and what is allowed.
 */
#ifndef PAC_MODEL_HF_CONFIG_H
#define PAC_MODEL_HF_CONFIG_H

#include "pac/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { PAC_MAX_CONFIG = 1 << 20 }; /* bytes of a config.json at most */

typedef struct hf_config {
    const char *path;
    json_t *root; /* an object */
} hf_config;

/** Parse the text of `path` (borrowed, for messages). The caller ends with pac_hf_done(). Errors: PAC_EDATA. */
pac_err pac_hf_parse(const char *path, const char *text, size_t bytes, hf_config *out);
void pac_hf_done(hf_config *c);

bool pac_hf_has(const hf_config *c, const char *key); /* present and not null */

/* A value in [min, max]; an absent or null key gives `fallback` (below min: the key is required). */
pac_err pac_hf_int(const hf_config *c, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out);
/* A positive number. */
pac_err pac_hf_number(const hf_config *c, const char *key, double fallback, double *out);
pac_err pac_hf_bool(const hf_config *c, const char *key, bool fallback, bool *out);
/* Index of the value in `choices` (NULL-terminated); absent: index 0. */
pac_err pac_hf_choice(const hf_config *c, const char *key, const char *const *choices, int *out);
/* A token id below vocab; a list gives its first entry. */
pac_err pac_hf_token(const hf_config *c, const char *key, int64_t vocab, int64_t fallback, int32_t *out);

#endif
