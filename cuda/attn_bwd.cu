/*
 * Attention, backward, in three kernels: by queries (delta = sum_s p dp, then dq and what each block adds to the bias table),
 * by keys (dk, dv), and the sum of the bias parts in a fixed order. Probabilities are made again from lse, in each kernel.
 *
 *   p = exp(score - lse) / sum_s exp(score - lse), dp[t,s] = <do[t], v[s]>, ds = p (dp - delta);
 *   dq = scale ds k, dk = scale ds^T q, dv = p^T do, dbias = ds
 *
 * The sum is 1 but for the rounding of lse, which T5's unscaled scores make large enough to matter in dp - delta where one key
 * takes almost all. A query that sees a single key has ds = 0 exactly, as ops.h wants; it is set, not computed.
 */
#include "attn.cuh"

namespace
{

static __device__ __forceinline__ bool sees(const AttnShape &a, int64_t t, int64_t s)
{
    return !a.causal || s <= a.qpos + t;
}

static __device__ __forceinline__ bool sees_one(const AttnShape &a, int64_t t, int64_t S)
{
    return S == 1 || (a.causal && a.qpos + t == 0);
}

/* ---- a tile of both: rows of one side (queries, or keys) against columns of the other ---- */

/* Rows of two matrices (q and do, or k and v), from their first row and this head's first column on. */
struct Side {
    const float *x, *y;
    int64_t ldx, ldy;
};

template <class L> struct Tiles {
    float *x, *y, *other_x, *other_y, *score, *bias, *rest;
    __device__ explicit Tiles(float *shared)
    {
        x = shared;
        y = x + L::BM * L::LD;
        other_x = y + L::BM * L::LD;
        other_y = other_x + L::BN * L::LD;
        score = other_y + L::BN * L::LD;
        bias = score + L::BM * L::LP;
        rest = bias + L::DIAGONALS;
    }
    enum { FLOATS = (2 * L::BM + 2 * L::BN) * L::LD + L::BM * L::LP + L::DIAGONALS };
};

static __device__ __forceinline__ Side queries_from(const Pointers<8, 4> &p, const AttnShape &a, int64_t row, int64_t h)
{
    return {p.in[0] + row * a.ldq + h * a.K, p.in[4] + row * a.ldo + h * a.K, a.ldq, a.ldo};
}

static __device__ __forceinline__ Side keys_from(const Pointers<8, 4> &p, const AttnShape &a, int64_t row, int64_t h)
{
    return {p.in[1] + row * a.ldk + h * a.K, p.in[2] + row * a.ldv + h * a.K, a.ldk, a.ldv};
}

template <class L, int ROWS>
static __device__ void load_side(float *x, float *y, const Side &from, int64_t rows, int64_t K, int64_t column)
{
    load_tile<L, ROWS>(x, from.x + column, from.ldx, rows, K - column);
    load_tile<L, ROWS>(y, from.y + column, from.ldy, rows, K - column);
}

/*
 * dot = <own x, other x>, dp = <own y, other y>: q k and do v, or k q and v do. The other side's rows and the bias of the tile
 * with keys from s0 and queries from t0 (QUERIES of them) are in shared memory then; the own side's were, or its columns come
 * in turn.
 */
template <class L, int QUERIES>
static __device__ void tile_products(float (&dot)[L::RM][L::RN], float (&dp)[L::RM][L::RN], const Tiles<L> &t,
                                     const AttnShape &a, const Side &own, int64_t rows, const Side &other, int64_t others,
                                     const float *table, int64_t s0, int64_t t0, int64_t h)
{
    clear(dot);
    clear(dp);
    for (int64_t c = 0; c < a.K; c += L::KP) {
        __syncthreads(); /* the last tile has been used */
        if (a.K > L::KP)
            load_side<L, L::BM>(t.x, t.y, own, rows, a.K, c);
        load_side<L, L::BN>(t.other_x, t.other_y, other, others, a.K, c);
        if (c == 0)
            load_bias<L>(t.bias, a, table, s0, t0, QUERIES, h);
        __syncthreads();
        tile_dot<L>(dot, t.x, t.other_x);
        tile_dot<L>(dp, t.y, t.other_y);
    }
}

/* ---- by queries ---- */

/* p and dp of this thread's scores of the tile of keys from s0; p = 0 where the mask hides. */
template <class L>
static __device__ void query_tile(float (&prob)[L::RM][L::RN], float (&dp)[L::RM][L::RN], const Tiles<L> &x,
                                  const Pointers<8, 4> &p, const AttnShape &a, const float (&lse)[L::RM], const Side &own,
                                  int64_t b, int64_t h, int64_t t0, int64_t rows, int64_t s0, int64_t S)
{
    const int tx = threadIdx.x % TX, ty = threadIdx.x / TX;
    tile_products<L, L::BM>(prob, dp, x, a, own, rows, keys_from(p, a, a.soff[b] + s0, h), S - s0, p.in[3], s0, t0, h);
#pragma unroll
    for (int i = 0; i < L::RM; i++)
#pragma unroll
        for (int j = 0; j < L::RN; j++) {
            const int t = ty * L::RM + i, s = tx + TX * j;
            const bool there = t < rows && s0 + s < S && sees(a, t0 + t, s0 + s);
            prob[i][j] = there ? expf(fmaf(a.scale, prob[i][j], x.bias[s - t + L::BM - 1]) - lse[i]) : 0.0f;
        }
}

/*
 * Shared memory of the bias table's gradient: the sums along a tile's diagonals, which share a relative position, by SPLIT
 * parts of its rows; the bucket of each; and the sums of the buckets, by as many parts of the diagonals as there are threads
 * for.
 */
template <class L> struct BiasSums {
    enum { SPLIT = L::THREADS / L::DIAGONALS, ROWS = (L::BM + SPLIT - 1) / SPLIT };
    static_assert(SPLIT >= 1, "a thread for each diagonal");
    float *diagonal, *sum;
    int *bucket;
    int parts, buckets;
    __device__ BiasSums(float *shared, int64_t n)
    {
        diagonal = shared;
        bucket = reinterpret_cast<int *>(diagonal + SPLIT * L::DIAGONALS);
        sum = diagonal + (SPLIT + 1) * L::DIAGONALS;
        buckets = (int)n;
        parts = parts_of(n);
    }
    static __host__ __device__ int parts_of(int64_t buckets)
    {
        return buckets > 0 && buckets < L::THREADS ? (int)(L::THREADS / buckets) : 1;
    }
    static size_t floats(int64_t buckets)
    {
        return (size_t)((SPLIT + 1) * L::DIAGONALS + parts_of(buckets) * buckets);
    }
    __device__ void clear()
    {
        for (int i = (int)threadIdx.x; i < parts * buckets; i += L::THREADS)
            sum[i] = 0;
    }
    /* What the tile's ds add. */
    __device__ void add(const float *score, const AttnShape &a, int64_t t0, int64_t s0)
    {
        __syncthreads(); /* ds is complete, and the last tile's sums have been read */
        const int part = (int)threadIdx.x / L::DIAGONALS, j = (int)threadIdx.x % L::DIAGONALS;
        if (part < SPLIT) {
            float x = 0;
            for (int t = part * ROWS; t < (part + 1) * ROWS && t < L::BM; t++) {
                const int s = j - (L::BM - 1) + t;
                if (s >= 0 && s < L::BN)
                    x += score[t * L::LP + s];
            }
            diagonal[part * L::DIAGONALS + j] = x;
        }
        if (part == 0)
            bucket[j] = a.bucket[relative_at(a, s0, t0, L::BM, j) + a.last];
        __syncthreads();
        for (int i = (int)threadIdx.x; i < parts * buckets; i += L::THREADS) {
            const int of = i / buckets, u = i % buckets;
            float x = 0;
            for (int d = of; d < L::DIAGONALS; d += parts)
                for (int k = 0; k < SPLIT; k++)
                    x += bucket[d] == u ? diagonal[k * L::DIAGONALS + d] : 0.0f;
            sum[i] += x;
        }
    }
    __device__ void store(float *to) const
    {
        for (int u = (int)threadIdx.x; u < buckets; u += L::THREADS) {
            float x = 0;
            for (int k = 0; k < parts; k++)
                x += sum[k * buckets + u];
            to[u] = x;
        }
    }
};

/* in: q, k, v, bias table, do, lse; out: dq, delta, norm = 1 / sum, bias parts [block][bucket] (NULL: not wanted) */
template <class L> __global__ void __launch_bounds__(L::THREADS) by_queries_kernel(Pointers<8, 4> p, AttnShape a)
{
    PAC_SHARED(shared);
    const Tiles<L> x(shared);
    BiasSums<L> sums(x.rest, a.buckets);
    const int64_t b = blockIdx.x / a.tiles, h = blockIdx.y, t0 = blockIdx.x % a.tiles * L::BM;
    const int64_t T = a.toff[b + 1] - a.toff[b], S = a.soff[b + 1] - a.soff[b];
    const int64_t rows = t0 < T ? least(T - t0, L::BM) : 0, first = a.toff[b] + t0;
    const int64_t seen = rows == 0 ? 0 : a.causal ? least(a.qpos + t0 + rows, S) : S;
    const int tx = threadIdx.x % TX, ty = threadIdx.x / TX;
    const int64_t own = own_column<L>();
    const bool dbias = p.out[3] != nullptr && own == 0;
    float acc[L::RM][L::CK], prob[L::RM][L::RN], dp[L::RM][L::RN], lse[L::RM];
    float delta[L::RM], norm[L::RM], factor[L::RM];
    clear(acc);
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
        const int t = ty * L::RM + i;
        lse[i] = t < rows ? p.in[5][(first + t) * a.H + h] : 0.0f;
        delta[i] = norm[i] = 0;
        factor[i] = a.scale;
    }
    if (dbias)
        sums.clear();
    const Side mine = queries_from(p, a, first, h);
    load_side<L, L::BM>(x.x, x.y, mine, rows, a.K, 0);
    for (int64_t s0 = 0; s0 < seen; s0 += L::BN) {
        query_tile<L>(prob, dp, x, p, a, lse, mine, b, h, t0, rows, s0, S);
#pragma unroll
        for (int i = 0; i < L::RM; i++)
#pragma unroll
            for (int j = 0; j < L::RN; j++) {
                delta[i] = fmaf(prob[i][j], dp[i][j], delta[i]);
                norm[i] += prob[i][j];
            }
    }
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
        const int t = ty * L::RM + i;
        norm[i] = row_sum(norm[i]);
        norm[i] = norm[i] > 0 ? 1.0f / norm[i] : 0.0f;
        delta[i] = row_sum(delta[i]) * norm[i];
        if (own == 0 && tx == 0 && t < rows) {
            p.out[1][(first + t) * a.H + h] = delta[i];
            p.out[2][(first + t) * a.H + h] = norm[i];
        }
    }
    for (int64_t s0 = 0; s0 < seen; s0 += L::BN) {
        query_tile<L>(prob, dp, x, p, a, lse, mine, b, h, t0, rows, s0, S);
#pragma unroll
        for (int i = 0; i < L::RM; i++) {
            const int t = ty * L::RM + i;
            const bool one = sees_one(a, t0 + t, S);
#pragma unroll
            for (int j = 0; j < L::RN; j++)
                x.score[t * L::LP + tx + TX * j] = one ? 0.0f : prob[i][j] * norm[i] * (dp[i][j] - delta[i]);
        }
        if (a.K > L::KP) {
            __syncthreads();
            load_tile<L, L::BN>(x.other_x, keys_from(p, a, a.soff[b] + s0, h).x + own, a.ldk, S - s0, a.K - own);
            __syncthreads();
        }
        __syncwarp();
        tile_apply<L>(acc, x.score, x.other_x);
        if (dbias)
            sums.add(x.score, a, t0, s0);
    }
    store_rows<L>(p.out[0] + first * a.ldq + h * a.K + own, a.ldq, rows, a.K - own, acc, factor);
    __syncthreads();
    if (dbias)
        sums.store(p.out[3] + ((int64_t)blockIdx.x * a.H + h) * a.buckets);
}

