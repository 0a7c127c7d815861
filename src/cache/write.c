/*
 * Writing: parts arrive one by one for the samples of a micro-batch; they are kept until another micro-batch begins and then
 * written sample by sample, so that a sample's parts lie together and are read in one piece.
 *
 * Both buffers are bounded: HELD for the micro-batch (a larger one becomes several records a sample), SLICE for what one write
 * takes.
 */
#include "internal.h"

#include <string.h>
#include <unistd.h>

enum { HELD = 16 << 20, SLICE = 4 << 20 };

struct cache_writer {
    const char *dir; /* borrowed, as the layout */
    const pac_cache_layout *l;
    cache_file file;
    int64_t n; /* samples of the micro-batch at hand, 0: none */
    int64_t *sample;
    int64_t sample_cap;
    uint8_t *held; /* stored rows, part after part */
    int64_t held_bytes, held_cap;
    int64_t *part_at; /* [parts] where in `held`, -1: not arrived */
    uint8_t *slice;   /* records, one after the other */
    int64_t slice_bytes, slice_cap;
    cache_record *record; /* of the slice */
    int64_t records, record_cap;
    int64_t rows_end; /* bytes of rows in the file */
    pac_err failed;   /* of the first failure: what follows it in the file cannot be trusted */
};

/* As pac_mem_grow() leaves an array that reached `bytes`. */
static int64_t grown(int64_t bytes)
{
    int64_t n = bytes > 0 ? 16 : 0;
    while (n < bytes)
        n *= 2;
    return n;
}

int64_t pac_cache_write_record(int64_t samples, int64_t sample_bytes)
{
    return samples * sample_bytes <= HELD ? sample_bytes : HELD / samples;
}

int64_t pac_cache_write_buffers(int64_t samples, int64_t sample_bytes)
{
    int64_t record = pac_cache_write_record(samples, sample_bytes), held = samples * record;
    return grown(held) + grown(held < SLICE ? held : record > SLICE ? record : SLICE);
}

/* ---- from the micro-batch to the file ---- */

static pac_err write_slice(cache_writer *w)
{
    if (w->records == 0)
        return PAC_OK;
    PAC_TRY(cache_room_for(w->dir, w->slice_bytes));
    PAC_TRY(pac_h5_array_append(w->file.rows, w->slice, w->slice_bytes));
    PAC_TRY(cache_file_add_records(&w->file, w->record, w->records));
    w->rows_end += w->slice_bytes;
    w->slice_bytes = w->records = 0;
    return PAC_OK;
}

/* The record of sample i of the micro-batch: checksums, then rows. skip[part] is where the sample's rows begin in its part. */
static void assemble(const cache_writer *w, const uint8_t *has, int64_t i, const int64_t skip[2], uint8_t *out)
{
    const pac_cache_layout *l = w->l;
    int64_t parts = 0;
    for (int64_t p = 0; p < l->parts; p++)
        parts += has[p];
    uint8_t *sums = out, *rows = out + parts * (int64_t)sizeof(uint64_t);
    for (int64_t p = 0; p < l->parts; p++) {
        if (!has[p])
            continue;
        int64_t bytes = cache_part_bytes(l, p, w->sample[i]);
        memcpy(rows, w->held + w->part_at[p] + skip[l->stack[p]], (size_t)bytes);
        uint64_t sum = cache_checksum(rows, bytes, w->sample[i], p);
        memcpy(sums, &sum, sizeof sum);
        sums += sizeof sum;
        rows += bytes;
    }
}

static pac_err add_record(cache_writer *w, const uint8_t *has, int64_t set, int64_t i, const int64_t skip[2])
{
    int64_t bytes = cache_record_bytes(w->l, &w->file.sets, set, w->sample[i]);
    if (w->slice_bytes + bytes > SLICE)
        PAC_TRY(write_slice(w));
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&w->slice, &w->slice_cap, w->slice_bytes + bytes, 1));
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&w->record, &w->record_cap, w->records + 1, sizeof(cache_record)));
    assemble(w, has, i, skip, w->slice + w->slice_bytes);
    w->record[w->records++] = (cache_record){w->sample[i], set, w->rows_end + w->slice_bytes};
    w->slice_bytes += bytes;
    return PAC_OK;
}

static pac_err write_held(cache_writer *w)
{
    uint8_t has[CACHE_MAX_PARTS];
    int64_t set, skip[2] = {0, 0};
    if (w->n == 0)
        return PAC_OK;
    for (int64_t p = 0; p < w->l->parts; p++)
        has[p] = w->part_at[p] >= 0;
    PAC_TRY(cache_file_set(&w->file, has, w->l->stack, &set));
    for (int64_t i = 0; i < w->n; i++) {
        PAC_TRY(add_record(w, has, set, i, skip));
        for (int s = 0; s < 2; s++)
            skip[s] += w->l->len[s][w->sample[i]] * pac_cache_row_bytes(w->l);
    }
    PAC_TRY(write_slice(w));
    w->n = w->held_bytes = 0;
    return pac_h5_flush(w->file.h5);
}

/* ---- a part arrives ---- */

