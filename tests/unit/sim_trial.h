/* Clusters, plans and requests for tests of the simulator: plain ones, whose moments a person can compute, and drawn ones. */
#ifndef PAC_TEST_SIM_TRIAL_H
#define PAC_TEST_SIM_TRIAL_H

#define MAX_D 64
#define MAX_L 96
#define SEED  13
#include "profile_fixture.h"

#include "pac/simulate.h"

enum { MAX_M = 64 };

/* An encoder whose blocks take 1 s forward and 2 s backward a sample, nothing else; 100 bytes a sample cross, links carry 100
 * bytes/s. */
static inline void plain(fixture *x, int64_t layers, int64_t devices)
{
    empty(x, layers, 0, devices);
    for (int64_t l = 0; l < layers; l++) {
        x->layer[l] = (pac_layer_bytes){.weights = 1000, .tuned = 100, .activations = 10};
        x->fwd[l + 1] = x->bwd[l + 1] = 100;
    }
    for (int64_t d = 0; d < devices; d++) {
        snprintf(x->device[d].name, sizeof x->device[d].name, "device%d", (int)d);
        x->device[d].memory = 1e9;
        x->device[d].cost[PAC_COST_ENC_BLOCK] = (pac_cost_curve){.points = 1, .tokens = {1}, .fwd = {1}, .bwd = {2}};
    }
    for (int64_t i = 0; i < devices * devices; i++)
        x->bandwidth[i] = 100;
}

static inline void set_links(fixture *x, double bandwidth, double latency, double port)
{
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = bandwidth;
        x->latency[i] = latency;
    }
    for (int64_t d = 0; d < x->p.devices; d++)
        x->device[d].port = port;
}

/* Everything drawn: unequal devices, links, layers, ports. */
static inline void randomise(fixture *x, int64_t layers, int64_t devices)
{
    int64_t enc = integer(1, layers);
    plain(x, layers, devices);
    x->p.layers_enc = enc;
    x->p.layers_dec = layers - enc;
    for (int64_t l = 0; l < layers; l++) {
        x->layer[l].tuned = integer(0, 3) ? uniform(10, 1000) : 0;
        x->layer[l].activations = uniform(1, 100);
        x->fwd[l + 1] = (l < enc ? 0 : x->fwd[enc]) + uniform(1, 300);
        x->bwd[l + 1] = (l < enc ? 0 : x->bwd[enc]) + uniform(1, 300);
    }
    for (int64_t d = 0; d < devices; d++) {
        x->device[d].port = integer(0, 1) ? uniform(50, 500) : 0;
        x->device[d].update = uniform(0, 1e-3);
        x->device[d].overhead = uniform(0, 0.1);
        for (int k = 0; k < PAC_COST_NKINDS; k++) {
            double t = uniform(0, 0.5);
            x->device[d].cost[k] = (pac_cost_curve){.points = 2, .tokens = {1, 8}, .fwd = {t, 5 * t}, .bwd = {t * 2, 9 * t}};
        }
    }
    for (int64_t i = 0; i < devices * devices; i++) {
        x->bandwidth[i] = uniform(20, 1000);
        x->latency[i] = uniform(0, 0.2);
    }
}

/* ---- running ---- */

typedef struct trial {
    fixture x;
    pac_plan plan;
    pac_plan_request run;
    pac_sim_bytes bytes[MAX_D];
    pac_sim_request q;
    pac_simulation s;
} trial;

static inline void prepare(trial *t, const int64_t *groups, int64_t stages, int64_t microbatches, int64_t batch)
{
    must(pac_plan_even(groups, stages, t->x.p.layers_enc + t->x.p.layers_dec, microbatches, &t->plan));
    t->run = (pac_plan_request){.profile = &t->x.p, .batch = batch, .rows = batch, .epochs = 1};
    t->q = (pac_sim_request){.profile = &t->x.p, .plan = &t->plan, .run = &t->run};
    for (int64_t d = 0; d < t->x.p.devices; d++)
        t->bytes[d] = (pac_sim_bytes){.base = 1000 + (double)d, .slot = 10 + (double)d};
}

static inline double step(trial *t)
{
    pac_simulation_free(&t->s);
    must(pac_simulate(&t->q, &t->s));
    return t->s.predicted.hybrid_step_s;
}

static inline void done(trial *t)
{
    pac_simulation_free(&t->s);
    pac_plan_free(&t->plan);
}

static inline const pac_sim_event *find(const pac_simulation *s, int64_t device, int64_t peer, pac_op_kind kind, int64_t m)
{
    const pac_sim_event *found = NULL;
    for (int64_t i = 0; i < s->events; i++) {
        const pac_sim_event *e = &s->event[i];
        if (e->device != device || e->peer != peer || e->kind != kind || e->m != m)
            continue;
        assert_null(found); /* once */
        found = e;
    }
    return found;
}

#endif
