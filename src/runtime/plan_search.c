/*
 * Plans whose bytes are those of a dry run (estimate.c), which says what the ledger will reach: of a given plan, of a single
 * device. What a planner chooses is plan_fit.c.
 */
#include "plan_search.h"

#include "estimate.h"

#include <stdio.h>
#include <string.h>

bool plan_uses(const pac_plan *plan, int64_t rank)
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, ranks);
    for (int64_t i = 0; i < n; i++)
        if (ranks[i] == rank)
            return true;
    return false;
}

pac_err plan_bytes(const pac_job *job, const pac_profile *p, pac_plan *plan)
{
    return p->bytes_given ? PAC_OK : dry_plan(job, plan);
}

pac_err plan_predict(const pac_job *job, const pac_plan_request *q, pac_plan *plan)
{
    PAC_TRY(pac_plan_predict(q->profile, q, plan));
    return plan_bytes(job, q->profile, plan);
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
    if (out->stage[0].bytes[0] <= job->budget)
        return PAC_OK;
    pac_err err = dry_holds(job, out, 0, 0); /* by how much not */
    if (err != PAC_OK)
        pac_plan_free(out);
    return err;
}
