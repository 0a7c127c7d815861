#include "instances.h"

#include "pac/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t stream, draws;

static double uniform(double lo, double hi)
{
    return lo + (hi - lo) * (double)pac_rng_uniform(stream, PAC_STREAM_TEST, draws++);
}

static double between(double lo, double hi) /* even in the logarithm */
{
    return exp(uniform(log(lo), log(hi)));
}

static int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(stream, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

/* Fixed costs at every size as well, so that small micro-batches are not free. */
static pac_cost_curve curve(int kind, double tokens, double fixed, double per_sample, double backward)
{
    pac_cost_curve c = {.points = 4};
    double each = pac_cost_tokens((pac_cost_kind)kind, tokens, 1);
    for (int i = 0; i < 4; i++) {
        c.tokens[i] = (double)(1 << 2 * i) / 4 * each;
        c.fwd[i] = fixed + per_sample * (double)(1 << 2 * i) / 4;
        c.bwd[i] = backward * c.fwd[i];
    }
    return c;
}

static void make_layers(instance *x)
{
    for (int64_t l = 0; l < x->p.layers_enc + x->p.layers_dec; l++) {
        pac_layer_bytes *b = &x->layer[l];
        *b = (pac_layer_bytes){.weights = between(2e6, 2e7),
                               .tuned = integer(0, 4) > 0 ? between(1e4, 1e6) : 0,
                               .activations = between(1e4, 1e6),
                               .work = uniform(0, 2e5)};
        if (l == 0 || l == x->p.layers_enc)
            b->weights += b->shared = x->p.layers_dec > 0 ? 1e7 : 0;
        x->fwd[l + 1] = between(1e4, 1e6);
        x->bwd[l + 1] = between(1e3, 1e6);
    }
}

/* A base speed for each kind of work, a factor for each device, and some unevenness of both. */
static void make_devices(instance *x, const instance_kind *kind)
{
    double base[PAC_COST_NKINDS], ratio = between(kind->least_ratio, kind->most_ratio), backward = uniform(0, 2);
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        base[k] = between(2e-4, 1e-2);
    for (int64_t d = 0; d < x->p.devices; d++) {
        pac_device *v = &x->device[d];
        snprintf(v->name, sizeof v->name, "device:%d", (int)d);
        double slow = d == 0 ? 1 : d == 1 ? ratio : between(1, ratio), start = uniform(0, 1);
        for (int k = 0; k < PAC_COST_NKINDS; k++) {
            bool side = k == PAC_COST_ENC_SIDE || k == PAC_COST_DEC_SIDE || k == PAC_COST_HEAD;
            double t = slow * base[k] * uniform(0.9, 1.1) * (side ? 0.3 : 1);
            v->cost[k] = curve(k, 100, start * t, t, side ? 2 : backward);
        }
        v->overhead = uniform(0, 1e-3);
        v->update = between(1e-10, 1e-8);
        v->disk_write = integer(0, 3) > 0 ? between(1e6, 1e9) : 0;
        v->disk_read = integer(0, 3) > 0 ? between(1e7, 1e9) : 0;
    }
}

static void make_links(instance *x)
{
    double speed = between(1e6, 1e9);
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = speed * between(0.3, 3);
        x->latency[i] = between(1e-5, 1e-3);
    }
}

/* From plenty down to less than a fair part of what one device would need. */
static void make_budgets(instance *x, const instance_kind *kind)
{
    double all = x->p.fixed, parts = (double)x->p.devices;
    for (int64_t l = 0; l < x->p.layers_enc + x->p.layers_dec; l++)
        all += x->layer[l].weights + 4 * x->layer[l].tuned + 4 * x->layer[l].activations;
    bool roomy = kind->least_room == 0;
    double tight = roomy ? 0 : between(kind->least_room, 4);
    for (int64_t d = 0; d < x->p.devices; d++) {
        x->device[d].memory = roomy ? 1e12 : fmin(all * 2, tight * all / parts * between(0.5, 2));
        double need = (double)x->q.rows * x->p.cached_step_bytes_read;
        x->device[d].disk_space = roomy || integer(0, 5) > 0 ? 0 : need * uniform(0.8, 2);
    }
}

static void make_request(instance *x, const instance_kind *kind)
{
    x->q = (pac_plan_request){.profile = &x->p,
                              .batch = integer(kind->least_batch, kind->most_batch),
                              .rows = integer(20, 3000),
                              .epochs = integer(1, 5),
                              .cached = integer(0, 3) > 0};
    if (kind->plain)
        return;
    if (integer(0, 5) == 0)
        x->q.microbatches = integer(1, x->q.batch);
    if (integer(0, 9) == 0)
        x->q.every_device = true;
    if (integer(0, 9) == 0)
        x->q.most_ranks = integer(1, 2);
    if (integer(0, 9) == 0)
        x->q.most_stages = integer(1, 3);
    int64_t L = x->p.layers_enc + x->p.layers_dec, stages = x->q.most_stages > 0 && x->q.most_stages < L ? x->q.most_stages : L;
    if (x->q.every_device && x->q.most_ranks > 0 && x->q.most_ranks * stages < x->p.devices)
        x->q.every_device = false;
}

