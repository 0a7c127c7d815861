/*
 * Every key of RUN.yaml in one table: its type, field, range and words. A new key is a row here, a field in pac_config, a
 * default in config.c and a line in docs/formats.md; a test holds the last two to this table.
 */
#include "internal.h"

#include <float.h>
#include <stddef.h>

#define FIELD(f) .offset = offsetof(pac_config, f), .bytes = sizeof(((pac_config *)0)->f)
#define WHOLE    .offset = 0, .bytes = sizeof(pac_config) /* for values of several fields */
#define LATER    true
#define ONLY(t)  (1 << (t)) /* techniques that have the key; 0: all */

static const pac_word model_dtypes[] = {
    {"f32", PAC_F32, false}, {"bf16", PAC_BF16, false}, {"int8", 0, LATER}, {"nf4", 0, LATER}, {0}};
static const pac_word cache_dtypes[] = {
    {"f32", PAC_F32, false}, {"bf16", PAC_BF16, false}, {"f16", PAC_F16, false}, {"i8", PAC_I8, false}, {0}};
static const pac_word pads[] = {{"none", false, false}, {"max", true, false}, {0}};
static const pac_word splits[] = {{"all", false, false}, {"paper", true, false}, {0}};
static const pac_word pairs[] = {{"joined", false, false}, {"separate", true, false}, {0}};
static const pac_word techniques[] = {{"parallel", PAC_TECH_PARALLEL, false},
                                      {"full", PAC_TECH_FULL, false},
                                      {"adapters", PAC_TECH_ADAPTERS, false},
                                      {"lora", PAC_TECH_LORA, false},
                                      {0}};
static const pac_word gates[] = {{"learned", PAC_GATE_LEARNED, false}, {"none", PAC_GATE_NONE, false}, {0}};
static const pac_word merges[] = {{"none", PAC_MERGE_NONE, false},
                                  {"add", PAC_MERGE_ADD, false},
                                  {"gated", PAC_MERGE_GATED, false},
                                  {"auto", PAC_MERGE_AUTO, false},
                                  {0}};
static const pac_word inits[] = {
    {"magnitude", PAC_INIT_MAGNITUDE, false}, {"random", PAC_INIT_RANDOM, false}, {"fisher", PAC_INIT_FISHER, false}, {0}};
static const pac_word ups[] = {{"random", false, false}, {"zero", true, false}, {0}};
static const pac_word heads[] = {{"lm", PAC_HEAD_LM, false}, {"classification", PAC_HEAD_CLASSIFICATION, false}, {0}};
static const pac_word systems[] = {{"pac", PAC_SYS_PAC, false},
                                   {"standalone", PAC_SYS_STANDALONE, false},
                                   {"eddl", PAC_SYS_EDDL, false},
                                   {"ecofl", PAC_SYS_ECOFL, false},
                                   {0}};
static const pac_word planners[] = {{"pac", PAC_PLANNER_PAC, false}, {"paper", PAC_PLANNER_PAPER, false}, {0}};
static const pac_word optimizers[] = {{"adamw", PAC_ADAMW, false}, {"sgd", PAC_SGD, false}, {0}};
static const pac_word schedules[] = {{"linear", true, false}, {"constant", false, false}, {0}};
static const pac_word evals[] = {{"end", false, false}, {"epoch", true, false}, {0}};
static const pac_word keeps[] = {{"last", false, false}, {"best", true, false}, {0}};
static const pac_word redistributes[] = {{"allgather", PAC_REDIST_ALLGATHER, false}, {"shard", PAC_REDIST_SHARD, false}, {0}};
static const pac_word backends[] = {
    {"auto", 0, false},    {"cpu", 0, false},        {"ref", 0, false},      {"cuda", 0, false},     {"split", 0, false},
    {"cpu-amx", 0, false}, {"cpu-avx512", 0, false}, {"cpu-avx2", 0, false}, {"cpu-base", 0, false}, {0}};

static const pac_word precisions[] = {{"f32", 0, false}, {"tf32", 0, false}, {"bf16", 0, false}, {"f16", 0, false}, {0}};

