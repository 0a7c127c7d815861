/* Scoring drafts, and cutting their layers by rates. */
#include "draft.h"

#include <math.h>

bool pac_draft_is_allowed(const pac_search *k, const pac_draft *x)
{
    int64_t ranks[PAC_MAX_DEVICES] = {0};
    if (x->stages < 1 || x->stages > k->most_stages || x->end[x->stages - 1] != k->c.L)
        return false;
    for (int64_t d = 0; d < k->c.D; d++)
        if (x->in[d] >= 0)
            ranks[x->in[d]]++;
        else if (k->q->every_device || (k->q->keep_first && d == 0))
            return false;
    for (int64_t i = 0; i < x->stages; i++)
        if (ranks[i] < 1 || ranks[i] > k->most_ranks || x->end[i] <= (i > 0 ? x->end[i - 1] : 0))
            return false;
    return true;
}

static void to_layout(const pac_search *k, const pac_draft *x, pac_layout *out)
{
    int64_t next[PAC_MAX_DEVICES + 1] = {0};
    out->stages = x->stages;
    out->microbatches = x->M;
    out->equal = false;
    for (int64_t d = 0; d < k->c.D; d++)
        if (x->in[d] >= 0)
            next[x->in[d] + 1]++;
    for (int64_t i = 0; i < x->stages; i++) {
        next[i + 1] += next[i];
        out->after[i] = (int16_t)next[i + 1];
        out->end[i] = x->end[i];
    }
    out->ranks = next[x->stages];
    for (int64_t d = 0; d < k->c.D; d++)
        if (x->in[d] >= 0)
            out->rank[next[x->in[d]]++] = (int16_t)d;
}

void pac_draft_score(pac_search *k, pac_draft *x)
{
    pac_layout y;
    to_layout(k, x, &y);
    pac_search_try(k, &y);
    x->total = y.total;
    x->lacks = y.lacks;
}

bool pac_draft_is_better(const pac_draft *a, const pac_draft *b)
{
    if (a->lacks > 0 || b->lacks > 0)
        return a->lacks < b->lacks * (1 - 1e-9);
    return a->total < b->total * (1 - 1e-9);
}

pac_draft pac_draft_of(const pac_search *k, const pac_layout *x)
{
    pac_draft y = {.stages = x->stages, .M = x->microbatches, .total = x->total, .lacks = x->lacks};
    for (int64_t d = 0; d < k->c.D; d++)
        y.in[d] = -1;
    for (int64_t i = 0; i < x->stages; i++) {
        y.end[i] = x->end[i];
        for (int64_t r = pac_first_rank(x, i); r < x->after[i]; r++)
            y.in[x->rank[r]] = (int16_t)i;
    }
    return y;
}

int64_t pac_draft_worst(pac_search *k, pac_draft *x)
{
    int64_t worst = 0;
    double most = -INFINITY;
    pac_draft_score(k, x);
    pac_micro m = pac_micro_of(k->q->batch, x->M);
    for (int64_t i = 0; i < x->stages; i++) {
        const pac_stage_plan *st = &k->stage[i];
        pac_stage_cost s;
        pac_stage_times t;
        pac_range_cost(&k->c, st->first, st->last, &s);
        pac_score_group(&k->c, st, &s, &m, x->stages - i, &t);
        double bad = t.fwd[1] + t.bwd[1], lacks = 0;
        for (int64_t r = 0; r < st->ranks; r++)
            lacks += fmax(st->bytes[r] - k->c.p->device[st->rank[r]].memory, 0);
        bad = x->lacks > 0 ? lacks : bad;
        if (bad > most) {
            most = bad;
            worst = i;
        }
    }
    return worst;
}

/* ---- cuts ---- */

enum { MOST_EACH = 64, MOST_RATE_BYTES = 32 << 20, BISECTIONS = 18, ALL_CUTS_LAYERS = 16 };

static void fill_rates(const pac_costs *c, int64_t d, int64_t samples, double *t)
{
    for (int64_t l = 0; l < c->L; l++) {
        const pac_stage_cost *s = &c->range[l * (c->L + 1) + l + 1];
        t[l + 1] = t[l] + pac_work_seconds(c, s, d, samples, false) + pac_work_seconds(c, s, d, samples, true) -
                   2 * c->p->device[d].overhead;
    }
}

pac_err pac_search_rates(pac_search *k)
{
    int64_t fitting = MOST_RATE_BYTES / (int64_t)sizeof(double) / (k->c.D * (k->c.L + 1)), most = k->q->batch;
    most = most < MOST_EACH ? most : MOST_EACH;
    k->most_each = most < fitting ? most : fitting;
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->c.D * k->most_each, (size_t)(k->c.L + 1) * sizeof(double), &v));
    k->rate = v;
    for (int64_t d = 0; d < k->c.D; d++)
        for (int64_t n = 1; n <= k->most_each; n++)
            fill_rates(&k->c, d, n, k->rate + (d * k->most_each + n - 1) * (k->c.L + 1));
    if (k->c.D > PAC_PIECE_DEVICES)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, PAC_PIECE_MEMO, sizeof *k->piece, &v));
    k->piece = v;
    return PAC_OK;
}

