/*
 * Evaluation through the plan's stages: no rank ever holds more of the backbone than its slice.
 *
 * Rows are taken in rounds of a few micro-batches. The encoder runs once per micro-batch and its outputs stay with the decoder
 * stages; then the decoder runs on the true targets (loss) and on its own outputs, one token more each time, until all have
 * ended (greedy decoding). After each token a sum over all ranks tells everybody every new token.
 */
#include "evaluate.h"
#include "pac/clock.h"

#include <stdio.h>
#include <string.h>

enum { MICRO_ROWS = 8 }; /* samples of a micro-batch per rank of a stage */

/* ---- making ---- */

static pac_err load_stage(evaluator *e, const pac_params *tuned)
{
    const pac_stage_plan *mine = &e->plan->stage[e->layout.stage];
    PAC_TRY(stage_new(e->job, mine->first, mine->last, tuned != NULL ? STAGE_RUNS : STAGE_BACKBONE, &e->s));
    return tuned != NULL ? stage_fill(e->s, tuned) : PAC_OK;
}

static pac_err open_parts(evaluator *e, const pac_params *tuned)
{
    void *p;
    if (!e->borrowed)
        PAC_TRY(load_stage(e, tuned));
    if (e->s->R > 0)
        PAC_TRY(stage_set_halves(e->s));
    PAC_TRY(stage_reserve(e->s, e->M));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, e->M, sizeof(size_t), &p));
    e->mark = p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, e->M * e->rows_per_micro, sizeof(int64_t), &p));
    e->sample = p;
    if (e->layout.stage > 0)
        PAC_TRY(pac_link_new(&e->layout, e->layout.stage - 1, &e->prev));
    if (e->layout.stage + 1 < e->layout.P)
        PAC_TRY(pac_link_new(&e->layout, e->layout.stage + 1, &e->next));
    return PAC_OK;
}

static void evaluator_free(evaluator *e)
{
    pac_link_free(&e->prev);
    pac_link_free(&e->next);
    if (e->borrowed)
        stage_drop_halves(e->s);
    else
        stage_free(&e->s);
    pac_layout_free(&e->layout);
    pac_mem_free(e->mark);
    pac_mem_free(e->sample);
    *e = (evaluator){0};
}

pac_err evaluator_open(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, evaluator *e)
{
    *e = (evaluator){.job = job, .plan = plan, .s = own, .borrowed = own != NULL};
    PAC_TRY(pac_layout_new(plan, &e->layout));
    int64_t widest = 1;
    for (int64_t s = 0; s < plan->stages; s++)
        widest = plan->stage[s].ranks > widest ? plan->stage[s].ranks : widest;
    e->M = plan->stages;
    e->rows_per_micro = MICRO_ROWS * widest;
    pac_err err = pac_agree(pac_world(), open_parts(e, tuned));
    if (err != PAC_OK)
        evaluator_free(e);
    return err;
}

pac_err evaluator_load(const pac_job *job, const pac_plan *plan, stage **out)
{
    pac_layout l;
    PAC_TRY(pac_layout_new(plan, &l));
    const pac_stage_plan *mine = &plan->stage[l.stage];
    pac_err err = pac_agree(pac_world(), stage_new(job, mine->first, mine->last, STAGE_RUNS, out));
    pac_layout_free(&l);
    return err;
}

void evaluator_close(evaluator *e, pac_err err)
{
    if (may_free(err))
        evaluator_free(e);
}

/* ---- one micro-batch through this stage ---- */

static bool has_decoder(const evaluator *e)
{
    return e->s->last > e->job->desc.layers[PAC_ENC];
}

static bool is_last(const evaluator *e)
{
    return e->next == NULL;
}

static pac_err flush(evaluator *e)
{
    if (e->next != NULL)
        return pac_link_flush(e->next, -1);
    return PAC_OK;
}

static pac_err side_half(stage *s, pac_stack stack, micro *x, const pac_side_state *in, pac_side_state *out)
{
    pac_pass p = micro_pass(x, s->work, false);
    float *h = NULL;
    PAC_TRY(pac_side_fwd(pac_tuned_side(s->half[stack]), &p, &x->acts, in, out, &h, false, &x->saved));
    if (h != NULL)
        x->h = h;
    return PAC_OK;
}

