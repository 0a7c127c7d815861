/*
 * Weights of a loaded slice by name and by role: making them learn (take), and reading them (pruning, a checkpoint's own
 * classification head).
 */
#include "stream.h"

#include <string.h>

static void set_slot(pac_model *m, const pac_tensor_need *t, float *w, float *g)
{
    const float **slot = pac_model_slot(m, t);
    *slot = w;
    *(float **)(void *)((char *)slot + PAC_TO_GRADIENT) = g;
}

/* What the values occupied is given back. */
static void vacate(pac_model *m, pac_tensor_need *t, const float *old)
{
    int64_t bytes = pac_tensor_bytes(&m->desc, t);
    if (t->home == PAC_AT_COPY)
        pac_space_free(m->be->space, (void *)(uintptr_t)old);
    if (t->home == PAC_AT_FILE) {
        m->mapped -= bytes;
        pac_model_account(m, -bytes);
        if (m->files != NULL)
            pac_st_drop(m->files, old, (size_t)bytes);
    }
    t->home = PAC_AT_OWNER;
    pac_model_settle(m);
}

static pac_tensor_need *need_called(pac_model *m, const char *name)
{
    for (int64_t i = 0; i < m->count; i++)
        if (strcmp(m->needs[i].name, name) == 0)
            return &m->needs[i]; /* the first of a tied tensor is the one that is not repeated */
    return NULL;
}

pac_err pac_model_take(pac_model *m, const char *name, float *w, float *g)
{
    pac_tensor_need *t = need_called(m, name);
    PAC_CHECK(t != NULL, PAC_EINVAL, "the slice [%lld, %lld) does not hold %s", (long long)m->first, (long long)m->last, name);
    const float *old = *pac_model_slot(m, t);
    PAC_CHECK(!pac_tensor_packs(&m->desc, t), PAC_EINVAL, "%s is held in %s and cannot learn", name,
              pac_dtype_name(m->desc.dtype));
    PAC_CHECK(m->stream == NULL, PAC_EINVAL, "%s is streamed and cannot learn", name);
    PAC_CHECK(old != NULL, PAC_EINVAL, "%s: the files have no %s", m->desc.dir, name);
    if (m->nowhere == NULL && w != old)
        PAC_TRY(t->home == PAC_AT_FILE ? pac_upload(m->be->space, w, old, t->n) : pac_move(m->be->space, w, old, t->n));
    for (int64_t i = 0; i < m->count; i++)
        if (strcmp(m->needs[i].name, name) == 0)
            set_slot(m, &m->needs[i], w, g);
    vacate(m, t, old);
    return PAC_OK;
}

pac_block_weights *pac_model_block_tunable(pac_model *m, int64_t layer)
{
    return layer >= m->first && layer < m->last ? &m->blocks[layer - m->first] : NULL;
}

/* One tensor that the host may read: itself, or a copy in `work`. NULL stays NULL. */
static pac_err readable(const pac_model *m, const float *w, int64_t n, pac_arena *work, const float **out)
{
    void *copy;
    *out = w;
    if (w == NULL || m->be->space == NULL)
        return PAC_OK;
    PAC_TRY(pac_arena_get(work, (size_t)n * sizeof *w, &copy));
    *out = copy;
    return pac_download(m->be->space, copy, w, n);
}

/* A packed tensor in f32, in `work`: the file's values where it is still open, else the packed ones. */
static pac_err widened(const pac_model *m, const pac_tensor_need *need, const pac_packed *p, pac_arena *work, const float **out)
{
    pac_tensor t;
    float *copy;
    PAC_TRY(pac_arena_floats(work, need->n, &copy));
    *out = copy;
    if (m->files == NULL) {
        pac_packed_read(copy, p);
        return PAC_OK;
    }
    PAC_TRY(pac_model_find(m->files, &m->desc, need, &t));
    pac_err err = pac_to_f32(copy, t.data, t.dtype, need->n);
    pac_st_drop(m->files, t.data, (size_t)need->n * pac_dtype_size(t.dtype));
    return err;
}

pac_err pac_model_read_block(const pac_model *m, int64_t layer, pac_arena *work, pac_block_weights *out)
{
    const pac_block_weights *b = pac_model_block_weights(m, layer);
    PAC_CHECK(b != NULL, PAC_EINVAL, "the slice [%lld, %lld) does not hold layer %lld", (long long)m->first, (long long)m->last,
              (long long)layer);
    PAC_TRY(pac_stream_use(m->stream, layer));
    *out = *b;
    for (int64_t i = 0; i < m->count; i++) {
        const pac_tensor_need *t = &m->needs[i];
        const float **slot = (const float **)(void *)((char *)out + t->rule->slot);
        const pac_packed **packed = (const pac_packed **)(void *)((char *)slot + PAC_TO_PACKED);
        if (t->rule->scope != PAC_T_BLOCK || t->use.first != layer)
            continue;
        if (t->home != PAC_AT_PACKED && t->home != PAC_AT_SHELF) {
            PAC_TRY(readable(m, *slot, t->n, work, slot));
            continue;
        }
        PAC_TRY(widened(m, t, *packed, work, slot));
        *packed = NULL;
    }
    return PAC_OK;
}

pac_err pac_model_read_riders(const pac_model *m, pac_stack stack, pac_arena *work, const float **bias_table,
                              const float **final_norm)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    PAC_TRY(readable(m, m->riders[stack].bias_table.w, b->buckets * b->H, work, bias_table));
    return readable(m, m->riders[stack].final_norm.w, b->D, work, final_norm);
}

const pac_block_weights *pac_model_block_weights(const pac_model *m, int64_t layer)
{
    return layer >= m->first && layer < m->last ? &m->blocks[layer - m->first] : NULL;
}

/* ---- the head that a checkpoint carries ---- */

/* list[0] is the weight, list[1] the bias. */
static pac_err read_dense(const pac_st *files, const pac_model_desc *d, const pac_tensor_need *list, bool *found, float *w,
                          float *b)
{
    pac_tensor t[2];
    for (int i = 0; i < 2; i++)
        PAC_TRY(pac_model_find(files, d, &list[i], &t[i]));
    PAC_CHECK((t[0].data != NULL) == (t[1].data != NULL), PAC_EDATA, "%s: the model has only one of %s and %s", d->dir,
              list[0].name, list[1].name);
    if (t[0].data != NULL) {
        PAC_TRY(pac_to_f32(w, t[0].data, t[0].dtype, list[0].n));
        PAC_TRY(pac_to_f32(b, t[1].data, t[1].dtype, list[1].n));
    }
    *found = t[0].data != NULL;
    return PAC_OK;
}

pac_err pac_model_head_dense(const pac_model_desc *d, bool *found, float *w, float *b)
{
    int64_t L = pac_depth(d), count = 0;
    pac_tensor_need *list = NULL;
    pac_st *files = NULL;
    pac_err err;
    bool has = false;
    PAC_GO(pac_tensors_of(d, L, L, PAC_TENSORS_DENSE, &list, &count));
    if (count == 2) {
        PAC_GO(pac_st_open_dir(d->dir, &files));
        PAC_GO(read_dense(files, d, list, &has, w, b));
    }
    *found = has;
out:
    pac_st_close(&files);
    pac_mem_free(list);
    return err;
}
