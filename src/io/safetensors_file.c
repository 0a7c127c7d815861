/*
 * One safetensors file: mapped, and checked before anything points into it.
 *
 * A file is u64 header size, JSON header {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}},
 * data. The check is as strict as the reference implementation's: known types, shape and size agree, the tensors fill the data
 * without overlap or hole, and the file has exactly the size that the header promises. After that no access leaves the mapping.
 */
#include "safetensors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 << 20 };

static const char *const type_names[PAC_NDTYPES] = {
    [PAC_F32] = "F32", [PAC_BF16] = "BF16", [PAC_F16] = "F16", [PAC_I8] = "I8",
    [PAC_I32] = "I32", [PAC_I64] = "I64",   [PAC_U8] = "U8",
};

const char *pac_st_type_name(pac_dtype t)
{
    return (unsigned)t < PAC_NDTYPES ? type_names[t] : NULL;
}

bool pac_st_type_find(const char *name, pac_dtype *out)
{
    for (int t = 0; t < PAC_NDTYPES; t++)
        if (type_names[t] != NULL && strcmp(name, type_names[t]) == 0) {
            *out = (pac_dtype)t;
            return true;
        }
    return false;
}

static pac_err map_file(const char *path, pac_st_shard *out)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    PAC_CHECK(fd >= 0, PAC_EIO, "%s: cannot open: %s", path, strerror(errno));
    pac_err err = PAC_OK;
    void *map = MAP_FAILED;
    struct stat st, again;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        err = pac_fail(PAC_EIO, "%s: not a regular file", path);
    else if (st.st_size < 8)
        err = pac_fail(PAC_EDATA, "%s: %lld bytes, too short for a safetensors file", path, (long long)st.st_size);
    if (err != PAC_OK)
        goto out;
    size_t bytes = (size_t)st.st_size;
    map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        err = pac_fail(PAC_EIO, "%s: cannot map %zu bytes: %s", path, bytes, strerror(errno));
    else if (fstat(fd, &again) != 0 || again.st_size != st.st_size)
        err = pac_fail(PAC_EIO, "%s: changed while it was opened", path);
    else
        err = pac_mem_strdup(path, &out->path);
    if (err != PAC_OK)
        goto out;
    out->map = map;
    out->bytes = bytes;
    close(fd);
    return PAC_OK;
out:
    if (map != MAP_FAILED)
        munmap(map, (size_t)st.st_size);
    close(fd);
    return err;
}

static pac_err parse_header(const pac_st_shard *s, json_t **header, size_t *data_start)
{
    static const char lfs_pointer[] = "version ";
    PAC_CHECK(memcmp(s->map, lfs_pointer, 8) != 0, PAC_EDATA, "%s: a Git LFS pointer, not the file: fetch it (git lfs pull)",
              s->path);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | (unsigned char)s->map[i];
    PAC_CHECK(n <= MAX_HEADER, PAC_EDATA, "%s: header of %" PRIu64 " bytes, more than %d: not a safetensors file?", s->path, n,
              MAX_HEADER);
    PAC_CHECK(n <= s->bytes - 8, PAC_EDATA, "%s: truncated: header ends at byte %" PRIu64 ", the file has %zu", s->path, n + 8,
              s->bytes);
    json_error_t why;
    json_t *root = json_loadb(s->map + 8, (size_t)n, JSON_REJECT_DUPLICATES, &why);
    PAC_CHECK(root != NULL, PAC_EDATA, "%s: header, byte %d: %s", s->path, why.position, why.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return pac_fail(PAC_EDATA, "%s: header is not a JSON object", s->path);
    }
    *header = root;
    *data_start = 8 + (size_t)n;
    return PAC_OK;
}

static pac_err parse_shape(const json_t *shape, pac_tensor *t, uint64_t *bytes, const char **why)
{
    *why = "shape is not a list of at most 4 sizes";
    if (!json_is_array(shape) || json_array_size(shape) > PAC_MAX_DIMS)
        return PAC_EDATA;
    t->ndim = (int)json_array_size(shape);
    uint64_t total = pac_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return PAC_EDATA;
        t->shape[i] = json_integer_value(size);
        *why = "shape is too large";
        if (__builtin_mul_overflow(total, (uint64_t)t->shape[i], &total) || total > INT64_MAX)
            return PAC_EDATA;
    }
    *bytes = total;
    return PAC_OK;
}

