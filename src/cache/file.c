/*
 * One file of the cache (docs/formats.md): attributes, arrays "rows" (bytes of the records), "index" (three numbers a record),
 * "sets" (which parts a record has), "stack" and "length" (the layout), "owner" (who reads a sample, under shard).
 */
#include "internal.h"

#include <stddef.h>
#include <string.h>

enum { ROWS_CHUNK = 1 << 20, INDEX_CHUNK = 3 << 10, SMALL_CHUNK = 1 << 12 };

/* ---- attributes ---- */

static const struct {
    const char *name;
    size_t at;
} attributes[] = {
    {"version", offsetof(cache_header, version)},  {"state", offsetof(cache_header, state)},
    {"redistribute", offsetof(cache_header, how)}, {"world", offsetof(cache_header, world)},
    {"rank", offsetof(cache_header, rank)},        {"nodes", offsetof(cache_header, nodes)},
    {"node", offsetof(cache_header, node)},        {"run", offsetof(cache_header, run)},
    {"parts", offsetof(cache_header, parts)},      {"width", offsetof(cache_header, width)},
    {"dtype", offsetof(cache_header, dtype)},      {"samples", offsetof(cache_header, samples)},
    {"model", offsetof(cache_header, model)},      {"data", offsetof(cache_header, data)},
    {"layout", offsetof(cache_header, layout)},
};
enum { ATTRIBUTES = sizeof attributes / sizeof attributes[0] };

static uint64_t *attribute(cache_header *h, int i)
{
    return (uint64_t *)(void *)((char *)h + attributes[i].at);
}

static pac_err write_header(pac_h5 *h5, cache_header h)
{
    for (int i = 0; i < ATTRIBUTES; i++)
        PAC_TRY(pac_h5_set(h5, attributes[i].name, *attribute(&h, i)));
    return PAC_OK;
}

static pac_err read_header(const char *path, pac_h5 *h5, cache_header *out)
{
    cache_header h;
    PAC_TRY(pac_h5_get(h5, "version", &h.version));
    PAC_CHECK(h.version == CACHE_VERSION, PAC_EDATA, "%s: format version %llu, this program reads %d", path,
              (unsigned long long)h.version, CACHE_VERSION);
    for (int i = 0; i < ATTRIBUTES; i++)
        PAC_TRY(pac_h5_get(h5, attributes[i].name, attribute(&h, i)));
    PAC_CHECK(h.state <= CACHE_REDISTRIBUTED && h.how <= PAC_REDIST_SHARD && h.rank < h.world && h.node < h.nodes &&
                  h.nodes <= h.world && h.world <= INT32_MAX,
              PAC_EDATA, "%s: attributes contradict each other", path);
    PAC_CHECK(h.parts >= 1 && h.parts <= CACHE_MAX_PARTS && h.width <= INT32_MAX && h.dtype < PAC_NDTYPES &&
                  h.samples <= INT64_MAX / 64,
              PAC_EDATA, "%s: attributes are out of range", path);
    *out = h;
    return PAC_OK;
}

/* ---- writing ---- */

static pac_err write_array(pac_h5 *h5, const char *name, pac_dtype type, const void *data, int64_t n)
{
    pac_h5_array *a;
    PAC_TRY(pac_h5_array_new(h5, name, type, SMALL_CHUNK, &a));
    pac_err err = pac_h5_array_append(a, data, n);
    pac_h5_array_close(&a);
    return err;
}

static pac_err write_layout(pac_h5 *h5, const pac_cache_layout *l)
{
    PAC_TRY(write_array(h5, "stack", PAC_U8, l->stack, l->parts));
    PAC_TRY(write_array(h5, "length_encoder", PAC_I64, l->len[0], l->samples));
    return write_array(h5, "length_decoder", PAC_I64, l->len[1], l->samples);
}

pac_err cache_file_create(const char *path, const cache_header *h, const pac_cache_layout *l, cache_file *out)
{
    pac_err err;
    cache_file f = {.h = *h, .sets.parts = l->parts};
    PAC_TRY(pac_mem_strdup(path, &f.path));
    PAC_GO(pac_h5_create(path, CACHE_MARK, &f.h5));
    PAC_GO(write_header(f.h5, *h));
    PAC_GO(write_layout(f.h5, l));
    PAC_GO(pac_h5_array_new(f.h5, "rows", PAC_U8, ROWS_CHUNK, &f.rows));
    PAC_GO(pac_h5_array_new(f.h5, "index", PAC_I64, INDEX_CHUNK, &f.index));
    PAC_GO(pac_h5_array_new(f.h5, "sets", PAC_U8, SMALL_CHUNK, &f.set_rows));
    PAC_GO(pac_h5_flush(f.h5));
    *out = f;
    return PAC_OK;
out:
    (void)cache_file_close(&f);
    return err;
}

