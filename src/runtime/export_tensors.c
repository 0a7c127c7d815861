/*
 * The tensors of an export. What learned is written straight from the mapped adapters file. A merged LoRA model is made in a
 * scratch file, layer by layer: memory holds one layer of the backbone and one low-rank pair.
 */
#include "export.h"
#include "pac/file.h"

#include <stdio.h>
#include <string.h>

/* ---- what learned ---- */

typedef struct finder {
    exporter *e;
    const char *path;
    int64_t capacity;
} finder;

static pac_err find_param(void *ctx, const pac_param *p)
{
    finder *f = ctx;
    exporter *e = f->e;
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &e->learned, &f->capacity, e->count + 1, sizeof *p));
    pac_param *mine = (pac_param *)e->learned + e->count++;
    *mine = *p;
    return adapters_view(e->adapters, f->path, mine);
}

pac_err export_open_adapters(exporter *e)
{
    char path[PAC_PATH];
    finder f = {.e = e, .path = path};
    PAC_TRY(adapters_path(path, e->adapters_dir, "adapters.safetensors"));
    PAC_TRY(pac_st_open(path, &e->adapters));
    PAC_TRY(pac_tune_walk(&e->job->desc, &e->job->tune, find_param, &f));
    PAC_CHECK(pac_st_count(e->adapters) == e->count, PAC_EDATA, "%s: %lld tensors, this model's adapters have %lld", path,
              (long long)pac_st_count(e->adapters), (long long)e->count);
    return PAC_OK;
}

static const pac_param *learned(const exporter *e, const char *name)
{
    for (int64_t i = 0; i < e->count; i++)
        if (strcmp(((const pac_param *)e->learned)[i].name, name) == 0)
            return (const pac_param *)e->learned + i;
    return NULL;
}

static bool is_head(const pac_param *p)
{
    return strncmp(p->name, "head.", 5) == 0;
}

/* ---- the file ---- */

/* One more tensor: ours by name, behind `front` in the file. */
static pac_err add(exporter *e, const char *front, const char *ours, int ndim, const int64_t *shape, const float *data)
{
    char theirs[EXPORT_NAME], whole[2 * EXPORT_NAME], *name = NULL;
    export_name(e->names, e->job->tune.head, ours, theirs);
    snprintf(whole, sizeof whole, "%s%s", front, theirs);
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &e->entry, &e->entry_room, e->entries + 1, sizeof(pac_st_entry)));
    PAC_TRY(pac_mem_grow(PAC_MEM_OTHER, &e->name, &e->name_room, e->entries + 1, sizeof(char *)));
    PAC_TRY(pac_mem_strdup(whole, &name));
    pac_st_entry *t = (pac_st_entry *)e->entry + e->entries;
    *t = (pac_st_entry){.name = name, .tensor = {.dtype = PAC_F32, .ndim = ndim, .data = (void *)(uintptr_t)data}};
    memcpy(t->tensor.shape, shape, (size_t)ndim * sizeof *shape);
    ((char **)e->name)[e->entries++] = name;
    return PAC_OK;
}

static pac_err add_param(exporter *e, const char *front, const pac_param *p)
{
    return add(e, front, p->name, p->ndim, p->shape, p->w);
}

static pac_err write_file(exporter *e, const char *name)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    char path[PAC_PATH];
    PAC_TRY(adapters_path(path, e->dir, name));
    return pac_st_write(path, e->entry, e->entries, metadata);
}

void export_tensors_free(exporter *e)
{
    for (int64_t i = 0; i < e->entries; i++)
        pac_mem_free(((char **)e->name)[i]);
    pac_mem_free(e->entry);
    pac_mem_free(e->name);
    pac_mem_free(e->learned);
    pac_st_close(&e->adapters);
    pac_file_scratch_free(e->values, (size_t)e->nvalues * sizeof *e->values);
}

pac_err export_peft_tensors(exporter *e)
{
    for (int64_t i = 0; i < e->count; i++)
        PAC_TRY(add_param(e, "base_model.model.", (const pac_param *)e->learned + i));
    return write_file(e, "adapter_model.safetensors");
}

/* ---- merging a low-rank pair ---- */

/* The values of a parameter, which the file may have at any address. */
static pac_err aligned(const pac_param *p, pac_arena *work, const float **out)
{
    float *copy;
    PAC_TRY(pac_arena_floats(work, p->n, &copy));
    memcpy(copy, p->w, (size_t)p->n * sizeof *copy);
    *out = copy;
    return PAC_OK;
}

