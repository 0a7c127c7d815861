/*
 * Times of layers at several token counts, of the head, and of the optimizer's step. One layer is in memory at a time; layers
 * of equal shape share one measurement.
 */
#include "profiler.h"
#include "meter.h"
#include "pac/log.h"
#include "pac/rng.h"

enum { OVERHEAD_SAMPLES = 1, MOST_UPDATED = 1 << 20 /* floats */ };

/* What is being measured on this rank. */
typedef struct bench {
    pac_job *job;
    pac_device *device;
    meter m;
    pac_arena *keep, *work, *saved; /* inputs; scratch; what a forward keeps for its backward */
    int64_t points;
    int64_t batch[PAC_MAX_POINTS]; /* samples of each point */
    int64_t *sample; /* rows of the data set, the shortest and then in a random order; points take them from the front */
} bench;

/* One layer at one point. */
typedef struct layer_bench {
    bench *b;
    pac_model *model;
    pac_tuned *tuned;
    int64_t layer;
    pac_stack stack;
    pac_batch batch;
    float *x, *y, *enc, *denc; /* backbone rows in, out; encoder output and its gradient */
    float *g;                  /* gradient of the layer's rows, of either width */
    pac_acts acts;
    pac_side_state in;
    stage head; /* as much of a stage as the loss needs */
    micro loss;
    pac_optimizer *opt;
} layer_bench;

typedef pac_err (*work)(void *layer_bench);

static pac_err measure(bench *b, layer_bench *l, work run, pac_cost_kind kind, int64_t at)
{
    pac_cost_curve *c = &b->device->cost[kind];
    double seconds[2], spread;
    PAC_TRY(meter_repeat(&b->m, run, l, seconds, &spread));
    c->fwd[at] = seconds[FWD];
    c->bwd[at] = seconds[BWD];
    c->spread = spread > c->spread ? spread : c->spread;
    return PAC_OK;
}

/* ---- what is repeated ---- */

static pac_err random_rows(pac_arena *arena, int64_t n, float **out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, n, sizeof(float), &p));
    for (int64_t i = 0; i < n; i++)
        ((float *)p)[i] = pac_rng_uniform(1, PAC_STREAM_TEST, (uint64_t)i) - 0.5f;
    pac_err err = pac_arena_copy(arena, p, n, out);
    pac_mem_free(p);
    return err;
}

/* The end of a timed part: when all that was asked of the backend is done. */
static pac_err stop(bench *b, int direction, double start)
{
    PAC_TRY(pac_space_sync(b->job->be->space));
    meter_stop(&b->m, direction, start);
    return PAC_OK;
}

/* 0 without a side network. */
static int64_t side_width(const pac_job *job)
{
    return pac_technique_through(job->tune.kind) ? 0 : job->desc.block[PAC_ENC].D / job->tune.reduction;
}

static pac_err embed(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    double start = meter_start(&b->m);
    PAC_TRY(pac_model_embed(l->model, l->stack, &l->batch, l->y));
    return stop(b, FWD, start);
}

static pac_err backbone(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    double start = meter_start(&b->m);
    PAC_TRY(pac_model_block(l->model, l->layer, &l->batch, l->enc, l->y, l->x, b->work));
    return stop(b, FWD, start);
}

/* A layer that carries gradients: forward with activations kept, backward with whatever learns in it. */
static pac_err through(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    pac_pass p = {.batch = &l->batch, .keep = b->saved, .work = b->work};
    pac_block_saved *saved;
    int64_t n = (l->stack == PAC_ENC ? l->batch.soff : l->batch.toff)[l->batch.B] * b->job->desc.block[PAC_ENC].D;
    double start = meter_start(&b->m);
    PAC_TRY(pac_model_layer_fwd(l->model, l->layer, &p, l->enc, l->y, l->x, &saved));
    PAC_TRY(stop(b, FWD, start));
    b->job->be->copy(l->y, l->g, n); /* it becomes the gradient of the input */
    start = meter_start(&b->m);
    PAC_TRY(pac_model_layer_bwd(l->model, l->layer, &p, l->enc, l->y, l->stack == PAC_DEC ? l->denc : NULL, l->y, saved));
    PAC_TRY(stop(b, BWD, start));
    pac_arena_reset(b->saved);
    return PAC_OK;
}

