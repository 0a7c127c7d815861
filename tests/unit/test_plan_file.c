/* Plan and profile files: what is written reads back, and whatever else a person or a broken disk puts there is refused by
 * line. */
#include "pac/plan.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[256], plan_path[300], profile_path[300];

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/pac-plan-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(plan_path, sizeof plan_path, "%s/plan.yaml", folder);
    snprintf(profile_path, sizeof profile_path, "%s/profile.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove(plan_path);
    remove(profile_path);
    return rmdir(folder);
}

static void put(const char *path, const char *text, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static size_t get(const char *path, char *text, size_t room)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, room - 1, f);
    assert_true(n < room - 1);
    text[n] = '\0';
    fclose(f);
    return n;
}

static uint64_t draws;

static int64_t integer(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(pac_rng_u64(5, PAC_STREAM_TEST, draws++) % (uint64_t)(hi - lo + 1));
}

static double uniform(double lo, double hi)
{
    return lo + (hi - lo) * (double)pac_rng_uniform(5, PAC_STREAM_TEST, draws++);
}

/* ---- plans ---- */

static pac_plan random_plan(void)
{
    int64_t groups[5], stages = integer(1, 5), world = 0;
    for (int64_t i = 0; i < stages; i++)
        world += groups[i] = integer(1, 12);
    pac_plan p;
    assert_int_equal(pac_plan_even(groups, stages, integer(stages, 30), integer(1, 16), &p), PAC_OK);
    for (int64_t i = 0; i < stages; i++) {
        pac_stage_plan *st = &p.stage[i];
        double sum = 0;
        for (int64_t r = 0; r < st->ranks; r++) {
            st->rank[r] = world - 1 - st->rank[r]; /* ranks need not be in order */
            sum += st->share[r] = uniform(0.1, 1);
            st->bytes[r] = (double)integer(1, 1000000000);
        }
        for (int64_t r = 0; r < st->ranks; r++)
            st->share[r] /= sum;
    }
    if (integer(0, 1) == 1)
        p.predicted = (pac_predicted){0.25, uniform(1, 2), 0, 3e-05, uniform(1e3, 1e9)};
    return p;
}

static void same_plan(const pac_plan *a, const pac_plan *b)
{
    assert_true(a->world == b->world && a->layers == b->layers && a->microbatches == b->microbatches && a->stages == b->stages);
    assert_string_equal(a->planner, b->planner);
    assert_true(fabs(a->predicted.total_s - b->predicted.total_s) <= 1e-5 * a->predicted.total_s);
    assert_true(fabs(a->predicted.cached_epoch_s - b->predicted.cached_epoch_s) <= 1e-5 * a->predicted.cached_epoch_s);
    for (int64_t i = 0; i < a->stages; i++) {
        const pac_stage_plan *x = &a->stage[i], *y = &b->stage[i];
        assert_true(x->first == y->first && x->last == y->last && x->ranks == y->ranks);
        for (int64_t r = 0; r < x->ranks; r++) {
            assert_int_equal(x->rank[r], y->rank[r]);
            assert_true(x->share[r] == y->share[r]); /* to the bit: shares decide who gets which sample */
            assert_true(x->bytes[r] == y->bytes[r]);
        }
    }
}

static void test_plans_read_back(void **state)
{
    (void)state;
    for (int t = 0; t < 200; t++) {
        pac_plan a = random_plan(), b;
        assert_int_equal(pac_plan_write(&a, plan_path), PAC_OK);
        if (pac_plan_read(plan_path, &b) != PAC_OK)
            fail_msg("%s", pac_err_message());
        same_plan(&a, &b);
        pac_plan_free(&a);
        pac_plan_free(&b);
    }
}

#define PLAN(...) "world: 3\nlayers: 4\nmicrobatches: 2\nstages:\n" __VA_ARGS__

static void test_a_short_plan_by_hand(void **state)
{
    (void)state;
    const char *text = PLAN("  - {layers: [0, 3], ranks: [2, 0], shares: [0.66, 0.33]}\n"
                            "  - {layers: [3, 4], ranks: [1]}\n");
    put(plan_path, text, strlen(text));
    pac_plan p;
    if (pac_plan_read(plan_path, &p) != PAC_OK)
        fail_msg("%s", pac_err_message());
    assert_string_equal(p.planner, "given");
    assert_int_equal(p.stage[0].rank[0], 2);
    assert_true(fabs(p.stage[0].share[0] - 2.0 / 3) < 1e-12);
    assert_true(p.stage[1].share[0] == 1.0);
    pac_plan_free(&p);
}

static void refused(const char *path, pac_err (*read)(const char *path), const char *text, const char *line, const char *what)
{
    put(path, text, strlen(text));
    int64_t blocks = pac_mem_blocks();
    char place[320];
    snprintf(place, sizeof place, "%s:%s", path, line);
    if (read(path) != PAC_ECONFIG)
        fail_msg("accepted, or another error (%s):\n%s", pac_err_message(), text);
    if (strstr(pac_err_message(), place) == NULL || strstr(pac_err_message(), what) == NULL)
        fail_msg("'%s' does not hold '%s' and '%s'", pac_err_message(), place, what);
    assert_int_equal(pac_mem_blocks(), blocks);
}

