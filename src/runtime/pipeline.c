/*
 * Executing an operation list: each operation is a receive, a send, or the stage at work on one micro-batch's slot.
 *
 * The list is data from src/schedule (what is simulated is what is executed).
 */
#include "pipeline.h"

pac_err pipeline_open(pipeline *p)
{
    const pac_layout *l = p->layout;
    p->stage->alone = l->P == 1;
    if (l->stage > 0)
        PAC_TRY(pac_link_new(l, l->stage - 1, &p->prev));
    if (l->stage + 1 < l->P)
        PAC_TRY(pac_link_new(l, l->stage + 1, &p->next));
    p->boxes = (boxes){.s = p->stage, .prev = p->prev};
    return PAC_OK;
}

void pipeline_close(pipeline *p)
{
    pac_link_free(&p->prev);
    pac_link_free(&p->next);
    boxes_free(&p->boxes);
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
    PAC_TRY(pipeline_flush(p));
    PAC_TRY(boxes_reserve(&p->boxes, ops.in_flight));
    return stage_reserve(p->stage, stage_by_layers(p->stage, M) ? M : ops.in_flight);
}

/* ---- what leaves ---- */

static pac_err depart(pipeline *p)
{
    return wire_depart(p->stage, &p->leaving);
}

/* Where nothing is asked for ahead, at once. */
static pac_err to_leave(pipeline *p, const micro *x, const departure *d)
{
    p->leaving = *d;
    p->from = x;
    return p->ahead && d->copied ? PAC_OK : depart(p);
}

/* Before waiting for rows of a neighbour, which may itself be waiting for these. */
static pac_err depart_first(pipeline *p, pac_link *k, int64_t tag)
{
    bool here = true;
    if (p->leaving.link != NULL && k != NULL)
        PAC_TRY(pac_link_arrived(k, tag, &here));
    return here ? PAC_OK : depart(p);
}

/* ---- slots ---- */

/* A slot is taken again: what its last micro-batch sent must have left (upwards it has: its gradient came back). */
static pac_err flush_slot(pipeline *p, const micro *x)
{
    if (!x->used)
        return PAC_OK;
    if (p->from == x)
        PAC_TRY(depart(p));
    if (p->next != NULL)
        PAC_TRY(pac_link_flush(p->next, boxes_fwd_tag(x->m)));
    return p->ahead ? PAC_OK : boxes_flush(&p->boxes);
}

static parcel parcel_of(const pipeline *p, const minibatch *b, int64_t m)
{
    pac_range r = pac_split_even(b->n, p->microbatches, m);
    return (parcel){.layout = p->layout, .sample = b->sample + r.lo, .m = m, .n = r.hi - r.lo};
}

static pac_err take_slot(pipeline *p, const minibatch *b, const pac_op *op)
{
    micro *x = &p->stage->slot[op->slot];
    parcel own = parcel_of(p, b, op->m);
    PAC_TRY(flush_slot(p, x));
    PAC_TRY(micro_begin(p->stage, x, &p->job->train, own.sample, own.n, p->layout));
    x->used = true;
    x->m = op->m;
    return PAC_OK;
}

/* The micro-batch that is needed now, and the next one. */
static pac_err expect(pipeline *p, const minibatch *b, int64_t m)
{
    int64_t end = p->ahead && m + 1 < p->microbatches ? m + 2 : m + 1;
    for (int64_t i = p->boxes.expected; i < end; i++) {
        parcel next = parcel_of(p, b, i);
        PAC_TRY(boxes_expect(&p->boxes, &next));
    }
    return PAC_OK;
}

static pac_err receive_activations(pipeline *p, const minibatch *b, const pac_op *op)
{
    PAC_TRY(take_slot(p, b, op));
    PAC_TRY(expect(p, b, op->m));
    PAC_TRY(depart_first(p, p->prev, boxes_fwd_tag(op->m)));
    return boxes_arrive(&p->boxes, &p->stage->slot[op->slot], op->m);
}

