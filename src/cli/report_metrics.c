/*
 * metrics.jsonl into a run: one handler per event, unknown events are passed over, anything that is not as docs/formats.md says
 * is an error with file and line. Only the very last line may be cut off: that is what a killed run leaves.
 */
#include "pac/file.h"
#include "pac/log.h"
#include "report.h"

#include <math.h>
#include <string.h>

static const size_t LARGEST_FILE = (size_t)1 << 30;
static const int64_t LARGEST_COUNT = (int64_t)1 << 40;

typedef struct reader {
    report *all;
    report_run *run;
    const char *path;
    long line;
} reader;

#define FAIL(in, ...)                                                                                                          \
    ((void)pac_fail(PAC_EDATA, __VA_ARGS__), (void)pac_fail_context(PAC_EDATA, "%s:%ld", (in)->path, (in)->line), PAC_EDATA)

static pac_err number(const reader *in, const json_t *object, const char *key, double *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value) || json_number_value(value) < 0)
        return FAIL(in, "%s \"%s\"; a number of at least 0 is expected", value == NULL ? "no key" : "wrong value of", key);
    *out = json_number_value(value);
    return PAC_OK;
}

/* A loss or metric: null where it was not finite. */
static pac_err maybe_number(const reader *in, const json_t *value, const char *key, double *out)
{
    if (!json_is_number(value) && !json_is_null(value))
        return FAIL(in, "%s \"%s\"; a number or null is expected", value == NULL ? "no key" : "wrong type of", key);
    *out = json_is_null(value) ? (double)NAN : json_number_value(value);
    return PAC_OK;
}

static pac_err count(const reader *in, const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t v = json_integer_value(value);
    if (!json_is_integer(value) || v < 0 || v > LARGEST_COUNT)
        return FAIL(in, "%s \"%s\"; a whole number of at least 0 is expected", value == NULL ? "no key" : "wrong value of",
                    key);
    *out = v;
    return PAC_OK;
}

static pac_err name_index(const reader *in, name_list *list, const char *name, int64_t *out)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strlen(name);
    if (n == 0 || n >= REPORT_NAME || strspn(name, letters) != n)
        return FAIL(in, "a name of a phase or metric is at most %d letters, digits, or _ - .", REPORT_NAME - 1);
    *out = report_name(list, name);
    return *out >= 0 ? PAC_OK : FAIL(in, "'%s': more than %d names of phases or metrics", name, REPORT_NAMES);
}

static pac_err phase_index(const reader *in, const json_t *object, int64_t *out)
{
    const char *name = json_string_value(json_object_get(object, "phase"));
    if (name == NULL)
        return FAIL(in, "no name at \"phase\"");
    return name_index(in, &in->all->phases, name, out);
}

static pac_err on_step(const reader *in, const json_t *object)
{
    report_run *run = in->run;
    report_step step;
    PAC_TRY(count(in, object, "step", &step.step));
    PAC_TRY(maybe_number(in, json_object_get(object, "loss"), "loss", &step.loss));
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &run->step, &run->steps_room, run->steps + 1, sizeof step));
    ((report_step *)run->step)[run->steps++] = step;
    return PAC_OK;
}

static pac_err on_epoch(const reader *in, const json_t *object)
{
    report_run *run = in->run;
    int64_t phase, epoch;
    double seconds;
    PAC_TRY(phase_index(in, object, &phase));
    PAC_TRY(count(in, object, "epoch", &epoch));
    PAC_TRY(number(in, object, "seconds", &seconds));
    run->seconds[phase] = isnan(run->seconds[phase]) ? seconds : run->seconds[phase] + seconds;
    if (epoch > run->epochs)
        run->epochs = epoch;
    return PAC_OK;
}

static pac_err on_eval(const reader *in, const json_t *object)
{
    report_run *run = in->run;
    report_eval eval;
    const char *name;
    json_t *value, *metrics = json_object_get(object, "metrics");
    const char *rows = json_string_value(json_object_get(object, "rows"));
    PAC_TRY(count(in, object, "epoch", &eval.epoch));
    eval.test = rows != NULL && strcmp(rows, "test") == 0;
    for (int64_t i = 0; i < REPORT_NAMES; i++)
        eval.value[i] = (double)NAN;
    if (!json_is_object(metrics))
        return FAIL(in, "no \"metrics\"; an object of numbers is expected");
    json_object_foreach(metrics, name, value)
    {
        int64_t i;
        PAC_TRY(name_index(in, &in->all->metrics, name, &i));
        PAC_TRY(maybe_number(in, value, name, &eval.value[i]));
    }
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &run->eval, &run->evals_room, run->evals + 1, sizeof eval));
    ((report_eval *)run->eval)[run->evals++] = eval;
    return PAC_OK;
}

static void keep_largest(double *at, double value)
{
    *at = isnan(*at) || value > *at ? value : *at;
}

static pac_err on_memory(const reader *in, const json_t *object)
{
    int64_t phase;
    double rss, ledger;
    PAC_TRY(phase_index(in, object, &phase));
    PAC_TRY(number(in, object, "peak_rss", &rss));
    PAC_TRY(number(in, object, "ledger", &ledger));
    keep_largest(&in->run->peak_rss[phase], rss);
    keep_largest(&in->run->ledger[phase], ledger);
    return PAC_OK;
}

static const struct event {
    const char *name;
    pac_err (*read)(const reader *in, const json_t *object);
    bool every_rank; /* else only rank 0 speaks for the run */
} events[] = {
    {"step", on_step, false},
    {"epoch", on_epoch, false},
    {"eval", on_eval, false},
    {"memory", on_memory, true},
};

static pac_err read_object(const reader *in, const json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "event"));
    int64_t rank;
    double time;
    if (name == NULL)
        return FAIL(in, "no name at \"event\"");
    PAC_TRY(count(in, object, "rank", &rank));
    PAC_TRY(number(in, object, "time", &time));
    keep_largest(&in->run->total_s, time);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        if (strcmp(events[i].name, name) == 0 && (rank == 0 || events[i].every_rank))
            return events[i].read(in, object);
    return PAC_OK;
}

static pac_err read_line(const reader *in, const char *text, size_t bytes, bool may_be_cut)
{
    json_error_t why;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL && may_be_cut) {
        pac_log(PAC_LOG_WARN, "%s:%ld: the last line is cut off and left out (was the run interrupted?)", in->path, in->line);
        return PAC_OK;
    }
    if (!json_is_object(object)) {
        json_decref(object);
        return object != NULL ? FAIL(in, "a JSON object {...} is expected on every line")
                              : FAIL(in, "not a JSON object: %s (column %d)", why.text, why.column);
    }
    pac_err err = read_object(in, object);
    json_decref(object);
    return err;
}

pac_err report_metrics_read(report *r, report_run *run, const char *path)
{
    reader in = {.all = r, .run = run, .path = path};
    char *text;
    size_t bytes, at = 0;
    PAC_TRY(pac_file_load(path, LARGEST_FILE, &text, &bytes));
    pac_err err = PAC_OK;
    if (bytes == 0)
        pac_log(PAC_LOG_WARN, "%s: the file is empty: this run ended before it measured anything", path);
    while (err == PAC_OK && at < bytes) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t n = end != NULL ? (size_t)(end - (text + at)) : bytes - at;
        in.line++;
        err = read_line(&in, text + at, n, end == NULL);
        at += n + 1;
    }
    pac_mem_free(text);
    return err;
}
