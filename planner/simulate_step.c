/*
 * The operation lists at work. A device runs its list until it has to wait: for the end of what it computes, for messages, for
 * a slot whose last messages have not left, for the other members of a sum. Then the clock jumps to the next end or arrival.
 */
#include "simulate_step.h"
#include "cost.h"

#include <math.h>

static int64_t lane_index(const pac_sim_stepper *x, const pac_sim_lane *k, int64_t m)
{
    return (k - x->lane) * x->b->M + m;
}

/* A slot is taken by the first operation of a micro-batch, once what its last one sent has left. */
static bool take_slot(pac_sim_stepper *x, pac_sim_lane *k, const pac_op *op)
{
    int64_t *holder = &x->holder[(k - x->lane) * x->slots + op->slot];
    if (*holder == op->m)
        return true;
    if (*holder >= 0 && x->leaving[0][lane_index(x, k, *holder)] + x->leaving[1][lane_index(x, k, *holder)] > 0)
        return false;
    *holder = op->m;
    pac_sim_slot_add(x, k, op->m, 1);
    return true;
}

static void begin(pac_sim_stepper *x, pac_sim_lane *k, double seconds)
{
    k->began = x->now;
    k->until = x->now + seconds;
}

static void compute(pac_sim_stepper *x, pac_sim_lane *k, int64_t m, bool backward)
{
    const pac_stage_plan *st = &x->plan->stage[k->stage];
    double seconds = pac_sim_work(x->p, x->b, st, k->member, m, backward);
    begin(x, k, seconds);
}

/* One message for each member of the other stage that works on some of the same samples. */
static pac_err send(pac_sim_stepper *x, const pac_sim_lane *k, const pac_op *op)
{
    bool backward = op->kind == PAC_OP_SEND_BWD;
    const pac_stage_plan *mine = &x->plan->stage[k->stage], *theirs = backward ? mine - 1 : mine + 1;
    pac_range own = pac_sim_part(x->b, mine, k->member, op->m);
    for (int64_t r = 0; r < theirs->ranks; r++) {
        pac_range both = pac_range_intersect(own, pac_sim_part(x->b, theirs, r, op->m));
        double bytes = pac_sim_message(x->p, x->b, backward ? mine->first : mine->last, both, backward);
        if (!(bytes > 0))
            continue;
        pac_flow f = {.from = k->device, .to = theirs->rank[r], .bytes = bytes, .kind = op->kind, .m = op->m};
        PAC_TRY(pac_network_send(&x->net, &f));
        x->leaving[backward][lane_index(x, k, op->m)]++;
    }
    return PAC_OK;
}

/* ---- sums ---- */

/* The ring that a lane has to join as its i-th; NULL: it needs no more. */
static pac_ring *ring_of(const pac_sim_stepper *x, const pac_sim_lane *k, int64_t i)
{
    pac_ring *group = &x->ring[k->stage], *shared = &x->ring[x->plan->stages];
    if (group->n > 0 && i-- == 0)
        return group;
    return shared->n > 0 && x->shares[k->stage] && i == 0 ? shared : NULL;
}

static int64_t member_of(const pac_ring *r, int64_t device)
{
    int64_t i = 0;
    while (r->device[i] != device)
        i++;
    return i;
}

/* Join one ring after the other; the member's part in it is at work from the moment the last one has joined. */
static pac_err reduce(pac_sim_stepper *x, pac_sim_lane *k, bool *done)
{
    pac_ring *last = k->rings > 0 ? ring_of(x, k, k->rings - 1) : NULL;
    *done = false;
    if (last != NULL) {
        int64_t i = member_of(last, k->device);
        if (isnan(last->end[i]))
            return PAC_OK;
        PAC_TRY(pac_sim_event_add(
            x, &(pac_sim_event){k->device, -1, PAC_OP_REDUCE, -1, .start = last->begin[i], .end = last->end[i]}));
    }
    pac_ring *next = ring_of(x, k, k->rings);
    *done = next == NULL;
    if (*done)
        return PAC_OK;
    k->rings++;
    x->changes++;
    return pac_ring_join(next, &x->net);
}

/* Loss and norm of the gradients are summed over all devices: a tree of messages without size. */
static double sum_seconds(const pac_sim_stepper *x)
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(x->plan, ranks);
    return ceil(log2((double)n)) * pac_slowest_link(x->p, ranks, n, ranks, n).latency;
}

static void join_update(pac_sim_stepper *x, pac_sim_lane *k)
{
    k->rings = -1;
    x->changes++;
    if (++x->waiting == x->lanes)
        x->update = x->now + sum_seconds(x);
}

static bool may_update(pac_sim_stepper *x, pac_sim_lane *k)
{
    const pac_stage_plan *st = &x->plan->stage[k->stage];
    if (k->rings >= 0)
        join_update(x, k);
    if (x->update > x->now)
        return false;
    begin(x, k, x->p->device[k->device].update * pac_stage_bytes(x->p, st->first, st->last).tuned);
    return true;
}

/* ---- operations ---- */

