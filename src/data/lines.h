/*
 * A text file as lines, and the two row formats on top of it. Every message carries file and line.
 */
#ifndef PAC_DATA_LINES_H
#define PAC_DATA_LINES_H

#include "pac/mem.h"

#include <jansson.h>
#include <stdbool.h>

/* A growing piece of text in the ledger. */
typedef struct pac_text {
    char *s;
    int64_t capacity;
} pac_text;

/** Replace the content by printf output. */
pac_err pac_text_print(pac_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pac_text_done(pac_text *t);

typedef struct pac_lines {
    const char *path;
    char *data;
    int64_t bytes, pos;
    int64_t line; /* number of the line that pac_lines_next() gave last, from 1 */
} pac_lines;

/** Read a file; a BOM and blank lines at its end are dropped. Errors: PAC_EIO, PAC_EDATA (empty). */
pac_err pac_lines_open(const char *path, pac_lines *out);
void pac_lines_close(pac_lines *l);

/** The next line without its end, NULL after the last; valid (and writable) until the close. Errors: PAC_EDATA (not UTF-8, NUL
 * bytes). */
pac_err pac_lines_next(pac_lines *l, char **line);

/** PAC_EDATA with "path:line: " in front. */
pac_err pac_lines_fail(const pac_lines *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Number of bytes of the valid UTF-8 prefix of s[0..n). */
int64_t pac_utf8_valid(const char *s, int64_t n);

/** Bytes as zero-terminated UTF-8: what is not UTF-8 becomes U+FFFD, one for each sequence that breaks off (as Python's and
 * Rust's decoders do), and so do zero bytes. The caller frees *out with pac_mem_free(). */
pac_err pac_utf8_repair(const char *s, int64_t n, char **out);

/* ---- tab-separated rows; quotes mean nothing ---- */

enum { PAC_TSV_WANTED = 4 };

typedef struct pac_tsv {
    pac_lines *in;
    int64_t columns; /* of the header; every row must have as many */
    int64_t wanted;
    int64_t at[PAC_TSV_WANTED]; /* position of the wanted columns */
} pac_tsv;

/** Read the header row and find the wanted columns. Errors: PAC_EDATA. */
pac_err pac_tsv_open(pac_lines *in, const char *const *names, int64_t n, pac_tsv *out);
/** The wanted fields of the next row; field[0] is NULL after the last. Errors: PAC_EDATA. */
pac_err pac_tsv_next(pac_tsv *t, const char **field);

/* ---- JSON lines ---- */

/** The next object, NULL after the last; the caller gives it back with json_decref(). Errors: PAC_EDATA. */
pac_err pac_jsonl_next(pac_lines *in, json_t **row);
/** The string at `key`, borrowed from the row. Errors: PAC_EDATA (missing, no string). */
pac_err pac_jsonl_text(const pac_lines *in, const json_t *row, const char *key, const char **out);
/** The ids at `key`, in a ledger array that is reused. Errors: PAC_EDATA (no array, empty, not integers in [0, vocab)). */
pac_err pac_jsonl_ids(const pac_lines *in, const json_t *row, const char *key, int64_t vocab, int32_t **ids, int64_t *n,
                      int64_t *capacity);

#endif
