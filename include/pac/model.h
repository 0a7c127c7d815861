/*
 * The frozen backbone as an explicit list of layers.
 *
 * Layers are numbered through the whole model: encoder blocks 0..E-1, decoder blocks E..E+Dn-1 (L = E + Dn). Embeddings ride
 * with the first block of their stack, the stack's final norm with its last block, the head with layer L-1. A pac_model is a
 * slice [first, last) of that list: a rank maps only the tensors of its slice. All weights are frozen here; what learns is in
 * pac/tune.h.
 */
#ifndef PAC_MODEL_H
#define PAC_MODEL_H

#include "pac/batch.h"
#include "pac/ops.h"
#include "pac/tensor.h"

typedef enum pac_stack { PAC_ENC = 0, PAC_DEC = 1 } pac_stack;
typedef enum pac_norm_kind { PAC_NORM_RMS, PAC_NORM_LAYER } pac_norm_kind;

/* ---- one transformer block: the same code serves the backbone and the side network, T5, BART and BERT ---- */

typedef struct pac_block_cfg {
    int64_t D, H, K, F; /* model width, heads, head width, feed-forward width */
    pac_norm_kind norm;
    bool post_norm;     /* BART, BERT: norm after the residual; T5: before the sub-layer */
    float eps;
    pac_act act;
    bool gated;         /* y = wo(act(wi x) * (wg x)) */
    bool biases;        /* linears have biases (norms do where `norm` is PAC_NORM_LAYER) */
    bool cross;         /* has cross-attention (decoder of an encoder-decoder) */
    bool causal;
    float scale;        /* of the attention scores */
    int64_t buckets, max_distance; /* relative position bias, 0: none */
} pac_block_cfg;

/* Weights w [out, in] and bias b [out] (NULL: none), with their gradients (NULL: frozen). */
typedef struct pac_linear { const float *w, *b; float *dw, *db; } pac_linear;
typedef struct pac_norm { const float *w, *b; float *dw, *db; } pac_norm;
typedef struct pac_attn_weights { pac_norm norm; pac_linear q, k, v, o; } pac_attn_weights;
typedef struct pac_block_weights {
    pac_attn_weights self, cross;
    pac_norm ff_norm;
    pac_linear wi, wg, wo;
} pac_block_weights;

/* What a block's forward keeps for its backward; opaque, lives in the arena it was made in. */
typedef struct pac_block_saved pac_block_saved;

typedef struct pac_block_io {
    const pac_backend *be;
    pac_arena *work;            /* scratch; marks are released on return */
    const pac_batch *batch;     /* offsets */
    pac_stack stack;            /* which offsets the rows follow; cross-attention reads soff */
    const float *bias_table;    /* [buckets, H] or NULL */
    float *dbias_table;         /* += in backward, or NULL */
    const float *enc;           /* [S, D] encoder output for cross-attention, or NULL */
} pac_block_io;

/**
 * y = block(x). `keep` NULL: nothing is saved (no backward) and `saved` may be NULL; else the saved activations are allocated
 * in `keep` (another arena than io->work) and *saved set. Saved: the inputs of the sub-layers and their norms' statistics, q,
 * k, v, attention outputs with log-sum-exps, feed-forward pre-activations; normed inputs are made again in the backward pass.
 * x, y: [N, D] with N = toff[B] or soff[B]; y may alias x only when keep is NULL. With `keep`, x and io->enc are borrowed until
 * pac_block_bwd(). Not collective. Errors: PAC_ENOMEM.
 */
pac_err pac_block_fwd(float *y, const float *x, const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io,
                      pac_arena *keep, pac_block_saved **saved);

/** dx = d(block)/dx^T dy (may alias dy); denc [S, D] += (NULL: not wanted). Gradients of w accumulate where not NULL. */
pac_err pac_block_bwd(float *dx, float *denc, const float *dy, const pac_block_cfg *cfg, const pac_block_weights *w,
                      const pac_block_io *io, const pac_block_saved *saved);

/*
 * y = norm(x) by kind; mean and rstd [N] receive the statistics (RMS uses rstd only; NULL: not wanted). y may alias x.
 * Backward: dx overwritten (may alias dy), dw and db += where not NULL.
 */
void pac_norm_fwd(const pac_backend *be, pac_norm_kind kind, float *y, float *mean, float *rstd, const float *x,
                  const pac_norm *w, int64_t N, int64_t D, float eps);
