/*
 * What the forward of a transformer block saves for its backward, and the sizes that both derive from their arguments.
 */
#ifndef PAC_MODEL_BLOCK_H
#define PAC_MODEL_BLOCK_H

#include "pac/model.h"

/* A sub-layer is y = x + f(norm(x)) (pre-norm) or y = norm(x + f(x)) (post-norm). */
typedef struct sub_saved {
    const float *x;      /* [N, D] input of the sub-layer */
    const float *normed; /* [N, D] what the norm reads: x, or x + f(x) */
    float *mean, *rstd;  /* [N] */
} sub_saved;

typedef struct attn_saved {
    sub_saved sub;
    float *q, *k, *v, *o; /* [N, I], [keys, I], [keys, I], [N, I] */
    float *lse;           /* [N, H] */
} attn_saved;

typedef struct ff_saved {
    sub_saved sub;
    float *wi, *wg; /* [N, F] before the activation; wg NULL unless gated */
} ff_saved;

struct pac_block_saved {
    attn_saved self, cross;
    ff_saved ff;
};

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

#endif
