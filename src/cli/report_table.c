/*
 * The comparison as a table, for a terminal or as Markdown, and as one JSON object. A cell is a text; both tables have the same
 * cells.
 */
#include "report.h"

#include <math.h>
#include <string.h>

enum { CELL = 2 * REPORT_TEXT, WORDS = 7 };

/* ---- cells: some words, then the measures that belong in the table ---- */

static const char *const word_titles[WORDS] = {"run", "model", "technique", "system", "task", "plan", "n"};

static bool is_number(int64_t column)
{
    return column >= WORDS - 1;
}

/* Column WORDS + i is the i-th measure of the table; returns its index, -1 behind the last. */
static int64_t measure_at(const report *r, int64_t column)
{
    int64_t i = column - WORDS;
    for (int64_t m = 0; m < r->measures; m++)
        if (r->measure[m].in_table && i-- == 0)
            return m;
    return -1;
}

static int64_t columns(const report *r)
{
    int64_t n = WORDS;
    while (measure_at(r, n) >= 0)
        n++;
    return n;
}

/* The loss comes before tuning, at the end and as best value, so the category is said where the name alone is not enough. */
static void title(const report *r, int64_t column, char out[CELL])
{
    if (column < WORDS) {
        snprintf(out, CELL, "%s", word_titles[column]);
        return;
    }
    const measure *m = &r->measure[measure_at(r, column)];
    if (strcmp(m->category, "best") == 0)
        snprintf(out, CELL, "%s", strcmp(m->name, "value") == 0 ? "best" : "at epoch");
    else if (strcmp(m->category, "cache") == 0)
        snprintf(out, CELL, "cache %s", m->unit);
    else if (strcmp(m->category, "peak_rss") == 0)
        snprintf(out, CELL, "%s %s", m->name, m->unit);
    else
        snprintf(out, CELL, "%s%s%s", m->name, m->unit[0] != '\0' ? " " : "", m->unit);
}

static void number_cell(const report *r, const report_group *g, int64_t m, char out[CELL])
{
    const measure *q = &r->measure[m];
    bool spread = g->count[m] > 1 && !(g->spread[m] <= 0 && q->digits == 0);
    int digits = q->digits == 0 && spread ? 1 : q->digits;
    if (g->count[m] == 0)
        snprintf(out, CELL, "-");
    else if (spread)
        snprintf(out, CELL, "%.*f ± %.*f", digits, g->mean[m] * q->scale, digits, g->spread[m] * q->scale);
    else
        snprintf(out, CELL, "%.*f", digits, g->mean[m] * q->scale);
}

static void cell(const report *r, int64_t group, int64_t column, char out[CELL])
{
    const report_group *g = &r->group[group];
    const report_run *run = &r->run[g->first];
    const char *const words[WORDS - 1] = {g->label, run->model, run->technique, run->system, run->task, g->plan};
    if (column < WORDS - 1)
        snprintf(out, CELL, "%s", words[column]);
    else if (column == WORDS - 1)
        snprintf(out, CELL, "%lld", (long long)g->n);
    else
        number_cell(r, g, measure_at(r, column), out);
}

/* ---- on a terminal ---- */

/* Characters of UTF-8, not bytes. */
static int width(const char *s)
{
    int n = 0;
    for (; *s != '\0'; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_padded(FILE *out, const char *text, int to, bool right, bool last)
{
    int gap = to - width(text);
    fprintf(out, "%*s%s%*s", right ? gap : 0, "", text, right || last ? 0 : gap, "");
    fputs(last ? "\n" : "  ", out);
}

void report_print_text(const report *r, FILE *out)
{
    char text[CELL];
    int widest[WORDS + REPORT_MEASURES];
    int64_t n = columns(r);
    for (int64_t c = 0; c < n; c++) {
        title(r, c, text);
        widest[c] = width(text);
        for (int64_t g = 0; g < r->groups; g++) {
            cell(r, g, c, text);
            widest[c] = width(text) > widest[c] ? width(text) : widest[c];
        }
    }
    for (int64_t row = -1; row < r->groups; row++)
        for (int64_t c = 0; c < n; c++) {
            if (row < 0)
                title(r, c, text);
            else
                cell(r, row, c, text);
            print_padded(out, text, widest[c], is_number(c), c == n - 1);
        }
}

/* ---- as Markdown ---- */

static void print_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("|\\`*_<>[]", *text) != NULL)
            fputc('\\', out);
        fputc(*text, out);
    }
}

void report_print_markdown(const report *r, FILE *out)
{
    char text[CELL];
    int64_t n = columns(r);
    for (int64_t row = -2; row < r->groups; row++) {
        for (int64_t c = 0; c < n; c++) {
            if (row == -1) {
                fputs(is_number(c) ? "|---:" : "|---", out);
                continue;
            }
            if (row == -2)
                title(r, c, text);
            else
                cell(r, row, c, text);
            fputs("| ", out);
            print_escaped(out, text);
            fputc(' ', out);
        }
        fputs("|\n", out);
    }
}

/* ---- as JSON ---- */

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *spread_json(const report_group *g, int64_t m)
{
    return json_pack("{s:o, s:o, s:I}", "mean", real_or_null(g->mean[m]), "spread", real_or_null(g->spread[m]), "n",
                     (json_int_t)g->count[m]);
}

/* {category: {name: {mean, spread, n}}} of what the group has */
static void add_measures(const report *r, const report_group *g, json_t *out)
{
    for (int64_t m = 0; m < r->measures; m++) {
        const measure *q = &r->measure[m];
        if (g->count[m] == 0)
            continue;
        json_t *category = json_object_get(out, q->category);
        if (category == NULL) {
            json_object_set_new(out, q->category, json_object());
            category = json_object_get(out, q->category);
        }
        json_object_set_new(category, q->name, spread_json(g, m));
    }
}

static json_t *group_json(const report *r, int64_t group)
{
    const report_group *g = &r->group[group];
    const report_run *first = &r->run[g->first];
    json_t *dirs = json_array(), *seeds = json_array();
    for (int64_t i = 0; i < r->runs; i++)
        if (r->run[i].group == group) {
            json_array_append_new(dirs, json_string(r->run[i].dir));
            json_array_append_new(seeds, r->run[i].seed >= 0 ? json_integer(r->run[i].seed) : json_null());
        }
    int64_t metric = report_main_metric(r, first);
    json_t *out = json_pack("{s:s, s:o, s:o, s:I, s:s, s:s, s:s, s:s, s:s, s:I}", "label", g->label, "runs", dirs, "seeds",
                            seeds, "n", (json_int_t)g->n, "model", first->model, "technique", first->technique, "system",
                            first->system, "task", first->task, "plan", g->plan, "ranks", (json_int_t)first->ranks);
    if (out == NULL)
        return json_object();
    json_object_set_new(out, "metric", metric >= 0 ? json_string(r->metrics.name[metric]) : json_null());
    add_measures(r, g, out);
    return out;
}

json_t *report_json(const report *r)
{
    json_t *groups = json_array();
    for (int64_t g = 0; g < r->groups; g++)
        json_array_append_new(groups, group_json(r, g));
    return groups;
}
