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
#include "pac/packed.h"
#include "pac/tensor.h"

#include <stddef.h>

typedef enum pac_stack { PAC_ENC = 0, PAC_DEC = 1 } pac_stack;
typedef enum pac_norm_kind { PAC_NORM_RMS, PAC_NORM_LAYER } pac_norm_kind;

/* ---- one transformer block: the same code serves the backbone and the side network, T5, BART and BERT ---- */

typedef struct pac_block_cfg {
    int64_t D, H, K, F; /* model width, heads, head width, feed-forward width */
    pac_norm_kind norm;
    bool post_norm; /* BART, BERT: norm after the residual; T5: before the sub-layer */
    float eps;
    pac_act act;
    bool gated;  /* y = wo(act(wi x) * (wg x)) */
    bool biases; /* linears have biases (norms do where `norm` is PAC_NORM_LAYER) */
    bool cross;  /* has cross-attention (decoder of an encoder-decoder) */
    bool causal;
    bool inner_dropout;            /* dropout also behind the activation (T5) */
    float scale;                   /* of the attention scores */
    int64_t buckets, max_distance; /* relative position bias, 0: none */
} pac_block_cfg;

/* A low-rank change of a linear layer: y += scale (x a^T) b^T; a [r, in], b [out, r]. Hu et al. 2022. */
typedef struct pac_lora {
    const float *a, *b;
    float *da, *db;
    int64_t r;
    float scale;
} pac_lora;
/*
 * Weights w [out, in] and bias b [out] (NULL: none), with their gradients (NULL: frozen); lora NULL: none. Frozen weights may
 * be `packed` instead: w is then NULL.
 */
typedef struct pac_linear {
    const float *w, *b;
    float *dw, *db;
    const pac_lora *lora;
    const pac_packed *packed;
} pac_linear;
/* Houlsby et al. 2019: f + up(gelu_new(down(f))) on the output of a sub-layer, before its residual. width 0: none. */
typedef struct pac_bottleneck {
    pac_linear down, up;
    int64_t width;
} pac_bottleneck;
typedef struct pac_norm {
    const float *w, *b;
    float *dw, *db;
} pac_norm;
/* Wherever a weight's pointer is (here, in pac_lora, pac_bottleneck, pac_block_weights), its gradient's lies so many bytes
 * behind. */
enum { PAC_TO_GRADIENT = offsetof(pac_linear, dw) - offsetof(pac_linear, w) };
/* And the packed weight's so many. */
enum { PAC_TO_PACKED = offsetof(pac_linear, packed) - offsetof(pac_linear, w) };
typedef struct pac_attn_weights {
    pac_norm norm;
    pac_linear q, k, v, o;
} pac_attn_weights;
typedef struct pac_block_weights {
    pac_attn_weights self, cross;
    pac_norm ff_norm;
    pac_linear wi, wg, wo;
    pac_bottleneck self_adapter, ff_adapter; /* after self-attention, after the feed-forward */
} pac_block_weights;

/*
 * Dropout. The mask is a function of key (seed, step), layer, site and row, and a row's key of (sample, position): so it does
 * not depend on layout, micro-batch or recomputation, and the backward makes it again. Attention probabilities are not dropped.
 */
typedef enum pac_site {
    PAC_SITE_EMBED,
    PAC_SITE_SELF,
    PAC_SITE_CROSS,
    PAC_SITE_INNER,
    PAC_SITE_FF,
    PAC_SITE_FINAL,
    PAC_SITE_HEAD
} pac_site;
typedef struct pac_dropout {
    float p;                /* above 0, below 1 */
    uint64_t key;           /* of seed and step; the side network's differs from the backbone's */
    const uint64_t *row[2]; /* [S], [T] keys of the rows, by stack */
} pac_dropout;
/** x[n,:] of N rows of `stack` dropped in place (forward), or its gradient (backward). drop NULL: nothing happens. */
void pac_drop(const pac_backend *be, const pac_dropout *drop, pac_stack stack, int64_t layer, pac_site site, float *x,
              int64_t N, int64_t D);
/** The same from x to y; drop is not NULL. */
void pac_drop_to(const pac_backend *be, const pac_dropout *drop, pac_stack stack, int64_t layer, pac_site site, float *y,
                 const float *x, int64_t N, int64_t D);

