/*
 * What crosses a stage's lower boundary in both directions, apart from the slots that it is computed in: activations are asked
 * for while the micro-batch before is computed, gradients leave while the slot that made them is used again.
 */
#ifndef PAC_RUNTIME_BOXES_H
#define PAC_RUNTIME_BOXES_H

#include "stage.h"

enum { BOXES_LEAVING = 2 };

typedef struct boxes {
    stage *s;
    pac_link *prev; /* to the stage below; NULL: a dry run, in which the room is taken and nothing moves */
    int64_t arrivals;
    micro *arrive;              /* [arrivals] micro-batch m in number m mod arrivals: one more than there are slots */
    micro leave[BOXES_LEAVING]; /* in turn */
    int64_t left;               /* gradients sent so far */
    int64_t expected;           /* micro-batches of this mini-batch that were asked for */
} boxes;

/** Boxes for a list with so many slots; nothing at the first stage. What is on its way must have been taken. Errors:
 * PAC_ENOMEM. */
pac_err boxes_reserve(boxes *b, int64_t in_flight);
void boxes_free(boxes *b);

/* The samples of micro-batch m. */
typedef struct parcel {
    const pac_layout *layout;
    const int64_t *sample;
    int64_t m, n;
} parcel;

int64_t boxes_fwd_tag(int64_t m);
int64_t boxes_bwd_tag(int64_t m);
/** Ask for the activations of a micro-batch: in order, once each. Not collective. */
pac_err boxes_expect(boxes *b, const parcel *p);
/** x->in is what was asked for, until the slot's micro-batch is done. Waits. */
pac_err boxes_arrive(boxes *b, micro *x, int64_t m);
/** x->din is to leave with *out (wire_depart()); the slot may be used again then. Waits only for the gradients of the second
 * last micro-batch. */
pac_err boxes_leave(boxes *b, micro *x, int64_t m, departure *out);
/** Wait for all that leaves. */
pac_err boxes_flush(boxes *b);

#endif
