/*
 * The whole job: profile, plan, hybrid epoch that fills the cache, redistribution, cached epochs, evaluation, save.
 *
 * Each phase owns its memory and gives it back before the next: the stage with its slice of the backbone exists in the hybrid
 * phase (and, freshly loaded, in evaluation), the whole side network and the head in the cached phase.
 */
#include "trainer.h"
#include "output.h"
#include "plan_search.h"
#include "estimate.h"
#include "pac/clock.h"
#include "pac/file.h"
#include "pac/log.h"
#include "pac/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- profile and plan ---- */

/* Where there is something to choose: a device alone takes all layers. */
static bool needs_profile(const pac_job *job, const pac_train_opts *o)
{
    return o->plan_path == NULL && job->cfg.system.ngroups == 0 && pac_world_size() > 1;
}

static pac_err read_profile(run *r, const char *path)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_profile_read(path, &r->profile));
    PAC_CHECK(r->profile.devices == pac_world_size(), PAC_ECONFIG,
              "%s: the profile is of %lld ranks, mpirun started %lld: profile again", path, (long long)r->profile.devices,
              (long long)pac_world_size());
    return PAC_OK;
}

static pac_err obtain_profile(run *r, const pac_train_opts *o)
{
    if (o->profile_path != NULL)
        return pac_agree(pac_world(), read_profile(r, o->profile_path));
    double start = pac_now();
    pac_set_phase("profile", 0);
    PAC_TRY(pac_job_profile(r->t.job, &r->profile));
    r->seconds_profile = pac_now() - start;
    return PAC_OK;
}

/* A plan from a file is forecast too where there is a profile (rank 0 reports it). */
static pac_err predict_given(run *r, const pac_train_opts *o)
{
    if (o->plan_path == NULL || !r->has_profile || pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(profile_fit(r->t.job, &r->profile));
    pac_plan_request q = plan_request(r->t.job, &r->profile);
    return plan_predict(r->t.job, &q, &r->planned);
}

/* The run goes on among the ranks that the plan uses. */
static pac_err take_part(run *r)
{
    int64_t out = r->planned.left_out;
    PAC_TRY(pac_agree(pac_world(), pac_plan_compact(&r->planned, &r->plan)));
    r->t.plan = &r->plan;
    if (out == 0)
        return PAC_OK;
    pac_log(PAC_LOG_INFO, "the plan leaves out %lld of %lld ranks", (long long)out, (long long)r->planned.world);
    r->left = !plan_uses(&r->planned, pac_world_rank());
    return pac_world_leave(r->left);
}

/* The planner may find that reading a cache takes longer than running the backbone, or that the disks are too small. */
static void decide_cache(run *r)
{
    pac_config *c = &r->t.job->cfg;
    if (r->planned.cached || r->cache_reused || c->cache.keep || !train_uses_cache(c))
        return;
    pac_log(PAC_LOG_INFO, "no cache: by the plan every epoch runs the backbone");
    c->cache.on = false;
}

static pac_err obtain_plan(run *r, const pac_train_opts *o)
{
    pac_job *job = r->t.job;
    PAC_CHECK(o->plan_path == NULL || job->cfg.system.ngroups == 0, PAC_EUSAGE,
              "--plan %s and system.groups both say how the ranks are grouped: give one of them", o->plan_path);
    PAC_TRY(system_check(job, pac_world_size())); /* before anything is measured */
    r->has_profile = o->profile_path != NULL || needs_profile(job, o);
    if (r->has_profile)
        PAC_TRY(obtain_profile(r, o));
    pac_set_phase("plan", 0);
    if (o->plan_path != NULL)
        PAC_TRY(plan_load(job, o->plan_path, &r->planned));
    else
        PAC_TRY(pac_job_plan(job, r->has_profile ? &r->profile : NULL, &r->planned, NULL));
    pac_err err = system_check_plan(job, &r->planned);
    if (err != PAC_OK)
        return o->plan_path != NULL ? pac_fail_context(err, "%s", o->plan_path) : err;
    PAC_CHECK(plan_uses(&r->planned, 0), PAC_ECONFIG,
              "the best plan leaves out rank 0, which reads the data and writes the results: start a faster device first "
              "(mpirun's list of hosts), or profile these devices");
    PAC_TRY(pac_agree(pac_world(), predict_given(r, o)));
    return take_part(r);
}

/* Before any work is done: does it fit? */
static pac_err check_plan(run *r, const pac_train_opts *o)
{
    const pac_job *job = r->t.job;
    PAC_TRY(pac_layout_new(&r->plan, &r->t.layout));
    bool planned = o->plan_path == NULL && job->cfg.system.ngroups == 0; /* then it fits */
    return pac_agree(pac_world(), planned ? PAC_OK : dry_check(job, &r->plan, r->t.layout.stage, r->t.layout.member));
}

/* ---- phases ---- */

static void new_order(train *t, int64_t epoch)
{
    pac_rng_permutation(t->job->cfg.train.seed, (uint64_t)epoch, t->job->train.rows, t->order);
}

bool train_uses_cache(const pac_config *c)
{
    return c->cache.on && !pac_technique_through(c->technique.kind) && (c->train.epochs > 1 || c->cache.keep);
}

static pac_cache_id identity_of(const train *t)
{
    uint64_t shape = pac_rng_u64((uint64_t)t->map.shape.parts, (uint64_t)t->map.shape.D, (uint64_t)t->map.shape.dtype);
    if (t->job->desc.dtype != PAC_F32) /* other activations */
        shape = pac_rng_u64(shape, (uint64_t)t->job->desc.dtype, 0);
    for (int64_t p = 0; p < t->map.shape.parts; p++)
        shape = pac_rng_u64(shape, t->map.shape.stack[p], (uint64_t)p);
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++)
        for (int64_t i = 0; i <= t->job->desc.layers[stack]; i++)
            shape = pac_rng_u64(shape, (uint64_t)i, (uint64_t)t->map.part[stack][i]);
    return (pac_cache_id){.model = t->job->model_id, .data = t->job->train.identity, .layout = shape};
}

