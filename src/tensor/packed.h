/*
 * Inside packed matrices. A matrix [out, in] = [N, K] is held row by row, or (nb > 0) in tiles of nb rows by 32 columns:
 *     element (n, k) at  (n / nb) nb Kp + (k / 32) 32 nb + (k % 32 / 2) 2 nb + (n % nb) 2 + k % 2,   Kp = K rounded up to 32,
 * which oneDNN calls BA16a<nb>b2a of the matrix w^T [K, N]. Padding is zero.
 */
#ifndef PAC_TENSOR_PACKED_H
#define PAC_TENSOR_PACKED_H

#include "half.h"
#include "pac/packed.h"

enum { TILE_K = 32 };

struct pac_packed {
    int64_t out, in, nb;
    const half_ops *half; /* products of its backend's own; NULL: oneDNN's */
    int64_t turned;       /* nb of the tiles of the transposed matrix; 0: there is no native product with it */
    size_t bytes;
    uint16_t *w;
    bool borrowed; /* w is somebody else's memory */
};

static inline int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Elements of a matrix [N, K] in tiles. */
static inline int64_t tiled_elements(int64_t N, int64_t K, int64_t nb)
{
    return round_up(N, nb) * round_up(K, TILE_K);
}

/* The row n, which is k = 0 of it. Column k is tiled_column(k, nb) further. */
static inline int64_t tiled_row(int64_t n, int64_t K, int64_t nb)
{
    return n / nb * nb * round_up(K, TILE_K) + n % nb * 2;
}

static inline int64_t tiled_column(int64_t k, int64_t nb)
{
    return k / 2 * 2 * nb + k % 2;
}

static inline float half_float(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } x = {.u = (uint32_t)h << 16};
    return x.f;
}

/* Rounds to nearest even; NaN stays NaN. */
static inline uint16_t half_of(float f)
{
    union {
        float f;
        uint32_t u;
    } x = {.f = f};
    uint32_t rounded = (x.u + 0x7fff + (x.u >> 16 & 1)) >> 16;
    return (uint16_t)((x.u & 0x7fffffff) > 0x7f800000 ? x.u >> 16 | 0x40 : rounded);
}

/* Loops over many elements exist for several instruction sets; the loader chooses. What they compute is the same. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

/* ---- native products: onednn.c, or onednn_none.c ---- */

/* y [rows, N] of stride ldy = (sum ? y : 0) + alpha x w^T + bias; x [rows, K] of stride ldx; w in tiles. */
typedef struct native_product {
    float *y;
    int64_t ldy;
    const float *x;
    int64_t ldx;
    const uint16_t *w;
    int64_t nb, K, N;
    const float *bias; /* NULL: none; not with sum */
    float alpha;
    bool sum;
    const half_ops *half; /* as in the matrix */
} native_product;

/** Rows of a tile that products [*, K] x [K, N] read; 0: there are none here. */
int64_t pac_native_tile(int64_t K, int64_t N);
/** The product by the calling thread alone. false: it failed, and y is undefined. */
bool pac_native_run(const native_product *c, int64_t rows);
/** As pac_packed_native(), of this processor. */
bool pac_native_here(const char **why);

#endif
