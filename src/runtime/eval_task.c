/* Metrics of a task over its evaluation rows: rounds of the evaluator, outputs as text at rank 0, numbers to all ranks. */
#include "evaluate.h"
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

static pac_err keep_texts(const pac_job *job, const decoded *d, int64_t n, char **text)
{
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(pac_task_output_text(job->task, job->tokenizer, job->desc.eos_id, d->token + i * d->max_new, d->length[i],
                                     &text[i]));
    return PAC_OK;
}

/* ---- the whole data set ---- */

typedef struct results {
    double loss;   /* summed over counted rows */
    double *score; /* [rows] classification */
    char **text;   /* [rows], rank 0 */
} results;

static pac_err run_rounds(const pac_job *job, evaluator *e, decoded *d, results *r)
{
    const pac_observer *w = &job->watch;
    int64_t rows = job->eval.rows, round = evaluator_round_rows(e);
    double start = pac_now();
    for (int64_t lo = 0; lo < rows; lo += round) {
        int64_t n = lo + round < rows ? round : rows - lo;
        pac_set_phase("evaluation", lo / round);
        PAC_TRY(evaluator_encode(e, &job->eval, lo, n, &r->loss, r->score));
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

static pac_err finish_metrics(const pac_job *job, results *r, pac_metrics *m)
{
    pac_err err = PAC_OK;
    PAC_TRY(pac_sum_f64(pac_world(), &r->loss, 1));
    PAC_TRY(pac_sum_f64(pac_world(), r->score, job->eval.rows));
    bool lm = job->tune.head == PAC_HEAD_LM;
    *m = (pac_metrics){0};
    if (pac_world_rank() == 0)
        err = pac_task_metrics(job->task, &job->gold, lm ? (const char *const *)r->text : NULL, lm ? NULL : r->score, m);
    PAC_TRY(pac_agree(pac_world(), err));
    PAC_TRY(pac_bcast(pac_world(), m, sizeof *m, 0));
    int64_t counted = lm ? 0 : job->eval.rows;
    for (int64_t t = 0; lm && t < job->eval.toff[job->eval.rows]; t++)
        counted += job->eval.labels[t] >= 0;
    if (counted > 0 && m->count < PAC_MAX_METRICS) {
        snprintf(m->v[m->count].name, sizeof m->v[0].name, "loss");
        m->v[m->count++].value = r->loss / (double)counted;
    }
    return PAC_OK;
}

static pac_err results_new(int64_t rows, results *r)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, rows, sizeof(double), &p));
    r->score = p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, rows, sizeof(char *), &p));
    r->text = p;
    return PAC_OK;
}

static void results_free(results *r, int64_t rows)
{
    for (int64_t i = 0; r->text != NULL && i < rows; i++)
        pac_mem_free(r->text[i]);
    pac_mem_free(r->text);
    pac_mem_free(r->score);
}

pac_err evaluate(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, evaluation *out)
{
    evaluator e;
    decoded d = {0};
    results r = {0};
    evaluation v = {0};
    double start = pac_now();
    pac_err err;
    if (own == NULL && tuned == NULL && job->tune.head == PAC_HEAD_CLASSIFICATION) { /* a backbone alone has no classes */
        *out = v;
        return PAC_OK;
    }
    PAC_TRY(evaluator_open(job, plan, own, tuned, 1, &e));
    err = results_new(job->eval.rows, &r);
    if (err == PAC_OK)
        err = decoded_new(evaluator_round_rows(&e), job->cfg.task.max_target, &d);
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(run_rounds(job, &e, &d, &r));
    PAC_GO(finish_metrics(job, &r, &v.metrics));
    pac_process_memory now;
    pac_process_memory_read(&now);
    v.pss = now.pss;
    v.seconds = pac_now() - start;
    *out = v;
out:
    results_free(&r, job->eval.rows);
    decoded_free(&d);
    evaluator_close(&e, err);
    return err;
}
