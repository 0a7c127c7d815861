/*
 * Measuring time on a machine that does other things too, or stops a process now and then.
 *
 * A time is the median of rounds, each the mean over as many runs as last `round` seconds; there are more rounds where they
 * differ much. The median and not the fastest, because a step is a sum of typical runs.
 *
 * Where one thread computes, runs are timed by the processor time that they take, and all times are multiplied at the end by
 * the seconds that a second of processor time took over the whole measurement. A CPU quota stops a process for milliseconds at
 * a time: a short run is hit rarely and then hard, so its own clock says too little (median, fastest) or too much (mean), while
 * the share of the processor is the same for all runs and known well after some seconds. With threads or a device the clock on
 * the wall counts, and a round lasts several periods of the quota.
 *
 * Before each timed part other data go through the processor's caches: in a step much else is done before the same weights are
 * read again.
 */
#include "meter.h"
#include "pac/pool.h"
#include "pac/clock.h"
#include "pac/device.h"
#include "pac/limits.h"
#include "pac/parallel.h"

#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 3, MOST_ROUNDS = 9, PERIODS = 4 };
enum { LINE = 16, MOST_OTHERS = 48 << 20 };                                                            /* floats */
static const double shortest_round = 0.015, some_periods = 0.05, slow_run = 0.15, very_slow_run = 1.5; /* seconds */
static const double too_wide = 0.2; /* spread that calls for more rounds */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *v, int64_t n)
{
    double sorted[MOST_ROUNDS];
    for (int64_t i = 0; i < n; i++)
        sorted[i] = v[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[n / 2];
}

/* How far the fastest is below the median. */
static double spread_of(const double *v, int64_t n)
{
    double fastest = v[0];
    for (int64_t i = 1; i < n; i++)
        fastest = v[i] < fastest ? v[i] : fastest;
    return fastest > 0 ? median_of(v, n) / fastest - 1 : 0;
}

static double tick(const meter *m)
{
    return m->cpu ? pac_cpu_seconds() : pac_now();
}

double meter_start(meter *m)
{
    float sum = 0;
    for (int64_t i = 0; i < m->others; i += LINE) /* one number of every cache line */
        sum += m->other[i];
    m->sum = sum;
    return tick(m);
}

void meter_stop(meter *m, int direction, double started)
{
    m->spent[direction] += tick(m) - started;
}

/* Mean seconds of a run in each direction, over a round. */
static pac_err run_round(meter *m, pac_err (*run)(void *ctx), void *ctx, double *fwd, double *bwd)
{
    double start = tick(m), wall = pac_now(), used = pac_cpu_seconds(), runs = 0;
    m->spent[FWD] = m->spent[BWD] = 0;
    do {
        PAC_TRY(run(ctx));
        runs++;
    } while (tick(m) - start < m->round);
    m->wall += pac_now() - wall;
    m->used += pac_cpu_seconds() - used;
    *fwd = m->spent[FWD] / runs;
    *bwd = m->spent[BWD] / runs;
    return PAC_OK;
}

static void report(meter *m)
{
    m->done++;
    if (m->watch->progress != NULL && pac_world_rank() == 0)
        m->watch->progress(m->watch->user, &(pac_progress){.phase = "profile",
                                                           .done = m->done,
                                                           .total = m->total > m->done ? m->total : m->done,
                                                           .seconds = pac_now() - m->started,
                                                           .loss = NAN});
}

pac_err meter_repeat(meter *m, pac_err (*run)(void *ctx), void *ctx, double out[2], double *spread)
{
    double fwd[MOST_ROUNDS], bwd[MOST_ROUNDS], all[MOST_ROUNDS], start = tick(m);
    PAC_TRY(run(ctx)); /* touches its memory, and tells how long it takes */
    double once = tick(m) - start;
    int64_t done = 0, rounds = once > very_slow_run ? 1 : ROUNDS;
    int64_t most = once > slow_run ? rounds : MOST_ROUNDS;
    for (int64_t r = 0; r < most && (r < rounds || spread_of(all, r) > too_wide); r++) {
        PAC_TRY(run_round(m, run, ctx, &fwd[r], &bwd[r]));
        all[r] = fwd[r] + bwd[r];
        done = r + 1;
    }
    out[FWD] = median_of(fwd, done);
    out[BWD] = median_of(bwd, done);
    *spread = spread_of(all, done);
    report(m);
    return PAC_OK;
}

/* From processor time to time: what this process gets of its processor counts for all runs alike. */
double meter_scale(const meter *m)
{
    return m->cpu && m->used > 0 ? m->wall / m->used : 1;
}

/* ---- making ---- */

pac_err meter_new(const pac_observer *watch, int64_t bytes, int64_t total, meter *out)
{
    double period;
    void *p;
    int64_t others = bytes / (int64_t)sizeof(float) < MOST_OTHERS ? bytes / (int64_t)sizeof(float) : MOST_OTHERS;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, others, sizeof(float), &p));
    *out = (meter){.watch = watch, .other = p, .others = others, .total = total, .started = pac_now()};
    for (int64_t i = 0; i < others; i++)
        out->other[i] = (float)(i % LINE); /* pages that were never written share one of zeros */
    pac_limits_cores("", &period);
    out->cpu = pac_pool_threads() == 1 && !pac_device_is_open();
    out->round = out->cpu ? shortest_round : fmax(shortest_round, fmin(PERIODS * period, fmax(period, some_periods)));
    return PAC_OK;
}

void meter_free(meter *m)
{
    pac_mem_free(m->other);
    *m = (meter){0};
}
