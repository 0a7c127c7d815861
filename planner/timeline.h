/* When a mini-batch is finished under 1F1B, from the times of its parts. */
#ifndef PAC_PLANNER_TIMELINE_H
#define PAC_PLANNER_TIMELINE_H

#include "pac/mem.h"

/* Times of one stage: [0] for the micro-batches of the smaller size, [1] for those of the larger. */
typedef struct pac_stage_times {
    double fwd[2], bwd[2];
    double send_fwd[2]; /* to the next stage */
    double send_bwd[2]; /* to the stage before */
    double reduce;
} pac_stage_times;

/**
 * Seconds from the first forward to the last stage's update, of M micro-batches of which the first `larger` have the larger
 * size. Sends overlap with computing; messages of one direction between two stages follow one another. Errors: PAC_EINVAL,
 * PAC_ENOMEM.
 */
pac_err pac_timeline_1f1b(const pac_stage_times *t, int64_t P, int64_t M, int64_t larger, double *seconds);

#endif
