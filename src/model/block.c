/*
 * One transformer block, forward: self-attention, cross-attention where there is one, feed-forward, each a sub-layer with a
 * norm and a residual. Norm kind and place, biases, gate, activation and position bias are data (pac_block_cfg), so that every
 * family and the side network run this code. Only ops touch numbers.
 */
#include "block.h"

block_ctx pac_block_context(const pac_block_cfg *cfg, const pac_block_io *io, pac_arena *keep)
{
    const pac_batch *b = io->batch;
    const int64_t *own = io->stack == PAC_ENC ? b->soff : b->toff;
    return (block_ctx){.be = io->be,
                       .cfg = cfg,
                       .io = io,
                       .keep = keep,
                       .N = own[b->B],
                       .S = b->soff[b->B],
                       .D = cfg->D,
                       .I = cfg->H * cfg->K,
                       .F = cfg->F};
}

pac_attn pac_block_attn(const block_ctx *c, bool cross)
{
    const pac_batch *b = c->io->batch;
    const int64_t *own = c->io->stack == PAC_ENC ? b->soff : b->toff;
    return (pac_attn){.B = b->B,
                      .H = c->cfg->H,
                      .K = c->cfg->K,
                      .toff = own,
                      .soff = cross ? b->soff : own,
                      .scale = c->cfg->scale,
                      .causal = !cross && c->cfg->causal,
                      .bias_table = cross ? NULL : c->io->bias_table,
                      .buckets = c->cfg->buckets,
                      .max_distance = c->cfg->max_distance,
                      .bidirectional = !c->cfg->causal};
}

static pac_err get(const block_ctx *c, int64_t rows, int64_t width, float **out)
{
    return pac_arena_floats(c->keep != NULL ? c->keep : c->io->work, rows * width, out);
}

/* *n = norm(x) before the sub-layer, or x itself where the norm comes after. Scratch. */
static pac_err enter(const block_ctx *c, const float **n, const float *x, const pac_norm *w, sub_saved *s)
{
    s->x = x;
    *n = x;
    if (c->cfg->post_norm)
        return PAC_OK;
    s->normed = x;
    float *y;
    PAC_TRY(get(c, c->N, 1, &s->rstd));
    if (c->cfg->norm == PAC_NORM_LAYER)
        PAC_TRY(get(c, c->N, 1, &s->mean));
    PAC_TRY(pac_arena_floats(c->io->work, c->N * c->D, &y));
    pac_norm_fwd(c->be, c->cfg->norm, y, s->mean, s->rstd, x, w, c->N, c->D, c->cfg->eps);
    *n = y;
    return PAC_OK;
}

/* y = x + f, or norm(x + f); y may alias x. */
static pac_err leave(const block_ctx *c, float *y, const float *x, const float *f, const pac_norm *w, sub_saved *s)
{
    if (!c->cfg->post_norm) {
        c->be->add(y, x, f, c->N * c->D);
        return PAC_OK;
    }
    float *sum = y;
    if (c->keep != NULL) {
        PAC_TRY(get(c, c->N, c->D, &sum));
        PAC_TRY(get(c, c->N, 1, &s->mean));
        PAC_TRY(get(c, c->N, 1, &s->rstd));
    }
    c->be->add(sum, x, f, c->N * c->D);
    s->normed = sum;
    pac_norm_fwd(c->be, c->cfg->norm, y, s->mean, s->rstd, sum, w, c->N, c->D, c->cfg->eps);
    return PAC_OK;
}

