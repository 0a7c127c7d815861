/*
 * Sums of gradients. Within a group every rank holds the same parameters and has seen its own samples: one all-reduce of the
 * flat gradient. A parameter that several stages hold (a position-bias table) is then summed once more over those stages, each
 * counted by its first member. Every micro-batch was already weighted by the mini-batch's true count, so a sum is all there is
 * to do.
 */
#include "train.h"

#include <math.h>
#include <string.h>

int64_t first_holder(const pac_plan *plan, const pac_param *p)
{
    int64_t s = 0;
    while (plan->stage[s].last <= p->first)
        s++;
    return s;
}

static int64_t last_holder(const pac_plan *plan, const pac_param *p)
{
    int64_t s = plan->stages - 1;
    while (plan->stage[s].first > p->last)
        s--;
    return s;
}

/* Which intervals of stages share a parameter, seen from all ranks: wanted[i * P + j]. */
static pac_err wanted_spans(const pac_layout *l, const pac_params *p, double *wanted)
{
    int64_t P = l->P;
    memset(wanted, 0, (size_t)(P * P) * sizeof *wanted);
    for (int64_t i = 0; i < p->count; i++) {
        int64_t a = first_holder(l->plan, &p->v[i]), b = last_holder(l->plan, &p->v[i]);
        if (a < b)
            wanted[a * P + b] = 1;
    }
    return pac_max_f64(pac_world(), wanted, P * P);
}

static void list_shared(const pac_layout *l, const pac_params *p, int64_t a, int64_t b, pac_comm *span, reducer *r)
{
    for (int64_t i = 0; i < p->count; i++)
        if (first_holder(l->plan, &p->v[i]) == a && last_holder(l->plan, &p->v[i]) == b)
            r->shared[r->nshared++] = (shared_param){.index = i, .span = span, .first = l->stage == a};
}

static pac_err make_spans(const pac_layout *l, const pac_params *p, const double *wanted, reducer *r)
{
    for (int64_t a = 0; a < l->P; a++)
        for (int64_t b = a + 1; b < l->P; b++) {
            if (wanted[a * l->P + b] == 0)
                continue;
            pac_comm *span = NULL;
            PAC_TRY(pac_layout_span(l, a, b, &span));
            if (span == NULL)
                continue;
            r->spans[r->nspans++] = span;
            list_shared(l, p, a, b, span, r);
        }
    return PAC_OK;
}

static pac_err reducer_arrays(const pac_layout *l, const pac_params *p, reducer *r, double **wanted)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, p->count, sizeof(shared_param), &v));
    r->shared = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, l->P * l->P, sizeof(pac_comm *), &v));
    r->spans = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, l->P * l->P, sizeof(double), &v));
    *wanted = v;
    return PAC_OK;
}

pac_err reducer_for_stage(const pac_layout *l, const pac_params *p, reducer *out)
{
    reducer r = {.group = l->group, .member = l->member};
    double *wanted = NULL;
    pac_err err;
    PAC_GO(pac_agree(pac_world(), reducer_arrays(l, p, &r, &wanted)));
    PAC_GO(wanted_spans(l, p, wanted));
    PAC_GO(make_spans(l, p, wanted, &r));
    *out = r;
out:
    pac_mem_free(wanted);
    if (err != PAC_OK)
        reducer_free(&r);
    return err;
}

void reducer_for_world(reducer *out)
{
    *out = (reducer){.group = pac_world(), .member = pac_world_rank()};
}

void reducer_free(reducer *r)
{
    for (int64_t i = 0; i < r->nspans; i++)
        pac_comm_free(&r->spans[i]);
    pac_mem_free(r->spans);
    pac_mem_free(r->shared);
    *r = (reducer){0};
}

static pac_err sum_shared(const reducer *r, pac_params *p)
{
    for (int64_t i = 0; i < r->nshared; i++) {
        pac_param *v = &p->v[r->shared[i].index];
        if (r->member != 0)
            memset(v->g, 0, (size_t)v->n * sizeof(float));
        PAC_TRY(pac_sum_f32(r->shared[i].span, v->g, v->n));
    }
    return PAC_OK;
}

/* Each parameter once: by member 0 of the first stage that holds it. */
static double own_sumsq(const reducer *r, const pac_backend *be, const pac_params *p)
{
    if (r->member != 0)
        return 0;
    double sum = be->sumsq(p->g, p->total);
    for (int64_t i = 0; i < r->nshared; i++)
        if (!r->shared[i].first)
            sum -= be->sumsq(p->v[r->shared[i].index].g, p->v[r->shared[i].index].n);
    return sum;
}

pac_err reduce_gradients(const reducer *r, const pac_backend *be, pac_params *p, double local_loss, step_sums *out)
{
    if (pac_comm_size(r->group) > 1)
        PAC_TRY(pac_sum_f32(r->group, p->g, p->total));
    PAC_TRY(sum_shared(r, p));
    double sums[2] = {local_loss, own_sumsq(r, be, p)};
    PAC_TRY(pac_sum_f64(pac_world(), sums, 2));
    *out = (step_sums){.loss = sums[0], .norm = sqrt(sums[1])};
    PAC_CHECK(isfinite(out->loss) && isfinite(out->norm), PAC_ENUMERIC,
              "loss %g, gradient norm %g: not finite; try a smaller train.lr, a longer train.warmup or train.clip: 1.0",
              out->loss, out->norm);
    return PAC_OK;
}
