/*
 * Rows of 8-bit elements with a scale each, and the largest magnitude.
 *
 * Loops are free of branches and calls, so that compilers vectorise them for any processor. Magnitudes are compared as
 * integers, whose order is that of the floats, with NaN above infinity. Adding 1.5 * 2^23 rounds to nearest even and leaves the
 * integer in the low bits.
 */
#include "pac/tensor.h"

#include <string.h>

static const float smallest = 0x1p-100f; /* of a row; below it 127 / max would overflow */
enum { LEVELS = 127 };

static int32_t max_bits(const float *x, int64_t n)
{
    int32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

float pac_max_abs(const float *x, int64_t n)
{
    float f;
    int32_t bits = max_bits(x, n);
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void quantize(int8_t *restrict q, const float *restrict x, int64_t n, float per_step)
{
    for (int64_t i = 0; i < n; i++) {
        float shifted = x[i] * per_step + 0x1.8p23f;
        uint32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        q[i] = (int8_t)(bits & 0xff);
    }
}

pac_err pac_i8_from_f32(void *dst, const float *src, int64_t rows, int64_t D)
{
    char *to = dst;
    for (int64_t n = 0; n < rows; n++, to += PAC_I8_SCALE + D, src += D) {
        float max = pac_max_abs(src, D);
        PAC_CHECK(max <= 0x1.fffffep127f, PAC_ENUMERIC, "row %lld has a value that is not finite, which i8 cannot hold",
                  (long long)n);
        float scale = max > smallest ? max / LEVELS : 0;
        memcpy(to, &scale, sizeof scale);
        quantize((int8_t *)to + PAC_I8_SCALE, src, D, scale > 0 ? LEVELS / max : 0);
    }
    return PAC_OK;
}

static void scale_up(float *restrict x, const int8_t *restrict q, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)q[i] * scale;
}

void pac_i8_to_f32(float *dst, const void *src, int64_t rows, int64_t D)
{
    const char *from = src;
    for (int64_t n = 0; n < rows; n++, from += PAC_I8_SCALE + D, dst += D) {
        float scale;
        memcpy(&scale, from, sizeof scale);
        scale_up(dst, (const int8_t *)from + PAC_I8_SCALE, D, scale);
    }
}
