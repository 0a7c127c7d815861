/* What is kept of a simulated mini-batch: intervals, bytes over time, busy seconds. */
#include "simulate_step.h"

#include <math.h>
#include <stdlib.h>

pac_err pac_sim_event_add(pac_sim_stepper *x, const pac_sim_event *e)
{
    if (x->s == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, (void **)&x->s->event, &x->events_room, x->s->events + 1, sizeof *e));
    x->s->event[x->s->events++] = *e;
    if (e->peer < 0)
        x->s->device[e->device].busy += e->end - e->start;
    return PAC_OK;
}

void pac_sim_slot_add(pac_sim_stepper *x, pac_sim_lane *k, int64_t m, double change)
{
    pac_range r = pac_sim_part(x->b, &x->plan->stage[k->stage], k->member, m);
    k->bytes += change * k->per_sample * (double)(r.hi - r.lo);
    if (x->s == NULL)
        return;
    pac_sim_device *d = &x->s->device[k->device];
    d->time[d->points] = x->now;
    d->bytes[d->points++] = k->bytes;
    d->peak_bytes = fmax(d->peak_bytes, k->bytes);
}

static int compare(double a, double b)
{
    return (a > b) - (a < b);
}

static int by_start(const void *a, const void *b)
{
    const pac_sim_event *x = a, *y = b;
    int order = compare(x->start, y->start);
    order = order != 0 ? order : compare(x->end, y->end);
    order = order != 0 ? order : compare((double)x->device, (double)y->device);
    return order != 0 ? order : (int)x->kind - (int)y->kind;
}

void pac_sim_record_end(pac_sim_stepper *x, double seconds)
{
    if (x->s == NULL)
        return;
    if (x->s->events > 0)
        qsort(x->s->event, (size_t)x->s->events, sizeof *x->s->event, by_start);
    for (int64_t d = 0; d < x->s->devices; d++)
        x->s->device[d].idle = fmax(seconds - x->s->device[d].busy, 0);
}
