/*
 * pac simulate: a job, devices and a plan become a request to the simulator. Bytes come from a dry run of every device, lengths
 * from the job's data in the order of the first epoch; the simulator itself (planner/simulate.c) knows neither.
 */
#include "simulating.h"
#include "estimate.h"
#include "fits.h"
#include "planning.h"
#include "profile_match.h"
#include "pac/cache.h"
#include "pac/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BATCHES = 64, MOST_RUNS = 256 }; /* mini-batches that are simulated; that are run dry, over all devices */

static const char *const schedules[] = {
    [PAC_SIM_1F1B] = "1f1b", [PAC_SIM_GPIPE] = "gpipe", [PAC_SIM_SEQUENTIAL] = "sequential"};

pac_err simulating_schedule(const char *name, pac_sim_schedule *out)
{
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++)
        if (name == NULL || strcmp(name, schedules[i]) == 0) {
            *out = (pac_sim_schedule)i;
            return PAC_OK;
        }
    return pac_fail(PAC_EUSAGE, "--schedule %s: 1f1b, gpipe or sequential", name);
}

const char *simulating_schedule_name(pac_sim_schedule s)
{
    return schedules[s];
}

/* ---- the plan ---- */

static pac_err read_plan(simulating *x)
{
    PAC_TRY(profile_fit(x->job, x->profile));
    x->run = plan_request(x->job, x->profile);
    PAC_TRY(pac_plan_read(x->o->plan_path, &x->plan));
    PAC_TRY(plan_matches(x->job, x->o->plan_path, &x->plan));
    PAC_TRY(groups_match(x->job, x->o->plan_path, &x->plan));
    pac_err err = system_check_plan(x->job, &x->plan);
    if (err == PAC_OK)
        err = pac_plan_predict(x->profile, &x->run, &x->plan);
    return err == PAC_OK ? err : pac_fail_context(err, "%s", x->o->plan_path);
}

/* The plan that would be best if memory were no matter: it shows how much is lacking where. */
static pac_err plan_without_limits(simulating *x)
{
    double budget[PAC_MAX_DEVICES];
    pac_config *c = &x->job->cfg;
    bool memory_auto = c->system.memory_auto;
    for (int64_t d = 0; d < x->profile->devices; d++) {
        budget[d] = x->profile->device[d].memory;
        x->profile->device[d].memory = 1e18;
    }
    c->system.memory_auto = true;
    pac_err err = pac_job_plan(x->job, x->profile, &x->plan, NULL);
    c->system.memory_auto = memory_auto;
    for (int64_t d = 0; d < x->profile->devices; d++)
        x->profile->device[d].memory = budget[d];
    return err;
}

static pac_err make_plan(simulating *x)
{
    pac_plan_answer a = {0};
    pac_err err = pac_job_plan(x->job, x->profile, &x->plan, &a);
    x->run = plan_request(x->job, x->profile);
    memcpy(x->note, a.note, sizeof x->note);
    pac_plan_answer_free(&a);
    if (err != PAC_ENOMEM)
        return err;
    snprintf(x->why, sizeof x->why, "%s", pac_err_message());
    x->no_plan = true;
    return plan_without_limits(x);
}

/* ---- bytes ---- */

static pac_err choose_bytes(simulating *x)
{
    const char *name = x->o->bytes != NULL ? x->o->bytes : "ledger";
    bool profile = strcmp(name, "profile") == 0;
    x->model_bytes = profile || x->profile->bytes_given;
    PAC_CHECK(profile || strcmp(name, "ledger") == 0, PAC_EUSAGE, "--bytes %s: ledger or profile", name);
    return PAC_OK;
}

/* The ledger's peak in a step is what one micro-batch keeps, times those in flight under 1F1B, and the rest. */
static void split_step(const simulating *x, const pac_footprint *step, int64_t number, pac_sim_bytes *out)
{
    int64_t batch = x->run.batch < x->run.rows ? x->run.batch : x->run.rows;
    int64_t M = x->plan.microbatches < batch ? x->plan.microbatches : batch, behind = x->plan.stages - number;
    double in_flight = (double)(M < behind ? M : behind), activations = (double)step->tag[PAC_MEM_ACTIVATIONS];
    *out = (pac_sim_bytes){.base = (double)step->total - activations, .slot = activations / in_flight};
}

static pac_err dry_device(simulating *x, dry *d, const pac_plan *running, int64_t number, int64_t member)
{
    pac_estimate_device device;
    pac_footprint later = {.total = 0};
    int64_t rank = x->plan.stage[number].rank[member];
    d->record = 0;
    PAC_TRY(dry_hybrid(d, running, number, member, &device));
    if (d->caches && x->job->cfg.train.epochs > 1)
        PAC_TRY(dry_cached(d, running, running->stage[number].rank[member], NULL, &later));
    split_step(x, &device.step, number, &x->bytes[rank]);
    x->peak[rank] = dry_needs(&device.phase, &later, d->records);
    return PAC_OK;
}

