/* RMS and layer normalisation: a warp per row; gradients of the weights are sums over rows. */
#include "kernel.cuh"

namespace
{

enum { NORM_WARPS = 8 };

/* The row of this warp. Returns false beyond the last. */
static __device__ __forceinline__ bool my_row(int64_t *n, int64_t N)
{
    *n = (int64_t)blockIdx.x * NORM_WARPS + threadIdx.x / WARP;
    return *n < N;
}

__global__ void rmsnorm_fwd_kernel(Pointers<2, 2> p, int64_t N, int64_t D, float eps)
{
    int64_t n;
    if (!my_row(&n, N))
        return;
    const float *x = p.in[0] + n * D, *w = p.in[1];
    float *y = p.out[0] + n * D, squares = 0;
    const int lane = threadIdx.x % WARP;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        squares = fmaf(x[d], x[d], squares);
    const float r = 1.0f / sqrtf(warp_sum(squares) / (float)D + eps);
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        y[d] = x[d] * r * w[d];
    if (lane == 0 && p.out[1] != nullptr)
        p.out[1][n] = r;
}

/* y = x r w, dr/dx[e] = -r^3 x[e] / D, so dx[e] = r ((w dy)[e] - x[e] r^2/D sum_d (w dy x)[d]). */
__global__ void rmsnorm_bwd_kernel(Pointers<4, 1> p, int64_t N, int64_t D)
{
    int64_t n;
    if (!my_row(&n, N))
        return;
    const float *dy = p.in[0] + n * D, *x = p.in[1] + n * D, *w = p.in[2];
    const float r = p.in[3][n];
    float *dx = p.out[0] + n * D, dot = 0;
    const int lane = threadIdx.x % WARP;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        dot = fmaf(w[d] * dy[d], x[d], dot);
    const float c = warp_sum(dot) * r * r / (float)D;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        dx[d] = r * (w[d] * dy[d] - x[d] * c);
}

__global__ void layernorm_fwd_kernel(Pointers<3, 3> p, int64_t N, int64_t D, float eps)
{
    int64_t n;
    if (!my_row(&n, N))
        return;
    const float *x = p.in[0] + n * D, *w = p.in[1], *b = p.in[2];
    float *y = p.out[0] + n * D, sum = 0, squares = 0;
    const int lane = threadIdx.x % WARP;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        sum += x[d];
    const float m = warp_sum(sum) / (float)D;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        squares = fmaf(x[d] - m, x[d] - m, squares);
    const float r = 1.0f / sqrtf(warp_sum(squares) / (float)D + eps);
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        y[d] = fmaf((x[d] - m) * r, w[d], b[d]);
    if (lane == 0 && p.out[1] != nullptr) {
        p.out[1][n] = m;
        p.out[2][n] = r;
    }
}

/* With h = (x - mean) rstd: dx = rstd (w dy - avg(w dy) - h avg(w dy h)). */
__global__ void layernorm_bwd_kernel(Pointers<5, 1> p, int64_t N, int64_t D)
{
    int64_t n;
    if (!my_row(&n, N))
        return;
    const float *dy = p.in[0] + n * D, *x = p.in[1] + n * D, *w = p.in[2];
    const float m = p.in[3][n], r = p.in[4][n];
    float *dx = p.out[0] + n * D, sum = 0, sum_h = 0;
    const int lane = threadIdx.x % WARP;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP) {
        float g = w[d] * dy[d];
        sum += g;
        sum_h = fmaf(g, (x[d] - m) * r, sum_h);
    }
    const float avg = warp_sum(sum) / (float)D, avg_h = warp_sum(sum_h) / (float)D;
#pragma unroll 4
    for (int64_t d = lane; d < D; d += WARP)
        dx[d] = r * (w[d] * dy[d] - avg - (x[d] - m) * r * avg_h);
}

struct RmsWeight {
    const float *dy, *x, *rrms;
    int64_t D;
    __device__ void operator()(float *w, int64_t n, int64_t d) const
    {
        w[0] = dy[n * D + d] * x[n * D + d] * rrms[n];
    }
    __device__ float last(float sum, int64_t) const
    {
        return sum;
    }
};

struct LayerWeight {
    const float *dy, *x, *mean, *rstd;
    int64_t D;
    __device__ void operator()(float *w, int64_t n, int64_t d) const
    {
        w[0] = dy[n * D + d] * ((x[n * D + d] - mean[n]) * rstd[n]);
        w[1] = dy[n * D + d];
    }
    __device__ float last(float sum, int64_t) const
    {
        return sum;
    }
};

} // namespace

#define LAUNCH_ROWS(kernel, N, ...)                                                                                            \
    do {                                                                                                                       \
        if ((N) > 0)                                                                                                           \
            PAC_LAUNCH(kernel, (unsigned)ceil_div(N, NORM_WARPS), NORM_WARPS *WARP, 0, pac_gpu.compute, __VA_ARGS__);          \
    } while (0)

void pac_cuda_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    Pointers<2, 2> p = {{x, w}, {y, rrms}};
    LAUNCH_ROWS(rmsnorm_fwd_kernel, N, p, N, D, eps);
}

/* dw first: dx may be dy. */
void pac_cuda_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                          int64_t D)
{
    Pointers<4, 1> p = {{dy, x, w, rrms}, {dx}};
    if (dw != nullptr)
        sum_columns<1>({{nullptr}, {dw}}, N, D, RmsWeight{dy, x, rrms, D});
    LAUNCH_ROWS(rmsnorm_bwd_kernel, N, p, N, D);
}

void pac_cuda_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                            int64_t D, float eps)
{
    Pointers<3, 3> p = {{x, w, b}, {y, mean, rstd}};
    LAUNCH_ROWS(layernorm_fwd_kernel, N, p, N, D, eps);
}

void pac_cuda_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, const float *mean,
                            const float *rstd, int64_t N, int64_t D)
{
    Pointers<5, 1> p = {{dy, x, w, mean, rstd}, {dx}};
    if (dw != nullptr)
        sum_columns<2>({{nullptr}, {dw, db}}, N, D, LayerWeight{dy, x, mean, rstd, D});
    LAUNCH_ROWS(layernorm_bwd_kernel, N, p, N, D);
}
