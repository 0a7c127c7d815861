/*
 * What a plan will take, whoever made it: seconds of a step, an epoch, the redistribution and a cached epoch, and bytes of
 * every rank. Unlike the paper's planner it counts whole samples, every micro-batch in flight and the slowest stage.
 */
#include "cost.h"
#include "timeline.h"

#include "pac/schedule.h"

#include <math.h>

typedef struct forecast {
    const pac_profile *p;
    const pac_plan *plan;
    int64_t batch, M; /* micro-batches that are not empty */
    int64_t size[2];  /* samples of the smaller and of the larger micro-batches */
    int64_t larger;   /* how many of the larger there are */
} forecast;

static double samples_of(const pac_stage_plan *st, int64_t n, int64_t r)
{
    pac_range a = pac_split_shares(n, st->share, st->ranks, r);
    return (double)(a.hi - a.lo);
}

static double stage_seconds(const forecast *f, const pac_stage_plan *st, int64_t n, bool backward)
{
    double worst = 0;
    for (int64_t r = 0; r < st->ranks; r++)
        worst = fmax(worst, pac_stage_time(f->p, st->rank[r], st->first, st->last, samples_of(st, n, r), backward));
    return worst;
}

/* What rank i of `a` exchanges with all ranks of `b`; seconds one message after the other. */
static double rank_traffic(const forecast *f, const pac_stage_plan *a, int64_t i, const pac_stage_plan *b, int64_t n,
                           double bytes, bool sends)
{
    double t = 0;
    pac_range mine = pac_split_shares(n, a->share, a->ranks, i);
    for (int64_t j = 0; j < b->ranks; j++) {
        pac_range both = pac_range_intersect(mine, pac_split_shares(n, b->share, b->ranks, j));
        int64_t from = sends ? a->rank[i] : b->rank[j], to = sends ? b->rank[j] : a->rank[i];
        int64_t at = from * f->p->devices + to;
        if (both.hi > both.lo)
            t += f->p->latency[at] + (double)(both.hi - both.lo) * bytes / f->p->bandwidth[at];
    }
    return t;
}

/* A micro-batch has crossed when the busiest sender and the busiest receiver are done. */
static double send_seconds(const forecast *f, const pac_stage_plan *from, const pac_stage_plan *to, int64_t n, double bytes)
{
    double worst = 0;
    for (int64_t i = 0; i < from->ranks; i++)
        worst = fmax(worst, rank_traffic(f, from, i, to, n, bytes, true));
    for (int64_t j = 0; j < to->ranks; j++)
        worst = fmax(worst, rank_traffic(f, to, j, from, n, bytes, false));
    return worst;
}

static void stage_times(const forecast *f, int64_t i, pac_stage_times *t)
{
    const pac_stage_plan *st = &f->plan->stage[i];
    for (int k = 0; k < 2; k++) {
        int64_t n = f->size[k];
        t->fwd[k] = stage_seconds(f, st, n, false);
        t->bwd[k] = stage_seconds(f, st, n, true);
        if (i + 1 < f->plan->stages)
            t->send_fwd[k] = send_seconds(f, st, st + 1, n, f->p->boundary_fwd[st->last]);
        if (i > 0)
            t->send_bwd[k] = send_seconds(f, st, st - 1, n, f->p->boundary_bwd[st->first]);
    }
    t->reduce = pac_allreduce_time(f->p, st->rank, st->ranks, pac_stage_bytes(f->p, st->first, st->last).tuned);
}

static pac_err hybrid_step(const forecast *f, double *seconds)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, f->plan->stages, sizeof(pac_stage_times), &v));
    pac_stage_times *t = v;
    for (int64_t i = 0; i < f->plan->stages; i++)
        stage_times(f, i, &t[i]);
    pac_err err = pac_timeline_1f1b(t, f->plan->stages, f->M, f->larger, seconds);
    pac_mem_free(t);
    return err;
}

/* ---- after the first epoch ---- */

static double world_allreduce(const forecast *f, const int64_t *ranks)
{
    return pac_allreduce_time(f->p, ranks, f->p->devices, pac_stage_bytes(f->p, 0, f->plan->layers).tuned);
}

