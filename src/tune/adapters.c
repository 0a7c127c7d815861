/*
 * Houlsby adapters: a bottleneck f + up(gelu_new(down(f))) on the output of self-attention and of the feed-forward of every
 * layer. down is random, up starts near zero as in BERT's adapters. Source: Houlsby et al. 2019.
 */
#include "technique.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { SELF, FF, PLACES };

#define UP_DEVIATION 1e-3 /* near identity at the start (Houlsby et al., section 2.1) */

static const struct {
    const char *name;
    size_t slot; /* offset in pac_bottleneck */
    bool out_is_width;
    int ndim;
} parts[] = {
    {"down.weight", offsetof(pac_bottleneck, down.w), true, 2},
    {"down.bias", offsetof(pac_bottleneck, down.b), true, 1},
    {"up.weight", offsetof(pac_bottleneck, up.w), false, 2},
    {"up.bias", offsetof(pac_bottleneck, up.b), false, 1},
};

static int64_t width_of(const pac_model_desc *d, const pac_tune_opts *o, pac_stack stack)
{
    return o->width > 0 ? o->width : d->block[stack].D / 16;
}

static pac_err check(const pac_model_desc *d, const pac_tune_opts *o)
{
    for (int s = 0; s < 2; s++)
        PAC_CHECK(d->layers[s] == 0 || width_of(d, o, (pac_stack)s) >= 1, PAC_ECONFIG,
                  "technique.width: auto is a sixteenth of the model's width, which is only %lld; give a number",
                  (long long)d->block[s].D);
    return PAC_OK;
}

static pac_err visit_part(const pac_model_desc *d, const pac_tune_opts *o, int64_t layer, int where, int part,
                          tune_visitor *visit, void *ctx)
{
    int64_t index;
    pac_stack stack = stack_of_layer(d, layer, &index);
    int64_t D = d->block[stack].D, A = width_of(d, o, stack);
    int64_t out = parts[part].out_is_width ? A : D, in = parts[part].out_is_width ? D : A;
    tune_item item = {.layer = layer, .stack = stack, .scope = where, .slot = parts[part].slot};
    item.param = (pac_param){.ndim = parts[part].ndim,
                             .shape = {out, in},
                             .n = parts[part].ndim == 2 ? out * in : out,
                             .uses = 1,
                             .use = {{layer, layer}}};
    if (parts[part].ndim == 1)
        item.param.shape[1] = 0;
    else
        item.deviation = parts[part].out_is_width ? 1 / sqrt((double)D) : UP_DEVIATION;
    snprintf(item.param.name, sizeof item.param.name, "%s.%lld.%s.%s", stack == PAC_ENC ? "enc" : "dec", (long long)index,
             where == SELF ? "self_adapter" : "ff_adapter", parts[part].name);
    return visit(ctx, &item);
}

static pac_err walk(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    for (int64_t l = 0; l < pac_depth(d); l++)
        for (int where = SELF; where < PLACES; where++)
            for (int part = 0; part < (int)(sizeof parts / sizeof parts[0]); part++)
                PAC_TRY(visit_part(d, o, l, where, part, visit, ctx));
    return PAC_OK;
}

static pac_bottleneck *module_of(const pac_tuned *t, int64_t layer, int where)
{
    return (pac_bottleneck *)t->modules + (layer - t->first) * PLACES + where;
}

static pac_err make(pac_tuned *t)
{
    return pac_mem_array(PAC_MEM_OTHER, (t->last - t->first) * PLACES, sizeof(pac_bottleneck), &t->modules);
}

static void *place(pac_tuned *t, const tune_item *item)
{
    pac_bottleneck *b = module_of(t, item->layer, item->scope);
    b->width = width_of(&t->desc, &t->opts, item->stack);
    return b;
}

static pac_err attach(pac_tuned *t, pac_model *m)
{
    for (int64_t l = t->first; l < t->last; l++) {
        pac_block_weights *b = pac_model_block_tunable(m, l);
        PAC_CHECK(b != NULL, PAC_EINVAL, "adapters: the model does not hold layer %lld", (long long)l);
        b->self_adapter = *module_of(t, l, SELF);
        b->ff_adapter = *module_of(t, l, FF);
    }
    return PAC_OK;
}

const technique pac_technique_adapters = {
    .name = "adapters", .through = true, .check = check, .walk = walk, .make = make, .place = place, .attach = attach};
