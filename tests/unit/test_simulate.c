/*
 * The simulator against what can be computed by hand, against the planner's timeline where nothing is shared, and against what
 * must hold of any simulation: nothing is lost, nothing overlaps, nothing is used before it has arrived.
 */
#include "../../planner/cost.h"
#include "../../planner/timeline.h"
#include "pac/rng.h"
#include "pac/simulate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_D = 64, MAX_L = 96, MAX_M = 64 };

typedef struct fixture {
    pac_profile p;
    pac_layer_bytes layer[MAX_L];
    double fwd[MAX_L + 1], bwd[MAX_L + 1];
    pac_device device[MAX_D];
    double bandwidth[MAX_D * MAX_D], latency[MAX_D * MAX_D];
} fixture;

static uint64_t draws;

static double uniform(double lo, double hi)
{
    return lo + (hi - lo) * (double)pac_rng_uniform(13, PAC_STREAM_TEST, draws++);
}

static int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(13, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

static void must(pac_err err)
{
    if (err != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static void near(double a, double b)
{
    if (!(a == b || fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* An encoder whose blocks take 1 s forward and 2 s backward a sample, nothing else; 100 bytes a sample cross, links carry 100
 * bytes/s. */
static void plain(fixture *x, int64_t layers, int64_t devices)
{
    memset(x, 0, sizeof *x);
    x->p = (pac_profile){.layers_enc = layers,
                         .devices = devices,
                         .layer = x->layer,
                         .boundary_fwd = x->fwd,
                         .boundary_bwd = x->bwd,
                         .device = x->device,
                         .bandwidth = x->bandwidth,
                         .latency = x->latency,
                         .source_tokens = 1,
                         .target_tokens = 1};
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

static void set_links(fixture *x, double bandwidth, double latency, double port)
{
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = bandwidth;
        x->latency[i] = latency;
    }
    for (int64_t d = 0; d < x->p.devices; d++)
        x->device[d].port = port;
}

/* Everything drawn: unequal devices, links, layers, ports. */
static void randomise(fixture *x, int64_t layers, int64_t devices)
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

static void prepare(trial *t, const int64_t *groups, int64_t stages, int64_t microbatches, int64_t batch)
{
    must(pac_plan_even(groups, stages, t->x.p.layers_enc + t->x.p.layers_dec, microbatches, &t->plan));
    t->run = (pac_plan_request){.profile = &t->x.p, .batch = batch, .rows = batch, .epochs = 1};
    t->q = (pac_sim_request){.profile = &t->x.p, .plan = &t->plan, .run = &t->run};
    for (int64_t d = 0; d < t->x.p.devices; d++)
        t->bytes[d] = (pac_sim_bytes){.base = 1000 + (double)d, .slot = 10 + (double)d};
}

static double step(trial *t)
{
    pac_simulation_free(&t->s);
    must(pac_simulate(&t->q, &t->s));
    return t->s.predicted.hybrid_step_s;
}

static void done(trial *t)
{
    pac_simulation_free(&t->s);
    pac_plan_free(&t->plan);
}

/* A random plan of a random cluster, its shares unequal. */
static void random_trial(trial *t)
{
    int64_t groups[MAX_D], devices = integer(1, 6), layers = integer(devices, 10), stages = 0;
    *t = (trial){0};
    randomise(&t->x, layers, devices);
    for (int64_t left = devices; left > 0; left -= groups[stages++])
        groups[stages] = integer(1, left);
    prepare(t, groups, stages, integer(1, 9), integer(1, 17));
    for (int64_t i = 0; i < stages; i++)
        for (int64_t r = 0; r < groups[i]; r++)
            t->plan.stage[i].share[r] = uniform(0.1, 1);
    t->q.bytes = t->bytes;
    t->q.schedule = (pac_sim_schedule)integer(0, PAC_SIM_SEQUENTIAL);
}

/* ---- by hand ---- */

static const pac_sim_event *find(const pac_simulation *s, int64_t device, int64_t peer, pac_op_kind kind, int64_t m)
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

static void check_event(const trial *t, int64_t device, int64_t peer, pac_op_kind kind, int64_t m, double start, double end)
{
    const pac_sim_event *e = find(&t->s, device, peer, kind, m);
    assert_non_null(e);
    near(e->start, start);
    near(e->end, end);
}

static void test_one_device(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 1);
    t.x.device[0].update = 0.01;
    t.x.device[0].overhead = 0.5;
    prepare(&t, (const int64_t[]){1}, 1, 2, 5);
    near(step(&t), 2 * 5 + 4 * 5 + 4 * 0.5 + 200 * 0.01); /* layers x samples, overheads, update */
    near(t.s.device[0].busy, t.s.predicted.hybrid_step_s);
    near(t.s.device[0].idle, 0);
    assert_int_equal(t.s.events, 5);
    done(&t);
}

/*
 * Two stages of one layer, two micro-batches of one sample; a message takes 0.25 + 1 s. Device 1 may not take its only slot
 * again before the gradient of micro-batch 0 has left.
 */
static void test_two_stages(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 2);
    set_links(&t.x, 100, 0.25, 0);
    prepare(&t, (const int64_t[]){1, 1}, 2, 2, 2);
    t.q.bytes = t.bytes;
    step(&t);
    check_event(&t, 0, -1, PAC_OP_FWD, 0, 0, 1);
    check_event(&t, 0, 1, PAC_OP_SEND_FWD, 0, 1, 2.25);
    check_event(&t, 0, -1, PAC_OP_FWD, 1, 1, 2);
    check_event(&t, 0, 1, PAC_OP_SEND_FWD, 1, 2, 3.25); /* its latency is over when the first has arrived */
    check_event(&t, 1, -1, PAC_OP_FWD, 0, 2.25, 3.25);
    check_event(&t, 1, -1, PAC_OP_BWD, 0, 3.25, 5.25);
    check_event(&t, 1, 0, PAC_OP_SEND_BWD, 0, 5.25, 6.5);
    check_event(&t, 1, -1, PAC_OP_FWD, 1, 6.5, 7.5);
    check_event(&t, 1, -1, PAC_OP_BWD, 1, 7.5, 9.5);
    check_event(&t, 0, -1, PAC_OP_BWD, 0, 6.5, 8.5);
    check_event(&t, 1, 0, PAC_OP_SEND_BWD, 1, 9.5, 10.75);
    check_event(&t, 0, -1, PAC_OP_BWD, 1, 10.75, 12.75);
    near(t.s.predicted.hybrid_step_s, 12.75 + 0.25); /* and one sum of loss and norm over both */
    near(t.s.device[0].busy, 6);
    near(t.s.device[1].idle, 13 - 6);
    near(t.s.device[0].peak_bytes, 1000 + 2 * 10);
    near(t.s.device[1].peak_bytes, 1001 + 11);
    done(&t);
}

/* A group of two sends to one device: one port takes twice as long as two links of their own. */
static void test_port(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 3);
    prepare(&t, (const int64_t[]){2, 1}, 2, 1, 4);
    t.plan.stage[0].last = t.plan.stage[1].first = 1;
    double own = step(&t);
    check_event(&t, 0, 2, PAC_OP_SEND_FWD, 0, 2, 4);
    check_event(&t, 1, 2, PAC_OP_SEND_FWD, 0, 2, 4);
    t.x.device[2].port = 100;
    near(step(&t), own + 2 + 2); /* forward into it, backward out of it */
    check_event(&t, 0, 2, PAC_OP_SEND_FWD, 0, 2, 6);
    check_event(&t, 1, 2, PAC_OP_SEND_FWD, 0, 2, 6);
    done(&t);
}

/* The group's sum begins when the slower member is there. */
static void test_reduce(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 2);
    t.x.device[1].cost[PAC_COST_ENC_BLOCK].fwd[0] = 3;
    prepare(&t, (const int64_t[]){2}, 1, 1, 2);
    near(step(&t), 2 * (3 + 2) + 2 * 200 / 2 / 100.0); /* two rounds of half of 200 bytes */
    check_event(&t, 0, -1, PAC_OP_REDUCE, -1, 10, 12);
    check_event(&t, 1, -1, PAC_OP_REDUCE, -1, 10, 12);
    near(t.s.device[0].idle, 4);
    done(&t);
}

/* What several stages hold is summed over all of them once more. */
static void test_shared_parameters(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 3, 3);
    prepare(&t, (const int64_t[]){1, 1, 1}, 3, 1, 1);
    double apart = step(&t);
    t.x.layer[0].shared_tuned = t.x.layer[2].shared_tuned = 100;
    near(step(&t), apart + 2 * 100 / 2 / 100.0);
    done(&t);
}

static void test_phases(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 2);
    t.x.p.cached_step_bytes_read = 30;
    for (int d = 0; d < 2; d++) {
        t.x.device[d].cost[PAC_COST_ENC_SIDE] = (pac_cost_curve){.points = 1, .tokens = {1}, .fwd = {0.1}, .bwd = {0.2}};
        t.x.device[d].update = 0.001;
        t.x.device[d].disk_write = 60;
    }
    prepare(&t, (const int64_t[]){2}, 1, 1, 4);
    t.run.rows = 10; /* mini-batches of 4, 4 and 2 */
    t.run.epochs = 3;
    t.run.cached = true;
    double write = 30 / 60.0, side = 2 * (0.1 + 0.2), sum = 2 * 100 / 100.0, update = 0.2;
    near(step(&t), 2 * (2 * 3 + side + write) + sum + update);
    near(t.s.predicted.hybrid_epoch_s, 5 * (2 * 3 + side + write) + 3 * (sum + update));
    near(t.s.predicted.cached_epoch_s, 5 * side + 3 * (sum + update));
    near(t.s.predicted.redistribute_s, (150 + 200) / 100.0 + 150 / 60.0); /* device 0 also gives what was learnt; both write */
    near(t.s.predicted.total_s, t.s.predicted.hybrid_epoch_s + t.s.predicted.redistribute_s + 2 * t.s.predicted.cached_epoch_s);
    t.x.device[1].disk_read = 10; /* reading takes longer than computing: 2 x 30 / 10 */
    step(&t);
    near(t.s.predicted.cached_epoch_s, 2 * 6 + 3 + 3 * (sum + update));
    t.plan.cached = false;
    step(&t);
    near(t.s.predicted.redistribute_s, 0);
    near(t.s.predicted.total_s, 3 * (5 * (2 * 3 + side) + 3 * (sum + update)));
    done(&t);
}