typedef struct cutting {
    const pac_search *k;
    const pac_draft *x;
    pac_micro m;
    int64_t first[PAC_MAX_DEVICES + 1], rank[PAC_MAX_DEVICES];  /* the ranks of stage i are rank[first[i]..first[i + 1]) */
    double latency[PAC_MAX_DEVICES], per_byte[PAC_MAX_DEVICES]; /* of a sample's byte between stages i - 1 and i */
} cutting;

static void group(cutting *t)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->x->stages; i++) {
        t->first[i] = n;
        for (int64_t d = 0; d < t->k->c.D; d++)
            if (t->x->in[d] == i)
                t->rank[n++] = d;
    }
    t->first[t->x->stages] = n;
}

/* The mean link between neighbouring groups; the smaller group is the busier one. */
static void join_groups(cutting *t)
{
    const pac_profile *p = t->k->c.p;
    for (int64_t i = 1; i < t->x->stages; i++) {
        int64_t from = t->first[i] - t->first[i - 1], to = t->first[i + 1] - t->first[i], fewer = from < to ? from : to;
        double latency = 0, seconds = 0;
        for (int64_t a = t->first[i - 1]; a < t->first[i]; a++)
            for (int64_t b = t->first[i]; b < t->first[i + 1]; b++) {
                int64_t at = t->rank[a] * p->devices + t->rank[b];
                latency += p->latency[at];
                seconds += 1 / p->bandwidth[at];
            }
        t->latency[i] = latency / (double)(from * to);
        t->per_byte[i] = seconds / (double)(from * to) * (double)((t->m.size[1] + fewer - 1) / fewer);
    }
}

/* Seconds in which a micro-batch crosses to stage i if that began at layer a, or its gradient comes back. */
static double link_seconds(const cutting *t, int64_t i, int64_t a)
{
    const pac_profile *p = t->k->c.p;
    return i == 0 ? 0 : t->latency[i] + t->per_byte[i] * pac_larger(p->boundary_fwd[a], p->boundary_bwd[a]);
}

/* At the devices' summed rates, samples not whole. Infinity: their memory does not admit it. */
static double summed_rates(const cutting *t, int64_t i, int64_t a, int64_t b, pac_stage_bytes_of need)
{
    const pac_costs *c = &t->k->c;
    int64_t g = t->first[i + 1] - t->first[i], n = t->m.size[1], each = (n + g - 1) / g;
    double rate = 0, admitted = 0;
    each = each < t->k->most_each ? each : t->k->most_each;
    for (int64_t r = t->first[i]; r < t->first[i + 1]; r++) {
        int64_t d = t->rank[r];
        double room = c->p->device[d].memory - need.base;
        const double *sum = t->k->rate + (d * t->k->most_each + each - 1) * (c->L + 1);
        if (room < 0)
            return INFINITY;
        admitted += need.sample * (double)n <= room ? (double)n : floor(room / need.sample);
        rate += (double)each / (sum[b] - sum[a] + 2 * c->p->device[d].overhead);
    }
    return admitted < (double)n ? INFINITY : (double)n / rate;
}

/* As the stage would be shared. Infinity: its memory does not admit it. */
static double shared(const cutting *t, int64_t i, const pac_stage_cost *s, pac_stage_bytes_of need)
{
    const int64_t *rank = &t->rank[t->first[i]], n = t->first[i + 1] - t->first[i];
    int64_t count[PAC_PIECE_DEVICES];
    if (!pac_split_by_speed(&t->k->c, s, need, rank, n, t->m.size[1], count))
        return INFINITY;
    double fwd = 0, bwd = 0;
    for (int64_t r = 0; r < n; r++) {
        fwd = pac_larger(fwd, pac_work_seconds(&t->k->c, s, rank[r], count[r], false));
        bwd = pac_larger(bwd, pac_work_seconds(&t->k->c, s, rank[r], count[r], true));
    }
    return fwd + bwd;
}

/* Seconds of a micro-batch in stage i if it had layers [a, b): of few devices exactly, and kept, since cuts are often tried
 * again. */
