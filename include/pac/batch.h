/*
 * A packed batch: B sequences laid end to end, nothing padded. Offsets say where each begins.
 */
#ifndef PAC_BATCH_H
#define PAC_BATCH_H

#include "pac/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum { PAC_IGNORE = -100 }; /* a label that does not count, as in PyTorch */

typedef struct pac_batch {
    int64_t B;             /* sequences */
    const int64_t *sample; /* [B] row of the data set */
    const int64_t *soff;   /* [B + 1] first source row of each sequence; soff[B] = S rows */
    const int32_t *sids;   /* [S] source token ids */
    const int64_t *toff;   /* [B + 1] first target row of each sequence; toff[B] = T rows */
    const int32_t *tids; /* [T] decoder input ids (labels shifted right; the source shifted right for a classification head) */
    const int32_t *labels; /* [T] token labels, or PAC_IGNORE; NULL when the source is shifted */
    const int32_t *cls;    /* [B] class label, or NULL */
    const float *value;    /* [B] regression target, where the backend has its rows (pac/space.h), or NULL */
    int64_t A;             /* encoder sequences that attend to themselves: the samples, or the sentences of separate pairs */
    const int64_t *aoff;   /* [A + 1] first source row of each, a refinement of soff; NULL: soff itself (A = B) */
    const int32_t *stypes; /* [S] token types (BERT: 0 first sentence, 1 second), or NULL */
} pac_batch;

/*
 * The tokenised data set: the same ragged layout over all rows. Decoder inputs are derived (pac_batch_gather), not stored.
 */
typedef struct pac_dataset {
    int64_t rows;
    int64_t *soff, *toff; /* [rows + 1]; toff is all 0 for a classification head */
    int32_t *sids;        /* source ids, end-of-sequence included where the task has one */
    int32_t *labels;      /* target ids, end-of-sequence included */
    int32_t *cls;         /* [rows] or NULL */
    float *value;         /* [rows] or NULL */
    int32_t *second;      /* [rows] source row (in the sample) where the second sentence begins, 0: there is one only; or NULL */
    uint64_t identity;    /* hash of all of the above, the gold values, and what made it (tokenizer, truncation) */
} pac_dataset;

typedef struct pac_batch_opts {
    int32_t start_id;  /* decoder start token */
    int32_t pad_id;    /* decoder input after a label that is PAC_IGNORE */
    bool shift_source; /* decoder input = source shifted right (classification head) instead of labels shifted right */
    bool separate;     /* the two sentences of a sample do not see each other: aoff is cut at `second` (encoder-only models) */
    bool types;        /* the model has token types: stypes from `second` (all 0 with separate) */
} pac_batch_opts;

/**
 * Gather rows sample[0..n) of `data` in that order into a batch whose arrays live in `arena` until it is reset. Not collective.
 *
 *     tids[toff[b]] = start_id,  tids[toff[b] + i] = labels[toff[b] + i - 1]   (PAC_IGNORE: pad_id)
 *
 * Errors: PAC_EINVAL (no such row), PAC_ENOMEM.
 * Source: Hugging Face T5PreTrainedModel._shift_right, BART shift_tokens_right.
 */
pac_err pac_batch_gather(const pac_dataset *data, const int64_t *sample, int64_t n, const pac_batch_opts *opts,
                         pac_arena *arena, pac_batch *out);

void pac_dataset_free(pac_dataset *data);

#endif
