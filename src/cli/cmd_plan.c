/* pac plan: the best plan for a profile (measured, or of devices that are not here), the candidates it beat, and why. */
#include "cli.h"
#include "pac/bytes.h"
#include "pac/parallel.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAMED = 16 }; /* devices named below the candidates */

static void print_stages(const pac_plan *plan, const pac_profile *profile)
{
    printf("stage  layers   device                 share   predicted      budget\n");
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++) {
            const pac_stage_plan *st = &plan->stage[s];
            const pac_device *d = &profile->device[st->rank[i]];
            char needs[32], has[32];
            printf("%5lld  %3lld-%-3lld  %-20s %6.1f %%  %10s  %10s\n", (long long)s, (long long)st->first,
                   (long long)st->last - 1, d->name, 100 * st->share[i], pac_mib_text(st->bytes[i], needs),
                   pac_mib_text(d->memory, has));
        }
    printf("%lld micro-batch%s, %s; predicted: hybrid step %.4f s, epoch %.2f s; redistribution %.2f s; cached epoch %.2f s; "
           "total %.2f s\n",
           (long long)plan->microbatches, PAC_PLURAL(plan->microbatches, "es"),
           plan->predicted.cached_epoch_s > 0 ? "later epochs from the cache" : "every epoch runs the backbone",
           plan->predicted.hybrid_step_s, plan->predicted.hybrid_epoch_s, plan->predicted.redistribute_s,
           plan->predicted.cached_epoch_s, plan->predicted.total_s);
    if (plan->stages > 1 && plan->predicted.redistribute_s > 0)
        printf("(redistribution: as if all devices had written equal parts of the cache; pac simulate knows who wrote what)\n");
}

/* Names of the devices that the plan does without. */
static json_t *left_out_json(const pac_plan *plan, const pac_profile *profile)
{
    int64_t used[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, used);
    json_t *list = json_array();
    for (int64_t d = 0; d < profile->devices && plan->left_out > 0; d++) {
        bool in = false;
        for (int64_t i = 0; i < n; i++)
            in = in || used[i] == d;
        if (!in)
            json_array_append_new(list, json_string(profile->device[d].name));
    }
    return list;
}

static void print_left_out(const pac_plan *plan, const pac_profile *profile)
{
    json_t *list = left_out_json(plan, profile), *name;
    size_t i;
    json_array_foreach(list, i, name) printf("left out: %s\n", json_string_value(name));
    json_decref(list);
}

/* Candidates have numbers for devices: names would not fit. */
static void print_ranks(const pac_profile *p)
{
    printf("devices by rank:");
    for (int64_t d = 0; d < p->devices && d < MOST_NAMED; d++)
        printf("%s %lld %s", d > 0 ? "," : "", (long long)d, p->device[d].name);
    printf("%s\n", p->devices > MOST_NAMED ? ", ... in the order of the profile" : "");
}

static void print_candidates(const pac_plan_answer *a, const pac_plan *plan, const pac_profile *profile)
{
    bool paper = strcmp(plan->planner, "paper") == 0;
    printf("\n%-12s %-12s %-14s  M cache %9s %11s  why\n", "candidate", "layers", "devices", paper ? "eq 6 step" : "step",
           "total");
    for (int64_t i = 0; i < a->candidates; i++) {
        const pac_candidate *c = &a->candidate[i];
        char step[24] = "-", total[24] = "-";
        if (isfinite(c->step_s))
            snprintf(step, sizeof step, "%.4f s", c->step_s);
        if (isfinite(c->total_s) && c->total_s > 0)
            snprintf(total, sizeof total, "%.1f s", c->total_s);
        printf("%-12s %-12s %-14s %2lld %-5s %9s %11s  %s\n", c->shape, c->layers, c->devices, (long long)c->microbatches,
               c->cached ? "yes" : "none", step, total, c->why);
    }
    print_ranks(profile);
    if (a->note[0] != '\0')
        printf("%s\n", a->note);
}

/* What was planned for, where no measurement says it. */
static void print_described(const pac_job *job, const pac_profile *p)
{
    if (p->derived[0] == '\0')
        return;
    printf("%s on the devices of %s, described and not measured; a sample has %.1f + %.1f tokens, an epoch %lld samples%s\n\n",
           p->model, p->derived, p->source_tokens, p->target_tokens, (long long)job->train.rows,
           job->train.identity != 0 ? "" : " (no data here: greatest lengths; --rows N says how many)");
}

static json_t *stages_json(const pac_plan *plan, const pac_profile *profile, json_t *memory)
{
    json_t *stages = json_array();
    for (int64_t s = 0; s < plan->stages; s++) {
        const pac_stage_plan *st = &plan->stage[s];
        json_t *devices = json_array(), *shares = json_array();
        for (int64_t i = 0; i < st->ranks; i++) {
            const pac_device *d = &profile->device[st->rank[i]];
            json_array_append_new(devices, json_string(d->name));
            json_array_append_new(shares, json_real(st->share[i]));
            json_array_append_new(memory, json_pack("{s:s, s:I, s:I}", "device", d->name, "bytes",
                                                    (json_int_t)ceil(st->bytes[i]), "budget", (json_int_t)d->memory));
        }
        json_array_append_new(stages, json_pack("{s:[I,I], s:o, s:o}", "layers", (json_int_t)st->first, (json_int_t)st->last,
                                                "devices", devices, "shares", shares));
    }
    return stages;
}

