/* `planner: pac` explains itself: the plan, what it was compared with and why that lost, what it left out and refused. */
#include "pac.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text that is cut when it does not fit. */
typedef struct line {
    char *at;
    size_t left;
} line;

__attribute__((format(printf, 2, 3))) static void add(line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->at, l->left, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < l->left ? (size_t)n : l->left - 1;
    l->at += used;
    l->left -= used;
}

/* ---- the plan ---- */

/* Takes shares from the stages that were scored last. */
static pac_err copy_stages(const pac_search *k, const pac_layout *x, pac_plan *plan)
{
    for (int64_t i = 0; i < x->stages; i++) {
        const pac_stage_plan *from = &k->stage[i];
        pac_stage_plan *st = &plan->stage[i];
        PAC_TRY(pac_stage_alloc(from->ranks, st));
        st->first = from->first;
        st->last = from->last;
        memcpy(st->rank, from->rank, (size_t)st->ranks * sizeof *st->rank);
        memcpy(st->share, from->share, (size_t)st->ranks * sizeof *st->share);
    }
    return PAC_OK;
}

static pac_err share_cached(const pac_search *k, pac_plan *plan)
{
    int64_t rank[PAC_MAX_DEVICES], count[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, rank);
    pac_devices_rising(rank, n, rank);
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->c.D, sizeof *plan->cached_share, &v));
    plan->cached_share = v;
    pac_split_cached(&k->c, rank, n, count);
    for (int64_t i = 0; i < n; i++)
        plan->cached_share[rank[i]] = (double)count[i] / (double)k->q->batch;
    return PAC_OK;
}

static pac_err to_plan(pac_search *k, pac_layout x, pac_plan *plan)
{
    pac_search_score(k, &x);
    PAC_TRY(pac_plan_alloc(x.stages, plan));
    plan->world = k->c.D;
    plan->layers = k->c.L;
    plan->microbatches = x.microbatches;
    plan->left_out = k->c.D - x.ranks;
    plan->cached = x.cached;
    strcpy(plan->planner, "pac");
    PAC_TRY(copy_stages(k, &x, plan));
    if (x.cached)
        PAC_TRY(share_cached(k, plan));
    return pac_plan_predict(k->c.p, k->q, plan);
}

/* ---- candidates ---- */

static void name_layout(const pac_layout *x, pac_candidate *c)
{
    line shape = {c->shape, sizeof c->shape}, layers = {c->layers, sizeof c->layers}, devices = {c->devices, sizeof c->devices};
    for (int64_t i = 0; i < x->stages; i++) {
        const char *dash = i > 0 ? "-" : "";
        add(&shape, "%s%d", dash, (int)(x->after[i] - pac_first_rank(x, i)));
        add(&layers, "%s%d", dash, (int)(x->end[i] - pac_first_layer(x, i)));
        for (int64_t r = pac_first_rank(x, i); r < x->after[i]; r++)
            add(&devices, "%s%d", r == 0 ? "" : r > pac_first_rank(x, i) ? "," : " ", (int)x->rank[r]);
    }
}

/* Forward and backward of the slowest stage, of the layout scored last. */
static double bottleneck(const pac_search *k, const pac_layout *x)
{
    pac_micro m = pac_micro_of(k->q->batch, x->microbatches);
    double worst = 0;
    for (int64_t i = 0; i < x->stages; i++) {
        pac_stage_cost s;
        pac_stage_times t;
        pac_range_cost(&k->c, k->stage[i].first, k->stage[i].last, &s);
        pac_score_group(&k->c, &k->stage[i], &s, &m, x->stages - i, &t);
        worst = fmax(worst, t.fwd[1] + t.bwd[1]);
    }
    return worst;
}

/* The device nearest to its budget, or furthest above it, of the layout scored last. Returns its place in k->rank. */
static int64_t tightest(const pac_search *k, const pac_layout *x)
{
    int64_t at = 0;
    double most = -INFINITY;
    for (int64_t r = 0; r < x->ranks; r++) {
        double over = k->bytes[r] - k->c.p->device[k->rank[r]].memory;
        if (over > most) {
            most = over;
            at = r;
        }
    }
    return at;
}

