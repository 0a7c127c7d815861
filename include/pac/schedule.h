/*
 * Schedules are data: the list of operations each stage performs in one mini-batch. What is simulated is what is executed.
 */
#ifndef PAC_SCHEDULE_H
#define PAC_SCHEDULE_H

#include "pac/mem.h"

#include <stdbool.h>

typedef enum pac_op_kind {
    PAC_OP_RECV_FWD, /* activations of micro-batch m from stage p-1 */
    PAC_OP_FWD,
    PAC_OP_SEND_FWD, /* to stage p+1 */
    PAC_OP_RECV_BWD, /* gradients of micro-batch m from stage p+1 */
    PAC_OP_BWD,
    PAC_OP_SEND_BWD, /* to stage p-1 */
    PAC_OP_REDUCE,   /* sum the gradients over the group (and shared parameters over stages) */
    PAC_OP_STEP,     /* clip and update */
} pac_op_kind;

typedef struct pac_op {
    pac_op_kind kind;
    int64_t m;    /* micro-batch, -1 for REDUCE and STEP */
    int64_t slot; /* activation slot, 0..in_flight-1: taken by the first operation of a micro-batch, free after its last; -1 as m */
} pac_op;

typedef struct pac_oplist {
    int64_t count, in_flight; /* operations; slots that the stage needs */
    pac_op *v;
} pac_oplist;

const char *pac_op_name(pac_op_kind k);

/**
 * 1F1B for stage p of P with M micro-batches: min(M, P - 1 - p) warm-up forwards, then forward and backward in turn; at most
 * min(M, P - p) in flight. Narayanan et al. 2019 (PipeDream-flush). M >= 1, M < P included. The caller frees the list.
 */
pac_err pac_schedule_1f1b(int64_t p, int64_t P, int64_t M, pac_oplist *out);
/** GPipe: all forwards, then all backwards, both in order; M slots. Huang et al. 2019. */
pac_err pac_schedule_gpipe(int64_t p, int64_t P, int64_t M, pac_oplist *out);
/** One micro-batch through all stages and back before the next: no pipelining, one slot. */
pac_err pac_schedule_sequential(int64_t p, int64_t P, int64_t M, pac_oplist *out);
/** Forwards only, in order, one slot: evaluation. */
pac_err pac_schedule_forward(int64_t p, int64_t P, int64_t M, pac_oplist *out);
void pac_oplist_free(pac_oplist *l);

/**
 * Check the lists of all P stages together by executing them abstractly: every forward once and before its backward, each send
 * matched by the peer's receive of the same micro-batch, slots used by one micro-batch at a time and freed, in-flight bound kept,
 * no deadlock under blocking receives. `train`: backwards are required. Errors: PAC_EINTERNAL with the first violation.
 */
pac_err pac_schedule_validate(const pac_oplist *stages, int64_t P, int64_t M, bool train);

/*
 * Splitting. A mini-batch of n samples is cut into M micro-batches, a micro-batch over the ranks of a group by shares; both are
 * contiguous ranges whose sizes depend only on the arguments.
 */
typedef struct pac_range { int64_t lo, hi; } pac_range; /* [lo, hi) */

/** Piece i of n samples in `parts` nearly equal contiguous pieces (the first n % parts pieces are one larger). */
pac_range pac_split_even(int64_t n, int64_t parts, int64_t i);
/** Piece r of n samples for `ranks` shares (each >= 0, sum > 0): boundaries round(n * cumulative share), ties to even. */
pac_range pac_split_shares(int64_t n, const double *shares, int64_t ranks, int64_t r);
pac_range pac_range_intersect(pac_range a, pac_range b);

#endif
