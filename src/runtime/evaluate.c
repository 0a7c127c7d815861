/*
 * Evaluation through the plan's stages: no rank ever holds more of the backbone than its slice.
 *
 * Rows are taken in rounds of a few micro-batches. The encoder runs once per micro-batch and its outputs stay with the decoder
 * stages; then the decoder runs on the true targets (loss) and on its own outputs (generate.c, decode.c).
 */
#include "evaluate.h"
#include "pac/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/*
 * Sequences of a micro-batch per rank of a stage (samples, or their beams), as many as have CACHES bytes of keys and values, or
 * the given part of the smallest budget that the configuration names.
 */
enum { LEAST_ROWS = 8, MOST_ROWS = 32, CACHES = 128 << 20, PART_OF_BUDGET = 16 };

/* ---- making ---- */

static double room_for_caches(const pac_config *c)
{
    double room = CACHES;
    for (int64_t i = 0; i < c->system.nmemory && !c->system.memory_auto; i++)
        room = fmin(room, c->system.memory[i] / PART_OF_BUDGET);
    return room;
}

/* Weights are read once for all rows of a step, so more rows cost little time. The same on every rank. */
static int64_t rows_at_once(const pac_job *job, const pac_plan *plan, writing how)
{
    const pac_block_cfg *b = &job->desc.block[PAC_DEC];
    int64_t E = job->desc.layers[PAC_ENC], most = 0;
    if (job->tune.head == PAC_HEAD_CLASSIFICATION)
        return LEAST_ROWS;
    for (int64_t s = 0; s < plan->stages; s++) {
        int64_t first = plan->stage[s].first > E ? plan->stage[s].first : E;
        most = plan->stage[s].last - first > most ? plan->stage[s].last - first : most;
    }
    int64_t each = most * 2 * (how.max_new + how.max_source) * b->H * b->K * (int64_t)sizeof(float) + 1;
    int64_t rows = (int64_t)(room_for_caches(&job->cfg) / (double)each);
    return rows < LEAST_ROWS ? LEAST_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
}

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
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, e->M, sizeof(decoder *), &p));
    e->decoder = p;
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
    pac_mem_free(e->decoder);
    *e = (evaluator){0};
}

pac_err evaluator_open(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, writing how, evaluator *e)
{
    *e = (evaluator){.job = job, .plan = plan, .s = own, .borrowed = own != NULL, .how = how};
    PAC_TRY(pac_layout_new(plan, &e->layout));
    int64_t widest = 1;
    for (int64_t s = 0; s < plan->stages; s++)
        widest = plan->stage[s].ranks > widest ? plan->stage[s].ranks : widest;
    e->M = plan->stages;
    int64_t rows = rows_at_once(job, plan, how);
    e->rows_per_micro = (how.beams < rows ? rows / how.beams : 1) * widest;
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
static pac_err forced_decode(evaluator *e, int64_t m)
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
    return pac_cls_fwd(s->tuned, &p, logits, x->h);
}

/* scores [rows of the data set, C]: those of this rank's rows. */
static pac_err class_scores(evaluator *e, micro *x, double *scores)
{
    int64_t C = e->job->tune.classes, n = x->batch.B * C;
    float *logits;
    void *p;
    PAC_TRY(pac_arena_floats(x->arena, n, &logits));
    PAC_TRY(pac_arena_get(x->arena, (size_t)n * sizeof(float), &p));
    PAC_TRY(class_logits(e->s, x, logits));
    PAC_TRY(pac_download(e->job->be->space, p, logits, n));
    for (int64_t i = 0; i < n; i++)
        scores[x->batch.sample[i / C] * C + i % C] = (double)((const float *)p)[i];
    return PAC_OK;
}

static pac_err forced_pass(evaluator *e, int64_t m, double *loss, double *scores)
{
    micro *x = &e->s->slot[m];
    PAC_TRY(forced_decode(e, m));
    if (!is_last(e))
        return PAC_OK;
    if (loss != NULL) {
        PAC_TRY(stage_loss(e->s, x, e->s->model, 1.0f, false));
        double own;
        PAC_TRY(stage_take_loss(e->s, &own));
        *loss += own;
    }
    return scores != NULL ? class_scores(e, x, scores) : PAC_OK;
}

/* ---- rounds ---- */

int64_t evaluator_round_rows(const evaluator *e)
{
    return e->M * e->rows_per_micro;
}

pac_err evaluator_encode(evaluator *e, const pac_dataset *data, int64_t first, int64_t n, double *loss, double *scores)
{
    bool forced = loss != NULL || scores != NULL;
    for (int64_t i = 0; i < n; i++)
        e->sample[i] = first + i;
    for (int64_t m = 0; m < e->M; m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo < rows.hi)
            PAC_TRY(encode(e, data, m, rows));
    }
    for (int64_t m = 0; m < e->M && forced; m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo < rows.hi)
            PAC_TRY(forced_pass(e, m, loss, scores));
    }
    return flush(e);
}

pac_err evaluator_logits(evaluator *e, float *logits, int64_t T)
{
    stage *s = e->s;
    micro *x = &s->slot[0];
    PAC_TRY(forced_decode(e, 0));
    if (is_last(e) && x->batch.B == 1) {
        float *own;
        PAC_TRY(pac_arena_floats(x->arena, T * e->job->desc.vocab, &own));
        PAC_TRY(pac_model_logits(s->model, own, x->h, T));
        PAC_TRY(pac_download(e->job->be->space, logits, own, T * e->job->desc.vocab));
    }
    PAC_TRY(flush(e));
    return pac_sum_f32(pac_world(), logits, T * e->job->desc.vocab);
}
