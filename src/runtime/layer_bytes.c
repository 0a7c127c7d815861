/*
 * Bytes of layers, boundaries and the cached phase for a profile: frozen weights and parameters from shapes, all else from the
 * ledger of dry runs of one layer at a time, so that the planner's sums are sums of what training really takes.
 */
#include "dry_layer.h"
#include "planning.h"
#include "profile_match.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SOME = 4 };                   /* samples between one and the batch, where bytes are looked at too */
enum { SLOTS = 8, CHUNK = 1 << 16 }; /* the least that the arena of a micro-batch takes, of as many in flight */

static const double unfilled = 1.04; /* ends of an arena's chunks in its first pass, on top of what it hands out */

/* ---- what learns and what does not ---- */

/* Two blocks and pages of the embedding on every device; with the last layer the head where it is larger. */
static void streamed_bytes(const pac_job *job, double table, pac_profile *p)
{
    double blocks = (double)pac_model_stream_bytes(&job->desc), head = job->tune.head == PAC_HEAD_LM ? table : 0;
    p->fixed += blocks;
    p->layer[p->layers_enc + p->layers_dec - 1].weights += fmax(0, head - blocks);
}

static void parameter_bytes(const pac_job *job, pac_profile *p)
{
    int64_t E = p->layers_enc, L = E + p->layers_dec;
    bool lm = job->tune.head == PAC_HEAD_LM, full = job->tune.kind == PAC_TECH_FULL;
    double table = (double)pac_dtype_size(job->desc.dtype) * (double)job->desc.vocab * (double)job->desc.block[PAC_ENC].D;
    for (int64_t l = 0; l < L; l++) {
        pac_layer_bytes *b = &p->layer[l];
        bool carries = l == 0 || (l == E && p->layers_dec > 0) || (l == L - 1 && lm && job->desc.tied);
        b->weights = full ? 0 : (double)pac_model_slice_bytes(&job->desc, l, l + 1, l == L - 1 && lm);
        b->tuned = 4.0 * (double)pac_tune_slice_parameters(&job->desc, &job->tune, l, l + 1);
        *(full ? &b->shared_tuned : &b->shared) = carries && !job->desc.stream ? table : 0;
    }
    if (job->desc.stream)
        streamed_bytes(job, table, p);
}

/* ---- what a pass takes ---- */

/* One forward and backward pass of some samples: how many of mean length they are, and what it takes. */
typedef struct pass_bytes {
    double samples, kept, work, passing;
} pass_bytes;

/* Rows that only a boundary keeps: the layer's output where no side network reads it. */
static double passing_rows(const dry_layer *d)
{
    const stage *s = d->s;
    int64_t E = s->job->desc.layers[PAC_ENC];
    pac_stack stack = s->first < E ? PAC_ENC : PAC_DEC;
    int64_t i = s->last - (stack == PAC_ENC ? 0 : E);
    if (s->through || i == s->job->desc.layers[stack] || s->reads[stack][i])
        return 0;
    return 4.0 * (double)(s->D * (stack == PAC_ENC ? d->x->batch.soff : d->x->batch.toff)[d->x->batch.B]);
}

/* Samples of mean length in the n first, by their tokens. */
static double mean_samples(const pac_profile *p, const pac_batch *b)
{
    double mean = p->source_tokens + p->target_tokens;
    return mean > 0 ? (double)(b->soff[b->B] + b->toff[b->B]) / mean : (double)b->B;
}

/*
 * What is kept is what the arena hands out, but for what a neighbour sent. A layer that is made again for its backward
 * (train.recompute) has its activations in scratch.
 */
static pac_err run_layer(const pac_profile *p, dry_layer *d, int64_t n, pass_bytes *out)
{
    int64_t work = pac_mem_current(PAC_MEM_WORK);
    PAC_TRY(dry_layer_begin(d, n));
    pac_mem_reset_peaks();
    PAC_TRY(stage_fwd(d->s, d->x, 1));
    PAC_TRY(stage_bwd(d->s, d->x));
    double used = (double)pac_arena_mark(d->x->arena);
    double again = d->s->again != NULL ? (double)pac_arena_mark(d->s->again) : 0;
    *out = (pass_bytes){.samples = mean_samples(p, &d->x->batch),
                        .kept = used - (double)d->in,
                        .work = (double)(pac_mem_peak(PAC_MEM_WORK) - work) + again,
                        .passing = passing_rows(d)};
    return PAC_OK;
}

static pac_err new_pass(const pac_job *shapes, const pac_profile *p, int64_t layer, int64_t n, pass_bytes *out)
{
    dry_layer d;
    PAC_TRY(dry_layer_new(shapes, layer, &d));
    pac_err err = run_layer(p, &d, n, out);
    dry_layer_free(&d);
    return err;
}

/*
 * Per sample: what a batch keeps, and of scratch the slope between one sample and the batch. What scratch takes beyond that
 * (the least chunk of an arena, the head's block of rows) goes to *rest.
 */
static pac_err layer_pass(const pac_job *shapes, int64_t layer, int64_t batch, pac_layer_bytes *b, const pac_profile *p,
                          double *rest)
{
    const int64_t n[] = {1, batch < SOME ? batch : SOME, batch};
    pass_bytes x[3];
    for (int i = 0; i < 3; i++)
        PAC_TRY(new_pass(shapes, p, layer, n[i], &x[i]));
    b->activations = unfilled * (x[2].kept - x[2].passing) / x[2].samples;
    double more = x[2].samples - x[0].samples;
    b->work = more > 0 ? fmax(0, x[2].work - x[0].work) / more : x[2].work / x[2].samples;
    for (int i = 0; i < 3; i++)
        *rest = fmax(*rest, x[i].work - b->work * x[i].samples);
    b->work += x[2].passing / x[2].samples;
    return PAC_OK;
}