/* What a block's forward keeps for its backward; opaque, lives in the arena it was made in. */
typedef struct pac_block_saved pac_block_saved;
/* Keys and values of earlier positions, for decoding one position at a time (below). */
typedef struct pac_kv pac_kv;

typedef struct pac_block_io {
    const pac_backend *be;
    pac_arena *work;         /* scratch; marks are released on return */
    const pac_batch *batch;  /* offsets */
    pac_stack stack;         /* which offsets the rows follow: toff, or aoff (soff where NULL); cross-attention reads soff */
    const float *bias_table; /* [buckets, H] or NULL */
    float *dbias_table;      /* += in backward, or NULL */
    const float *enc;        /* [S, D] encoder output for cross-attention, or NULL */
    const pac_dropout *drop; /* NULL: none */
    int64_t layer;           /* number in the whole model, for dropout */
    pac_kv *kv;              /* decode one more position of each sequence; NULL: the rows are whole sequences */
} pac_block_io;

/**
 * y = block(x). `keep` NULL: nothing is saved (no backward) and `saved` may be NULL; else what the backward needs is allocated
 * in `keep` (another arena than io->work) and *saved set. x, y: [N, D] with N = toff[B] or soff[B]; y may alias x only when
 * keep is NULL. With `keep`, x and io->enc are borrowed until pac_block_bwd(). Not collective. Errors: PAC_ENOMEM.
 *
 * Saved, in floats, with I = H K, S rows of the encoder output, m = 2 (LayerNorm) or 1 (RMS) statistics:
 *     self-attention    N (3 I + H + m)       q, k, v, log-sum-exps
 *     cross-attention   N (I + H + m), and 2 S I where keys and values are made (pac_cross_force())
 *     feed-forward      N (F + m)             before the activation; gated 2 F
 *     norms             pre-norm N D for each sub-layer but the first (its input; the first's is x), post-norm N D for each
 *     full (wo learns)  N I for each attention: its output
 *     adapters          N (D + width) for each: its input and its pre-activation
 * Frozen weights and LoRA on q, k, v add nothing: normed inputs, activations' outputs, low-rank products and dropout masks are
 * made again in the backward. T5-Large, 16 sequences of 128 and 1 tokens, 48 layers with their inputs: 1.71 GiB, adapters 2.11,
 * full 1.90 (the paper's Table 1: 4.31 LoRA, 4.04, 5.33).
 */
pac_err pac_block_fwd(float *y, const float *x, const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io,
                      pac_arena *keep, pac_block_saved **saved);

/** dx = d(block)/dx^T dy (may alias dy); denc [S, D] += (NULL: not wanted). Gradients of w accumulate where not NULL. */
pac_err pac_block_bwd(float *dx, float *denc, const float *dy, const pac_block_cfg *cfg, const pac_block_weights *w,
                      const pac_block_io *io, const pac_block_saved *saved);

/* Cross-attention with keys and values of every source row, or without (src/model/absorb.c): equal but for rounding. */
typedef enum pac_cross { PAC_CROSS_CHEAPER, PAC_CROSS_PLAIN, PAC_CROSS_ABSORBED } pac_cross;
/**
 * Which of them forwards of this thread take from now on (a backward follows its forward). At the start the cheaper one by the
 * lengths of the batch; PLAIN is for counts of operations as published, both others for tests. Decoding with a pac_kv has keys.
 */
void pac_cross_force(pac_cross way);
/** The cheaper of both for samples of T target and S source rows: one way for every batch, where rounding must not depend on
 * the layout. */
pac_cross pac_cross_of(const pac_block_cfg *c, double T, double S);

/*
 * y = norm(x) by kind; mean and rstd [N] receive the statistics (RMS uses rstd only; NULL: not wanted). y may alias x.
 * Backward: dx overwritten (may alias dy), dw and db += where not NULL.
 */
void pac_norm_fwd(const pac_backend *be, pac_norm_kind kind, float *y, float *mean, float *rstd, const float *x,
                  const pac_norm *w, int64_t N, int64_t D, float eps);
void pac_norm_bwd(const pac_backend *be, pac_norm_kind kind, float *dx, const float *dy, const float *x, const pac_norm *w,
                  const float *mean, const float *rstd, int64_t N, int64_t D);

