/* A profile of equal devices and layers that needs no freeing, for the planner's tests to change. */
#ifndef PAC_TINY_PROFILE_H
#define PAC_TINY_PROFILE_H

#define MAX_D 8
#define MAX_L 48
#define SEED  11
#include "profile_fixture.h"

/* Lengths are 1, so that tokens count samples, or their double for the decoder, where source and target count. */
static inline pac_cost_curve curve(int kind, double overhead, double per_sample)
{
    pac_cost_curve c = {.points = 4};
    for (int i = 0; i < 4; i++) {
        c.tokens[i] = (1 << i) * pac_cost_tokens((pac_cost_kind)kind, 1, 1);
        c.fwd[i] = overhead + per_sample * (1 << i);
        c.bwd[i] = 2 * c.fwd[i];
    }
    return c;
}

/* Equal devices, equal layers, fast links, plenty of memory: the base that tests change. */
static inline void plain(fixture *x, int64_t enc, int64_t dec, int64_t devices)
{
    empty(x, enc, dec, devices);
    x->p.optimizer_states = 2;
    x->p.cached_step_bytes_read = 1000;
    for (int64_t l = 0; l < enc + dec; l++) {
        x->layer[l] = (pac_layer_bytes){.weights = 1e6, .tuned = 1e4, .activations = 1e4};
        x->fwd[l + 1] = x->bwd[l + 1] = 1e3;
    }
    for (int64_t d = 0; d < devices; d++) {
        snprintf(x->device[d].name, sizeof x->device[d].name, "host:%d", (int)d);
        x->device[d].memory = 1e9;
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            x->device[d].cost[k] = curve(k, 1e-3, 1e-3);
    }
    for (int64_t i = 0; i < devices * devices; i++) {
        x->bandwidth[i] = 1e8;
        x->latency[i] = 1e-4;
    }
}

static inline void randomise(fixture *x)
{
    int64_t enc = integer(1, 4);
    plain(x, enc, integer(0, 3), integer(1, 5));
    for (int64_t l = 0; l < x->p.layers_enc + x->p.layers_dec; l++) {
        x->layer[l] = (pac_layer_bytes){
            .weights = uniform(1e5, 2e6), .tuned = integer(0, 3) ? uniform(1e3, 1e5) : 0, .activations = uniform(1e3, 1e5)};
        x->fwd[l + 1] = uniform(1e2, 1e6);
        x->bwd[l + 1] = uniform(1e2, 1e6);
    }
    for (int64_t d = 0; d < x->p.devices; d++) {
        x->device[d].memory = uniform(1e6, 8e6);
        double slow = uniform(1, 4);
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            x->device[d].cost[k] = curve(k, slow * uniform(0, 5e-3), slow * uniform(1e-4, 5e-3));
    }
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = uniform(1e6, 1e9);
        x->latency[i] = uniform(1e-5, 1e-3);
    }
    x->p.optimizer_states = (double)(2 * integer(0, 1));
}

static inline pac_plan_request request(const fixture *x, int64_t batch, int64_t microbatches)
{
    return (pac_plan_request){
        .profile = &x->p, .batch = batch, .rows = 100, .epochs = 3, .microbatches = microbatches, .cached = true};
}

/* Equal shares, layers in proportion to the ranks. */
static inline pac_plan even(const int64_t *groups, int64_t stages, int64_t layers, int64_t M)
{
    pac_plan p = {0};
    must(pac_plan_even(groups, stages, layers, M, &p));
    return p;
}

#endif
