/*
 * adapters.safetensors: what learned, by name. Values travel parameter by parameter between rank 0, which has the file, and the
 * stages that hold them, so that no rank needs memory for all of a fully tuned model.
 */
#include "adapters.h"
#include "train.h"
#include "pac/file.h"
#include "pac/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- writing ---- */

static pac_err write_tensors(const pac_param *v, int64_t count, const char *dir)
{
    char path[PAC_PATH];
    void *entries;
    PAC_TRY(adapters_path(path, dir, "adapters.safetensors"));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, count, sizeof(pac_st_entry), &entries));
    pac_st_entry *e = entries;
    for (int64_t i = 0; i < count; i++) {
        e[i] = (pac_st_entry){v[i].name, {.dtype = PAC_F32, .ndim = v[i].ndim, .data = v[i].w}};
        memcpy(e[i].tensor.shape, v[i].shape, (size_t)v[i].ndim * sizeof(int64_t));
    }
    const char *const metadata[] = {"format", "pac", NULL};
    pac_err err = pac_st_write(path, e, count, metadata);
    pac_mem_free(entries);
    return err;
}

/* An earlier run's description goes first: with the new tensors it would be half a result that looks whole. */
static pac_err remove_description(const char *dir)
{
    char path[PAC_PATH];
    PAC_TRY(adapters_path(path, dir, "adapters.json"));
    PAC_CHECK(unlink(path) == 0 || errno == ENOENT, PAC_EIO, "%s: cannot replace: %s", path, strerror(errno));
    return PAC_OK;
}

static pac_err save_at_root(const pac_job *job, const pac_param *v, int64_t count, const char *dir)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_file_make_dirs(dir));
    PAC_TRY(remove_description(dir));
    PAC_TRY(write_tensors(v, count, dir));
    return adapters_write_json(job, dir);
}

/* Values that are not the host's, in the order of the list, into `memory`. */
static pac_err write_copies(const pac_params *mine, const char *dir, float *memory)
{
    void *list;
    PAC_TRY(pac_download(mine->space, memory, mine->w, mine->total));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, mine->count, sizeof *mine->v, &list));
    pac_param *v = list;
    memcpy(v, mine->v, (size_t)mine->count * sizeof *v);
    for (int64_t i = 0; i < mine->count; i++)
        v[i].w = memory + (mine->v[i].w - mine->w);
    pac_err err = write_tensors(v, mine->count, dir);
    pac_mem_free(list);
    return err;
}

/* All of it lies on rank 0. */
static pac_err save_own(const pac_job *job, const pac_params *mine, const char *dir)
{
    void *memory;
    if (pac_world_rank() != 0 || mine->space == NULL)
        return save_at_root(job, mine->v, mine->count, dir);
    PAC_TRY(pac_file_make_dirs(dir));
    PAC_TRY(pac_file_scratch(dir, (size_t)mine->total * sizeof(float), &memory));
    pac_err err = write_copies(mine, dir, memory);
    pac_file_scratch_free(memory, (size_t)mine->total * sizeof(float));
    return err == PAC_OK ? adapters_write_json(job, dir) : err;
}

/* Rank 0's place for everything: a scratch file beside the result. Others: room for one parameter. */
static pac_err receiving_memory(const param_list *all, const char *dir, void **memory)
{
    if (pac_world_rank() != 0)
        return pac_mem_array(PAC_MEM_WORK, all->largest, sizeof(float), memory);
    PAC_TRY(pac_file_make_dirs(dir));
    return pac_file_scratch(dir, (size_t)all->total * sizeof(float), memory);
}

static pac_err collect(const pac_plan *plan, const pac_params *mine, const param_list *all, float *memory)
{
    int64_t at = 0;
    for (int64_t i = 0; i < all->count; i++) {
        pac_param *p = (pac_param *)all->v + i;
        int64_t from = plan->stage[first_holder(plan, p)].rank[0];
        const pac_param *here = pac_world_rank() == from ? pac_params_find(mine, p->name, &at) : NULL;
        p->w = memory;
        if (here != NULL)
            PAC_TRY(pac_download(mine->space, memory, here->w, p->n));
        PAC_TRY(pac_bcast(pac_world(), memory, (size_t)p->n * sizeof(float), from));
        memory += pac_world_rank() == 0 ? p->n : 0;
    }
    return PAC_OK;
}

