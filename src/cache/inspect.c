/*
 * What a cache holds, and whether it is still what was written: for `pac cache info` and `pac cache verify`. One process, any
 * cache, the run's configuration is not needed: the files tell their own layout.
 */
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const states[] = {"open", "complete", "redistributed"};
static const char *const ways[] = {"allgather", "shard"};

/* ---- info ---- */

typedef struct summary {
    cache_header h; /* of the first file; state: the lowest of all */
    int64_t files, disk;
    int64_t payload; /* bytes of all parts of all samples */
    int64_t parts[2];
} summary;

static pac_err describe_layout(const cache_file *f, summary *s)
{
    pac_cache_layout l;
    PAC_TRY(cache_file_layout(f, &l));
    s->payload = pac_cache_bytes(&l);
    for (int64_t p = 0; p < l.parts; p++)
        s->parts[l.stack[p]]++;
    cache_file_layout_free(&l);
    return PAC_OK;
}

static pac_err summarise(void *user, const char *path)
{
    summary *s = user;
    cache_file f;
    struct stat on_disk;
    PAC_TRY(cache_file_open(path, &f));
    pac_err err = s->files == 0 ? describe_layout(&f, s) : PAC_OK;
    if (s->files++ == 0)
        s->h = f.h;
    s->h.state = f.h.state < s->h.state ? f.h.state : s->h.state;
    s->disk += stat(path, &on_disk) == 0 ? (int64_t)on_disk.st_size : 0;
    (void)cache_file_close(&f);
    return err;
}

pac_err pac_cache_info(const char *dir, char **json)
{
    summary s = {0};
    char text[1024];
    PAC_TRY(cache_each_file(dir, summarise, &s, NULL));
    PAC_CHECK(s.files > 0, PAC_EDATA, "%s: there is no activation cache", dir);
    const cache_header *h = &s.h;
    snprintf(text, sizeof text,
             "{\"state\": \"%s\", \"redistribute\": \"%s\", \"samples\": %lld, \"parts\": %lld, "
             "\"layers\": {\"encoder\": %lld, \"decoder\": %lld}, \"width\": %lld, \"dtype\": \"%s\", \"bytes\": %lld, "
             "\"disk_bytes\": %lld, \"files\": %lld, \"ranks\": %lld, \"nodes\": %lld, "
             "\"identity\": {\"model\": \"%016llx\", \"data\": \"%016llx\", \"layout\": \"%016llx\"}}",
             states[h->state], ways[h->how], (long long)h->samples, (long long)h->parts, (long long)s.parts[0],
             (long long)s.parts[1], (long long)h->width, pac_dtype_name((pac_dtype)h->dtype), (long long)s.payload,
             (long long)s.disk, (long long)s.files, (long long)h->world, (long long)h->nodes, (unsigned long long)h->model,
             (unsigned long long)h->data, (unsigned long long)h->layout);
    return pac_mem_strdup(text, json);
}

/* ---- verify ---- */

typedef struct verification {
    cache_header h; /* of the first file */
    int64_t files, samples, bytes;
    uint8_t *has;    /* [samples * parts] met so far */
    uint8_t *wanted; /* [samples] must be complete in this directory */
    uint8_t *record;
    int64_t record_cap;
} verification;

/* The first file says what all of them are of. */
static pac_err begin(const cache_file *f, const pac_cache_layout *l, verification *v)
{
    void *p;
    v->h = f->h;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, l->samples, (size_t)l->parts, &p));
    v->has = p;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, l->samples, 1, &p));
    v->wanted = p;
    /* One node holds everything, and so does every node under allgather. */
    memset(v->wanted, f->h.nodes == 1 || f->h.how == PAC_REDIST_ALLGATHER, (size_t)l->samples);
    return PAC_OK;
}

static pac_err check_same(const cache_file *f, const verification *v)
{
    PAC_CHECK(f->h.run == v->h.run && f->h.samples == v->h.samples && f->h.parts == v->h.parts, PAC_EDATA,
              "%s: is of another run than the other files; delete the cache", f->path);
    return PAC_OK;
}

/* Under shard the samples that a rank here owns must be complete here. */
static pac_err want_owned(const cache_file *f, const pac_cache_layout *l, bool import, verification *v)
{
    void *owner;
    if (f->h.how != PAC_REDIST_SHARD || import)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, l->samples, sizeof(int32_t), &owner));
    pac_err err = cache_file_owner(f, owner, l->samples);
    for (int64_t i = 0; err == PAC_OK && i < l->samples; i++)
        v->wanted[i] |= ((int32_t *)owner)[i] == (int64_t)f->h.rank;
    pac_mem_free(owner);
    return err;
}

static pac_err verify_rows(const cache_file *f, const pac_cache_layout *l, verification *v)
{
    cache_record *r;
    int64_t n;
    PAC_TRY(cache_file_records(f, l, &r, &n));
    pac_err err = PAC_OK;
    for (int64_t i = 0; i < n && err == PAC_OK; i++) {
        err = cache_file_read(f, l, &r[i], &v->record, &v->record_cap);
        for (int64_t p = 0; p < l->parts; p++)
            v->has[r[i].sample * l->parts + p] |= f->sets.has[r[i].set * l->parts + p];
        v->bytes += cache_record_bytes(l, &f->sets, r[i].set, r[i].sample);
    }
    pac_mem_free(r);
    return err;
}

static pac_err verify_file(void *user, const char *path)
{
    verification *v = user;
    cache_file f;
    pac_cache_layout l = {0};
    PAC_TRY(cache_file_open(path, &f));
    pac_err err = cache_file_layout(&f, &l);
    if (err == PAC_OK && f.h.state != CACHE_REDISTRIBUTED)
        err = pac_fail(PAC_EDATA, "%s: was left by a run that did not end (%s)", path, states[f.h.state]);
    if (err == PAC_OK)
        err = v->files++ == 0 ? begin(&f, &l, v) : check_same(&f, v);
    if (err == PAC_OK)
        err = want_owned(&f, &l, strstr(path, "/import-") != NULL, v);
    if (err == PAC_OK)
        err = verify_rows(&f, &l, v);
    cache_file_layout_free(&l);
    (void)cache_file_close(&f);
    return err;
}

/* Counts the complete samples; one that should be and is not is an error. */
static pac_err check_complete(const char *dir, verification *v)
{
    const size_t parts = (size_t)v->h.parts;
    for (size_t i = 0; i < v->h.samples; i++) {
        const uint8_t *has = v->has + i * parts, *gap = memchr(has, 0, parts);
        PAC_CHECK(gap == NULL || !v->wanted[i], PAC_EDATA,
                  "%s: the cache lacks part %lld of sample %lld (is a file missing?); delete it", dir, (long long)(gap - has),
                  (long long)i);
        v->samples += gap == NULL;
    }
    return PAC_OK;
}

pac_err pac_cache_verify(const char *dir, int64_t *samples, int64_t *bytes)
{
    verification v = {0};
    pac_err err = cache_each_file(dir, verify_file, &v, NULL);
    if (err == PAC_OK && v.files == 0)
        err = pac_fail(PAC_EDATA, "%s: there is no activation cache", dir);
    if (err == PAC_OK)
        err = check_complete(dir, &v);
    pac_mem_free(v.has);
    pac_mem_free(v.wanted);
    pac_mem_free(v.record);
    if (err == PAC_OK) {
        *samples = v.samples;
        *bytes = v.bytes;
    }
    return err;
}
