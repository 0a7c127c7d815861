/*
 * PAC's planner, equations 2-6 as printed (docs/formats.md states them).
 *
 * Devices keep the order of the profile, D_n is the first n of them. For every number of stages s one recursion
 *     W(0->y, D_n, s) = min over q < y, m < n of max{ W(0->q, D_{n-m}, s-1), T(q+1->y, the m devices after D_{n-m}) }
 * balances the stages; then the s (and the number of micro-batches M) with the smallest L_b + L_e + L_n wins. T does not depend
 * on s, so s is the innermost loop and T is evaluated once per (n, m, q, y): O(L^2 D^2 (D + s)) for each M.
 *
 * Known to be weak, and kept: the steady phase L_e uses the last stage rather than the slowest, the split inside a group is
 * equal, and the memory test ignores how many micro-batches are in flight (pac_plan_predict() does not).
 *
 * The same recursion with "bytes that a device lacks" in place of T finds the attempt that comes nearest to fitting.
 */
#include "paper.h"

#include "cost.h"

#include "pac/clock.h"

#include <math.h>

static const double MOST_WORK = 1e12; /* about an hour */

typedef struct choice {
    int16_t q, m; /* the last stage has layers q+1..y and the last m devices */
} choice;

typedef struct search {
    const pac_profile *p;
    int64_t D, L, S;     /* devices, layers, most stages */
    int64_t most_ranks;  /* of a stage */
    double B;            /* samples of a micro-batch */
    bool by_shortage;    /* minimise the bytes that are lacking instead of the time */
    double *fixed, *act; /* [L + 1] bytes of the first l layers: parameters; activations per sample */
    double *time;        /* [D group sizes][D devices][L + 1] seconds of the first l layers */
    double *W;           /* [D + 1][L + 1][S + 1] */
    choice *how;         /* likewise */
    int64_t *id;         /* [D] 0, 1, ... so that a group is a list of ranks */
} search;

double pac_samples_each(double B, int64_t n)
{
    return fmax(B / (double)n, 1);
}

double pac_paper_shortage(const pac_profile *p, int64_t device, int64_t first, int64_t last, double samples)
{
    pac_layer_bytes b = pac_stage_bytes(p, first, last);
    return fmax(pac_parameter_bytes(p, &b) + b.activations * samples - p->device[device].memory, 0);
}

static void search_done(search *k)
{
    pac_mem_free(k->fixed);
    pac_mem_free(k->act);
    pac_mem_free(k->time);
    pac_mem_free(k->W);
    pac_mem_free(k->how);
    pac_mem_free(k->id);
}

static pac_err search_init(search *k)
{
    int64_t cells = (k->D + 1) * (k->L + 1) * (k->S + 1);
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->L + 1, sizeof(double), &v));
    k->fixed = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->L + 1, sizeof(double), &v));
    k->act = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->D * k->D * (k->L + 1), sizeof(double), &v));
    k->time = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, cells, sizeof(double), &v));
    k->W = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, cells, sizeof(choice), &v));
    k->how = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->D, sizeof(int64_t), &v));
    k->id = v;
    for (int64_t d = 0; d < k->D; d++)
        k->id[d] = d;
    for (int64_t l = 0; l < k->L; l++) {
        k->fixed[l + 1] = k->fixed[l] + pac_parameter_bytes(k->p, &k->p->layer[l]);
        k->act[l + 1] = k->act[l] + k->p->layer[l].activations;
    }
    return PAC_OK;
}

/* Seconds of the first l layers on device d in a group of m. */
static double *times_of(const search *k, int64_t m, int64_t d)
{
    return k->time + ((m - 1) * k->D + d) * (k->L + 1);
}

static void set_microbatch(search *k, double B)
{
    k->B = B;
    for (int64_t m = 1; m <= k->D; m++)
        for (int64_t d = 0; d < k->D; d++) {
            double *t = times_of(k, m, d), beta = pac_samples_each(B, m);
            for (int64_t l = 0; l < k->L; l++)
                t[l + 1] = t[l] + pac_layer_time(k->p, d, l, beta, false) + pac_layer_time(k->p, d, l, beta, true);
        }
}

