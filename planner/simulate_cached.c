/* After the first epoch: everybody gets the cache, then works from it. */
#include "cost.h"
#include "move.h"
#include "ring.h"
#include "simulate.h"

#include <math.h>

/* Devices of the plan in the order of their ranks. */
static int64_t devices_of(const pac_plan *plan, int64_t to[static PAC_MAX_DEVICES])
{
    int64_t n = pac_plan_ranks(plan, to);
    pac_devices_rising(to, n, to);
    return n;
}

/* Reading ahead hides behind computing, or the other way round. */
static double part_seconds(const pac_profile *p, const pac_sim_batch *b, int64_t device, pac_range r)
{
    const pac_device *d = &p->device[device];
    double source = b->source[r.hi] - b->source[r.lo], target = b->target[r.hi] - b->target[r.lo],
           samples = (double)(r.hi - r.lo);
    if (r.hi == r.lo)
        return 0;
    double work = 2 * d->overhead + pac_side_time_at(p, device, source, target, false) +
                  pac_side_time_at(p, device, source, target, true);
    return fmax(work, d->disk_read > 0 ? samples * p->cached_step_bytes_read / d->disk_read : 0);
}

static pac_err allreduce_seconds(const pac_profile *p, int64_t n, const int64_t *device, double bytes, double *seconds)
{
    pac_ring r;
    *seconds = 0;
    if (n < 2)
        return PAC_OK;
    PAC_TRY(pac_ring_open(n, device, bytes, &r));
    pac_err err = pac_ring_seconds(p, &r, seconds);
    pac_ring_close(&r);
    return err;
}

pac_err pac_sim_cached_step(const pac_sim_request *q, const pac_sim_batch *b, double *seconds)
{
    const pac_profile *p = q->profile;
    const pac_plan *plan = q->plan;
    int64_t device[PAC_MAX_DEVICES], n = devices_of(plan, device);
    double work = 0, update = 0, tuned = pac_stage_bytes(p, 0, plan->layers).tuned, sum;
    for (int64_t i = 0; i < n; i++) {
        pac_range r = plan->cached_share != NULL ? pac_split_shares(b->n, plan->cached_share, plan->world, device[i])
                                                 : pac_split_even(b->n, n, i);
        work = fmax(work, part_seconds(p, b, device[i], r));
        update = fmax(update, p->device[device[i]].update * tuned);
    }
    PAC_TRY(allreduce_seconds(p, n, device, pac_wire_bytes(p, tuned), &sum));
    *seconds = work + sum + update;
    return PAC_OK;
}

/* What each device has after the first epoch: its layers of its samples. */
static void held_of(const pac_sim_request *q, int64_t n, const int64_t *device, double *held)
{
    double cache = (double)q->run->rows * q->profile->cached_step_bytes_read;
    for (int64_t i = 0; i < q->plan->stages; i++) {
        const pac_stage_plan *st = &q->plan->stage[i];
        double part = pac_sim_cached_part(q->profile, st->first, st->last), shares = 0;
        for (int64_t r = 0; r < st->ranks; r++)
            shares += st->share[r];
        for (int64_t r = 0; r < st->ranks; r++)
            for (int64_t k = 0; k < n; k++)
                if (device[k] == st->rank[r])
                    held[k] = cache * part * st->share[r] / shares;
    }
}

double pac_sim_redistribution(const pac_sim_request *q)
{
    int64_t device[PAC_MAX_DEVICES], n = devices_of(q->plan, device);
    double held[PAC_MAX_DEVICES] = {0}, share[PAC_MAX_DEVICES];
    held_of(q, n, device, held);
    for (int64_t k = 0; k < n; k++)
        share[k] = q->plan->cached_share != NULL ? q->plan->cached_share[device[k]] : 1.0 / (double)n;
    const pac_move move = {.n = n,
                           .device = device,
                           .held = held,
                           .share = q->run->sharded ? share : NULL,
                           .learnt = pac_stage_bytes(q->profile, 0, q->plan->layers).tuned};
    return pac_move_seconds(q->profile, &move);
}
