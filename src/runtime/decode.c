/*
 * A stage's part of writing text: keys and values of what the slots of each micro-batch have said, and one more position.
 *
 * The caches of a micro-batch live in its arena behind what the encoder left there, and are gone with the next round. For each
 * decoder layer of the slice: 2 (slots capacity I + S I) floats in the backbone, and 1/k of that in the side network.
 */
#include "decode.h"

#include <string.h>

struct decoder {
    pac_kv **layer; /* [last - first] of the slice's decoder layers, else NULL */
    pac_side_kv *side;
    size_t mark; /* arena mark behind the caches */
};

static bool has_decoder(const evaluator *e)
{
    return e->s->last > e->job->desc.layers[PAC_ENC];
}

/* ---- caches ---- */

static pac_err new_caches(evaluator *e, int64_t m, int64_t capacity)
{
    stage *s = e->s;
    micro *x = &s->slot[m];
    void *p, *list;
    pac_arena_release(x->arena, e->mark[m]);
    PAC_TRY(pac_arena_get(x->arena, sizeof(decoder), &p));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(s->last - s->first) * sizeof(pac_kv *), &list));
    decoder *d = p;
    *d = (decoder){.layer = list};
    for (int64_t l = s->first; l < s->last; l++) {
        d->layer[l - s->first] = NULL;
        if (l >= e->job->desc.layers[PAC_ENC])
            PAC_TRY(pac_model_kv_new(s->model, l, &x->batch, x->out.enc_out, e->how.beams, capacity, x->arena, s->work,
                                     &d->layer[l - s->first]));
    }
    if (s->half[PAC_DEC] != NULL)
        PAC_TRY(pac_side_kv_new(pac_tuned_side(s->half[PAC_DEC]), &x->batch, x->out.side.enc, e->how.beams, capacity, x->arena,
                                s->work, &d->side));
    d->mark = pac_arena_mark(x->arena);
    e->decoder[m] = d;
    return PAC_OK;
}

pac_err decode_begin(evaluator *e, int64_t n, int64_t capacity)
{
    pac_err err = PAC_OK;
    for (int64_t m = 0; m < e->M && err == PAC_OK && has_decoder(e); m++) {
        pac_range rows = pac_split_even(n, e->M, m);
        if (rows.lo < rows.hi)
            err = new_caches(e, m, capacity);
    }
    return pac_agree(pac_world(), err);
}

/* Slots that go on from another one take over its earlier positions. */
static pac_err reorder(evaluator *e, const step *t, int64_t m, int64_t first)
{
    stage *s = e->s;
    micro *x = &s->slot[m];
    decoder *d = e->decoder[m];
    int64_t slots = x->batch.B * t->beams, moved = 0;
    void *p;
    PAC_TRY(pac_arena_get(x->arena, (size_t)slots * sizeof(int64_t), &p));
    int64_t *parent = p;
    for (int64_t i = 0; i < slots; i++) {
        parent[i] = t->parent[first + i] - first;
        moved += parent[i] != i;
    }
    for (int64_t l = 0; l < s->last - s->first && moved > 0; l++)
        if (d->layer[l] != NULL)
            PAC_TRY(pac_kv_reorder(d->layer[l], e->job->be, parent, s->work));
    return d->side != NULL && moved > 0 ? pac_side_kv_reorder(d->side, e->job->be, parent, s->work) : PAC_OK;
}

/* ---- one position ---- */

/* The rows of a micro-batch: x for this position only. `first`: this rank's first slot in the round. */
static pac_err rows_of_step(const step *t, pac_range rows, micro *x, int64_t *first)
{
    void *p, *q, *ids;
    int64_t slots = x->batch.B * t->beams;
    *first = (rows.lo + x->own.lo) * t->beams;
    PAC_TRY(pac_arena_get(x->arena, (size_t)(x->n + 1) * sizeof(int64_t), &p));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(slots + 1) * sizeof(int64_t), &q));
    PAC_TRY(pac_arena_get(x->arena, (size_t)(slots + 1) * sizeof(int32_t), &ids));
    int64_t *whole = p, *toff = q;
    int32_t *tids = ids;
    whole[0] = toff[0] = 0;
    for (int64_t i = 0; i < x->n; i++) {
        whole[i + 1] = whole[i];
        for (int64_t b = 0; b < t->beams; b++)
            whole[i + 1] += t->going[(rows.lo + i) * t->beams + b];
    }
    for (int64_t i = 0; i < slots; i++) {
        toff[i + 1] = toff[i] + t->going[*first + i];
        if (t->going[*first + i])
            tids[toff[i]] = t->token[*first + i];
    }
    x->woff[PAC_DEC] = whole;
    x->batch = (pac_batch){.B = slots, .toff = toff, .tids = tids};
    return PAC_OK;
}

