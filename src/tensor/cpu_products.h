/*
 * The products of attention. OpenBLAS spends more time on packing than on the product of a single query row (decoding, a target
 * of one token), so a row alone is worked on here: a third faster at the widths of a side network and for a single key, as fast
 * where memory is the limit. From two rows on OpenBLAS is no slower.
 */
#ifndef PAC_CPU_PRODUCTS_H
#define PAC_CPU_PRODUCTS_H

#include "cpu.h"

/* c[s] = alpha <a, b[s]>, four keys at a time; 8 lanes, because heads of a side network are 8 wide. */
static void row_dots(float *c, const float *a, const float *b, int64_t ldb, int64_t n, int64_t K, float alpha)
{
    int64_t s = 0;
    for (; s + 4 <= n; s += 4, b += 4 * ldb) {
        float c0 = 0, c1 = 0, c2 = 0, c3 = 0;
        PAC_PRAGMA(omp simd simdlen(8) reduction(+ : c0, c1, c2, c3))
        for (int64_t i = 0; i < K; i++) {
            c0 += a[i] * b[i];
            c1 += a[i] * b[ldb + i];
            c2 += a[i] * b[2 * ldb + i];
            c3 += a[i] * b[3 * ldb + i];
        }
        c[s] = alpha * c0;
        c[s + 1] = alpha * c1;
        c[s + 2] = alpha * c2;
        c[s + 3] = alpha * c3;
    }
    for (; s < n; s++, b += ldb) {
        float sum = 0;
        PAC_PRAGMA(omp simd simdlen(8) reduction(+ : sum))
        for (int64_t i = 0; i < K; i++)
            sum += a[i] * b[i];
        c[s] = alpha * sum;
    }
}

/* c = alpha sum_s a[s] b[s], four keys at a time: c is read and written a quarter as often. */
static void row_sum(float *c, const float *a, const float *b, int64_t ldb, int64_t n, int64_t K, float alpha)
{
    int64_t s = 0;
    memset(c, 0, (size_t)K * sizeof *c);
    for (; s + 4 <= n; s += 4, b += 4 * ldb) {
        float a0 = alpha * a[s], a1 = alpha * a[s + 1], a2 = alpha * a[s + 2], a3 = alpha * a[s + 3];
        SIMD for (int64_t i = 0; i < K; i++) c[i] +=
            (a0 * b[i] + a1 * b[ldb + i]) + (a2 * b[2 * ldb + i] + a3 * b[3 * ldb + i]);
    }
    for (; s < n; s++, b += ldb) {
        float a0 = alpha * a[s];
        SIMD for (int64_t i = 0; i < K; i++) c[i] += a0 * b[i];
    }
}

/* c[s] += alpha a[s] b */
static void add_row_outer(float *c, int64_t ldc, const float *a, const float *b, int64_t n, int64_t K, float alpha)
{
    for (int64_t s = 0; s < n; s++, c += ldc) {
        float a0 = alpha * a[s];
        SIMD for (int64_t i = 0; i < K; i++) c[i] += a0 * b[i];
    }
}

/* C[rows, keys] = alpha A B^T, A [rows, K], B [keys, K] */
static void product_bt(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t rows,
                       int64_t keys, int64_t K, float alpha)
{
    if (rows == 1)
        row_dots(c, a, b, ldb, keys, K, alpha);
    else
        CPU(gemm)(c, ldc, a, lda, false, b, ldb, true, rows, keys, K, alpha, 0);
}

/* C[rows, K] = alpha A B, A [rows, keys], B [keys, K] */
static void product(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t rows, int64_t K,
                    int64_t keys, float alpha)
{
    if (rows == 1)
        row_sum(c, a, b, ldb, keys, K, alpha);
    else
        CPU(gemm)(c, ldc, a, lda, false, b, ldb, false, rows, K, keys, alpha, 0);
}

/* C[keys, K] += alpha A^T B, A [rows, keys], B [rows, K] */
static void add_product_at(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t keys,
                           int64_t K, int64_t rows, float alpha)
{
    if (rows == 1)
        add_row_outer(c, ldc, a, b, keys, K, alpha);
    else
        CPU(gemm)(c, ldc, a, lda, true, b, ldb, false, keys, K, rows, alpha, 1);
}

#endif
