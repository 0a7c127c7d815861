/*
 * plan.yaml: which layers run where, for people too. Everything that the runtime relies on is checked here, so a hand-edited
 * plan is either right or refused with its line.
 */
#include "file.h"
#include "plan_alloc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LAYERS = 4096, MOST_MICROBATCHES = 1 << 20 };

static const double SHARE_TOLERANCE = 0.02; /* 0.33, 0.33, 0.33 is meant as thirds; 0.5, 0.3 is a mistake */

static const char *const plan_keys[] = {"planner", "world", "layers", "microbatches", "stages", "predicted", NULL};
static const char *const stage_keys[] = {"layers", "ranks", "shares", "bytes", NULL};
static const char *const predicted_keys[] = {"hybrid_step_s",  "hybrid_epoch_s", "redistribute_s",
                                             "cached_epoch_s", "total_s",        NULL};

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

static pac_err read_ranks(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    PAC_TRY(pac_want_list(n, "ranks", 0, r->plan->world));
    if (pac_yaml_count(n) == 0)
        return pac_yaml_fail(n, "%s has no ranks", r->what);
    PAC_TRY(pac_stage_alloc(pac_yaml_count(n), st));
    for (int64_t i = 0; i < st->ranks; i++) {
        const pac_yaml_node *item = pac_yaml_item(n, i);
        int64_t rank;
        PAC_TRY(pac_yaml_int(item, "ranks", 0, r->plan->world - 1, &rank));
        if (r->line_of[rank] != 0)
            return pac_yaml_fail(item, "rank %lld is given twice, first in line %lld", (long long)rank,
                                 (long long)r->line_of[rank]);
        r->line_of[rank] = pac_yaml_line(item);
        st->rank[i] = rank;
    }
    return PAC_OK;
}

/* Shares near 1 in sum are scaled to it; without any the ranks share alike. */
static pac_err read_shares(reader *r, const pac_yaml_node *n, pac_stage_plan *st)
{
    for (int64_t i = 0; n == NULL && i < st->ranks; i++)
        st->share[i] = 1.0 / (double)st->ranks;
    if (n == NULL)
        return PAC_OK;
    double sum = 0;
    PAC_TRY(pac_read_numbers(n, "shares", st->ranks, 0, 1 + SHARE_TOLERANCE, st->share));
    for (int64_t i = 0; i < st->ranks; i++) {
        if (!(st->share[i] > 0))
            return pac_yaml_fail(pac_yaml_item(n, i), "%s.shares: a share must be above 0", r->what);
        sum += st->share[i];
    }
    if (fabs(sum - 1) > SHARE_TOLERANCE)
        return pac_yaml_fail(n, "%s.shares sum to %g, must be 1", r->what, sum);
    for (int64_t i = 0; i < st->ranks && fabs(sum - 1) > 1e-12; i++)
        st->share[i] /= sum;
    return PAC_OK;
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
    for (int64_t rank = 0; rank < plan->world; rank++)
        if (r->line_of[rank] == 0)
            return pac_yaml_fail(n, "rank %lld is in no stage; each of 0 to %lld must be in one", (long long)rank,
                                 (long long)plan->world - 1);
    return PAC_OK;
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
    if (planner != NULL)
        PAC_TRY(pac_read_text(planner, "planner", p->planner, sizeof p->planner));
    else
        strcpy(p->planner, "given");
    PAC_TRY(pac_read_count(root, "", "world", 1, PAC_MAX_DEVICES, &p->world));
    PAC_TRY(pac_read_count(root, "", "layers", 1, MOST_LAYERS, &p->layers));
    return pac_read_count(root, "", "microbatches", 1, MOST_MICROBATCHES, &p->microbatches);
}

static pac_err read_plan(const pac_yaml_node *root, pac_plan *p)
{
    const pac_yaml_node *stages, *predicted;
    pac_plan head = {0};
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
    pac_emit(&e, "\nworld: %lld # ranks\n", (long long)p->world);
    pac_emit(&e, "layers: %lld # of the model, the encoder's first\n", (long long)p->layers);
    pac_emit(&e, "microbatches: %lld # of every mini-batch\n", (long long)p->microbatches);
    pac_emit(
        &e, "# layers: the first one and the one behind the last. shares: of every micro-batch, in the order of ranks, sum 1.\n"
            "# bytes: predicted peak of each rank.\n"
            "stages:\n");
    for (int64_t i = 0; i < p->stages; i++)
        emit_stage(&e, &p->stage[i]);
    if (p->predicted.total_s > 0)
        emit_predicted(&e, &p->predicted);
    return pac_emit_save(&e, path);
}
