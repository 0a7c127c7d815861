/* Plans and profiles as values: make, copy, name, free. */
#include "pac/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

pac_err pac_plan_alloc(int64_t stages, pac_plan *out)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, stages, sizeof(pac_stage_plan), &v));
    *out = (pac_plan){.stages = stages, .stage = v, .cached = true};
    return PAC_OK;
}

pac_err pac_stage_alloc(int64_t ranks, pac_stage_plan *st)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, ranks, sizeof *st->rank, &v));
    st->rank = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, ranks, sizeof *st->share, &v));
    st->share = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, ranks, sizeof *st->bytes, &v));
    st->bytes = v;
    st->ranks = ranks;
    return PAC_OK;
}

void pac_plan_free(pac_plan *p)
{
    if (p == NULL)
        return;
    for (int64_t i = 0; i < p->stages; i++) {
        pac_mem_free(p->stage[i].rank);
        pac_mem_free(p->stage[i].share);
        pac_mem_free(p->stage[i].bytes);
    }
    pac_mem_free(p->stage);
    pac_mem_free(p->cached_share);
    *p = (pac_plan){0};
}

pac_err pac_plan_copy(const pac_plan *from, pac_plan *out)
{
    pac_plan p;
    pac_err err;
    PAC_TRY(pac_plan_alloc(from->stages, &p));
    pac_stage_plan *stage = p.stage;
    p = *from;
    p.stage = stage;
    p.cached_share = NULL;
    for (int64_t i = 0; i < p.stages; i++) {
        const pac_stage_plan *st = &from->stage[i];
        PAC_GO(pac_stage_alloc(st->ranks, &stage[i]));
        stage[i].first = st->first;
        stage[i].last = st->last;
        memcpy(stage[i].rank, st->rank, (size_t)st->ranks * sizeof *st->rank);
        memcpy(stage[i].share, st->share, (size_t)st->ranks * sizeof *st->share);
        memcpy(stage[i].bytes, st->bytes, (size_t)st->ranks * sizeof *st->bytes);
    }
    if (from->cached_share != NULL) {
        void *v;
        PAC_GO(pac_mem_array(PAC_MEM_OTHER, p.world, sizeof(double), &v));
        p.cached_share = memcpy(v, from->cached_share, (size_t)p.world * sizeof(double));
    }
    *out = p;
    return PAC_OK;
out:
    pac_plan_free(&p);
    return err;
}

pac_err pac_profile_alloc(int64_t layers, int64_t devices, pac_profile *p)
{
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, layers, sizeof *p->layer, &v));
    p->layer = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, layers + 1, sizeof *p->boundary_fwd, &v));
    p->boundary_fwd = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, layers + 1, sizeof *p->boundary_bwd, &v));
    p->boundary_bwd = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, devices, sizeof *p->device, &v));
    p->device = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, devices * devices, sizeof *p->bandwidth, &v));
    p->bandwidth = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, devices * devices, sizeof *p->latency, &v));
    p->latency = v;
    p->devices = devices;
    return PAC_OK;
}

void pac_profile_free(pac_profile *p)
{
    if (p == NULL)
        return;
    pac_mem_free(p->layer);
    pac_mem_free(p->boundary_fwd);
    pac_mem_free(p->boundary_bwd);
    pac_mem_free(p->device);
    pac_mem_free(p->bandwidth);
    pac_mem_free(p->latency);
    *p = (pac_profile){0};
}

int64_t pac_plan_ranks(const pac_plan *p, int64_t to[static PAC_MAX_DEVICES])
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->stages; i++)
        for (int64_t r = 0; r < p->stage[i].ranks; r++)
            to[n++] = p->stage[i].rank[r];
    return n;
}

void pac_devices_rising(const int64_t *device, int64_t n, int64_t *to)
{
    bool in[PAC_MAX_DEVICES] = {false};
    for (int64_t i = 0; i < n; i++)
        in[device[i]] = true;
    for (int64_t d = 0, k = 0; k < n; d++)
        if (in[d])
            to[k++] = d;
}

/* Numbers of the ranks that a plan uses, counted without the others; -1: left out. */
static void renumber(const pac_plan *p, int64_t to[static PAC_MAX_DEVICES])
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(p, ranks);
    for (int64_t r = 0; r < p->world; r++)
        to[r] = -1;
    pac_devices_rising(ranks, n, ranks);
    for (int64_t i = 0; i < n; i++)
        to[ranks[i]] = i;
}

