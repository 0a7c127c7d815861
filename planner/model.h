/*
 * The cost model of plans, prepared once for a profile and a run: what a stage of any layers costs, what any device takes for
 * so many whole samples. pac_plan_predict() and both searches score with the same functions, hence to the same bit; none of
 * them allocates.
 */
#ifndef PAC_PLANNER_MODEL_H
#define PAC_PLANNER_MODEL_H

#include "cost.h"
#include "timeline.h"

/* Of some consecutive layers. Bytes of weights and activations per device, of activations, scratch and cache per sample. */
typedef struct pac_stage_cost {
    double weights, shared, tuned, shared_tuned;
    double parameters; /* all of those, with gradients and optimizer states */
    double learning;   /* bytes of what learns */
    double activations, work, cache;
    double count[PAC_COST_NKINDS]; /* kinds of work in them */
} pac_stage_cost;

typedef struct pac_costs {
    const pac_profile *p;
    const pac_plan_request *q;
    int64_t D, L;
    double steps, cache_unit;       /* mini-batches of an epoch; bytes of the cache per token and record */
    double tokens[PAC_COST_NKINDS]; /* of a sample */
    pac_stage_cost whole, side;     /* all layers; what remains of their work once the backbone is cached */
    int64_t most;                   /* samples up to which `time` is tabulated */
    double *time;          /* [D][most + 1][2][NKINDS] seconds of one piece of work, or NULL: interpolated when asked */
    pac_stage_cost *range; /* [L + 1][L + 1] layers [a, b), or NULL: summed when asked */
} pac_costs;

/** A cost model without tables: nothing to free. */
pac_costs pac_costs_of(const pac_profile *p, const pac_plan_request *q);

/** With tables, for searches. Errors: PAC_ENOMEM. The caller calls pac_costs_done() in any case. */
pac_err pac_costs_init(const pac_profile *p, const pac_plan_request *q, pac_costs *c);
void pac_costs_done(pac_costs *c);

/** Layers [first, last). */
void pac_range_cost(const pac_costs *c, int64_t first, int64_t last, pac_stage_cost *out);

/** Seconds of one direction of all that work on one device, its overhead included; 0 for no samples. */
double pac_work_seconds(const pac_costs *c, const pac_stage_cost *s, int64_t device, int64_t samples, bool backward);

/* ---- micro-batches ---- */

typedef struct pac_micro {
    int64_t M, larger; /* that are not empty; how many have the larger size */
    int64_t size[2];   /* samples of the smaller and of the larger ones */
} pac_micro;
pac_micro pac_micro_of(int64_t batch, int64_t microbatches);

/* ---- bytes of a rank while it trains ---- */

typedef struct pac_stage_bytes_of {
    double base, sample; /* bytes of a device; for each of its samples of a micro-batch */
} pac_stage_bytes_of;

/**
 * Stage whose layers begin at `first` and end at `last`, `behind` stages counted from itself to the last one (1: it is the
 * last). A slot of the schedule keeps what the layers keep and what was received for them, rows and gradients.
 */
pac_stage_bytes_of pac_stage_needs(const pac_costs *c, const pac_stage_cost *s, int64_t first, int64_t last, int64_t behind,
                                   int64_t M);

/* ---- scores ---- */

typedef struct pac_score {
    double step, write; /* seconds of a hybrid step, of writing its activations */
} pac_score;

/** Seconds of a hybrid step and the predicted bytes while it runs (stage[i].bytes). `arrive`: scratch [M]. */
pac_score pac_score_stages(const pac_costs *c, const pac_stage_plan *stage, int64_t P, const pac_micro *m, double *arrive);

/** Times of one stage without its messages, and its bytes; `behind` as in pac_stage_needs(). */
void pac_score_group(const pac_costs *c, const pac_stage_plan *st, const pac_stage_cost *s, const pac_micro *m, int64_t behind,
                     pac_stage_times *t);

typedef struct pac_cached_cost {
    double redistribute, epoch; /* seconds */
} pac_cached_cost;

/** Seconds of one device's part of a cached mini-batch. */
double pac_cached_device_seconds(const pac_costs *c, int64_t device, int64_t samples);

/** The cached phase of n ranks; part[i] samples of a mini-batch are rank[i]'s. */
pac_cached_cost pac_cached_seconds(const pac_costs *c, const int64_t *rank, int64_t n, const int64_t *part);

/** Bytes of a device in the cached phase with so many samples of a mini-batch. */
double pac_cached_bytes(const pac_costs *c, int64_t part);

/**
 * Whether the device's disk (one of known space) holds what it stores: all activations, or, where they are sharded, what it
 * wrote (a part of all) and its share of what the others wrote. *need (may be NULL): those bytes.
 */
bool pac_cache_has_room(const pac_costs *c, int64_t device, double wrote, double share, double *need);

/**
 * The first rank of these stages that has no room for what is stored, -1: all have; *need: those bytes. share:
 * [D] parts of the samples that each device takes in the cached phase, NULL: as the planner would share them.
 */
int64_t pac_cache_lacks_room(const pac_costs *c, const pac_stage_plan *stage, int64_t P, const double *share, double *need);

/** Seconds of the run; cached: NULL without a cache. */
pac_predicted pac_run_seconds(const pac_costs *c, const pac_score *s, const pac_cached_cost *cached);

/* ---- shares ---- */

/**
 * Samples of the larger micro-batch for each rank of a stage: the slowest is as fast as whole samples allow, none takes more
 * than its budget admits. False: the budgets do not admit them all; the excess then goes where it exceeds least.
 */
bool pac_split_by_speed(const pac_costs *c, const pac_stage_cost *s, pac_stage_bytes_of need, const int64_t *rank, int64_t n,
                        int64_t samples, int64_t *count);

/** The same for a mini-batch in the cached phase. */
bool pac_split_cached(const pac_costs *c, const int64_t *rank, int64_t n, int64_t *count);

/** Shares that give each rank its count of `samples`; a rank without any keeps a share that rounds to none. */
void pac_counts_to_shares(const int64_t *count, int64_t n, int64_t samples, double *share);

#endif