/* y = x w^T + b; the backward pair. x [N, in], y [N, out]. w->lora is not looked at: see pac_lora_fwd(). */
void pac_linear_fwd(const pac_backend *be, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out);
/** dx = dy w (+= when accumulate; NULL: not wanted); dw += dy^T x, db += sum dy where not NULL. */
void pac_linear_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const float *x, const pac_linear *w,
                    int64_t N, int64_t in, int64_t out);

/* y += scale (x a^T) b^T, behind pac_linear_fwd(); the backward pair: dx += (NULL: not wanted), da and db += where not NULL. */
pac_err pac_lora_fwd(const pac_backend *be, float *y, const float *x, const pac_lora *l, int64_t N, int64_t in, int64_t out,
                     pac_arena *work);
pac_err pac_lora_bwd(const pac_backend *be, float *dx, const float *dy, const float *x, const pac_lora *l, int64_t N,
                     int64_t in, int64_t out, pac_arena *work);

/*
 * ---- decoding one position at a time ----
 *
 * A slot is a sequence that is being decoded: `beams` slots for each source, slots b*beams.. of source b. A pac_kv holds one
 * block's keys and values of the positions so far, [slots, capacity, I], and those of the encoder output, once for each source.
 * The step is pac_block_fwd() with io->kv (and keep NULL, stack PAC_DEC): io->batch then has B = slots and one row, toff[s + 1]
 * - toff[s], for a slot that goes on and none for one that has ended, so the rows are those of the going slots in order; soff
 * and io->enc are not read. Each step is the next position of every slot: the rows of a slot that ended are never looked at
 * again, unless pac_kv_reorder() gives it those of one that went on. At position 0 one beam of each source is enough.
 */

/**
 * An empty cache in `arena`, for the sources of io->batch and their encoder output io->enc (blocks with cross-attention: its
 * keys and values are computed here). 2 slots capacity I + 2 S I floats. Errors: PAC_EINVAL (not causal, beams or capacity
 * below 1), PAC_ENOMEM.
 */
pac_err pac_kv_new(const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io, int64_t beams,
                   int64_t capacity, pac_arena *arena, pac_kv **out);
/**
 * Slot s goes on from what slot parent[s] was (a slot of the same source), for all slots at once. A beam that ended may be
 * overwritten by one that goes on. Errors: PAC_EINVAL, PAC_ENOMEM.
 */
pac_err pac_kv_reorder(pac_kv *kv, const pac_backend *be, const int64_t *parent, pac_arena *work);
/** Positions held, which is the position of the next step's rows. */
int64_t pac_kv_length(const pac_kv *kv);

/* ---- the model ---- */

typedef struct pac_family pac_family; /* t5, bart, bert, distilbert: one file and one line in the table of families each */

typedef struct pac_shelf pac_shelf;   /* packed matrices that the processes of a node share (below) */

typedef struct pac_model_desc {
    const pac_family *family;
    char dir[4096];
    int64_t vocab, layers[2]; /* blocks of encoder and decoder (none: encoder only); L = sum */
    pac_block_cfg block[2];   /* encoder, decoder */
    bool final_norm[2];
    bool lm;          /* has a language-model head */
    bool tied;        /* which is the shared embedding */
    float head_scale; /* T5 v1.0: d_model^-0.5, else 1 */
    int32_t pad_id, eos_id, start_id;
    int64_t max_positions;   /* 0: unlimited */
    int64_t position_offset; /* of learned positions (BART: 2) */
    int64_t types;           /* token types, 0: none (BERT: 2) */
    bool embed_norm;         /* a norm behind the sum of embeddings */
    float embed_scale;       /* of the token embedding: 1, or D^0.5 (BART's scale_embedding) */
    bool pad_frozen;         /* the pad token as input moves no weights (padding_idx of nn.Embedding) */
    bool stream;             /* layers of a slice are resident only while they are at work (model.stream): frozen */
    pac_dtype dtype;         /* how a slice holds its matrices: f32, or bf16 (frozen then; model.dtype) */
    pac_shelf *shelf;        /* where slices in bf16 find and leave their matrices; NULL: each packs its own; borrowed */
    bool rounded;            /* on a device in a 16-bit precision: a rounded copy beside each, in pac_model_slice_bytes() too */
    float init_std;          /* of random weights, where the family draws all alike */
    bool head_first;         /* classification head on the first row (BERT), else on the last end of sequence */
    pac_act head_act;        /* between its dense and its projection: tanh; DistilBERT relu */
} pac_model_desc;

