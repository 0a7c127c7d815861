/*
 * The profile of devices that are not here: every layer runs dry at several batch sizes, the operations that it would do are
 * collected by kind of work, and the descriptions of the devices say what they take (pac/cluster.h). Kinds are means over the
 * layers of a stack, so that the sum over a model is what the model does.
 */
#include "dry_layer.h"
#include "planning.h"
#include "pac/cluster.h"

#include <stdio.h>

typedef struct watching {
    pac_work *work;
    pac_err err;
} watching;

static void note(void *user, double flop, double bytes, double extent)
{
    watching *w = user;
    if (w->err == PAC_OK)
        w->err = pac_work_add(w->work, flop, bytes, extent, 1);
}

/* Collect the operations of `run` in *work: WATCH(&work, stage_bwd(s, x)). */
#define WATCH(to, run)                                                                                                         \
    do {                                                                                                                       \
        watching w_ = {.work = (to)};                                                                                          \
        pac_backend_watch(note, &w_);                                                                                          \
        pac_err run_err_ = (run);                                                                                              \
        pac_backend_watch(NULL, NULL);                                                                                         \
        PAC_TRY(run_err_);                                                                                                     \
        PAC_TRY(w_.err);                                                                                                       \
    } while (0)

/* What a layer does in one pass: the riders apart. */
typedef struct layer_work {
    pac_work embed, block[2], side[2], head;
} layer_work;

static void layer_work_free(layer_work *w)
{
    pac_work_free(&w->embed);
    pac_work_free(&w->head);
    for (int back = 0; back < 2; back++) {
        pac_work_free(&w->block[back]);
        pac_work_free(&w->side[back]);
    }
}

static pac_stack stack_of(const pac_job *job, int64_t layer)
{
    return layer < job->desc.layers[PAC_ENC] ? PAC_ENC : PAC_DEC;
}

/* The embedding is part of the first block's pass, from where it is taken out. */
static pac_err collect_embedding(dry_layer *d, layer_work *w)
{
    pac_stack stack = stack_of(d->s->job, d->s->first);
    float *rows;
    if (d->s->first != (stack == PAC_ENC ? 0 : d->s->job->desc.layers[PAC_ENC]))
        return PAC_OK;
    PAC_TRY(pac_arena_floats(d->x->arena, (stack == PAC_ENC ? d->x->batch.soff : d->x->batch.toff)[d->x->batch.B] * d->s->D,
                             &rows));
    WATCH(&w->embed, pac_model_embed(d->s->model, stack, &d->x->batch, rows));
    return pac_work_join(&w->block[0], &w->embed, -1);
}

static pac_err collect_head(dry_layer *d, layer_work *w)
{
    if (d->s->last < pac_depth(&d->s->job->desc))
        return PAC_OK;
    WATCH(&w->head, stage_loss(d->s, d->x, d->s->model, 1, true));
    return PAC_OK;
}

static pac_err collect_through(dry_layer *d, layer_work *w)
{
    WATCH(&w->block[0], through_fwd(d->s, d->x));
    PAC_TRY(collect_head(d, w));
    WATCH(&w->block[1], through_bwd(d->s, d->x));
    return PAC_OK;
}

static pac_err collect_beside(dry_layer *d, layer_work *w)
{
    stage *s = d->s;
    micro *x = d->x;
    pac_pass p = micro_pass(x, s->work, true);
    WATCH(&w->block[0], stage_backbone(s, x, PAC_ENC));
    WATCH(&w->block[0], stage_backbone(s, x, PAC_DEC));
    WATCH(&w->side[0], pac_side_fwd(pac_tuned_side(s->tuned), &p, &x->acts, &x->in.side, &x->out.side, &x->h, true, &x->saved));
    PAC_TRY(collect_head(d, w));
    WATCH(&w->side[1], stage_bwd(s, x));
    return PAC_OK;
}

static pac_err collect(dry_layer *d, int64_t n, layer_work *w)
{
    PAC_TRY(dry_layer_begin(d, n));
    PAC_TRY(d->s->through ? collect_through(d, w) : collect_beside(d, w));
    return collect_embedding(d, w);
}

/* ---- all layers ---- */

/* Layers of a stack that work is a mean over: those with a side layer, or all. */
static int64_t layers_with(const pac_profile *p, pac_stack stack, bool side)
{
    int64_t n = 0, base = stack == PAC_ENC ? 0 : p->layers_enc,
            end = stack == PAC_ENC ? p->layers_enc : p->layers_enc + p->layers_dec;
    for (int64_t l = base; l < end; l++)
        n += !side || p->layer[l].tuned > 0;
    return n > 0 ? n : 1;
}

