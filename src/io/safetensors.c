/*
 * safetensors, reading: the tensors of one file or of all shards as one list, sorted by name for finding.
 *
 * Checking a file is in safetensors_file.c; here nothing can go wrong any more but shards that do not fit together.
 */
#include "pac/file.h"
#include "safetensors_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_INDEX = 64 << 20, PATH_BYTES = 4096 };

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const pac_st_item *const *)a)->name, (*(const pac_st_item *const *)b)->name);
}

static pac_err sort_names(pac_st *f)
{
    void *names;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, f->count, sizeof f->by_name[0], &names));
    f->by_name = names;
    for (int64_t i = 0; i < f->count; i++)
        f->by_name[i] = &f->items[i];
    if (f->count > 0)
        qsort(f->by_name, (size_t)f->count, sizeof f->by_name[0], by_name);
    for (int64_t i = 1; i < f->count; i++) {
        const pac_st_item *a = f->by_name[i - 1], *b = f->by_name[i];
        PAC_CHECK(strcmp(a->name, b->name) != 0, PAC_EDATA, "tensor '%.200s' is both in %s and in %s", a->name,
                  f->shards[a->shard].path, f->shards[b->shard].path);
    }
    return PAC_OK;
}

static pac_err new_list(pac_st **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_st), &p));
    pac_st *f = p;
    pac_err err = pac_arena_new(PAC_MEM_OTHER, &f->arena);
    if (err != PAC_OK)
        pac_mem_free(f);
    else
        *out = f;
    return err;
}

pac_err pac_st_open(const char *path, pac_st **out)
{
    pac_st *f = NULL;
    pac_err err;
    PAC_TRY(new_list(&f));
    PAC_GO(pac_st_add_shard(f, path));
    PAC_GO(sort_names(f));
    *out = f;
    return PAC_OK;
out:
    pac_st_close(&f);
    return err;
}

void pac_st_close(pac_st **file)
{
    if (file == NULL || *file == NULL)
        return;
    pac_st *f = *file;
    for (int64_t i = 0; i < f->nshards; i++) {
        munmap(f->shards[i].map, f->shards[i].bytes);
        pac_mem_free(f->shards[i].path);
    }
    pac_mem_free(f->shards);
    pac_mem_free(f->items);
    pac_mem_free(f->by_name);
    pac_mem_free(f->metadata);
    pac_arena_free(&f->arena);
    pac_mem_free(f);
    *file = NULL;
}

/* ---- shards ---- */

static pac_err open_shard_once(pac_st *f, const char *dir, const char *index, const char *file)
{
    char path[PATH_BYTES];
    bool inside = file[0] != '\0' && file[0] != '.' && strchr(file, '/') == NULL;
    PAC_CHECK(inside, PAC_EDATA, "%s: '%.200s' is not the name of a file in this directory", index, file);
    int n = snprintf(path, sizeof path, "%s/%s", dir, file);
    PAC_CHECK(n > 0 && n < PATH_BYTES, PAC_EDATA, "%s: path too long", dir);
    for (int64_t i = f->nshards - 1; i >= 0; i--)
        if (strcmp(f->shards[i].path, path) == 0)
            return PAC_OK;
    return pac_st_add_shard(f, path);
}

/* Every tensor of the index must be in the shards; that it is in the named one follows from names being unique. */
static pac_err open_shards(pac_st *f, const char *dir, const char *index, json_t *root)
{
    const char *name;
    json_t *value, *map = json_object_get(root, "weight_map");
    PAC_CHECK(json_is_object(map), PAC_EDATA, "%s: no weight_map", index);
    json_object_foreach(map, name, value)
    {
        PAC_CHECK(json_is_string(value), PAC_EDATA, "%s: weight_map.%.200s is not a file name", index, name);
        PAC_TRY(open_shard_once(f, dir, index, json_string_value(value)));
    }
    PAC_TRY(sort_names(f));
    json_object_foreach(map, name, value)
    {
        bool found;
        pac_tensor t;
        pac_st_find(f, name, &found, &t);
        PAC_CHECK(found, PAC_EDATA, "%s: tensor '%.200s' is not in %s", index, name, json_string_value(value));
    }
    return PAC_OK;
}

static pac_err open_index(const char *dir, const char *index, pac_st **out)
{
    char *text = NULL;
    size_t bytes = 0;
    json_t *root = NULL;
    json_error_t why;
    pac_st *f = NULL;
    pac_err err;
    PAC_GO(pac_file_load(index, MAX_INDEX, &text, &bytes));
    root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL)
        PAC_GO(pac_fail(PAC_EDATA, "%s:%d:%d: %s", index, why.line, why.column, why.text));
    PAC_GO(new_list(&f));
    PAC_GO(open_shards(f, dir, index, root));
    *out = f;
    f = NULL;
out:
    pac_st_close(&f);
    json_decref(root);
    pac_mem_free(text);
    return err;
}

pac_err pac_st_open_dir(const char *dir, pac_st **out)
{
    char file[PATH_BYTES], index[PATH_BYTES];
    int n = snprintf(index, sizeof index, "%s/model.safetensors.index.json", dir);
    PAC_CHECK(n > 0 && n < PATH_BYTES, PAC_EIO, "%.200s...: path too long", dir);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    if (access(file, F_OK) == 0)
        return pac_st_open(file, out);
    if (access(index, F_OK) == 0)
        return open_index(dir, index, out);
    return pac_fail(PAC_EIO, "%s: neither model.safetensors nor model.safetensors.index.json: %s", dir,
                    access(dir, F_OK) == 0 ? "save the model in this format" : strerror(errno));
}

/* ---- views ---- */

int64_t pac_st_count(const pac_st *f)
{
    return f->count;
}

const char *pac_st_name(const pac_st *f, int64_t i)
{
    return f->items[i].name;
}

void pac_st_view(const pac_st *f, int64_t i, pac_tensor *out)
{
    *out = f->items[i].tensor;
}

static int name_against_item(const void *name, const void *item)
{
    return strcmp(name, (*(const pac_st_item *const *)item)->name);
}

void pac_st_find(const pac_st *f, const char *name, bool *found, pac_tensor *out)
{
    const pac_st_item **hit =
        f->count > 0 ? bsearch(name, f->by_name, (size_t)f->count, sizeof f->by_name[0], name_against_item) : NULL;
    *found = hit != NULL;
    if (hit != NULL)
        *out = (*hit)->tensor;
}

const char *pac_st_path(const pac_st *f, int64_t i)
{
    return f->shards[f->items[i].shard].path;
}

const char *pac_st_metadata(const pac_st *f, const char *key)
{
    for (int64_t i = 0; i < f->nmetadata; i++)
        if (strcmp(f->metadata[i].key, key) == 0)
            return f->metadata[i].value;
    return NULL;
}

/* Only whole pages: the first and last may hold a part of a neighbour. The kernel reads them again if they are needed again. */
void pac_st_drop(const pac_st *f, const void *data, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data;
    for (int64_t i = 0; i < f->nshards; i++) {
        uintptr_t map = (uintptr_t)f->shards[i].map;
        if (from < map || from - map > f->shards[i].bytes || bytes > f->shards[i].bytes - (from - map))
            continue;
        uintptr_t first = (from + page - 1) / page * page, end = (from + bytes) / page * page;
        if (end > first)
            madvise((void *)first, end - first, MADV_DONTNEED);
        return;
    }
}