/* ---- by keys: rows of a tile are keys, columns queries ---- */

/* in: as above, delta, norm; out: dk, dv */
template <class L> __global__ void __launch_bounds__(L::THREADS) by_keys_kernel(Pointers<8, 4> p, AttnShape a)
{
    PAC_SHARED(shared);
    const Tiles<L> x(shared);
    float *lse = x.rest, *delta = lse + L::BN, *norm = delta + L::BN; /* of the tile's queries */
    const int64_t b = blockIdx.x / a.tiles, h = blockIdx.y, s0 = blockIdx.x % a.tiles * L::BM;
    const int64_t T = a.toff[b + 1] - a.toff[b], S = a.soff[b + 1] - a.soff[b];
    if (s0 >= S)
        return;
    const int tx = threadIdx.x % TX, ty = threadIdx.x / TX;
    const int64_t rows = least(S - s0, L::BM), first = a.soff[b] + s0;
    const int64_t hidden = a.causal && s0 > a.qpos ? s0 - a.qpos : 0; /* queries before this one see none of the keys */
    float dk[L::RM][L::CK], dv[L::RM][L::CK], scale[L::RM], one[L::RM];
    const int64_t own = own_column<L>();
    clear(dk);
    clear(dv);
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
        scale[i] = a.scale;
        one[i] = 1.0f;
    }
    const Side mine = keys_from(p, a, first, h);
    load_side<L, L::BM>(x.x, x.y, mine, rows, a.K, 0);
    for (int64_t t0 = hidden / L::BN * L::BN; t0 < T; t0 += L::BN) {
        const int64_t query = a.toff[b] + t0, queries = least(T - t0, L::BN);
        float prob[L::RM][L::RN], ds[L::RM][L::RN];
        const Side theirs = queries_from(p, a, query, h);
        tile_products<L, L::BN>(prob, ds, x, a, mine, rows, theirs, queries, p.in[3], s0, t0, h);
        for (int t = (int)threadIdx.x; t < L::BN; t += L::THREADS) {
            lse[t] = t < queries ? p.in[5][(query + t) * a.H + h] : 0.0f;
            delta[t] = t < queries ? p.in[6][(query + t) * a.H + h] : 0.0f;
            norm[t] = t < queries ? p.in[7][(query + t) * a.H + h] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < L::RM; i++)
#pragma unroll
            for (int j = 0; j < L::RN; j++) {
                const int s = ty * L::RM + i, t = tx + TX * j;
                const bool there = s < rows && t < queries && sees(a, t0 + t, s0 + s);
                const float e = expf(fmaf(a.scale, prob[i][j], x.bias[s - t + L::BN - 1]) - lse[t]);
                prob[i][j] = there ? e * norm[t] : 0.0f;
                ds[i][j] = sees_one(a, t0 + t, S) ? 0.0f : prob[i][j] * (ds[i][j] - delta[t]);
                x.score[s * L::LP + t] = prob[i][j];
            }
        if (a.K > L::KP) {
            __syncthreads();
            load_side<L, L::BN>(x.other_x, x.other_y, theirs, queries, a.K, own);
            __syncthreads();
        }
        __syncwarp();
        tile_apply<L>(dv, x.score, x.other_y);
        __syncwarp(); /* prob has been read */
#pragma unroll
        for (int i = 0; i < L::RM; i++)
#pragma unroll
            for (int j = 0; j < L::RN; j++)
                x.score[(ty * L::RM + i) * L::LP + tx + TX * j] = ds[i][j];
        __syncwarp();
        tile_apply<L>(dk, x.score, x.other_x);
    }
    store_rows<L>(p.out[0] + first * a.ldk + h * a.K + own, a.ldk, rows, a.K - own, dk, scale);
    store_rows<L>(p.out[1] + first * a.ldv + h * a.K + own, a.ldv, rows, a.K - own, dv, one);
}

