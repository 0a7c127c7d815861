/* RUN.yaml: defaults, every key, overrides, what is written reads back, and many files that are wrong in one place. */
#include "pac/config.h"
#include "pac/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MINIMAL "model: {path: models/t5}\ntask: {name: mrpc, train: train.tsv}\n"

static char path[] = "/tmp/pac-test-config-XXXXXX";
static pac_config config; /* large */

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void assert_message(const char *part)
{
    if (strstr(pac_err_message(), part) == NULL)
        fail_msg("'%s' is not in '%s'", part, pac_err_message());
}

static void assert_reads(const char *text, const char *const *sets, int64_t n)
{
    put(text);
    if (pac_config_read(path, sets, n, &config) != PAC_OK)
        fail_msg("%s", pac_err_message());
}

static void test_defaults(void **state)
{
    (void)state;
    assert_reads(MINIMAL, NULL, 0);
    const pac_config *c = &config;
    assert_string_equal(c->path, path);
    assert_string_equal(c->model.path, "models/t5");
    assert_int_equal(c->model.dtype, PAC_F32);
    assert_int_equal(c->task.max_source, 128);
    assert_int_equal(c->task.max_target, 8);
    assert_string_equal(c->task.eval, "");
    assert_int_equal(c->technique.kind, PAC_TECH_PARALLEL);
    assert_int_equal(c->technique.reduction, 8);
    assert_int_equal(c->technique.gate, PAC_GATE_LEARNED);
    assert_int_equal(c->technique.init, PAC_INIT_MAGNITUDE);
    assert_true(c->technique.all_layers);
    assert_int_equal(c->head, PAC_HEAD_LM);
    assert_true(c->system.memory_auto);
    assert_int_equal(c->system.ngroups, 0);
    assert_int_equal(c->train.epochs, 3);
    assert_int_equal(c->train.batch, 16);
    assert_int_equal(c->train.microbatches, 0);
    assert_int_equal(c->train.optimizer.kind, PAC_ADAMW);
    assert_true(c->train.lr == 3e-3);
    assert_true(c->train.warmup == 0.1);
    assert_true(c->train.linear);
    assert_true(c->train.clip == 1.0);
    assert_true(c->train.dropout == 0);
    assert_int_equal(c->train.seed, 0);
    assert_true(c->cache.on);
    assert_string_equal(c->cache.dir, "cache");
    assert_int_equal(c->cache.redistribute, PAC_REDIST_ALLGATHER);
    assert_false(c->cache.keep);
    assert_string_equal(c->backend, "auto");
    assert_string_equal(c->output, "runs/mrpc");
}

static const char everything[] =
    "model: {path: \"a b/it's #1\", dtype: f32}\n"
    "task: {name: stsb, train: t.tsv, eval: e.tsv, max_source: 64, max_target: 5, pad: max, split: all, pairs: joined}\n"
    "technique: {name: parallel, reduction: 4, gate: none, layers: [1, 3, 12], merge: add, init: random}\n"
    "head: classification\n"
    "system: {name: pac, memory: [1 GiB, 200 MB, 1048576], groups: [2, 1]}\n"
    "train: {epochs: 7, batch: 24, microbatches: 6, optimizer: sgd, beta1: 0.8, beta2: 0.99, eps: 1e-6, weight_decay: 0.01,\n"
    "  lr: 1.0e-4, warmup: 100, schedule: constant, clip: 0, dropout: 0.0, seed: 9223372036854775807, eval_every: epoch, keep: "
    "last}\n"
    "cache: {dir: /tmp/c, dtype: bf16, redistribute: shard, keep: true}\n"
    "backend: ref\n"
    "output: out\n";

