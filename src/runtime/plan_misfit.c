/*
 * Nothing fits: what would help. Every change that is named was tried, by planning once more with it: words of configuration
 * (remedy.c), so much more memory on these devices (amounts rounded up to the digit that is printed), a number of
 * micro-batches, a smaller batch. The plan that
 * lacks least by the planner's sums need not be the one that lacks least, so it is called the smallest change that was found.
 * Planning for many devices takes seconds, so searches are counted: when they are spent, what is known by then is said.
 */
#include "estimate.h"
#include "planning.h"
#include "plan_search.h"
#include "remedy.h"

#include "pac/bytes.h"

#include <math.h>
#include <string.h>

enum { MOST_RAISES = 6, MOST_IN_PLAN = 16 };

#define TENTH 104857.6 /* of a MiB, in which amounts are printed */

typedef struct question {
    const pac_job *job;
    pac_profile *p;
    const pac_plan_request *q;
    int64_t searches; /* that may still be made */
} question;

/* More memory, in tenths of a MiB by device, that was tried; and the plan that fits then. */
typedef struct change {
    double tenths[PAC_MAX_DEVICES];
    pac_plan_answer a;
} change;

static void tenths_missing(const pac_plan *plan, const double *budget, double *to)
{
    memset(to, 0, PAC_MAX_DEVICES * sizeof *to);
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++) {
            int64_t d = plan->stage[s].rank[i];
            double over = plan->stage[s].bytes[i] - budget[d];
            to[d] = over > 0 ? ceil((over + PROCESSES_DIFFER) / TENTH) : 0;
        }
}

static double sum_of(const double *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += v[i];
    return sum;
}

static void raise_budgets(const pac_profile *p, const double *tenths, double *budget)
{
    for (int64_t d = 0; d < p->devices; d++)
        budget[d] = p->device[d].memory + tenths[d] * TENTH;
}

/* Does a plan fit with so much more? Then *c is this change with that plan; else *more is what still lacks. */
static pac_err try_change(question *t, const double *tenths, change *c, double *more, bool *fits)
{
    double budget[PAC_MAX_DEVICES], lacks;
    pac_plan_answer a;
    raise_budgets(t->p, tenths, budget);
    PAC_TRY(plan_fit(t->job, t->p, budget, t->q, &t->searches, &a, &lacks));
    *fits = lacks <= 0;
    tenths_missing(&a.plan, budget, more);
    if (!*fits) {
        pac_plan_answer_free(&a);
        return PAC_OK;
    }
    pac_plan_answer_free(&c->a);
    memcpy(c->tenths, tenths, sizeof c->tenths);
    c->a = a;
    return PAC_OK;
}

/* From what the nearest plan lacks: more until a plan fits, then only what that plan takes of it, while that is less. */
static pac_err find_change(question *t, const pac_plan *near, change *c, bool *found)
{
    double budget[PAC_MAX_DEVICES], tenths[PAC_MAX_DEVICES], more[PAC_MAX_DEVICES], none[PAC_MAX_DEVICES] = {0};
    int64_t devices = t->p->devices;
    raise_budgets(t->p, none, budget);
    tenths_missing(near, budget, tenths);
    *found = false;
    for (int i = 0; i < MOST_RAISES && t->searches > 0; i++) {
        bool fits;
        PAC_TRY(try_change(t, tenths, c, more, &fits));
        if (!fits && *found)
            return PAC_OK;
        *found = fits;
        if (fits)
            tenths_missing(&c->a.plan, budget, tenths);
        else
            for (int64_t d = 0; d < devices; d++)
                tenths[d] += more[d];
        if (fits && sum_of(tenths, devices) >= sum_of(c->tenths, devices))
            return PAC_OK;
    }
    return PAC_OK;
}

/* ---- fewer samples at a time ---- */

/* Where no search is left it is not known to fit. */
static pac_err fits_with(question *t, const pac_job *job, const pac_plan_request *q, int64_t *microbatches, bool *fits)
{
    double budget[PAC_MAX_DEVICES], none[PAC_MAX_DEVICES] = {0}, lacks;
    pac_plan_answer a;
    *fits = false;
    if (t->searches < 1)
        return PAC_OK;
    raise_budgets(t->p, none, budget);
    PAC_TRY(plan_fit(job, t->p, budget, q, &t->searches, &a, &lacks));
    *fits = lacks <= 0;
    *microbatches = a.plan.microbatches;
    pac_plan_answer_free(&a);
    return PAC_OK;
}

static pac_err fits_with_batch(question *t, int64_t batch, bool *fits)
{
    pac_job other = *t->job;
    int64_t M;
    other.cfg.train.batch = batch;
    pac_plan_request q = plan_request(&other, t->p);
    return fits_with(t, &other, &q, &M, fits);
}

