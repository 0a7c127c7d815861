/* How much of a mini-batch is where: samples, tokens, seconds and bytes of each device's part of each micro-batch. */
#include "cost.h"
#include "simulate.h"

#include <math.h>

pac_err pac_sim_batch_open(const pac_sim_request *q, int64_t first, int64_t n, pac_sim_batch *out)
{
    const pac_lengths *l = q->lengths;
    const pac_profile *p = q->profile;
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 2 * (n + 1), sizeof(double), &v));
    pac_sim_batch b = {.n = n, .M = q->plan->microbatches < n ? q->plan->microbatches : n, .source = v};
    b.target = b.source + n + 1;
    for (int64_t i = 0; i < n; i++) {
        b.source[i + 1] = b.source[i] + (l != NULL && l->source != NULL ? l->source[first + i] : p->source_tokens);
        b.target[i + 1] = b.target[i] + (l != NULL && l->target != NULL ? l->target[first + i] : p->target_tokens);
    }
    *out = b;
    return PAC_OK;
}

void pac_sim_batch_close(pac_sim_batch *b)
{
    pac_mem_free(b->source);
    *b = (pac_sim_batch){0};
}

pac_range pac_sim_part(const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m)
{
    pac_range micro = pac_split_even(b->n, b->M, m);
    pac_range part = pac_split_shares(micro.hi - micro.lo, st->share, st->ranks, member);
    return (pac_range){micro.lo + part.lo, micro.lo + part.hi};
}

double pac_sim_work(const pac_profile *p, const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m,
                    bool backward)
{
    pac_range r = pac_sim_part(b, st, member, m);
    int64_t device = st->rank[member];
    double source = b->source[r.hi] - b->source[r.lo], target = b->target[r.hi] - b->target[r.lo];
    if (r.hi == r.lo)
        return 0;
    double seconds = p->device[device].overhead;
    for (int64_t l = st->first; l < st->last; l++)
        seconds += pac_layer_time_at(p, device, l, source, target, backward);
    return seconds;
}

/* Of one stack, how many of the layers [first, last) are read by a side layer, and with the first of them also the embedding.
 */
static double cached_rows(const pac_profile *p, int64_t begin, int64_t end, int64_t first, int64_t last)
{
    double rows = 0;
    for (int64_t l = begin; l < end; l++)
        if (p->layer[l].tuned > 0 && l >= first && l < last)
            rows += l == begin ? 2 : 1;
    return rows;
}

static double weight(const pac_profile *p, double source, double target, int64_t first, int64_t last)
{
    int64_t L = pac_profile_layers(p);
    return source * cached_rows(p, 0, p->layers_enc, first, last) + target * cached_rows(p, p->layers_enc, L, first, last);
}

double pac_sim_cached_part(const pac_profile *p, int64_t first, int64_t last)
{
    double all = weight(p, p->source_tokens, p->target_tokens, 0, pac_profile_layers(p));
    return all > 0 ? weight(p, p->source_tokens, p->target_tokens, first, last) / all : 0;
}

double pac_sim_write(const pac_profile *p, const pac_sim_batch *b, const pac_stage_plan *st, int64_t member, int64_t m)
{
    pac_range r = pac_sim_part(b, st, member, m);
    double all = weight(p, p->source_tokens, p->target_tokens, 0, pac_profile_layers(p)),
           speed = p->device[st->rank[member]].disk_write;
    if (!(speed > 0 && all > 0))
        return 0;
    double mine = weight(p, b->source[r.hi] - b->source[r.lo], b->target[r.hi] - b->target[r.lo], st->first, st->last);
    return p->cached_step_bytes_read * mine / all / speed;
}

static double part(double bytes, double tokens, double mean, double samples)
{
    return mean > 0 ? bytes * tokens / mean : bytes * samples;
}

/* In front of a decoder layer the encoder's rows cross, and but for the first the decoder's. */
double pac_sim_message(const pac_profile *p, const pac_sim_batch *b, int64_t layer, pac_range r, bool backward)
{
    const double *boundary = backward ? p->boundary_bwd : p->boundary_fwd;
    double samples = (double)(r.hi - r.lo), encoder = boundary[layer <= p->layers_enc ? layer : p->layers_enc];
    double bytes = part(encoder, b->source[r.hi] - b->source[r.lo], p->source_tokens, samples);
    if (layer > p->layers_enc)
        bytes += part(boundary[layer] - encoder, b->target[r.hi] - b->target[r.lo], p->target_tokens, samples);
    return fmax(bytes, 0);
}
