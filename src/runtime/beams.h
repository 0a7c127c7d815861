/* The books of beam search, the same on every rank: what runs and what has ended, for each sample of a round. No tensors, no
 * MPI. */
#ifndef PAC_RUNTIME_BEAMS_H
#define PAC_RUNTIME_BEAMS_H

#include "decode.h"

/* A list of hypotheses: [samples * beams], by sample the best first. */
typedef struct hypotheses {
    int32_t *token;  /* [samples * beams, max_new] */
    int64_t *length; /* 0: none yet */
    double *score;
} hypotheses;

typedef struct beam_books {
    int64_t n, width, max_new, vocab;
    int32_t eos_id;
    hypotheses running, ended; /* score: sum of log p; and that divided by the length */
    int32_t *spare;            /* [beams, max_new] */
    unsigned char *done;       /* [samples] */
} beam_books;

/** Nothing said yet, at the step's first position. */
pac_err beams_new(const step *t, int64_t max_new, int64_t vocab, int32_t eos_id, beam_books *out);
void beams_free(beam_books *b);
/** Take a step's answers; sets the rows of the next one. Are there samples that go on? */
bool beams_advance(beam_books *b, step *t);
/** The best of each sample, its score with it. */
void beams_best(const beam_books *b, decoded *d);

#endif
