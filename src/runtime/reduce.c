/*
 * Sums of gradients. Within a group every rank holds the same parameters and has seen its own samples: an all-reduce of the
 * flat gradient, in buckets (buckets.c). A parameter that several stages hold (a position-bias table) is then summed once more
 * over those stages, each counted by its first member. Every micro-batch was already weighted by the mini-batch's true count,
 * so a sum is all there is to do.
 */
#include "train.h"
#include "transfer.h"

#include <math.h>
#include <string.h>

int64_t first_holder(const pac_plan *plan, const pac_param *p)
{
    int64_t s = 0;
    while (!pac_param_in(p, plan->stage[s].first, plan->stage[s].last))
        s++;
    return s;
}

/* ---- which stages share a parameter: every rank has the whole list, so all make the same sets in the same order ---- */

typedef struct sharing {
    const pac_layout *l;
    reducer *r;
    int64_t next; /* of this stage's parameters */
} sharing;

static int64_t count_holders(const pac_plan *plan, const pac_param *p, bool *in)
{
    int64_t n = 0;
    for (int64_t s = 0; s < plan->stages; s++) {
        in[s] = pac_param_in(p, plan->stage[s].first, plan->stage[s].last);
        n += in[s];
    }
    return n;
}

/* The set of these stages, made when it is met first. Collective. */
static pac_err find_set(sharing *x, const bool *in, holder_set **out)
{
    reducer *r = x->r;
    size_t bytes = (size_t)x->l->P * sizeof *in;
    for (int64_t i = 0; i < r->nsets; i++) {
        *out = (holder_set *)r->sets + i;
        if (memcmp((*out)->in, in, bytes) == 0)
            return PAC_OK;
    }
    PAC_TRY(pac_agree(pac_world(), pac_mem_grow(PAC_MEM_OTHER, &r->sets, &r->sets_capacity, r->nsets + 1, sizeof(holder_set))));
    *out = (holder_set *)r->sets + r->nsets++;
    **out = (holder_set){.ranks = NULL};
    memcpy((*out)->in, in, bytes);
    return pac_layout_stages(x->l, in, &(*out)->ranks);
}

static pac_err share_param(sharing *x, const pac_param *p)
{
    reducer *r = x->r;
    bool in[PAC_MAX_DEVICES] = {false};
    holder_set *set;
    int64_t holders = count_holders(x->l->plan, p, in), mine = x->l->stage, index = x->next;
    x->next += in[mine];
    if (holders < 2)
        return PAC_OK;
    PAC_TRY(pac_agree(pac_world(),
                      pac_mem_grow(PAC_MEM_OTHER, &r->shared, &r->shared_capacity, r->nshared + 1, sizeof(shared_param))));
    PAC_TRY(find_set(x, in, &set));
    if (in[mine])
        ((shared_param *)r->shared)[r->nshared++] =
            (shared_param){.index = index, .holders = set->ranks, .first = first_holder(x->l->plan, p) == mine};
    return PAC_OK;
}

pac_err reducer_for_stage(const pac_job *job, const pac_layout *l, reducer *out)
{
    reducer r = {.job = job, .group = l->group, .member = l->member};
    sharing x = {.l = l, .r = &r};
    param_list all;
    pac_err err = PAC_OK;
    PAC_TRY(param_list_new(job, &all));
    for (int64_t i = 0; i < all.count && err == PAC_OK; i++)
        err = share_param(&x, (const pac_param *)all.v + i);
    param_list_free(&all);
    if (err != PAC_OK)
        reducer_free(&r);
    else
        *out = r;
    return err;
}

void reducer_for_world(const pac_job *job, reducer *out)
{
    *out = (reducer){.job = job, .group = pac_world(), .member = pac_world_rank()};
}

void reducer_free(reducer *r)
{
    for (int64_t i = 0; i < r->nsets; i++)
        if (((holder_set *)r->sets)[i].ranks != NULL)
            pac_comm_free(&((holder_set *)r->sets)[i].ranks);
    pac_mem_free(r->sets);
    pac_mem_free(r->shared);
    buckets_close(&r->buckets);
    *r = (reducer){0};
}

static pac_err sum_shared(const reducer *r, pac_params *p)
{
    for (int64_t i = 0; i < r->nshared; i++) {
        const shared_param *s = (const shared_param *)r->shared + i;
        pac_param *v = &p->v[s->index];
        if (r->member != 0)
            r->job->be->zero(v->g, v->n);
        PAC_TRY(ranks_sum(s->holders, r->job, v->g, v->n));
    }
    return PAC_OK;
}

/* Each parameter once: by member 0 of the first stage that holds it. */
static double own_sumsq(const reducer *r, const pac_params *p)
{
    const pac_backend *be = r->job->be;
    if (r->member != 0)
        return 0;
    double sum = be->sumsq(p->g, p->total);
    for (int64_t i = 0; i < r->nshared; i++) {
        const shared_param *s = (const shared_param *)r->shared + i;
        if (!s->first)
            sum -= be->sumsq(p->v[s->index].g, p->v[s->index].n);
    }
    return sum < 0 ? 0 : sum; /* not a number stays so */
}

pac_err reduce_gradients(reducer *r, pac_params *p, double local_loss, step_sums *out)
{
    bool done;
    PAC_TRY(buckets_finish(&r->buckets, &done));
    if (!done && pac_comm_size(r->group) > 1)
        PAC_TRY(ranks_sum(r->group, r->job, p->g, p->total));
    PAC_TRY(sum_shared(r, p));
    double sums[2] = {local_loss, own_sumsq(r, p)};
    PAC_TRY(pac_sum_f64(pac_world(), sums, 2));
    *out = (step_sums){.loss = sums[0], .norm = sqrt(sums[1])};
    if (!isfinite(out->norm)) /* perhaps because an op of a device failed since the step's last wait: that rank says so */
        PAC_TRY(pac_agree(pac_world(), pac_space_sync(r->job->be->space)));
    PAC_CHECK(isfinite(out->loss) && isfinite(out->norm), PAC_ENUMERIC,
              "loss %g, gradient norm %g: not finite; try a smaller train.lr, a longer train.warmup or train.clip: 1.0",
              out->loss, out->norm);
    return PAC_OK;
}
