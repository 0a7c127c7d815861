/* The predict command: a job from a model directory and saved adapters, a pipeline over the ranks, and the file of logits. */
#include "adapters.h"
#include "planning.h"
#include "predict.h"
#include "share.h"
#include "pac/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- logits ---- */

static float mean_loss(const pac_job *job, const int32_t *labels, const float *logits, int64_t T, int64_t C)
{
    double sum = 0;
    int64_t counted = 0;
    for (int64_t t = 0; labels != NULL && t < T; t++) {
        float loss = 0;
        if (labels[t] < 0)
            continue;
        pac_backend_host(job->be)->xent(&loss, (float *)logits + t * C, &labels[t], 1, C, 1.0f,
                                        false); /* grad false: logits are only read */
        sum += (double)loss;
        counted++;
    }
    return counted > 0 ? (float)(sum / (double)counted) : NAN;
}

static pac_err keep_at_root(predictor *p, const int32_t *labels, const float *logits, int64_t T, int64_t C)
{
    void *copy;
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_mem_grow(PAC_MEM_WORK, &p->kept, &p->capacity, p->nkept + 1, sizeof(kept_logits)));
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, T * C, sizeof(float), &copy));
    memcpy(copy, logits, (size_t)(T * C) * sizeof(float));
    ((kept_logits *)p->kept)[p->nkept++] = (kept_logits){T, C, copy, mean_loss(p->job, labels, logits, T, C)};
    return PAC_OK;
}

pac_err predict_keep(predictor *p, const int32_t *labels, const float *logits, int64_t T, int64_t C)
{
    return pac_agree(pac_world(), keep_at_root(p, labels, logits, T, C));
}

typedef struct logits_file {
    pac_st_entry *entry;
    char (*name)[32];
    float *loss;
} logits_file;

static pac_err fill_logits_file(const predictor *p, logits_file *f)
{
    const kept_logits *k = p->kept;
    bool classes = p->job->tune.head == PAC_HEAD_CLASSIFICATION;
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, p->nkept + 1, sizeof(pac_st_entry), &v));
    f->entry = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, p->nkept + 1, sizeof *f->name, &v));
    f->name = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, p->nkept + 1, sizeof(float), &v));
    f->loss = v;
    for (int64_t i = 0; i < p->nkept; i++) {
        snprintf(f->name[i], sizeof f->name[i], "logits.%lld", (long long)i);
        pac_tensor t = {
            .dtype = PAC_F32, .ndim = classes ? 1 : 2, .shape = {classes ? k[i].C : k[i].T, k[i].C}, .data = k[i].data};
        f->entry[i] = (pac_st_entry){f->name[i], t};
        f->loss[i] = k[i].loss;
    }
    f->entry[p->nkept] = (pac_st_entry){"loss", {.dtype = PAC_F32, .ndim = 1, .shape = {p->nkept}, .data = f->loss}};
    return PAC_OK;
}

static pac_err write_logits(const predictor *p)
{
    logits_file f = {0};
    if (pac_world_rank() != 0 || p->opts->logits_path == NULL)
        return PAC_OK;
    pac_err err = fill_logits_file(p, &f);
    if (err == PAC_OK)
        err = pac_st_write(p->opts->logits_path, f.entry, p->nkept + 1, NULL);
    pac_mem_free(f.entry);
    pac_mem_free(f.name);
    pac_mem_free(f.loss);
    return err;
}

static void predictor_close(predictor *p, pac_err err)
{
    for (int64_t i = 0; i < p->nkept; i++)
        pac_mem_free(((kept_logits *)p->kept)[i].data);
    pac_mem_free(p->kept);
    decoded_free(&p->out);
    evaluator_close(&p->e, err);
}

/* ---- opening ---- */

enum { MOST_TOKENS = 1 << 20, CUT_TEXT = 512 }; /* of a sequence; of a source text without adapters */

static pac_err find_tokenizer(const char *dir, int *found)
{
    pac_tokenizer *t;
    if (pac_world_rank() != 0)
        return PAC_OK;
    pac_err err = pac_tokenizer_open(dir, &t);
    *found = err == PAC_OK;
    if (err == PAC_OK)
        pac_tokenizer_close(&t);
    return err == PAC_EDATA || err == PAC_ENOMEM ? err : PAC_OK; /* a damaged one is no reason to ask for numbers */
}

/* Without adapters there is only text: what the numbers of a classifier mean is known from adapters.json. */
static pac_err check_writes_text(const char *dir)
{
    static const char classifier[] = "ForSequenceClassification";
    pac_model_desc d;
    json_t *config;
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_model_describe(dir, &d));
    PAC_TRY(adapters_read_json(dir, "config.json", &config));
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    size_t n = name != NULL ? strlen(name) : 0, end = strlen(classifier);
    pac_err err = PAC_OK;
    if (d.layers[PAC_DEC] == 0 || (n >= end && strcmp(name + n - end, classifier) == 0))
        err = pac_fail(PAC_EUSAGE,
                       "%s is no model that writes text (%.80s): pac predict answers with classes where it is given the model "
                       "that was tuned and --adapters DIR (a merged classifier is for transformers)",
                       dir, name != NULL ? name : "without a decoder");
    json_decref(config);
    return err;
}

