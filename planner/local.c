/*
 * Changes of drafts. Each kind of change takes what it makes better and says whether it did; effort counts operations, not
 * seconds, so that the answer is the same on every machine.
 */
#include "local.h"

/* ---- single changes ---- */

static double score_effort(const pac_local *g, const pac_draft *x)
{
    pac_micro m = pac_micro_of(g->k->q->batch, x->M);
    return 400 + 6 * (double)(x->stages * m.M) + 60 * (double)(g->k->c.D * (m.size[1] < 64 ? m.size[1] + 2 : 66));
}

static void score(pac_local *g, pac_draft *x)
{
    g->effort += score_effort(g, x);
    pac_draft_score(g->k, x);
}

/* Takes y for x if it is allowed and better. */
static bool take(pac_local *g, pac_draft *x, pac_draft *y)
{
    if (pac_local_spent(g) || !pac_draft_is_allowed(g->k, y))
        return false;
    score(g, y);
    if (!pac_draft_is_better(y, x))
        return false;
    *x = *y;
    return true;
}

/* A few layers moved over single cuts, for drafts that come near: what a change of groups needs to show its worth. */
static void polish(pac_local *g, pac_draft *y, const pac_draft *rival)
{
    bool near = rival->lacks > 0 ? y->lacks < 2 * rival->lacks : y->lacks == 0 && y->total < 1.3 * rival->total;
    for (int round = 0; round < 2 && near && g->k->c.D <= PAC_LOCAL_FEW; round++)
        for (int64_t i = 0; i + 1 < y->stages; i++)
            for (int by = -1; by <= 1; by += 2) {
                pac_draft z = *y;
                z.end[i] = (int16_t)(z.end[i] + by);
                take(g, y, &z);
            }
}

bool pac_local_cut(pac_local *g, pac_draft *y)
{
    if (y->stages < 1 || y->stages > g->k->most_stages || pac_local_spent(g))
        return false;
    for (int64_t i = 0; i < y->stages; i++) /* any, so that it can be asked whether the groups are allowed */
        y->end[i] = (int16_t)(i + 1 < y->stages ? i + 1 : g->k->c.L);
    if (!pac_draft_is_allowed(g->k, y))
        return false;
    g->effort += 200 * (double)(g->k->c.L + g->k->c.D);
    pac_draft_cut(g->k, y);
    score(g, y);
    return true;
}

/* Takes y for x if it is better with new cuts. */
static bool take_new_cut(pac_local *g, pac_draft *x, pac_draft *y)
{
    if (!pac_local_cut(g, y))
        return false;
    if (!pac_draft_is_better(y, x))
        polish(g, y, x);
    if (!pac_draft_is_better(y, x))
        return false;
    *x = *y;
    return true;
}

/* With its cuts as they are, if they still are cuts, or with new ones. */
static bool take_any_cut(pac_local *g, pac_draft *x, pac_draft *y, bool keep)
{
    pac_draft as_is = *y;
    return (keep && take(g, x, &as_is)) || take_new_cut(g, x, y);
}

/* One or more layers from stage a to stage b, the stages between shift. */
static bool shift_layers(pac_local *g, pac_draft *x)
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
static bool change_M(pac_local *g, pac_draft *x, int64_t reach)
{
    bool better = false;
    int64_t at = 0;
    while (at < g->k->nM - 1 && g->k->M[at] < x->M)
        at++;
    for (int64_t i = at - reach < 0 ? 0 : at - reach; i < g->k->nM && i <= at + reach; i++) {
        pac_draft y = *x;
        y.M = g->k->M[i];
        if (y.M != x->M)
            better = take_any_cut(g, x, &y, true) || better;
    }
    return better;
}

static bool move_device(pac_local *g, pac_draft *x, int64_t d, int64_t to)
{
    pac_draft y = *x;
    y.in[d] = (int16_t)to;
    return x->in[d] != to && to < x->stages && take_any_cut(g, x, &y, true);
}

