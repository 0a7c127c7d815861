/* OpenBLAS facts; its products are called in cpu_linear.c. */
#include "pac/blas.h"

#include <cblas.h>
#include <stdio.h>

void pac_blas_version(char *buf, size_t bytes)
{
    snprintf(buf, bytes, "%s", openblas_get_config());
}

void pac_blas_use_one_thread(void)
{
    openblas_set_num_threads(1);
}
