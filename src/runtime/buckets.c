/*
 * Buckets (buckets.h). The backward goes from the last layer to the first and the flat gradient has its layers in order, so
 * buckets are cut from its end; a bucket is complete when the lowest layer that uses one of its parameters is done. They are
 * started in one order on all members, whoever is there first.
 */
#include "buckets.h"

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The lowest layer of the slice that uses a parameter. */
static int64_t lowest_use(const pac_param *p, int64_t first, int64_t last)
{
    int64_t lowest = last;
    for (int i = 0; i < p->uses; i++)
        if (p->use[i].first < last && p->use[i].last >= first && larger(p->use[i].first, first) < lowest)
            lowest = larger(p->use[i].first, first);
    return lowest;
}

static pac_err cut(buckets *b, int64_t first, int64_t last, int64_t most)
{
    bucket *open = NULL;
    int64_t at = b->params->total;
    for (int64_t i = b->params->count - 1; i >= 0; i--) {
        const pac_param *p = &b->params->v[i];
        int64_t ready = lowest_use(p, first, last);
        at -= p->n;
        if (open == NULL || open->n + p->n > most) {
            PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &b->v, &b->capacity, b->count + 1, sizeof *open));
            open = (bucket *)b->v + b->count++;
            *open = (bucket){.ready = ready};
        }
        open->at = at;
        open->n += p->n;
        open->ready = ready < open->ready ? ready : open->ready;
    }
    return PAC_OK;
}

static pac_err start_next(buckets *b)
{
    const bucket *next = (const bucket *)b->v + b->started++;
    return pac_sums_start(b->sums, b->params->g + next->at, next->n);
}

static pac_err behind(void *user, int64_t layer, bool backward)
{
    buckets *b = user;
    bool starts = backward && b->last && b->overlap;
    pac_err err = PAC_OK;
    pac_comm_away(false);
    while (err == PAC_OK && starts && b->started < b->count && ((const bucket *)b->v)[b->started].ready >= layer)
        err = start_next(b);
    if (err == PAC_OK)
        err = pac_comm_progress();
    pac_comm_away(err == PAC_OK);
    return err;
}

pac_err buckets_open(const pac_job *job, pac_comm *group, pac_params *p, int64_t first, int64_t last, buckets *b)
{
    *b = (buckets){.group = group, .params = p, .overlap = job->cfg.train.overlap, .watch = {.behind = behind, .user = b}};
    if (pac_comm_size(group) == 1 || !job->on_hosts)
        return PAC_OK;
    PAC_TRY(cut(b, first, last, job->cfg.train.bucket / (int64_t)sizeof(float)));
    return pac_sums_new(group, &b->sums);
}

void buckets_close(buckets *b)
{
    if (b->sums != NULL)
        pac_sums_free(&b->sums);
    pac_mem_free(b->v);
    *b = (buckets){0};
}

const pac_watch *buckets_watch(const buckets *b)
{
    return pac_world_size() > 1 && b->overlap ? &b->watch : NULL;
}

void buckets_last(buckets *b)
{
    b->last = true;
}

pac_err buckets_finish(buckets *b, bool *done)
{
    *done = b->sums != NULL;
    while (*done && b->started < b->count) {
        PAC_TRY(start_next(b));
        if (!b->overlap)
            PAC_TRY(pac_sums_finish(b->sums));
    }
    if (*done)
        PAC_TRY(pac_sums_finish(b->sums));
    b->started = 0;
    b->last = false;
    return PAC_OK;
}
