/* After the first epoch: everybody gets the cache, then works from it. */
#include "cost.h"
#include "ring.h"
#include "simulate.h"

#include <math.h>

/* Devices of the plan in the order of their ranks. */
static int64_t devices_of(const pac_plan *plan, int64_t to[static PAC_MAX_DEVICES])
{
    bool in[PAC_MAX_DEVICES] = {false};
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, ranks), k = 0;
    for (int64_t i = 0; i < n; i++)
        in[ranks[i]] = true;
    for (int64_t d = 0; d < plan->world; d++)
        if (in[d])
            to[k++] = d;
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

/* What the redistribution moves: a device's part of the cache, of which device k takes share[k], and what was learnt on it. */
typedef struct move {
    int64_t n, device[PAC_MAX_DEVICES];
    double cached[PAC_MAX_DEVICES], learnt[PAC_MAX_DEVICES], share[PAC_MAX_DEVICES];
} move;

/* What each device has after the first epoch: its layers of its samples, and a stage's first member what was learnt there. */
static void pieces_of(const pac_sim_request *q, double cache, move *m)
{
    for (int64_t i = 0; i < q->plan->stages; i++) {
        const pac_stage_plan *st = &q->plan->stage[i];
        double part = pac_sim_cached_part(q->profile, st->first, st->last), shares = 0;
        for (int64_t r = 0; r < st->ranks; r++)
            shares += st->share[r];
        for (int64_t r = 0; r < st->ranks; r++)
            for (int64_t k = 0; k < m->n; k++)
                if (m->device[k] == st->rank[r]) {
                    m->cached[k] = cache * part * st->share[r] / shares;
                    m->learnt[k] = r == 0 ? pac_stage_bytes(q->profile, st->first, st->last).tuned : 0;
                }
    }
}

/* Sharded, a device takes the samples that it will train on; else all of them. */
static void shares_of(const pac_sim_request *q, move *m)
{
    for (int64_t k = 0; k < m->n; k++) {
        double part = q->plan->cached_share != NULL ? q->plan->cached_share[m->device[k]] : 1.0 / (double)m->n;
        m->share[k] = q->run->sharded ? part : 1;
    }
}

/* Everybody sends everybody else at once, as MPI_Iallgatherv does. */
static pac_err send_pieces(pac_network *net, const move *m)
{
    pac_flow f;
    for (int64_t i = 0; i < m->n; i++)
        for (int64_t k = 0; k < m->n; k++) {
            double bytes = m->cached[i] * m->share[k] + m->learnt[i];
            if (i != k && bytes > 0)
                PAC_TRY(pac_network_send(net, &(pac_flow){.from = m->device[i], .to = m->device[k], .bytes = bytes}));
        }
    while (net->flows > 0) {
        PAC_TRY(pac_network_advance(net, pac_network_next(net)));
        while (pac_network_take(net, &f))
            ;
    }
    return PAC_OK;
}

static pac_err move_seconds(const pac_profile *p, const move *m, double *seconds)
{
    pac_network net;
    PAC_TRY(pac_network_open(p, &net));
    pac_err err = send_pieces(&net, m);
    if (err == PAC_OK)
        *seconds = net.now;
    pac_network_close(&net);
    return err;
}

/* What is received is also written, block after block. */
pac_err pac_sim_redistribution(const pac_sim_request *q, double *seconds)
{
    const pac_profile *p = q->profile;
    move m = {.n = 0};
    double cache = (double)q->run->rows * p->cached_step_bytes_read, write = 0;
    m.n = devices_of(q->plan, m.device);
    pieces_of(q, cache, &m);
    shares_of(q, &m);
    PAC_TRY(move_seconds(p, &m, seconds));
    for (int64_t i = 0; i < m.n; i++)
        if (p->device[m.device[i]].disk_write > 0)
            write = fmax(write, fmax(cache - m.cached[i], 0) * m.share[i] / p->device[m.device[i]].disk_write);
    *seconds += m.n > 1 ? write : 0;
    return PAC_OK;
}
