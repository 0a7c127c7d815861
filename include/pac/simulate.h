/*
 * The event simulator: the operation lists that the runtime executes (pac/schedule.h), executed on clocks, with links that share
 * ports. Finer than the planner's cost model (pac_plan_predict()): every message is a flow of its own, every operation an interval.
 *
 * Pure: numbers in, numbers out. Results are simulated, and whoever shows them says so.
 */
#ifndef PAC_SIMULATE_H
#define PAC_SIMULATE_H

#include "pac/plan.h"
#include "pac/schedule.h"

/* Lengths of the samples of some mini-batches, in order; NULL arrays: every sample has the profile's mean lengths. */
typedef struct pac_lengths {
    int64_t samples;
    const double *source, *target; /* [samples] tokens */
} pac_lengths;

typedef enum pac_sim_schedule {
    PAC_SIM_1F1B,       /* what the runtime runs */
    PAC_SIM_GPIPE,
    PAC_SIM_SEQUENTIAL, /* one micro-batch through all stages and back before the next: a pipeline without pipelining */
} pac_sim_schedule;

/* Bytes of one device while it trains; from a dry run (pac/estimate.h) or the planner's byte model. */
typedef struct pac_sim_bytes {
    double base; /* parameters, gradients, optimizer, data, and scratch */
    double slot; /* one micro-batch in flight */
} pac_sim_bytes;

typedef struct pac_sim_request {
    const pac_profile *profile;
    const pac_plan *plan;
    const pac_plan_request *run; /* batch, rows, epochs, cached */
    pac_sim_schedule schedule;
    const pac_lengths *lengths;  /* of run->batch samples a mini-batch; the mean over the mini-batches that they make; NULL: mean lengths */
    const pac_sim_bytes *bytes;  /* [devices of the profile], or NULL: the planner's byte model */
} pac_sim_request;

/* What a device does between two moments. Intervals of a device do not overlap, those on its ports may overlap with them. */
typedef struct pac_sim_event {
    int64_t device, peer;   /* peer: of messages, else -1 */
    pac_op_kind kind;       /* FWD, BWD, REDUCE, STEP; SEND_*: the flow on the link, from its start to its arrival */
    int64_t m;              /* micro-batch, -1 as in pac_op */
    double start, end;      /* seconds from the begin of the mini-batch */
} pac_sim_event;

typedef struct pac_sim_device {
    double busy, idle;        /* seconds of the step; idle / step is the bubble */
    double peak_bytes, budget;
    bool fits;
    int64_t points;           /* of bytes over time: bytes[i] from time[i] on */
    double *time, *bytes;
} pac_sim_device;

typedef struct pac_simulation {
    pac_predicted predicted;  /* by simulation of the hybrid step, the redistribution and the cached step */
    int64_t devices;
    pac_sim_device *device;   /* [devices of the profile]; left out: idle all the time */
    int64_t events;
    pac_sim_event *event;     /* of the first mini-batch, by start */
    bool fits;
} pac_simulation;

/**
 * Simulate one hybrid mini-batch (each that `lengths` makes), the redistribution and one cached step. A send takes its latency, then
 * flows at the rate that the pair's bandwidth and its equal part of the sender's outgoing and the receiver's incoming port allow
 * (max-min fair, recomputed when a flow starts or ends). Errors: PAC_ECONFIG, PAC_EINVAL, PAC_ENOMEM, PAC_EINTERNAL (a schedule that
 * does not end).
 */
pac_err pac_simulate(const pac_sim_request *q, pac_simulation *out);
void pac_simulation_free(pac_simulation *s);

/** Gantt chart of the first mini-batch with bytes over time under it, as SVG. Errors: PAC_EIO, PAC_ENOSPACE, PAC_ENOMEM. */
pac_err pac_simulation_svg(const pac_sim_request *q, const pac_simulation *s, const char *path);

#endif
