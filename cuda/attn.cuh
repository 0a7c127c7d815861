/*
 * Tiles of attention. A block works on one head of one sequence: BM rows (queries, or keys in the second half of the backward
 * pass) against tiles of BN columns, all in shared memory; the full score matrix exists nowhere. A thread owns RM rows and
 * every eighth column of a score tile, so a row belongs to eight neighbouring lanes.
 *
 * KP is the width of a head, rounded up; the columns beyond the true one hold zeros. A row of a tile is four floats longer than
 * KP, which keeps its 16-byte reads free of bank conflicts. A head wider than the widest KP is worked on KP columns at a time:
 * scores are sums over all of them, and block z of the grid, which makes the scores again, has results for columns z KP to (z +
 * 1) KP.
 */
#ifndef PAC_ATTN_CUH
#define PAC_ATTN_CUH

#include "kernel.cuh"

struct AttnShape {
    int64_t ldq, ldk, ldv, ldo, H, K, tiles, qpos, last, buckets;
    const int64_t *toff, *soff;
    const int32_t *bucket;
    float scale;
    int causal;
};

static AttnShape shape_of(const pac_attn_at *p, int64_t ldq, int64_t ldk, int64_t ldv, int64_t ldo, int64_t tiles)
{
    AttnShape a = {ldq,     ldk,        ldv,     ldo,     p->H,      p->K,     tiles,    p->qpos,
                   p->last, p->buckets, p->toff, p->soff, p->bucket, p->scale, p->causal};
    return a;
}

enum { TX = 8 };

/* Shared memory of a processor that holds two blocks of the largest tiles (44 KiB each). With less (Nano: 64 KiB), heads of 64
 * are worked on in smaller ones. */
enum { TWO_BLOCKS = 96 * 1024 };

template <int KP_, int BM_, int BN_, int RM_> struct Tile {
    enum {
        KP = KP_,
        BM = BM_,
        BN = BN_,
        RM = RM_,
        RN = BN / TX,
        CK = KP / TX,
        TY = BM / RM,
        THREADS = TX * TY,
        LD = KP + 4,
        LP = BN + 4,
        VW = CK < 4 ? CK : 4,
        DIAGONALS = BM + BN - 1,
        MOST_SHARED = 48 * 1024 /* bytes that a block gets on every device, without asking for more */
    };
};

/* Do all rows of K columns start at 16 bytes and hold whole sixteens? */
static __device__ __forceinline__ bool in_fours(const float *rows, int64_t ld, int64_t K)
{
    return (uintptr_t)rows % 16 == 0 && ld % 4 == 0 && K % 4 == 0;
}

/* The head's rows first..first+ROWS of a packed matrix; rows from `rows` on and columns from K on become 0. */
template <class L, int ROWS> static __device__ void load_tile(float *to, const float *from, int64_t ld, int64_t rows, int64_t K)
{
    if (in_fours(from, ld, K)) {
        for (int i = (int)threadIdx.x; i < ROWS * L::KP / 4; i += L::THREADS) {
            const int r = i / (L::KP / 4), c = i % (L::KP / 4) * 4;
            float x[4] = {0, 0, 0, 0};
            if (r < rows && c < K)
                load4(x, from + r * ld + c);
            store4(to + r * L::LD + c, x);
        }
        return;
    }
    for (int i = (int)threadIdx.x; i < ROWS * L::KP; i += L::THREADS) {
        int r = i / L::KP, c = i % L::KP;
        to[r * L::LD + c] = r < rows && c < K ? from[r * ld + c] : 0.0f;
    }
}

template <int R, int C> static __device__ __forceinline__ void clear(float (&acc)[R][C])
{
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < C; c++)
            acc[i][c] = 0;
}

/* The first of the columns that this block has results for. */
template <class L> static __device__ __forceinline__ int64_t own_column()
{
    return (int64_t)blockIdx.z * L::KP;
}

/* Blocks z of a grid. */
template <class L> static unsigned column_blocks(int64_t K)
{
    return (unsigned)ceil_div(K, L::KP);
}

