/*
 * Answers to lines, one at a time: rank 0 reads and tokenises, all ranks decode through the stages, rank 0 answers. A line that cannot
 * be used is answered with its error, and the next one is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "predict.h"

/* ---- one input line as a data set of one row (rank 0) ---- */

static pac_err ids_from_json(json_t *list, const char *what, int64_t vocab, int32_t **out, int64_t *n)
{
    void *p;
    size_t i;
    json_t *v;
    PAC_CHECK(json_is_array(list) && json_array_size(list) > 0, PAC_EDATA, "%s: a non-empty list of token ids is expected", what);
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, (int64_t)json_array_size(list), sizeof(int32_t), &p));
    json_array_foreach(list, i, v)
    {
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id >= vocab || (id < 0 && id != PAC_IGNORE)) {
            pac_mem_free(p);
            return pac_fail(PAC_EDATA, "%s: item %zu is no token id below %lld", what, i, (long long)vocab);
        }
        ((int32_t *)p)[i] = (int32_t)id;
    }
    *out = p;
    *n = (int64_t)json_array_size(list);
    return PAC_OK;
}

static pac_err offsets(int64_t n, int64_t **out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, 2, sizeof(int64_t), &p));
    *out = p;
    (*out)[1] = n;
    return PAC_OK;
}

static pac_err row_from_ids(json_t *object, int64_t vocab, pac_dataset *d)
{
    int64_t ns = 0, nt = 0;
    json_t *labels = json_object_get(object, "labels");
    *d = (pac_dataset){.rows = 1};
    PAC_TRY(ids_from_json(json_object_get(object, "input_ids"), "input_ids", vocab, &d->sids, &ns));
    for (int64_t i = 0; i < ns; i++)
        PAC_CHECK(d->sids[i] >= 0, PAC_EDATA, "input_ids: item %lld is negative", (long long)i);
    if (labels != NULL)
        PAC_TRY(ids_from_json(labels, "labels", vocab, &d->labels, &nt));
    PAC_TRY(offsets(ns, &d->soff));
    return offsets(nt, &d->toff);
}

static pac_err row_from_text(const pac_job *job, json_t *object, pac_dataset *d)
{
    const char *text = json_string_value(json_object_get(object, "text"));
    const char *pair = json_string_value(json_object_get(object, "text_pair"));
    char *line;
    void *p;
    PAC_CHECK(text != NULL, PAC_EDATA, "the object has neither \"text\" nor \"input_ids\"");
    size_t n = strlen(text) + (pair != NULL ? strlen(pair) : 0) + 2;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, n, &p));
    line = p;
    snprintf(line, n, pair != NULL ? "%s\t%s" : "%s", text, pair);
    pac_data_opts o = pac_job_data_options(job);
    pac_err err = pac_data_from_line(line, &o, d);
    pac_mem_free(line);
    return err;
}

static pac_err row_from_line(const pac_job *job, bool json_lines, const char *line, pac_dataset *d)
{
    json_error_t e;
    pac_data_opts o = pac_job_data_options(job);
    if (!json_lines) {
        PAC_CHECK(job->tokenizer != NULL, PAC_EDATA, "task %s takes token ids: use --input with JSON lines of input_ids",
                  job->cfg.task.name);
        return pac_data_from_line(line, &o, d);
    }
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &e);
    PAC_CHECK(object != NULL, PAC_EDATA, "column %d: %s", e.column, e.text);
    pac_err err = json_object_get(object, "input_ids") != NULL ? row_from_ids(object, job->desc.vocab, d)
                                                               : row_from_text(job, object, d);
    json_decref(object);
    return err;
}

/* ---- answers ---- */

