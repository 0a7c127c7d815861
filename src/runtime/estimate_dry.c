/*
 * The hybrid phase of one device, dry: its stage is loaded without values and its operation list executed, with the messages of
 * its neighbours replaced by the room that they take.
 *
 * Memory: every mini-batch of the first few, and of the rest those with a micro-batch longer than any so far, so that arenas
 * reach the size that they reach in the real run. Operations: the first few once more, the head apart.
 */
#include "estimate.h"
#include "pac/rng.h"

enum { COUNTED = 16 }; /* mini-batches that operations are averaged over */

typedef struct device {
    dry *d;
    stage *s;
    pac_optimizer *opt;
    boxes boxes;
    pac_oplist ops;
    int64_t microbatches; /* of the list at hand */
    pac_flop *flop;       /* NULL: memory is measured, not operations */
    void *writer;         /* stands for the buffers of the cache's writer */
    int64_t writer_bytes;
} device;

/* ---- what a run holds beside its stage ---- */

pac_err dry_new(pac_job *job, dry *out)
{
    void *p;
    *out = (dry){.t = {.job = job}, .records = pac_mem_current(PAC_MEM_OTHER) + pac_mem_current(PAC_MEM_COMM)};
    PAC_TRY(cache_map_new(job, &out->t.map));
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, job->train.rows, sizeof(int64_t), &p));
    out->t.order = p;
    return PAC_OK;
}

void dry_free(dry *d)
{
    cache_map_free(&d->t.map);
    pac_mem_free(d->t.order);
    pac_mem_free(d->best);
    pac_backend_count_device_release();
    *d = (dry){0};
}

pac_footprint dry_peaks(void)
{
    pac_footprint f = {.total = pac_mem_peak_total(), .device = pac_mem_peak_space()};
    for (int tag = 0; tag < PAC_MEM_NTAGS; tag++)
        f.tag[tag] = pac_mem_peak((pac_mem_tag)tag);
    return f;
}

/* ---- one micro-batch ---- */

/* Rows of a device that go to the cache pass through places of the host's. */
static pac_err stage_rows(const device *v, const micro *x, int64_t rows)
{
    float *place;
    return x->staging != NULL ? pac_arena_floats(x->staging, rows * v->s->D, &place) : PAC_OK;
}

/* The cache's writer keeps a micro-batch's rows until the next one. */
static pac_err write_cache(device *v, const micro *x)
{
    const cache_map *map = &v->d->t.map;
    int64_t rows[2] = {x->batch.soff[x->batch.B], x->batch.toff[x->batch.B]}, all = 0;
    if (!v->d->caches || x->batch.B == 0)
        return PAC_OK;
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++)
        for (int64_t i = 0; i <= v->d->t.job->desc.layers[stack]; i++)
            if (x->acts.b[stack][i] != NULL) {
                PAC_TRY(stage_rows(v, x, rows[stack]));
                all += rows[stack];
            }
    if (x->acts.final != NULL && map->final >= 0) {
        PAC_TRY(stage_rows(v, x, rows[pac_last_stack(&v->d->t.job->desc)]));
        all += head_rows(v->d->t.job, &x->batch);
    }
    int64_t sample = all / x->batch.B * pac_cache_row_bytes(&map->shape);
    int64_t bytes = pac_cache_write_buffers(x->batch.B, sample), part = pac_cache_write_record(x->batch.B, sample);
    v->d->record = part > v->d->record ? part : v->d->record;
    if (bytes <= v->writer_bytes)
        return PAC_OK;
    pac_mem_free(v->writer);
    v->writer = NULL;
    v->writer_bytes = bytes;
    return pac_mem_alloc(PAC_MEM_CACHE, (size_t)bytes, &v->writer);
}

static bool is_top(const stage *s)
{
    return s->last == pac_depth(&s->job->desc);
}

/* The backbone alone has no classes. */
static bool has_head(const device *v)
{
    return is_top(v->s) && (!v->d->inference || v->s->job->tune.head == PAC_HEAD_LM);
}

