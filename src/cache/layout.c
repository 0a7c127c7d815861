/*
 * Sizes of what is stored, rows of each type, checksums.
 */
#include "internal.h"

#include <math.h>
#include <xxhash.h>

enum { MAX_WIDTH = 1 << 20 };

pac_err cache_check_layout(const pac_cache_layout *l)
{
    PAC_CHECK(l->parts > 0 && l->parts <= CACHE_MAX_PARTS, PAC_ESHAPE, "a cache of %lld parts (1 to %d)", (long long)l->parts,
              (int)CACHE_MAX_PARTS);
    PAC_CHECK(l->D > 0 && l->D <= MAX_WIDTH, PAC_ESHAPE, "a cache of rows of width %lld", (long long)l->D);
    PAC_CHECK(l->samples >= 0, PAC_ESHAPE, "a cache of %lld samples", (long long)l->samples);
    PAC_CHECK(l->dtype == PAC_F32 || l->dtype == PAC_BF16 || l->dtype == PAC_F16, PAC_ENOTBUILT,
              "cache.dtype: %s is not built yet; use f32, bf16 or f16", pac_dtype_name(l->dtype));
    for (int64_t p = 0; p < l->parts; p++)
        PAC_CHECK(l->stack[p] <= 1, PAC_ESHAPE, "part %lld is of stack %d", (long long)p, (int)l->stack[p]);
    const int64_t most_rows = INT64_MAX / 8 / CACHE_MAX_PARTS / (cache_row_bytes(l) + 8);
    int64_t rows = 0;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < l->samples; i++) {
            PAC_CHECK(l->len[s][i] >= 0 && l->len[s][i] <= most_rows - rows, PAC_ESHAPE, "sample %lld has %lld rows",
                      (long long)i, (long long)l->len[s][i]);
            rows += l->len[s][i];
        }
    return PAC_OK;
}

int64_t cache_row_bytes(const pac_cache_layout *l)
{
    return l->D * (int64_t)pac_dtype_size(l->dtype);
}

int64_t cache_part_bytes(const pac_cache_layout *l, int64_t part, int64_t sample)
{
    return l->len[l->stack[part]][sample] * cache_row_bytes(l);
}

int64_t pac_cache_bytes(const pac_cache_layout *l)
{
    int64_t parts[2] = {0}, bytes = 0;
    for (int64_t p = 0; p < l->parts; p++)
        parts[l->stack[p]]++;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < l->samples; i++)
            bytes += parts[s] * l->len[s][i] * cache_row_bytes(l);
    return bytes;
}

/* f16 ends at 65504, which large T5 models exceed: better an error now than a loss that is not finite an epoch later. */
static pac_err check_range(const float *rows, int64_t n)
{
    const float largest = 65504;
    for (int64_t i = 0; i < n; i++)
        PAC_CHECK(!(fabsf(rows[i]) > largest), PAC_ENUMERIC, "an activation of %g does not fit into f16; use cache.dtype: bf16",
                  (double)rows[i]);
    return PAC_OK;
}

pac_err cache_pack_rows(const pac_cache_layout *l, const float *rows, int64_t n, void *out)
{
    if (l->dtype == PAC_F16)
        PAC_TRY(check_range(rows, n * l->D));
    return pac_from_f32(out, rows, l->dtype, n * l->D);
}

pac_err cache_unpack_rows(const pac_cache_layout *l, const void *stored, int64_t n, float *out)
{
    return pac_to_f32(out, stored, l->dtype, n * l->D);
}

uint64_t cache_checksum(const void *stored, int64_t bytes, int64_t sample, int64_t part)
{
    return XXH3_64bits_withSeed(stored, (size_t)bytes, (uint64_t)sample * CACHE_MAX_PARTS + (uint64_t)part);
}
