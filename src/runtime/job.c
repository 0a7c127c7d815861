/*
 * A job: the configuration joined with the model's description, the task, the tokenizer and the tokenised data. Rank 0 reads
 * and tokenises; the ids travel to the others, so that files of text need to be on one device only.
 */
#include "pac/runtime.h"
#include "planning.h"
#include "share.h"
#include "pac/pool.h"
#include "pac/log.h"
#include "pac/parallel.h"

/* ---- options that the configuration and the model decide together ---- */

static void tune_options(pac_job *j)
{
    const pac_config *c = &j->cfg;
    bool classes = c->head == PAC_HEAD_CLASSIFICATION, encoder_only = j->desc.layers[PAC_DEC] == 0;
    j->tune = (pac_tune_opts){
        .kind = c->technique.kind,
        .head = c->head,
        .classes = classes ? pac_task_classes(j->task) : 0,
        .separate = c->task.pairs_separate,
        .seed = c->train.seed,
        .reduction = c->technique.reduction,
        .gate = c->technique.gate,
        .merge = c->technique.merge,
        .init = c->technique.init,
        .up_zero = c->technique.up_zero,
        .rank = c->technique.rank,
        .alpha = c->technique.alpha,
        .width = c->technique.width,
    };
    if (j->tune.merge == PAC_MERGE_AUTO)
        j->tune.merge = encoder_only ? PAC_MERGE_ADD : PAC_MERGE_NONE;
    int64_t E = j->desc.layers[PAC_ENC], L = E + j->desc.layers[PAC_DEC];
    for (int64_t i = 0; i < L && c->technique.all_layers; i++)
        j->tune.has_layer[i] = true;
    for (int64_t k = 0; k < c->technique.nlayers && !c->technique.all_layers; k++)
        for (int stack = PAC_ENC; stack <= PAC_DEC;
             stack++) { /* counted from 1 in each stack; unequal stacks: where it exists */
            int64_t i = c->technique.layers[k] - 1;
            if (i < j->desc.layers[stack])
                j->tune.has_layer[stack == PAC_ENC ? i : E + i] = true;
        }
}

static pac_err check_layer_list(const pac_job *j)
{
    const pac_config *c = &j->cfg;
    int64_t most = j->desc.layers[PAC_ENC] > j->desc.layers[PAC_DEC] ? j->desc.layers[PAC_ENC] : j->desc.layers[PAC_DEC];
    for (int64_t k = 0; k < c->technique.nlayers && !c->technique.all_layers; k++)
        PAC_CHECK(c->technique.layers[k] <= most, PAC_ECONFIG,
                  "%s: technique.layers: %lld, but %s has only %lld layers per stack", c->path,
                  (long long)c->technique.layers[k], c->model.path, (long long)most);
    return PAC_OK;
}

pac_err job_describe(pac_job *j)
{
    const pac_config *c = &j->cfg;
    PAC_TRY(pac_model_describe(c->model.path, &j->desc));
    j->desc.dtype = c->model.dtype;
    j->desc.stream = c->model.stream;
    j->desc.rounded = rounds_weights(c);
    PAC_TRY(pac_task_find(c->task.name, &j->task));
    PAC_CHECK(c->head == PAC_HEAD_LM || pac_task_classes(j->task) > 0, PAC_ECONFIG,
              "%s: head: classification: task %s has no classes (use head: lm)", c->path, c->task.name);
    PAC_TRY(check_layer_list(j));
    tune_options(j);
    j->batching = (pac_batch_opts){.start_id = j->desc.start_id,
                                   .pad_id = j->desc.pad_id,
                                   .shift_source = c->head == PAC_HEAD_CLASSIFICATION && j->desc.layers[PAC_DEC] > 0,
                                   .separate = c->task.pairs_separate,
                                   .types = j->desc.types > 0};
    PAC_TRY(pac_tune_check(&j->desc, &j->tune));
    return PAC_OK;
}

pac_err job_budget(pac_job *j)
{
    const pac_config *c = &j->cfg;
    PAC_TRY(pac_memory_budget(&j->limit));
    PAC_TRY(job_device_limit(j, &j->limit));
    j->budget = c->system.memory_auto ? j->limit.bytes : budget_of(c, pac_world_rank());
    return PAC_OK;
}

pac_err budgets_check(const pac_config *c, int64_t devices)
{
    PAC_CHECK(c->system.memory_auto || c->system.nmemory == 1 || c->system.nmemory == devices, PAC_ECONFIG,
              "%s: system.memory: a list of %lld budgets for %lld ranks", c->path, (long long)c->system.nmemory,
              (long long)devices);
    return PAC_OK;
}

double budget_of(const pac_config *c, int64_t device)
{
    return c->system.memory[c->system.nmemory == 1 ? 0 : device % c->system.nmemory];
}

/* ---- opening ---- */

