/*
 * Messages on their way between devices: each pair has a bandwidth and a latency, and each device a full-duplex port that all
 * its links share (pac_device.port).
 *
 * Messages of one pair follow one another, as on one connection; the latency of the second passes while the first flows. The
 * first of every pair flows at its max-min fair rate: rates rise together until the pair's bandwidth, the sender's outgoing
 * port or the receiver's incoming port is used up, which fixes those that use it, and so on (Bertsekas & Gallager 1992,
 * section 6.5.2).
 */
#ifndef PAC_PLANNER_NETWORK_H
#define PAC_PLANNER_NETWORK_H

#include "pac/profile.h"

typedef struct pac_flow {
    int64_t from, to;        /* devices */
    double bytes, start;     /* start: when it was sent */
    int64_t kind, m, member; /* the sender's: what it is */
    double ready, left, rate, end;
    bool flows;
} pac_flow;

typedef struct pac_network {
    const pac_profile *p;
    double now;
    bool changed;             /* rates are to be computed anew */
    pac_flow *flow, *arrived; /* under way in the order of sending; arrived but not taken */
    int64_t flows, flows_room, arrivals, arrivals_room, taken;
    int64_t *open, open_room;   /* flows whose rates are not fixed yet while they are computed */
    double *free_out, *free_in; /* [devices] what is left of the ports while rates are computed */
    int64_t *uses_out, *uses_in;
    int64_t *head; /* [devices * devices] the round in which the pair was met */
    int64_t round;
} pac_network;

/** An empty network at time 0. The profile is borrowed. Errors: PAC_ENOMEM. */
pac_err pac_network_open(const pac_profile *p, pac_network *out);
void pac_network_close(pac_network *n);

/** Send f->bytes (> 0) from f->from to f->to (another device) now. Errors: PAC_ENOMEM, PAC_EINVAL (or there is no link). */
pac_err pac_network_send(pac_network *n, const pac_flow *f);

/** When something will happen next if nothing else is sent; infinity: nothing is under way. */
double pac_network_next(pac_network *n);

/** Let time pass until `now`, at most pac_network_next(). What arrives is got by pac_network_take(). Errors: PAC_ENOMEM. */
pac_err pac_network_advance(pac_network *n, double now);

/** The next message that has arrived by now (its `end`), in the order of sending; false: none. */
bool pac_network_take(pac_network *n, pac_flow *out);

#endif
