/* A mini-batch before its first operation: lists, lanes, and how many messages each will wait for. */
#include "cost.h"
#include "simulate_step.h"

#include <math.h>
#include <string.h>

typedef pac_err (*schedule)(int64_t p, int64_t P, int64_t M, pac_oplist *out);
static const schedule schedules[] = {
    [PAC_SIM_1F1B] = pac_schedule_1f1b, [PAC_SIM_GPIPE] = pac_schedule_gpipe, [PAC_SIM_SEQUENTIAL] = pac_schedule_sequential};

/* n zeroed elements of the arena. */
static pac_err zeros(pac_sim_stepper *x, int64_t n, size_t size, void *out)
{
    void *p;
    PAC_TRY(pac_arena_get(x->arena, (size_t)n * size, &p));
    memset(p, 0, (size_t)n * size);
    memcpy(out, &p, sizeof p);
    return PAC_OK;
}

static pac_err open_lists(pac_sim_stepper *x)
{
    PAC_TRY(zeros(x, x->plan->stages, sizeof *x->list, &x->list));
    for (int64_t p = 0; p < x->plan->stages; p++) {
        PAC_TRY(schedules[x->q->schedule](p, x->plan->stages, x->b->M, &x->list[p]));
        x->slots = x->list[p].in_flight > x->slots ? x->list[p].in_flight : x->slots;
        x->lanes += x->plan->stage[p].ranks;
    }
    return PAC_OK;
}

/* A slot's bytes are those of the larger of a member's parts: micro-batches have two sizes, the first and the last. */
static double per_sample(const pac_sim_stepper *x, int64_t stage, int64_t member, double slot)
{
    const pac_stage_plan *st = &x->plan->stage[stage];
    pac_range first = pac_sim_part(x->b, st, member, 0), last = pac_sim_part(x->b, st, member, x->b->M - 1);
    double most = fmax((double)(first.hi - first.lo), (double)(last.hi - last.lo));
    return most > 0 ? slot / most : 0;
}

/* Room for bytes over time: the base, and each micro-batch comes and goes. */
static pac_err open_points(pac_sim_stepper *x, int64_t device)
{
    void *v;
    if (x->s == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * x->b->M + 1, sizeof(double), &v));
    x->s->device[device].time = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * x->b->M + 1, sizeof(double), &v));
    x->s->device[device].bytes = v;
    return PAC_OK;
}

static pac_err open_lanes(pac_sim_stepper *x, const pac_sim_bytes *bytes)
{
    int64_t n = 0;
    PAC_TRY(zeros(x, x->lanes, sizeof *x->lane, &x->lane));
    PAC_TRY(zeros(x, x->p->devices, sizeof *x->lane_of, &x->lane_of));
    for (int64_t p = 0; p < x->plan->stages; p++)
        for (int64_t r = 0; r < x->plan->stage[p].ranks; r++) {
            int64_t d = x->plan->stage[p].rank[r];
            x->lane_of[d] = n;
            x->lane[n++] = (pac_sim_lane){.device = d,
                                          .stage = p,
                                          .member = r,
                                          .until = INFINITY,
                                          .piece = INFINITY,
                                          .reducing = INFINITY,
                                          .per_sample = per_sample(x, p, r, bytes[d].slot),
                                          .bytes = bytes[d].base};
            PAC_TRY(open_points(x, d));
            pac_sim_slot_add(x, &x->lane[x->lane_of[d]], 0, 0); /* the base */
        }
    return PAC_OK;
}

/* Messages between a member of stage p and all of the stage `behind` it, of every micro-batch. */
static void count_messages(pac_sim_stepper *x, int64_t lane, int64_t other, int64_t layer, bool backward)
{
    const pac_sim_lane *k = &x->lane[lane];
    const pac_stage_plan *mine = &x->plan->stage[k->stage], *theirs = &x->plan->stage[other];
    for (int64_t m = 0; m < x->b->M; m++)
        for (int64_t r = 0; r < theirs->ranks; r++) {
            pac_range both = pac_range_intersect(pac_sim_part(x->b, mine, k->member, m), pac_sim_part(x->b, theirs, r, m));
            x->awaited[backward][lane * x->b->M + m] += pac_sim_message(x->p, x->b, layer, both, backward) > 0;
        }
}

