/*
 * What learns: techniques (parallel adapters, full, Houlsby adapters, LoRA), heads, optimizers and schedules.
 *
 * A parameter is used by intervals of layers; a stage holds it exactly if its layer range meets one of them.
 * So the same list serves a pipeline stage and the whole network of the cached phase, and a parameter of several stages (a
 * position-bias table, a tied embedding) is recognised without a special case.
 *
 * A technique is one file and one row of a table (src/tune/technique.h): which parameters are new, and how they hang on the layers.
 */
#ifndef PAC_TUNE_H
#define PAC_TUNE_H

#include "pac/model.h"

/* ---- parameters ---- */

typedef struct pac_param {
    char name[112];
    int ndim;
    int64_t shape[2];
    int64_t n;                       /* elements */
    int uses;
    pac_layer_span use[PAC_MAX_USES]; /* layers that use it; a tied embedding has three uses */
    float *w, *g;                    /* into the flat arrays */
} pac_param;

typedef struct pac_params {
    int64_t count, total;   /* parameters, elements */
    pac_param *v;           /* in canonical order (the order of the whole network) */
    float *w, *g;           /* [total] contiguous; g NULL where nothing learns (evaluation) */
    const pac_space *space; /* where both lie (pac/space.h) */
} pac_params;

/** Does the slice of layers [first, last) use the parameter? Nothing is used by an empty slice. */
bool pac_param_in(const pac_param *p, int64_t first, int64_t last);
/** The parameter called `name`, searched from *from on (canonical order), which then lies behind it; NULL: not there. */
const pac_param *pac_params_find(const pac_params *p, const char *name, int64_t *from);
/** Copy the values of every parameter of `to` from the one of that name, in the same space. Errors: PAC_EINTERNAL (not there). */
pac_err pac_params_copy(const pac_params *to, const pac_params *from);

/* ---- techniques ---- */

typedef enum pac_technique_kind { PAC_TECH_PARALLEL, PAC_TECH_FULL, PAC_TECH_ADAPTERS, PAC_TECH_LORA } pac_technique_kind;
typedef enum pac_gate { PAC_GATE_NONE, PAC_GATE_LEARNED } pac_gate;
/* AUTO: none, or add where there is no decoder; only in configurations. */
typedef enum pac_merge { PAC_MERGE_NONE, PAC_MERGE_ADD, PAC_MERGE_GATED, PAC_MERGE_AUTO } pac_merge;
typedef enum pac_init { PAC_INIT_RANDOM, PAC_INIT_MAGNITUDE, PAC_INIT_FISHER } pac_init;
typedef enum pac_head { PAC_HEAD_LM, PAC_HEAD_CLASSIFICATION } pac_head;

enum { PAC_MAX_LAYERS = PAC_MAX_BLOCKS };

typedef struct pac_tune_opts {
    pac_technique_kind kind;
    pac_head head;
    int64_t classes;                 /* outputs of a classification head; 1: regression */
    bool separate;                   /* classification: the head compares two sentences that were encoded apart */
    uint64_t seed;
    /* parallel */
    int64_t reduction;               /* k >= 1; divides D, K and F */
    pac_gate gate;
    pac_merge merge;
    pac_init init;
    bool up_zero;                    /* Up starts at zero: with merge add the network starts as the backbone */
    bool has_layer[PAC_MAX_LAYERS];  /* which backbone layers carry a side layer (layers: all | list) */
    /* lora: rank r, scale alpha / r */
    int64_t rank;
    float alpha;
    /* adapters: width of the bottlenecks; 0: D / 16 */
    int64_t width;
} pac_tune_opts;

/** "parallel", "full", "adapters", "lora". */
const char *pac_technique_name(pac_technique_kind kind);
/**
 * Does the backward pass go through the backbone? Else (parallel adapters) the backbone only leaves rows to read, its gradients
 * are never needed, and the rows can be cached.
 */
bool pac_technique_through(pac_technique_kind kind);

/** Check options against the model: divisibility, layers in range, heads that the family has. Errors: PAC_ECONFIG. */
pac_err pac_tune_check(const pac_model_desc *d, const pac_tune_opts *o);
/** Every parameter that learns in the whole network, head included, in canonical order (w and g NULL). Stops at an error. */
pac_err pac_tune_walk(const pac_model_desc *d, const pac_tune_opts *o, pac_err (*visit)(void *ctx, const pac_param *p), void *ctx);
/** Learning parameters by the unit, without the classification head; and of that head. */
int64_t pac_tune_parameters(const pac_model_desc *d, const pac_tune_opts *o);
int64_t pac_head_parameters(const pac_model_desc *d, const pac_tune_opts *o);
/** Learning parameters (head included) of layers [first, last). */
int64_t pac_tune_slice_parameters(const pac_model_desc *d, const pac_tune_opts *o, int64_t first, int64_t last);

