/*
 * From a profile to a plan that every rank holds. Rank 0 decides (floating point may differ between machines), the others
 * receive.
 */
#include "planning.h"
#include "plan_search.h"
#include "profile_match.h"
#include "train.h"
#include "pac/bytes.h"
#include "pac/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct flat_plan { /* what is sent: a header, then stage sizes, then ranks, shares and bytes in stage order */
    int64_t world, layers, microbatches, stages, left_out;
    bool cached, shares;
    pac_predicted predicted;
    char planner[16];
} flat_plan;

static pac_err receive_stage(pac_stage_plan *s)
{
    bool root = pac_world_rank() == 0;
    int64_t head[3] = {s->first, s->last, s->ranks};
    PAC_TRY(pac_bcast(pac_world(), head, sizeof head, 0));
    *s = (pac_stage_plan){head[0], head[1], head[2], s->rank, s->share, s->bytes};
    PAC_TRY(pac_agree(pac_world(), root ? PAC_OK : pac_stage_alloc(s->ranks, s)));
    size_t n = (size_t)s->ranks;
    PAC_TRY(pac_bcast(pac_world(), s->rank, n * sizeof *s->rank, 0));
    PAC_TRY(pac_bcast(pac_world(), s->share, n * sizeof *s->share, 0));
    return pac_bcast(pac_world(), s->bytes, n * sizeof *s->bytes, 0);
}

/* What the header says, with room for the rest. */
static pac_err empty_plan(const flat_plan *f, pac_plan *plan)
{
    PAC_TRY(pac_plan_alloc(f->stages, plan));
    plan->world = f->world;
    plan->layers = f->layers;
    plan->microbatches = f->microbatches;
    plan->left_out = f->left_out;
    plan->cached = f->cached;
    plan->predicted = f->predicted;
    memcpy(plan->planner, f->planner, sizeof f->planner);
    if (!f->shares)
        return PAC_OK;
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, f->world, sizeof(double), &p));
    plan->cached_share = p;
    return PAC_OK;
}

pac_err plan_share(pac_plan *plan)
{
    flat_plan f = {plan->world,
                   plan->layers,
                   plan->microbatches,
                   plan->stages,
                   plan->left_out,
                   plan->cached,
                   plan->cached_share != NULL,
                   plan->predicted,
                   {0}};
    memcpy(f.planner, plan->planner, sizeof f.planner);
    PAC_TRY(pac_bcast(pac_world(), &f, sizeof f, 0));
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() != 0 ? empty_plan(&f, plan) : PAC_OK));
    if (f.shares)
        PAC_TRY(pac_bcast(pac_world(), plan->cached_share, (size_t)f.world * sizeof(double), 0));
    for (int64_t s = 0; s < plan->stages; s++)
        PAC_TRY(receive_stage(&plan->stage[s]));
    return PAC_OK;
}

/* ---- making the plan ---- */

static int64_t group_ranks(const pac_config *c)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->system.ngroups; i++)
        n += c->system.groups[i];
    return n;
}

/* Without a profile nothing says which number of micro-batches is best: two a stage keep a pipeline of equal stages 2/3 busy.
 */
static pac_err given_groups(const pac_job *job, int64_t devices, pac_plan *out)
{
    const pac_config *c = &job->cfg;
    int64_t L = pac_depth(&job->desc), ranks = group_ranks(c);
    int64_t M = c->train.microbatches > 0 ? c->train.microbatches : 2 * c->system.ngroups;
    PAC_CHECK(ranks == devices, PAC_ECONFIG, "%s: system.groups needs %lld ranks, there are %lld", c->path, (long long)ranks,
              (long long)devices);
    PAC_CHECK(c->system.ngroups <= L, PAC_ECONFIG, "%s: system.groups has %lld stages, the model only %lld layers", c->path,
              (long long)c->system.ngroups, (long long)L);
    PAC_TRY(pac_plan_even(c->system.groups, c->system.ngroups, L, M < c->train.batch ? M : c->train.batch, out));
    out->cached = train_uses_cache(c);
    return PAC_OK;
}

/* Stages of a plan and ranks of a stage that a system has at most; 0: any number. */
static const struct {
    int64_t stages, ranks;
    const char *what;
} most[] = {[PAC_SYS_PAC] = {0, 0, "pac: groups of any shape"},
            [PAC_SYS_STANDALONE] = {1, 1, "standalone: one device"},
            [PAC_SYS_EDDL] = {1, 0, "eddl: one group, in which every device holds all layers"},
            [PAC_SYS_ECOFL] = {0, 1, "ecofl: a pipeline of one device a stage"}};