static bool swap_devices(pac_local *g, pac_draft *x, int64_t d, int64_t e)
{
    pac_draft y = *x;
    y.in[d] = x->in[e];
    y.in[e] = x->in[d];
    return x->in[d] != x->in[e] && take_any_cut(g, x, &y, true);
}

static bool swap_stages(pac_local *g, pac_draft *x, int64_t a, int64_t b)
{
    pac_draft y = *x;
    for (int64_t d = 0; d < g->k->c.D; d++)
        y.in[d] = (int16_t)(x->in[d] == a ? b : x->in[d] == b ? a : x->in[d]);
    return take_any_cut(g, x, &y, true);
}

/* The devices of stage a become stage b, those between shift by one. */
static bool rotate_stages(pac_local *g, pac_draft *x, int64_t a, int64_t b)
{
    pac_draft y = *x;
    for (int64_t d = 0; d < g->k->c.D; d++) {
        int64_t i = x->in[d];
        if (i == a)
            y.in[d] = (int16_t)b;
        else if (a < b ? i > a && i <= b : i >= b && i < a)
            y.in[d] = (int16_t)(a < b ? i - 1 : i + 1);
    }
    return take_any_cut(g, x, &y, true);
}

static bool change_order(pac_local *g, pac_draft *x)
{
    bool better = false;
    for (int64_t i = 0; i < x->stages && !pac_local_spent(g); i++)
        for (int64_t j = 0; j < x->stages; j++) {
            if (j > i)
                better = swap_stages(g, x, i, j) || better;
            if (j > i + 1 || j < i - 1)
                better = rotate_stages(g, x, i, j) || better;
        }
    return better;
}

/* Stage i + 1 joins stage i; `drop`: the devices of one of them (0, 1) are left out, -1: of none. */
static bool merge(pac_local *g, pac_draft *x, int64_t i, int drop)
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

/* Stage i of y has just been put in front of the rest of a stage of x: tries every cut of that stage's layers in two, or some
 * of many. */
static bool take_halved(pac_local *g, pac_draft *x, const pac_draft *y, int64_t i, int64_t first, int64_t last)
{
    for (int64_t at = first + 1; at < last; at += 1 + (last - first) / 8) {
        pac_draft z = *y;
        for (int64_t j = y->stages - 1; j > i; j--)
            z.end[j] = y->end[j - 1];
        z.end[i] = (int16_t)at;
        if (take(g, x, &z))
            return true;
    }
    return false;
}

/* Stage i becomes two; the devices in `set` (a bit for each member, in order) are the second, or the first if `swap`. */
static bool split(pac_local *g, pac_draft *x, int64_t i, uint64_t set, bool swap)
{
    pac_draft y = *x;
    int64_t member = 0;
    if (x->stages >= g->k->most_stages)
        return false;
    for (int64_t d = 0; d < g->k->c.D; d++) {
        if (x->in[d] > i)
            y.in[d]++;
        if (x->in[d] == i)
            y.in[d] = (int16_t)(i + ((set >> (member++ % 64) & 1) != swap));
    }
    y.stages++;
    return take_halved(g, x, &y, i, i > 0 ? x->end[i - 1] : 0, x->end[i]) || take_any_cut(g, x, &y, false);
}

/* A stage of its own for device d, in front of stage i. */
static bool insert_stage(pac_local *g, pac_draft *x, int64_t i, int64_t d)
{
    pac_draft y = *x;
    if (x->stages >= g->k->most_stages)
        return false;
    for (int64_t e = 0; e < g->k->c.D; e++)
        if (x->in[e] >= i)
            y.in[e]++;
    y.in[d] = (int16_t)i;
    y.stages++;
    if (i < x->stages && take_halved(g, x, &y, i, i > 0 ? x->end[i - 1] : 0, x->end[i]))
        return true;
    return take_any_cut(g, x, &y, false);
}

/* ---- descent ---- */

