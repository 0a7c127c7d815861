/*
 * Will it fit? Parameters, FLOP and bytes of a job, per device of a plan, before anything is loaded.
 *
 * Nothing is modelled: the code that trains runs dry, on the backend `count` (pac/ops.h) over memory that is only addresses
 * (pac_mem_dry()), and the ledger says what it took. So the estimate is the ledger, for this technique, batch, optimizer and
 * plan.
 */
#ifndef PAC_ESTIMATE_H
#define PAC_ESTIMATE_H

#include "pac/runtime.h"

/* Floating-point operations of one mini-batch, 2 for a multiply-add; the head (vocabulary or classes) is part of the sums. */
typedef struct pac_flop {
    double forward, backward, head_forward, head_backward;
} pac_flop;

/*
 * Peaks of the ledger in bytes; total is the peak of the sum, which is at most the sum of the peaks; device: of it, what is in
 * a device's memory.
 */
typedef struct pac_footprint {
    int64_t tag[PAC_MEM_NTAGS], total, device;
} pac_footprint;

typedef struct pac_estimate_device {
    int64_t rank, stage, first, last; /* layers [first, last) */
    double share;                     /* of each micro-batch */
    double budget;                    /* bytes, 0: none is known */
    pac_flop flop;
    pac_footprint step;  /* while it trains */
    pac_footprint phase; /* from loading on, and to the handover to the cached phase where there is one */
} pac_estimate_device;

typedef struct pac_estimate {
    int64_t backbone, tuned, head; /* parameters; the head is a classification head */
    double source, target;         /* mean rows of a sample in encoder and decoder */
    int64_t longest_source, longest_target;
    bool from_data;              /* lengths are those of task.train, else task.max_source and max_target */
    pac_estimate_device one;     /* one device that holds everything */
    int64_t devices;             /* of the plan, without those left out; 0: none was given */
    pac_estimate_device *device; /* [devices] by rank */
    bool caches;                 /* there is a cached phase: */
    int64_t cache_sample;        /* bytes of the cache per sample */
    pac_flop cached_flop;        /* of a mini-batch, all devices together */
    pac_footprint cached;        /* of the device with the most samples */
    int64_t records;             /* bytes in all of these that are this process's own */
} pac_estimate;

/**
 * A job for estimates: config.json is all that it needs (model.path may be shape:NAME). Lengths are those of task.train where
 * that file (and the tokenizer that it needs) exists, else every sample has max_source and max_target. Not collective.
 */
pac_err pac_estimate_open(const pac_config *cfg, pac_job **out);

/** An epoch of a job that has no data is so many rows (two mini-batches before); nothing where there is data. Not collective.
 */
pac_err pac_estimate_rows(pac_job *job, int64_t rows);

/**
 * The plan of `devices` equal devices: one stage (eddl), a stage each (ecofl, and pac without system.groups), or system.groups.
 * Not collective. Errors: PAC_ECONFIG (the system does not allow so many). The caller frees *out with pac_plan_free().
 */
pac_err pac_estimate_plan(const pac_job *job, int64_t devices, pac_plan *out);

/** `inference`: the untouched backbone forward only. plan NULL: one device. Not collective. Errors: those of a run. */
pac_err pac_estimate_run(pac_job *job, const pac_plan *plan, bool inference, pac_estimate *out);
void pac_estimate_free(pac_estimate *e);

/** The JSON object of docs/formats.md; the caller frees it with pac_mem_free(). */
pac_err pac_estimate_json(const pac_estimate *e, const pac_plan *plan, char **json);

#endif
