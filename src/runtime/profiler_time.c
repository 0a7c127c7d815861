/*
 * Times of layers at several token counts. One layer is in memory at a time; layers of equal shape share one measurement.
 *
 * A time is the median of ROUNDS rounds, each the mean over as many runs as last `round` seconds. The mean inside a round is
 * what a step sees, which is a sum over many layers: on a device that is slowed down in bursts (a CPU quota, heat) the fastest
 * run promises a speed that it does not keep. The median over rounds forgets what disturbed some of them, and there are more
 * (MOST_ROUNDS) where they differ much. A round lasts at least a period of the CPU quota where there is one.
 */
#include "profiler.h"
#include "pac/clock.h"
#include "pac/limits.h"
#include "pac/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, FEW_ROUNDS = 3, MOST_ROUNDS = 15, FWD = 0, BWD = 1, MOST_UPDATED = 1 << 20, OVERHEAD_SAMPLES = 1 };
static const double shortest_round = 0.015, slow_run = 0.15, very_slow_run = 1.5; /* seconds */
static const double too_wide = 0.2;                                               /* spread that calls for more rounds */

/* One layer at one point. */
typedef struct layer_bench {
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
    double spent[2]; /* seconds of the runs of this round */
} layer_bench;

typedef pac_err (*work)(bench *b, layer_bench *l);

/* ---- repeating ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *v, int64_t n)
{
    double sorted[MOST_ROUNDS];
    for (int64_t i = 0; i < n; i++)
        sorted[i] = v[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[n / 2];
}

/* How far the fastest is below the median. */
static double spread_of(const double *v, int64_t n)
{
    double fastest = v[0];
    for (int64_t i = 1; i < n; i++)
        fastest = v[i] < fastest ? v[i] : fastest;
    return fastest > 0 ? median_of(v, n) / fastest - 1 : 0;
}

/* Mean seconds of a run in each direction, over a round. */
static pac_err run_round(bench *b, layer_bench *l, work run, double *fwd, double *bwd)
{
    double start = pac_now(), runs = 0;
    l->spent[FWD] = l->spent[BWD] = 0;
    do {
        PAC_TRY(run(b, l));
        runs++;
    } while (pac_now() - start < b->round);
    *fwd = l->spent[FWD] / runs;
    *bwd = l->spent[BWD] / runs;
    return PAC_OK;
}

static void report(bench *b)
{
    const pac_observer *w = &b->job->watch;
    b->done++;
    if (w->progress != NULL && pac_world_rank() == 0)
        w->progress(w->user, &(pac_progress){.phase = "profile",
                                             .done = b->done,
                                             .total = b->total > b->done ? b->total : b->done,
                                             .seconds = pac_now() - b->started,
                                             .loss = NAN});
}

/* The median of the rounds in each direction; *spread: how far the fastest round is below it. */
static pac_err repeat(bench *b, layer_bench *l, work run, double out[2], double *spread)
{
    double fwd[MOST_ROUNDS], bwd[MOST_ROUNDS], all[MOST_ROUNDS], start = pac_now();
    PAC_TRY(run(b, l)); /* touches its memory, and tells how long it takes */
    double once = pac_now() - start;
    int64_t done = 0, rounds = once > very_slow_run ? 1 : once > slow_run ? FEW_ROUNDS : ROUNDS;
    int64_t most = rounds == ROUNDS ? MOST_ROUNDS : rounds;
    for (int64_t r = 0; r < most && (r < rounds || spread_of(all, r) > too_wide); r++) {
        PAC_TRY(run_round(b, l, run, &fwd[r], &bwd[r]));
        all[r] = fwd[r] + bwd[r];
        done = r + 1;
    }
    out[FWD] = median_of(fwd, done);
    out[BWD] = median_of(bwd, done);
    *spread = spread_of(all, done);
    report(b);
    return PAC_OK;
}