static pac_err join_layer(const pac_profile *p, pac_stack stack, const layer_work *w, int64_t at, pac_work_table *t)
{
    bool enc = stack == PAC_ENC;
    int block = enc ? PAC_COST_ENC_BLOCK : PAC_COST_DEC_BLOCK, side = enc ? PAC_COST_ENC_SIDE : PAC_COST_DEC_SIDE;
    double of_blocks = 1 / (double)layers_with(p, stack, false), of_sides = 1 / (double)layers_with(p, stack, true);
    PAC_TRY(pac_work_join(&t->fwd[block][at], &w->block[0], of_blocks));
    PAC_TRY(pac_work_join(&t->bwd[block][at], &w->block[1], of_blocks));
    PAC_TRY(pac_work_join(&t->fwd[side][at], &w->side[0], of_sides));
    PAC_TRY(pac_work_join(&t->bwd[side][at], &w->side[1], of_sides));
    PAC_TRY(pac_work_join(&t->fwd[enc ? PAC_COST_ENC_EMBED : PAC_COST_DEC_EMBED][at], &w->embed, 1));
    return pac_work_join(&t->fwd[PAC_COST_HEAD][at], &w->head, 1);
}

static pac_err layer_point(const pac_profile *p, dry_layer *d, int64_t n, int64_t at, pac_work_table *t)
{
    layer_work w = {0};
    pac_err err = collect(d, n, &w);
    double source = (double)d->x->batch.soff[d->x->batch.B], target = (double)d->x->batch.toff[d->x->batch.B];
    for (int k = 0; k < PAC_COST_NKINDS && err == PAC_OK; k++)
        t->tokens[k][at] = pac_cost_tokens((pac_cost_kind)k, source, target);
    if (err == PAC_OK)
        err = join_layer(p, stack_of(d->s->job, d->s->first), &w, at, t);
    layer_work_free(&w);
    return err;
}

/* 1, 2, 4, ... samples up to the mini-batch, which is always the last point. */
static int64_t choose_points(const pac_job *job, int64_t batch[static PAC_MAX_POINTS])
{
    int64_t rows = job->train.rows, most = job->cfg.train.batch < rows ? job->cfg.train.batch : rows, points = 0;
    for (int64_t n = 1; n < most && points < PAC_MAX_POINTS - 1; n *= 2)
        batch[points++] = n;
    batch[points++] = most;
    return points;
}

/* What clipping and the optimizer move for each byte that learns. */
static pac_err update_work(const pac_job *shapes, dry_layer *d, pac_work_table *t)
{
    pac_params *params = pac_tuned_params(d->s->tuned);
    pac_optimizer *opt = NULL;
    pac_work w = {0};
    watching watch = {.work = &w};
    PAC_TRY(pac_optimizer_new(&shapes->cfg.train.optimizer, NULL, params->total, &opt));
    pac_backend_watch(note, &watch);
    shapes->be->sumsq(params->g, params->total);
    pac_optimizer_step(opt, shapes->be, params, 0, 1);
    pac_backend_watch(NULL, NULL);
    if (params->total > 0)
        t->update_bytes = pac_work_bytes(&w) / (4.0 * (double)params->total);
    pac_work_free(&w);
    pac_optimizer_free(&opt);
    return watch.err;
}

static pac_err all_layers(const pac_job *shapes, const pac_profile *p, pac_work_table *t)
{
    int64_t batch[PAC_MAX_POINTS];
    t->points = choose_points(shapes, batch);
    for (int64_t l = 0; l < pac_depth(&shapes->desc); l++) {
        dry_layer d;
        PAC_TRY(dry_layer_new(shapes, l, &d));
        pac_err err = PAC_OK;
        for (int64_t at = 0; at < t->points && err == PAC_OK; at++)
            err = layer_point(p, &d, batch[at], at, t);
        if (err == PAC_OK && p->layer[l].tuned > 0)
            err = update_work(shapes, &d, t);
        dry_layer_free(&d);
        PAC_TRY(err);
    }
    return PAC_OK;
}

pac_err job_work(const pac_job *job, const pac_profile *p, pac_work_table *out)
{
    pac_job *shapes;
    PAC_TRY(dry_job(job, &shapes));
    pac_mem_dry(true);
    pac_err err = all_layers(shapes, p, out);
    pac_mem_dry(false);
    pac_mem_free(shapes);
    return err;
}

pac_err pac_job_cluster_profile(pac_job *job, const char *cluster_path, pac_profile *out)
{
    pac_cluster cluster = {0};
    pac_profile p = {0};
    pac_work_table *t = NULL;
    void *v;
    pac_err err;
    PAC_TRY(pac_cluster_read(cluster_path, &cluster));
    PAC_GO(profile_describe(job, cluster.devices, &p));
    PAC_GO(pac_mem_alloc(PAC_MEM_OTHER, sizeof *t, &v));
    t = v;
    pac_cross_force(cluster.plain_cross ? PAC_CROSS_PLAIN : PAC_CROSS_CHEAPER);
    err = job_work(job, &p, t);
    pac_cross_force(PAC_CROSS_CHEAPER);
    if (err != PAC_OK)
        goto out;
    snprintf(p.derived, sizeof p.derived, "%.127s", cluster_path);
    err = pac_cluster_profile(&cluster, t, &p);
out:
    if (t != NULL)
        pac_work_table_free(t);
    pac_mem_free(t);
    pac_cluster_free(&cluster);
    if (err != PAC_OK)
        pac_profile_free(&p);
    else
        *out = p;
    return err;
}