/* *done false: it waits, and is tried again when something has happened. */
static pac_err run_op(pac_sim_stepper *x, pac_sim_lane *k, const pac_op *op, bool *done)
{
    bool first = op->kind == PAC_OP_RECV_FWD || (op->kind == PAC_OP_FWD && k->stage == 0);
    *done = !first || take_slot(x, k, op);
    if (!*done)
        return PAC_OK;
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
    case PAC_OP_RECV_BWD:
        *done = x->awaited[op->kind == PAC_OP_RECV_BWD][lane_index(x, k, op->m)] == 0;
        return PAC_OK;
    case PAC_OP_FWD:
    case PAC_OP_BWD:
        compute(x, k, op->m, op->kind == PAC_OP_BWD);
        return PAC_OK;
    case PAC_OP_SEND_FWD:
        return send(x, k, op);
    case PAC_OP_SEND_BWD:
        pac_sim_slot_add(x, k, op->m, -1);
        return send(x, k, op);
    case PAC_OP_REDUCE:
        return reduce(x, k, done);
    case PAC_OP_STEP:
        *done = may_update(x, k);
        return PAC_OK;
    }
    return PAC_OK;
}

/* What a lane computes has ended. */
static pac_err finish(pac_sim_stepper *x, pac_sim_lane *k)
{
    const pac_op *op = &x->list[k->stage].v[k->pc - 1];
    k->until = INFINITY;
    if (op->kind == PAC_OP_BWD && k->stage == 0)
        pac_sim_slot_add(x, k, op->m, -1);
    return pac_sim_event_add(x, &(pac_sim_event){k->device, -1, op->kind, op->m, .start = k->began, .end = x->now});
}

static pac_err run_lane(pac_sim_stepper *x, pac_sim_lane *k)
{
    const pac_oplist *l = &x->list[k->stage];
    for (bool done = true; done;) {
        if (k->until <= x->now)
            PAC_TRY(finish(x, k));
        if (isfinite(k->until) || k->pc == l->count)
            return PAC_OK;
        PAC_TRY(run_op(x, k, &l->v[k->pc], &done));
        k->pc += done;
        x->changes += done;
    }
    return PAC_OK;
}

/* ---- the clock ---- */

static pac_err arrive(pac_sim_stepper *x, const pac_flow *f)
{
    if (f->kind == PAC_RING_FLOW)
        return pac_ring_arrived(&x->ring[f->m], &x->net, f);
    bool backward = f->kind == PAC_OP_SEND_BWD;
    x->awaited[backward][x->lane_of[f->to] * x->b->M + f->m]--;
    x->leaving[backward][x->lane_of[f->from] * x->b->M + f->m]--;
    return pac_sim_event_add(x, &(pac_sim_event){f->from, f->to, (pac_op_kind)f->kind, f->m, .start = f->start, .end = f->end});
}

static pac_err jump(pac_sim_stepper *x, double to)
{
    pac_flow f;
    PAC_TRY(pac_network_advance(&x->net, to));
    x->now = to;
    while (pac_network_take(&x->net, &f))
        PAC_TRY(arrive(x, &f));
    return PAC_OK;
}

static double next_moment(pac_sim_stepper *x)
{
    double next = x->update > x->now ? x->update : INFINITY;
    for (int64_t i = 0; i < x->lanes; i++)
        next = fmin(next, x->lane[i].until);
    return fmin(next, pac_network_next(&x->net));
}

/* What one lane does may let another go on at the same moment: they are tried until none moves. *busy: lanes that are not done.
 */
static pac_err run_lanes(pac_sim_stepper *x, int64_t *busy)
{
    int64_t before;
    do {
        before = x->changes;
        *busy = 0;
        for (int64_t i = 0; i < x->lanes; i++) {
            pac_sim_lane *k = &x->lane[i];
            PAC_TRY(run_lane(x, k));
            *busy += k->pc < x->list[k->stage].count || isfinite(k->until);
        }
    } while (x->changes != before);
    return PAC_OK;
}

static pac_err run_all(pac_sim_stepper *x)
{
    int64_t busy;
    PAC_TRY(run_lanes(x, &busy));
    while (busy > 0) {
        double to = next_moment(x);
        PAC_CHECK(isfinite(to), PAC_EINTERNAL, "the simulated schedule stops at %g s: %lld devices wait for ever", x->now,
                  (long long)busy);
        PAC_TRY(jump(x, to));
        PAC_TRY(run_lanes(x, &busy));
    }
    return PAC_OK;
}

pac_err pac_sim_step(const pac_sim_request *q, const pac_sim_batch *b, const pac_sim_bytes *bytes, pac_simulation *s,
                     double *seconds)
{
    pac_sim_stepper x = {.q = q, .p = q->profile, .plan = q->plan, .b = b, .s = s};
    pac_err err;
    PAC_GO(pac_sim_stepper_open(&x, bytes));
    PAC_GO(run_all(&x));
    pac_sim_record_end(&x, x.now);
    *seconds = x.now;
out:
    pac_sim_stepper_close(&x);
    return err;
}
