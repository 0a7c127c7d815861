/* The BLAS behind the cpu backend: what it is. */
#ifndef PAC_BLAS_H
#define PAC_BLAS_H

#include <stddef.h>

/** Version, core type and options, e.g. "OpenBLAS 0.3.21 ... SkylakeX". */
void pac_blas_version(char *buf, size_t bytes);
/** Products run in the calling thread from now on; the pool's threads (pac/pool.h) call them, each for a part of its own. */
void pac_blas_use_one_thread(void);

#endif
