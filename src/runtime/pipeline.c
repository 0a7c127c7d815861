/*
 * Executing an operation list: each operation is a receive, a send, or the stage at work on one micro-batch's slot.
 *
 * The list is data from src/schedule (what is simulated is what is executed).
 */
#include "pipeline.h"

static int64_t fwd_tag(int64_t m)
{
    return 2 * m;
}

static int64_t bwd_tag(int64_t m)
{
    return 2 * m + 1;
}

pac_err pipeline_open(pipeline *p)
{
    const pac_layout *l = p->layout;
    p->stage->alone = l->P == 1;
    if (l->stage > 0)
        PAC_TRY(pac_link_new(l, l->stage - 1, &p->prev));
    if (l->stage + 1 < l->P)
        PAC_TRY(pac_link_new(l, l->stage + 1, &p->next));
    return PAC_OK;
}

void pipeline_close(pipeline *p)
{
    pac_link_free(&p->prev);
    pac_link_free(&p->next);
    pac_oplist_free(&p->ops);
}

pac_err pipeline_flush(pipeline *p)
{
    if (p->prev != NULL)
        PAC_TRY(pac_link_flush(p->prev, -1));
    return p->next != NULL ? pac_link_flush(p->next, -1) : PAC_OK;
}

static pac_err use_schedule(pipeline *p, int64_t M)
{
    if (p->microbatches == M)
        return PAC_OK;
    pac_oplist ops;
    PAC_TRY(pac_schedule_1f1b(p->layout->stage, p->layout->P, M, &ops));
    pac_oplist_free(&p->ops);
    p->ops = ops;
    p->microbatches = M;
    return stage_reserve(p->stage, stage_by_layers(p->stage, M) ? M : ops.in_flight);
}

/* A slot is taken again: what its last micro-batch sent must have left. */
static pac_err flush_slot(pipeline *p, const micro *x)
{
    if (!x->used)
        return PAC_OK;
    if (p->next != NULL)
        PAC_TRY(pac_link_flush(p->next, fwd_tag(x->m)));
    return p->prev != NULL ? pac_link_flush(p->prev, bwd_tag(x->m)) : PAC_OK;
}

static pac_err take_slot(pipeline *p, const minibatch *b, const pac_op *op)
{
    micro *x = &p->stage->slot[op->slot];
    pac_range r = pac_split_even(b->n, p->microbatches, op->m);
    PAC_TRY(flush_slot(p, x));
    PAC_TRY(micro_begin(p->stage, x, &p->job->train, b->sample + r.lo, r.hi - r.lo, p->layout));
    x->used = true;
    x->m = op->m;
    return PAC_OK;
}

static pac_err forward(pipeline *p, const minibatch *b, micro *x)
{
    PAC_TRY(stage_fwd(p->stage, x, b->scale));
    return p->after_forward != NULL ? p->after_forward(p->user, x) : PAC_OK;
}

static pac_err backward(pipeline *p, micro *x)
{
    PAC_TRY(stage_bwd(p->stage, x));
    return p->after_backward != NULL ? p->after_backward(p->user) : PAC_OK;
}

static pac_err run_op(pipeline *p, const minibatch *b, const pac_op *op)
{
    stage *s = p->stage;
    micro *x = op->slot >= 0 ? &s->slot[op->slot] : NULL;
    if (p->before != NULL)
        PAC_TRY(p->before(p->user, op));
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
        PAC_TRY(take_slot(p, b, op));
        return wire_recv(s, p->prev, s->first, x, &x->in, WIRE_BOTH, false, fwd_tag(op->m));
    case PAC_OP_FWD:
        if (p->prev == NULL)
            PAC_TRY(take_slot(p, b, op));
        return forward(p, b, x);
    case PAC_OP_SEND_FWD:
        return wire_send(s, p->next, s->last, x, &x->out, WIRE_BOTH, false, fwd_tag(op->m));
    case PAC_OP_RECV_BWD:
        return wire_recv(s, p->next, s->last, x, &x->dout, WIRE_BOTH, true, bwd_tag(op->m));
    case PAC_OP_BWD:
        return backward(p, x);
    case PAC_OP_SEND_BWD:
        return wire_send(s, p->prev, s->first, x, &x->din, WIRE_BOTH, true, bwd_tag(op->m));
    case PAC_OP_REDUCE:
    case PAC_OP_STEP:
        return PAC_OK; /* after the list, by who runs it */
    }
    return pac_fail(PAC_EINTERNAL, "unknown operation %d", (int)op->kind);
}

static pac_err tune_apart(pipeline *p, micro *x, float scale)
{
    pac_arena *own;
    PAC_TRY(stage_apart_begin(p->stage, x, &own));
    pac_err err = stage_tail(p->stage, x, scale);
    if (err == PAC_OK)
        err = backward(p, x);
    stage_apart_end(p->stage, x, own);
    return err;
}

/* Each layer of the backbone for all micro-batches, then one after the other's side network. */
static pac_err run_by_layers(pipeline *p, minibatch *b)
{
    stage *s = p->stage;
    for (int64_t m = 0; m < p->microbatches; m++) {
        const pac_op op = {.kind = PAC_OP_FWD, .m = m, .slot = m};
        if (p->before != NULL)
            PAC_TRY(p->before(p->user, &op));
        PAC_TRY(take_slot(p, b, &op));
    }
    PAC_TRY(stage_backbones(s, s->slot, p->microbatches));
    for (int64_t m = 0; m < p->microbatches; m++)
        PAC_TRY(tune_apart(p, &s->slot[m], b->scale));
    pac_model_rest(s->model);
    return stage_take_loss(s, &b->loss);
}

pac_err pipeline_run(pipeline *p, minibatch *b, int64_t microbatches)
{
    PAC_TRY(use_schedule(p, microbatches < b->n ? microbatches : b->n));
    if (stage_by_layers(p->stage, p->microbatches))
        return run_by_layers(p, b);
    for (int64_t i = 0; i < p->ops.count; i++)
        PAC_TRY(run_op(p, b, &p->ops.v[i]));
    return stage_take_loss(p->stage, &b->loss);
}
