/*
 * The whole of a run from its parts: each mini-batch, then what follows the first epoch. The bytes of devices come from the
 * caller's dry run or from the cost model.
 */
#include "model.h"
#include "simulate.h"

#include <math.h>
#include <string.h>

bool pac_sim_caches(const pac_sim_request *q)
{
    return q->run->cached && q->plan->cached && q->run->epochs > 1;
}

/* ---- bytes ---- */

/* What the cost model says of 1F1B, taken apart: what a micro-batch keeps, times those in flight; the rest. */
static void split_bytes(const pac_sim_request *q, const pac_plan *plan, int64_t n, pac_sim_bytes *out)
{
    pac_costs c = pac_costs_of(q->profile, q->run);
    int64_t M = plan->microbatches < n ? plan->microbatches : n;
    pac_range larger = pac_split_even(n, M, 0);
    for (int64_t i = 0; i < plan->stages; i++) {
        const pac_stage_plan *st = &plan->stage[i];
        pac_stage_cost s;
        pac_range_cost(&c, st->first, st->last, &s);
        double sample = pac_stage_needs(&c, &s, st->first, st->last, 1, M).sample - s.work; /* of one slot */
        double in_flight = (double)(M < plan->stages - i ? M : plan->stages - i);
        for (int64_t r = 0; r < st->ranks; r++) {
            pac_range part = pac_split_shares(larger.hi - larger.lo, st->share, st->ranks, r);
            double slot = (double)(part.hi - part.lo) * sample;
            out[st->rank[r]] = (pac_sim_bytes){.base = fmax(st->bytes[r] - in_flight * slot, 0), .slot = slot};
        }
    }
}

/* The caller frees *out. */
static pac_err model_bytes(const pac_sim_request *q, int64_t n, pac_sim_bytes **out)
{
    pac_plan plan;
    void *v = NULL;
    pac_err err;
    PAC_TRY(pac_plan_copy(q->plan, &plan));
    PAC_GO(pac_plan_predict(q->profile, q->run, &plan));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, q->profile->devices, sizeof **out, &v));
    *out = v;
    if (q->bytes != NULL)
        memcpy(*out, q->bytes, (size_t)q->profile->devices * sizeof **out);
    else
        split_bytes(q, &plan, n, *out);
out:
    pac_plan_free(&plan);
    return err;
}

/* ---- mini-batches ---- */

typedef struct sums {
    double hybrid, cached, samples;
} sums;

/* Seconds in which the device that writes longest stores what it caches of a mini-batch: a thread does, behind the steps. */
static double writing(const pac_sim_request *q, const pac_sim_batch *b)
{
    double worst = 0;
    for (int64_t i = 0; i < q->plan->stages; i++)
        for (int64_t r = 0; r < q->plan->stage[i].ranks; r++) {
            double sum = 0;
            for (int64_t m = 0; m < b->M; m++)
                sum += pac_sim_write(q->profile, b, &q->plan->stage[i], r, m);
            worst = fmax(worst, sum);
        }
    return worst;
}

/* One mini-batch, counted `times`; the chart is of the first. */
static pac_err run_batch(const pac_sim_request *q, const pac_sim_bytes *bytes, int64_t first, int64_t n, double times,
                         pac_simulation *chart, sums *to)
{
    pac_sim_batch b;
    double hybrid, cached = 0;
    PAC_TRY(pac_sim_batch_open(q, first, n, &b));
    pac_err err = pac_sim_step(q, &b, bytes, chart, &hybrid);
    if (err == PAC_OK && pac_sim_caches(q))
        err = pac_sim_cached_step(q, &b, &cached);
    if (err == PAC_OK && pac_sim_caches(q))
        hybrid = fmax(hybrid, writing(q, &b));
    pac_sim_batch_close(&b);
    to->hybrid += times * hybrid;
    to->cached += times * cached;
    to->samples += times * (double)n;
    return err;
}

