/* Losses and the largest of a row: a block per row; squared error is a map. */
#include "kernel.cuh"

namespace
{

enum { ROW_THREADS = 512 };

/* The maximum of a row and sum exp(x - maximum), as one value that two parts of a row join to. */
struct Soft {
    float max, sum;
};

static __device__ __forceinline__ Soft join(Soft a, Soft b)
{
    if (b.sum == 0)
        return a;
    if (a.sum == 0)
        return b;
    const float max = fmaxf(a.max, b.max);
    Soft c = {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
    return c;
}

static __device__ Soft block_soft(Soft mine)
{
    PAC_SHARED_ARRAY(Soft, part, [ROW_THREADS / WARP]);
    for (int by = WARP / 2; by > 0; by /= 2) {
        Soft other = {__shfl_xor_sync(0xffffffffu, mine.max, by), __shfl_xor_sync(0xffffffffu, mine.sum, by)};
        /* the lower lane first, so that both lanes get the same bits */
        mine = threadIdx.x & by ? join(other, mine) : join(mine, other);
    }
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = mine;
    __syncthreads();
    Soft all = part[0];
    for (int i = 1; i < ROW_THREADS / WARP; i++)
        all = join(all, part[i]);
    return all;
}

__global__ void xent_kernel(float *loss, float *logits, const int32_t *labels, int64_t V, float scale, int grad)
{
    const int64_t n = blockIdx.x;
    float *x = logits + n * V;
    const int64_t label = labels[n];
    if (label < 0) { /* the whole block */
        for (int64_t v = threadIdx.x; v < V && grad; v += ROW_THREADS)
            x[v] = 0;
        if (threadIdx.x == 0)
            loss[n] = 0;
        return;
    }
    Soft mine = {-INFINITY, 0};
    for (int64_t v = threadIdx.x; v < V; v += ROW_THREADS) {
        const float at = x[v];
        if (at <= mine.max) {
            mine.sum += at > -INFINITY ? expf(at - mine.max) : 0;
        } else { /* larger, or a NaN that must stay */
            mine.sum = mine.sum * expf(mine.max - at) + 1;
            mine.max = at;
        }
    }
    const Soft all = block_soft(mine);
    if (threadIdx.x == 0)
        loss[n] = logf(all.sum) + (all.max - x[label]);
    __syncthreads(); /* x[label] has been read */
    for (int64_t v = threadIdx.x; v < V && grad; v += ROW_THREADS)
        x[v] = scale * (expf(x[v] - all.max) / all.sum - (v == label ? 1.0f : 0.0f));
}

/* The larger of two, of equals the one that comes first. */
struct Best {
    float x;
    int32_t at;
};

static __device__ __forceinline__ Best better(Best a, Best b)
{
    return b.x > a.x || (b.x == a.x && b.at < a.at) ? b : a;
}

__global__ void argmax_kernel(int32_t *best, const float *logits, int64_t V)
{
    PAC_SHARED_ARRAY(Best, part, [ROW_THREADS / WARP]);
    const float *x = logits + blockIdx.x * V;
    Best mine = {-INFINITY, INT32_MAX};
    for (int64_t v = threadIdx.x; v < V; v += ROW_THREADS) {
        Best one = {x[v], (int32_t)v};
        mine = better(mine, one);
    }
    for (int by = WARP / 2; by > 0; by /= 2) {
        Best other = {__shfl_xor_sync(0xffffffffu, mine.x, by), __shfl_xor_sync(0xffffffffu, mine.at, by)};
        mine = better(mine, other);
    }
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = mine;
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    for (int i = 1; i < ROW_THREADS / WARP; i++)
        mine = better(mine, part[i]);
    /* as the reference: nothing is larger than a NaN in front */
    best[blockIdx.x] = x[0] == x[0] && mine.at < V ? mine.at : 0;
}

/* v: y, value; loss = (y - v)^2, its derivative scaled */
struct Mse {
    float scale;
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        float error = v[0] - v[1];
        w[0] = error * error;
        w[1] = 2.0f * scale * error;
    }
};

} // namespace

void pac_cuda_xent_at(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    if (N > 0)
        PAC_LAUNCH(xent_kernel, (unsigned)N, ROW_THREADS, 0, pac_gpu.compute, loss, logits, labels, V, scale, (int)grad);
}

void pac_cuda_argmax(int32_t *best, const float *x, int64_t N, int64_t V)
{
    if (N > 0)
        PAC_LAUNCH(argmax_kernel, (unsigned)N, ROW_THREADS, 0, pac_gpu.compute, best, x, V);
}

void pac_cuda_mse(float *loss, float *y, const float *value, int64_t n, float scale, bool grad)
{
    map<2, 2>({{y, value}, {loss, grad ? y : nullptr}}, n, Mse{scale});
}
