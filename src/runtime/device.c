/*
 * Which backend a rank computes on: the one that the configuration names; auto: a device where one can be used, else the
 * processor. Ranks of a node take its devices in turn, so several ranks may share one.
 */
#include "planning.h"
#include "pac/device.h"
#include "pac/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const precisions[] = {"f32", "tf32", "bf16", "f16"}; /* pac_precision */

bool rounds_weights(const pac_config *c)
{
    return strcmp(c->precision, "bf16") == 0 || strcmp(c->precision, "f16") == 0;
}

static pac_err choose_precision(const char *name, const char *device)
{
    int wanted = PAC_PREC_F32;
    while (strcmp(precisions[wanted], name) != 0)
        wanted++; /* the configuration knows these words and no others */
    PAC_CHECK(pac_device_precision((pac_precision)wanted) == (pac_precision)wanted, PAC_ECONFIG,
              "precision: %s is not to be had on %s; use f32 or f16", name, device);
    return PAC_OK;
}

static pac_err open_device(pac_job *j, int64_t index)
{
    pac_device_info d;
    PAC_TRY(pac_device_query(&d));
    PAC_TRY(choose_precision(j->cfg.precision, d.name));
    j->be = pac_device_backend();
    pac_log(PAC_LOG_INFO, "device %lld: %s, %.1f of %.1f GiB free", (long long)index, d.name, (double)d.available / 1073741824,
            (double)d.total / 1073741824);
    return PAC_OK;
}

static pac_err choose(pac_job *j)
{
    const char *name = j->cfg.backend;
    bool device = strcmp(name, "cuda") == 0;
    int64_t index = pac_device_count() > 0 ? pac_node_rank() % pac_device_count() : 0;
    if (strcmp(name, "auto") == 0) {
        device = pac_device_count() > 0 && pac_device_open(index) == PAC_OK; /* one that this program has no kernels for: no */
        if (!device)
            pac_log(PAC_LOG_INFO, "backend cpu: %s", pac_device_count() > 0 ? pac_err_message() : pac_device_absence());
    }
    PAC_CHECK(device || strcmp(j->cfg.precision, "f32") == 0, PAC_ECONFIG,
              "precision: %s needs backend cuda and a device, and this run is on the processor; use f32", j->cfg.precision);
    if (!device)
        return pac_backend_find(name, &j->be);
    PAC_CHECK(pac_device_backend() != NULL, PAC_ENOTBUILT, "backend: cuda: %s; use auto, cpu or ref", pac_device_absence());
    PAC_CHECK(pac_device_count() > 0, PAC_ECONFIG, "backend: cuda: %s; use auto, cpu or ref", pac_device_absence());
    PAC_TRY(pac_device_open(index));
    return open_device(j, index);
}

/* How many ranks of the node have the device that is known by `place`; 0: none, and only asks. Collective on the node. */
static pac_err sharers_of(uint64_t place, int64_t *out)
{
    size_t counts[PAC_MAX_DEVICES];
    void *p;
    for (int64_t r = 0; r < pac_node_size(); r++)
        counts[r] = sizeof place;
    PAC_TRY(pac_agree(pac_node(), pac_mem_array(PAC_MEM_OTHER, pac_node_size(), sizeof place, &p)));
    pac_err err = pac_allgatherv(pac_node(), &place, sizeof place, p, counts);
    *out = 0;
    for (int64_t r = 0; r < pac_node_size() && err == PAC_OK; r++)
        *out += ((const uint64_t *)p)[r] == place;
    pac_mem_free(p);
    return err;
}

pac_err job_device_limit(const pac_job *j, pac_budget *limit)
{
    pac_device_info d = {0};
    int64_t n;
    const bool device = j->be != NULL && j->be->space != NULL && pac_device_is_open();
    PAC_TRY(pac_agree(pac_node(), device ? pac_device_query(&d) : PAC_OK));
    PAC_TRY(sharers_of(d.place, &n));
    double bytes = (double)d.available / (double)n;
    if (!device || (d.integrated && limit->bytes > 0 && limit->bytes <= bytes))
        return PAC_OK;
    *limit = (pac_budget){.bytes = bytes, .sharers = n};
    snprintf(limit->what, sizeof limit->what, "memory of %.60s", d.name);
    return PAC_OK;
}

