/* Full fine-tuning: every tensor of the backbone learns. The slice's weights move from the mapped file to the parameter list.
 */
#include "technique.h"

#include <stdio.h>
#include <string.h>

typedef struct outer {
    tune_visitor *visit;
    void *ctx;
} outer;

static pac_err visit_weight(void *ctx, const pac_weight *w)
{
    const outer *v = ctx;
    if (w->buffer)
        return PAC_OK;
    tune_item item = {.from_model = true, .param = {.ndim = w->ndim, .n = w->n, .uses = w->uses}};
    snprintf(item.param.name, sizeof item.param.name, "%s", w->name);
    memcpy(item.param.shape, w->shape, sizeof item.param.shape);
    memcpy(item.param.use, w->use, sizeof item.param.use);
    return v->visit(v->ctx, &item);
}

static pac_err walk(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    outer v = {visit, ctx};
    return pac_model_walk(d, o->head == PAC_HEAD_LM, visit_weight, &v);
}

static pac_err attach(pac_tuned *t, pac_model *m)
{
    for (int64_t i = 0; i < t->params.count; i++) {
        const pac_param *p = &t->params.v[i];
        if (strncmp(p->name, "head.", 5) != 0)
            PAC_TRY(pac_model_take(m, p->name, p->w, p->g));
    }
    return PAC_OK;
}

const technique pac_technique_full = {.name = "full", .through = true, .walk = walk, .attach = attach};
