/*
 * A cache's life: made, closed, its files kept or removed.
 */
#include "internal.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

/* The rank that draws it tells the others. */
uint64_t cache_new_run(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid();
}

pac_err cache_new(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, pac_cache **out)
{
    void *p;
    PAC_TRY(cache_check_layout(l));
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, sizeof(pac_cache), &p));
    pac_cache *c = p;
    c->l = *l;
    c->h = (cache_header){
        .version = CACHE_VERSION,
        .world = (uint64_t)pac_world_size(),
        .rank = (uint64_t)pac_world_rank(),
        .nodes = (uint64_t)pac_node_count(),
        .node = (uint64_t)pac_node_of(pac_world_rank()),
        .run = cache_new_run(),
        .parts = (uint64_t)l->parts,
        .width = (uint64_t)l->D,
        .dtype = (uint64_t)l->dtype,
        .samples = (uint64_t)l->samples,
        .model = id->model,
        .data = id->data,
        .layout = id->layout,
    };
    pac_err err = pac_mem_strdup(dir, &c->dir);
    if (err != PAC_OK)
        pac_mem_free(c);
    else
        *out = c;
    return err;
}

void cache_free(pac_cache **cp)
{
    pac_cache *c = *cp;
    if (c == NULL)
        return;
    *cp = NULL;
    cache_reader_stop(&c->reader);
    cache_lookup_free(&c->at);
    cache_handover_drop(&c->writing);
    pac_mem_free(c->owner);
    pac_mem_free(c->dir);
    pac_mem_free(c);
}

void pac_cache_abandon(pac_cache **c)
{
    cache_free(c);
}

int64_t pac_cache_owner(const pac_cache *c, int64_t sample)
{
    return c->owner != NULL && sample >= 0 && sample < c->l.samples ? c->owner[sample] : -1;
}

/* After every rank of the node has closed its files. */
static pac_err remove_all(const char *dir)
{
    return pac_node_rank() == 0 ? cache_remove_files(dir, true) : PAC_OK;
}

pac_err pac_cache_close(pac_cache **cp, bool keep)
{
    if (*cp == NULL)
        return PAC_OK;
    char *dir = (*cp)->dir;
    (*cp)->dir = NULL;
    cache_free(cp);
    pac_err err = pac_agree(pac_world(), PAC_OK); /* all have closed */
    if (err == PAC_OK && !keep)
        err = pac_agree(pac_world(), remove_all(dir));
    pac_mem_free(dir);
    return err;
}
