/*
 * The optimum of small clusters: branch and bound over every set of devices, number of stages and micro-batches, cut of the
 * layers and grouping of the devices. Stages are placed from the last to the first, since how many micro-batches a stage keeps
 * in flight counts from the last one.
 *
 * A branch ends when a lower bound of its total reaches the best total of the same number of stages. The bounds, which hold for
 * every layout that the branch contains:
 * - pivot: stage p begins after the first micro-batch went forward through all before it, computes all micro-batches, forward
 * and backward, and then either reduces its gradients or waits for the last micro-batch's way back through all before it. The
 * ways in front of the stages placed so far are bounded by `rate`.
 * - rate: devices R cannot do the layers before y faster than at the sum of their best rates. With t(d, l) the least seconds a
 * sample of layer l takes on device d at any number of samples, any u(l) > 0 and s(d) = min over l of t(d, l) / u(l), the
 * stages of those layers take at least samples x sum of u(l) / (sum over R of 1 / s(d)), the slowest of them and hence the
 * step.
 */
#include "search.h"

#include <math.h>
#include <string.h>

enum { MOST = 6, MOST_LAYERS = 48 };

/* A stage on a set of devices: what bounds need. */
typedef struct piece {
    int64_t stamp;           /* which M it was made for; 0: never */
    double lacks;            /* bytes over the budgets, summed over the devices */
    double all;              /* seconds of all micro-batches, forward and backward */
    double fwd, bwd, reduce; /* of the first micro-batch, of the last one */
} piece;

/* The least that layers cost at any number of samples: see `rate` above. */
typedef struct rates {
    double layers[MOST_LAYERS + 1]; /* sum of u of the first l layers */
    double speed[1 << MOST];        /* sum of 1 / s over a set of devices */
} rates;

typedef struct exact {
    pac_search *k;
    piece *piece; /* [sets][L + 1][L + 1][MOST] */
    pac_micro m;
    rates both, fwd, bwd;
    const pac_set_cost *set;
    int64_t stages, of[MOST]; /* number of stages; the set of devices of each */
    int64_t end[MOST];
    const piece *at[MOST];
    bool missing; /* look for what lacks least instead */
} exact;

/* ---- bounds ---- */

static double least_seconds(const exact *e, int64_t d, int64_t l, bool fwd, bool bwd)
{
    pac_stage_cost s;
    pac_range_cost(&e->k->c, l, l + 1, &s);
    double least = INFINITY, overhead = e->k->c.p->device[d].overhead;
    for (int64_t n = 1; n <= e->m.size[1]; n++) {
        double t = (fwd ? pac_work_seconds(&e->k->c, &s, d, n, false) - overhead : 0) +
                   (bwd ? pac_work_seconds(&e->k->c, &s, d, n, true) - overhead : 0);
        least = fmin(least, t / (double)n);
    }
    return least;
}

static void fill_rates(const exact *e, bool fwd, bool bwd, rates *r)
{
    int64_t D = e->k->c.D, L = e->k->c.L;
    double t[MOST][MOST_LAYERS], u[MOST_LAYERS] = {0}, speed[MOST];
    for (int64_t d = 0; d < D; d++)
        for (int64_t l = 0; l < L; l++)
            t[d][l] = fmax(least_seconds(e, d, l, fwd, bwd), 0);
    r->layers[0] = 0;
    for (int64_t l = 0; l < L; l++) {
        for (int64_t d = 0; d < D; d++)
            u[l] += t[d][l];
        r->layers[l + 1] = r->layers[l] + u[l];
    }
    for (int64_t d = 0; d < D; d++) {
        double s = INFINITY;
        for (int64_t l = 0; l < L; l++)
            s = u[l] > 0 ? fmin(s, t[d][l] / u[l]) : s;
        speed[d] = 1 / s;
    }
    for (int64_t set = 0; set < 1 << D; set++) {
        r->speed[set] = 0;
        for (int64_t d = 0; d < D; d++)
            r->speed[set] += set >> d & 1 ? speed[d] : 0;
    }
}

static double rate_bound(const rates *r, int64_t layers, int64_t set, int64_t samples)
{
    return r->layers[layers] > 0 && r->speed[set] > 0 ? (double)samples * r->layers[layers] / r->speed[set] : 0;
}

/* Of a step whose stages i.. are placed, the layers before `y` and the devices `left` are not. */
static double bound(const exact *e, int64_t i, int64_t y, int64_t left)
{
    double in = rate_bound(&e->fwd, y, left, e->m.size[e->m.larger > 0]), out = rate_bound(&e->bwd, y, left, e->m.size[0]);
    double most = rate_bound(&e->both, y, left, e->k->q->batch);
    for (int64_t p = i; p < e->stages; p++) {
        most = fmax(most, in + e->at[p]->all + fmax(e->at[p]->reduce, out));
        in += e->at[p]->fwd;
        out += e->at[p]->bwd;
    }
    return fmax(most, in + out);
}

/* A total that cannot come below the best of as many stages; the margin covers rounding. */
static bool hopeless(const exact *e, double step)
{
    bool cached;
    double other;
    pac_score s = {.step = step};
    return pac_search_total(e->k, &s, e->set, &cached, &other) * (1 - 1e-9) >= e->k->best[e->stages].total;
}

/* ---- pieces ---- */

static int64_t members(int64_t set, int64_t rank[static MOST])
{
    int64_t n = 0;
    for (int64_t d = 0; d < MOST; d++)
        if (set >> d & 1)
            rank[n++] = d;
    return n;
}

