/*
 * What is compared: measures, and means of runs that differ only in the seed.
 *
 * A measure is a category (one row of `kinds`) and, for most, one name of a phase or metric. Spread is the sample standard
 * deviation.
 */
#include "pac/log.h"
#include "report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

static const report_eval *evals(const report_run *run)
{
    return run->eval;
}

/* ---- one number of one run ---- */

/* The evaluation of the most epochs; NULL: none. */
static const report_eval *last_eval(const report_run *run)
{
    const report_eval *last = NULL;
    for (int64_t i = 0; i < run->evals; i++)
        if (last == NULL || evals(run)[i].epoch >= last->epoch)
            last = &evals(run)[i];
    return last;
}

int64_t report_main_metric(const report *r, const report_run *run)
{
    const report_eval *last = last_eval(run);
    int64_t loss = -1;
    for (int64_t i = 0; last != NULL && i < r->metrics.n; i++) {
        if (isnan(last->value[i]))
            continue;
        if (strcmp(r->metrics.name[i], "loss") != 0)
            return i;
        loss = i;
    }
    return loss;
}

/* The first of the best evaluations after tuning began. */
static const report_eval *best_eval(const report *r, const report_run *run, int64_t metric)
{
    const report_eval *best = NULL;
    bool falls = metric >= 0 && strcmp(r->metrics.name[metric], "loss") == 0;
    for (int64_t i = 0; metric >= 0 && i < run->evals; i++) {
        const report_eval *e = &evals(run)[i];
        double v = e->value[metric];
        if (e->epoch > 0 && !e->test && !isnan(v) && (best == NULL || (falls ? v < best->value[metric] : v > best->value[metric])))
            best = e;
    }
    return best;
}

static double before(const report *r, const report_run *run, int64_t i)
{
    (void)r;
    for (int64_t k = 0; k < run->evals; k++)
        if (evals(run)[k].epoch == 0)
            return evals(run)[k].value[i];
    return (double)NAN;
}

static double at_end(const report *r, const report_run *run, int64_t i)
{
    (void)r;
    const report_eval *last = last_eval(run);
    return last != NULL && last->epoch > 0 ? last->value[i] : (double)NAN;
}

static double best(const report *r, const report_run *run, int64_t i)
{
    (void)i;
    int64_t metric = report_main_metric(r, run);
    const report_eval *e = best_eval(r, run, metric);
    return e != NULL ? e->value[metric] : (double)NAN;
}

static double best_epoch(const report *r, const report_run *run, int64_t i)
{
    (void)i;
    const report_eval *e = best_eval(r, run, report_main_metric(r, run));
    return e != NULL ? (double)e->epoch : (double)NAN;
}

static double epochs(const report *r, const report_run *run, int64_t i)
{
    (void)r, (void)i;
    return (double)run->epochs;
}

static double seconds(const report *r, const report_run *run, int64_t i)
{
    (void)r;
    return run->seconds[i];
}

static double redistribute(const report *r, const report_run *run, int64_t i)
{
    (void)r, (void)i;
    return run->redistribute_s;
}

static double total(const report *r, const report_run *run, int64_t i)
{
    (void)r, (void)i;
    return run->total_s;
}

static double peak_rss(const report *r, const report_run *run, int64_t i)
{
    (void)r;
    return run->peak_rss[i];
}

static double ledger(const report *r, const report_run *run, int64_t i)
{
    (void)r;
    return run->ledger[i];
}

static double cache_bytes(const report *r, const report_run *run, int64_t i)
{
    (void)r, (void)i;
    return run->cache_bytes;
}

/* ---- all measures ---- */

enum names { ONE, PHASES, METRICS };
#define MIB (1.0 / 1048576)

