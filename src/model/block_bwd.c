/*
 * One transformer block, backward: the sub-layers of block.c in reverse, each turning the gradient of its output into that of
 * its input. What the forward did not keep is made again, and only where a weight that learns reads it.
 */
#include "block.h"

static pac_err scratch(const block_ctx *c, int64_t rows, int64_t width, float **out)
{
    return pac_arena_floats(c->io->work, rows * width, out);
}

static pac_err linear_bwd(const block_ctx *c, float *dx, bool accumulate, const float *dy, const float *x, const pac_linear *w,
                          int64_t N, int64_t in, int64_t out)
{
    pac_linear_bwd(c->be, dx, accumulate, dy, x, w, N, in, out);
    return w->lora == NULL ? PAC_OK : pac_lora_bwd(c->be, dx, dy, x, w->lora, N, in, out, c->io->work);
}

/* A sub-layer that is being differentiated. */
typedef struct sub_bwd {
    sub_weights w;
    const sub_saved *saved, *before; /* of this sub-layer and of the one before it (NULL: it is the block's first) */
    const pac_norm *before_norm;
    const float *x;      /* the block's input */
    const float *dresid; /* gradient of the residual sum */
    const float *df;     /* gradient of f's output */
} sub_bwd;

/* f + up(gelu_new(down(f))) = y: *df = gradient of f from *df, that of y. */
static pac_err bottleneck_bwd(const block_ctx *c, const float **df, const pac_bottleneck *a, const sub_saved *s)
{
    float *h = NULL, *dh, *d;
    int64_t n = c->N * a->width;
    PAC_TRY(scratch(c, c->N, c->D, &d));
    PAC_TRY(scratch(c, c->N, a->width, &dh));
    if (pac_block_learns(&a->up)) {
        PAC_TRY(scratch(c, c->N, a->width, &h));
        c->be->act_fwd(h, s->pre, n, PAC_ACT_GELU_NEW);
    }
    PAC_TRY(linear_bwd(c, dh, false, *df, h, &a->up, c->N, a->width, c->D));
    c->be->act_bwd(dh, dh, s->pre, n, PAC_ACT_GELU_NEW);
    PAC_TRY(linear_bwd(c, d, false, dh, s->f, &a->down, c->N, c->D, a->width));
    c->be->add(d, d, *df, c->N * c->D);
    *df = d;
    return PAC_OK;
}

/* Forward: y = x + g or norm(x + g), g = drop(bottleneck(f)): from dy to dresid and df. */
static pac_err enter_bwd(const block_ctx *c, sub_bwd *b, const float *dy)
{
    float *t;
    b->dresid = dy;
    if (c->cfg->post_norm) {
        const sub_saved *s = b->saved;
        PAC_TRY(scratch(c, c->N, c->D, &t));
        pac_norm_bwd(c->be, c->cfg->norm, t, dy, s->sum, b->w.norm, s->mean, s->rstd, c->N, c->D);
        b->dresid = t;
    }
    b->df = b->dresid;
    if (c->io->drop != NULL) {
        PAC_TRY(scratch(c, c->N, c->D, &t));
        pac_drop_to(c->be, c->io->drop, c->io->stack, c->io->layer, b->w.site, t, b->df, c->N, c->D);
        b->df = t;
    }
    return b->w.adapter != NULL ? bottleneck_bwd(c, &b->df, b->w.adapter, b->saved) : PAC_OK;
}

/* *n = f's input again: norm(x); post-norm x itself, the norm of the sub-layer before. */
static pac_err input(const block_ctx *c, const sub_bwd *b, const float **n)
{
    const sub_saved *s = c->cfg->post_norm ? b->before : b->saved;
    const pac_norm *w = c->cfg->post_norm ? b->before_norm : b->w.norm;
    float *t;
    *n = b->x;
    if (s == NULL)
        return PAC_OK;
    PAC_TRY(scratch(c, c->N, c->D, &t));
    pac_norm_fwd(c->be, c->cfg->norm, t, NULL, NULL, s->sum, w, c->N, c->D, c->cfg->eps);
    *n = t;
    return PAC_OK;
}

