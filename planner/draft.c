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

/* ---- cuts ---- */

enum { MOST_EACH = 64, MOST_RATE_BYTES = 32 << 20 };

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
    return PAC_OK;
}

typedef struct cutting {
    const pac_search *k;
    const pac_draft *x;
    pac_micro m;
    int64_t first[PAC_MAX_DEVICES + 1], rank[PAC_MAX_DEVICES]; /* the ranks of stage i are rank[first[i]..first[i + 1]) */
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

/* Seconds of a micro-batch in stage i if it had layers [a, b), samples not whole. Infinity: their memory does not admit it. */
static double seconds(const cutting *t, int64_t i, int64_t a, int64_t b)
{
    const pac_costs *c = &t->k->c;
    int64_t g = t->first[i + 1] - t->first[i], n = t->m.size[1], each = (n + g - 1) / g;
    const pac_stage_cost *s = &c->range[a * (c->L + 1) + b];
    pac_stage_bytes_of need = pac_stage_needs(c, s, a, b, t->x->stages - i, t->m.M);
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

/* From the last stage on, each takes as many layers as it does in time. True: the first stage could take the rest. */
static bool cut_within(const cutting *t, double limit, int16_t *end)
{
    int64_t y = t->k->c.L;
    for (int64_t i = t->x->stages - 1; i >= 0; i--) {
        int64_t x = y - 1;
        end[i] = (int16_t)y;
        while (x > i && seconds(t, i, x - 1, y) <= limit)
            x--;
        y = i > 0 ? x : y;
        if (i == 0)
            return seconds(t, 0, 0, y) <= limit;
    }
    return false;
}

void pac_draft_cut(const pac_search *k, pac_draft *x)
{
    cutting t;
    t.k = k;
    t.x = x;
    t.m = pac_micro_of(k->q->batch, x->M);
    group(&t);
    int16_t end[PAC_MAX_DEVICES];
    double lo = 0, hi = 0;
    for (int64_t r = 0; r < t.first[x->stages]; r++) {
        int64_t d = t.rank[r], n = t.m.size[1];
        hi = fmax(hi, pac_work_seconds(&k->c, &k->c.whole, d, n, false) + pac_work_seconds(&k->c, &k->c.whole, d, n, true));
    }
    if (!cut_within(&t, hi, end)) { /* as fair as memory allows at any time */
        for (int64_t i = 0; i < x->stages; i++)
            x->end[i] = end[i];
        return;
    }
    for (int i = 0; i < 14; i++) {
        double mid = lo + (hi - lo) / 2;
        if (cut_within(&t, mid, end))
            hi = mid;
        else
            lo = mid;
    }
    cut_within(&t, hi, end);
    for (int64_t i = 0; i < x->stages; i++)
        x->end[i] = end[i];
}