static pac_err dry_devices(simulating *x, dry *d)
{
    pac_plan running; /* what is left out does not run */
    pac_err err = PAC_OK;
    PAC_TRY(pac_plan_compact(&x->plan, &running));
    for (int64_t s = 0; s < running.stages; s++)
        for (int64_t i = 0; i < running.stage[s].ranks && err == PAC_OK; i++)
            err = dry_device(x, d, &running, s, i);
    pac_plan_free(&running);
    return err;
}

/* ---- lengths ---- */

/* Samples in the order of the first epoch: whole mini-batches, or all there are. */
static pac_err take_lengths(simulating *x, const dry *d)
{
    const pac_job *job = x->job;
    int64_t rows = job->train.rows, most = MOST_BATCHES * job->cfg.train.batch, n = rows < most ? rows : most;
    void *p;
    if (job->train.identity == 0) /* made up data has none */
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * n, sizeof(double), &p));
    x->tokens = p;
    pac_rng_permutation(job->cfg.train.seed, 0, rows, d->t.order);
    for (int64_t i = 0; i < n; i++) {
        x->tokens[i] = (double)d->t.map.len[PAC_ENC][d->t.order[i]];
        x->tokens[n + i] = (double)d->t.map.len[PAC_DEC][d->t.order[i]];
    }
    x->lengths = (pac_lengths){.samples = n, .source = x->tokens, .target = x->tokens + n};
    return PAC_OK;
}

static pac_err measure_dry(simulating *x)
{
    dry d = {0};
    pac_err err;
    pac_mem_dry(true);
    PAC_GO(dry_new(x->job, &d));
    d.most = x->plan.world < MOST_RUNS ? MOST_RUNS / x->plan.world : 1;
    d.caches = x->run.cached && x->plan.cached;
    if (!x->model_bytes)
        PAC_GO(dry_devices(x, &d));
    err = take_lengths(x, &d);
out:
    dry_free(&d);
    pac_mem_dry(false);
    return err;
}

/* ---- the verdict ---- */

/* A run takes more than its steps: loading, handing over to the cached phase, the cached phase. */
static void judge(simulating *x)
{
    x->s.fits = true;
    for (int64_t d = 0; d < x->s.devices; d++) {
        pac_sim_device *k = &x->s.device[d];
        k->peak_bytes = fmax(k->peak_bytes, x->peak[d]);
        k->fits = k->peak_bytes <= k->budget;
        x->s.fits = x->s.fits && k->fits;
    }
}

static fits_plan origin(const simulating *x)
{
    bool runs = x->q.schedule == PAC_SIM_1F1B && !x->model_bytes;
    return !runs ? FITS_OTHERWISE : x->o->plan_path != NULL ? FITS_GIVEN : FITS_MADE;
}

/* The planner's own reason, if it found nothing, says more. */
static pac_err explain(simulating *x)
{
    double peak[PAC_MAX_DEVICES];
    for (int64_t d = 0; d < x->s.devices; d++)
        peak[d] = x->s.device[d].peak_bytes;
    if (x->why[0] == '\0')
        PAC_TRY(fits_memory(x->job, x->profile, &x->plan, origin(x), peak, x->why));
    if (x->why[0] == '\0') {
        PAC_TRY(fits_disks(x->job, x->profile, &x->plan, x->why));
        x->disk = x->why[0] != '\0';
    }
    return PAC_OK;
}

/* ---- the whole ---- */

static pac_err simulate(simulating *x)
{
    pac_sim_schedule schedule;
    PAC_TRY(simulating_schedule(x->o->schedule, &schedule));
    PAC_TRY(choose_bytes(x));
    PAC_TRY(x->o->plan_path != NULL ? read_plan(x) : make_plan(x));
    PAC_TRY(measure_dry(x));
    x->q = (pac_sim_request){.profile = x->profile,
                             .plan = &x->plan,
                             .run = &x->run,
                             .schedule = schedule,
                             .lengths = x->lengths.samples > 0 ? &x->lengths : NULL,
                             .bytes = x->model_bytes ? NULL : x->bytes};
    PAC_TRY(pac_simulate(&x->q, &x->s));
    judge(x);
    PAC_TRY(explain(x));
    return x->o->chart_path != NULL ? pac_simulation_svg(&x->q, &x->s, x->o->chart_path) : PAC_OK;
}

pac_err pac_job_simulate(pac_job *job, pac_profile *profile, const pac_simulate_opts *o, pac_simulated *out)
{
    void *p;
    PAC_CHECK(job->shapes, PAC_EINVAL, "a simulation needs a job of pac_estimate_open()");
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(simulating), &p));
    simulating *x = p;
    char *json = NULL;
    *x = (simulating){.job = job, .profile = profile, .o = o};
    pac_err err;
    PAC_GO(simulate(x));
    PAC_GO(simulating_json(x, &json));
    *out = (pac_simulated){.json = json, .fits = x->s.fits && x->why[0] == '\0', .disk = x->disk};
    snprintf(out->why, sizeof out->why, "%s", x->why);
out:
    pac_simulation_free(&x->s);
    pac_plan_free(&x->plan);
    pac_mem_free(x->tokens);
    pac_mem_free(x);
    return err;
}
