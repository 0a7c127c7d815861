/* Metrics of a task over its evaluation rows: rounds of the evaluator, outputs as text at rank 0, numbers to all ranks. */
#include "evaluate.h"
#include "predictions.h"
#include "train.h"
#include "pac/clock.h"

#include <math.h>
#include <stdio.h>

pac_err decoded_new(int64_t rows, int64_t max_new, decoded *out)
{
    decoded d = {.max_new = max_new};
    void *p;
    pac_err err;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, rows * max_new, sizeof(int32_t), &p));
    d.token = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, rows, sizeof(int64_t), &p));
    d.length = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, rows, 1, &p));
    d.ended = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, rows, sizeof(double), &p));
    d.score = p;
    *out = d;
    return PAC_OK;
out:
    decoded_free(&d);
    return err;
}

void decoded_free(decoded *d)
{
    pac_mem_free(d->token);
    pac_mem_free(d->length);
    pac_mem_free(d->ended);
    pac_mem_free(d->score);
    *d = (decoded){0};
}

int64_t longest_answer(const pac_job *job, int64_t wanted)
{
    int64_t most = job->desc.max_positions;
    return most > 0 && most < wanted ? most : wanted;
}

int64_t longest_source(const pac_dataset *data)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < data->rows; i++)
        longest = data->soff[i + 1] - data->soff[i] > longest ? data->soff[i + 1] - data->soff[i] : longest;
    return longest;
}

static pac_err keep_texts(const pac_job *job, const decoded *d, int64_t n, char **text)
{
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(pac_task_output_text(job->task, job->tokenizer, job->desc.eos_id, d->token + i * d->max_new, d->length[i],
                                     &text[i]));
    return PAC_OK;
}

/* ---- the whole data set ---- */

static pac_err run_rounds(const pac_job *job, evaluator *e, decoded *d, predictions *r)
{
    const pac_observer *w = &job->watch;
    int64_t rows = job->eval.rows, round = evaluator_round_rows(e);
    double start = pac_now();
    for (int64_t lo = 0; lo < rows; lo += round) {
        int64_t n = lo + round < rows ? round : rows - lo;
        pac_set_phase("evaluation", lo / round);
        PAC_TRY(evaluator_encode(e, &job->eval, lo, n, &r->loss, r->scores));
        if (job->tune.head == PAC_HEAD_LM) {
            PAC_TRY(evaluator_generate(e, n, d));
            if (pac_world_rank() == 0)
                PAC_TRY(keep_texts(job, d, n, r->text + lo));
        }
        if (w->progress != NULL && pac_world_rank() == 0)
            w->progress(w->user, &(pac_progress){.phase = "evaluation",
                                                 .done = lo / round + 1,
                                                 .total = (rows + round - 1) / round,
                                                 .seconds = pac_now() - start,
                                                 .loss = (double)NAN});
    }
    return PAC_OK;
}

/* Class numbers (of equals the first), or the values of a regression. */
static pac_err class_numbers(const predictions *r, int64_t rows, double **out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, rows, sizeof(double), &p));
    double *number = p;
    for (int64_t i = 0; i < rows; i++)
        number[i] = r->C == 1 ? r->scores[i] : (double)best_class(r->scores + i * r->C, r->C);
    *out = number;
    return PAC_OK;
}

static pac_err metrics_at_root(const pac_job *job, const predictions *r, pac_metrics *m)
{
    double *number = NULL;
    if (r->C == 0)
        return pac_task_metrics(job->task, &job->gold, (const char *const *)r->text, NULL, m);
    PAC_TRY(class_numbers(r, job->eval.rows, &number));
    pac_err err = pac_task_metrics(job->task, &job->gold, NULL, number, m);
    pac_mem_free(number);
    return err;
}

static pac_err finish_metrics(const pac_job *job, predictions *r, pac_metrics *m)
{
    PAC_TRY(pac_sum_f64(pac_world(), &r->loss, 1));
    if (r->C > 0)
        PAC_TRY(pac_sum_f64(pac_world(), r->scores, job->eval.rows * r->C));
    *m = (pac_metrics){0};
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() == 0 ? metrics_at_root(job, r, m) : PAC_OK));
    PAC_TRY(pac_bcast(pac_world(), m, sizeof *m, 0));
    int64_t counted = r->C > 0 ? job->eval.rows : 0;
    for (int64_t t = 0; r->C == 0 && t < job->eval.toff[job->eval.rows]; t++)
        counted += job->eval.labels[t] >= 0;
    if (counted > 0 && m->count < PAC_MAX_METRICS) {
        snprintf(m->v[m->count].name, sizeof m->v[0].name, "loss");
        m->v[m->count++].value = r->loss / (double)counted;
    }
    return PAC_OK;
}

static pac_err predictions_new(const pac_job *job, predictions *r)
{
    void *p;
    int64_t rows = job->eval.rows;
    if (job->tune.head == PAC_HEAD_CLASSIFICATION) {
        r->C = job->tune.classes;
        PAC_TRY(pac_mem_array(PAC_MEM_WORK, rows * r->C, sizeof(double), &p));
        r->scores = p;
        return PAC_OK;
    }
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, rows, sizeof(char *), &p));
    r->text = p;
    return PAC_OK;
}

static void predictions_free(predictions *r, int64_t rows)
{
    for (int64_t i = 0; r->text != NULL && i < rows; i++)
        pac_mem_free(r->text[i]);
    pac_mem_free(r->text);
    pac_mem_free(r->scores);
}

pac_err evaluate(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, evaluation *out)
{
    return evaluate_rows(job, plan, own, tuned, NULL, out);
}

pac_err evaluate_rows(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, const char *path,
                      evaluation *out)
{
    evaluator e;
    decoded d = {0};
    predictions r = {0};
    const writing how = {
        .beams = 1, .max_new = longest_answer(job, job->cfg.task.max_target), .max_source = longest_source(&job->eval)};
    evaluation v = {0};
    double start = pac_now();
    pac_err err;
    if (own == NULL && tuned == NULL && job->tune.head == PAC_HEAD_CLASSIFICATION) { /* a backbone alone has no classes */
        *out = v;
        return PAC_OK;
    }
    PAC_TRY(evaluator_open(job, plan, own, tuned, how, &e));
    err = predictions_new(job, &r);
    if (err == PAC_OK)
        err = decoded_new(evaluator_round_rows(&e), how.max_new, &d);
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(run_rounds(job, &e, &d, &r));
    PAC_GO(finish_metrics(job, &r, &v.metrics));
    if (path != NULL)
        PAC_GO(pac_agree(pac_world(), pac_world_rank() == 0 ? predictions_write(job, &r, path) : PAC_OK));
    pac_process_memory now;
    pac_process_memory_read(&now);
    v.pss = now.pss;
    v.seconds = pac_now() - start;
    *out = v;
out:
    predictions_free(&r, job->eval.rows);
    decoded_free(&d);
    evaluator_close(&e, err);
    return err;
}
