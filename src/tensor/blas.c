/* OpenBLAS facts; its products are called in cpu_linear.c. */
#include "pac/blas.h"

#include <cblas.h>
#include <stdio.h>
#include <strings.h>

void pac_blas_version(char *buf, size_t bytes)
{
    snprintf(buf, bytes, "%s", openblas_get_config());
}

void pac_blas_use_one_thread(void)
{
    openblas_set_num_threads(1);
}

const char *pac_blas_better_core(const char *core, bool avx512)
{
    static const char *const without_avx512[] = {"Haswell", "Zen", "Excavator", "Steamroller", "Piledriver", "Sandybridge"};
    for (size_t i = 0; avx512 && i < sizeof without_avx512 / sizeof *without_avx512; i++)
        if (strcasecmp(core, without_avx512[i]) == 0)
            return "SkylakeX";
    return NULL;
}

const char *pac_blas_misled(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return pac_blas_better_core(openblas_get_corename(), avx512);
#else
    return NULL;
#endif
}
