/*
 * Writing: parts arrive one by one for the samples of a micro-batch; they are kept until another micro-batch begins and then
 * written sample by sample, so that a sample's parts lie together and are read in one piece. handover.c calls this from its
 * thread.
 *
 * Both buffers are bounded: HELD for the micro-batch (a larger one becomes several records a sample), SLICE for what one write
 * takes.
 */
#include "internal.h"

#include <string.h>

enum { HELD = 8 << 20, SLICE = 2 << 20 };

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
    /* while a buffer grows to its size the one of half of it is still there, and the step may be at its peak just then */
    return grown(held) + grown(held) / 2 + grown(held < SLICE ? held : record > SLICE ? record : SLICE);
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

pac_err cache_writer_add(cache_writer *w, int64_t part, const int64_t *sample, int64_t n, const float *rows)
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

pac_err cache_writer_open(const pac_cache *c, cache_writer **out)
{
    char path[CACHE_PATH];
    void *p, *at;
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, sizeof(cache_writer), &p));
    cache_writer *w = p;
    w->dir = c->dir;
    w->l = &c->l;
    cache_path(path, c->dir, false, pac_world_rank());
    pac_err err = pac_mem_array(PAC_MEM_CACHE, c->l.parts, sizeof(int64_t), &at);
    if (err == PAC_OK) {
        w->part_at = at;
        err = cache_file_create(path, &c->h, &c->l, &w->file);
    }
    if (err != PAC_OK)
        free_writer(w);
    else
        *out = w;
    return err;
}

const char *cache_writer_path(const cache_writer *w)
{
    return w->file.path;
}

pac_err cache_writer_finish(cache_writer **wp, int64_t *bytes)
{
    cache_writer *w = *wp;
    PAC_TRY(write_held(w));
    PAC_TRY(pac_h5_set(w->file.h5, "state", CACHE_COMPLETE));
    *bytes = w->rows_end;
    *wp = NULL;
    pac_err err = cache_file_close(&w->file);
    free_writer(w);
    return err;
}
