/*
 * LoRA: q and v of every attention get a low-rank change, y += alpha / r (x a^T) b^T; a is random, b starts at zero. Names are
 * those of PEFT behind "base_model.model.". Source: Hu et al. 2022; peft.tuners.lora.layer.Linear.
 */
#include "technique.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The linears of a block that are changed. */
static const struct {
    size_t weight, linear; /* offsets in pac_block_weights */
} targets[] = {
    {offsetof(pac_block_weights, self.q.w), offsetof(pac_block_weights, self.q)},
    {offsetof(pac_block_weights, self.v.w), offsetof(pac_block_weights, self.v)},
    {offsetof(pac_block_weights, cross.q.w), offsetof(pac_block_weights, cross.q)},
    {offsetof(pac_block_weights, cross.v.w), offsetof(pac_block_weights, cross.v)},
};

enum { TARGETS = sizeof targets / sizeof targets[0] };

static pac_err check(const pac_model_desc *d, const pac_tune_opts *o)
{
    for (int s = 0; s < 2; s++)
        PAC_CHECK(d->layers[s] == 0 || (o->rank >= 1 && o->rank <= d->block[s].D), PAC_ECONFIG,
                  "technique.rank: %lld; allowed are 1 to the model's width of %lld", (long long)o->rank,
                  (long long)d->block[s].D);
    PAC_CHECK(o->alpha > 0, PAC_ECONFIG, "technique.alpha: %g must be above 0", (double)o->alpha);
    return PAC_OK;
}

/* ---- the walk: two parameters for each target, in the order of the model's tensors ---- */

typedef struct outer {
    const pac_tune_opts *o;
    const pac_model_desc *d;
    tune_visitor *visit;
    void *ctx;
} outer;

static pac_err visit_half(const outer *v, const pac_weight *w, int target, const char *name, int64_t rows, int64_t cols,
                          size_t slot, double deviation)
{
    tune_item item = {.layer = w->layer,
                      .scope = target,
                      .slot = slot,
                      .deviation = deviation,
                      .param = {.ndim = 2, .shape = {rows, cols}, .n = rows * cols, .uses = 1, .use = {{w->layer, w->layer}}}};
    int letters = (int)(strlen(w->name) - strlen(".weight"));
    snprintf(item.param.name, sizeof item.param.name, "%.*s.%s.weight", letters, w->name, name);
    return v->visit(v->ctx, &item);
}

static pac_err visit_weight(void *ctx, const pac_weight *w)
{
    const outer *v = ctx;
    for (int i = 0; i < TARGETS; i++) {
        if (w->layer < 0 || w->slot != targets[i].weight)
            continue;
        int64_t out = w->shape[0], in = w->shape[1], r = v->o->rank;
        PAC_TRY(visit_half(v, w, i, "lora_A", r, in, offsetof(pac_lora, a), linear_deviation(in)));
        PAC_TRY(visit_half(v, w, i, "lora_B", out, r, offsetof(pac_lora, b), 0));
    }
    return PAC_OK;
}

static pac_err walk(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    outer v = {.o = o, .d = d, .visit = visit, .ctx = ctx};
    return pac_model_walk(d, false, visit_weight, &v);
}

/* ---- a slice ---- */

static pac_lora *module_of(const pac_tuned *t, int64_t layer, int target)
{
    return (pac_lora *)t->modules + (layer - t->first) * TARGETS + target;
}

static pac_err make(pac_tuned *t)
{
    int64_t n = (t->last - t->first) * TARGETS;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof(pac_lora), &t->modules));
    for (int64_t i = 0; i < n; i++)
        ((pac_lora *)t->modules)[i] = (pac_lora){.r = t->opts.rank, .scale = t->opts.alpha / (float)t->opts.rank};
    return PAC_OK;
}

static void *place(pac_tuned *t, const tune_item *item)
{
    return module_of(t, item->layer, item->scope);
}

static pac_err attach(pac_tuned *t, pac_model *m)
{
    for (int64_t l = t->first; l < t->last; l++) {
        char *block = (char *)pac_model_block_tunable(m, l);
        PAC_CHECK(block != NULL, PAC_EINVAL, "lora: the model does not hold layer %lld", (long long)l);
        for (int i = 0; i < TARGETS; i++) {
            pac_lora *lora = module_of(t, l, i);
            if (lora->a != NULL)
                ((pac_linear *)(void *)(block + targets[i].linear))->lora = lora;
        }
    }
    return PAC_OK;
}

const technique pac_technique_lora = {
    .name = "lora", .through = true, .check = check, .walk = walk, .make = make, .place = place, .attach = attach};