static pac_err open_messages(pac_sim_stepper *x)
{
    for (int i = 0; i < 2; i++) {
        PAC_TRY(zeros(x, x->lanes * x->b->M, sizeof(int64_t), &x->awaited[i]));
        PAC_TRY(zeros(x, x->lanes * x->b->M, sizeof(int64_t), &x->leaving[i]));
    }
    for (int64_t i = 0; i < x->lanes; i++) {
        int64_t p = x->lane[i].stage;
        if (p > 0)
            count_messages(x, i, p - 1, x->plan->stage[p].first, false);
        if (p + 1 < x->plan->stages)
            count_messages(x, i, p + 1, x->plan->stage[p].last, true);
    }
    PAC_TRY(zeros(x, x->lanes * x->slots, sizeof *x->holder, &x->holder));
    for (int64_t i = 0; i < x->lanes * x->slots; i++)
        x->holder[i] = -1;
    return PAC_OK;
}

/* An all-reduce of `bytes`; none where there is nothing to sum. */
static pac_err open_ring(pac_ring *r, int64_t number, const int64_t *device, int64_t n, double bytes)
{
    if (n < 2 || !(bytes > 0))
        return PAC_OK;
    PAC_TRY(pac_ring_open(n, device, bytes, r));
    r->number = number;
    return PAC_OK;
}

static pac_err open_pieces(pac_sim_stepper *x, int64_t p, const pac_stage_plan *st, double bytes)
{
    int64_t n = pac_reduce_pieces(x->q->run, bytes), first = p * PAC_MOST_PIECES;
    x->pieces[p] = st->ranks > 1 && bytes > 0 ? n : 0;
    for (int64_t i = 0; i < x->pieces[p]; i++)
        PAC_TRY(open_ring(&x->ring[first + i], first + i, st->rank, st->ranks, pac_wire_bytes(x->p, bytes) / (double)n));
    return PAC_OK;
}

static pac_err open_rings(pac_sim_stepper *x)
{
    int64_t P = x->plan->stages, holders = 0, n = 0, *devices;
    double shared = 0;
    PAC_TRY(zeros(x, P * PAC_MOST_PIECES + 1, sizeof *x->ring, &x->ring));
    PAC_TRY(zeros(x, P, sizeof *x->pieces, &x->pieces));
    PAC_TRY(zeros(x, P, sizeof *x->shares, &x->shares));
    PAC_TRY(zeros(x, x->lanes, sizeof *devices, &devices));
    for (int64_t p = 0; p < P; p++) {
        const pac_stage_plan *st = &x->plan->stage[p];
        pac_layer_bytes b = pac_stage_bytes(x->p, st->first, st->last);
        PAC_TRY(open_pieces(x, p, st, b.tuned));
        x->shares[p] = b.shared_tuned > 0;
        holders += x->shares[p];
        shared = fmax(shared, b.shared_tuned);
        for (int64_t r = 0; x->shares[p] && r < st->ranks; r++)
            devices[n++] = st->rank[r];
    }
    int64_t last = P * PAC_MOST_PIECES;
    return holders > 1 ? open_ring(&x->ring[last], last, devices, n, pac_wire_bytes(x->p, shared)) : PAC_OK;
}

pac_err pac_sim_stepper_open(pac_sim_stepper *x, const pac_sim_bytes *bytes)
{
    x->update = INFINITY;
    PAC_TRY(pac_arena_new(PAC_MEM_OTHER, &x->arena));
    PAC_TRY(pac_network_open(x->p, &x->net));
    PAC_TRY(open_lists(x));
    PAC_TRY(open_lanes(x, bytes));
    PAC_TRY(open_messages(x));
    PAC_TRY(open_rings(x));
    return PAC_OK;
}

void pac_sim_stepper_close(pac_sim_stepper *x)
{
    for (int64_t p = 0; x->list != NULL && p < x->plan->stages; p++)
        pac_oplist_free(&x->list[p]);
    for (int64_t i = 0; x->ring != NULL && i <= x->plan->stages * PAC_MOST_PIECES; i++)
        pac_ring_close(&x->ring[i]);
    pac_network_close(&x->net);
    pac_arena_free(&x->arena);
}
