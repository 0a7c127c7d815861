/*
 * Beyond small clusters: local search over drafts (docs/planner.md).
 *
 * Starts: for each number of stages several orders of the devices (by speed, by memory, as given, both ways), cut into groups
 * of equal summed speed; cuts by rates. Every start descends through single changes, of cuts, M, devices and stages, until none
 * helps; then the best drafts are shaken and descend again, until the effort that the cluster's size allows is spent. Effort
 * counts operations, not seconds: the answer is the same on every machine.
 */
#include "local.h"

#include "pac/rng.h"

#include <math.h>

enum { ORDERS = 6, TOP = 3, DRAWS = 40 };

typedef struct large {
    pac_local l;
    double speed[PAC_MAX_DEVICES];
    uint64_t draws;
} large;

static int64_t draw(large *g, int64_t n)
{
    return (int64_t)(pac_rng_u64(5, PAC_STREAM_ORDER, g->draws++) % (uint64_t)n);
}

/* ---- starts ---- */

static double key_of(const large *g, int64_t d, int order)
{
    switch (order / 2) {
    case 0:
        return g->speed[d];
    case 1:
        return g->l.k->c.p->device[d].memory;
    default:
        return (double)d;
    }
}

/* Devices by a key, rising or falling (odd orders). Insertion sort: equal keys keep their order. */
static void order_devices(const large *g, int order, int64_t *to)
{
    for (int64_t d = 0; d < g->l.k->c.D; d++) {
        int64_t at = d;
        double sign = order % 2 == 0 ? 1 : -1, key = sign * key_of(g, d, order);
        for (; at > 0 && sign * key_of(g, to[at - 1], order) > key; at--)
            to[at] = to[at - 1];
        to[at] = d;
    }
}

/* The first `use` devices of the order in groups of about equal speed. */
static pac_draft start(const large *g, const int64_t *order, int64_t use, int64_t stages, int64_t M)
{
    pac_draft x = {.stages = stages, .M = M, .total = INFINITY, .lacks = INFINITY};
    double all = 0, before = 0;
    for (int64_t d = 0; d < g->l.k->c.D; d++)
        x.in[d] = -1;
    for (int64_t i = 0; i < use; i++)
        all += g->speed[order[i]];
    int64_t stage = 0;
    for (int64_t i = 0; i < use; i++) {
        int64_t fair = (int64_t)((before + g->speed[order[i]] / 2) / all * (double)stages);
        int64_t least = stages - (use - i), last = i == 0 ? 0 : stage + 1;
        stage = fair < stage ? stage : fair > last ? last : fair;
        stage = stage < least ? least : stage >= stages ? stages - 1 : stage;
        x.in[order[i]] = (int16_t)stage;
        before += g->speed[order[i]];
    }
    return x;
}

static void try_start(large *g, pac_draft *best, const int64_t *order, int64_t use, int64_t stages, int64_t M)
{
    pac_draft x = start(g, order, use, stages, M);
    if (pac_local_cut(&g->l, &x) && pac_draft_is_better(&x, best))
        *best = x;
}

static void starts(large *g, int64_t stages, pac_draft *best)
{
    int64_t D = g->l.k->c.D, order[PAC_MAX_DEVICES];
    for (int o = 0; o < ORDERS; o++) {
        order_devices(g, o, order);
        for (int64_t i = g->l.k->nM - 1; i >= 0; i -= 1 + g->l.k->nM / 8)
            for (int64_t use = D; use >= stages && use >= D / 4; use -= 1 + D / 8)
                try_start(g, best, order, use, stages, g->l.k->M[i]);
    }
}

/* ---- shaking ---- */

static void shake_once(large *g, pac_draft *x)
{
    int64_t D = g->l.k->c.D, d = draw(g, D), e = draw(g, D);
    int16_t was = x->in[d];
    switch (draw(g, 4)) {
    case 0:
        x->M = g->l.k->M[draw(g, g->l.k->nM)];
        return;
    case 1:
        x->in[d] = (int16_t)(draw(g, x->stages + 1) - 1);
        return;
    case 2:
        x->in[d] = x->in[e];
        x->in[e] = was;
        return;
    default:
        for (int64_t i = 0; i < D; i++)
            if (x->in[i] >= 0)
                x->in[i] = (int16_t)(x->stages - 1 - x->in[i]); /* the groups in reverse */
    }
}

static pac_draft shaken(large *g, const pac_draft *from)
{
    for (int i = 0; i < 20; i++) {
        pac_draft x = *from;
        for (int64_t n = 1 + draw(g, 4); n > 0; n--)
            shake_once(g, &x);
        if (pac_local_cut(&g->l, &x))
            return x;
    }
    return *from;
}

