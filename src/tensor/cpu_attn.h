/*
 * Attention's two ways, and what they share. cpu_attn.c: one query row in a line of scores, products by OpenBLAS.
 * cpu_attn_narrow.c: for heads as narrow as a side network's, whose products are too small for a matrix library.
 */
#ifndef PAC_CPU_ATTN_H
#define PAC_CPU_ATTN_H

#include "cpu.h"

/* PAD: floats that a line is rounded up to, a vector or more. */
enum { PAD = 16, NARROW = 16 };

ALWAYS_INLINE int64_t round_up(int64_t n)
{
    return (n + PAD - 1) / PAD * PAD;
}

/* Rows of the longest sequence. */
ALWAYS_INLINE int64_t longest(const int64_t *offsets, int64_t B)
{
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++)
        n = offsets[b + 1] - offsets[b] > n ? offsets[b + 1] - offsets[b] : n;
    return n;
}

/* How many of S keys query row t sees. */
ALWAYS_INLINE int64_t keys_seen(const pac_attn *p, int64_t t, int64_t S)
{
    int64_t n = p->qpos + t + 1;
    return p->causal && n < S ? n : S;
}

/* As the ops of the table, for heads of at most NARROW numbers (any width is right, but not fast). */
void CPU(attn_narrow_fwd)(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                          const float *v, int64_t ldv, const pac_attn *p);
void CPU(attn_narrow_bwd)(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                          int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                          const pac_attn *p);

#endif
