/*
 * Writing the answers of a round: greedy, or beam search. The choice of continuations is made where the logits are; every rank
 * then keeps the same books.
 */
#include "beams.h"
#include "decode.h"

#include <math.h>
#include <string.h>

/* ---- continuations, on the rank that has the logits ---- */

/* Insert a candidate into the K best, which are sorted; of equals the earlier one is ahead. */
static void insert(int64_t *next, double *score, int64_t K, int64_t what, double s)
{
    int64_t i = K - 1;
    if (next[i] != 0 && s <= score[i])
        return;
    for (; i > 0 && (next[i - 1] == 0 || s > score[i - 1]); i--) {
        next[i] = next[i - 1];
        score[i] = score[i - 1];
    }
    next[i] = what;
    score[i] = s;
}

static void continuations_of_slot(const float *logits, int64_t V, int64_t slot, double base, const step *t, int64_t sample)
{
    int64_t *next = t->next + sample * t->K;
    double *score = t->next_score + sample * t->K;
    for (int64_t v = 0; v < V; v++)
        if (next[t->K - 1] == 0 || base + (double)logits[v] > score[t->K - 1])
            insert(next, score, t->K, 1 + v + V * slot, base + (double)logits[v]);
}

void best_continuations(const row_answers *s, int64_t row, const step *t, int64_t sample)
{
    const unsigned char *going = t->going + sample * t->beams;
    if (t->beams == 1) {
        if (!going[0])
            return;
        t->next[sample] = isfinite(s->best_logit[row]) ? 1 + (int64_t)s->best[row] : 0;
        return;
    }
    for (int64_t b = 0; b < t->beams; b++) {
        if (!going[b])
            continue;
        const float *logits = s->logits + row * s->V;
        double base = t->score[sample * t->beams + b] - ((double)s->loss[row++] + (double)logits[0]);
        if (isfinite(base))
            continuations_of_slot(logits, s->V, b, base, t, sample);
    }
}

/* ---- one position of all slots ---- */

pac_err step_new(int64_t n, int64_t beams, step *out)
{
    step t = {.n = n, .beams = beams, .K = beams == 1 ? 1 : 2 * beams};
    void *p;
    pac_err err;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * beams, sizeof *t.token, &p));
    t.token = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * beams, 1, &p));
    t.going = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * beams, sizeof *t.parent, &p));
    t.parent = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * beams, sizeof *t.score, &p));
    t.score = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * t.K, sizeof *t.next, &p));
    t.next = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n * t.K, sizeof *t.next_score, &p));
    t.next_score = p;
    *out = t;
    return PAC_OK;
out:
    step_free(&t);
    return err;
}

void step_free(step *t)
{
    pac_mem_free(t->token);
    pac_mem_free(t->going);
    pac_mem_free(t->parent);
    pac_mem_free(t->score);
    pac_mem_free(t->next);
    pac_mem_free(t->next_score);
    *t = (step){0};
}

/* Every sample begins with the start token in its first slot. */
static void first_rows(const pac_job *job, step *t)
{
    for (int64_t i = 0; i < t->n * t->beams; i++) {
        t->token[i] = job->desc.start_id;
        t->going[i] = i % t->beams == 0;
        t->parent[i] = i;
    }
}

/* ---- greedy ---- */

/* What every sample says next; are there any that go on? */
static bool say(const pac_job *job, step *t, decoded *d)
{
    bool more = false;
    for (int64_t i = 0; i < t->n; i++) {
        if (!t->going[i])
            continue;
        if (t->next[i] == 0) { /* the logits are not finite: nothing of it is an answer */
            d->length[i] = t->going[i] = 0;
            continue;
        }
        t->token[i] = (int32_t)(t->next[i] - 1);
        d->token[i * d->max_new + d->length[i]++] = t->token[i];
        d->ended[i] = t->token[i] == job->desc.eos_id;
        t->going[i] = !d->ended[i];
        more = more || t->going[i];
    }
    return more;
}

static pac_err greedy(evaluator *e, step *t, decoded *d)
{
    bool more = true;
    for (t->position = 0; t->position < d->max_new && more; t->position++) {
        PAC_TRY(decode_step(e, t));
        more = say(e->job, t, d);
    }
    return PAC_OK;
}

/* ---- beams ---- */

static pac_err search(evaluator *e, step *t, decoded *d)
{
    beam_books b;
    pac_err err;
    bool more = true;
    PAC_TRY(pac_agree(pac_world(), beams_new(t, d->max_new, e->job->desc.vocab, e->job->desc.eos_id, &b)));
    for (t->position = 0; t->position < d->max_new && more; t->position++) {
        PAC_GO(decode_step(e, t));
        more = beams_advance(&b, t);
    }
    beams_best(&b, d);
    err = PAC_OK;
out:
    beams_free(&b);
    return err;
}

pac_err evaluator_generate(evaluator *e, int64_t n, decoded *d)
{
    step t = {0};
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), step_new(n, e->how.beams, &t)));
    memset(d->length, 0, (size_t)n * sizeof *d->length);
    memset(d->ended, 0, (size_t)n);
    first_rows(e->job, &t);
    PAC_GO(decode_begin(e, n, d->max_new));
    err = e->how.beams == 1 ? greedy(e, &t, d) : search(e, &t, d);
out:
    step_free(&t);
    return err;
}