/* The largest batch that was found to fit, 0: none was. */
static pac_err smaller_batch(question *t, int64_t *out)
{
    int64_t M = t->job->cfg.train.microbatches, least = M > 1 ? M : 1, lo = 0, hi = t->job->cfg.train.batch;
    bool fits = false;
    *out = 0;
    if (least >= hi)
        return PAC_OK;
    PAC_TRY(fits_with_batch(t, least, &fits));
    for (lo = least; fits && hi - lo > 1 && t->searches > 0;) {
        int64_t mid = lo + (hi - lo) / 2;
        bool ok;
        PAC_TRY(fits_with_batch(t, mid, &ok));
        lo = ok ? mid : lo;
        hi = ok ? hi : mid;
    }
    *out = fits ? lo : 0;
    return PAC_OK;
}

static pac_err other_ways(question *t, refusal *to)
{
    int64_t M = 0, batch;
    bool fits = false;
    pac_plan_request any = *t->q;
    any.microbatches = 0;
    if (t->q->microbatches > 0)
        PAC_TRY(fits_with(t, t->job, &any, &M, &fits));
    PAC_TRY(smaller_batch(t, &batch));
    if (fits)
        refusal_say(to, "\n    --set train.microbatches=%lld", (long long)M);
    if (batch > 0)
        refusal_say(to, "\n    --set train.batch=%lld", (long long)batch);
    return PAC_OK;
}

/* ---- words of configuration ---- */

static pac_err fits_changed(void *with, const pac_job *job, pac_profile *p, bool *fits)
{
    question *t = with, other = *t;
    pac_plan_request q = plan_request(job, p);
    int64_t M;
    other.p = p;
    pac_err err = fits_with(&other, job, &q, &M, fits);
    t->searches = other.searches;
    return err;
}

/* A third of the searches, so that some are left for amounts of memory. */
static pac_err one_word(question *t, refusal *to)
{
    int64_t rest = t->searches - (t->searches + 2) / 3;
    t->searches -= rest;
    pac_err err = remedy_words(t->job, t->p, REMEDY_MEMORY, fits_changed, t, "\n    ", to);
    t->searches += rest;
    return err;
}

/* ---- the message ---- */

static void say_plan(const pac_profile *p, const pac_plan *plan, refusal *w)
{
    char shape[4 * PAC_MAX_DEVICES];
    pac_plan_shape(plan, shape, sizeof shape);
    refusal_say(w, "ranks by stage %s, layers ", shape);
    for (int64_t s = 0; s < plan->stages; s++)
        refusal_say(w, "%s%lld", s > 0 ? "-" : "", (long long)(plan->stage[s].last - plan->stage[s].first));
    refusal_say(w, ", %lld micro-batch%s%s", (long long)plan->microbatches, PAC_PLURAL(plan->microbatches, "es"),
                plan->cached ? ", cached" : "");
    for (int64_t s = 0; s < plan->stages && plan->world <= MOST_IN_PLAN; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            refusal_say(w, "%s%.40s", i > 0 ? "," : s > 0 ? " | " : "; ", p->device[plan->stage[s].rank[i]].name);
}

static void say_change(const question *t, const double *tenths, const pac_plan *plan, refusal *w)
{
    double missing[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < t->p->devices; d++)
        missing[d] = tenths[d] * TENTH;
    refusal_say_missing(t->p, missing, w);
    refusal_say(w, "\n    (");
    say_plan(t->p, plan, w);
    refusal_say(w, ")");
}

static pac_err explain(question *t, const pac_plan *near, change *c)
{
    refusal w = {.n = 0}, ways = {.n = 0};
    bool found;
    double budget[PAC_MAX_DEVICES], tenths[PAC_MAX_DEVICES], none[PAC_MAX_DEVICES] = {0};
    PAC_TRY(one_word(t, &ways));
    int64_t rest = t->searches / 2;
    t->searches -= rest;
    PAC_TRY(find_change(t, near, c, &found));
    t->searches += rest;
    if (found) {
        raise_budgets(t->p, c->tenths, budget);
        refusal_say_budgets(t->p, budget, NULL, &ways);
    }
    PAC_TRY(other_ways(t, &ways));
    raise_budgets(t->p, none, budget);
    tenths_missing(near, budget, tenths);
    if (ways.n > 0)
        refusal_say(&w, "\n  each of these makes one fit:%s", ways.text);
    refusal_say(&w, found ? "\n  smallest change of memory found: " : "\n  the plan that came nearest: ");
    say_change(t, found ? c->tenths : tenths, found ? &c->a.plan : near, &w);
    if (t->searches < 1)
        refusal_say(&w, "\n  (the search was ended: with so many devices it takes long; there may be other ways)");
    return pac_fail(PAC_ENOMEM, "no plan was found that fits%s", w.text);
}

pac_err plan_misfit(const pac_job *job, pac_profile *p, const pac_plan_request *q, int64_t searches, pac_plan_answer *near)
{
    question t = {.job = job, .p = p, .q = q, .searches = searches};
    change c = {0};
    pac_err err = explain(&t, &near->plan, &c);
    pac_plan_answer_free(&c.a);
    pac_plan_answer_free(near);
    return err;
}