/* w [out, in] += alpha / r b [out, r] a [r, in] where the weight has a pair. */
static pac_err merge_pair(const exporter *e, const pac_weight *t, float *w, pac_arena *work)
{
    char name[EXPORT_NAME];
    const pac_tune_opts *o = &e->job->tune;
    const float *a, *b;
    int stem = (int)(strlen(t->name) - strlen(".weight"));
    if (t->layer < 0 || t->ndim != 2)
        return PAC_OK;
    snprintf(name, sizeof name, "%.*s.lora_A.weight", stem, t->name);
    const pac_param *pa = learned(e, name);
    snprintf(name, sizeof name, "%.*s.lora_B.weight", stem, t->name);
    const pac_param *pb = learned(e, name);
    if (pa == NULL || pb == NULL)
        return PAC_OK;
    size_t mark = pac_arena_mark(work);
    PAC_TRY(aligned(pa, work, &a));
    PAC_TRY(aligned(pb, work, &b));
    e->job->be->gemm(w, t->shape[1], b, o->rank, false, a, t->shape[1], false, t->shape[0], t->shape[1], o->rank,
                     o->alpha / (float)o->rank, 1.0f);
    pac_arena_release(work, mark);
    return PAC_OK;
}

/* ---- the whole model ---- */

/* One pass over the tensors: their number of elements (values NULL), or those of one layer into the scratch file. */
typedef struct merger {
    exporter *e;
    pac_st *base;
    pac_arena *work;
    pac_model *slice; /* of `layer` */
    int64_t layer, elements;
    bool lora;
} merger;

/* Does the model need the tensor from its own files, and do they have it? A buffer (BART's bias of the logits) may be missing.
 */
static bool wanted(const merger *m, const pac_weight *t)
{
    bool found = true;
    pac_tensor view;
    if (t->buffer)
        pac_st_find(m->base, t->name, &found, &view);
    return found && (m->lora || t->buffer);
}

static pac_err count_weight(void *ctx, const pac_weight *t)
{
    merger *m = ctx;
    m->elements += wanted(m, t) ? t->n : 0;
    return PAC_OK;
}

static pac_err take_weight(void *ctx, const pac_weight *t)
{
    merger *m = ctx;
    exporter *e = m->e;
    if (t->use[0].first != m->layer || !wanted(m, t))
        return PAC_OK;
    float *w = e->values + m->elements;
    m->elements += t->n;
    PAC_TRY(pac_model_take(m->slice, t->name, w, NULL));
    PAC_TRY(merge_pair(e, t, w, m->work));
    return add(e, "", t->name, t->ndim, t->shape, w);
}

static pac_err take_layer(merger *m, bool with_head)
{
    const pac_job *job = m->e->job;
    pac_model_desc plain = job->desc;
    plain.dtype = PAC_F32;
    plain.stream = false;
    PAC_TRY(pac_model_load(&plain, job->be, m->layer, m->layer + 1, with_head ? PAC_LOAD_HEAD : 0, &m->slice));
    pac_err err = pac_model_walk(&job->desc, with_head, take_weight, m);
    pac_model_free(&m->slice);
    return err;
}

static pac_err from_backbone(merger *m)
{
    exporter *e = m->e;
    const pac_model_desc *d = &e->job->desc;
    bool with_head = e->job->tune.head == PAC_HEAD_LM;
    void *values;
    PAC_TRY(pac_model_walk(d, with_head, count_weight, m));
    PAC_TRY(pac_file_scratch(e->dir, (size_t)m->elements * sizeof(float), &values));
    e->values = values;
    e->nvalues = m->elements;
    m->elements = 0;
    for (m->layer = 0; m->layer < pac_depth(d); m->layer++)
        PAC_TRY(take_layer(m, with_head));
    PAC_CHECK(m->elements == e->nvalues, PAC_EINTERNAL, "export: %lld elements of %lld", (long long)m->elements,
              (long long)e->nvalues);
    return PAC_OK;
}

/* What learned and is a tensor of the model: all of full's, the head of lora's. */
static pac_err from_adapters(exporter *e, bool lora)
{
    for (int64_t i = 0; i < e->count; i++) {
        const pac_param *p = (const pac_param *)e->learned + i;
        if (!lora || is_head(p))
            PAC_TRY(add_param(e, "", p));
    }
    return PAC_OK;
}

pac_err export_merged_tensors(exporter *e)
{
    merger m = {.e = e, .lora = e->job->tune.kind == PAC_TECH_LORA};
    pac_err err;
    PAC_GO(pac_st_open_dir(e->job->desc.dir, &m.base));
    PAC_GO(pac_arena_new(PAC_MEM_WORK, &m.work));
    PAC_GO(from_backbone(&m));
    PAC_GO(from_adapters(e, m.lora));
    err = write_file(e, "model.safetensors");
out:
    pac_arena_free(&m.work);
    pac_st_close(&m.base);
    return err;
}
