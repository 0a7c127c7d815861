/*
 * From a planner's answer to a plan that fits: the cost model's bytes are sums over layers, a dry run says what the ledger will
 * reach (estimate.c). They differ by a few percent, so an answer is checked, and where it is over a budget the search is
 * repeated with the planner's budgets corrected by the difference. The user's budgets decide and are the ones that messages
 * name.
 */
#include "fits.h"
#include "plan_search.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_TRIES = 12, UNBIASED_TRIES = 6, SEARCHES_OF_ALL = 1024, LEAST_SEARCHES = 6 };

/* A search of a large cluster takes seconds, one of a small cluster milliseconds. */
int64_t plan_most_searches(int64_t devices)
{
    int64_t most = SEARCHES_OF_ALL / devices;
    return most > LEAST_SEARCHES ? most : LEAST_SEARCHES;
}

static pac_err ask(const pac_job *job, const pac_plan_request *q, pac_plan_answer *out)
{
    return job->cfg.system.planner == PAC_PLANNER_PAPER ? pac_plan_paper(q, out) : pac_plan_best(q, out);
}

void plan_bytes_by_device(const pac_plan *plan, double to[static PAC_MAX_DEVICES])
{
    memset(to, 0, PAC_MAX_DEVICES * sizeof *to);
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            to[plan->stage[s].rank[i]] = plan->stage[s].bytes[i];
}

/*
 * What the planner may spend by its own sums. At first exactly what makes them agree with the dry run of the last plan; if that
 * goes in circles between plans that differ, ever less.
 */
static bool correct(pac_profile *p, const double *budget, const double *sum, const double *dry, int tries)
{
    bool changed = false;
    for (int64_t d = 0; d < p->devices; d++) {
        double now = p->device[d].memory, next = budget[d] - (dry[d] - sum[d]);
        if (dry[d] <= 0)
            continue;
        if (tries > UNBIASED_TRIES && dry[d] > budget[d])
            next = fmin(next, now - (tries - UNBIASED_TRIES) * (dry[d] - budget[d]));
        p->device[d].memory = fmax(0, next);
        changed = changed || fabs(p->device[d].memory - now) >= 1;
    }
    return changed;
}

static double total_lack(const double *bytes, const double *budget, int64_t devices)
{
    double lacks = 0;
    for (int64_t d = 0; d < devices; d++)
        lacks += fmax(0, bytes[d] - budget[d]);
    return lacks;
}

/* Its bytes are those of the dry run; where the planner took the plan for one that does not fit, the dry run knows better. */
static void accept(const pac_plan_answer *a, const double *budget)
{
    pac_candidate *c = a->candidate;
    while (!c->best) /* every answer has it */
        c++;
    double over = -INFINITY;
    for (int64_t s = 0; s < a->plan.stages; s++)
        for (int64_t i = 0; i < a->plan.stage[s].ranks; i++) {
            double bytes = a->plan.stage[s].bytes[i], room = budget[a->plan.stage[s].rank[i]];
            c->most_bytes = bytes - room > over ? bytes : c->most_bytes;
            over = fmax(over, bytes - room);
        }
    if (isfinite(c->total_s))
        return;
    c->total_s = a->plan.predicted.total_s;
    c->step_s = a->plan.predicted.hybrid_step_s;
    snprintf(c->why, sizeof c->why, "best");
    pac_candidate first = a->candidate[0];
    a->candidate[0] = *c;
    *c = first;
}

/* One question and its dry run: keeps the answer where it lacks less than the one in hand. Returns whether to ask again. */
static pac_err attempt(const pac_job *job, pac_profile *p, const double *budget, const pac_plan_request *q, int tries,
                       pac_plan_answer *best, double *least, bool *again)
{
    double sum[PAC_MAX_DEVICES], dry[PAC_MAX_DEVICES];
    pac_plan_answer a;
    PAC_TRY(ask(job, q, &a));
    plan_bytes_by_device(&a.plan, sum);
    pac_err err = plan_bytes(job, p, &a.plan);
    if (err != PAC_OK) {
        pac_plan_answer_free(&a);
        return err;
    }
    plan_bytes_by_device(&a.plan, dry);
    double lacks = total_lack(dry, budget, p->devices);
    if (lacks < *least) {
        pac_plan_answer_free(best);
        *best = a;
        *least = lacks;
    } else {
        pac_plan_answer_free(&a);
    }
    *again = lacks > 0 && correct(p, budget, sum, dry, tries) && tries < MOST_TRIES;
    return PAC_OK;
}

static pac_err fit(const pac_job *job, pac_profile *p, const double *budget, const pac_plan_request *q, int64_t *searches,
                   pac_plan_answer *out, double *lacks)
{
    pac_plan_answer best = {0};
    double least = INFINITY;
    pac_err err = PAC_OK;
    bool again = true;
    for (int tries = 1; again && err == PAC_OK; tries++) {
        err = attempt(job, p, budget, q, tries, &best, &least, &again);
        again = --*searches > 0 && again;
    }
    if (err != PAC_OK) {
        pac_plan_answer_free(&best);
        return err;
    }
    if (least <= 0)
        accept(&best, budget);
    *out = best;
    *lacks = least;
    return PAC_OK;
}

pac_err plan_fit(const pac_job *job, pac_profile *p, const double *budget, const pac_plan_request *q, int64_t *searches,
                 pac_plan_answer *out, double *lacks)
{
    double kept[PAC_MAX_DEVICES];
    pac_plan_request near = *q;
    near.profile = p;
    near.nearest = true;
    for (int64_t d = 0; d < p->devices; d++) {
        kept[d] = p->device[d].memory;
        p->device[d].memory = budget[d];
    }
    pac_err err = fit(job, p, budget, &near, searches, out, lacks);
    for (int64_t d = 0; d < p->devices; d++)
        p->device[d].memory = kept[d];
    return err;
}

/* Its memory test is part of it: what it finds is not corrected. */
pac_err plan_by_the_book(const pac_job *job, const pac_profile *p, const pac_plan_request *q, pac_plan_answer *out)
{
    pac_plan_answer a;
    PAC_TRY(ask(job, q, &a));
    pac_err err = plan_bytes(job, p, &a.plan);
    if (err != PAC_OK)
        pac_plan_answer_free(&a);
    else
        *out = a;
    return err;
}

pac_err plan_search(const pac_job *job, pac_profile *profile, const pac_plan_request *q, pac_plan_answer *out)
{
    if (job->cfg.system.planner == PAC_PLANNER_PAPER) {
        pac_err err = plan_by_the_book(job, profile, q, out);
        return err == PAC_ENOMEM ? plan_book_misfit(job, profile) : err;
    }
    double budget[PAC_MAX_DEVICES], lacks;
    int64_t searches = plan_most_searches(profile->devices), first = searches - searches / 2, rest = searches / 2;
    for (int64_t d = 0; d < profile->devices; d++)
        budget[d] = profile->device[d].memory;
    pac_plan_answer a;
    PAC_TRY(plan_fit(job, profile, budget, q, &first, &a, &lacks));
    if (lacks > 0)
        return plan_misfit(job, profile, q, first + rest, &a);
    pac_err err = fits_note_storing(job, profile, &a);
    if (err != PAC_OK)
        pac_plan_answer_free(&a);
    else
        *out = a;
    return err;
}