static void test_lengths(void **state)
{
    (void)state;
    trial t = {0};
    const double ones[] = {1, 1, 1, 1, 1, 1}, drawn[] = {1, 3, 1, 1, 2, 4};
    plain(&t.x, 2, 2);
    prepare(&t, (const int64_t[]){1, 1}, 2, 3, 3);
    t.run.rows = 6;
    double mean = step(&t), epoch = t.s.predicted.hybrid_epoch_s;
    t.q.lengths = &(pac_lengths){.samples = 6, .source = ones};
    near(step(&t), mean);
    near(t.s.predicted.hybrid_epoch_s, epoch);
    t.q.lengths = &(pac_lengths){.samples = 6, .source = drawn};
    assert_true(step(&t) > mean);
    check_event(&t, 0, -1, PAC_OP_FWD, 1, 1, 4);        /* three tokens, */
    near(find(&t.s, 0, 1, PAC_OP_SEND_FWD, 1)->end, 7); /* which cross in three seconds */
    near(t.s.predicted.hybrid_epoch_s, 2 * t.s.predicted.hybrid_step_s);
    done(&t);
}

/* ---- against the planner's timeline ---- */

/* One device a stage, no ports, no latency, gradients that cross at once: the simulator is the timeline. */
static void test_equals_timeline(void **state)
{
    (void)state;
    for (int n = 0; n < 200; n++) {
        trial t = {0};
        int64_t groups[8] = {1, 1, 1, 1, 1, 1, 1, 1}, P = integer(1, 6), batch = integer(1, 20);
        randomise(&t.x, integer(P, 9), P);
        for (int64_t d = 0; d < P; d++)
            t.x.device[d].port = t.x.device[d].overhead = t.x.device[d].update = 0;
        for (int64_t i = 0; i < P * P; i++)
            t.x.latency[i] = 0;
        for (int64_t l = 0; l <= MAX_L; l++)
            t.x.bwd[l] = 0;
        prepare(&t, groups, P, integer(1, 12), batch);
        int64_t M = t.plan.microbatches < batch ? t.plan.microbatches : batch;
        pac_stage_times times[8] = {0};
        for (int64_t p = 0; p < P; p++)
            for (int k = 0; k < 2; k++) {
                const pac_stage_plan *st = &t.plan.stage[p];
                double size = (double)(batch / M + (k && batch % M > 0));
                times[p].fwd[k] = pac_stage_time(&t.x.p, p, st->first, st->last, size, false);
                times[p].bwd[k] = pac_stage_time(&t.x.p, p, st->first, st->last, size, true);
                if (p + 1 < P)
                    times[p].send_fwd[k] = size * t.x.fwd[st->last] / t.x.bandwidth[p * P + p + 1];
            }
        double arrive[12], seconds = pac_timeline_1f1b(times, P, M, batch % M, arrive);
        for (int64_t l = 0; l <= MAX_L; l++)
            t.x.bwd[l] = 1e-12; /* a message all the same, so that backwards wait for one another */
        if (fabs(step(&t) - seconds) > 1e-6 * seconds)
            fail_msg("%.12g s is not the timeline's %.12g s", t.s.predicted.hybrid_step_s, seconds);
        done(&t);
    }
}