static pac_err read_and_free_plan(const char *path)
{
    pac_plan p;
    PAC_TRY(pac_plan_read(path, &p));
    pac_plan_free(&p);
    return PAC_OK;
}

static void test_wrong_plans_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *what;
    } bad[] = {
        {PLAN("  - {layers: [0, 4], ranks: [0, 1]}\n"), "5", "rank 2 is in no stage"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 4], ranks: [1, 2]}\n"), "6",
         "rank 1 is given twice, first in line 5"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 3]}\n"), "5", "ranks"},
        {PLAN("  - {layers: [0, 4], ranks: [0, -1, 2]}\n"), "5", "ranks"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [3, 4], ranks: [2]}\n"), "6", "must be 2"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [1, 4], ranks: [2]}\n"), "6", "must be 2"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 2], ranks: [2]}\n"), "6", "empty"},
        {PLAN("  - {layers: [0, 2], ranks: [0, 1]}\n  - {layers: [2, 3], ranks: [2]}\n"), "5", "the model has 4"},
        {PLAN("  - {layers: [0, 5], ranks: [0, 1, 2]}\n"), "5", "layers"},
        {PLAN("  - {layers: [0], ranks: [0, 1, 2]}\n"), "5", "must have 2"},
        {PLAN("  - {layers: 4, ranks: [0, 1, 2]}\n"), "5", "list"},
        {PLAN("  - {layers: [0, 3], ranks: [0, 1, 2]}\n  - {layers: [3, 4], ranks: []}\n"), "6", "has no ranks"},
        {PLAN("  - {layers: [0, 4]}\n"), "5", "ranks is missing"},
        {PLAN("  - {ranks: [0, 1, 2]}\n"), "5", "layers is missing"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5, 0]}\n"), "5", "above 0"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.8, 0.4, -0.2]}\n"), "5", "shares"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.2, 0.2]}\n"), "5", "sum to 0.9"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5]}\n"), "5", "must have 3"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], shares: [0.5, 0.5, nan]}\n"), "5", "not a number"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], bytes: [1, 2, -3]}\n"), "5", "bytes"},
        {PLAN("  - {layers: [0, 4], ranks: [0, 1, 2], share: [1]}\n"), "5", "shares"},
        {PLAN("  - 3\n"), "5", "map"},
        {PLAN("  {}\n"), "5", "list"},
        {PLAN("  []\n"), "5", "0 items"},
        {"world: 3\nlayers: 4\nmicrobatches: 0\nstages: []\n", "3", "microbatches"},
        {"world: 0\nlayers: 4\nmicrobatches: 1\nstages: []\n", "1", "world"},
        {"world: 100000000000\nlayers: 4\nmicrobatches: 1\nstages: []\n", "1", "world"},
        {"world: 1\nlayers: 99999999999999999999\nmicrobatches: 1\nstages: []\n", "2", "layers"},
        {"world: 1\nmicrobatches: 1\nstages: []\n", "1", "layers is missing"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\n", "1", "stages is missing"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\nstage: []\n", "4", "stages"},
        {"planner: [a]\nworld: 1\n", "1", "text"},
        {"planner: a-name-that-is-far-too-long\nworld: 1\n", "1", "longer than 15"},
        {"world: 1\nlayers: 1\nmicrobatches: 1\nstages: [{layers: [0, 1], ranks: [0]}]\npredicted: {hybrid_step_s: 1}\n", "5",
         "is missing"},
        {"[]\n", "1", "map"},
        {"world\n", "1", "map"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(plan_path, read_and_free_plan, bad[i].text, bad[i].line, bad[i].what);
    assert_int_equal(read_and_free_plan("/nowhere/plan.yaml"), PAC_EIO);
}

/* ---- profiles ---- */

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
        assert_int_equal(pac_profile_write(&a, profile_path), PAC_OK);
        if (pac_profile_read(profile_path, &b) != PAC_OK)
            fail_msg("%s", pac_err_message());
        same_profile(&a, &b);
        get(profile_path, first, sizeof first);
        assert_int_equal(pac_profile_write(&b, profile_path), PAC_OK);
        get(profile_path, second, sizeof second);
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

static pac_err read_and_free_profile(const char *path)
{
    pac_profile p;
    PAC_TRY(pac_profile_read(path, &p));
    pac_profile_free(&p);
    return PAC_OK;
}

static void test_a_short_profile_by_hand(void **state)
{
    (void)state;
    const char *text = HEAD SHAPE CROSS DEVICE DEVICE LINKS;
    put(profile_path, text, strlen(text));
    pac_profile p;
    if (pac_profile_read(profile_path, &p) != PAC_OK)
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
        refused(profile_path, read_and_free_profile, bad[i].text, bad[i].line, bad[i].what);
}

