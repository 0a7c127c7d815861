/*
 * Times and bytes from a profile. A layer's time is the sum of the measured kinds of work in it; the list of kinds per layer is
 * the only place that knows which riders travel with which layer.
 */
#include "cost.h"

#include <math.h>
#include <stdio.h>

pac_err pac_request_check(const pac_plan_request *q, int64_t most_layers)
{
    long long batch = q->batch, devices = q->profile->devices, layers = pac_profile_layers(q->profile);
    PAC_CHECK(batch >= 1 && q->rows >= 1 && q->epochs >= 1, PAC_EINVAL,
              "batch %lld, rows %lld, epochs %lld: must be at least 1", batch, (long long)q->rows, (long long)q->epochs);
    PAC_CHECK(q->microbatches >= 0 && q->microbatches <= batch, PAC_EINVAL,
              "%lld micro-batches for a batch of %lld: must be at most one for each sample", (long long)q->microbatches, batch);
    PAC_CHECK(devices >= 1 && devices <= PAC_MAX_DEVICES && layers >= 1 && layers <= most_layers, PAC_EINVAL,
              "profile with %lld devices and %lld layers: must be 1 to %d, 1 to %lld", devices, layers, PAC_MAX_DEVICES,
              (long long)most_layers);
    return PAC_OK;
}

pac_err pac_request_check_room(const pac_plan_request *q)
{
    int64_t L = pac_profile_layers(q->profile), stages = q->most_stages > 0 && q->most_stages < L ? q->most_stages : L;
    PAC_CHECK(q->most_ranks == 0 || q->most_ranks * stages >= q->profile->devices, PAC_EINVAL,
              "%lld devices with at most %lld a stage: there are at most %lld stages, the model has only %lld layers",
              (long long)q->profile->devices, (long long)q->most_ranks, (long long)stages, (long long)L);
    return PAC_OK;
}

double pac_cost_at(const pac_cost_curve *c, double tokens, bool backward)
{
    const double *t = backward ? c->bwd : c->fwd;
    if (c->points == 0 || !(tokens > 0))
        return 0;
    int64_t last = c->points - 1;
    if (tokens >= c->tokens[last])
        return t[last] * (tokens / c->tokens[last]);
    double b0 = 0, t0 = 0;
    int64_t i = 0;
    while (c->tokens[i] <= tokens) {
        b0 = c->tokens[i];
        t0 = t[i];
        i++;
    }
    return t0 + (t[i] - t0) * ((tokens - b0) / (c->tokens[i] - b0));
}

double pac_cost_tokens(pac_cost_kind kind, double source, double target)
{
    switch (kind) {
    case PAC_COST_ENC_BLOCK:
    case PAC_COST_ENC_SIDE:
    case PAC_COST_ENC_EMBED:
        return source;
    case PAC_COST_DEC_BLOCK:
    case PAC_COST_DEC_SIDE: /* their keys and values are made of the source */
        return source + target;
    case PAC_COST_HEAD:
        return target > 0 ? target : source; /* a model without a decoder */
    default:
        return target;
    }
}

/* Seconds of one kind of work on so many tokens of source and target. */
static double kind_time(const pac_profile *p, int64_t device, pac_cost_kind kind, double source, double target, bool backward)
{
    return pac_cost_at(&p->device[device].cost[kind], pac_cost_tokens(kind, source, target), backward);
}

int pac_layer_kinds(const pac_profile *p, int64_t layer, pac_cost_kind kinds[static 4])
{
    bool dec = layer >= p->layers_enc;
    int n = 0;
    kinds[n++] = dec ? PAC_COST_DEC_BLOCK : PAC_COST_ENC_BLOCK;
    if (p->layer[layer].tuned > 0)
        kinds[n++] = dec ? PAC_COST_DEC_SIDE : PAC_COST_ENC_SIDE;
    if (layer == (dec ? p->layers_enc : 0))
        kinds[n++] = dec ? PAC_COST_DEC_EMBED : PAC_COST_ENC_EMBED;
    if (layer == pac_profile_layers(p) - 1)
        kinds[n++] = PAC_COST_HEAD;
    return n;
}

