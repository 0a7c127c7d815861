/*
 * The parts of the simulator: sizes and times of one mini-batch (simulate_sizes.c), its operation lists on clocks
 * (simulate_step.c), what comes after the first epoch (simulate_cached.c), and their sum (simulate.c).
 */
#ifndef PAC_PLANNER_SIMULATE_H
#define PAC_PLANNER_SIMULATE_H

#include "network.h"
#include "pac/simulate.h"

/* A mini-batch: tokens of the samples before sample i. */
typedef struct pac_sim_batch {
    int64_t n, M;            /* samples; micro-batches that are not empty */
    double *source, *target; /* [n + 1] */
} pac_sim_batch;

/** Samples [first, first + n) of `lengths`, or n of the profile's mean lengths. Errors: PAC_ENOMEM. */
pac_err pac_sim_batch_open(const pac_sim_request *q, int64_t first, int64_t n, pac_sim_batch *out);
void pac_sim_batch_close(pac_sim_batch *b);

/** The samples of micro-batch m that a member of a stage works on. */
pac_range pac_sim_part(const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m);

/** Seconds of a member's forward or backward of micro-batch m; 0 where it has no samples. */
double pac_sim_work(const pac_profile *p, const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m,
                    bool backward);

/** Seconds to write what a member's forward of micro-batch m adds to the cache. */
double pac_sim_write(const pac_profile *p, const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m);

/** Bytes of these samples that cross in front of `layer`. */
double pac_sim_message(const pac_profile *p, const pac_sim_batch *b, int64_t layer, pac_range samples, bool backward);

/** Part of the cache's bytes that belongs to layers [first, last): 0 to 1. */
double pac_sim_cached_part(const pac_profile *p, int64_t first, int64_t last);

/** Epochs after the first run from the cache. */
bool pac_sim_caches(const pac_sim_request *q);

/**
 * One hybrid mini-batch. *seconds is when the last device has updated; with `s` also its events, its devices' busy seconds and
 * bytes over time. bytes: [devices]. Errors: PAC_ENOMEM, PAC_EINTERNAL (nothing can go on).
 */
pac_err pac_sim_step(const pac_sim_request *q, const pac_sim_batch *b, const pac_sim_bytes *bytes, pac_simulation *s,
                     double *seconds);

/** Seconds of one cached mini-batch. */
pac_err pac_sim_cached_step(const pac_sim_request *q, const pac_sim_batch *b, double *seconds);

/** Seconds until every device of the plan has the whole cache and everything that was learnt. */
double pac_sim_redistribution(const pac_sim_request *q);

#endif
