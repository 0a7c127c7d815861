/*
 * Load a slice of the backbone: every tensor that its layers need is looked up, checked, and used in place in the mapped file
 * when it is f32, else converted. Only the pages of the slice ever become resident. A backend with memory of its own gets all
 * of them as copies there, and the files are closed. A model in bf16 has its matrices packed, tensor by tensor.
 */
#include "shelf.h"
#include "stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

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

pac_err pac_model_find(const pac_st *files, const pac_model_desc *d, const pac_tensor_need *need, pac_tensor *t)
{
    bool found = false;
    char name[sizeof need->name];
    for (int k = 0; !found && pac_tensor_name(d, need, k, name, sizeof name); k++)
        pac_st_find(files, name, &found, t);
    if (found)
        return check_tensor(files, name, need, t);
    if (need->rule->flags & PAC_T_OPTIONAL) {
        t->data = NULL;
        return PAC_OK;
    }
    char expected[64];
    shape_text(expected, sizeof expected, need->ndim, need->shape);
    return pac_fail(PAC_EDATA, "%s: tensor %s is missing; config.json asks for it with shape %s",
                    pac_st_count(files) > 0 ? pac_st_path(files, 0) : d->dir, need->name, expected);
}

const float **pac_model_slot(pac_model *m, const pac_tensor_need *need)
{
    const pac_tensor_rule *r = need->rule;
    char *base = r->scope == PAC_T_BLOCK ? (char *)&m->blocks[need->use.first - m->first] : (char *)&m->riders[r->stack];
    return (const float **)(void *)(base + r->slot);
}

const pac_packed **pac_model_packed(pac_model *m, const pac_tensor_need *need)
{
    return (const pac_packed **)(void *)((char *)pac_model_slot(m, need) + PAC_TO_PACKED);
}

/* To another memory in pieces, through a buffer of the host: the file's bytes may lie at any address. */
static pac_err convert_to(const pac_space *space, float *w, const pac_tensor *t, int64_t n)
{
    enum { PIECE = 1 << 20 };
    void *piece;
    pac_err err = PAC_OK;
    int64_t most = n < PIECE ? n : PIECE;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, most, sizeof(float), &piece));
    for (int64_t at = 0; at < n && err == PAC_OK; at += most) {
        int64_t count = n - at < most ? n - at : most;
        err = pac_to_f32(piece, (const char *)t->data + (size_t)at * pac_dtype_size(t->dtype), t->dtype, count);
        if (err == PAC_OK)
            err = pac_upload(space, w + at, piece, count);
    }
    pac_mem_free(piece);
    return err;
}

/* Is the slice's tensor, or another use of it (a tied head), the weight of products? */
static bool multiplies(const pac_model *m, const pac_tensor_need *need)
{
    for (int64_t i = 0; i < m->count; i++)
        if (pac_tensor_multiplies(&m->needs[i]) && strcmp(m->needs[i].name, need->name) == 0)
            return true;
    return false;
}

static pac_err convert(const pac_model *m, pac_tensor_need *need, const pac_tensor *t, const float **slot)
{
    const pac_space *space = m->be->space;
    void *w;
    PAC_TRY(pac_space_array(space, PAC_MEM_WEIGHTS, need->n, sizeof(float), &w));
    *slot = w;
    need->home = PAC_AT_COPY;
    if (m->nowhere == NULL)
        PAC_TRY(space != NULL ? convert_to(space, w, t, need->n) : pac_to_f32(w, t->data, t->dtype, need->n));
    if (space != NULL && space->constant != NULL && multiplies(m, need))
        space->constant(w, need->n); /* what learns is moved elsewhere (pac_model_take()) */
    if (m->nowhere == NULL)
        pac_st_drop(m->files, t->data, (size_t)need->n * pac_dtype_size(t->dtype));
    return PAC_OK;
}