/* What learns on this rank: all of it in the cached phase, its stage's part before. */
static const pac_params *run_values(const run *r)
{
    return pac_tuned_params(r->t.whole != NULL ? r->t.whole : hybrid_stage(r->h)->tuned);
}

/* Remember the values of this moment as the best. */
static pac_err keep_values(run *r)
{
    const pac_params *p = run_values(r);
    void *v = r->best;
    if (v == NULL)
        PAC_TRY(pac_mem_array(PAC_MEM_TUNED, p->total, sizeof(float), &v));
    r->best = v;
    return pac_download(p->space, r->best, p->w, p->total);
}

/* Before the cached phase every rank gets the whole network and optimizer; the stage and its backbone are freed. */
static pac_err leave_hybrid(run *r)
{
    train *t = &r->t;
    pac_params *mine = pac_tuned_params(hybrid_stage(r->h)->tuned);
    pac_optimizer *old = t->opt, *opt = NULL;
    pac_tuned *whole = NULL;
    pac_err err;
    PAC_GO(whole_new(t->job, &whole));
    PAC_GO(pac_agree(pac_world(),
                     pac_optimizer_new(&t->job->cfg.train.optimizer, t->job->be->space, pac_tuned_params(whole)->total, &opt)));
    PAC_GO(gather_whole(t->job, &r->plan, mine, old, whole, opt));
    t->opt = opt;
    opt = NULL;
    pac_optimizer_free(&old);
    t->whole = whole;
    whole = NULL;
    hybrid_free(&r->h);
    if (r->best != NULL) { /* of the one epoch that was: these values */
        pac_mem_free(r->best);
        r->best = NULL;
        err = pac_agree(pac_world(), keep_values(r));
    }
out:
    pac_optimizer_free(&opt);
    pac_tuned_free(&whole);
    return err;
}

