/*
 * Products by cuBLAS, in four precisions. cuBLAS counts columns first, so it is asked for C^T = op(B)^T op(A)^T.
 *
 * The library is opened when a device is (open_library()), not linked: loading it costs 0.2 s, which a run on the CPU need not
 * spend, and where it is missing the rest of the program still runs.
 *
 * The 16-bit modes round operands first. Frozen weights are rounded once and kept (pac_device_constant()), other operands
 * into scratch, call by call; products of other matrices that are too small to gain from it are done in TF32, which is more
 * exact.
 */
#include "launch.h"

#include "pac/mem.h"

#include <cublas_v2.h>
#include <limits.h>
#include <string.h>

#if CUDART_VERSION >= 11000
typedef cublasComputeType_t compute_type;
static const compute_type in_f32 = CUBLAS_COMPUTE_32F, in_tf32 = CUBLAS_COMPUTE_32F_FAST_TF32;
static const cudaDataType bf16 = CUDA_R_16BF;
static const bool has_tf32 = true;
static const cublasGemmAlgo_t half_algorithm = CUBLAS_GEMM_DEFAULT;
#else
typedef cudaDataType compute_type;
static const compute_type in_f32 = CUDA_R_32F, in_tf32 = CUDA_R_32F;
static const cudaDataType bf16 = CUDA_R_32F; /* never used: the mode is refused */
static const bool has_tf32 = false;
static const cublasGemmAlgo_t half_algorithm =
    CUBLAS_GEMM_DEFAULT_TENSOR_OP; /* these versions leave the units alone unless asked */
#endif

/* Multiply-adds from which it is worth to round operands that are not kept rounded. */
static const int64_t least_16bit = (int64_t)1 << 24;

static pac_precision precision;

/* ---- the library ---- */

static struct {
    cublasStatus_t (*create)(cublasHandle_t *);
    cublasStatus_t (*destroy)(cublasHandle_t);
    cublasStatus_t (*set_stream)(cublasHandle_t, cudaStream_t);
    cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *, const void *,
                           cudaDataType, int, const void *, cudaDataType, int, const void *, void *, cudaDataType, int,
                           compute_type, cublasGemmAlgo_t);
    cublasStatus_t (*gemm_each)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *, const void *,
                                cudaDataType, int, long long, const void *, cudaDataType, int, long long, const void *, void *,
                                cudaDataType, int, long long, int, compute_type, cublasGemmAlgo_t);
} blas;

static cublasHandle_t handle;

#ifdef PAC_CUBLAS_LINKED
static pac_err open_library(void)
{
    blas.create = cublasCreate_v2;
    blas.destroy = cublasDestroy_v2;
    blas.set_stream = cublasSetStream_v2;
    blas.gemm = cublasGemmEx;
    blas.gemm_each = cublasGemmStridedBatchedEx;
    return PAC_OK;
}
#else
#include <dlfcn.h>
#include <stdio.h>

/* dlsym() gives an object pointer where a function pointer is wanted; POSIX says that their bytes are the same. */
static bool look_up(void *library, const char *name, void *function)
{
    void *p = dlsym(library, name);
    memcpy(function, &p, sizeof p);
    return p != NULL;
}

static pac_err open_library(void)
{
    char name[64], path[512];
    snprintf(name, sizeof name, "libcublas.so.%d", CUDART_VERSION / 1000);
    snprintf(path, sizeof path, "%s/%s", PAC_CUBLAS_DIR, name);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    PAC_CHECK(library != NULL, PAC_ECONFIG,
              "backend cuda needs %s of the CUDA toolkit, which is not found (%s); put its folder into "
              "LD_LIBRARY_PATH, or use backend cpu",
              name, dlerror());
    bool all = look_up(library, "cublasCreate_v2", &blas.create) && look_up(library, "cublasDestroy_v2", &blas.destroy) &&
               look_up(library, "cublasSetStream_v2", &blas.set_stream) && look_up(library, "cublasGemmEx", &blas.gemm) &&
               look_up(library, "cublasGemmStridedBatchedEx", &blas.gemm_each);
    PAC_CHECK(all, PAC_ECONFIG, "%s lacks a function: it is not the one of the CUDA toolkit", name);
    return PAC_OK;
}
#endif

