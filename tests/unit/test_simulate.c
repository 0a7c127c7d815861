/* The simulator against what can be computed by hand. */
#include "sim_trial.h"

#include "pac/file.h"

#include <stdlib.h>
#include <unistd.h>

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
    check_event(&t, 1, -1, PAC_OP_FWD, 1, 5.25, 6.25); /* while the gradient leaves from its box */
    check_event(&t, 1, -1, PAC_OP_BWD, 1, 6.25, 8.25);
    check_event(&t, 0, -1, PAC_OP_BWD, 0, 6.5, 8.5);
    check_event(&t, 1, 0, PAC_OP_SEND_BWD, 1, 8.25, 9.5);
    check_event(&t, 0, -1, PAC_OP_BWD, 1, 9.5, 11.5);
    near(t.s.predicted.hybrid_step_s, 11.5 + 0.25); /* and one sum of loss and norm over both */
    near(t.s.device[0].busy, 6);
    near(t.s.device[1].idle, 11.75 - 6);
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

/* Two boxes of gradients: the third leaves when the first has left. */
static void test_boxes(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 2);
    set_links(&t.x, 100, 0, 0);
    prepare(&t, (const int64_t[]){1, 1}, 2, 3, 3);
    t.x.bwd[1] = 2000; /* 20 s for a gradient, where a backward takes 2 */
    t.q.schedule = PAC_SIM_GPIPE;
    step(&t);
    const pac_sim_event *first = find(&t.s, 1, 0, PAC_OP_SEND_BWD, 0), *third = find(&t.s, 1, 0, PAC_OP_SEND_BWD, 2);
    assert_true(find(&t.s, 1, -1, PAC_OP_BWD, 2)->end < first->end); /* it was computed long before */
    assert_true(third->start >= first->end);
    assert_true(find(&t.s, 1, 0, PAC_OP_SEND_BWD, 1)->start < first->end); /* the second had a box */
    done(&t);
}

/* A sum in pieces: the first ones flow behind the last backward, the last one after it. */
static void test_pieces(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 2);
    double mib = 1 << 20;
    t.x.layer[0].tuned = t.x.layer[1].tuned = 2 * mib; /* four pieces, one after half a second each */
    set_links(&t.x, 8 * mib, 0, 0);                    /* two rounds of half a piece: an eighth of a second */
    prepare(&t, (const int64_t[]){2}, 1, 1, 2);
    near(step(&t), 2 + 2 * 2 + 0.125);
    check_event(&t, 0, -1, PAC_OP_REDUCE, -1, 6, 6.125);
    set_links(&t.x, 0.5 * mib, 0, 0); /* slower than the backward: from its first piece on, 8 s */
    near(step(&t), 2 + 1 + 8);
    check_event(&t, 0, -1, PAC_OP_REDUCE, -1, 6, 11);
    pac_plan_predict(&t.x.p, &t.run, &t.plan); /* and the planner's formula agrees */
    near(t.plan.predicted.hybrid_step_s, 11);
    t.run.bucket = INFINITY; /* train.overlap: false */
    near(step(&t), 6 + 8);
    pac_plan_predict(&t.x.p, &t.run, &t.plan);
    near(t.plan.predicted.hybrid_step_s, 6 + 8);
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
    double side = 2 * (0.1 + 0.2), sum = 2 * 100 / 100.0, update = 0.2;
    near(step(&t), 2 * (2 * 3 + side) + sum + update); /* two samples each take a second to write, behind it */
    near(t.s.predicted.hybrid_epoch_s, 5 * (2 * 3 + side) + 3 * (sum + update));
    near(t.s.predicted.cached_epoch_s, 5 * side + 3 * (sum + update));
    near(t.s.predicted.redistribute_s, (150 + 200) / 100.0 + 150 / 60.0); /* half of 300, what was learnt; both write */
    near(t.s.predicted.total_s, t.s.predicted.hybrid_epoch_s + t.s.predicted.redistribute_s + 2 * t.s.predicted.cached_epoch_s);
    t.x.device[0].disk_write = 1; /* slower than the step: 2, 2 and 1 samples of 30 bytes */
    near(step(&t), 60);
    near(t.s.predicted.hybrid_epoch_s, 60 + 60 + 30);
    for (int d = 0; d < 2; d++)
        t.x.device[d].disk_write = 0;
    step(&t);
    near(t.s.predicted.redistribute_s, 3.5); /* writing cost 150 / 60 */
    t.x.device[1].disk_read = 10;            /* reading takes longer than computing: 2 x 30 / 10 */
    step(&t);
    near(t.s.predicted.cached_epoch_s, 2 * 6 + 3 + 3 * (sum + update));
    t.run.sharded = true; /* each gives half of its 150, and device 0 what was learnt */
    step(&t);
    near(t.s.predicted.redistribute_s, (75 + 200) / 100.0);
    t.x.p.gradient_bytes = 2;
    near(step(&t), 2 * (2 * 3 + side) + sum / 2 + update);
    near(t.s.predicted.cached_epoch_s, 2 * 6 + 3 + 3 * (sum / 2 + update));
    t.x.p.gradient_bytes = 0;
    t.plan.cached = false;
    step(&t);
    near(t.s.predicted.redistribute_s, 0);
    near(t.s.predicted.total_s, 3 * (5 * (2 * 3 + side) + 3 * (sum + update)));
    done(&t);
}