/* May the file's own values stay where they are: aligned f32, and nothing reads them elsewhere before they are taken? */
static bool stays(const pac_model *m, const pac_tensor_need *need, const pac_tensor *t)
{
    bool taken = m->uncounted && !(need->rule->flags & PAC_T_BUFFER);
    bool plain = t->dtype == PAC_F32 && (uintptr_t)t->data % sizeof(float) == 0;
    return plain && (m->be->space == NULL || taken);
}

/* The values of an earlier need for the same tensor. */
static void share(pac_model *m, const pac_tensor_need *need)
{
    const pac_tensor_need *t = m->needs;
    while (strcmp(t->name, need->name) != 0)
        t++;
    *pac_model_slot(m, need) = *pac_model_slot(m, t);
    if (pac_tensor_packs(&m->desc, t))
        *pac_model_packed(m, need) = *pac_model_packed(m, t);
}

/* wait false: not what another process is packing just now. */
static pac_err pack(pac_model *m, pac_tensor_need *need, const pac_tensor *t, bool wait)
{
    pac_packed *p = NULL;
    pac_shelf *shelf = m->desc.shelf;
    if (shelf != NULL)
        PAC_TRY(pac_shelf_take(shelf, m->be, need, t, wait, &p));
    else
        PAC_TRY(pac_packed_new(m->be, t->data, t->dtype, need->shape[0], need->shape[1], &p));
    if (p == NULL)
        return PAC_OK;
    *pac_model_packed(m, need) = p;
    need->home = shelf != NULL ? PAC_AT_SHELF : PAC_AT_PACKED;
    pac_st_drop(m->files, t->data, (size_t)need->n * pac_dtype_size(t->dtype));
    return PAC_OK;
}

/* Processes of a node that load the same layers each begin with what no other is at. */
static pac_err pack_some(pac_model *m)
{
    pac_tensor t = {.data = NULL};
    for (int64_t i = 0; i < m->count; i++) {
        pac_tensor_need *need = &m->needs[i];
        if (need->repeated || !pac_tensor_packs(&m->desc, need))
            continue;
        PAC_TRY(pac_model_find(m->files, &m->desc, need, &t));
        if (t.data != NULL)
            PAC_TRY(pack(m, need, &t, false));
    }
    return PAC_OK;
}

static pac_err place(pac_model *m, pac_tensor_need *need)
{
    const float **slot = pac_model_slot(m, need);
    pac_tensor t = {.dtype = PAC_F32, .data = m->nowhere};
    if (need->repeated) {
        share(m, need);
        return PAC_OK;
    }
    if (need->home == PAC_AT_SHELF)
        return PAC_OK;
    if (m->nowhere == NULL)
        PAC_TRY(pac_model_find(m->files, &m->desc, need, &t));
    if (t.data == NULL)
        return PAC_OK;
    if (pac_tensor_packs(&m->desc, need) && m->nowhere == NULL)
        return pack(m, need, &t, true);
    PAC_CHECK(stays(m, need, &t) || !m->desc.stream || !pac_tensor_streams(need), PAC_EDATA,
              "%s: tensor %s is %s%s, and model.stream reads f32 in place: save the model in f32, or take model.stream out",
              file_of(m->files, need->name), need->name, pac_dtype_name(t.dtype),
              t.dtype == PAC_F32 ? " at an odd address" : "");
    if (!stays(m, need, &t))
        return convert(m, need, &t, slot);
    *slot = t.data;
    need->home = PAC_AT_FILE;
    if (!m->desc.stream || !pac_tensor_streams(need))
        m->mapped += pac_tensor_bytes(&m->desc, need);
    return PAC_OK;
}