/* Equal stages without messages: (M + P - 1) (f + b), of which M (f + b) is work, whatever pipelines. */
static void test_bubble(void **state)
{
    (void)state;
    for (int64_t P = 1; P <= 5; P++)
        for (int64_t M = 1; M <= 8; M++) {
            trial t = {0};
            const int64_t groups[] = {1, 1, 1, 1, 1};
            plain(&t.x, P, P);
            set_links(&t.x, 1e15, 0, 0);
            prepare(&t, groups, P, M, M);
            assert_true(fabs(step(&t) - 3 * (double)(M + P - 1)) < 1e-6);
            assert_true(fabs(t.s.device[0].idle - 3 * (double)(P - 1)) < 1e-6);
            t.q.schedule = PAC_SIM_GPIPE;
            assert_true(fabs(step(&t) - 3 * (double)(M + P - 1)) < 1e-6);
            t.q.schedule = PAC_SIM_SEQUENTIAL;
            assert_true(fabs(step(&t) - 3 * (double)(M * P)) < 1e-6);
            done(&t);
        }
}

/* ---- what holds of any simulation ---- */

static pac_range part(const trial *t, int64_t stage, int64_t member, int64_t m, int64_t M)
{
    pac_range micro = pac_split_even(t->run.batch, M, m);
    const pac_stage_plan *st = &t->plan.stage[stage];
    pac_range r = pac_split_shares(micro.hi - micro.lo, st->share, st->ranks, member);
    return (pac_range){micro.lo + r.lo, micro.lo + r.hi};
}

