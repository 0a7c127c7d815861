/*
 * Special tokens: which they are (tokenizer_config.json, special_tokens_map.json, else the family's usual names), and text cut
 * where they are written in it, as Hugging Face's tokenizers do.
 */
#ifndef PAC_DATA_SPECIALS_H
#define PAC_DATA_SPECIALS_H

#include "tokenizer_kind.h"
#include "vocab.h"

#include <jansson.h>

/* A growing array of ids in the ledger. */
typedef struct pac_ids {
    int32_t *ids;
    int64_t n, capacity;
} pac_ids;

pac_err pac_ids_push(pac_ids *to, int32_t id);

typedef enum pac_special { PAC_UNK, PAC_CLS, PAC_SEP, PAC_PAD, PAC_MASK, PAC_BOS, PAC_EOS, PAC_SPECIALS } pac_special;

typedef struct pac_specials {
    int32_t id[PAC_SPECIALS]; /* -1: the vocabulary has none */
} pac_specials;

/* tokenizer_config.json and special_tokens_map.json as objects, NULL where the file is missing. */
typedef struct pac_settings {
    json_t *config, *map;
    const char *config_path;
} pac_settings;

/** file[0], file[1]: the two files. Errors: PAC_EDATA (no JSON object). */
pac_err pac_settings_read(const pac_tokenizer_file *file, pac_settings *out);
void pac_settings_free(pac_settings *s);

/** A boolean of tokenizer_config.json; null and missing give `otherwise`. Errors: PAC_EDATA (another type). */
pac_err pac_settings_bool(const pac_settings *s, const char *key, bool otherwise, bool *out);

/**
 * The ids of the special tokens. `usual` [PAC_SPECIALS]: names where the settings give none (NULL: none).
 * Errors: PAC_EDATA (unk, cls or sep is not in the vocabulary at `path`).
 */
pac_err pac_specials_find(const pac_settings *s, const char *const *usual, const pac_vocab *v, const char *path,
                          pac_specials *out);

bool pac_specials_has(const pac_specials *s, int32_t id);

/* Encodes text without special tokens. */
typedef pac_err (*pac_encode_plain)(const void *state, const char *text, int64_t bytes, pac_ids *out);

/**
 * Encode text: special tokens written in it become their ids, `plain` gets what lies between.
 * Errors: PAC_EDATA (not UTF-8), what `plain` gives.
 */
pac_err pac_specials_encode(const pac_specials *s, const pac_vocab *v, const char *text, size_t bytes, pac_encode_plain plain,
                            const void *state, pac_ids *out);

#endif
