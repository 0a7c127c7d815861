/* The planner explains itself: the plan, the candidates it beat and why, and what to do when nothing fits. */
#include "paper.h"

#include "cost.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The device that lacks most under the paper's memory test, with what it was to hold. */
typedef struct worst_device {
    int64_t rank, first, last;
    double samples, lacks;
} worst_device;

static worst_device find_worst(const pac_plan_request *q, const pac_partition *part)
{
    double B = (double)q->batch / (double)part->microbatches;
    worst_device worst = {.lacks = -1};
    int64_t first = 0, lo = 0;
    for (int64_t i = 0; i < part->stages; i++) {
        double samples = pac_samples_each(B, part->ranks[i]);
        for (int64_t d = lo; d < lo + part->ranks[i]; d++) {
            double lacks = pac_paper_shortage(q->profile, d, first, part->last[i], samples);
            if (lacks > worst.lacks)
                worst = (worst_device){.rank = d, .first = first, .last = part->last[i], .samples = samples, .lacks = lacks};
        }
        first = part->last[i];
        lo += part->ranks[i];
    }
    return worst;
}

/* Numbers joined with '-'; the text is cut when it does not fit. `base` makes differences of cumulative numbers. */
static void join(const int64_t *v, int64_t n, bool differences, char *buf, size_t bytes)
{
    size_t used = 0;
    for (int64_t i = 0; i < n && used < bytes; i++) {
        int64_t x = differences && i > 0 ? v[i] - v[i - 1] : v[i];
        used += (size_t)snprintf(buf + used, bytes - used, "%s%lld", i == 0 ? "" : "-", (long long)x);
    }
}

/* ---- nothing fits ---- */

static pac_err nothing_fits(const pac_plan_request *q, const pac_partition *best, int64_t count)
{
    const pac_profile *p = q->profile;
    const pac_partition *near = NULL;
    worst_device least = {0};
    for (int64_t i = 0; i < count; i++) {
        worst_device w = find_worst(q, &best[i]);
        if (near == NULL || w.lacks < least.lacks) {
            least = w;
            near = &best[i];
        }
    }
    pac_layer_bytes b = pac_stage_bytes(p, least.first, least.last);
    char shape[64] = "", lacks[32], has[32], weights[32], learn[32], act[32];
    join(near->ranks, near->stages, false, shape, sizeof shape);
    return pac_fail(
        PAC_ENOMEM,
        "no plan fits: at best (ranks by stage %s, %lld micro-batch%s) rank %lld (%s) lacks %s of memory\n  its budget is "
        "%s, layers %lld to %lld take %s of weights,\n  %s of learning parameters with gradients and optimizer states and "
        "%s of activations for %.3g sample%s",
        shape, (long long)near->microbatches, PAC_PLURAL(near->microbatches, "es"), (long long)least.rank,
        p->device[least.rank].name, pac_bytes_up(least.lacks, lacks), pac_bytes_text(p->device[least.rank].memory, has),
        (long long)least.first, (long long)least.last - 1, pac_bytes_text(b.weights, weights),
        pac_bytes_text(b.tuned * (2 + p->optimizer_states), learn), pac_bytes_text(b.activations * least.samples, act),
        least.samples, PAC_PLURAL(least.samples, "s"));
}

/* ---- candidates ---- */

static int by_step(const void *a, const void *b)
{
    const pac_candidate *x = a, *y = b;
    if (x->step_s != y->step_s)
        return x->step_s < y->step_s ? -1 : 1;
    return x->stages < y->stages ? -1 : x->stages > y->stages;
}

static void explain(const pac_plan_request *q, const pac_partition *part, double best_step, pac_candidate *c)
{
    char lacks[32];
    if (!isfinite(part->step)) {
        worst_device w = find_worst(q, part);
        snprintf(c->why, sizeof c->why, "rank %lld (%.64s) lacks %s of memory", (long long)w.rank,
                 q->profile->device[w.rank].name, pac_bytes_up(w.lacks, lacks));
    } else {
        snprintf(c->why, sizeof c->why, "slower by %.3g %%", best_step > 0 ? 100 * (part->step / best_step - 1) : 0.0);
    }
}

static pac_err to_plan(const pac_plan_request *q, const pac_partition *part, pac_plan *plan)
{
    PAC_TRY(pac_plan_alloc(part->stages, plan));
    plan->world = q->profile->devices;
    plan->layers = pac_profile_layers(q->profile);
    plan->microbatches = part->microbatches;
    plan->cached = q->cached && q->epochs > 1;
    strcpy(plan->planner, "paper");
    int64_t first = 0, rank = 0;
    for (int64_t i = 0; i < part->stages; i++) {
        pac_stage_plan *st = &plan->stage[i];
        PAC_TRY(pac_stage_alloc(part->ranks[i], st));
        st->first = first;
        st->last = first = part->last[i];
        for (int64_t r = 0; r < st->ranks; r++) {
            st->rank[r] = rank++;
            st->share[r] = 1.0 / (double)st->ranks;
        }
    }
    return PAC_OK;
}

