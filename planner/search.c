/* Scoring layouts: shares by speed, the cost model, the better of cache and none. */
#include "search.h"

#include <math.h>
#include <string.h>

static pac_err array(int64_t n, size_t size, void *out)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, size, &v));
    memcpy(out, &v, sizeof v);
    return PAC_OK;
}

/* All, or of many the small ones, those that divide the batch, and one for each sample. */
static void choose_M(pac_search *k)
{
    bool all = k->to_M - k->from_M < PAC_MOST_M;
    for (int64_t M = k->from_M; M <= k->to_M && k->nM < PAC_MOST_M; M++)
        if (all || M - k->from_M < PAC_MOST_M / 2 || k->q->batch % M == 0)
            k->M[k->nM++] = M;
    k->M[k->nM - 1] = k->to_M; /* the largest divisor, unless there are too many */
}

pac_err pac_search_init(pac_search *k, const pac_plan_request *q)
{
    memset(k, 0, sizeof *k);
    PAC_TRY(pac_costs_init(q->profile, q, &k->c));
    k->q = q;
    int64_t most = k->c.D < k->c.L ? k->c.D : k->c.L;
    k->most_stages = q->most_stages > 0 && q->most_stages < most ? q->most_stages : most;
    k->most_ranks = q->most_ranks > 0 && q->most_ranks < k->c.D ? q->most_ranks : k->c.D;
    k->from_M = q->microbatches > 0 ? q->microbatches : 1;
    k->to_M = q->microbatches > 0 ? q->microbatches : q->batch;
    choose_M(k);
    k->may_cache = q->cached && q->epochs > 1;
    PAC_TRY(array(k->most_stages + 1, sizeof *k->best, &k->best));
    PAC_TRY(array(k->most_stages + 1, sizeof *k->near, &k->near));
    for (int64_t s = 0; s <= k->most_stages; s++)
        k->best[s].total = k->near[s].lacks = INFINITY;
    PAC_TRY(array(PAC_SET_MEMO, sizeof *k->memo, &k->memo));
    return array(k->to_M, sizeof *k->arrive, &k->arrive);
}

void pac_search_done(pac_search *k)
{
    pac_costs_done(&k->c);
    pac_mem_free(k->best);
    pac_mem_free(k->near);
    pac_mem_free(k->memo);
    pac_mem_free(k->arrive);
    pac_mem_free(k->rate);
    pac_mem_free(k->piece);
    memset(k, 0, sizeof *k);
}

/* ---- the cached phase ---- */

static pac_set_cost set_cost(const pac_search *k, const int64_t *rank, int64_t n)
{
    pac_set_cost s = {.known = true, .possible = k->may_cache};
    int64_t part[PAC_MAX_DEVICES];
    s.possible = s.possible && pac_split_cached(&k->c, rank, n, part);
    for (int64_t i = 0; i < n && s.possible; i++) /* what each writes, the layout says */
        s.possible = pac_cache_has_room(&k->c, rank[i], 0, (double)part[i] / (double)k->q->batch, NULL);
    if (s.possible)
        s.cost = pac_cached_seconds(&k->c, rank, n, part);
    return s;
}

const pac_set_cost *pac_search_set(pac_search *k, const int64_t *rank, int64_t n)
{
    uint64_t key[PAC_MAX_DEVICES / 64] = {0}, hash = 0;
    for (int64_t i = 0; i < n; i++)
        key[rank[i] / 64] |= (uint64_t)1 << (rank[i] % 64);
    for (int i = 0; i < PAC_MAX_DEVICES / 64; i++)
        hash = (hash ^ key[i]) * 0x9e3779b97f4a7c15u;
    pac_set_cost *at = &k->memo[(hash >> 32) % PAC_SET_MEMO];
    if (!at->known || memcmp(at->key, key, sizeof key) != 0) {
        int64_t sorted[PAC_MAX_DEVICES] = {0}; /* one order for each set, so that its parts do not depend on the layout */
        pac_devices_rising(rank, n, sorted);
        *at = set_cost(k, sorted, n);
        memcpy(at->key, key, sizeof key);
    }
    return at;
}

double pac_search_total(const pac_search *k, const pac_score *s, const pac_set_cost *set, bool *cached, double *other)
{
    double without = pac_run_seconds(&k->c, s, NULL).total_s, with = INFINITY;
    if (set->possible)
        with = pac_run_seconds(&k->c, s, &set->cost).total_s;
    *cached = with <= without;
    *other = fmax(with, without);
    return fmin(with, without);
}

/* Sharded, a device keeps what its layers wrote; all else follows from the set. */
static bool layout_has_room(const pac_search *k, int64_t stages)
{
    double need;
    return !k->q->sharded || pac_cache_lacks_room(&k->c, k->stage, stages, NULL, &need) < 0;
}

/* ---- layouts ---- */

static void share_stage(pac_search *k, const pac_layout *x, int64_t i, const pac_micro *m)
{
    pac_stage_plan *st = &k->stage[i];
    int64_t lo = pac_first_rank(x, i), count[PAC_MAX_DEVICES];
    *st = (pac_stage_plan){.first = pac_first_layer(x, i),
                           .last = x->end[i],
                           .ranks = x->after[i] - lo,
                           .rank = &k->rank[lo],
                           .share = &k->share[lo],
                           .bytes = &k->bytes[lo]};
    for (int64_t r = 0; r < st->ranks; r++) {
        st->rank[r] = x->rank[lo + r];
        st->share[r] = 1.0 / (double)st->ranks;
    }
    if (x->equal)
        return;
    pac_stage_cost s;
    pac_range_cost(&k->c, st->first, st->last, &s);
    pac_stage_bytes_of need = pac_stage_needs(&k->c, &s, st->first, st->last, x->stages - i, m->M);
    pac_split_by_speed(&k->c, &s, need, st->rank, st->ranks, m->size[1], count);
    pac_counts_to_shares(count, st->ranks, m->size[1], st->share);
}

void pac_search_score(pac_search *k, pac_layout *x)
{
    pac_micro m = pac_micro_of(k->q->batch, x->microbatches);
    for (int64_t i = 0; i < x->stages; i++)
        share_stage(k, x, i, &m);
    pac_score s = pac_score_stages(&k->c, k->stage, x->stages, &m, k->arrive);
    k->scored++;
    x->lacks = 0;
    for (int64_t r = 0; r < x->ranks; r++)
        x->lacks += fmax(k->bytes[r] - k->c.p->device[k->rank[r]].memory, 0);
    pac_set_cost set = *pac_search_set(k, k->rank, x->ranks);
    set.possible = set.possible && layout_has_room(k, x->stages);
    x->total = pac_search_total(k, &s, &set, &x->cached, &x->other);
    x->step = x->cached ? pac_larger(s.step, s.write) : s.step;
    if (x->lacks > 0)
        x->step = x->total = INFINITY;
}

bool pac_search_try(pac_search *k, pac_layout *x)
{
    pac_search_score(k, x);
    if (x->lacks < k->near[x->stages].lacks)
        k->near[x->stages] = *x;
    if (!(x->total < k->best[x->stages].total))
        return false;
    k->best[x->stages] = *x;
    return true;
}

const pac_layout *pac_search_winner(const pac_search *k)
{
    const pac_layout *win = NULL;
    for (int64_t s = 1; s <= k->most_stages; s++)
        if (k->best[s].total < (win == NULL ? INFINITY : win->total))
            win = &k->best[s];
    return win;
}
