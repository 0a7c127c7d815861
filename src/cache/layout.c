/*
 * Sizes of what is stored, rows of each type, checksums.
 */
#include "internal.h"

#include <xxhash.h>

enum { MAX_WIDTH = 1 << 20 };

pac_err cache_check_layout(const pac_cache_layout *l)
{
    PAC_CHECK(l->parts > 0 && l->parts <= CACHE_MAX_PARTS, PAC_ESHAPE, "a cache of %lld parts (1 to %d)", (long long)l->parts,
              (int)CACHE_MAX_PARTS);
    PAC_CHECK(l->D > 0 && l->D <= MAX_WIDTH, PAC_ESHAPE, "a cache of rows of width %lld", (long long)l->D);
    PAC_CHECK(l->samples >= 0, PAC_ESHAPE, "a cache of %lld samples", (long long)l->samples);
    PAC_CHECK(l->dtype == PAC_F32 || l->dtype == PAC_BF16 || l->dtype == PAC_F16 || l->dtype == PAC_I8, PAC_ENOTBUILT,
              "a cache of type %s is not built; use f32, bf16, f16 or i8", pac_dtype_name(l->dtype));
    for (int64_t p = 0; p < l->parts; p++)
        PAC_CHECK(l->stack[p] <= 1, PAC_ESHAPE, "part %lld is of stack %d", (long long)p, (int)l->stack[p]);
    const int64_t most_rows = INT64_MAX / 8 / CACHE_MAX_PARTS / (pac_cache_row_bytes(l) + 8);
    int64_t rows = 0;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < l->samples; i++) {
            PAC_CHECK(l->len[s][i] >= 0 && l->len[s][i] <= most_rows - rows, PAC_ESHAPE, "sample %lld has %lld rows",
                      (long long)i, (long long)l->len[s][i]);
            rows += l->len[s][i];
        }
    return PAC_OK;
}

int64_t pac_cache_row_bytes(const pac_cache_layout *l)
{
    return l->D * (int64_t)pac_dtype_size(l->dtype) + (l->dtype == PAC_I8 ? PAC_I8_SCALE : 0);
}

int64_t cache_part_bytes(const pac_cache_layout *l, int64_t part, int64_t sample)
{
    return l->len[l->stack[part]][sample] * pac_cache_row_bytes(l);
}

int64_t pac_cache_bytes(const pac_cache_layout *l)
{
    int64_t parts[2] = {0}, bytes = 0;
    for (int64_t p = 0; p < l->parts; p++)
        parts[l->stack[p]]++;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < l->samples; i++)
            bytes += parts[s] * l->len[s][i] * pac_cache_row_bytes(l);
    return bytes;
}

/* f16 ends at 65504, which large T5 models exceed: better an error now than a loss that is not finite an epoch later. */
static pac_err pack_f16(const float *rows, int64_t n, void *out)
{
    float largest = pac_max_abs(rows, n);
    PAC_CHECK(largest <= 65504, PAC_ENUMERIC, "an activation of %g does not fit into f16; use cache.dtype: bf16",
              (double)largest);
    return pac_from_f32(out, rows, PAC_F16, n);
}

static pac_err pack_i8(const float *rows, int64_t n, int64_t D, void *out)
{
    PAC_CHECK(pac_i8_from_f32(out, rows, n, D) == PAC_OK, PAC_ENUMERIC,
              "an activation of %g cannot be stored in i8; use cache.dtype: bf16", (double)pac_max_abs(rows, n * D));
    return PAC_OK;
}

pac_err cache_pack_rows(const pac_cache_layout *l, const float *rows, int64_t n, void *out)
{
    switch (l->dtype) {
    case PAC_F16:
        return pack_f16(rows, n * l->D, out);
    case PAC_I8:
        return pack_i8(rows, n, l->D, out);
    default:
        return pac_from_f32(out, rows, l->dtype, n * l->D);
    }
}

pac_err cache_unpack_rows(const pac_cache_layout *l, const void *stored, int64_t n, float *out)
{
    if (l->dtype != PAC_I8)
        return pac_to_f32(out, stored, l->dtype, n * l->D);
    pac_i8_to_f32(out, stored, n, l->D);
    return PAC_OK;
}

uint64_t cache_checksum(const void *stored, int64_t bytes, int64_t sample, int64_t part)
{
    return XXH3_64bits_withSeed(stored, (size_t)bytes, (uint64_t)sample * CACHE_MAX_PARTS + (uint64_t)part);
}
