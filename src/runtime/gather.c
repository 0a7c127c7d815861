/*
 * From stages to the whole network: after the hybrid epoch each parameter is sent by the first member of the first stage that
 * holds it, and the optimizer's moments travel with it, so the cached phase continues the same optimization.
 */
#include "train.h"
#include "transfer.h"

/* ---- every parameter ---- */

static pac_err list_param(void *ctx, const pac_param *p)
{
    param_list *l = ctx;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &l->v, &l->capacity, l->count + 1, sizeof *p));
    ((pac_param *)l->v)[l->count++] = *p;
    l->total += p->n;
    l->largest = p->n > l->largest ? p->n : l->largest;
    return PAC_OK;
}

pac_err param_list_new(const pac_job *job, param_list *out)
{
    param_list l = {0};
    pac_err err = pac_agree(pac_world(), pac_tune_walk(&job->desc, &job->tune, list_param, &l));
    if (err != PAC_OK)
        param_list_free(&l);
    else
        *out = l;
    return err;
}

void param_list_free(param_list *l)
{
    pac_mem_free(l->v);
    *l = (param_list){0};
}

/* ---- from stages to the whole network ---- */

typedef struct source {
    int64_t rank;  /* world rank that sends */
    int64_t index; /* in the sender's own list, -1 elsewhere */
} source;

static source source_of(const pac_plan *plan, const pac_params *mine, const pac_param *whole, int64_t *from)
{
    source s = {.rank = plan->stage[first_holder(plan, whole)].rank[0], .index = -1};
    const pac_param *p = s.rank == pac_world_rank() ? pac_params_find(mine, whole->name, from) : NULL;
    if (p != NULL)
        s.index = p - mine->v;
    return s;
}

static pac_err send_array(const pac_job *job, const float *mine, float *whole, int64_t n, const source *from)
{
    if (from->index >= 0)
        PAC_TRY(pac_move(job->be->space, whole, mine, n));
    return ranks_bcast(pac_world(), job, whole, n, from->rank);
}

pac_err gather_whole(const pac_job *job, const pac_plan *plan, const pac_params *mine, pac_optimizer *mine_opt,
                     pac_tuned *whole, pac_optimizer *whole_opt)
{
    pac_params *all = pac_tuned_params(whole);
    int64_t at = 0;
    for (int64_t i = 0; i < all->count; i++) {
        pac_param *p = &all->v[i];
        source from = source_of(plan, mine, p, &at);
        int64_t here = from.index >= 0 ? mine->v[from.index].w - mine->w : 0, there = p->w - all->w;
        PAC_TRY(send_array(job, mine->w + here, all->w + there, p->n, &from));
        if (whole_opt == NULL || whole_opt->m == NULL)
            continue;
        PAC_TRY(send_array(job, mine_opt->m + here, whole_opt->m + there, p->n, &from));
        PAC_TRY(send_array(job, mine_opt->v + here, whole_opt->v + there, p->n, &from));
    }
    if (whole_opt != NULL)
        whole_opt->step = mine_opt->step;
    return PAC_OK;
}
