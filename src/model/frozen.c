/*
 * Sub-layers of a frozen block whose matrices are packed: at once, from input to residual (pac/packed.h), where no backward
 * follows, nothing learns inside, and nothing is dropped.
 */
#include "block.h"

static bool is_frozen(const block_ctx *c, const pac_bottleneck *adapter)
{
    return c->keep == NULL && c->io->kv == NULL && c->io->drop == NULL && adapter->width == 0;
}

static bool is_packed(const pac_linear *w)
{
    return w->packed != NULL && w->lora == NULL;
}

static pac_packed_edge edge_of(const block_ctx *c, const pac_norm *n)
{
    return (pac_packed_edge){
        .w = n->w, .b = n->b, .eps = c->cfg->eps, .layer = c->cfg->norm == PAC_NORM_LAYER, .post = c->cfg->post_norm};
}

bool pac_frozen_attend(const block_ctx *c, float *y, const float *x, const pac_block_weights *block)
{
    const pac_attn_weights *w = &block->self;
    if (!is_frozen(c, &block->self_adapter) || !is_packed(&w->q) || !is_packed(&w->k) || !is_packed(&w->v) || !is_packed(&w->o))
        return false;
    const pac_packed_attn all = {.q = w->q.packed,
                                 .k = w->k.packed,
                                 .v = w->v.packed,
                                 .o = w->o.packed,
                                 .bq = w->q.b,
                                 .bk = w->k.b,
                                 .bv = w->v.b,
                                 .bo = w->o.b};
    const pac_packed_edge edge = edge_of(c, &w->norm);
    const pac_attn p = pac_block_attn(c, false);
    return pac_packed_attend(c->be, y, x, &all, &edge, &p);
}

bool pac_frozen_feed(const block_ctx *c, float *y, const float *x, const pac_block_weights *w)
{
    const bool gated = c->cfg->gated;
    if (!is_frozen(c, &w->ff_adapter) || !is_packed(&w->wi) || !is_packed(&w->wo) || (gated && !is_packed(&w->wg)))
        return false;
    const pac_packed_ff all = {.wi = w->wi.packed,
                               .wg = gated ? w->wg.packed : NULL,
                               .wo = w->wo.packed,
                               .bi = w->wi.b,
                               .bg = gated ? w->wg.b : NULL,
                               .bo = w->wo.b,
                               .act = c->cfg->act};
    const pac_packed_edge edge = edge_of(c, &w->ff_norm);
    return pac_packed_feed(c->be, y, x, &all, &edge, c->N);
}