static pac_err begin(cache_writer *w, const int64_t *sample, int64_t n)
{
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&w->sample, &w->sample_cap, n, sizeof(int64_t)));
    memcpy(w->sample, sample, (size_t)n * sizeof *sample);
    for (int64_t p = 0; p < w->l->parts; p++)
        w->part_at[p] = -1;
    w->n = n;
    return PAC_OK;
}

static pac_err hold(cache_writer *w, int64_t part, const int64_t *sample, int64_t n, const float *rows)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += w->l->len[w->l->stack[part]][sample[i]];
    int64_t bytes = count * pac_cache_row_bytes(w->l);
    bool same = w->n == n && memcmp(w->sample, sample, (size_t)n * sizeof *sample) == 0;
    if (!same || w->part_at[part] >= 0 || w->held_bytes + bytes > HELD)
        PAC_TRY(write_held(w));
    if (w->n == 0)
        PAC_TRY(begin(w, sample, n));
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)&w->held, &w->held_cap, w->held_bytes + bytes, 1));
    PAC_TRY(cache_pack_rows(w->l, rows, count, w->held + w->held_bytes));
    w->part_at[part] = w->held_bytes;
    w->held_bytes += bytes;
    return PAC_OK;
}

static pac_err check_writer(const cache_writer *w)
{
    PAC_CHECK(w != NULL, PAC_EINVAL, "the cache is not open for writing");
    PAC_CHECK(w->failed == PAC_OK, w->failed, "%s: an earlier write failed", w->file.path);
    return PAC_OK;
}

static pac_err remember(cache_writer *w, pac_err err)
{
    w->failed = err;
    return cache_advise(err);
}

pac_err pac_cache_append(pac_cache *c, int64_t part, const int64_t *sample, int64_t n, const float *rows)
{
    const pac_cache_layout *l = &c->l;
    PAC_TRY(cache_advise(check_writer(c->writer)));
    PAC_CHECK(part >= 0 && part < l->parts, PAC_EINVAL, "part %lld of %lld", (long long)part, (long long)l->parts);
    for (int64_t i = 0; i < n; i++)
        PAC_CHECK(sample[i] >= 0 && sample[i] < l->samples, PAC_EINVAL, "sample %lld of %lld", (long long)sample[i],
                  (long long)l->samples);
    return n > 0 ? remember(c->writer, hold(c->writer, part, sample, n, rows)) : PAC_OK;
}

/* ---- begin and end ---- */

static void free_writer(cache_writer *w)
{
    pac_mem_free(w->sample);
    pac_mem_free(w->held);
    pac_mem_free(w->part_at);
    pac_mem_free(w->slice);
    pac_mem_free(w->record);
    pac_mem_free(w);
}

void cache_writer_drop(cache_writer **w)
{
    if (*w == NULL)
        return;
    (void)cache_file_close(&(*w)->file);
    free_writer(*w);
    *w = NULL;
}

static pac_err open_writer(pac_cache *c)
{
    char path[CACHE_PATH];
    void *w, *at;
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, sizeof(cache_writer), &w));
    c->writer = w;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, c->l.parts, sizeof(int64_t), &at));
    c->writer->part_at = at;
    c->writer->dir = c->dir;
    c->writer->l = &c->l;
    cache_path(path, c->dir, false, pac_world_rank());
    return cache_file_create(path, &c->h, &c->l, &c->writer->file);
}

static pac_err clear_directory(const char *dir)
{
    PAC_TRY(cache_make_dir(dir));
    return pac_node_rank() == 0 ? cache_remove_files(dir, false) : PAC_OK;
}

/* Leaves no file behind when it fails on any rank. Collective. */
static pac_err open_writers(pac_cache *c)
{
    pac_err local = open_writer(c), err = pac_agree(pac_world(), local);
    if (err == PAC_OK || local != PAC_OK)
        return err;
    char path[CACHE_PATH];
    cache_path(path, c->dir, false, pac_world_rank());
    unlink(path);
    return err;
}

pac_err pac_cache_create(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, pac_cache **out)
{
    pac_cache *c = NULL;
    pac_err err;
    PAC_GO(pac_agree(pac_world(), cache_new(dir, l, id, &c)));
    PAC_GO(pac_agree(pac_world(), clear_directory(dir)));
    PAC_GO(pac_bcast(pac_world(), &c->h.run, sizeof c->h.run, 0));
    PAC_GO(open_writers(c));
    *out = c;
    return PAC_OK;
out:
    cache_free(&c);
    return err;
}

static pac_err finish(pac_cache *c)
{
    cache_writer *w = c->writer;
    PAC_TRY(cache_advise(check_writer(w)));
    PAC_TRY(remember(w, write_held(w)));
    PAC_TRY(remember(w, pac_h5_set(w->file.h5, "state", CACHE_COMPLETE)));
    c->writer = NULL;
    pac_err err = cache_file_close(&w->file);
    free_writer(w);
    return cache_advise(err);
}

pac_err pac_cache_finish(pac_cache *c)
{
    return pac_agree(pac_world(), finish(c));
}
