/* The BLAS behind the cpu backend: what it is. */
#ifndef PAC_BLAS_H
#define PAC_BLAS_H

#include <stdbool.h>
#include <stddef.h>

/** Version, core type and options, e.g. "OpenBLAS 0.3.21 ... SkylakeX". */
void pac_blas_version(char *buf, size_t bytes);
/** Products run in the calling thread from now on; the pool's threads (pac/pool.h) call them, each for a part of its own. */
void pac_blas_use_one_thread(void);

/**
 * The core type whose kernels OpenBLAS had better use than those of `core`, on a processor that has AVX-512 or not; NULL: it is
 * right. OpenBLAS 0.3.21 does not know the newest processors and takes kernels of half the speed there.
 */
const char *pac_blas_better_core(const char *core, bool avx512);
/** The same of this process and processor. It is chosen by OPENBLAS_CORETYPE before OpenBLAS is loaded. */
const char *pac_blas_misled(void);

#endif