void make_instance(instance *x, const instance_kind *kind, uint64_t seed, uint64_t number)
{
    stream = seed * 1000003 + number;
    draws = 0;
    memset(x, 0, sizeof *x);
    int64_t L = integer(kind->least_layers, kind->most_layers), dec = integer(0, 1) ? L / 2 : 0;
    x->p = (pac_profile){.layers_enc = L - dec,
                         .layers_dec = dec,
                         .source_tokens = 100,
                         .target_tokens = 1,
                         .optimizer_states = (double)(2 * integer(0, 1)),
                         .fixed = uniform(0, 1e6),
                         .layer = x->layer,
                         .boundary_fwd = x->fwd,
                         .boundary_bwd = x->bwd,
                         .device = x->device,
                         .bandwidth = x->bandwidth,
                         .latency = x->latency,
                         .cached_step_bytes_read = between(1e4, 1e6),
                         .cached_fixed = between(1e5, 1e7),
                         .cached_sample = between(1e4, 1e6)};
    x->p.devices = integer(kind->least_devices, kind->most_devices);
    make_layers(x);
    make_devices(x, kind);
    make_links(x);
    make_request(x, kind);
    make_budgets(x, kind);
}

/* ---- what a plan has to keep to ---- */

static bool keeps_to_budgets(const instance *x, const pac_plan *plan)
{
    double need = (double)x->q.rows * x->p.cached_step_bytes_read;
    for (int64_t i = 0; i < plan->stages; i++)
        for (int64_t r = 0; r < plan->stage[i].ranks; r++) {
            const pac_device *d = &x->device[plan->stage[i].rank[r]];
            if (plan->stage[i].bytes[r] > d->memory)
                return false;
            if (plan->cached && x->q.cached && x->q.epochs > 1 && d->disk_space > 0 && d->disk_space < need)
                return false;
        }
    return true;
}

bool plan_is_sound(const instance *x, const pac_plan *plan)
{
    int64_t seen[MOST_DEVICES] = {0}, layer = 0, ranks = 0;
    for (int64_t i = 0; i < plan->stages; i++) {
        const pac_stage_plan *st = &plan->stage[i];
        double sum = 0;
        if (st->first != layer || st->last <= layer || st->ranks < 1 || (x->q.most_ranks > 0 && st->ranks > x->q.most_ranks))
            return false;
        layer = st->last;
        for (int64_t r = 0; r < st->ranks; r++, ranks++) {
            if (st->rank[r] < 0 || st->rank[r] >= x->p.devices || seen[st->rank[r]]++ > 0 || !(st->share[r] > 0))
                return false;
            sum += st->share[r];
        }
        if (fabs(sum - 1) > 1e-9)
            return false;
    }
    bool all = !x->q.every_device || ranks == x->p.devices, few = x->q.most_stages == 0 || plan->stages <= x->q.most_stages;
    bool M = x->q.microbatches == 0 || plan->microbatches == x->q.microbatches;
    return layer == x->p.layers_enc + x->p.layers_dec && ranks + plan->left_out == x->p.devices && all && few && M &&
           keeps_to_budgets(x, plan);
}

/* ---- every plan ---- */

enum { FEW_DEVICES = 6, FEW_LAYERS = 12 };

/* A plan with room for any: groups, then cuts, then micro-batches are chosen in turn. */
typedef struct every {
    const instance *x;
    pac_plan plan;
    pac_stage_plan stage[FEW_DEVICES];
    int64_t rank[FEW_DEVICES][FEW_DEVICES];
    double share[FEW_DEVICES][FEW_DEVICES], bytes[FEW_DEVICES][FEW_DEVICES], cached_share[FEW_DEVICES];
    bool equal; /* shares are set */
    double best;
    int64_t plans;
} every;

static void try_plan(every *e, bool cached)
{
    e->plan.cached = cached;
    if ((!e->equal && pac_plan_share(&e->x->p, &e->x->q, &e->plan) != PAC_OK) ||
        pac_plan_predict(&e->x->p, &e->x->q, &e->plan) != PAC_OK)
        return;
    e->plans++;
    if (keeps_to_budgets(e->x, &e->plan) && e->plan.predicted.total_s < e->best)
        e->best = e->plan.predicted.total_s;
}

static void every_microbatches(every *e)
{
    const pac_plan_request *q = &e->x->q;
    int64_t from = q->microbatches > 0 ? q->microbatches : 1, to = q->microbatches > 0 ? q->microbatches : q->batch;
    for (e->plan.microbatches = from; e->plan.microbatches <= to; e->plan.microbatches++) {
        try_plan(e, false);
        if (q->cached && q->epochs > 1)
            try_plan(e, true);
    }
}

