/*
 * The operation lists at work. A device runs its list until it has to wait: for the end of what it computes, for messages, for
 * a slot or a box whose last messages have not left, for the other members of a sum. Then the clock jumps to the next end or
 * arrival. Gradients leave from two boxes, and pieces of a sum start within the last backward, as in the runtime (boxes.c,
 * buckets.c).
 */
#include "simulate_step.h"
#include "cost.h"

#include <math.h>

enum { BOXES = 2 }; /* of gradients that leave a stage */

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
    if (*holder >= 0 && x->leaving[0][lane_index(x, k, *holder)] > 0)
        return false;
    *holder = op->m;
    pac_sim_slot_add(x, k, op->m, 1);
    return true;
}

/* Gradients of the micro-batch that had the box have left. */
static bool box_is_free(const pac_sim_stepper *x, const pac_sim_lane *k, int64_t m)
{
    return m < BOXES || x->leaving[1][lane_index(x, k, m - BOXES)] == 0;
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
    if (backward && m == x->b->M - 1 && x->pieces[k->stage] > 0)
        k->piece = k->began + seconds / (double)x->pieces[k->stage];
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

static int64_t member_of(const pac_ring *r, int64_t device)
{
    int64_t i = 0;
    while (r->device[i] != device)
        i++;
    return i;
}

/* Pieces of the group's sum are complete one after the other during the last backward, equally far apart. */
static void expect_piece(pac_sim_stepper *x, pac_sim_lane *k)
{
    double part = (double)(k->joined + 1) / (double)x->pieces[k->stage];
    k->piece = k->joined < x->pieces[k->stage] ? k->began + part * (k->until - k->began) : INFINITY;
}

static pac_err join_piece(pac_sim_stepper *x, pac_sim_lane *k)
{
    pac_ring *r = &x->ring[k->stage * PAC_MOST_PIECES + k->joined++];
    x->changes++;
    return pac_ring_join(r, &x->net);
}

static pac_err join_complete(pac_sim_stepper *x, pac_sim_lane *k)
{
    while (k->piece <= x->now) {
        PAC_TRY(join_piece(x, k));
        expect_piece(x, k);
    }
    return PAC_OK;
}

/* The part of a sum that no backward hides, from the moment the last member has joined. */
static pac_err add_sum(pac_sim_stepper *x, const pac_sim_lane *k, double begin, double end)
{
    double since = fmax(begin, k->reducing);
    return pac_sim_event_add(x, &(pac_sim_event){k->device, -1, PAC_OP_REDUCE, -1, .start = since, .end = fmax(since, end)});
}

/* All pieces of the group's sum; *done: this member has them. */
static pac_err sum_group(pac_sim_stepper *x, pac_sim_lane *k, bool *done)
{
    const pac_ring *first = &x->ring[k->stage * PAC_MOST_PIECES];
    double end = 0;
    k->piece = INFINITY;
    while (k->joined < x->pieces[k->stage])
        PAC_TRY(join_piece(x, k));
    for (int64_t i = 0; i < k->joined; i++) {
        double of_piece = first[i].end[member_of(first, k->device)];
        *done = !isnan(of_piece);
        if (!*done)
            return PAC_OK;
        end = fmax(end, of_piece);
    }
    *done = true;
    return k->joined > 0 ? add_sum(x, k, first->begin[member_of(first, k->device)], end) : PAC_OK;
}

/* The group's sum, then that of parameters that several stages hold. */
static pac_err reduce(pac_sim_stepper *x, pac_sim_lane *k, bool *done)
{
    pac_ring *shared = &x->ring[x->plan->stages * PAC_MOST_PIECES];
    bool shares = shared->n > 0 && x->shares[k->stage];
    k->reducing = fmin(k->reducing, x->now);
    if (k->rings == 0) {
        PAC_TRY(sum_group(x, k, done));
        if (!*done || !shares)
            return PAC_OK;
        k->rings++;
        x->changes++;
        PAC_TRY(pac_ring_join(shared, &x->net));
    }
    int64_t i = member_of(shared, k->device);
    *done = !isnan(shared->end[i]);
    return *done ? add_sum(x, k, shared->begin[i], shared->end[i]) : PAC_OK;
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
        *done = box_is_free(x, k, op->m);
        if (!*done)
            return PAC_OK;
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
    PAC_TRY(join_complete(x, k));
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
        next = fmin(next, fmin(x->lane[i].until, x->lane[i].piece));
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