static pac_err measure(bench *b, layer_bench *l, work run, pac_cost_kind kind, int64_t at)
{
    pac_cost_curve *c = &b->device->cost[kind];
    double seconds[2], spread;
    PAC_TRY(repeat(b, l, run, seconds, &spread));
    c->fwd[at] = seconds[FWD];
    c->bwd[at] = seconds[BWD];
    c->spread = spread > c->spread ? spread : c->spread;
    return PAC_OK;
}

/* ---- what is repeated ---- */

static pac_err random_rows(pac_arena *arena, int64_t n, float **out)
{
    PAC_TRY(pac_arena_floats(arena, n, out));
    for (int64_t i = 0; i < n; i++)
        (*out)[i] = pac_rng_uniform(1, PAC_STREAM_TEST, (uint64_t)i) - 0.5f;
    return PAC_OK;
}

int64_t profile_side_width(const pac_job *job)
{
    return pac_technique_through(job->tune.kind) ? 0 : job->desc.block[PAC_ENC].D / job->tune.reduction;
}

static pac_err embed(bench *b, layer_bench *l)
{
    double start = pac_now();
    (void)b;
    PAC_TRY(pac_model_embed(l->model, l->stack, &l->batch, l->y));
    l->spent[FWD] += pac_now() - start;
    return PAC_OK;
}

static pac_err backbone(bench *b, layer_bench *l)
{
    double start = pac_now();
    PAC_TRY(pac_model_block(l->model, l->layer, &l->batch, l->enc, l->y, l->x, b->work));
    l->spent[FWD] += pac_now() - start;
    return PAC_OK;
}

/* A layer that carries gradients: forward with activations kept, backward with whatever learns in it. */
static pac_err through(bench *b, layer_bench *l)
{
    pac_pass p = {.batch = &l->batch, .keep = b->keep, .work = b->work};
    size_t mark = pac_arena_mark(b->keep);
    pac_block_saved *saved;
    int64_t n = (l->stack == PAC_ENC ? l->batch.soff : l->batch.toff)[l->batch.B] * b->job->desc.block[PAC_ENC].D;
    double start = pac_now();
    PAC_TRY(pac_model_layer_fwd(l->model, l->layer, &p, l->enc, l->y, l->x, &saved));
    double fwd = pac_now() - start;
    memcpy(l->y, l->g, (size_t)n * sizeof(float)); /* it becomes the gradient of the input */
    start = pac_now();
    PAC_TRY(pac_model_layer_bwd(l->model, l->layer, &p, l->enc, l->y, l->stack == PAC_DEC ? l->denc : NULL, l->y, saved));
    l->spent[FWD] += fwd;
    l->spent[BWD] += pac_now() - start + (b->job->cfg.train.recompute ? fwd : 0);
    pac_arena_release(b->keep, mark);
    return PAC_OK;
}

static pac_err side(bench *b, layer_bench *l)
{
    pac_pass p = {.batch = &l->batch, .keep = b->keep, .work = b->work};
    pac_side *s = pac_tuned_side(l->tuned);
    pac_side_state out, din, dout = {0};
    pac_side_saved *saved;
    float *h = NULL;
    size_t mark = pac_arena_mark(b->keep);
    double start = pac_now();
    PAC_TRY(pac_side_fwd(s, &p, &l->acts, &l->in, &out, &h, true, &saved));
    l->spent[FWD] += pac_now() - start;
    if (h == NULL) /* else the head's gradient is what it gets */
        *(l->layer == b->job->desc.layers[PAC_ENC] - 1 ? &dout.enc : &dout.a) = l->g;
    start = pac_now();
    PAC_TRY(pac_side_bwd(s, &p, &l->acts, &dout, h != NULL ? l->g : NULL, &din, saved));
    l->spent[BWD] += pac_now() - start;
    pac_arena_release(b->keep, mark);
    return PAC_OK;
}

/* Head and loss of either kind, with the backward to its input, which runs at once. */
static pac_err head(bench *b, layer_bench *l)
{
    size_t mark = pac_arena_mark(b->keep);
    double start = pac_now();
    PAC_TRY(stage_loss(&l->head, &l->loss, l->model, 1.0f, true));
    l->spent[FWD] += pac_now() - start;
    pac_arena_release(b->keep, mark);
    return PAC_OK;
}