/* The gradient of what leaves will come back into the slot, whenever it is ready. */
static pac_err send_activations(pipeline *p, micro *x, int64_t m)
{
    stage *s = p->stage;
    departure d;
    PAC_TRY(depart(p));
    PAC_TRY(wire_start(s, p->next, s->last, x, &x->out, WIRE_BOTH, false, boxes_fwd_tag(m), &d));
    PAC_TRY(to_leave(p, x, &d));
    return p->ahead ? wire_post(s, p->next, s->last, x, &x->dout, WIRE_BOTH, true, boxes_bwd_tag(m)) : PAC_OK;
}

static pac_err receive_gradients(pipeline *p, micro *x, int64_t m)
{
    stage *s = p->stage;
    if (!p->ahead)
        PAC_TRY(wire_post(s, p->next, s->last, x, &x->dout, WIRE_BOTH, true, boxes_bwd_tag(m)));
    PAC_TRY(depart_first(p, p->next, boxes_bwd_tag(m)));
    return wire_take(s, p->next, s->last, x, &x->dout, WIRE_BOTH, true, boxes_bwd_tag(m));
}

static pac_err send_gradients(pipeline *p, micro *x, int64_t m)
{
    departure d = {0};
    PAC_TRY(depart(p));
    PAC_TRY(boxes_leave(&p->boxes, x, m, &d));
    return to_leave(p, x, &d);
}

/* ---- operations ---- */

static pac_err forward(pipeline *p, const minibatch *b, micro *x)
{
    pac_comm_away(p->ahead);
    pac_err err = stage_fwd(p->stage, x, b->scale);
    pac_comm_away(false);
    PAC_TRY(err);
    return depart(p);
}

static pac_err backward(pipeline *p, micro *x)
{
    pac_comm_away(p->ahead);
    pac_err err = stage_bwd(p->stage, x);
    pac_comm_away(false);
    PAC_TRY(err);
    PAC_TRY(depart(p));
    return p->after_backward != NULL ? p->after_backward(p->user, x) : PAC_OK;
}

static pac_err run_op(pipeline *p, const minibatch *b, const pac_op *op)
{
    micro *x = op->slot >= 0 ? &p->stage->slot[op->slot] : NULL;
    if (p->before != NULL)
        PAC_TRY(p->before(p->user, op));
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
        return receive_activations(p, b, op);
    case PAC_OP_FWD:
        if (p->prev == NULL)
            PAC_TRY(take_slot(p, b, op));
        return forward(p, b, x);
    case PAC_OP_SEND_FWD:
        return send_activations(p, x, op->m);
    case PAC_OP_RECV_BWD:
        return receive_gradients(p, x, op->m);
    case PAC_OP_BWD:
        return backward(p, x);
    case PAC_OP_SEND_BWD:
        return send_gradients(p, x, op->m);
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
    for (int64_t m = 0; m < p->microbatches; m++) {
        const pac_op op = {.kind = PAC_OP_BWD, .m = m, .slot = m};
        if (p->before != NULL)
            PAC_TRY(p->before(p->user, &op));
        PAC_TRY(tune_apart(p, &s->slot[m], b->scale));
    }
    pac_model_rest(s->model);
    return stage_take_loss(s, &b->loss);
}

pac_err pipeline_run(pipeline *p, minibatch *b, int64_t microbatches)
{
    PAC_TRY(use_schedule(p, microbatches < b->n ? microbatches : b->n));
    if (stage_by_layers(p->stage, p->microbatches))
        return run_by_layers(p, b);
    p->boxes.expected = 0;
    for (int64_t i = 0; i < p->ops.count; i++)
        PAC_TRY(run_op(p, b, &p->ops.v[i]));
    PAC_TRY(depart(p));
    return stage_take_loss(p->stage, &b->loss);
}
