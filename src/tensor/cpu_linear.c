/*
 * cpu kernels, linear algebra: matrix product on tiles or by OpenBLAS, bias, embedding, sums, copies.
 */
#include "cpu.h"

#include <cblas.h>
#include <limits.h>

PAC_PROTOTYPE(ref, gemm)

static void scale_matrix(float *c, int64_t ldc, int64_t m, int64_t n, float beta)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            c[i * ldc + j] = beta != 0 ? beta * c[i * ldc + j] : 0;
}

static bool fits_blas(int64_t a, int64_t b, int64_t c)
{
    return a <= INT_MAX && b <= INT_MAX && c <= INT_MAX;
}

void CPU(gemm)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
               int64_t n, int64_t k, float alpha, float beta)
{
    if (m == 0 || n == 0 || CPU(tiles)(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta))
        return;
    if (k == 0) {
        scale_matrix(c, ldc, m, n, beta);
    } else if (!fits_blas(m, n, k) || !fits_blas(lda, ldb, ldc)) {
        pac_ref_gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta); /* OpenBLAS counts in int */
    } else {
        cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                    alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    }
}

void CPU(bias_fwd)(float *y, const float *b, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++, y += D) {
        SIMD for (int64_t d = 0; d < D; d++) y[d] += b[d];
    }
}

/* Four rows at a time: the sums are read and written a quarter as often. */
void CPU(bias_bwd)(float *db, const float *dy, int64_t N, int64_t D)
{
    int64_t n = 0;
    for (; n + 4 <= N; n += 4, dy += 4 * D) {
        SIMD for (int64_t d = 0; d < D; d++) db[d] += (dy[d] + dy[d + D]) + (dy[d + 2 * D] + dy[d + 3 * D]);
    }
    for (; n < N; n++, dy += D) {
        SIMD for (int64_t d = 0; d < D; d++) db[d] += dy[d];
    }
}

void CPU(embed_fwd)(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++)
        memcpy(y + n * D, table + ids[n] * D, (size_t)D * sizeof *y);
}

void CPU(embed_bwd)(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++, dy += D) {
        float *row = dtable + ids[n] * D;
        SIMD for (int64_t d = 0; d < D; d++) row[d] += dy[d];
    }
}

void CPU(add)(float *y, const float *a, const float *b, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void CPU(axpy)(float *y, const float *x, int64_t n, float alpha)
{
    SIMD for (int64_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

void CPU(zero)(float *x, int64_t n)
{
    if (n > 0)
        memset(x, 0, (size_t)n * sizeof *x);
}

void CPU(scale)(float *x, int64_t n, float a)
{
    SIMD for (int64_t i = 0; i < n; i++) x[i] *= a;
}

void CPU(copy)(float *y, const float *x, int64_t n)
{
    if (n > 0)
        memcpy(y, x, (size_t)n * sizeof *y);
}

void CPU(add_squares)(float *y, const float *x, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) y[i] += x[i] * x[i];
}

double CPU(sumsq)(const float *x, int64_t n)
{
    double sum = 0;
    SIMD_SUM(sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}