static void say_why(const pac_search *k, const pac_layout *x, const pac_layout *win, const char *what, pac_candidate *c)
{
    line l = {c->why, sizeof c->why};
    char text[32];
    int64_t r = tightest(k, x);
    if (what != NULL)
        add(&l, "%s: ", what);
    if (isinf(x->total))
        add(&l, "rank %lld (%.40s) lacks %s", (long long)k->rank[r], k->c.p->device[k->rank[r]].name,
            pac_bytes_up(k->bytes[r] - k->c.p->device[k->rank[r]].memory, text));
    else if (c->best)
        add(&l, "best");
    else if (x->total <= win->total)
        add(&l, "as fast as the best");
    else
        add(&l, "slower by %.3g %%", 100 * (x->total / win->total - 1));
    if (isfinite(x->total) && isfinite(x->other) && !x->cached)
        add(&l, "; with the cache %.1f s", x->other);
}

static void add_candidate(pac_search *k, pac_layout x, const pac_layout *win, const char *what, pac_plan_answer *a)
{
    pac_search_score(k, &x);
    pac_candidate *c = &a->candidate[a->candidates++];
    name_layout(&x, c);
    c->best = what == NULL && x.stages == win->stages; /* what is listed by number of stages is the winner there */
    c->stages = x.stages;
    c->microbatches = x.microbatches;
    c->step_s = x.step;
    c->total_s = x.total;
    c->bottleneck_s = bottleneck(k, &x);
    c->most_bytes = k->bytes[tightest(k, &x)];
    c->cached = x.cached;
    say_why(k, &x, win, what, c);
}

static int by_total(const void *a, const void *b)
{
    const pac_candidate *x = a, *y = b;
    if (x->total_s != y->total_s)
        return x->total_s < y->total_s ? -1 : 1;
    if (x->best != y->best)
        return x->best ? -1 : 1;
    return x->stages < y->stages ? -1 : x->stages > y->stages;
}

static bool same_devices(const pac_layout *x, const pac_layout *y)
{
    return x->stages == y->stages && x->ranks == y->ranks && memcmp(x->rank, y->rank, (size_t)x->ranks * sizeof *x->rank) == 0;
}

static pac_err list_candidates(pac_search *k, const pac_layout *win, const pac_layout *one, pac_plan_answer *a)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, k->most_stages + 2, sizeof *a->candidate, &v));
    a->candidate = v;
    bool listed = one->stages == 0; /* the best of one stage often is one device */
    for (int64_t s = 1; s <= k->most_stages; s++) {
        const pac_layout *x = k->best[s].stages > 0 ? &k->best[s] : &k->near[s];
        bool is_one = same_devices(x, one);
        listed = listed || is_one;
        if (x->stages > 0)
            add_candidate(k, *x, win, is_one && win->stages > 1 ? "one device" : NULL, a);
    }
    if (!listed)
        add_candidate(k, *one, win, "one device", a);
    pac_layout equal = *win;
    equal.equal = true;
    if (!win->equal && win->ranks > win->stages)
        add_candidate(k, equal, win, "equal shares", a);
    qsort(a->candidate, (size_t)a->candidates, sizeof *a->candidate, by_total);
    return PAC_OK;
}

/* ---- what was decided beside ---- */

/* Whether no plan can put anything on the device: any one layer, or all where a plan has one stage only. */
static bool holds_nothing(const pac_search *k, int64_t d)
{
    int64_t least = k->most_stages == 1 ? k->c.L : 1;
    for (int64_t l = 0; l + least <= k->c.L; l++) {
        pac_stage_cost s;
        pac_range_cost(&k->c, l, l + least, &s);
        if (pac_stage_needs(&k->c, &s, l, l + least, 1, 1).base <= k->c.p->device[d].memory)
            return false;
    }
    return true;
}

/* Of the devices that are not in, those that hold nothing or the others; what: why. */
static int64_t say_these(const pac_search *k, const bool *in, bool nothing, const char *what, line *l)
{
    enum { MOST_NAMED = 6 };
    int64_t n = 0;
    for (int64_t d = 0; d < k->c.D; d++)
        if (!in[d] && holds_nothing(k, d) == nothing && n++ < MOST_NAMED)
            add(l, "%srank %lld (%.40s)", n == 1 ? what : ", ", (long long)d, k->c.p->device[d].name);
    if (n > MOST_NAMED)
        add(l, ", %lld more", (long long)(n - MOST_NAMED));
    return n;
}