static pac_err redistribute(run *r)
{
    train *t = &r->t;
    const pac_config *c = &t->job->cfg;
    int32_t *owner = NULL;
    void *p;
    double start = pac_now();
    pac_err err = pac_mem_array(PAC_MEM_CACHE, t->job->train.rows, sizeof(int32_t), &p);
    if (err == PAC_OK) {
        owner = p;
        err = cached_owners(t->plan, t->job->train.rows, owner);
    }
    PAC_GO(pac_agree(pac_world(), err));
    pac_set_phase("redistribution", 0);
    PAC_GO(pac_cache_finish(t->cache));
    PAC_GO(pac_cache_redistribute(t->cache, c->cache.redistribute, owner, PAC_REDISTRIBUTE_BLOCK, &r->moved));
    r->moved.seconds = pac_now() - start;
out:
    pac_mem_free(owner);
    return err;
}

/* train.eval_every: epoch. The last epoch is evaluated at the end of the run anyway, unless the best one is wanted. */
static bool evaluates_after(const run *r, int64_t epoch)
{
    const pac_job *job = r->t.job;
    bool more = epoch + 1 < job->cfg.train.epochs && !train_done(&r->t);
    return job->cfg.train.eval_each_epoch && job->eval.rows > 0 && (more || job->cfg.train.keep_best);
}

static pac_err evaluate_values(const run *r, evaluation *e)
{
    stage *own = r->h != NULL ? hybrid_stage(r->h) : NULL;
    return evaluate(r->t.job, &r->plan, own, own == NULL ? run_values(r) : NULL, e);
}

/* Mean of the task's metrics; without any, less loss is better. No number is the worst. */
static double score_of(const pac_metrics *m)
{
    double sum = 0, n = 0, loss = 0;
    for (int64_t i = 0; i < m->count; i++) {
        bool is_loss = strcmp(m->v[i].name, "loss") == 0;
        sum += is_loss ? 0 : m->v[i].value;
        n += !is_loss;
        loss = is_loss ? m->v[i].value : loss;
    }
    double score = n > 0 ? sum / n : -loss;
    return isnan(score) ? -INFINITY : score;
}

static pac_err evaluate_epoch(run *r, int64_t epoch)
{
    evaluation e;
    char when[48];
    run_phase phase = (run_phase)r->phase;
    run_begin_phase(r, PHASE_EVAL);
    PAC_TRY(evaluate_values(r, &e));
    run_see_pss(r, PHASE_EVAL, e.pss);
    run_begin_phase(r, phase);
    snprintf(when, sizeof when, "after epoch %lld", (long long)epoch + 1);
    run_report_metrics(when, &e);
    run_record_metrics(r, epoch + 1, r->t.job->cfg.task.split_paper ? "validation" : "eval", &e);
    double score = score_of(&e.metrics);
    if (!r->t.job->cfg.train.keep_best || (r->best_epoch > 0 && score <= r->best_score))
        return PAC_OK;
    r->best_score = score;
    r->best_epoch = epoch + 1;
    return pac_agree(pac_world(), keep_values(r));
}

static pac_err hybrid_phase(run *r, int64_t *epoch)
{
    train *t = &r->t;
    run_begin_phase(r, PHASE_HYBRID);
    PAC_TRY(hybrid_new(t, &r->h));
    int64_t epochs = t->cache != NULL ? 1 : t->job->cfg.train.epochs;
    if (r->cache_reused)
        epochs = 0;
    for (; *epoch < epochs && !train_done(t); (*epoch)++) {
        epoch_result e;
        new_order(t, *epoch);
        PAC_TRY(hybrid_epoch(r->h, *epoch + 1, &e));
        run_report_epoch(r, &e, *epoch + 1);
        if (evaluates_after(r, *epoch))
            PAC_TRY(evaluate_epoch(r, *epoch));
    }
    hybrid_rest(r->h);
    return PAC_OK;
}

static pac_err cached_phase(run *r, int64_t *epoch)
{
    train *t = &r->t;
    cached *c = NULL;
    pac_err err;
    run_begin_phase(r, PHASE_CACHED);
    PAC_GO(cached_new(t, &c));
    for (; *epoch < t->job->cfg.train.epochs && !train_done(t); (*epoch)++) {
        epoch_result e;
        new_order(t, *epoch);
        PAC_GO(cached_epoch(c, *epoch + 1, &e));
        run_report_epoch(r, &e, *epoch + 1);
        PAC_GO(record_flush(t->rec));
        if (evaluates_after(r, *epoch))
            PAC_GO(evaluate_epoch(r, *epoch));
    }
out:
    cached_free(&c);
    return err;
}

