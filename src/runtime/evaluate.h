/*
 * The evaluator: the stages of a plan, forward only; it scores and writes text. Used by evaluate() on a data set and by predict
 * on lines.
 */
#ifndef PAC_RUNTIME_EVALUATE_H
#define PAC_RUNTIME_EVALUATE_H

#include "stage.h"
#include "train.h"

/* How text is written: beams 1: greedy; at most max_new tokens; from sources of at most max_source. */
typedef struct writing {
    int64_t beams, max_new, max_source;
} writing;

/* What a stage keeps of the sequences of a micro-batch while they are written. */
typedef struct decoder decoder;

typedef struct evaluator {
    const pac_job *job;
    const pac_plan *plan;
    pac_layout layout;
    stage *s;
    bool borrowed; /* the stage belongs to the caller */
    pac_link *prev, *next;
    int64_t M, rows_per_micro; /* micro-batches of a round; samples of each */
    size_t *mark;              /* [M] arena mark behind the encoder's part */
    int64_t *sample;           /* rows of this round */
    writing how;
    decoder **decoder; /* [M] keys and values of what is written (decode.c) */
} evaluator;

/*
 * Outputs of one round: sample i said token[i * max_new .. + length[i]), its end token included. length 0: nothing could be
 * said, since the logits were not finite.
 */
typedef struct decoded {
    int64_t max_new;
    int32_t *token;
    int64_t *length;
    unsigned char *ended;
    double *score; /* sum of log p / length (beams > 1) */
} decoded;

/**
 * own: this rank's stage where it is loaded anyway (nothing in flight); NULL: load the slice, with the values of `tuned`, a
 * list that covers it (NULL: the untouched backbone). Collective.
 */
pac_err evaluator_open(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, writing how,
                       evaluator *e);
/** The job's slice of a plan with what learns in it, parameters zero and without gradients: for a file to fill. Collective. */
pac_err evaluator_load(const pac_job *job, const pac_plan *plan, stage **out);
/** After an error among several ranks: nothing (may_free()). */
void evaluator_close(evaluator *e, pac_err err);

int64_t evaluator_round_rows(const evaluator *e);
/**
 * Run the encoder for rows first..first+n of `data` (n <= round rows), and, when loss or scores is not NULL, the decoder on the
 * true targets: *loss += this rank's summed loss; scores [rows of data, classes] receives the class scores of the rows that
 * this rank computed (the other ranks' rows stay as they are). Collective.
 */
pac_err evaluator_encode(evaluator *e, const pac_dataset *data, int64_t first, int64_t n, double *loss, double *scores);
/** Write the answers of the n rows that were just encoded; every rank gets all. Collective. */
pac_err evaluator_generate(evaluator *e, int64_t n, decoded *d);

/**
 * logits [T, V] of the one row that was just encoded, the decoder forced to its targets, on every rank. logits is zero on
 * entry. Collective.
 */
pac_err evaluator_logits(evaluator *e, float *logits, int64_t T);

/** `wanted` tokens of a sequence, or fewer where the model has no more positions. */
int64_t longest_answer(const pac_job *job, int64_t wanted);

/** Ids of the longest source. */
int64_t longest_source(const pac_dataset *data);

/** evaluate() that also writes what was answered to `path` (NULL: nowhere). Collective. */
pac_err evaluate_rows(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, const char *path,
                      evaluation *out);

/** Room for `rows` answers of at most max_new tokens. */
pac_err decoded_new(int64_t rows, int64_t max_new, decoded *out);
void decoded_free(decoded *d);

#endif
