/*
 * Parallel adapters: which parameters the side network has, for any family, options and slice of layers. One table says it; the
 * walk over that table serves layout, counting and initialisation alike.
 */
#include "side.h"

#include "params.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A slot's gradient pointer lies at the same distance behind it in both structs, for weights and for biases. */
enum { TO_GRADIENT = offsetof(pac_linear, dw) - offsetof(pac_linear, w) };
_Static_assert(offsetof(pac_linear, db) - offsetof(pac_linear, b) == TO_GRADIENT, "slots of biases");
_Static_assert(offsetof(pac_norm, dw) - offsetof(pac_norm, w) == TO_GRADIENT, "slots of norms");
_Static_assert(offsetof(pac_norm, db) - offsetof(pac_norm, b) == TO_GRADIENT, "slots of norm biases");

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
    {SIDE_TAIL, SIDE_ALWAYS, "up.weight", T(up.w), "DR", "R"},
    {SIDE_TAIL, SIDE_ALWAYS, "up.bias", T(up.b), "D", "0"},
    {SIDE_TAIL, SIDE_MERGE, "merge.gate", T(merge.w), "D", "0"},
    {SIDE_TAIL, SIDE_HEAD, "head.dense.weight", T(dense.w), "DD", "D"},
    {SIDE_TAIL, SIDE_HEAD, "head.dense.bias", T(dense.b), "D", "0"},
    {SIDE_TAIL, SIDE_HEAD, "head.out.weight", T(out.w), "CD", "D"},
    {SIDE_TAIL, SIDE_HEAD, "head.out.bias", T(out.b), "C", "0"},
};

enum { RULES = sizeof rules / sizeof rules[0] };

/* ---- the walk ---- */

typedef struct walk {
    const pac_model_desc *d;
    const pac_side_opts *o;
    side_visitor *visit;
    void *ctx;
} walk;

pac_stack pac_side_stack_of(const pac_model_desc *d, int64_t layer, int64_t *index)
{
    bool enc = layer < d->layers[PAC_ENC];
    *index = enc ? layer : layer - d->layers[PAC_ENC];
    return enc ? PAC_ENC : PAC_DEC;
}

pac_stack pac_side_last_stack(const pac_model_desc *d)
{
    return d->layers[PAC_DEC] > 0 ? PAC_DEC : PAC_ENC;
}

int64_t pac_side_size(const pac_model_desc *d, const pac_side_opts *o, pac_stack stack, char letter)
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
    case 'C':
        return o->classes;
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
    case SIDE_HEAD:
        return w->o->head == PAC_HEAD_CLASSIFICATION;
    default:
        return true;
    }
}

static pac_err visit_scope(const walk *w, side_scope scope, pac_stack stack, const char *prefix, int64_t first, int64_t last)
{
    for (int i = 0; i < RULES; i++) {
        const side_rule *r = &rules[i];
        if (r->scope != scope || !has(w, r, stack))
            continue;
        side_item item = {.rule = r, .stack = stack, .layer = first, .param = {.n = 1, .first = first, .last = last}};
        pac_param *p = &item.param;
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

pac_err pac_side_walk(const pac_model_desc *d, const pac_side_opts *o, side_visitor *visit, void *ctx)
{
    walk w = {.d = d, .o = o, .visit = visit, .ctx = ctx};
    int64_t end = d->layers[PAC_ENC] + d->layers[PAC_DEC] - 1;
    PAC_TRY(visit_stack(&w, PAC_ENC));
    PAC_TRY(visit_stack(&w, PAC_DEC));
    return visit_scope(&w, SIDE_TAIL, pac_side_last_stack(d), "", end, end);
}

/* ---- options and counts ---- */

static pac_err check_widths(const pac_block_cfg *b, int64_t k)
{
    PAC_CHECK(b->D % k == 0 && b->K % k == 0 && b->F % k == 0, PAC_ECONFIG,
              "technique.reduction: %lld must divide the model's width %lld, head width %lld and feed-forward width %lld",
              (long long)k, (long long)b->D, (long long)b->K, (long long)b->F);
    return PAC_OK;
}

pac_err pac_side_check(const pac_model_desc *d, const pac_side_opts *o)
{
    int64_t L = d->layers[PAC_ENC] + d->layers[PAC_DEC], n = 0;
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
    PAC_CHECK(o->head != PAC_HEAD_CLASSIFICATION || o->classes >= 1, PAC_ECONFIG,
              "a classification head needs at least one class");
    PAC_CHECK(o->init != PAC_INIT_FISHER, PAC_ENOTBUILT, "technique.init: fisher is not built yet; use magnitude or random");
    return PAC_OK;
}

/* Elements of parameters that layers [first, last) use; the head apart. */
typedef struct tally {
    int64_t first, last, side, head;
} tally;

static bool meets(const pac_param *p, int64_t first, int64_t last)
{
    return p->first < last && p->last >= first;
}

static pac_err count(void *ctx, const side_item *item)
{
    tally *t = ctx;
    if (meets(&item->param, t->first, t->last))
        *(item->rule->when == SIDE_HEAD ? &t->head : &t->side) += item->param.n;
    return PAC_OK;
}

static tally tally_of(const pac_model_desc *d, const pac_side_opts *o, int64_t first, int64_t last)
{
    tally t = {.first = first, .last = last};
    pac_err never = pac_side_walk(d, o, count, &t);
    (void)never;
    return t;
}

int64_t pac_side_parameters(const pac_model_desc *d, const pac_side_opts *o)
{
    return tally_of(d, o, 0, PAC_MAX_LAYERS).side;
}

int64_t pac_head_parameters(const pac_model_desc *d, const pac_side_opts *o)
{
    return tally_of(d, o, 0, PAC_MAX_LAYERS).head;
}

int64_t pac_side_slice_parameters(const pac_model_desc *d, const pac_side_opts *o, int64_t first, int64_t last)
{
    tally t = tally_of(d, o, first, last);
    return t.side + t.head;
}

void pac_side_reads(const pac_model_desc *d, const pac_side_opts *o, bool out[2][PAC_MAX_LAYERS + 1], bool *final)
{
    memset(out, 0, 2 * sizeof out[0]);
    for (int64_t l = 0, i; l < d->layers[PAC_ENC] + d->layers[PAC_DEC]; l++) {
        pac_stack stack = pac_side_stack_of(d, l, &i);
        out[stack][0] = true; /* the first down-projection of a stack reads the embedding */
        out[stack][i + 1] = o->has_layer[l];
    }
    *final = o->merge != PAC_MERGE_NONE;
}

/* ---- a slice ---- */

typedef struct collector {
    pac_side *s;
    void *items;
    int64_t count, capacity;
} collector;

static pac_err collect(void *ctx, const side_item *item)
{
    collector *c = ctx;
    if (!meets(&item->param, c->s->first, c->s->last))
        return PAC_OK;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &c->items, &c->capacity, c->count + 1, sizeof *item));
    ((side_item *)c->items)[c->count++] = *item;
    return PAC_OK;
}

