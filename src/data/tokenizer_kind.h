/*
 * What a kind of tokenizer answers. A new kind is one file and one line in the table of tokenizer.c.
 */
#ifndef PAC_DATA_TOKENIZER_KIND_H
#define PAC_DATA_TOKENIZER_KIND_H

#include "pac/data.h"

enum { PAC_TOKENIZER_FILES = 4 };

typedef struct pac_tokenizer_file {
    const char *path; /* for messages */
    const char *data; /* NULL: a file that need not be there is not; else a zero byte lies behind it */
    int64_t bytes;
} pac_tokenizer_file;

/* How sentences become a sequence: [begin] A end, and for two: [begin] A end [between] B end. Ids; -1: none. */
typedef struct pac_form {
    int32_t begin, between;
    int32_t end;   /* -1: the model's end of sequence */
    bool prompted; /* T5: a classification task is asked in words too; else a classification head reads the bare sentences */
    bool seconds;  /* BERT: where the second sentence begins matters (token types, separate sentences) */
} pac_form;

typedef struct pac_tokenizer_kind {
    const char *name;
    const char *files[PAC_TOKENIZER_FILES]; /* NULL: unused */
    int needed;                             /* the first so many must lie in the directory, the others may */
    /* The files' contents -> the state of the kind. */
    pac_err (*open)(const pac_tokenizer_file *file, void **state);
    void (*close)(void *state);
    pac_err (*encode)(const void *state, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity);
    pac_err (*decode)(const void *state, const int32_t *ids, int64_t n, char **out); /* special ids are still among ids */
    int64_t (*size)(const void *state);
    pac_form (*form)(const void *state);
} pac_tokenizer_kind;

extern const pac_tokenizer_kind pac_tokenizer_spm, pac_tokenizer_bpe, pac_tokenizer_wordpiece;

pac_form pac_tokenizer_form(const pac_tokenizer *t);

#endif