/* dx = residual's part + what came through f. dx may alias dresid; dn, the gradient of f's input, is used up. */
static void leave_bwd(const block_ctx *c, const sub_bwd *b, float *dx, float *dn)
{
    const sub_saved *s = b->saved;
    if (!c->cfg->post_norm)
        pac_norm_bwd(c->be, c->cfg->norm, dn, dn, s->sum, b->w.norm, s->mean, s->rstd, c->N, c->D);
    c->be->add(dx, b->dresid, dn, c->N * c->D);
}

typedef struct attn_grads {
    float *dq, *dk, *dv; /* dk, dv NULL: there are no k and v */
} attn_grads;

/* o = attention(q, k, v), or all that k and v are made of at once. */
static pac_err attend_bwd(const block_ctx *c, attn_grads *g, float *denc, const float *d_o, const pac_attn_weights *w,
                          bool cross, const attn_saved *s)
{
    int64_t keys = cross ? c->S : c->N;
    PAC_TRY(scratch(c, c->N, c->I, &g->dq));
    if (s->absorbed)
        return pac_absorb_bwd(c, g->dq, denc, d_o, w, s);
    PAC_TRY(scratch(c, keys, c->I, &g->dk));
    PAC_TRY(scratch(c, keys, c->I, &g->dv));
    pac_attn p = pac_block_attn(c, cross);
    c->be->attn_bwd(g->dq, g->dk, g->dv, cross ? NULL : c->io->dbias_table, d_o, c->I, s->q, c->I, s->k, c->I, s->v, c->I,
                    s->lse, &p);
    return PAC_OK;
}

static pac_err attn_sub_bwd(const block_ctx *c, float *dx, float *denc, const float *dy, sub_bwd *b, const pac_attn_weights *w,
                            bool cross, const attn_saved *s)
{
    const float *n = NULL;
    float *dn, *d_o;
    attn_grads g = {NULL};
    int64_t keys = cross ? c->S : c->N;
    PAC_TRY(enter_bwd(c, b, dy));
    PAC_TRY(scratch(c, c->N, c->D, &dn));
    PAC_TRY(scratch(c, c->N, c->I, &d_o));
    /* f = o wo^T; o = attention(q, k, v) */
    PAC_TRY(linear_bwd(c, d_o, false, b->df, s->o, &w->o, c->N, c->I, c->D));
    PAC_TRY(attend_bwd(c, &g, denc, d_o, w, cross, s));
    /* q = n wq^T; k, v = (n or the encoder output) w^T */
    if (pac_block_learns(&w->q) || (!cross && (pac_block_learns(&w->k) || pac_block_learns(&w->v))))
        PAC_TRY(input(c, b, &n));
    const float *source = cross ? c->io->enc : n;
    float *dsource = cross ? denc : dn;
    pac_steady_begin(c->be, n);
    pac_err err = linear_bwd(c, dn, false, g.dq, n, &w->q, c->N, c->D, c->I);
    if (!s->absorbed && err == PAC_OK)
        err = linear_bwd(c, dsource, true, g.dk, source, &w->k, keys, c->D, c->I);
    if (!s->absorbed && err == PAC_OK)
        err = linear_bwd(c, dsource, true, g.dv, source, &w->v, keys, c->D, c->I);
    pac_steady_end(c->be, n);
    PAC_TRY(err);
    leave_bwd(c, b, dx, dn);
    return PAC_OK;
}

/* h = drop(act(wi)) or drop(act(wi) * wg) again, where wo learns from it. */
static pac_err inner(const block_ctx *c, const pac_linear *wo, const ff_saved *s, float **h)
{
    int64_t n = c->N * c->F;
    *h = NULL;
    if (!pac_block_learns(wo))
        return PAC_OK;
    if (pac_block_keeps_act(c)) {
        *h = s->wi;
        return PAC_OK;
    }
    PAC_TRY(scratch(c, c->N, c->F, h));
    if (c->cfg->gated)
        c->be->glu_fwd(*h, s->wi, s->wg, n, c->cfg->act);
    else
        c->be->act_fwd(*h, s->wi, n, c->cfg->act);
    if (c->cfg->inner_dropout)
        pac_drop(c->be, c->io->drop, c->io->stack, c->io->layer, PAC_SITE_INNER, *h, c->N, c->F);
    return PAC_OK;
}

