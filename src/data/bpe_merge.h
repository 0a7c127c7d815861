/*
 * The merges of a byte pair encoding: which two neighbours become one token, in which order.
 */
#ifndef PAC_DATA_BPE_MERGE_H
#define PAC_DATA_BPE_MERGE_H

#include "specials.h"

typedef struct pac_merge {
    int32_t left, right; /* ids; left -1: a free slot */
    int32_t rank;        /* line of the file: lower comes first */
    int32_t becomes;
} pac_merge;

typedef struct pac_merges {
    pac_merge *slot; /* hash table by (left, right), open addressing, at most half full */
    int64_t slots;
} pac_merges;

/** merges.txt: "left right" on each line; lines that begin with #version are skipped. Errors: PAC_EDATA with file and line. */
pac_err pac_merges_read(const pac_tokenizer_file *file, const pac_vocab *v, pac_merges *out);
void pac_merges_free(pac_merges *m);

/* Scratch of pac_merges_apply(): grows to the longest word. All zero at first. */
typedef struct pac_merge_work {
    void *symbols, *heap;
    int64_t symbols_capacity, heap_capacity;
} pac_merge_work;

void pac_merge_work_free(pac_merge_work *w);

/** Append the tokens of one word, given as n >= 1 ids of single bytes. O(n log n). */
pac_err pac_merges_apply(const pac_merges *m, const int32_t *word, int64_t n, pac_merge_work *w, pac_ids *out);

#endif