static pac_err infer(const device *v, micro *x)
{
    stage *s = v->s;
    PAC_TRY(stage_backbone(s, x, PAC_ENC));
    PAC_TRY(stage_backbone(s, x, PAC_DEC));
    x->h = (float *)(uintptr_t)x->acts.final; /* only read */
    return has_head(v) ? stage_loss(s, x, s->model, 1, false) : PAC_OK;
}

/* Operations of the head, forward and backward, of a micro-batch whose forward is done. */
static pac_err count_head(device *v, micro *x, pac_flop *head)
{
    *head = (pac_flop){0};
    if (!has_head(v))
        return PAC_OK;
    pac_backend_counted(true);
    PAC_TRY(stage_loss(v->s, x, v->s->model, 1, false));
    head->head_forward = pac_backend_counted(true);
    if (v->d->inference)
        return PAC_OK;
    PAC_TRY(stage_loss(v->s, x, v->s->model, 1, true));
    head->head_backward = pac_backend_counted(true) - head->head_forward;
    return PAC_OK;
}

/* stage_fwd() holds the head's backward too: it is moved to where it belongs. tail: its backbone is done. */
static pac_err forward(device *v, micro *x, bool tail)
{
    pac_backend_counted(true);
    PAC_TRY(v->d->inference ? infer(v, x) : tail ? stage_tail(v->s, x, 1) : stage_fwd(v->s, x, 1));
    PAC_TRY(write_cache(v, x));
    if (v->flop == NULL)
        return PAC_OK;
    pac_flop head;
    double all = pac_backend_counted(true);
    PAC_TRY(count_head(v, x, &head));
    v->flop->forward += all - head.head_backward;
    v->flop->backward += head.head_backward;
    v->flop->head_forward += head.head_forward;
    v->flop->head_backward += head.head_backward;
    return PAC_OK;
}

static pac_err backward(device *v, micro *x)
{
    if (v->d->inference)
        return PAC_OK;
    pac_backend_counted(true);
    PAC_TRY(stage_bwd(v->s, x));
    if (v->flop != NULL)
        v->flop->backward += pac_backend_counted(true);
    return PAC_OK;
}

/* ---- one mini-batch ---- */

static parcel parcel_of(const device *v, pac_range r, int64_t m)
{
    const train *t = &v->d->t;
    pac_range part = pac_split_even(r.hi - r.lo, v->microbatches, m);
    return (parcel){.layout = &t->layout, .sample = t->order + r.lo + part.lo, .m = m, .n = part.hi - part.lo};
}

static pac_err take_slot(device *v, pac_range r, const pac_op *op)
{
    parcel own = parcel_of(v, r, op->m);
    return micro_begin(v->s, &v->s->slot[op->slot], &v->d->t.job->train, own.sample, own.n, own.layout);
}

/* Boxes of one more than a slot's micro-batches fill in turn, whether they are asked for early or not. */
static pac_err receive(device *v, pac_range r, const pac_op *op)
{
    parcel own = parcel_of(v, r, op->m);
    PAC_TRY(take_slot(v, r, op));
    PAC_TRY(boxes_expect(&v->boxes, &own));
    return boxes_arrive(&v->boxes, &v->s->slot[op->slot], op->m);
}

static pac_err run_op(device *v, pac_range r, const pac_op *op)
{
    stage *s = v->s;
    double loss;
    departure none;
    micro *x = op->slot >= 0 ? &s->slot[op->slot] : NULL;
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
        return receive(v, r, op);
    case PAC_OP_FWD:
        if (s->first == 0)
            PAC_TRY(take_slot(v, r, op));
        return forward(v, x, false);
    case PAC_OP_RECV_BWD:
        return wire_room(s, s->last, x, &x->dout, WIRE_BOTH, true);
    case PAC_OP_BWD:
        return backward(v, x);
    case PAC_OP_SEND_BWD:
        return v->d->inference ? PAC_OK : boxes_leave(&v->boxes, x, op->m, &none);
    case PAC_OP_STEP:
        if (v->opt != NULL)
            pac_optimizer_step(v->opt, s->job->be, pac_tuned_params(s->tuned), 0, 1);
        return stage_take_loss(s, &loss);
    default: /* messages that leave, sums over ranks */
        return PAC_OK;
    }
}

