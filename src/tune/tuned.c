/*
 * What learns in a slice of layers, for any technique: parameters in one flat list, connected to the structs that layers read.
 */
#include "technique.h"

#include "params.h"
#include "side.h"

#include "pac/rng.h"

#include <stddef.h>
#include <string.h>

_Static_assert(offsetof(pac_linear, db) - offsetof(pac_linear, b) == PAC_TO_GRADIENT, "slots of biases");
_Static_assert(offsetof(pac_norm, dw) - offsetof(pac_norm, w) == PAC_TO_GRADIENT, "slots of norms");
_Static_assert(offsetof(pac_norm, db) - offsetof(pac_norm, b) == PAC_TO_GRADIENT, "slots of norm biases");
_Static_assert(offsetof(pac_lora, da) - offsetof(pac_lora, a) == PAC_TO_GRADIENT, "slots of low-rank pairs");
_Static_assert(offsetof(pac_lora, db) - offsetof(pac_lora, b) == PAC_TO_GRADIENT, "slots of low-rank pairs");

/* ---- the table ---- */

static const technique *const techniques[] = {
    [PAC_TECH_PARALLEL] = &pac_technique_parallel,
    [PAC_TECH_FULL] = &pac_technique_full,
    [PAC_TECH_ADAPTERS] = &pac_technique_adapters,
    [PAC_TECH_LORA] = &pac_technique_lora,
};

const technique *technique_of(const pac_tune_opts *o)
{
    return techniques[o->kind];
}

const char *pac_technique_name(pac_technique_kind kind)
{
    return techniques[kind]->name;
}

bool pac_technique_through(pac_technique_kind kind)
{
    return techniques[kind]->through;
}

/* ---- the model's shape ---- */

pac_stack stack_of_layer(const pac_model_desc *d, int64_t layer, int64_t *index)
{
    pac_stack stack = pac_stack_of(d, layer);
    *index = layer - pac_span_of_stack(d, stack).first;
    return stack;
}

/* ---- options and counts ---- */

pac_err pac_tune_check(const pac_model_desc *d, const pac_tune_opts *o)
{
    bool classes = o->head == PAC_HEAD_CLASSIFICATION, encoder_only = d->layers[PAC_DEC] == 0;
    PAC_CHECK(!classes || o->classes >= 1, PAC_ECONFIG, "a classification head needs at least one class");
    PAC_CHECK(classes || !encoder_only, PAC_ECONFIG,
              "head: lm: a model without a decoder writes no text; use head: classification");
    PAC_CHECK(!o->separate || (classes && encoder_only), PAC_ECONFIG,
              "task.pairs: separate: only for models without a decoder, with head: classification");
    return technique_of(o)->check != NULL ? technique_of(o)->check(d, o) : PAC_OK;
}

pac_err tune_walk_items(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    PAC_TRY(technique_of(o)->walk(d, o, visit, ctx));
    return o->head == PAC_HEAD_CLASSIFICATION ? head_walk(d, o, visit, ctx) : PAC_OK;
}

typedef struct outer {
    pac_err (*visit)(void *ctx, const pac_param *p);
    void *ctx;
} outer;

static pac_err visit_param(void *ctx, const tune_item *item)
{
    const outer *v = ctx;
    return v->visit(v->ctx, &item->param);
}

pac_err pac_tune_walk(const pac_model_desc *d, const pac_tune_opts *o, pac_err (*visit)(void *ctx, const pac_param *p),
                      void *ctx)
{
    outer v = {visit, ctx};
    return tune_walk_items(d, o, visit_param, &v);
}

/* Elements of parameters that layers [first, last) use; the head apart. */
typedef struct tally {
    int64_t first, last, tuned, head;
} tally;

static pac_err count(void *ctx, const tune_item *item)
{
    tally *t = ctx;
    if (pac_param_in(&item->param, t->first, t->last))
        *(item->scope == SCOPE_HEAD ? &t->head : &t->tuned) += item->param.n;
    return PAC_OK;
}

static tally tally_of(const pac_model_desc *d, const pac_tune_opts *o, int64_t first, int64_t last)
{
    tally t = {.first = first, .last = last};
    if (tune_walk_items(d, o, count, &t) != PAC_OK)
        t.tuned = t.head = -1;
    return t;
}

int64_t pac_tune_parameters(const pac_model_desc *d, const pac_tune_opts *o)
{
    return tally_of(d, o, 0, PAC_MAX_LAYERS).tuned;
}

int64_t pac_head_parameters(const pac_model_desc *d, const pac_tune_opts *o)
{
    return tally_of(d, o, 0, PAC_MAX_LAYERS).head;
}

int64_t pac_tune_slice_parameters(const pac_model_desc *d, const pac_tune_opts *o, int64_t first, int64_t last)
{
    tally t = tally_of(d, o, first, last);
    return t.tuned < 0 ? -1 : t.tuned + t.head;
}

/* ---- a slice ---- */

typedef struct collector {
    pac_tuned *t;
    tune_item *items;
    int64_t count, capacity;
} collector;

static pac_err collect(void *ctx, const tune_item *item)
{
    collector *c = ctx;
    void *items = c->items;
    if (!pac_param_in(&item->param, c->t->first, c->t->last))
        return PAC_OK;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &items, &c->capacity, c->count + 1, sizeof *item));
    c->items = items;
    c->items[c->count++] = *item;
    return PAC_OK;
}