static json_t *seconds_json(double s)
{
    return isfinite(s) && s > 0 ? json_real(s) : json_null();
}

static void print_json(const pac_plan *plan, const pac_profile *profile, const pac_plan_answer *a)
{
    json_t *memory = json_array(), *candidates = json_array();
    json_t *stages = stages_json(plan, profile, memory);
    const pac_predicted *p = &plan->predicted;
    for (int64_t i = 0; i < a->candidates; i++) {
        const pac_candidate *c = &a->candidate[i];
        json_array_append_new(candidates,
                              json_pack("{s:s, s:s, s:s, s:I, s:b, s:o, s:o, s:s}", "shape", c->shape, "layers", c->layers,
                                        "devices", c->devices, "microbatches", (json_int_t)c->microbatches, "cached", c->cached,
                                        "step_s", seconds_json(c->step_s), "total_s", seconds_json(c->total_s), "why", c->why));
    }
    json_t *r =
        json_pack("{s:o, s:I, s:{s:f, s:f, s:f, s:f, s:f}, s:o, s:o, s:s, s:f}", "stages", stages, "microbatches",
                  (json_int_t)plan->microbatches, "predicted", "hybrid_step_s", p->hybrid_step_s, "hybrid_epoch_s",
                  p->hybrid_epoch_s, "redistribute_s", p->redistribute_s, "cached_epoch_s", p->cached_epoch_s, "total_s",
                  p->total_s, "memory", memory, "candidates", candidates, "planner", plan->planner, "seconds", a->seconds);
    json_object_set_new(r, "cached", json_boolean(plan->cached));
    json_object_set_new(r, "left_out", left_out_json(plan, profile));
    if (profile->derived[0] != '\0')
        json_object_set_new(r, "derived", json_string(profile->derived));
    char *text = r != NULL ? json_dumps(r, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    printf("%s\n", text != NULL ? text : "{}");
    free(text);
    json_decref(r);
}

static pac_err show(const pac_args *a, const pac_job *job, const pac_plan *plan, const pac_profile *profile,
                    const pac_plan_answer *answer)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    if (a->output != NULL)
        PAC_TRY(pac_plan_write(plan, a->output));
    if (a->json) {
        print_json(plan, profile, answer);
        return PAC_OK;
    }
    print_described(job, profile);
    print_stages(plan, profile);
    print_left_out(plan, profile);
    if (answer->candidates > 0 && !a->quiet)
        print_candidates(answer, plan, profile);
    if (a->output != NULL)
        printf("\nwritten to %s\n", a->output);
    return PAC_OK;
}

static pac_err plan_job(const pac_args *a, pac_job *job, pac_profile *profile)
{
    pac_plan plan = {0};
    pac_plan_answer answer = {0};
    pac_err err = pac_job_plan(job, profile, &plan, &answer);
    if (err == PAC_OK) {
        err = pac_agree(pac_world(), pac_world_rank() == 0 ? pac_job_plan_fits(job, profile, &plan) : PAC_OK);
        if (err == PAC_OK)
            err = pac_agree(pac_world(), show(a, job, &plan, profile, &answer));
        pac_plan_free(&plan);
        pac_plan_answer_free(&answer);
    }
    return err;
}

/* Under mpirun every rank has the job, and rank 0 the profile. */
static pac_err plan_by_ranks(const pac_args *a, const pac_config *cfg)
{
    pac_job *job = NULL;
    pac_profile profile = {0};
    pac_observer watch = print_observer();
    PAC_TRY(pac_job_open(cfg, PAC_JOB_TRAIN, &watch, &job));
    pac_err err = pac_agree(pac_world(), pac_world_rank() == 0 ? pac_profile_read(a->profile, &profile) : PAC_OK);
    if (err == PAC_OK)
        err = plan_job(a, job, &profile);
    pac_profile_free(&profile);
    pac_job_close(&job);
    return err;
}

/* One process needs neither weights nor data, as pac simulate. */
static pac_err plan_here(const pac_args *a, const pac_config *cfg)
{
    pac_job *job = NULL;
    pac_profile profile = {0};
    pac_err err = a->devices != NULL ? open_described(a, cfg, &job, &profile) : open_measured(a, cfg, &job, &profile);
    if (err == PAC_OK)
        err = plan_job(a, job, &profile);
    pac_profile_free(&profile);
    pac_job_close(&job);
    return err;
}

static pac_err check_options(const pac_args *a)
{
    PAC_CHECK(
        a->profile != NULL || a->devices != NULL, PAC_EUSAGE,
        "plan: --profile FILE is needed (mpirun -np N pac profile RUN.yaml -o FILE makes one), or --devices FILE for devices "
        "that are not here");
    PAC_CHECK(a->profile == NULL || a->devices == NULL, PAC_EUSAGE,
              "plan: --profile has the devices that were measured, --devices others: give one of them");
    PAC_CHECK((a->rows == 0 && a->activations == 0) || pac_world_size() == 1, PAC_EUSAGE,
              "plan: --rows and --activations are for one process: start it without mpirun");
    return PAC_OK;
}

pac_err cmd_plan(const pac_args *a)
{
    pac_config cfg;
    PAC_TRY(pac_agree(pac_world(), check_options(a)));
    PAC_TRY(read_config(a, &cfg));
    return a->devices != NULL || pac_world_size() == 1 ? plan_here(a, &cfg) : plan_by_ranks(a, &cfg);
}
