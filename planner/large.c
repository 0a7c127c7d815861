/*
 * Beyond small clusters: local search over drafts (docs/planner.md).
 *
 * Starts: for each number of stages several orders of the devices (by speed, by memory, as given, both ways), cut into groups
 * of equal summed speed; cuts by rates. Every start descends through single changes, of cuts, M, devices and stages, until none
 * helps; then the best drafts are shaken and descend again, until the effort that the cluster's size allows is spent. Effort
 * counts operations, not seconds: the answer is the same on every machine.
 */
#include "draft.h"

#include "pac/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_M = 64, ORDERS = 6, FEW_DEVICES = 12, TOP = 3 };

typedef struct large {
    pac_search *k;
    double effort, most_effort; /* about a nanosecond each */
    int64_t M[MOST_M], nM;      /* numbers of micro-batches that are tried */
    double speed[PAC_MAX_DEVICES];
    uint64_t draws;
} large;

static int64_t draw(large *g, int64_t n)
{
    return (int64_t)(pac_rng_u64(5, PAC_STREAM_ORDER, g->draws++) % (uint64_t)n);
}

static bool spent(const large *g)
{
    return g->effort >= g->most_effort;
}

/* ---- single changes ---- */

static void score(large *g, pac_draft *x)
{
    pac_micro m = pac_micro_of(g->k->q->batch, x->M);
    g->effort += 400 + 6 * (double)(x->stages * m.M) + 60 * (double)(g->k->c.D * (m.size[1] < 64 ? m.size[1] + 2 : 66));
    pac_draft_score(g->k, x);
}

/* Takes y for x if it is allowed and better. */
static bool take(large *g, pac_draft *x, pac_draft *y)
{
    if (spent(g) || !pac_draft_is_allowed(g->k, y))
        return false;
    score(g, y);
    if (!pac_draft_is_better(y, x))
        return false;
    *x = *y;
    return true;
}

/* A few layers moved over single cuts, for drafts that come near: what a change of groups needs to show its worth. */
static void polish(large *g, pac_draft *y, const pac_draft *rival)
{
    bool near = rival->lacks > 0 ? y->lacks < 2 * rival->lacks : y->lacks == 0 && y->total < 1.3 * rival->total;
    for (int round = 0; round < 2 && near && g->k->c.D <= FEW_DEVICES; round++)
        for (int64_t i = 0; i + 1 < y->stages; i++)
            for (int by = -1; by <= 1; by += 2) {
                pac_draft z = *y;
                z.end[i] = (int16_t)(z.end[i] + by);
                take(g, y, &z);
            }
}

/* With its cuts as they are, if they still are cuts, and with new ones. */
static bool take_any_cut(large *g, pac_draft *x, pac_draft *y, bool keep)
{
    pac_draft as_is = *y;
    if (keep && take(g, x, &as_is))
        return true;
    if (y->stages < 1 || y->stages > g->k->most_stages)
        return false;
    for (int64_t i = 0; i < y->stages; i++) /* any, so that it can be asked whether the groups are allowed */
        y->end[i] = (int16_t)(i + 1 < y->stages ? i + 1 : g->k->c.L);
    if (spent(g) || !pac_draft_is_allowed(g->k, y))
        return false;
    g->effort += 200 * (double)(g->k->c.L + g->k->c.D);
    pac_draft_cut(g->k, y);
    score(g, y);
    if (!pac_draft_is_better(y, x))
        polish(g, y, x);
    if (!pac_draft_is_better(y, x))
        return false;
    *x = *y;
    return true;
}

/* One or more layers from stage a to stage b, the stages between shift. */
static bool shift_layers(large *g, pac_draft *x)
{
    bool better = false;
    int64_t reach = x->stages <= 8 ? x->stages : 2;
    for (int64_t a = 0; a < x->stages; a++)
        for (int64_t b = a - reach < 0 ? 0 : a - reach; b < x->stages && b <= a + reach; b++)
            for (int by = 1; by <= 4 && b != a; by *= 2) {
                pac_draft y = *x;
                for (int64_t i = a < b ? a : b; i < (a < b ? b : a); i++)
                    y.end[i] = (int16_t)(y.end[i] + (a < b ? -by : by));
                better = take(g, x, &y) || better;
            }
    return better;
}

/* Numbers of micro-batches at most `reach` places away. */
static bool change_M(large *g, pac_draft *x, int64_t reach)
{
    bool better = false;
    int64_t at = 0;
    while (at < g->nM - 1 && g->M[at] < x->M)
        at++;
    for (int64_t i = at - reach < 0 ? 0 : at - reach; i < g->nM && i <= at + reach; i++) {
        pac_draft y = *x;
        y.M = g->M[i];
        if (y.M != x->M)
            better = take_any_cut(g, x, &y, true) || better;
    }
    return better;
}

