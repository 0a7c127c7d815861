/* A profile of equal devices and layers that needs no freeing, for the planner's tests to change. */
#ifndef PAC_TINY_PROFILE_H
#define PAC_TINY_PROFILE_H

#include "pac/plan.h"
#include "pac/rng.h"

#include <stdio.h>
#include <string.h>

enum { MAX_D = 8, MAX_L = 48 };

/* A profile that needs no freeing. */
typedef struct fixture {
    pac_profile p;
    pac_layer_bytes layer[MAX_L];
    double fwd[MAX_L + 1], bwd[MAX_L + 1];
    pac_device device[MAX_D];
    double bandwidth[MAX_D * MAX_D], latency[MAX_D * MAX_D];
} fixture;

static uint64_t draws;

static inline double uniform(double lo, double hi)
{
    return lo + (hi - lo) * (double)pac_rng_uniform(11, PAC_STREAM_TEST, draws++);
}

static inline int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(11, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

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
    memset(x, 0, sizeof *x);
    x->p = (pac_profile){.layers_enc = enc,
                         .layers_dec = dec,
                         .devices = devices,
                         .layer = x->layer,
                         .boundary_fwd = x->fwd,
                         .boundary_bwd = x->bwd,
                         .device = x->device,
                         .bandwidth = x->bandwidth,
                         .latency = x->latency,
                         .source_tokens = 1,
                         .target_tokens = 1,
                         .optimizer_states = 2,
                         .cached_step_bytes_read = 1000};
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

#endif
