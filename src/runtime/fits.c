/*
 * Memory and disks of a plan that was given, or made by a planner that does not look at them: what every device lacks, and what
 * would help. What is named was tried: the plan was made again with it, and run dry.
 */
#include "fits.h"
#include "estimate.h"
#include "plan_search.h"
#include "planning.h"
#include "remedy.h"
#include "train.h"

#include "pac/bytes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RAISES = 32, MOST_DISKS = 4, FEW_SEARCHES = 6 };

#define MIB 1048576.0
#define GIB 1073741824.0

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
    return !q->cached || !plan->cached || pac_plan_lacks_disk(p, q, plan, &need) < 0;
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
    if (err != PAC_OK && err != PAC_ENOMEM) {
        pac_plan_free(&plan);
        return err;
    }
    for (int64_t d = 0; d < t->p->devices && !*fits; d++) {
        double *has = &t->p->device[d].memory;
        if (err == PAC_ENOMEM) /* the planner's own test failed, which does not say what all lack */
            *has = ceil(1.25 * *has / MIB) * MIB;
        else if (missing[d] > 0)
            *has = whole_mib(t->peak[d]);
    }
    pac_plan_free(&plan);
    return PAC_OK;
}

/* Less for these devices, where a plan fits with it: then *budget and *peak are those. */
static pac_err try_less(question *t, const double *less, double *budget, double *peak, bool *fits)
{
    *fits = false;
    if (t->searches < 1 || memcmp(less, budget, (size_t)t->p->devices * sizeof *less) == 0)
        return PAC_OK;
    for (int64_t d = 0; d < t->p->devices; d++)
        t->p->device[d].memory = less[d];
    PAC_TRY(raise_once(t, fits));
    for (int64_t d = 0; d < t->p->devices && *fits; d++) {
        budget[d] = less[d];
        peak[d] = t->peak[d];
    }
    return PAC_OK;
}

