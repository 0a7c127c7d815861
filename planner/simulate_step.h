/* One mini-batch in the making: what simulate_step.c executes, simulate_open.c prepares and simulate_record.c writes down. */
#ifndef PAC_PLANNER_SIMULATE_STEP_H
#define PAC_PLANNER_SIMULATE_STEP_H

#include "cost.h"
#include "ring.h"
#include "simulate.h"

/* A device at work on its stage's list. */
typedef struct pac_sim_lane {
    int64_t device, stage, member;
    int64_t pc;
    double until; /* the operation at work ends; infinity: none is */
    double began;
    int64_t rings;            /* of REDUCE: 0 those of its group, 1 that of shared parameters, -1 behind them */
    int64_t joined;           /* pieces of its group's sum */
    double piece, reducing;   /* when the next piece is complete, infinity: not known; since when it does nothing but sum */
    double per_sample, bytes; /* of a micro-batch in flight; of the device now */
} pac_sim_lane;

typedef struct pac_sim_stepper {
    const pac_sim_request *q;
    const pac_profile *p;
    const pac_plan *plan;
    const pac_sim_batch *b;
    pac_arena *arena;     /* of everything below that is not freed by its own function */
    pac_oplist *list;     /* [stages] */
    pac_sim_lane *lane;   /* [lanes] in the order of stages */
    int64_t lanes, slots; /* slots: most of a stage */
    int64_t *lane_of;     /* [devices] */
    int64_t *awaited[2];  /* [lanes * M] messages of a micro-batch that have not arrived: activations, gradients */
    int64_t *leaving[2];  /* [lanes * M] messages sent that have not arrived */
    int64_t *holder;      /* [lanes * slots] micro-batch that has the slot, or had it last; -1: none */
    int64_t *pieces;      /* [stages] of each group's sum, 0: it has none */
    pac_ring *ring;       /* [stages * PAC_MOST_PIECES + 1] of each group; of parameters that several stages hold. n 0: none */
    bool *shares;         /* [stages] is in the last ring */
    pac_network net;
    double now;
    int64_t waiting; /* lanes that stand before STEP */
    double update;   /* when all may update: loss and norm are summed over all; infinity: not known yet */
    pac_simulation *s;
    int64_t events_room, changes; /* changes: grows when a lane goes on */
} pac_sim_stepper;

/** Everything but arena and network is zero before. Closed with pac_sim_stepper_close() in any case. Errors: PAC_ENOMEM. */
pac_err pac_sim_stepper_open(pac_sim_stepper *x, const pac_sim_bytes *bytes);
void pac_sim_stepper_close(pac_sim_stepper *x);

/** An interval of the chart, if there is one to make. Errors: PAC_ENOMEM. */
pac_err pac_sim_event_add(pac_sim_stepper *x, const pac_sim_event *e);
/** `change` slots of the size of micro-batch m more; at most 2 M + 1 times. */
void pac_sim_slot_add(pac_sim_stepper *x, pac_sim_lane *k, int64_t m, double change);
/** Order events, sum up devices. */
void pac_sim_record_end(pac_sim_stepper *x, double seconds);

#endif
