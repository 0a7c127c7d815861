/* pac estimate: parameters, FLOP and bytes of a job before anything is loaded. */
#include "cli.h"
#include "pac/bytes.h"
#include "pac/estimate.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- from options to a configuration ---- */

enum { SHORTS = 7, SET_BYTES = 320 };

static bool is_inference(const pac_args *a)
{
    return a->technique != NULL && strcmp(a->technique, "inference") == 0;
}

/* Options that are short for a key. Without RUN.yaml there is no data: samples of the greatest length. */
static pac_err write_sets(const pac_args *a, char text[SHORTS][SET_BYTES], const char **sets, int64_t *count)
{
    char batch[24] = "", source[24] = "", target[24] = "";
    const struct {
        const char *key, *value;
        int64_t number;
        char *digits;
    } shorts[SHORTS] = {{"model.path=shape:", a->shape, 0, NULL},
                        {"technique.name=", is_inference(a) ? NULL : a->technique, 0, NULL},
                        {"train.batch=", NULL, a->batch, batch},
                        {"task.max_source=", NULL, a->source, source},
                        {"task.max_target=", NULL, a->target, target},
                        {"task.name=", a->nwords == 0 ? "tokens" : NULL, 0, NULL},
                        {"task.train=", a->nwords == 0 ? "none/" : NULL, 0, NULL}};
    int64_t n = 0;
    for (int i = 0; i < SHORTS; i++) {
        const char *value = shorts[i].value;
        if (shorts[i].number > 0) {
            snprintf(shorts[i].digits, sizeof batch, "%lld", (long long)shorts[i].number);
            value = shorts[i].digits;
        }
        if (value == NULL)
            continue;
        PAC_CHECK(snprintf(text[n], SET_BYTES, "%s%s", shorts[i].key, value) < SET_BYTES, PAC_EUSAGE, "%.40s...: too long",
                  value);
        sets[n] = text[n];
        n++;
    }
    for (int64_t i = 0; i < a->nsets; i++)
        sets[n++] = a->sets[i];
    *count = n;
    return PAC_OK;
}

static pac_err read_run(const pac_args *a, pac_config *c)
{
    char text[SHORTS][SET_BYTES];
    const char *sets[MAX_SETS + SHORTS];
    int64_t n = 0;
    PAC_CHECK(a->nwords > 0 || a->shape != NULL, PAC_EUSAGE, "estimate: RUN.yaml or --shape NAME is needed");
    PAC_TRY(write_sets(a, text, sets, &n));
    return pac_config_read(a->nwords > 0 ? a->words[0] : NULL, sets, n, c);
}

static pac_err count_devices(const char *text, int64_t *out)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    PAC_CHECK(end != text || *text == '\0' || *text == '-', PAC_EUSAGE,
              "--devices %s: estimate takes a number of equal devices; devices of a cluster file are for pac plan RUN.yaml "
              "--devices FILE and pac simulate RUN.yaml --devices FILE",
              text);
    PAC_CHECK(end != text && *end == '\0' && n >= 1 && n <= PAC_MAX_DEVICES, PAC_EUSAGE,
              "--devices: '%s' is not a whole number from 1 to %d", text, PAC_MAX_DEVICES);
    *out = n;
    return PAC_OK;
}

/* *has false: no plan is wanted. */
static pac_err read_plan(const pac_args *a, const pac_job *job, pac_plan *plan, bool *has)
{
    int64_t L = pac_depth(&job->desc), devices = 0;
    *has = a->plan != NULL || a->devices != NULL;
    PAC_CHECK(a->plan == NULL || a->devices == NULL, PAC_EUSAGE, "estimate: --plan or --devices, not both");
    PAC_CHECK(!*has || !is_inference(a), PAC_EUSAGE, "estimate: --technique inference is estimated for one device only");
    if (a->devices != NULL) {
        PAC_TRY(count_devices(a->devices, &devices));
        return pac_estimate_plan(job, devices, plan);
    }
    if (a->plan == NULL)
        return PAC_OK;
    PAC_TRY(pac_plan_read(a->plan, plan));
    if (plan->layers == L)
        return PAC_OK;
    int64_t layers = plan->layers;
    pac_plan_free(plan);
    return pac_fail(PAC_ECONFIG, "%s: the plan is of a model with %lld layers, %s has %lld: plan again", a->plan,
                    (long long)layers, job->desc.dir, (long long)L);
}

