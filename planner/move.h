/* The redistribution after the hybrid epoch: who holds what, who reads what, how long it takes to get there. */
#ifndef PAC_PLANNER_MOVE_H
#define PAC_PLANNER_MOVE_H

#include "pac/plan.h"

typedef struct pac_move {
    int64_t n;
    const int64_t *device; /* [n] in the order of their ranks */
    const double *held;    /* [n] bytes of the cache that each has written */
    const double *share;   /* [n] part of all samples that each takes (cache.redistribute: shard); NULL: everybody takes all */
    double learnt;         /* bytes of all parameters that learn; the optimizer's states travel with them */
} pac_move;

/**
 * Seconds until everybody has stored what he takes and has everything that was learnt. 0 for one device. Messages share the
 * devices' ports where the profile has them.
 */
double pac_move_seconds(const pac_profile *p, const pac_move *m);

#endif
