/* Rounding f32 matrices to 16 bits for the products of the 16-bit modes, and scaling the result of an empty product. */
#include "kernel.cuh"

#include <cuda_fp16.h>

namespace
{

enum { CAST_THREADS = 256 };

/* To nearest, ties to even; a NaN stays one. */
struct ToBf16 {
    __device__ uint16_t operator()(float x) const
    {
        uint32_t u = __float_as_uint(x);
        if (x != x)
            return (uint16_t)(u >> 16 | 0x40);
        return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
};

/* What is larger than f16 holds becomes its largest; a NaN stays one. */
struct ToF16 {
    __device__ uint16_t operator()(float x) const
    {
        float held = x != x ? x : fminf(fmaxf(x, -65504.0f), 65504.0f);
        return __half_as_ushort(__float2half_rn(held));
    }
};

template <class F>
__global__ void cast_kernel(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns, F f)
{
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x)
        for (int64_t c = threadIdx.x; c < columns; c += CAST_THREADS)
            to[r * ldto + c] = f(from[r * ld + c]);
}

/* The same where a row is whole fours on aligned memory. */
template <class F>
__global__ void cast4_kernel(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns, F f)
{
    for (int64_t r = blockIdx.x; r < rows; r += gridDim.x)
        for (int64_t c = 4 * threadIdx.x; c < columns; c += 4 * CAST_THREADS) {
            float v[4];
            load4(v, from + r * ld + c);
            ushort4 w;
            w.x = f(v[0]), w.y = f(v[1]), w.z = f(v[2]), w.w = f(v[3]);
            *reinterpret_cast<ushort4 *>(to + r * ldto + c) = w;
        }
}

template <class F>
void cast(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns, const F &f)
{
    if (rows == 0 || columns == 0)
        return;
    bool fours = columns % 4 == 0 && ld % 4 == 0 && ldto % 4 == 0 && (uintptr_t)from % 16 == 0 && (uintptr_t)to % 8 == 0;
    auto kernel = fours ? cast4_kernel<F> : cast_kernel<F>;
    PAC_LAUNCH(kernel, blocks_for(rows, 1, 65535), CAST_THREADS, 0, pac_gpu.compute, to, ldto, from, ld, rows, columns, f);
}

__global__ void scale_matrix_kernel(float *c, int64_t ldc, int64_t m, int64_t n, float beta)
{
    for (int64_t i = blockIdx.x; i < m; i += gridDim.x)
        for (int64_t j = threadIdx.x; j < n; j += CAST_THREADS)
            c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

} // namespace

void pac_cuda_to_bf16(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns)
{
    cast(to, ldto, from, ld, rows, columns, ToBf16());
}

void pac_cuda_to_f16(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns)
{
    cast(to, ldto, from, ld, rows, columns, ToF16());
}

void pac_cuda_scale_matrix(float *c, int64_t ldc, int64_t m, int64_t n, float beta)
{
    if (m > 0 && n > 0)
        PAC_LAUNCH(scale_matrix_kernel, blocks_for(m, 1, 65535), CAST_THREADS, 0, pac_gpu.compute, c, ldc, m, n, beta);
}