/* ---- the sum of the parts [block][head, bucket], n numbers each ---- */

enum { CHUNK = 32, SUM_THREADS = 128 };

/* Of CHUNK blocks, which becomes the first one's part. */
__global__ void sum_chunk_kernel(float *parts, int64_t blocks, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * (int64_t)CHUNK;
    if (i >= n)
        return;
    float sum = 0;
    for (int64_t b = first; b < least(first + CHUNK, blocks); b++)
        sum += parts[b * n + i];
    parts[first * n + i] = sum;
}

/* dbias [buckets, H] += the sum of every step-th block's part */
__global__ void sum_bias_kernel(float *dbias, const float *parts, int64_t blocks, int64_t step, int64_t H, int64_t buckets)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, n = H * buckets;
    if (i >= n)
        return;
    float sum = 0;
    for (int64_t b = 0; b < blocks; b += step)
        sum += parts[b * n + i];
    dbias[i % buckets * H + i / buckets] += sum;
}

void sum_bias(float *dbias, float *parts, int64_t blocks, int64_t H, int64_t buckets)
{
    const unsigned columns = (unsigned)ceil_div(H * buckets, SUM_THREADS);
    const int64_t chunks = ceil_div(blocks, CHUNK), step = chunks > 1 && chunks <= 65535 ? CHUNK : 1;
    if (step > 1)
        PAC_LAUNCH(sum_chunk_kernel, dim3(columns, (unsigned)chunks), SUM_THREADS, 0, pac_gpu.compute, parts, blocks,
                   H * buckets);
    PAC_LAUNCH(sum_bias_kernel, columns, SUM_THREADS, 0, pac_gpu.compute, dbias, parts, blocks, step, H, buckets);
}

