/*
 * Seconds and bytes of stages, groups and the cached phase. Samples are whole: the boundaries of the ranks of a stage are those
 * of pac_split_shares(), so that what is scored is what runs.
 */
#include "model.h"
#include "move.h"

#include "pac/schedule.h"

#include <math.h>

/* First samples of each rank of each stage, for the smaller and the larger micro-batches; a stage's end follows its last rank.
 */
typedef struct bounds {
    int64_t lo[2][2 * PAC_MAX_DEVICES];
    int64_t at[PAC_MAX_DEVICES]; /* where a stage's begin */
} bounds;

static void split_stage(const pac_stage_plan *st, int64_t n, int64_t *lo)
{
    double sum = 0, before = 0;
    for (int64_t r = 0; r < st->ranks; r++)
        sum += st->share[r];
    lo[0] = 0;
    for (int64_t r = 0; r < st->ranks; r++) {
        before += st->share[r];
        lo[r + 1] = (int64_t)rint((double)n * (before / sum));
    }
}

static void split_all(const pac_stage_plan *stage, int64_t P, const pac_micro *m, bounds *b)
{
    int64_t at = 0;
    for (int64_t i = 0; i < P; i++) {
        b->at[i] = at;
        split_stage(&stage[i], m->size[0], &b->lo[0][at]);
        split_stage(&stage[i], m->size[1], &b->lo[1][at]);
        at += stage[i].ranks + 1;
    }
}

static double slowest(const pac_costs *c, const pac_stage_cost *s, const pac_stage_plan *st, const int64_t *lo, bool backward)
{
    double worst = 0;
    for (int64_t r = 0; r < st->ranks; r++)
        worst = pac_larger(worst, pac_work_seconds(c, s, st->rank[r], lo[r + 1] - lo[r], backward));
    return worst;
}

/*
 * A micro-batch has crossed when the busiest sender and the busiest receiver are done; each handles its messages one after the
 * other. The ranges of both sides are walked together, as in a merge.
 */
static double crossing(const pac_costs *c, const pac_stage_plan *from, const int64_t *f, const pac_stage_plan *to,
                       const int64_t *t, double bytes)
{
    double worst = 0, sends = 0, receives = 0;
    int64_t i = 0, j = 0;
    while (i < from->ranks && j < to->ranks) {
        int64_t lo = f[i] > t[j] ? f[i] : t[j], hi = f[i + 1] < t[j + 1] ? f[i + 1] : t[j + 1];
        if (hi > lo) {
            int64_t at = from->rank[i] * c->D + to->rank[j];
            double seconds = c->p->latency[at] + (double)(hi - lo) * bytes / c->p->bandwidth[at];
            sends += seconds;
            receives += seconds;
            worst = pac_larger(worst, pac_larger(sends, receives));
        }
        bool sender_done = f[i + 1] <= t[j + 1];
        if (sender_done) {
            i++;
            sends = 0;
        } else {
            j++;
            receives = 0;
        }
    }
    return worst;
}

static double slowest_update(const pac_costs *c, const pac_stage_plan *st, double bytes)
{
    double worst = 0;
    for (int64_t r = 0; r < st->ranks; r++)
        worst = pac_larger(worst, c->p->device[st->rank[r]].update * bytes);
    return worst;
}

/* Parameters that several stages hold are summed once more, over all their devices. Seconds. */
static double sum_shared(const pac_costs *c, const pac_stage_plan *stage, int64_t P, const double *shared)
{
    int64_t rank[PAC_MAX_DEVICES], n = 0, holders = 0;
    double bytes = 0;
    for (int64_t i = 0; i < P; i++) {
        if (!(shared[i] > 0))
            continue;
        holders++;
        bytes = pac_larger(bytes, shared[i]);
        for (int64_t r = 0; r < stage[i].ranks; r++)
            rank[n++] = stage[i].rank[r];
    }
    return holders > 1 ? pac_allreduce_time(c->p, rank, n, bytes) : 0;
}