/* The best of several groupings drawn anew, of about all, three quarters or a half of the devices. */
static pac_draft drawn(large *g, int64_t stages)
{
    pac_draft best = {.total = INFINITY, .lacks = INFINITY};
    for (int i = 0; i < DRAWS && !pac_local_spent(&g->l); i++) {
        pac_draft x = {.stages = stages, .M = g->l.k->M[draw(g, g->l.k->nM)]};
        int64_t left_out = draw(g, 3);
        for (int64_t d = 0; d < g->l.k->c.D; d++)
            x.in[d] = (int16_t)(draw(g, 4) < left_out ? -1 : draw(g, stages));
        if (pac_local_cut(&g->l, &x) && pac_draft_is_better(&x, &best))
            best = x;
    }
    return best;
}

/* ---- the whole ---- */

/* The n best of best[1..most], best first. Returns how many there are. */
static int64_t top_of(const pac_draft *best, int64_t most, int64_t n, int64_t *top)
{
    int64_t have = 0;
    for (int64_t s = 1; s <= most; s++) {
        int64_t at = have;
        for (; at > 0 && pac_draft_is_better(&best[s], &best[top[at - 1]]); at--)
            if (at < n)
                top[at] = top[at - 1];
        if (at < n)
            top[at] = s;
        have += have < n && best[s].stages > 0;
    }
    return have;
}

/* Pairs of changes, once for each draft that is among the best. True: there was one to look at. */
static bool look_further(large *g, pac_draft *best, const int64_t *top, int64_t n, double *looked)
{
    for (int64_t i = 0; i < n; i++) {
        pac_draft *x = &best[top[i]];
        double seen = x->lacks > 0 ? -x->lacks : x->total;
        if (looked[x->stages] == seen)
            continue;
        while (pac_local_change_two(&g->l, x))
            pac_local_descend(&g->l, x, true);
        looked[x->stages] = x->lacks > 0 ? -x->lacks : x->total;
        return true;
    }
    return false;
}

static void shake_best(large *g, pac_draft *best, int64_t most)
{
    double looked[PAC_MAX_DEVICES + 1] = {0}; /* by number of stages: the total, or minus the bytes that lack */
    for (int64_t round = 0; !pac_local_spent(&g->l); round++) {
        int64_t top[TOP], n = top_of(best, most, TOP, top);
        if (n == 0)
            return;
        if (look_further(g, best, top, n, looked))
            continue;
        pac_draft x = round % 2 == 0 ? shaken(g, &best[top[round % 4 == 0 ? 0 : draw(g, n)]]) : drawn(g, 1 + draw(g, most));
        if (x.stages < 1)
            continue;
        pac_local_descend(&g->l, &x, round % 4 < 2);
        if (pac_draft_is_better(&x, &best[x.stages]))
            best[x.stages] = x;
    }
}

/* Samples a second, of all layers. A device that takes no time is merely very fast, so that speeds can be summed. */
static double speed_of(const pac_costs *c, int64_t d)
{
    return 1 / fmax(pac_work_seconds(c, &c->whole, d, 1, false) + pac_work_seconds(c, &c->whole, d, 1, true), 1e-12);
}

pac_err pac_search_large(pac_search *k)
{
    large g = {.l.k = k};
    void *v;
    PAC_TRY(pac_search_rates(k));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->most_stages + 1, sizeof(pac_draft), &v));
    pac_draft *best = v;
    g.l.most_effort = k->c.D <= 6 ? 2e8 : 1.2e8 * fmax(1, pow((double)k->c.D / 8, 1.6)); /* 0.07 s; 0.05 s for 8 devices */
    for (int64_t d = 0; d < k->c.D; d++)
        g.speed[d] = speed_of(&k->c, d);
    double all = g.l.most_effort;
    for (int64_t s = 1; s <= k->most_stages; s++)
        best[s].total = best[s].lacks = INFINITY;
    for (int64_t s = 1; s <= k->most_stages; s += s < PAC_LOCAL_FEW ? 1 : s / 4) {
        g.l.most_effort = all * (0.2 + 0.4 * (double)s / (double)k->most_stages);
        starts(&g, s, &best[s]);
        if (best[s].stages > 0)
            pac_local_descend(&g.l, &best[s], true);
    }
    g.l.most_effort = all;
    shake_best(&g, best, k->most_stages);
    pac_mem_free(best);
    return PAC_OK;
}