pac_err cache_file_set(cache_file *f, const uint8_t *has, const uint8_t *stack, int64_t *set)
{
    int64_t before = f->sets.count;
    PAC_TRY(cache_sets_find(&f->sets, has, stack, set));
    return f->sets.count == before ? PAC_OK : pac_h5_array_append(f->set_rows, has, f->sets.parts);
}

pac_err cache_file_add_records(cache_file *f, const cache_record *r, int64_t n)
{
    return pac_h5_array_append(f->index, r, 3 * n);
}

pac_err cache_file_promote(const char *path, cache_state state, pac_redistribute how, const int32_t *owner, int64_t samples)
{
    pac_h5 *h5;
    pac_err err = PAC_OK;
    PAC_TRY(pac_h5_open(path, true, &h5));
    if (owner != NULL)
        PAC_GO(write_array(h5, "owner", PAC_I32, owner, samples));
    PAC_GO(pac_h5_set(h5, "redistribute", (uint64_t)how));
    PAC_GO(pac_h5_set(h5, "state", (uint64_t)state));
out:;
    pac_err closed = pac_h5_close(&h5);
    return err != PAC_OK ? err : closed;
}

/* ---- reading ---- */

static pac_err load_sets(cache_file *f)
{
    const int64_t parts = (int64_t)f->h.parts, n = pac_h5_array_length(f->set_rows);
    uint8_t stack[CACHE_MAX_PARTS], has[CACHE_MAX_PARTS];
    pac_h5_array *a;
    f->sets.parts = parts;
    PAC_TRY(pac_h5_array_open(f->h5, "stack", PAC_U8, &a));
    pac_err err = pac_h5_array_read(a, 0, parts, stack);
    pac_h5_array_close(&a);
    PAC_TRY(err);
    for (int64_t p = 0; p < parts; p++)
        PAC_CHECK(stack[p] <= 1, PAC_EDATA, "%s: part %lld is of stack %d", f->path, (long long)p, (int)stack[p]);
    PAC_CHECK(n % parts == 0 && n / parts <= CACHE_MAX_SETS, PAC_EDATA, "%s: %lld numbers in array \"sets\"", f->path,
              (long long)n);
    for (int64_t i = 0, number; i < n / parts; i++) {
        PAC_TRY(pac_h5_array_read(f->set_rows, i * parts, parts, has));
        for (int64_t p = 0; p < parts; p++)
            PAC_CHECK(has[p] <= 1, PAC_EDATA, "%s: set %lld is damaged", f->path, (long long)i);
        PAC_TRY(cache_sets_find(&f->sets, has, stack, &number));
        PAC_CHECK(number == i, PAC_EDATA, "%s: set %lld is there twice", f->path, (long long)i);
    }
    return PAC_OK;
}

pac_err cache_file_open(const char *path, cache_file *out)
{
    pac_err err;
    cache_file f = {0};
    PAC_TRY(pac_mem_strdup(path, &f.path));
    PAC_GO(pac_h5_open(path, false, &f.h5));
    PAC_GO(read_header(path, f.h5, &f.h));
    PAC_GO(pac_h5_array_open(f.h5, "rows", PAC_U8, &f.rows));
    PAC_GO(pac_h5_array_open(f.h5, "index", PAC_I64, &f.index));
    PAC_GO(pac_h5_array_open(f.h5, "sets", PAC_U8, &f.set_rows));
    PAC_GO(load_sets(&f));
    *out = f;
    return PAC_OK;
out:
    (void)cache_file_close(&f);
    return err;
}

pac_err cache_file_close(cache_file *f)
{
    pac_h5_array_close(&f->rows);
    pac_h5_array_close(&f->index);
    pac_h5_array_close(&f->set_rows);
    pac_err err = pac_h5_close(&f->h5);
    cache_sets_free(&f->sets);
    pac_mem_free(f->path);
    *f = (cache_file){0};
    return err;
}

static pac_err check_record(const cache_file *f, const pac_cache_layout *l, const cache_record *r)
{
    int64_t rows = pac_h5_array_length(f->rows);
    PAC_CHECK(r->sample >= 0 && r->sample < l->samples, PAC_EDATA, "%s: the index names sample %lld of %lld", f->path,
              (long long)r->sample, (long long)l->samples);
    PAC_CHECK(r->set >= 0 && r->set < f->sets.count, PAC_EDATA, "%s: the index names set %lld of %lld", f->path,
              (long long)r->set, (long long)f->sets.count);
    int64_t bytes = cache_record_bytes(l, &f->sets, r->set, r->sample);
    PAC_CHECK(r->offset >= 0 && r->offset <= rows && bytes <= rows - r->offset, PAC_EDATA,
              "%s: sample %lld lies at %lld, beyond the end of the rows (%lld)", f->path, (long long)r->sample,
              (long long)r->offset, (long long)rows);
    return PAC_OK;
}