/* Every mini-batch of the given lengths; else a whole one, and the rest of the rows. */
static pac_err run_batches(const pac_sim_request *q, const pac_sim_bytes *bytes, pac_simulation *s, sums *to)
{
    int64_t rows = q->lengths != NULL ? q->lengths->samples : q->run->rows, batch = q->run->batch;
    int64_t whole = rows / batch, rest = rows % batch;
    if (q->lengths == NULL && whole > 0)
        PAC_TRY(run_batch(q, bytes, 0, batch, (double)whole, s, to));
    for (int64_t i = 0; q->lengths != NULL && i < whole; i++)
        PAC_TRY(run_batch(q, bytes, i * batch, batch, 1, i == 0 ? s : NULL, to));
    s->predicted.hybrid_step_s = whole > 0 ? to->hybrid / (double)whole : 0;
    if (rest > 0)
        PAC_TRY(run_batch(q, bytes, whole * batch, rest, 1, whole == 0 ? s : NULL, to));
    if (whole == 0)
        s->predicted.hybrid_step_s = to->hybrid;
    return PAC_OK;
}

static pac_err run_phases(const pac_sim_request *q, const pac_sim_bytes *bytes, pac_simulation *s)
{
    sums t = {0};
    pac_predicted *p = &s->predicted;
    PAC_TRY(run_batches(q, bytes, s, &t));
    double epoch = (double)q->run->rows / t.samples;
    p->hybrid_epoch_s = t.hybrid * epoch;
    if (pac_sim_caches(q)) {
        p->cached_epoch_s = t.cached * epoch;
        p->redistribute_s = pac_sim_redistribution(q);
    }
    double later = pac_sim_caches(q) ? p->cached_epoch_s : p->hybrid_epoch_s;
    p->total_s = p->hybrid_epoch_s + p->redistribute_s + (double)(q->run->epochs - 1) * later;
    return PAC_OK;
}

/* ---- the whole ---- */

static pac_err check(const pac_sim_request *q)
{
    const pac_lengths *l = q->lengths;
    PAC_CHECK(l == NULL || l->samples >= 1, PAC_EINVAL, "lengths of %lld samples", l != NULL ? (long long)l->samples : 0);
    PAC_CHECK(q->plan->microbatches >= 1, PAC_ECONFIG, "the plan has %lld micro-batches", (long long)q->plan->microbatches);
    PAC_CHECK((int)q->schedule >= 0 && q->schedule <= PAC_SIM_SEQUENTIAL, PAC_EINVAL, "schedule %d", (int)q->schedule);
    return PAC_OK;
}

static void judge(const pac_profile *p, pac_simulation *s)
{
    s->fits = true;
    for (int64_t d = 0; d < s->devices; d++) {
        s->device[d].budget = p->device[d].memory;
        s->device[d].fits = s->device[d].peak_bytes <= s->device[d].budget;
        s->fits = s->fits && s->device[d].fits;
    }
}

pac_err pac_simulate(const pac_sim_request *q, pac_simulation *out)
{
    pac_simulation s = {.devices = q->profile->devices};
    pac_sim_bytes *bytes = NULL;
    pac_err err;
    void *v;
    PAC_TRY(check(q));
    int64_t rows = q->lengths != NULL ? q->lengths->samples : q->run->rows;
    PAC_GO(model_bytes(q, rows < q->run->batch ? rows : q->run->batch, &bytes));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, s.devices, sizeof *s.device, &v));
    s.device = v;
    PAC_GO(run_phases(q, bytes, &s));
    judge(q->profile, &s);
    *out = s;
out:
    pac_mem_free(bytes);
    if (err != PAC_OK)
        pac_simulation_free(&s);
    return err;
}

void pac_simulation_free(pac_simulation *s)
{
    if (s == NULL)
        return;
    for (int64_t d = 0; s->device != NULL && d < s->devices; d++) {
        pac_mem_free(s->device[d].time);
        pac_mem_free(s->device[d].bytes);
    }
    pac_mem_free(s->device);
    pac_mem_free(s->event);
    *s = (pac_simulation){0};
}
