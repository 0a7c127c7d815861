/* Ops that look rows up: embedding, dropout, mean of rows, features of a pair of sentences. */
#include "kernel.cuh"

namespace
{

enum { ROW_WARPS = 8, COLUMNS = 128 };

__global__ void embed_fwd_kernel(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    const int64_t n = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / WARP;
    if (n >= N)
        return;
    const float *from = table + ids[n] * D;
    float *to = y + n * D;
    for (int64_t d = threadIdx.x % WARP; d < D; d += WARP)
        to[d] = from[d];
}

/* One word, some columns: its rows are added in their order. */
__global__ void embed_bwd_kernel(float *dtable, const float *dy, const int32_t *word, const int32_t *from, const int32_t *row,
                                 int64_t D)
{
    const int64_t u = blockIdx.x, d = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;
    if (d >= D)
        return;
    float *to = dtable + word[u] * D + d;
    float sum = *to;
    for (int32_t i = from[u]; i < from[u + 1]; i++)
        sum += dy[row[i] * D + d];
    *to = sum;
}

/* As in src/tensor/drop.h: the mixer of a row, the hash of a column. */
static __device__ __forceinline__ uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static __device__ __forceinline__ uint32_t hash(uint32_t low, uint32_t high, uint32_t d)
{
    uint32_t x = d ^ low;
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x += high;
    x = (x ^ (x >> 15)) * 0xd35a2d97u;
    return x ^ (x >> 15);
}

__global__ void dropout_kernel(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t mixed_key,
                               uint32_t below, float scale)
{
    const int64_t n = (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / WARP;
    if (n >= N)
        return;
    const uint64_t bits = mix(mixed_key ^ row[n]);
    const uint32_t low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
    for (int64_t d = threadIdx.x % WARP; d < D; d += WARP)
        y[n * D + d] = hash(low, high, (uint32_t)d) < below ? 0 : x[n * D + d] * scale;
}

__global__ void mean_rows_fwd_kernel(float *y, const float *x, const int64_t *off, int64_t D)
{
    const int64_t a = blockIdx.x, d = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;
    if (d >= D)
        return;
    float sum = 0;
    for (int64_t n = off[a]; n < off[a + 1]; n++)
        sum += x[n * D + d];
    y[a * D + d] = off[a + 1] > off[a] ? sum / (float)(off[a + 1] - off[a]) : 0;
}

__global__ void mean_rows_bwd_kernel(float *dx, const float *dy, const int64_t *off, int64_t D)
{
    const int64_t a = blockIdx.x, d = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;
    if (d >= D)
        return;
    const float each = dy[a * D + d] / (float)(off[a + 1] - off[a]);
    for (int64_t n = off[a]; n < off[a + 1]; n++)
        dx[n * D + d] = each;
}

/* ---- pairs: a block each; lengths and products in double, they cancel ---- */

enum { PAIR_THREADS = 128 };

struct Lengths {
    double uv, uu, vv;
};

static __device__ Lengths lengths_of(const float *u, const float *v, int64_t D)
{
    Lengths l = {0, 0, 0};
    for (int64_t d = threadIdx.x; d < D; d += PAIR_THREADS) {
        l.uv += (double)u[d] * v[d];
        l.uu += (double)u[d] * u[d];
        l.vv += (double)v[d] * v[d];
    }
    l.uv = block_sum<PAIR_THREADS>(l.uv);
    l.uu = block_sum<PAIR_THREADS>(l.uu);
    l.vv = block_sum<PAIR_THREADS>(l.vv);
    return l;
}

static __device__ __forceinline__ double smallest()
{
    return 1e-8; /* what the product of two lengths is taken to be at least */
}

__global__ void pair_fwd_kernel(Pointers<1, 2> p, int64_t D)
{
    const int64_t b = blockIdx.x;
    const float *u = p.in[0] + 2 * b * D, *v = u + D;
    if (p.out[0] != nullptr) {
        float *y = p.out[0] + 4 * b * D;
        for (int64_t d = threadIdx.x; d < D; d += PAIR_THREADS) {
            y[d] = u[d];
            y[D + d] = v[d];
            y[2 * D + d] = fabsf(u[d] - v[d]);
            y[3 * D + d] = u[d] * v[d];
        }
    }
    if (p.out[1] != nullptr) {
        Lengths l = lengths_of(u, v, D);
        if (threadIdx.x == 0)
            p.out[1][b] = (float)(l.uv / fmax(sqrt(l.uu * l.vv), smallest()));
    }
}

/*
 * y = [u, v, |u-v|, u*v]: du = dy0 + sign(u-v) dy2 + v dy3, dv = dy1 - sign(u-v) dy2 + u dy3.
 * cosine = u.v / l, l = |u| |v|: du += dcosine (v / l - cosine u / |u|^2), without the second term where l is held at its
 * least.
 */
__global__ void pair_bwd_kernel(Pointers<3, 1> p, int64_t D)
{
    const int64_t b = blockIdx.x;
    const float *g = p.in[0] != nullptr ? p.in[0] + 4 * b * D : nullptr, *u = p.in[2] + 2 * b * D, *v = u + D;
    float *du = p.out[0] + 2 * b * D, *dv = du + D;
    const Lengths l = lengths_of(u, v, D);
    const double length = sqrt(l.uu * l.vv), dc = p.in[1] != nullptr ? (double)p.in[1][b] : 0;
    const bool held = length < smallest();
    const double across = dc / (held ? smallest() : length), along = held ? 0 : across * l.uv;
    const double along_u = held ? 0 : along / l.uu, along_v = held ? 0 : along / l.vv;
    for (int64_t d = threadIdx.x; d < D; d += PAIR_THREADS) {
        double gu = across * v[d] - along_u * u[d], gv = across * u[d] - along_v * v[d];
        if (g != nullptr) {
            const double sign = (u[d] > v[d]) - (u[d] < v[d]);
            gu += g[d] + sign * g[2 * D + d] + (double)v[d] * g[3 * D + d];
            gv += g[D + d] - sign * g[2 * D + d] + (double)u[d] * g[3 * D + d];
        }
        du[d] = (float)gu;
        dv[d] = (float)gv;
    }
}

} // namespace

static dim3 by_columns(int64_t rows, int64_t D)
{
    return dim3((unsigned)rows, (unsigned)ceil_div(D, COLUMNS));
}

void pac_cuda_embed_fwd_at(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    if (N > 0)
        PAC_LAUNCH(embed_fwd_kernel, (unsigned)ceil_div(N, ROW_WARPS), ROW_WARPS * WARP, 0, pac_gpu.compute, y, table, ids, N,
                   D);
}

void pac_cuda_embed_bwd_at(float *dtable, const float *dy, const int32_t *word, const int32_t *from, const int32_t *row,
                           int64_t U, int64_t D)
{
    if (U > 0 && D > 0)
        PAC_LAUNCH(embed_bwd_kernel, by_columns(U, D), COLUMNS, 0, pac_gpu.compute, dtable, dy, word, from, row, D);
}

void pac_cuda_dropout_at(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t mixed_key,
                         uint32_t below, float scale)
{
    if (N > 0)
        PAC_LAUNCH(dropout_kernel, (unsigned)ceil_div(N, ROW_WARPS), ROW_WARPS * WARP, 0, pac_gpu.compute, y, x, row, N, D,
                   mixed_key, below, scale);
}

void pac_cuda_mean_rows_fwd_at(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    if (A > 0 && D > 0)
        PAC_LAUNCH(mean_rows_fwd_kernel, by_columns(A, D), COLUMNS, 0, pac_gpu.compute, y, x, off, D);
}

void pac_cuda_mean_rows_bwd_at(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    if (A > 0 && D > 0)
        PAC_LAUNCH(mean_rows_bwd_kernel, by_columns(A, D), COLUMNS, 0, pac_gpu.compute, dx, dy, off, D);
}

void pac_cuda_pair_fwd(float *y, float *cosine, const float *uv, int64_t B, int64_t D)
{
    Pointers<1, 2> p = {{uv}, {y, cosine}};
    if (B > 0)
        PAC_LAUNCH(pair_fwd_kernel, (unsigned)B, PAIR_THREADS, 0, pac_gpu.compute, p, D);
}

void pac_cuda_pair_bwd(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D)
{
    Pointers<3, 1> p = {{dy, dcosine, uv}, {duv}};
    if (B > 0)
        PAC_LAUNCH(pair_bwd_kernel, (unsigned)B, PAIR_THREADS, 0, pac_gpu.compute, p, D);
}
