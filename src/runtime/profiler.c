/*
 * The profiler: seconds per kind of layer at several batch sizes on this device, bytes per layer from shapes, links between all
 * pairs. Layers are loaded one at a time, so no device ever holds more than one; layers of equal shape share one measurement.
 */
#include "planning.h"
#include "train.h"
#include "pac/clock.h"
#include "pac/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 7 }; /* the fastest counts: the others were disturbed */

typedef struct bench {
    pac_job *job;
    pac_profile *profile;
    pac_device *device;
    pac_arena *keep, *work;
    int64_t points;
    int64_t batch[PAC_MAX_POINTS];
    int64_t *sample; /* rows of the data set, the first of a random order */
} bench;

/* ---- one layer at one batch size ---- */

typedef struct layer_bench {
    pac_model *model;
    pac_tuned *tuned;
    int64_t layer;
    pac_stack stack;
    pac_batch batch;
    float *x, *y, *enc, *denc; /* backbone rows in, out; encoder output and its gradient */
    pac_acts acts;
    pac_side_state in, out, dout, din;
} layer_bench;

static pac_err random_rows(pac_arena *arena, int64_t n, float **out)
{
    PAC_TRY(pac_arena_floats(arena, n, out));
    for (int64_t i = 0; i < n; i++)
        (*out)[i] = pac_rng_uniform(1, PAC_STREAM_TEST, (uint64_t)i) - 0.5f;
    return PAC_OK;
}

/* 0: no side network. */
static int64_t side_width(const pac_job *job)
{
    return pac_technique_through(job->tune.kind) ? 0 : job->desc.block[PAC_ENC].D / job->tune.reduction;
}

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

static double fastest(double best, double started)
{
    double t = pac_now() - started;
    return best < t ? best : t;
}

static pac_err time_embedding(bench *b, layer_bench *l, int64_t at)
{
    pac_cost_kind kind = l->stack == PAC_ENC ? PAC_COST_ENC_EMBED : PAC_COST_DEC_EMBED;
    double look = INFINITY;
    if (l->layer != (l->stack == PAC_ENC ? 0 : b->job->desc.layers[PAC_ENC]))
        return PAC_OK;
    for (int r = 0; r < REPEATS; r++) {
        double t = pac_now();
        PAC_TRY(pac_model_embed(l->model, l->stack, &l->batch, l->y));
        look = fastest(look, t);
    }
    b->device->cost[kind].fwd[at] = look;
    return PAC_OK;
}

static pac_err time_backbone(bench *b, layer_bench *l, int64_t at)
{
    pac_cost_kind block = l->stack == PAC_ENC ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK;
    double run = INFINITY;
    for (int r = 0; r < REPEATS; r++) {
        double t = pac_now();
        PAC_TRY(pac_model_block(l->model, l->layer, &l->batch, l->enc, l->y, l->x, b->work));
        run = fastest(run, t);
    }
    b->device->cost[block].fwd[at] = run;
    return PAC_OK;
}

/* A layer that carries gradients: forward with activations kept, backward with whatever learns in it. */
static pac_err time_through(bench *b, layer_bench *l, int64_t at)
{
    pac_cost_curve *cost = &b->device->cost[l->stack == PAC_ENC ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK];
    pac_pass p = {.batch = &l->batch, .keep = b->keep, .work = b->work};
    double fwd = INFINITY, bwd = INFINITY;
    for (int r = 0; r < REPEATS; r++) {
        size_t mark = pac_arena_mark(b->keep);
        pac_block_saved *saved;
        double t = pac_now();
        PAC_TRY(pac_model_layer_fwd(l->model, l->layer, &p, l->enc, l->y, l->x, &saved));
        fwd = fastest(fwd, t);
        b->profile->layer[l->layer].activations = (double)(pac_arena_mark(b->keep) - mark) / (double)l->batch.B;
        t = pac_now();
        PAC_TRY(pac_model_layer_bwd(l->model, l->layer, &p, l->enc, l->y, l->stack == PAC_DEC ? l->denc : NULL, l->y, saved));
        bwd = fastest(bwd, t);
        pac_arena_release(b->keep, mark);
    }
    cost->fwd[at] = fwd;
    cost->bwd[at] = bwd + (b->job->cfg.train.recompute ? fwd : 0);
    return PAC_OK;
}

