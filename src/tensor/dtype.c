/*
 * Element types: names, sizes, and conversion to and from f32.
 *
 * bf16 is the upper half of an f32, so it widens by a shift. f16 is converted by moving its bits into f32 position and
 * correcting the exponent with one multiplication, which also handles subnormal numbers. Sources may have any alignment (a
 * mapped model file), so elements move by memcpy, which compilers turn into plain loads.
 */
#include "pac/tensor.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[PAC_NDTYPES] = {
    [PAC_F32] = {"f32", 4}, [PAC_BF16] = {"bf16", 2}, [PAC_F16] = {"f16", 2}, [PAC_I8] = {"i8", 1},
    [PAC_I32] = {"i32", 4}, [PAC_I64] = {"i64", 8},   [PAC_U8] = {"u8", 1},
};

const char *pac_dtype_name(pac_dtype t)
{
    return (unsigned)t < PAC_NDTYPES ? dtypes[t].name : "?";
}

size_t pac_dtype_size(pac_dtype t)
{
    return (unsigned)t < PAC_NDTYPES ? dtypes[t].size : 0;
}

int64_t pac_tensor_elements(const pac_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

static inline float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

/* Adding 0x7fff plus the last kept bit rounds to nearest even; the carry may run into the exponent, up to infinity. */
static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u = bits_of(f);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    uint32_t nan = (u >> 16) | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

static inline float f16_to_f32(uint16_t h)
{
    const float rebias = 0x1p112f; /* 2^(127 - 15) */
    uint32_t magnitude = h & 0x7fffu;
    uint32_t bits = bits_of(float_of(magnitude << 13) * rebias);
    bits |= magnitude >= 0x7c00 ? 0x7f800000u : 0; /* infinity, NaN */
    return float_of(bits | (uint32_t)(h & 0x8000u) << 16);
}

static inline uint16_t f16_from_f32(float f)
{
    const uint32_t overflow = 0x47800000; /* 2^16 */
    const uint32_t smallest = 0x38800000; /* 2^-14, the smallest normal f16 */
    const uint32_t half = 0x3f000000;     /* 0.5: its unit in the last place is 2^-24, f16's smallest step */
    uint32_t sign = bits_of(f) & 0x80000000, u = bits_of(f) ^ sign;
    uint32_t normal = (u - 0x38000000 + 0xfff + ((u >> 13) & 1)) >> 13;
    uint32_t subnormal = bits_of(float_of(u) + float_of(half)) - half;
    uint32_t special = u > 0x7f800000 ? 0x7e00 : 0x7c00;
    uint32_t h = u >= overflow ? special : u < smallest ? subnormal : normal;
    return (uint16_t)(h | sign >> 16);
}

pac_err pac_to_f32(float *dst, const void *src, pac_dtype type, int64_t n)
{
    const char *from = src;
    uint16_t h;
    switch (type) {
    case PAC_F32:
        if (n > 0)
            memcpy(dst, src, (size_t)n * sizeof *dst);
        return PAC_OK;
    case PAC_BF16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, from + 2 * i, sizeof h);
            dst[i] = bf16_to_f32(h);
        }
        return PAC_OK;
    case PAC_F16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, from + 2 * i, sizeof h);
            dst[i] = f16_to_f32(h);
        }
        return PAC_OK;
    default:
        return pac_fail(PAC_EINVAL, "elements of type %s cannot be read as f32; use f32, bf16 or f16", pac_dtype_name(type));
    }
}

pac_err pac_from_f32(void *dst, const float *src, pac_dtype type, int64_t n)
{
    char *to = dst;
    uint16_t h;
    switch (type) {
    case PAC_F32:
        if (n > 0)
            memcpy(dst, src, (size_t)n * sizeof *src);
        return PAC_OK;
    case PAC_BF16:
        for (int64_t i = 0; i < n; i++) {
            h = bf16_from_f32(src[i]);
            memcpy(to + 2 * i, &h, sizeof h);
        }
        return PAC_OK;
    case PAC_F16:
        for (int64_t i = 0; i < n; i++) {
            h = f16_from_f32(src[i]);
            memcpy(to + 2 * i, &h, sizeof h);
        }
        return PAC_OK;
    default:
        return pac_fail(PAC_EINVAL, "f32 cannot be stored as %s; use f32, bf16 or f16", pac_dtype_name(type));
    }
}
