/* One training run: its state across phases, and what is reported of it. */
#ifndef PAC_RUNTIME_TRAINER_H
#define PAC_RUNTIME_TRAINER_H

#include "adapters.h"
#include "planning.h"
#include "train.h"


typedef enum run_phase { PHASE_HYBRID, PHASE_CACHED, PHASE_EVAL, PHASE_COUNT } run_phase;

/* Peak memory of one phase on one rank. */
typedef struct phase_memory {
    int64_t seen; /* 0: this phase did not run */
    int64_t peak_rss, pss;
    int64_t tag[PAC_MEM_NTAGS];
    int64_t ledger; /* peak of the sum of all tags, */
    int64_t device; /* and of what of it lies in a device's memory */
    int64_t budget; /* bytes this rank was given; 0: whatever the system has */
} phase_memory;

typedef struct run {
    train t;
    hybrid *h;   /* the stage and its links, until the cached phase; NULL then */
    float *best; /* train.keep: best: values of what learns after the best epoch so far, in the order of run_values() */
    double best_score;
    int64_t best_epoch; /* counted from 1, 0: none yet */
    pac_profile profile;
    bool has_profile;
    double seconds_profile;
    pac_plan planned; /* with the numbers that ranks were started with */
    pac_plan plan;    /* the same among those that take part: pac_plan_compact() */
    bool left;        /* this rank was left out and is done */
    bool cache_reused;
    int64_t cache_bytes;
    pac_cache_moved moved;
    pac_cache_times cache_times;
    evaluation before, after;
    json_t *epochs; /* rank 0: array of epoch results */
    int phase;      /* open phase, -1: none */
    phase_memory memory[PHASE_COUNT];
    phase_memory *memory_all; /* [ranks * PHASE_COUNT], after run_gather_memory() */
} run;

/** Open a phase (closing the one before): memory peaks are taken anew. Not collective. */
void run_begin_phase(run *r, run_phase phase);
void run_end_phase(run *r);
/** A proportional set size that was seen in a phase: the largest counts. Not collective. */
void run_see_pss(run *r, run_phase phase, int64_t pss);
/** All ranks' phase memories to every rank. Collective. */
pac_err run_gather_memory(run *r);

/** Log the plan, an epoch (rank 0's sink decides who sees it). */
void run_report_plan(const run *r);
void run_report_epoch(run *r, const epoch_result *e, int64_t epoch);
/** Metrics as a line of metrics.jsonl (rank 0); epoch: how many were done, 0 before tuning; rows: "eval", "validation", "test". */
void run_record_metrics(const run *r, int64_t epoch, const char *rows, const evaluation *e);
void run_report_metrics(const char *when, const evaluation *e);

/** The result object of interface.md at rank 0 (NULL elsewhere); the caller frees it with pac_mem_free(). Not collective. */
pac_err run_result(const run *r, char **json);

/** Metrics as a JSON object. */
json_t *metrics_json(const pac_metrics *m);
/** Dump an object into ledger memory; steals the reference. */
pac_err json_text(json_t *object, char **out);
/** A number, or null where it is not finite: JSON has no infinity. */
json_t *real_json(double x);

#endif
