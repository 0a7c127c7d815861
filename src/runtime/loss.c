/*
 * Head and loss of a micro-batch. The language-model head works in blocks of rows, so that logits never take more than
 * LOSS_ROWS * V floats whatever the micro-batch; labels that do not count are skipped before the product.
 *
 * A backend with memory of its own may still be computing when stage_loss() returns: the losses of its rows stay there until
 * the mini-batch's is wanted.
 */
#include "stage.h"

enum { LOSS_ROWS = 64 };

int64_t loss_count(const pac_job *job, const pac_dataset *data, const int64_t *sample, int64_t n)
{
    if (job->tune.head == PAC_HEAD_CLASSIFICATION)
        return n;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = data->toff[sample[i]]; t < data->toff[sample[i] + 1]; t++)
            count += data->labels[t] >= 0;
    return count;
}

/* ---- losses of rows ---- */

/* One micro-batch's, that are not the host's. */
typedef struct waiting_loss {
    float *row;
    int64_t n;
    float scale;
} waiting_loss;

static double sum_of(const float *loss, int64_t n, float scale)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)loss[i] * scale;
    return sum;
}

static pac_err losses_new(stage *s, int64_t n, float **out)
{
    const pac_space *space = s->job->be->space;
    if (space == NULL)
        return pac_arena_floats(s->work, n, out);
    if (s->losses == NULL)
        PAC_TRY(pac_arena_new_in(space, PAC_MEM_WORK, &s->losses));
    return pac_arena_floats(s->losses, n, out);
}

static pac_err losses_done(stage *s, float *loss, int64_t n, float scale)
{
    if (s->job->be->space == NULL) {
        s->loss += sum_of(loss, n, scale);
        return PAC_OK;
    }
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &s->waiting, &s->waiting_capacity, s->nwaiting + 1, sizeof(waiting_loss)));
    ((waiting_loss *)s->waiting)[s->nwaiting++] = (waiting_loss){loss, n, scale};
    return PAC_OK;
}

/* All copies are started before one is waited for, so the host waits once. */
static pac_err take_waiting(stage *s)
{
    const pac_space *space = s->job->be->space;
    const waiting_loss *w = s->waiting;
    int64_t total = 0, at = 0, last = 0;
    float *rows;
    if (s->nwaiting == 0)
        return PAC_OK;
    for (int64_t i = 0; i < s->nwaiting; i++)
        total += w[i].n;
    if (s->heard == NULL)
        PAC_TRY(pac_arena_new_staging(space, PAC_MEM_WORK, &s->heard));
    pac_arena_reset(s->heard);
    PAC_TRY(pac_arena_floats(s->heard, total, &rows));
    for (int64_t i = 0; i < s->nwaiting; at += w[i++].n)
        PAC_TRY(space->download_start(rows + at, w[i].row, (size_t)w[i].n * sizeof(float), &last));
    PAC_TRY(space->wait(last));
    for (int64_t i = at = 0; i < s->nwaiting; at += w[i++].n)
        s->loss += sum_of(rows + at, w[i].n, w[i].scale);
    s->nwaiting = 0;
    if (s->losses != NULL)
        pac_arena_reset(s->losses);
    return PAC_OK;
}

pac_err stage_take_loss(stage *s, double *sum)
{
    PAC_TRY(take_waiting(s));
    *sum = s->loss;
    s->loss = 0;
    return PAC_OK;
}

void stage_drop_losses(stage *s)
{
    pac_arena_free(&s->losses);
    pac_arena_free(&s->heard);
    pac_mem_free(s->waiting);
    s->waiting = NULL;
    s->nwaiting = s->waiting_capacity = 0;
}

/* ---- heads ---- */

static pac_err lm_block(stage *s, const pac_model *head, micro *x, int64_t row, int64_t rows, float scale, bool grad,
                        float *logits, float *loss)
{
    const pac_backend *be = s->job->be;
    int64_t V = s->job->desc.vocab, D = s->D;
    if (grad && pac_model_head_xent(head, loss + row, x->dh + row * D, x->h + row * D, x->batch.labels + row, rows, scale))
        return PAC_OK;
    PAC_TRY(pac_model_logits(head, logits, x->h + row * D, rows));
    be->xent(loss + row, logits, x->batch.labels + row, rows, V, scale, grad);
    if (!grad)
        return PAC_OK;
    pac_model_head_bwd(head, logits, x->h + row * D, rows);
    return pac_model_logits_bwd(head, x->dh + row * D, logits, rows);
}

static pac_err lm_loss(stage *s, const pac_model *head, micro *x, float scale, bool grad)
{
    int64_t T = x->batch.toff[x->batch.B], block = T < LOSS_ROWS ? T : LOSS_ROWS;
    float *logits, *loss;
    PAC_TRY(pac_arena_floats(s->work, block * s->job->desc.vocab, &logits));
    PAC_TRY(losses_new(s, T, &loss));
    for (int64_t row = 0; row < T; row += block)
        PAC_TRY(lm_block(s, head, x, row, row + block <= T ? block : T - row, scale, grad, logits, loss));
    return losses_done(s, loss, T, scale);
}

static pac_err cls_loss(stage *s, micro *x, float scale, bool grad)
{
    const pac_backend *be = s->job->be;
    int64_t B = x->batch.B, C = s->job->tune.classes;
    pac_pass p = micro_pass(x, s->work, grad);
    float *logits, *loss;
    PAC_TRY(pac_arena_floats(s->work, B * C, &logits));
    PAC_TRY(losses_new(s, B, &loss));
    PAC_TRY(pac_cls_fwd(s->tuned, &p, logits, x->h));
    if (C == 1)
        be->mse(loss, logits, x->batch.value, B, scale, grad);
    else
        be->xent(loss, logits, x->batch.cls, B, C, scale, grad);
    PAC_TRY(losses_done(s, loss, B, scale));
    return grad ? pac_cls_bwd(s->tuned, &p, x->dh, logits, x->h) : PAC_OK;
}

pac_err stage_loss(stage *s, micro *x, const pac_model *head, float scale, bool grad)
{
    size_t mark = pac_arena_mark(s->work);
    if (grad)
        PAC_TRY(pac_arena_floats(x->arena, head_rows(s->job, &x->batch) * s->D, &x->dh));
    pac_err err = s->job->tune.head == PAC_HEAD_LM ? lm_loss(s, head, x, scale, grad) : cls_loss(s, x, scale, grad);
    pac_arena_release(s->work, mark);
    return err;
}