/* A device that the plan leaves out does nothing, needs nothing, and takes no part in what follows. */
static void test_left_out(void **state)
{
    (void)state;
    trial t = {0};
    plain(&t.x, 2, 3);
    prepare(&t, (const int64_t[]){1, 1}, 2, 2, 2);
    t.plan.world = 3;
    t.plan.left_out = 1;
    t.plan.stage[1].rank[0] = 2;
    t.x.device[1].memory = 0;
    t.run.epochs = 2;
    t.run.cached = true;
    t.x.p.cached_step_bytes_read = 10;
    for (int i = 0; i < 9; i++)
        t.x.latency[i] = i == 2 || i == 6 ? 0 : 1e6; /* only 0 and 2 are near one another */
    assert_true(step(&t) < 100);
    assert_true(t.s.predicted.total_s < 1000);
    near(t.s.device[1].idle, t.s.predicted.hybrid_step_s);
    assert_int_equal(t.s.device[1].points, 0);
    assert_true(t.s.fits && t.s.device[1].fits && t.s.device[1].peak_bytes == 0);
    assert_non_null(find(&t.s, 0, 2, PAC_OP_SEND_FWD, 1));
    char path[] = "/tmp/pac-left-out-XXXXXX", *svg;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && close(fd) == 0);
    must(pac_simulation_svg(&t.q, &t.s, path));
    must(pac_file_load(path, 1 << 24, &svg, NULL));
    remove(path);
    assert_non_null(strstr(svg, ">left out, idle: device1</text>")); /* a note instead of an empty lane */
    assert_null(strstr(svg, ">device1<"));
    assert_non_null(strstr(svg, ">device2<"));
    pac_mem_free(svg);
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

/* Every micro-batch that a stage keeps has its activations, what was received for it and room for the gradients. */
static void test_slots_hold_what_the_cost_model_says(void **state)
{
    (void)state;
    trial t = {0};
    double few[2];
    plain(&t.x, 2, 2);
    t.x.layer[0].activations = 300;
    t.x.layer[1].activations = 200;
    t.x.fwd[1] = 40;
    t.x.bwd[1] = 50;
    prepare(&t, (const int64_t[]){1, 1}, 2, 4, 4);
    step(&t);
    for (int d = 0; d < 2; d++)
        few[d] = t.s.device[d].peak_bytes;
    t.q.schedule = PAC_SIM_GPIPE;
    step(&t);
    near(t.s.device[0].peak_bytes - few[0], (4 - 2) * (300 + 50));
    near(t.s.device[1].peak_bytes - few[1], (4 - 1) * (200 + 40));
    done(&t);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_device),
        cmocka_unit_test(test_two_stages),
        cmocka_unit_test(test_port),
        cmocka_unit_test(test_reduce),
        cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_shared_parameters),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_does_not_fit),
        cmocka_unit_test(test_sequential_is_valid),
        cmocka_unit_test(test_slots_hold_what_the_cost_model_says),
        cmocka_unit_test(test_bubble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
