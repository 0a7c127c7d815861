/*
 * A tensor is a typed view of memory that somebody else owns. Activations are plain float arrays ([N, D], rows contiguous);
 * this struct is for what carries a type: weights in a model file, cached rows, saved adapters.
 */
#ifndef PAC_TENSOR_H
#define PAC_TENSOR_H

#include "pac/err.h"

#include <stdint.h>

typedef enum pac_dtype { PAC_F32, PAC_BF16, PAC_F16, PAC_I8, PAC_I32, PAC_I64, PAC_U8, PAC_NDTYPES } pac_dtype;

enum { PAC_MAX_DIMS = 4 };

typedef struct pac_tensor {
    pac_dtype dtype;
    int ndim;
    int64_t shape[PAC_MAX_DIMS]; /* row-major */
    void *data;                  /* borrowed */
} pac_tensor;

/** "f32", "bf16", ... */
const char *pac_dtype_name(pac_dtype t);
/** Bytes of one element. */
size_t pac_dtype_size(pac_dtype t);
/** Product of the shape. */
int64_t pac_tensor_elements(const pac_tensor *t);

/** dst[0..n) as f32 from n elements of type f32, bf16 or f16 at src (any alignment). Errors: PAC_EINVAL for other types. */
pac_err pac_to_f32(float *dst, const void *src, pac_dtype type, int64_t n);
/** The inverse, rounding to nearest even. Errors: PAC_EINVAL for types other than f32, bf16, f16. */
pac_err pac_from_f32(void *dst, const float *src, pac_dtype type, int64_t n);

/** The largest magnitude of x[0..n), 0 for none; NaN if there is one, which counts as larger than infinity. */
float pac_max_abs(const float *x, int64_t n);

enum { PAC_I8_SCALE = 4 }; /* bytes in front of each row of i8 */
/**
 * Rows of 8 bits, symmetric: scale = max_d |x[n,d]| / 127, q[n,d] = x[n,d] / scale rounded to nearest even, so |x - scale q| is
 * at most half a scale. A row is its scale (f32) and D elements, at any alignment: PAC_I8_SCALE + D bytes. Rows with no
 * magnitude above 2^-100 have scale 0 and zeros. Errors: PAC_ENUMERIC (a value is not finite).
 */
pac_err pac_i8_from_f32(void *dst, const float *src, int64_t rows, int64_t D);
/** dst[n,d] = scale[n] q[n,d]. */
void pac_i8_to_f32(float *dst, const void *src, int64_t rows, int64_t D);

#endif
