/* What the dynamic programme hands to the answer: the best partition it found for each number of stages. */
#ifndef PAC_PLANNER_PAPER_H
#define PAC_PLANNER_PAPER_H

#include "pac/plan.h"

typedef struct pac_partition {
    int64_t stages, microbatches;
    double bottleneck;              /* W(0->L, D, s); infinity: does not fit */
    double step;                    /* L_b + L_e + L_n; infinity: does not fit */
    int64_t last[PAC_MAX_DEVICES];  /* layers before the end of stage i */
    int64_t ranks[PAC_MAX_DEVICES]; /* devices of stage i, consecutive in the order of the profile */
} pac_partition;

/**
 * The best partition of each possible number of stages, over every M that the (checked) request allows; infinite step: does not
 * fit, the attempt that lacks least. The caller frees *out. Errors: PAC_ENOMEM (memory of this machine).
 */
pac_err pac_paper_search(const pac_plan_request *q, pac_partition **out, int64_t *count);

/** Evaluations of a stage that the dynamic programme takes for one M, a few nanoseconds each: L^2 D^3 / 6. */
double pac_paper_work(int64_t devices, int64_t layers);

/** Samples that each device of a group of n works on: B / n, but a device that works at all works on a whole sample. */
double pac_samples_each(double B, int64_t n);

/** By how many bytes `need` of the paper's memory test exceeds a device's budget; 0: fits. */
double pac_paper_shortage(const pac_profile *p, int64_t device, int64_t first, int64_t last, double samples);

/**
 * The answer from the best partition of 1..count stages. Errors: PAC_ENOMEM (none fits: the message says by how much, and what
 * helps).
 */
pac_err pac_answer_build(const pac_plan_request *q, const pac_partition *best, int64_t count, pac_plan_answer *out);

#endif
