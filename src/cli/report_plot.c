/*
 * Plots: a plot is a table of numbers (NAME.tsv), a gnuplot script (NAME.gp) and what gnuplot draws (NAME.svg). Numbers and
 * scripts are always written, so a person can draw them elsewhere or otherwise: cd DIR && gnuplot loss.gp.
 */
#include "pac/file.h"
#include "pac/log.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POINTS = 200, PATH = 4300 }; /* POINTS: of a curve of losses */

/* Two texts in the making. */
typedef struct sheet {
    FILE *data, *script;
    int64_t blocks; /* of data, with two blank lines between */
} sheet;

/* ---- words that gnuplot reads ---- */

/* A label between single quotes; anything that could end them or the field of a table becomes '_'. */
static const char *plain(const char *label, char out[REPORT_TEXT])
{
    static const char kept[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+/=,:()";
    snprintf(out, REPORT_TEXT, "%s", label);
    for (char *p = out; *p != '\0'; p++)
        if (strchr(kept, *p) == NULL)
            *p = '_';
    return out;
}

static void begin_script(FILE *out, const char *name, int height)
{
    fprintf(out,
            "# Draws %s.svg from %s.tsv: gnuplot %s.gp\n"
            "set terminal svg size 960,%d noenhanced font 'sans,12' background rgb 'white'\n"
            "set output '%s.svg'\n"
            "set datafile separator tab\n"
            "set datafile missing '-'\n"
            "set key outside right top\n"
            "set grid ytics lc rgb '#dddddd'\n",
            name, name, name, height, name);
}

static void print_value(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, "%.7g", v);
    else
        fputs("-", out);
}

static const char *between(const char *separator, bool *first)
{
    const char *s = *first ? "" : separator;
    *first = false;
    return s;
}

/* ---- loss over steps: a curve per run, a colour per group ---- */

/* At most POINTS points, each the mean of as many steps. */
static void loss_block(const report_run *run, FILE *out)
{
    const report_step *step = run->step;
    int64_t of = (run->steps + POINTS - 1) / POINTS;
    for (int64_t i = 0; i < run->steps; i += of) {
        int64_t last = i + of < run->steps ? i + of : run->steps, n = 0;
        double sum = 0;
        for (int64_t k = i; k < last; k++)
            if (isfinite(step[k].loss)) {
                sum += step[k].loss;
                n++;
            }
        fprintf(out, "%lld\t", (long long)step[last - 1].step);
        print_value(out, n > 0 ? sum / (double)n : (double)NAN);
        fputc('\n', out);
    }
}

static void draw_loss(const report *r, const char *name, sheet *s)
{
    char label[REPORT_TEXT];
    bool first = true;
    begin_script(s->script, name, 520);
    fputs("set xlabel 'step'\nset ylabel 'training loss'\nplot ", s->script);
    for (int64_t i = 0; i < r->runs; i++) {
        const report_run *run = &r->run[i];
        const report_group *g = &r->group[run->group];
        if (run->steps == 0)
            continue;
        fprintf(s->data, "%s# %s\n", s->blocks > 0 ? "\n\n" : "", plain(run->label, label));
        loss_block(run, s->data);
        fprintf(s->script, "%s'%s.tsv' index %lld using 1:2 with lines lc %lld ", between(", \\\n    ", &first), name,
                (long long)s->blocks++, (long long)run->group + 1);
        if (g->first == i)
            fprintf(s->script, "title '%s'", plain(g->label, label));
        else
            fputs("notitle", s->script);
    }
    fputc('\n', s->script);
}

/* ---- metrics over epochs: a panel per metric, a curve per group ---- */

/* With task.split: paper a curve is of the validation rows, where there are such evaluations. */
static bool in_curve(const report_run *run, const report_eval *e)
{
    bool validated = false;
    for (int64_t k = 0; k < run->evals; k++)
        validated = validated || !((const report_eval *)run->eval)[k].test;
    return !e->test || !validated;
}

/* Mean and spread of a metric over the runs of a group after `epoch` epochs; false: none has it. */
static bool metric_at(const report *r, int64_t group, int64_t metric, int64_t epoch, double *mean, double *spread)
{
    double sum = 0, squares = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < r->runs; i++)
        for (int64_t k = 0; r->run[i].group == group && k < r->run[i].evals; k++) {
            const report_eval *e = (const report_eval *)r->run[i].eval + k;
            if (e->epoch != epoch || !isfinite(e->value[metric]) || !in_curve(&r->run[i], e))
                continue;
            sum += e->value[metric];
            squares += e->value[metric] * e->value[metric];
            n++;
        }
    *mean = n > 0 ? sum / (double)n : 0;
    *spread = n > 1 ? sqrt(fmax(0, squares - (double)n * *mean * *mean) / (double)(n - 1)) : 0;
    return n > 0;
}