static void every_cut(every *e, int64_t i, int64_t first)
{
    pac_stage_plan *st = &e->stage[i];
    int64_t after = e->plan.stages - 1 - i;
    st->first = first;
    if (after == 0) {
        st->last = e->plan.layers;
        every_microbatches(e);
        return;
    }
    for (int64_t last = first + 1; last + after <= e->plan.layers; last++) {
        st->last = last;
        every_cut(e, i + 1, last);
    }
}

/* in[d]: the stage of device d, -1: left out. Stages must have a device each, and no more than allowed. */
static void use_groups(every *e, const int64_t *in)
{
    const pac_plan_request *q = &e->x->q;
    int64_t left_out = 0;
    for (int64_t i = 0; i < e->plan.stages; i++)
        e->stage[i].ranks = 0;
    for (int64_t d = 0; d < e->x->p.devices; d++)
        if (in[d] >= 0)
            e->stage[in[d]].rank[e->stage[in[d]].ranks++] = d;
        else
            left_out++;
    e->plan.left_out = left_out;
    bool allowed = !q->every_device || left_out == 0;
    for (int64_t i = 0; i < e->plan.stages; i++)
        allowed = allowed && e->stage[i].ranks > 0 && (q->most_ranks == 0 || e->stage[i].ranks <= q->most_ranks);
    if (allowed)
        every_cut(e, 0, 0);
}

static void every_group(every *e, int64_t d, int64_t *in)
{
    if (d == e->x->p.devices) {
        use_groups(e, in);
        return;
    }
    for (in[d] = -1; in[d] < e->plan.stages; in[d]++)
        every_group(e, d + 1, in);
}

static void prepare(every *e, const instance *x, bool equal)
{
    *e = (every){.x = x, .equal = equal, .best = INFINITY};
    e->plan = (pac_plan){.world = x->p.devices, .layers = x->p.layers_enc + x->p.layers_dec, .stage = e->stage};
    e->plan.cached_share = equal ? NULL : e->cached_share;
    for (int i = 0; i < FEW_DEVICES; i++)
        e->stage[i] = (pac_stage_plan){.rank = e->rank[i], .share = e->share[i], .bytes = e->bytes[i]};
}

double best_of_all(const instance *x, int64_t *plans)
{
    int64_t L = x->p.layers_enc + x->p.layers_dec, in[FEW_DEVICES];
    every e;
    prepare(&e, x, false);
    int64_t most = x->q.most_stages > 0 && x->q.most_stages < L ? x->q.most_stages : L;
    for (e.plan.stages = 1; e.plan.stages <= most && e.plan.stages <= x->p.devices; e.plan.stages++)
        every_group(&e, 0, in);
    *plans = e.plans;
    return e.best;
}

/* ---- plans in the order of the profile ---- */

/* Layers by `weight` of each stage, at least one. */
static void cut_evenly(every *e, bool by_ranks)
{
    int64_t first = 0, sum = 0, all = by_ranks ? e->x->p.devices : e->plan.stages;
    for (int64_t i = 0; i < e->plan.stages; i++) {
        pac_stage_plan *st = &e->stage[i];
        int64_t after = e->plan.stages - 1 - i;
        sum += by_ranks ? st->ranks : 1;
        st->first = first;
        st->last = (int64_t)rint((double)(e->plan.layers * sum) / (double)all);
        st->last = st->last > e->plan.layers - after ? e->plan.layers - after : st->last <= first ? first + 1 : st->last;
        first = st->last;
    }
    every_microbatches(e);
}

/* The bits of `cuts` say behind which devices a stage ends. */
static void group_in_order(every *e, int64_t cuts)
{
    e->plan.stages = 0;
    e->stage[0].ranks = 0;
    for (int64_t d = 0; d < e->x->p.devices; d++) {
        pac_stage_plan *st = &e->stage[e->plan.stages];
        st->rank[st->ranks++] = d;
        if (d + 1 == e->x->p.devices || cuts >> d & 1) {
            for (int64_t r = 0; r < st->ranks; r++)
                st->share[r] = 1 / (double)st->ranks;
            e->plan.stages++;
            if (d + 1 < e->x->p.devices)
                e->stage[e->plan.stages].ranks = 0;
        }
    }
}

double best_in_order(const instance *x, order_rule rule)
{
    every e;
    prepare(&e, x, rule == EQUAL);
    for (int64_t cuts = 0; cuts < (int64_t)1 << (x->p.devices - 1); cuts++) {
        group_in_order(&e, cuts);
        if (e.plan.stages > e.plan.layers)
            continue;
        if (rule == UNEQUAL) {
            every_cut(&e, 0, 0);
        } else {
            cut_evenly(&e, false);
            cut_evenly(&e, true);
        }
    }
    return e.best;
}
