/* OpenBLAS facts and threads; its products are called in cpu_linear.c. */
#include "pac/blas.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

void pac_blas_version(char *buf, size_t bytes)
{
    snprintf(buf, bytes, "%s", openblas_get_config());
}

int64_t pac_blas_set_threads(int64_t n)
{
    if (getenv("OPENBLAS_NUM_THREADS") == NULL)
        openblas_set_num_threads((int)n);
    return pac_blas_threads();
}

int64_t pac_blas_threads(void)
{
    return openblas_get_num_threads();
}
