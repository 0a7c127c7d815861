/*
 * Where each sample lies: for every sample that this rank may read, the records of the files at hand.
 */
#include "internal.h"

#include <string.h>

static bool readable(const pac_cache *c, int64_t sample)
{
    return c->owner == NULL || c->owner[sample] == pac_world_rank();
}

/* ---- files ---- */

static bool same_layout(const pac_cache_layout *a, const pac_cache_layout *b)
{
    size_t bytes = (size_t)a->samples * sizeof(int64_t);
    return a->parts == b->parts && a->D == b->D && a->dtype == b->dtype && a->samples == b->samples &&
           memcmp(a->stack, b->stack, (size_t)a->parts) == 0 && memcmp(a->len[0], b->len[0], bytes) == 0 &&
           memcmp(a->len[1], b->len[1], bytes) == 0;
}

static pac_err check_file(const pac_cache *c, const cache_file *f)
{
    pac_cache_layout l;
    PAC_TRY(cache_file_layout(f, &l));
    bool same = same_layout(&l, &c->l);
    cache_file_layout_free(&l);
    PAC_CHECK(same, PAC_EDATA, "%s: holds other parts or other lengths than this run has; delete the cache", f->path);
    PAC_CHECK(f->h.run == c->h.run, PAC_EDATA, "%s: is of another run than the other files; delete the cache", f->path);
    PAC_CHECK(f->h.nodes == 1 || (int64_t)f->h.node == pac_node_of(pac_world_rank()), PAC_EDATA,
              "%s: was written with other ranks on this node; start with the same ranks per node or delete the cache", f->path);
    return PAC_OK;
}

static pac_err add_file(pac_cache *c, const char *path)
{
    PAC_TRY(cache_file_open(path, &c->at.file[c->at.files]));
    return check_file(c, &c->at.file[c->at.files++]);
}

/* allgather: the files of all ranks of this node; shard: this rank's own. */
static pac_err open_files(pac_cache *c)
{
    char path[CACHE_PATH];
    void *files;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, 2 * (int64_t)c->h.world, sizeof(cache_file), &files));
    c->at.file = files;
    for (int64_t r = 0; r < (int64_t)c->h.world; r++) {
        bool other_node = c->h.nodes > 1 && pac_node_of(r) != pac_node_of(pac_world_rank());
        if (c->owner != NULL ? r != pac_world_rank() : other_node)
            continue;
        cache_path(path, c->dir, false, r);
        PAC_TRY(add_file(c, path));
        cache_path(path, c->dir, true, r);
        if (pac_h5_marked(path, CACHE_MARK))
            PAC_TRY(add_file(c, path));
    }
    return PAC_OK;
}

/* ---- records ---- */

/* First pass: start[s + 1] counts the records of sample s. Second: they are put in their places, start[s + 1] being the next.
 */
static pac_err pass(pac_cache *c, int64_t file, bool place)
{
    cache_record *r;
    int64_t n;
    PAC_TRY(cache_file_records(&c->at.file[file], &c->l, &r, &n));
    for (int64_t i = 0; i < n; i++)
        if (readable(c, r[i].sample)) {
            int64_t k = c->at.start[r[i].sample + 1]++;
            if (place)
                c->at.entry[k] = (cache_entry){r[i].offset, (int32_t)file, (int32_t)r[i].set};
        }
    pac_mem_free(r);
    return PAC_OK;
}

static pac_err find_records(pac_cache *c)
{
    void *p;
    const int64_t n = c->l.samples;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, n + 2, sizeof(int64_t), &p));
    int64_t *start = c->at.start = p;
    for (int64_t f = 0; f < c->at.files; f++)
        PAC_TRY(pass(c, f, false));
    int64_t sum = 0;
    for (int64_t s = 0; s <= n; s++) { /* start[s + 1]: where sample s begins */
        int64_t count = start[s + 1];
        start[s + 1] = sum;
        sum += count;
    }
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, sum, sizeof(cache_entry), &p));
    c->at.entry = p;
    for (int64_t f = 0; f < c->at.files; f++)
        PAC_TRY(pass(c, f, true));
    return PAC_OK; /* now start[s + 1] is where sample s ends */
}

static pac_err check_complete(const pac_cache *c)
{
    const cache_lookup *at = &c->at;
    for (int64_t s = 0; s < c->l.samples; s++) {
        uint8_t has[CACHE_MAX_PARTS] = {0};
        for (int64_t k = at->start[s]; k < at->start[s + 1]; k++) {
            const cache_sets *sets = &at->file[at->entry[k].file].sets;
            for (int64_t p = 0; p < c->l.parts; p++)
                has[p] |= sets->has[at->entry[k].set * c->l.parts + p];
        }
        const uint8_t *gap = readable(c, s) ? memchr(has, 0, (size_t)c->l.parts) : NULL;
        PAC_CHECK(gap == NULL, PAC_EDATA, "%s: the cache lacks part %lld of sample %lld; delete it", c->dir,
                  (long long)(gap - has), (long long)s);
    }
    return PAC_OK;
}

pac_err cache_lookup_build(pac_cache *c)
{
    PAC_TRY(open_files(c));
    PAC_TRY(find_records(c));
    return check_complete(c);
}

void cache_lookup_free(cache_lookup *at)
{
    for (int64_t i = 0; i < at->files; i++)
        (void)cache_file_close(&at->file[i]);
    pac_mem_free(at->file);
    pac_mem_free(at->start);
    pac_mem_free(at->entry);
    *at = (cache_lookup){0};
}