/* Scratch that does not grow counts on every device, the head's with its layer. */
static pac_err all_layers(const pac_job *shapes, int64_t batch, pac_profile *p)
{
    int64_t L = pac_depth(&shapes->desc);
    double inside = 0, top = 0;
    for (int64_t l = 0; l < L; l++)
        PAC_TRY(layer_pass(shapes, l, batch, &p->layer[l], p, l + 1 < L ? &inside : &top));
    p->fixed += inside + SLOTS * CHUNK;
    p->layer[L - 1].weights += fmax(0, top - inside);
    return PAC_OK;
}

/* ---- boundaries ---- */

/* method.md section 5; backwards: of whatever carries gradients. */
static void boundary_bytes(const pac_job *job, pac_profile *p)
{
    int64_t E = p->layers_enc, L = E + p->layers_dec;
    bool through = pac_technique_through(job->tune.kind);
    double D = 4.0 * (double)job->desc.block[0].D, R = through ? 0 : D / (double)job->tune.reduction, back = through ? D : R;
    for (int64_t l = 1; l < L; l++) {
        p->boundary_fwd[l] = (D + R) * (p->source_tokens + (l > E ? p->target_tokens : 0));
        p->boundary_bwd[l] = back * (p->source_tokens + (l > E ? p->target_tokens : 0));
    }
}

/* ---- the cached phase ---- */

/* Bytes of the cached phase on one of so many devices with equal parts. */
static pac_err equal_parts(dry *d, int64_t devices, double *bytes)
{
    pac_plan plan;
    pac_footprint f;
    PAC_TRY(pac_plan_even(&devices, 1, pac_depth(&d->t.job->desc), 1, &plan));
    pac_err err = dry_cached(d, &plan, 0, NULL, &f);
    pac_plan_free(&plan);
    if (err == PAC_OK)
        *bytes = (double)f.total;
    return err;
}

/* A line over the samples of a device's part: through the whole batch and the smallest part. */
static pac_err cached_bytes(dry *d, pac_profile *p)
{
    const int64_t group = 1, batch = d->t.job->cfg.train.batch, parts = batch < PAC_MAX_DEVICES ? batch : PAC_MAX_DEVICES;
    pac_plan plan;
    pac_estimate_device device;
    double all, part, step = (double)(batch - batch / parts);
    p->cache_row = (double)pac_cache_row_bytes(&d->t.map.shape);
    p->cached_step_bytes_read = (double)pac_cache_bytes(&d->t.map.shape) / (double)d->t.job->train.rows;
    if (!d->caches || d->t.job->cfg.train.epochs < 2)
        return PAC_OK;
    PAC_TRY(pac_plan_even(&group, 1, pac_depth(&d->t.job->desc), 1, &plan));
    pac_err err = dry_hybrid(d, &plan, 0, 0, &device); /* its record size is what the reader's buffers follow */
    pac_plan_free(&plan);
    PAC_TRY(err);
    PAC_TRY(equal_parts(d, 1, &all));
    PAC_TRY(equal_parts(d, parts, &part));
    p->cached_sample = step > 0 ? fmax(0, (all - part) / step) : 0; /* buffers may be a few bytes larger for a smaller part */
    p->cached_fixed = all - p->cached_sample * (double)batch;
    return PAC_OK;
}

/* ---- together ---- */

static void describe_run(const pac_job *job, pac_profile *p)
{
    const pac_dataset *d = &job->train;
    const char *name = strrchr(job->cfg.model.path, '/');
    *p = (pac_profile){.layers_enc = job->desc.layers[PAC_ENC], .layers_dec = job->desc.layers[PAC_DEC]};
    snprintf(p->model, sizeof p->model, "%.127s", name != NULL && name[1] != '\0' ? name + 1 : job->cfg.model.path);
    snprintf(p->technique, sizeof p->technique, "%s", pac_technique_name(job->tune.kind));
    model_shape_text(&job->desc, p->shape);
    tune_setting_text(&job->tune, p->setting);
    p->max_source = job->cfg.task.max_source;
    p->max_target = job->cfg.task.max_target;
    profile_set_optimizer(job, p);
    p->source_tokens = (double)d->soff[d->rows] / (double)d->rows;
    p->target_tokens = job->batching.shift_source ? p->source_tokens : (double)d->toff[d->rows] / (double)d->rows;
}

static pac_err dry_bytes(pac_job *shapes, pac_profile *p)
{
    int64_t rows = shapes->train.rows, batch = shapes->cfg.train.batch < rows ? shapes->cfg.train.batch : rows;
    dry d = {0};
    pac_err err;
    PAC_GO(dry_new(shapes, &d));
    d.most = 8;
    d.caches = train_uses_cache(&shapes->cfg);
    p->fixed += (double)pac_mem_current(PAC_MEM_DATA);
    PAC_GO(all_layers(shapes, batch, p));
    err = cached_bytes(&d, p);
out:
    dry_free(&d);
    return err;
}

pac_err profile_describe(const pac_job *job, int64_t devices, pac_profile *out)
{
    pac_profile p;
    pac_job *shapes = NULL;
    pac_err err;
    describe_run(job, &p);
    PAC_GO(pac_profile_alloc(pac_depth(&job->desc), devices, &p));
    PAC_GO(dry_job(job, &shapes));
    parameter_bytes(job, &p);
    boundary_bytes(job, &p);
    pac_mem_dry(true);
    err = dry_bytes(shapes, &p);
    pac_mem_dry(false);
out:
    pac_mem_free(shapes);
    if (err != PAC_OK)
        pac_profile_free(&p);
    else
        *out = p;
    return err;
}
