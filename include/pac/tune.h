/*
 * What learns: parameters, the side network of parallel adapters, heads, optimizers and schedules.
 *
 * A parameter is used by an interval of layers [first, last]; a stage holds it exactly if its layer range meets that interval.
 * So the same list serves a pipeline stage and the whole network of the cached phase, and a parameter of several stages (a
 * position-bias table) is recognised without a special case.
 */
#ifndef PAC_TUNE_H
#define PAC_TUNE_H

#include "pac/model.h"

/* ---- parameters ---- */

typedef struct pac_param {
    char name[80];
    int ndim;
    int64_t shape[2];
    int64_t n;              /* elements */
    int64_t first, last;    /* layers that use it, inclusive */
    float *w, *g;           /* into the flat arrays */
} pac_param;

typedef struct pac_params {
    int64_t count, total;   /* parameters, elements */
    pac_param *v;           /* in canonical order (the order of the whole network) */
    float *w, *g;           /* [total] contiguous */
} pac_params;

void pac_params_free(pac_params *p);

/* ---- parallel adapters ---- */

typedef enum pac_gate { PAC_GATE_NONE, PAC_GATE_LEARNED } pac_gate;
typedef enum pac_merge { PAC_MERGE_NONE, PAC_MERGE_ADD, PAC_MERGE_GATED } pac_merge;
typedef enum pac_init { PAC_INIT_RANDOM, PAC_INIT_MAGNITUDE, PAC_INIT_FISHER } pac_init;
typedef enum pac_head { PAC_HEAD_LM, PAC_HEAD_CLASSIFICATION } pac_head;

enum { PAC_MAX_LAYERS = PAC_MAX_BLOCKS };

typedef struct pac_side_opts {
    int64_t reduction;               /* k >= 1; divides D, K and F */
    pac_gate gate;
    pac_merge merge;
    pac_init init;
    bool has_layer[PAC_MAX_LAYERS];  /* which backbone layers carry a side layer (layers: all | list) */
    pac_head head;
    int64_t classes;                 /* outputs of a classification head; 1: regression */
    uint64_t seed;
} pac_side_opts;

typedef struct pac_side pac_side;

/** Check options against the model: divisibility, layers in range. Errors: PAC_ECONFIG. */
pac_err pac_side_check(const pac_model_desc *d, const pac_side_opts *o);
/** Parameters of the whole side network by the unit; the classification head counted apart. */
int64_t pac_side_parameters(const pac_model_desc *d, const pac_side_opts *o);
int64_t pac_head_parameters(const pac_model_desc *d, const pac_side_opts *o);
/** Learning parameters (side network and head) of layers [first, last). */
int64_t pac_side_slice_parameters(const pac_model_desc *d, const pac_side_opts *o, int64_t first, int64_t last);

/**
 * The part of the side network that layers [first, last) need, parameters zero. The caller owns *out. Ledger: TUNED, GRADIENTS.
 */
pac_err pac_side_new(const pac_model_desc *d, const pac_side_opts *o, const pac_backend *be, int64_t first, int64_t last,
                     pac_side **out);
void pac_side_free(pac_side **s);
pac_params *pac_side_params(pac_side *s);

/**
 * This slice's part of the importance of the backbone's channels, by weight magnitude: imp [2 * D] (encoder, decoder) is
 * overwritten with the sums over the slice's blocks, in double. Summed over the stages, each block once, it is what
 * pac_side_init() wants. Zeros unless init is magnitude. Errors: PAC_EINVAL (model does not hold the slice).
 */
pac_err pac_side_importance(const pac_side *s, const pac_model *model, double *imp);

/**
 * Initialise: random draws are a function of (seed, parameter name, index), so every layout gets the same numbers. `magnitude`
 * prunes the blocks of `model` (which holds at least this slice; may be NULL for random): the most important 1/k channels of
 * each stack by imp [2 * D], summed over all stages (NULL: random init), then of each head and feed-forward layer; norms are
 * sliced, a shared table is copied whole and so is the same on every stage. Down, up and head are random; biases and gates 0.
 * Errors: PAC_EINVAL, PAC_ENOMEM, PAC_ENOTBUILT (fisher).
 */
pac_err pac_side_init(pac_side *s, const pac_model *model, const double *imp);