pac_err system_check_plan(const pac_job *job, const pac_plan *plan)
{
    const pac_config *c = &job->cfg;
    char shape[64];
    bool fits = most[c->system.kind].stages == 0 || plan->stages <= most[c->system.kind].stages;
    for (int64_t s = 0; s < plan->stages; s++)
        fits = fits && (most[c->system.kind].ranks == 0 || plan->stage[s].ranks <= most[c->system.kind].ranks);
    pac_plan_shape(plan, shape, sizeof shape);
    PAC_CHECK(fits, PAC_ECONFIG,
              "%s: system.name is %s; the given plan is %s (ranks by stage): take system.name: pac, or no --plan", c->path,
              most[c->system.kind].what, shape);
    bool all = c->system.kind == PAC_SYS_EDDL || c->system.kind == PAC_SYS_ECOFL;
    PAC_CHECK(!all || plan->left_out == 0, PAC_ECONFIG,
              "%s: system.name is %s and leaves nobody out; the given plan is %s (ranks by stage) and leaves out %lld of %lld "
              "devices: take system.name: pac, or no --plan",
              c->path, most[c->system.kind].what, shape, (long long)plan->left_out, (long long)plan->world);
    PAC_CHECK(
        plan->microbatches <= c->train.batch, PAC_ECONFIG,
        "microbatches: a batch of %lld samples (train.batch in %s) cannot be cut into %lld: give at most %lld there, or a "
        "larger train.batch",
        (long long)c->train.batch, c->path, (long long)plan->microbatches, (long long)c->train.batch);
    return PAC_OK;
}

/* As buckets_open() has it: sums of gradients that lie on a device follow the backward. */
static bool sums_overlap(const pac_job *job)
{
    return job->cfg.train.overlap && (job->be == NULL || job->be->space == NULL);
}

pac_plan_request plan_request(const pac_job *job, const pac_profile *profile)
{
    const pac_config *c = &job->cfg;
    return (pac_plan_request){.profile = profile,
                              .most_stages = most[c->system.kind].stages,
                              .most_ranks = most[c->system.kind].ranks,
                              .batch = c->train.batch,
                              .rows = job->train.rows,
                              .epochs = c->train.epochs,
                              .microbatches = c->train.microbatches,
                              .bucket = sums_overlap(job) ? (double)c->train.bucket : INFINITY,
                              .sharded = c->cache.redistribute == PAC_REDIST_SHARD,
                              .cached = train_uses_cache(c) && c->train.epochs > 1,
                              .every_device = c->system.kind == PAC_SYS_EDDL || c->system.kind == PAC_SYS_ECOFL,
                              .keep_first =
                                  profile != NULL && profile->derived[0] == '\0'}; /* others may still change places */
}

void profile_set_optimizer(const pac_job *job, pac_profile *p)
{
    bool adamw = job->cfg.train.optimizer.kind == PAC_ADAMW;
    snprintf(p->optimizer, sizeof p->optimizer, "%s", pac_config_word("train.optimizer", (int)job->cfg.train.optimizer.kind));
    p->optimizer_states = adamw ? 2 : 0;
}

static double cache_row(const pac_job *job, pac_dtype type)
{
    pac_cache_layout row = {.dtype = type, .D = job->desc.block[PAC_ENC].D};
    return (double)pac_cache_row_bytes(&row);
}

void profile_set_cache(const pac_job *job, pac_profile *p)
{
    double bytes = cache_row(job, job->cfg.cache.dtype);
    if (!(p->cache_row > 0))
        return;
    p->cached_step_bytes_read *= bytes / p->cache_row;
    p->cache_row = bytes;
}

/* It divides the bytes of the cache, so it must be that of a type. */
static pac_err cache_row_check(const pac_job *job, const pac_profile *p)
{
    const pac_dtype types[] = {PAC_F32, PAC_BF16, PAC_F16, PAC_I8};
    bool known = p->cache_row == 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        known = known || p->cache_row == cache_row(job, types[i]);
    PAC_CHECK(known, PAC_ECONFIG,
              "%s: cache_row: %g is no type's row of %lld values (f32 has %g bytes): profile again, or leave it out",
              p->path[0] != '\0' ? p->path : "the profile", p->cache_row, (long long)job->desc.block[PAC_ENC].D,
              cache_row(job, PAC_F32));
    return PAC_OK;
}

/* What the configuration says counts, so that "what if it had more" can be asked without another description. */
static void take_budget(const pac_profile *p, pac_device *d, double budget)
{
    char more[32], has[32];
    if (p->derived[0] != '\0' && budget > d->memory)
        pac_log(PAC_LOG_WARN, "system.memory: planned as if %s had %s; its description (%s) has %s", d->name,
                pac_mib_text(budget, more), p->derived, pac_mib_text(d->memory, has));
    d->memory = budget;
}