/* T(x+1->y, G) with G the m devices from `lo` on: infinity if a device lacks memory, else the slowest device's time. */
static double stage_time(const search *k, int64_t x, int64_t y, int64_t lo, int64_t m)
{
    double need = k->fixed[y] - k->fixed[x] + (k->act[y] - k->act[x]) * pac_samples_each(k->B, m);
    double worst = 0;
    for (int64_t d = lo; d < lo + m; d++) {
        double lacks = need - k->p->device[d].memory;
        if (k->by_shortage) {
            worst = fmax(worst, lacks);
        } else {
            const double *t = times_of(k, m, d);
            worst = lacks > 0 ? INFINITY : fmax(worst, t[y] - t[x]);
        }
    }
    return worst;
}

static int64_t cell(const search *k, int64_t n, int64_t y, int64_t s)
{
    return (n * (k->L + 1) + y) * (k->S + 1) + s;
}

static void improve(search *k, int64_t at, double w, int64_t q, int64_t m)
{
    if (w < k->W[at]) {
        k->W[at] = w;
        k->how[at] = (choice){.q = (int16_t)q, .m = (int16_t)m};
    }
}

/* Layers 1..y on the first n devices, the last m of which are the last stage. */
static void try_last_group(search *k, int64_t n, int64_t m, int64_t y)
{
    if (m == n) {
        improve(k, cell(k, n, y, 1), stage_time(k, 0, y, 0, n), 0, n);
        return;
    }
    for (int64_t q = 1; q < y; q++) {
        double t = stage_time(k, q, y, n - m, m);
        for (int64_t s = 2; s <= k->S && s <= n; s++)
            improve(k, cell(k, n, y, s), fmax(k->W[cell(k, n - m, q, s - 1)], t), q, m);
    }
}

static void solve(search *k)
{
    int64_t cells = (k->D + 1) * (k->L + 1) * (k->S + 1);
    for (int64_t i = 0; i < cells; i++)
        k->W[i] = INFINITY;
    for (int64_t n = 1; n <= k->D; n++)
        for (int64_t m = 1; m <= n && m <= k->most_ranks; m++)
            for (int64_t y = 1; y <= k->L; y++)
                try_last_group(k, n, m, y);
}

/* Walk the choices back from W(0->L, D, s). */
static void read_partition(const search *k, int64_t s, pac_partition *out)
{
    int64_t n = k->D, y = k->L;
    out->stages = s;
    out->bottleneck = k->W[cell(k, n, y, s)];
    for (int64_t i = s - 1; i >= 0; i--) {
        choice c = k->how[cell(k, n, y, i + 1)];
        out->last[i] = y;
        out->ranks[i] = c.m;
        n -= c.m;
        y = c.q;
    }
}

/* ---- L_b + L_e + L_n ---- */

/* e_f(i) or e_b(i): the slowest device of the group. */
static double slowest(const search *k, int64_t first, int64_t last, int64_t lo, int64_t m, bool backward)
{
    double worst = 0;
    for (int64_t d = lo; d < lo + m; d++)
        worst = fmax(worst, pac_stage_time(k->p, d, first, last, pac_samples_each(k->B, m), backward));
    return worst;
}

/*
 * c_f(i) or c_b(i): what crosses in front of layer `at` between the m devices from `lo` on and the next n. The slowest pair
 * decides, and the side with fewer devices, each of which moves the larger part.
 */
static double crossing(const search *k, int64_t at, int64_t lo, int64_t m, int64_t n, bool backward)
{
    const int64_t *from = &k->id[lo], *to = &k->id[lo + m];
    pac_link_cost link = backward ? pac_slowest_link(k->p, to, n, from, m) : pac_slowest_link(k->p, from, m, to, n);
    double bytes = backward ? k->p->boundary_bwd[at] : k->p->boundary_fwd[at];
    return link.latency + bytes * pac_samples_each(k->B, m < n ? m : n) / link.bandwidth;
}

static double step_time(const search *k, const pac_partition *part, int64_t M)
{
    double L_b = 0, L_e = 0, L_n = 0, drain[PAC_MAX_DEVICES], reduce[PAC_MAX_DEVICES];
    int64_t s = part->stages, first = 0, lo = 0;
    for (int64_t i = 0; i < s; i++) {
        int64_t last = part->last[i], m = part->ranks[i];
        double e_f = slowest(k, first, last, lo, m, false), e_b = slowest(k, first, last, lo, m, true);
        drain[i] = 0;
        if (i < s - 1) {
            L_b += e_f + crossing(k, last, lo, m, part->ranks[i + 1], false);
            drain[i] = e_b + crossing(k, last, lo, m, part->ranks[i + 1], true);
        } else {
            L_e = (double)M * (e_f + e_b);
        }
        reduce[i] = pac_allreduce_time(k->p, &k->id[lo], m, pac_stage_bytes(k->p, first, last).tuned);
        first = last;
        lo += m;
    }
    double behind = 0; /* sum over j = i..s-1 of e_b(j) + c_b(j) */
    for (int64_t i = s - 1; i >= 0; i--) {
        behind += drain[i];
        L_n = fmax(L_n, reduce[i] + behind);
    }
    return L_b + L_e + L_n;
}