/* Type, shape and offsets of one tensor; *why says what is wrong with it. */
static pac_err parse_entry(const json_t *value, pac_st_item *e, const char **why)
{
    const char *type = json_string_value(json_object_get(value, "dtype"));
    *why = "dtype is missing or unknown (known: F32 F16 BF16 I8 I32 I64 U8)";
    if (type == NULL || !pac_st_type_find(type, &e->tensor.dtype))
        return PAC_EDATA;
    uint64_t bytes = 0;
    PAC_TRY(parse_shape(json_object_get(value, "shape"), &e->tensor, &bytes, why));
    const json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    *why = "data_offsets is not a pair of offsets";
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return PAC_EDATA;
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    *why = "data_offsets do not agree with dtype and shape";
    return e->end - e->begin == bytes ? PAC_OK : PAC_EDATA;
}

static pac_err keep_text(pac_st *f, const char *text, const char **out)
{
    void *p;
    size_t bytes = strlen(text) + 1;
    PAC_TRY(pac_arena_get(f->arena, bytes, &p));
    memcpy(p, text, bytes);
    *out = p;
    return PAC_OK;
}

static pac_err add_metadata(pac_st *f, const char *path, json_t *map)
{
    const char *key;
    json_t *value;
    PAC_CHECK(json_is_object(map), PAC_EDATA, "%s: __metadata__ is not a JSON object", path);
    json_object_foreach(map, key, value)
    {
        PAC_CHECK(json_is_string(value), PAC_EDATA, "%s: __metadata__.%.80s is not text", path, key);
        pac_st_pair p = {NULL, NULL};
        PAC_TRY(keep_text(f, key, &p.key));
        PAC_TRY(keep_text(f, json_string_value(value), &p.value));
        void *array = f->metadata;
        PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &array, &f->metadata_capacity, f->nmetadata + 1, sizeof p));
        f->metadata = array;
        f->metadata[f->nmetadata++] = p;
    }
    return PAC_OK;
}

static pac_err add_entries(pac_st *f, const char *path, json_t *header)
{
    const char *name, *why = "";
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) {
            PAC_TRY(add_metadata(f, path, value));
            continue;
        }
        pac_st_item e = {.shard = f->nshards - 1};
        if (parse_entry(value, &e, &why) != PAC_OK)
            return pac_fail(PAC_EDATA, "%s: tensor '%.200s': %s", path, name, why);
        PAC_TRY(keep_text(f, name, &e.name));
        void *array = f->items;
        PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &array, &f->items_capacity, f->count + 1, sizeof e));
        f->items = array;
        f->items[f->count++] = e;
    }
    return PAC_OK;
}

static int by_place(const void *a, const void *b)
{
    const pac_st_item *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end != y->end ? (x->end < y->end ? -1 : 1) : strcmp(x->name, y->name);
}

/* The tensors must fill the data exactly, one behind the other. Then they point into the mapping. */
static pac_err place_entries(pac_st *f, int64_t first, size_t data_start)
{
    const pac_st_shard *s = &f->shards[f->nshards - 1];
    size_t room = s->bytes - data_start;
    uint64_t at = 0;
    if (f->count > first)
        qsort(f->items + first, (size_t)(f->count - first), sizeof(pac_st_item), by_place);
    for (int64_t i = first; i < f->count; i++) {
        const pac_st_item *e = &f->items[i];
        PAC_CHECK(e->begin == at, PAC_EDATA, "%s: tensor '%.200s' begins at byte %" PRIu64 " of the data, not %" PRIu64 ": %s",
                  s->path, e->name, e->begin, at, e->begin < at ? "it overlaps another" : "there is a hole in front of it");
        at = e->end;
    }
    PAC_CHECK(at <= room, PAC_EDATA, "%s: truncated: %" PRIu64 " bytes expected, the file has %zu: fetch it again", s->path,
              data_start + at, s->bytes);
    PAC_CHECK(at == room, PAC_EDATA, "%s: %" PRIu64 " bytes expected, the file has %zu", s->path, data_start + at, s->bytes);
    for (int64_t i = first; i < f->count; i++)
        f->items[i].tensor.data = s->map + data_start + f->items[i].begin;
    return PAC_OK;
}

pac_err pac_st_add_shard(pac_st *f, const char *path)
{
    void *array = f->shards;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &array, &f->shards_capacity, f->nshards + 1, sizeof(pac_st_shard)));
    f->shards = array;
    PAC_TRY(map_file(path, &f->shards[f->nshards]));
    f->nshards++;
    json_t *header = NULL;
    size_t data_start = 0;
    int64_t first = f->count;
    PAC_TRY(parse_header(&f->shards[f->nshards - 1], &header, &data_start));
    pac_err err = add_entries(f, path, header);
    json_decref(header);
    return err == PAC_OK ? place_entries(f, first, data_start) : err;
}