pac_data_opts pac_job_data_options(const pac_job *j)
{
    const pac_config *c = &j->cfg;
    return (pac_data_opts){
        .task = j->task,
        .tokenizer = j->tokenizer,
        .max_source = c->task.max_source,
        .max_target = c->task.max_target,
        .pad_max = c->task.pad_max,
        .classification = c->head == PAC_HEAD_CLASSIFICATION,
        .separate = c->task.pairs_separate,
        .pad_id = j->desc.pad_id,
        .eos_id = j->desc.eos_id,
        .vocab = j->desc.vocab,
    };
}

/*
 * Sequences that the model has no positions for are found before any work is done, not in the step that meets them. A
 * classification head's decoder reads the source.
 */
static pac_err check_lengths(const pac_job *j, const pac_dataset *d, const char *path)
{
    int64_t most = j->desc.max_positions;
    bool written = j->desc.layers[PAC_DEC] > 0 && !j->batching.shift_source;
    for (int64_t i = 0; i < d->rows && most > 0; i++) {
        int64_t source = d->soff[i + 1] - d->soff[i], target = written ? d->toff[i + 1] - d->toff[i] : 0;
        int64_t second = j->batching.separate && d->second != NULL ? d->second[i] : 0;
        int64_t longest = second > source - second ? second : source - second;
        PAC_CHECK(longest <= most && target <= most, PAC_EDATA,
                  "%s: row %lld has a sequence of %lld tokens; the model has %lld positions: set task.%s to at most %lld", path,
                  (long long)i + 1, (long long)(longest > most ? longest : target), (long long)most,
                  longest > most ? "max_source" : "max_target", (long long)most);
    }
    return PAC_OK;
}

static pac_err load_checked(const pac_job *j, const char *path, const pac_data_opts *o, pac_dataset *data, pac_gold *gold)
{
    PAC_TRY(pac_data_load(path, o, data, gold));
    return check_lengths(j, data, path);
}

/* task.split: paper: rows to train on, rows that choose the epoch, rows that test. Both files are needed to tell them apart. */
static pac_err load_split(pac_job *j, const pac_data_opts *o)
{
    pac_labelled train = {0}, eval = {0};
    pac_parts parts;
    pac_err err;
    PAC_GO(load_checked(j, j->cfg.task.train, o, &train.data, &train.gold));
    PAC_GO(load_checked(j, j->cfg.task.eval, o, &eval.data, &eval.gold));
    PAC_GO(pac_data_split(j->task, &train, &eval, &parts));
    j->train = parts.train.data;
    pac_gold_free(&parts.train.gold);
    j->eval = parts.validation.data;
    j->gold = parts.validation.gold;
    j->test = parts.test.data;
    j->test_gold = parts.test.gold;
out:
    pac_labelled_free(&train);
    pac_labelled_free(&eval);
    return err;
}

pac_err job_load_data(pac_job *j, int data)
{
    const pac_config *c = &j->cfg;
    if (pac_task_needs_tokenizer(j->task)) {
        PAC_TRY(pac_tokenizer_open(c->model.path, &j->tokenizer));
        PAC_CHECK(pac_tokenizer_size(j->tokenizer) <= j->desc.vocab, PAC_EDATA,
                  "%s: the tokenizer has %lld pieces, the model's vocabulary only %lld", c->model.path,
                  (long long)pac_tokenizer_size(j->tokenizer), (long long)j->desc.vocab);
        j->tokenizer_id = pac_tokenizer_identity(j->tokenizer);
    }
    pac_data_opts o = pac_job_data_options(j);
    if (c->task.split_paper && c->task.eval[0] != '\0')
        return load_split(j, &o);
    if (data & PAC_JOB_TRAIN)
        PAC_TRY(load_checked(j, c->task.train, &o, &j->train, NULL));
    if ((data & PAC_JOB_EVAL) && c->task.eval[0] != '\0')
        PAC_TRY(load_checked(j, c->task.eval, &o, &j->eval, &j->gold));
    return PAC_OK;
}

void pac_job_use_test(pac_job *j)
{
    pac_dataset data = j->eval;
    pac_gold gold = j->gold;
    if (j->test.rows == 0)
        return;
    j->eval = j->test;
    j->gold = j->test_gold;
    j->test = data;
    j->test_gold = gold;
}

static pac_err share_identities(pac_job *j)
{
    pac_err err = PAC_OK;
    uint64_t id = 0;
    if (pac_node_rank() == 0)
        err = pac_model_identity(j->cfg.model.path, &id);
    PAC_TRY(pac_agree(pac_world(), err));
    PAC_TRY(pac_bcast(pac_node(), &id, sizeof id, 0));
    err = pac_agree_same(pac_world(), id, "identity of the backbone");
    if (err == PAC_EINTERNAL)
        return pac_fail(PAC_EDATA, "%s: the backbone's files differ between devices: copy one directory to all",
                        j->cfg.model.path);
    PAC_TRY(err);
    j->model_id = id;
    return pac_bcast(pac_world(), &j->tokenizer_id, sizeof j->tokenizer_id, 0);
}

