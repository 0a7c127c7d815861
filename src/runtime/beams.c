/*
 * Beam search as Hugging Face's generate() does it by default (length_penalty 1, early_stopping False).
 *
 * A step gives the 2 * beams best continuations of all running hypotheses together. Those that end (with the end token, or at
 * max_new) are kept if they are among the first `beams`, with score = sum of log p / length, and only the best `beams` of all
 * that ended stay; of the others the first `beams` run on. A sample is done when it has `beams` that ended and the best running
 * sum / length of now is not above the worst of them: a guess that is right unless later words would raise the mean.
 * Source: transformers 5, GenerationMixin._beam_search.
 */
#include "beams.h"

#include <string.h>

/* ---- lists ---- */

static pac_err list_new(int64_t slots, int64_t max_new, hypotheses *out)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, slots * max_new, sizeof *out->token, &p));
    out->token = p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, slots, sizeof *out->length, &p));
    out->length = p;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, slots, sizeof *out->score, &p));
    out->score = p;
    return PAC_OK;
}

static void list_free(hypotheses *h)
{
    pac_mem_free(h->token);
    pac_mem_free(h->length);
    pac_mem_free(h->score);
}

void beams_free(beam_books *b)
{
    list_free(&b->running);
    list_free(&b->ended);
    pac_mem_free(b->spare);
    pac_mem_free(b->done);
    *b = (beam_books){0};
}

pac_err beams_new(const step *t, int64_t max_new, int64_t vocab, int32_t eos_id, beam_books *out)
{
    beam_books b = {.n = t->n, .width = t->beams, .max_new = max_new, .vocab = vocab, .eos_id = eos_id};
    void *p;
    pac_err err;
    PAC_GO(list_new(b.n * b.width, max_new, &b.running));
    PAC_GO(list_new(b.n * b.width, max_new, &b.ended));
    PAC_GO(pac_mem_array(PAC_MEM_WORK, b.width * max_new, sizeof *b.spare, &p));
    b.spare = p;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, b.n, 1, &p));
    b.done = p;
    *out = b;
    return PAC_OK;
out:
    beams_free(&b);
    return err;
}

/* ---- one sample ---- */

/* A running hypothesis and one more token has ended: into the sorted list of its sample, unless that holds better ones only. */
static void keep_ended(beam_books *b, int64_t sample, const int32_t *said, int64_t n, int32_t token, double sum)
{
    hypotheses *h = &b->ended;
    double score = sum / (double)(n + 1);
    int64_t first = sample * b->width, i = first + b->width - 1;
    if (h->length[i] > 0 && score <= h->score[i])
        return;
    for (; i > first && (h->length[i - 1] == 0 || score > h->score[i - 1]); i--) {
        memcpy(h->token + i * b->max_new, h->token + (i - 1) * b->max_new, (size_t)b->max_new * sizeof *h->token);
        h->length[i] = h->length[i - 1];
        h->score[i] = h->score[i - 1];
    }
    int32_t *to = h->token + i * b->max_new;
    memcpy(to, said, (size_t)n * sizeof *to);
    to[n] = token;
    h->length[i] = n + 1;
    h->score[i] = score;
}

/* Slot `slot` of the sample goes on from its slot `parent` with one more token. */
static void go_on(beam_books *b, step *t, int64_t sample, int64_t slot, int64_t parent, int32_t token, double sum)
{
    int64_t to = sample * b->width + slot, from = sample * b->width + parent, n = t->position;
    int32_t *said = b->running.token + to * b->max_new;
    memcpy(said, b->spare + parent * b->max_new, (size_t)n * sizeof *said);
    said[n] = token;
    b->running.length[to] = n + 1;
    b->running.score[to] = t->score[to] = sum;
    t->token[to] = token;
    t->parent[to] = from;
    t->going[to] = 1;
}

static bool can_improve(const beam_books *b, int64_t sample, int64_t length)
{
    int64_t first = sample * b->width, worst = first + b->width - 1;
    return b->ended.length[worst] == 0 || b->running.score[first] / (double)length > b->ended.score[worst];
}

static bool advance(beam_books *b, step *t, int64_t sample)
{
    const int64_t *next = t->next + sample * t->K;
    const double *sum = t->next_score + sample * t->K;
    int64_t first = sample * b->width, going = 0;
    bool last = t->position + 1 == b->max_new;
    memcpy(b->spare, b->running.token + first * b->max_new, (size_t)(b->width * b->max_new) * sizeof *b->spare);
    for (int64_t i = 0; i < b->width; i++) {
        t->going[first + i] = 0;
        t->parent[first + i] = first + i;
    }
    for (int64_t k = 0; k < t->K && next[k] != 0; k++) {
        int64_t parent = (next[k] - 1) / b->vocab;
        int32_t token = (int32_t)((next[k] - 1) % b->vocab);
        if (token == b->eos_id || last) {
            if (k < b->width)
                keep_ended(b, sample, b->spare + parent * b->max_new, t->position, token, sum[k]);
        } else if (going < b->width) {
            go_on(b, t, sample, going++, parent, token, sum[k]);
        }
    }
    if (going > 0 && can_improve(b, sample, t->position + 1))
        return true;
    for (int64_t i = 0; i < b->width; i++) {
        t->going[first + i] = 0;
        t->parent[first + i] = first + i;
    }
    return false;
}

bool beams_advance(beam_books *b, step *t)
{
    bool more = false;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->done[i])
            continue;
        b->done[i] = !advance(b, t, i);
        more = more || !b->done[i];
    }
    return more;
}

void beams_best(const beam_books *b, decoded *d)
{
    for (int64_t i = 0; i < b->n; i++) {
        const int32_t *said = b->ended.token + i * b->width * b->max_new;
        int64_t n = b->ended.length[i * b->width];
        memcpy(d->token + i * d->max_new, said, (size_t)n * sizeof *said);
        d->length[i] = n;
        d->score[i] = b->ended.score[i * b->width];
        d->ended[i] = n > 0 && said[n - 1] == b->eos_id;
    }
}