typedef struct pac_layer_span {
    int64_t first, last;
} pac_layer_span; /* inclusive */

/* Layers of the whole model. */
static inline int64_t pac_depth(const pac_model_desc *d)
{
    return d->layers[PAC_ENC] + d->layers[PAC_DEC];
}

/* The stack that `layer` belongs to. */
static inline pac_stack pac_stack_of(const pac_model_desc *d, int64_t layer)
{
    return layer < d->layers[PAC_ENC] ? PAC_ENC : PAC_DEC;
}

/* The stack whose output the head reads. */
static inline pac_stack pac_last_stack(const pac_model_desc *d)
{
    return d->layers[PAC_DEC] > 0 ? PAC_DEC : PAC_ENC;
}

/* The layers of a stack; of one that has none, last = first - 1. */
static inline pac_layer_span pac_span_of_stack(const pac_model_desc *d, pac_stack stack)
{
    int64_t first = stack == PAC_ENC ? 0 : d->layers[PAC_ENC];
    return (pac_layer_span){first, first + d->layers[stack] - 1};
}

/**
 * Read config.json of a Hugging Face directory; "shape:NAME" is a model that has no files: a shape (or config.json) as
 * pac_model_init() knows them. Errors: PAC_EIO, PAC_EDATA (names file, key, what is allowed), PAC_EUSAGE (unknown shape).
 */
pac_err pac_model_describe(const char *dir, pac_model_desc *out);

/**
 * Backbone parameters by the unit: tied weights once, no buffers, no dense layer of a classification head (BERT's pooler),
 * which counts with the head. This and the next give -1 when memory runs out.
 */
int64_t pac_model_parameters(const pac_model_desc *d);
/** Bytes of weights that the slice [first, last) holds with its riders, of a streamed one but for what comes and goes. */
int64_t pac_model_slice_bytes(const pac_model_desc *d, int64_t first, int64_t last, bool with_head);

/** What of a streamed slice (d->stream) comes and goes is at most so many bytes at once, but for the head; 0: not streamed. */
int64_t pac_model_stream_bytes(const pac_model_desc *d);

/** Content hash of config and all weights (streams the files; no rank needs to hold them). */
pac_err pac_model_identity(const char *dir, uint64_t *out);

/**
 * Write a model with random weights in Hugging Face layout (config.json, model.safetensors): a known shape (t5-small,
 * flan-t5-base, ...) or the path of a config.json. A directory that already holds weights is left alone. Memory stays bounded:
 * the values are made in a mapped scratch file. Source of scales: HF's _init_weights. Errors: PAC_EUSAGE (unknown shape),
 * PAC_EDATA, PAC_EIO, PAC_ENOSPACE.
 */
pac_err pac_model_init(const char *shape_or_config, const char *dir, uint64_t seed);

/*
 * Packed matrices that the processes of a node hold once (pac_model_desc.shelf). One makes the memory; the others open it by its
 * address; when all have it (or some could not, and all give it back), each settles it: from then on nothing is left of it when
 * the last process is gone, however it ends. A process that loads a slice packs what nobody has packed, and waits for what
 * another is packing; one that died there is replaced. Pages that no slice holds any more are freed.
 */
/** For a model in bf16 on `be`. The caller owns *out, which outlives the models. Errors: PAC_ENOMEM, PAC_EINTERNAL. Not collective. */
pac_err pac_shelf_new(const pac_model_desc *d, const pac_backend *be, pac_shelf **out);
/** Process, descriptor and a number for the layout. */
void pac_shelf_address(const pac_shelf *s, int64_t at[3]);
/** The shelf of another process. Errors: as above, where it cannot be reached or is of another layout. */
pac_err pac_shelf_open(const pac_model_desc *d, const pac_backend *be, const int64_t at[3], pac_shelf **out);
void pac_shelf_settle(pac_shelf *s);
void pac_shelf_free(pac_shelf **s);

typedef struct pac_model pac_model;