void pac_norm_bwd(const pac_backend *be, pac_norm_kind kind, float *dx, const float *dy, const float *x, const pac_norm *w,
                  const float *mean, const float *rstd, int64_t N, int64_t D);

/* y = x w^T + b; the backward pair. x [N, in], y [N, out]. */
void pac_linear_fwd(const pac_backend *be, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out);
/** dx = dy w (+= when accumulate; NULL: not wanted); dw += dy^T x, db += sum dy where not NULL. */
void pac_linear_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const float *x, const pac_linear *w,
                    int64_t N, int64_t in, int64_t out);

/* ---- the model ---- */

typedef struct pac_family pac_family; /* t5 (bart, bert later): one file and one line in the table of families */

typedef struct pac_model_desc {
    const pac_family *family;
    char dir[4096];
    int64_t vocab, layers[2];        /* blocks of encoder and decoder; L = sum */
    pac_block_cfg block[2];          /* encoder, decoder */
    bool final_norm[2];
    bool tied;                       /* the head is the shared embedding */
    float head_scale;                /* T5 v1.0: d_model^-0.5, else 1 */
    int32_t pad_id, eos_id, start_id;
    int64_t max_positions;           /* 0: unlimited */
} pac_model_desc;

/** Read config.json of a Hugging Face directory. Errors: PAC_EIO, PAC_EDATA (names file, key, what is allowed). */
pac_err pac_model_describe(const char *dir, pac_model_desc *out);

/** Backbone parameters by the unit (tied weights counted once); this and the next give -1 when memory runs out. */
int64_t pac_model_parameters(const pac_model_desc *d);
/** Bytes of weights (f32) that the slice [first, last) needs with its riders. */
int64_t pac_model_slice_bytes(const pac_model_desc *d, int64_t first, int64_t last, bool with_head);

/** Content hash of config and all weights (streams the files; no rank needs to hold them). */
pac_err pac_model_identity(const char *dir, uint64_t *out);

/**
 * Write a model with random weights in Hugging Face layout (config.json, model.safetensors): a known shape (t5-small,
 * flan-t5-base, ...) or the path of a config.json. A directory that already holds weights is left alone. Memory stays bounded:
 * the values are made in a mapped scratch file. Source of scales: HF's _init_weights. Errors: PAC_EUSAGE (unknown shape),
 * PAC_EDATA, PAC_EIO, PAC_ENOSPACE.
 */
pac_err pac_model_init(const char *shape_or_config, const char *dir, uint64_t seed);

typedef struct pac_model pac_model;

enum { PAC_MAX_BLOCKS = 512 }; /* layers of a model at most; pac/tune.h has arrays of this size */

/* The lm head with the last layer; or nothing but the head (cached phase). */
enum { PAC_LOAD_HEAD = 1, PAC_LOAD_HEAD_ONLY = 2 };

/**
 * Map the weights of layers [first, last). Checks every tensor's presence, shape and type; f32 is used in place, bf16 and f16
 * are converted. Not collective. The caller owns *out. Ledger: PAC_MEM_WEIGHTS.
 */
pac_err pac_model_load(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, int flags, pac_model **out);
/** Unmaps and frees; resident memory is really given back. */
void pac_model_free(pac_model **m);

/**
 * b_0 of a stack: x [N, D] = embedding of sids or tids. The slice holds the stack's first block. Errors: PAC_EDATA (id outside
 * the vocabulary).
 */
pac_err pac_model_embed(const pac_model *m, pac_stack stack, const pac_batch *batch, float *x);
/** y = block `layer` (x); enc [S, D] is the encoder output (decoder layers). No activations are kept. y may alias x. */
pac_err pac_model_block(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, float *y, const float *x,
                        pac_arena *work);
/** The stack's final norm (identity where the family has none). y may alias x. */
pac_err pac_model_final(const pac_model *m, pac_stack stack, float *y, const float *x, int64_t N);
/** logits [N, V] = head(h [N, D]). */
pac_err pac_model_logits(const pac_model *m, float *logits, const float *h, int64_t N, pac_arena *work);
/** dh [N, D] = head^T dlogits. */
pac_err pac_model_logits_bwd(const pac_model *m, float *dh, const float *dlogits, int64_t N, pac_arena *work);
/** A weight of the backbone by its role, for the pruning initialiser: borrowed f32 views of a block of this slice. */
const pac_block_weights *pac_model_block_weights(const pac_model *m, int64_t layer);
const float *pac_model_bias_table(const pac_model *m, pac_stack stack);
const float *pac_model_final_norm(const pac_model *m, pac_stack stack);

#endif
