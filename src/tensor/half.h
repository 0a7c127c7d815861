/*
 * Rows in bf16 between frozen products, for the kernels of cpu_half.c and cpu_half_attn.c: each by the calling thread alone,
 * NULL in builds and on backends without AMX. Sums are f32 and run over k in one order, so an element is the same whatever the
 * rows and columns around it.
 */
#ifndef PAC_TENSOR_HALF_H
#define PAC_TENSOR_HALF_H

#include "kernels.h"

enum {
    HALF_SIDE = 16, /* rows of a tile */
    HALF_K = 32,    /* numbers in a row of a tile */
    HALF_ROWS = 32  /* that kernels read beyond the last of a plain matrix, and to whose multiple they round in tiles */
};

/* A matrix whose element (i, k) is at x + i / 16 strip + i % 16 row + k / 32 chunk + k % 32. */
typedef struct half_place {
    uint16_t *x;
    int64_t strip, row, chunk;
} half_place;

/* Tiles behind each other, as products read them best; K is a multiple of 32. */
static inline half_place half_tiles(uint16_t *x, int64_t K)
{
    return (half_place){x, HALF_SIDE * K, HALF_K, HALF_SIDE * HALF_K};
}

/* Row by row, for rows that are read from anywhere. */
static inline half_place half_plain(uint16_t *x, int64_t ld)
{
    return (half_place){x, HALF_SIDE * ld, ld, HALF_K};
}

static inline uint16_t *half_at(const half_place *p, int64_t i, int64_t k)
{
    return p->x + i / HALF_SIDE * p->strip + i % HALF_SIDE * p->row + k / HALF_K * p->chunk + k % HALF_K;
}

/*
 * r = f(alpha x w0^T + bias0), f the activation, or with w1: f(..) (alpha x w1^T + bias1). Matrices of weights are in tiles of
 * 16 rows (packed.h). r goes to h in bf16, whose columns are filled up with zeros to a multiple of 32, or, where h.x is NULL,
 * to y = r + add (NULL: r), add having y's stride.
 */
typedef struct half_product {
    half_place x;
    int64_t rows, K, N;
    const uint16_t *w[2];
    const float *bias[2]; /* NULL: none */
    float alpha;
    int act; /* a pac_act, or HALF_NO_ACT */
    half_place h;
    float *y;
    const float *add;
    int64_t ldy;
} half_product;

enum { HALF_NO_ACT = -1 };

/* Queries, keys and values in plain rows of stride ld, to o; offsets of `p` count from their first. */
typedef struct half_attention {
    half_place o;
    const uint16_t *q, *k, *v;
    int64_t ld;
    const pac_attn *p;
} half_attention;

typedef struct half_ops {
    /* Tiles of a matrix of weights [32, 32], two of 16 rows (from[1] NULL: zeros), to those of the transposed one (to[1] NULL:
     * not wanted). */
    void (*turn)(uint16_t *const to[2], const uint16_t *const from[2]);
    /* x [rows, K] f32 of stride ldx, rounded; columns filled up with zeros to a multiple of 32. */
    void (*round)(half_place to, const float *x, int64_t ldx, int64_t rows, int64_t K);
    /* false: no memory, nothing done. */
    bool (*product)(const half_product *c);
    /* Heads [from, to); their width is a multiple of 32. Probabilities are rounded too. false: as above. */
    bool (*attend)(const half_attention *a, int64_t from, int64_t to);
} half_ops;

/** Of this backend; NULL: none. */
const half_ops *pac_half_of(const pac_backend *be);

#endif