static void fill_piece(const exact *e, int64_t set, int64_t x, int64_t y, int64_t behind, piece *out)
{
    const pac_costs *c = &e->k->c;
    int64_t rank[MOST], count[MOST], n = members(set, rank);
    double share[MOST], bytes[MOST];
    pac_stage_cost s;
    pac_range_cost(c, x, y, &s);
    pac_stage_bytes_of need = pac_stage_needs(c, &s, x, y, behind, e->m.M);
    out->stamp = e->m.M;
    pac_split_by_speed(c, &s, need, rank, n, e->m.size[1], count);
    pac_counts_to_shares(count, n, e->m.size[1], share);
    pac_stage_plan st = {.first = x, .last = y, .ranks = n, .rank = rank, .share = share, .bytes = bytes};
    pac_stage_times t;
    pac_score_group(c, &st, &s, &e->m, behind, &t);
    out->lacks = 0;
    for (int64_t r = 0; r < n; r++)
        out->lacks += fmax(bytes[r] - c->p->device[rank[r]].memory, 0);
    double small = (double)(e->m.M - e->m.larger), large = (double)e->m.larger;
    out->all = small * (t.fwd[0] + t.bwd[0]) + large * (t.fwd[1] + t.bwd[1]);
    out->fwd = t.fwd[e->m.larger > 0];
    out->bwd = t.bwd[0];
    out->reduce = t.reduce;
}

static const piece *piece_of(exact *e, int64_t set, int64_t x, int64_t y, int64_t behind)
{
    int64_t L = e->k->c.L;
    piece *p = &e->piece[((set * (L + 1) + x) * (L + 1) + y) * MOST + behind - 1];
    if (p->stamp != e->m.M)
        fill_piece(e, set, x, y, behind, p);
    return p;
}

/* ---- the search ---- */

static void try_layout(exact *e)
{
    pac_layout x = {.stages = e->stages, .microbatches = e->m.M};
    for (int64_t i = 0; i < e->stages; i++) {
        int64_t rank[MOST], n = members(e->of[i], rank);
        for (int64_t r = 0; r < n; r++)
            x.rank[x.ranks++] = (int16_t)rank[r];
        x.after[i] = (int16_t)x.ranks;
        x.end[i] = (int16_t)e->end[i];
    }
    pac_search_try(e->k, &x);
}

static void place(exact *e, int64_t i, int64_t y, int64_t left);

/* Whether the branch with stages i.. placed may hold something better. */
static bool is_open(const exact *e, int64_t i, int64_t y, int64_t left)
{
    if (!e->missing)
        return e->at[i]->lacks == 0 && !hopeless(e, bound(e, i, y, left));
    double lacks = 0;
    for (int64_t p = i; p < e->stages; p++)
        lacks += e->at[p]->lacks;
    return lacks < e->k->near[e->stages].lacks;
}

static void place_group(exact *e, int64_t i, int64_t y, int64_t left, int64_t group)
{
    e->of[i] = group;
    e->end[i] = y;
    for (int64_t x = i == 0 ? 0 : y - 1; x >= i; x--) {
        e->at[i] = piece_of(e, group, x, y, e->stages - i);
        if (is_open(e, i, x, left & ~group))
            place(e, i - 1, x, left & ~group);
        if (i == 0)
            return;
    }
}

/* Stage i and those before it, on the layers before y and exactly the devices `left`. */
static void place(exact *e, int64_t i, int64_t y, int64_t left)
{
    if (i < 0) {
        try_layout(e);
        return;
    }
    for (int64_t group = left; group > 0; group = (group - 1) & left) {
        int64_t n = __builtin_popcountll((unsigned long long)group), all = __builtin_popcountll((unsigned long long)left);
        if (n <= e->k->most_ranks && all - n >= i && (i > 0 || group == left))
            place_group(e, i, y, left, group);
    }
}

static void search_sets(exact *e)
{
    int64_t D = e->k->c.D, all = ((int64_t)1 << D) - 1;
    for (int64_t set = all; set > 0; set = e->k->q->every_device ? 0 : set - 1) {
        int64_t rank[MOST], n = members(set, rank);
        if (e->k->q->keep_first && rank[0] != 0)
            continue;
        e->set = pac_search_set(e->k, rank, n);
        for (e->stages = 1; e->stages <= e->k->most_stages && e->stages <= n; e->stages++)
            if (e->missing ? isinf(e->k->best[e->stages].total)
                           : !hopeless(e, rate_bound(&e->both, e->k->c.L, set, e->k->q->batch)))
                place(e, e->stages - 1, e->k->c.L, set);
    }
}

bool pac_search_is_small(const pac_search *k)
{
    static const int64_t most_layers[MOST + 1] = {0, MOST_LAYERS, MOST_LAYERS, MOST_LAYERS, 32, 12, 0};
    int64_t many = (k->to_M - k->from_M) / 16 + 1; /* batches beyond 16 count like more layers */
    return k->c.D <= MOST && k->c.L * many <= most_layers[k->c.D];
}

static void search_all(exact *e)
{
    for (int64_t M = e->k->from_M; M <= e->k->to_M; M++) {
        e->m = pac_micro_of(e->k->q->batch, M);
        fill_rates(e, true, true, &e->both);
        fill_rates(e, true, false, &e->fwd);
        fill_rates(e, false, true, &e->bwd);
        search_sets(e);
    }
}

pac_err pac_search_exact(pac_search *k)
{
    exact e = {.k = k};
    void *v;
    PAC_CHECK(k->c.D <= MOST && k->c.L <= MOST_LAYERS, PAC_EINVAL, "the exact search takes at most %d devices and %d layers",
              MOST, MOST_LAYERS);
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, ((int64_t)MOST << k->c.D) * (k->c.L + 1) * (k->c.L + 1), sizeof *e.piece, &v));
    e.piece = v;
    search_all(&e);
    e.missing = true;
    search_all(&e);
    k->exact = true;
    pac_mem_free(e.piece);
    return PAC_OK;
}