/* Every message of micro-batch m between two stages, once, sent after its operation and arrived before the one that needs it.
 */
static int64_t check_messages(const trial *t, int64_t from, int64_t to, int64_t m, int64_t M)
{
    int64_t count = 0;
    pac_op_kind op = from < to ? PAC_OP_FWD : PAC_OP_BWD, kind = from < to ? PAC_OP_SEND_FWD : PAC_OP_SEND_BWD;
    const pac_stage_plan *a = &t->plan.stage[from], *b = &t->plan.stage[to];
    for (int64_t i = 0; i < a->ranks; i++)
        for (int64_t j = 0; j < b->ranks; j++) {
            pac_range both = pac_range_intersect(part(t, from, i, m, M), part(t, to, j, m, M));
            const pac_sim_event *e = find(&t->s, a->rank[i], b->rank[j], kind, m);
            assert_int_equal(e != NULL, both.hi > both.lo);
            if (e == NULL)
                continue;
            assert_true(e->start >= find(&t->s, a->rank[i], -1, op, m)->end);
            assert_true(e->end <= find(&t->s, b->rank[j], -1, op, m)->start);
            assert_true(e->end > e->start);
            count++;
        }
    return count;
}

/* Intervals of a device follow one another and add up. */
static void check_device(const trial *t, int64_t d)
{
    double last = 0, busy = 0, step_s = t->s.predicted.hybrid_step_s;
    for (int64_t i = 0; i < t->s.events; i++) {
        const pac_sim_event *e = &t->s.event[i];
        assert_true(i == 0 || e->start >= e[-1].start);
        if (e->device != d || e->peer >= 0)
            continue;
        assert_true(e->start >= last && e->end >= e->start && e->end <= step_s);
        last = e->end;
        busy += e->end - e->start;
    }
    near(busy, t->s.device[d].busy);
    assert_true(fabs(busy + t->s.device[d].idle - step_s) <= 1e-9 * step_s);
}

