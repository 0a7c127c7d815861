/* Profile files: what is written reads back, and whatever else is there is refused by line; times between measured points. */
#include "hostile_file.h"

static pac_profile random_profile(int64_t enc, int64_t dec, int64_t devices)
{
    int64_t L = enc + dec;
    pac_profile p = {.layers_enc = enc,
                     .layers_dec = dec,
                     .source_tokens = uniform(1, 99),
                     .target_tokens = 2.5,
                     .optimizer_states = 2,
                     .devices = devices,
                     .cached_step_bytes_read = 123456,
                     .fixed = 98765,
                     .cached_fixed = 7654321,
                     .cached_sample = uniform(0, 1e6)};
    strcpy(p.model, "a \"model\"\\ of\ttwo\nlines: #é");
    strcpy(p.technique, "parallel");
    strcpy(p.optimizer, "adamw");
    void *v[6];
    const size_t size[6] = {sizeof(pac_layer_bytes), 8, 8, sizeof(pac_device), 8, 8};
    const int64_t count[6] = {L, L + 1, L + 1, devices, devices * devices, devices * devices};
    for (int i = 0; i < 6; i++)
        assert_int_equal(pac_mem_array(PAC_MEM_OTHER, count[i], size[i], &v[i]), PAC_OK);
    p.layer = v[0], p.boundary_fwd = v[1], p.boundary_bwd = v[2], p.device = v[3], p.bandwidth = v[4], p.latency = v[5];
    for (int64_t l = 0; l < L; l++) {
        p.layer[l] = (pac_layer_bytes){
            .weights = (double)integer(0, 1LL << 31), .tuned = (double)integer(0, 1 << 20), .activations = uniform(1, 1e6)};
        p.layer[l].work = l % 2 == 0 ? 0 : uniform(1, 1e5);
        p.layer[l].shared_tuned = l % 3 == 0 ? floor(p.layer[l].tuned / 2) : 0;
        p.layer[l].shared = l % 2 == 0 ? floor(p.layer[l].weights / 2) : 0;
        p.boundary_fwd[l] = uniform(1, 1e7);
        p.boundary_bwd[l] = uniform(1, 1e7);
    }
    for (int64_t d = 0; d < devices; d++) {
        snprintf(p.device[d].name, sizeof p.device[d].name, "host-%d:%d", (int)d / 2, (int)d);
        p.device[d].memory = (double)integer(1 << 20, 1LL << 40);
        snprintf(p.device[d].interface, sizeof p.device[d].interface, "%s", d % 3 == 0 ? "" : "eth0: \"#\"");
        p.device[d].disk_read = uniform(0, 1e9);
        p.device[d].disk_space = (double)integer(0, 1LL << 40);
        p.device[d].port = d % 2 == 0 ? 0 : 125e6;
        p.device[d].update = uniform(0, 1e-9);
        p.device[d].overhead = uniform(0, 1e-3);
        for (int k = 0; k < PAC_COST_NKINDS; k++) {
            if (dec == 0 && (k == PAC_COST_DEC_BLOCK || k == PAC_COST_DEC_SIDE || k == PAC_COST_DEC_EMBED))
                continue;
            pac_cost_curve *c = &p.device[d].cost[k];
            c->points = integer(1, PAC_MAX_POINTS);
            c->spread = k % 2 == 0 ? 0 : uniform(0, 3);
            for (int64_t i = 0; i < c->points; i++) {
                c->tokens[i] = (double)(i + 1);
                c->fwd[i] = uniform(1e-6, 1);
                c->bwd[i] = k % 2 == 0 ? 0 : uniform(1e-6, 1);
            }
        }
    }
    for (int64_t i = 0; i < devices * devices; i++) {
        bool diagonal = i / devices == i % devices;
        p.bandwidth[i] = diagonal ? 0 : uniform(1e6, 1e9);
        p.latency[i] = diagonal ? 0 : uniform(1e-6, 1e-3);
    }
    return p;
}