static const struct kind {
    const char *category, *name; /* name: of the only one */
    const char *unit;
    double scale;
    int digits;
    bool in_table;
    enum names names;
    double (*of)(const report *r, const report_run *run, int64_t i);
} kinds[] = {
    {"run", "epochs", "", 1, 0, true, ONE, epochs},
    {"eval_before", NULL, "", 1, 4, false, METRICS, before},
    {"eval", NULL, "", 1, 4, true, METRICS, at_end},
    {"best", "value", "", 1, 4, true, ONE, best},
    {"best", "epoch", "", 1, 0, true, ONE, best_epoch},
    {"seconds", NULL, "s", 1, 2, true, PHASES, seconds},
    {"seconds", "redistribute", "s", 1, 2, false, ONE, redistribute},
    {"seconds", "total", "s", 1, 2, true, ONE, total},
    {"peak_rss", NULL, "MiB", MIB, 1, true, PHASES, peak_rss},
    {"ledger", NULL, "MiB", MIB, 1, false, PHASES, ledger},
    {"cache", "bytes", "MiB", MIB, 1, true, ONE, cache_bytes},
};
enum { NKINDS = sizeof kinds / sizeof kinds[0] };

static double value_of(const report *r, const report_run *run, int64_t m)
{
    return kinds[r->measure[m].kind].of(r, run, r->measure[m].index);
}

/* A measure that no run has is left out. */
static void add_measure(report *r, int64_t kind, const char *name, int64_t index)
{
    const struct kind *k = &kinds[kind];
    int64_t m = r->measures;
    r->measure[m] = (measure){k->category, name, k->unit, k->scale, k->digits, k->in_table, kind, index};
    for (int64_t i = 0; i < r->runs; i++)
        if (!isnan(value_of(r, &r->run[i], m))) {
            r->measures++;
            return;
        }
}

static void list_measures(report *r)
{
    for (int64_t k = 0; k < NKINDS; k++) {
        const name_list *names = kinds[k].names == PHASES ? &r->phases : &r->metrics;
        if (kinds[k].names == ONE)
            add_measure(r, k, kinds[k].name, 0);
        else
            for (int64_t i = 0; i < names->n; i++)
                add_measure(r, k, names->name[i], i);
    }
}

/* ---- groups ---- */

static bool is_alike(const report_run *a, const report_run *b)
{
    return a->settings != NULL && b->settings != NULL && a->ranks == b->ranks && strcmp(a->settings, b->settings) == 0;
}

static bool separates(char c)
{
    return c == '\0' || strchr("-_./=,", c) != NULL;
}

/* What the names have in common, up to a separator: mrpc-lora-s1, mrpc-lora-s2 -> mrpc-lora; seed1, seed2 -> seed. */
static void common_label(char label[REPORT_TEXT], const char *other)
{
    size_t n = 0;
    while (label[n] != '\0' && label[n] == other[n])
        n++;
    size_t cut = n;
    if (label[n] != '\0' || !separates(other[n]))
        while (cut > 0 && !separates(label[cut]))
            cut--;
    if (n > 0)
        label[cut > 0 ? cut : n] = '\0';
}

/* Is `word` an item of a list with ", " between? */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p++)
        if ((p == list || p[-1] == ' ') && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

static void join_group(report *r, int64_t run, int64_t group)
{
    report_group *g = &r->group[group];
    report_run *x = &r->run[run];
    x->group = group;
    if (g->n++ == 0) {
        g->first = run;
        memcpy(g->label, x->label, sizeof g->label);
        memcpy(g->plan, x->plan, sizeof g->plan);
        return;
    }
    common_label(g->label, x->label);
    if (!lists(g->plan, x->plan)) {
        size_t used = strlen(g->plan);
        snprintf(g->plan + used, sizeof g->plan - used, ", %s", x->plan);
    }
    for (int64_t i = 0; i < run; i++)
        if (r->run[i].group == group && r->run[i].seed == x->seed)
            pac_log(PAC_LOG_WARN, "%s and %s have the same settings and the same seed: both count", r->run[i].dir, x->dir);
}

static void find_group(report *r, int64_t run)
{
    for (int64_t g = 0; g < r->groups; g++)
        if (is_alike(&r->run[r->group[g].first], &r->run[run])) {
            join_group(r, run, g);
            return;
        }
    join_group(r, run, r->groups++);
}

/* Mean and sample standard deviation over the runs of a group that have the measure. */
static void average(report *r, int64_t group, int64_t m)
{
    report_group *g = &r->group[group];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < r->runs; i++) {
        double v = r->run[i].group == group ? value_of(r, &r->run[i], m) : (double)NAN;
        if (isnan(v))
            continue;
        sum += v;
        g->count[m]++;
    }
    g->mean[m] = g->count[m] > 0 ? sum / (double)g->count[m] : (double)NAN;
    for (int64_t i = 0; i < r->runs; i++) {
        double v = r->run[i].group == group ? value_of(r, &r->run[i], m) : (double)NAN;
        if (!isnan(v))
            squares += (v - g->mean[m]) * (v - g->mean[m]);
    }
    g->spread[m] = g->count[m] > 1 ? sqrt(squares / (double)(g->count[m] - 1)) : (double)NAN;
}

