/*
 * `planner: pac`: the search of the layout with the least predicted total, exact for small clusters. What anybody would try by
 * hand is always among what is scored: one device, one stage with equal shares (EDDL), a device a stage (Eco-FL), the paper's
 * plan.
 */
#include "pac.h"

#include "paper.h"

#include "pac/clock.h"

#include <math.h>

static pac_err check_request(const pac_plan_request *q)
{
    PAC_TRY(pac_request_check(q, PAC_MOST_PLANNED_LAYERS));
    return q->every_device ? pac_request_check_room(q) : PAC_OK;
}

/* ---- what anybody would try ---- */

static void one_device(pac_search *k, pac_layout *best)
{
    *best = (pac_layout){.total = INFINITY, .lacks = INFINITY};
    int64_t any = k->q->keep_first ? 1 : k->c.D;
    for (int64_t d = 0; d < any && (!k->q->every_device || k->c.D == 1); d++)
        for (int64_t i = 0; i < k->nM; i++) {
            pac_layout x = {
                .stages = 1, .microbatches = k->M[i], .ranks = 1, .end = {(int16_t)k->c.L}, .after = {1}, .rank = {(int16_t)d}};
            pac_search_try(k, &x);
            if (x.total < best->total || (isinf(best->total) && x.lacks < best->lacks))
                *best = x;
        }
}

/* Groups of equal size in the order of the profile, layers in equal parts. */
static void try_even(pac_search *k, int64_t stages)
{
    if (stages > k->most_stages || (k->c.D + stages - 1) / stages > k->most_ranks)
        return;
    for (int64_t m = 0; m < k->nM; m++) {
        pac_layout x = {.stages = stages, .microbatches = k->M[m], .ranks = k->c.D, .equal = true};
        for (int64_t d = 0; d < k->c.D; d++)
            x.rank[d] = (int16_t)d;
        for (int64_t i = 0; i < stages; i++) {
            x.end[i] = (int16_t)(k->c.L * (i + 1) / stages);
            x.after[i] = (int16_t)(k->c.D * (i + 1) / stages);
        }
        pac_search_try(k, &x);
    }
}

static pac_layout layout_of(const pac_partition *part)
{
    pac_layout x = {.stages = part->stages, .microbatches = part->microbatches, .equal = true};
    for (int64_t i = 0; i < part->stages; i++) {
        for (int64_t r = 0; r < part->ranks[i]; r++, x.ranks++)
            x.rank[x.ranks] = (int16_t)x.ranks;
        x.end[i] = (int16_t)part->last[i];
        x.after[i] = (int16_t)x.ranks;
    }
    return x;
}

/* The paper's plan of every number of stages, with equal shares as there and by speed. Not where its programme would take long.
 */
static pac_err try_paper(pac_search *k)
{
    double work = pac_paper_work(k->c.D, k->c.L) * (double)(k->to_M - k->from_M + 1);
    if (work > PAC_MOST_PAPER_WORK || (k->q->most_ranks > 0 && k->q->most_ranks * k->c.L < k->c.D))
        return PAC_OK;
    pac_partition *best;
    int64_t count;
    PAC_TRY(pac_paper_search(k->q, &best, &count));
    for (int64_t i = 0; i < count; i++) {
        pac_layout x = layout_of(&best[i]);
        pac_search_try(k, &x);
        x.equal = false;
        pac_search_try(k, &x);
    }
    pac_mem_free(best);
    return PAC_OK;
}

static pac_err search_all(pac_search *k, pac_way way, pac_layout *one)
{
    one_device(k, one);
    for (int64_t s = 1; s <= k->most_stages; s++)
        try_even(k, s);
    PAC_TRY(try_paper(k));
    bool small = pac_search_is_small(k);
    if (!small || way != PAC_WAY_AUTO || k->c.D > PAC_FEW_DEVICES)
        PAC_TRY(pac_search_large(k)); /* branch and bound of more devices needs a good plan to begin with */
    return way == PAC_WAY_EXACT || (small && way == PAC_WAY_AUTO) ? pac_search_exact(k) : PAC_OK;
}

/* Without its seconds. */
static pac_err solve(pac_search *k, pac_way way, pac_plan_answer *out)
{
    pac_layout one;
    PAC_TRY(search_all(k, way, &one));
    const pac_layout *win = pac_search_winner(k);
    if (win == NULL && k->q->nearest)
        win = pac_search_nearest(k);
    return win == NULL ? pac_explain_misfit(k) : pac_explain_answer(k, win, &one, out);
}

pac_err pac_plan_best_by(const pac_plan_request *q, pac_way way, pac_plan_answer *out)
{
    double start = pac_now();
    PAC_TRY(check_request(q));
    void *v;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_search), &v));
    pac_search *k = v;
    pac_plan_answer answer = {0};
    pac_err err = pac_search_init(k, q);
    if (err == PAC_OK)
        err = solve(k, way, &answer);
    pac_search_done(k);
    pac_mem_free(k);
    PAC_TRY(err);
    answer.seconds = pac_now() - start;
    *out = answer;
    return PAC_OK;
}

pac_err pac_plan_best(const pac_plan_request *q, pac_plan_answer *out)
{
    return pac_plan_best_by(q, PAC_WAY_AUTO, out);
}