enum { PAC_MAX_BLOCKS = 512 }; /* layers of a model at most; pac/tune.h has arrays of this size */

/*
 * The lm head with the last layer; nothing but the head (cached phase); no values at all: no file is opened and the weights are
 * addresses that must not be read (backend `count`), the ledger counting them as if they were there; every weight will be taken
 * (pac_model_take()) before it is read: the mapped file, whose pages go as they are copied, is then not counted beside the
 * copy.
 */
enum { PAC_LOAD_HEAD = 1, PAC_LOAD_HEAD_ONLY = 2, PAC_LOAD_SHAPES = 4, PAC_LOAD_TAKEN = 8 };

/**
 * Map the weights of layers [first, last). Checks every tensor's presence, shape and type; f32 is used in place, bf16 and f16
 * are converted. With d->dtype bf16 the matrices of blocks, the embedding of tokens and the head are packed (pac/packed.h), one
 * after the other, and their pages of the file given back; all else is as in f32. PAC_LOAD_TAKEN with bf16 is PAC_EINVAL. Not
 * collective. The caller owns *out. Ledger: PAC_MEM_WEIGHTS.
 */
pac_err pac_model_load(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, int flags, pac_model **out);
/** Unmaps and frees; resident memory is really given back. */
void pac_model_free(pac_model **m);

/**
 * b_0 of a stack: x [N, D] = embedding of sids or tids. The slice holds the stack's first block. Errors: PAC_EDATA (id outside
 * the vocabulary, sequence longer than the table of positions).
 */
pac_err pac_model_embed(const pac_model *m, pac_stack stack, const pac_batch *batch, float *x);
/** The same for a step of decoding: every sequence of the batch has at most one row, at `position` (pac_kv_length()). */
pac_err pac_model_embed_step(const pac_model *m, const pac_batch *batch, int64_t position, float *x);
/** y = block `layer` (x); enc [S, D] is the encoder output (decoder layers). No activations are kept. y may alias x. */
pac_err pac_model_block(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, float *y, const float *x,
                        pac_arena *work);
/** pac_kv_new() and one step of decoder layer `layer` of a loaded slice. y may alias x. */
pac_err pac_model_kv_new(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, int64_t beams,
                         int64_t capacity, pac_arena *arena, pac_arena *work, pac_kv **out);
pac_err pac_model_step(const pac_model *m, int64_t layer, const pac_batch *batch, pac_kv *kv, float *y, const float *x,
                       pac_arena *work);
/**
 * Of a streamed slice (pac_model_desc.stream): the layer at work, or the head, is done with for now; its memory is given back.
 * Another slice: nothing happens.
 */
void pac_model_rest(const pac_model *m);
/** The stack's final norm (identity where the family has none). y may alias x. */
pac_err pac_model_final(const pac_model *m, pac_stack stack, float *y, const float *x, int64_t N);
/** logits [N, V] = head(h [N, D]). */
pac_err pac_model_logits(const pac_model *m, float *logits, const float *h, int64_t N);
/**
 * Cross-entropy of h [N, D] through a frozen head, and scale times its gradient, without logits (pac_backend.head_xent). false:
 * nothing was done; make logits.
 */
bool pac_model_head_xent(const pac_model *m, float *loss, float *dh, const float *h, const int32_t *labels, int64_t N,
                         float scale);
/** dh [N, D] = head^T dlogits. */
pac_err pac_model_logits_bwd(const pac_model *m, float *dh, const float *dlogits, int64_t N);

/* ---- passes with a backward: full, adapters, lora ---- */

/*
 * Who is told behind each layer of a pass, with what rides on it: messages may move on then. Backwards, the gradients of all that
 * no lower layer uses are complete.
 */
typedef struct pac_watch {
    pac_err (*behind)(void *user, int64_t layer, bool backward);
    void *user;
} pac_watch;

/** Tell it; NULL: nobody. */
static inline pac_err pac_watch_tell(const pac_watch *w, int64_t layer, bool backward)
{
    return w != NULL ? w->behind(w->user, layer, backward) : PAC_OK;
}

