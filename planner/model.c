/* Costs of stages and devices, summed and interpolated when asked, or looked up where a search has prepared tables. */
#include "model.h"

#include <math.h>

enum { MOST_SAMPLES = 4096 }; /* beyond it times are interpolated when asked */

/* Records that layer l adds to the cache: its output where a side layer reads it, and in front of a stack its input. */
static double cache_records(const pac_profile *p, int64_t l)
{
    bool dec = l >= p->layers_enc;
    double records = (p->layer[l].tuned > 0) + (l == (dec ? p->layers_enc : 0));
    return records * (dec ? p->target_tokens : p->source_tokens);
}

static void add_layer(const pac_costs *c, int64_t l, pac_stage_cost *s)
{
    const pac_layer_bytes *b = &c->p->layer[l];
    s->weights += b->weights - b->shared;
    s->shared = fmax(s->shared, b->shared);
    s->tuned += b->tuned - b->shared_tuned;
    s->shared_tuned = fmax(s->shared_tuned, b->shared_tuned);
    s->learning = s->tuned + s->shared_tuned;
    s->parameters = s->weights + s->shared + s->learning * (2 + c->p->optimizer_states);
    s->activations += b->activations;
    s->work = fmax(s->work, b->work);
    s->cache += c->cache_unit * cache_records(c->p, l);
    pac_cost_kind kinds[4];
    int n = pac_layer_kinds(c->p, l, kinds);
    for (int i = 0; i < n; i++)
        s->count[kinds[i]]++;
}

void pac_range_cost(const pac_costs *c, int64_t first, int64_t last, pac_stage_cost *out)
{
    if (c->range != NULL) {
        *out = c->range[first * (c->L + 1) + last];
        return;
    }
    *out = (pac_stage_cost){0};
    for (int64_t l = first; l < last; l++)
        add_layer(c, l, out);
}

pac_costs pac_costs_of(const pac_profile *p, const pac_plan_request *q)
{
    pac_costs c = {.p = p, .q = q, .D = p->devices, .L = pac_profile_layers(p)};
    c.steps = (double)((q->rows - 1) / q->batch + 1);
    double records = 0;
    for (int64_t l = 0; l < c.L; l++)
        records += cache_records(p, l);
    c.cache_unit = records > 0 ? p->cached_step_bytes_read / records : 0;
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        c.tokens[k] = pac_cost_tokens((pac_cost_kind)k, p->source_tokens, p->target_tokens);
    pac_range_cost(&c, 0, c.L, &c.whole);
    static const pac_cost_kind kept[] = {PAC_COST_ENC_SIDE, PAC_COST_DEC_SIDE, PAC_COST_HEAD};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        c.side.count[kept[i]] = c.whole.count[kept[i]];
    return c;
}

static double kind_seconds(const pac_costs *c, int64_t device, int k, int64_t samples, bool backward)
{
    return pac_cost_at(&c->p->device[device].cost[k], (double)samples * c->tokens[k], backward);
}

static void fill_times(pac_costs *c)
{
    double *t = c->time;
    for (int64_t d = 0; d < c->D; d++)
        for (int64_t n = 0; n <= c->most; n++)
            for (int backward = 0; backward < 2; backward++)
                for (int k = 0; k < PAC_COST_NKINDS; k++)
                    *t++ = kind_seconds(c, d, k, n, backward);
}

static void fill_ranges(pac_costs *c)
{
    for (int64_t a = 0; a < c->L; a++) {
        pac_stage_cost *row = &c->range[a * (c->L + 1)];
        for (int64_t b = a; b < c->L; b++) {
            row[b + 1] = row[b];
            add_layer(c, b, &row[b + 1]);
        }
    }
}

pac_err pac_costs_init(const pac_profile *p, const pac_plan_request *q, pac_costs *c)
{
    void *v;
    *c = pac_costs_of(p, q);
    c->most = q->batch < MOST_SAMPLES ? q->batch : MOST_SAMPLES;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->D * (c->most + 1), 2 * PAC_COST_NKINDS * sizeof(double), &v));
    c->time = v;
    fill_times(c);
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, (c->L + 1) * (c->L + 1), sizeof *c->range, &v));
    pac_stage_cost *range = v;
    c->range = range;
    fill_ranges(c);
    return PAC_OK;
}

void pac_costs_done(pac_costs *c)
{
    pac_mem_free(c->time);
    pac_mem_free(c->range);
    *c = (pac_costs){0};
}

double pac_work_seconds(const pac_costs *c, const pac_stage_cost *s, int64_t device, int64_t samples, bool backward)
{
    if (samples <= 0)
        return 0;
    double t = c->p->device[device].overhead;
    const double *row = NULL;
    if (c->time != NULL && samples <= c->most)
        row = c->time + ((device * (c->most + 1) + samples) * 2 + backward) * PAC_COST_NKINDS;
    if (row != NULL) {
        for (int k = 0; k < PAC_COST_NKINDS; k++)
            t += s->count[k] * row[k];
        return t;
    }
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        if (s->count[k] > 0)
            t += s->count[k] * kind_seconds(c, device, k, samples, backward);
    return t;
}

pac_micro pac_micro_of(int64_t batch, int64_t microbatches)
{
    pac_micro m = {.M = microbatches < batch ? microbatches : batch};
    m.larger = batch % m.M;
    m.size[0] = batch / m.M;
    m.size[1] = m.size[0] + (m.larger > 0);
    return m;
}

pac_stage_bytes_of pac_stage_needs(const pac_costs *c, const pac_stage_cost *s, int64_t first, int64_t last, int64_t behind,
                                   int64_t M)
{
    double in_flight = (double)(M < behind ? M : behind);
    double received = first > 0 ? c->p->boundary_fwd[first] : 0;
    double gradient = last < c->L ? c->p->boundary_bwd[last] : 0;
    return (pac_stage_bytes_of){.base = c->p->fixed + s->parameters,
                                .sample = in_flight * (s->activations + received + gradient) + s->work};
}
