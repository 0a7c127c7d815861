/*
 * Load a slice of the backbone: every tensor that its layers need is looked up, checked, and used in place in the mapped file
 * when it is f32, else converted. Only the pages of the slice ever become resident.
 */
#include "model.h"

#include <stdio.h>
#include <string.h>

static void shape_text(char *out, size_t size, int ndim, const int64_t *shape)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < ndim && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, i > 0 ? ", %lld" : "%lld", (long long)shape[i]);
    if (n < size)
        snprintf(out + n, size - n, "]");
}

/* The file that holds `name`, for messages. */
static const char *file_of(const pac_st *st, const char *name)
{
    for (int64_t i = 0; i < pac_st_count(st); i++)
        if (strcmp(pac_st_name(st, i), name) == 0)
            return pac_st_path(st, i);
    return "?";
}

static pac_err check_tensor(const pac_st *st, const char *name, const pac_tensor_need *need, const pac_tensor *t)
{
    PAC_CHECK(t->dtype == PAC_F32 || t->dtype == PAC_BF16 || t->dtype == PAC_F16, PAC_EDATA,
              "%s: tensor %s has type %s; expected f32, bf16 or f16", file_of(st, name), name, pac_dtype_name(t->dtype));
    if (t->ndim != need->ndim || memcmp(t->shape, need->shape, (size_t)need->ndim * sizeof t->shape[0]) != 0) {
        char expected[64], found[128];
        shape_text(expected, sizeof expected, need->ndim, need->shape);
        shape_text(found, sizeof found, t->ndim, t->shape);
        return pac_fail(PAC_EDATA, "%s: tensor %s has shape %s; config.json asks for %s", file_of(st, name), name, found,
                        expected);
    }
    return PAC_OK;
}

static pac_err find(const pac_model *m, const pac_tensor_need *need, pac_tensor *t)
{
    bool found;
    const char *name = need->name;
    pac_st_find(m->files, name, &found, t);
    if (!found && need->alt[0] != '\0') {
        name = need->alt;
        pac_st_find(m->files, name, &found, t);
    }
    if (!found) {
        char expected[64];
        shape_text(expected, sizeof expected, need->ndim, need->shape);
        return pac_fail(PAC_EDATA, "%s: tensor %s is missing; config.json asks for it with shape %s",
                        pac_st_count(m->files) > 0 ? pac_st_path(m->files, 0) : m->desc.dir, need->name, expected);
    }
    return check_tensor(m->files, name, need, t);
}

static pac_err convert(pac_model *m, const pac_tensor_need *need, const pac_tensor *t, const float **out)
{
    void *list = m->converted, *w;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &list, &m->converted_capacity, m->nconverted + 1, sizeof *m->converted));
    m->converted = list;
    PAC_TRY(pac_mem_array(PAC_MEM_WEIGHTS, need->n, sizeof(float), &w));
    m->converted[m->nconverted++] = w;
    PAC_TRY(pac_to_f32(w, t->data, t->dtype, need->n));
    pac_st_drop(m->files, t->data, (size_t)need->n * pac_dtype_size(t->dtype));
    *out = w;
    return PAC_OK;
}

static const float **slot_of(pac_model *m, const pac_tensor_need *need)
{
    char *base = need->layer >= 0 ? (char *)&m->blocks[need->layer - m->first] : (char *)&m->riders[need->rule->stack];
    return (const float **)(void *)(base + need->rule->slot);
}

/* The slot of an earlier need for the same tensor. */
static const float *loaded_before(pac_model *m, const pac_tensor_need *list, const char *name)
{
    while (strcmp(list->name, name) != 0)
        list++;
    return *slot_of(m, list);
}

static pac_err place(pac_model *m, const pac_tensor_need *list, const pac_tensor_need *need)
{
    const float **slot = slot_of(m, need);
    if (need->repeated) {
        *slot = loaded_before(m, list, need->name);
        return PAC_OK;
    }
    pac_tensor t;
    PAC_TRY(find(m, need, &t));
    if (t.dtype != PAC_F32 || (uintptr_t)t.data % sizeof(float) != 0)
        return convert(m, need, &t, slot);
    *slot = t.data;
    m->mapped += need->n * (int64_t)sizeof(float);
    return PAC_OK;
}

static pac_err fill(pac_model *m, const pac_tensor_need *list, int64_t count)
{
    void *blocks;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, m->last - m->first, sizeof *m->blocks, &blocks));
    m->blocks = blocks;
    PAC_TRY(pac_st_open_dir(m->desc.dir, &m->files));
    pac_err err = PAC_OK;
    for (int64_t i = 0; i < count && err == PAC_OK; i++)
        err = place(m, list, &list[i]);
    pac_mem_account(PAC_MEM_WEIGHTS, m->mapped);
    return err;
}

pac_err pac_model_load(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, int flags, pac_model **out)
{
    void *p;
    pac_tensor_need *list = NULL;
    int64_t count = 0;
    if (flags & PAC_LOAD_HEAD_ONLY)
        first = last = d->layers[PAC_ENC] + d->layers[PAC_DEC];
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_model), &p));
    pac_model *m = p;
    pac_err err;
    *m = (pac_model){.desc = *d, .be = be, .first = first, .last = last};
    if (flags & PAC_LOAD_HEAD_ONLY)
        PAC_GO(pac_tensors_of_head(d, &list, &count));
    else
        PAC_GO(pac_tensors_of(d, first, last, flags & PAC_LOAD_HEAD, &list, &count));
    PAC_GO(fill(m, list, count));
    *out = m;
    m = NULL;
out:
    pac_mem_free(list);
    pac_model_free(&m);
    return err;
}

void pac_model_free(pac_model **model)
{
    if (model == NULL || *model == NULL)
        return;
    pac_model *m = *model;
    pac_mem_account(PAC_MEM_WEIGHTS, -m->mapped);
    pac_st_close(&m->files);
    for (int64_t i = 0; i < m->nconverted; i++)
        pac_mem_free(m->converted[i]);
    pac_mem_free(m->converted);
    pac_mem_free(m->blocks);
    pac_mem_free(m);
    *model = NULL;
}
