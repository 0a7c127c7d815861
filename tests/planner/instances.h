/* Random clusters, models and runs for the planner, and the best plan of small ones by trying all. */
#ifndef PAC_TESTS_INSTANCES_H
#define PAC_TESTS_INSTANCES_H

#include "pac/plan.h"

enum { MOST_DEVICES = 64, MOST_LAYERS = 96 };

/* A profile that needs no freeing, and a run. */
typedef struct instance {
    pac_profile p;
    pac_plan_request q;
    pac_layer_bytes layer[MOST_LAYERS];
    double fwd[MOST_LAYERS + 1], bwd[MOST_LAYERS + 1];
    pac_device device[MOST_DEVICES];
    double bandwidth[MOST_DEVICES * MOST_DEVICES], latency[MOST_DEVICES * MOST_DEVICES];
} instance;

typedef struct instance_kind {
    int64_t least_devices, most_devices, least_layers, most_layers, least_batch, most_batch;
    double least_ratio, most_ratio; /* of the fastest device's speed to the slowest's */
    double least_room; /* memory of all devices to what the model takes, at least; 0: no device lacks memory or disk */
    bool plain;        /* no conditions of the request */
} instance_kind;

/** Fills x, the number-th of its kind under a seed. */
void make_instance(instance *x, const instance_kind *kind, uint64_t seed, uint64_t number);

/**
 * The least total of every plan: which devices, in which stages, which layers, M, with cache and without, shares by
 * pac_plan_share(). Infinity: none fits. Scored by pac_plan_predict() alone.
 */
double best_of_all(const instance *x, int64_t *plans);

typedef enum order_rule {
    EQUAL,   /* equal shares, layers in equal parts or in proportion to the ranks, whichever is better */
    UNEQUAL, /* any cuts, shares by pac_plan_share() */
} order_rule;

/** The least total of plans that use every device in the profile's order: any groups, any M, with cache and without. */
double best_in_order(const instance *x, order_rule rule);

/** Whether the plan keeps to budgets, disks and the request's conditions, each rank in one stage or left out, shares above 0.
 */
bool plan_is_sound(const instance *x, const pac_plan *plan);

#endif
