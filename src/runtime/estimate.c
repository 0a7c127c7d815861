/*
 * An estimate: the job from its configuration alone, a plan, and a dry run of every device of it.
 *
 * Nothing here knows a formula of memory: see estimate_dry.c.
 */
#include "estimate.h"
#include "dry_layer.h"
#include "planning.h"
#include "pac/bytes.h"
#include "pac/cache.h"
#include "pac/device.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_STEPS = 256 }; /* mini-batches that are run for memory, over all devices */

/* ---- the job ---- */

static bool readable(const char *path)
{
    return path[0] != '\0' && access(path, R_OK) == 0;
}

/* Is there data to take lengths from? Text is of no use without a tokenizer. */
static pac_err has_data(const pac_job *j, bool *out)
{
    const pac_config *c = &j->cfg;
    pac_tokenizer *tokenizer = NULL;
    *out = readable(c->task.train) && (!c->task.split_paper || readable(c->task.eval));
    if (!*out || !pac_task_needs_tokenizer(j->task))
        return PAC_OK;
    pac_err err = pac_tokenizer_open(c->model.path, &tokenizer);
    if (err == PAC_OK)
        pac_tokenizer_close(&tokenizer);
    *out = err == PAC_OK;
    return err == PAC_EIO ? PAC_OK : err;
}

static pac_err fixed_offsets(int64_t rows, int64_t each, int64_t **out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, rows + 1, sizeof(int64_t), &p));
    *out = p;
    for (int64_t i = 0; i <= rows; i++)
        (*out)[i] = i * each;
    return PAC_OK;
}

/* n numbers of 4 bytes, all zero. */
static pac_err zeros(int64_t n, void *out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n, 4, &p));
    *(void **)out = p;
    return PAC_OK;
}

/* Samples that all have the greatest length, and tokens that mean nothing. */
static pac_err fixed_data(pac_job *j, int64_t rows)
{
    const pac_config *c = &j->cfg;
    pac_dataset *d = &j->train;
    bool classes = c->head == PAC_HEAD_CLASSIFICATION;
    int64_t S = c->task.max_source, T = classes ? 0 : c->task.max_target;
    S *= c->task.pairs_separate ? 2 : 1;
    d->rows = rows;
    PAC_TRY(fixed_offsets(rows, S, &d->soff));
    PAC_TRY(fixed_offsets(rows, T, &d->toff));
    PAC_TRY(zeros(rows * S, &d->sids));
    PAC_TRY(zeros(rows * T, &d->labels));
    if (classes)
        PAC_TRY(j->tune.classes > 1 ? zeros(rows, &d->cls) : zeros(rows, &d->value));
    if (!c->task.pairs_separate)
        return PAC_OK;
    PAC_TRY(zeros(rows, &d->second));
    for (int64_t i = 0; i < rows; i++)
        d->second[i] = (int32_t)(S / 2);
    return PAC_OK;
}

/* Nobody has to download a model for an estimate. */
static pac_err describe(pac_job *j)
{
    char why[PAC_PATH + 256], config[PAC_PATH + 16];
    pac_err err = job_describe(j);
    snprintf(config, sizeof config, "%s/config.json", j->cfg.model.path);
    if (err != PAC_EIO || strncmp(j->cfg.model.path, "shape:", 6) == 0 || access(config, F_OK) == 0)
        return err;
    snprintf(why, sizeof why, "%s", pac_err_message());
    return pac_fail(err,
                    "%s; this command needs no weights: model.path: shape:t5-base is a model without files (pac init-model "
                    "which models/none lists the shapes)",
                    why);
}

static pac_err open_local(pac_job *j)
{
    bool from_data;
    PAC_TRY(describe(j));
    j->be = dry_backend(&j->cfg);
    if (j->be->space != NULL && pac_device_count() > 0) /* its memory is the budget */
        PAC_TRY(pac_device_open(0));
    PAC_TRY(job_budget(j));
    j->shapes = true;
    PAC_TRY(has_data(j, &from_data));
    int data = PAC_JOB_TRAIN | (readable(j->cfg.task.eval) ? PAC_JOB_EVAL : 0); /* a run holds both */
    return from_data ? job_load_data(j, data)
                     : fixed_data(j, 2 * j->cfg.train.batch); /* arenas settle in the second mini-batch */
}

