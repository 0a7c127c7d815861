/*
 * What the files of this folder share: the open device, its compute stream, scratch, index arrays, and how faults are
 * remembered.
 *
 * Ops cannot fail, so the first fault is kept (pac_gpu_fault()) and returned by the next function of pac/device.h that waits.
 */
#ifndef PAC_GPU_H
#define PAC_GPU_H

#include "pac/device.h"

#include <cuda_runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pac_gpu {
    bool open, integrated, zero_copy;
    int index, processors, major, minor;
    int shared; /* bytes of shared memory of each processor */
    cudaStream_t compute;
} pac_gpu_t;

extern pac_gpu_t pac_gpu;
extern const pac_space pac_cuda_space; /* for what the ops keep themselves: it is in the ledger */

/** Remember that `what` failed, unless something has before. Returns e == cudaSuccess. */
bool pac_gpu_ok(cudaError_t e, const char *what);
/** The same for faults that are none of CUDA's. */
void pac_gpu_fault(pac_err code, const char *text);
bool pac_gpu_has_fault(void);
/** The remembered fault as an error, which forgets it; PAC_OK when there is none. */
pac_err pac_gpu_take_fault(void);
/** What a launch calls when it is queued. */
void pac_gpu_launched(const char *kernel);
/** e as a pac_err, with the driver's words; `code` when it is no lack of memory. */
pac_err pac_gpu_error(cudaError_t e, pac_err code, const char *what);

/**
 * Device scratch of at least `bytes`, aligned to 256, until the next call for the same user: kernels queued before are done
 * with it by the time later ones run. NULL: out of memory, which is remembered.
 */
typedef enum pac_scratch_user {
    PAC_SCRATCH_SUMS,
    PAC_SCRATCH_OP,
    PAC_SCRATCH_A,
    PAC_SCRATCH_B,
    PAC_SCRATCH_USERS
} pac_scratch_user;
void *pac_gpu_scratch(pac_scratch_user user, size_t bytes);

/**
 * The device copy of a host array, made when these bytes were not seen lately; valid for the kernels queued until some 60 other
 * arrays have been asked for. NULL: out of memory, which is remembered.
 */
const void *pac_gpu_indices(const void *host, size_t bytes);

/* Parts that open and close with the device. */
pac_err pac_gpu_copies_open(void);
void pac_gpu_copies_close(void);
void pac_gpu_scratch_close(void);
void pac_gpu_indices_close(void);
void pac_gpu_table_close(void);
pac_err pac_gpu_blas_open(void);
void pac_gpu_blas_close(void);

#ifdef __cplusplus
}
#endif
#endif