/* Slots in flight of a schedule. */
static int64_t in_flight(const trial *t, int64_t stage, int64_t M)
{
    int64_t behind = t->plan.stages - stage;
    if (t->q.schedule == PAC_SIM_SEQUENTIAL)
        return 1;
    return t->q.schedule == PAC_SIM_1F1B && behind < M ? behind : M;
}

/* A slot more, a slot less, never more than the schedule allows; all of them at once at some time if micro-batches are equal.
 */
static void check_bytes(const trial *t, int64_t stage, int64_t member, int64_t M)
{
    int64_t d = t->plan.stage[stage].rank[member];
    const pac_sim_device *k = &t->s.device[d];
    double most = 0, limit = t->bytes[d].base + (double)in_flight(t, stage, M) * t->bytes[d].slot;
    assert_int_equal(k->points, 2 * M + 1);
    near(k->bytes[0], t->bytes[d].base);
    near(k->bytes[k->points - 1], t->bytes[d].base);
    for (int64_t i = 0; i < k->points; i++) {
        assert_true(i == 0 || k->time[i] >= k->time[i - 1]);
        assert_true(k->bytes[i] <= limit * (1 + 1e-12));
        most = fmax(most, k->bytes[i]);
    }
    near(most, k->peak_bytes);
    pac_range mine = part(t, stage, member, 0, M);
    if (t->run.batch % M == 0 && mine.hi > mine.lo)
        near(k->peak_bytes, limit);
}

static void check_all(const trial *t)
{
    int64_t M = t->plan.microbatches < t->run.batch ? t->plan.microbatches : t->run.batch, events = 0, reduces = 0;
    for (int64_t p = 0; p < t->plan.stages; p++)
        for (int64_t r = 0; r < t->plan.stage[p].ranks; r++) {
            int64_t d = t->plan.stage[p].rank[r];
            check_device(t, d);
            check_bytes(t, p, r, M);
            for (int64_t m = 0; m < M; m++)
                assert_true(find(&t->s, d, -1, PAC_OP_FWD, m)->end <= find(&t->s, d, -1, PAC_OP_BWD, m)->start);
            assert_non_null(find(&t->s, d, -1, PAC_OP_STEP, -1));
            reduces += find(&t->s, d, -1, PAC_OP_REDUCE, -1) != NULL;
            events += 2 * M + 1;
        }
    for (int64_t p = 0; p + 1 < t->plan.stages; p++)
        for (int64_t m = 0; m < M; m++)
            events += check_messages(t, p, p + 1, m, M) + check_messages(t, p + 1, p, m, M);
    assert_int_equal(t->s.events, events + reduces);
}

static void test_random_plans(void **state)
{
    (void)state;
    for (int n = 0; n < 400; n++) {
        trial t;
        random_trial(&t);
        step(&t);
        check_all(&t);
        done(&t);
    }
}

