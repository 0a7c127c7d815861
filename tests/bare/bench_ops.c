/* test_ops --bench where there is no OpenBLAS to be beside (cuda/build_bare.sh). */
#include "../ops/ops_fixture.h"

#include <stdio.h>

void bench_ops(const char *only)
{
    (void)only;
    fputs("test_ops: this build has no kernels of the processor to measure; those of the device: cuda_bench\n", stderr);
}
