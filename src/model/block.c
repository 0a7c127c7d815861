/*
 * One transformer block, forward: self-attention, cross-attention where there is one, feed-forward, each a sub-layer with a
 * norm, a residual, and between them a bottleneck and dropout where asked for. Norm kind and place, biases, gate, activation
 * and position bias are data (pac_block_cfg), so that every family and the side network run this code. Only ops touch numbers.
 *
 * Rows go to the arena `keep` only where the backward needs them (pac/model.h has the sum), all else is scratch.
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
                       .S = io->kv == NULL ? b->soff[b->B] : 0,
                       .D = cfg->D,
                       .I = cfg->H * cfg->K,
                       .F = cfg->F};
}

pac_attn pac_block_attn(const block_ctx *c, bool cross)
{
    const pac_batch *b = c->io->batch;
    bool parts = c->io->stack == PAC_ENC && b->aoff != NULL;
    const int64_t *own = parts ? b->aoff : c->io->stack == PAC_ENC ? b->soff : b->toff;
    return (pac_attn){.B = parts ? b->A : b->B,
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

static const pac_bottleneck *if_any(const pac_bottleneck *a)
{
    return a->width > 0 ? a : NULL;
}

sub_weights pac_block_attn_sub(const pac_block_weights *w, bool cross)
{
    return cross ? (sub_weights){&w->cross.norm, NULL, PAC_SITE_CROSS}
                 : (sub_weights){&w->self.norm, if_any(&w->self_adapter), PAC_SITE_SELF};
}

sub_weights pac_block_ff_sub(const pac_block_weights *w)
{
    return (sub_weights){&w->ff_norm, if_any(&w->ff_adapter), PAC_SITE_FF};
}

bool pac_block_learns(const pac_linear *w)
{
    return w->dw != NULL || (w->lora != NULL && (w->lora->da != NULL || w->lora->db != NULL));
}

pac_err pac_block_linear(const block_ctx *c, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out)
{
    pac_linear_fwd(c->be, y, x, w, N, in, out);
    return w->lora == NULL ? PAC_OK : pac_lora_fwd(c->be, y, x, w->lora, N, in, out, c->io->work);
}

bool pac_block_keeps_act(const block_ctx *c)
{
    return c->cfg->act == PAC_ACT_RELU && !c->cfg->gated && (c->io->drop == NULL || !c->cfg->inner_dropout);
}

/* Rows that the backward reads again if `needed`, and scratch if not, or where no backward follows. */
static pac_err rows(const block_ctx *c, bool needed, int64_t N, int64_t width, float **out)
{
    return pac_arena_floats(needed && c->keep != NULL ? c->keep : c->io->work, N * width, out);
}

/* y = norm(x), y may alias x; its input and statistics are kept for the backward. */
static pac_err norm(const block_ctx *c, float *y, const float *x, const pac_norm *w, sub_saved *s)
{
    s->sum = x;
    if (c->keep != NULL) {
        PAC_TRY(pac_arena_floats(c->keep, c->N, &s->rstd));
        if (c->cfg->norm == PAC_NORM_LAYER)
            PAC_TRY(pac_arena_floats(c->keep, c->N, &s->mean));
    }
    pac_norm_fwd(c->be, c->cfg->norm, y, s->mean, s->rstd, x, w, c->N, c->D, c->cfg->eps);
    return PAC_OK;
}

/* *n = norm(x) before the sub-layer, or x itself where the norm comes after. */
static pac_err enter(const block_ctx *c, const float **n, const float *x, const sub_weights *w, sub_saved *s)
{
    float *y;
    *n = x;
    if (c->cfg->post_norm)
        return PAC_OK;
    PAC_TRY(rows(c, false, c->N, c->D, &y));
    *n = y;
    return norm(c, y, x, w->norm, s);
}

