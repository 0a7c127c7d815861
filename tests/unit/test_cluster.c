/*
 * Devices that are not here: cluster files say what they mean or are refused by line; the times that follow from shapes are
 * those of the operations that the model does, and no device gets slower by being faster.
 */
#include "hostile_file.h"
#include "pac/cluster.h"
#include "pac/estimate.h"

#include <sys/stat.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

/* Descriptions of devices are looked for there too. */
static int make_cluster_folder(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/cluster.yaml", folder);
    return setenv("PAC_DEVICES", folder, 1);
}

/* ---- reading ---- */

static const char good[] = "devices:\n"
                           "  - {name: nano, type: jetson-nano, count: 3, memory: 1.5 GiB}\n"
                           "  - {name: big, flops: 1.2 TFLOP/s, memory: 17179869184, memory_bandwidth: 60 GB/s, half_size: 8,\n"
                           "     launch: 5 us, disk_write: 200 MB/s, port: 100 Mbit/s}\n"
                           "network:\n"
                           "  topology: switch\n"
                           "  bandwidth: 1 Gbit/s\n"
                           "  latency: 200 us\n"
                           "  efficiency: 0.8\n"
                           "  links:\n"
                           "    - {between: [nano-0, nano-2], bandwidth: 2.5 Gbit/s}\n"
                           "    - {between: [nano-1, nano-2], latency: 1 ms}\n";

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * fabs(b)))
        fail_msg("%.12g is not %.12g", a, b);
}

static void a_cluster_file_says_what_it_means(void **state)
{
    pac_cluster c;
    (void)state;
    put(good, strlen(good));
    OK(pac_cluster_read(path, &c));
    assert_int_equal(c.devices, 4);
    assert_string_equal(c.machine[2].name, "nano-2");
    assert_string_equal(c.machine[2].type, "jetson-nano");
    near(c.machine[1].memory, 1.5 * 1073741824); /* over the type's */
    assert_true(c.machine[1].flops > 1e11);      /* the type's */
    assert_string_equal(c.machine[3].name, "big");
    near(c.machine[3].flops, 1.2e12);
    near(c.machine[3].flops_backward, 1.2e12);
    near(c.machine[3].memory, 17179869184.0);
    near(c.machine[3].launch, 5e-6);
    near(c.machine[3].half_size, 8);
    near(c.bandwidth[0 * 4 + 1], 1e8); /* 1 Gbit/s, of which 0.8 are payload */
    near(c.bandwidth[0 * 4 + 3], 1e7); /* big's own interface is the narrower one */
    near(c.bandwidth[2 * 4 + 0], 2.5e8);
    near(c.bandwidth[0 * 4 + 2], 2.5e8);
    near(c.latency[2 * 4 + 1], 1e-3);
    near(c.latency[0 * 4 + 2], 2e-4);
    near(c.port[0], 2.5e8);
    near(c.port[1], 1e8);
    near(c.port[3], 1e7);
    pac_cluster_free(&c);
}

/* A server at 10 Gbit/s takes from all its clients at once, each of which has 1 Gbit/s. */
static void a_port_may_be_wider_than_its_links(void **state)
{
    (void)state;
    static const char text[] = "devices:\n"
                               "  - {name: server, type: laptop, port: 10 Gbit/s}\n"
                               "  - {name: client, type: laptop, count: 3, port: 1 Gbit/s}\n"
                               "network: {bandwidth: 10 Gbit/s, latency: 0, efficiency: 0.5}\n";
    pac_cluster c;
    put(text, sizeof text - 1);
    OK(pac_cluster_read(path, &c));
    near(c.bandwidth[0 * 4 + 1], 0.5 * 1.25e8);
    near(c.port[0], 0.5 * 1.25e9);
    near(c.port[1], 0.5 * 1.25e8);
    pac_cluster_free(&c);
}

/* Cables between pairs say everything: nothing of the network as a whole is asked for, and no port is shared. */
static void cables_are_enough(void **state)
{
    (void)state;
    static const char text[] = "devices: [{name: a, type: laptop}, {name: b, type: laptop}, {name: c, type: laptop}]\n"
                               "network:\n"
                               "  topology: direct\n"
                               "  links:\n"
                               "    - {between: [a, b], bandwidth: 10 Gbit/s, latency: 50 us}\n"
                               "    - {between: [b, c], bandwidth: 1 Gbit/s, latency: 100 us}\n"
                               "    - {between: [c, a], bandwidth: 1 Gbit/s, latency: 0}\n";
    pac_cluster c;
    put(text, sizeof text - 1);
    OK(pac_cluster_read(path, &c));
    near(c.bandwidth[0 * 3 + 1], 1.25e9);
    near(c.bandwidth[2 * 3 + 1], 1.25e8);
    near(c.latency[1 * 3 + 2], 1e-4);
    assert_true(c.latency[2 * 3 + 0] == 0 && c.port[0] == 0);
    pac_cluster_free(&c);
}