/*
 * A valid cache that lies in cache.dir is reused, and left there. A stale one is an error with cache.keep, which promises to
 * lose nothing; else it makes room for this run's. A cache is of the ranks that take part, so those look for it that do.
 */
static pac_err reuse_cache(run *r)
{
    train *t = &r->t;
    const pac_config *c = &t->job->cfg;
    pac_cache_id id = identity_of(t);
    if (!train_uses_cache(&t->job->cfg))
        return PAC_OK;
    pac_err err = pac_cache_open(c->cache.dir, &t->map.shape, &id, &r->cache_reused, &t->cache);
    if (err == PAC_EDATA && !c->cache.keep) {
        pac_log(PAC_LOG_WARN, "%s: what lies there is replaced", pac_err_message());
        r->cache_reused = false;
        return PAC_OK;
    }
    if (err == PAC_OK && r->cache_reused)
        pac_log(PAC_LOG_INFO, "the cache in %s is reused: no hybrid epoch", c->cache.dir);
    return err;
}

static pac_err create_cache(run *r)
{
    train *t = &r->t;
    const pac_config *c = &t->job->cfg;
    pac_cache_id id = identity_of(t);
    if (!train_uses_cache(&t->job->cfg) || r->cache_reused)
        return PAC_OK;
    PAC_TRY(pac_cache_check_space(c->cache.dir, &t->map.shape, &t->layout, c->cache.redistribute));
    return pac_cache_create(c->cache.dir, &t->map.shape, &id, &t->cache);
}

/* *epochs: how many were done, also in part. */
static pac_err train_phases(run *r, int64_t *epochs)
{
    train *t = &r->t;
    const pac_config *c = &t->job->cfg;
    PAC_TRY(hybrid_phase(r, epochs));
    PAC_TRY(record_flush(t->rec));
    bool more = t->cache != NULL && *epochs < c->train.epochs && !train_done(t);
    bool full = r->cache_reused || t->step >= train_batches(t); /* --steps may end the run in epoch 1 */
    bool kept = c->cache.keep && full;
    if (t->cache != NULL && !r->cache_reused && (more || kept)) /* only a redistributed cache is of use to a later run */
        PAC_TRY(redistribute(r));
    if (more) {
        PAC_TRY(leave_hybrid(r));
        PAC_TRY(cached_phase(r, epochs));
    }
    r->cache_bytes = t->cache != NULL && full ? pac_cache_bytes(&t->map.shape) : 0;
    if (t->cache != NULL)
        r->cache_times = pac_cache_spent(t->cache);
    return pac_cache_close(&t->cache, kept || r->cache_reused);
}

static void finish_evaluation(run *r, evaluation *out, const char *when, int64_t epoch)
{
    run_see_pss(r, PHASE_EVAL, out->pss);
    run_end_phase(r);
    run_report_metrics(when, out);
    run_record_metrics(r, epoch, r->t.job->cfg.task.split_paper ? "test" : "eval", out);
}

/* Of the rows that the last evaluation is of, so that the two tell what tuning did. */
static pac_err evaluate_before(run *r)
{
    pac_job *job = r->t.job;
    if (job->eval.rows == 0)
        return PAC_OK;
    run_begin_phase(r, PHASE_EVAL);
    pac_job_use_test(job);
    pac_err err = evaluate(job, &r->plan, NULL, NULL, &r->before);
    pac_job_use_test(job); /* back to the validation rows */
    PAC_TRY(err);
    finish_evaluation(r, &r->before, "before tuning", 0);
    return PAC_OK;
}

