/*
 * The directory of a run: metrics.jsonl must be there; plan.yaml, run.yaml, result.json and adapters/adapters.json say more
 * where they are.
 *
 * run.yaml is taken as a tree of keys, not as a configuration of this version: whatever settings it names decide which runs are
 * alike.
 */
#include "pac/file.h"
#include "pac/log.h"
#include "pac/plan.h"
#include "pac/yaml.h"
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH = 4200 };
static const size_t LARGEST_JSON = (size_t)64 << 20;

int64_t report_name(name_list *list, const char *name)
{
    for (int64_t i = 0; i < list->n; i++)
        if (strcmp(list->name[i], name) == 0)
            return i;
    if (list->n == REPORT_NAMES)
        return -1;
    snprintf(list->name[list->n], REPORT_NAME, "%s", name);
    return list->n++;
}

void report_show(char out[REPORT_TEXT], const char *text, size_t n)
{
    n = n < REPORT_TEXT - 1 ? n : REPORT_TEXT - 1;
    memcpy(out, text, n);
    out[n] = '\0';
    json_t *utf8 = json_stringn(out, n); /* NULL: it is none, or was cut inside a character */
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (utf8 == NULL && ((unsigned char)*p & 0x80)))
            *p = '?';
    json_decref(utf8);
}

static void show(char out[REPORT_TEXT], const char *text)
{
    report_show(out, text, strlen(text));
}

/* models/t5-base -> t5-base; a folder that is only called "model" goes with the one above it. */
static void show_model(char out[REPORT_TEXT], const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    int parts = end >= 6 && strncmp(path + end - 6, "/model", 6) == 0 ? 2 : 1;
    size_t begin = end;
    while (begin > 0 && (path[begin - 1] != '/' || --parts > 0))
        begin--;
    report_show(out, path + begin, end - begin);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- run.yaml ---- */

/* Settings that say where or with which chance, not what. */
static bool is_left_out(const char *key)
{
    static const char *const keys[] = {"train.seed", "output", "cache.dir"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i], key) == 0)
            return true;
    return false;
}

/* "train.lr=0.003" a line, keys in the order of the file. Depth and size are bounded by the YAML reader. */
static void flatten(const pac_yaml_node *n, const char *key, FILE *out)
{
    char inner[1024];
    if (pac_yaml_kind_of(n) == PAC_YAML_SCALAR) {
        if (!is_left_out(key))
            fprintf(out, "%s=%s\n", key, pac_yaml_text(n));
        return;
    }
    for (int64_t i = 0; i < pac_yaml_count(n); i++) {
        if (pac_yaml_kind_of(n) == PAC_YAML_MAP)
            snprintf(inner, sizeof inner, "%s%s%s", key, key[0] != '\0' ? "." : "", pac_yaml_key(n, i));
        else
            snprintf(inner, sizeof inner, "%s[%lld]", key, (long long)i);
        flatten(pac_yaml_item(n, i), inner, out);
    }
}

static const char *text_at(const pac_yaml_node *root, const char *section, const char *key)
{
    const pac_yaml_node *map = pac_yaml_get(root, section);
    const pac_yaml_node *n = map != NULL && pac_yaml_kind_of(map) == PAC_YAML_MAP ? pac_yaml_get(map, key) : NULL;
    return n != NULL && pac_yaml_kind_of(n) == PAC_YAML_SCALAR ? pac_yaml_text(n) : "-";
}

static pac_err settings_text(const pac_yaml_node *root, char **out)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (f != NULL) {
        flatten(root, "", f);
        fclose(f);
    }
    pac_err err = text != NULL ? pac_mem_strdup(text, out) : pac_fail(PAC_ENOMEM, "no memory for the settings of a run");
    free(text);
    return err;
}

static pac_err take_settings(report_run *run, const pac_yaml *y, const char *path)
{
    const pac_yaml_node *root = pac_yaml_root(y);
    PAC_CHECK(root != NULL && pac_yaml_kind_of(root) == PAC_YAML_MAP, PAC_EDATA, "%s:1: a map of settings is expected", path);
    show_model(run->model, text_at(root, "model", "path"));
    show(run->technique, text_at(root, "technique", "name"));
    show(run->system, text_at(root, "system", "name"));
    show(run->task, text_at(root, "task", "name"));
    const pac_yaml_node *train = pac_yaml_get(root, "train");
    const pac_yaml_node *seed = train != NULL && pac_yaml_kind_of(train) == PAC_YAML_MAP ? pac_yaml_get(train, "seed") : NULL;
    if (seed != NULL)
        PAC_TRY(pac_yaml_int(seed, "train.seed", 0, INT64_MAX, &run->seed));
    return settings_text(root, &run->settings);
}