/* From x->in.hidden (or the embedding) to x->out.hidden or x->acts.final. Rows that the side network reads stay as they are. */
static pac_err backbone_step(stage *s, const decoder *d, micro *x, int64_t position)
{
    const pac_model_desc *desc = &s->job->desc;
    int64_t E = desc->layers[PAC_ENC], L = E + desc->layers[PAC_DEC], N = x->batch.toff[x->batch.B];
    const bool *reads = s->reads[PAC_DEC];
    float *rows = x->in.hidden, *next;
    if (s->first <= E) {
        PAC_TRY(pac_arena_floats(x->arena, N * s->D, &rows));
        PAC_TRY(pac_model_embed_step(s->model, &x->batch, position, rows));
        x->acts.b[PAC_DEC][0] = rows;
    }
    for (int64_t l = s->first > E ? s->first : E; l < s->last; l++) {
        next = rows;
        if (reads[l - E])
            PAC_TRY(pac_arena_floats(x->arena, N * s->D, &next));
        PAC_TRY(pac_model_step(s->model, l, &x->batch, d->layer[l - s->first], next, rows, s->work));
        x->acts.b[PAC_DEC][l - E + 1] = rows = next;
    }
    x->out.hidden = rows;
    if (s->last < L)
        return PAC_OK;
    PAC_TRY(pac_arena_floats(x->arena, N * s->D, &next));
    x->acts.final = next;
    return pac_model_final(s->model, PAC_DEC, next, rows, N);
}

static pac_err side_step(stage *s, const decoder *d, micro *x, const pac_side_state *in, pac_side_state *out)
{
    pac_pass p = micro_pass(x, s->work, false);
    float *h = NULL;
    PAC_TRY(pac_side_step(pac_tuned_side(s->half[PAC_DEC]), &p, &x->acts, d->side, in, out, &h));
    if (h != NULL)
        x->h = h;
    return PAC_OK;
}

/* This slice's decoder layers on the rows of x; x->h at the last stage. */
static pac_err stage_step(evaluator *e, const decoder *d, micro *x, int64_t position, int64_t m)
{
    stage *s = e->s;
    flow arriving = {0}, leaving = {0};
    if (e->prev != NULL)
        PAC_TRY(wire_recv(s, e->prev, s->first, x, &arriving, WIRE_DECODE, false, m));
    x->in.hidden = arriving.hidden;
    PAC_TRY(backbone_step(s, d, x, position));
    x->h = (float *)x->acts.final;
    if (s->half[PAC_DEC] != NULL)
        PAC_TRY(side_step(s, d, x, &arriving.side, &leaving.side));
    leaving.hidden = x->out.hidden;
    return e->next == NULL ? PAC_OK : wire_send(s, e->next, s->last, x, &leaving, WIRE_DECODE, false, m);
}

/* ---- answers ---- */

static pac_err host_room(pac_arena *arena, int64_t n, void **out)
{
    return pac_arena_get(arena, (size_t)n * sizeof(float), out); /* or of int32_t */
}

