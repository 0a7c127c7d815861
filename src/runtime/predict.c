/*
 * Answers: rows of a file in rounds, or one typed line at a time. Rank 0 reads and tokenises, all ranks decode through the
 * stages, rank 0 answers. A typed line that cannot be used is answered with its error, and the next one is read.
 */
#include "predict.h"
#include "predictions.h"
#include "share.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { A_YEAR = 365 * 24 * 3600 }; /* seconds */

/* ---- answers (rank 0) ---- */

static json_t *id_list(const int32_t *ids, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static pac_err say(const predictor *p, const char *line)
{
    return p->opts->answer(p->opts->user, line);
}

/* Takes the reference to object. */
static pac_err say_json(const predictor *p, json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    pac_err err = text != NULL ? say(p, text) : pac_fail(PAC_ENOMEM, "no memory for an answer");
    json_decref(object);
    free(text);
    return err;
}

/* One line, whatever the model wrote. */
static pac_err say_text(const predictor *p, char *text)
{
    for (char *at = text; (at = strpbrk(at, "\r\n")) != NULL;)
        *at = ' ';
    return say(p, text);
}

/* The message may quote a part of the line that ends inside a character. */
static pac_err say_error(const predictor *p)
{
    char line[2100];
    snprintf(line, sizeof line, "error: %s", pac_err_message());
    json_t *utf8 = json_string(line); /* NULL: it is none */
    for (char *at = line; *at != '\0' && utf8 == NULL; at++)
        *at = (unsigned char)*at < 0x80 ? *at : '?';
    json_decref(utf8);
    return p->opts->json_lines ? say_json(p, json_pack("{s:s}", "error", line + strlen("error: "))) : say_text(p, line);
}

static pac_err say_output(const predictor *p, int64_t i)
{
    const decoded *d = &p->out;
    const int32_t *ids = d->token + i * d->max_new;
    char *text;
    PAC_TRY(pac_task_output_text(p->job->task, p->job->tokenizer, p->job->desc.eos_id, ids, d->length[i], &text));
    json_t *answer =
        p->opts->json_lines ? json_pack("{s:s, s:o}", "text", text, "output_ids", id_list(ids, d->length[i])) : NULL;
    if (answer != NULL && p->e.how.beams > 1)
        json_object_set_new(answer, "score", json_real(d->score[i]));
    pac_err err = p->opts->json_lines ? say_json(p, answer) : say_text(p, text);
    pac_mem_free(text);
    return err;
}

static pac_err say_class(const predictor *p, const double *scores)
{
    json_t *answer = class_json(p->job, scores);
    if (p->opts->json_lines)
        return say_json(p, answer);
    const char *label = json_string_value(json_object_get(answer, "label"));
    pac_err err = label != NULL ? say(p, label) : pac_fail(PAC_ENOMEM, "no memory for an answer");
    json_decref(answer);
    return err;
}

/* An answer made of such numbers would look like any other. */
static pac_err not_finite(void)
{
    return pac_fail(PAC_ENUMERIC, "the logits of a row are not finite: the weights of the model or the adapters are damaged "
                                  "(NaN or infinity), or too large for float32");
}

/* ---- rows ---- */

static pac_err keep_scores(predictor *p, const double *scores, int64_t C)
{
    float logits[PREDICT_MAX_CLASSES];
    for (int64_t c = 0; c < C; c++)
        logits[c] = (float)scores[c];
    return predict_keep(p, NULL, logits, 1, C);
}

/* scores [rows, C] is zero on entry. */
static pac_err answer_classes(predictor *p, const pac_dataset *data, int64_t first, int64_t n, double *scores)
{
    int64_t C = p->job->tune.classes;
    PAC_TRY(evaluator_encode(&p->e, data, first, n, NULL, scores));
    PAC_TRY(pac_sum_f64(pac_world(), scores + first * C, n * C));
    for (int64_t row = first; row < first + n; row++) {
        pac_err err = PAC_OK;
        for (int64_t c = 0; c < C; c++)
            if (!isfinite(scores[row * C + c]))
                return not_finite();
        if (pac_world_rank() == 0)
            err = say_class(p, scores + row * C);
        PAC_TRY(pac_agree(pac_world(), err));
        if (p->opts->logits_path != NULL)
            PAC_TRY(keep_scores(p, scores + row * C, C));
    }
    return PAC_OK;
}

/* The decoder is forced to the row's labels, or to what was said where there are none. */
static pac_err keep_logits(predictor *p, const pac_dataset *data, int64_t row, int64_t i)
{
    int64_t V = p->job->desc.vocab, labelled = data->toff[row + 1] - data->toff[row];
    int64_t T = labelled > 0 ? labelled : p->out.length[i];
    int64_t soff[2] = {0, data->soff[row + 1] - data->soff[row]}, toff[2] = {0, T};
    pac_dataset one = {.rows = 1, .soff = soff, .toff = toff, .sids = data->sids + data->soff[row]};
    one.labels = labelled > 0 ? data->labels + data->toff[row] : p->out.token + i * p->out.max_new;
    void *logits = NULL;
    pac_err err;
    PAC_GO(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, T * V, sizeof(float), &logits)));
    PAC_GO(evaluator_encode(&p->e, &one, 0, 1, NULL, NULL));
    PAC_GO(evaluator_logits(&p->e, logits, T));
    err = predict_keep(p, labelled > 0 ? one.labels : NULL, logits, T, V);
