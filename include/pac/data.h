/*
 * Text to token ids: tokenizers, tasks, and the tokenised data set.
 *
 * A tokenizer or a task is one file and one line in a table.
 */
#ifndef PAC_DATA_H
#define PAC_DATA_H

#include "pac/batch.h"

#include <stdio.h>

/* ---- tokenizers ---- */

typedef struct pac_tokenizer pac_tokenizer;

/** Open the tokenizer of a model directory (spiece.model; later vocab.json + merges.txt, vocab.txt). Errors: PAC_EIO, PAC_EDATA. */
pac_err pac_tokenizer_open(const char *model_dir, pac_tokenizer **out);
void pac_tokenizer_close(pac_tokenizer **t);
/** Append the ids of `text` (no special tokens) to *ids (ledger array with capacity; tag DATA). */
pac_err pac_tokenizer_encode(const pac_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity);
/** Text of ids without special tokens; the caller frees *out with pac_mem_free(). */
pac_err pac_tokenizer_decode(const pac_tokenizer *t, const int32_t *ids, int64_t n, char **out);
int64_t pac_tokenizer_size(const pac_tokenizer *t);
/** Hash of the tokenizer's file content. */
uint64_t pac_tokenizer_identity(const pac_tokenizer *t);

/* ---- tasks ---- */

/* One row of a data file after its task has read it. Strings are borrowed. */
typedef struct pac_example {
    const char *text, *target;  /* text to text; NULL for token rows */
    const int32_t *ids, *labels; /* token rows */
    int64_t nids, nlabels;
    double label;               /* class number, or the score of a regression; the gold value for metrics */
} pac_example;

typedef struct pac_task pac_task; /* mrpc stsb sst2 qnli seq2seq tokens */

/** Errors: PAC_ECONFIG with the known names. */
pac_err pac_task_find(const char *name, const pac_task **out);
/** Number of classes with a classification head (1: regression; 0: the task has none). */
int64_t pac_task_classes(const pac_task *t);
const char *pac_task_name(const pac_task *t);
bool pac_task_needs_tokenizer(const pac_task *t);
/** The label words of classification tasks, text to text ("equivalent"...); NULL after the last. */
const char *const *pac_task_label_words(const pac_task *t);

typedef struct pac_data_opts {
    const pac_task *task;
    const pac_tokenizer *tokenizer; /* NULL allowed for `tokens` */
    int64_t max_source, max_target;
    bool pad_max;                   /* every sequence has exactly the maximum length, filled with pad_id */
    bool classification;            /* head: classification: labels are cls or value, target rows are the source rows */
    int32_t pad_id, eos_id;
    int64_t vocab;                  /* ids must be below it */
} pac_data_opts;

/**
 * Read and tokenise a whole file. Gold values for metrics are kept beside it. Errors: PAC_EIO, PAC_EDATA (file:line: what is wrong,
 * what is expected; empty file). Not collective.
 */
typedef struct pac_gold { int64_t rows; double *label; char **target; } pac_gold;
pac_err pac_data_load(const char *path, const pac_data_opts *o, pac_dataset *out, pac_gold *gold);
void pac_gold_free(pac_gold *g);

/** Build one example from a prompt line (predict): text, or "text<TAB>second text" for pair tasks. */
pac_err pac_data_from_line(const char *line, const pac_data_opts *o, pac_dataset *out);

/* ---- metrics ---- */

enum { PAC_MAX_METRICS = 6 };
typedef struct pac_metrics { int64_t count; struct { char name[16]; double value; } v[PAC_MAX_METRICS]; } pac_metrics;

/**
 * Metrics of a task from predictions: `text` [rows] decoded outputs (lm head; for `tokens` space-joined ids), or `score` [rows]
 * class numbers or regression values (classification head). An output that is no label counts as wrong (STS-B: as 0.0... see docs).
 * Fractions in [0,1]: mrpc accuracy, f1; stsb pearson, spearman; sst2, qnli accuracy; seq2seq, tokens exact_match.
 */
pac_err pac_task_metrics(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score, pac_metrics *out);

#endif