pac_err pac_estimate_open(const pac_config *cfg, pac_job **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_job), &p));
    pac_job *j = p;
    j->cfg = *cfg;
    pac_err err = open_local(j);
    if (err != PAC_OK)
        pac_job_close(&j);
    else
        *out = j;
    return err;
}

pac_err pac_estimate_rows(pac_job *job, int64_t rows)
{
    if (job->train.identity != 0) /* made up data has none */
        return PAC_OK;
    pac_dataset_free(&job->train);
    return fixed_data(job, rows);
}

/* ---- plans ---- */

pac_err pac_estimate_plan(const pac_job *job, int64_t devices, pac_plan *out)
{
    const pac_config *c = &job->cfg;
    int64_t even[PAC_MAX_DEVICES], L = pac_depth(&job->desc), stages = devices, ranks = 0;
    const int64_t *groups = even;
    PAC_CHECK(devices >= 1 && devices <= PAC_MAX_DEVICES, PAC_EUSAGE, "--devices %lld: 1 to %d are possible",
              (long long)devices, PAC_MAX_DEVICES);
    PAC_TRY(system_check(job, devices));
    for (int64_t i = 0; i < devices; i++)
        even[i] = 1;
    if (c->system.kind == PAC_SYS_EDDL) {
        even[0] = devices;
        stages = 1;
    } else if (c->system.ngroups > 0) {
        groups = c->system.groups;
        stages = c->system.ngroups;
    }
    for (int64_t i = 0; i < stages; i++)
        ranks += groups[i];
    PAC_CHECK(ranks == devices, PAC_ECONFIG, "%s: system.groups needs %lld devices, --devices says %lld", c->path,
              (long long)ranks, (long long)devices);
    PAC_CHECK(stages <= L, PAC_ECONFIG, "%lld stages, but the model has only %lld layers: give --plan FILE or system.groups",
              (long long)stages, (long long)L);
    int64_t M = c->train.microbatches > 0 ? c->train.microbatches : stages > 1 ? 2 * stages : 1;
    return pac_plan_even(groups, stages, L, M < c->train.batch ? M : c->train.batch, out);
}

/* ---- lengths and parameters ---- */

static void measure_lengths(const dry *d, pac_estimate *e)
{
    const pac_dataset *data = &d->t.job->train;
    for (int64_t i = 0; i < data->rows; i++) {
        int64_t S = d->t.map.len[PAC_ENC][i], T = d->t.map.len[PAC_DEC][i];
        e->source += (double)S / (double)data->rows;
        e->target += (double)T / (double)data->rows;
        e->longest_source = S > e->longest_source ? S : e->longest_source;
        e->longest_target = T > e->longest_target ? T : e->longest_target;
    }
    e->from_data = data->identity != 0 && /* made up data has none */
                   !d->t.job->cfg.task.pad_max;
}

static void count_parameters(const pac_job *job, bool inference, pac_estimate *e)
{
    e->backbone = pac_model_parameters(&job->desc);
    e->tuned = inference ? 0 : pac_tune_parameters(&job->desc, &job->tune);
    e->head = inference ? 0 : pac_head_parameters(&job->desc, &job->tune);
}

/* ---- all devices ---- */

static double budget_for(const pac_job *job, int64_t rank)
{
    return job->cfg.system.memory_auto ? 0 : budget_of(&job->cfg, rank);
}

static pac_err run_one(dry *d, pac_estimate *e)
{
    const pac_job *job = d->t.job;
    const int64_t group = 1;
    int64_t M = job->cfg.train.microbatches > 0 && !d->inference ? job->cfg.train.microbatches : 1;
    pac_plan plan;
    PAC_TRY(pac_plan_even(&group, 1, pac_depth(&job->desc), M, &plan));
    pac_err err = dry_hybrid(d, &plan, 0, 0, &e->one);
    e->one.budget = job->cfg.system.memory_auto ? job->budget : budget_for(job, 0);
    pac_plan_free(&plan);
    return err;
}

/* running: the plan without what is left out. */
static pac_err run_devices(dry *d, const pac_plan *plan, const pac_plan *running, pac_estimate *e)
{
    void *p;
    PAC_TRY(budgets_check(&d->t.job->cfg, plan->world));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, running->world, sizeof(pac_estimate_device), &p));
    e->device = p;
    e->devices = running->world;
    d->record = 0;
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++) {
            pac_estimate_device *to = &e->device[running->stage[s].rank[i]];
            PAC_TRY(dry_hybrid(d, running, s, i, to));
            to->rank = plan->stage[s].rank[i];
            to->budget = budget_for(d->t.job, to->rank);
        }
    return PAC_OK;
}

