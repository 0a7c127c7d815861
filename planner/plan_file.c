/*
 * plan.yaml: which layers run where, for people too. Everything that the runtime relies on is checked here, so a hand-edited
 * plan is either right or refused with its line.
 */
#include "file.h"

#include "pac/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 4096, MOST_MICROBATCHES = 1 << 20, GIVEN = 2 };

static const double SHARE_TOLERANCE = 0.02; /* 0.33, 0.33, 0.33 is meant as thirds; 0.5, 0.3 is a mistake */

static const char *const plan_keys[] = {"planner", "world",         "layers",    "microbatches", "stages", "left_out",
                                        "cached",  "cached_shares", "predicted", "model",        NULL};
static const char *const planners[] = {"pac", "paper", "given", NULL};
static const char *const stage_keys[] = {"layers", "ranks", "shares", "bytes", NULL};
static const char *const predicted_keys[] = {"hybrid_step_s",  "hybrid_epoch_s", "redistribute_s",
                                             "cached_epoch_s", "total_s",        NULL};

/* in[rank]: is it in a stage? */
static void find_members(const pac_plan *p, bool in[static PAC_MAX_DEVICES])
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(p, ranks);
    memset(in, 0, PAC_MAX_DEVICES * sizeof *in);
    for (int64_t i = 0; i < n; i++)
        in[ranks[i]] = true;
}

/* ---- reading ---- */

typedef struct reader {
    pac_plan *plan;
    int64_t next_layer;
    int64_t line_of[PAC_MAX_DEVICES]; /* where each rank was named, 0: not yet */
    char what[32];                    /* "stages[2]" */
} reader;

static pac_err read_layers(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    int64_t first, last;
    PAC_TRY(pac_want_list(n, "layers", 2, 2));
    PAC_TRY(pac_yaml_int(pac_yaml_item(n, 0), "layers", 0, r->plan->layers, &first));
    PAC_TRY(pac_yaml_int(pac_yaml_item(n, 1), "layers", 0, r->plan->layers, &last));
    if (first != r->next_layer)
        return pac_yaml_fail(n, "%s.layers starts at %lld, must be %lld: stages follow one another without gaps", r->what,
                             (long long)first, (long long)r->next_layer);
    if (last <= first)
        return pac_yaml_fail(n, "%s.layers [%lld, %lld] is empty: the end is not included", r->what, (long long)first,
                             (long long)last);
    st->first = first;
    st->last = r->next_layer = last;
    return PAC_OK;
}

/* A rank that was not named before; to may be NULL. */
static pac_err read_rank(reader *r, const pac_yaml_node *item, const char *what, int64_t *to)
{
    int64_t rank;
    PAC_TRY(pac_yaml_int(item, what, 0, r->plan->world - 1, &rank));
    if (r->line_of[rank] != 0)
        return pac_yaml_fail(item, "rank %lld is given twice, first in line %lld", (long long)rank,
                             (long long)r->line_of[rank]);
    r->line_of[rank] = pac_yaml_line(item);
    if (to != NULL)
        *to = rank;
    return PAC_OK;
}

static pac_err read_ranks(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    PAC_TRY(pac_want_list(n, "ranks", 0, r->plan->world));
    if (pac_yaml_count(n) == 0)
        return pac_yaml_fail(n, "%s has no ranks", r->what);
    PAC_TRY(pac_stage_alloc(pac_yaml_count(n), st));
    for (int64_t i = 0; i < st->ranks; i++) {
        const pac_yaml_node *item = pac_yaml_item(n, i);
        PAC_TRY(read_rank(r, item, "ranks", &st->rank[i]));
    }
    return PAC_OK;
}

/* Shares near 1 in sum are scaled to it. */
static pac_err scale_shares(const pac_yaml_node *n, const char *what, int64_t count, double *share)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += share[i];
    if (fabs(sum - 1) > SHARE_TOLERANCE)
        return pac_yaml_fail(n, "%s sum to %g, must be 1", what, sum);
    for (int64_t i = 0; i < count && fabs(sum - 1) > 1e-12; i++)
        share[i] /= sum;
    return PAC_OK;
}

/* Without any the ranks share alike. */
static pac_err read_shares(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    for (int64_t i = 0; n == NULL && i < st->ranks; i++)
        st->share[i] = 1.0 / (double)st->ranks;
    if (n == NULL)
        return PAC_OK;
    char what[48];
    PAC_TRY(pac_read_numbers(n, "shares", st->ranks, 0, 1 + SHARE_TOLERANCE, st->share));
    for (int64_t i = 0; i < st->ranks; i++)
        if (!(st->share[i] > 0))
            return pac_yaml_fail(pac_yaml_item(n, i), "%s.shares: a share must be above 0", r->what);
    snprintf(what, sizeof what, "%s.shares", r->what);
    return scale_shares(n, what, st->ranks, st->share);
}