static pac_err read_settings(report *r, report_run *run, const char *path)
{
    (void)r;
    pac_yaml *y;
    PAC_TRY(pac_yaml_open(path, &y));
    pac_err err = take_settings(run, y, path);
    pac_yaml_close(&y);
    return err;
}

/* ---- plan.yaml ---- */

static pac_err read_plan(report *r, report_run *run, const char *path)
{
    (void)r;
    pac_plan plan;
    PAC_TRY(pac_plan_read(path, &plan));
    pac_plan_shape(&plan, run->plan, sizeof run->plan);
    run->ranks = plan.world;
    pac_plan_free(&plan);
    return PAC_OK;
}

/* ---- result.json, adapters.json ---- */

static pac_err load_object(const char *path, json_t **out)
{
    char *text;
    size_t bytes;
    json_error_t why;
    PAC_TRY(pac_file_load(path, LARGEST_JSON, &text, &bytes));
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    pac_mem_free(text);
    PAC_CHECK(object != NULL, PAC_EDATA, "%s:%d: not a JSON object: %s (column %d)", path, why.line, why.text, why.column);
    if (!json_is_object(object)) {
        json_decref(object);
        return pac_fail(PAC_EDATA, "%s:1: a JSON object {...} is expected", path);
    }
    *out = object;
    return PAC_OK;
}

/* What a file says of something that is not known yet. */
static void learn(char field[REPORT_TEXT], const json_t *value)
{
    if (strcmp(field, "-") == 0 && json_is_string(value))
        show(field, json_string_value(value));
}

static double amount(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) && json_number_value(value) >= 0 ? json_number_value(value) : (double)NAN;
}

static pac_err read_result(report *r, report_run *run, const char *path)
{
    (void)r;
    json_t *result;
    PAC_TRY(load_object(path, &result));
    const json_t *cache = json_object_get(result, "cache"), *model = json_object_get(result, "model"),
                 *seed = json_object_get(result, "seed");
    learn(run->technique, json_object_get(result, "technique"));
    learn(run->system, json_object_get(result, "system"));
    learn(run->task, json_object_get(result, "task"));
    if (strcmp(run->model, "-") == 0 && json_is_string(model))
        show_model(run->model, json_string_value(model));
    if (run->seed < 0 && json_is_integer(seed))
        run->seed = json_integer_value(seed);
    run->cache_bytes = amount(cache, "bytes");
    run->redistribute_s = amount(cache, "seconds_redistribute");
    json_decref(result);
    return PAC_OK;
}

static pac_err read_adapters(report *r, report_run *run, const char *path)
{
    (void)r;
    json_t *a;
    PAC_TRY(load_object(path, &a));
    const json_t *model = json_object_get(json_object_get(a, "model"), "path");
    learn(run->technique, json_object_get(json_object_get(a, "technique"), "name"));
    learn(run->task, json_object_get(json_object_get(a, "task"), "name"));
    if (strcmp(run->model, "-") == 0 && json_is_string(model))
        show_model(run->model, json_string_value(model));
    json_decref(a);
    return PAC_OK;
}

/* ---- the directory ---- */

static const struct part {
    const char *name;
    pac_err (*read)(report *r, report_run *run, const char *path);
    bool needed;
} parts[] = {
    {"metrics.jsonl", report_metrics_read, true},
    {"run.yaml", read_settings, false},
    {"plan.yaml", read_plan, false},
    {"result.json", read_result, false},
    {"adapters/adapters.json", read_adapters, false},
};

static void nothing_known(report_run *run)
{
    char *const fields[] = {run->model, run->technique, run->system, run->task, run->plan};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        show(fields[i], "-");
    for (int i = 0; i < REPORT_NAMES; i++)
        run->seconds[i] = run->peak_rss[i] = run->ledger[i] = (double)NAN;
    run->total_s = run->redistribute_s = run->cache_bytes = (double)NAN;
    run->seed = -1;
}

/* Exit status 3: a run is data here, also where its files are configurations elsewhere. */
static pac_err as_data(pac_err err)
{
    return err == PAC_ECONFIG || err == PAC_ENOTBUILT ? pac_fail_context(PAC_EDATA, "report") : err;
}

pac_err report_run_read(report *r, report_run *run)
{
    char path[PATH];
    nothing_known(run);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int n = snprintf(path, sizeof path, "%s/%s", run->dir, parts[i].name);
        PAC_CHECK(n < PATH, PAC_EUSAGE, "%s: the name is too long", run->dir);
        PAC_CHECK(!parts[i].needed || exists(path), PAC_EIO, "%s: %s: the output directory of a run is expected", path,
                  strerror(errno));
        if (exists(path))
            PAC_TRY(as_data(parts[i].read(r, run, path)));
    }
    return PAC_OK;
}

void report_run_free(report_run *run)
{
    pac_mem_free(run->settings);
    pac_mem_free(run->step);
    pac_mem_free(run->eval);
}
