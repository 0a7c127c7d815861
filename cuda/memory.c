/* Device memory and pinned memory, and the scratch that ops share. */
#include "gpu.h"

#include <stdlib.h>

static pac_err allocate(size_t bytes, void **out)
{
    void *p = NULL;
    cudaError_t e = cudaMalloc(&p, bytes > 0 ? bytes : 1);
    if (e == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        cudaGetLastError();
        cudaMemGetInfo(&available, &total);
        return pac_fail(PAC_ENOMEM, "CUDA device %d: no %zu bytes (%zu of %zu are free)", pac_gpu.index, bytes, available,
                        total);
    }
    PAC_TRY(pac_gpu_error(e, PAC_EINTERNAL, "cannot get device memory"));
    *out = p;
    return PAC_OK;
}

pac_err pac_device_alloc(size_t bytes, void **out)
{
    PAC_CHECK(pac_gpu.open, PAC_EINVAL, "no CUDA device is open");
    return allocate(bytes, out);
}

void pac_device_free(void *p)
{
    if (p == NULL)
        return;
    pac_device_constant_release(p);
    pac_gpu_ok(cudaFree(p), "cudaFree");
}

pac_err pac_device_pinned_alloc(size_t bytes, void **out)
{
    void *p = NULL;
    PAC_TRY(pac_gpu_error(cudaSetDevice(pac_gpu.index), PAC_EINTERNAL, "cannot use the device")); /* a new thread has another */
    PAC_TRY(pac_gpu_error(cudaHostAlloc(&p, bytes > 0 ? bytes : 1, cudaHostAllocPortable | cudaHostAllocMapped), PAC_ENOMEM,
                          "no pinned memory"));
    *out = p;
    return PAC_OK;
}

void pac_device_pinned_free(void *p)
{
    if (p != NULL)
        pac_gpu_ok(cudaFreeHost(p), "cudaFreeHost");
}

/* ---- scratch: one block per user, which only grows ---- */

static struct {
    void *block;
    size_t bytes;
} scratch[PAC_SCRATCH_USERS];

void *pac_gpu_scratch(pac_scratch_user user, size_t bytes)
{
    void *p;
    if (scratch[user].block != NULL && bytes <= scratch[user].bytes)
        return scratch[user].block;
    pac_space_free(&pac_cuda_space, scratch[user].block); /* waits for the kernels that use it */
    scratch[user].block = NULL;
    if (pac_space_array(&pac_cuda_space, PAC_MEM_WORK, (int64_t)bytes, 1, &p) != PAC_OK) {
        pac_gpu_fault(PAC_ENOMEM, pac_err_message());
        return NULL;
    }
    scratch[user].block = p;
    scratch[user].bytes = bytes;
    return p;
}

void pac_gpu_scratch_close(void)
{
    for (int i = 0; i < PAC_SCRATCH_USERS; i++) {
        pac_space_free(&pac_cuda_space, scratch[i].block);
        scratch[i].block = NULL;
        scratch[i].bytes = 0;
    }
}
