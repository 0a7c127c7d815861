/* pac train: the whole job, and its result as a table. */
#include "cli.h"
#include "pac/parallel.h"

#include <jansson.h>
#include <stdio.h>

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_metrics(const char *when, const json_t *metrics)
{
    const char *name;
    json_t *value;
    if (json_object_size(metrics) == 0)
        return;
    printf("%-14s", when);
    json_object_foreach((json_t *)metrics, name, value)
        printf(" %s %.4f", name, json_number_value(value));
    printf("\n");
}

static void print_epochs(const json_t *epochs)
{
    size_t i;
    json_t *e;
    printf("\nepoch  phase    seconds  samples/s    loss\n");
    json_array_foreach(epochs, i, e)
    {
        double seconds = number(e, "seconds");
        printf("%5zu  %-7s %8.2f %10.1f  %.4f\n", i + 1, json_string_value(json_object_get(e, "phase")), seconds,
               seconds > 0 ? number(e, "samples") / seconds : 0, number(e, "loss"));
    }
}

static void print_memory(const json_t *memory)
{
    size_t i;
    json_t *m, *tag;
    const char *name;
    printf("\nrank  phase   peak resident  peak of the ledger (MiB: weights, tuned, gradients, optimizer, activations, cache)\n");
    json_array_foreach(memory, i, m)
    {
        double shown[6] = {0};
        int k = 0;
        json_object_foreach(json_object_get(m, "tags"), name, tag)
            if (k < 6)
                shown[k++] = json_number_value(tag) / 1048576;
        printf("%4d  %-7s %9.1f MiB  %.1f, %.1f, %.1f, %.1f, %.1f, %.1f\n", (int)number(m, "rank"),
               json_string_value(json_object_get(m, "phase")), number(m, "peak_rss") / 1048576, shown[0], shown[1], shown[2], shown[3],
               shown[4], shown[5]);
    }
}

/* In the background, and how much of it the steps waited for. */
static void print_cache(const json_t *c)
{
    printf("\ncache         %.1f MiB (%s, %.0f bytes a sample), redistributed in %.2f s (%.1f MiB moved)\n", number(c, "bytes") / 1048576,
           json_string_value(json_object_get(c, "dtype")), number(c, "bytes_per_sample"), number(c, "seconds_redistribute"),
           number(c, "bytes_moved") / 1048576);
    printf("              writing took %.2f s behind the steps, which waited %.2f s for it; reading %.2f s, waited %.2f s",
           number(c, "seconds_write"), number(c, "seconds_write_waited"), number(c, "seconds_read"), number(c, "seconds_read_waited"));
}

static void print_table(const char *json)
{
    json_t *r = json_loads(json, 0, NULL);
    if (r == NULL)
        return;
    const json_t *cache = json_object_get(r, "cache");
    print_epochs(json_object_get(r, "epochs"));
    print_memory(json_object_get(r, "memory"));
    if (number(cache, "bytes") > 0)
        print_cache(cache);
    printf("\n");
    print_metrics("before tuning", json_object_get(r, "eval_before"));
    print_metrics("after tuning", json_object_get(r, "eval"));
    json_decref(r);
}

pac_err cmd_train(const pac_args *a)
{
    pac_config cfg;
    pac_job *job = NULL;
    char *json = NULL;
    pac_observer watch = print_observer();
    pac_train_opts o = {.plan_path = a->plan, .profile_path = a->profile, .steps = a->steps};
    PAC_TRY(read_config(a, &cfg));
    PAC_TRY(pac_job_open(&cfg, PAC_JOB_TRAIN | PAC_JOB_EVAL, &watch, &job));
    pac_err err = pac_job_train(job, &o, &json);
    pac_job_close(&job);
    if (err == PAC_OK)
        print_result(a, json, print_table);
    if (err == PAC_OK && pac_world_rank() == 0 && !a->json)
        printf("\nin %s: adapters/ (pac predict --model %s --adapters %s/adapters), plan.yaml, metrics.jsonl, result.json\n", cfg.output, cfg.model.path,
               cfg.output);
    pac_mem_free(json);
    return err;
}