static double seconds(const cutting *t, int64_t i, int64_t a, int64_t b)
{
    const pac_costs *c = &t->k->c;
    int64_t behind = t->x->stages - i, in_flight = t->m.M < behind ? t->m.M : behind;
    const pac_stage_cost *s = &c->range[a * (c->L + 1) + b];
    pac_stage_bytes_of need = pac_stage_needs(c, s, a, b, behind, t->m.M);
    if (t->k->piece == NULL)
        return summed_rates(t, i, a, b, need);
    uint64_t set = 0;
    for (int64_t r = t->first[i]; r < t->first[i + 1]; r++)
        set |= (uint64_t)1 << t->rank[r];
    uint64_t key = (((set << 11 | (uint64_t)a) << 11 | (uint64_t)b) << 4 | (uint64_t)in_flight) << 24 | (uint64_t)t->m.size[1];
    pac_piece_time *at = &t->k->piece[key * 0x9e3779b97f4a7c15u >> 49];
    if (at->key != key)
        *at = (pac_piece_time){.key = key, .seconds = shared(t, i, s, need)};
    return at->seconds;
}

/* From the last stage on, each takes as many layers as it and its link do in time. True: the first stage could take the rest.
 */
static bool cut_within(const cutting *t, double limit, int16_t *end)
{
    int64_t y = t->k->c.L;
    bool in_time = true;
    for (int64_t i = t->x->stages - 1; i > 0; i--) {
        int64_t x = y - 1;
        end[i] = (int16_t)y;
        while (x > i && seconds(t, i, x - 1, y) <= limit)
            x--;
        int64_t least = x;
        while (x < y - 1 && link_seconds(t, i, x) > limit)
            x++;
        x = link_seconds(t, i, x) > limit ? least : x;
        in_time = in_time && link_seconds(t, i, x) <= limit && seconds(t, i, x, y) <= limit;
        y = x;
    }
    end[0] = (int16_t)y;
    return in_time && seconds(t, 0, 0, y) <= limit;
}

/* The smallest limit of cut_within(), by bisection. */
static void cut_by_limits(const cutting *t, int16_t *end)
{
    const pac_search *k = t->k;
    double lo = 0, hi = 0;
    for (int64_t r = 0; r < t->first[t->x->stages]; r++) {
        int64_t d = t->rank[r], n = t->m.size[1];
        hi = fmax(hi, pac_work_seconds(&k->c, &k->c.whole, d, n, false) + pac_work_seconds(&k->c, &k->c.whole, d, n, true));
    }
    for (int64_t i = 1; i < t->x->stages; i++)
        for (int64_t a = 1; a < k->c.L; a++)
            hi = pac_larger(hi, link_seconds(t, i, a));
    if (!cut_within(t, hi, end))
        return; /* as much as memory allows at any time */
    for (int i = 0; i < BISECTIONS; i++) {
        double mid = lo + (hi - lo) / 2;
        if (cut_within(t, mid, end))
            hi = mid;
        else
            lo = mid;
    }
    cut_within(t, hi, end);
}

/* Of stages up to one: the slowest of them and their links, then the sum; and where the last of them begins. */
typedef struct cut_state {
    double most, sum;
    int64_t first;
} cut_state;

static void extend(const cutting *t, int64_t i, int64_t a, int64_t b, const cut_state *before, cut_state *to)
{
    double stage = seconds(t, i, a, b), link = link_seconds(t, i, a);
    cut_state s = {.most = pac_larger(before->most, pac_larger(stage, link)), .sum = before->sum + stage + link, .first = a};
    if (s.most < to->most || (s.most == to->most && s.sum < to->sum))
        *to = s;
}

/*
 * All cuts of few layers, by dynamic programming: what stages receive differs from layer to layer, so that a stage may have no
 * room for three layers but for four. False: memory admits none.
 */
static bool cut_by_all(const cutting *t, int16_t *end)
{
    cut_state best[PAC_PIECE_DEVICES + 1][ALL_CUTS_LAYERS + 1];
    int64_t P = t->x->stages, L = t->k->c.L;
    for (int64_t i = 0; i <= P; i++)
        for (int64_t y = 0; y <= L; y++)
            best[i][y] = (cut_state){.most = i == 0 && y == 0 ? 0 : INFINITY};
    for (int64_t i = 0; i < P; i++)
        for (int64_t y = i + 1; y + P - 1 - i <= L; y++)
            for (int64_t a = i; a < y; a++)
                if (isfinite(best[i][a].most))
                    extend(t, i, a, y, &best[i][a], &best[i + 1][y]);
    if (isinf(best[P][L].most))
        return false;
    for (int64_t i = P, y = L; i > 0; i--) {
        end[i - 1] = (int16_t)y;
        y = best[i][y].first;
    }
    return true;
}

void pac_draft_cut(const pac_search *k, pac_draft *x)
{
    cutting t;
    t.k = k;
    t.x = x;
    t.m = pac_micro_of(k->q->batch, x->M);
    group(&t);
    join_groups(&t);
    int16_t end[PAC_MAX_DEVICES];
    if (k->piece == NULL || k->c.L > ALL_CUTS_LAYERS || !cut_by_all(&t, end))
        cut_by_limits(&t, end);
    for (int64_t i = 0; i < x->stages; i++)
        x->end[i] = end[i];
}
