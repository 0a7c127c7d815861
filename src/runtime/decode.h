/*
 * Writing text through the stages of a plan, one position at a time.
 *
 * A slot is a sequence that is being written, `beams` for each sample. What the slots said last is known to every rank (struct
 * step); what their earlier positions left behind, keys and values, stays with the decoder layers of each stage.
 */
#ifndef PAC_RUNTIME_DECODE_H
#define PAC_RUNTIME_DECODE_H

#include "evaluate.h"

/* One position of all slots of a round, the same on every rank. Slots of sample i: i * beams .. */
typedef struct step {
    int64_t n, beams, position;
    int32_t *token;       /* [n * beams] the row of a slot: what it said last */
    unsigned char *going; /* [n * beams] 0: no row, now and later */
    int64_t *parent;      /* [n * beams] slot of the round whose earlier positions it has taken over */
    double *score;        /* [n * beams] sum of log p of what it said (beams > 1) */
    int64_t K;            /* answers for each sample: 1, or 2 * beams */
    int64_t *next;        /* [n * K] 1 + token + vocabulary * (slot within the sample), best first; 0: none (not finite) */
    double *next_score;   /* [n * K] its slot's score + log p (beams > 1) */
} step;

pac_err step_new(int64_t n, int64_t beams, step *out);
void step_free(step *t);

/** Empty caches for `capacity` positions of the n samples that were just encoded, at position 0. Collective. */
pac_err decode_begin(evaluator *e, int64_t n, int64_t capacity);
/** The slots' rows through all stages: every rank gets the answers in t->next and t->next_score. Collective. */
pac_err decode_step(evaluator *e, step *t);

/* What the rows of a micro-batch answer, in memory of the host: greedy, the best token of each; beams, all logits. */
typedef struct row_answers {
    int64_t V;
    const int32_t *best;     /* [N] */
    const float *best_logit; /* [N] */
    const float *logits;     /* [N, V] */
    const float *loss;       /* [N] log sum exp minus logits[0] */
} row_answers;

/**
 * The K best continuations of a sample from its going slots, whose rows begin at `row`, into its t->next and t->next_score,
 * which are 0 on entry: greedy, the best token; beams, of all its slots together by sum of log p. Of equals the first. Logits
 * that are not finite have no continuation: greedy looks at the best one only, beams at all of a slot.
 */
void best_continuations(const row_answers *s, int64_t row, const step *t, int64_t sample);

#endif