/* Of many devices only changes that involve the stage that holds all others up. */
static bool relieve_worst(pac_local *g, pac_draft *x)
{
    bool better = false;
    int64_t D = g->k->c.D, w = pac_draft_worst(g->k, x), stages = x->stages;
    g->effort += 2 * score_effort(g, x);
    for (int64_t d = 0; d < D && !better && !pac_local_spent(g); d++) {
        better = move_device(g, x, d, w);
        for (int64_t e = 0; e < D && !better && x->in[d] == w; e++)
            better = swap_devices(g, x, d, e);
        for (int64_t i = -1; i < stages && !better && x->in[d] == w; i++)
            better = move_device(g, x, d, i);
    }
    return better;
}

static bool change_devices(pac_local *g, pac_draft *x)
{
    bool better = false;
    int64_t D = g->k->c.D;
    if (D > PAC_LOCAL_FEW)
        return relieve_worst(g, x);
    for (int64_t d = 0; d < D && !pac_local_spent(g); d++) {
        for (int64_t i = -1; i < x->stages; i++)
            better = move_device(g, x, d, i) || better;
        for (int64_t e = d + 1; e < D; e++)
            better = swap_devices(g, x, d, e) || better;
    }
    return better;
}

static bool change_stages(pac_local *g, pac_draft *x)
{
    bool better = false;
    for (int64_t i = 0; i + 1 < x->stages; i++)
        for (int drop = -1; drop < 2 && i + 1 < x->stages; drop++)
            better = merge(g, x, i, drop) || better;
    for (int64_t i = 0; i < x->stages && !pac_local_spent(g); i++)
        for (int bit = 0; bit < 6; bit++)
            for (int swap = 0; swap < 2; swap++)
                better = split(g, x, i,
                               bit < 4    ? (uint64_t)1 << bit
                               : bit == 4 ? 0xaaaaaaaaaaaaaaaau
                                          : 0xccccccccccccccccu,
                               swap) ||
                         better;
    for (int64_t d = 0; d < g->k->c.D && !pac_local_spent(g); d++)
        for (int64_t i = 0; i <= x->stages; i++)
            better = insert_stage(g, x, i, d) || better;
    return better;
}

void pac_local_descend(pac_local *g, pac_draft *x, bool keep)
{
    bool better = true;
    while (better && !pac_local_spent(g)) {
        better = shift_layers(g, x);
        better = change_M(g, x, 1) || better;
        better = change_devices(g, x) || better;
        if (!better)
            better = change_M(g, x, g->k->nM);
        if (!better && (!keep || g->k->c.D <= PAC_LOCAL_FEW))
            better = change_order(g, x);
        if (!better && !keep)
            better = change_stages(g, x);
    }
}

/* ---- two changes at once ---- */

/* The i-th change of a device: to a stage or out, or in exchange with another. False: there is none, or it changes nothing. */
static bool change(const pac_local *g, pac_draft *x, int64_t i)
{
    int64_t D = g->k->c.D, moves = D * (x->stages + 1);
    int64_t d = i < moves ? i / (x->stages + 1) : (i - moves) / D, e = (i - moves) % D;
    int16_t was = x->in[d], to = i < moves ? (int16_t)(i % (x->stages + 1) - 1) : x->in[e];
    if (to == was || (i >= moves && e <= d))
        return false;
    x->in[d] = to;
    if (i >= moves)
        x->in[e] = was;
    return true;
}

/* What single changes cannot reach without becoming worse. */
bool pac_local_change_two(pac_local *g, pac_draft *x)
{
    int64_t D = g->k->c.D, changes = D * (x->stages + 1 + D);
    double each = 2 * score_effort(g, x), pairs = (double)(D * x->stages + D * (D - 1) / 2);
    if (pairs * pairs / 2 * each > g->most_effort / 8)
        return false;
    for (int64_t i = 0; i < changes && !pac_local_spent(g); i++) {
        pac_draft y = *x;
        for (int64_t j = i + 1; j < changes && change(g, &y, i); j++) {
            pac_draft z = y;
            if (change(g, &z, j) && take_new_cut(g, x, &z))
                return true;
            y = *x;
        }
    }
    return false;
}
