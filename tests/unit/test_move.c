/* The redistribution by hand, and against messages that share a network. */
#include "sim_trial.h"

#include "../../planner/move.h"
#include "../../planner/network.h"

enum { MANY = 6 };
static const int64_t device[MANY] = {0, 1, 2, 3, 4, 5};

/* Rounds are of 4 MiB, so these bytes are one round; an agreement of 3 devices takes two latencies. */
static void test_by_hand(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 3);
    pac_move m = {.n = 3, .device = device, .held = (double[]){300, 100, 100}, .learnt = 50};
    x.p.optimizer_states = 2;
    double learnt = 2 * 50 * 3 / 100.0; /* two levels of a tree, with two moments */
    near(pac_move_seconds(&x.p, &m), 3 + learnt);
    set_links(&x, 100, 0, 100); /* through ports: everybody's first 100 to two others, then 200 more of device 0's */
    near(pac_move_seconds(&x.p, &m), 2 + 4 + learnt);
    set_links(&x, 100, 0.5, 0);
    near(pac_move_seconds(&x.p, &m), 3 + 0.5 + 2 * 2 * 0.5 + learnt + 2 * 0.5); /* messages, two agreements, the tree */
    set_links(&x, 100, 0, 0);
    x.device[1].disk_write = 10;
    near(pac_move_seconds(&x.p, &m), 3 + learnt + (500 - 100) / 10.0);
    m.n = 1;
    near(pac_move_seconds(&x.p, &m), 0);
}

/* Rank r exchanges with r + 1, then with r + 2; a port has one message at a time. */
static void test_shard_by_hand(void **state)
{
    (void)state;
    fixture x;
    plain(&x, 2, 3);
    pac_move m = {.n = 3, .device = device, .held = (double[]){400, 400, 400}, .share = (double[]){0.5, 0.25, 0.25}};
    near(pac_move_seconds(&x.p, &m), 2 + 2);
    x.p.bandwidth[0 * 3 + 2] = 10; /* second exchange: 100 bytes at 10 bytes/s, its first took 2 s from device 2 */
    near(pac_move_seconds(&x.p, &m), 2 + 10);
    x.device[2].port = 5; /* first 200 to 0, 100 from 1 meanwhile; then 100 both ways */
    near(pac_move_seconds(&x.p, &m), 40 + 20);
    x.device[2].port = 0;
    x.device[0].disk_write = 8;
    near(pac_move_seconds(&x.p, &m), 2 + 10 + 800 * 0.5 / 8);
}

/* Equal pieces that are all sent at once take as long as on the simulated network, whatever the ports. */
static void test_equals_the_network(void **state)
{
    (void)state;
    for (int t = 0; t < 50; t++) {
        fixture x;
        int64_t n = integer(2, MANY);
        double held[MANY], bytes = uniform(10, 1000);
        plain(&x, 2, n);
        set_links(&x, uniform(10, 500), 0, integer(0, 1) ? uniform(10, 500) : 0);
        pac_network net;
        pac_flow f;
        must(pac_network_open(&x.p, &net));
        for (int64_t i = 0; i < n; i++) {
            held[i] = bytes;
            for (int64_t k = 0; k < n; k++)
                if (i != k)
                    must(pac_network_send(&net, &(pac_flow){.from = i, .to = k, .bytes = bytes}));
        }
        while (net.flows > 0) {
            must(pac_network_advance(&net, pac_network_next(&net)));
            while (pac_network_take(&net, &f))
                ;
        }
        near(pac_move_seconds(&x.p, &(pac_move){.n = n, .device = device, .held = held}), net.now);
        pac_network_close(&net);
    }
}

/* More bytes or slower links never take less; many rounds cost a latency each. */
static void test_monotone(void **state)
{
    (void)state;
    for (int t = 0; t < 200; t++) {
        fixture x;
        int64_t n = integer(2, MANY), worse = integer(0, n - 1);
        double held[MANY], share[MANY];
        randomise(&x, 2, n);
        for (int64_t i = 0; i < n; i++) {
            held[i] = uniform(0, 1000);
            share[i] = 1.0 / (double)n;
        }
        pac_move m = {.n = n, .device = device, .held = held, .share = t % 2 ? share : NULL, .learnt = 10};
        double before = pac_move_seconds(&x.p, &m);
        held[worse] *= 1.5;
        double more = pac_move_seconds(&x.p, &m);
        assert_true(before > 0 && more >= before * (1 - 1e-12));
        x.p.latency[worse * n + (worse + 1) % n] += 1;
        x.p.bandwidth[worse * n + (worse + 1) % n] /= 2;
        assert_true(pac_move_seconds(&x.p, &m) > more);
    }
    fixture x;
    plain(&x, 2, 2);
    set_links(&x, 1e12, 1, 0);
    double held[2] = {10.0 * PAC_REDISTRIBUTE_BLOCK, 1};
    near(round(pac_move_seconds(&x.p, &(pac_move){.n = 2, .device = device, .held = held})), 10 + 11 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_shard_by_hand),
        cmocka_unit_test(test_equals_the_network),
        cmocka_unit_test(test_monotone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
