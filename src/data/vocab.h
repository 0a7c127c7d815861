/*
 * A vocabulary in memory: token text by id and id by token text.
 */
#ifndef PAC_DATA_VOCAB_H
#define PAC_DATA_VOCAB_H

#include "pac/mem.h"

enum { PAC_VOCAB_MOST = 1 << 22 }; /* ids are below this: nobody's vocabulary is that large, a damaged file's may be */

typedef struct pac_token {
    int64_t at;    /* in the text */
    int64_t bytes; /* -1: no token has this id */
} pac_token;

/* All zero is the empty vocabulary. */
typedef struct pac_vocab {
    char *text;
    pac_token *token; /* [size] by id */
    int32_t *slot;    /* [slots] hash table of ids, open addressing, -1: free */
    int64_t size, count, slots, text_bytes, text_capacity, token_capacity;
    int64_t longest; /* bytes of the longest token */
} pac_vocab;

/**
 * Give a token its id. A text that comes again keeps its earlier id too, and is found under the later one.
 * Errors: PAC_EDATA (id out of range or taken), PAC_ENOMEM.
 */
pac_err pac_vocab_put(pac_vocab *v, const char *text, int64_t bytes, int64_t id);

/** The id of a token, -1: there is none. */
int32_t pac_vocab_find(const pac_vocab *v, const char *text, int64_t bytes);

/** The text of an id (not zero-terminated), NULL where no token has it. */
const char *pac_vocab_text(const pac_vocab *v, int64_t id, int64_t *bytes);

void pac_vocab_free(pac_vocab *v);

#endif