/* f becomes f + up(gelu_new(down(f))) */
static pac_err bottleneck(const block_ctx *c, float **f, const pac_bottleneck *a, sub_saved *s)
{
    float *h, *y;
    PAC_TRY(rows(c, true, c->N, a->width, &s->pre));
    PAC_TRY(rows(c, false, c->N, a->width, &h));
    PAC_TRY(rows(c, false, c->N, c->D, &y));
    PAC_TRY(pac_block_linear(c, s->pre, *f, &a->down, c->N, c->D, a->width));
    c->be->act_fwd(h, s->pre, c->N * a->width, PAC_ACT_GELU_NEW);
    PAC_TRY(pac_block_linear(c, y, h, &a->up, c->N, a->width, c->D));
    c->be->add(y, y, *f, c->N * c->D);
    s->f = *f;
    *f = y;
    return PAC_OK;
}

/* y = x + g, or norm(x + g), g = drop(bottleneck(f)); y may alias x. f, from output_rows(), is used up. */
static pac_err leave(const block_ctx *c, float *y, const float *x, float *f, const sub_weights *w, sub_saved *s)
{
    float *sum = y;
    if (w->adapter != NULL)
        PAC_TRY(bottleneck(c, &f, w->adapter, s));
    pac_drop(c->be, c->io->drop, c->io->stack, c->io->layer, w->site, f, c->N, c->D);
    if (c->cfg->post_norm && c->keep != NULL)
        PAC_TRY(rows(c, true, c->N, c->D, &sum));
    c->be->add(sum, x, f, c->N * c->D);
    return c->cfg->post_norm ? norm(c, y, sum, w->norm, s) : PAC_OK;
}

/* Where f goes: the bottleneck's weights learn from it. */
static pac_err output_rows(const block_ctx *c, const sub_weights *w, float **f)
{
    return rows(c, w->adapter != NULL && pac_block_learns(&w->adapter->down), c->N, c->D, f);
}

/* o = attention(q, k, v) of whole sequences; k and v of `source`, which is n or the encoder output. */
static pac_err attend(const block_ctx *c, const float *n, const pac_attn_weights *w, bool cross, attn_saved *s)
{
    int64_t keys = cross ? c->S : c->N;
    const float *source = cross ? c->io->enc : n;
    PAC_TRY(rows(c, true, keys, c->I, &s->k));
    PAC_TRY(rows(c, true, keys, c->I, &s->v));
    if (c->keep != NULL)
        PAC_TRY(rows(c, true, c->N, c->cfg->H, &s->lse));
    pac_steady_begin(c->be, source);
    pac_err err = pac_block_linear(c, s->k, source, &w->k, keys, c->D, c->I);
    if (err == PAC_OK)
        err = pac_block_linear(c, s->v, source, &w->v, keys, c->D, c->I);
    pac_steady_end(c->be, source);
    PAC_TRY(err);
    pac_attn p = pac_block_attn(c, cross);
    c->be->attn_fwd(s->o, c->I, s->lse, s->q, c->I, s->k, c->I, s->v, c->I, &p);
    return PAC_OK;
}

/*
 * Is every sequence at most one row, whose attention is its value? Then queries and keys are not made, nor their weights read;
 * where a backward follows, or operations are counted as published, they are.
 */
static bool is_its_value(const block_ctx *c, bool cross)
{
    if (cross || c->keep != NULL || c->io->kv != NULL || c->be->counts)
        return false;
    pac_attn p = pac_block_attn(c, false);
    for (int64_t i = 0; i < p.B; i++)
        if (p.toff[i + 1] - p.toff[i] > 1)
            return false;
    return true;
}

/* o = attention of the sub-layer's input n */
static pac_err attend_any(const block_ctx *c, const float *n, const pac_attn_weights *w, bool cross, attn_saved *s)
{
    if (is_its_value(c, cross))
        return pac_block_linear(c, s->o, n, &w->v, c->N, c->D, c->I);
    PAC_TRY(pac_block_linear(c, s->q, n, &w->q, c->N, c->D, c->I));
    if (c->io->kv != NULL)
        return pac_kv_attend(c, s->o, s->q, n, w, cross);
    return cross && pac_absorbs(c) ? pac_absorb_fwd(c, w, s) : attend(c, n, w, cross, s);
}