static pac_err attn_sub(const block_ctx *c, float *y, const float *x, const pac_attn_weights *w, bool cross, attn_saved *s)
{
    const float *n;
    float *f;
    int64_t keys = cross ? c->S : c->N;
    PAC_TRY(enter(c, &n, x, &w->norm, &s->sub));
    PAC_TRY(get(c, c->N, c->I, &s->q));
    PAC_TRY(get(c, keys, c->I, &s->k));
    PAC_TRY(get(c, keys, c->I, &s->v));
    PAC_TRY(get(c, c->N, c->I, &s->o));
    if (c->keep != NULL)
        PAC_TRY(get(c, c->N, c->cfg->H, &s->lse));
    PAC_TRY(pac_arena_floats(c->io->work, c->N * c->D, &f));
    const float *source = cross ? c->io->enc : n;
    pac_linear_fwd(c->be, s->q, n, &w->q, c->N, c->D, c->I);
    pac_linear_fwd(c->be, s->k, source, &w->k, keys, c->D, c->I);
    pac_linear_fwd(c->be, s->v, source, &w->v, keys, c->D, c->I);
    pac_attn p = pac_block_attn(c, cross);
    c->be->attn_fwd(s->o, c->I, s->lse, s->q, c->I, s->k, c->I, s->v, c->I, &p);
    pac_linear_fwd(c->be, f, s->o, &w->o, c->N, c->I, c->D);
    return leave(c, y, x, f, &w->norm, &s->sub);
}

static pac_err ff_sub(const block_ctx *c, float *y, const float *x, const pac_block_weights *w, ff_saved *s)
{
    const float *n;
    float *h, *f;
    int64_t inner = c->N * c->F;
    PAC_TRY(enter(c, &n, x, &w->ff_norm, &s->sub));
    PAC_TRY(get(c, c->N, c->F, &s->wi));
    if (c->cfg->gated)
        PAC_TRY(get(c, c->N, c->F, &s->wg));
    h = s->wi; /* in place when nothing is kept */
    if (c->keep != NULL)
        PAC_TRY(pac_arena_floats(c->io->work, inner, &h));
    PAC_TRY(pac_arena_floats(c->io->work, c->N * c->D, &f));
    pac_linear_fwd(c->be, s->wi, n, &w->wi, c->N, c->D, c->F);
    if (c->cfg->gated) {
        pac_linear_fwd(c->be, s->wg, n, &w->wg, c->N, c->D, c->F);
        c->be->glu_fwd(h, s->wi, s->wg, inner, c->cfg->act);
    } else {
        c->be->act_fwd(h, s->wi, inner, c->cfg->act);
    }
    pac_linear_fwd(c->be, f, h, &w->wo, c->N, c->F, c->D);
    return leave(c, y, x, f, &w->ff_norm, &s->sub);
}

/* Where a sub-layer's output goes: kept outputs are the next sub-layer's saved input, so they need a place of their own. */
static pac_err between(const block_ctx *c, float *y, float **out)
{
    *out = y;
    return c->keep != NULL ? get(c, c->N, c->D, out) : PAC_OK;
}

static pac_err forward(const block_ctx *c, float *y, const float *x, const pac_block_weights *w, pac_block_saved *s)
{
    float *t;
    size_t mark = pac_arena_mark(c->io->work);
    PAC_TRY(between(c, y, &t));
    PAC_TRY(attn_sub(c, t, x, &w->self, false, &s->self));
    pac_arena_release(c->io->work, mark);
    x = t;
    if (c->cfg->cross) {
        PAC_TRY(between(c, y, &t));
        PAC_TRY(attn_sub(c, t, x, &w->cross, true, &s->cross));
        pac_arena_release(c->io->work, mark);
        x = t;
    }
    return ff_sub(c, y, x, w, &s->ff);
}

pac_err pac_block_fwd(float *y, const float *x, const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io,
                      pac_arena *keep, pac_block_saved **saved)
{
    pac_block_saved scratch = {0}, *s = &scratch;
    if (keep != NULL) {
        void *p;
        PAC_TRY(pac_arena_get(keep, sizeof *s, &p));
        s = p;
        *s = (pac_block_saved){0};
    }
    block_ctx c = pac_block_context(cfg, io, keep);
    size_t mark = pac_arena_mark(io->work);
    pac_err err = forward(&c, y, x, w, s);
    pac_arena_release(io->work, mark);
    if (err == PAC_OK && keep != NULL)
        *saved = s;
    return err;
}
