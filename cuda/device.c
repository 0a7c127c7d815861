/*
 * The device of this process: finding, opening, closing, asking; and faults, of which the first is kept until somebody waits.
 *
 * The runtime library is linked statically and finds the driver itself, so the program starts without one, and says why there
 * is no device.
 */
#include "launch.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

pac_gpu_t pac_gpu;

/* ---- faults ---- */

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static pac_err fault;
static char fault_text[256];

void pac_gpu_fault(pac_err code, const char *text)
{
    pthread_mutex_lock(&fault_lock);
    if (fault == PAC_OK) {
        fault = code;
        snprintf(fault_text, sizeof fault_text, "%s", text);
    }
    pthread_mutex_unlock(&fault_lock);
}

bool pac_gpu_ok(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return true;
    char text[256];
    snprintf(text, sizeof text, "%s: %s", what, cudaGetErrorString(e));
    pac_gpu_fault(e == cudaErrorMemoryAllocation ? PAC_ENOMEM : PAC_EINTERNAL, text);
    return false;
}

bool pac_gpu_has_fault(void)
{
    pthread_mutex_lock(&fault_lock);
    bool has = fault != PAC_OK;
    pthread_mutex_unlock(&fault_lock);
    return has;
}

pac_err pac_gpu_take_fault(void)
{
    char text[sizeof fault_text];
    pthread_mutex_lock(&fault_lock);
    pac_err code = fault;
    fault = PAC_OK;
    memcpy(text, fault_text, sizeof text);
    pthread_mutex_unlock(&fault_lock);
    return code == PAC_OK ? PAC_OK : pac_fail(code, "CUDA device %d: %s", pac_gpu.index, text);
}

void pac_gpu_launched(const char *kernel)
{
    pac_gpu_ok(cudaGetLastError(), kernel);
}

pac_err pac_gpu_error(cudaError_t e, pac_err code, const char *what)
{
    if (e == cudaSuccess)
        return PAC_OK;
    cudaGetLastError(); /* so that it is not reported again */
    return pac_fail(e == cudaErrorMemoryAllocation ? PAC_ENOMEM : code, "CUDA: %s: %s", what, cudaGetErrorString(e));
}

/* ---- finding ---- */

static pthread_once_t counted = PTHREAD_ONCE_INIT;
static int count;
static char absence[256];

static void find_devices(void)
{
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && count > 0)
        return;
    count = 0;
    cudaGetLastError();
    snprintf(absence, sizeof absence, "no CUDA device can be used: %s",
             e == cudaSuccess ? "the driver knows none" : cudaGetErrorString(e));
}

int64_t pac_device_count(void)
{
    pthread_once(&counted, find_devices);
    return count;
}

const char *pac_device_absence(void)
{
    pthread_once(&counted, find_devices);
    return absence;
}

static pac_err check_index(int64_t index)
{
    PAC_CHECK(pac_device_count() > 0, PAC_ECONFIG, "%s; use backend auto or cpu", absence);
    PAC_CHECK(index >= 0 && index < count, PAC_ECONFIG, "CUDA device %lld: there are %d, counted from 0", (long long)index,
              count);
    return PAC_OK;
}

pac_err pac_device_name(int64_t index, char *buf, size_t bytes)
{
    struct cudaDeviceProp properties;
    PAC_TRY(check_index(index));
    PAC_TRY(pac_gpu_error(cudaGetDeviceProperties(&properties, (int)index), PAC_EINTERNAL, "cannot ask for a device's name"));
    snprintf(buf, bytes, "%s", properties.name);
    return PAC_OK;
}

/* ---- opening ---- */

static int attribute(enum cudaDeviceAttr which)
{
    int value = 0;
    pac_gpu_ok(cudaDeviceGetAttribute(&value, which, pac_gpu.index), "cudaDeviceGetAttribute");
    return value;
}