pac_err report_compare(report *r)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, r->runs, sizeof(report_group), &p));
    r->group = p;
    list_measures(r);
    for (int64_t i = 0; i < r->runs; i++)
        r->run[i].group = -1;
    for (int64_t i = 0; i < r->runs; i++)
        find_group(r, i);
    for (int64_t g = 0; g < r->groups; g++)
        for (int64_t m = 0; m < r->measures; m++)
            average(r, g, m);
    return PAC_OK;
}

/* ---- all runs ---- */

/* Labels are the names without the directory that all have in common. */
static void name_runs(report *r)
{
    size_t common = 0, n = 0;
    const char *first = r->run[0].dir;
    for (;; n++) {
        bool same = first[n] != '\0';
        for (int64_t i = 1; i < r->runs; i++)
            same = same && r->run[i].dir[n] == first[n];
        if (!same)
            break;
        if (first[n] == '/' && first[n + 1] != '\0')
            common = n + 1;
    }
    for (int64_t i = 0; i < r->runs; i++) {
        report_run *run = &r->run[i];
        const char *rest = run->dir + common;
        size_t bytes = strlen(rest);
        while (bytes > 1 && rest[bytes - 1] == '/')
            bytes--;
        size_t skip = bytes >= REPORT_TEXT ? bytes - REPORT_TEXT + 1 : 0;
        report_show(run->label, rest + skip, bytes - skip);
    }
}

static pac_err check_once(const report *r)
{
    for (int64_t i = 0; i < r->runs; i++) {
        struct stat st;
        report_run *run = &r->run[i];
        PAC_CHECK(stat(run->dir, &st) == 0, PAC_EIO, "%s: %s: the output directory of a run is expected", run->dir,
                  strerror(errno));
        run->device = (uint64_t)st.st_dev;
        run->inode = (uint64_t)st.st_ino;
        for (int64_t k = 0; k < i; k++)
            PAC_CHECK(r->run[k].device != run->device || r->run[k].inode != run->inode, PAC_EUSAGE,
                      "report: %s is given twice (as %s)", r->run[k].dir, run->dir);
    }
    return PAC_OK;
}

pac_err report_open(const char *const *dirs, int64_t n, report *out)
{
    void *p;
    *out = (report){.runs = n, .phases = {2, {"hybrid", "cached"}}}; /* in the order of time; others behind them */
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof(report_run), &p));
    out->run = p;
    for (int64_t i = 0; i < n; i++)
        out->run[i].dir = dirs[i];
    pac_err err = check_once(out);
    for (int64_t i = 0; err == PAC_OK && i < n; i++)
        err = report_run_read(out, &out->run[i]);
    if (err == PAC_OK) {
        name_runs(out);
        err = report_compare(out);
    }
    if (err != PAC_OK)
        report_free(out);
    return err;
}

void report_free(report *r)
{
    for (int64_t i = 0; i < r->runs; i++)
        report_run_free(&r->run[i]);
    pac_mem_free(r->run);
    pac_mem_free(r->group);
    *r = (report){0};
}
