/*
 * Parallel adapters: which parameters the side network has, for any family, options and slice of layers. One table says it; the
 * walk over that table serves layout, counting and initialisation alike.
 */
#include "side.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define L(field) offsetof(side_layer, field)
#define S(field) offsetof(side_stack, field)
#define T(field) offsetof(side_tail, field)
#define LINEAR(scope, name, field, when, bias, out, in, fan)                                                                   \
    {scope, when, name ".weight", L(block.field.w), out in, fan},                                                              \
    {                                                                                                                          \
        scope, bias, name ".bias", L(block.field.b), out, "0"                                                                  \
    }
#define NORM(scope, name, field)                                                                                               \
    {scope, SIDE_ALWAYS, name ".weight", L(block.field.w), "R", "1"},                                                          \
    {                                                                                                                          \
        scope, SIDE_NORM_BIAS, name ".bias", L(block.field.b), "R", "0"                                                        \
    }
#define ATTENTION(scope, name, field)                                                                                          \
    NORM(scope, name ".norm", field.norm), LINEAR(scope, name ".q", field.q, SIDE_ALWAYS, SIDE_BIAS, "I", "R", "RK"),          \
        LINEAR(scope, name ".k", field.k, SIDE_ALWAYS, SIDE_BIAS, "I", "R", "R"),                                              \
        LINEAR(scope, name ".v", field.v, SIDE_ALWAYS, SIDE_BIAS, "I", "R", "R"),                                              \
        LINEAR(scope, name ".o", field.o, SIDE_ALWAYS, SIDE_BIAS, "R", "I", "I")

static const side_rule rules[] = {
    {SIDE_FIRST, SIDE_ALWAYS, "first.weight", S(first.w), "RD", "D"},
    {SIDE_FIRST, SIDE_ALWAYS, "first.bias", S(first.b), "R", "0"},
    {SIDE_TABLE, SIDE_ALWAYS, "bias_table", S(table.w), "BH", "R"},
    {SIDE_LAYER, SIDE_ALWAYS, "down.weight", L(down.w), "RD", "D"},
    {SIDE_LAYER, SIDE_ALWAYS, "down.bias", L(down.b), "R", "0"},
    {SIDE_LAYER, SIDE_GATE, "gate", L(gate.w), "1", "0"},
    ATTENTION(SIDE_LAYER, "self", self),
    ATTENTION(SIDE_CROSS, "cross", cross),
    NORM(SIDE_FF, "ff.norm", ff_norm),
    LINEAR(SIDE_FF, "ff.wi", wi, SIDE_ALWAYS, SIDE_BIAS, "F", "R", "R"),
    LINEAR(SIDE_FF, "ff.wg", wg, SIDE_GATED, SIDE_GATED_BIAS, "F", "R", "R"),
    LINEAR(SIDE_FF, "ff.wo", wo, SIDE_ALWAYS, SIDE_BIAS, "R", "F", "F"),
    {SIDE_NORM, SIDE_ALWAYS, "norm.weight", S(norm.w), "R", "1"},
    {SIDE_NORM, SIDE_NORM_BIAS, "norm.bias", S(norm.b), "R", "0"},
    {SIDE_TAIL, SIDE_UP, "up.weight", T(up.w), "DR", "R"},
    {SIDE_TAIL, SIDE_UP_ZERO, "up.weight", T(up.w), "DR", "0"},
    {SIDE_TAIL, SIDE_ALWAYS, "up.bias", T(up.b), "D", "0"},
    {SIDE_TAIL, SIDE_MERGE, "merge.gate", T(merge.w), "D", "0"},
};

enum { RULES = sizeof rules / sizeof rules[0] };

/* ---- the walk ---- */

typedef struct walk {
    const pac_model_desc *d;
    const pac_tune_opts *o;
    tune_visitor *visit;
    void *ctx;
} walk;

int64_t pac_side_size(const pac_model_desc *d, const pac_tune_opts *o, pac_stack stack, char letter)
{
    const pac_block_cfg *b = &d->block[stack];
    int64_t k = o->reduction;
    switch (letter) {
    case 'D':
        return b->D;
    case 'R':
        return b->D / k;
    case 'I':
        return b->H * (b->K / k);
    case 'K':
        return b->K / k;
    case 'F':
        return b->F / k;
    case 'H':
        return b->H;
    case 'B':
        return b->buckets;
    default:
        return 1;
    }
}

