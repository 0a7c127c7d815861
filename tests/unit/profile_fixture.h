/*
 * What the tests of planner and simulator share: a profile that needs no freeing, numbers drawn by a seed, assertions. The
 * includer says how large it is: #define MAX_D devices, MAX_L layers, SEED.
 */
#ifndef PAC_TEST_PROFILE_FIXTURE_H
#define PAC_TEST_PROFILE_FIXTURE_H

#include "pac/plan.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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
    return lo + (hi - lo) * (double)pac_rng_uniform(SEED, PAC_STREAM_TEST, draws++);
}

static inline int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(SEED, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

static inline void must(pac_err err)
{
    if (err != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static inline void near(double a, double b)
{
    if (!(a == b || fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* A profile of lengths 1 in the fixture's arrays, all zero. */
static inline void empty(fixture *x, int64_t enc, int64_t dec, int64_t devices)
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
                         .target_tokens = 1};
}

/* Every rank once and in order, every layer once, shares that sum to 1. */
static inline void check_whole(const pac_plan *p, int64_t world, int64_t layers)
{
    int64_t rank = 0, layer = 0;
    assert_int_equal(p->world, world);
    for (int64_t i = 0; i < p->stages; i++) {
        double sum = 0;
        assert_int_equal(p->stage[i].first, layer);
        assert_true(p->stage[i].last > layer && p->stage[i].ranks > 0);
        layer = p->stage[i].last;
        for (int64_t r = 0; r < p->stage[i].ranks; r++) {
            assert_int_equal(p->stage[i].rank[r], rank++);
            sum += p->stage[i].share[r];
        }
        near(sum, 1);
    }
    assert_int_equal(layer, layers);
    assert_int_equal(rank, world);
}

#endif
