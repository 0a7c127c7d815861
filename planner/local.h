/* Local search: an effort to spend, and the ways to change a draft for the better (docs/planner.md). */
#ifndef PAC_PLANNER_LOCAL_H
#define PAC_PLANNER_LOCAL_H

#include "draft.h"

enum { PAC_LOCAL_FEW = PAC_PIECE_DEVICES }; /* few devices: all changes are tried */

typedef struct pac_local {
    pac_search *k;
    double effort, most_effort; /* about a nanosecond each */
} pac_local;

static inline bool pac_local_spent(const pac_local *g)
{
    return g->effort >= g->most_effort;
}

/** Cuts y's layers anew and scores it. False: its groups are not allowed, or the effort is spent. */
bool pac_local_cut(pac_local *g, pac_draft *y);

/** Single changes of cuts, M, devices and stages until none helps. `keep`: not of the number of stages. */
void pac_local_descend(pac_local *g, pac_draft *x, bool keep);

/** The first pair of changes of devices that helps, where there are few enough. True: x is better. */
bool pac_local_change_two(pac_local *g, pac_draft *x);

#endif