/* Where the layers find a parameter: its pointer, and its gradient's. */
static void connect(pac_tuned *t, const tune_item *item, const pac_param *p)
{
    if (item->scope != SCOPE_HEAD && t->how->place == NULL)
        return; /* pac_tuned_attach() will */
    char *base = item->scope == SCOPE_HEAD ? (char *)&t->head : t->how->place(t, item);
    *(const float **)(void *)(base + item->slot) = p->w;
    *(float **)(void *)(base + item->slot + PAC_TO_GRADIENT) = p->g;
}

static pac_err lay_out(pac_tuned *t, bool learns)
{
    collector c = {.t = t};
    void *list = NULL;
    pac_err err;
    PAC_GO(tune_walk_items(&t->desc, &t->opts, collect, &c));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, c.count, sizeof(pac_param), &list));
    for (int64_t i = 0; i < c.count; i++)
        ((pac_param *)list)[i] = c.items[i].param;
    PAC_GO(pac_params_init(&t->params, list, c.count, t->be->space, learns));
    for (int64_t i = 0; i < c.count; i++)
        connect(t, &c.items[i], &t->params.v[i]);
out:
    pac_mem_free(list);
    pac_mem_free(c.items);
    return err;
}

pac_err pac_tuned_new(const pac_model_desc *d, const pac_tune_opts *o, const pac_backend *be, int64_t first, int64_t last,
                      bool learns, pac_tuned **out)
{
    void *p;
    pac_err err = PAC_OK;
    PAC_TRY(pac_tune_check(d, o));
    PAC_CHECK(first >= 0 && first <= last && last <= pac_depth(d), PAC_EINVAL, "what learns in layers [%lld, %lld)",
              (long long)first, (long long)last);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_tuned), &p));
    pac_tuned *t = p;
    *t = (pac_tuned){.how = technique_of(o), .desc = *d, .opts = *o, .be = be, .first = first, .last = last};
    if (t->how->make != NULL)
        PAC_GO(t->how->make(t));
    PAC_GO(lay_out(t, learns));
    *out = t;
    t = NULL;
out:
    pac_tuned_free(&t);
    return err;
}

void pac_tuned_free(pac_tuned **tp)
{
    pac_tuned *t = *tp;
    if (t == NULL)
        return;
    if (t->how->done != NULL)
        t->how->done(t);
    pac_mem_free(t->modules);
    pac_params_free(&t->params);
    pac_mem_free(t);
    *tp = NULL;
}

pac_params *pac_tuned_params(pac_tuned *t)
{
    return &t->params;
}

const pac_tune_opts *pac_tuned_opts(const pac_tuned *t)
{
    return &t->opts;
}

pac_side *pac_tuned_side(const pac_tuned *t)
{
    return t->side;
}

pac_err pac_tuned_attach(pac_tuned *t, pac_model *m)
{
    return t->how->attach != NULL ? t->how->attach(t, m) : PAC_OK;
}

/* ---- initial values ---- */

/* values: those of all parameters, as the host may write them. */
static void draw(const pac_tuned *t, const tune_item *item, const pac_param *p, float *values)
{
    float *w = values + (p->w - t->params.w);
    uint64_t seed = t->opts.seed ^ pac_rng_name(p->name);
    float scale = (float)item->deviation;
    for (int64_t i = 0; i < p->n; i++)
        w[i] = scale == 0 ? item->constant : scale * pac_rng_normal(seed, PAC_STREAM_INIT, (uint64_t)i);
}

typedef struct cursor {
    pac_tuned *t;
    float *values;
    int64_t next;
} cursor;

/* The slice's parameters are met in their order in the slice. */
static pac_err draw_next(void *ctx, const tune_item *item)
{
    cursor *c = ctx;
    const pac_params *p = &c->t->params;
    if (c->next < p->count && strcmp(p->v[c->next].name, item->param.name) == 0) {
        if (!item->from_model)
            draw(c->t, item, &p->v[c->next], c->values);
        c->next++;
    }
    return PAC_OK;
}

/* The checkpoint's own first layer of the head (a pooler), where there is one. */
static pac_err init_head(const pac_tuned *t, float *values)
{
    bool found;
    if (t->head.dense.w == NULL)
        return PAC_OK;
    int64_t from = 0;
    const pac_param *w = pac_params_find(&t->params, "head.dense.weight", &from);
    const pac_param *b = pac_params_find(&t->params, "head.dense.bias", &from);
    PAC_CHECK(w != NULL && b != NULL, PAC_EINTERNAL, "the head has no dense layer");
    return pac_model_head_dense(&t->desc, &found, values + (w->w - t->params.w), values + (b->w - t->params.w));
}

pac_err pac_tuned_init(pac_tuned *t, const pac_model *model, const double *imp)
{
    cursor c = {.t = t};
    PAC_TRY(pac_params_open(&t->params, &c.values));
    pac_err err = tune_walk_items(&t->desc, &t->opts, draw_next, &c);
    if (err == PAC_OK && model != NULL)
        err = init_head(t, c.values);
    pac_err closed = pac_params_close(&t->params, c.values, err == PAC_OK);
    PAC_TRY(err != PAC_OK ? err : closed);
    bool prunes = t->side != NULL && t->opts.init == PAC_INIT_MAGNITUDE;
    return prunes ? pac_tuned_prune(t, model, model, imp) : PAC_OK;
}