static void test_every_key(void **state)
{
    (void)state;
    assert_reads(everything, NULL, 0);
    const pac_config *c = &config;
    assert_string_equal(c->model.path, "a b/it's #1");
    assert_string_equal(c->task.name, "stsb");
    assert_string_equal(c->task.eval, "e.tsv");
    assert_true(c->task.pad_max);
    assert_false(c->task.split_paper);
    assert_int_equal(c->technique.gate, PAC_GATE_NONE);
    assert_false(c->technique.all_layers);
    assert_int_equal(c->technique.nlayers, 3);
    assert_int_equal(c->technique.layers[2], 12);
    assert_int_equal(c->technique.merge, PAC_MERGE_ADD);
    assert_int_equal(c->technique.init, PAC_INIT_RANDOM);
    assert_int_equal(c->head, PAC_HEAD_CLASSIFICATION);
    assert_false(c->system.memory_auto);
    assert_int_equal(c->system.nmemory, 3);
    assert_true(c->system.memory[0] == 1073741824.0 && c->system.memory[1] == 2e8 && c->system.memory[2] == 1048576);
    assert_int_equal(c->system.ngroups, 2);
    assert_int_equal(c->system.groups[0], 2);
    assert_int_equal(c->train.microbatches, 6);
    assert_int_equal(c->train.optimizer.kind, PAC_SGD);
    assert_true(c->train.optimizer.weight_decay == 0.01f);
    assert_true(c->train.warmup == 100);
    assert_false(c->train.linear);
    assert_true(c->train.clip == 0);
    assert_true(c->train.seed == INT64_MAX);
    assert_true(c->train.eval_each_epoch);
    assert_int_equal(c->cache.redistribute, PAC_REDIST_SHARD);
    assert_true(c->cache.keep);
    assert_string_equal(c->backend, "ref");
    assert_string_equal(c->output, "out");
}

static void test_what_is_written_reads_back(void **state)
{
    (void)state;
    static const char *const texts[] = {MINIMAL, everything,
                                        MINIMAL "cache: none\nsystem: {memory: 3 GiB}\ntrain: {lr: 0.1234567890123}\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        static pac_config first;
        char *once, *twice;
        assert_reads(texts[i], NULL, 0);
        first = config;
        assert_int_equal(pac_config_text(&config, &once), PAC_OK);
        assert_reads(once, NULL, 0);
        assert_memory_equal(&first, &config, sizeof config);
        assert_int_equal(pac_config_text(&config, &twice), PAC_OK);
        assert_string_equal(once, twice);
        pac_mem_free(once);
        pac_mem_free(twice);
    }
}

static void test_overrides(void **state)
{
    (void)state;
    const char *sets[] = {
        "train.lr=1e-5",  "train.lr=2e-5",       "system.groups=[2,1,1]", "output=x y", "train={epochs: 9, batch: 30}",
        "train.epochs=4", "system.memory=1 GiB", "technique.layers=[2]"};
    assert_reads(everything, sets, 8);
    assert_true(config.train.lr == 2e-5);
    assert_int_equal(config.system.ngroups, 3);
    assert_string_equal(config.output, "x y");
    assert_int_equal(config.train.epochs, 4);
    assert_int_equal(config.train.batch, 30);
}

static void test_overrides_of_the_cache_switch(void **state)
{
    (void)state;
    const char *off[] = {"cache=none"}, *on[] = {"cache=none", "cache.dir=x"}, *map[] = {"cache={dir: y}"};
    assert_reads(MINIMAL "cache: {dir: a}\n", off, 1);
    assert_false(config.cache.on);
    assert_reads(MINIMAL "cache: {dir: a}\n", on, 2);
    assert_true(config.cache.on);
    assert_string_equal(config.cache.dir, "x");
    assert_reads(MINIMAL "cache: none\n", NULL, 0);
    assert_false(config.cache.on);
    assert_reads(MINIMAL "cache: none\n", map, 1);
    assert_true(config.cache.on);
    assert_string_equal(config.cache.dir, "y");
}

static void test_a_value_that_is_overridden_is_not_judged(void **state)
{
    (void)state;
    const char *sets[] = {"technique.name=parallel", "train.lr=1"};
    assert_reads(MINIMAL "technique: {name: lora}\ntrain: {lr: x}\n", sets, 2);
}

