/*
 * Nothing fits: what would help. Every change that is named was tried, by planning once more with it: so much more memory on
 * these devices (amounts rounded up to the digit that is printed), a number of micro-batches, a smaller batch. The plan that
 * lacks least by the planner's sums need not be the one that lacks least, so it is called the smallest change that was found.
 * Planning for many devices takes seconds, so searches are counted: when they are spent, what is known by then is said.
 */
#include "estimate.h"
#include "planning.h"
#include "plan_search.h"

#include "pac/bytes.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RAISES = 6, MOST_NAMED = 8 };

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

static pac_err other_ways(question *t, char *text, size_t bytes)
{
    int64_t M = 0, batch;
    bool fits = false;
    pac_plan_request any = *t->q;
    any.microbatches = 0;
    if (t->q->microbatches > 0)
        PAC_TRY(fits_with(t, t->job, &any, &M, &fits));
    PAC_TRY(smaller_batch(t, &batch));
    size_t n = 0;
    text[0] = '\0';
    if (fits)
        n = (size_t)snprintf(text, bytes, ", or train.microbatches: %lld", (long long)M);
    if (batch > 0)
        snprintf(text + n, bytes - n, ", or train.batch: %lld", (long long)batch);
    return PAC_OK;
}

/* ---- the message ---- */

typedef struct words {
    char text[900]; /* two of them, with what is said around them, are a message */
    size_t n;
} words;

__attribute__((format(printf, 2, 3))) static void say(words *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->n, sizeof w->text - w->n, format, args);
    va_end(args);
    size_t left = sizeof w->text - w->n - 1;
    bool cut = n > 0 && (size_t)n > left;
    w->n += n < 0 ? 0 : cut ? left : (size_t)n;
    if (cut)
        memcpy(w->text + sizeof w->text - 4, "...", 4);
}

static void say_plan(const pac_plan *plan, words *w)
{
    char shape[4 * PAC_MAX_DEVICES];
    pac_plan_shape(plan, shape, sizeof shape);
    say(w, "ranks by stage %s, layers ", shape);
    for (int64_t s = 0; s < plan->stages; s++)
        say(w, "%s%lld", s > 0 ? "-" : "", (long long)(plan->stage[s].last - plan->stage[s].first));
    say(w, ", devices");
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            say(w, "%s%lld", i > 0 ? "," : " ", (long long)plan->stage[s].rank[i]);
    say(w, ", %lld micro-batches%s", (long long)plan->microbatches, plan->cached ? ", cached" : "");
}

static void say_missing(const pac_profile *p, const double *tenths, words *w)
{
    int64_t named = 0, more = 0;
    for (int64_t d = 0; d < p->devices; d++) {
        more += tenths[d] > 0 && named == MOST_NAMED;
        if (!(tenths[d] > 0) || named == MOST_NAMED)
            continue;
        char has[32];
        say(w, "%srank %lld (%.40s, %s) lacks %.1f MiB", named++ > 0 ? ", " : "", (long long)d, p->device[d].name,
            pac_mib_text(p->device[d].memory, has), tenths[d] / 10);
    }
    if (more > 0)
        say(w, ", %lld more; all together %.1f MiB", (long long)more, sum_of(tenths, p->devices) / 10);
}

static pac_err refuse(const question *t, const pac_plan *plan, const double *tenths, bool found, const char *ways)
{
    words w = {.n = 0}, missing = {.n = 0};
    say_plan(plan, &w);
    say_missing(t->p, tenths, &missing);
    const char *spent =
        t->searches > 0 ? "" : " (the search was ended: with so many devices it takes long; there may be other ways)";
    if (!found)
        return pac_fail(PAC_ENOMEM, "no plan was found that fits; the plan that came nearest (%s): %s%s%s%s", w.text,
                        missing.text, ways[0] != '\0' ? "; what would make one fit: " : "",
                        ways[0] != '\0' ? ways + strlen(", or ") : "", spent);
    return pac_fail(PAC_ENOMEM,
                    "no plan was found that fits; the smallest change found that makes one fit: more memory (%s: %s)%s%s",
                    w.text, missing.text, ways, spent);
}

static pac_err explain(question *t, const pac_plan *near, change *c)
{
    char ways[96];
    bool found;
    double budget[PAC_MAX_DEVICES], tenths[PAC_MAX_DEVICES], none[PAC_MAX_DEVICES] = {0};
    int64_t rest = t->searches / 2;
    t->searches -= rest;
    PAC_TRY(find_change(t, near, c, &found));
    t->searches += rest;
    PAC_TRY(other_ways(t, ways, sizeof ways));
    raise_budgets(t->p, none, budget);
    tenths_missing(near, budget, tenths);
    return refuse(t, found ? &c->a.plan : near, found ? c->tenths : tenths, found, ways);
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