static pac_err open_device(void)
{
    PAC_TRY(pac_gpu_error(cudaSetDevice(pac_gpu.index), PAC_EINTERNAL, "cannot open the device"));
    pac_gpu.processors = attribute(cudaDevAttrMultiProcessorCount);
    pac_gpu.shared = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    pac_gpu.integrated = attribute(cudaDevAttrIntegrated) != 0;
    pac_gpu.zero_copy = pac_gpu.integrated && attribute(cudaDevAttrCanMapHostMemory) != 0;
    pac_gpu.major = attribute(cudaDevAttrComputeCapabilityMajor);
    pac_gpu.minor = attribute(cudaDevAttrComputeCapabilityMinor);
    PAC_CHECK(pac_cuda_runs_here(), PAC_ENOTBUILT,
              "this program has no kernels for CUDA device %d (compute capability %d.%d): build it with -Dgpu_arch=%d%d",
              pac_gpu.index, pac_gpu.major, pac_gpu.minor, pac_gpu.major, pac_gpu.minor);
    PAC_TRY(pac_gpu_error(cudaStreamCreateWithFlags(&pac_gpu.compute, cudaStreamNonBlocking), PAC_EINTERNAL, "no stream"));
    PAC_TRY(pac_gpu_copies_open());
    PAC_TRY(pac_gpu_blas_open());
    return pac_gpu_take_fault();
}

static void close_parts(void)
{
    pac_gpu_blas_close();
    pac_gpu_table_close();
    pac_gpu_indices_close();
    pac_gpu_scratch_close();
    pac_gpu_copies_close();
    if (pac_gpu.compute != NULL)
        cudaStreamDestroy(pac_gpu.compute);
    pac_gpu = (pac_gpu_t){0};
}

pac_err pac_device_open(int64_t index)
{
    PAC_TRY(check_index(index));
    if (pac_gpu.open && pac_gpu.index == index)
        return PAC_OK;
    PAC_CHECK(!pac_gpu.open, PAC_EINVAL, "CUDA device %d is open already", pac_gpu.index);
    pac_gpu.index = (int)index;
    pac_err err = open_device();
    if (err != PAC_OK)
        close_parts();
    pac_gpu.open = err == PAC_OK;
    return err;
}

void pac_device_close(void)
{
    if (!pac_gpu.open)
        return;
    cudaDeviceSynchronize();
    close_parts();
}

bool pac_device_is_open(void)
{
    return pac_gpu.open;
}

pac_err pac_device_memory(int64_t *total, int64_t *available)
{
    size_t a, t;
    PAC_CHECK(pac_gpu.open, PAC_EINVAL, "no CUDA device is open");
    PAC_TRY(pac_gpu_error(cudaMemGetInfo(&a, &t), PAC_EINTERNAL, "cannot ask for the device's memory"));
    *total = (int64_t)t;
    *available = (int64_t)a;
    return PAC_OK;
}

/* Indices do not say it: each process may see other devices, or all of them under another number. FNV-1a. */
static uint64_t hash(const void *bytes, size_t n, uint64_t h)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t place_of(const struct cudaDeviceProp *p)
{
    const int slot[] = {p->pciDomainID, p->pciBusID, p->pciDeviceID};
    uint64_t h = hash(slot, sizeof slot, hash(&p->uuid, sizeof p->uuid, UINT64_C(0xcbf29ce484222325)));
    return h != 0 ? h : 1;
}

pac_err pac_device_query(pac_device_info *out)
{
    struct cudaDeviceProp p;
    pac_device_info info = {.major = pac_gpu.major, .minor = pac_gpu.minor, .integrated = pac_gpu.integrated};
    PAC_TRY(pac_device_memory(&info.total, &info.available));
    PAC_TRY(pac_gpu_error(cudaGetDeviceProperties(&p, pac_gpu.index), PAC_EINTERNAL, "cannot ask for a device's name"));
    snprintf(info.name, sizeof info.name, "%s", p.name);
    info.place = place_of(&p);
    *out = info;
    return PAC_OK;
}

bool pac_device_zero_copy(void)
{
    return pac_gpu.zero_copy;
}

bool pac_device_integrated(void)
{
    return pac_gpu.integrated;
}