/* ---- all s and M ---- */

static void keep_if_better(const search *k, int64_t s, int64_t M, pac_partition *best)
{
    pac_partition part = {0};
    if (!isfinite(k->W[cell(k, k->D, k->L, s)]))
        return;
    read_partition(k, s, &part);
    part.microbatches = M;
    part.step = step_time(k, &part, M);
    if (part.step < best->step)
        *best = part;
}

/* For those s that never fit: the partition that lacks the fewest bytes, with the smallest micro-batches allowed. */
static void nearest_misses(search *k, int64_t M, pac_partition *best)
{
    int64_t fitting = 0;
    while (fitting < k->S && isfinite(best[fitting].step))
        fitting++;
    if (fitting == k->S)
        return;
    k->by_shortage = true;
    solve(k);
    for (int64_t s = 1; s <= k->S; s++) {
        if (isfinite(best[s - 1].step) || !isfinite(k->W[cell(k, k->D, k->L, s)]))
            continue; /* fits, or no plan has so many stages */
        read_partition(k, s, &best[s - 1]);
        best[s - 1].microbatches = M;
        best[s - 1].bottleneck = best[s - 1].step = INFINITY;
    }
}

/* Numbers of stages that the request's conditions rule out have no partition at all. Returns how many are left. */
static int64_t drop_impossible(pac_partition *best, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (best[i].stages > 0)
            best[n++] = best[i];
    return n;
}

double pac_paper_work(int64_t devices, int64_t layers)
{
    double D = (double)devices, L = (double)layers;
    return L * L * D * D * D / 6;
}

static pac_err check_work(const pac_plan_request *q)
{
    int64_t D = q->profile->devices, L = pac_profile_layers(q->profile);
    PAC_CHECK(pac_paper_work(D, L) * (double)(q->microbatches > 0 ? 1 : q->batch) <= MOST_WORK, PAC_EINVAL,
              "the paper's programme would take hours for %lld devices and %lld layers: system.planner: pac does not, a given "
              "train.microbatches takes it 1 / train.batch of the time",
              (long long)D, (long long)L);
    return PAC_OK;
}

static pac_err check_request(const pac_plan_request *q)
{
    PAC_TRY(pac_request_check(q, INT16_MAX - 1));
    PAC_TRY(pac_request_check_room(q)); /* it uses every device */
    return check_work(q);
}

pac_err pac_paper_search(const pac_plan_request *q, pac_partition **out, int64_t *count)
{
    search k = {.p = q->profile, .D = q->profile->devices, .L = pac_profile_layers(q->profile)};
    k.S = k.D < k.L ? k.D : k.L;
    k.S = q->most_stages > 0 && q->most_stages < k.S ? q->most_stages : k.S;
    k.most_ranks = q->most_ranks > 0 ? q->most_ranks : k.D;
    pac_partition *best = NULL;
    void *v;
    pac_err err;
    PAC_GO(search_init(&k));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, k.S, sizeof *best, &v));
    best = v;
    for (int64_t s = 1; s <= k.S; s++)
        best[s - 1].step = INFINITY;
    int64_t from = q->microbatches > 0 ? q->microbatches : 1, to = q->microbatches > 0 ? q->microbatches : q->batch;
    for (int64_t M = from; M <= to; M++) {
        set_microbatch(&k, (double)q->batch / (double)M);
        solve(&k);
        for (int64_t s = 1; s <= k.S; s++)
            keep_if_better(&k, s, M, &best[s - 1]);
    }
    nearest_misses(&k, to, best);
    *count = drop_impossible(best, k.S);
    *out = best;
out:
    search_done(&k);
    return err;
}

pac_err pac_plan_paper(const pac_plan_request *q, pac_plan_answer *out)
{
    double start = pac_now();
    PAC_TRY(check_request(q));
    pac_plan_answer answer = {0};
    pac_partition *best = NULL;
    int64_t count;
    PAC_TRY(pac_paper_search(q, &best, &count));
    pac_err err = pac_answer_build(q, best, count, &answer);
    pac_mem_free(best);
    PAC_TRY(err);
    answer.seconds = pac_now() - start;
    *out = answer;
    return PAC_OK;
}
