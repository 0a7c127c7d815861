/* Emulated half precision: the conversions that cuda/ uses, round to nearest even. */
#ifndef EMU_CUDA_FP16_H
#define EMU_CUDA_FP16_H

#include "cuda_runtime.h"

struct __half {
    unsigned short bits;
};

static inline __half __float2half_rn(float f)
{
    unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return {(unsigned short)(sign | 0x7e00)};
    if (a >= 0x477ff000) /* rounds beyond 65504 */
        return {(unsigned short)(sign | 0x7c00)};
    if (a < 0x38800000) { /* below 2^-14: a multiple of 2^-24 */
        float x;
        memcpy(&x, &a, sizeof x);
        return {(unsigned short)(sign | (unsigned)nearbyintf(x * 16777216.0f))};
    }
    unsigned odd = a >> 13 & 1;
    return {(unsigned short)(sign | ((a - 0x38000000 + 0xfff + odd) >> 13))};
}
static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}
#endif