static bool move_device(large *g, pac_draft *x, int64_t d, int64_t to)
{
    pac_draft y = *x;
    y.in[d] = (int16_t)to;
    return x->in[d] != to && to < x->stages && take_any_cut(g, x, &y, true);
}

static bool swap_devices(large *g, pac_draft *x, int64_t d, int64_t e)
{
    pac_draft y = *x;
    y.in[d] = x->in[e];
    y.in[e] = x->in[d];
    return x->in[d] != x->in[e] && take_any_cut(g, x, &y, true);
}

static bool swap_stages(large *g, pac_draft *x, int64_t a, int64_t b)
{
    pac_draft y = *x;
    for (int64_t d = 0; d < g->k->c.D; d++)
        y.in[d] = (int16_t)(x->in[d] == a ? b : x->in[d] == b ? a : x->in[d]);
    return take_any_cut(g, x, &y, true);
}

/* Stage i + 1 joins stage i; `drop`: the devices of one of them (0, 1) are left out, -1: of none. */
static bool merge(large *g, pac_draft *x, int64_t i, int drop)
{
    pac_draft y = *x;
    for (int64_t d = 0; d < g->k->c.D; d++) {
        if (drop >= 0 && x->in[d] == i + drop)
            y.in[d] = -1;
        else if (x->in[d] > i)
            y.in[d]--;
    }
    y.stages--;
    for (int64_t j = i; j < y.stages; j++)
        y.end[j] = x->end[j + 1];
    return take_any_cut(g, x, &y, true);
}

/* Stage i becomes two; the devices in `set` (a bit for each member, in order) are the second, or the first if `swap`. */
static bool split(large *g, pac_draft *x, int64_t i, uint64_t set, bool swap)
{
    pac_draft y = *x;
    int64_t member = 0;
    for (int64_t d = 0; d < g->k->c.D; d++) {
        if (x->in[d] > i)
            y.in[d]++;
        if (x->in[d] == i)
            y.in[d] = (int16_t)(i + ((set >> (member++ % 64) & 1) != swap));
    }
    y.stages++;
    return take_any_cut(g, x, &y, false);
}

/* A stage of its own for device d, in front of stage i. */
static bool insert_stage(large *g, pac_draft *x, int64_t i, int64_t d)
{
    pac_draft y = *x;
    for (int64_t e = 0; e < g->k->c.D; e++)
        if (x->in[e] >= i)
            y.in[e]++;
    y.in[d] = (int16_t)i;
    y.stages++;
    return take_any_cut(g, x, &y, false);
}

/* ---- descent ---- */

static bool change_devices(large *g, pac_draft *x)
{
    bool better = false;
    int64_t D = g->k->c.D;
    for (int64_t d = 0; d < D && !spent(g); d++) {
        for (int64_t i = -1; i < x->stages; i++)
            better = move_device(g, x, d, i) || better;
        for (int64_t e = d + 1; e < D; e++)
            better = swap_devices(g, x, d, e) || better;
    }
    return better;
}

static bool change_stages(large *g, pac_draft *x)
{
    bool better = false;
    for (int64_t i = 0; i + 1 < x->stages; i++)
        for (int drop = -1; drop < 2 && i + 1 < x->stages; drop++)
            better = merge(g, x, i, drop) || better;
    for (int64_t i = 0; i < x->stages; i++)
        for (int64_t j = i + 1; j < x->stages; j++)
            better = swap_stages(g, x, i, j) || better;
    for (int64_t i = 0; i < x->stages && !spent(g); i++)
        for (int bit = 0; bit < 6; bit++)
            for (int swap = 0; swap < 2; swap++)
                better = split(g, x, i,
                               bit < 4    ? (uint64_t)1 << bit
                               : bit == 4 ? 0xaaaaaaaaaaaaaaaau
                                          : 0xccccccccccccccccu,
                               swap) ||
                         better;
    for (int64_t d = 0; d < g->k->c.D && !spent(g); d++)
        for (int64_t i = 0; i <= x->stages; i++)
            better = insert_stage(g, x, i, d) || better;
    return better;
}

/* `keep`: the number of stages, so that starts with different numbers stay apart. */
static void descend(large *g, pac_draft *x, bool keep)
{
    bool better = true;
    while (better && !spent(g)) {
        better = shift_layers(g, x);
        better = change_M(g, x, 1) || better;
        better = change_devices(g, x) || better;
        if (!better)
            better = change_M(g, x, g->nM);
        if (!better && !keep)
            better = change_stages(g, x);
    }
}

/* ---- starts ---- */