/* As many addresses as the largest tensor has; touching them is a fault. */
static pac_err map_nowhere(pac_model *m)
{
    int64_t most = 1;
    for (int64_t i = 0; i < m->count; i++)
        most = m->needs[i].n > most ? m->needs[i].n : most;
    m->nowhere_bytes = (size_t)most * sizeof(float);
    void *p = mmap(NULL, m->nowhere_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PAC_CHECK(p != MAP_FAILED, PAC_ENOMEM, "cannot reserve %zu addresses: %s", m->nowhere_bytes, strerror(errno));
    m->nowhere = p;
    return PAC_OK;
}

static pac_err fill(pac_model *m, bool shapes)
{
    void *blocks;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, m->last - m->first, sizeof *m->blocks, &blocks));
    m->blocks = blocks;
    PAC_TRY(shapes ? map_nowhere(m) : pac_st_open_dir(m->desc.dir, &m->files));
    pac_err err = m->desc.shelf != NULL && !shapes ? pack_some(m) : PAC_OK;
    for (int64_t i = 0; i < m->count && err == PAC_OK; i++)
        err = place(m, &m->needs[i]);
    pac_model_account(m, m->mapped);
    if (err == PAC_OK && m->desc.stream)
        err = pac_stream_new(m, &m->stream);
    pac_model_settle(m);
    return err;
}

pac_err pac_model_load(const pac_model_desc *d, const pac_backend *be, int64_t first, int64_t last, int flags, pac_model **out)
{
    void *p;
    int parts = flags & (PAC_LOAD_HEAD | PAC_LOAD_HEAD_ONLY) ? PAC_TENSORS_HEAD : 0;
    PAC_CHECK(d->dtype == PAC_F32 || !(flags & PAC_LOAD_TAKEN), PAC_EINVAL, "weights in %s cannot learn",
              pac_dtype_name(d->dtype));
    PAC_CHECK(!d->stream || d->dtype == PAC_F32, PAC_EINVAL, "weights in %s cannot be streamed", pac_dtype_name(d->dtype));
    PAC_CHECK(!d->stream || !(flags & PAC_LOAD_TAKEN), PAC_EINVAL, "weights that are streamed cannot learn");
    if (flags & PAC_LOAD_HEAD_ONLY)
        first = last = pac_depth(d);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_model), &p));
    pac_model *m = p;
    pac_err err;
    *m = (pac_model){.desc = *d, .be = be, .first = first, .last = last, .uncounted = flags & PAC_LOAD_TAKEN};
    m->desc.stream = d->stream && last > first;
    PAC_GO(pac_tensors_of(d, first, last, parts, &m->needs, &m->count));
    PAC_GO(fill(m, flags & PAC_LOAD_SHAPES));
    *out = m;
    m = NULL;
out:
    pac_model_free(&m);
    return err;
}

void pac_model_account(const pac_model *m, int64_t delta)
{
    if (!m->uncounted)
        pac_mem_account(PAC_MEM_WEIGHTS, delta);
}

void pac_model_settle(pac_model *m)
{
    if (m->mapped == 0 && !m->desc.stream)
        pac_st_close(&m->files);
}

/* Give back what the slice owns of a tensor. */
static void drop_values(pac_model *m, const pac_tensor_need *t)
{
    if (t->home == PAC_AT_COPY)
        pac_space_free(m->be->space, (void *)(uintptr_t)*pac_model_slot(m, t));
    if (t->home == PAC_AT_PACKED) {
        pac_packed *p = (pac_packed *)(uintptr_t)*pac_model_packed(m, t);
        pac_packed_free(&p);
    }
    if (t->home == PAC_AT_SHELF) {
        pac_packed *p = (pac_packed *)(uintptr_t)*pac_model_packed(m, t);
        pac_shelf_return(m->desc.shelf, t, &p);
    }
}

void pac_model_free(pac_model **model)
{
    if (model == NULL || *model == NULL)
        return;
    pac_model *m = *model;
    pac_stream_free(&m->stream);
    pac_model_account(m, -m->mapped);
    pac_st_close(&m->files);
    if (m->nowhere != NULL)
        munmap(m->nowhere, m->nowhere_bytes);
    for (int64_t i = 0; i < m->count; i++)
        drop_values(m, &m->needs[i]);
    pac_mem_free(m->needs);
    pac_mem_free(m->blocks);
    pac_mem_free(m);
    *model = NULL;
}