static void descriptions_that_ship_are_whole(void **state)
{
    static const char *const types[] = {"jetson-nano",      "jetson-tx2", "jetson-xavier-nx",
                                        "jetson-orin-nano", "laptop",     "raspberry-pi-5"};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char text[128];
        pac_cluster c;
        snprintf(text, sizeof text, "devices: [{name: a, type: %s}]\n", types[i]);
        put(text, strlen(text));
        OK(pac_cluster_read(path, &c));
        assert_true(c.machine[0].peak >= c.machine[0].flops && c.machine[0].flops >= 0.3 * c.machine[0].peak);
        assert_true(c.machine[0].disk_write > 0 && c.machine[0].disk_read >= c.machine[0].disk_write);
        pac_cluster_free(&c);
    }
}

#define NANO "devices: [{name: a, type: jetson-nano}, {name: b, type: jetson-nano}]\n"

static void what_is_wrong_is_named_with_its_line(void **state)
{
    static const struct {
        const char *text, *word;
    } wrong[] = {
        {"devices: []\nnetwork: {bandwidth: 1e6, latency: 0}\n", "has 0 items"},
        {"devices: 7\n", "must be a list"},
        {"network: {bandwidth: 1e6, latency: 0}\n", "devices is missing"},
        {"devices: [{name: a, type: jetson-nano}]\nnetwrok: {}\n", ":2: unknown key 'netwrok'; did you mean 'network'?"},
        {"devices: [{name: a, tpye: jetson-nano}]\n", "did you mean 'type'?"},
        {"devices: [{name: a, type: jetson-nan}]\n", "did you mean 'jetson-nano'?"},
        {"devices: [{name: a, type: abacus-of-wood}]\n", "experiments/devices"},
        {"devices: [{name: a, type: cluster}]\n", "unknown key 'devices'"}, /* this file is no description */
        {"devices: [{name: a, type: ../../etc/passwd}]\n", "is not a name"},
        {"devices: [{name: a, type: [x]}]\n", "must be a text"},
        {"devices: [{type: jetson-nano}]\n", "name is missing"},
        {"devices: [{name: '', type: jetson-nano}]\n", "empty"},
        {"devices: [{name: a, flops: 1e9, memory: 1 GiB}]\n", "memory_bandwidth is missing"},
        {"devices: [{name: a, flops: fast, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n",
         "'fast' is not a quantity such as 1.28 TFLOP/s"},
        {"devices: [{name: a, flops: 1 GB/s, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'1 GB/s' is not a quantity"},
        {"devices: [{name: a, flops: 0x10, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'0x10' is not"},
        {"devices: [{name: a, flops: -1, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'-1' is not"},
        {"devices: [{name: a, flops: nan, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'nan' is not"},
        {"devices: [{name: a, flops: 1e400, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'1e400' is not"},
        {"devices: [{name: a, flops: 1e9 TFLOP/s, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n",
         "between 1 MFLOP/s and 10000 TFLOP/s;"},
        {"devices: [{name: a, flops: 0, memory: 1 GiB, memory_bandwidth: 1 GB/s}]\n", "'0' is not between 1 MFLOP/s and"},
        {"devices:\n  - name: a\n    flops: 192\n    memory: 1 GiB\n    memory_bandwidth: 1 GB/s\n",
         ":3: devices[0].flops: '192' is not between 1 MFLOP/s and 10000 TFLOP/s; check the unit (such as 1.28 TFLOP/s; "
         "without one "
         "it is FLOP/s)"},
        {"devices: [{name: a, flops: 1 GFLOP/s, memory: 16, memory_bandwidth: 1 GB/s}]\n",
         "devices[0].memory: '16' is not between 1 MiB and 100 TB;"},
        {"devices: [{name: a, type: jetson-nano, memory_bandwidth: 60}]\n", "memory_bandwidth: '60'"},
        {"devices: [{name: a, type: jetson-nano, launch: 15}]\n", "launch: '15' is not between 0 and 100 ms;"},
        {"devices: [{name: a, type: jetson-nano, overhead: 1}]\n", "overhead: '1' is not between 0 and 900 ms;"},
        {"devices: [{name: a, type: jetson-nano, disk_write: 20}]\n",
         "disk_write: '20' is not between 10 kB/s and 1 TB/s (or 0)"},
        {"devices: [{name: a, type: jetson-nano, disk_space: 32}]\n", "disk_space: '32'"},
        {"devices: [{name: a, type: jetson-nano, port: 1000}]\n", "port: '1000'"},
        {NANO "network: {bandwidth: 1 Gbit/s, latency: 300}\n",
         ":2: network.latency: '300' is not between 0 and 900 ms; check the unit (such as 200 us; without one it "
         "is seconds)"},
        {NANO "network: {bandwidth: 1000, latency: 0}\n", "network.bandwidth: '1000' is not between 20 kB/s and 10 TB/s;"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a, b], bandwidth: 2.5, latency: 0}]}\n",
         "links.bandwidth: '2.5'"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a, b], latency: 5}]}\n", "links.latency: '5'"},
        {NANO "network: {topology: direct}\n",
         ":2: network: the bandwidth between a and b is missing: give it in links, or network.bandwidth"},
        {NANO "network: {topology: direct, links: [{between: [a, b], bandwidth: 1e6}]}\n",
         "the latency between a and b is missing"},
        {"devices: [{name: a, type: jetson-nano, flops: 1 TFLOP/s}]\n", "above peak"},
        {"devices: [{name: a, type: jetson-nano, count: 0}]\n", "count"},
        {"devices: [{name: a, type: jetson-nano, count: 257}]\n", "count"},
        {"devices: [{name: a, type: jetson-nano, count: 256}, {name: b, type: jetson-nano}]\n", "more than 256"},
        {"devices: [{name: a, type: jetson-nano}, {name: a, type: jetson-nano}]\n", "two are called 'a'"},
        {"devices: [{name: a-0, type: jetson-nano}, {name: a, type: jetson-nano, count: 1}]\n", "two are called 'a-0'"},
        {NANO, "network is missing"},
        {NANO "network: fast\n", "must be a map"},
        {NANO "network: {latency: 1 ms}\n", "network.bandwidth is missing"},
        {NANO "network: {bandwidth: 1 Gbit/s}\n", "network.latency is missing"},
        {NANO "network: {bandwidth: 0, latency: 0}\n", "'0' is not between"},
        {NANO "network: {bandwidth: 1 Gbit, latency: 0}\n", ":2: network.bandwidth: '1 Gbit' is not a quantity"},
        {NANO "network: {topology: ring, bandwidth: 1e6, latency: 0}\n", "known: switch or direct"},
        {NANO "network: {bandwidth: 1e6, latency: 0, efficiency: 1.5}\n", "efficiency"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a, c], bandwidth: 1e6}]}\n", "no device is called 'c'"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a], bandwidth: 1e6}]}\n", "must have 2"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a, a], bandwidth: 1e6}]}\n", "no link to itself"},
        {NANO "network: {bandwidth: 1e6, latency: 0, links: [{between: [a, b], width: 1}]}\n", "unknown key"},
        {NANO "network:\n  bandwidth: 1e6\n  latency: 0\n  links:\n  - {between: [a, b], latency: 1 ms}\n"
              "  - {between: [b, a], bandwidth: 2e6}\n",
         ":7: between: b and a have a link in line 6 already"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pac_cluster c = {.devices = -7};
        int64_t blocks = pac_mem_blocks();
        put(wrong[i].text, strlen(wrong[i].text));
        assert_int_equal(pac_cluster_read(path, &c), PAC_ECONFIG);
        if (strstr(pac_err_message(), wrong[i].word) == NULL || strstr(pac_err_message(), "cluster.yaml:") == NULL)
            fail_msg("%s\nis answered by: %s", wrong[i].text, pac_err_message());
        assert_int_equal(c.devices, -7);
        assert_int_equal(pac_mem_blocks(), blocks);
    }
}

