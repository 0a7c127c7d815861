/*
 * The ring all-reduce as messages (Patarasuk & Yuan 2009): 2 (n - 1) rounds, in each of which every member passes one n-th of
 * the bytes on to the next; it goes on when it has got the next part. What MPI does with large sums.
 */
#ifndef PAC_PLANNER_RING_H
#define PAC_PLANNER_RING_H

#include "network.h"

typedef struct pac_ring {
    int64_t n, rounds, number; /* number: the caller's, comes back as pac_flow.m */
    const int64_t *device;     /* [n] borrowed */
    double each;               /* bytes of a part */
    int64_t *got, *left;       /* [n] parts received; sent parts that have not arrived */
    double *begin, *end;       /* [n] of each member: NAN before */
    int64_t arrived;
} pac_ring;

/** A sum of `bytes` over n >= 2 devices. Errors: PAC_ENOMEM. */
pac_err pac_ring_open(int64_t n, const int64_t *device, double bytes, pac_ring *out);
void pac_ring_close(pac_ring *r);

/** A member is ready; the last one starts the ring. Errors: those of pac_network_send(). */
pac_err pac_ring_join(pac_ring *r, pac_network *net);

/** A message of this ring (`kind` and `m` are the ring's) has arrived. */
pac_err pac_ring_arrived(pac_ring *r, pac_network *net, const pac_flow *f);

/** Seconds of a ring that has the network for itself, all members ready at 0. */
pac_err pac_ring_seconds(const pac_profile *p, pac_ring *r, double *seconds);

enum { PAC_RING_FLOW = 100 }; /* pac_flow.kind; those of other messages are pac_op_kind */

#endif