static void stage_times(const pac_costs *c, const pac_stage_plan *stage, int64_t P, int64_t i, const pac_stage_cost *s,
                        const bounds *b, pac_stage_times *t)
{
    const pac_stage_plan *st = &stage[i];
    for (int k = 0; k < 2; k++) {
        const int64_t *lo = &b->lo[k][b->at[i]];
        t->fwd[k] = slowest(c, s, st, lo, false);
        t->bwd[k] = slowest(c, s, st, lo, true);
        t->send_fwd[k] = t->send_bwd[k] = 0;
        if (i + 1 < P)
            t->send_fwd[k] = crossing(c, st, lo, st + 1, &b->lo[k][b->at[i + 1]], c->p->boundary_fwd[st->last]);
        if (i > 0)
            t->send_bwd[k] = crossing(c, st, lo, st - 1, &b->lo[k][b->at[i - 1]], c->p->boundary_bwd[st->first]);
    }
    t->reduce = pac_reduce_behind(c->p, c->q, st->rank, st->ranks, s->learning, t->bwd[0]);
    t->update = slowest_update(c, st, s->learning);
}

/* Of the larger of both sizes; a rank may have more of the smaller, since boundaries are rounded. */
static int64_t most_samples(const bounds *b, int64_t at)
{
    int64_t n0 = b->lo[0][at + 1] - b->lo[0][at], n1 = b->lo[1][at + 1] - b->lo[1][at];
    return n0 > n1 ? n0 : n1;
}

static void stage_bytes(const pac_costs *c, const pac_stage_plan *stage, int64_t P, int64_t i, const pac_stage_cost *s,
                        const pac_micro *m, const bounds *b)
{
    const pac_stage_plan *st = &stage[i];
    pac_stage_bytes_of need = pac_stage_needs(c, s, st->first, st->last, P - i, m->M);
    for (int64_t r = 0; r < st->ranks; r++)
        st->bytes[r] = need.base + need.sample * (double)most_samples(b, b->at[i] + r);
}

/* Seconds in which the slowest owner writes what the stage caches of a mini-batch. */
static double write_seconds(const pac_costs *c, const pac_stage_plan *st, const pac_stage_cost *s, const pac_micro *m,
                            const bounds *b, int64_t at)
{
    double worst = 0;
    for (int64_t r = 0; r < st->ranks; r++) {
        int64_t n0 = b->lo[0][at + r + 1] - b->lo[0][at + r], n1 = b->lo[1][at + r + 1] - b->lo[1][at + r];
        double samples = (double)(m->larger * n1 + (m->M - m->larger) * n0), speed = c->p->device[st->rank[r]].disk_write;
        if (speed > 0)
            worst = pac_larger(worst, samples * s->cache / speed);
    }
    return worst;
}

void pac_score_group(const pac_costs *c, const pac_stage_plan *st, const pac_stage_cost *s, const pac_micro *m, int64_t behind,
                     pac_stage_times *t)
{
    bounds b;
    split_all(st, 1, m, &b);
    stage_times(c, st, 1, 0, s, &b, t);
    stage_bytes(c, st, behind, 0, s, m, &b);
}

pac_score pac_score_stages(const pac_costs *c, const pac_stage_plan *stage, int64_t P, const pac_micro *m, double *arrive)
{
    pac_stage_times t[PAC_MAX_DEVICES];
    double shared[PAC_MAX_DEVICES];
    bounds b;
    pac_score score = {0};
    t[0] = (pac_stage_times){0}; /* the compiler does not know that there is a stage */
    split_all(stage, P, m, &b);
    for (int64_t i = 0; i < P; i++) {
        pac_stage_cost s;
        pac_range_cost(c, stage[i].first, stage[i].last, &s);
        stage_times(c, stage, P, i, &s, &b, &t[i]);
        stage_bytes(c, stage, P, i, &s, m, &b);
        shared[i] = s.shared_tuned;
        score.write = pac_larger(score.write, write_seconds(c, &stage[i], &s, m, &b, b.at[i]));
    }
    score.step = pac_timeline_1f1b(t, P, m->M, m->larger, arrive) + sum_shared(c, stage, P, shared);
    return score;
}

/* ---- after the first epoch ---- */

/* Reading ahead hides behind computing, or the other way round. */
double pac_cached_device_seconds(const pac_costs *c, int64_t device, int64_t samples)
{
    double compute =
        pac_work_seconds(c, &c->side, device, samples, false) + pac_work_seconds(c, &c->side, device, samples, true);
    double speed = c->p->device[device].disk_read;
    return pac_larger(compute, speed > 0 ? (double)samples * c->p->cached_step_bytes_read / speed : 0);
}