static pac_err ff_sub_bwd(const block_ctx *c, float *dx, const float *dy, sub_bwd *b, const pac_block_weights *w,
                          const ff_saved *s)
{
    const float *n = NULL;
    float *dn, *h, *dh, *dg = NULL;
    int64_t size = c->N * c->F;
    PAC_TRY(enter_bwd(c, b, dy));
    PAC_TRY(scratch(c, c->N, c->D, &dn));
    PAC_TRY(scratch(c, c->N, c->F, &dh));
    if (c->cfg->gated)
        PAC_TRY(scratch(c, c->N, c->F, &dg));
    PAC_TRY(inner(c, &w->wo, s, &h));
    /* f = drop(h) wo^T, h = act(wi n), or act(wi n) * (wg n) */
    PAC_TRY(linear_bwd(c, dh, false, b->df, h, &w->wo, c->N, c->F, c->D));
    if (c->cfg->inner_dropout)
        pac_drop(c->be, c->io->drop, c->io->stack, c->io->layer, PAC_SITE_INNER, dh, c->N, c->F);
    if (pac_block_learns(&w->wi) || (c->cfg->gated && pac_block_learns(&w->wg)))
        PAC_TRY(input(c, b, &n));
    if (c->cfg->gated)
        c->be->glu_bwd(dh, dg, dh, s->wi, s->wg, size, c->cfg->act);
    else
        c->be->act_bwd(dh, dh, s->wi, size, c->cfg->act);
    pac_steady_begin(c->be, n);
    pac_err err = PAC_OK;
    if (c->cfg->gated)
        err = linear_bwd(c, dn, false, dg, n, &w->wg, c->N, c->D, c->F);
    if (err == PAC_OK)
        err = linear_bwd(c, dn, c->cfg->gated, dh, n, &w->wi, c->N, c->D, c->F);
    pac_steady_end(c->be, n);
    PAC_TRY(err);
    leave_bwd(c, b, dx, dn);
    return PAC_OK;
}

static pac_err backward(const block_ctx *c, float *dx, float *denc, const float *dy, const pac_block_weights *w,
                        const pac_block_saved *s)
{
    size_t mark = pac_arena_mark(c->io->work);
    const attn_saved *last = c->cfg->cross ? &s->cross : &s->self;
    sub_bwd self = {.w = pac_block_attn_sub(w, false), .saved = &s->self.sub, .x = s->x};
    sub_bwd cross = {
        .w = pac_block_attn_sub(w, true), .saved = &s->cross.sub, .before = &s->self.sub, .before_norm = &w->self.norm};
    sub_bwd ff = {.w = pac_block_ff_sub(w),
                  .saved = &s->ff.sub,
                  .before = &last->sub,
                  .before_norm = c->cfg->cross ? &w->cross.norm : &w->self.norm};
    PAC_TRY(ff_sub_bwd(c, dx, dy, &ff, w, &s->ff));
    pac_arena_release(c->io->work, mark);
    if (c->cfg->cross) {
        PAC_TRY(attn_sub_bwd(c, dx, denc, dx, &cross, &w->cross, true, &s->cross));
        pac_arena_release(c->io->work, mark);
    }
    return attn_sub_bwd(c, dx, NULL, dx, &self, &w->self, false, &s->self);
}

pac_err pac_block_bwd(float *dx, float *denc, const float *dy, const pac_block_cfg *cfg, const pac_block_weights *w,
                      const pac_block_io *io, const pac_block_saved *saved)
{
    block_ctx c = pac_block_context(cfg, io, NULL);
    size_t mark = pac_arena_mark(io->work);
    pac_err err = backward(&c, dx, denc, dy, w, saved);
    pac_arena_release(io->work, mark);
    return err;
}