static pac_err side(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    pac_pass p = {.batch = &l->batch, .keep = b->saved, .work = b->work};
    pac_side *s = pac_tuned_side(l->tuned);
    pac_side_state out, din, dout = {0};
    pac_side_saved *saved;
    float *h = NULL;
    double start = meter_start(&b->m);
    PAC_TRY(pac_side_fwd(s, &p, &l->acts, &l->in, &out, &h, true, &saved));
    PAC_TRY(stop(b, FWD, start));
    if (h == NULL) /* else the head's gradient is what it gets */
        *(l->layer == b->job->desc.layers[PAC_ENC] - 1 ? &dout.enc : &dout.a) = l->g;
    start = meter_start(&b->m);
    PAC_TRY(pac_side_bwd(s, &p, &l->acts, &dout, h != NULL ? l->g : NULL, &din, saved));
    PAC_TRY(stop(b, BWD, start));
    pac_arena_reset(b->saved);
    return PAC_OK;
}

/* Head and loss of either kind, with the backward to its input, which runs at once. */
static pac_err head(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    size_t mark = pac_arena_mark(b->keep);
    double start = meter_start(&b->m), loss;
    PAC_TRY(stage_loss(&l->head, &l->loss, l->model, 1.0f, true));
    PAC_TRY(stop(b, FWD, start));
    PAC_TRY(stage_take_loss(&l->head, &loss));
    pac_arena_release(b->keep, mark);
    return PAC_OK;
}

/* Clipping and the optimizer's step. */
static pac_err update(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    const pac_backend *be = b->job->be;
    pac_params p = {.w = l->x, .g = l->y, .total = l->opt->total};
    double start = meter_start(&b->m);
    double sum = be->sumsq(p.g, p.total);
    pac_optimizer_step(l->opt, be, &p, 1e-6f, sum >= 0 ? 0.5f : 1);
    return stop(b, FWD, start);
}

/* ---- a layer at every point ---- */

/* What the batch of a point has of everything that curves are over. */
static void note_tokens(bench *b, const pac_batch *batch, int64_t at)
{
    double source = (double)batch->soff[batch->B], target = (double)batch->toff[batch->B];
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        pac_cost_curve *c = &b->device->cost[k];
        c->tokens[at] = pac_cost_tokens((pac_cost_kind)k, source, target);
        c->points = c->tokens[at] > 0 ? at + 1 : 0; /* none: a stack that the model does not have */
    }
}

static pac_err prepare(bench *b, layer_bench *l, int64_t at)
{
    int64_t B = b->batch[at];
    const pac_job *job = b->job;
    int64_t E = job->desc.layers[PAC_ENC], D = job->desc.block[PAC_ENC].D, R = side_width(job);
    pac_arena_reset(b->keep);
    PAC_TRY(pac_batch_gather(&job->train, b->sample, B, &job->batching, b->keep, &l->batch));
    note_tokens(b, &l->batch, at);
    int64_t S = l->batch.soff[B], N = l->stack == PAC_ENC ? S : l->batch.toff[B];
    PAC_TRY(random_rows(b->keep, N * D, &l->x));
    PAC_TRY(random_rows(b->keep, N * D, &l->y));
    PAC_TRY(random_rows(b->keep, N * D, &l->g));
    PAC_TRY(random_rows(b->keep, S * D, &l->enc));
    PAC_TRY(random_rows(b->keep, S * D, &l->denc));
    PAC_TRY(random_rows(b->keep, N * R, &l->in.a));
    PAC_TRY(random_rows(b->keep, S * R, &l->in.enc));
    int64_t i = l->layer - (l->stack == PAC_ENC ? 0 : E);
    l->acts = (pac_acts){.final = l->x};
    l->acts.b[l->stack][i] = l->acts.b[l->stack][i + 1] = l->x;
    if (l->stack == PAC_ENC)
        l->in.enc = NULL;
    if (i == 0)
        l->in.a = NULL;
    return PAC_OK;
}

static pac_err layer_at(bench *b, layer_bench *l, int64_t at, bool first)
{
    bool enc = l->stack == PAC_ENC;
    if (first)
        return measure(b, l, embed, enc ? PAC_COST_ENC_EMBED : PAC_COST_DEC_EMBED, at);
    pac_cost_curve *block = &b->device->cost[enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK];
    if (pac_technique_through(b->job->tune.kind)) {
        PAC_TRY(measure(b, l, through, enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK, at));
        block->bwd[at] += b->job->cfg.train.recompute ? block->fwd[at] : 0;
        return PAC_OK;
    }
    PAC_TRY(measure(b, l, backbone, enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK, at));
    return measure(b, l, side, enc ? PAC_COST_ENC_SIDE : PAC_COST_DEC_SIDE, at);
}

