/*
 * Text to token ids: tokenizers, tasks, and the tokenised data set.
 *
 * A tokenizer or a task is one file and one line in a table. Text is tokenised once: a file becomes a ragged data set (batch.h)
 * and, beside it, the gold values that the metrics compare with.
 */
#ifndef PAC_DATA_H
#define PAC_DATA_H

#include "pac/batch.h"

/* ---- tokenizers ---- */

typedef struct pac_tokenizer pac_tokenizer;

/**
 * Open the tokenizer of a model directory; its kind follows from the files that lie there, in this order: spiece.model
 * (SentencePiece), vocab.json and merges.txt (GPT-2's byte-level BPE, for BART), vocab.txt (BERT's WordPiece).
 * tokenizer_config.json and special_tokens_map.json are read for the latter two where they lie there.
 * Errors: PAC_EIO (no tokenizer file, unreadable), PAC_EDATA (damaged; file and place).
 */
pac_err pac_tokenizer_open(const char *model_dir, pac_tokenizer **out);
void pac_tokenizer_close(pac_tokenizer **t);

/**
 * Append the ids of `bytes` bytes of UTF-8 (no special tokens are added) to *ids, an array for pac_mem_grow() with *n used of
 * *capacity elements. Special tokens written in the text ("<mask>", "[SEP]") become their ids with BPE and WordPiece, as with
 * Hugging Face. Thread-safe. Errors: PAC_ENOMEM, PAC_EDATA (BPE, WordPiece: not UTF-8; SentencePiece takes U+FFFD for it).
 */
pac_err pac_tokenizer_encode(const pac_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n,
                             int64_t *capacity);

/**
 * Text of ids. Special tokens and every id outside [0, pac_tokenizer_size()) (T5's <extra_id_N>, the unused rows of the
 * embedding, PAC_IGNORE) are left out, as decode(skip_special_tokens=True) does. BPE gives the bytes back, U+FFFD where they
 * are no UTF-8; WordPiece joins "##" and puts a space between words (punctuation too: Hugging Face's clean-up is not applied).
 * The caller frees *out with pac_mem_free(). Thread-safe. Errors: PAC_ENOMEM, PAC_EDATA.
 */
pac_err pac_tokenizer_decode(const pac_tokenizer *t, const int32_t *ids, int64_t n, char **out);

/** Every id that pac_tokenizer_encode() gives is below this (T5: 32000; its sentinels 32000..32099 come after). */
int64_t pac_tokenizer_size(const pac_tokenizer *t);

/** Hash of the content of the tokenizer's files. */
uint64_t pac_tokenizer_identity(const pac_tokenizer *t);

/* ---- tasks ---- */

typedef struct pac_task pac_task; /* mrpc stsb sst2 qnli seq2seq tokens */

/** Errors: PAC_ECONFIG with the known names. */
pac_err pac_task_find(const char *name, const pac_task **out);
/** Number of classes with a classification head (1: regression; 0: the task has none). */
int64_t pac_task_classes(const pac_task *t);
const char *pac_task_name(const pac_task *t);
bool pac_task_needs_tokenizer(const pac_task *t);
/** The label words of a classification task by class number, NULL after the last ("not_equivalent", "equivalent"); else NULL.
 */
const char *const *pac_task_label_words(const pac_task *t);

/*
 * Rows become sequences in the form of the tokenizer's family, with Hugging Face's ids for truncation=True, max_length:
 *   T5            prompt </s>                                   (GLUE rows as text to text, for both heads)
 *   BART          <s> A </s>      <s> A </s></s> B </s>         (head lm: the prompt as A; labels are <s> target </s>, as
 *                                                                tokenizer(target) gives them)
 *   BERT-like     [CLS] A [SEP]   [CLS] A [SEP] B [SEP]         (separate: [CLS] A [SEP] and [CLS] B [SEP])
 */
typedef struct pac_data_opts {
    const pac_task *task;
    const pac_tokenizer *tokenizer; /* NULL allowed for `tokens` */
    int64_t max_source, max_target; /* at least 1; longer sequences are cut so that the end of sequence stays the last id */
    bool pad_max;        /* every sequence has exactly the maximum length: sources filled with pad_id, labels with PAC_IGNORE */
    bool classification; /* head: classification: gold is cls or value, labels are empty, target rows are the source rows */
    bool separate; /* task.pairs: separate (BERT-like): each sentence of a pair is a sequence of its own, of max_source at most
                    */
    int32_t pad_id;
    int32_t eos_id; /* of the model; -1: it has none (BERT-like) */
    int64_t vocab;  /* of the model: ids must be below it */
} pac_data_opts;

/* What metrics compare with: the class number or score, and the expected output text. */
typedef struct pac_gold {
    int64_t rows;
    double *label; /* [rows] class number or score; 0 for tasks without */
    char **target; /* [rows] label word, score "3.8", target text, or (tokens) the space-joined label ids without the final
                      eos_id */
} pac_gold;

