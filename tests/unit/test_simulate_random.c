/*
 * The simulator against the planner's timeline where nothing is shared, and against what must hold of any simulation: nothing
 * is lost, nothing overlaps, nothing is used before it has arrived. And the chart of one.
 */
#include "sim_trial.h"
#include "../../planner/cost.h"
#include "../../planner/timeline.h"
#include "pac/file.h"

#include <stdlib.h>
#include <unistd.h>

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

/* ---- the chart ---- */

static int64_t count(const char *text, const char *word)
{
    int64_t n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p += strlen(word))
        n++;
    return n;
}

/* Every interval that takes time is a rectangle; what a name contains cannot become markup. */
static void test_chart(void **state)
{
    (void)state;
    trial t;
    char path[] = "/tmp/pac-chart-XXXXXX", *svg;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    do {
        random_trial(&t);
        if (t.plan.stages < 2)
            done(&t);
    } while (t.plan.stages < 2);
    strcpy(t.x.device[0].name, "<a&b>\"\x01");
    strcpy(t.x.device[1].name, "a name that is much too long for its place");
    t.x.device[1].memory = 1;
    step(&t);
    must(pac_simulation_svg(&t.q, &t.s, path));
    must(pac_file_load(path, 1 << 24, &svg, NULL));
    int64_t intervals = 0;
    for (int64_t i = 0; i < t.s.events; i++)
        intervals += t.s.event[i].end > t.s.event[i].start;
    assert_int_equal(count(svg, "<title>"), intervals);
    assert_int_equal(count(svg, "<path class=\"over\""), 1);
    assert_int_equal(count(svg, "<path class=\"bytes\""), t.x.p.devices - 1);
    assert_int_equal(count(svg, "Simulated"), 1);
    assert_int_equal(count(svg, "&#60;a&#38;b&#62;&#34;?"), 1);
    assert_int_equal(count(svg, "nan"), 0);
    assert_int_equal(count(svg, "inf"), 0);
    assert_int_equal(strncmp(svg, "<svg ", 5), 0);
    assert_string_equal(svg + strlen(svg) - 7, "</svg>\n");
    pac_mem_free(svg);
    unlink(path);
    assert_int_equal(pac_simulation_svg(&t.q, &t.s, "/tmp/no such directory/chart.svg"), PAC_EIO);
    done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_timeline), cmocka_unit_test(test_random_plans),  cmocka_unit_test(test_slower_link),
        cmocka_unit_test(test_model_bytes),     cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_large),
        cmocka_unit_test(test_chart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
