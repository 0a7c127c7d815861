/* What is reported of a run: log lines while it goes, memory per phase and rank, and the JSON object at its end. */
#include "trainer.h"
#include "plan_search.h"
#include "pac/bytes.h"
#include "pac/device.h"
#include "pac/log.h"
#include "pac/version.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const phase_names[PHASE_COUNT] = {"hybrid", "cached", "eval"};

/* ---- memory per phase ---- */

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void run_see_pss(run *r, run_phase phase, int64_t pss)
{
    r->memory[phase].pss = larger(r->memory[phase].pss, pss);
}

void run_end_phase(run *r)
{
    if (r->phase < 0)
        return;
    phase_memory *m = &r->memory[r->phase];
    pac_process_memory now;
    pac_process_memory_read(&now);
    m->seen = 1;
    m->peak_rss = larger(m->peak_rss, now.peak_rss);
    m->ledger = larger(m->ledger, pac_mem_peak_total());
    m->device = larger(m->device, pac_mem_peak_space());
    m->budget = r->t.job->cfg.system.memory_auto ? 0 : (int64_t)r->t.job->budget;
    run_see_pss(r, (run_phase)r->phase, now.pss);
    for (int tag = 0; tag < PAC_MEM_NTAGS; tag++)
        m->tag[tag] = larger(m->tag[tag], pac_mem_peak(tag));
    record_line(r->t.rec,
                json_pack("{s:s, s:s, s:I, s:I, s:I}", "event", "memory", "phase", phase_names[r->phase], "peak_rss",
                          (json_int_t)now.peak_rss, "rss", (json_int_t)now.rss, "ledger", (json_int_t)pac_mem_peak_total()));
    r->phase = -1;
}

void run_begin_phase(run *r, run_phase phase)
{
    run_end_phase(r);
    r->phase = (int)phase;
    pac_mem_reset_peaks();
    pac_process_reset_peak();
}

/* A budget is of the memory that runs out first: a device's own where it has one. */
static int64_t charged(const phase_memory *m)
{
    return m->device > 0 && !pac_device_integrated() ? m->device : m->ledger;
}

/* The planner's test leaves out scratch and buffers: say where a rank went above its budget. */
static void warn_over_budget(const run *r)
{
    for (int64_t rank = 0; rank < pac_world_size(); rank++)
        for (int phase = 0; phase < PHASE_COUNT; phase++) {
            const phase_memory *m = &r->memory_all[rank * PHASE_COUNT + phase];
            if (m->seen && m->budget > 0 && charged(m) > m->budget)
                pac_log(PAC_LOG_WARN, "rank %lld used %.1f MiB in the %s phase, above its budget of %.1f MiB (system.memory)",
                        (long long)pac_world_started_as(rank), (double)charged(m) / 1048576, phase_names[phase],
                        (double)m->budget / 1048576);
        }
}

pac_err run_gather_memory(run *r)
{
    size_t counts[PAC_MAX_DEVICES];
    void *p;
    PAC_TRY(pac_agree(pac_world(), pac_mem_array(PAC_MEM_OTHER, pac_world_size(), sizeof r->memory, &p)));
    r->memory_all = p;
    for (int64_t i = 0; i < pac_world_size(); i++)
        counts[i] = sizeof r->memory;
    PAC_TRY(pac_allgatherv(pac_world(), r->memory, sizeof r->memory, r->memory_all, counts));
    warn_over_budget(r);
    return PAC_OK;
}

/* ---- log lines ---- */

static void append(char *line, size_t bytes, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void append(char *line, size_t bytes, const char *fmt, ...)
{
    size_t used = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + used, bytes - used, fmt, args);
    va_end(args);
}

/* "predicted 6.4 MiB each", or in the order of the ranks where they differ. */
static void append_bytes(const pac_stage_plan *st, char *line, size_t bytes)
{
    bool same = true;
    for (int64_t i = 1; i < st->ranks; i++)
        same = same && fabs(st->bytes[i] - st->bytes[0]) < 0.05 * 1048576;
    if (!(st->bytes[0] > 0))
        return;
    for (int64_t i = 0; i < (same ? 1 : st->ranks); i++)
        append(line, bytes, "%s%.1f", i == 0 ? ", predicted " : ", ", st->bytes[i] / 1048576);
    append(line, bytes, same && st->ranks > 1 ? " MiB each" : " MiB");
}