/**
 * Read and tokenise a whole file. Not collective.
 *
 * mrpc, stsb, sst2, qnli: GLUE's tab-separated files as they are. seq2seq: JSON lines {"text", "target"}, or tab-separated with
 * these columns (a file whose first byte is '{' is JSON lines). tokens: JSON lines {"input_ids", "labels"}.
 *
 * @param[out] out   the caller frees it with pac_dataset_free()
 * @param[out] gold  may be NULL; the caller frees it with pac_gold_free()
 * Errors: PAC_EIO; PAC_EDATA (file:line: what is wrong, what is expected; an empty file; a tokenizer larger than the model's
 * vocabulary); PAC_ECONFIG (a classification head for a task without classes).
 */
pac_err pac_data_load(const char *path, const pac_data_opts *o, pac_dataset *out, pac_gold *gold);
void pac_gold_free(pac_gold *g);

/**
 * One source row from a typed line (predict), without labels: the text; "text<TAB>second text" for pair tasks; ids separated by
 * spaces for `tokens`. Errors: PAC_EDATA.
 */
pac_err pac_data_from_line(const char *line, const pac_data_opts *o, pac_dataset *out);

/**
 * Source rows from JSON lines (predict --input): {"text"[, "text_pair"]}, or {"input_ids"[, "labels"]} (ids as they are, with
 * the task `tokens` or any other). Rows without labels have no target. Errors: as pac_data_load().
 */
pac_err pac_data_load_inputs(const char *path, const pac_data_opts *o, pac_dataset *out);

/* ---- parts of a data set ---- */

/**
 * The given rows, in that order, as a data set of their own, with an identity of their own. gold may be NULL, then out_gold is
 * not touched. The caller frees both. Not collective. Errors: PAC_EINVAL (no rows, no such row), PAC_ENOMEM.
 */
pac_err pac_data_rows(const pac_dataset *from, const pac_gold *gold, const int64_t *rows, int64_t n, pac_dataset *out,
                      pac_gold *out_gold);

/* task.split: paper: which rows of one of the two files are for validation, and which are left; both ascending. */
typedef struct pac_split {
    bool from_eval; /* of the evaluation file (rest: the test); else of the training file (rest: to train on) */
    int64_t nvalidation, nrest;
    int64_t *validation, *rest;
} pac_split;

/**
 * The paper's split. mrpc, stsb: the evaluation file is halved, floor(n/2) rows validate, the others test (408 -> 204 + 204,
 * 1500 -> 750 + 750). sst2, qnli: 1000 rows of the training file validate (67349 -> 66349 + 1000), the evaluation file tests.
 * The validation rows are the first ones of pac_rng_permutation(2024, 0, n), the same for every seed of training; the paper's
 * own choice is not published. Not collective. Errors: PAC_ECONFIG (another task), PAC_EDATA (too few rows), PAC_ENOMEM.
 */
pac_err pac_split_paper(const pac_task *t, int64_t train_rows, int64_t eval_rows, pac_split *out);
void pac_split_free(pac_split *s);

typedef struct pac_labelled {
    pac_dataset data;
    pac_gold gold;
} pac_labelled;

void pac_labelled_free(pac_labelled *l);

typedef struct pac_parts {
    pac_labelled train, validation, test;
} pac_parts;

/**
 * Both files as the three parts of pac_split_paper(). On success *train and *eval are empty and their content belongs to *out,
 * which the caller frees with pac_parts_free(); on failure they are as they were. Not collective. Errors: pac_split_paper()'s.
 */
pac_err pac_data_split(const pac_task *t, pac_labelled *train, pac_labelled *eval, pac_parts *out);
void pac_parts_free(pac_parts *p);

/* ---- metrics ---- */

enum { PAC_MAX_METRICS = 6 };
typedef struct pac_metrics {
    int64_t count;
    struct {
        char name[16];
        double value;
    } v[PAC_MAX_METRICS];
} pac_metrics;

/**
 * The text that pac_task_metrics() expects for decoded output ids (up to the first eos_id, which is not part of the text):
 * decoded, or the ids joined by spaces for `tokens`. The caller frees *out with pac_mem_free(). `tokenizer` may be NULL for
 * `tokens`.
 */
pac_err pac_task_output_text(const pac_task *t, const pac_tokenizer *tokenizer, int32_t eos_id, const int32_t *ids, int64_t n,
                             char **out);

/**
 * Metrics of a task from predictions: exactly one of `text` [rows] (lm head, from pac_task_output_text()) and `score` [rows]
 * (class numbers or regression values of a classification head) is given.
 *
 * Fractions in [0, 1] (correlations in [-1, 1]): mrpc accuracy, f1 (positive class: equivalent); stsb pearson, spearman (ranks
 * of ties averaged); sst2, qnli accuracy; seq2seq, tokens exact_match (runs of white space count as one space). A text that is
 * no label is wrong; an stsb output that is no finite number counts as 0. A correlation with a constant is 0, and so is F1
 * without positives. Errors: PAC_EINVAL (no rows; scores for a task without classes), PAC_ENOMEM.
 */
pac_err pac_task_metrics(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                         pac_metrics *out);

#endif
