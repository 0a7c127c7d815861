/*
 * From operations to seconds: every operation takes what its arithmetic takes at the device's rate or what its bytes take on
 * the memory bus, whichever is more (the roofline), and never less than starting a kernel.
 */
#include "cluster.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- lists of operations ---- */

pac_err pac_work_add(pac_work *w, double flop, double bytes, double extent, double times)
{
    pac_work_op *op = w->op;
    for (int64_t i = 0; i < w->count; i++)
        if (op[i].flop == flop && op[i].bytes == bytes && op[i].extent == extent) {
            op[i].count += times;
            return PAC_OK;
        }
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &w->op, &w->capacity, w->count + 1, sizeof *op));
    op = w->op;
    op[w->count++] = (pac_work_op){flop, bytes, extent, times};
    return PAC_OK;
}

pac_err pac_work_join(pac_work *w, const pac_work *from, double times)
{
    const pac_work_op *op = from->op;
    for (int64_t i = 0; i < from->count; i++)
        PAC_TRY(pac_work_add(w, op[i].flop, op[i].bytes, op[i].extent, times * op[i].count));
    return PAC_OK;
}

void pac_work_free(pac_work *w)
{
    pac_mem_free(w->op);
    *w = (pac_work){0};
}

double pac_work_flop(const pac_work *w)
{
    const pac_work_op *op = w->op;
    double sum = 0;
    for (int64_t i = 0; i < w->count; i++)
        sum += op[i].count * op[i].flop;
    return sum;
}

double pac_work_bytes(const pac_work *w)
{
    const pac_work_op *op = w->op;
    double sum = 0;
    for (int64_t i = 0; i < w->count; i++)
        sum += op[i].count * op[i].bytes;
    return sum;
}

double pac_work_time(const pac_machine *m, const pac_work *w, bool backward)
{
    const pac_work_op *op = w->op;
    double sum = 0, best = backward ? m->flops_backward : m->flops;
    for (int64_t i = 0; i < w->count; i++) {
        double compute = op[i].extent > 0 ? op[i].flop * (op[i].extent + m->half_size) / (op[i].extent * best) : 0;
        sum += op[i].count * (m->launch + fmax(compute, op[i].bytes / m->memory_bandwidth));
    }
    return sum;
}

void pac_work_table_free(pac_work_table *t)
{
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        for (int i = 0; i < PAC_MAX_POINTS; i++) {
            pac_work_free(&t->fwd[k][i]);
            pac_work_free(&t->bwd[k][i]);
        }
    *t = (pac_work_table){0};
}

/* ---- devices ---- */

/* What a layer takes for each micro-batch beside its operations. */
static double layer_overhead(const pac_machine *m, pac_cost_kind kind, bool backward)
{
    switch (kind) {
    case PAC_COST_ENC_BLOCK:
    case PAC_COST_DEC_BLOCK:
        return backward ? m->block_overhead_backward : m->block_overhead;
    case PAC_COST_ENC_SIDE:
    case PAC_COST_DEC_SIDE:
        return backward ? m->side_overhead_backward : m->side_overhead;
    default:
        return 0;
    }
}

static double kind_time(const pac_machine *m, const pac_work *w, pac_cost_kind kind, bool backward)
{
    return w->count == 0 ? 0 : pac_work_time(m, w, backward) + layer_overhead(m, kind, backward);
}

static void fill_curve(const pac_machine *m, const pac_work_table *t, pac_cost_kind kind, pac_cost_curve *c)
{
    *c = (pac_cost_curve){0};
    if (!(t->tokens[kind][0] > 0) || t->fwd[kind][0].count + t->bwd[kind][0].count == 0)
        return;
    c->points = t->points;
    for (int64_t i = 0; i < t->points; i++) {
        c->tokens[i] = t->tokens[kind][i];
        c->fwd[i] = kind_time(m, &t->fwd[kind][i], kind, false);
        c->bwd[i] = kind_time(m, &t->bwd[kind][i], kind, true);
    }
}

static void fill_device(const pac_machine *m, const pac_work_table *t, double port, pac_device *d)
{
    *d = (pac_device){.memory = m->memory,
                      .disk_write = m->disk_write,
                      .disk_read = m->disk_read,
                      .disk_space = m->disk_space,
                      .port = port,
                      .update = t->update_bytes / m->memory_bandwidth,
                      .overhead = m->overhead};
    snprintf(d->name, sizeof d->name, "%s", m->name);
    for (int k = 0; k < PAC_COST_NKINDS; k++)
        fill_curve(m, t, (pac_cost_kind)k, &d->cost[k]);
}

pac_err pac_cluster_profile(const pac_cluster *c, const pac_work_table *t, pac_profile *p)
{
    size_t n = (size_t)c->devices;
    PAC_CHECK(p->devices == c->devices, PAC_EINVAL, "the profile has room for %lld devices, the cluster has %lld",
              (long long)p->devices, (long long)c->devices);
    for (int64_t i = 0; i < c->devices; i++)
        fill_device(&c->machine[i], t, c->port[i], &p->device[i]);
    p->gradient_bytes = c->gradient_bytes;
    memcpy(p->bandwidth, c->bandwidth, n * n * sizeof(double));
    memcpy(p->latency, c->latency, n * n * sizeof(double));
    return PAC_OK;
}