static pac_err time_side(bench *b, layer_bench *l, int64_t at)
{
    pac_cost_kind kind = l->stack == PAC_ENC ? PAC_COST_ENC_SIDE : PAC_COST_DEC_SIDE;
    int64_t E = b->job->desc.layers[PAC_ENC], R = side_width(b->job);
    int64_t N = l->stack == PAC_ENC ? l->batch.soff[l->batch.B] : l->batch.toff[l->batch.B];
    pac_pass p = {.batch = &l->batch, .keep = b->keep, .work = b->work};
    pac_side *side = pac_tuned_side(l->tuned);
    double fwd = INFINITY, bwd = INFINITY;
    for (int r = 0; r < REPEATS; r++) {
        size_t mark = pac_arena_mark(b->keep);
        pac_side_saved *saved;
        float *h = NULL, *dh = NULL, *grad;
        double t = pac_now();
        PAC_TRY(pac_side_fwd(side, &p, &l->acts, &l->in, &l->out, &h, true, &saved));
        fwd = fastest(fwd, t);
        b->profile->layer[l->layer].activations = (double)(pac_arena_mark(b->keep) - mark) / (double)l->batch.B;
        PAC_TRY(random_rows(b->keep, N * R, &grad));
        bool ends_encoder = l->layer == E - 1;
        l->dout = (pac_side_state){.a = ends_encoder ? NULL : grad, .enc = ends_encoder ? grad : NULL};
        if (h != NULL) {
            PAC_TRY(random_rows(b->keep, N * b->job->desc.block[0].D, &dh));
            l->dout = (pac_side_state){0};
        }
        t = pac_now();
        PAC_TRY(pac_side_bwd(side, &p, &l->acts, &l->dout, dh, &l->din, saved));
        bwd = fastest(bwd, t);
        pac_arena_release(b->keep, mark);
    }
    b->device->cost[kind].fwd[at] = fwd;
    b->device->cost[kind].bwd[at] = bwd;
    return PAC_OK;
}

static pac_err time_layer(bench *b, layer_bench *l, int64_t at)
{
    PAC_TRY(time_embedding(b, l, at));
    if (pac_technique_through(b->job->tune.kind))
        return time_through(b, l, at);
    PAC_TRY(time_backbone(b, l, at));
    return time_side(b, l, at);
}

static pac_err bench_layer(bench *b, int64_t layer)
{
    pac_job *job = b->job;
    layer_bench l = {.layer = layer, .stack = layer < job->desc.layers[PAC_ENC] ? PAC_ENC : PAC_DEC};
    double *zero = NULL;
    void *p;
    pac_err err;
    int with_head = job->tune.head == PAC_HEAD_LM && job->tune.kind == PAC_TECH_FULL ? PAC_LOAD_HEAD : 0;
    PAC_GO(pac_model_load(&job->desc, job->be, layer, layer + 1, with_head, &l.model));
    PAC_GO(pac_tuned_new(&job->desc, &job->tune, job->be, layer, layer + 1, true, &l.tuned));
    PAC_GO(pac_tuned_attach(l.tuned, l.model));
    PAC_GO(pac_mem_array(PAC_MEM_WORK, 2 * job->desc.block[0].D, sizeof(double), &p));
    zero = p;
    PAC_GO(pac_tuned_init(l.tuned, l.model, zero));
    for (int64_t at = 0; at < b->points; at++) {
        PAC_GO(prepare(b, &l, at));
        PAC_GO(time_layer(b, &l, at));
    }
out:
    pac_mem_free(zero);
    pac_tuned_free(&l.tuned);
    pac_model_free(&l.model);
    return err;
}

static pac_err bench_head(bench *b)
{
    pac_job *job = b->job;
    int64_t L = pac_depth(&job->desc);
    stage s = {.job = job, .D = job->desc.block[0].D, .work = b->work};
    micro x = {.arena = b->keep};
    pac_model *head = NULL;
    pac_err err = PAC_OK;
    if (job->tune.head != PAC_HEAD_LM)
        return PAC_OK;
    PAC_GO(pac_model_load(&job->desc, job->be, L, L, PAC_LOAD_HEAD_ONLY, &head));
    for (int64_t at = 0; at < b->points; at++) {
        double best = INFINITY;
        pac_arena_reset(b->keep);
        PAC_GO(pac_batch_gather(&job->train, b->sample, b->batch[at], &job->batching, b->keep, &x.batch));
        PAC_GO(random_rows(b->keep, head_rows(job, &x.batch) * s.D, &x.h));
        for (int r = 0; r < REPEATS; r++) {
            double t = pac_now();
            PAC_GO(stage_loss(&s, &x, head, 1.0f, true));
            best = fastest(best, t);
        }
        b->device->cost[PAC_COST_HEAD].fwd[at] = best;
    }
out:
    pac_model_free(&head);
    return err;
}

