/*
 * Memory and disks of a plan that was given, or made by a planner that does not look at them: what every device lacks, and what
 * would help. What is named was tried: the plan was made again with it, and run dry.
 */
#include "fits.h"
#include "estimate.h"
#include "plan_search.h"
#include "planning.h"
#include "remedy.h"

#include "pac/bytes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RAISES = 12 };

#define MIB         1048576.0
#define GIB         1073741824.0
#define WITH_SCALES 1.07 /* i8 rows of 64 values and more: a scale each */

/* ---- making it again ---- */

typedef struct question {
    const pac_job *job;
    pac_profile *p;
    const pac_plan *given;        /* in a file; NULL: groups of the configuration, or its planner makes it */
    int64_t searches;             /* that may still be made */
    double peak[PAC_MAX_DEVICES]; /* bytes of the plan that was made last, while looking for enough memory */
} question;

static pac_err book_plan(const pac_job *job, pac_profile *p, const pac_plan_request *q, pac_plan *out)
{
    pac_plan_answer a;
    PAC_TRY(plan_by_the_book(job, p, q, &a));
    *out = a.plan;
    a.plan = (pac_plan){0}; /* moved */
    pac_plan_answer_free(&a);
    return PAC_OK;
}

/* The caller frees *out, also after an error. */
static pac_err make_again(const question *t, const pac_job *job, pac_profile *p, pac_plan *out)
{
    pac_plan_request q = plan_request(job, p);
    if (t->given == NULL)
        return job->cfg.system.ngroups > 0 ? plan_of_groups(job, p, &q, out) : book_plan(job, p, &q, out);
    PAC_TRY(pac_plan_copy(t->given, out));
    return plan_predict(job, &q, out);
}

/* Bytes over the budgets by device. Returns whether there are any. */
static bool missing_bytes(const pac_profile *p, const double *peak, double *to)
{
    bool any = false;
    for (int64_t d = 0; d < p->devices; d++) {
        to[d] = fmax(0, peak[d] - p->device[d].memory);
        any = any || to[d] > 0;
    }
    return any;
}

static bool disks_hold(const pac_profile *p, const pac_plan_request *q, const pac_plan *plan)
{
    double need;
    return !q->cached || !plan->cached || pac_plan_lacks_disk(p, q, plan, 1, &need) < 0;
}

static pac_err fits_changed(void *with, const pac_job *job, pac_profile *p, bool *fits)
{
    question *t = with;
    pac_plan plan = {0};
    double peak[PAC_MAX_DEVICES], missing[PAC_MAX_DEVICES];
    *fits = false;
    if (t->searches-- < 1)
        return PAC_OK;
    pac_err err = make_again(t, job, p, &plan);
    if (err == PAC_OK) {
        pac_plan_request q = plan_request(job, p);
        plan_bytes_by_device(&plan, peak);
        *fits = !missing_bytes(p, peak, missing) && disks_hold(p, &q, &plan);
    }
    pac_plan_free(&plan);
    return err == PAC_ENOMEM ? PAC_OK : err;
}

/* ---- more memory ---- */

static double whole_mib(double bytes)
{
    return ceil((bytes + PROCESSES_DIFFER) / MIB) * MIB;
}

/* One try with the profile's budgets, which are raised by what lacks then. */
static pac_err raise_once(question *t, bool *fits)
{
    double missing[PAC_MAX_DEVICES];
    pac_plan plan = {0};
    *fits = false;
    t->searches--;
    pac_err err = make_again(t, t->job, t->p, &plan);
    if (err == PAC_OK) {
        plan_bytes_by_device(&plan, t->peak);
        *fits = !missing_bytes(t->p, t->peak, missing);
    }
    for (int64_t d = 0; d < t->p->devices && !*fits; d++) {
        double *has = &t->p->device[d].memory;
        if (err == PAC_ENOMEM) /* the planner's own test failed, which does not say what all lack */
            *has = ceil(1.25 * *has / MIB) * MIB;
        else if (missing[d] > 0)
            *has = whole_mib(t->peak[d]);
    }
    pac_plan_free(&plan);
    return err == PAC_ENOMEM ? PAC_OK : err;
}

/* What the plan that fits does not take of the raised budgets, where it still fits without. */
static pac_err take_back(question *t, const double *kept, double *budget)
{
    bool fits = false, less = false;
    for (int64_t d = 0; d < t->p->devices; d++) {
        double *has = &t->p->device[d].memory;
        *has = fmax(kept[d], fmin(*has, whole_mib(t->peak[d])));
        less = less || *has < budget[d];
    }
    if (!less || t->searches < 1)
        return PAC_OK;
    double tried[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < t->p->devices; d++)
        tried[d] = t->p->device[d].memory;
    PAC_TRY(raise_once(t, &fits));
    if (fits)
        memcpy(budget, tried, sizeof tried);
    return PAC_OK;
}

