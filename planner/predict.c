/*
 * What a plan will take, whoever made it: seconds of a step, an epoch, the redistribution and a cached epoch, and bytes of
 * every rank. Unlike the paper's planner it counts whole samples, every micro-batch in flight and the slowest stage.
 */
#include "model.h"

#include "pac/schedule.h"

#include <math.h>

enum { FEW_MICROBATCHES = 512, MOST_TRIED = 1024 };

static pac_err check(const pac_profile *p, const pac_plan_request *q, const pac_plan *plan)
{
    PAC_CHECK(q->batch >= 1 && q->rows >= 1 && q->epochs >= 1, PAC_EINVAL,
              "batch %lld, rows %lld, epochs %lld: must be at least 1", (long long)q->batch, (long long)q->rows,
              (long long)q->epochs);
    PAC_CHECK(plan->world == p->devices, PAC_ECONFIG,
              "the plan is for %lld ranks, the profile or cluster has %lld devices: plan for these anew",
              (long long)plan->world, (long long)p->devices);
    PAC_CHECK(plan->layers == pac_profile_layers(p), PAC_ECONFIG,
              "the plan is for a model of %lld layers, the profile's has %lld", (long long)plan->layers,
              (long long)pac_profile_layers(p));
    return PAC_OK;
}

static pac_err score(const pac_costs *c, const pac_micro *m, const pac_plan *plan, pac_score *out)
{
    double few[FEW_MICROBATCHES], *arrive = few;
    if (m->M > FEW_MICROBATCHES) {
        void *v;
        PAC_TRY(pac_mem_array(PAC_MEM_OTHER, m->M, sizeof *arrive, &v));
        arrive = v;
    }
    *out = pac_score_stages(c, plan->stage, plan->stages, m, arrive);
    if (arrive != few)
        pac_mem_free(arrive);
    return PAC_OK;
}

/* Samples of a mini-batch that each of the plan's ranks takes from the cache. Equal parts: the largest counts for all. */
static void plan_parts(const pac_costs *c, const pac_plan *plan, const int64_t *rank, int64_t n, int64_t *part)
{
    int64_t lo[PAC_MAX_DEVICES + 1] = {0};
    double sum = 0, before = 0;
    for (int64_t d = 0; plan->cached_share != NULL && d < c->D; d++)
        sum += plan->cached_share[d];
    for (int64_t d = 0; plan->cached_share != NULL && d < c->D; d++) {
        before += plan->cached_share[d];
        lo[d + 1] = (int64_t)rint((double)c->q->batch * (before / sum));
    }
    for (int64_t i = 0; i < n; i++)
        part[i] = plan->cached_share != NULL ? lo[rank[i] + 1] - lo[rank[i]] : (c->q->batch + n - 1) / n;
}

/* A rank holds the larger of what both phases take. */
static void count_cached_bytes(const pac_costs *c, pac_plan *plan, const int64_t *part)
{
    for (int64_t i = 0; i < plan->stages; i++)
        for (int64_t r = 0; r < plan->stage[i].ranks; r++)
            plan->stage[i].bytes[r] = fmax(plan->stage[i].bytes[r], pac_cached_bytes(c, *part++));
}

pac_err pac_plan_predict(const pac_profile *p, const pac_plan_request *q, pac_plan *plan)
{
    PAC_TRY(check(p, q, plan));
    pac_costs c = pac_costs_of(p, q);
    pac_micro m = pac_micro_of(q->batch, plan->microbatches);
    pac_score s;
    PAC_TRY(score(&c, &m, plan, &s));
    if (!q->cached || !plan->cached || q->epochs < 2) {
        plan->predicted = pac_run_seconds(&c, &s, NULL);
        return PAC_OK;
    }
    int64_t rank[PAC_MAX_DEVICES], part[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, rank);
    plan_parts(&c, plan, rank, n, part);
    pac_cached_cost cached = pac_cached_seconds(&c, rank, n, part);
    plan->predicted = pac_run_seconds(&c, &s, &cached);
    count_cached_bytes(&c, plan, part);
    return PAC_OK;
}

int64_t pac_plan_lacks_disk(const pac_profile *p, const pac_plan_request *q, const pac_plan *plan, double *need)
{
    pac_costs c = pac_costs_of(p, q);
    double equal[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < c.D; d++) /* of those that take part: of others it is not asked */
        equal[d] = 1 / (double)(plan->world - plan->left_out);
    const double *share = plan->cached_share != NULL ? plan->cached_share : plan->cached ? equal : NULL;
    return pac_cache_lacks_room(&c, plan->stage, plan->stages, share, need);
}

/* ---- micro-batches ---- */

/* Bytes over the budgets, summed over the devices. */
static double lacks_of(const pac_profile *p, const pac_plan *plan)
{
    double sum = 0;
    for (int64_t i = 0; i < plan->stages; i++)
        for (int64_t r = 0; r < plan->stage[i].ranks; r++)
            sum += fmax(plan->stage[i].bytes[r] - p->device[plan->stage[i].rank[r]].memory, 0);
    return sum;
}

pac_err pac_plan_microbatches(const pac_profile *p, const pac_plan_request *q, pac_plan *plan)
{
    int64_t most = q->batch < MOST_TRIED ? q->batch : MOST_TRIED, best = 1;
    double least = INFINITY, total = INFINITY;
    if (q->microbatches > 0) {
        plan->microbatches = q->microbatches;
        return pac_plan_predict(p, q, plan);
    }
    for (int64_t M = 1; M <= most; M++) {
        plan->microbatches = M;
        PAC_TRY(pac_plan_predict(p, q, plan));
        double lacks = lacks_of(p, plan);
        if (lacks < least || (lacks == least && plan->predicted.total_s < total)) {
            best = M;
            least = lacks;
            total = plan->predicted.total_s;
        }
    }
    plan->microbatches = best;
    return pac_plan_predict(p, q, plan);
}

/* ---- shares ---- */

static void share_stage(const pac_costs *c, const pac_micro *m, pac_plan *plan, int64_t i)
{
    pac_stage_plan *st = &plan->stage[i];
    int64_t count[PAC_MAX_DEVICES];
    pac_stage_cost s;
    pac_range_cost(c, st->first, st->last, &s);
    pac_stage_bytes_of need = pac_stage_needs(c, &s, st->first, st->last, plan->stages - i, m->M);
    pac_split_by_speed(c, &s, need, st->rank, st->ranks, m->size[1], count);
    pac_counts_to_shares(count, st->ranks, m->size[1], st->share);
}

static pac_err share_cached(const pac_costs *c, pac_plan *plan)
{
    int64_t rank[PAC_MAX_DEVICES], count[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, rank);
    if (plan->cached_share == NULL) {
        void *v;
        PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->D, sizeof *plan->cached_share, &v));
        plan->cached_share = v;
    }
    pac_split_cached(c, rank, n, count);
    for (int64_t d = 0; d < c->D; d++)
        plan->cached_share[d] = 0;
    for (int64_t i = 0; i < n; i++)
        plan->cached_share[rank[i]] = (double)count[i] / (double)c->q->batch;
    return PAC_OK;
}

pac_err pac_plan_share(const pac_profile *p, const pac_plan_request *q, pac_plan *plan)
{
    PAC_TRY(check(p, q, plan));
    pac_costs c = pac_costs_of(p, q);
    pac_micro m = pac_micro_of(q->batch, plan->microbatches);
    if (q->cached && plan->cached)
        PAC_TRY(share_cached(&c, plan));
    for (int64_t i = 0; i < plan->stages; i++)
        share_stage(&c, &m, plan, i);
    return PAC_OK;
}