static const struct {
    const char *text;
    pac_err code;
    const char *part;
} bad[] = {
    {"model: {path: m}\ntask: {name: mrpc}\n", PAC_ECONFIG, "task.train is missing"},
    {"task: {name: mrpc, train: t}\n", PAC_ECONFIG, "model.path is missing"},
    {"model: {path: m}\ntask: {train: t}\n", PAC_ECONFIG, "task.name is missing"},
    {"- a\n", PAC_ECONFIG, "expected a map"},
    {"word\n", PAC_ECONFIG, "expected a map"},
    {"", PAC_ECONFIG, "empty"},
    {"model: [\n", PAC_ECONFIG, "not YAML"},
    {MINIMAL "trian: {lr: 1}\n", PAC_ECONFIG, ":3: unknown key 'trian'; did you mean 'train'?"},
    {MINIMAL "sytem:\n  name: pac\n", PAC_ECONFIG, ":3: unknown key 'sytem'; did you mean 'system'?"},
    {MINIMAL "train:\n  epochs: 1\n  learning_rate: 1\n", PAC_ECONFIG, ":5: unknown key 'train.learning_rate' (known: epochs"},
    {MINIMAL "train:\n  epoch: 1\n", PAC_ECONFIG, ":4: unknown key 'train.epoch'; did you mean 'epochs'?"},
    {MINIMAL "train: 3\n", PAC_ECONFIG, ":3: train: expected a map"},
    {MINIMAL "train:\n", PAC_ECONFIG, ":3: train: expected a map"},
    {MINIMAL "cache: {dri: x}\n", PAC_ECONFIG, "did you mean 'dir'?"},
    {MINIMAL "cache: off\n", PAC_ECONFIG, ":3: cache: expected none or a map"},
    {MINIMAL "cache: []\n", PAC_ECONFIG, "cache: expected"},
    {MINIMAL "train: {lr: fast}\n", PAC_ECONFIG, ":3: train.lr: 'fast' is not a number"},
    {MINIMAL "train: {lr: -1}\n", PAC_ECONFIG, ":3: train.lr: -1 is not between 0 and 1000"},
    {MINIMAL "train: {lr: nan}\n", PAC_ECONFIG, "'nan' is not a number"},
    {MINIMAL "train: {epochs: 0}\n", PAC_ECONFIG, ":3: train.epochs: 0 is not between 1"},
    {MINIMAL "train: {epochs: 2.5}\n", PAC_ECONFIG, "'2.5' is not a whole number"},
    {MINIMAL "train: {epochs: [1]}\n", PAC_ECONFIG, "expected a whole number, not a list"},
    {MINIMAL "train: {epochs: 99999999999999999999}\n", PAC_ECONFIG, "is not a whole number"},
    {MINIMAL "train: {microbatches: many}\n", PAC_ECONFIG, "'many' is not a whole number (or auto)"},
    {MINIMAL "train: {microbatches: 0}\n", PAC_ECONFIG, "(or auto)"},
    {MINIMAL "train: {microbatches: 17}\n", PAC_ECONFIG, "17 is more than train.batch, which is 16"},
    {MINIMAL "train: {warmup: 1.5}\n", PAC_ECONFIG, "neither a number of steps nor a fraction"},
    {MINIMAL "train: {clip: -1}\n", PAC_ECONFIG, "train.clip: -1 is too small"},
    {MINIMAL "train: {dropout: 1}\n", PAC_ECONFIG, "train.dropout: 1 is not between"},
    {MINIMAL "train: {seed: -1}\n", PAC_ECONFIG, "train.seed: -1 is too small"},
    {MINIMAL "train: {optimizer: adam}\n", PAC_ECONFIG, ":3: train.optimizer: unknown value 'adam'; did you mean 'adamw'?"},
    {MINIMAL "train: {eval_every: step}\n", PAC_ECONFIG, "known: end or epoch"},
    {MINIMAL "technique: {reduction: 0}\n", PAC_ECONFIG, "technique.reduction: 0"},
    {MINIMAL "technique: {layers: some}\n", PAC_ECONFIG, "expected 'all' or a list"},
    {MINIMAL "technique: {layers: []}\n", PAC_ECONFIG, "expected 'all' or a list"},
    {MINIMAL "technique:\n  layers:\n    - 2\n    - 2\n", PAC_ECONFIG, ":6: technique.layers: 2 after 2: layers must rise"},
    {MINIMAL "technique: {layers: [0]}\n", PAC_ECONFIG, "technique.layers[1]: 0 is not between 1 and 512"},
    {MINIMAL "technique: {layers: [x]}\n", PAC_ECONFIG, "technique.layers[1]: 'x'"},
    {MINIMAL "technique: {gate: 1}\n", PAC_ECONFIG, "known: learned or none"},
    {MINIMAL "system: {memory: lots}\n", PAC_ECONFIG, ":3: system.memory: 'lots' is not a size such as"},
    {MINIMAL "system: {memory: 3}\n", PAC_ECONFIG, "system.memory: '3' would be bytes, less than 1 MiB: check the unit"},
    {MINIMAL "system: {memory: [3 GiB, 4]}\n", PAC_ECONFIG, "system.memory[2]: '4' would be bytes"},
    {MINIMAL "system: {memory: 0}\n", PAC_ECONFIG, "a budget of no memory"},
    {MINIMAL "system: {memory: [1 GiB, -3]}\n", PAC_ECONFIG, "system.memory[2]: '-3' is not a size"},
    {MINIMAL "system: {memory: []}\n", PAC_ECONFIG, "a list of 1 to 256"},
    {MINIMAL "system: {memory: {a: 1}}\n", PAC_ECONFIG, "expected a size"},
    {MINIMAL "system: {groups: [2, 0]}\n", PAC_ECONFIG, "system.groups[2]: 0"},
    {MINIMAL "system: {groups: 3}\n", PAC_ECONFIG, "expected 'auto' or a list"},
    {MINIMAL "cache: {keep: yes}\n", PAC_ECONFIG, "'yes' is neither true nor false"},
    {MINIMAL "head: cls\n", PAC_ECONFIG, "known: lm or classification"},
    {MINIMAL "head: {name: lm}\n", PAC_ECONFIG, "expected lm or classification, not a map"},
    {MINIMAL "backend: gpu\n", PAC_ECONFIG, ":3: backend: unknown value 'gpu'"},
    {MINIMAL "output:\n", PAC_ECONFIG, ":3: output: empty"},
    {MINIMAL "output: [a]\n", PAC_ECONFIG, "output: expected text"},
    {MINIMAL "output: \"a\\nb\"\n", PAC_ECONFIG, "control character"},
    {"model: {path: m}\ntask: {name: mprc, train: t}\n", PAC_ECONFIG, ":2: task.name: "},
    {MINIMAL "output: a\noutput: b\n", PAC_ECONFIG, ":4: key 'output' is given twice, first in line 3"},
    {MINIMAL "technique: {name: lora, reduction: 8}\n", PAC_ECONFIG, ":3: technique.reduction: technique lora has no such key"},
    {MINIMAL "technique: {rank: 8}\n", PAC_ECONFIG, "technique.rank: technique parallel has no such key"},
    {MINIMAL "technique: {name: full}\ncache: {dir: c}\n", PAC_ECONFIG, ":4: cache.dir: technique full changes"},
    {MINIMAL "technique: {name: lora}\ncache: {keep: true}\n", PAC_ECONFIG, ":4: cache.keep: technique lora changes"},
    {MINIMAL "train: {keep: best, eval_every: epoch}\n", PAC_ECONFIG, "train.keep: best needs task.eval"},
    {"model: {path: m}\ntask: {name: mrpc, train: t, split: paper}\n", PAC_ECONFIG, "task.split: paper needs task.eval"},
    {MINIMAL "train: {recompute: true}\n", PAC_ECONFIG, "train.recompute: technique parallel keeps nothing"},
    {MINIMAL "system: {name: eddl, groups: [2]}\n", PAC_ECONFIG, "system.groups: only system pac"},
    {MINIMAL "train: {keep: best}\n", PAC_ECONFIG, "train.keep: best needs train.eval_every: epoch"},
    {"model: {path: m, dtype: nf4}\ntask: {name: mrpc, train: t}\n", PAC_ENOTBUILT, ":1: not built yet: model.dtype: nf4"},
    {"model: {path: m, dtype: int8}\ntask: {name: mrpc, train: t}\n", PAC_ENOTBUILT, "not built yet: model.dtype: int8"},
    {"model: {path: m, dtype: nf4}\ntask: {name: mrpc, train: t}\n", PAC_ENOTBUILT, "not built yet: model.dtype: nf4"},
    {"model: {path: m, stream: true}\ntask: {name: mrpc, train: t}\ntechnique: {name: lora}\n", PAC_ECONFIG,
     "model.stream: technique lora sends gradients"},
    {"model: {path: m, stream: true}\ntask: {name: mrpc, train: t}\ntechnique: {init: fisher}\n", PAC_ECONFIG,
     "model.stream: technique.init: fisher is a pass of full tuning"},
    {"model: {path: m, stream: true, dtype: bf16}\ntask: {name: mrpc, train: t}\n", PAC_ECONFIG,
     "model.dtype: bf16 packs them"},
    {MINIMAL "cache: {dtype: i4}\n", PAC_ECONFIG, "cache.dtype"},
};

