/*
 * How much memory this process may take, from every place of the system that sets a limit: what the machine has left, the
 * control groups from this process's own up to the root (versions 1 and 2), and resource limits.
 *
 * A limit that others share is divided among them by who knows them (pac_memory_budget()): two limits are the same one if their
 * places are equal.
 */
#ifndef PAC_LIMITS_H
#define PAC_LIMITS_H

#include <stdint.h>

enum { PAC_MOST_LIMITS = 32 };

typedef struct pac_limit {
    double bytes;   /* that are left under it */
    uint64_t place; /* equal for processes that share it; 0: of this process alone */
    char what[112]; /* "memory.max of control group /pac" */
} pac_limit;

/**
 * Every limit that there is, in no order; at least the machine's available memory where /proc tells it. What a group's
 * processes hold already is taken off, page cache that can be dropped is not. root goes in front of /proc and /sys ("" but in
 * tests). Not collective. Returns how many.
 */
int64_t pac_limits_read(const char *root, pac_limit out[PAC_MOST_LIMITS]);

/**
 * Cores' worth of processor time that the control groups allow (the least quota from this process's own group up), and the
 * seconds after which a quota that is used up is given again: a process runs at full speed, then not at all, within each.
 * Infinity and 0 without a quota. Not collective.
 */
double pac_limits_cores(const char *root, double *period);

#endif