static pac_err load_layer(bench *b, layer_bench *l, int flags)
{
    pac_job *job = b->job;
    void *zero = NULL;
    pac_err err;
    PAC_GO(pac_model_load(&job->desc, job->be, l->layer, l->layer + 1, flags, &l->model));
    PAC_GO(pac_tuned_new(&job->desc, &job->tune, job->be, l->layer, l->layer + 1, true, &l->tuned));
    PAC_GO(pac_tuned_attach(l->tuned, l->model));
    PAC_GO(pac_mem_array(PAC_MEM_WORK, 2 * job->desc.block[0].D, sizeof(double), &zero));
    err = pac_tuned_init(l->tuned, l->model, zero);
out:
    pac_mem_free(zero);
    return err;
}

/* first: the embedding in front of it, else the layer itself. */
static pac_err bench_layer(bench *b, int64_t layer, bool first)
{
    pac_job *job = b->job;
    layer_bench l = {.b = b, .layer = layer, .stack = layer < job->desc.layers[PAC_ENC] ? PAC_ENC : PAC_DEC};
    pac_err err;
    int flags = job->tune.head == PAC_HEAD_LM && job->tune.kind == PAC_TECH_FULL ? PAC_LOAD_HEAD : 0;
    PAC_GO(load_layer(b, &l, flags));
    for (int64_t at = 0; at < b->points; at++) {
        PAC_GO(prepare(b, &l, at));
        PAC_GO(layer_at(b, &l, at, first));
    }
out:
    pac_tuned_free(&l.tuned);
    pac_model_free(&l.model);
    return err;
}

/* A layer of [base, base + n) in which something learns, inside the stack where there is such a one: it stands for all. */
static int64_t typical_layer(const pac_tune_opts *o, int64_t base, int64_t n)
{
    for (int64_t l = base + 1; l < base + n - 1; l++)
        if (o->has_layer[l] || o->kind != PAC_TECH_PARALLEL)
            return l;
    return o->has_layer[base] ? base : base + n - 1;
}

static pac_err bench_stack(bench *b, int64_t base, int64_t n)
{
    if (n == 0)
        return PAC_OK;
    PAC_TRY(bench_layer(b, base, true));
    return bench_layer(b, typical_layer(&b->job->tune, base, n), false);
}

/* ---- head, optimizer, overhead ---- */

static pac_err head_at(bench *b, layer_bench *l, int64_t at)
{
    pac_job *job = b->job;
    pac_arena_reset(b->keep);
    l->loss = (micro){.arena = b->keep};
    PAC_TRY(pac_batch_gather(&job->train, b->sample, b->batch[at], &job->batching, b->keep, &l->loss.batch));
    PAC_TRY(random_rows(b->keep, head_rows(job, &l->loss.batch) * job->desc.block[0].D, &l->loss.h));
    return measure(b, l, head, PAC_COST_HEAD, at);
}

static pac_err bench_head(bench *b)
{
    pac_job *job = b->job;
    int64_t L = pac_depth(&job->desc);
    layer_bench l = {.b = b, .layer = L - 1, .stack = pac_last_stack(&job->desc)};
    pac_err err;
    if (job->tune.head == PAC_HEAD_LM)
        PAC_GO(pac_model_load(&job->desc, job->be, L, L, PAC_LOAD_HEAD_ONLY, &l.model));
    else
        PAC_GO(load_layer(b, &l, 0));
    l.head = (stage){.job = job, .D = job->desc.block[0].D, .work = b->work, .tuned = l.tuned};
    for (int64_t at = 0; at < b->points; at++)
        PAC_GO(head_at(b, &l, at));
out:
    stage_drop_losses(&l.head);
    pac_tuned_free(&l.tuned);
    pac_model_free(&l.model);
    return err;
}

/* As much as the whole network has, up to a size that no cache holds. */
static pac_err bench_update(bench *b)
{
    pac_job *job = b->job;
    int64_t n = pac_tune_parameters(&job->desc, &job->tune) + pac_head_parameters(&job->desc, &job->tune);
    double seconds[2], spread;
    layer_bench l = {.b = b};
    pac_err err;
    n = n < MOST_UPDATED ? n : MOST_UPDATED;
    pac_arena_reset(b->keep);
    PAC_GO(random_rows(b->keep, n, &l.x));
    PAC_GO(random_rows(b->keep, n, &l.y));
    PAC_GO(pac_optimizer_new(&job->cfg.train.optimizer, job->be->space, n, &l.opt));
    PAC_GO(meter_repeat(&b->m, update, &l, seconds, &spread));
    b->device->update = seconds[FWD] / (4.0 * (double)n);
out:
    pac_optimizer_free(&l.opt);
    return err;
}

