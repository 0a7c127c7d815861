/*
 * The side network of a slice. Its blocks are the backbone's blocks (pac_block_fwd) with every width divided by k; its
 * parameters are described by one table of rules (side.c), from which layout, counts and initial values follow.
 */
#ifndef PAC_TUNE_SIDE_H
#define PAC_TUNE_SIDE_H

#include "technique.h"

#define PAC_GATE_TEMPERATURE 0.1f

/* A bare vector (gate, table) is a pac_linear of which only w and dw are set. */
typedef struct side_layer {
    pac_linear down, gate;
    pac_block_weights block;
} side_layer;

typedef struct side_stack {
    pac_linear first, table;
    pac_norm norm;
} side_stack;

typedef struct side_tail {
    pac_linear up, merge; /* after the last block: to the head */
} side_tail;

struct pac_side {
    pac_model_desc desc;
    pac_tune_opts opts;
    const pac_backend *be;
    int64_t first, last; /* layers of the slice */
    int64_t D, R;        /* model width, side width */
    pac_block_cfg cfg[2];
    side_layer *layers; /* [last - first] */
    side_stack stacks[2];
    side_tail tail;
};

/* Which models and options have a parameter. */
typedef enum side_when {
    SIDE_ALWAYS,
    SIDE_BIAS,       /* linears of the family have biases */
    SIDE_NORM_BIAS,  /* norms of the family have biases */
    SIDE_GATED,      /* gated feed-forward */
    SIDE_GATED_BIAS, /* both */
    SIDE_GATE,       /* gate: learned */
    SIDE_MERGE,      /* merge: gated */
    SIDE_UP,         /* Up is random, and */
    SIDE_UP_ZERO,    /* Up starts at zero */
} side_when;

typedef enum side_scope { SIDE_FIRST, SIDE_TABLE, SIDE_LAYER, SIDE_CROSS, SIDE_FF, SIDE_NORM, SIDE_TAIL } side_scope;

typedef struct side_rule {
    side_scope scope;
    side_when when;
    const char *name; /* behind "enc.", "enc.<i>." or nothing */
    size_t slot;      /* offset of its pointer in side_layer, side_stack or side_tail */
    const char *dims; /* size letters: D model, R side, I side heads x head width, F side feed-forward, H heads, B buckets */
    const char *fan;  /* initial values: "0", "1", or normal with deviation (product of these sizes)^-1/2; K side head width */
} side_rule;

/** Size behind a letter of dims or fan. */
int64_t pac_side_size(const pac_model_desc *d, const pac_tune_opts *o, pac_stack stack, char letter);

/** What the side network's output is merged with: the last stack's normed output, or b_L where there is no final norm. */
const float *pac_side_merged(const pac_side *s, const pac_acts *acts);

/* ---- what the forward keeps ---- */

typedef struct layer_saved {
    const float *a; /* [N, R] state before the layer */
    float *d;       /* [N, R] Down(b_i), with a learned gate */
    pac_block_saved *block;
} layer_saved;

struct pac_side_saved {
    layer_saved *layer;      /* [last - first] */
    const float *norm_in[2]; /* [N, R] input of a stack's final norm, its statistics */
    float *mean[2], *rstd[2];
    const float *enc; /* [S, R] side encoder output that the decoder read */
    const float *a;   /* [N, R] what Up read */
    float *up;        /* [N, D] Up(a), with merge gated */
};

#endif
