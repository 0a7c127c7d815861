/* The dry run of one device (estimate_dry.c, estimate_cached.c), which an estimate consists of. */
#ifndef PAC_RUNTIME_ESTIMATE_H
#define PAC_RUNTIME_ESTIMATE_H

#include "boxes.h"
#include "train.h"
#include "pac/estimate.h"

/* What both phases of a dry run need of a training run. */
typedef struct dry {
    train t; /* job, plan, layout, order and map; no records, no cache */
    bool inference;
    bool caches;     /* a cached phase follows the first epoch */
    int64_t record;  /* bytes of the cache's largest record, known after the hybrid phase */
    int64_t most;    /* mini-batches that are run as they come; of the rest only those that are heavier */
    float *best;     /* train.keep: best */
    int64_t records; /* bytes of the process itself, which the peaks hold too */
} dry;

/** Order and map of the data set. dry_free() in any case. */
pac_err dry_new(pac_job *job, dry *out);
void dry_free(dry *d);

/** Peaks since the last pac_mem_reset_peaks(). */
pac_footprint dry_peaks(void);

/** The hybrid phase of rank `member` of stage `number` of the plan; fills flop, step and phase. */
pac_err dry_hybrid(dry *d, const pac_plan *plan, int64_t number, int64_t member, pac_estimate_device *out);

/** The cached phase of one rank of a plan; FLOP of all ranks (NULL: not wanted). */
pac_err dry_cached(dry *d, const pac_plan *plan, int64_t rank, pac_flop *flop, pac_footprint *out);

/**
 * Predicted bytes of every rank of a plan (plan->stage[].bytes), from a dry run of its hybrid and its cached phase: what the
 * ledger will reach. Not collective.
 */
pac_err dry_plan(const pac_job *job, pac_plan *plan);

/* Bytes by which processes differ that do the same: what an estimate says fits is never refused. */
enum { PROCESSES_DIFFER = 16 << 10 };

/**
 * What is held to a budget, everywhere: the larger of both phases; what a run holds beside (records, plan, communicators) in
 * the place of what this process does (dry.records).
 */
double dry_needs(const pac_footprint *first, const pac_footprint *later, int64_t records);

/**
 * Does a given plan fit the budget that this rank was given? Nothing to check with system.memory: auto. Not collective. Errors:
 * PAC_ENOMEM (by how much not, and what would help).
 */
pac_err dry_check(const pac_job *job, const pac_plan *plan, int64_t number, int64_t member);
/** The same, also where the budget is what the system has left (system.memory: auto). */
pac_err dry_holds(const pac_job *job, const pac_plan *plan, int64_t number, int64_t member);

#endif