pac_err pac_gpu_blas_open(void)
{
    precision = PAC_PREC_F32;
    PAC_TRY(open_library());
    PAC_CHECK(blas.create(&handle) == CUBLAS_STATUS_SUCCESS, PAC_EINTERNAL, "cuBLAS does not start on CUDA device %d",
              pac_gpu.index);
    PAC_CHECK(blas.set_stream(handle, pac_gpu.compute) == CUBLAS_STATUS_SUCCESS, PAC_EINTERNAL, "cuBLAS takes no stream");
    return PAC_OK;
}

/* ---- frozen weights ---- */

typedef struct constant {
    const float *x;
    int64_t n;
    uint16_t *rounded; /* NULL: not wanted yet, or `refused`: no memory for it */
    bool refused;
    pac_precision as;
} constant;

static constant *constants; /* by rising address */
static int64_t known, room;

static int64_t first_after(const float *x)
{
    int64_t low = 0, high = known;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (constants[middle].x <= x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for the rounded copy. Where memory is short, the weight is just not kept rounded, and nobody asks again. */
static bool make_room(constant *c)
{
    void *p;
    if (c->rounded != NULL || c->refused)
        return c->rounded != NULL;
    c->refused = pac_space_array(&pac_cuda_space, PAC_MEM_WEIGHTS, c->n, sizeof *c->rounded, &p) != PAC_OK;
    c->rounded = c->refused ? NULL : p;
    c->as = PAC_PREC_F32;
    return !c->refused;
}

/* In a 16-bit mode the room is taken at once: what a model takes is known when it is loaded. */
void pac_device_constant(const float *x, int64_t n)
{
    int64_t at = first_after(x);
    void *p = constants;
    if (x == NULL || n <= 0 || (at > 0 && constants[at - 1].x == x))
        return;
    if (pac_mem_grow(PAC_MEM_OTHER, &p, &room, known + 1, sizeof *constants) != PAC_OK)
        return;
    constants = p;
    memmove(constants + at + 1, constants + at, (size_t)(known - at) * sizeof *constants);
    constants[at] = (constant){.x = x, .n = n};
    known++;
    if (precision >= PAC_PREC_BF16)
        make_room(&constants[at]);
}

void pac_device_constant_release(const float *x)
{
    int64_t at = first_after(x) - 1;
    if (at < 0 || constants[at].x != x)
        return;
    uint16_t *rounded = constants[at].rounded;
    memmove(constants + at, constants + at + 1, (size_t)(known - at - 1) * sizeof *constants);
    known--;
    pac_space_free(&pac_cuda_space, rounded);
}

/* ---- operands ---- */

enum { CUT = 4096 };

/* One factor of a product, or the same of `count` products, each `step` numbers behind the last one. */
typedef struct operand {
    const void *x;
    int64_t ld, step;
    int64_t rows, columns; /* as it is stored */
} operand;

static operand stored(const float *x, int64_t ld, int64_t step, bool transposed, int64_t rows, int64_t columns)
{
    return (operand){
        .x = x, .ld = ld, .step = step, .rows = transposed ? columns : rows, .columns = transposed ? rows : columns};
}

/* From its first number behind its last. */
static int64_t extent(const operand *o, int64_t count)
{
    return (count - 1) * o->step + (o->rows - 1) * o->ld + o->columns;
}

/* All of them as one matrix: they lie side by side, or one under another. */
static bool join(operand *o, int64_t count)
{
    if (o->step + o->columns <= o->ld || count == 1)
        o->columns += (count - 1) * o->step;
    else if (o->step % o->ld == 0)
        o->rows += (count - 1) * (o->step / o->ld);
    else
        return false;
    return o->columns <= o->ld || o->rows == 1;
}

static void round_to(uint16_t *to, int64_t ldto, const float *x, int64_t ld, int64_t rows, int64_t columns)
{
    if (precision == PAC_PREC_F16)
        pac_cuda_to_f16(to, ldto, x, ld, rows, columns);
    else
        pac_cuda_to_bf16(to, ldto, x, ld, rows, columns);
}

/* The rounded copy of a constant that holds all of x, NULL if there is none. */
static const uint16_t *kept(const float *x, int64_t floats)
{
    int64_t at = first_after(x) - 1;
    if (at < 0 || x + floats > constants[at].x + constants[at].n)
        return NULL;
    constant *c = &constants[at];
    if (!make_room(c))
        return NULL;
    if (c->as != precision) {
        const int64_t rows = c->n / CUT, rest = c->n % CUT; /* rows of any length: many, so that they are shared out */
        round_to(c->rounded, CUT, c->x, CUT, rows, CUT);
        round_to(c->rounded + rows * CUT, CUT, c->x + rows * CUT, CUT, 1, rest);
        c->as = precision;
    }
    return c->rounded + (x - c->x);
}

/* ---- operands that products share ---- */

enum { STEADY = 8, OPERANDS = 2 };

static const float *steady[STEADY]; /* a stack of what is promised not to change; more than these are forgotten */
static int64_t promises;
static operand in_scratch[OPERANDS]; /* what the scratch of each operand holds rounded; x: NULL, or steady */
static pac_precision scratch_as;

static bool is_steady(const float *x)
{
    for (int64_t i = 0; i < promises && i < STEADY; i++)
        if (steady[i] == x)
            return true;
    return false;
}

static void forget_scratch(const float *x)
{
    for (int i = 0; i < OPERANDS; i++)
        if (in_scratch[i].x == x)
            in_scratch[i].x = NULL;
}

void pac_cuda_steady(const float *x, bool begins)
{
    if (begins && promises++ < STEADY)
        steady[promises - 1] = x;
    if (begins)
        return;
    promises--;
    if (!is_steady(x))
        forget_scratch(x);
}

/* Is it what the scratch holds? Else it is what it will hold. */
static bool again(const operand *all, pac_scratch_user user)
{
    operand *held = &in_scratch[user - PAC_SCRATCH_A];
    bool same = held->x == all->x && held->ld == all->ld && held->rows == all->rows && held->columns == all->columns &&
                scratch_as == precision;
    *held = *all;
    scratch_as = precision;
    if (!is_steady(all->x))
        held->x = NULL;
    return same && held->x != NULL;
}

/* o in 16 bits; its x is NULL where there is no memory. */
static operand rounded(operand o, int64_t count, pac_scratch_user user)
{
    const uint16_t *same = kept(o.x, extent(&o, count));
    operand all = o;
    if (same != NULL) {
        o.x = same;
        return o;
    }
    join(&all, count);
    const int64_t ldto = (all.columns + 7) / 8 * 8; /* rows of whole 16 bytes */
    uint16_t *to = pac_gpu_scratch(user, (size_t)(all.rows * ldto) * sizeof *to);
    if (to == NULL) /* what this scratch held went with the growth that failed */
        in_scratch[user - PAC_SCRATCH_A].x = NULL;
    else if (!again(&all, user))
        round_to(to, ldto, all.x, all.ld, all.rows, all.columns);
    if (all.rows > o.rows)
        o.step = o.step / o.ld * ldto;
    o.x = to;
    o.ld = ldto;
    return o;
}

/* Is it most of a constant? Its products are rounded however few rows meet it, in every layout of a run. */
static bool whole(const operand *o, int64_t count)
{
    int64_t at = first_after(o->x) - 1, floats = extent(o, count);
    return at >= 0 && (const float *)o->x + floats <= constants[at].x + constants[at].n && 2 * floats > constants[at].n;
}

static bool to_be_rounded(const operand *a, const operand *b, int64_t count, int64_t m, int64_t n, int64_t k)
{
    operand a_all = *a, b_all = *b;
    bool large = m * n >= (least_16bit + k * count - 1) / (k * count);
    return precision >= PAC_PREC_BF16 && join(&a_all, count) && join(&b_all, count) &&
           (large || whole(a, count) || whole(b, count));
}

/* ---- the product ---- */

/* TF32 and bf16 came together, in hardware and in the library. */
static bool has_tensor_f32(void)
{
    return has_tf32 && pac_gpu.major >= 8;
}

pac_precision pac_device_precision(pac_precision wanted)
{
    bool here = wanted == PAC_PREC_F16 || has_tensor_f32();
    memset(in_scratch, 0, sizeof in_scratch);
    precision = here ? wanted : PAC_PREC_F32;
    return precision;
}

static bool counts_in_int(int64_t n)
{
    if (n > INT_MAX)
        pac_gpu_fault(PAC_ESHAPE, "a product is larger than cuBLAS can count");
    return n <= INT_MAX;
}

void pac_cuda_gemm_each(int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda, int64_t sa, bool ta,
                        const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                        float beta)
{
    if (m == 0 || n == 0 || count == 0)
        return;
    for (int64_t h = 0; h < count && k == 0; h++)
        pac_cuda_scale_matrix(c + h * sc, ldc, m, n, beta);
    if (k == 0 || !counts_in_int(m) || !counts_in_int(n) || !counts_in_int(k) || !counts_in_int(lda) || !counts_in_int(ldb) ||
        !counts_in_int(ldc) || !counts_in_int(count))
        return;
    operand oa = stored(a, lda, sa, ta, m, k), ob = stored(b, ldb, sb, tb, k, n);
    cudaDataType type = CUDA_R_32F;
    compute_type compute = precision == PAC_PREC_F32 || !has_tensor_f32() ? in_f32 : in_tf32;
    if (to_be_rounded(&oa, &ob, count, m, n, k)) {
        oa = rounded(oa, count, PAC_SCRATCH_A);
        ob = rounded(ob, count, PAC_SCRATCH_B);
        type = precision == PAC_PREC_F16 ? CUDA_R_16F : bf16;
        compute = in_f32;
        if (oa.x == NULL || ob.x == NULL)
            return;
    }
    const cublasGemmAlgo_t algorithm = type == CUDA_R_32F ? CUBLAS_GEMM_DEFAULT : half_algorithm;
    const cublasOperation_t opa = ta ? CUBLAS_OP_T : CUBLAS_OP_N, opb = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t s = count == 1 ? blas.gemm(handle, opb, opa, (int)n, (int)m, (int)k, &alpha, ob.x, type, (int)ob.ld, oa.x,
                                              type, (int)oa.ld, &beta, c, CUDA_R_32F, (int)ldc, compute, algorithm)
                                  : blas.gemm_each(handle, opb, opa, (int)n, (int)m, (int)k, &alpha, ob.x, type, (int)ob.ld,
                                                   ob.step, oa.x, type, (int)oa.ld, oa.step, &beta, c, CUDA_R_32F, (int)ldc, sc,
                                                   (int)count, compute, algorithm);
    if (s != CUBLAS_STATUS_SUCCESS)
        pac_gpu_fault(PAC_EINTERNAL, "cuBLAS refused a product");
}

void pac_cuda_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                   int64_t n, int64_t k, float alpha, float beta)
{
    pac_cuda_gemm_each(1, c, ldc, 0, a, lda, 0, ta, b, ldb, 0, tb, m, n, k, alpha, beta);
}

void pac_gpu_blas_close(void)
{
    for (int64_t i = 0; i < known; i++)
        pac_space_free(&pac_cuda_space, constants[i].rounded);
    pac_mem_free(constants);
    constants = NULL;
    known = room = promises = 0;
    memset(in_scratch, 0, sizeof in_scratch);
    if (handle != NULL)
        blas.destroy(handle);
    handle = NULL;
}
