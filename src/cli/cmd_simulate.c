/* pac simulate: how long a run would take on devices that are not here, what it would need, and a picture of one mini-batch. */
#include "cli.h"
#include "pac/bytes.h"
#include "pac/estimate.h"
#include "pac/parallel.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

/* ---- the result as a table ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL ? s : "";
}

static void print_head(const json_t *r)
{
    const json_t *plan = json_object_get(r, "plan");
    printf(
        "simulated, not measured: schedule %s, devices by stage %s, %.0f samples in %.0f micro-batch%s, %.0f rows, %.0f epochs "
        "(plan: %s; lengths: %s; bytes: %s)\n\n",
        text(r, "schedule"), text(plan, "shape"), number(r, "batch"), number(plan, "microbatches"),
        number(plan, "microbatches") == 1 ? "" : "es", number(r, "rows"), number(r, "epochs"), text(plan, "planner"),
        text(r, "lengths"), text(r, "bytes"));
    if (json_is_true(json_object_get(r, "without_limits")))
        printf("No plan fits. Shown is what would be fastest if memory were no matter; the error names the plan that lacks "
               "least.\n\n");
    printf("%-20s %5s %-8s %8s %12s %8s %12s %12s\n", "device", "stage", "layers", "share", "busy", "idle", "peak", "budget");
}

static void print_device(const json_t *d)
{
    char place[48] = "    - -               -", layers[24];
    const json_t *range = json_object_get(d, "layers");
    if (range != NULL) {
        snprintf(layers, sizeof layers, "%d-%d", (int)json_integer_value(json_array_get(range, 0)),
                 (int)json_integer_value(json_array_get(range, 1)) - 1);
        snprintf(place, sizeof place, "%5d %-8s %6.1f %%", (int)number(d, "stage"), layers, 100 * number(d, "share"));
    }
    char peak[32], has[32];
    printf("%-20s %s %10.4f s %6.1f %% %12s %12s%s\n", text(d, "name"), place, number(d, "busy"), 100 * number(d, "bubble"),
           pac_mib_text(number(d, "peak_bytes"), peak), pac_mib_text(number(d, "budget"), has),
           json_is_true(json_object_get(d, "fits")) ? "" : "  does not fit");
}

/* A step that fills the cache takes as long as what it computes or what is written meanwhile, whichever is longer. */
static void print_times(const char *label, const char *step, const json_t *t)
{
    printf("%-22s %s %.4f s, hybrid epoch %.2f s, redistribution %.2f s, cached epoch %.2f s, total %.2f s\n", label, step,
           number(t, "hybrid_step_s"), number(t, "hybrid_epoch_s"), number(t, "redistribute_s"), number(t, "cached_epoch_s"),
           number(t, "total_s"));
}

static void print_table(const char *json)
{
    json_t *r = json_loads(json, 0, NULL), *d;
    size_t i;
    print_head(r);
    json_array_foreach(json_object_get(r, "devices"), i, d) print_device(d);
    printf("\n");
    const char *step = number(r, "cached_epoch_s") > 0 ? "step, the cache written behind it," : "step";
    print_times("simulated:", step, r);
    print_times("planner's cost model:", step, json_object_get(r, "predicted"));
    if (fabs(number(json_object_get(r, "predicted"), "redistribute_s") / number(r, "redistribute_s") - 1) > 0.01)
        printf("The simulated redistribution is the better forecast: the planner, which must compare sets of devices, takes "
               "the parts\n"
               "of the cache that they hold as equal.\n");
    if (text(r, "note")[0] != '\0')
        printf("%s\n", text(r, "note"));
    json_decref(r);
}

/* ---- the command ---- */

static pac_err check_options(const pac_args *a)
{
    PAC_CHECK(a->profile != NULL || a->devices != NULL, PAC_EUSAGE, "simulate: --devices FILE or --profile FILE is needed");
    PAC_CHECK(a->profile == NULL || a->devices == NULL, PAC_EUSAGE, "simulate: --devices FILE or --profile FILE, not both");
    PAC_CHECK(pac_world_size() == 1, PAC_EUSAGE, "simulate: one process simulates all devices: start it without mpirun");
    return PAC_OK;
}

static pac_err show(const pac_args *a, const pac_simulated *s)
{
    print_result(a, s->json, print_table);
    if (a->output != NULL && !a->json)
        printf("\nchart written to %s\n", a->output);
    return s->fits ? PAC_OK : pac_fail(s->disk ? PAC_ENOSPACE : PAC_ENOMEM, "%s", s->why);
}

pac_err cmd_simulate(const pac_args *a)
{
    pac_config cfg;
    pac_job *job = NULL;
    pac_profile profile = {0};
    pac_simulated s = {0};
    pac_simulate_opts o = {.plan_path = a->plan, .schedule = a->schedule, .bytes = a->bytes, .chart_path = a->output};
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), check_options(a)));
    PAC_TRY(read_config(a, &cfg));
    PAC_GO(a->devices != NULL ? open_described(a, &cfg, &job, &profile) : open_measured(a, &cfg, &job, &profile));
    PAC_GO(pac_job_simulate(job, &profile, &o, &s));
    err = show(a, &s);
out:
    pac_mem_free(s.json);
    pac_profile_free(&profile);
    pac_job_close(&job);
    return err;
}