/* As pipeline.c does where stage_by_layers(). */
static pac_err run_by_layers(device *v, pac_range r)
{
    stage *s = v->s;
    pac_arena *own;
    PAC_TRY(stage_reserve(s, v->microbatches));
    for (int64_t m = 0; m < v->microbatches; m++)
        PAC_TRY(take_slot(v, r, &(pac_op){.kind = PAC_OP_FWD, .m = m, .slot = m}));
    pac_backend_counted(true);
    PAC_TRY(stage_backbones(s, s->slot, v->microbatches));
    if (v->flop != NULL)
        v->flop->forward += pac_backend_counted(true);
    for (int64_t m = 0; m < v->microbatches; m++) {
        PAC_TRY(stage_apart_begin(s, &s->slot[m], &own));
        PAC_TRY(forward(v, &s->slot[m], true));
        PAC_TRY(backward(v, &s->slot[m]));
        stage_apart_end(s, &s->slot[m], own);
    }
    pac_model_rest(s->model);
    if (v->opt != NULL)
        pac_optimizer_step(v->opt, s->job->be, pac_tuned_params(s->tuned), 0, 1);
    return PAC_OK;
}

static pac_err run_step(device *v, pac_range r)
{
    const train *t = &v->d->t;
    int64_t n = r.hi - r.lo, M = t->plan->microbatches < n ? t->plan->microbatches : n;
    if (v->microbatches != M) {
        pac_oplist_free(&v->ops);
        PAC_TRY(pac_schedule_1f1b(t->layout.stage, t->layout.P, M, &v->ops));
        v->microbatches = M;
        PAC_TRY(boxes_reserve(&v->boxes, v->ops.in_flight));
        PAC_TRY(stage_reserve(v->s, v->ops.in_flight));
    }
    if (!v->d->inference && stage_by_layers(v->s, M))
        return run_by_layers(v, r);
    for (int64_t i = 0; i < v->ops.count; i++)
        PAC_TRY(run_op(v, r, &v->ops.v[i]));
    return PAC_OK;
}

/* Tokens of the longest micro-batch. */
static int64_t weight_of(const train *t, pac_range r)
{
    int64_t most = 0, n = r.hi - r.lo, M = t->plan->microbatches < n ? t->plan->microbatches : n;
    for (int64_t m = 0; m < M; m++) {
        pac_range part = pac_split_even(n, M, m);
        int64_t tokens = train_tokens(t, (pac_range){r.lo + part.lo, r.lo + part.hi});
        most = tokens > most ? tokens : most;
    }
    return most;
}

static pac_err run_epochs(device *v)
{
    dry *d = v->d;
    const pac_config *c = &d->t.job->cfg;
    int64_t steps = 0, heaviest = 0;
    for (int64_t epoch = 0; epoch < (d->caches ? 1 : c->train.epochs); epoch++) {
        pac_rng_permutation(c->train.seed, (uint64_t)epoch, d->t.job->train.rows, d->t.order);
        for (int64_t i = 0; i < train_batches(&d->t); i++) {
            pac_range r = train_batch(&d->t, i);
            int64_t weight = weight_of(&d->t, r);
            if (steps >= d->most && weight <= heaviest)
                continue;
            heaviest = weight > heaviest ? weight : heaviest;
            PAC_TRY(run_step(v, r));
            steps++;
        }
    }
    return PAC_OK;
}

static pac_err count_steps(device *v, pac_flop *out)
{
    train *t = &v->d->t;
    pac_flop sum = {0};
    pac_err err = PAC_OK;
    int64_t n = train_batches(t) < COUNTED ? train_batches(t) : COUNTED;
    v->flop = &sum;
    pac_rng_permutation(t->job->cfg.train.seed, 0, t->job->train.rows, t->order);
    pac_cross_force(PAC_CROSS_PLAIN); /* what is published counts every key and value */
    for (int64_t i = 0; i < n && err == PAC_OK; i++)
        err = run_step(v, train_batch(t, i));
    pac_cross_force(PAC_CROSS_CHEAPER);
    PAC_TRY(err);
    double each = 1.0 / (double)n;
    *out = (pac_flop){sum.forward * each, sum.backward * each, sum.head_forward * each, sum.head_backward * each};
    return PAC_OK;
}