static bool has(const walk *w, const side_rule *r, pac_stack stack)
{
    const pac_block_cfg *b = &w->d->block[stack];
    switch (r->when) {
    case SIDE_BIAS:
        return b->biases;
    case SIDE_NORM_BIAS:
        return b->norm == PAC_NORM_LAYER;
    case SIDE_GATED:
        return b->gated;
    case SIDE_GATED_BIAS:
        return b->gated && b->biases;
    case SIDE_GATE:
        return w->o->gate == PAC_GATE_LEARNED;
    case SIDE_MERGE:
        return w->o->merge == PAC_MERGE_GATED;
    case SIDE_UP:
        return !w->o->up_zero;
    case SIDE_UP_ZERO:
        return w->o->up_zero;
    default:
        return true;
    }
}

/*
 * Initial values behind a rule's fan: "0", "1", or normal with deviation (product of sizes)^-1/2, which is T5's way and counts
 * on its unscaled scores. Families with biases start as torch.nn.Linear does.
 */
static void set_draw(const walk *w, const side_rule *r, tune_item *item)
{
    double product = 1;
    if (strcmp(r->fan, "0") == 0 || strcmp(r->fan, "1") == 0) {
        item->constant = (float)(r->fan[0] - '0');
        return;
    }
    if (w->d->block[item->stack].biases) {
        item->deviation = linear_deviation(pac_side_size(w->d, w->o, item->stack, r->dims[strlen(r->dims) - 1]));
        return;
    }
    for (const char *c = r->fan; *c != '\0'; c++)
        product *= (double)pac_side_size(w->d, w->o, item->stack, *c);
    item->deviation = 1 / sqrt(product);
}

static pac_err visit_scope(const walk *w, side_scope scope, pac_stack stack, const char *prefix, int64_t first, int64_t last)
{
    for (int i = 0; i < RULES; i++) {
        const side_rule *r = &rules[i];
        if (r->scope != scope || !has(w, r, stack))
            continue;
        tune_item item = {.stack = stack, .layer = first, .scope = (int)scope, .slot = r->slot};
        item.param = (pac_param){.n = 1, .uses = 1, .use = {{first, last}}};
        pac_param *p = &item.param;
        set_draw(w, r, &item);
        snprintf(p->name, sizeof p->name, "%s%s", prefix, r->name);
        for (const char *c = r->dims; *c != '\0'; c++) {
            p->shape[p->ndim] = pac_side_size(w->d, w->o, stack, *c);
            p->n *= p->shape[p->ndim++];
        }
        PAC_TRY(w->visit(w->ctx, &item));
    }
    return PAC_OK;
}

static pac_err visit_layer(const walk *w, pac_stack stack, const char *stack_name, int64_t index, int64_t layer)
{
    char prefix[40];
    snprintf(prefix, sizeof prefix, "%s.%lld.", stack_name, (long long)index);
    PAC_TRY(visit_scope(w, SIDE_LAYER, stack, prefix, layer, layer));
    if (w->d->block[stack].cross)
        PAC_TRY(visit_scope(w, SIDE_CROSS, stack, prefix, layer, layer));
    return visit_scope(w, SIDE_FF, stack, prefix, layer, layer);
}

/* The table is used from the first to the last layer of its stack that the side network has. */
static pac_err visit_table(const walk *w, pac_stack stack, const char *prefix, int64_t base, int64_t depth)
{
    int64_t first = -1, last = -1;
    for (int64_t l = base; l < base + depth; l++)
        if (w->o->has_layer[l]) {
            first = first < 0 ? l : first;
            last = l;
        }
    return first >= 0 && w->d->block[stack].buckets > 0 ? visit_scope(w, SIDE_TABLE, stack, prefix, first, last) : PAC_OK;
}

static pac_err visit_stack(const walk *w, pac_stack stack)
{
    const char *name = stack == PAC_ENC ? "enc" : "dec", *prefix = stack == PAC_ENC ? "enc." : "dec.";
    int64_t depth = w->d->layers[stack], base = stack == PAC_ENC ? 0 : w->d->layers[PAC_ENC], end = base + depth - 1;
    if (depth == 0)
        return PAC_OK;
    PAC_TRY(visit_scope(w, SIDE_FIRST, stack, prefix, base, base));
    PAC_TRY(visit_table(w, stack, prefix, base, depth));
    for (int64_t i = 0; i < depth; i++)
        if (w->o->has_layer[base + i])
            PAC_TRY(visit_layer(w, stack, name, i, base + i));
    return w->d->final_norm[stack] ? visit_scope(w, SIDE_NORM, stack, prefix, end, end) : PAC_OK;
}

