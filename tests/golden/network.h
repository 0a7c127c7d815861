/*
 * A model with a technique, cut into slices of layers like the stages of a pipeline: one slice is the whole. The layers are
 * walked in order, each in the slice that holds it, so every cut runs through the same few lines.
 */
#ifndef PAC_TESTS_NETWORK_H
#define PAC_TESTS_NETWORK_H

#include "golden.h"

enum { NETWORK_LAYERS = 8 };

typedef struct network {
    const pac_backend *be;
    pac_model_desc d;
    pac_tune_opts o;
    const pac_st *f;
    pac_batch batch;
    int slices, at[NETWORK_LAYERS]; /* at: the slice of a layer */
    int64_t L, D, rows[2];
    pac_model *model[NETWORK_LAYERS];
    pac_tuned *tuned[NETWORK_LAYERS];
    pac_arena *keep, *work;
    /* one pass */
    pac_norm_saved embed[2], final[2];
    pac_block_saved *block[NETWORK_LAYERS];
    const float *out[2]; /* [N, D] behind the stacks' final norms */
    /* parallel: what the frozen backbone leaves, and each slice of the side network */
    pac_acts acts, part[NETWORK_LAYERS];
    pac_side_state state[NETWORK_LAYERS + 1]; /* in front of each slice */
    pac_side_saved *side[NETWORK_LAYERS];
} network;

/** Bit i of cuts: a cut behind layer i. Parameters as the fixture has them; full: as the model has them. */
void network_open(network *x, const char *model, const pac_st *f, const pac_backend *be, unsigned cuts, bool learns);
void network_close(network *x);

/** h [N, D], the input of the head, valid until the next forward; backward false: nothing is kept. */
float *network_forward(network *x, bool backward);
/** logits [T, V] or [B, classes] of h. */
float *network_logits(network *x, const float *h, int64_t *count);
/** Loss of the logits, which become their gradient; the head's gradients accumulate and *dh [N, D] is set. */
double network_loss(network *x, float *logits, const float *h, float **dh);
/** Gradients accumulate; dh is used up. */
void network_backward(network *x, float *dh);

#endif
