/* A simulation as the JSON object of docs/formats.md. */
#include "simulating.h"
#include "trainer.h"

#include <math.h>

static json_t *predicted_json(const pac_predicted *p)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "hybrid_step_s", p->hybrid_step_s, "hybrid_epoch_s", p->hybrid_epoch_s,
                     "redistribute_s", p->redistribute_s, "cached_epoch_s", p->cached_epoch_s, "total_s", p->total_s);
}

/* Where a device stands in the plan: nothing if it is left out. */
static void add_place(json_t *object, const pac_plan *plan, int64_t device)
{
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t r = 0; r < plan->stage[s].ranks; r++) {
            const pac_stage_plan *st = &plan->stage[s];
            if (st->rank[r] != device)
                continue;
            json_object_set_new(object, "stage", json_integer(s));
            json_object_set_new(object, "layers", json_pack("[I,I]", (json_int_t)st->first, (json_int_t)st->last));
            json_object_set_new(object, "share", json_real(st->share[r]));
        }
}

static json_t *device_json(const simulating *x, int64_t device)
{
    const pac_sim_device *d = &x->s.device[device];
    double all = d->busy + d->idle;
    json_t *object = json_pack("{s:s, s:I, s:I, s:b, s:f, s:f, s:f}", "name", x->profile->device[device].name, "peak_bytes",
                               (json_int_t)ceil(d->peak_bytes), "budget", (json_int_t)d->budget, "fits", d->fits, "busy",
                               d->busy, "idle", d->idle, "bubble", all > 0 ? d->idle / all : 1.0);
    if (object != NULL)
        add_place(object, &x->plan, device);
    return object;
}

static json_t *plan_json(const pac_plan *plan, const pac_profile *profile)
{
    json_t *stages = json_array();
    char shape[64];
    for (int64_t s = 0; s < plan->stages; s++) {
        const pac_stage_plan *st = &plan->stage[s];
        json_t *devices = json_array(), *shares = json_array();
        for (int64_t r = 0; r < st->ranks; r++) {
            json_array_append_new(devices, json_string(profile->device[st->rank[r]].name));
            json_array_append_new(shares, json_real(st->share[r]));
        }
        json_array_append_new(stages, json_pack("{s:[I,I], s:o, s:o}", "layers", (json_int_t)st->first, (json_int_t)st->last,
                                                "devices", devices, "shares", shares));
    }
    pac_plan_shape(plan, shape, sizeof shape);
    return json_pack("{s:s, s:s, s:I, s:b, s:o}", "shape", shape, "planner", plan->planner, "microbatches",
                     (json_int_t)plan->microbatches, "cached", plan->cached, "stages", stages);
}

pac_err simulating_json(const simulating *x, char **json)
{
    json_t *oom = json_array(), *devices = json_array();
    for (int64_t d = 0; d < x->s.devices; d++) {
        json_array_append_new(devices, device_json(x, d));
        if (!x->s.device[d].fits)
            json_array_append_new(oom, json_string(x->profile->device[d].name));
    }
    json_t *object = predicted_json(&x->s.predicted);
    json_object_set_new(object, "kind", json_string("simulated"));
    json_object_set_new(object, "fits", json_boolean(x->s.fits && x->why[0] == '\0'));
    json_object_set_new(object, "oom", oom);
    json_object_set_new(object, "why", json_string(x->why));
    if (x->no_plan)
        json_object_set_new(object, "without_limits", json_true());
    json_object_set_new(object, "schedule", json_string(simulating_schedule_name(x->q.schedule)));
    json_object_set_new(object, "lengths", json_string(x->q.lengths != NULL ? "data" : "mean"));
    json_object_set_new(object, "bytes",
                        json_string(x->profile->bytes_given ? "given"
                                    : x->model_bytes        ? "profile"
                                                            : "ledger"));
    json_object_set_new(object, "batch", json_integer(x->run.batch));
    json_object_set_new(object, "rows", json_integer(x->run.rows));
    json_object_set_new(object, "epochs", json_integer(x->run.epochs));
    json_object_set_new(object, "devices", devices);
    json_object_set_new(object, "plan", plan_json(&x->plan, x->profile));
    if (x->note[0] != '\0')
        json_object_set_new(object, "note", json_string(x->note));
    json_object_set_new(object, "predicted", predicted_json(&x->plan.predicted));
    return json_text(object, json);
}