/* One line an epoch that the first run of the group was evaluated at; returns how many. */
static int64_t metric_block(const report *r, int64_t group, int64_t metric, FILE *out)
{
    const report_run *run = &r->run[r->group[group].first];
    int64_t lines = 0;
    for (int64_t k = 0; k < run->evals; k++) {
        double mean, spread;
        const report_eval *e = (const report_eval *)run->eval + k;
        int64_t epoch = e->epoch;
        if (in_curve(run, e) && metric_at(r, group, metric, epoch, &mean, &spread)) {
            fprintf(out, "%lld\t%.7g\t%.7g\n", (long long)epoch, mean, spread);
            lines++;
        }
    }
    return lines;
}

static bool has_metric(const report *r, int64_t group, int64_t metric)
{
    const report_run *run = &r->run[r->group[group].first];
    for (int64_t k = 0; k < run->evals; k++)
        if (isfinite(((const report_eval *)run->eval)[k].value[metric]))
            return true;
    return false;
}

static void metric_panel(const report *r, const char *name, int64_t metric, sheet *s)
{
    char label[REPORT_TEXT];
    bool first = true;
    fprintf(s->script, "set ylabel '%s'\nplot ", r->metrics.name[metric]);
    for (int64_t g = 0; g < r->groups; g++) {
        if (!has_metric(r, g, metric))
            continue;
        fprintf(s->data, "%s# %s of %s: epoch, mean, spread\n", s->blocks > 0 ? "\n\n" : "", r->metrics.name[metric],
                plain(r->group[g].label, label));
        metric_block(r, g, metric, s->data);
        fprintf(s->script, "%s'%s.tsv' index %lld using 1:2:3 with yerrorlines lc %lld pt 7 ps 0.5 title '%s'",
                between(", \\\n    ", &first), name, (long long)s->blocks++, (long long)g + 1, label);
    }
    fputc('\n', s->script);
}

static bool any_has_metric(const report *r, int64_t metric)
{
    for (int64_t g = 0; g < r->groups; g++)
        if (has_metric(r, g, metric))
            return true;
    return false;
}

static void draw_metrics(const report *r, const char *name, sheet *s)
{
    int panels = 0;
    for (int64_t i = 0; i < r->metrics.n; i++)
        panels += any_has_metric(r, i);
    begin_script(s->script, name, 300 * (panels > 0 ? panels : 1));
    fprintf(s->script, "set xlabel 'epochs done'\nset multiplot layout %d,1\n", panels);
    for (int64_t i = 0; i < r->metrics.n; i++)
        if (any_has_metric(r, i))
            metric_panel(r, name, i, s);
    fputs("unset multiplot\n", s->script);
}

/* ---- bars: seconds (on top of each other) and peak memory (side by side) of the phases ---- */

static void draw_bars(const report *r, const char *name, const char *category, const char *style, const char *ylabel, sheet *s)
{
    char label[REPORT_TEXT];
    bool first = true;
    int64_t column = 2;
    begin_script(s->script, name, 520);
    fprintf(
        s->script,
        "set style data histograms\nset style histogram %s\nset style fill solid 0.85 border -1\nset boxwidth 0.8 relative\n"
        "set xtics rotate by -35 scale 0\nset yrange [0:*]\nset ylabel '%s'\nplot ",
        style, ylabel);
    fputs("# run", s->data);
    for (int64_t m = 0; m < r->measures; m++) {
        if (strcmp(r->measure[m].category, category) != 0 || strcmp(r->measure[m].name, "total") == 0)
            continue;
        fprintf(s->data, "\t%s", r->measure[m].name);
        fprintf(s->script, "%s'%s.tsv' using %lld:xtic(1) title '%s'", between(", \\\n    ", &first), name, (long long)column++,
                r->measure[m].name);
        s->blocks++;
    }
    fputs("\n", s->script);
    for (int64_t g = 0; g < r->groups; g++) {
        fprintf(s->data, "\n%s", plain(r->group[g].label, label));
        for (int64_t m = 0; m < r->measures; m++)
            if (strcmp(r->measure[m].category, category) == 0 && strcmp(r->measure[m].name, "total") != 0) {
                fputc('\t', s->data);
                print_value(s->data, isfinite(r->group[g].mean[m]) ? r->group[g].mean[m] * r->measure[m].scale : 0);
            }
    }
    fputc('\n', s->data);
}