static void say_left_out(const pac_search *k, const pac_plan *plan, line *l)
{
    bool in[PAC_MAX_DEVICES] = {false};
    int64_t rank[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, rank);
    for (int64_t i = 0; i < n; i++)
        in[rank[i]] = true;
    const char *small = k->most_stages == 1 ? "left out, the model does not fit there: " : "left out, no layer fits there: ";
    bool some = say_these(k, in, true, small, l) > 0;
    say_these(k, in, false, some ? "; left out, faster without: " : "left out, faster without: ", l);
}

/* Of the ranks of the plan, the first that rules the cache out; else it would be slower. */
static void say_no_cache(const pac_search *k, const pac_plan *plan, line *l)
{
    int64_t rank[PAC_MAX_DEVICES], part[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, rank);
    char has[32], need[32];
    double bytes;
    add(l, "%sno cache: ", plan->left_out > 0 ? "; " : "");
    int64_t full = pac_cache_lacks_room(&k->c, plan->stage, plan->stages, NULL, &bytes);
    if (full >= 0) {
        add(l, "the disk of rank %lld (%.40s) has %s free, %s take %s", (long long)full, k->c.p->device[full].name,
            pac_bytes_text(k->c.p->device[full].disk_space, has), k->q->sharded ? "its activations" : "all activations",
            pac_bytes_text(bytes, need));
        return;
    }
    if (!pac_split_cached(&k->c, rank, n, part)) {
        add(l, "the cached phase does not fit the memory of all devices");
        return;
    }
    pac_cached_cost cost = pac_cached_seconds(&k->c, rank, n, part);
    add(l, "an epoch from it takes %.3g s instead of %.3g s, redistributing %.3g s more", cost.epoch,
        plan->predicted.hybrid_epoch_s, cost.redistribute);
}

static void say_note(const pac_search *k, pac_plan_answer *a)
{
    line l = {a->note, sizeof a->note};
    say_left_out(k, &a->plan, &l);
    if (k->may_cache && !a->plan.cached)
        say_no_cache(k, &a->plan, &l);
}

pac_err pac_explain_answer(pac_search *k, const pac_layout *win, const pac_layout *one, pac_plan_answer *out)
{
    pac_plan_answer a = {0};
    pac_err err;
    PAC_GO(to_plan(k, *win, &a.plan));
    PAC_GO(list_candidates(k, win, one, &a));
    say_note(k, &a);
    *out = a;
out:
    if (err != PAC_OK)
        pac_plan_answer_free(&a);
    return err;
}

/* ---- nothing fits ---- */

const pac_layout *pac_search_nearest(const pac_search *k)
{
    const pac_layout *x = NULL;
    for (int64_t s = 1; s <= k->most_stages; s++)
        if (k->near[s].stages > 0 && k->near[s].lacks < (x == NULL ? INFINITY : x->lacks))
            x = &k->near[s];
    return x;
}

pac_err pac_explain_misfit(pac_search *k)
{
    const pac_layout *near = pac_search_nearest(k);
    PAC_CHECK(near != NULL, PAC_EINVAL, "no plan keeps to the request's conditions (most_stages, most_ranks, every device)");
    pac_layout x = *near;
    pac_search_score(k, &x);
    pac_candidate named = {0};
    name_layout(&x, &named);
    char list[256] = "", text[32], has[32];
    line l = {list, sizeof list};
    for (int64_t r = 0; r < x.ranks; r++) {
        const pac_device *d = &k->c.p->device[k->rank[r]];
        if (k->bytes[r] > d->memory)
            add(&l, "%srank %lld (%.40s, %s) lacks %s", list[0] != '\0' ? ", " : "", (long long)k->rank[r], d->name,
                pac_bytes_text(d->memory, has), pac_bytes_up(k->bytes[r] - d->memory, text));
    }
    return pac_fail(PAC_ENOMEM,
                    "%s; the plan that came nearest (ranks by stage %s, layers %s, devices %s, %lld micro-batch%s) would fit "
                    "with more memory: %s",
                    k->exact ? "no plan fits" : "no plan was found that fits", named.shape, named.layers, named.devices,
                    (long long)x.microbatches, PAC_PLURAL(x.microbatches, "es"), list);
}
