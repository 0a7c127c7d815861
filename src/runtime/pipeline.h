/*
 * One rank's part of pipelined mini-batches: the operation list of its stage, mapped to links and the stage. Training and the
 * Fisher pass drive it; what each does beside is in the two hooks.
 *
 * Rows that are not the host's are copied there before they leave. The host does not stand by for that: it queues the next
 * operation's work and posts the messages then, but before it waits for a neighbour.
 */
#ifndef PAC_RUNTIME_PIPELINE_H
#define PAC_RUNTIME_PIPELINE_H

#include "boxes.h"

typedef struct minibatch {
    const int64_t *sample; /* [n] rows of the data */
    int64_t n;
    float scale; /* of the loss: 1 / rows that count */
    double loss; /* of this rank, sum over the mini-batch */
} minibatch;

typedef struct pipeline {
    const pac_job *job;
    const pac_layout *layout;
    stage *stage;
    pac_link *prev, *next; /* NULL at the ends */
    boxes boxes;           /* at the lower boundary */
    bool ahead;            /* ask for rows before they are needed, and do not wait for gradients that leave (train.overlap) */
    pac_oplist ops;        /* for `microbatches` micro-batches */
    int64_t microbatches;  /* of the list at hand: a small last mini-batch has fewer */
    departure leaving;     /* copies have been started, messages are to follow */
    const micro *from;     /* whose rows they are */
    /* NULL: nothing to do */
    pac_err (*before)(void *user, const pac_op *op);
    pac_err (*after_backward)(void *user, micro *x);
    void *user;
} pipeline;

/** Links to the neighbours of p->layout. Not collective. */
pac_err pipeline_open(pipeline *p);
/** Frees links and lists, not the stage. */
void pipeline_close(pipeline *p);
/** Forward and backward of a mini-batch in `microbatches` parts (at most b->n); gradients accumulate. Ranks run it together. */
pac_err pipeline_run(pipeline *p, minibatch *b, int64_t microbatches);
/** Wait until all that was sent has left. */
pac_err pipeline_flush(pipeline *p);

#endif