/* What learns in a slice of layers: its parameters, and what they are connected to. */
typedef struct pac_tuned pac_tuned;

/**
 * The parameters of layers [first, last), zero. learns false: no gradients (evaluation). The caller owns *out. Ledger: TUNED,
 * GRADIENTS. Errors: those of pac_tune_check(), PAC_ENOMEM.
 */
pac_err pac_tuned_new(const pac_model_desc *d, const pac_tune_opts *o, const pac_backend *be, int64_t first, int64_t last,
                      bool learns, pac_tuned **out);
/** Free it before the model that it was attached to. */
void pac_tuned_free(pac_tuned **t);
pac_params *pac_tuned_params(pac_tuned *t);
const pac_tune_opts *pac_tuned_opts(const pac_tuned *t);

/**
 * Make the loaded slice use what learns: full replaces its weights (copying their values), lora and adapters hang their modules
 * on its blocks, parallel does nothing. Errors: PAC_EINVAL (the model does not hold the slice), PAC_ENOMEM.
 */
pac_err pac_tuned_attach(pac_tuned *t, pac_model *m);

/**
 * This slice's part of the importance of the backbone's channels: imp [2 * D] (encoder, decoder) is overwritten with the sums of
 * |score| over the slice's blocks, in double. score: a model of which the weights are the scores: the backbone itself (weight
 * magnitude), or one that holds something else in their place (Fisher information). Summed over the stages, each block once, it
 * is what pruning wants. Zeros unless a side network is initialised by pruning. Errors: PAC_EINVAL (score lacks the slice).
 */
pac_err pac_tuned_importance(const pac_tuned *t, const pac_model *score, double *imp);

/**
 * Initial values: random draws are a function of (seed, parameter name, index), so every layout gets the same numbers. What full
 * took from the backbone stays; lora's b and the adapters' up start at zero; a classification head's dense comes from the
 * checkpoint where that has one. parallel with init magnitude: pac_tuned_prune() with `model` as the score; with init fisher the
 * caller prunes. model may be NULL for random, imp for all but magnitude. Errors: PAC_EINVAL, PAC_ENOMEM, PAC_EIO (checkpoint).
 */
pac_err pac_tuned_init(pac_tuned *t, const pac_model *model, const double *imp);

/**
 * A side network's blocks, norms and tables cut out of `model` (which holds at least this slice): the most important 1/k channels
 * of each stack by imp [2 * D], summed over all stages, then of each head and feed-forward layer by `score`, as in
 * pac_tuned_importance(); norms are sliced, a shared table is copied whole and so is the same on every stage. Rule:
 * tests/golden/README.md. Errors: PAC_EINVAL, PAC_ENOMEM.
 */
pac_err pac_tuned_prune(pac_tuned *t, const pac_model *model, const pac_model *score, const double *imp);

/* ---- parallel adapters: the side network ---- */

typedef struct pac_side pac_side;
/** The side network of the slice; NULL with other techniques. */
pac_side *pac_tuned_side(const pac_tuned *t);

/*
 * The forward pass of one micro-batch over the slice. `b` holds the backbone rows the side network reads; NULL entries are
 * layers outside the slice. Entry i of stack s is b_i: [0] the embedding output, [1..] the block outputs before the final norm.
 */
typedef struct pac_acts {
    const float *b[2][PAC_MAX_LAYERS + 1];
    const float *final; /* [N, D] output of the last stack after its final norm (merge add or gated) */
} pac_acts;

/*
 * Which rows a configuration reads at all (what is cached): out[stack][i]; *final: the last stack's normed output, where the
 * family has a final norm (else that is b_L of the stack). Nothing with other techniques. Not collective.
 */
void pac_tune_reads(const pac_model_desc *d, const pac_tune_opts *o, bool out[2][PAC_MAX_LAYERS + 1], bool *final);

/* State of the side network between blocks and between stages. R = D / k. */
typedef struct pac_side_state {
    float *a;    /* [N, R] running side state of the current stack (NULL before its first block) */
    float *enc;  /* [S, R] side encoder output after its final norm, in decoder layers */
} pac_side_state;

typedef struct pac_side_saved pac_side_saved; /* lives in `keep` */

/**
 * Run layers [first, last) of the slice, from and to the state at the boundaries. When the slice holds the last layer, *h
 * (in p->keep, [N, D]) is the input of the head.
 * in (NULL: none) is only read; what passes through unchanged appears in *out as it is, all else of *out lives in p->keep.
 * Where the slice ends with the encoder, out->enc is its output and out->a is NULL; behind the last layer both are NULL.
 * keep_for_bwd false: evaluation, nothing is saved beyond the results; else the rows of acts and in are borrowed until the
 * backward. Not collective. Errors: PAC_EINVAL (a row or state is missing), PAC_ENOMEM.
 */