/* ---- all kinds ---- */

/* 1, 2, 4, ... up to the mini-batch, which is always the last point. */
static void choose_points(bench *b)
{
    int64_t rows = b->job->train.rows, most = b->job->cfg.train.batch < rows ? b->job->cfg.train.batch : rows;
    for (int64_t n = 1; n < most && b->points < PAC_MAX_POINTS - 1; n *= 2)
        b->batch[b->points++] = n;
    b->batch[b->points++] = most;
}

/* A layer of [base, base + n) in which something learns, inside the stack where there is such a one. */
static int64_t typical_layer(const pac_tune_opts *o, int64_t base, int64_t n)
{
    for (int64_t l = base + 1; l < base + n - 1; l++)
        if (o->has_layer[l] || o->kind != PAC_TECH_PARALLEL)
            return l;
    return o->has_layer[base] ? base : base + n - 1;
}

/*
 * The last layer of each stack (final norm, up-projection), the first (embedding, first projection), then a typical one: its
 * times stand for all, its activations for all that are not measured.
 */
static pac_err bench_layers(bench *b)
{
    for (int64_t base = 0, stack = PAC_ENC; stack <= PAC_DEC; base += b->job->desc.layers[stack++]) {
        int64_t n = b->job->desc.layers[stack];
        if (n == 0)
            continue;
        PAC_TRY(bench_layer(b, base + n - 1));
        PAC_TRY(bench_layer(b, base));
        PAC_TRY(bench_layer(b, typical_layer(&b->job->tune, base, n)));
    }
    return bench_head(b);
}

static pac_err measure_here(bench *b)
{
    pac_job *job = b->job;
    void *p;
    PAC_TRY(pac_arena_new(PAC_MEM_ACTIVATIONS, &b->keep));
    PAC_TRY(pac_arena_new(PAC_MEM_WORK, &b->work));
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, job->train.rows, sizeof(int64_t), &p));
    b->sample = p;
    pac_rng_permutation(job->cfg.train.seed, 0, job->train.rows, b->sample);
    choose_points(b);
    return bench_layers(b);
}

/* ---- bytes from shapes ---- */

/*
 * Activations of a layer: what its side layer saves (measured), and the backbone rows that stay with the micro-batch: b_i where
 * it is read, and the outputs of the stack's end.
 */
static void stack_activations(const pac_job *job, pac_profile *p, pac_stack stack)
{
    bool reads[2][PAC_MAX_LAYERS + 1], final;
    int64_t n = job->desc.layers[stack], base = stack == PAC_ENC ? 0 : job->desc.layers[PAC_ENC];
    double row = 4.0 * (double)job->desc.block[stack].D * (stack == PAC_ENC ? p->source_tokens : p->target_tokens);
    bool through = pac_technique_through(job->tune.kind);
    pac_tune_reads(&job->desc, &job->tune, reads, &final);
    if (n == 0)
        return;
    double typical = p->layer[typical_layer(&job->tune, base, n)].activations;
    for (int64_t i = 0; i < n; i++) {
        double *act = &p->layer[base + i].activations;
        if (*act == 0 && (through || job->tune.has_layer[base + i]))
            *act = typical;
        if (through && job->cfg.train.recompute)
            *act = 0;
        *act +=
            row * (through ? 1 + (i == 0) + (i == n - 1) : (i == 0 && reads[stack][0]) + reads[stack][i + 1] + (i == n - 1));
    }
    if (through && job->cfg.train.recompute) /* the one that is being made again */
        p->layer[base].activations += typical;
}

static void layer_bytes(const pac_job *job, pac_profile *p)
{
    int64_t E = p->layers_enc, L = E + p->layers_dec;
    bool lm = job->tune.head == PAC_HEAD_LM, full = job->tune.kind == PAC_TECH_FULL;
    double table = 4.0 * (double)job->desc.vocab * (double)job->desc.block[PAC_ENC].D;
    for (int64_t l = 0; l < L; l++) {
        pac_layer_bytes *b = &p->layer[l];
        bool carries = l == 0 || (l == E && p->layers_dec > 0) || (l == L - 1 && lm && job->desc.tied);
        b->weights = full ? 0 : (double)pac_model_slice_bytes(&job->desc, l, l + 1, l == L - 1 && lm);
        b->tuned = 4.0 * (double)pac_tune_slice_parameters(&job->desc, &job->tune, l, l + 1);
        *(full ? &b->shared_tuned : &b->shared) = carries ? table : 0;
    }
    stack_activations(job, p, PAC_ENC);
    stack_activations(job, p, PAC_DEC);
}

