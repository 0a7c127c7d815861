/*
 * The operation lists that the runtime executes, executed here on clocks: each stage has one, a receive waits for the arrival
 * of its message. What is predicted is what runs.
 */
#include "timeline.h"

#include "pac/schedule.h"

#include <math.h>

typedef struct timeline {
    const pac_stage_times *t;
    int64_t P, M, larger;
    pac_oplist *list;  /* [P] */
    int64_t *pc;       /* [P] */
    double *clock;     /* [P] */
    double *link;      /* [2 P] when the link to the next stage and to the stage before is free again */
    double *fwd, *bwd; /* [P * M] arrival of activations at, gradients at stage p; infinity: not sent yet */
} timeline;

static void send(double *arrival, double *link, double now, double seconds)
{
    *link = fmax(*link, now) + seconds;
    *arrival = *link;
}

/* False: waits for a message that has not been sent. */
static bool run_op(timeline *x, int64_t p, const pac_op *op)
{
    int size = op->m >= 0 && op->m < x->larger;
    const pac_stage_times *t = &x->t[p];
    double *now = &x->clock[p];
    int64_t at = p * x->M + op->m;
    switch (op->kind) {
    case PAC_OP_RECV_FWD:
        *now = fmax(*now, x->fwd[at]);
        return isfinite(x->fwd[at]);
    case PAC_OP_RECV_BWD:
        *now = fmax(*now, x->bwd[at]);
        return isfinite(x->bwd[at]);
    case PAC_OP_FWD:
        *now += t->fwd[size];
        return true;
    case PAC_OP_BWD:
        *now += t->bwd[size];
        return true;
    case PAC_OP_SEND_FWD:
        send(&x->fwd[at + x->M], &x->link[2 * p], *now, t->send_fwd[size]);
        return true;
    case PAC_OP_SEND_BWD:
        send(&x->bwd[at - x->M], &x->link[2 * p + 1], *now, t->send_bwd[size]);
        return true;
    case PAC_OP_REDUCE:
        *now += t->reduce;
        return true;
    case PAC_OP_STEP:
        return true;
    }
    return true;
}

static void run_stage(timeline *x, int64_t p, bool *progress)
{
    while (x->pc[p] < x->list[p].count) {
        double before = x->clock[p];
        if (!run_op(x, p, &x->list[p].v[x->pc[p]])) {
            x->clock[p] = before;
            return;
        }
        x->pc[p]++;
        *progress = true;
    }
}

static pac_err timeline_init(timeline *x)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, x->P, sizeof *x->list, &v));
    x->list = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, x->P, sizeof *x->pc, &v));
    x->pc = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, x->P, sizeof *x->clock, &v));
    x->clock = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * x->P, sizeof *x->link, &v));
    x->link = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, x->P * x->M, sizeof *x->fwd, &v));
    x->fwd = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, x->P * x->M, sizeof *x->bwd, &v));
    x->bwd = v;
    for (int64_t i = 0; i < x->P * x->M; i++)
        x->fwd[i] = x->bwd[i] = INFINITY;
    for (int64_t p = 0; p < x->P; p++)
        PAC_TRY(pac_schedule_1f1b(p, x->P, x->M, &x->list[p]));
    return PAC_OK;
}

static void timeline_done(timeline *x)
{
    for (int64_t p = 0; x->list != NULL && p < x->P; p++)
        pac_oplist_free(&x->list[p]);
    pac_mem_free(x->list);
    pac_mem_free(x->pc);
    pac_mem_free(x->clock);
    pac_mem_free(x->link);
    pac_mem_free(x->fwd);
    pac_mem_free(x->bwd);
}

pac_err pac_timeline_1f1b(const pac_stage_times *t, int64_t P, int64_t M, int64_t larger, double *seconds)
{
    timeline x = {.t = t, .P = P, .M = M, .larger = larger};
    double end = 0;
    pac_err err;
    PAC_GO(timeline_init(&x));
    for (bool progress = true; progress;) {
        progress = false;
        for (int64_t p = 0; p < P; p++)
            run_stage(&x, p, &progress);
    }
    for (int64_t p = 0; p < P; p++)
        end = fmax(end, x.clock[p]);
    *seconds = end;
out:
    timeline_done(&x);
    return err;
}
