/*
 * The hybrid phase: mini-batches through the pipeline of stages, an optimizer step behind each.
 *
 * Each block's rows are lent to the cache's writing thread at once, while the backbone goes on; a slot is not taken again
 * before its rows are out of use there. Rows of a device are copied to the host meanwhile, and lent when the backward pass is
 * queued.
 */
#include "fisher.h"
#include "train.h"
#include "pac/clock.h"

#include <math.h>

/* Rows for the cache on their way from a device. */
typedef struct row_copy {
    const micro *from;
    int64_t part, ticket;
    const float *place;
} row_copy;

struct hybrid {
    train *t;
    pipeline pipe;
    reducer reduce;
    row_copy *copies; /* [ncopies] */
    int64_t ncopies, room;
};

/* ---- the cache ---- */

/* A place of staging memory, which the writer may read until the slot is taken again: nobody waits before the backward pass is
 * queued. */
static pac_err start_copy(hybrid *h, const micro *x, int64_t part, const float *rows)
{
    const int64_t *off = h->t->map.shape.stack[part] == PAC_ENC ? x->batch.soff : x->batch.toff;
    const int64_t n = off[x->batch.B] * h->t->map.shape.D;
    void *p = h->copies;
    float *place;
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, &p, &h->room, h->ncopies + 1, sizeof *h->copies));
    h->copies = p;
    PAC_TRY(pac_arena_floats(x->staging, n, &place));
    row_copy c = {.from = x, .part = part, .place = place};
    PAC_TRY(h->t->job->be->space->download_start(place, rows, (size_t)n * sizeof(float), &c.ticket));
    h->copies[h->ncopies++] = c;
    return PAC_OK;
}

/* While the backbone goes on with its next block. */
static pac_err lend_rows(void *user, micro *x, int stack, int64_t i, const float *rows)
{
    hybrid *h = user;
    const cache_map *map = &h->t->map;
    int64_t part = i < 0 ? map->final : map->part[stack][i];
    if (part < 0 || x->batch.B == 0)
        return PAC_OK;
    if (h->t->job->be->space != NULL)
        return start_copy(h, x, part, rows);
    return pac_cache_lend(h->t->cache, part, x->batch.sample, x->batch.B, rows, &x->lent);
}

/* The device has the backward pass to do while the host waits here for the rows of the forward, the first ones first. */
static pac_err after_backward(void *user, micro *x)
{
    hybrid *h = user;
    int64_t kept = 0;
    for (int64_t i = 0; i < h->ncopies; i++) {
        const row_copy c = h->copies[i];
        if (c.from != x) {
            h->copies[kept++] = c;
            continue;
        }
        PAC_TRY(h->t->job->be->space->wait(c.ticket));
        PAC_TRY(pac_cache_lend(h->t->cache, c.part, x->batch.sample, x->batch.B, c.place, &x->lent));
    }
    h->ncopies = kept;
    return PAC_OK;
}

/* Rows of the slot's last micro-batch are about to be overwritten. */
static pac_err before_operation(void *user, const pac_op *op)
{
    hybrid *h = user;
    if (op->kind == PAC_OP_BWD && op->m + 1 == h->pipe.microbatches)
        buckets_last(&h->reduce.buckets);
    bool takes = op->kind == PAC_OP_RECV_FWD || op->kind == PAC_OP_FWD;
    int64_t lent = takes ? h->pipe.stage->slot[op->slot].lent : 0;
    return lent > 0 ? pac_cache_settle(h->t->cache, lent) : PAC_OK;
}

/* ---- making ---- */

/* Behind what is local, so that a stage that cannot be made is told of first. */
static pac_err watch_stage(hybrid *h)
{
    stage *s = h->pipe.stage;
    pac_params *params = pac_tuned_params(s->tuned);
    PAC_TRY(buckets_open(h->t->job, h->t->layout.group, params, s->first, s->last, &h->reduce.buckets));
    return pac_optimizer_new(&h->t->job->cfg.train.optimizer, h->t->job->be->space, params->total, &h->t->opt);
}

