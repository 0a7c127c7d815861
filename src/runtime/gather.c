/*
 * From stages to the whole network: after the hybrid epoch each parameter is sent by the first member of the first stage that
 * holds it, and the optimizer's moments travel with it, so the cached phase continues the same optimization.
 */
#include "train.h"

#include <string.h>

typedef struct source {
    int64_t rank;  /* world rank that sends */
    int64_t index; /* in the sender's own list, -1 elsewhere */
} source;

static int64_t find_param(const pac_params *p, const char *name)
{
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->v[i].name, name) == 0)
            return i;
    return -1;
}

static source source_of(const train *t, const pac_params *mine, const pac_param *whole)
{
    source from = {.rank = t->plan->stage[first_holder(t->plan, whole)].rank[0], .index = -1};
    if (from.rank == pac_world_rank())
        from.index = find_param(mine, whole->name);
    return from;
}

static pac_err send_array(const float *mine, float *whole, int64_t n, const source *from)
{
    if (from->index >= 0)
        memcpy(whole, mine, (size_t)n * sizeof(float));
    return pac_bcast(pac_world(), whole, (size_t)n * sizeof(float), from->rank);
}

pac_err gather_whole(train *t, pac_params *mine, pac_optimizer *mine_opt, pac_side *whole, pac_optimizer *whole_opt)
{
    pac_params *all = pac_side_params(whole);
    for (int64_t i = 0; i < all->count; i++) {
        pac_param *p = &all->v[i];
        source from = source_of(t, mine, p);
        int64_t here = from.index >= 0 ? mine->v[from.index].w - mine->w : 0, there = p->w - all->w;
        PAC_TRY(send_array(mine->w + here, all->w + there, p->n, &from));
        if (whole_opt == NULL || whole_opt->m == NULL)
            continue;
        PAC_TRY(send_array(mine_opt->m + here, whole_opt->m + there, p->n, &from));
        PAC_TRY(send_array(mine_opt->v + here, whole_opt->v + there, p->n, &from));
    }
    if (whole_opt != NULL)
        whole_opt->step = mine_opt->step;
    return PAC_OK;
}