/* ---- launching ---- */

enum { MOST_BUCKETS = 1024 };

struct Grads {
    float *dq, *dk, *dv, *dbias, *delta, *norm, *parts;
};

template <class L>
void launch(const Pointers<5, 1> &in, const Grads &g, const pac_attn_at *at, const AttnShape &shape, const float *lse)
{
    AttnShape a = shape;
    Pointers<8, 4> p = {{in.in[0], in.in[1], in.in[2], in.in[3], in.in[4], lse, g.delta, g.norm},
                        {g.dq, g.delta, g.norm, g.dbias != nullptr ? g.parts : nullptr}};
    a.tiles = ceil_div(at->longest_t, L::BM);
    const int64_t blocks = at->B * a.tiles;
    const size_t tables = g.dbias != nullptr ? BiasSums<L>::floats(at->buckets) : 0;
    static_assert((Tiles<L>::FLOATS + (BiasSums<L>::SPLIT + 1) * L::DIAGONALS + MOST_BUCKETS) * sizeof(float) <= L::MOST_SHARED,
                  "a tile that no device takes");
    const size_t bytes = (Tiles<L>::FLOATS + tables) * sizeof(float),
                 key_bytes = (Tiles<L>::FLOATS + 3 * L::BN) * sizeof(float);
    auto queries = by_queries_kernel<L>;
    auto keys = by_keys_kernel<L>;
    if (blocks > 0)
        PAC_LAUNCH(queries, dim3((unsigned)blocks, (unsigned)at->H, column_blocks<L>(at->K)), L::THREADS, bytes,
                   pac_gpu.compute, p, a);
    p.out[0] = g.dk;
    p.out[1] = g.dv;
    a.tiles = ceil_div(at->longest_s, L::BM);
    if (a.tiles > 0)
        PAC_LAUNCH(keys, dim3((unsigned)(at->B * a.tiles), (unsigned)at->H, column_blocks<L>(at->K)), L::THREADS, key_bytes,
                   pac_gpu.compute, p, a);
    if (g.dbias != nullptr && blocks > 0)
        sum_bias(g.dbias, g.parts, blocks, at->H, at->buckets);
}

} // namespace

