/*
 * Reference kernels, linear algebra: matrix product, bias, embedding, sums, copies. Plain loops, double accumulation, the
 * definition of right; nothing here is meant to be fast. The table of the backend `ref` is at the end.
 */
#include "kernels.h"

#include <string.h>

PAC_PROTOTYPES(ref)

void pac_ref_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                  int64_t n, int64_t k, float alpha, float beta)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (double)(ta ? a[l * lda + i] : a[i * lda + l]) * (tb ? b[j * ldb + l] : b[l * ldb + j]);
            double old = beta != 0 ? (double)beta * c[i * ldc + j] : 0;
            c[i * ldc + j] = (float)(alpha * sum + old);
        }
}

void pac_ref_bias_fwd(float *y, const float *b, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t d = 0; d < D; d++)
            y[n * D + d] += b[d];
}

void pac_ref_bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    for (int64_t d = 0; d < D; d++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++)
            sum += dy[n * D + d];
        db[d] = (float)(db[d] + sum);
    }
}

void pac_ref_embed_fwd(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++)
        memcpy(y + n * D, table + ids[n] * D, (size_t)D * sizeof *y);
}

void pac_ref_embed_bwd(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t d = 0; d < D; d++)
            dtable[ids[n] * D + d] += dy[n * D + d];
}

void pac_ref_add(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

void pac_ref_axpy(float *y, const float *x, int64_t n, float alpha)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(y[i] + (double)alpha * x[i]);
}

void pac_ref_zero(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = 0;
}

void pac_ref_scale(float *x, int64_t n, float a)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= a;
}

void pac_ref_copy(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i];
}

void pac_ref_add_squares(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(y[i] + (double)x[i] * x[i]);
}

double pac_ref_sumsq(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

PAC_TABLE(ref, "ref");