out:
    pac_mem_free(logits);
    return err;
}

static pac_err answer_texts(predictor *p, const pac_dataset *data, int64_t first, int64_t n)
{
    pac_err err = PAC_OK;
    PAC_TRY(evaluator_encode(&p->e, data, first, n, NULL, NULL));
    PAC_TRY(evaluator_generate(&p->e, n, &p->out));
    for (int64_t i = 0; i < n; i++)
        if (p->out.length[i] == 0)
            return not_finite();
    for (int64_t i = 0; i < n && err == PAC_OK && pac_world_rank() == 0; i++)
        err = say_output(p, i);
    PAC_TRY(pac_agree(pac_world(), err));
    for (int64_t i = 0; i < n && p->opts->logits_path != NULL; i++)
        PAC_TRY(keep_logits(p, data, first + i, i));
    return PAC_OK;
}

pac_err predict_rows(predictor *p, const pac_dataset *data)
{
    int64_t round = evaluator_round_rows(&p->e), C = p->job->tune.classes;
    bool classes = p->job->tune.head == PAC_HEAD_CLASSIFICATION;
    void *scores = NULL;
    pac_err err = PAC_OK;
    if (classes)
        PAC_TRY(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, data->rows * C, sizeof(double), &scores)));
    for (int64_t first = 0; first < data->rows && err == PAC_OK; first += round) {
        int64_t left = data->rows - first, n = left < round ? left : round;
        err = classes ? answer_classes(p, data, first, n, scores) : answer_texts(p, data, first, n);
    }
    pac_mem_free(scores);
    return err;
}

/* ---- typed lines ---- */

typedef enum typed { TYPED_END, TYPED_ROW, TYPED_BAD } typed;

static pac_err row_from_line(const predictor *p, const char *line, size_t bytes, pac_dataset *row)
{
    const char *zero = memchr(line, '\0', bytes);
    PAC_CHECK(zero == NULL, PAC_EDATA, "byte %lld of the line is 0, which is no text", (long long)(zero - line) + 1);
    pac_data_opts o = pac_job_data_options(p->job);
    return pac_data_from_line(line, &o, row);
}

/* At rank 0. */
static pac_err next_line(const predictor *p, pac_dataset *row, typed *what)
{
    char *line = NULL;
    size_t bytes = 0;
    PAC_TRY(p->opts->read_line(p->opts->user, &line, &bytes));
    if (line == NULL) {
        *what = TYPED_END;
        return PAC_OK;
    }
    pac_err err = row_from_line(p, line, bytes, row);
    free(line);
    *what = err == PAC_OK ? TYPED_ROW : TYPED_BAD;
    return err == PAC_OK ? PAC_OK : say_error(p);
}

/* What rank 0 has read, on every rank. A person may think before typing: this wait alone has no deadline to speak of. */
static pac_err await_line(const predictor *p, pac_dataset *row, typed *what)
{
    double usual = pac_set_timeout(A_YEAR);
    pac_err err = pac_agree(pac_world(), pac_world_rank() == 0 ? next_line(p, row, what) : PAC_OK);
    pac_set_timeout(usual);
    return err == PAC_OK ? pac_bcast(pac_world(), what, sizeof *what, 0) : err;
}

pac_err predict_lines(predictor *p)
{
    for (;;) {
        pac_dataset row = {0};
        typed what = TYPED_END;
        PAC_TRY(await_line(p, &row, &what));
        if (what == TYPED_END)
            return PAC_OK;
        if (what == TYPED_BAD)
            continue;
        pac_err err = share_dataset(&row);
        if (err == PAC_OK)
            err = predict_rows(p, &row);
        pac_dataset_free(&row);
        PAC_TRY(err);
    }
}