/* acc[i][j] += <a[ty RM + i], b[tx + 8 j]>, in the order of the columns */
template <class L> static __device__ __forceinline__ void tile_dot(float (&acc)[L::RM][L::RN], const float *a, const float *b)
{
    const int tx = threadIdx.x % TX, ty = threadIdx.x / TX;
#pragma unroll 2
    for (int k = 0; k < L::KP; k += 4) {
        float x[L::RM][4], y[L::RN][4];
#pragma unroll
        for (int i = 0; i < L::RM; i++)
            load4(x[i], a + (ty * L::RM + i) * L::LD + k);
#pragma unroll
        for (int j = 0; j < L::RN; j++)
            load4(y[j], b + (tx + TX * j) * L::LD + k);
#pragma unroll
        for (int i = 0; i < L::RM; i++)
#pragma unroll
            for (int j = 0; j < L::RN; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    acc[i][j] = fmaf(x[i][e], y[j][e], acc[i][j]);
    }
}

/* The column of a head's row that acc[.][c] of a thread stands for: VW neighbours, then the next VW of all eight threads. */
template <class L> static __device__ __forceinline__ int column_of(int c)
{
    return c / L::VW * (TX * L::VW) + threadIdx.x % TX * L::VW + c % L::VW;
}

template <class L> static __device__ __forceinline__ void load_columns(float (&x)[L::CK], const float *row)
{
#pragma unroll
    for (int c = 0; c < L::CK; c += L::VW) {
        const float *from = row + column_of<L>(c);
        if (L::VW == 4) {
            load4(&x[c], from);
        } else {
#pragma unroll
            for (int e = 0; e < L::VW; e++)
                x[c + e] = from[e];
        }
    }
}

/* acc[i][c] += sum_s p[ty RM + i][s] v[s][column_of(c)] */
template <class L> static __device__ __forceinline__ void tile_apply(float (&acc)[L::RM][L::CK], const float *p, const float *v)
{
    const int ty = threadIdx.x / TX;
#pragma unroll 1
    for (int s = 0; s < L::BN; s += 4) {
        float x[L::RM][4];
#pragma unroll
        for (int i = 0; i < L::RM; i++)
            load4(x[i], p + (ty * L::RM + i) * L::LP + s);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float y[L::CK];
            load_columns<L>(y, v + (s + e) * L::LD);
#pragma unroll
            for (int i = 0; i < L::RM; i++)
#pragma unroll
                for (int c = 0; c < L::CK; c++)
                    acc[i][c] = fmaf(x[i][e], y[c], acc[i][c]);
        }
    }
}

/* Rows of the result: `to` is the tile's first row; rows from `rows` on and columns from K on are not there. */
template <class L>
static __device__ __forceinline__ void store_rows(float *to, int64_t ld, int64_t rows, int64_t K, float (&acc)[L::RM][L::CK],
                                                  const float (&factor)[L::RM])
{
    const int ty = threadIdx.x / TX;
    const bool fours = L::VW == 4 && in_fours(to, ld, K);
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
#pragma unroll
        for (int c = 0; c < L::CK; c++)
            acc[i][c] *= factor[i];
#pragma unroll
        for (int c = 0; c < L::CK; c += L::VW) {
            float *at = to + (ty * L::RM + i) * ld + column_of<L>(c);
            if (ty * L::RM + i >= rows)
                continue;
            if (fours && column_of<L>(c) < K)
                store4(at, &acc[i][c]);
#pragma unroll
            for (int e = 0; e < L::VW && !fours; e++)
                if (column_of<L>(c) + e < K)
                    at[e] = acc[i][c + e];
        }
    }
}

/* Sum and maximum over the eight lanes of a row. */
static __device__ __forceinline__ float row_sum(float x)
{
    for (int bits = TX / 2; bits > 0; bits /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, bits);
    return x;
}

static __device__ __forceinline__ float row_max(float x)
{
    for (int bits = TX / 2; bits > 0; bits /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, bits));
    return x;
}

/* The relative position of diagonal j of a tile with queries from t0 (QUERIES of them) and keys from s0, held within the table.
 */
static __device__ __forceinline__ int64_t relative_at(const AttnShape &a, int64_t s0, int64_t t0, int queries, int j)
{
    int64_t r = s0 - t0 - a.qpos + j - (queries - 1);
    return r < -a.last ? -a.last : r > a.last ? a.last : r;
}

/* bias[j]: what the scores of diagonal j = s - t + QUERIES - 1 (counted inside the tile) get. */
template <class L>
static __device__ void load_bias(float *bias, const AttnShape &a, const float *table, int64_t s0, int64_t t0, int queries,
                                 int64_t h)
{
    for (int j = (int)threadIdx.x; j < L::DIAGONALS; j += L::THREADS)
        bias[j] = table != nullptr ? table[a.bucket[relative_at(a, s0, t0, queries, j) + a.last] * a.H + h] : 0.0f;
}

#endif