/* What a micro-batch takes beside its layers: gathering its rows. Its messages' share is in the links' latency. */
static pac_err gather(void *layer)
{
    layer_bench *l = layer;
    bench *b = l->b;
    double start = meter_start(&b->m);
    size_t mark = pac_arena_mark(b->keep);
    PAC_TRY(pac_batch_gather(&b->job->train, b->sample, OVERHEAD_SAMPLES, &b->job->batching, b->keep, &l->batch));
    pac_arena_release(b->keep, mark);
    return stop(b, FWD, start);
}

static pac_err bench_overhead(bench *b)
{
    double seconds[2], spread;
    layer_bench l = {.b = b};
    pac_arena_reset(b->keep);
    PAC_TRY(meter_repeat(&b->m, gather, &l, seconds, &spread));
    b->device->overhead = seconds[FWD] / 2; /* once for both directions */
    return PAC_OK;
}

/* ---- all ---- */

/* 1, 2, 3, 4, 6, 8, 12, ... up to the mini-batch, which is always the last point. */
static void choose_points(bench *b)
{
    int64_t rows = b->job->train.rows, most = b->job->cfg.train.batch < rows ? b->job->cfg.train.batch : rows;
    for (int64_t n = 1; n < most && b->points < PAC_MAX_POINTS - 1; n = n < 2 ? 2 : (n & (n - 1)) == 0 ? n + n / 2 : n / 3 * 4)
        b->batch[b->points++] = n;
    b->batch[b->points++] = most;
}

/* The shortest row comes first: below the first point times are in proportion, which they are not where weights are read. */
static void shortest_first(bench *b)
{
    const pac_dataset *d = &b->job->train;
    int64_t at = 0, least = INT64_MAX;
    for (int64_t i = 0; i < d->rows; i++) {
        int64_t row = b->sample[i], tokens = d->soff[row + 1] - d->soff[row] + d->toff[row + 1] - d->toff[row];
        at = tokens < least ? i : at;
        least = tokens < least ? tokens : least;
    }
    int64_t row = b->sample[at];
    b->sample[at] = b->sample[0];
    b->sample[0] = row;
}

/* The backbone goes through the caches before a layer comes again. */
static pac_err prepare_bench(bench *b)
{
    pac_job *job = b->job;
    bool lm = job->tune.head == PAC_HEAD_LM, through_it = pac_technique_through(job->tune.kind);
    int64_t backbone = pac_model_slice_bytes(&job->desc, 0, pac_depth(&job->desc), lm);
    int64_t stacks = (job->desc.layers[PAC_ENC] > 0) + (job->desc.layers[PAC_DEC] > 0);
    void *p;
    choose_points(b);
    PAC_TRY(meter_new(&job->watch, backbone, b->points * (stacks * (through_it ? 2 : 3) + 1) + 2, &b->m));
    if (job->be->space != NULL) /* the processor's caches are not the ones that count */
        b->m.others = 0;
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &b->keep));
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_ACTIVATIONS, &b->saved));
    PAC_TRY(pac_arena_new_in(job->be->space, PAC_MEM_WORK, &b->work));
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, job->train.rows, sizeof(int64_t), &p));
    b->sample = p;
    pac_rng_permutation(job->cfg.train.seed, 0, job->train.rows, b->sample);
    shortest_first(b);
    return PAC_OK;
}

static void scale_times(const bench *b)
{
    pac_device *d = b->device;
    double slower = meter_scale(&b->m);
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        for (int64_t i = 0; i < d->cost[k].points; i++) {
            d->cost[k].fwd[i] *= slower;
            d->cost[k].bwd[i] *= slower;
        }
    d->update *= slower;
    d->overhead *= slower;
    if (b->m.cpu)
        pac_log(PAC_LOG_DEBUG, "a second of processor time takes %.2f s here", slower);
}

pac_err profile_times(pac_job *job, pac_device *device)
{
    bench b = {.job = job, .device = device};
    pac_err err;
    int64_t E = job->desc.layers[PAC_ENC];
    PAC_GO(prepare_bench(&b));
    PAC_GO(bench_stack(&b, 0, E));
    PAC_GO(bench_stack(&b, E, job->desc.layers[PAC_DEC]));
    PAC_GO(bench_head(&b));
    PAC_GO(bench_update(&b));
    PAC_GO(bench_overhead(&b));
    scale_times(&b);
out:
    meter_free(&b.m);
    pac_mem_free(b.sample);
    pac_arena_free(&b.keep);
    pac_arena_free(&b.work);
    pac_arena_free(&b.saved);
    return err;
}