static void test_words_and_values(void **state)
{
    (void)state;
    int value = -1;
    assert_string_equal(pac_config_word("system.name", PAC_SYS_EDDL), "eddl");
    assert_string_equal(pac_config_word("task.pairs", true), "separate");
    assert_null(pac_config_word("system.name", 99));
    assert_null(pac_config_word("train.lr", 0));
    assert_true(pac_config_value("technique.merge", "gated", &value));
    assert_int_equal(value, PAC_MERGE_GATED);
    assert_false(pac_config_value("technique.merge", "sideways", &value));
    assert_false(pac_config_value("technique.merge", NULL, &value));
    assert_false(pac_config_value("model.dtype", "nf4", &value)); /* of a later version */
    assert_int_equal(value, PAC_MERGE_GATED);
    assert_true(pac_config_value("cache.dtype", "i8", &value));
    assert_int_equal(value, PAC_I8);
    for (int kind = PAC_TECH_PARALLEL; kind <= PAC_TECH_LORA; kind++)
        assert_string_equal(pac_config_word("technique.name", kind), pac_technique_name((pac_technique_kind)kind));
}

static void test_wrong_files_name_the_place(void **state)
{
    (void)state;
    pac_config_defaults(&config);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t blocks = pac_mem_blocks();
        put(bad[i].text);
        pac_err err = pac_config_read(path, NULL, 0, &config);
        if (err != bad[i].code)
            fail_msg("%s: %s: %s", bad[i].text, pac_err_name(err), pac_err_message());
        assert_message(path);
        assert_message(bad[i].part);
        assert_int_equal(pac_mem_blocks(), blocks);
        assert_string_equal(config.model.path, ""); /* unchanged */
    }
}