static void close_to(const double *a, const double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(fabs(a[i] - b[i]) <= 1e-6 * fabs(a[i]));
}

static void same_profile(const pac_profile *a, const pac_profile *b)
{
    int64_t L = a->layers_enc + a->layers_dec;
    assert_string_equal(a->model, b->model);
    assert_string_equal(a->technique, b->technique);
    assert_string_equal(a->optimizer, b->optimizer);
    assert_true(a->layers_enc == b->layers_enc && a->layers_dec == b->layers_dec && a->devices == b->devices);
    const double x[] = {a->source_tokens, a->target_tokens, a->optimizer_states, a->cached_step_bytes_read,
                        a->fixed,         a->cached_fixed,  a->cached_sample};
    const double y[] = {b->source_tokens, b->target_tokens, b->optimizer_states, b->cached_step_bytes_read,
                        b->fixed,         b->cached_fixed,  b->cached_sample};
    close_to(x, y, 7);
    close_to((const double *)a->layer, (const double *)b->layer, L * (int64_t)(sizeof *a->layer / sizeof(double)));
    close_to(a->boundary_fwd, b->boundary_fwd, L + 1);
    close_to(a->boundary_bwd, b->boundary_bwd, L + 1);
    close_to(a->bandwidth, b->bandwidth, a->devices * a->devices);
    close_to(a->latency, b->latency, a->devices * a->devices);
    for (int64_t d = 0; d < a->devices; d++) {
        const pac_device *s = &a->device[d], *t = &b->device[d];
        assert_string_equal(s->name, t->name);
        assert_true(s->memory == t->memory);
        assert_string_equal(s->interface, t->interface);
        const double u[] = {s->disk_read, s->disk_space, s->port, s->update, s->overhead};
        const double v[] = {t->disk_read, t->disk_space, t->port, t->update, t->overhead};
        close_to(u, v, 5);
        for (int k = 0; k < PAC_COST_NKINDS; k++) {
            assert_int_equal(s->cost[k].points, t->cost[k].points);
            close_to(&s->cost[k].spread, &t->cost[k].spread, 1);
            close_to(s->cost[k].tokens, t->cost[k].tokens, s->cost[k].points);
            close_to(s->cost[k].fwd, t->cost[k].fwd, s->cost[k].points);
            close_to(s->cost[k].bwd, t->cost[k].bwd, s->cost[k].points);
        }
    }
}

/* Values come back within seven digits, and the file of what was read is the same file. */
static void test_profiles_read_back(void **state)
{
    (void)state;
    static char first[1 << 20], second[1 << 20];
    for (int t = 0; t < 40; t++) {
        pac_profile a = random_profile(integer(1, 12), t % 4 == 0 ? 0 : integer(1, 12), integer(1, 10)), b;
        assert_int_equal(pac_profile_write(&a, path), PAC_OK);
        if (pac_profile_read(path, &b) != PAC_OK)
            fail_msg("%s", pac_err_message());
        same_profile(&a, &b);
        get(path, first, sizeof first);
        assert_int_equal(pac_profile_write(&b, path), PAC_OK);
        get(path, second, sizeof second);
        assert_string_equal(first, second);
        pac_profile_free(&a);
        pac_profile_free(&b);
    }
}

#define HEAD   "model: m\ntechnique: parallel\noptimizer: sgd\noptimizer_states: 0\ncached_bytes: 10\n"
#define LAYERS "layers: {encoder: 1, decoder: 0}\ntokens: {source: 3, target: 1}\nbytes:\n"
#define SHAPE  LAYERS "  - {weights: 1, tuned: 1, activations: 1}\n"
#define CROSS  "boundary: {forward: [0, 0], backward: [0, 0]}\ndevices:\n"
#define TIMES  "times: {encoder_block: {tokens: [1, 2], forward: [1, 2], backward: [0, 0]}}"
#define DEVICE "  - {name: a, memory: 1 MiB, disk_write: 0, disk_read: 0, " TIMES "}\n"
#define LINKS  "bandwidth: [[0, 1e9], [1e9, 0]]\nlatency: [[0, 1], [1, 0]]\n"