static pac_err hybrid_local(hybrid *h)
{
    train *t = h->t;
    const pac_stage_plan *mine = &t->plan->stage[t->layout.stage];
    h->pipe = (pipeline){.job = t->job,
                         .layout = &t->layout,
                         .ahead = t->job->cfg.train.overlap,
                         .before = before_operation,
                         .after_backward = after_backward,
                         .user = h};
    PAC_TRY(stage_new(t->job, mine->first, mine->last, STAGE_LEARNS, &h->pipe.stage));
    return pipeline_open(&h->pipe);
}

/* The importance of channels over whole stacks (zeros where nothing is pruned): each block is counted by the first member of
 * its stage. */
static pac_err sum_importance(const hybrid *h, const pac_model *score, double *importance)
{
    const stage *s = h->pipe.stage;
    pac_err err = PAC_OK;
    if (h->t->layout.member == 0)
        err = pac_tuned_importance(s->tuned, score, importance);
    PAC_TRY(pac_agree(pac_world(), err));
    PAC_TRY(pac_sum_f64(pac_world(), importance, 2 * s->D));
    for (int64_t i = 0; i < 2 * s->D; i++) /* the same on every rank */
        PAC_CHECK(isfinite(importance[i]), PAC_ENUMERIC,
                  "technique.init: the importance of the backbone's channels is not finite");
    return PAC_OK;
}

/* Initial values: drawn, or pruned by the weights' magnitudes or by the squared gradients of a pass of full tuning. */
static pac_err init_tuned(const hybrid *h)
{
    const stage *s = h->pipe.stage;
    const pac_job *job = h->t->job;
    fisher *f = NULL;
    void *importance = NULL;
    pac_err err;
    if (pac_tuned_side(s->tuned) != NULL && job->tune.init == PAC_INIT_FISHER)
        PAC_GO(fisher_new(job, &h->t->layout, &f));
    const pac_model *score = f != NULL ? fisher_scores(f) : s->model;
    PAC_GO(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, 2 * s->D, sizeof(double), &importance)));
    PAC_GO(sum_importance(h, score, importance));
    PAC_GO(pac_agree(pac_world(), pac_tuned_init(s->tuned, s->model, importance)));
    if (f != NULL)
        err = pac_agree(pac_world(), pac_tuned_prune(s->tuned, s->model, score, importance));
out:
    pac_mem_free(importance);
    if (may_free(err))
        fisher_free(&f);
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
    PAC_GO(reducer_for_stage(t->job, &t->layout, &h->reduce));
    PAC_GO(pac_agree(pac_world(), watch_stage(h)));
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
    pipeline_close(&h->pipe);
    reducer_free(&h->reduce);
    stage_free(&h->pipe.stage);
    pac_mem_free(h->copies);
    pac_mem_free(h);
    pac_mem_trim(); /* the backbone is gone: let the resident size say so */
    *hp = NULL;
}

stage *hybrid_stage(hybrid *h)
{
    return h->pipe.stage;
}

void hybrid_rest(hybrid *h)
{
    stage_drop_slots(h->pipe.stage);
}

/* ---- training ---- */

static pac_err run_epoch(hybrid *h, int64_t epoch, epoch_result *out)
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
        stage_set_step(h->pipe.stage, t->step);
        PAC_TRY(pipeline_run(&h->pipe, &b, t->plan->microbatches));
        double loss;
        PAC_TRY(train_update(t, &h->reduce, pac_tuned_params(h->pipe.stage->tuned), b.loss, tokens, "hybrid", epoch, started,
                             &loss));
        out->loss += loss * (double)b.n;
        out->samples += b.n;
        out->tokens += tokens;
    }
    PAC_TRY(pipeline_flush(&h->pipe));
    out->loss /= out->samples > 0 ? (double)out->samples : 1;
    out->seconds = pac_now() - start;
    return PAC_OK;
}

/* The backbone's rows go to the cache while an epoch trains, and in no evaluation. */
pac_err hybrid_epoch(hybrid *h, int64_t epoch, epoch_result *out)
{
    stage *s = h->pipe.stage;
    bool lends = h->t->cache != NULL;
    s->sink = lends ? lend_rows : NULL;
    s->sink_user = h;
    s->watch = buckets_watch(&h->reduce.buckets);
    pac_err err = run_epoch(h, epoch, out);
    s->sink = NULL;
    s->watch = NULL;
    PAC_TRY(err);
    return lends ? pac_cache_settle(h->t->cache, INT64_MAX) : PAC_OK;
}