double pac_layer_time_at(const pac_profile *p, int64_t device, int64_t layer, double source, double target, bool backward)
{
    pac_cost_kind kinds[4];
    int n = pac_layer_kinds(p, layer, kinds);
    double t = 0;
    for (int i = 0; i < n; i++)
        t += kind_time(p, device, kinds[i], source, target, backward);
    return t;
}

double pac_layer_time(const pac_profile *p, int64_t device, int64_t layer, double samples, bool backward)
{
    return pac_layer_time_at(p, device, layer, samples * p->source_tokens, samples * p->target_tokens, backward);
}

double pac_stage_time(const pac_profile *p, int64_t device, int64_t first, int64_t last, double samples, bool backward)
{
    double t = 0;
    for (int64_t l = first; l < last; l++)
        t += pac_layer_time(p, device, l, samples, backward);
    return t;
}

double pac_side_time_at(const pac_profile *p, int64_t device, double source, double target, bool backward)
{
    double t = kind_time(p, device, PAC_COST_HEAD, source, target, backward);
    for (int64_t l = 0; l < pac_profile_layers(p); l++)
        if (p->layer[l].tuned > 0)
            t += kind_time(p, device, l < p->layers_enc ? PAC_COST_ENC_SIDE : PAC_COST_DEC_SIDE, source, target, backward);
    return t;
}

pac_layer_bytes pac_stage_bytes(const pac_profile *p, int64_t first, int64_t last)
{
    pac_layer_bytes sum = {0};
    for (int64_t l = first; l < last; l++) {
        sum.weights += p->layer[l].weights - p->layer[l].shared;
        sum.shared = fmax(sum.shared, p->layer[l].shared);
        sum.tuned += p->layer[l].tuned - p->layer[l].shared_tuned;
        sum.shared_tuned = fmax(sum.shared_tuned, p->layer[l].shared_tuned);
        sum.activations += p->layer[l].activations;
    }
    sum.weights += sum.shared;
    sum.tuned += sum.shared_tuned;
    return sum;
}

double pac_parameter_bytes(const pac_profile *p, const pac_layer_bytes *b)
{
    return b->weights + b->tuned * (2 + p->optimizer_states);
}

pac_link_cost pac_slowest_link(const pac_profile *p, const int64_t *from, int64_t nfrom, const int64_t *to, int64_t nto)
{
    pac_link_cost worst = {.bandwidth = INFINITY, .latency = 0};
    for (int64_t i = 0; i < nfrom; i++)
        for (int64_t j = 0; j < nto; j++) {
            int64_t at = from[i] * p->devices + to[j];
            if (from[i] == to[j])
                continue;
            worst.bandwidth = fmin(worst.bandwidth, p->bandwidth[at]);
            worst.latency = fmax(worst.latency, p->latency[at]);
        }
    return worst;
}

double pac_wire_bytes(const pac_profile *p, double bytes)
{
    return p->gradient_bytes > 0 ? bytes * p->gradient_bytes / 4 : bytes;
}

double pac_allreduce_time(const pac_profile *p, const int64_t *ranks, int64_t n, double bytes)
{
    if (n < 2)
        return 0;
    pac_link_cost k = pac_slowest_link(p, ranks, n, ranks, n);
    return 2 * (double)(n - 1) * (k.latency + pac_wire_bytes(p, bytes) / (double)n / k.bandwidth);
}

int64_t pac_reduce_pieces(const pac_plan_request *q, double bytes)
{
    enum { BUCKET = 1 << 20 }; /* default of train.bucket */
    double pieces = ceil(bytes / (q->bucket > 0 ? q->bucket : BUCKET));
    return pieces < 1 ? 1 : pieces > PAC_MOST_PIECES ? PAC_MOST_PIECES : (int64_t)pieces;
}

double pac_reduce_behind(const pac_profile *p, const pac_plan_request *q, const int64_t *ranks, int64_t n, double bytes,
                         double backward)
{
    double pieces = (double)pac_reduce_pieces(q, bytes), part = 1 / pieces;
    double all = pac_allreduce_time(p, ranks, n, bytes), last = pac_allreduce_time(p, ranks, n, bytes * part);
    return fmax(last, all - backward * (1 - part));
}