pac_err adapters_save(const pac_job *job, const pac_plan *plan, const pac_params *mine, const char *dir)
{
    if (plan == NULL || plan->stages == 1)
        return pac_agree(pac_world(), save_own(job, mine, dir));
    param_list all;
    void *memory = NULL;
    pac_err err;
    PAC_TRY(param_list_new(job, &all));
    PAC_GO(pac_agree(pac_world(), receiving_memory(&all, dir, &memory)));
    PAC_GO(collect(plan, mine, &all, memory));
    err = pac_agree(pac_world(), save_at_root(job, all.v, all.count, dir));
out:
    if (pac_world_rank() == 0)
        pac_file_scratch_free(memory, (size_t)all.total * sizeof(float));
    else
        pac_mem_free(memory);
    param_list_free(&all);
    return err;
}

/* ---- reading ---- */

pac_err adapters_view(const pac_st *f, const char *path, pac_param *p)
{
    bool found;
    pac_tensor t;
    pac_st_find(f, p->name, &found, &t);
    PAC_CHECK(found, PAC_EDATA, "%s: no tensor %s: these adapters have another shape", path, p->name);
    bool same = t.ndim == p->ndim && t.dtype == PAC_F32;
    for (int i = 0; i < p->ndim && same; i++)
        same = t.shape[i] == p->shape[i];
    PAC_CHECK(same, PAC_EDATA, "%s: tensor %s has another shape or type than this model needs", path, p->name);
    p->w = t.data;
    return PAC_OK;
}

static pac_err open_at_root(const char *dir, param_list *all, pac_st **f)
{
    char path[PAC_PATH];
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(adapters_path(path, dir, "adapters.safetensors"));
    PAC_TRY(pac_st_open(path, f));
    for (int64_t i = 0; i < all->count; i++)
        PAC_TRY(adapters_view(*f, path, (pac_param *)all->v + i));
    PAC_CHECK(pac_st_count(*f) == all->count, PAC_EDATA, "%s: %lld tensors, this model's adapters have %lld", path,
              (long long)pac_st_count(*f), (long long)all->count);
    return PAC_OK;
}

static pac_err spread(const param_list *all, const pac_params *mine, float *buffer)
{
    int64_t at = 0;
    for (int64_t i = 0; i < all->count; i++) {
        const pac_param *p = (const pac_param *)all->v + i;
        if (pac_world_rank() == 0) /* the file's bytes may lie at any address */
            memcpy(buffer, p->w, (size_t)p->n * sizeof(float));
        PAC_TRY(pac_bcast(pac_world(), buffer, (size_t)p->n * sizeof(float), 0));
        const pac_param *here = pac_params_find(mine, p->name, &at);
        if (here != NULL)
            PAC_TRY(pac_upload(mine->space, here->w, buffer, p->n));
    }
    return PAC_OK;
}

pac_err adapters_load(const pac_job *job, const char *dir, const pac_params *mine)
{
    param_list all;
    pac_st *f = NULL;
    void *buffer = NULL;
    pac_err err;
    PAC_TRY(param_list_new(job, &all));
    PAC_GO(pac_agree(pac_world(), open_at_root(dir, &all, &f)));
    PAC_GO(pac_agree(pac_world(), pac_mem_array(PAC_MEM_WORK, all.largest, sizeof(float), &buffer)));
    err = spread(&all, mine, buffer);
out:
    pac_mem_free(buffer);
    pac_st_close(&f);
    param_list_free(&all);
    return err;
}

pac_err whole_new(const pac_job *job, pac_tuned **out)
{
    int64_t L = pac_depth(&job->desc);
    return pac_agree(pac_world(), pac_tuned_new(&job->desc, &job->tune, job->be, 0, L, true, out));
}