static pac_err walk_side(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    walk w = {.d = d, .o = o, .visit = visit, .ctx = ctx};
    int64_t end = pac_depth(d) - 1;
    PAC_TRY(visit_stack(&w, PAC_ENC));
    PAC_TRY(visit_stack(&w, PAC_DEC));
    return visit_scope(&w, SIDE_TAIL, pac_last_stack(d), "", end, end);
}

/* ---- options and counts ---- */

static pac_err check_widths(const pac_block_cfg *b, int64_t k)
{
    PAC_CHECK(b->D % k == 0 && b->K % k == 0 && b->F % k == 0, PAC_ECONFIG,
              "technique.reduction: %lld must divide the model's width %lld, head width %lld and feed-forward width %lld",
              (long long)k, (long long)b->D, (long long)b->K, (long long)b->F);
    return PAC_OK;
}

static pac_err check(const pac_model_desc *d, const pac_tune_opts *o)
{
    int64_t L = pac_depth(d), n = 0;
    PAC_CHECK(o->reduction >= 1, PAC_ECONFIG, "technique.reduction: %lld must be at least 1", (long long)o->reduction);
    for (int s = 0; s < 2; s++)
        if (d->layers[s] > 0)
            PAC_TRY(check_widths(&d->block[s], o->reduction));
    for (int64_t l = 0; l < PAC_MAX_LAYERS; l++) {
        PAC_CHECK(!o->has_layer[l] || l < L, PAC_ECONFIG, "technique.layers: layer %lld, but the model has %lld",
                  (long long)l + 1, (long long)L);
        n += o->has_layer[l];
    }
    PAC_CHECK(n > 0, PAC_ECONFIG, "technique.layers: no layer is listed");
    return PAC_OK;
}

void pac_tune_reads(const pac_model_desc *d, const pac_tune_opts *o, bool out[2][PAC_MAX_LAYERS + 1], bool *final)
{
    memset(out, 0, 2 * sizeof out[0]);
    *final = false;
    if (o->kind != PAC_TECH_PARALLEL)
        return;
    for (int64_t l = 0, i; l < pac_depth(d); l++) {
        pac_stack stack = stack_of_layer(d, l, &i);
        out[stack][0] = true; /* the first down-projection of a stack reads the embedding */
        out[stack][i + 1] = o->has_layer[l];
    }
    if (o->merge == PAC_MERGE_NONE)
        return;
    pac_stack top = pac_last_stack(d);
    *final = d->final_norm[top];
    if (!*final)
        out[top][d->layers[top]] = true;
}

/* ---- a slice ---- */

static pac_block_cfg reduced(const pac_block_cfg *b, int64_t k)
{
    pac_block_cfg r = *b;
    r.D /= k;
    r.K /= k;
    r.F /= k;
    if (b->scale != 1) /* scores are scaled by the head width's square root, or not at all (T5) */
        r.scale = (float)(1 / sqrt((double)r.K));
    return r;
}

static pac_err make(pac_tuned *t)
{
    void *p;
    int64_t k = t->opts.reduction;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_side), &p));
    pac_side *s = t->side = p;
    *s = (pac_side){.desc = t->desc, .opts = t->opts, .be = t->be, .first = t->first, .last = t->last};
    s->D = t->desc.block[pac_last_stack(&t->desc)].D;
    s->R = s->D / k;
    for (int i = 0; i < 2; i++)
        if (t->desc.layers[i] > 0)
            s->cfg[i] = reduced(&t->desc.block[i], k);
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, t->last - t->first, sizeof *s->layers, &p));
    s->layers = p;
    return PAC_OK;
}

static void *place(pac_tuned *t, const tune_item *item)
{
    pac_side *s = t->side;
    if (item->scope == SIDE_TAIL)
        return &s->tail;
    if (item->scope == SIDE_FIRST || item->scope == SIDE_TABLE || item->scope == SIDE_NORM)
        return &s->stacks[item->stack];
    return &s->layers[item->layer - s->first];
}

static void done(pac_tuned *t)
{
    if (t->side != NULL)
        pac_mem_free(t->side->layers);
    pac_mem_free(t->side);
}

const technique pac_technique_parallel = {
    .name = "parallel", .check = check, .walk = walk_side, .make = make, .place = place, .done = done};
