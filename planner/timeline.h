/* When a mini-batch is finished under 1F1B, from the times of its parts. */
#ifndef PAC_PLANNER_TIMELINE_H
#define PAC_PLANNER_TIMELINE_H

#include "pac/mem.h"

/* fmax() of numbers, without a call: most of what scoring does. */
static inline double pac_larger(double a, double b)
{
    return a > b ? a : b;
}

/* Times of one stage: [0] for the micro-batches of the smaller size, [1] for those of the larger. */
typedef struct pac_stage_times {
    double fwd[2], bwd[2];
    double send_fwd[2]; /* to the next stage */
    double send_bwd[2]; /* to the stage before */
    double reduce, update;
} pac_stage_times;

/**
 * Seconds from the first forward to the last update, of M >= 1 micro-batches of which the first `larger` have the larger size,
 * through 1 to PAC_MAX_DEVICES stages. Sends overlap with computing; messages of one direction between two stages follow one
 * another; nobody updates before all have reduced, since the gradient is clipped by the norm of all of it. `arrive`: scratch
 * [M].
 */
double pac_timeline_1f1b(const pac_stage_times *t, int64_t P, int64_t M, int64_t larger, double *arrive);

#endif