static void draw_time(const report *r, const char *name, sheet *s)
{
    draw_bars(r, name, "seconds", "rowstacked", "seconds", s);
}

static void draw_memory(const report *r, const char *name, sheet *s)
{
    draw_bars(r, name, "peak_rss", "clustered gap 1", "peak resident MiB of a rank", s);
}

/* ---- files ---- */

static const struct plot {
    const char *name;
    void (*draw)(const report *r, const char *name, sheet *s);
} plots[REPORT_PLOTS] = {
    [REPORT_LOSS] = {"loss", draw_loss},
    [REPORT_METRICS] = {"metrics", draw_metrics},
    [REPORT_TIME] = {"time", draw_time},
    [REPORT_MEMORY] = {"memory", draw_memory},
};

static pac_err write_file(const char *dir, const char *name, const char *ending, const char *text)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    return pac_file_replace_text(path, text);
}

/* Both texts into files; *data: there is something to draw. */
static pac_err write_plot(const report *r, const struct plot *p, const char *dir, bool *data)
{
    char *numbers = NULL, *script = NULL;
    size_t bytes, script_bytes;
    sheet s = {.data = open_memstream(&numbers, &bytes), .script = open_memstream(&script, &script_bytes)};
    pac_err err = s.data != NULL && s.script != NULL ? PAC_OK : pac_fail(PAC_ENOMEM, "no memory for the plot %s", p->name);
    if (err == PAC_OK)
        p->draw(r, p->name, &s);
    if (s.data != NULL)
        fclose(s.data);
    if (s.script != NULL)
        fclose(s.script);
    *data = err == PAC_OK && s.blocks > 0;
    if (*data)
        err = write_file(dir, p->name, "tsv", numbers);
    if (err == PAC_OK && *data)
        err = write_file(dir, p->name, "gp", script);
    free(numbers);
    free(script);
    return err;
}

/* ---- gnuplot ---- */

enum { CANNOT_START = 127 };

static void be_gnuplot(const char *dir, const char *script)
{
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO); /* it warns of ranges of one point */
    }
    if (chdir(dir) == 0)
        execlp("gnuplot", "gnuplot", script, (char *)NULL);
    _exit(CANNOT_START);
}

/* Exit status of gnuplot on dir/name.gp; -1: it was killed. */
static int run_gnuplot(const char *dir, const char *name)
{
    char script[32];
    int status = 0;
    snprintf(script, sizeof script, "%s.gp", name);
    pid_t child = fork();
    if (child < 0)
        return CANNOT_START;
    if (child == 0)
        be_gnuplot(dir, script);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void draw_all(const char *dir, report_drawn drawn[REPORT_PLOTS])
{
    for (int i = 0; i < REPORT_PLOTS; i++) {
        int status = drawn[i].data ? run_gnuplot(dir, drawn[i].name) : 0;
        if (status == CANNOT_START) {
            pac_log(PAC_LOG_WARN,
                    "gnuplot cannot be started, so there are no plots, only their data and scripts. Install it (Debian: "
                    "gnuplot-nox) and run: cd %s && gnuplot *.gp",
                    dir);
            return;
        }
        drawn[i].svg = drawn[i].data && status == 0;
        if (status != 0)
            pac_log(PAC_LOG_WARN, "%s/%s.gp: gnuplot ended with %d, so this plot is missing (cd %s && gnuplot %s.gp says why)",
                    dir, drawn[i].name, status, dir, drawn[i].name);
    }
}

/* What an earlier report left: a plot must not outlive its data. */
static void remove_old(const char *dir, const char *name)
{
    static const char *const endings[] = {"tsv", "gp", "svg"};
    char path[PATH];
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        snprintf(path, sizeof path, "%s/%s.%s", dir, name, endings[i]);
        unlink(path);
    }
}

pac_err report_plot(const report *r, const char *dir, report_drawn drawn[REPORT_PLOTS])
{
    for (int i = 0; i < REPORT_PLOTS; i++) {
        drawn[i] = (report_drawn){.name = plots[i].name};
        remove_old(dir, plots[i].name);
        PAC_TRY(write_plot(r, &plots[i], dir, &drawn[i].data));
    }
    fflush(NULL);
    draw_all(dir, drawn);
    return PAC_OK;
}