/* Budgets with which it was found to fit. peak: what the plan in hand takes (NULL: there is none). */
static pac_err enough(question *t, const double *peak, double *budget, bool *found)
{
    double kept[PAC_MAX_DEVICES];
    pac_err err = PAC_OK;
    *found = false;
    for (int64_t d = 0; d < t->p->devices; d++) {
        double *has = &t->p->device[d].memory;
        kept[d] = *has;
        if (peak != NULL && peak[d] > *has)
            *has = whole_mib(peak[d]);
    }
    for (int i = 0; i < MOST_RAISES && t->searches > 0 && err == PAC_OK && !*found; i++)
        err = raise_once(t, found);
    for (int64_t d = 0; d < t->p->devices; d++)
        budget[d] = t->p->device[d].memory;
    if (*found && err == PAC_OK)
        err = take_back(t, kept, budget);
    for (int64_t d = 0; d < t->p->devices; d++)
        t->p->device[d].memory = kept[d];
    return err;
}

/* ---- leaving it to the planner ---- */

static pac_err planner_finds(question *t, bool *finds)
{
    double budget[PAC_MAX_DEVICES], lacks = 1;
    pac_plan_answer a;
    pac_job other = *t->job;
    *finds = false;
    if (t->searches < 1)
        return PAC_OK;
    other.cfg.system.ngroups = 0;
    other.cfg.system.planner = PAC_PLANNER_PAC;
    for (int64_t d = 0; d < t->p->devices; d++)
        budget[d] = t->p->device[d].memory;
    pac_plan_request q = plan_request(&other, t->p);
    PAC_TRY(plan_fit(&other, t->p, budget, &q, &t->searches, &a, &lacks));
    pac_plan_answer_free(&a);
    *finds = lacks <= 0;
    return PAC_OK;
}

/* A number of micro-batches that was given may be what does not fit. */
static pac_err any_microbatches(question *t, bool *fits)
{
    pac_job other = *t->job;
    *fits = false;
    if (t->given != NULL || t->job->cfg.train.microbatches == 0)
        return PAC_OK;
    other.cfg.train.microbatches = 0;
    return fits_changed(t, &other, t->p, fits);
}

static const char *leave_out(const question *t)
{
    return t->given != NULL                 ? "leave out --plan: pac plan finds one that fits"
           : t->job->cfg.system.ngroups > 0 ? "--set system.groups=auto"
                                            : "--set system.planner=pac";
}

/* ---- the message ---- */

/* found: *budget makes it fit. */
static pac_err ways(question *t, const double *peak, refusal *to, double *budget, bool *enough_found)
{
    bool found;
    PAC_TRY(remedy_words(t->job, t->p, fits_changed, t, to));
    PAC_TRY(any_microbatches(t, &found));
    if (found)
        refusal_say(to, "\n    --set train.microbatches=auto");
    PAC_TRY(planner_finds(t, &found));
    if (found)
        refusal_say(to, "\n    %s", leave_out(t));
    PAC_TRY(enough(t, peak, budget, enough_found));
    if (*enough_found)
        refusal_say_budgets(t->p, budget, to);
    return PAC_OK;
}

/* What devices lack is what the budgets add with which it was found to fit, so that both say the same; where none were found,
 * what the plan in hand takes beyond. missing: NULL, where there is no such plan. */
static pac_err refuse(question *t, const double *peak, double *missing, refusal *w)
{
    refusal to = {.n = 0};
    double budget[PAC_MAX_DEVICES], more[PAC_MAX_DEVICES] = {0};
    bool found;
    PAC_TRY(ways(t, peak, &to, budget, &found));
    for (int64_t d = 0; d < t->p->devices && found; d++)
        more[d] = budget[d] - t->p->device[d].memory;
    if (found || missing != NULL) {
        refusal_say(w, missing != NULL ? "\n  " : "\n  those sums leave out what a run takes beside; with that ");
        refusal_say_missing(t->p, found ? more : missing, w);
    }
    if (to.n > 0)
        refusal_say(w, "\n  each of these makes it fit:%s", to.text);
    return PAC_OK;
}

/* That of a planner whose own test fails has no bytes to name. */
pac_err plan_book_misfit(const pac_job *job, pac_profile *p)
{
    refusal w = {.n = 0};
    question t = {.job = job, .p = p, .searches = plan_most_searches(p->devices)};
    refusal_say(&w, "%s", pac_err_message());
    PAC_TRY(refuse(&t, NULL, NULL, &w));
    return pac_fail(PAC_ENOMEM, "%s", w.text);
}

