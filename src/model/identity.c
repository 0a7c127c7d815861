/*
 * Content hash of a model directory: config.json and every weight file, streamed in blocks. Two directories with the same
 * content have the same identity; the order of shards is that of their paths.
 */
#include "pac/model.h"
#include "pac/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK_BYTES = 1 << 20 };

static pac_err hash_file(XXH3_state_t *h, const char *path, char *block)
{
    FILE *f = fopen(path, "rb");
    PAC_CHECK(f != NULL, PAC_EIO, "%s: cannot open: %s", path, strerror(errno));
    uint64_t total = 0;
    for (size_t got; (got = fread(block, 1, BLOCK_BYTES, f)) > 0; total += got)
        XXH3_64bits_update(h, block, got);
    bool bad = ferror(f) != 0;
    fclose(f);
    PAC_CHECK(!bad, PAC_EIO, "%s: cannot read", path);
    XXH3_64bits_update(h, &total, sizeof total); /* a boundary between files */
    return PAC_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The tensors' files, sorted, each once: paths[0..*n), borrowed from st. */
static void distinct_paths(const pac_st *st, const char **paths, int64_t *n)
{
    int64_t count = pac_st_count(st), kept = 0;
    for (int64_t i = 0; i < count; i++)
        paths[i] = pac_st_path(st, i);
    qsort(paths, (size_t)count, sizeof *paths, by_text);
    for (int64_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(paths[kept - 1], paths[i]) != 0)
            paths[kept++] = paths[i];
    *n = kept;
}

static pac_err hash_weights(XXH3_state_t *h, const char *dir, char *block)
{
    pac_st *st = NULL;
    void *paths = NULL;
    pac_err err;
    int64_t n;
    PAC_GO(pac_st_open_dir(dir, &st));
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, pac_st_count(st), sizeof(char *), &paths));
    distinct_paths(st, paths, &n);
    for (int64_t i = 0; i < n; i++)
        PAC_GO(hash_file(h, ((const char **)paths)[i], block));
out:
    pac_mem_free(paths);
    pac_st_close(&st);
    return err;
}

pac_err pac_model_identity(const char *dir, uint64_t *out)
{
    char path[4096];
    void *block = NULL;
    pac_err err;
    XXH3_state_t *h = XXH3_createState();
    if (h == NULL)
        return pac_fail(PAC_ENOMEM, "%s: no memory for a hash", dir);
    XXH3_64bits_reset(h);
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        PAC_GO(pac_fail(PAC_EIO, "%s: the path is too long", dir));
    PAC_GO(pac_mem_alloc(PAC_MEM_WORK, BLOCK_BYTES, &block));
    PAC_GO(hash_file(h, path, block));
    PAC_GO(hash_weights(h, dir, block));
    *out = XXH3_64bits_digest(h);
out:
    pac_mem_free(block);
    XXH3_freeState(h);
    return err;
}
