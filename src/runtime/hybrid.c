/*
 * The hybrid phase: each rank executes its stage's operation list, one mini-batch after the other.
 *
 * The list is data from src/schedule (what is simulated is what is executed); this file maps each operation to a link or the
 * stage. The backbone rows that a forward leaves are appended to the cache at once, while they are still in the processor's
 * reach.
 */
#include "train.h"
#include "pac/clock.h"

struct hybrid {
    train *t;
    stage *stage;
    pac_link *prev, *next; /* NULL at the ends */
    reducer reduce;
    pac_oplist ops;       /* for `microbatches` micro-batches */
    int64_t microbatches; /* of the list at hand: a small last mini-batch has fewer */
};

static int64_t fwd_tag(int64_t m)
{
    return 2 * m;
}

static int64_t bwd_tag(int64_t m)
{
    return 2 * m + 1;
}

static pac_err open_links(hybrid *h)
{
    const pac_layout *l = &h->t->layout;
    if (l->stage > 0)
        PAC_TRY(pac_link_new(l, l->stage - 1, &h->prev));
    if (l->stage + 1 < l->P)
        PAC_TRY(pac_link_new(l, l->stage + 1, &h->next));
    return PAC_OK;
}

static pac_err hybrid_local(hybrid *h)
{
    const train *t = h->t;
    const pac_stage_plan *mine = &t->plan->stage[t->layout.stage];
    PAC_TRY(stage_new(t->job, mine->first, mine->last, STAGE_LEARNS, &h->stage));
    return open_links(h);
}

/*
 * Initial values. Pruning by magnitude needs the importance of channels over whole stacks: each block is counted by
 * the first member of its stage.
 */
static pac_err init_tuned(hybrid *h)
{
    stage *s = h->stage;
    double *importance = NULL;
    void *p;
    pac_err err = pac_mem_array(PAC_MEM_WORK, 2 * s->D, sizeof(double), &p);
    if (err == PAC_OK) {
        importance = p;
        if (h->t->layout.member == 0)
            err = pac_tuned_importance(s->tuned, s->model, importance);
    }
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(pac_sum_f64(pac_world(), importance, 2 * s->D));
    PAC_GO(pac_agree(pac_world(), pac_tuned_init(s->tuned, s->model, importance)));
out:
    pac_mem_free(importance);
    return err;
}

pac_err hybrid_new(train *t, hybrid **out)
{
    void *p;
    pac_err err = PAC_OK;
    PAC_TRY(pac_agree(pac_world(), pac_mem_alloc(PAC_MEM_OTHER, sizeof(hybrid), &p)));
    hybrid *h = p;
    h->t = t;
    PAC_GO(pac_agree(pac_world(), hybrid_local(h)));
    PAC_GO(init_tuned(h));
    pac_params *params = pac_tuned_params(h->stage->tuned);
    PAC_GO(reducer_for_stage(t->job, &t->layout, &h->reduce));
    PAC_GO(pac_agree(pac_world(), pac_optimizer_new(&t->job->cfg.train.optimizer, params->total, &t->opt)));
    *out = h;
    return PAC_OK;
out:
    hybrid_free(&h);
    return err;
}

void hybrid_free(hybrid **hp)
{
    hybrid *h = *hp;
    if (h == NULL)
        return;
    pac_link_free(&h->prev);
    pac_link_free(&h->next);
    reducer_free(&h->reduce);
    pac_oplist_free(&h->ops);
    stage_free(&h->stage);
    pac_mem_free(h);
    pac_mem_trim(); /* the backbone is gone: let the resident size say so */
    *hp = NULL;
}

stage *hybrid_stage(hybrid *h)
{
    return h->stage;
}

/* ---- one mini-batch ---- */

typedef struct minibatch {
    const int64_t *sample;
    int64_t n;
    float scale;
    double loss;
} minibatch;

static pac_err use_schedule(hybrid *h, int64_t M)
{
    if (h->microbatches == M)
        return PAC_OK;
    pac_oplist ops;
    PAC_TRY(pac_schedule_1f1b(h->t->layout.stage, h->t->layout.P, M, &ops));
    pac_oplist_free(&h->ops);
    h->ops = ops;
    h->microbatches = M;
    return stage_reserve(h->stage, ops.in_flight);
}

/* A slot is taken again: what its last micro-batch sent must have left. */
static pac_err flush_slot(hybrid *h, const micro *x)
{
    if (!x->used)
        return PAC_OK;
    if (h->next != NULL)
        PAC_TRY(pac_link_flush(h->next, fwd_tag(x->m)));
    return h->prev != NULL ? pac_link_flush(h->prev, bwd_tag(x->m)) : PAC_OK;
}