/* Every prefix of a good file, and the file with any byte changed: no crash, nothing left behind. */
static void damaged_files_end_in_an_error_or_a_cluster(void **state)
{
    char text[sizeof good];
    int64_t blocks = pac_mem_blocks();
    (void)state;
    for (size_t i = 0; i < 2 * strlen(good); i++) {
        pac_cluster c;
        bool cut = i < strlen(good);
        memcpy(text, good, sizeof good);
        if (!cut)
            text[i - strlen(good)] = (char)(1 + (37 * i) % 255);
        put(text, cut ? i : strlen(good));
        if (pac_cluster_read(path, &c) == PAC_OK) {
            assert_true(c.devices >= 1 && c.devices <= PAC_MAX_DEVICES);
            pac_cluster_free(&c);
        }
        assert_int_equal(pac_mem_blocks(), blocks);
    }
}

/* ---- a profile from shapes ---- */

static const char *const nothing[2];

/* With up to two more overrides. */
static pac_job *open_shape(const char *shape, const char *technique, const char *const more[2])
{
    static pac_config c; /* large */
    char model[64], name[64];
    const char *sets[] = {
        model,   name,   "task={name: tokens, train: none/}", "task.max_source=64", "task.max_target=4", "train.batch=8",
        more[0], more[1]};
    pac_job *job = NULL;
    snprintf(model, sizeof model, "model.path=shape:%s", shape);
    snprintf(name, sizeof name, "technique.name=%s", technique);
    OK(pac_config_read(NULL, sets, 6 + (more[0] != NULL) + (more[1] != NULL), &c));
    OK(pac_estimate_open(&c, &job));
    return job;
}

