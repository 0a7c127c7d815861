/*
 * Attention, forward: scores, soft-max and the weighted sum in one kernel, with the running maximum and sum of Milakov &
 * Gimelshein 2018 (flash attention: Dao et al. 2022).
 */
#include "attn.cuh"

namespace
{

template <class L> __global__ void __launch_bounds__(L::THREADS) attn_fwd_kernel(Pointers<4, 2> p, AttnShape a)
{
    PAC_SHARED(shared);
    float *q = shared, *k = q + L::BM * L::LD, *v = k + L::BN * L::LD, *prob = v + L::BN * L::LD, *bias = prob + L::BM * L::LP;
    const int64_t b = blockIdx.x / a.tiles, h = blockIdx.y, t0 = blockIdx.x % a.tiles * L::BM;
    const int64_t T = a.toff[b + 1] - a.toff[b], S = a.soff[b + 1] - a.soff[b];
    if (t0 >= T)
        return;
    const int tx = threadIdx.x % TX, ty = threadIdx.x / TX;
    const int64_t rows = least(T - t0, L::BM), first = a.toff[b] + t0;
    const int64_t seen = a.causal ? least(a.qpos + t0 + rows, S) : S; /* keys that some row sees */
    float acc[L::RM][L::CK], max[L::RM], sum[L::RM];
    const int64_t own = own_column<L>();
    clear(acc);
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    load_tile<L, L::BM>(q, p.in[0] + first * a.ldq + h * a.K, a.ldq, rows, a.K);
    for (int64_t s0 = 0; s0 < seen; s0 += L::BN) {
        const int64_t key = a.soff[b] + s0;
        float score[L::RM][L::RN];
        clear(score);
        for (int64_t c = 0; c < a.K; c += L::KP) {
            __syncthreads(); /* the last tile has been used */
            if (a.K > L::KP)
                load_tile<L, L::BM>(q, p.in[0] + first * a.ldq + h * a.K + c, a.ldq, rows, a.K - c);
            load_tile<L, L::BN>(k, p.in[1] + key * a.ldk + h * a.K + c, a.ldk, S - s0, a.K - c);
            if (c == 0) {
                load_tile<L, L::BN>(v, p.in[2] + key * a.ldv + h * a.K + own, a.ldv, S - s0, a.K - own);
                load_bias<L>(bias, a, p.in[3], s0, t0, L::BM, h);
            }
            __syncthreads();
            tile_dot<L>(score, q, k);
        }
#pragma unroll
        for (int i = 0; i < L::RM; i++) {
            const int t = ty * L::RM + i;
            float top = max[i], added = 0;
#pragma unroll
            for (int j = 0; j < L::RN; j++) {
                const int s = tx + TX * j;
                const bool there = s0 + s < S && (!a.causal || s0 + s <= a.qpos + t0 + t);
                score[i][j] = there ? fmaf(a.scale, score[i][j], bias[s - t + L::BM - 1]) : -INFINITY;
                top = fmaxf(top, score[i][j]);
            }
            top = row_max(top);
            const float base = top > -INFINITY ? top : 0.0f, shrink = expf(max[i] - base);
#pragma unroll
            for (int j = 0; j < L::RN; j++) {
                const float e = expf(score[i][j] - base);
                added += e;
                prob[t * L::LP + tx + TX * j] = e;
            }
            max[i] = top;
            sum[i] = sum[i] * shrink + row_sum(added);
#pragma unroll
            for (int c = 0; c < L::CK; c++)
                acc[i][c] *= shrink;
        }
        __syncwarp(); /* a row of prob is written and read by eight lanes of a warp */
        tile_apply<L>(acc, prob, v);
    }
    float factor[L::RM];
#pragma unroll
    for (int i = 0; i < L::RM; i++) {
        const int64_t t = ty * L::RM + i;
        factor[i] = sum[i] > 0 ? 1.0f / sum[i] : 0.0f;
        if (p.out[1] != nullptr && own == 0 && tx == 0 && t < rows)
            p.out[1][(first + t) * a.H + h] = max[i] + logf(sum[i]);
    }
    store_rows<L>(p.out[0] + first * a.ldo + h * a.K + own, a.ldo, rows, a.K - own, acc, factor);
}

template <class L>
void launch(const Pointers<4, 2> &p, const pac_attn_at *at, int64_t ldo, int64_t ldq, int64_t ldk, int64_t ldv)
{
    int64_t tiles = ceil_div(at->longest_t, L::BM);
    enum { FLOATS = (L::BM + 2 * L::BN) * L::LD + L::BM * L::LP + L::DIAGONALS };
    static_assert(FLOATS * sizeof(float) <= L::MOST_SHARED, "a tile that no device takes");
    AttnShape a = shape_of(at, ldq, ldk, ldv, ldo, tiles);
    auto kernel = attn_fwd_kernel<L>;
    if (tiles > 0)
        PAC_LAUNCH(kernel, dim3((unsigned)(at->B * tiles), (unsigned)at->H, column_blocks<L>(at->K)), L::THREADS,
                   FLOATS * sizeof(float), pac_gpu.compute, p, a);
}

/* Sixteen rows where sequences are short: a target of one token, decoding. */
template <class Long, class Short>
void choose(const Pointers<4, 2> &p, const pac_attn_at *at, int64_t ldo, int64_t ldq, int64_t ldk, int64_t ldv)
{
    if (at->longest_t > 16)
        launch<Long>(p, at, ldo, ldq, ldk, ldv);
    else
        launch<Short>(p, at, ldo, ldq, ldk, ldv);
}

} // namespace

void pac_cuda_attn_fwd_at(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                          const float *v, int64_t ldv, const pac_attn_at *at)
{
    Pointers<4, 2> p = {{q, k, v, at->bias_table}, {o, lse}};
    if (at->K <= 8)
        choose<Tile<8, 64, 32, 4>, Tile<8, 16, 32, 1>>(p, at, ldo, ldq, ldk, ldv);
    else if (at->K <= 16)
        choose<Tile<16, 64, 32, 4>, Tile<16, 16, 32, 1>>(p, at, ldo, ldq, ldk, ldv);
    else if (at->K <= 32)
        choose<Tile<32, 64, 32, 4>, Tile<32, 16, 32, 1>>(p, at, ldo, ldq, ldk, ldv);
    else if (at->K <= 64 && pac_gpu.shared < TWO_BLOCKS)
        choose<Tile<64, 32, 32, 2>, Tile<64, 16, 32, 1>>(p, at, ldo, ldq, ldk, ldv);
    else if (at->K <= 64)
        choose<Tile<64, 64, 32, 4>, Tile<64, 16, 32, 1>>(p, at, ldo, ldq, ldk, ldv);
    else if (at->K <= 128)
        choose<Tile<128, 32, 16, 2>, Tile<128, 16, 16, 1>>(p, at, ldo, ldq, ldk, ldv);
    else
        launch<Tile<256, 16, 8, 1>>(p, at, ldo, ldq, ldk, ldv);
}
