/*
 * What the forward of a transformer block saves for its backward, and the sizes that both derive from their arguments.
 */
#ifndef PAC_MODEL_BLOCK_H
#define PAC_MODEL_BLOCK_H

#include "pac/model.h"

/*
 * A sub-layer is y = x + g(norm(x)) (pre-norm) or y = norm(x + g(x)) (post-norm), where g(n) = drop(bottleneck(f(n))).
 * What it keeps beside f's own: pointers are NULL where the backward does not need the rows.
 */
typedef struct sub_saved {
    const float *sum;   /* [N, D] what the norm reads: x, or x + g(x) */
    float *mean, *rstd; /* [N] */
    float *f, *pre;     /* [N, D], [N, width] of the bottleneck: its input, and before its activation */
} sub_saved;

typedef struct attn_saved {
    sub_saved sub;
    float *q, *k, *v, *o; /* [N, I], [keys, I], [keys, I], [N, I] */
    float *lse;           /* [N, H] */
    bool absorbed;        /* k and v were not made (absorb.c) */
} attn_saved;

typedef struct ff_saved {
    sub_saved sub;
    float *wi, *wg; /* [N, F] before the activation (or behind: pac_block_keeps_act()); wg NULL unless gated */
} ff_saved;

struct pac_block_saved {
    const float *x; /* [N, D] the block's input */
    attn_saved self, cross;
    ff_saved ff;
};

/* What the three kinds of sub-layer have in common: where its weights are and what is behind it. */
typedef struct sub_weights {
    const pac_norm *norm;
    const pac_bottleneck *adapter; /* NULL: none */
    pac_site site;                 /* of the dropout */
} sub_weights;

typedef struct block_ctx {
    const pac_backend *be;
    const pac_block_cfg *cfg;
    const pac_block_io *io;
    pac_arena *keep; /* NULL: scratch only */
    int64_t N, S;    /* rows of the block, rows of the encoder output */
    int64_t D, I, F; /* I = heads x head width */
} block_ctx;

block_ctx pac_block_context(const pac_block_cfg *cfg, const pac_block_io *io, pac_arena *keep);
pac_attn pac_block_attn(const block_ctx *c, bool cross);
sub_weights pac_block_attn_sub(const pac_block_weights *w, bool cross);
sub_weights pac_block_ff_sub(const pac_block_weights *w);
bool pac_block_learns(const pac_linear *w);
/* Does the forward keep act(wi) in the place of wi? A ReLU's derivative is as well told from its value, and the backward need not
 * make that again; where it is dropped too, it is not what the backward wants. */
bool pac_block_keeps_act(const block_ctx *c);
/* y = x w^T + b with w's low-rank change */
pac_err pac_block_linear(const block_ctx *c, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out);

/* Is cross-attention of these lengths cheaper without keys and values? Depends on shapes only. */
bool pac_absorbs(const block_ctx *c);
/* s->o = cross-attention of s->q with io->enc, without k and v; lse kept where a backward follows. */
pac_err pac_absorb_fwd(const block_ctx *c, const pac_attn_weights *w, attn_saved *s);
/* From d_o [N, I] to dq [N, I], denc [S, D] += (NULL: not wanted) and the gradients of w->k and w->v. */
pac_err pac_absorb_bwd(const block_ctx *c, float *dq, float *denc, const float *d_o, const pac_attn_weights *w,
                       const attn_saved *s);

/* y = the whole sub-layer of x where it is frozen, packed, and nothing in it is kept or dropped (frozen.c); false: nothing
 * done. */
bool pac_frozen_attend(const block_ctx *c, float *y, const float *x, const pac_block_weights *w);
bool pac_frozen_feed(const block_ctx *c, float *y, const float *x, const pac_block_weights *w);

/* o = attention of the new rows with the cache io->kv; n is the normed input of the new rows. Self-attention puts them in. */
pac_err pac_kv_attend(const block_ctx *c, float *o, const float *q, const float *n, const pac_attn_weights *w, bool cross);

#endif