/* One forward or backward of a micro-batch over a slice. */
typedef struct pac_pass {
    const pac_batch *batch;
    const pac_dropout *drop; /* NULL: none */
    pac_arena *keep;         /* what the backward needs goes here; NULL: no backward follows */
    pac_arena *work;         /* scratch, another arena */
    const pac_watch *watch;  /* NULL: none; looked at by whoever goes through several layers */
} pac_pass;

typedef struct pac_norm_saved {
    const float *x;
    float *mean, *rstd;
} pac_norm_saved; /* input of a norm and its statistics */

/* Token, position and type embeddings, their norm, dropout: x [N, D]. `saved` (in keep) is untouched where keep is NULL. */
pac_err pac_model_embed_fwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *x, pac_norm_saved *saved);
/** Gradients of whatever learns there from dx [N, D], which is used up. */
pac_err pac_model_embed_bwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *dx, const pac_norm_saved *saved);
/** As pac_model_block() with activations kept; x and enc are borrowed until the backward. y must not alias x with keep. */
pac_err pac_model_layer_fwd(const pac_model *m, int64_t layer, const pac_pass *p, const float *enc, float *y, const float *x,
                            pac_block_saved **saved);
/** dx (may alias dy); denc [S, D] += in decoder layers, NULL elsewhere. */
pac_err pac_model_layer_bwd(const pac_model *m, int64_t layer, const pac_pass *p, const float *enc, float *dx, float *denc,
                            const float *dy, const pac_block_saved *saved);
/** The stack's final norm (a copy where the family has none) and dropout. y must not alias x with keep. */
pac_err pac_model_final_fwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *y, const float *x,
                            pac_norm_saved *saved);
/** dx (may alias dy). dy is used up. */
pac_err pac_model_final_bwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *dx, float *dy,
                            const pac_norm_saved *saved);
/** The head's gradient where it learns: dhead += scale dlogits^T h. */
void pac_model_head_bwd(const pac_model *m, const float *dlogits, const float *h, int64_t N);

/* ---- weights that learn ---- */

enum { PAC_MAX_USES = 3 };

/* A tensor of the backbone: who uses it. A tied embedding has three uses: layer 0, the first decoder layer, the last layer. */
typedef struct pac_weight {
    const char *name; /* in the model file, Hugging Face's */
    int ndim;
    int64_t shape[2], n;
    int uses;
    pac_layer_span use[PAC_MAX_USES];
    int64_t layer; /* block it belongs to, -1: none (embeddings, tables, final norms, head) */
    size_t slot;   /* offset of its pointer in pac_block_weights (layer >= 0): finds "the q of self-attention" */
    bool buffer;   /* never learns (BART's final_logits_bias) */
} pac_weight;

/** Every tensor of the whole model once, in canonical order; with_head: lm head too. Stops at the first error. */
pac_err pac_model_walk(const pac_model_desc *d, bool with_head, pac_err (*visit)(void *ctx, const pac_weight *w), void *ctx);
/**
 * Copy the weight `name` of this slice to w and make the slice use w, with gradient g (NULL: frozen), instead of the file's.
 * Borrowed until the model is freed. A norm's weight and bias learn both or neither. Errors: PAC_EINVAL (not in the slice).
 */
pac_err pac_model_take(pac_model *m, const char *name, float *w, float *g);
/** The blocks of the slice, for techniques that hang modules on them. */
pac_block_weights *pac_model_block_tunable(pac_model *m, int64_t layer);
/**
 * The first layer of a classification head that the checkpoint carries (BERT's pooler): *found false where there is none.
 * w [D, D], b [D] are filled.
 */
pac_err pac_model_head_dense(const pac_model_desc *d, bool *found, float *w, float *b);

/** The weights of a block of this slice, borrowed, where the backend has them; NULL: not in the slice. */
const pac_block_weights *pac_model_block_weights(const pac_model *m, int64_t layer);
/**
 * Weights by their role for the host to read (the pruning initialiser): the model's own, or copies in `work` where the backend
 * has memory of its own. NULL: the model has none. Waits. Errors: PAC_EINVAL (not in the slice), PAC_ENOMEM.
 */
pac_err pac_model_read_block(const pac_model *m, int64_t layer, pac_arena *work, pac_block_weights *out);
pac_err pac_model_read_riders(const pac_model *m, pac_stack stack, pac_arena *work, const float **bias_table,
                              const float **final_norm);

#endif
