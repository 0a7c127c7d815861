/*
 * A model with random weights in Hugging Face layout, for tests and for measurements where only the shape matters.
 *
 * config.json is written first and then read like any other, so the tensors, their shapes and the scales of their values come
 * from the family's table. Values are made in a mapped scratch file: resident memory is the system's to reclaim.
 */
#include "family.h"

#include "pac/file.h"
#include "pac/rng.h"
#include "pac/safetensors.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static pac_err join(char *out, const char *dir, const char *file)
{
    PAC_CHECK(snprintf(out, PATH_BYTES, "%s/%s", dir, file) < PATH_BYTES, PAC_EIO, "%s: the path is too long", dir);
    return PAC_OK;
}

/* No weights may be there, nor another configuration. */
static pac_err check_vacant(const char *dir, const char *text, size_t bytes)
{
    const char *const weights[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        PAC_TRY(join(path, dir, weights[i]));
        PAC_CHECK(access(path, F_OK) != 0, PAC_EIO, "%s exists: choose another directory or remove it first", path);
    }
    PAC_TRY(join(path, dir, "config.json"));
    if (access(path, F_OK) != 0)
        return PAC_OK;
    char *old;
    size_t old_bytes = 0;
    PAC_TRY(pac_file_load(path, PAC_MAX_CONFIG, &old, &old_bytes));
    pac_err err = PAC_OK;
    if (old_bytes != bytes || memcmp(old, text, bytes) != 0)
        err = pac_fail(PAC_EIO, "%s exists and differs: choose another directory or remove it first", path);
    pac_mem_free(old);
    return err;
}

/* config.json that is there already is the same (check_vacant) and stays. */
static pac_err write_config(const char *dir, const char *text, size_t bytes, bool *wrote)
{
    char path[PATH_BYTES];
    *wrote = false;
    PAC_TRY(join(path, dir, "config.json"));
    if (access(path, F_OK) == 0)
        return PAC_OK;
    *wrote = true;
    const pac_piece all = {text, bytes};
    return pac_file_replace(path, &all, 1);
}

static void draw(float *w, const pac_tensor_need *t, uint64_t seed)
{
    uint64_t s = seed ^ pac_rng_name(t->name);
    for (int64_t i = 0; i < t->n; i++)
        w[i] = t->deviation == 0 ? (float)t->all : (float)t->deviation * pac_rng_normal(s, PAC_STREAM_INIT, (uint64_t)i);
}

/* One entry a distinct tensor; returns their number. */
static int64_t fill(pac_st_entry *entries, float *values, const pac_tensor_need *list, int64_t count, uint64_t seed)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const pac_tensor_need *t = &list[i];
        if (t->repeated)
            continue;
        draw(values, t, seed);
        entries[n] = (pac_st_entry){.name = t->name, .tensor = {.dtype = PAC_F32, .ndim = t->ndim, .data = values}};
        memcpy(entries[n++].tensor.shape, t->shape, sizeof t->shape);
        values += t->n;
    }
    return n;
}

static size_t bytes_of(const pac_tensor_need *list, int64_t count)
{
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        n += list[i].repeated ? 0 : list[i].n;
    return (size_t)n * sizeof(float);
}

static pac_err write_weights(const char *dir, const pac_model_desc *d, uint64_t seed)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    pac_tensor_need *list = NULL;
    int64_t count = 0;
    void *values = NULL, *entries = NULL;
    size_t bytes = 0;
    char path[PATH_BYTES];
    pac_err err;
    PAC_GO(join(path, dir, "model.safetensors"));
    PAC_GO(pac_tensors_of(d, 0, pac_depth(d), PAC_TENSORS_HEAD | PAC_TENSORS_DENSE, &list, &count));
    bytes = bytes_of(list, count);
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, count, sizeof(pac_st_entry), &entries));
    PAC_GO(pac_file_scratch(dir, bytes, &values));
    PAC_GO(pac_st_write(path, entries, fill(entries, values, list, count, seed), metadata));
out:
    pac_file_scratch_free(values, bytes);
    pac_mem_free(entries);
    pac_mem_free(list);
    return err;
}

/* Write config.json and read it back; one that cannot be used does not stay. */
static pac_err make_config(const char *dir, const char *text, size_t bytes, pac_model_desc *d)
{
    char path[PATH_BYTES];
    bool wrote;
    pac_err err = write_config(dir, text, bytes, &wrote);
    if (err == PAC_OK)
        err = pac_model_describe(dir, d);
    if (err != PAC_OK && wrote && join(path, dir, "config.json") == PAC_OK)
        unlink(path);
    return err;
}

pac_err pac_model_init(const char *shape_or_config, const char *dir, uint64_t seed)
{
    char *text = NULL;
    size_t bytes = 0;
    pac_model_desc d;
    pac_err err;
    PAC_GO(pac_family_config_text(shape_or_config, &text, &bytes));
    PAC_GO(pac_file_make_dirs(dir));
    PAC_GO(check_vacant(dir, text, bytes));
    PAC_GO(make_config(dir, text, bytes, &d));
    PAC_GO(write_weights(dir, &d, seed));
out:
    pac_mem_free(text);
    return err;
}
