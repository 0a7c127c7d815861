/* An estimate as the JSON object of docs/formats.md. */
#include "estimate.h"
#include "trainer.h"
#include "pac/estimate.h"

static json_t *flop_json(const pac_flop *f)
{
    return json_pack("{s:f, s:f, s:{s:f, s:f}}", "forward", f->forward, "backward", f->backward, "head", "forward",
                     f->head_forward, "backward", f->head_backward);
}

static json_t *bytes_json(const pac_footprint *f)
{
    json_t *object = json_object();
    for (int tag = 0; tag < PAC_MEM_NTAGS; tag++)
        json_object_set_new(object, pac_mem_tag_name((pac_mem_tag)tag), json_integer(f->tag[tag]));
    json_object_set_new(object, "total", json_integer(f->total));
    if (f->device > 0)
        json_object_set_new(object, "device", json_integer(f->device));
    return object;
}

/* What is known of the budget; unknown: null. */
static void add_budget(json_t *object, double budget, double needs)
{
    json_object_set_new(object, "needs", json_integer((json_int_t)needs));
    json_object_set_new(object, "budget", budget > 0 ? json_real(budget) : json_null());
    json_object_set_new(object, "fits", budget > 0 ? json_boolean(needs <= budget) : json_null());
}

static int64_t peak_of(const pac_estimate *e, const pac_estimate_device *d)
{
    return d->phase.total > e->cached.total ? d->phase.total : e->cached.total;
}

static json_t *device_json(const pac_estimate *e, const pac_estimate_device *d)
{
    json_t *object =
        json_pack("{s:I, s:I, s:[I,I], s:f, s:o, s:o, s:o, s:I}", "rank", (json_int_t)d->rank, "stage", (json_int_t)d->stage,
                  "layers", (json_int_t)d->first, (json_int_t)d->last, "share", d->share, "flop", flop_json(&d->flop), "bytes",
                  bytes_json(&d->step), "phase", bytes_json(&d->phase), "peak", (json_int_t)peak_of(e, d));
    add_budget(object, d->budget, dry_needs(&d->phase, &e->cached, e->records));
    return object;
}

static json_t *devices_json(const pac_estimate *e)
{
    json_t *list = json_array();
    if (e->devices == 0)
        json_array_append_new(list, device_json(e, &e->one));
    for (int64_t i = 0; i < e->devices; i++)
        json_array_append_new(list, device_json(e, &e->device[i]));
    return list;
}

static json_t *lengths_json(const pac_estimate *e)
{
    return json_pack("{s:s, s:f, s:f, s:I, s:I}", "from", e->from_data ? "data" : "fixed", "source", e->source, "target",
                     e->target, "longest_source", (json_int_t)e->longest_source, "longest_target",
                     (json_int_t)e->longest_target);
}

pac_err pac_estimate_json(const pac_estimate *e, const pac_plan *plan, char **json)
{
    char shape[64] = "1";
    if (plan != NULL)
        pac_plan_shape(plan, shape, sizeof shape);
    json_t *object = json_pack("{s:{s:I, s:I, s:I}, s:o, s:o, s:o, s:s, s:I, s:o}", "parameters", "backbone",
                               (json_int_t)e->backbone, "tuned", (json_int_t)e->tuned, "head", (json_int_t)e->head, "lengths",
                               lengths_json(e), "flop", flop_json(&e->one.flop), "bytes", bytes_json(&e->one.step), "plan",
                               shape, "cache_bytes_per_sample", (json_int_t)e->cache_sample, "devices", devices_json(e));
    if (object != NULL && e->cached.total > 0)
        json_object_set_new(object, "cached",
                            json_pack("{s:o, s:o}", "flop", flop_json(&e->cached_flop), "bytes", bytes_json(&e->cached)));
    return json_text(object, json);
}
