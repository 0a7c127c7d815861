/*
 * Words of configuration that make a plan fit. Each is one --set away and needs no hardware, so they are named before amounts
 * of memory; each is tried, on a copy of the job that is described, and where its devices are descriptions profiled, again.
 */
#include "remedy.h"
#include "planning.h"
#include "train.h"

#include "pac/bytes.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MOST_NAMED = 8, MOST_LISTED = 32 };

#define MIB 1048576.0

/* ---- the text ---- */

void refusal_say(refusal *w, const char *format, ...)
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

/* Rounded up to the digit that is printed. */
static double tenths_of_mib(double bytes)
{
    return ceil(10 * bytes / MIB - 1e-6);
}

void refusal_say_missing(const pac_profile *p, const double *missing, refusal *w)
{
    int64_t named = 0, more = 0;
    double sum = 0;
    for (int64_t d = 0; d < p->devices; d++) {
        double tenths = tenths_of_mib(missing[d]);
        char has[32];
        if (!(missing[d] > 0))
            continue;
        sum += tenths / 10;
        more += named == MOST_NAMED;
        if (named == MOST_NAMED)
            continue;
        refusal_say(w, "%s%.40s (%s) lacks %.1f MiB", named++ > 0 ? ", " : "", p->device[d].name,
                    pac_mib_text(p->device[d].memory, has), tenths / 10);
    }
    if (more > 0)
        refusal_say(w, ", %lld more; all together %.1f MiB", (long long)more, sum);
}

/* What was raised is rounded up, which is as good; a budget that stays is exactly what it is. */
static void say_budget(double has, double needs, refusal *w)
{
    double tenths = tenths_of_mib(needs);
    if (needs <= has && fabs(10 * has / MIB - rint(10 * has / MIB)) > 1e-6)
        refusal_say(w, "%.0f", floor(has));
    else if (fmod(tenths, 10) > 0)
        refusal_say(w, "%.1fMiB", tenths / 10);
    else
        refusal_say(w, "%.0fMiB", tenths / 10);
}

void refusal_say_budgets(const pac_profile *p, const double *budget, refusal *w)
{
    if (p->devices > MOST_LISTED)
        return;
    refusal_say(w, "\n    --set '%s", p->devices > 1 ? "system.memory=[" : "system.memory=");
    for (int64_t d = 0; d < p->devices; d++) {
        if (d > 0)
            refusal_say(w, ",");
        say_budget(p->device[d].memory, budget[d], w);
    }
    refusal_say(w, "%s'", p->devices > 1 ? "]" : "");
}

/* ---- the words ---- */

static bool caches(const pac_config *c)
{
    return train_uses_cache(c) && c->train.epochs > 1;
}

static void no_cache(pac_config *c)
{
    c->cache.on = false;
}

static bool may_stream(const pac_config *c)
{
    bool fisher = c->technique.kind == PAC_TECH_PARALLEL && c->technique.init == PAC_INIT_FISHER;
    return !c->model.stream && c->model.dtype == PAC_F32 && !pac_technique_through(c->technique.kind) && !fisher;
}

static void stream(pac_config *c)
{
    c->model.stream = true;
}

static bool may_be_bf16(const pac_config *c)
{
    return c->model.dtype == PAC_F32 && !c->model.stream && c->technique.kind != PAC_TECH_FULL;
}

static void bf16(pac_config *c)
{
    c->model.dtype = PAC_BF16;
}

static bool caches_f32(const pac_config *c)
{
    return caches(c) && c->cache.dtype == PAC_F32;
}

static void cache_bf16(pac_config *c)
{
    c->cache.dtype = PAC_BF16;
}

static const struct {
    const char *word;
    bool (*possible)(const pac_config *c);
    void (*apply)(pac_config *c);
    bool model; /* another backbone: its times and bytes are others */
} words[] = {
    {"cache=none", caches, no_cache, false},
    {"model.stream=true", may_stream, stream, true},
    {"model.dtype=bf16", may_be_bf16, bf16, true},
    {"cache.dtype=bf16", caches_f32, cache_bf16, false},
};

/* The devices for a changed model. Where their descriptions are not at hand the old profile serves: dry runs correct its bytes.
 */
static bool profile_again(pac_job *job, const pac_profile *old, pac_profile *out)
{
    bool whole = old->derived[0] != '\0' && strlen(old->derived) + 1 < sizeof old->derived && !old->bytes_given;
    if (!whole || pac_job_cluster_profile(job, old->derived, out) != PAC_OK)
        return false;
    if (out->devices != old->devices) {
        pac_profile_free(out);
        return false;
    }
    profile_set_optimizer(job, out);
    for (int64_t d = 0; d < old->devices; d++)
        out->device[d].memory = old->device[d].memory;
    return true;
}

static pac_err try_word(const pac_job *job, pac_profile *p, size_t i, remedy_test test, void *with, bool *fits)
{
    pac_profile fresh;
    pac_job other = *job;
    words[i].apply(&other.cfg);
    if (words[i].model)
        PAC_TRY(job_describe(&other));
    if (!words[i].model || !profile_again(&other, p, &fresh))
        return test(with, &other, p, fits);
    pac_err err = test(with, &other, &fresh, fits);
    pac_profile_free(&fresh);
    return err;
}

pac_err remedy_words(const pac_job *job, pac_profile *p, remedy_test test, void *with, refusal *to)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        bool fits = false;
        if (!words[i].possible(&job->cfg) || (p->bytes_given && words[i].model))
            continue;
        PAC_TRY(try_word(job, p, i, test, with, &fits));
        if (fits)
            refusal_say(to, "\n    --set %s", words[i].word);
    }
    return PAC_OK;
}