/* technique.name comes before the other keys of its section, so that one of a later version is named as such. */
const pac_key pac_keys[] = {
    {"model.path", &pac_type_text, FIELD(model.path), .required = true},
    {"model.dtype", &pac_type_choice, FIELD(model.dtype), .words = model_dtypes},
    {"model.stream", &pac_type_bool, FIELD(model.stream)},
    {"task.name", &pac_type_task, FIELD(task.name), .required = true},
    {"task.train", &pac_type_text, FIELD(task.train), .required = true},
    {"task.eval", &pac_type_text, FIELD(task.eval)},
    {"task.max_source", &pac_type_int, FIELD(task.max_source), 1, 1 << 20},
    {"task.max_target", &pac_type_int, FIELD(task.max_target), 1, 1 << 20},
    {"task.pad", &pac_type_choice, FIELD(task.pad_max), .words = pads},
    {"task.split", &pac_type_choice, FIELD(task.split_paper), .words = splits},
    {"task.pairs", &pac_type_choice, FIELD(task.pairs_separate), .words = pairs},
    {"technique.name", &pac_type_choice, FIELD(technique.kind), .words = techniques},
    {"technique.reduction", &pac_type_int, FIELD(technique.reduction), 1, 4096, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.gate", &pac_type_choice, FIELD(technique.gate), .words = gates, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.layers", &pac_type_layers, WHOLE, 1, PAC_MAX_LAYERS, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.merge", &pac_type_choice, FIELD(technique.merge), .words = merges, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.init", &pac_type_choice, FIELD(technique.init), .words = inits, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.up", &pac_type_choice, FIELD(technique.up_zero), .words = ups, .only = ONLY(PAC_TECH_PARALLEL)},
    {"technique.rank", &pac_type_int, FIELD(technique.rank), 1, 1 << 20, .only = ONLY(PAC_TECH_LORA)},
    {"technique.alpha", &pac_type_float, FIELD(technique.alpha), 1e-6, 1e6, .only = ONLY(PAC_TECH_LORA)},
    {"technique.width", &pac_type_auto_int, FIELD(technique.width), 1, 1 << 20, .only = ONLY(PAC_TECH_ADAPTERS)},
    {"head", &pac_type_choice, FIELD(head), .words = heads},
    {"system.name", &pac_type_choice, FIELD(system.kind), .words = systems},
    {"system.planner", &pac_type_choice, FIELD(system.planner), .words = planners},
    {"system.memory", &pac_type_memory, WHOLE},
    {"system.groups", &pac_type_groups, WHOLE, 1, PAC_MAX_DEVICES},
    {"train.epochs", &pac_type_int, FIELD(train.epochs), 1, 1000000},
    {"train.batch", &pac_type_int, FIELD(train.batch), 1, 1000000},
    {"train.microbatches", &pac_type_auto_int, FIELD(train.microbatches), 1, 1000000},
    {"train.optimizer", &pac_type_choice, FIELD(train.optimizer.kind), .words = optimizers},
    {"train.beta1", &pac_type_float, FIELD(train.optimizer.beta1), 0, 0.999999},
    {"train.beta2", &pac_type_float, FIELD(train.optimizer.beta2), 0, 0.999999},
    {"train.eps", &pac_type_float, FIELD(train.optimizer.eps), 1e-30, 1},
    {"train.weight_decay", &pac_type_float, FIELD(train.optimizer.weight_decay), 0, 1},
    {"train.lr", &pac_type_double, FIELD(train.lr), 0, 1000},
    {"train.warmup", &pac_type_warmup, FIELD(train.warmup), 0, 1e12},
    {"train.schedule", &pac_type_choice, FIELD(train.linear), .words = schedules},
    {"train.clip", &pac_type_double, FIELD(train.clip), 0, DBL_MAX},
    {"train.dropout", &pac_type_double, FIELD(train.dropout), 0, 0.999999},
    {"train.recompute", &pac_type_bool, FIELD(train.recompute)},
    {"train.bucket", &pac_type_bytes, FIELD(train.bucket), 4096, 1 << 30},
    {"train.overlap", &pac_type_bool, FIELD(train.overlap)},
    {"train.seed", &pac_type_int, FIELD(train.seed), 0, (double)INT64_MAX},
    {"train.eval_every", &pac_type_choice, FIELD(train.eval_each_epoch), .words = evals},
    {"train.keep", &pac_type_choice, FIELD(train.keep_best), .words = keeps},
    {"cache.dir", &pac_type_text, FIELD(cache.dir)},
    {"cache.dtype", &pac_type_choice, FIELD(cache.dtype), .words = cache_dtypes},
    {"cache.redistribute", &pac_type_choice, FIELD(cache.redistribute), .words = redistributes},
    {"cache.keep", &pac_type_bool, FIELD(cache.keep)},
    {"backend", &pac_type_word, FIELD(backend), .words = backends},
    {"precision", &pac_type_word, FIELD(precision), .words = precisions},
    {"output", &pac_type_text, FIELD(output)},
    {0},
};
