/*
 * Opening what an earlier run has kept.
 *
 * Valid: every file is finished and redistributed, of one run, of this model, data and layout, and lies where this world's
 * ranks can read it. A cache that was never finished (a killed run) counts as none. A cache of something else is an error:
 * deleting it is the user's decision.
 */
#include "internal.h"

#include "pac/log.h"

#include <string.h>

typedef struct survey {
    cache_header first;
    int64_t rank_files;
    bool unfinished;
} survey;

static void note_unfinished(survey *s, const char *path, const char *why)
{
    if (!s->unfinished && pac_node_rank() == 0)
        pac_log(PAC_LOG_WARN, "the cache is not used: %s %s", path, why);
    s->unfinished = true;
}

static pac_err look_at(void *user, const char *path)
{
    survey *s = user;
    cache_file f;
    pac_err err = cache_file_open(path, &f);
    if (err == PAC_EDATA) { /* killed while it was written */
        note_unfinished(s, path, "cannot be read (an earlier run was interrupted?); it will be replaced");
        return PAC_OK;
    }
    PAC_TRY(err);
    if (f.h.state != CACHE_REDISTRIBUTED)
        note_unfinished(s, path, "was left by a run that did not end; it will be replaced");
    if (strstr(path, "/import-") == NULL && s->rank_files++ == 0)
        s->first = f.h;
    return cache_file_close(&f);
}

static pac_err check_identity(const pac_cache *c, const cache_header *h)
{
    const struct {
        bool same;
        const char *what;
    } fields[] = {
        {h->model == c->h.model, "another model"},
        {h->data == c->h.data, "other data (rows, tokenizer or truncation)"},
        {h->layout == c->h.layout && h->parts == c->h.parts && h->width == c->h.width && h->dtype == c->h.dtype &&
             h->samples == c->h.samples,
         "another layout (which activations, their type)"},
    };
    char text[256] = "";
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!fields[i].same) {
            strcat(text, text[0] != '\0' ? ", " : "");
            strcat(text, fields[i].what);
        }
    PAC_CHECK(text[0] == '\0', PAC_EDATA,
              "%s: the cache there is stale, it was made with %s; delete it or set another cache.dir", c->dir, text);
    return PAC_OK;
}

/* One node's copy serves any number of ranks there; all else belongs to its world. */
static pac_err check_world(const pac_cache *c, const survey *s)
{
    const cache_header *h = &s->first;
    bool any_world = h->nodes == 1 && h->how == PAC_REDIST_ALLGATHER && c->h.nodes == 1;
    bool same_world = h->world == c->h.world && h->nodes == c->h.nodes;
    PAC_CHECK(
        any_world || same_world, PAC_EDATA,
        "%s: the cache there was made by %llu ranks on %llu nodes, this run has %llu on %llu; start as many, or delete it or "
        "set another cache.dir",
        c->dir, (unsigned long long)h->world, (unsigned long long)h->nodes, (unsigned long long)c->h.world,
        (unsigned long long)c->h.nodes);
    PAC_CHECK(h->nodes > 1 || s->rank_files == (int64_t)h->world, PAC_EDATA,
              "%s: %lld of the cache's %llu files are there; delete it or set another cache.dir", c->dir,
              (long long)s->rank_files, (unsigned long long)h->world);
    return PAC_OK;
}

static pac_err examine(pac_cache *c, bool *found)
{
    survey s = {0};
    PAC_TRY(cache_each_file(c->dir, look_at, &s, NULL));
    *found = s.rank_files > 0 && !s.unfinished;
    if (!*found)
        return PAC_OK;
    PAC_TRY(check_identity(c, &s.first));
    PAC_TRY(check_world(c, &s));
    c->h.state = s.first.state;
    c->h.how = s.first.how;
    c->h.world = s.first.world;
    c->h.nodes = s.first.nodes;
    c->h.run = s.first.run;
    return PAC_OK;
}

/* Found by all ranks, and all have found the same. Collective. */
static pac_err found_by_all(const pac_cache *c, bool *found)
{
    uint64_t run = c->h.run;
    PAC_TRY(pac_bcast(pac_world(), &run, sizeof run, 0));
    int64_t without = !*found || run != c->h.run;
    PAC_TRY(pac_sum_i64(pac_world(), &without, 1));
    *found = without == 0;
    return PAC_OK;
}

static pac_err load_owner(pac_cache *c)
{
    char path[CACHE_PATH];
    cache_file f;
    void *p;
    if (c->h.how != PAC_REDIST_SHARD)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, c->l.samples, sizeof(int32_t), &p));
    c->owner = p;
    cache_path(path, c->dir, false, pac_world_rank());
    PAC_TRY(cache_file_open(path, &f));
    pac_err err = cache_file_owner(&f, c->owner, c->l.samples);
    (void)cache_file_close(&f);
    for (int64_t i = 0; i < c->l.samples && err == PAC_OK; i++)
        if (c->owner[i] < 0 || c->owner[i] >= pac_world_size())
            err = pac_fail(PAC_EDATA, "%s: sample %lld is owned by rank %d", path, (long long)i, (int)c->owner[i]);
    return err;
}

static pac_err use(pac_cache *c)
{
    PAC_TRY(load_owner(c));
    return cache_lookup_build(c);
}

/* What one rank owns by its file, it must own by all others' files. Collective. */
static pac_err same_owner(const pac_cache *c)
{
    if (c->owner == NULL)
        return PAC_OK;
    int64_t bytes = c->l.samples * (int64_t)sizeof *c->owner;
    pac_err err = pac_agree_same(pac_world(), cache_checksum(c->owner, bytes, 0, 0), "the owners of the cached samples");
    return err != PAC_EINTERNAL ? err : pac_fail(PAC_EDATA, "%s: %s; delete the cache", c->dir, pac_err_message());
}

pac_err pac_cache_open(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, bool *found, pac_cache **out)
{
    pac_cache *c = NULL;
    bool here = false;
    pac_err err;
    PAC_GO(pac_agree(pac_world(), cache_new(dir, l, id, &c)));
    PAC_GO(pac_agree(pac_world(), examine(c, &here)));
    PAC_GO(found_by_all(c, &here));
    if (here) {
        PAC_GO(pac_agree(pac_world(), use(c)));
        PAC_GO(same_owner(c));
        *out = c;
        c = NULL;
    }
    *found = here;
out:
    cache_free(&c);
    return err;
}