static pac_err encode(evaluator *e, const pac_dataset *data, int64_t m, pac_range rows)
{
    stage *s = e->s;
    micro *x = &s->slot[m];
    PAC_TRY(micro_begin(s, x, data, e->sample + rows.lo, rows.hi - rows.lo, &e->layout));
    if (e->prev != NULL)
        PAC_TRY(wire_recv(s, e->prev, s->first, x, &x->in, WIRE_ENCODE, false, m));
    PAC_TRY(stage_backbone(s, x, PAC_ENC));
    if (x->out.enc_out == NULL)
        x->out.enc_out = x->in.enc_out;
    x->out.side = x->in.side;
    if (!has_decoder(e) && is_last(e))
        x->h = (float *)x->acts.final;
    if (s->half[PAC_ENC] != NULL)
        PAC_TRY(side_half(s, PAC_ENC, x, &x->in.side, &x->out.side));
    if (e->next != NULL)
        PAC_TRY(wire_send(s, e->next, s->last, x, &x->out, WIRE_ENCODE, false, m));
    e->mark[m] = pac_arena_mark(x->arena);
    return PAC_OK;
}

/* The decoder's part of this slice on the target rows of x->batch; x->h at the last stage. */
static pac_err decode(evaluator *e, int64_t m)
{
    stage *s = e->s;
    micro *x = &s->slot[m];
    pac_side_state in = {.enc = x->out.side.enc}, out = {0};
    flow arriving = {0}, leaving = {0};
    if (!has_decoder(e))
        return PAC_OK;
    if (e->prev != NULL)
        PAC_TRY(wire_recv(s, e->prev, s->first, x, &arriving, WIRE_DECODE, false, m));
    x->in.hidden = arriving.hidden;
    in.a = arriving.side.a;
    PAC_TRY(stage_backbone(s, x, PAC_DEC));
    x->h = (float *)x->acts.final;
    if (s->half[PAC_DEC] != NULL)
        PAC_TRY(side_half(s, PAC_DEC, x, &in, &out));
    leaving = (flow){.hidden = x->out.hidden, .side = out};
    return e->next == NULL ? PAC_OK : wire_send(s, e->next, s->last, x, &leaving, WIRE_DECODE, false, m);
}

/* ---- loss and classification: one decoder pass on the true targets ---- */

static pac_err class_logits(stage *s, micro *x, float *logits)
{
    pac_pass p = micro_pass(x, s->work, false);
    return pac_cls_fwd(stage_head(s), &p, logits, x->h);
}

static pac_err class_scores(evaluator *e, micro *x, double *score)
{
    stage *s = e->s;
    int64_t C = e->job->tune.classes;
    float *logits;
    PAC_TRY(pac_arena_floats(x->arena, x->batch.B * C, &logits));
    PAC_TRY(class_logits(s, x, logits));
    for (int64_t b = 0; b < x->batch.B; b++) {
        int32_t best = 0;
        e->job->be->argmax(&best, logits + b * C, 1, C);
        score[x->batch.sample[b]] = C == 1 ? (double)logits[b] : (double)best;
    }
    return PAC_OK;
}

static pac_err forced_pass(evaluator *e, int64_t m, double *loss, double *score)
{
    micro *x = &e->s->slot[m];
    PAC_TRY(decode(e, m));
    if (!is_last(e))
        return PAC_OK;
    bool classes = e->job->tune.head == PAC_HEAD_CLASSIFICATION;
    PAC_TRY(stage_loss(e->s, x, e->s->model, 1.0f, false));
    *loss += x->loss;
    return classes ? class_scores(e, x, score) : PAC_OK;
}

/* ---- greedy decoding ---- */

/* Target rows of sample i of the round are the start token and what it has said so far; none once it has ended. */
static int64_t prefix_rows(const decoded *d, int64_t i)
{
    return d->ended[i] ? 0 : d->length[i] + 1;
}

static pac_err prefix_batch(evaluator *e, const decoded *d, int64_t m, pac_range rows)
{
    micro *x = &e->s->slot[m];
    void *p, *q, *ids;
    pac_arena_release(x->arena, e->mark[m]);
    PAC_TRY(pac_arena_get(x->arena, (size_t)(x->n + 1) * sizeof(int64_t), &p));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(x->batch.B + 1) * sizeof(int64_t), &q));
    int64_t *whole = p, *own = q;
    whole[0] = 0;
    for (int64_t i = 0; i < x->n; i++)
        whole[i + 1] = whole[i] + prefix_rows(d, rows.lo + i);
    for (int64_t b = 0; b <= x->batch.B; b++)
        own[b] = whole[x->own.lo + b] - whole[x->own.lo];
    PAC_TRY(pac_arena_get(x->arena, (size_t)own[x->batch.B] * sizeof(int32_t), &ids));
    for (int64_t b = 0; b < x->batch.B; b++) {
        int64_t i = rows.lo + x->own.lo + b, n = own[b + 1] - own[b];
        int32_t *row = (int32_t *)ids + own[b];
        if (n > 0)
            row[0] = e->job->desc.start_id;
        for (int64_t t = 1; t < n; t++)
            row[t] = d->token[i * d->max_new + t - 1];
    }
    x->woff[PAC_DEC] = whole;
    x->batch.toff = own;
    x->batch.tids = ids;
    return PAC_OK;
}