void run_report_plan(const run *r)
{
    const pac_plan *plan = &r->planned;
    char shape[64];
    pac_plan_shape(plan, shape, sizeof shape);
    pac_log(PAC_LOG_INFO, "plan %s (%s): %lld stage%s, %lld micro-batch%s", shape, plan->planner, (long long)plan->stages,
            PAC_PLURAL(plan->stages, "s"), (long long)plan->microbatches, PAC_PLURAL(plan->microbatches, "es"));
    for (int64_t s = 0; s < plan->stages; s++) {
        const pac_stage_plan *st = &plan->stage[s];
        char line[1024] = "";
        append(line, sizeof line, "  stage %lld: layers %lld-%lld, ranks", (long long)s, (long long)st->first,
               (long long)st->last - 1);
        for (int64_t i = 0; i < st->ranks; i++)
            append(line, sizeof line, " %lld (%.0f %%)", (long long)st->rank[i], 100 * st->share[i]);
        append_bytes(st, line, sizeof line);
        pac_log(PAC_LOG_INFO, "%s", line);
    }
}

void run_report_metrics(const char *when, const evaluation *e)
{
    char line[256] = "";
    for (int64_t i = 0; i < e->metrics.count; i++)
        append(line, sizeof line, " %s %.4f", e->metrics.v[i].name, e->metrics.v[i].value);
    if (e->metrics.count > 0)
        pac_log(PAC_LOG_INFO, "%s:%s (%.1f s)", when, line, e->seconds);
}

void run_report_epoch(run *r, const epoch_result *e, int64_t epoch)
{
    pac_process_memory now;
    pac_process_memory_read(&now);
    run_see_pss(r, (run_phase)r->phase, now.pss); /* while the phase still has all that it needs */
    json_t *object = json_pack("{s:s, s:f, s:I, s:I, s:f}", "phase", e->phase, "seconds", e->seconds, "samples",
                               (json_int_t)e->samples, "tokens", (json_int_t)e->tokens, "loss", e->loss);
    pac_log(PAC_LOG_INFO, "epoch %lld (%s): loss %.4f, %.2f s, %.0f samples/s", (long long)epoch, e->phase, e->loss, e->seconds,
            e->seconds > 0 ? (double)e->samples / e->seconds : 0);
    if (pac_world_rank() != 0 || object == NULL) {
        json_decref(object);
        return;
    }
    json_array_append(r->epochs, object);
    json_object_set_new(object, "event", json_string("epoch"));
    json_object_set_new(object, "epoch", json_integer(epoch));
    record_line(r->t.rec, json_copy(object));
    json_object_del(object, "event");
    json_decref(object);
}

/* ---- the result ---- */

json_t *real_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *metrics_json(const pac_metrics *m)
{
    json_t *object = json_object();
    for (int64_t i = 0; i < m->count; i++)
        json_object_set_new(object, m->v[i].name, real_json(m->v[i].value));
    return object;
}

void run_record_metrics(const run *r, int64_t epoch, const char *rows, const evaluation *e)
{
    if (pac_world_rank() == 0)
        record_line(r->t.rec, json_pack("{s:s, s:I, s:s, s:o}", "event", "eval", "epoch", (json_int_t)epoch, "rows", rows,
                                        "metrics", metrics_json(&e->metrics)));
}

static json_t *numbers_json(const double *x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(x[i]));
    return list;
}

static json_t *left_out_json(const pac_plan *plan)
{
    json_t *list = json_array();
    for (int64_t rank = 0; rank < plan->world; rank++)
        if (!plan_uses(plan, rank))
            json_array_append_new(list, json_integer(rank));
    return list;
}

static json_t *plan_json(const pac_plan *plan)
{
    json_t *stages = json_array();
    for (int64_t s = 0; s < plan->stages; s++) {
        const pac_stage_plan *st = &plan->stage[s];
        json_t *ranks = json_array(), *shares = json_array();
        for (int64_t i = 0; i < st->ranks; i++) {
            json_array_append_new(ranks, json_integer(st->rank[i]));
            json_array_append_new(shares, json_real(st->share[i]));
        }
        json_array_append_new(stages, json_pack("{s:[I,I], s:o, s:o}", "layers", (json_int_t)st->first, (json_int_t)st->last,
                                                "ranks", ranks, "shares", shares));
    }
    json_t *p = json_pack("{s:o, s:I, s:b, s:s}", "stages", stages, "microbatches", (json_int_t)plan->microbatches, "cached",
                          plan->cached, "planner", plan->planner);
    if (plan->cached_share != NULL)
        json_object_set_new(p, "cached_shares", numbers_json(plan->cached_share, plan->world));
    if (plan->left_out > 0)
        json_object_set_new(p, "left_out", left_out_json(plan));
    return p;
}