/* ---- the examples in docs/formats.md ---- */

static void check_example(const char *doc, const char *heading, const char *path, pac_err (*read)(const char *path))
{
    const char *start = strstr(doc, heading);
    assert_non_null(start);
    start = strstr(start, "```yaml\n");
    assert_non_null(start);
    start += strlen("```yaml\n");
    put(path, start, (size_t)(strstr(start, "```") - start));
    if (read(path) != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static void test_documented_examples(void **state)
{
    (void)state;
    static char doc[1 << 18];
    char path[4096];
    const char *root = getenv("PAC_SOURCE_ROOT");
    if (root == NULL)
        skip();
    snprintf(path, sizeof path, "%s/docs/formats.md", root);
    get(path, doc, sizeof doc);
    check_example(doc, "## plan.yaml", plan_path, read_and_free_plan);
    check_example(doc, "## profile.yaml", profile_path, read_and_free_profile);
}

/* ---- any bytes at all ---- */

/* Every truncation and hundreds of damaged copies: read or refused, never a crash, nothing left behind. */
static void damage(const char *path, pac_err (*read)(const char *path))
{
    static char text[1 << 16], copy[1 << 16];
    static const char odd[] = "0129-+.eE[]{},:#'\"\n\t\\ &*!x\x01\xff";
    size_t n = get(path, text, sizeof text);
    int64_t blocks = pac_mem_blocks();
    for (size_t cut = 0; cut<n; cut += n> 1000 ? 7 : 1) {
        put(path, text, cut);
        pac_err err = read(path);
        assert_true(err == PAC_OK || err == PAC_ECONFIG);
    }
    for (int t = 0; t < 800; t++) {
        memcpy(copy, text, n);
        for (int64_t k = integer(1, 4); k > 0; k--)
            copy[integer(0, (int64_t)n - 1)] = odd[integer(0, (int64_t)sizeof odd - 2)];
        put(path, copy, n);
        pac_err err = read(path);
        assert_true(err == PAC_OK || err == PAC_ECONFIG);
        if (err != PAC_OK)
            assert_non_null(strstr(pac_err_message(), path));
    }
    assert_int_equal(pac_mem_blocks(), blocks);
}

static void test_damaged_files(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    assert_int_equal(pac_plan_write(&plan, plan_path), PAC_OK);
    pac_plan_free(&plan);
    damage(plan_path, read_and_free_plan);
    pac_profile profile = random_profile(1, 1, 2);
    assert_int_equal(pac_profile_write(&profile, profile_path), PAC_OK);
    pac_profile_free(&profile);
    damage(profile_path, read_and_free_profile);
}

static void test_failed_allocations_leave_nothing(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    pac_profile profile = random_profile(2, 1, 2);
    int64_t blocks = pac_mem_blocks();
    for (int what = 0; what < 4; what++) {
        pac_err err = PAC_ENOMEM;
        int64_t k = 0;
        while (err == PAC_ENOMEM) {
            pac_mem_fail_at(++k);
            err = what == 0   ? pac_plan_write(&plan, plan_path)
                  : what == 1 ? read_and_free_plan(plan_path)
                  : what == 2 ? pac_profile_write(&profile, profile_path)
                              : read_and_free_profile(profile_path);
            assert_int_equal(pac_mem_blocks(), blocks);
        }
        pac_mem_fail_at(0);
        assert_int_equal(err, PAC_OK);
        assert_true(k > 1);
    }
    pac_plan_free(&plan);
    pac_profile_free(&profile);
}

static void test_unwritable_outputs(void **state)
{
    (void)state;
    pac_plan plan = random_plan();
    assert_int_equal(pac_plan_write(&plan, "/nowhere/plan.yaml"), PAC_EIO);
    assert_non_null(strstr(pac_err_message(), "/nowhere/plan.yaml"));
    if (access("/dev/full", W_OK) == 0) {
        struct stat still;
        assert_int_equal(pac_plan_write(&plan, "/dev/full"), PAC_ENOSPACE);
        assert_true(stat("/dev/full", &still) == 0 && S_ISCHR(still.st_mode)); /* a device is not replaced by a file */
    }
    remove(plan_path);
    plan.stage[0].share[0] = NAN;
    assert_int_equal(pac_plan_write(&plan, plan_path), PAC_EINVAL);
    assert_true(access(plan_path, F_OK) != 0);
    pac_plan_free(&plan);
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
        cmocka_unit_test(test_plans_read_back),
        cmocka_unit_test(test_a_short_plan_by_hand),
        cmocka_unit_test(test_wrong_plans_are_refused),
        cmocka_unit_test(test_profiles_read_back),
        cmocka_unit_test(test_a_short_profile_by_hand),
        cmocka_unit_test(test_wrong_profiles_are_refused),
        cmocka_unit_test(test_documented_examples),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_failed_allocations_leave_nothing),
        cmocka_unit_test(test_unwritable_outputs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