static void test_wrong_overrides_name_the_flag(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        pac_err code;
        const char *part;
    } wrong[] = {
        {"train.lr=fast", PAC_ECONFIG, "--set: train.lr: 'fast' is not a number"},
        {"train.lr", PAC_ECONFIG, "--set train.lr: expected key.path=value"},
        {"=3", PAC_ECONFIG, "expected key.path=value"},
        {"train.lr=", PAC_ECONFIG, "--set train.lr=: no value"},
        {"train.epoch=3", PAC_ECONFIG, "--set: unknown key 'train.epoch'; did you mean 'train.epochs'?"},
        {"trian.epochs=3", PAC_ECONFIG, "--set: unknown key 'trian.epochs'; did you mean 'train.epochs'?"},
        {"sytem.groups=[1,1]", PAC_ECONFIG, "--set: unknown key 'sytem.groups'; did you mean 'system.groups'?"},
        {"train.=3", PAC_ECONFIG, "--set: unknown key 'train.'"},
        {"train.lr.x=3", PAC_ECONFIG, "--set: unknown key 'train.lr.x'"},
        {"head.x=3", PAC_ECONFIG, "--set: unknown key 'head.x'"},
        {"epochs=3", PAC_ECONFIG, "--set: unknown key 'epochs'"},
        {"train={epoch: 3}", PAC_ECONFIG, "--set: unknown key 'train.epoch'; did you mean 'epochs'?"},
        {"train=3", PAC_ECONFIG, "--set: train: expected a map"},
        {"system.groups=[1", PAC_ECONFIG, "--set: not YAML"},
        {"train.lr=&a 3", PAC_ECONFIG, "--set: anchors"},
        {"cache=off", PAC_ECONFIG, "--set: cache: expected none"},
        {"a.very.long.key.that.no.table.has.a.very.long.key.that.no.table.has=1", PAC_ECONFIG, "no key is so long"},
    };
    put(MINIMAL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pac_err err = pac_config_read(path, &wrong[i].set, 1, &config);
        if (err != wrong[i].code)
            fail_msg("%s: %s: %s", wrong[i].set, pac_err_name(err), pac_err_message());
        assert_message(wrong[i].part);
    }
    assert_int_equal(pac_config_read("/nonexistent/r.yaml", NULL, 0, &config), PAC_EIO);
}