/* Empty where nothing was predicted: groups were given and there is no profile. */
static json_t *predicted_json(const pac_predicted *p)
{
    if (p->total_s <= 0)
        return json_object();
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "hybrid_step_s", real_json(p->hybrid_step_s), "hybrid_epoch_s",
                     real_json(p->hybrid_epoch_s), "redistribute_s", real_json(p->redistribute_s), "cached_epoch_s",
                     real_json(p->cached_epoch_s), "total_s", real_json(p->total_s));
}

static json_t *memory_json(const run *r)
{
    json_t *list = json_array();
    for (int64_t rank = 0; rank < pac_world_size(); rank++)
        for (int phase = 0; phase < PHASE_COUNT; phase++) {
            const phase_memory *m = &r->memory_all[rank * PHASE_COUNT + phase];
            if (!m->seen)
                continue;
            json_t *tags = json_object();
            for (int tag = 0; tag < PAC_MEM_NTAGS; tag++)
                json_object_set_new(tags, pac_mem_tag_name(tag), json_integer(m->tag[tag]));
            json_array_append_new(list,
                                  json_pack("{s:I, s:s, s:I, s:I, s:I, s:o}", "rank", (json_int_t)pac_world_started_as(rank),
                                            "phase", phase_names[phase], "peak_rss", (json_int_t)m->peak_rss, "pss",
                                            (json_int_t)m->pss, "device", (json_int_t)m->device, "tags", tags));
        }
    return list;
}

static json_t *cache_json(const run *r)
{
    const pac_cache_times *t = &r->cache_times;
    int64_t rows = r->t.job->train.rows;
    return json_pack("{s:I, s:f, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:b}", "bytes", (json_int_t)r->cache_bytes,
                     "bytes_per_sample", rows > 0 ? (double)r->cache_bytes / (double)rows : 0, "dtype",
                     pac_dtype_name(r->t.map.shape.dtype), "seconds_write", t->write, "seconds_write_waited", t->write_waited,
                     "seconds_read", t->read, "seconds_read_waited", t->read_waited, "seconds_redistribute", r->moved.seconds,
                     "bytes_moved", (json_int_t)r->moved.bytes_sent, "reused", r->cache_reused);
}

/* Of rank 0: what its sums took, and what of it and of messages it had to wait for. */
static json_t *communication_json(void)
{
    pac_comm_seconds t = pac_comm_spent();
    return json_pack("{s:f, s:f, s:f}", "seconds_messages_waited", t.messages, "seconds_sums", t.sums, "seconds_sums_waited",
                     t.sums_waited);
}

pac_err json_text(json_t *object, char **out)
{
    PAC_CHECK(object != NULL, PAC_EINTERNAL, "cannot build the JSON result");
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    PAC_CHECK(text != NULL, PAC_ENOMEM, "no memory for the JSON result");
    pac_err err = pac_mem_strdup(text, out);
    free(text);
    return err;
}

pac_err run_result(const run *r, char **json)
{
    *json = NULL;
    if (pac_world_rank() != 0)
        return PAC_OK;
    const char *status = train_done(&r->t) && r->t.step < r->t.total_steps ? "stopped" : "done";
    const pac_config *c = &r->t.job->cfg;
    json_t *object = json_pack(
        "{s:s, s:O, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:f}", "status", status, "epochs", r->epochs, "eval",
        metrics_json(&r->after.metrics), "eval_before", metrics_json(&r->before.metrics), "plan", plan_json(&r->planned),
        "predicted", predicted_json(&r->planned.predicted), "memory", memory_json(r), "cache", cache_json(r), "communication",
        communication_json(), "device", r->t.job->be->name, "version", PAC_VERSION, "seconds_profile", r->seconds_profile);
    json_t *what = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "technique", pac_technique_name(c->technique.kind), "system",
                             pac_config_word("system.name", (int)c->system.kind), "model", c->model.path, "task", c->task.name,
                             "seed", (json_int_t)c->train.seed, "best_epoch", (json_int_t)r->best_epoch);
    if (object != NULL)
        json_object_update(object, what);
    json_decref(what);
    return json_text(object, json);
}