static pac_err evaluate_after(run *r, int64_t epochs)
{
    if (r->t.job->eval.rows == 0)
        return PAC_OK;
    pac_job_use_test(r->t.job);
    run_begin_phase(r, PHASE_EVAL);
    PAC_TRY(evaluate_values(r, &r->after));
    finish_evaluation(r, &r->after, "after tuning", epochs);
    return PAC_OK;
}

/* What the run gives: the values of the best epoch where they were kept, else the last. */
static pac_err save(run *r)
{
    const pac_params *p = run_values(r);
    char dir[PAC_PATH + 16];
    if (r->best != NULL)
        PAC_TRY(pac_agree(pac_world(), pac_upload(p->space, p->w, r->best, p->total)));
    snprintf(dir, sizeof dir, "%s/adapters", r->t.job->cfg.output);
    return adapters_save(r->t.job, r->t.whole != NULL ? NULL : &r->plan, p, dir);
}

/* ---- the run ---- */

static pac_err prepare_local(run *r, const pac_train_opts *o)
{
    train *t = &r->t;
    const pac_config *c = &t->job->cfg;
    void *p;
    PAC_TRY(cache_map_new(t->job, &t->map));
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, t->job->train.rows, sizeof(int64_t), &p));
    t->order = p;
    t->total_steps = train_batches(t) * c->train.epochs;
    t->stop_after = o->steps;
    t->warmup = (int64_t)(c->train.warmup < 1 ? c->train.warmup * (double)t->total_steps : c->train.warmup);
    return pac_world_rank() == 0 ? output_check(c) : PAC_OK;
}

static pac_err begin_output(const run *r, const pac_train_opts *o)
{
    bool measured = r->has_profile && o->profile_path == NULL;
    return pac_world_rank() == 0 ? output_begin(&r->t.job->cfg, &r->planned, measured ? &r->profile : NULL) : PAC_OK;
}

static pac_err run_all(run *r, const pac_train_opts *o)
{
    pac_job *job = r->t.job;
    PAC_TRY(pac_agree(pac_world(), prepare_local(r, o)));
    PAC_TRY(obtain_plan(r, o));
    if (r->left)
        return PAC_OK;
    PAC_TRY(reuse_cache(r));
    decide_cache(r);
    PAC_TRY(check_plan(r, o));
    PAC_TRY(create_cache(r));
    PAC_TRY(pac_agree(pac_world(), begin_output(r, o)));
    PAC_TRY(record_open(job->cfg.output, &r->t.rec));
    run_report_plan(r);
    PAC_TRY(evaluate_before(r));
    int64_t epochs = 0;
    PAC_TRY(train_phases(r, &epochs));
    run_end_phase(r);
    PAC_TRY(save(r));
    pac_optimizer_free(&r->t.opt);
    PAC_TRY(evaluate_after(r, epochs));
    PAC_TRY(run_gather_memory(r));
    return record_flush(r->t.rec);
}

static void run_free(run *r, pac_err err)
{
    train *t = &r->t;
    pac_cache_abandon(&t->cache);
    if (may_free(err))
        hybrid_free(&r->h);
    pac_mem_free(r->best);
    pac_tuned_free(&t->whole);
    pac_optimizer_free(&t->opt);
    cache_map_free(&t->map);
    pac_mem_free(t->order);
    record_close(&t->rec);
    pac_layout_free(&t->layout);
    pac_plan_free(&r->plan);
    pac_plan_free(&r->planned);
    if (r->has_profile)
        pac_profile_free(&r->profile);
    pac_mem_free(r->memory_all);
    json_decref(r->epochs);
    pac_mem_free(r);
}

pac_err pac_job_train(pac_job *job, const pac_train_opts *o, char **json)
{
    void *p;
    PAC_TRY(pac_agree(pac_world(), pac_mem_alloc(PAC_MEM_OTHER, sizeof(run), &p)));
    run *r = p;
    r->t.job = job;
    r->phase = -1;
    r->epochs = json_array();
    pac_err err = run_all(r, o);
    if (err == PAC_OK)
        err = pac_agree(pac_world(), run_result(r, json));
    if (err == PAC_OK)
        err = pac_agree(pac_world(), output_result(&job->cfg, *json));
    run_free(r, err);
    return err;
}