/* Without shared ports everything is sums and maxima, so no link can be slowed down to anybody's profit. */
static void test_slower_link(void **state)
{
    (void)state;
    for (int n = 0; n < 100; n++) {
        trial t;
        random_trial(&t);
        for (int64_t d = 0; d < t.x.p.devices; d++)
            t.x.device[d].port = 0;
        double before = step(&t);
        for (int k = 0; k < 5; k++) {
            int64_t i = integer(0, t.x.p.devices * t.x.p.devices - 1);
            t.x.bandwidth[i] *= uniform(0.1, 1);
            t.x.latency[i] += uniform(0, 0.1);
            double after = step(&t);
            assert_true(after >= before * (1 - 1e-9));
            before = after;
        }
        done(&t);
    }
}

static void test_sequential_is_valid(void **state)
{
    (void)state;
    for (int64_t P = 1; P <= 6; P++)
        for (int64_t M = 1; M <= 9; M++) {
            pac_oplist list[6];
            for (int64_t p = 0; p < P; p++) {
                must(pac_schedule_sequential(p, P, M, &list[p]));
                assert_int_equal(list[p].in_flight, 1);
            }
            must(pac_schedule_validate(list, P, M, true));
            for (int64_t p = 0; p < P; p++)
                pac_oplist_free(&list[p]);
        }
}

static void test_does_not_fit(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 4, 2);
    prepare(&t, (const int64_t[]){1, 1}, 2, 4, 4);
    step(&t);
    assert_true(t.s.fits);
    near(t.s.device[0].peak_bytes, t.s.device[0].peak_bytes);
    t.x.device[0].memory = t.s.device[0].peak_bytes;
    step(&t);
    assert_true(t.s.fits && t.s.device[0].fits);
    t.x.device[0].memory -= 1;
    step(&t);
    assert_true(!t.s.fits && !t.s.device[0].fits && t.s.device[1].fits);
    done(&t);
}

/* The cost model's bytes, with its own schedule. */
static void test_model_bytes(void **state)
{
    (void)state;
    for (int n = 0; n < 50; n++) {
        trial t;
        random_trial(&t);
        t.q.bytes = NULL;
        t.q.schedule = PAC_SIM_1F1B;
        t.run.batch = t.run.rows = t.plan.microbatches * integer(1, 4);
        step(&t);
        must(pac_plan_predict(&t.x.p, &t.run, &t.plan));
        for (int64_t p = 0; p < t.plan.stages; p++)
            for (int64_t r = 0; r < t.plan.stage[p].ranks; r++)
                near(t.s.device[t.plan.stage[p].rank[r]].peak_bytes, t.plan.stage[p].bytes[r]);
        done(&t);
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    trial t;
    random_trial(&t);
    int64_t blocks = pac_mem_blocks(), k = 1;
    t.run.rows = 3 * t.run.batch;
    t.run.epochs = 2;
    t.run.cached = true;
    for (;; k++) {
        pac_mem_fail_at(k);
        pac_err err = pac_simulate(&t.q, &t.s);
        pac_mem_fail_at(0);
        if (err == PAC_OK)
            break;
        assert_int_equal(err, PAC_ENOMEM);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    assert_true(k > 10);
    done(&t);
}

static void test_large(void **state)
{
    (void)state;
    static trial t;
    const int64_t groups[] = {8, 8, 8, 8, 8, 8, 8, 8};
    randomise(&t.x, 96, 64);
    prepare(&t, groups, 8, 64, 512);
    t.q.bytes = t.bytes;
    assert_true(step(&t) > 0);
    for (int64_t d = 0; d < 64; d++)
        check_device(&t, d);
    done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_device),
        cmocka_unit_test(test_two_stages),
        cmocka_unit_test(test_port),
        cmocka_unit_test(test_reduce),
        cmocka_unit_test(test_shared_parameters),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_equals_timeline),
        cmocka_unit_test(test_bubble),
        cmocka_unit_test(test_random_plans),
        cmocka_unit_test(test_slower_link),
        cmocka_unit_test(test_sequential_is_valid),
        cmocka_unit_test(test_does_not_fit),
        cmocka_unit_test(test_model_bytes),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