pac_err pac_side_fwd(pac_side *s, const pac_pass *p, const pac_acts *acts, const pac_side_state *in, pac_side_state *out,
                     float **h, bool keep_for_bwd, pac_side_saved **saved);

/**
 * Backward of pac_side_fwd(). dh [N, D] where the slice holds the last layer, else NULL; dout (NULL: none) is only read:
 * gradients of the out state (NULL members: zero); din: gradients of the in state, allocated in p->keep, NULL members where the
 * in state has none. din->enc holds the part of every cross-attention of the slice plus dout->enc. Parameters' gradients
 * accumulate.
 */
pac_err pac_side_bwd(pac_side *s, const pac_pass *p, const pac_acts *acts, const pac_side_state *dout, const float *dh,
                     pac_side_state *din, const pac_side_saved *saved);

/* Keys and values of earlier positions in each decoder layer of a slice, as pac_kv (pac/model.h). */
typedef struct pac_side_kv pac_side_kv;
/**
 * Empty caches in `arena` for the sources of `batch` and their side encoder output enc [S, R]. The slice holds decoder layers
 * only. Per side layer 2 slots capacity I + 2 S I floats, I the side network's. Errors: those of pac_kv_new().
 */
pac_err pac_side_kv_new(pac_side *s, const pac_batch *batch, const float *enc, int64_t beams, int64_t capacity, pac_arena *arena,
                        pac_arena *work, pac_side_kv **out);
/** pac_kv_reorder() of each. */
pac_err pac_side_kv_reorder(pac_side_kv *kv, const pac_backend *be, const int64_t *parent, pac_arena *work);
/** pac_side_fwd() on one more row of each going slot (p->batch and the rows of acts as in pac_model_step()); no backward. */
pac_err pac_side_step(pac_side *s, const pac_pass *p, const pac_acts *acts, pac_side_kv *kv, const pac_side_state *in,
                      pac_side_state *out, float **h);

/* ---- the classification head ---- */

/**
 * logits [B, classes] from h [N, D], the output of the last stack. One row of each sample: the first (BERT), or that of its last
 * end of sequence; dense, tanh (DistilBERT: relu), projection; dropout before both. Sentences apart: means u, v of their rows,
 * projection of [u, v, |u-v|, u*v], and their cosine, times 5 added to a regression, times -2 and 2 to two classes. Errors:
 * PAC_EINVAL (the slice has no head), PAC_EDATA (an empty sequence). Source: Hugging Face T5ClassificationHead,
 * BartClassificationHead, BertPooler; Reimers & Gurevych 2019.
 */
pac_err pac_cls_fwd(pac_tuned *t, const pac_pass *p, float *logits, const float *h);
/** dh [N, D] from dlogits [B, classes]; gradients of the head accumulate. Recomputes the hidden layer from h. */
pac_err pac_cls_bwd(pac_tuned *t, const pac_pass *p, float *dh, const float *dlogits, const float *h);

/* ---- optimizers ---- */

typedef enum pac_optimizer_kind { PAC_SGD, PAC_ADAMW } pac_optimizer_kind;

typedef struct pac_optimizer_opts {
    pac_optimizer_kind kind;
    float beta1, beta2, eps, weight_decay; /* AdamW: 0.9, 0.999, 1e-8, 0 */
} pac_optimizer_opts;

typedef struct pac_optimizer {
    pac_optimizer_opts opts;
    int64_t total, step;
    float *m, *v; /* [total] each, in `space`, NULL for SGD; ledger: OPTIMIZER */
    const pac_space *space;
} pac_optimizer;

/** For `total` parameters in `space` (NULL: the host's memory). The caller owns *out. */
pac_err pac_optimizer_new(const pac_optimizer_opts *o, const pac_space *space, int64_t total, pac_optimizer **out);
void pac_optimizer_free(pac_optimizer **o);
/** One step on p->w from p->g, the gradients scaled by `scale` first (clipping); p->g is zeroed. */
void pac_optimizer_step(pac_optimizer *o, const pac_backend *be, pac_params *p, float lr, float scale);

/**
 * Learning rate of step i (from 0) of n: linear warm-up over `warmup` steps, then constant or linear decay to 0 at n (HF's
 * get_linear_schedule_with_warmup).
 */
float pac_lr_at(int64_t i, int64_t n, float lr, int64_t warmup, bool linear);

#endif