/* ---- the phase ---- */

static pac_err keep_best(device *v)
{
    void *p;
    const pac_config *c = &v->d->t.job->cfg;
    if (!c->train.keep_best || c->train.epochs < 2 || v->s->tuned == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_TUNED, pac_tuned_params(v->s->tuned)->total, sizeof(float), &p));
    v->d->best = p;
    return PAC_OK;
}

static pac_err load(device *v)
{
    const train *t = &v->d->t;
    const pac_stage_plan *mine = &t->plan->stage[t->layout.stage];
    PAC_TRY(stage_new(t->job, mine->first, mine->last, v->d->inference ? STAGE_BACKBONE : STAGE_LEARNS, &v->s));
    v->boxes = (boxes){.s = v->s};
    if (v->d->inference)
        return PAC_OK;
    v->s->alone = t->layout.P == 1;
    PAC_TRY(pac_optimizer_new(&t->job->cfg.train.optimizer, t->job->be->space, pac_tuned_params(v->s->tuned)->total, &v->opt));
    return keep_best(v);
}

/* The whole network and its optimizer come while the stage is still there. */
static pac_err hand_over(device *v)
{
    const pac_job *job = v->d->t.job;
    pac_tuned *whole = NULL;
    pac_optimizer *opt = NULL;
    pac_err err;
    if (!v->d->caches || job->cfg.train.epochs < 2)
        return PAC_OK;
    PAC_GO(pac_tuned_new(&job->desc, &job->tune, job->be, 0, pac_depth(&job->desc), true, &whole));
    err = pac_optimizer_new(&job->cfg.train.optimizer, job->be->space, pac_tuned_params(whole)->total, &opt);
out:
    pac_optimizer_free(&opt);
    pac_tuned_free(&whole);
    return err;
}

static pac_footprint larger(const pac_footprint *a, const pac_footprint *b)
{
    pac_footprint f = {.total = a->total > b->total ? a->total : b->total,
                       .device = a->device > b->device ? a->device : b->device};
    for (int tag = 0; tag < PAC_MEM_NTAGS; tag++)
        f.tag[tag] = a->tag[tag] > b->tag[tag] ? a->tag[tag] : b->tag[tag];
    return f;
}

static pac_err run_phase(device *v, pac_estimate_device *out)
{
    pac_footprint around;
    pac_mem_reset_peaks();
    PAC_TRY(load(v));
    around = dry_peaks();
    pac_mem_reset_peaks();
    PAC_TRY(run_epochs(v));
    out->step = dry_peaks();
    pac_mem_free(v->writer);
    v->writer = NULL;
    stage_drop_slots(v->s);
    pac_mem_reset_peaks();
    PAC_TRY(hand_over(v));
    out->phase = dry_peaks();
    out->phase = larger(&out->phase, &around);
    out->phase = larger(&out->phase, &out->step);
    PAC_TRY(stage_reserve(v->s, v->ops.in_flight));
    return count_steps(v, &out->flop);
}

pac_err dry_hybrid(dry *d, const pac_plan *plan, int64_t number, int64_t member, pac_estimate_device *out)
{
    const pac_stage_plan *p = &plan->stage[number];
    device v = {.d = d};
    pac_backend_count_device_release();
    d->t.plan = plan;
    d->t.layout = (pac_layout){.plan = plan, .stage = number, .member = member, .P = plan->stages, .M = plan->microbatches};
    *out = (pac_estimate_device){
        .rank = p->rank[member], .stage = number, .first = p->first, .last = p->last, .share = p->share[member]};
    pac_err err = run_phase(&v, out);
    pac_mem_free(v.writer);
    pac_mem_free(d->best);
    d->best = NULL;
    pac_oplist_free(&v.ops);
    boxes_free(&v.boxes);
    pac_optimizer_free(&v.opt);
    stage_free(&v.s);
    return err;
}