pac_err profile_fit(const pac_job *job, pac_profile *p)
{
    PAC_TRY(profile_matches(job, p));
    PAC_TRY(budgets_check(&job->cfg, p->devices));
    PAC_TRY(cache_row_check(job, p));
    profile_set_optimizer(job, p);
    profile_set_cache(job, p);
    for (int64_t d = 0; d < p->devices && !job->cfg.system.memory_auto; d++)
        take_budget(p, &p->device[d], budget_of(&job->cfg, d));
    return PAC_OK;
}

/* Systems are ways to make a plan; some have conditions on the devices. */
pac_err system_check(const pac_job *job, int64_t devices)
{
    const pac_config *c = &job->cfg;
    int64_t L = pac_depth(&job->desc);
    PAC_CHECK(c->system.kind != PAC_SYS_STANDALONE || devices == 1, PAC_ECONFIG,
              "%s: system.name: standalone is one device, there are %lld: start one rank (or describe one device), or use "
              "eddl, ecofl or pac",
              c->path, (long long)devices);
    PAC_CHECK(c->system.kind != PAC_SYS_ECOFL || devices <= L, PAC_ECONFIG,
              "%s: system.name: ecofl gives each device a stage, but there are %lld devices and only %lld layers", c->path,
              (long long)devices, (long long)L);
    return PAC_OK;
}

pac_err plan_of_groups(const pac_job *job, const pac_profile *p, const pac_plan_request *q, pac_plan *out)
{
    PAC_TRY(given_groups(job, p->devices, out));
    pac_err err = pac_plan_microbatches(p, q, out);
    if (err == PAC_OK)
        err = plan_predict(job, q, out);
    if (err != PAC_OK)
        pac_plan_free(out);
    return err;
}

static pac_err plan_at_root(const pac_job *job, pac_profile *profile, pac_plan *out, pac_plan_answer *answer)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    int64_t devices = profile != NULL ? profile->devices : pac_world_size();
    PAC_TRY(system_check(job, devices));
    PAC_TRY(profile != NULL ? profile_fit(job, profile) : budgets_check(&job->cfg, devices));
    pac_plan_request q = plan_request(job, profile);
    if (job->cfg.system.ngroups > 0)
        return profile == NULL ? given_groups(job, devices, out) : plan_of_groups(job, profile, &q, out);
    if (profile == NULL)
        return plan_alone(job, out);
    pac_plan_answer a;
    PAC_TRY(plan_search(job, profile, &q, &a));
    *out = a.plan;
    a.plan = (pac_plan){0}; /* moved */
    *answer = a;
    return PAC_OK;
}

pac_err pac_job_plan(pac_job *job, pac_profile *profile, pac_plan *out, pac_plan_answer *answer)
{
    pac_plan plan = {0};
    pac_plan_answer found = {0};
    pac_err err = pac_agree(pac_world(), plan_at_root(job, profile, &plan, &found));
    model_shape_text(&job->desc, plan.shape);
    if (err == PAC_OK)
        err = plan_share(&plan);
    if (err != PAC_OK)
        pac_plan_free(&plan);
    else
        *out = plan;
    if (err != PAC_OK || answer == NULL)
        pac_plan_answer_free(&found);
    else
        *answer = found;
    return err;
}

static pac_err read_at_root(const pac_job *job, const char *path, pac_plan *out)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_plan_read(path, out));
    pac_err err = plan_matches(job, path, out);
    if (err == PAC_OK && !plan_uses(out, 0))
        err =
            pac_fail(PAC_ECONFIG,
                     "%s: rank 0 reads the data and writes the results, so it cannot be left out: give its number to a device "
                     "that takes part, there and in mpirun's list of hosts",
                     path);
    if (err == PAC_OK && out->world != pac_world_size())
        err = pac_fail(PAC_ECONFIG, "%s: the plan is for %lld ranks, mpirun started %lld: use -np %lld or plan again", path,
                       (long long)out->world, (long long)pac_world_size(), (long long)out->world);
    if (err != PAC_OK)
        pac_plan_free(out);
    return err;
}

pac_err plan_load(const pac_job *job, const char *path, pac_plan *out)
{
    pac_plan plan = {0};
    PAC_TRY(pac_agree(pac_world(), read_at_root(job, path, &plan)));
    pac_err err = plan_share(&plan);
    if (err != PAC_OK)
        pac_plan_free(&plan);
    else
        *out = plan;
    return err;
}

pac_err plan_for_evaluation(const pac_job *job, pac_plan *out)
{
    int64_t L = pac_depth(&job->desc), n = pac_world_size();
    int64_t groups[PAC_MAX_DEVICES], stages = n < L ? n : L;
    for (int64_t s = 0; s < stages; s++) {
        pac_range r = pac_split_even(n, stages, s);
        groups[s] = r.hi - r.lo;
    }
    return pac_agree(pac_world(), pac_plan_even(groups, stages, L, stages, out));
}
