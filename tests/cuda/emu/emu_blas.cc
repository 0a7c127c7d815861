/* Emulated products: operands are taken to f32 as the data type or the TF32 mode would round them, then multiplied by OpenBLAS.
 */
#include "cublas_v2.h"
#include "emu.h"

#include <cblas.h>
#include <vector>

struct emu_cublas {
    cudaStream_t stream;
};

static float of_bits(unsigned u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float of_half(unsigned h)
{
    unsigned sign = (h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 0)
        return of_bits(sign) + (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
    return of_bits(e == 31 ? sign | 0x7f800000 | m << 13 : sign | (e + 112) << 23 | m << 13);
}

/* 10 bits of mantissa, ties away from zero. */
static float to_tf32(float f)
{
    return std::isfinite(f) ? of_bits((__float_as_uint(f) + 0x1000) & 0xffffe000u) : f;
}

/* The columns of a stored matrix, rows x cols, as f32. */
static std::vector<float> widen(const void *p, cudaDataType type, int rows, int cols, int ld, bool tf32)
{
    std::vector<float> x((size_t)rows * (size_t)cols);
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < rows; i++) {
            size_t at = (size_t)j * (size_t)ld + (size_t)i, to = (size_t)j * (size_t)rows + (size_t)i;
            if (type == CUDA_R_32F)
                x[to] = tf32 ? to_tf32(((const float *)p)[at]) : ((const float *)p)[at];
            else if (type == CUDA_R_16BF)
                x[to] = of_bits((unsigned)((const unsigned short *)p)[at] << 16);
            else
                x[to] = of_half(((const unsigned short *)p)[at]);
        }
    return x;
}

static int64_t products;

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *h)
{
    *h = new emu_cublas();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s)
{
    h->stream = s;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                                          const void *alpha, const void *a, cudaDataType atype, int lda, long long sa,
                                          const void *b, cudaDataType btype, int ldb, long long sb, const void *beta, void *c,
                                          cudaDataType ctype, int ldc, long long sc, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t)
{
    int arows = ta == CUBLAS_OP_N ? m : k, brows = tb == CUBLAS_OP_N ? k : n;
    float al = *(const float *)alpha, be = *(const float *)beta;
    if (m <= 0 || n <= 0 || k <= 0 || lda < arows || ldb < brows || ldc < m || ctype != CUDA_R_32F || count < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    emu_check_pointer(a, "a product");
    emu_check_pointer(b, "a product");
    emu_check_pointer(c, "a product");
    products++;
    bool tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    emu_queue(h->stream, [=] {
        for (long long i = 0; i < count; i++) {
            const char *ai = (const char *)a + i * sa * (atype == CUDA_R_32F ? 4 : 2);
            const char *bi = (const char *)b + i * sb * (btype == CUDA_R_32F ? 4 : 2);
            std::vector<float> x = widen(ai, atype, arows, ta == CUBLAS_OP_N ? k : m, lda, tf32);
            std::vector<float> y = widen(bi, btype, brows, tb == CUBLAS_OP_N ? n : k, ldb, tf32);
            cblas_sgemm(CblasColMajor, ta == CUBLAS_OP_N ? CblasNoTrans : CblasTrans,
                        tb == CUBLAS_OP_N ? CblasNoTrans : CblasTrans, m, n, k, al, x.data(), arows, y.data(), brows, be,
                        (float *)c + i * sc, ldc);
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void *alpha, const void *a, cudaDataType atype, int lda, const void *b, cudaDataType btype,
                            int ldb, const void *beta, void *c, cudaDataType ctype, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algo)
{
    return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, a, atype, lda, 0, b, btype, ldb, 0, beta, c, ctype, ldc, 0, 1,
                                      compute, algo);
}

int64_t emu_products(void)
{
    return products;
}
}