/* Clipping and the optimizer's step. */
static pac_err update(bench *b, layer_bench *l)
{
    const pac_backend *be = b->job->be;
    pac_params p = {.w = l->x, .g = l->y, .total = l->opt->total};
    double start = pac_now();
    double sum = be->sumsq(p.g, p.total);
    pac_optimizer_step(l->opt, be, &p, 1e-6f, sum >= 0 ? 0.5f : 1);
    l->spent[FWD] += pac_now() - start;
    return PAC_OK;
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
    int64_t E = job->desc.layers[PAC_ENC], D = job->desc.block[PAC_ENC].D, R = profile_side_width(job);
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
    if (pac_technique_through(b->job->tune.kind))
        return measure(b, l, through, enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK, at);
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
    layer_bench l = {.layer = layer, .stack = layer < job->desc.layers[PAC_ENC] ? PAC_ENC : PAC_DEC};
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
    layer_bench l = {.layer = L - 1, .stack = pac_last_stack(&job->desc)};
    pac_err err;
    if (job->tune.head == PAC_HEAD_LM)
        PAC_GO(pac_model_load(&job->desc, job->be, L, L, PAC_LOAD_HEAD_ONLY, &l.model));
    else
        PAC_GO(load_layer(b, &l, 0));
    l.head = (stage){.job = job, .D = job->desc.block[0].D, .work = b->work, .tuned = l.tuned};
    for (int64_t at = 0; at < b->points; at++)
        PAC_GO(head_at(b, &l, at));
out:
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
    layer_bench l = {0};
    pac_err err;
    n = n < MOST_UPDATED ? n : MOST_UPDATED;
    pac_arena_reset(b->keep);
    PAC_GO(random_rows(b->keep, n, &l.x));
    PAC_GO(random_rows(b->keep, n, &l.y));
    PAC_GO(pac_optimizer_new(&job->cfg.train.optimizer, n, &l.opt));
    PAC_GO(repeat(b, &l, update, seconds, &spread));
    b->device->update = seconds[FWD] / (4.0 * (double)n);
out:
    pac_optimizer_free(&l.opt);
    return err;
}

/* What a micro-batch takes beside its layers: gathering its rows. Its messages' share is in the links' latency. */
static pac_err gather(bench *b, layer_bench *l)
{
    double start = pac_now();
    size_t mark = pac_arena_mark(b->keep);
    PAC_TRY(pac_batch_gather(&b->job->train, b->sample, OVERHEAD_SAMPLES, &b->job->batching, b->keep, &l->batch));
    pac_arena_release(b->keep, mark);
    l->spent[FWD] += pac_now() - start;
    return PAC_OK;
}

static pac_err bench_overhead(bench *b)
{
    double seconds[2], spread;
    layer_bench l = {0};
    pac_arena_reset(b->keep);
    PAC_TRY(repeat(b, &l, gather, seconds, &spread));
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

static pac_err prepare_bench(bench *b)
{
    pac_job *job = b->job;
    double period;
    void *p;
    int64_t stacks = (job->desc.layers[PAC_ENC] > 0) + (job->desc.layers[PAC_DEC] > 0);
    pac_limits_cores("", &period);
    b->round = period > shortest_round ? period : shortest_round;
    b->started = pac_now();
    choose_points(b);
    b->total = b->points * (stacks * (pac_technique_through(job->tune.kind) ? 2 : 3) + 1) + 2;
    PAC_TRY(pac_arena_new(PAC_MEM_ACTIVATIONS, &b->keep));
    PAC_TRY(pac_arena_new(PAC_MEM_WORK, &b->work));
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, job->train.rows, sizeof(int64_t), &p));
    b->sample = p;
    pac_rng_permutation(job->cfg.train.seed, 0, job->train.rows, b->sample);
    return PAC_OK;
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
    err = bench_overhead(&b);
out:
    pac_mem_free(b.sample);
    pac_arena_free(&b.keep);
    pac_arena_free(&b.work);
    return err;
}
