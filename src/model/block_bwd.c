/*
 * One transformer block, backward: the sub-layers of block.c in reverse, each turning the gradient of its output into that of
 * its input. The normed inputs are made again from what was saved.
 */
#include "block.h"

static pac_err scratch(const block_ctx *c, int64_t rows, int64_t width, float **out)
{
    return pac_arena_floats(c->io->work, rows * width, out);
}

/*
 * Forward: y = x + f(norm(x)), or norm(x + f(x)). On the way in: *df = gradient of f's output, *n = f's input, *dn = a place
 * for the gradient of f's input.
 */
static pac_err enter_bwd(const block_ctx *c, const float **df, const float **n, float **dn, const float *dy, const pac_norm *w,
                         const sub_saved *s)
{
    float *t;
    PAC_TRY(scratch(c, c->N, c->D, dn));
    PAC_TRY(scratch(c, c->N, c->D, &t));
    if (c->cfg->post_norm) {
        pac_norm_bwd(c->be, c->cfg->norm, t, dy, s->normed, w, s->mean, s->rstd, c->N, c->D);
        *df = t;
        *n = s->x;
    } else {
        pac_norm_fwd(c->be, c->cfg->norm, t, NULL, NULL, s->x, w, c->N, c->D, c->cfg->eps);
        *df = dy;
        *n = t;
    }
    return PAC_OK;
}

/* dx = residual's part + what came through f. dx may alias df; dn is used up. */
static void leave_bwd(const block_ctx *c, float *dx, const float *df, float *dn, const pac_norm *w, const sub_saved *s)
{
    if (!c->cfg->post_norm)
        pac_norm_bwd(c->be, c->cfg->norm, dn, dn, s->normed, w, s->mean, s->rstd, c->N, c->D);
    c->be->add(dx, df, dn, c->N * c->D);
}

static pac_err attn_sub_bwd(const block_ctx *c, float *dx, float *denc, const float *dy, const pac_attn_weights *w, bool cross,
                            const attn_saved *s)
{
    const float *df, *n;
    float *dn, *dq, *dk, *dv, *d_o;
    int64_t keys = cross ? c->S : c->N;
    PAC_TRY(enter_bwd(c, &df, &n, &dn, dy, &w->norm, &s->sub));
    PAC_TRY(scratch(c, c->N, c->I, &d_o));
    PAC_TRY(scratch(c, c->N, c->I, &dq));
    PAC_TRY(scratch(c, keys, c->I, &dk));
    PAC_TRY(scratch(c, keys, c->I, &dv));
    /* f = o wo^T; o = attention(q, k, v) */
    pac_linear_bwd(c->be, d_o, false, df, s->o, &w->o, c->N, c->I, c->D);
    pac_attn p = pac_block_attn(c, cross);
    c->be->attn_bwd(dq, dk, dv, cross ? NULL : c->io->dbias_table, d_o, c->I, s->q, c->I, s->k, c->I, s->v, c->I, s->lse, &p);
    /* q = n wq^T; k, v = (n or the encoder output) w^T */
    const float *source = cross ? c->io->enc : n;
    float *dsource = cross ? denc : dn;
    pac_linear_bwd(c->be, dn, false, dq, n, &w->q, c->N, c->D, c->I);
    pac_linear_bwd(c->be, dsource, true, dk, source, &w->k, keys, c->D, c->I);
    pac_linear_bwd(c->be, dsource, true, dv, source, &w->v, keys, c->D, c->I);
    leave_bwd(c, dx, df, dn, &w->norm, &s->sub);
    return PAC_OK;
}

static pac_err ff_sub_bwd(const block_ctx *c, float *dx, const float *dy, const pac_block_weights *w, const ff_saved *s)
{
    const float *df, *n;
    float *dn, *h, *dh, *dg = NULL;
    int64_t inner = c->N * c->F;
    PAC_TRY(enter_bwd(c, &df, &n, &dn, dy, &w->ff_norm, &s->sub));
    PAC_TRY(scratch(c, c->N, c->F, &h));
    PAC_TRY(scratch(c, c->N, c->F, &dh));
    if (c->cfg->gated)
        PAC_TRY(scratch(c, c->N, c->F, &dg));
    /* h = act(wi n), or act(wi n) * (wg n); f = h wo^T */
    if (w->wo.dw != NULL) {
        if (c->cfg->gated)
            c->be->glu_fwd(h, s->wi, s->wg, inner, c->cfg->act);
        else
            c->be->act_fwd(h, s->wi, inner, c->cfg->act);
    }
    pac_linear_bwd(c->be, dh, false, df, h, &w->wo, c->N, c->F, c->D);
    if (c->cfg->gated) {
        c->be->glu_bwd(dh, dg, dh, s->wi, s->wg, inner, c->cfg->act);
        pac_linear_bwd(c->be, dn, false, dg, n, &w->wg, c->N, c->D, c->F);
    } else {
        c->be->act_bwd(dh, dh, s->wi, inner, c->cfg->act);
    }
    pac_linear_bwd(c->be, dn, c->cfg->gated, dh, n, &w->wi, c->N, c->D, c->F);
    leave_bwd(c, dx, df, dn, &w->ff_norm, &s->sub);
    return PAC_OK;
}

static pac_err backward(const block_ctx *c, float *dx, float *denc, const float *dy, const pac_block_weights *w,
                        const pac_block_saved *s)
{
    size_t mark = pac_arena_mark(c->io->work);
    PAC_TRY(ff_sub_bwd(c, dx, dy, w, &s->ff));
    pac_arena_release(c->io->work, mark);
    if (c->cfg->cross) {
        PAC_TRY(attn_sub_bwd(c, dx, denc, dx, &w->cross, true, &s->cross));
        pac_arena_release(c->io->work, mark);
    }
    return attn_sub_bwd(c, dx, NULL, dx, &w->self, false, &s->self);
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