/* The device with the largest part of a mini-batch. */
static pac_err cached_heaviest(dry *d, const pac_plan *plan, pac_estimate *e)
{
    int64_t rank = 0;
    for (int64_t r = 1; r < plan->world && plan->cached_share != NULL; r++)
        if (plan->cached_share[r] > plan->cached_share[rank])
            rank = r;
    return dry_cached(d, plan, rank, &e->cached_flop, &e->cached);
}

static pac_err run_cached(dry *d, const pac_plan *plan, pac_estimate *e)
{
    e->caches = d->caches;
    if (!d->caches)
        return PAC_OK;
    e->cache_sample = pac_cache_bytes(&d->t.map.shape) / d->t.job->train.rows;
    if (d->t.job->cfg.train.epochs < 2)
        return PAC_OK;
    if (plan != NULL)
        return cached_heaviest(d, plan, e);
    const int64_t group = 1;
    pac_plan alone;
    PAC_TRY(pac_plan_even(&group, 1, pac_depth(&d->t.job->desc), 1, &alone));
    pac_err err = dry_cached(d, &alone, 0, &e->cached_flop, &e->cached);
    pac_plan_free(&alone);
    return err;
}

static pac_err run_plan(dry *d, const pac_plan *plan, pac_estimate *e)
{
    pac_plan running;
    PAC_TRY(pac_plan_compact(plan, &running));
    pac_err err = run_devices(d, plan, &running, e);
    if (err == PAC_OK)
        err = run_cached(d, &running, e);
    pac_plan_free(&running);
    return err;
}

static pac_err run_all(dry *d, const pac_plan *plan, pac_estimate *e)
{
    measure_lengths(d, e);
    d->most = plan != NULL && MOST_STEPS / plan->world < MOST_STEPS ? MOST_STEPS / plan->world : MOST_STEPS;
    PAC_TRY(run_one(d, e));
    return plan != NULL ? run_plan(d, plan, e) : run_cached(d, NULL, e);
}

pac_err pac_estimate_run(pac_job *job, const pac_plan *plan, bool inference, pac_estimate *out)
{
    const pac_config *c = &job->cfg;
    dry d = {0};
    pac_estimate e = {0};
    pac_err err;
    PAC_CHECK(job->shapes, PAC_EINVAL, "an estimate needs a job of pac_estimate_open()");
    if (plan != NULL)
        PAC_TRY(system_check_plan(job, plan));
    count_parameters(job, inference, &e);
    pac_mem_dry(true);
    PAC_GO(dry_new(job, &d));
    d.inference = inference;
    d.caches = !inference && train_uses_cache(c);
    e.records = d.records;
    err = run_all(&d, plan, &e);
out:
    dry_free(&d);
    pac_mem_dry(false);
    if (err != PAC_OK)
        pac_estimate_free(&e);
    else
        *out = e;
    return err;
}

void pac_estimate_free(pac_estimate *e)
{
    pac_mem_free(e->device);
    *e = (pac_estimate){0};
}

/* ---- before a run ---- */

/* Records, plan, communicators and what else a run holds that a dry one has no use for. */
enum { BESIDE = 448 << 10 };

/* What the libraries of a device take there for themselves. */
enum { DEVICE_BESIDE = 40 << 20 };

/* A device with memory of its own is held to its own; one that shares the host's to all of it, once. */
double dry_needs(const pac_footprint *first, const pac_footprint *later, int64_t records)
{
    int64_t device = first->device > later->device ? first->device : later->device;
    if (device > 0 && !pac_device_integrated())
        return (double)(device + DEVICE_BESIDE);
    return (double)((first->total > later->total ? first->total : later->total) - records + BESIDE);
}

/* One device's phases of a plan. */
static pac_err dry_phases(dry *d, const pac_plan *plan, int64_t s, int64_t i, pac_footprint *first, pac_footprint *later)
{
    pac_estimate_device device;
    *later = (pac_footprint){.total = 0};
    PAC_TRY(dry_hybrid(d, plan, s, i, &device));
    *first = device.phase;
    if (d->caches && d->t.job->cfg.train.epochs > 1)
        PAC_TRY(dry_cached(d, plan, plan->stage[s].rank[i], NULL, later));
    return PAC_OK;
}

