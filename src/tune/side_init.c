/*
 * Initial values of the side network. A draw is a function of (seed, name, index), so a parameter starts the same on every
 * layout; `magnitude` then overwrites what the backbone has a counterpart for.
 */
#include "side.h"

#include "pac/rng.h"

#include <math.h>
#include <string.h>

static float deviation(const pac_side *s, const side_item *item)
{
    double product = 1;
    for (const char *c = item->rule->fan; *c != '\0'; c++)
        product *= (double)pac_side_size(&s->desc, &s->opts, item->stack, *c);
    return (float)(1 / sqrt(product));
}

static void draw(const pac_side *s, const side_item *item, const pac_param *p)
{
    const char *fan = item->rule->fan;
    uint64_t seed = s->opts.seed ^ pac_rng_name(p->name);
    bool constant = strcmp(fan, "0") == 0 || strcmp(fan, "1") == 0;
    float scale = deviation(s, item);
    for (int64_t i = 0; i < p->n; i++)
        p->w[i] = constant ? (float)(fan[0] - '0') : scale * pac_rng_normal(seed, PAC_STREAM_INIT, (uint64_t)i);
}

typedef struct cursor {
    pac_side *s;
    int64_t next;
} cursor;

/* The slice's parameters are met in their order in the slice. */
static pac_err draw_next(void *ctx, const side_item *item)
{
    cursor *c = ctx;
    pac_params *p = &c->s->params;
    if (c->next < p->count && strcmp(p->v[c->next].name, item->param.name) == 0)
        draw(c->s, item, &p->v[c->next++]);
    return PAC_OK;
}

pac_err pac_side_init(pac_side *s, const pac_model *model, const double *imp)
{
    cursor c = {.s = s};
    PAC_CHECK(s->opts.init != PAC_INIT_FISHER, PAC_ENOTBUILT,
              "technique.init: fisher is not built yet; use magnitude or random");
    PAC_TRY(pac_side_walk(&s->desc, &s->opts, draw_next, &c));
    if (s->opts.init != PAC_INIT_MAGNITUDE)
        return PAC_OK;
    PAC_CHECK(model != NULL && imp != NULL, PAC_EINVAL, "pruning needs the backbone and its importances");
    return pac_side_prune(s, model, imp);
}