/* Rows of the tile that is launched: the switch of pac_cuda_attn_bwd_at(). */
static int64_t tile_rows(int64_t K)
{
    return K > 128 ? 8 : K > 64 || (K > 32 && pac_gpu.shared < TWO_BLOCKS) ? 16 : 32;
}

/* Floats for a number per query and head, in whole 256 bytes. */
static int64_t each_row(const pac_attn_at *p, int64_t N)
{
    return (N * p->H / 64 + 1) * 64;
}

int64_t pac_cuda_attn_bwd_scratch(const pac_attn_at *p, int64_t N, bool dbias)
{
    int64_t parts = dbias ? p->B * ceil_div(p->longest_t, tile_rows(p->K)) * p->H * p->buckets : 0;
    return 2 * each_row(p, N) + parts;
}

void pac_cuda_attn_bwd_at(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                          int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                          const pac_attn_at *at, int64_t N, float *scratch)
{
    Pointers<5, 1> in = {{q, k, v, at->bias_table, d_o}, {nullptr}};
    float *norm = scratch + each_row(at, N), *parts = norm + each_row(at, N);
    Grads g = {dq, dk, dv, at->bias_table != nullptr ? dbias_table : nullptr, scratch, norm, parts};
    AttnShape a = shape_of(at, ldq, ldk, ldv, ldo, 0);
    if (at->buckets > MOST_BUCKETS)
        pac_gpu_fault(PAC_ESHAPE, "more than 1024 buckets of relative positions have no CUDA kernel; use backend cpu");
    else if (at->K <= 8)
        launch<Tile<8, 32, 32, 2>>(in, g, at, a, lse);
    else if (at->K <= 16)
        launch<Tile<16, 32, 32, 2>>(in, g, at, a, lse);
    else if (at->K <= 32)
        launch<Tile<32, 32, 32, 2>>(in, g, at, a, lse);
    else if (at->K <= 64 && pac_gpu.shared < TWO_BLOCKS)
        launch<Tile<64, 16, 32, 1>>(in, g, at, a, lse);
    else if (at->K <= 64)
        launch<Tile<64, 32, 32, 2>>(in, g, at, a, lse);
    else if (at->K <= 128)
        launch<Tile<128, 16, 16, 1>>(in, g, at, a, lse);
    else
        launch<Tile<256, 8, 8, 1>>(in, g, at, a, lse);
}
