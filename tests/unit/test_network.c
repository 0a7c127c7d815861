/* Messages that share pairs and ports: moments that can be computed by hand, and max-min fairness of random ones. */
#include "../../planner/network.h"
#include "../../planner/ring.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_D = 6, MAX_FLOWS = 40 };

typedef struct fixture {
    pac_profile p;
    pac_device device[MAX_D];
    double bandwidth[MAX_D * MAX_D], latency[MAX_D * MAX_D];
} fixture;

/* Pairs of 100 bytes/s, no latency, no ports. */
static void plain(fixture *x, int64_t devices)
{
    memset(x, 0, sizeof *x);
    x->p = (pac_profile){.devices = devices, .device = x->device, .bandwidth = x->bandwidth, .latency = x->latency};
    for (int i = 0; i < MAX_D * MAX_D; i++)
        x->bandwidth[i] = 100;
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

static void must(pac_err err)
{
    if (err != PAC_OK)
        fail_msg("%s", pac_err_message());
}

/* Send all at 0; arrival of each, in order of sending. */
static void run(const fixture *x, const pac_flow *f, int64_t n, double *arrival)
{
    pac_network net;
    pac_flow got;
    int64_t arrived = 0;
    must(pac_network_open(&x->p, &net));
    for (int64_t i = 0; i < n; i++) {
        pac_flow one = f[i];
        one.m = i;
        must(pac_network_send(&net, &one));
    }
    while (isfinite(pac_network_next(&net))) {
        must(pac_network_advance(&net, pac_network_next(&net)));
        while (pac_network_take(&net, &got)) {
            arrival[got.m] = got.end;
            assert_true(got.start == 0 && got.from == f[got.m].from && got.to == f[got.m].to && got.bytes == f[got.m].bytes);
            arrived++;
        }
    }
    assert_int_equal(arrived, n);
    assert_int_equal(net.flows, 0);
    pac_network_close(&net);
}

static void test_alone(void **state)
{
    (void)state;
    fixture x;
    double t[1];
    plain(&x, 2);
    x.latency[0 * 2 + 1] = 0.5;
    run(&x, &(pac_flow){.from = 0, .to = 1, .bytes = 200}, 1, t);
    near(t[0], 2.5);
}

/* The second flows when the first has arrived; its latency passed meanwhile. */
static void test_one_pair(void **state)
{
    (void)state;
    fixture x;
    double t[2];
    plain(&x, 2);
    x.latency[0 * 2 + 1] = 0.5;
    run(&x, (pac_flow[]){{.from = 0, .to = 1, .bytes = 200}, {.from = 0, .to = 1, .bytes = 100}}, 2, t);
    near(t[0], 2.5);
    near(t[1], 3.5);
}

static void test_two_through_one_port(void **state)
{
    (void)state;
    fixture x;
    double t[2];
    plain(&x, 3);
    const pac_flow out[] = {{.from = 0, .to = 1, .bytes = 200}, {.from = 0, .to = 2, .bytes = 200}};
    const pac_flow in[] = {{.from = 1, .to = 0, .bytes = 200}, {.from = 2, .to = 0, .bytes = 200}};
    const pac_flow both[] = {{.from = 0, .to = 1, .bytes = 200}, {.from = 1, .to = 0, .bytes = 200}};
    run(&x, out, 2, t);
    near(t[0], 2); /* no port: pairs do not disturb one another */
    x.device[0].port = 100;
    run(&x, out, 2, t);
    near(t[0], 4);
    near(t[1], 4);
    run(&x, in, 2, t);
    near(t[0], 4);
    near(t[1], 4);
    run(&x, both, 2, t); /* full duplex */
    near(t[0], 2);
    near(t[1], 2);
}

/* What a slow pair leaves of its port is shared by the others; what an ended one leaves goes to those that flow on. */
static void test_rest_of_a_port(void **state)
{
    (void)state;
    fixture x;
    double t[3];
    plain(&x, 4);
    x.device[0].port = 100;
    x.bandwidth[0 * 4 + 1] = 20;
    const pac_flow f[] = {
        {.from = 0, .to = 1, .bytes = 20}, {.from = 0, .to = 2, .bytes = 40}, {.from = 0, .to = 3, .bytes = 140}};
    run(&x, f, 3, t);
    near(t[0], 1); /* 20, 40 and 40 bytes/s */
    near(t[1], 1);
    near(t[2], 2); /* 40 in the first second, then the whole port */
}

static uint64_t draws;

static int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(5, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

/* Sum and greatest of the rates that use a port. */
static void use_of(const pac_network *n, int64_t device, bool out, double *sum, double *most)
{
    *sum = *most = 0;
    for (int64_t i = 0; i < n->flows; i++)
        if (n->flow[i].flows && (out ? n->flow[i].from : n->flow[i].to) == device) {
            *sum += n->flow[i].rate;
            *most = fmax(*most, n->flow[i].rate);
        }
}

static bool is_bottleneck(const pac_network *n, int64_t device, bool out, double rate)
{
    double sum, most, port = n->p->device[device].port;
    use_of(n, device, out, &sum, &most);
    assert_true(port == 0 || sum <= port * (1 + 1e-6));
    return port > 0 && sum >= port * (1 - 1e-6) && rate >= most * (1 - 1e-6);
}

/* Rates are max-min fair if and only if each flow has a full resource of which nobody gets more (Bertsekas & Gallager). */
static void check_fair(const pac_network *n)
{
    for (int64_t i = 0; i < n->flows; i++) {
        const pac_flow *f = &n->flow[i];
        if (!f->flows)
            continue;
        double pair = n->p->bandwidth[f->from * n->p->devices + f->to];
        bool out = is_bottleneck(n, f->from, true, f->rate), in = is_bottleneck(n, f->to, false, f->rate);
        assert_true(f->rate > 0 && f->rate <= pair * (1 + 1e-6));
        assert_true(out || in || f->rate >= pair * (1 - 1e-6));
    }
}

static void test_fair(void **state)
{
    (void)state;
    for (int t = 0; t < 300; t++) {
        fixture x;
        pac_network net;
        pac_flow got;
        double sent = 0, arrived = 0;
        plain(&x, integer(2, MAX_D));
        for (int64_t d = 0; d < x.p.devices; d++)
            x.device[d].port = (double)integer(0, 3) * 50;
        for (int64_t i = 0; i < x.p.devices * x.p.devices; i++) {
            x.bandwidth[i] = (double)integer(10, 200);
            x.latency[i] = (double)integer(0, 3) / 10;
        }
        must(pac_network_open(&x.p, &net));
        for (int64_t i = integer(1, MAX_FLOWS); i > 0; i--) {
            int64_t from = integer(0, x.p.devices - 1), to = integer(0, x.p.devices - 2);
            pac_flow f = {.from = from, .to = to + (to >= from), .bytes = (double)integer(1, 500)};
            sent += f.bytes;
            must(pac_network_send(&net, &f));
        }
        while (net.flows > 0) {
            double next = pac_network_next(&net);
            check_fair(&net);
            must(pac_network_advance(&net, next));
            while (pac_network_take(&net, &got))
                arrived += got.bytes;
        }
        near(sent, arrived);
        pac_network_close(&net);
    }
}

/* 2 (n - 1) rounds of a piece each, all pairs at once. */
static void test_ring(void **state)
{
    (void)state;
    fixture x;
    pac_ring r;
    const int64_t device[] = {2, 0, 3, 1};
    double t;
    plain(&x, 4);
    for (int i = 0; i < MAX_D * MAX_D; i++)
        x.latency[i] = 0.25;
    must(pac_ring_open(4, device, 200, &r));
    must(pac_ring_seconds(&x.p, &r, &t));
    near(t, 6 * (0.25 + 0.5));
    pac_ring_close(&r);
    for (int d = 0; d < 4; d++)
        x.device[d].port = 100; /* one part in, one out: full duplex disturbs no one */
    must(pac_ring_open(4, device, 200, &r));
    must(pac_ring_seconds(&x.p, &r, &t));
    near(t, 6 * (0.25 + 0.5));
    pac_ring_close(&r);
}

/* A slow pair has to carry a piece in every round; the others hide behind it. */
static void test_ring_slow_pair(void **state)
{
    (void)state;
    fixture x;
    pac_ring r;
    double t;
    plain(&x, 3);
    x.bandwidth[1 * 3 + 2] = 10;
    must(pac_ring_open(3, (const int64_t[]){0, 1, 2}, 60, &r));
    must(pac_ring_seconds(&x.p, &r, &t));
    near(t, 4 * 2);
    pac_ring_close(&r);
}

static void test_refuses(void **state)
{
    (void)state;
    fixture x;
    pac_network net;
    plain(&x, 2);
    must(pac_network_open(&x.p, &net));
    assert_int_equal(pac_network_send(&net, &(pac_flow){.from = 1, .to = 1, .bytes = 1}), PAC_EINVAL);
    assert_int_equal(pac_network_send(&net, &(pac_flow){.from = 1, .to = 0, .bytes = 0}), PAC_EINVAL);
    x.bandwidth[1 * 2 + 0] = 0;
    assert_int_equal(pac_network_send(&net, &(pac_flow){.from = 1, .to = 0, .bytes = 1}), PAC_EINVAL);
    assert_true(isinf(pac_network_next(&net)));
    pac_network_close(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),   cmocka_unit_test(test_one_pair),       cmocka_unit_test(test_two_through_one_port),
        cmocka_unit_test(test_fair),    cmocka_unit_test(test_rest_of_a_port), cmocka_unit_test(test_ring),
        cmocka_unit_test(test_refuses), cmocka_unit_test(test_ring_slow_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