static bool plain_cross;

static void profile_on(pac_job *job, const char *machine, pac_profile *p)
{
    char text[512];
    snprintf(text, sizeof text, "devices: [{name: a, %s}]\nplain_cross: %s\n", machine, plain_cross ? "true" : "false");
    put(text, strlen(text));
    OK(pac_job_cluster_profile(job, path, p));
}

/* Seconds of all layers at the mini-batch. */
static double whole_pass(const pac_profile *p, int64_t batch, bool backward)
{
    const pac_cost_curve *c = p->device[0].cost;
    double sum = 0;
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        double times = 1, tokens = (double)batch * pac_cost_tokens((pac_cost_kind)k, p->source_tokens, p->target_tokens);
        if (k == PAC_COST_ENC_BLOCK || k == PAC_COST_ENC_SIDE)
            times = (double)p->layers_enc;
        if (k == PAC_COST_DEC_BLOCK || k == PAC_COST_DEC_SIDE)
            times = (double)p->layers_dec;
        sum += times * pac_cost_at(&c[k], tokens, backward);
    }
    return sum;
}

/* What an encoder-decoder saves whose decoder has one target row for each source: its cross-attention, all but some per cent.
 */
static void few_targets_need_no_keys(void **state)
{
    const char *machine = "flops: 1e6, memory: 1 GiB, memory_bandwidth: 1e15";
    pac_job *job = open_shape("t5-base", "full", nothing);
    pac_profile plain, ours;
    (void)state;
    plain_cross = true;
    profile_on(job, machine, &plain);
    plain_cross = false;
    profile_on(job, machine, &ours);
    double rows = 8 * plain.source_tokens, saved = 1e6 * (whole_pass(&plain, 8, false) - whole_pass(&ours, 8, false));
    double keys = 12 * 4 * rows * 768 * 768;
    if (!(saved > 0.85 * keys && saved < keys))
        fail_msg("%.4g of %.4g operations saved", saved, keys);
    pac_profile_free(&plain);
    pac_profile_free(&ours);
    pac_job_close(&job);
}

/*
 * A device of one operation a second on which nothing else takes time: its seconds are the model's operations, counted as
 * published.
 */
static void the_time_of_all_layers_is_the_models_flop(void **state)
{
    static const struct {
        const char *shape, *technique, *more[2];
    } rows[] = {{"t5-small", "parallel", {NULL}},
                {"t5-small", "full", {NULL}},
                {"t5-base", "lora", {NULL}},
                {"bart-base", "adapters", {NULL}},
                {"bert-base", "parallel", {"task.name=mrpc", "head=classification"}},
                {"bart-base", "parallel", {"technique.merge=add"}},
                {"t5-small", "full", {"train.recompute=true"}}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        pac_job *job = open_shape(rows[i].shape, rows[i].technique, rows[i].more);
        pac_estimate e;
        pac_profile p;
        OK(pac_estimate_run(job, NULL, false, &e));
        plain_cross = true;
        profile_on(job, "flops: 1e6, memory: 1 GiB, memory_bandwidth: 1e15", &p);
        plain_cross = false;
        double flop = e.one.flop.forward + e.one.flop.backward, seconds = whole_pass(&p, 8, false) + whole_pass(&p, 8, true);
        if (!(fabs(1e6 * seconds - flop) < 1e-6 * flop))
            fail_msg("%s %s: %.9g seconds for %.9g operations", rows[i].shape, rows[i].technique, seconds, flop);
        pac_profile_free(&p);
        pac_estimate_free(&e);
        pac_job_close(&job);
    }
}