static pac_err read_stage(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    const pac_yaml_node *layers, *ranks, *bytes = NULL;
    PAC_TRY(pac_want_map(n, r->what, stage_keys));
    PAC_TRY(pac_field(n, r->what, "layers", &layers));
    PAC_TRY(pac_field(n, r->what, "ranks", &ranks));
    PAC_TRY(read_layers(r, layers, st));
    PAC_TRY(read_ranks(r, ranks, st));
    PAC_TRY(read_shares(r, pac_yaml_get(n, "shares"), st));
    bytes = pac_yaml_get(n, "bytes");
    return bytes == NULL ? PAC_OK : pac_read_numbers(bytes, "bytes", st->ranks, 0, PAC_LARGEST, st->bytes);
}

static pac_err read_stages(reader *r, const pac_yaml_node *n)
{
    pac_plan *plan = r->plan;
    for (int64_t i = 0; i < plan->stages; i++) {
        snprintf(r->what, sizeof r->what, "stages[%lld]", (long long)i);
        PAC_TRY(read_stage(r, pac_yaml_item(n, i), &plan->stage[i]));
    }
    if (r->next_layer != plan->layers)
        return pac_yaml_fail(n, "stages end at layer %lld, the model has %lld: no stage holds the rest",
                             (long long)r->next_layer, (long long)plan->layers);
    return PAC_OK;
}

static pac_err read_left_out(reader *r, const pac_yaml_node *root, const pac_yaml_node *stages)
{
    pac_plan *plan = r->plan;
    const pac_yaml_node *n = pac_yaml_get(root, "left_out");
    if (n != NULL)
        PAC_TRY(pac_want_list(n, "left_out", 0, plan->world - 1));
    for (int64_t i = 0; n != NULL && i < pac_yaml_count(n); i++) {
        PAC_TRY(read_rank(r, pac_yaml_item(n, i), "left_out", NULL));
        plan->left_out++;
    }
    for (int64_t rank = 0; rank < plan->world; rank++)
        if (r->line_of[rank] == 0)
            return pac_yaml_fail(stages, "rank %lld is in no stage and not in left_out; each of 0 to %lld must be in one",
                                 (long long)rank, (long long)plan->world - 1);
    return PAC_OK;
}

/* Who computes what part of a mini-batch once the backbone is cached; equal parts where the file does not say. */
static pac_err read_cached(reader *r, const pac_yaml_node *root)
{
    pac_plan *plan = r->plan;
    const pac_yaml_node *cached = pac_yaml_get(root, "cached"), *n = pac_yaml_get(root, "cached_shares");
    bool in[PAC_MAX_DEVICES];
    void *v;
    if (cached != NULL)
        PAC_TRY(pac_yaml_bool(cached, "cached", &plan->cached));
    if (n == NULL)
        return PAC_OK;
    PAC_TRY(pac_want_list(n, "cached_shares", plan->world, plan->world));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, plan->world, sizeof(double), &v));
    plan->cached_share = v;
    PAC_TRY(pac_read_numbers(n, "cached_shares", plan->world, 0, 1 + SHARE_TOLERANCE, plan->cached_share));
    find_members(plan, in);
    for (int64_t i = 0; i < plan->world; i++)
        if (!in[i] && plan->cached_share[i] > 0)
            return pac_yaml_fail(pac_yaml_item(n, i), "cached_shares: rank %lld is left out and cannot have a share",
                                 (long long)i);
    return scale_shares(n, "cached_shares", plan->world, plan->cached_share);
}

static pac_err read_predicted(const pac_yaml_node *n, pac_predicted *out)
{
    double *const at[] = {&out->hybrid_step_s, &out->hybrid_epoch_s, &out->redistribute_s, &out->cached_epoch_s, &out->total_s};
    PAC_TRY(pac_want_map(n, "predicted", predicted_keys));
    for (size_t i = 0; predicted_keys[i] != NULL; i++)
        PAC_TRY(pac_read_number(n, "predicted", predicted_keys[i], 0, at[i]));
    return PAC_OK;
}

static pac_err read_head(const pac_yaml_node *root, pac_plan *p)
{
    const pac_yaml_node *planner = pac_yaml_get(root, "planner");
    int64_t word = GIVEN;
    if (planner != NULL)
        PAC_TRY(pac_yaml_choice(planner, "planner", planners, &word));
    strcpy(p->planner, planners[word]);
    if (pac_yaml_get(root, "model") != NULL)
        PAC_TRY(pac_read_text(pac_yaml_get(root, "model"), "model", p->shape, sizeof p->shape));
    PAC_TRY(pac_read_count(root, "", "world", 1, PAC_MAX_DEVICES, &p->world));
    PAC_TRY(pac_read_count(root, "", "layers", 1, MOST_LAYERS, &p->layers));
    return pac_read_count(root, "", "microbatches", 1, MOST_MICROBATCHES, &p->microbatches);
}