static pac_err check_dtype(const pac_job *j)
{
    const char *why;
    PAC_CHECK(!j->desc.stream || j->be->space == NULL, PAC_ECONFIG,
              "model.stream is for the processor, and this run is on backend %s; set backend: cpu", j->be->name);
    if (j->desc.dtype == PAC_F32)
        return PAC_OK;
    PAC_CHECK(j->be->space == NULL, PAC_ECONFIG,
              "model.dtype: %s is for the processor, and this run is on backend %s; set backend: cpu",
              pac_dtype_name(j->desc.dtype), j->be->name);
    bool native = pac_packed_native(j->be, &why);
    pac_log(PAC_LOG_INFO, "backbone in bf16: %s (%s)", native ? "bf16 products" : "f32 products of panels widened on the way",
            why);
    return PAC_OK;
}

pac_err job_backend(pac_job *j)
{
    PAC_TRY(choose(j));
    PAC_TRY(check_dtype(j));
    return j->be->space != NULL ? pac_arena_new_staging(j->be->space, PAC_MEM_COMM, &j->staging) : PAC_OK;
}

/* ---- MPI on the device's memory ---- */

enum { TRIED = 1 << 16 }; /* numbers of the trial sum */

/* The trial's numbers: in `host`, and in x where the backend has its rows. */
static pac_err make_trial(const pac_job *j, float *x, float **host)
{
    pac_arena_reset(j->staging);
    PAC_TRY(pac_arena_floats(j->staging, TRIED, host));
    for (int64_t i = 0; i < TRIED; i++)
        (*host)[i] = (float)(i % 251);
    PAC_TRY(pac_upload(j->be->space, x, *host, TRIED));
    return pac_space_sync(j->be->space);
}

/* Does a sum over all ranks, of rows where the backend has them, give what it should? *right: on this rank. Collective. */
static pac_err try_sum(const pac_job *j, float *x, bool *right)
{
    float *host = NULL;
    PAC_TRY(pac_agree(pac_world(), make_trial(j, x, &host)));
    PAC_TRY(pac_sum_f32(pac_world(), x, TRIED));
    pac_err err = pac_download(j->be->space, host, x, TRIED);
    *right = err == PAC_OK;
    for (int64_t i = 0; i < TRIED && *right; i++)
        *right = host[i] == (float)(i % 251 * pac_world_size());
    return err;
}

pac_err job_try_direct(pac_job *j)
{
    const char *wanted = getenv("PAC_CUDA_AWARE_MPI");
    int64_t lacking = wanted == NULL || strcmp(wanted, "1") != 0 || j->be->space == NULL || !pac_mpi_takes_device();
    bool right = false;
    void *x = NULL;
    PAC_TRY(pac_sum_i64(pac_world(), &lacking, 1));
    if (lacking > 0 || pac_world_size() == 1) {
        if (wanted != NULL && pac_world_rank() == 0)
            pac_log(PAC_LOG_INFO,
                    "PAC_CUDA_AWARE_MPI: not every rank has a device and an MPI library that takes its memory: rows "
                    "pass through the host");
        return PAC_OK;
    }
    pac_err err = pac_agree(pac_world(), pac_space_array(j->be->space, PAC_MEM_COMM, TRIED, sizeof(float), &x));
    if (err == PAC_OK)
        err = pac_agree(pac_world(), try_sum(j, x, &right));
    pac_space_free(j->be->space, x);
    PAC_TRY(err);
    lacking = !right;
    PAC_TRY(pac_sum_i64(pac_world(), &lacking, 1));
    PAC_CHECK(lacking == 0, PAC_EINTERNAL, "PAC_CUDA_AWARE_MPI: sums of device memory are wrong on %lld ranks: unset it",
              (long long)lacking);
    j->direct = true;
    return PAC_OK;
}

void job_backend_done(pac_job *j)
{
    pac_arena_free(&j->staging);
    if (pac_device_is_open())
        pac_device_close();
}
