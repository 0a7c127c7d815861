/*
 * What kernels share: the launch, element-wise maps, sums over a warp, a block, the columns of a matrix. Sums have a fixed
 * order and use no atomics, so a repeated call gives the same bits. C++14, nothing of CUB or Thrust.
 */
#ifndef PAC_KERNEL_CUH
#define PAC_KERNEL_CUH

#include "launch.h"

/* The emulator of tests/cuda/emu brings its own three. */
#ifndef PAC_LAUNCH
#define PAC_LAUNCH(kernel, grid, block, shared, stream, ...)                                                                   \
    do {                                                                                                                       \
        (kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__);                                                        \
        pac_gpu_launched(#kernel);                                                                                             \
    } while (0)
#define PAC_SHARED(name)                    extern __shared__ __align__(16) float name[]
#define PAC_SHARED_ARRAY(type, name, sizes) __shared__ type name sizes
#endif

/* Device pointers of a kernel: outputs may be NULL. */
template <int I, int O> struct Pointers {
    const float *in[I];
    float *out[O];
};

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static __host__ __device__ __forceinline__ int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline unsigned blocks_for(int64_t n, int64_t per_block, int64_t most)
{
    int64_t blocks = ceil_div(n, per_block);
    return (unsigned)(blocks > most ? most : blocks);
}

/* ---- sums ---- */

enum { WARP = 32 };

template <class T> static __device__ __forceinline__ T warp_sum(T x)
{
    for (int bits = WARP / 2; bits > 0; bits /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, bits);
    return x;
}

/* The sum over all threads of a block of `THREADS`, in every thread. */
template <int THREADS, class T> static __device__ T block_sum(T x)
{
    PAC_SHARED_ARRAY(T, part, [THREADS / WARP]);
    x = warp_sum(x);
    __syncthreads(); /* the last call's readers are done */
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = x;
    __syncthreads();
    T sum = part[0];
    for (int i = 1; i < THREADS / WARP; i++)
        sum += part[i];
    return sum;
}

/* ---- maps: out[o][i] = f(in[0][i], in[1][i], ...), four elements at a time where all pointers are aligned ---- */

enum { MAP_THREADS = 256 };

static __device__ __forceinline__ void store4(float *p, const float *x)
{
    *reinterpret_cast<float4 *>(p) = make_float4(x[0], x[1], x[2], x[3]);
}

static __device__ __forceinline__ void load4(float *x, const float *p)
{
    float4 v = *reinterpret_cast<const float4 *>(p);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

/* f(v, w, i): from the inputs v[I] of element i to its outputs w[O]. The first 4 * quads elements go by fours. */
template <int I, int O, class F> __global__ void map_kernel(Pointers<I, O> p, int64_t n, int64_t quads, F f)
{
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first; i < quads; i += stride) {
        float in[I][4], out[O][4], v[I], w[O];
        for (int a = 0; a < I; a++)
            load4(in[a], p.in[a] + 4 * i);
        for (int e = 0; e < 4; e++) {
            for (int a = 0; a < I; a++)
                v[a] = in[a][e];
            f(v, w, 4 * i + e);
            for (int o = 0; o < O; o++)
                out[o][e] = w[o];
        }
        for (int o = 0; o < O; o++)
            if (p.out[o] != nullptr)
                store4(p.out[o] + 4 * i, out[o]);
    }
    for (int64_t i = 4 * quads + first; i < n; i += stride) {
        float v[I], w[O];
        for (int a = 0; a < I; a++)
            v[a] = p.in[a][i];
        f(v, w, i);
        for (int o = 0; o < O; o++)
            if (p.out[o] != nullptr)
                p.out[o][i] = w[o];
    }
}

template <int I, int O, class F> static void map(const Pointers<I, O> &p, int64_t n, const F &f)
{
    if (n == 0)
        return;
    uintptr_t bits = 0;
    for (int a = 0; a < I; a++)
        bits |= (uintptr_t)p.in[a];
    for (int o = 0; o < O; o++)
        bits |= (uintptr_t)p.out[o];
    int64_t quads = bits % 16 == 0 ? n / 4 : 0;
    auto kernel = map_kernel<I, O, F>;
    PAC_LAUNCH(kernel, blocks_for(quads > 0 ? quads : n, MAP_THREADS, 32 * (int64_t)pac_gpu.processors), MAP_THREADS, 0,
               pac_gpu.compute, p, n, quads, f);
}

/* The column of element i of a matrix D wide. */
struct Column {
    int64_t D;
    int narrow; /* 32-bit division does */
    static Column of(int64_t n, int64_t D)
    {
        Column c = {D, n <= INT32_MAX};
        return c;
    }
    __device__ __forceinline__ int64_t at(int64_t i) const
    {
        return narrow ? (int64_t)((uint32_t)i % (uint32_t)D) : i % D;
    }
};

/* ---- sums over rows: out[o][d] += sum_n f(n, d)[o], in two passes where there are many rows ---- */

enum { COLUMN_ROWS = 8, COLUMN_CHUNK = 64, COLUMN_MOST = 128 };

template <int O, class F>
__global__ void columns_kernel(Pointers<1, O> p, float *partial, int64_t N, int64_t D, int64_t chunk, F f)
{
    PAC_SHARED_ARRAY(float, part, [O][COLUMN_ROWS][WARP]);
    const int64_t d = (int64_t)blockIdx.x * WARP + threadIdx.x, first = blockIdx.y * chunk;
    const int64_t end = least(first + chunk, N);
    float sum[O] = {};
    for (int64_t n = first + threadIdx.y; n < end && d < D; n += COLUMN_ROWS) {
        float w[O];
        f(w, n, d);
        for (int o = 0; o < O; o++)
            sum[o] += w[o];
    }
    for (int o = 0; o < O; o++)
        part[o][threadIdx.y][threadIdx.x] = sum[o];
    __syncthreads();
    if (threadIdx.y > 0 || d >= D)
        return;
    for (int o = 0; o < O; o++) {
        float total = 0;
        for (int y = 0; y < COLUMN_ROWS; y++)
            total += part[o][y][threadIdx.x];
        if (partial != nullptr)
            partial[((int64_t)o * gridDim.y + blockIdx.y) * D + d] = total;
        else if (p.out[o] != nullptr)
            p.out[o][d] += f.last(total, d);
    }
}

template <int O, class F>
__global__ void columns_last_kernel(Pointers<1, O> p, const float *partial, int64_t chunks, int64_t D, F f)
{
    const int64_t d = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int o = (int)blockIdx.y;
    if (d >= D || p.out[o] == nullptr)
        return;
    float total = 0;
    for (int64_t c = 0; c < chunks; c++)
        total += partial[(o * chunks + c) * D + d];
    p.out[o][d] += f.last(total, d);
}

/* f(w, n, d) gives the O summands of row n; f.last(sum, d) what is added to out[o][d]. */
template <int O, class F> static void sum_columns(const Pointers<1, O> &p, int64_t N, int64_t D, const F &f)
{
    if (N == 0 || D == 0)
        return;
    int64_t chunk = COLUMN_CHUNK;
    if (ceil_div(N, chunk) > COLUMN_MOST)
        chunk = ceil_div(N, COLUMN_MOST);
    int64_t chunks = ceil_div(N, chunk);
    float *partial = nullptr;
    if (chunks > 1) {
        partial = (float *)pac_gpu_scratch(PAC_SCRATCH_SUMS, (size_t)(O * chunks * D) * sizeof(float));
        if (partial == nullptr)
            return;
    }
    auto kernel = columns_kernel<O, F>;
    PAC_LAUNCH(kernel, dim3((unsigned)ceil_div(D, WARP), (unsigned)chunks), dim3(WARP, COLUMN_ROWS), 0, pac_gpu.compute, p,
               partial, N, D, chunk, f);
    if (chunks == 1)
        return;
    auto last = columns_last_kernel<O, F>;
    PAC_LAUNCH(last, dim3((unsigned)ceil_div(D, 128), O), 128, 0, pac_gpu.compute, p, partial, chunks, D, f);
}

#endif
