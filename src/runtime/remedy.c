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

enum { MOST_NAMED = 8, MOST_LISTED = 128 };

#define MIB 1048576.0

/* ---- the text ---- */

/* A line that has no room goes as a whole, since half a command is none. */
static void cut_lines(refusal *w)
{
    const char more[] = "\n    ...";
    size_t n = sizeof w->text - sizeof more;
    while (n > 0 && w->text[n] != '\n')
        n--;
    n = n > 0 ? n : sizeof w->text - sizeof more;
    memcpy(w->text + n, more, sizeof more);
    w->n = sizeof w->text - 1; /* nothing follows */
}

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
        cut_lines(w);
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

void refusal_say_budgets(const pac_profile *p, const double *budget, const char *word, refusal *w)
{
    if (p->devices > MOST_LISTED)
        return;
    refusal_say(w, "\n    %s%s%s--set '%s", word != NULL ? "--set " : "", word != NULL ? word : "", word != NULL ? " " : "",
                p->devices > 1 ? "system.memory=[" : "system.memory=");
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

static bool may_recompute(const pac_config *c)
{
    return !c->train.recompute && pac_technique_through(c->technique.kind);
}

static void recompute(pac_config *c)
{
    c->train.recompute = true;
}

static bool caches_f32(const pac_config *c)
{
    return caches(c) && c->cache.dtype == PAC_F32;
}

static void cache_bf16(pac_config *c)
{
    c->cache.dtype = PAC_BF16;
}

static bool caches_floats(const pac_config *c)
{
    return caches(c) && c->cache.dtype != PAC_I8;
}

static void cache_i8(pac_config *c)
{
    c->cache.dtype = PAC_I8;
}

static bool caches_all(const pac_config *c)
{
    return caches(c) && c->cache.redistribute != PAC_REDIST_SHARD;
}

static void shard(pac_config *c)
{
    c->cache.redistribute = PAC_REDIST_SHARD;
}

static const struct {
    const char *word;
    bool (*possible)(const pac_config *c);
    void (*apply)(pac_config *c);
    bool profile; /* other times or activations */
    int what;
} words[] = {
    {"model.stream=true", may_stream, stream, true, REMEDY_MEMORY},
    {"model.dtype=bf16", may_be_bf16, bf16, true, REMEDY_MEMORY},
    {"train.recompute=true", may_recompute, recompute, true, REMEDY_MEMORY},
    {"cache.redistribute=shard", caches_all, shard, false, REMEDY_DISKS | REMEDY_CACHE},
    {"cache.dtype=bf16", caches_f32, cache_bf16, false, REMEDY_MEMORY | REMEDY_DISKS | REMEDY_CACHE},
    {"cache.dtype=i8", caches_floats, cache_i8, false, REMEDY_DISKS | REMEDY_CACHE},
    {"cache=none", caches, no_cache, false, REMEDY_MEMORY | REMEDY_DISKS},
};

/* The devices for a changed job. Where their descriptions are not at hand the old profile serves: dry runs correct its bytes.
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
    for (int64_t d = 0; d < old->devices; d++)
        out->device[d].memory = old->device[d].memory;
    return true;
}

static pac_err try_word(const pac_job *job, pac_profile *p, size_t i, int what, remedy_test test, void *with, bool *fits)
{
    pac_profile fresh;
    pac_job other = *job;
    pac_err err;
    *fits = false;
    if ((words[i].what & what) != what || !words[i].possible(&job->cfg) || (p->bytes_given && words[i].profile))
        return PAC_OK;
    words[i].apply(&other.cfg);
    if (words[i].profile && job_describe(&other) != PAC_OK) /* the configuration cannot have it */
        return PAC_OK;
    if (words[i].profile && profile_again(&other, p, &fresh)) {
        err = test(with, &other, &fresh, fits);
        pac_profile_free(&fresh);
        return err;
    }
    double row = p->cache_row, bytes = p->cached_step_bytes_read;
    profile_set_cache(&other, p);
    err = test(with, &other, p, fits);
    p->cache_row = row;
    p->cached_step_bytes_read = bytes;
    return err;
}

enum { WORDS = sizeof words / sizeof words[0] };

pac_err remedy_words(const pac_job *job, pac_profile *p, int what, remedy_test test, void *with, const char *before,
                     refusal *to)
{
    for (size_t i = 0; i < WORDS; i++) {
        bool fits;
        PAC_TRY(try_word(job, p, i, what, test, with, &fits));
        if (fits)
            refusal_say(to, "%s--set %s", before, words[i].word);
    }
    return PAC_OK;
}

pac_err remedy_first(const pac_job *job, pac_profile *p, int what, remedy_test test, void *with, const char **word)
{
    bool fits = false;
    *word = NULL;
    for (size_t i = 0; i < WORDS && !fits; i++) {
        PAC_TRY(try_word(job, p, i, what, test, with, &fits));
        *word = fits ? words[i].word : NULL;
    }
    return PAC_OK;
}