/* Without adapters: text to text where the model has a tokenizer, else token ids. */
static pac_err choose_task(const pac_predict_opts *o, pac_config *c)
{
    int has_tokenizer = 0;
    PAC_TRY(pac_agree(pac_world(), check_writes_text(o->model_dir)));
    PAC_TRY(pac_agree(pac_world(), find_tokenizer(o->model_dir, &has_tokenizer)));
    PAC_TRY(pac_bcast(pac_world(), &has_tokenizer, sizeof has_tokenizer, 0));
    strcpy(c->task.name, has_tokenizer ? "seq2seq" : "tokens");
    c->technique.kind = PAC_TECH_FULL; /* nothing is added to the model, so no width must divide anything */
    c->task.max_source = has_tokenizer ? CUT_TEXT : MOST_TOKENS;
    c->task.max_target = 32;
    return PAC_OK;
}

static pac_err configure(const pac_predict_opts *o, pac_config *c)
{
    PAC_CHECK(strlen(o->model_dir) < sizeof c->model.path, PAC_EUSAGE, "--model: path too long");
    strcpy(c->model.path, o->model_dir);
    if (o->backend != NULL)
        snprintf(c->backend, sizeof c->backend, "%s", o->backend);
    return PAC_OK;
}

static pac_err load_adapters(const pac_job *job, const pac_predict_opts *o, const adapters_info *info, const pac_plan *plan,
                             stage **s)
{
    if (o->adapters_dir == NULL)
        return PAC_OK;
    PAC_TRY(pac_agree(pac_world(), adapters_check(job, info, o->adapters_dir)));
    PAC_TRY(evaluator_load(job, plan, s));
    return adapters_load(job, o->adapters_dir, pac_tuned_params((*s)->tuned));
}

/* Labels are there to be scored, every one of them. */
static pac_err load_input(const pac_job *job, const char *path, pac_dataset *data)
{
    pac_data_opts o = pac_job_data_options(job);
    if (!o.pad_max)
        o.max_target = MOST_TOKENS;
    PAC_TRY(pac_data_load_inputs(path, &o, data));
    for (int64_t i = 0; i < data->rows; i++) {
        int64_t n = data->toff[i + 1] - data->toff[i];
        PAC_CHECK(longest_answer(job, n) == n, PAC_EDATA, "%s: row %lld has %lld labels; the model has %lld positions", path,
                  (long long)i + 1, (long long)n, (long long)job->desc.max_positions);
    }
    return PAC_OK;
}

/* The rows of the input file, on every rank; none where lines are typed. */
static pac_err read_input(const pac_job *job, const char *path, pac_dataset *data)
{
    if (path == NULL)
        return PAC_OK;
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() == 0 ? load_input(job, path, data) : PAC_OK));
    return share_dataset(data);
}

static pac_err check_search(const pac_job *job, const pac_predict_opts *o)
{
    int64_t most = job->desc.max_positions > 0 ? job->desc.max_positions : MOST_TOKENS;
    bool writes = job->tune.head == PAC_HEAD_LM;
    PAC_CHECK(writes || (o->beams <= 1 && o->max_new == 0), PAC_EUSAGE,
              "--%s: these adapters answer with a class, not with text", o->beams > 1 ? "beams" : "max-new");
    PAC_CHECK(o->beams <= job->desc.vocab / 2 || !writes, PAC_EUSAGE, "--beams %lld: at most half of the vocabulary (%lld)",
              (long long)o->beams, (long long)job->desc.vocab / 2);
    PAC_CHECK(o->max_new <= most, PAC_EUSAGE, "--max-new %lld: %s %lld", (long long)o->max_new,
              most < MOST_TOKENS ? "the model's positions are" : "at most", (long long)most);
    return PAC_OK;
}

static pac_err run_predictor(const pac_job *job, const pac_predict_opts *o, const pac_dataset *data, const pac_plan *plan,
                             stage *own)
{
    predictor p = {.job = job, .opts = o};
    writing how = {.beams = o->beams > 1 ? o->beams : 1, .max_new = o->max_new, .max_source = longest_source(data)};
    pac_err err;
    if (how.max_new == 0)
        how.max_new = longest_answer(job, job->cfg.task.max_target);
    PAC_TRY(evaluator_open(job, plan, own, NULL, how, &p.e));
    PAC_GO(pac_agree(pac_world(), decoded_new(evaluator_round_rows(&p.e), how.max_new, &p.out)));
    PAC_GO(pac_agree(pac_world(), write_logits(&p))); /* without rows: a path that cannot be written is told now */
    PAC_GO(o->input_path != NULL ? predict_rows(&p, data) : predict_lines(&p));
    err = pac_agree(pac_world(), write_logits(&p));
out:
    predictor_close(&p, err);
    return err;
}

pac_err pac_predict(const pac_predict_opts *o, const pac_observer *watch)
{
    pac_config c;
    adapters_info info = {0};
    pac_job *job = NULL;
    stage *s = NULL;
    pac_plan plan = {0};
    pac_dataset data = {0};
    pac_err err;
    pac_config_defaults(&c);
    PAC_TRY(pac_agree(pac_world(), configure(o, &c)));
    PAC_TRY(o->adapters_dir != NULL ? adapters_configure(o->adapters_dir, &c, &info) : choose_task(o, &c));
    PAC_TRY(pac_job_open(&c, 0, watch, &job));
    PAC_GO(check_search(job, o));
    job->cfg.task.max_source = longest_answer(job, job->cfg.task.max_source); /* longer lines are cut, not refused */
    PAC_GO(read_input(job, o->input_path, &data));
    PAC_GO(plan_for_evaluation(job, &plan));
    PAC_GO(load_adapters(job, o, &info, &plan, &s));
    err = run_predictor(job, o, &data, &plan, s);
out:
    pac_dataset_free(&data);
    if (may_free(err))
        stage_free(&s);
    pac_plan_free(&plan);
    pac_job_close(&job);
    return err;
}