/* Every key that is written has its row, in backquotes, in docs/formats.md. */
static void test_manual_has_every_key(void **state)
{
    (void)state;
    const char *root = getenv("PAC_SOURCE_ROOT");
    if (root == NULL)
        skip();
    char manual[4096], section[64] = "", *text, *doc;
    snprintf(manual, sizeof manual, "%s/docs/formats.md", root);
    FILE *f = fopen(manual, "rb");
    assert_non_null(f);
    doc = calloc(1, 1 << 20);
    assert_non_null(doc);
    assert_true(fread(doc, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    assert_reads(everything, NULL, 0);
    assert_int_equal(pac_config_text(&config, &text), PAC_OK);
    int64_t keys = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[128], *colon = strchr(line, ':');
        *colon = '\0';
        if (line[0] != ' ' && colon[1] == '\0') {
            snprintf(section, sizeof section, "%s.", line);
            continue;
        }
        snprintf(name, sizeof name, "| `%s%s` |", line[0] == ' ' ? section : "", line + strspn(line, " "));
        if (strstr(doc, name) == NULL)
            fail_msg("docs/formats.md has no row %s", name);
        keys++;
    }
    assert_true(keys > 35);
    pac_mem_free(text);
    free(doc);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    const char *sets[] = {"train.lr=1"};
    int64_t blocks = pac_mem_blocks();
    pac_err err = PAC_ENOMEM;
    put(everything);
    for (int64_t k = 1; err != PAC_OK; k++) {
        char *text = NULL;
        pac_mem_fail_at(k);
        err = pac_config_read(path, sets, 1, &config);
        if (err == PAC_OK)
            err = pac_config_text(&config, &text);
        pac_mem_fail_at(0);
        assert_true(err == PAC_OK || err == PAC_ENOMEM);
        pac_mem_free(text);
        assert_int_equal(pac_mem_blocks(), blocks);
        assert_true(k < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_what_is_written_reads_back),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_overrides_of_the_cache_switch),
        cmocka_unit_test(test_a_value_that_is_overridden_is_not_judged),
        cmocka_unit_test(test_words_and_values),
        cmocka_unit_test(test_wrong_files_name_the_place),
        cmocka_unit_test(test_wrong_overrides_name_the_flag),
        cmocka_unit_test(test_manual_has_every_key),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