/*
 * The forward pass of one micro-batch over the slice. `b` holds the backbone rows the side network reads; NULL entries are
 * layers outside the slice. Entry i of stack s is b_i: [0] the embedding output, [1..] the block outputs before the final norm.
 */
typedef struct pac_acts {
    const float *b[2][PAC_MAX_LAYERS + 1];
    const float *final; /* [T, D] backbone decoder output after the final norm (merge add or gated) */
} pac_acts;

/* Which rows of b a configuration reads at all (what is cached). out[stack][i]; *final. Not collective. */
void pac_side_reads(const pac_model_desc *d, const pac_side_opts *o, bool out[2][PAC_MAX_LAYERS + 1], bool *final);

/* State of the side network between blocks and between stages. R = D / k. */
typedef struct pac_side_state {
    float *a;    /* [N, R] running side state of the current stack (NULL before its first block) */
    float *enc;  /* [S, R] side encoder output after its final norm, in decoder layers */
} pac_side_state;

typedef struct pac_side_saved pac_side_saved; /* lives in `keep` */

/**
 * Run layers [first, last) of the slice, from and to the state at the boundaries. When the slice holds the last layer, *h
 * (in `keep`, [T, D]) is the input of the lm head, or the decoder state for a classification head.
 * in (NULL: none) is only read; what passes through unchanged appears in *out as it is, all else of *out lives in `keep`.
 * Where the slice ends with the encoder, out->enc is its output and out->a is NULL; behind the last layer both are NULL.
 * keep_for_bwd false: evaluation, nothing is saved beyond the results; else the rows of acts and in are borrowed until the
 * backward. `keep` and `work` are different arenas. Not collective. Errors: PAC_EINVAL (a row or state is missing), PAC_ENOMEM.
 */
pac_err pac_side_fwd(pac_side *s, const pac_batch *batch, const pac_acts *acts, const pac_side_state *in, pac_side_state *out,
                     float **h, bool keep_for_bwd, pac_arena *keep, pac_arena *work, pac_side_saved **saved);

/**
 * Backward of pac_side_fwd(). dh [T, D] where the slice holds the last layer, else NULL; dout (NULL: none) is only read:
 * gradients of the out state (NULL members: zero); din: gradients of the in state, allocated in `keep`, NULL members where the
 * in state has none. din->enc holds the part of every cross-attention of the slice plus dout->enc. Parameters' gradients
 * accumulate.
 */
pac_err pac_side_bwd(pac_side *s, const pac_batch *batch, const pac_acts *acts, const pac_side_state *dout, const float *dh,
                     pac_side_state *din, pac_arena *keep, pac_arena *work, const pac_side_saved *saved);

/* Classification head: dense, tanh, projection on the decoder row of the last token of each sequence. logits [B, classes]. */
pac_err pac_cls_fwd(pac_side *s, const pac_batch *batch, float *logits, const float *h, pac_arena *keep, pac_arena *work);
/** dh [T, D] from dlogits [B, classes]; gradients of the head accumulate. Recomputes the hidden layer from h. */
pac_err pac_cls_bwd(pac_side *s, const pac_batch *batch, float *dh, const float *dlogits, const float *h, pac_arena *work);

/* ---- optimizers ---- */

typedef enum pac_optimizer_kind { PAC_SGD, PAC_ADAMW } pac_optimizer_kind;

typedef struct pac_optimizer_opts {
    pac_optimizer_kind kind;
    float beta1, beta2, eps, weight_decay; /* AdamW: 0.9, 0.999, 1e-8, 0 */
} pac_optimizer_opts;

typedef struct pac_optimizer {
    pac_optimizer_opts opts;
    int64_t total, step;
    float *m, *v; /* [total] each, NULL for SGD; ledger: OPTIMIZER */
} pac_optimizer;

pac_err pac_optimizer_new(const pac_optimizer_opts *o, int64_t total, pac_optimizer **out);
void pac_optimizer_free(pac_optimizer **o);
/** One step on p->w from p->g, the gradients scaled by `scale` first (clipping); p->g is zeroed. */
void pac_optimizer_step(pac_optimizer *o, const pac_backend *be, pac_params *p, float lr, float scale);

/**
 * Learning rate of step i (from 0) of n: linear warm-up over `warmup` steps, then constant or linear decay to 0 at n (HF's
 * get_linear_schedule_with_warmup).
 */
float pac_lr_at(int64_t i, int64_t n, float lr, int64_t warmup, bool linear);

#endif
