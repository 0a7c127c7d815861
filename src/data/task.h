/*
 * What a task answers: how its file is read, how a prompt is built, what its metrics are. A new task is one file (or one row of
 * task_glue.c) and one line in the table of tasks.c.
 */
#ifndef PAC_DATA_TASK_H
#define PAC_DATA_TASK_H

#include "lines.h"
#include "pac/data.h"

/* One row of a data file after its task has read it. Everything is borrowed until the next row. */
typedef struct pac_example {
    const char *text, *second;   /* the sentence or sentences; a NULL second: there is one */
    const char *target;          /* text to text; NULL: none (predict) */
    const int32_t *ids, *labels; /* token rows: ids is not NULL, text is */
    int64_t nids, nlabels;
    double label; /* class number or score */
} pac_example;

/* Takes the rows of a file one by one. */
typedef struct pac_row_sink {
    void *user;
    pac_err (*row)(void *user, const pac_example *row);
} pac_row_sink;

/* Where the paper takes validation rows from (split.c). */
typedef enum pac_split_kind { PAC_SPLIT_NONE, PAC_SPLIT_HALVES, PAC_SPLIT_HELD_OUT } pac_split_kind;

struct pac_glue;

struct pac_task {
    const char *name;
    int64_t classes;             /* 1: regression, 0: none */
    const char *const *words;    /* label words by class number, NULL after the last; NULL: none */
    bool token_rows;             /* ids as they are, no tokenizer */
    const struct pac_glue *glue; /* shape of a GLUE file and prompt */
    pac_err (*read)(const pac_task *t, pac_lines *in, const pac_data_opts *o, const pac_row_sink *to);
    /* What a text-to-text model reads for one text, or two (b not NULL). NULL for token rows. */
    pac_err (*prompt)(const pac_task *t, const char *a, const char *b, pac_text *out);
    pac_split_kind split;
    bool pair; /* a row has two sentences */
    pac_err (*metrics)(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score, pac_metrics *out);
};

extern const pac_task pac_task_mrpc, pac_task_stsb, pac_task_sst2, pac_task_qnli, pac_task_seq2seq, pac_task_tokens;

/* Metrics (metrics.c). */
pac_err pac_metrics_accuracy(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                             pac_metrics *out);
pac_err pac_metrics_accuracy_f1(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                                pac_metrics *out);
pac_err pac_metrics_correlation(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                                pac_metrics *out);
pac_err pac_metrics_exact(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                          pac_metrics *out);

/* Rows to a data set (dataset.c); file rows and typed rows take the same way. */
typedef struct pac_data_builder pac_data_builder;
pac_err pac_data_builder_new(const pac_data_opts *o, pac_data_builder **out);
pac_err pac_data_builder_row(pac_data_builder *b, const pac_example *row);
/** Hand the rows over; the builder is empty then and still to be freed. gold may be NULL. */
void pac_data_builder_take(pac_data_builder *b, pac_dataset *out, pac_gold *gold);
void pac_data_builder_free(pac_data_builder **b);

/** Ids joined by spaces; the caller frees *out with pac_mem_free(). */
pac_err pac_ids_text(const int32_t *ids, int64_t n, char **out);

#endif
