/* pac report: runs side by side, as a table on the terminal and a directory with report.md and plots. */
#include "cli.h"
#include "pac/file.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

enum { PATH = 4200 };

/* -o, else inside the one run, else here. */
static pac_err choose_dir(const pac_args *a, char dir[PATH])
{
    int n = a->output != NULL ? snprintf(dir, PATH, "%s", a->output)
            : a->nwords == 1  ? snprintf(dir, PATH, "%s/report", a->words[0])
                              : snprintf(dir, PATH, "report");
    PAC_CHECK(n < PATH - 64, PAC_EUSAGE, "report: the name of the directory is too long");
    return PAC_OK;
}

static void print_seeds(const report *r, int64_t group, FILE *out)
{
    fprintf(out, "- %s:", r->group[group].label);
    for (int64_t i = 0; i < r->runs; i++) {
        if (r->run[i].group != group)
            continue;
        fprintf(out, " `%s`", r->run[i].label);
        if (r->run[i].seed >= 0)
            fprintf(out, " (seed %lld)", (long long)r->run[i].seed);
    }
    fputc('\n', out);
}

static void print_page(const report *r, const report_drawn drawn[REPORT_PLOTS], FILE *out)
{
    fputs("# Runs compared\n\n", out);
    report_print_markdown(r, out);
    fputs("\nMetrics are those after the last epoch; `best` is the best evaluation. Seconds are of all epochs of a phase; "
          "`total` is from the start of "
          "the run to its last record.\nMemory is the largest peak of resident memory of any rank. "
          "`a ± b`: mean and sample standard deviation over n runs that differ only in the seed.\n",
          out);
    for (int i = 0; i < REPORT_PLOTS; i++)
        if (drawn[i].svg)
            fprintf(out, "\n![%s](%s.svg)\n", drawn[i].name, drawn[i].name);
        else if (drawn[i].data)
            fprintf(out, "\nThe plot `%s.svg` was not drawn: `gnuplot %s.gp` does it.\n", drawn[i].name, drawn[i].name);
    fputs("\n## Runs\n\n", out);
    for (int64_t g = 0; g < r->groups; g++)
        print_seeds(r, g, out);
}

static pac_err write_page(const report *r, const char *dir, const report_drawn drawn[REPORT_PLOTS])
{
    char *text = NULL, path[PATH + 16];
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (f != NULL) {
        print_page(r, drawn, f);
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/report.md", dir);
    pac_err err = text != NULL ? pac_file_replace_text(path, text) : pac_fail(PAC_ENOMEM, "no memory for the report");
    free(text);
    return err;
}

static void print_json(const report *r, const char *dir, const report_drawn drawn[REPORT_PLOTS])
{
    json_t *plots = json_array();
    for (int i = 0; i < REPORT_PLOTS; i++)
        if (drawn[i].svg)
            json_array_append_new(plots, json_sprintf("%s.svg", drawn[i].name));
    json_t *all = json_pack("{s:o, s:s, s:o}", "groups", report_json(r), "directory", dir, "plots", plots);
    char *text = all != NULL ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    printf("%s\n", text != NULL ? text : "{}");
    free(text);
    json_decref(all);
}

static pac_err make_report(const pac_args *a, const report *r)
{
    char dir[PATH];
    report_drawn drawn[REPORT_PLOTS];
    PAC_TRY(choose_dir(a, dir));
    PAC_TRY(pac_file_make_dirs(dir));
    PAC_TRY(report_plot(r, dir, drawn));
    PAC_TRY(write_page(r, dir, drawn));
    if (a->json) {
        print_json(r, dir, drawn);
        return PAC_OK;
    }
    report_print_text(r, stdout);
    if (!a->quiet)
        printf("\nin %s: report.md, plots with their data (.tsv) and scripts (.gp)\n", dir);
    return PAC_OK;
}

/* Names of directories are part of what is written. */
static pac_err check_text(const char *name)
{
    json_t *text = json_string(name);
    bool utf8 = text != NULL;
    json_decref(text);
    PAC_CHECK(utf8, PAC_EUSAGE, "report: the name of a directory is not UTF-8");
    return PAC_OK;
}

pac_err cmd_report(const pac_args *a)
{
    report r;
    for (int64_t i = 0; i < a->nwords; i++)
        PAC_TRY(check_text(a->words[i]));
    PAC_TRY(check_text(a->output != NULL ? a->output : "report"));
    PAC_TRY(report_open(a->words, a->nwords, &r));
    pac_err err = make_report(a, &r);
    report_free(&r);
    return err;
}