/* Where the layers find a parameter: its pointer, and its gradient's. */
static void connect(pac_side *s, const side_item *item, const pac_param *p)
{
    char *base = (char *)&s->layers[item->layer - s->first];
    if (item->rule->scope == SIDE_TAIL)
        base = (char *)&s->tail;
    else if (item->rule->scope == SIDE_FIRST || item->rule->scope == SIDE_TABLE || item->rule->scope == SIDE_NORM)
        base = (char *)&s->stacks[item->stack];
    *(const float **)(void *)(base + item->rule->slot) = p->w;
    *(float **)(void *)(base + item->rule->slot + TO_GRADIENT) = p->g;
}

static pac_err lay_out(pac_side *s)
{
    collector c = {.s = s};
    void *list = NULL;
    pac_err err;
    PAC_GO(pac_side_walk(&s->desc, &s->opts, collect, &c));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, c.count, sizeof(pac_param), &list));
    const side_item *items = c.items;
    for (int64_t i = 0; i < c.count; i++)
        ((pac_param *)list)[i] = items[i].param;
    PAC_GO(pac_params_init(&s->params, list, c.count));
    for (int64_t i = 0; i < c.count; i++)
        connect(s, &items[i], &s->params.v[i]);
out:
    pac_mem_free(list);
    pac_mem_free(c.items);
    return err;
}

static pac_block_cfg reduced(const pac_block_cfg *b, int64_t k)
{
    pac_block_cfg r = *b;
    r.D /= k;
    r.K /= k;
    r.F /= k;
    return r;
}

pac_err pac_side_new(const pac_model_desc *d, const pac_side_opts *o, const pac_backend *be, int64_t first, int64_t last,
                     pac_side **out)
{
    void *p;
    pac_err err;
    PAC_TRY(pac_side_check(d, o));
    PAC_CHECK(first >= 0 && first <= last && last <= d->layers[PAC_ENC] + d->layers[PAC_DEC], PAC_EINVAL,
              "side network for layers [%lld, %lld)", (long long)first, (long long)last);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_side), &p));
    pac_side *s = p;
    *s = (pac_side){.desc = *d, .opts = *o, .be = be, .first = first, .last = last};
    s->D = d->block[pac_side_last_stack(d)].D;
    s->R = s->D / o->reduction;
    for (int i = 0; i < 2; i++)
        s->cfg[i] = reduced(&d->block[i], o->reduction);
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, last - first, sizeof *s->layers, &p));
    s->layers = p;
    PAC_GO(lay_out(s));
    *out = s;
    s = NULL;
out:
    pac_side_free(&s);
    return err;
}

void pac_side_free(pac_side **side)
{
    if (side == NULL || *side == NULL)
        return;
    pac_params_free(&(*side)->params);
    pac_mem_free((*side)->layers);
    pac_mem_free(*side);
    *side = NULL;
}

pac_params *pac_side_params(pac_side *s)
{
    return &s->params;
}
