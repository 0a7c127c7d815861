/*
 * pac report: runs as data. A run is read from its directory (report_run.c, report_metrics.c), runs that differ only in the
 * seed become groups (report_compare.c), a group is a row of a table (report_table.c) and a line or bar of a plot
 * (report_plot.c).
 *
 * Nothing is listed by name twice: phases and metrics are whatever the files name, in the order in which they are met; every
 * number that is compared is a `measure`, so the table, the JSON object and the means know only measures.
 */
#ifndef PAC_REPORT_H
#define PAC_REPORT_H

#include "pac/mem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum { REPORT_NAMES = 12, REPORT_NAME = 32, REPORT_TEXT = 96, REPORT_MEASURES = 6 * REPORT_NAMES + 8 };

/* Phases or metrics of all runs. */
typedef struct name_list {
    int64_t n;
    char name[REPORT_NAMES][REPORT_NAME];
} name_list;

typedef struct report_step {
    int64_t step;
    double loss; /* NAN: it was not finite */
} report_step;

typedef struct report_eval {
    int64_t epoch;              /* done before it; 0: before tuning */
    bool test;                  /* of test rows, which choose nothing */
    double value[REPORT_NAMES]; /* by metric; NAN: absent */
} report_eval;

typedef struct report_run {
    const char *dir; /* borrowed */
    char label[REPORT_TEXT], model[REPORT_TEXT], technique[REPORT_TEXT], system[REPORT_TEXT], task[REPORT_TEXT],
        plan[REPORT_TEXT];
    char *settings; /* run.yaml without the seed and without places; NULL: there is no run.yaml */
    int64_t seed;   /* -1: unknown */
    int64_t ranks, epochs;
    double seconds[REPORT_NAMES], peak_rss[REPORT_NAMES], ledger[REPORT_NAMES]; /* by phase; NAN: absent */
    double total_s, redistribute_s, cache_bytes;
    void *step, *eval; /* arrays of report_step, report_eval */
    int64_t steps, steps_room, evals, evals_room;
    int64_t group;
    uint64_t device, inode; /* of the directory */
} report_run;

typedef struct measure {
    const char *category, *name, *unit; /* JSON: category.name */
    double scale;                       /* of the table */
    int digits;
    bool in_table;
    int64_t kind, index; /* of report_compare.c; phase or metric */
} measure;

typedef struct report_group {
    int64_t first, n; /* index of the first run; how many */
    char label[REPORT_TEXT], plan[REPORT_TEXT];
    int64_t count[REPORT_MEASURES]; /* runs that have the measure */
    double mean[REPORT_MEASURES], spread[REPORT_MEASURES];
} report_group;

typedef struct report {
    name_list phases, metrics;
    report_run *run;
    report_group *group;
    measure measure[REPORT_MEASURES];
    int64_t runs, groups, measures;
} report;

/** Read the runs of these directories, compare and group them. Free with report_free(). Errors: PAC_EUSAGE, PAC_EDATA, PAC_EIO
 * with place. */
pac_err report_open(const char *const *dirs, int64_t n, report *out);
void report_free(report *r);

/** Index of a name, which is added where it is new; -1 when the list is full. */
int64_t report_name(name_list *list, const char *name);

/** Text of a file as it may stand in a table: UTF-8, at most REPORT_TEXT - 1 bytes, anything else becomes '?'. */
void report_show(char out[REPORT_TEXT], const char *text, size_t n);

/** One directory into a run. */
pac_err report_run_read(report *r, report_run *run);
void report_run_free(report_run *run);
/** DIR/metrics.jsonl into the run. */
pac_err report_metrics_read(report *r, report_run *run, const char *path);

/** Measures and groups of runs that are read. */
pac_err report_compare(report *r);
/** The metric that decides which epoch is best: the first that is not the loss, else the loss; -1: nothing was evaluated. */
int64_t report_main_metric(const report *r, const report_run *run);

/* The table in two forms, and everything as JSON. */
void report_print_text(const report *r, FILE *out);
void report_print_markdown(const report *r, FILE *out);
json_t *report_json(const report *r);

typedef enum report_plot_kind { REPORT_LOSS, REPORT_METRICS, REPORT_TIME, REPORT_MEMORY, REPORT_PLOTS } report_plot_kind;
typedef struct report_drawn {
    const char *name;
    bool data, svg; /* NAME.tsv and NAME.gp are there; NAME.svg is */
} report_drawn;

/** Data and a gnuplot script of every plot into dir, and the SVG files where gnuplot can be started. Errors: PAC_EIO,
 * PAC_ENOSPACE. */
pac_err report_plot(const report *r, const char *dir, report_drawn drawn[REPORT_PLOTS]);

#endif