static void boundary_bytes(const pac_job *job, pac_profile *p)
{
    int64_t E = p->layers_enc, L = E + p->layers_dec;
    bool through = pac_technique_through(job->tune.kind);
    double D = 4.0 * (double)job->desc.block[0].D, R = 4.0 * (double)side_width(job), back = through ? D : R;
    for (int64_t l = 1; l < L; l++) {
        p->boundary_fwd[l] = p->source_tokens * (D + R) + (l > E ? p->target_tokens * (D + R) : 0);
        p->boundary_bwd[l] = p->source_tokens * back + (l > E ? p->target_tokens * back : 0);
    }
}

static pac_err profile_arrays(pac_profile *p)
{
    int64_t L = p->layers_enc + p->layers_dec, n = p->devices;
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, L, sizeof(pac_layer_bytes), &v));
    p->layer = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, L + 1, sizeof(double), &v));
    p->boundary_fwd = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, L + 1, sizeof(double), &v));
    p->boundary_bwd = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof(pac_device), &v));
    p->device = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n * n, sizeof(double), &v));
    p->bandwidth = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n * n, sizeof(double), &v));
    p->latency = v;
    return PAC_OK;
}

static void describe_run(const pac_job *job, pac_profile *p)
{
    const pac_dataset *d = &job->train;
    bool shift = job->batching.shift_source;
    const char *name = strrchr(job->cfg.model.path, '/');
    *p = (pac_profile){
        .layers_enc = job->desc.layers[PAC_ENC], .layers_dec = job->desc.layers[PAC_DEC], .devices = pac_world_size()};
    snprintf(p->model, sizeof p->model, "%.127s", name != NULL && name[1] != '\0' ? name + 1 : job->cfg.model.path);
    snprintf(p->technique, sizeof p->technique, "%s", pac_technique_name(job->tune.kind));
    profile_set_optimizer(job, p);
    p->source_tokens = (double)d->soff[d->rows] / (double)d->rows;
    p->target_tokens = shift ? p->source_tokens : (double)d->toff[d->rows] / (double)d->rows;
}

/* What the cached phase reads of one sample, on average. */
static pac_err bytes_read(const pac_job *job, double *out)
{
    cache_map map;
    PAC_TRY(cache_map_new(job, &map));
    *out = (double)pac_cache_bytes(&map.shape) / (double)job->train.rows;
    cache_map_free(&map);
    return PAC_OK;
}

/* ---- together ---- */

static pac_err exchange(pac_job *job, pac_profile *p, const pac_device *mine)
{
    int64_t n = p->devices, L = p->layers_enc + p->layers_dec;
    size_t counts[PAC_MAX_DEVICES];
    for (int64_t i = 0; i < n; i++)
        counts[i] = sizeof *mine;
    PAC_TRY(pac_allgatherv(pac_world(), mine, sizeof *mine, p->device, counts));
    PAC_TRY(pac_measure_links(pac_world(), p->bandwidth, p->latency));
    PAC_TRY(pac_bcast(pac_world(), p->bandwidth, (size_t)(n * n) * sizeof(double), 0));
    PAC_TRY(pac_bcast(pac_world(), p->latency, (size_t)(n * n) * sizeof(double), 0));
    layer_bytes(job, p);
    boundary_bytes(job, p);
    PAC_TRY(pac_agree(pac_world(), bytes_read(job, &p->cached_step_bytes_read)));
    return pac_bcast(pac_world(), p->layer, (size_t)L * sizeof *p->layer, 0);
}

pac_err pac_job_profile(pac_job *job, pac_profile *out)
{
    pac_profile p;
    pac_device mine = {.memory = job->budget};
    bench b = {.job = job, .profile = &p, .device = &mine};
    pac_err err = PAC_OK;
    describe_run(job, &p);
    snprintf(mine.name, sizeof mine.name, "%.48s:%lld", pac_world_host(), (long long)pac_world_rank());
    PAC_GO(budgets_check(&job->cfg, p.devices));
    PAC_GO(pac_agree(pac_world(), profile_arrays(&p)));
    PAC_GO(pac_agree(pac_world(), measure_here(&b)));
    PAC_GO(exchange(job, &p, &mine));
    *out = p;
out:
    pac_mem_free(b.sample);
    pac_arena_free(&b.keep);
    pac_arena_free(&b.work);
    if (err != PAC_OK)
        pac_profile_free(&p);
    return err;
}
