/* Native bf16 products where oneDNN was not there to build with. */
#include "packed.h"

int64_t pac_native_tile(int64_t K, int64_t N)
{
    (void)K, (void)N;
    return 0;
}

bool pac_native_run(const native_product *c, int64_t rows)
{
    (void)c, (void)rows;
    return false;
}

bool pac_native_here(const char **why)
{
    *why = "no oneDNN in this build";
    return false;
}