static pac_err over_budget(const pac_job *job, const pac_stage_plan *st, double needs, const pac_footprint *f)
{
    const int64_t *tag = f->tag;
    double mib = 1048576;
    char budget[32];
    if (job->budget < mib)
        pac_bytes_text(job->budget, budget);
    else
        snprintf(budget, sizeof budget, "%.2f MiB", job->budget / mib); /* as exact as what is needed */
    int64_t learns = tag[PAC_MEM_TUNED] + tag[PAC_MEM_GRADIENTS] + tag[PAC_MEM_OPTIMIZER], named = learns;
    named += tag[PAC_MEM_WEIGHTS] + tag[PAC_MEM_ACTIVATIONS] + tag[PAC_MEM_CACHE] + tag[PAC_MEM_WORK];
    int64_t others = -named;
    for (int t = 0; t < PAC_MEM_NTAGS; t++)
        others += tag[t];
    return pac_fail(PAC_ENOMEM,
                    "layers %lld-%lld need %.2f MiB, the budget is %s (system.memory): %s, or share the layers differently. "
                    "Each at its peak: weights %.1f, learning parameters with gradients and optimizer %.1f, activations %.1f, "
                    "cache %.1f, scratch %.1f, messages and data %.1f, a run's records %.2f",
                    (long long)st->first, (long long)st->last - 1, needs / mib, budget,
                    job->cfg.train.recompute || !pac_technique_through(job->tune.kind)
                        ? "more train.microbatches"
                        : "train.recompute, more train.microbatches",
                    (double)tag[PAC_MEM_WEIGHTS] / mib, (double)learns / mib, (double)tag[PAC_MEM_ACTIVATIONS] / mib,
                    (double)tag[PAC_MEM_CACHE] / mib, (double)tag[PAC_MEM_WORK] / mib, (double)others / mib, BESIDE / mib);
}

pac_err dry_check(const pac_job *job, const pac_plan *plan, int64_t number, int64_t member)
{
    return job->cfg.system.memory_auto ? PAC_OK : dry_holds(job, plan, number, member);
}

pac_err dry_holds(const pac_job *job, const pac_plan *plan, int64_t number, int64_t member)
{
    dry d = {0};
    pac_footprint first, later;
    pac_job *shapes;
    pac_err err;
    PAC_TRY(dry_job(job, &shapes));
    pac_mem_dry(true);
    PAC_GO(dry_new(shapes, &d));
    d.most = plan->world < MOST_STEPS ? MOST_STEPS / plan->world : 1; /* as an estimate of the plan */
    d.caches = plan->cached && train_uses_cache(&job->cfg);
    PAC_GO(dry_phases(&d, plan, number, member, &first, &later));
    double needs = dry_needs(&first, &later, d.records);
    if (needs - PROCESSES_DIFFER > job->budget)
        err = over_budget(job, &plan->stage[number], needs, first.total > later.total ? &first : &later);
out:
    dry_free(&d);
    pac_mem_dry(false);
    pac_mem_free(shapes);
    return err;
}

/* ---- the bytes of a plan ---- */

static pac_err dry_stage(dry *d, const pac_plan *plan, int64_t s, int64_t i, double *bytes)
{
    pac_footprint first, later;
    d->record = 0;
    PAC_TRY(dry_phases(d, plan, s, i, &first, &later));
    *bytes = dry_needs(&first, &later, d->records);
    return PAC_OK;
}

static pac_err dry_stages(dry *d, const pac_plan *running, pac_plan *plan)
{
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            PAC_TRY(dry_stage(d, running, s, i, &plan->stage[s].bytes[i]));
    return PAC_OK;
}

pac_err dry_plan(const pac_job *job, pac_plan *plan)
{
    dry d = {0};
    pac_plan running; /* what is left out does not run */
    pac_job *shapes = NULL;
    pac_err err;
    PAC_TRY(pac_plan_compact(plan, &running));
    PAC_GO(dry_job(job, &shapes));
    pac_mem_dry(true);
    PAC_GO(dry_new(shapes, &d));
    d.most = plan->world < MOST_STEPS ? MOST_STEPS / plan->world : 1;
    d.caches = plan->cached && train_uses_cache(&job->cfg);
    err = dry_stages(&d, &running, plan);
out:
    dry_free(&d);
    pac_mem_dry(false);
    pac_mem_free(shapes);
    pac_plan_free(&running);
    return err;
}