static void times_follow_rates_and_bandwidth(void **state)
{
    pac_job *job = open_shape("t5-small", "parallel", nothing);
    pac_profile one, two, narrow, started;
    (void)state;
    profile_on(job, "flops: 1e9, memory: 1 GiB, memory_bandwidth: 1e15", &one);
    profile_on(job, "flops: 2e9, memory: 1 GiB, memory_bandwidth: 1e15", &two);
    near(whole_pass(&two, 8, false), whole_pass(&one, 8, false) / 2);
    near(whole_pass(&two, 8, true), whole_pass(&one, 8, true) / 2);
    profile_on(job, "flops: 1e16, memory: 1 GiB, memory_bandwidth: 1e9", &narrow);
    assert_true(narrow.device[0].cost[PAC_COST_ENC_EMBED].fwd[0] > 0); /* no operations, but bytes */
    assert_true(narrow.device[0].update > 1e-9 && narrow.device[0].update < 2e-8);
    profile_on(job, "flops: 1e16, memory: 1 GiB, memory_bandwidth: 1e15, launch: 0.1, block_overhead: 0.9", &started);
    double ops = started.device[0].cost[PAC_COST_ENC_BLOCK].fwd[0] * 10 - 9;
    if (!(ops > 8 && ops < 60)) /* of a block with two sublayers */
        fail_msg("a block of %g operations", ops);
    pac_profile_free(&one);
    pac_profile_free(&two);
    pac_profile_free(&narrow);
    pac_profile_free(&started);
    pac_job_close(&job);
}

static void assert_no_slower(const pac_profile *fast, const pac_profile *slow)
{
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        for (int64_t i = 0; i < slow->device[0].cost[k].points; i++) {
            assert_true(fast->device[0].cost[k].fwd[i] <= slow->device[0].cost[k].fwd[i]);
            assert_true(fast->device[0].cost[k].bwd[i] <= slow->device[0].cost[k].bwd[i]);
        }
}

static void a_faster_device_is_never_slower(void **state)
{
    static const char *const better[] = {
        "flops: 2e11, memory: 1 GiB, memory_bandwidth: 1e10, launch: 1 us, half_size: 50",
        "flops: 1e11, memory: 1 GiB, memory_bandwidth: 2e10, launch: 1 us, half_size: 50",
        "flops: 1e11, memory: 1 GiB, memory_bandwidth: 1e10, half_size: 50",
        "flops: 1e11, memory: 1 GiB, memory_bandwidth: 1e10, launch: 1 us, half_size: 5",
    };
    pac_job *job = open_shape("bart-base", "parallel", nothing);
    pac_profile base, p;
    (void)state;
    profile_on(job, "flops: 1e11, memory: 1 GiB, memory_bandwidth: 1e10, launch: 1 us, half_size: 50", &base);
    for (size_t i = 0; i < sizeof better / sizeof better[0]; i++) {
        profile_on(job, better[i], &p);
        assert_no_slower(&p, &base);
        assert_true(whole_pass(&p, 8, false) < whole_pass(&base, 8, false));
        pac_profile_free(&p);
    }
    pac_profile_free(&base);
    pac_job_close(&job);
}

/* A product as small as half_size runs at half its rate, a much larger one at nearly all of it. */
static void small_products_are_slower(void **state)
{
    pac_machine m = {.flops = 1e9, .flops_backward = 2e9, .memory_bandwidth = 1e18, .half_size = 16};
    pac_work small = {0}, large = {0};
    (void)state;
    OK(pac_work_add(&small, 1e9, 0, 16, 1));
    OK(pac_work_add(&large, 1e9, 0, 1 << 20, 1));
    near(pac_work_time(&m, &small, false), 2);
    near(pac_work_time(&m, &small, true), 1);
    assert_true(pac_work_time(&m, &large, false) < 1.0001);
    pac_work_free(&small);
    pac_work_free(&large);
}

