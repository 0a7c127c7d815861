/*
 * 1F1B on clocks: each stage has one, a receive waits for the arrival of its message.
 *
 * The order of operations is that of pac_schedule_1f1b(), walked without its lists: in round j every stage runs the forwards
 * that it does before backward j (first to last stage), then backward j (last to first). Every message then is sent before it
 * is asked for, and activations of a micro-batch are on their way to one stage at a time, so one array of M arrivals is all
 * that has to be kept.
 */
#include "timeline.h"

#include "pac/profile.h"

typedef struct timeline {
    const pac_stage_times *t;
    int64_t P, M, larger;
    int64_t forwards[PAC_MAX_DEVICES]; /* done by each stage */
    double clock[PAC_MAX_DEVICES];
    double link_fwd[PAC_MAX_DEVICES], link_bwd[PAC_MAX_DEVICES]; /* when the link to the next, to the former stage is free */
    double *arrive;                                              /* [M] of activations, at the stage that is to run them */
} timeline;

/* The message leaves when it is ready and the one before is through. Returns its arrival. */
static double send(double *link, double now, double seconds)
{
    *link = pac_larger(*link, now) + seconds;
    return *link;
}

static void forwards_until(timeline *x, int64_t p, int64_t end)
{
    const pac_stage_times *t = &x->t[p];
    for (int64_t m = x->forwards[p]; m < end; m++) {
        int size = m < x->larger;
        x->clock[p] = pac_larger(x->clock[p], x->arrive[m]) + t->fwd[size];
        x->arrive[m] = send(&x->link_fwd[p], x->clock[p], t->send_fwd[size]);
    }
    x->forwards[p] = end > x->forwards[p] ? end : x->forwards[p];
}

static void backwards(timeline *x, int64_t j)
{
    int size = j < x->larger;
    double arrival = 0;
    for (int64_t p = x->P - 1; p >= 0; p--) {
        x->clock[p] = pac_larger(x->clock[p], arrival) + x->t[p].bwd[size];
        arrival = send(&x->link_bwd[p], x->clock[p], x->t[p].send_bwd[size]);
    }
}

double pac_timeline_1f1b(const pac_stage_times *t, int64_t P, int64_t M, int64_t larger, double *arrive)
{
    timeline x;
    x.t = t, x.P = P, x.M = M, x.larger = larger, x.arrive = arrive;
    for (int64_t p = 0; p < P; p++) {
        x.forwards[p] = 0;
        x.clock[p] = x.link_fwd[p] = x.link_bwd[p] = 0;
    }
    for (int64_t m = 0; m < M; m++)
        arrive[m] = 0;
    for (int64_t j = 0; j < M; j++) {
        for (int64_t p = 0; p < P; p++)
            forwards_until(&x, p, j + P - p < M ? j + P - p : M);
        backwards(&x, j);
    }
    double reduced = 0, update = 0;
    for (int64_t p = 0; p < P; p++) {
        reduced = pac_larger(reduced, x.clock[p] + t[p].reduce);
        update = pac_larger(update, t[p].update);
    }
    return reduced + update;
}