pac_err cache_file_records(const cache_file *f, const pac_cache_layout *l, cache_record **out, int64_t *n)
{
    int64_t numbers = pac_h5_array_length(f->index);
    void *p;
    pac_err err;
    PAC_CHECK(numbers % 3 == 0, PAC_EDATA, "%s: the index ends within an entry", f->path);
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, numbers / 3, sizeof(cache_record), &p));
    cache_record *r = p;
    PAC_GO(pac_h5_array_read(f->index, 0, numbers, r));
    for (int64_t i = 0; i < numbers / 3; i++)
        PAC_GO(check_record(f, l, &r[i]));
    *out = r;
    *n = numbers / 3;
    return PAC_OK;
out:
    pac_mem_free(p);
    return err;
}

static pac_err check_parts(const cache_file *f, const pac_cache_layout *l, const cache_record *r, const uint8_t *bytes)
{
    const uint8_t *has = f->sets.has + r->set * l->parts, *sums = bytes, *rows = bytes + cache_sums_bytes(&f->sets, r->set);
    for (int64_t p = 0; p < l->parts; p++) {
        if (!has[p])
            continue;
        uint64_t sum;
        int64_t n = cache_part_bytes(l, p, r->sample);
        memcpy(&sum, sums, sizeof sum);
        PAC_CHECK(cache_checksum(rows, n, r->sample, p) == sum, PAC_EDATA,
                  "%s: part %lld of sample %lld is damaged (at byte %lld of the rows); delete the cache", f->path, (long long)p,
                  (long long)r->sample, (long long)(r->offset + (rows - bytes)));
        sums += sizeof sum;
        rows += n;
    }
    return PAC_OK;
}

pac_err cache_file_read(const cache_file *f, const pac_cache_layout *l, const cache_record *r, uint8_t **buffer,
                        int64_t *capacity)
{
    int64_t bytes = cache_record_bytes(l, &f->sets, r->set, r->sample);
    PAC_TRY(pac_mem_grow(PAC_MEM_CACHE, (void **)buffer, capacity, bytes, 1));
    PAC_TRY(pac_h5_array_read(f->rows, r->offset, bytes, *buffer));
    return check_parts(f, l, r, *buffer);
}

/* An array of exactly n elements. */
static pac_err read_whole(const cache_file *f, const char *name, pac_dtype type, int64_t n, void *out)
{
    pac_h5_array *a;
    pac_err err = PAC_OK;
    PAC_TRY(pac_h5_array_open(f->h5, name, type, &a));
    int64_t length = pac_h5_array_length(a);
    if (length != n)
        err = pac_fail(PAC_EDATA, "%s: array \"%s\" has %lld elements instead of %lld", f->path, name, (long long)length,
                       (long long)n);
    else
        err = pac_h5_array_read(a, 0, n, out);
    pac_h5_array_close(&a);
    return err;
}

/* The file bounds its arrays, so the length is checked before memory is taken for it. */
static pac_err load_lengths(const cache_file *f, const char *name, int64_t samples, const int64_t **out)
{
    pac_h5_array *a;
    void *p = NULL;
    PAC_TRY(pac_h5_array_open(f->h5, name, PAC_I64, &a));
    int64_t n = pac_h5_array_length(a);
    pac_err err = PAC_OK;
    if (n != samples)
        err = pac_fail(PAC_EDATA, "%s: array \"%s\" has %lld elements instead of %lld", f->path, name, (long long)n,
                       (long long)samples);
    if (err == PAC_OK)
        err = pac_mem_array(PAC_MEM_CACHE, samples, sizeof(int64_t), &p);
    if (err == PAC_OK)
        err = pac_h5_array_read(a, 0, samples, p);
    pac_h5_array_close(&a);
    if (err != PAC_OK)
        pac_mem_free(p);
    else
        *out = p;
    return err;
}

pac_err cache_file_layout(const cache_file *f, pac_cache_layout *out)
{
    pac_err err;
    pac_cache_layout l = {.parts = (int64_t)f->h.parts,
                          .D = (int64_t)f->h.width,
                          .dtype = (pac_dtype)f->h.dtype,
                          .samples = (int64_t)f->h.samples};
    PAC_GO(read_whole(f, "stack", PAC_U8, l.parts, l.stack));
    PAC_GO(load_lengths(f, "length_encoder", l.samples, &l.len[0]));
    PAC_GO(load_lengths(f, "length_decoder", l.samples, &l.len[1]));
    err = cache_check_layout(&l);
    if (err == PAC_ESHAPE)
        err = pac_fail(PAC_EDATA, "%s: %s", f->path, pac_err_message());
    PAC_GO(err);
    *out = l;
    return PAC_OK;
out:
    cache_file_layout_free(&l);
    return err;
}

void cache_file_layout_free(pac_cache_layout *l)
{
    pac_mem_free((void *)(uintptr_t)l->len[0]);
    pac_mem_free((void *)(uintptr_t)l->len[1]);
    *l = (pac_cache_layout){0};
}

pac_err cache_file_owner(const cache_file *f, int32_t *owner, int64_t samples)
{
    return read_whole(f, "owner", PAC_I32, samples, owner);
}