/* More tokens take longer, and twice the tokens at most twice as long: what is fixed is paid once. */
static void curves_rise_below_proportion(void **state)
{
    pac_job *job = open_shape("t5-base", "full", nothing);
    pac_profile p;
    (void)state;
    profile_on(job, "type: jetson-nano", &p);
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        const pac_cost_curve *c = &p.device[0].cost[k];
        for (int64_t i = 1; i < c->points; i++) {
            assert_true(c->tokens[i] > c->tokens[i - 1]);
            assert_true(c->fwd[i] > c->fwd[i - 1] && c->fwd[i] <= 1.0001 * c->fwd[i - 1] * c->tokens[i] / c->tokens[i - 1]);
        }
    }
    pac_profile_free(&p);
    pac_job_close(&job);
}

/* ---- bytes ---- */

static double activations(const pac_profile *p)
{
    double sum = 0;
    for (int64_t l = 0; l < p->layers_enc + p->layers_dec; l++)
        sum += p->layer[l].activations;
    return sum;
}

/* What the layers keep, one at a time, is what the whole model keeps. */
static void bytes_of_layers_sum_to_the_ledgers(void **state)
{
    static const char *const technique[] = {"parallel", "full", "lora", "adapters"};
    (void)state;
    for (size_t i = 0; i < sizeof technique / sizeof technique[0]; i++) {
        pac_job *job = open_shape("t5-small", technique[i], nothing);
        pac_estimate e;
        pac_profile p;
        OK(pac_estimate_run(job, NULL, false, &e));
        profile_on(job, "flops: 1e6, memory: 1 GiB, memory_bandwidth: 1e15", &p);
        double ours = 8 * activations(&p), ledger = (double)e.one.step.tag[PAC_MEM_ACTIVATIONS];
        if (!(fabs(ours - ledger) < 0.05 * ledger))
            fail_msg("%s: layers keep %.0f bytes, the ledger says %.0f", technique[i], ours, ledger);
        assert_true(p.fixed > 0);
        pac_profile_free(&p);
        pac_estimate_free(&e);
        pac_job_close(&job);
    }
}

/* The k-th allocation fails (arenas survive some of that): an error or a profile, and nothing is kept. */
static void out_of_memory_leaves_nothing_behind(void **state)
{
    static const char *const more[2] = {"task.name=mrpc", "head=classification"};
    static const char two[] = "devices: [{name: a, type: laptop, count: 2}]\nnetwork: {bandwidth: 1 Gbit/s, latency: 0}\n";
    pac_job *job = open_shape("bert-tiny", "parallel", more);
    int64_t blocks = pac_mem_blocks(), failed = 0, last = 0;
    (void)state;
    put(two, strlen(two));
    for (int64_t k = 1; k < 6000; k += 1 + k / 50) {
        pac_profile p = {.devices = -7};
        pac_mem_fail_at(k);
        pac_err err = pac_job_cluster_profile(job, path, &p);
        pac_mem_fail_at(0);
        if (err == PAC_OK)
            pac_profile_free(&p);
        else
            assert_int_equal(err, PAC_ENOMEM);
        failed += err != PAC_OK;
        last = err != PAC_OK ? k : last;
        assert_int_equal(pac_mem_blocks(), blocks);
    }
    if (!(failed > 100 && last < 5900))
        fail_msg("%lld failures, the last at allocation %lld", (long long)failed, (long long)last);
    pac_job_close(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_file_says_what_it_means),
        cmocka_unit_test(a_port_may_be_wider_than_its_links),
        cmocka_unit_test(cables_are_enough),
        cmocka_unit_test(descriptions_that_ship_are_whole),
        cmocka_unit_test(what_is_wrong_is_named_with_its_line),
        cmocka_unit_test(damaged_files_end_in_an_error_or_a_cluster),
        cmocka_unit_test(few_targets_need_no_keys),
        cmocka_unit_test(the_time_of_all_layers_is_the_models_flop),
        cmocka_unit_test(times_follow_rates_and_bandwidth),
        cmocka_unit_test(a_faster_device_is_never_slower),
        cmocka_unit_test(small_products_are_slower),
        cmocka_unit_test(curves_rise_below_proportion),
        cmocka_unit_test(bytes_of_layers_sum_to_the_ledgers),
        cmocka_unit_test(out_of_memory_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, make_cluster_folder, remove_folder);
}