/* The next token of this rank's unfinished samples of the micro-batch, into next[] of the round (as token + 1). */
static pac_err next_tokens(evaluator *e, int64_t m, pac_range rows, int64_t *next)
{
    stage *s = e->s;
    micro *x = &s->slot[m];
    int64_t V = e->job->desc.vocab, D = s->D, B = x->batch.B, n = 0;
    float *last, *logits;
    PAC_TRY(pac_arena_floats(x->arena, B * D, &last));
    for (int64_t b = 0; b < B; b++)
        if (x->batch.toff[b + 1] > x->batch.toff[b])
            memcpy(last + n++ * D, x->h + (x->batch.toff[b + 1] - 1) * D, (size_t)D * sizeof(float));
    PAC_TRY(pac_arena_floats(x->arena, n * V, &logits));
    PAC_TRY(pac_model_logits(s->model, logits, last, n, s->work));
    for (int64_t b = 0, k = 0; b < B; b++) {
        if (x->batch.toff[b + 1] == x->batch.toff[b])
            continue;
        int32_t best;
        e->job->be->argmax(&best, logits + k++ * V, 1, V);
        next[rows.lo + x->own.lo + b] = (int64_t)best + 1;
    }
    return PAC_OK;
}

static pac_err token_round(evaluator *e, decoded *d, int64_t n, int64_t *next)
{
    memset(next, 0, (size_t)n * sizeof *next);
    for (int64_t m = 0; m < e->M; m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo == rows.hi)
            continue;
        PAC_TRY(prefix_batch(e, d, m, rows));
        PAC_TRY(decode(e, m));
        if (is_last(e))
            PAC_TRY(next_tokens(e, m, rows, next));
    }
    PAC_TRY(flush(e));
    return pac_sum_i64(pac_world(), next, n);
}

pac_err evaluator_greedy(evaluator *e, int64_t n, decoded *d)
{
    int64_t *next, active = n;
    void *p;
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, n, sizeof(int64_t), &p)));
    next = p;
    memset(d->length, 0, (size_t)n * sizeof *d->length);
    memset(d->ended, 0, (size_t)n);
    for (int64_t t = 0; t < d->max_new && active > 0; t++) {
        PAC_GO(token_round(e, d, n, next));
        for (int64_t i = 0; i < n; i++) {
            if (d->ended[i])
                continue;
            d->token[i * d->max_new + d->length[i]++] = (int32_t)(next[i] - 1);
            d->ended[i] = next[i] - 1 == e->job->desc.eos_id;
            active -= d->ended[i];
        }
    }
    err = PAC_OK;
out:
    pac_mem_free(next);
    return err;
}

/* ---- rounds ---- */

int64_t evaluator_round_rows(const evaluator *e)
{
    return e->M * e->rows_per_micro;
}

pac_err evaluator_encode(evaluator *e, const pac_dataset *data, int64_t first, int64_t n, double *loss, double *score)
{
    for (int64_t i = 0; i < n; i++)
        e->sample[i] = first + i;
    for (int64_t m = 0; m < e->M; m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo < rows.hi)
            PAC_TRY(encode(e, data, m, rows));
    }
    for (int64_t m = 0; m < e->M && loss != NULL; m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo < rows.hi)
            PAC_TRY(forced_pass(e, m, loss, score));
    }
    return flush(e);
}

pac_err evaluator_logits(evaluator *e, float *logits, int64_t T, int64_t C)
{
    stage *s = e->s;
    micro *x = &s->slot[0];
    PAC_TRY(decode(e, 0));
    if (is_last(e) && x->batch.B == 1) {
        if (e->job->tune.head == PAC_HEAD_CLASSIFICATION)
            PAC_TRY(class_logits(s, x, logits));
        else
            PAC_TRY(pac_model_logits(s->model, logits, x->h, T, s->work));
    }
    PAC_TRY(flush(e));
    return pac_sum_f32(pac_world(), logits, T * C);
}
