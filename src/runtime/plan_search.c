/*
 * From a planner's answer to a plan that fits: the cost model's bytes are sums over layers, a dry run says what the ledger will
 * reach (estimate.c). They differ by a few percent, so an answer is checked, and the search repeated with less to spend where
 * it was over.
 */
#include "plan_search.h"

#include "estimate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_TRIES = 8 };

bool plan_uses(const pac_plan *plan, int64_t rank)
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, ranks);
    for (int64_t i = 0; i < n; i++)
        if (ranks[i] == rank)
            return true;
    return false;
}

/* Bytes that others gave are not ours to correct. */
static pac_err dry_bytes(const pac_job *job, const pac_profile *p, pac_plan *plan)
{
    return p->bytes_given ? PAC_OK : dry_plan(job, plan);
}

pac_err plan_predict(const pac_job *job, const pac_plan_request *q, pac_plan *plan)
{
    PAC_TRY(pac_plan_predict(q->profile, q, plan));
    return dry_bytes(job, q->profile, plan);
}

static pac_err ask(const pac_job *job, const pac_plan_request *q, pac_plan_answer *out)
{
    return job->cfg.system.planner == PAC_PLANNER_PAPER ? pac_plan_paper(q, out) : pac_plan_best(q, out);
}

/* Take what a device was over its budget from what the planner may spend there. Returns the device that is over most, or -1. */
static int64_t tighten(const pac_plan *plan, const double *budget, pac_profile *p, double *most)
{
    int64_t worst = -1;
    *most = 0;
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++) {
            int64_t d = plan->stage[s].rank[i];
            double over = plan->stage[s].bytes[i] - budget[d];
            if (over <= 0)
                continue;
            worst = over > *most ? d : worst;
            *most = fmax(over, *most);
            p->device[d].memory = fmax(0, p->device[d].memory - over);
        }
    return worst;
}

static pac_err search(const pac_job *job, pac_profile *p, const double *budget, const pac_plan_request *q, pac_plan_answer *out)
{
    bool by_the_book = job->cfg.system.planner == PAC_PLANNER_PAPER; /* its memory test is part of it */
    for (int tries = 1;; tries++) {
        pac_plan_answer a;
        PAC_TRY(ask(job, q, &a));
        pac_err err = dry_bytes(job, p, &a.plan);
        if (err != PAC_OK) {
            pac_plan_answer_free(&a);
            return err;
        }
        double over;
        int64_t worst = by_the_book ? -1 : tighten(&a.plan, budget, p, &over);
        if (worst < 0) {
            *out = a;
            return PAC_OK;
        }
        pac_plan_answer_free(&a);
        PAC_CHECK(tries < MOST_TRIES, PAC_ENOMEM,
                  "no plan was found that fits: after %d tries device %lld (%s) still lacks %.1f MiB of its budget of %.1f MiB",
                  tries, (long long)worst, p->device[worst].name, over / 1048576, budget[worst] / 1048576);
    }
}

pac_err plan_search(const pac_job *job, pac_profile *profile, const pac_plan_request *q, pac_plan_answer *out)
{
    double budget[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < profile->devices; d++)
        budget[d] = profile->device[d].memory;
    pac_err err = search(job, profile, budget, q, out);
    for (int64_t d = 0; d < profile->devices; d++)
        profile->device[d].memory = budget[d];
    return err;
}

/* One device, M micro-batches. */
static pac_err alone(const pac_job *job, int64_t M, pac_plan *out)
{
    const int64_t one = 1;
    PAC_TRY(pac_plan_even(&one, 1, pac_depth(&job->desc), M, out));
    pac_err err = dry_plan(job, out);
    if (err != PAC_OK)
        pac_plan_free(out);
    return err;
}

pac_err plan_alone(const pac_job *job, pac_plan *out)
{
    const pac_config *c = &job->cfg;
    int64_t most = c->train.batch, M = c->train.microbatches > 0 ? c->train.microbatches : 1;
    PAC_TRY(alone(job, M < most ? M : most, out));
    while (out->stage[0].bytes[0] > job->budget && c->train.microbatches == 0 && M < most) {
        M = 2 * M < most ? 2 * M : most;
        pac_plan_free(out);
        PAC_TRY(alone(job, M, out));
    }
    pac_err err = dry_holds(job, out, 0, 0);
    if (err != PAC_OK)
        pac_plan_free(out);
    return err;
}
