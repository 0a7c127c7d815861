/*
 * What a kind of tokenizer answers. A new kind is one file and one line in the table of tokenizer.c.
 */
#ifndef PAC_DATA_TOKENIZER_KIND_H
#define PAC_DATA_TOKENIZER_KIND_H

#include "pac/data.h"

enum { PAC_TOKENIZER_FILES = 2 };

typedef struct pac_tokenizer_kind {
    const char *name;
    const char *files[PAC_TOKENIZER_FILES]; /* all of these lie in the directory; NULL: unused */
    /* The files' contents -> the state of the kind. NULL: this version does not have the kind. `path` is for messages. */
    pac_err (*open)(const char *path, char *const *data, const int64_t *bytes, void **state);
    void (*close)(void *state);
    pac_err (*encode)(const void *state, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity);
    pac_err (*decode)(const void *state, const int32_t *ids, int64_t n, char **out); /* special ids are still among ids */
    int64_t (*size)(const void *state);
} pac_tokenizer_kind;

extern const pac_tokenizer_kind pac_tokenizer_spm;

#endif