static pac_err read_plan(const pac_yaml_node *root, pac_plan *p)
{
    const pac_yaml_node *stages, *predicted;
    pac_plan head = {.cached = true};
    PAC_TRY(pac_want_map(root, "", plan_keys));
    PAC_TRY(read_head(root, &head));
    PAC_TRY(pac_field(root, "", "stages", &stages));
    PAC_TRY(pac_want_list(stages, "stages", 1, head.world < head.layers ? head.world : head.layers));
    PAC_TRY(pac_plan_alloc(pac_yaml_count(stages), p));
    head.stages = p->stages;
    head.stage = p->stage;
    *p = head;
    reader r = {.plan = p};
    PAC_TRY(read_stages(&r, stages));
    PAC_TRY(read_left_out(&r, root, stages));
    PAC_TRY(read_cached(&r, root));
    predicted = pac_yaml_get(root, "predicted");
    return predicted == NULL ? PAC_OK : read_predicted(predicted, &p->predicted);
}

pac_err pac_plan_read(const char *path, pac_plan *out)
{
    pac_yaml *doc;
    pac_plan p = {0};
    PAC_TRY(pac_yaml_open(path, &doc));
    pac_err err = read_plan(pac_yaml_root(doc), &p);
    pac_yaml_close(&doc);
    if (err != PAC_OK)
        pac_plan_free(&p);
    else
        *out = p;
    return err;
}

/* ---- writing ---- */

static void emit_stage(pac_emitter *e, const pac_stage_plan *st)
{
    bool predicted = false;
    pac_emit(e, "  - layers: [%lld, %lld]\n    ranks: [", (long long)st->first, (long long)st->last);
    for (int64_t i = 0; i < st->ranks; i++) {
        pac_emit(e, "%s%lld", i == 0 ? "" : ", ", (long long)st->rank[i]);
        predicted |= st->bytes[i] > 0;
    }
    pac_emit(e, "]\n    shares: ");
    pac_emit_numbers(e, st->share, st->ranks, 17, 13);
    pac_emit(e, "\n");
    if (!predicted)
        return;
    pac_emit(e, "    bytes: [");
    for (int64_t i = 0; i < st->ranks; i++) {
        pac_emit(e, "%s", i == 0 ? "" : ", ");
        pac_emit_number(e, ceil(st->bytes[i]), 17);
    }
    pac_emit(e, "]\n");
}

/* Devices that do nothing, and how the cached phase is shared. */
static void emit_rest(pac_emitter *e, const pac_plan *p)
{
    int64_t named = 0;
    bool in[PAC_MAX_DEVICES];
    find_members(p, in);
    if (p->left_out > 0)
        pac_emit(e, "left_out: [");
    for (int64_t r = 0; r < p->world; r++)
        if (!in[r])
            pac_emit(e, "%s%lld", named++ == 0 ? "" : ", ", (long long)r);
    if (p->left_out > 0)
        pac_emit(e, "] # ranks that do nothing\n");
    pac_emit(e, "cached: %s # epochs after the first run from the cache\n", p->cached ? "true" : "false");
    if (p->cached_share == NULL)
        return;
    pac_emit(e, "cached_shares: ");
    pac_emit_numbers(e, p->cached_share, p->world, 17, 16);
    pac_emit(e, " # of each mini-batch, by rank\n");
}

static void emit_predicted(pac_emitter *e, const pac_predicted *t)
{
    const double at[] = {t->hybrid_step_s, t->hybrid_epoch_s, t->redistribute_s, t->cached_epoch_s, t->total_s};
    pac_emit(e, "predicted: # seconds; a forecast, nothing depends on it\n");
    for (size_t i = 0; predicted_keys[i] != NULL; i++) {
        pac_emit(e, "  %s: ", predicted_keys[i]);
        pac_emit_number(e, at[i], 6);
        pac_emit(e, "\n");
    }
}

pac_err pac_plan_write(const pac_plan *p, const char *path)
{
    pac_emitter e = {0};
    pac_emit(&e, "# A plan of pac: which layers run on which ranks. Edit it and give it back with --plan; docs/formats.md has "
                 "the rules.\n"
                 "planner: ");
    pac_emit_text(&e, p->planner);
    if (p->shape[0] != '\0') {
        pac_emit(&e, "\nmodel: ");
        pac_emit_text(&e, p->shape);
    }
    pac_emit(&e, "\nworld: %lld # ranks\n", (long long)p->world);
    pac_emit(&e, "layers: %lld # of the model, the encoder's first\n", (long long)p->layers);
    pac_emit(&e, "microbatches: %lld # of every mini-batch\n", (long long)p->microbatches);
    pac_emit(
        &e, "# layers: the first one and the one behind the last. shares: of every micro-batch, in the order of ranks, sum 1.\n"
            "# bytes: predicted peak of each rank.\n"
            "stages:\n");
    for (int64_t i = 0; i < p->stages; i++)
        emit_stage(&e, &p->stage[i]);
    emit_rest(&e, p);
    if (p->predicted.total_s > 0)
        emit_predicted(&e, &p->predicted);
    return pac_emit_save(&e, path);
}