/* Greedy: the best token of each row, and its logit. A micro-batch has few rows: N V is an int32. */
static pac_err best_tokens(const evaluator *e, micro *x, const float *logits, int64_t N, row_answers *out)
{
    const pac_backend *be = e->job->be;
    int64_t V = e->job->desc.vocab;
    float *rows; /* first of int32_t, then of floats: where the backend has its rows */
    void *best, *at, *logit;
    _Static_assert(sizeof(float) == sizeof(int32_t), "a token takes the place of a float");
    PAC_TRY(pac_arena_floats(x->arena, N, &rows));
    PAC_TRY(host_room(x->arena, N, &best));
    PAC_TRY(host_room(x->arena, N, &at));
    PAC_TRY(host_room(x->arena, N, &logit));
    be->argmax((int32_t *)(void *)rows, logits, N, V);
    PAC_TRY(pac_download_ids(be->space, best, (int32_t *)(void *)rows, N));
    for (int64_t n = 0; n < N; n++)
        ((int32_t *)at)[n] = (int32_t)(n * V) + ((int32_t *)best)[n];
    be->embed_fwd(rows, logits, at, N, 1);
    PAC_TRY(pac_download(be->space, logit, rows, N));
    out->best = best;
    out->best_logit = logit;
    return PAC_OK;
}

/* log p = logit - log sum exp; the cross-entropy of token 0 is that sum minus its logit. */
static pac_err log_probabilities(const evaluator *e, micro *x, float *logits, int64_t N, row_answers *out)
{
    const pac_backend *be = e->job->be;
    int64_t V = e->job->desc.vocab;
    float *loss;
    void *zeros, *losses, *rows = logits;
    PAC_TRY(pac_arena_floats(x->arena, N, &loss));
    PAC_TRY(host_room(x->arena, N, &zeros));
    PAC_TRY(host_room(x->arena, N, &losses));
    if (be->space != NULL)
        PAC_TRY(host_room(x->arena, N * V, &rows));
    memset(zeros, 0, (size_t)N * sizeof(int32_t));
    be->xent(loss, logits, zeros, N, V, 1.0f, false);
    PAC_TRY(pac_download(be->space, losses, loss, N));
    PAC_TRY(pac_download(be->space, rows, logits, N * V));
    out->logits = rows;
    out->loss = losses;
    return PAC_OK;
}

static pac_err answers(evaluator *e, const step *t, micro *x, int64_t first)
{
    int64_t V = e->job->desc.vocab, N = x->batch.toff[x->batch.B];
    float *logits;
    row_answers s = {.V = V};
    PAC_TRY(pac_arena_floats(x->arena, N * V, &logits));
    PAC_TRY(pac_model_logits(e->s->model, logits, x->h, N));
    PAC_TRY(t->beams == 1 ? best_tokens(e, x, logits, N, &s) : log_probabilities(e, x, logits, N, &s));
    for (int64_t i = 0; i < x->batch.B; i += t->beams)
        best_continuations(&s, x->batch.toff[i], t, (first + i) / t->beams);
    return PAC_OK;
}

static bool any_going(const step *t, pac_range rows)
{
    for (int64_t i = rows.lo * t->beams; i < rows.hi * t->beams; i++)
        if (t->going[i])
            return true;
    return false;
}

static pac_err micro_step(evaluator *e, step *t, int64_t m, pac_range rows)
{
    const decoder *d = e->decoder[m];
    int64_t first;
    pac_arena_release(e->s->slot[m].arena, d->mark);
    if (e->s->slot[m].staging != NULL)
        pac_arena_reset(e->s->slot[m].staging);
    micro x = e->s->slot[m];
    PAC_TRY(reorder(e, t, m, (rows.lo + x.own.lo) * t->beams));
    PAC_TRY(rows_of_step(t, rows, &x, &first));
    PAC_TRY(stage_step(e, d, &x, t->position, m));
    return e->next == NULL ? answers(e, t, &x, first) : PAC_OK;
}

pac_err decode_step(evaluator *e, step *t)
{
    memset(t->next, 0, (size_t)(t->n * t->K) * sizeof *t->next);
    memset(t->next_score, 0, (size_t)(t->n * t->K) * sizeof *t->next_score);
    for (int64_t m = 0; m < e->M && has_decoder(e); m++) {
        pac_range rows = pac_split_even(t->n, e->M, m);
        if (any_going(t, rows))
            PAC_TRY(micro_step(e, t, m, rows));
    }
    if (e->next != NULL)
        PAC_TRY(pac_link_flush(e->next, -1));
    PAC_TRY(pac_sum_i64(pac_world(), t->next, t->n * t->K));
    return t->beams > 1 ? pac_sum_f64(pac_world(), t->next_score, t->n * t->K) : PAC_OK;
}