static json_t *id_list(const int32_t *ids, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static void say(const pac_predict_opts *o, json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (text != NULL)
        o->answer(o->user, text);
    free(text);
}

static void say_error(const predictor *p)
{
    char line[2100];
    if (p->opts->json_lines) {
        say(p->opts, json_pack("{s:s}", "error", pac_err_message()));
        return;
    }
    snprintf(line, sizeof line, "error: %s", pac_err_message());
    p->opts->answer(p->opts->user, line);
}

static pac_err say_text(const predictor *p)
{
    char *text;
    const decoded *d = &p->out;
    PAC_TRY(output_text(p->job, d->token, d->length[0], &text));
    if (p->opts->json_lines)
        say(p->opts, json_pack("{s:s, s:o}", "text", text, "output_ids", id_list(d->token, d->length[0])));
    else
        p->opts->answer(p->opts->user, text);
    pac_mem_free(text);
    return PAC_OK;
}

static void say_class(const predictor *p, const float *score)
{
    const char *const *words = pac_task_label_words(p->job->task);
    int64_t C = p->job->side.classes, best = 0;
    char number[32];
    json_t *scores = json_array();
    for (int64_t c = 0; c < C; c++) {
        json_array_append_new(scores, json_real((double)score[c]));
        best = score[c] > score[best] ? c : best;
    }
    snprintf(number, sizeof number, C == 1 ? "%.3f" : "%.0f", C == 1 ? (double)score[0] : (double)best);
    const char *label = words != NULL && C > 1 ? words[best] : number;
    if (p->opts->json_lines)
        say(p->opts, json_pack("{s:s, s:O}", "label", label, "scores", scores));
    else
        p->opts->answer(p->opts->user, label);
    json_decref(scores);
}

/* ---- one line ---- */

static pac_err share_row(pac_dataset *d)
{
    int64_t n[2] = {0, 0};
    pac_err err = PAC_OK;
    void *p;
    if (pac_world_rank() == 0) {
        n[0] = d->soff[1];
        n[1] = d->toff[1];
    }
    PAC_TRY(pac_bcast(pac_world(), n, sizeof n, 0));
    if (pac_world_rank() != 0) {
        *d = (pac_dataset){.rows = 1};
        err = offsets(n[0], &d->soff);
        if (err == PAC_OK)
            err = offsets(n[1], &d->toff);
        if (err == PAC_OK && (err = pac_mem_array(PAC_MEM_DATA, n[0], sizeof(int32_t), &p)) == PAC_OK)
            d->sids = p;
        if (err == PAC_OK && (err = pac_mem_array(PAC_MEM_DATA, n[1], sizeof(int32_t), &p)) == PAC_OK)
            d->labels = p;
    }
    PAC_TRY(pac_agree(pac_world(), err));
    PAC_TRY(pac_bcast(pac_world(), d->sids, (size_t)n[0] * sizeof(int32_t), 0));
    return n[1] > 0 ? pac_bcast(pac_world(), d->labels, (size_t)n[1] * sizeof(int32_t), 0) : PAC_OK;
}

static pac_err answer_classes(predictor *p, const pac_dataset *row)
{
    int64_t C = p->job->side.classes;
    float logits[PREDICT_MAX_CLASSES] = {0};
    PAC_TRY(evaluator_logits(&p->e, logits, 1, C));
    if (pac_world_rank() == 0)
        say_class(p, logits);
    return p->opts->logits_path == NULL ? PAC_OK : predict_keep(p, row, logits, 1, C);
}

/* Rows of the decoder are forced to the labels, or to what was said where there are none. */
static pac_err keep_logits(predictor *p, pac_dataset *row)
{
    int64_t V = p->job->desc.vocab, T = row->toff[1] > 0 ? row->toff[1] : p->out.length[0];
    pac_dataset said = *row;
    int64_t toff[2] = {0, T};
    float *logits = NULL;
    void *memory = NULL;
    if (row->toff[1] == 0) {
        said.toff = toff;
        said.labels = p->out.token;
    }
    PAC_TRY(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, T * V, sizeof(float), &memory)));
    logits = memory;
    pac_err err = evaluator_encode(&p->e, &said, 0, 1, NULL, NULL);
    if (err == PAC_OK)
        err = evaluator_logits(&p->e, logits, T, V);
    if (err == PAC_OK)
        err = predict_keep(p, row, logits, T, V);
    pac_mem_free(memory);
    return err;
}

static pac_err answer_row(predictor *p, pac_dataset *row)
{
    PAC_TRY(evaluator_encode(&p->e, row, 0, 1, NULL, NULL));
    if (p->job->side.head == PAC_HEAD_CLASSIFICATION)
        return answer_classes(p, row);
    PAC_TRY(evaluator_greedy(&p->e, 1, &p->out));
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() == 0 ? say_text(p) : PAC_OK));
    return p->opts->logits_path == NULL ? PAC_OK : keep_logits(p, row);
}

/* Rank 0 decides what happens next: 0 end, 1 a row, 2 a line that could not be used. */
static int next_line(predictor *p, pac_dataset *row)
{
    char *line = NULL;
    if (!p->opts->read_line(p->opts->user, &line))
        return 0;
    p->line++;
    pac_err err = row_from_line(p->job, p->opts->json_lines, line, row);
    free(line);
    if (err == PAC_OK)
        return 1;
    pac_fail_context(err, "line %lld", (long long)p->line);
    say_error(p);
    pac_dataset_free(row);
    return 2;
}

pac_err predict_lines(predictor *p)
{
    for (;;) {
        pac_dataset row = {0};
        int state = pac_world_rank() == 0 ? next_line(p, &row) : 0;
        PAC_TRY(pac_bcast(pac_world(), &state, sizeof state, 0));
        if (state == 0)
            return PAC_OK;
        if (state == 2)
            continue;
        pac_err err = share_row(&row);
        if (err == PAC_OK)
            err = answer_row(p, &row);
        pac_dataset_free(&row);
        PAC_TRY(err);
    }
}