/* Reading ahead hides behind computing, or the other way round. */
static double cached_step(const forecast *f, const int64_t *ranks)
{
    double n = ceil((double)f->batch / (double)f->p->devices), worst = 0;
    for (int64_t d = 0; d < f->p->devices; d++) {
        const pac_device *dev = &f->p->device[d];
        double compute = pac_side_time(f->p, d, n, false) + pac_side_time(f->p, d, n, true);
        double read = dev->disk_read > 0 ? n * f->p->cached_step_bytes_read / dev->disk_read : 0;
        worst = fmax(worst, fmax(compute, read));
    }
    return worst + world_allreduce(f, ranks);
}

/* All-gather of the cache and of what was learnt; what a device receives it also writes. */
static double redistribution(const forecast *f, const int64_t *ranks, int64_t rows)
{
    int64_t n = f->p->devices;
    double cache = (double)rows * f->p->cached_step_bytes_read, write = 0;
    for (int64_t d = 0; d < n; d++)
        if (f->p->device[d].disk_write > 0)
            write = fmax(write, cache * (double)(n - 1) / (double)n / f->p->device[d].disk_write);
    return pac_allgather_time(f->p, ranks, n, cache + pac_stage_bytes(f->p, 0, f->plan->layers).tuned) + write;
}

static pac_predicted phases(const forecast *f, const pac_plan_request *q, const int64_t *ranks, double step)
{
    double steps = (double)((q->rows - 1) / q->batch + 1);
    pac_predicted t = {.hybrid_step_s = step, .hybrid_epoch_s = steps * step};
    bool from_cache = q->cached && q->epochs > 1;
    if (from_cache) {
        t.redistribute_s = redistribution(f, ranks, q->rows);
        t.cached_epoch_s = steps * cached_step(f, ranks);
    }
    double later = from_cache ? t.cached_epoch_s : t.hybrid_epoch_s;
    t.total_s = t.hybrid_epoch_s + t.redistribute_s + (double)(q->epochs - 1) * later;
    return t;
}

/* ---- bytes ---- */

/*
 * A slot of the schedule keeps what the layers keep and what was received for them; one gradient is received at a time. The
 * larger micro-batches count.
 */
static void predict_bytes(const forecast *f, pac_plan *plan)
{
    for (int64_t i = 0; i < plan->stages; i++) {
        pac_stage_plan *st = &plan->stage[i];
        pac_layer_bytes b = pac_stage_bytes(f->p, st->first, st->last);
        int64_t behind = plan->stages - i;
        double in_flight = (double)(f->M < behind ? f->M : behind);
        double received = i > 0 ? f->p->boundary_fwd[st->first] : 0;
        double gradient = i + 1 < plan->stages ? f->p->boundary_bwd[st->last] : 0;
        for (int64_t r = 0; r < st->ranks; r++) {
            double n = samples_of(st, f->size[1], r);
            st->bytes[r] = pac_parameter_bytes(f->p, &b) + n * (in_flight * (b.activations + received) + gradient);
        }
    }
}

/* ---- the whole ---- */

static pac_err check(const pac_profile *p, const pac_plan_request *q, const pac_plan *plan)
{
    PAC_CHECK(q->batch >= 1 && q->rows >= 1 && q->epochs >= 1, PAC_EINVAL,
              "batch %lld, rows %lld, epochs %lld: must be at least 1", (long long)q->batch, (long long)q->rows,
              (long long)q->epochs);
    PAC_CHECK(plan->world == p->devices, PAC_ECONFIG, "the plan is for %lld ranks, the profile has %lld devices",
              (long long)plan->world, (long long)p->devices);
    PAC_CHECK(plan->layers == pac_profile_layers(p), PAC_ECONFIG,
              "the plan is for a model of %lld layers, the profile's has %lld", (long long)plan->layers,
              (long long)pac_profile_layers(p));
    return PAC_OK;
}

pac_err pac_plan_predict(const pac_profile *p, const pac_plan_request *q, pac_plan *plan)
{
    PAC_TRY(check(p, q, plan));
    int64_t ranks[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < p->devices; d++)
        ranks[d] = d;
    int64_t M = plan->microbatches < q->batch ? plan->microbatches : q->batch;
    forecast f = {.p = p, .plan = plan, .batch = q->batch, .M = M, .larger = q->batch % M, .size[0] = q->batch / M};
    f.size[1] = f.size[0] + (f.larger > 0);
    double step;
    PAC_TRY(hybrid_step(&f, &step));
    plan->predicted = phases(&f, q, ranks, step);
    predict_bytes(&f, plan);
    return PAC_OK;
}