/* What the plan that fits does not take of the raised budgets: of all devices while that goes well, then of each. */
static pac_err take_back(question *t, const double *kept, double *budget)
{
    double peak[PAC_MAX_DEVICES], less[PAC_MAX_DEVICES] = {0};
    bool fits = true;
    int64_t devices = t->p->devices;
    memcpy(peak, t->peak, sizeof peak);
    while (fits) {
        for (int64_t d = 0; d < devices; d++)
            less[d] = fmax(kept[d], fmin(budget[d], whole_mib(peak[d])));
        PAC_TRY(try_less(t, less, budget, peak, &fits));
    }
    for (int64_t d = 0; d < devices; d++) {
        memcpy(less, budget, sizeof less);
        less[d] = fmax(kept[d], fmin(budget[d], whole_mib(peak[d])));
        PAC_TRY(try_less(t, less, budget, peak, &fits));
    }
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

static void set_budgets(pac_profile *p, const double *budget)
{
    for (int64_t d = 0; d < p->devices; d++)
        p->device[d].memory = budget[d];
}

/* What is enough with a word of configuration too. */
typedef struct with_word {
    question *t;
    double has[PAC_MAX_DEVICES], budget[PAC_MAX_DEVICES];
} with_word;

/* Does it fit with the word and the budgets in hand? Then *budget becomes what the changed job asks for, which may be less. */
static pac_err fits_with_word(void *with, const pac_job *job, pac_profile *p, bool *fits)
{
    with_word *w = with;
    question u = *w->t;
    double budget[PAC_MAX_DEVICES];
    bool found = false;
    u.job = job;
    u.p = p;
    PAC_TRY(fits_changed(&u, job, p, fits));
    if (*fits) {
        set_budgets(p, w->has);
        PAC_TRY(enough(&u, NULL, budget, &found));
        set_budgets(p, found ? budget : w->budget);
        PAC_TRY(fits_changed(&u, job, p, &found)); /* disks too */
        if (found)
            memcpy(w->budget, budget, sizeof budget);
        set_budgets(p, w->budget);
    }
    w->t->searches = u.searches;
    return PAC_OK;
}

/* Those budgets, and where a disk is too small as well a word of configuration and the budgets with which it fits; else
 * nothing. */
static pac_err say_enough(question *t, double *budget, refusal *to)
{
    with_word w = {.t = t};
    const char *word = NULL;
    bool fits;
    for (int64_t d = 0; d < t->p->devices; d++)
        w.has[d] = t->p->device[d].memory;
    memcpy(w.budget, budget, sizeof w.budget);
    set_budgets(t->p, budget);
    t->searches = t->searches > FEW_SEARCHES ? t->searches : FEW_SEARCHES; /* so that what was found is not lost */
    pac_err err = fits_changed(t, t->job, t->p, &fits);
    if (err == PAC_OK && !fits)
        err = remedy_first(t->job, t->p, REMEDY_DISKS, fits_with_word, &w, &word);
    set_budgets(t->p, w.has);
    if (err != PAC_OK || (!fits && word == NULL))
        return err;
    memcpy(budget, w.budget, sizeof w.budget);
    refusal_say_budgets(t->p, budget, word, to);
    return PAC_OK;
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
    PAC_TRY(remedy_words(t->job, t->p, REMEDY_MEMORY, fits_changed, t, "\n    ", to));
    PAC_TRY(any_microbatches(t, &found));
    if (found)
        refusal_say(to, "\n    --set train.microbatches=auto");
    PAC_TRY(planner_finds(t, &found));
    if (found)
        refusal_say(to, "\n    %s", leave_out(t));
    PAC_TRY(enough(t, peak, budget, enough_found));
    return *enough_found ? say_enough(t, budget, to) : PAC_OK;
}

/* What devices lack is what the budgets add with which it was found to fit, so that both say the same; where none were found,
 * what the plan in hand takes beyond. missing: NULL, where there is no such plan. */
static pac_err refuse(question *t, const double *peak, const double *missing, refusal *w)
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

/* ---- disks ---- */

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

static void say_disks(pac_profile *p, const pac_plan_request *q, const pac_plan *plan, refusal *w)
{
    double need = 0, space[PAC_MAX_DEVICES];
    int64_t n = 0;
    for (int64_t d = 0; d < p->devices; d++)
        space[d] = p->device[d].disk_space;
    for (int64_t d; (d = pac_plan_lacks_disk(p, q, plan, &need)) >= 0; p->device[d].disk_space = 0) /* 0: not asked again */
        if (n++ < MOST_DISKS)
            say_disk(&p->device[d], need, w);
    if (n > MOST_DISKS)
        refusal_say(w, "\n  and %lld more disks", (long long)(n - MOST_DISKS));
    for (int64_t d = 0; d < p->devices; d++)
        p->device[d].disk_space = space[d];
}

static pac_err stores(void *with, const pac_job *job, pac_profile *p, bool *fits)
{
    const pac_plan *const *plan = with;
    pac_plan_request q = plan_request(job, p);
    *fits = disks_hold(p, &q, *plan);
    return PAC_OK;
}

pac_err fits_disks(const pac_job *job, pac_profile *p, const pac_plan *plan, char why[static FITS_WHY])
{
    pac_plan_request q = plan_request(job, p);
    refusal w = {.n = 0};
    if (disks_hold(p, &q, plan))
        return PAC_OK;
    refusal_say(&w, "the cache does not fit");
    say_disks(p, &q, plan, &w);
    refusal_say(&w, "\n  each of these makes it fit:");
    PAC_TRY(remedy_words(job, p, REMEDY_DISKS, stores, &plan, "\n    ", &w));
    refusal_say(&w, "\n    more disk");
    snprintf(why, FITS_WHY, "%s", w.text);
    return PAC_OK;
}

/* Of a plan that leaves the cache out. */
static pac_err would_store(void *with, const pac_job *job, pac_profile *p, bool *fits)
{
    const pac_plan *const *plan = with;
    double need;
    pac_plan_request q = plan_request(job, p);
    *fits = pac_plan_lacks_disk(p, &q, *plan, &need) < 0;
    return PAC_OK;
}

pac_err fits_note_storing(const pac_job *job, pac_profile *p, pac_plan_answer *a)
{
    const pac_plan *plan = &a->plan;
    refusal w = {.n = 0};
    bool fits;
    if (a->plan.cached || !train_uses_cache(&job->cfg) || job->cfg.train.epochs < 2)
        return PAC_OK;
    PAC_TRY(would_store(&plan, job, p, &fits));
    if (!fits)
        PAC_TRY(remedy_words(job, p, REMEDY_DISKS | REMEDY_CACHE, would_store, &plan, ", or ", &w));
    size_t used = strlen(a->note);
    if (w.n > 0)
        snprintf(a->note + used, sizeof a->note - used, "; it has room with %s", w.text + strlen(", or "));
    return PAC_OK;
}

/* ---- memory and disks ---- */

pac_err fits_memory(const pac_job *job, pac_profile *p, const pac_plan *plan, fits_plan how, const double *peak,
                    char why[static FITS_WHY])
{
    refusal w = {.n = 0};
    double missing[PAC_MAX_DEVICES];
    question t = {.job = job, .p = p, .given = how == FITS_GIVEN ? plan : NULL, .searches = plan_most_searches(p->devices)};
    pac_plan_request q = plan_request(job, p);
    if (!missing_bytes(p, peak, missing))
        return PAC_OK;
    refusal_say(&w, "the plan does not fit");
    if (!disks_hold(p, &q, plan))
        say_disks(p, &q, plan, &w);
    if (how != FITS_OTHERWISE) {
        PAC_TRY(refuse(&t, peak, missing, &w));
    } else {
        refusal_say(&w, "\n  ");
        refusal_say_missing(p, missing, &w);
    }
    snprintf(why, FITS_WHY, "%s", w.text);
    return PAC_OK;
}

pac_err pac_job_plan_fits(const pac_job *job, pac_profile *profile, const pac_plan *plan)
{
    double peak[PAC_MAX_DEVICES];
    char why[FITS_WHY] = "";
    plan_bytes_by_device(plan, peak);
    PAC_TRY(fits_memory(job, profile, plan, FITS_MADE, peak, why));
    if (why[0] != '\0')
        return pac_fail(PAC_ENOMEM, "%s", why);
    PAC_TRY(fits_disks(job, profile, plan, why));
    return why[0] == '\0' ? PAC_OK : pac_fail(PAC_ENOSPACE, "%s", why);
}