static double key_of(const large *g, int64_t d, int order)
{
    switch (order / 2) {
    case 0:
        return g->speed[d];
    case 1:
        return g->k->c.p->device[d].memory;
    default:
        return (double)d;
    }
}

/* Devices by a key, rising or falling (odd orders). Insertion sort: equal keys keep their order. */
static void order_devices(const large *g, int order, int64_t *to)
{
    for (int64_t d = 0; d < g->k->c.D; d++) {
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
    for (int64_t d = 0; d < g->k->c.D; d++)
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
    pac_draft x = start(g, order, use, stages, M), none = x;
    none.total = none.lacks = INFINITY;
    if (take_any_cut(g, &none, &x, false) && pac_draft_is_better(&none, best))
        *best = none;
}

static void starts(large *g, int64_t stages, pac_draft *best)
{
    int64_t D = g->k->c.D, order[PAC_MAX_DEVICES];
    for (int o = 0; o < ORDERS; o++) {
        order_devices(g, o, order);
        for (int64_t i = 0; i < g->nM; i += 1 + g->nM / 8)
            for (int64_t use = D; use >= stages && use >= D / 4; use -= 1 + D / 8)
                try_start(g, best, order, use, stages, g->M[i]);
    }
}

/* ---- shaking ---- */

static void shake_once(large *g, pac_draft *x)
{
    int64_t D = g->k->c.D, d = draw(g, D), e = draw(g, D);
    int16_t was = x->in[d];
    switch (draw(g, 4)) {
    case 0:
        x->M = g->M[draw(g, g->nM)];
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
        pac_draft x = *from, none = *from;
        for (int64_t n = 1 + draw(g, 4); n > 0; n--)
            shake_once(g, &x);
        none.total = none.lacks = INFINITY;
        if (take_any_cut(g, &none, &x, false))
            return none;
    }
    return *from;
}

/* Groups drawn anew, of about all, three quarters or a half of the devices. */
static pac_draft drawn(large *g, int64_t stages)
{
    pac_draft none = {.total = INFINITY, .lacks = INFINITY};
    int64_t left_out = draw(g, 3);
    for (int i = 0; i < 20; i++) {
        pac_draft x = {.stages = stages, .M = g->M[draw(g, g->nM)]};
        for (int64_t d = 0; d < g->k->c.D; d++)
            x.in[d] = (int16_t)(draw(g, 4) < left_out ? -1 : draw(g, stages));
        if (take_any_cut(g, &none, &x, false))
            return none;
    }
    return none;
}

/* ---- the whole ---- */

static void choose_M(large *g)
{
    int64_t from = g->k->from_M, to = g->k->to_M;
    for (int64_t M = from; M <= to && g->nM < MOST_M; M++)
        if (M - from < MOST_M / 2 || g->k->q->batch % M == 0)
            g->M[g->nM++] = M;
    if (g->nM > 0 && g->M[g->nM - 1] != to && g->nM < MOST_M)
        g->M[g->nM++] = to;
}

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

static void shake_best(large *g, pac_draft *best, int64_t most)
{
    for (int64_t round = 0; !spent(g); round++) {
        int64_t top[TOP], n = top_of(best, most, TOP, top);
        if (n == 0)
            return;
        pac_draft x = round % 2 == 0 ? shaken(g, &best[top[round % 4 == 0 ? 0 : draw(g, n)]]) : drawn(g, 1 + draw(g, most));
        if (x.stages < 1)
            continue;
        descend(g, &x, round % 4 < 2);
        if (pac_draft_is_better(&x, &best[x.stages]))
            best[x.stages] = x;
    }
}

pac_err pac_search_large(pac_search *k)
{
    large g = {.k = k};
    void *v;
    PAC_TRY(pac_search_rates(k));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->most_stages + 1, sizeof(pac_draft), &v));
    pac_draft *best = v;
    g.most_effort = 1.2e8 * fmax(1, pow((double)k->c.D / 8, 1.6));
    for (int64_t d = 0; d < k->c.D; d++)
        g.speed[d] = 1 / (pac_work_seconds(&k->c, &k->c.whole, d, 1, false) + pac_work_seconds(&k->c, &k->c.whole, d, 1, true));
    choose_M(&g);
    double all = g.most_effort;
    for (int64_t s = 1; s <= k->most_stages; s++) {
        best[s].total = best[s].lacks = INFINITY;
        g.most_effort = all * (0.2 + 0.4 * (double)s / (double)k->most_stages);
        starts(&g, s, &best[s]);
        if (best[s].stages > 0)
            descend(&g, &best[s], true);
    }
    g.most_effort = all;
    shake_best(&g, best, k->most_stages);
    pac_mem_free(best);
    return PAC_OK;
}
