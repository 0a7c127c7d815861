/*
 * Who takes how many whole samples: water filling. Samples go one by one to the rank that would be done first, which is the
 * best split there is (times grow with samples, so taking one away from the slowest rank makes another slower still), as long
 * as the rank's budget admits one more.
 */
#include "model.h"

#include <math.h>

enum { ONE_BY_ONE = 64 }; /* more samples than that are first filled up to a common time */

typedef struct filling {
    const pac_costs *c;
    const pac_stage_cost *s; /* NULL: the cached phase */
    double base, sample;     /* bytes */
    const int64_t *rank;
    int64_t n;
} filling;

static double seconds(const filling *f, int64_t r, int64_t samples)
{
    if (f->s == NULL)
        return pac_cached_device_seconds(f->c, f->rank[r], samples);
    return pac_work_seconds(f->c, f->s, f->rank[r], samples, false) + pac_work_seconds(f->c, f->s, f->rank[r], samples, true);
}

static bool admits(const filling *f, int64_t r, int64_t samples)
{
    return f->base + f->sample * (double)samples <= f->c->p->device[f->rank[r]].memory;
}

/* The most samples, at most `most`, that the budget admits and that are done within `limit`. */
static int64_t within(const filling *f, int64_t r, double limit, int64_t most)
{
    int64_t lo = 0, hi = most + 1;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (admits(f, r, mid) && seconds(f, r, mid) <= limit)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static int64_t fill_to(const filling *f, double limit, int64_t samples, int64_t *count)
{
    int64_t sum = 0;
    for (int64_t r = 0; r < f->n; r++) {
        count[r] = within(f, r, limit, samples);
        sum += count[r];
    }
    return sum;
}

/* Fills up to a common time that does not take more than there are. Returns how many are left. */
static int64_t fill_many(const filling *f, int64_t samples, int64_t *count)
{
    double lo = 0, hi = 0;
    for (int64_t r = 0; r < f->n; r++)
        hi = fmax(hi, seconds(f, r, samples));
    for (int i = 0; i < 30; i++) {
        double mid = lo + (hi - lo) / 2;
        if (fill_to(f, mid, samples, count) > samples)
            hi = mid;
        else
            lo = mid;
    }
    return samples - fill_to(f, lo, samples, count);
}

/* When rank r would be done with one more; infinity: its budget does not admit it. */
static double with_one_more(const filling *f, int64_t r, const int64_t *count)
{
    return admits(f, r, count[r] + 1) ? seconds(f, r, count[r] + 1) : INFINITY;
}

/* The rank that is done first with one more; the first of equal ones. -1: no budget admits one. */
static int64_t next_rank(const double *done, int64_t n)
{
    int64_t best = -1;
    double soonest = INFINITY;
    for (int64_t r = 0; r < n; r++)
        if (done[r] < soonest) {
            soonest = done[r];
            best = r;
        }
    return best;
}

static int64_t least_excess(const filling *f, const int64_t *count)
{
    int64_t best = 0;
    double least = INFINITY;
    for (int64_t r = 0; r < f->n; r++) {
        double excess = f->base + f->sample * (double)(count[r] + 1) - f->c->p->device[f->rank[r]].memory;
        if (excess < least) {
            least = excess;
            best = r;
        }
    }
    return best;
}

static bool fill_one_by_one(const filling *f, int64_t samples, int64_t *count)
{
    double done[PAC_MAX_DEVICES];
    bool fits = true;
    for (int64_t r = 0; r < f->n; r++)
        done[r] = with_one_more(f, r, count);
    for (; samples > 0; samples--) {
        int64_t r = next_rank(done, f->n);
        fits = fits && r >= 0;
        r = r >= 0 ? r : least_excess(f, count);
        count[r]++;
        done[r] = with_one_more(f, r, count);
    }
    return fits;
}

static bool fill(const filling *f, int64_t samples, int64_t *count)
{
    bool fits = true;
    for (int64_t r = 0; r < f->n; r++) {
        count[r] = 0;
        fits = fits && admits(f, r, 0);
    }
    if (f->n == 1) {
        count[0] = samples;
        return admits(f, 0, samples);
    }
    int64_t left = samples > ONE_BY_ONE ? fill_many(f, samples, count) : samples;
    return fill_one_by_one(f, left, count) && fits;
}

bool pac_split_by_speed(const pac_costs *c, const pac_stage_cost *s, pac_stage_bytes_of need, const int64_t *rank, int64_t n,
                        int64_t samples, int64_t *count)
{
    filling f = {.c = c, .s = s, .base = need.base, .sample = need.sample, .rank = rank, .n = n};
    return fill(&f, samples, count);
}

bool pac_split_cached(const pac_costs *c, const int64_t *rank, int64_t n, int64_t *count)
{
    filling f = {.c = c, .base = pac_cached_bytes(c, 0), .sample = c->p->cached_sample, .rank = rank, .n = n};
    return fill(&f, c->q->batch, count);
}

void pac_counts_to_shares(const int64_t *count, int64_t n, int64_t samples, double *share)
{
    int64_t idle = 0;
    for (int64_t r = 0; r < n; r++)
        idle += count[r] == 0;
    double crumb = idle > 0 ? 1 / (8.0 * (double)idle * (double)samples) : 0; /* of a sample; all of them round to none */
    double whole = (double)samples + crumb * (double)idle;
    for (int64_t r = 0; r < n; r++)
        share[r] = ((double)count[r] + (count[r] == 0 ? crumb : 0)) / whole;
}