pac_err fits_memory(const pac_job *job, pac_profile *p, const pac_plan *plan, fits_plan how, const double *peak,
                    char why[static FITS_WHY])
{
    refusal w = {.n = 0};
    double missing[PAC_MAX_DEVICES];
    question t = {.job = job, .p = p, .given = how == FITS_GIVEN ? plan : NULL, .searches = plan_most_searches(p->devices)};
    if (!missing_bytes(p, peak, missing))
        return PAC_OK;
    refusal_say(&w, "the plan does not fit");
    if (how != FITS_OTHERWISE) {
        PAC_TRY(refuse(&t, peak, missing, &w));
    } else {
        refusal_say(&w, "\n  ");
        refusal_say_missing(p, missing, &w);
    }
    snprintf(why, FITS_WHY, "%s", w.text);
    return PAC_OK;
}

/* ---- disks ---- */

/* Those changes of the cache, each after `before`, with which every disk of the plan has room. */
static void ways_to_store(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, const char *before,
                          refusal *w)
{
    pac_plan_request shard = *run;
    double need, half = c->cache.dtype == PAC_F32 ? 0.5 : 1, quarter = (c->cache.dtype == PAC_F32 ? 1 : 2) * WITH_SCALES / 4;
    shard.sharded = true;
    if (half < 1 && pac_plan_lacks_disk(run->profile, run, plan, half, &need) < 0)
        refusal_say(w, "%s--set cache.dtype=bf16", before);
    else if (c->cache.dtype != PAC_I8 && pac_plan_lacks_disk(run->profile, run, plan, quarter, &need) < 0)
        refusal_say(w, "%s--set cache.dtype=i8", before);
    if (!run->sharded && pac_plan_lacks_disk(run->profile, &shard, plan, 1, &need) < 0)
        refusal_say(w, "%s--set cache.redistribute=shard", before);
}

/* Rounded up to the digit that is printed: as much more is enough. */
static const char *lack_text(double bytes, char buf[static 32])
{
    bool large = bytes >= GIB;
    snprintf(buf, 32, "%.1f %s", ceil(10 * bytes / (large ? GIB : MIB)) / 10, large ? "GiB" : "MiB");
    return buf;
}

static void say_disk(const pac_device *d, double need, refusal *w)
{
    char lacks[32], has[32], takes[32];
    refusal_say(w, "\n  %.40s lacks %s on its disk: %s are free, the cache takes %s there", d->name,
                lack_text(need - d->disk_space, lacks), pac_bytes_text(d->disk_space, has), lack_text(need, takes));
}

bool fits_disks(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, pac_profile *p,
                char why[static FITS_WHY])
{
    double need = 0, space[PAC_MAX_DEVICES];
    refusal w = {.n = 0};
    if (disks_hold(p, run, plan))
        return true;
    for (int64_t d = 0; d < p->devices; d++)
        space[d] = p->device[d].disk_space;
    refusal_say(&w, "the cache does not fit");
    for (int64_t d; (d = pac_plan_lacks_disk(p, run, plan, 1, &need)) >= 0;
         p->device[d].disk_space = 0) /* 0: not asked again */
        if (w.n < REFUSAL_TEXT / 2)
            say_disk(&p->device[d], need, &w);
    for (int64_t d = 0; d < p->devices; d++)
        p->device[d].disk_space = space[d];
    refusal_say(&w, "\n  each of these makes it fit:");
    ways_to_store(c, run, plan, "\n    ", &w);
    refusal_say(&w, "\n    --set cache=none\n    more disk");
    snprintf(why, FITS_WHY, "%s", w.text);
    return false;
}

void fits_note_storing(const pac_config *c, const pac_plan_request *run, pac_plan_answer *a)
{
    double need;
    refusal w = {.n = 0};
    if (!run->cached || a->plan.cached || pac_plan_lacks_disk(run->profile, run, &a->plan, 1, &need) < 0)
        return;
    ways_to_store(c, run, &a->plan, ", or ", &w);
    size_t used = strlen(a->note);
    if (w.n > 0)
        snprintf(a->note + used, sizeof a->note - used, "; it has room with %s", w.text + strlen(", or "));
}

pac_err pac_job_plan_fits(const pac_job *job, pac_profile *profile, const pac_plan *plan)
{
    double peak[PAC_MAX_DEVICES];
    char why[FITS_WHY] = "";
    pac_plan_request run = plan_request(job, profile);
    plan_bytes_by_device(plan, peak);
    PAC_TRY(fits_memory(job, profile, plan, FITS_MADE, peak, why));
    if (why[0] != '\0')
        return pac_fail(PAC_ENOMEM, "%s", why);
    return fits_disks(&job->cfg, &run, plan, profile, why) ? PAC_OK : pac_fail(PAC_ENOSPACE, "%s", why);
}