static pac_err read_and_free_profile(const char *from)
{
    pac_profile p;
    PAC_TRY(pac_profile_read(from, &p));
    pac_profile_free(&p);
    return PAC_OK;
}

static void test_a_short_profile_by_hand(void **state)
{
    (void)state;
    const char *text = HEAD SHAPE CROSS DEVICE DEVICE LINKS;
    put(text, strlen(text));
    pac_profile p;
    if (pac_profile_read(path, &p) != PAC_OK)
        fail_msg("%s", pac_err_message());
    assert_true(p.devices == 2 && p.device[1].memory == 1048576 && p.bandwidth[1] == 1e9);
    assert_int_equal(p.device[0].cost[PAC_COST_HEAD].points, 0);
    pac_profile_free(&p);
}

static void test_wrong_profiles_are_refused(void **state)
{
    (void)state;
#define WITH_TIMES(t)  HEAD SHAPE CROSS DEVICE "  - {name: a, memory: 1, disk_write: 0, disk_read: 0, times: {" t "}}\n" LINKS
#define CURVE(b, f, g) WITH_TIMES("encoder_block: {tokens: [" b "], forward: [" f "], backward: [" g "]}")
    static const struct {
        const char *text, *line, *what;
    } bad[] = {
        {"model: m\n", "1", "technique is missing"},
        {HEAD "layers: {encoder: 0, decoder: 0}\ntokens: {source: 3, target: 1}\n", "6", "none"},
        {HEAD "layers: {encoder: -1, decoder: 0}\n", "6", "encoder"},
        {HEAD "layers: {encoder: 999999999, decoder: 0}\n", "6", "encoder"},
        {HEAD SHAPE "boundary: {forward: [0], backward: [0, 0]}\ndevices: [1]\n", "10", "1 items, must have 2"},
        {HEAD SHAPE CROSS "  []\n" LINKS, "12", "0 items"},
        {HEAD SHAPE CROSS "  - 1\n" LINKS, "12", "map"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 0], [1, 0]]\nlatency: [[0, 1], [1, 0]]\n", "14", "from 0 to 1"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 1], [1, 0]]\nlatency: [[0, 1], [1]]\n", "15", "must have 2"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 1], [1, 0]]\nlatency: [[0, -1], [1, 0]]\n", "15", "latency"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 1e300], [1, 0]]\nlatency: [[0, 1], [1, 0]]\n", "14", "bandwidth"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 1]]\nlatency: [[0, 1], [1, 0]]\n", "14", "must have 2"},
        {HEAD SHAPE CROSS DEVICE DEVICE "bandwidth: [[0, 1], [1, 0]]\nlatency: [[0, 300], [1, 0]]\n", "15",
         "latency (seconds): 300"},
        {HEAD "layers: {encoder: 1, decoder: 0}\ntokens: {source: 0, target: 1}\n", "7", "tokens.source: 0 is"},
        {HEAD SHAPE CROSS DEVICE DEVICE, "1", "bandwidth is missing"},
        {CURVE("2, 1", "1, 1", "1, 1"), "13", "must increase"},
        {CURVE("0, 1", "1, 1", "1, 1"), "13", "above 0"},
        {CURVE("1, 2", "1", "1, 1"), "13", "must have 2"},
        {CURVE("1, 2", "1, -1", "1, 1"), "13", "forward"},
        {CURVE("", "", ""), "13", "0 items"},
        {CURVE("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "1", "1"), "13", "17 items"},
        {WITH_TIMES("head: {tokens: [1], forward: [1], backward: [1]}"), "13", "encoder_block is missing"},
        {WITH_TIMES("encoder_bloc: {tokens: [1], forward: [1], backward: [1]}"), "13", "encoder_block"},
        {CURVE("1, 2", "1, 1", "1, 1], spread: [-1"), "13", "spread"},
        {HEAD "fixed: -1\n", "6", "fixed"},
        {HEAD "cached_fixed: 1e19\n", "6", "cached_fixed"},
        {HEAD "cached_sample: many\n", "6", "cached_sample"},
        {HEAD LAYERS "  - {weights: 1, tuned: 1, activations: 1, work: -1}\n" CROSS DEVICE LINKS, "9", "work"},
        {HEAD LAYERS "  - {weights: 1, tuned: 1, activations: 1, shared: 2}\n" CROSS DEVICE LINKS, "9", "more than weights"},
        {HEAD LAYERS "  - {weights: 1, tuned: 1, activations: 1, scratch: 2}\n" CROSS DEVICE LINKS, "9", "scratch"},
        {HEAD SHAPE CROSS "  - {name: a, memory: 1, disk_write: 0, disk_read: 0, overhead: -1}\n", "12", "overhead"},
        {HEAD SHAPE CROSS "  - {name: a, memory: 1, disk_write: 0, disk_read: 0, update: nan}\n", "12", "update"},
        {HEAD SHAPE CROSS "  - {name: a, memory: 1, disk_write: 0, disk_read: 0, port: [1]}\n", "12", "port"},
        {HEAD SHAPE CROSS "  - {name: a, memory: 1, disk_write: 0}\n", "12", "disk_read is missing"},
        {HEAD SHAPE CROSS
         "  - {name: a, interface: eth012345678901234567890123456789, memory: 1, disk_write: 0, disk_read: 0}\n",
         "12", "interface is longer"},
        {"model: m\nmodel: m\n", "2", "twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(read_and_free_profile, bad[i].text, bad[i].line, bad[i].what);
}

/* ---- any file ---- */

static pac_err write_it(const void *profile)
{
    return pac_profile_write(profile, path);
}

static pac_err read_it(const void *nothing)
{
    (void)nothing;
    return read_and_free_profile(path);
}

static void test_documented_example(void **state)
{
    (void)state;
    check_example("## profile.yaml", read_and_free_profile);
}

static void test_damaged_files(void **state)
{
    (void)state;
    pac_profile profile = random_profile(1, 1, 2);
    assert_int_equal(pac_profile_write(&profile, path), PAC_OK);
    pac_profile_free(&profile);
    damage(read_and_free_profile);
}

static void test_failed_allocations_leave_nothing(void **state)
{
    (void)state;
    pac_profile profile = random_profile(2, 1, 2);
    fail_allocations(write_it, &profile);
    fail_allocations(read_it, NULL);
    pac_profile_free(&profile);
}

/* ---- curves ---- */

static void near(double got, double want)
{
    assert_true(fabs(got - want) <= 1e-12 * (1 + fabs(want)));
}

static void test_curves(void **state)
{
    (void)state;
    pac_cost_curve c = {.points = 2, .tokens = {2, 4}, .fwd = {3, 5}, .bwd = {4, 4}}, none = {0};
    near(pac_cost_at(&c, 0, false), 0);
    near(pac_cost_at(&c, 1, false), 1.5);
    near(pac_cost_at(&c, 2, false), 3);
    near(pac_cost_at(&c, 3, false), 4);
    near(pac_cost_at(&c, 4, false), 5);
    near(pac_cost_at(&c, 8, false), 10);
    near(pac_cost_at(&c, 3, true), 4);
    near(pac_cost_at(&none, 3, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curves),
        cmocka_unit_test(test_profiles_read_back),
        cmocka_unit_test(test_a_short_profile_by_hand),
        cmocka_unit_test(test_wrong_profiles_are_refused),
        cmocka_unit_test(test_documented_example),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_failed_allocations_leave_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