/* Of equal parts of the cache, which the ranks hold in their order. */
static double move_seconds(const pac_costs *c, const int64_t *rank, int64_t n, const int64_t *part)
{
    int64_t device[PAC_MAX_DEVICES], part_of[PAC_MAX_DEVICES];
    double held[PAC_MAX_DEVICES], share[PAC_MAX_DEVICES], batch = 0; /* parts that were rounded up are more than a batch */
    for (int64_t i = 0; i < n; i++) {
        part_of[rank[i]] = part[i];
        batch += (double)part[i];
    }
    pac_devices_rising(rank, n, device);
    for (int64_t i = 0; i < n; i++) {
        share[i] = (double)part_of[device[i]] / batch;
        held[i] = (double)c->q->rows * c->p->cached_step_bytes_read / (double)n;
    }
    return pac_move_seconds(
        c->p, &(pac_move){
                  .n = n, .device = device, .held = held, .share = c->q->sharded ? share : NULL, .learnt = c->whole.learning});
}

pac_cached_cost pac_cached_seconds(const pac_costs *c, const int64_t *rank, int64_t n, const int64_t *part)
{
    double step = 0, update = 0;
    for (int64_t i = 0; i < n; i++) {
        const pac_device *d = &c->p->device[rank[i]];
        step = pac_larger(step, pac_cached_device_seconds(c, rank[i], part[i]));
        update = pac_larger(update, d->update * c->whole.learning);
    }
    step += pac_allreduce_time(c->p, rank, n, c->whole.learning) + update;
    return (pac_cached_cost){.redistribute = move_seconds(c, rank, n, part), .epoch = c->steps * step};
}

double pac_cached_bytes(const pac_costs *c, int64_t part)
{
    return c->p->fixed + c->p->cached_fixed + c->p->cached_sample * (double)part;
}

bool pac_cache_has_room(const pac_costs *c, int64_t device, double wrote, double share, double *need)
{
    double space = c->p->device[device].disk_space, bytes = (double)c->q->rows * c->p->cached_step_bytes_read;
    if (c->q->sharded)
        bytes *= wrote + share * (1 - wrote);
    if (need != NULL)
        *need = bytes;
    return !(space > 0) || bytes <= space;
}

/* The planner's own shares of the cached phase by device; zeros where it fits nowhere, which is another reason. */
static void own_shares(const pac_costs *c, const pac_stage_plan *stage, int64_t P, double by_device[PAC_MAX_DEVICES])
{
    int64_t rank[PAC_MAX_DEVICES] = {0}, part[PAC_MAX_DEVICES] = {0}, n = 0;
    for (int64_t i = 0; i < P; i++)
        for (int64_t r = 0; r < stage[i].ranks; r++)
            rank[n++] = stage[i].rank[r];
    pac_devices_rising(rank, n, rank);
    bool fits = pac_split_cached(c, rank, n, part);
    for (int64_t i = 0; i < n; i++)
        by_device[rank[i]] = fits ? (double)part[i] / (double)c->q->batch : 0;
}

int64_t pac_cache_lacks_room(const pac_costs *c, const pac_stage_plan *stage, int64_t P, const double *share, double *need)
{
    double own[PAC_MAX_DEVICES];
    if (share == NULL)
        own_shares(c, stage, P, own);
    for (int64_t i = 0; i < P; i++) {
        pac_stage_cost s;
        pac_range_cost(c, stage[i].first, stage[i].last, &s);
        double all = c->p->cached_step_bytes_read, here = all > 0 ? s.cache / all : 0;
        for (int64_t r = 0; r < stage[i].ranks; r++) {
            int64_t d = stage[i].rank[r];
            double space = c->p->device[d].disk_space;
            pac_cache_has_room(c, d, here * stage[i].share[r], share != NULL ? share[d] : own[d], need);
            if (space > 0 && *need > space)
                return d;
        }
    }
    return -1;
}

/* ---- the run ---- */

pac_predicted pac_run_seconds(const pac_costs *c, const pac_score *s, const pac_cached_cost *cached)
{
    double later = (double)(c->q->epochs - 1);
    pac_predicted t = {.hybrid_step_s = s->step, .hybrid_epoch_s = c->steps * s->step};
    if (cached == NULL || later == 0) {
        t.total_s = t.hybrid_epoch_s + later * t.hybrid_epoch_s;
        return t;
    }
    t.hybrid_step_s = pac_larger(s->step, s->write); /* a thread writes behind the steps */
    t.hybrid_epoch_s = c->steps * t.hybrid_step_s;
    t.redistribute_s = cached->redistribute;
    t.cached_epoch_s = cached->epoch;
    t.total_s = t.hybrid_epoch_s + t.redistribute_s + later * t.cached_epoch_s;
    return t;
}