/*
 * Ranks of a node share its cores: each core is divided among the ranks that may run on it. So a rank bound to cores of its own
 * uses them all, and ranks bound together (to a socket, a container) or not at all use a part each.
 */
static pac_err choose_threads(void)
{
    unsigned char mine[PAC_CORE_MASK], all[PAC_CORE_MASK * PAC_MAX_DEVICES];
    size_t counts[PAC_MAX_DEVICES];
    double share = 0;
    int64_t ranks = pac_node_size(), cores = pac_cores(mine);
    for (int64_t r = 0; r < ranks; r++)
        counts[r] = sizeof mine;
    PAC_TRY(pac_allgatherv(pac_node(), mine, sizeof mine, all, counts));
    for (int bit = 0; bit < 8 * PAC_CORE_MASK; bit++) {
        int64_t users = 0;
        for (int64_t r = 0; r < ranks; r++)
            users += all[r * PAC_CORE_MASK + bit / 8] >> bit % 8 & 1;
        if (mine[bit / 8] >> bit % 8 & 1)
            share += 1.0 / (double)users;
    }
    int64_t used = pac_pool_set_threads(share >= 1 ? (int64_t)(share + 0.001) : 1);
    pac_log(PAC_LOG_INFO, "ranks %lld, nodes %lld, threads per rank %lld, cores here %lld", (long long)pac_world_size(),
            (long long)pac_node_count(), (long long)used, (long long)cores);
    return PAC_OK;
}

static pac_err share_if_any(pac_dataset *d)
{
    int64_t rows = d->rows;
    PAC_TRY(pac_bcast(pac_world(), &rows, sizeof rows, 0));
    return rows > 0 ? share_dataset(d) : PAC_OK;
}

/*
 * In bf16 both ways of cross-attention round differently, and which one is cheaper depends on the samples that a rank gets. One
 * way for all of a run, by the mean sample, keeps layouts equal.
 */
static void settle_cross(const pac_job *j)
{
    const pac_dataset *d = &j->train;
    if (j->desc.dtype != PAC_BF16 || j->desc.layers[PAC_DEC] == 0 || d->rows == 0)
        return;
    double S = (double)d->soff[d->rows] / (double)d->rows, T = (double)d->toff[d->rows] / (double)d->rows;
    pac_cross_force(pac_cross_of(&j->desc.block[PAC_DEC], j->batching.shift_source ? S : T, S));
}

/* What ranks do together must not depend on what one of them computes with: `backend: auto` may differ. */
static pac_err meet_memories(pac_job *j)
{
    int64_t devices = j->be->space != NULL;
    PAC_TRY(pac_sum_i64(pac_world(), &devices, 1));
    j->on_hosts = devices == 0;
    return PAC_OK;
}

static pac_err open_job(pac_job *j, int data)
{
    PAC_CHECK(pac_world_size() <= PAC_MAX_DEVICES, PAC_EUSAGE, "%lld ranks: at most %d are supported",
              (long long)pac_world_size(), PAC_MAX_DEVICES);
    PAC_TRY(choose_threads());
    PAC_TRY(pac_agree(pac_world(), job_describe(j)));
    PAC_TRY(pac_agree(pac_world(), job_backend(j)));
    PAC_TRY(meet_memories(j));
    PAC_TRY(share_weights(j));
    PAC_TRY(job_try_direct(j));
    PAC_TRY(pac_agree(pac_world(), job_budget(j)));
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() == 0 ? job_load_data(j, data) : PAC_OK));
    PAC_TRY(share_if_any(&j->train));
    PAC_TRY(share_if_any(&j->eval));
    PAC_TRY(share_if_any(&j->test));
    settle_cross(j);
    return share_identities(j);
}

pac_err pac_job_open(const pac_config *cfg, int data, const pac_observer *watch, pac_job **out)
{
    void *p;
    PAC_TRY(pac_agree(pac_world(), pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_job), &p)));
    pac_job *j = p;
    j->cfg = *cfg;
    if (watch != NULL)
        j->watch = *watch;
    pac_err err = open_job(j, data);
    if (err != PAC_OK)
        pac_job_close(&j);
    else
        *out = j;
    return err;
}

void pac_job_close(pac_job **jp)
{
    pac_job *j = *jp;
    if (j == NULL)
        return;
    pac_dataset_free(&j->train);
    pac_dataset_free(&j->eval);
    pac_gold_free(&j->gold);
    pac_dataset_free(&j->test);
    pac_gold_free(&j->test_gold);
    if (j->tokenizer != NULL)
        pac_tokenizer_close(&j->tokenizer);
    pac_shelf_free(&j->desc.shelf);
    job_backend_done(j);
    pac_mem_free(j);
    *jp = NULL;
}