/* ---- the result as a table ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static double mib(const json_t *bytes, const char *tag)
{
    return number(bytes, tag) / 1048576;
}

static void print_bytes(const char *label, const json_t *bytes)
{
    static const char *const tags[] = {"weights", "tuned", "gradients", "optimizer", "activations", "cache", "work", "total"};
    printf("%-22s", label);
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        printf(" %11.1f", mib(bytes, tags[i]));
    printf("\n");
}

static void print_device(const json_t *d)
{
    char label[64], has[32];
    const json_t *layers = json_object_get(d, "layers"), *fits = json_object_get(d, "fits");
    snprintf(label, sizeof label, "device %d: layers %d-%d", (int)number(d, "rank"),
             (int)json_integer_value(json_array_get(layers, 0)), (int)json_integer_value(json_array_get(layers, 1)) - 1);
    print_bytes(label, json_object_get(d, "bytes"));
    printf("%22s peak of the run %.1f MiB", "", number(d, "peak") / 1048576);
    if (number(json_object_get(d, "phase"), "device") > 0)
        printf(", of it %.1f in the device's memory", mib(json_object_get(d, "phase"), "device"));
    if (json_is_boolean(fits))
        printf(", needs %.2f MiB with a run's records, budget %s: %s", number(d, "needs") / 1048576,
               pac_mib_text(number(d, "budget"), has), json_is_true(fits) ? "fits" : "does not fit");
    printf("\n");
}

static void print_flop(const char *label, const json_t *flop)
{
    const json_t *head = json_object_get(flop, "head");
    printf("%-22s forward %.4f, backward %.4f TFLOP a mini-batch (of it the head %.4f, %.4f)\n", label,
           number(flop, "forward") / 1e12, number(flop, "backward") / 1e12, number(head, "forward") / 1e12,
           number(head, "backward") / 1e12);
}

static void print_lengths(const json_t *l)
{
    printf("lengths (%s)  source %.1f, target %.1f; longest %d, %d\n", json_string_value(json_object_get(l, "from")),
           number(l, "source"), number(l, "target"), (int)number(l, "longest_source"), (int)number(l, "longest_target"));
}

static void print_table(const char *json)
{
    json_t *r = json_loads(json, 0, NULL);
    const json_t *p = json_object_get(r, "parameters"), *cached = json_object_get(r, "cached"), *devices;
    size_t i;
    json_t *d;
    printf("parameters: backbone %.0f, tuned %.0f, classification head %.0f\n", number(p, "backbone"), number(p, "tuned"),
           number(p, "head"));
    print_lengths(json_object_get(r, "lengths"));
    print_flop("one device:", json_object_get(r, "flop"));
    if (cached != NULL)
        print_flop("cached:", json_object_get(cached, "flop"));
    if (number(r, "cache_bytes_per_sample") > 0)
        printf("cache: %.0f bytes a sample\n", number(r, "cache_bytes_per_sample"));
    printf("\nMiB, peaks              %10s %11s %11s %11s %11s %11s %11s %11s\n", "weights", "tuned", "gradients", "optimizer",
           "activations", "cache", "work", "total");
    print_bytes("one device: training", json_object_get(r, "bytes"));
    if (cached != NULL)
        print_bytes("cached phase", json_object_get(cached, "bytes"));
    devices = json_object_get(r, "devices");
    json_array_foreach(devices, i, d) print_device(d);
    json_decref(r);
}

pac_err cmd_estimate(const pac_args *a)
{
    pac_config cfg;
    pac_job *job = NULL;
    pac_plan plan = {0};
    pac_estimate e = {0};
    char *json = NULL;
    bool has = false;
    pac_err err;
    PAC_TRY(read_run(a, &cfg));
    PAC_GO(pac_estimate_open(&cfg, &job));
    PAC_GO(read_plan(a, job, &plan, &has));
    err = pac_estimate_run(job, has ? &plan : NULL, is_inference(a), &e);
    PAC_GO(err == PAC_ECONFIG && a->plan != NULL ? pac_fail_context(err, "%s", a->plan) : err);
    PAC_GO(pac_estimate_json(&e, has ? &plan : NULL, &json));
    print_result(a, json, print_table);
out:
    pac_mem_free(json);
    pac_estimate_free(&e);
    pac_plan_free(&plan);
    pac_job_close(&job);
    return err;
}
