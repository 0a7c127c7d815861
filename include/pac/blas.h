/* The BLAS behind the cpu backend: what it is and how many threads it uses. */
#ifndef PAC_BLAS_H
#define PAC_BLAS_H

#include <stddef.h>
#include <stdint.h>

/** Version, core type and options, e.g. "OpenBLAS 0.3.21 ... SkylakeX". */
void pac_blas_version(char *buf, size_t bytes);
/** Use n >= 1 threads. OPENBLAS_NUM_THREADS, where the user set it, wins. Returns the number in use. Not thread-safe. */
int64_t pac_blas_set_threads(int64_t n);
/** Threads in use. */
int64_t pac_blas_threads(void);

#endif