static pac_err take_slot(hybrid *h, const minibatch *b, const pac_op *op)
{
    micro *x = &h->stage->slot[op->slot];
    pac_range r = pac_split_even(b->n, h->microbatches, op->m);
    PAC_TRY(flush_slot(h, x));
    PAC_TRY(micro_begin(h->stage, x, &h->t->job->train, b->sample + r.lo, r.hi - r.lo, &h->t->layout));
    x->used = true;
    x->m = op->m;
    return PAC_OK;
}

static pac_err append_stack(hybrid *h, const micro *x, pac_stack stack)
{
    const train *t = h->t;
    for (int64_t i = 0; i <= t->job->desc.layers[stack]; i++)
        if (x->acts.b[stack][i] != NULL)
            PAC_TRY(pac_cache_append(t->cache, t->map.part[stack][i], x->batch.sample, x->batch.B, x->acts.b[stack][i]));
    return PAC_OK;
}

static pac_err write_cache(hybrid *h, const micro *x)
{
    const train *t = h->t;
    if (t->cache == NULL || x->batch.B == 0)
        return PAC_OK;
    PAC_TRY(append_stack(h, x, PAC_ENC));
    PAC_TRY(append_stack(h, x, PAC_DEC));
    if (x->acts.final != NULL && t->map.final >= 0)
        return pac_cache_append(t->cache, t->map.final, x->batch.sample, x->batch.B, x->acts.final);
    return PAC_OK;
}

static pac_err forward(hybrid *h, minibatch *b, micro *x)
{
    PAC_TRY(stage_fwd(h->stage, x, b->scale));
    b->loss += x->loss;
    double start = pac_now();
    PAC_TRY(write_cache(h, x));
    h->t->seconds_write += pac_now() - start;
    return PAC_OK;
}

static pac_err run_op(hybrid *h, minibatch *b, const pac_op *op)
{
    stage *s = h->stage;
    micro *x = op->slot >= 0 ? &s->slot[op->slot] : NULL;
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
        PAC_TRY(take_slot(h, b, op));
        return wire_recv(s, h->prev, s->first, x, &x->in, WIRE_BOTH, false, fwd_tag(op->m));
    case PAC_OP_FWD:
        if (h->prev == NULL)
            PAC_TRY(take_slot(h, b, op));
        return forward(h, b, x);
    case PAC_OP_SEND_FWD:
        return wire_send(s, h->next, s->last, x, &x->out, WIRE_BOTH, false, fwd_tag(op->m));
    case PAC_OP_RECV_BWD:
        return wire_recv(s, h->next, s->last, x, &x->dout, WIRE_BOTH, true, bwd_tag(op->m));
    case PAC_OP_BWD:
        return stage_bwd(s, x);
    case PAC_OP_SEND_BWD:
        return wire_send(s, h->prev, s->first, x, &x->din, WIRE_BOTH, true, bwd_tag(op->m));
    case PAC_OP_REDUCE:
    case PAC_OP_STEP:
        return PAC_OK; /* train_update() after the list */
    }
    return pac_fail(PAC_EINTERNAL, "unknown operation %d", (int)op->kind);
}

static pac_err hybrid_step(hybrid *h, minibatch *b)
{
    int64_t M = h->t->plan->microbatches < b->n ? h->t->plan->microbatches : b->n;
    PAC_TRY(use_schedule(h, M));
    for (int64_t i = 0; i < h->ops.count; i++)
        PAC_TRY(run_op(h, b, &h->ops.v[i]));
    return PAC_OK;
}

pac_err hybrid_epoch(hybrid *h, int64_t epoch, epoch_result *out)
{
    train *t = h->t;
    const pac_job *job = t->job;
    double start = t->phase_started = pac_now();
    *out = (epoch_result){.phase = "hybrid"};
    for (int64_t i = 0; i < train_batches(t) && !train_done(t); i++) {
        double started = pac_now();
        pac_range r = train_batch(t, i);
        minibatch b = {.sample = t->order + r.lo, .n = r.hi - r.lo};
        int64_t counted = loss_count(job, &job->train, b.sample, b.n), tokens = train_tokens(t, r);
        b.scale = counted > 0 ? 1.0f / (float)counted : 0;
        pac_set_phase("hybrid epoch", t->step);
        stage_set_step(h->stage, t->step);
        PAC_TRY(hybrid_step(h, &b));
        double loss;
        PAC_TRY(train_update(t, &h->reduce, pac_tuned_params(h->stage->tuned), b.loss, tokens, "hybrid", epoch, started, &loss));
        out->loss += loss * (double)b.n;
        out->samples += b.n;
        out->tokens += tokens;
    }
    if (h->prev != NULL)
        PAC_TRY(pac_link_flush(h->prev, -1));
    if (h->next != NULL)
        PAC_TRY(pac_link_flush(h->next, -1));
    out->loss /= out->samples > 0 ? (double)out->samples : 1;
    out->seconds = pac_now() - start;
    return PAC_OK;
}