/* In the order of the profile: "0,1 2,3". The text is cut when it does not fit. */
static void name_devices(const pac_partition *part, char *buf, size_t bytes)
{
    size_t used = 0;
    int64_t rank = 0;
    for (int64_t i = 0; i < part->stages; i++)
        for (int64_t r = 0; r < part->ranks[i] && used < bytes; r++, rank++)
            used += (size_t)snprintf(buf + used, bytes - used, "%s%lld", rank == 0 ? "" : r > 0 ? "," : " ", (long long)rank);
}

/* The device that is nearest to its budget or furthest above it, and its bytes. */
static int64_t tightest(const pac_profile *p, const pac_plan *plan, double *bytes)
{
    double most = -INFINITY;
    int64_t rank = 0;
    for (int64_t i = 0; i < plan->stages; i++)
        for (int64_t r = 0; r < plan->stage[i].ranks; r++) {
            double over = plan->stage[i].bytes[r] - p->device[plan->stage[i].rank[r]].memory;
            if (over > most) {
                most = over;
                rank = plan->stage[i].rank[r];
                *bytes = plan->stage[i].bytes[r];
            }
        }
    return rank;
}

/* The paper's equations end with a mini-batch; the whole run is that of the cost model. */
static pac_err predict_run(const pac_plan_request *q, const pac_partition *part, pac_candidate *c)
{
    pac_plan plan = {0};
    pac_err err = to_plan(q, part, &plan);
    if (err == PAC_OK)
        err = pac_plan_predict(q->profile, q, &plan);
    if (err == PAC_OK) {
        c->total_s = isfinite(part->step) ? plan.predicted.total_s : INFINITY;
        c->cached = q->cached && plan.cached;
        tightest(q->profile, &plan, &c->most_bytes);
    }
    pac_plan_free(&plan);
    return err;
}

static pac_err list_candidates(const pac_plan_request *q, const pac_partition *best, int64_t count, double best_step,
                               pac_plan_answer *a)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, count, sizeof *a->candidate, &v));
    a->candidate = v;
    a->candidates = count;
    for (int64_t i = 0; i < count; i++) {
        pac_candidate *c = &a->candidate[i];
        c->stages = best[i].stages;
        c->microbatches = best[i].microbatches;
        c->bottleneck_s = best[i].bottleneck;
        c->step_s = best[i].step;
        join(best[i].ranks, best[i].stages, false, c->shape, sizeof c->shape);
        join(best[i].last, best[i].stages, true, c->layers, sizeof c->layers);
        name_devices(&best[i], c->devices, sizeof c->devices);
        explain(q, &best[i], best_step, c);
        PAC_TRY(predict_run(q, &best[i], c));
    }
    qsort(a->candidate, (size_t)count, sizeof *a->candidate, by_step);
    a->candidate[0].best = true;
    return PAC_OK;
}

/* The paper's memory test counts one micro-batch; say so where those in flight need more than the budget. */
static void explain_winner(const pac_profile *p, const pac_plan *plan, pac_candidate *c)
{
    double bytes = 0;
    char text[32];
    int64_t rank = tightest(p, plan, &bytes);
    if (bytes <= p->device[rank].memory)
        snprintf(c->why, sizeof c->why, "best");
    else
        snprintf(c->why, sizeof c->why, "best, but with its micro-batches in flight rank %lld needs %s more than its budget",
                 (long long)rank, pac_bytes_up(bytes - p->device[rank].memory, text));
}

/* Its order is that of its own step, which another total may contradict. */
static void say_ranking(pac_plan_answer *a)
{
    const pac_candidate *least = &a->candidate[0];
    for (int64_t i = 1; i < a->candidates; i++)
        if (a->candidate[i].total_s < least->total_s)
            least = &a->candidate[i];
    size_t used = (size_t)snprintf(a->note, sizeof a->note,
                                   "ranked by the step of the paper's equation 6 (this table's); totals are the cost model's");
    if (least != &a->candidate[0])
        snprintf(a->note + used, sizeof a->note - used, ", by which %.40s is best: system.planner: pac plans by them",
                 least->shape);
}

pac_err pac_answer_build(const pac_plan_request *q, const pac_partition *best, int64_t count, pac_plan_answer *out)
{
    const pac_partition *winner = &best[0];
    for (int64_t i = 1; i < count; i++)
        if (best[i].step < winner->step)
            winner = &best[i];
    if (!isfinite(winner->step))
        return nothing_fits(q, best, count);
    pac_plan_answer a = {0};
    pac_err err;
    PAC_GO(to_plan(q, winner, &a.plan));
    PAC_GO(pac_plan_predict(q->profile, q, &a.plan));
    PAC_GO(list_candidates(q, best, count, winner->step, &a));
    explain_winner(q->profile, &a.plan, &a.candidate[0]);
    say_ranking(&a);
    *out = a;
out:
    if (err != PAC_OK)
        pac_plan_answer_free(&a);
    return err;
}

void pac_plan_answer_free(pac_plan_answer *a)
{
    if (a == NULL)
        return;
    pac_plan_free(&a->plan);
    pac_mem_free(a->candidate);
    *a = (pac_plan_answer){0};
}
