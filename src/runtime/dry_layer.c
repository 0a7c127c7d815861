/*
 * A layer as a stage of its own on the backend `count`: the code that trains, over memory that is only addresses. What a
 * profile says of a layer without measuring comes from here.
 */
#include "dry_layer.h"
#include "planning.h"
#include "pac/device.h"
#include "pac/rng.h"

#include <math.h>
#include <string.h>

const pac_backend *dry_backend(const pac_config *cfg)
{
    bool device = strcmp(cfg->backend, "cuda") == 0 || (strcmp(cfg->backend, "auto") == 0 && pac_device_count() > 0);
    return device ? pac_backend_count_device(rounds_weights(cfg)) : &pac_backend_count;
}

pac_err dry_job(const pac_job *job, pac_job **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof *job, &p));
    pac_job *shapes = p;
    *shapes = *job;
    shapes->be = dry_backend(&job->cfg);
    shapes->shapes = true;
    *out = shapes;
    return PAC_OK;
}

/* Tokens of a row, source and target. */
static int64_t row_tokens(const pac_dataset *d, int64_t row)
{
    return d->soff[row + 1] - d->soff[row] + d->toff[row + 1] - d->toff[row];
}

/* The row that is nearest to the mean length goes first: one sample stands for all where only one is run. */
static void typical_first(const pac_dataset *d, int64_t *sample)
{
    double mean = (double)(d->soff[d->rows] + d->toff[d->rows]) / (double)d->rows;
    int64_t best = 0;
    for (int64_t i = 1; i < d->rows; i++)
        if (fabs((double)row_tokens(d, sample[i]) - mean) < fabs((double)row_tokens(d, sample[best]) - mean))
            best = i;
    int64_t row = sample[best];
    sample[best] = sample[0];
    sample[0] = row;
}

static pac_err open_layer(const pac_job *shapes, int64_t layer, dry_layer *d)
{
    static const int64_t group = 1;
    void *p;
    PAC_TRY(pac_plan_even(&group, 1, pac_depth(&shapes->desc), 1, &d->plan));
    d->layout = (pac_layout){.plan = &d->plan, .P = 1, .M = 1};
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, shapes->train.rows, sizeof(int64_t), &p));
    d->sample = p;
    pac_rng_permutation(shapes->cfg.train.seed, 0, shapes->train.rows, d->sample);
    typical_first(&shapes->train, d->sample);
    PAC_TRY(stage_new(shapes, layer, layer + 1, STAGE_LEARNS, &d->s));
    return stage_reserve(d->s, 1);
}

pac_err dry_layer_new(const pac_job *shapes, int64_t layer, dry_layer *out)
{
    *out = (dry_layer){0};
    pac_err err = open_layer(shapes, layer, out);
    if (err != PAC_OK)
        dry_layer_free(out);
    return err;
}

void dry_layer_free(dry_layer *d)
{
    stage_free(&d->s);
    pac_plan_free(&d->plan);
    pac_mem_free(d->sample);
    pac_backend_count_device_release();
    *d = (dry_layer){0};
}

pac_err dry_layer_begin(dry_layer *d, int64_t n)
{
    stage *s = d->s;
    d->x = &s->slot[0];
    PAC_TRY(micro_begin(s, d->x, &s->job->train, d->sample, n, &d->layout));
    if (s->first > 0)
        PAC_TRY(wire_room(s, s->first, d->x, &d->x->in, WIRE_BOTH, false));
    if (s->last < pac_depth(&s->job->desc))
        PAC_TRY(wire_room(s, s->last, d->x, &d->x->dout, WIRE_BOTH, true));
    d->in = pac_arena_mark(d->x->arena);
    return PAC_OK;
}