static pac_err attn_sub(const block_ctx *c, float *y, const float *x, const pac_block_weights *block, bool cross, attn_saved *s)
{
    const pac_attn_weights *w = cross ? &block->cross : &block->self;
    sub_weights sub = pac_block_attn_sub(block, cross);
    const float *n;
    float *f;
    if (!cross && !is_its_value(c, cross) && pac_frozen_attend(c, y, x, block))
        return PAC_OK;
    PAC_TRY(enter(c, &n, x, &sub, &s->sub));
    PAC_TRY(rows(c, true, c->N, c->I, &s->q));
    PAC_TRY(rows(c, pac_block_learns(&w->o), c->N, c->I, &s->o));
    PAC_TRY(output_rows(c, &sub, &f));
    pac_steady_begin(c->be, n);
    pac_err err = attend_any(c, n, w, cross, s);
    pac_steady_end(c->be, n);
    PAC_TRY(err);
    PAC_TRY(pac_block_linear(c, f, s->o, &w->o, c->N, c->I, c->D));
    return leave(c, y, x, f, &sub, &s->sub);
}

static pac_err ff_sub(const block_ctx *c, float *y, const float *x, const pac_block_weights *w, ff_saved *s)
{
    sub_weights sub = pac_block_ff_sub(w);
    const float *n;
    float *h, *f;
    int64_t inner = c->N * c->F;
    if (pac_frozen_feed(c, y, x, w))
        return PAC_OK;
    PAC_TRY(enter(c, &n, x, &sub, &s->sub));
    PAC_TRY(output_rows(c, &sub, &f));
    PAC_TRY(rows(c, true, c->N, c->F, &s->wi));
    if (c->cfg->gated)
        PAC_TRY(rows(c, true, c->N, c->F, &s->wg));
    h = s->wi; /* in place when nothing is kept, or what is kept is as good */
    if (c->keep != NULL && !pac_block_keeps_act(c))
        PAC_TRY(rows(c, false, c->N, c->F, &h));
    pac_steady_begin(c->be, n);
    pac_err err = pac_block_linear(c, s->wi, n, &w->wi, c->N, c->D, c->F);
    if (c->cfg->gated && err == PAC_OK)
        err = pac_block_linear(c, s->wg, n, &w->wg, c->N, c->D, c->F);
    pac_steady_end(c->be, n);
    PAC_TRY(err);
    if (c->cfg->gated) {
        c->be->glu_fwd(h, s->wi, s->wg, inner, c->cfg->act);
    } else {
        c->be->act_fwd(h, s->wi, inner, c->cfg->act);
    }
    if (c->cfg->inner_dropout)
        pac_drop(c->be, c->io->drop, c->io->stack, c->io->layer, PAC_SITE_INNER, h, c->N, c->F);
    PAC_TRY(pac_block_linear(c, f, h, &w->wo, c->N, c->F, c->D));
    return leave(c, y, x, f, &sub, &s->sub);
}

/*
 * Where the output of a sub-layer goes that is not the last. Pre-norm, it is the saved input of the next sub-layer and needs a
 * place of its own; post-norm, the backward makes it again from the kept sum, and y serves.
 */
static pac_err between(const block_ctx *c, float *y, float **out)
{
    *out = y;
    return c->keep != NULL && !c->cfg->post_norm ? rows(c, true, c->N, c->D, out) : PAC_OK;
}

static pac_err forward(const block_ctx *c, float *y, const float *x, const pac_block_weights *w, pac_block_saved *s)
{
    float *t;
    size_t mark = pac_arena_mark(c->io->work);
    s->x = x;
    PAC_TRY(between(c, y, &t));
    PAC_TRY(attn_sub(c, t, x, w, false, &s->self));
    pac_arena_release(c->io->work, mark);
    x = t;
    if (c->cfg->cross) {
        PAC_TRY(between(c, y, &t));
        PAC_TRY(attn_sub(c, t, x, w, true, &s->cross));
        pac_arena_release(c->io->work, mark);
        x = t;
    }
    return ff_sub(c, y, x, w, &s->ff);
}

pac_err pac_block_fwd(float *y, const float *x, const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io,
                      pac_arena *keep, pac_block_saved **saved)
{
    pac_block_saved scratch = {0}, *s = &scratch;
    PAC_CHECK(io->kv == NULL || (keep == NULL && io->stack == PAC_DEC), PAC_EINVAL, "a decoding step has no backward");
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
