/*
 * Emulated CUDA: stands in for the toolkit's cuda_runtime.h so that cuda/ compiles with a plain C and C++ compiler and its
 * kernels run on the processor (emu.cc). For tests only; it says nothing about speed.
 *
 * It is stricter than a GPU where that finds faults: work is queued and only runs when somebody waits for it, device memory
 * cannot be touched by the host outside of kernels and copies, the order in which the threads of a block run changes from
 * launch to launch, and a barrier that some threads of the block have left out ends the program.
 */
#ifndef EMU_CUDA_RUNTIME_H
#define EMU_CUDA_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define CUDART_VERSION 13000

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100
} cudaError_t;
typedef enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
} cudaMemcpyKind;
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;

typedef enum cudaDeviceAttr {
    cudaDevAttrIntegrated = 18,
    cudaDevAttrCanMapHostMemory = 19,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76
} cudaDeviceAttr;

struct cudaFuncAttributes {
    size_t sharedSizeBytes;
};

typedef struct cudaUUID_t {
    char bytes[16];
} cudaUUID_t;

struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem;
    int pciDomainID, pciBusID, pciDeviceID;
};

enum {
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
    cudaHostAllocPortable = 1,
    cudaHostAllocMapped = 2
};

/* Is this set in the environment? What the emulated device lacks or has: PAC_EMU_NO_KERNELS, PAC_EMU_INTEGRATED,
 * PAC_EMU_SMALL (processors as a Nano's);
 * PAC_EMU_OWN: each process has another one. PAC_EMU_REFUSE=NAME: launches of this kernel fail. */
int emu_switch(const char *name);
/* How often the host has waited for work that was not done, or freed memory, which waits too. */
int64_t emu_waited(void);
/* Kernels launched so far, without products. */
int64_t emu_launched(void);
/* The next kernel is not launched: cudaGetLastError() says so. */
void emu_refuse_launch(void);
/* Blocks of device and of pinned memory that are not freed. */
int64_t emu_blocks(void);
const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int i);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int i);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaGetLastError(void);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t s);

#ifdef __cplusplus
}

template <class F> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, F)
{
    return emu_switch("PAC_EMU_NO_KERNELS") ? cudaErrorInvalidValue : cudaSuccess;
}

#include "emu_kernel.h"
#endif
#endif