static pac_err copy_stages(const pac_plan *p, const int64_t *number, pac_plan *out)
{
    for (int64_t s = 0; s < p->stages; s++) {
        const pac_stage_plan *from = &p->stage[s];
        pac_stage_plan *st = &out->stage[s];
        PAC_TRY(pac_stage_alloc(from->ranks, st));
        st->first = from->first;
        st->last = from->last;
        for (int64_t i = 0; i < from->ranks; i++) {
            st->rank[i] = number[from->rank[i]];
            st->share[i] = from->share[i];
            st->bytes[i] = from->bytes[i];
        }
    }
    return PAC_OK;
}

static pac_err copy_cached_shares(const pac_plan *p, const int64_t *number, pac_plan *out)
{
    void *v;
    if (p->cached_share == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, out->world, sizeof(double), &v));
    out->cached_share = v;
    for (int64_t r = 0; r < p->world; r++)
        if (number[r] >= 0)
            out->cached_share[number[r]] = p->cached_share[r];
    return PAC_OK;
}

pac_err pac_plan_compact(const pac_plan *p, pac_plan *out)
{
    int64_t number[PAC_MAX_DEVICES];
    pac_plan alone, c = *p;
    PAC_TRY(pac_plan_alloc(p->stages, &alone));
    c.stage = alone.stage;
    c.world = p->world - p->left_out;
    c.left_out = 0;
    c.cached_share = NULL;
    renumber(p, number);
    pac_err err = copy_stages(p, number, &c);
    if (err == PAC_OK)
        err = copy_cached_shares(p, number, &c);
    if (err != PAC_OK)
        pac_plan_free(&c);
    else
        *out = c;
    return err;
}

void pac_plan_shape(const pac_plan *p, char *buf, size_t bytes)
{
    size_t used = 0;
    if (bytes > 0)
        buf[0] = '\0';
    for (int64_t i = 0; i < p->stages && used < bytes; i++)
        used += (size_t)snprintf(buf + used, bytes - used, "%s%lld", i == 0 ? "" : "-", (long long)p->stage[i].ranks);
}

/* Stages as equal as the layers allow: `last` of stage i lies at its cumulative part of the layers, but every stage has one. */
static int64_t proportional_end(int64_t first, int64_t ranks_so_far, int64_t world, int64_t layers, int64_t stages_after)
{
    int64_t end = (int64_t)rint((double)layers * ((double)ranks_so_far / (double)world));
    if (end > layers - stages_after)
        end = layers - stages_after;
    return end > first ? end : first + 1;
}

static pac_err fill_even(const int64_t *groups, int64_t layers, pac_plan *p)
{
    int64_t rank = 0, first = 0;
    for (int64_t i = 0; i < p->stages; i++) {
        pac_stage_plan *st = &p->stage[i];
        PAC_TRY(pac_stage_alloc(groups[i], st));
        for (int64_t r = 0; r < groups[i]; r++) {
            st->rank[r] = rank++;
            st->share[r] = 1.0 / (double)groups[i];
        }
        st->first = first;
        st->last = first = proportional_end(first, rank, p->world, layers, p->stages - 1 - i);
    }
    return PAC_OK;
}

pac_err pac_plan_even(const int64_t *groups, int64_t stages, int64_t layers, int64_t microbatches, pac_plan *out)
{
    PAC_CHECK(stages >= 1 && stages <= PAC_MAX_DEVICES, PAC_ECONFIG, "%lld stages: must be 1 to %d", (long long)stages,
              PAC_MAX_DEVICES);
    PAC_CHECK(layers >= stages, PAC_ECONFIG, "%lld stages for %lld layers: every stage needs one", (long long)stages,
              (long long)layers);
    PAC_CHECK(microbatches >= 1, PAC_ECONFIG, "%lld micro-batches: must be at least 1", (long long)microbatches);
    int64_t world = 0;
    for (int64_t i = 0; i < stages; i++) {
        PAC_CHECK(groups[i] >= 1 && groups[i] <= PAC_MAX_DEVICES - world, PAC_ECONFIG,
                  "stage %lld has %lld ranks: every stage needs at least 1, all together at most %d", (long long)i,
                  (long long)groups[i], PAC_MAX_DEVICES);
        world += groups[i];
    }
    pac_plan p;
    PAC_TRY(pac_plan_alloc(stages, &p));
    p.world = world;
    p.layers = layers;
    p.microbatches = microbatches;
    strcpy(p.planner, "given");
    pac_err err = fill_even(groups, layers, &p);
    if (err != PAC_OK) {
        pac_plan_free(&p);
        return err;
    }
    *out = p;
    return PAC_OK;
}
