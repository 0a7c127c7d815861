/*
 * The device beside its ops: copies and their order, indices, faults, precisions of products, and attention and losses at sizes
 * that tests/ops does not reach. Ends with 77 (skipped) where there is no device.
 */
#include "pac/device.h"
#include "pac/mem.h"
#include "pac/rng.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const pac_backend *ref, *gpu;
static int checks, failures;

static void expect(bool ok, const char *fmt, ...)
{
    checks++;
    if (ok)
        return;
    va_list args;
    va_start(args, fmt);
    fputs("FAIL ", stdout);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
    failures++;
}

static void must(pac_err err)
{
    if (err == PAC_OK)
        return;
    printf("FAIL %s\n", pac_err_message());
    exit(1);
}

static void *host(size_t bytes)
{
    void *p = calloc(bytes > 0 ? bytes : 1, 1);
    if (p == NULL)
        exit(1);
    return p;
}

static float *floats(int64_t n, uint64_t seed)
{
    float *x = host((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = pac_rng_normal(seed, PAC_STREAM_TEST, (uint64_t)i);
    return x;
}

static float *device_floats(int64_t n)
{
    void *p = NULL;
    must(pac_device_alloc((size_t)n * sizeof(float), &p));
    return p;
}

static float *there(const float *x, int64_t n)
{
    float *p = device_floats(n);
    must(pac_device_upload(p, x, (size_t)n * sizeof *x));
    return p;
}

static float *back(const float *p, int64_t n)
{
    float *x = host((size_t)n * sizeof *x);
    must(pac_device_download(x, p, (size_t)n * sizeof *x));
    return x;
}

/* The worst |a - b| / (|b| + rms(b)). */
static double difference(const float *a, const float *b, int64_t n)
{
    double squares = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (double)b[i] * b[i];
    double rms = sqrt(squares / (double)n);
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]) / (fabs((double)b[i]) + rms);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

static void near(const char *what, const float *on_device, const float *want, int64_t n, double tolerance)
{
    float *got = back(on_device, n);
    double d = difference(got, want, n);
    expect(d <= tolerance, "%s differs by %.2g", what, d);
    free(got);
}

/* ---- copies ---- */

static void check_copies(void)
{
    const size_t bytes = ((size_t)9 << 20) + 13;
    unsigned char *x = host(bytes), *y = host(bytes);
    void *p = NULL, *q = NULL;
    for (size_t i = 0; i < bytes; i++)
        x[i] = y[i] = (unsigned char)(i * 31 + i / 251);
    must(pac_device_alloc(bytes, &p));
    must(pac_device_alloc(bytes, &q));
    must(pac_device_upload(p, x, bytes));
    memset(x, 0, bytes); /* the call has returned, so the host may */
    must(pac_device_move(q, p, bytes));
    must(pac_device_fill(p, 7, bytes));
    must(pac_device_download(x, q, bytes));
    expect(memcmp(x, y, bytes) == 0, "a copy there and back changed bytes");
    must(pac_device_download(x, p, 3));
    expect(x[0] == 7 && x[2] == 7, "bytes were not set");
    must(pac_device_upload(p, x, 0));
    must(pac_device_download(x, p, 0));
    pac_device_free(p);
    pac_device_free(q);
    pac_device_free(NULL);
    free(x);
    free(y);
}

/* Started copies: after what was queued before, seen by what follows their ticket. More of them than there are events. */
static void check_tickets(void)
{
    enum { N = 1000, COPIES = 150 };
    void *pinned[2];
    float *x = floats(N, 1), *p = there(x, N), *q = device_floats(N);
    for (int i = 0; i < 2; i++)
        must(pac_device_pinned_alloc(N * sizeof(float), &pinned[i]));
    for (int i = 0; i < COPIES; i++) {
        int64_t down, up;
        gpu->scale(p, N, -1.0f);
        must(pac_device_download_start(pinned[0], p, N * sizeof(float), &down));
        must(pac_device_wait(down));
        float got = ((float *)pinned[0])[N - 1];
        expect(got == (i % 2 ? x[N - 1] : -x[N - 1]), "copy %d came before the op it follows", i);
        for (int j = 0; j < N; j++)
            ((float *)pinned[1])[j] = (float)(i + j);
        must(pac_device_upload_start(q, pinned[1], N * sizeof(float), &up));
        must(pac_device_follow(up));
        gpu->scale(q, N, 2.0f);
        float *y = back(q, N);
        expect(y[3] == 2.0f * (float)(i + 3), "an op did not see copy %d", i);
        free(y);
    }
    expect(pac_device_wait(1 << 20) == PAC_EINVAL, "a ticket that nobody has is refused");
    for (int i = 0; i < 2; i++)
        pac_device_pinned_free(pinned[i]);
    pac_device_free(p);
    pac_device_free(q);
    free(x);
}

/* More id arrays in flight than are kept; the host overwrites them as soon as the op returns. */
static void check_indices(void)
{
    enum { WORDS = 50, D = 5, N = 40, CALLS = 200 };
    float *x = floats(WORDS * D, 2), *table = there(x, WORDS * D), *y = device_floats(CALLS * N * D);
    int32_t ids[N];
    for (int c = 0; c < CALLS; c++) {
        for (int n = 0; n < N; n++)
            ids[n] = (c % 90 * 7 + n * 3) % WORDS;
        gpu->embed_fwd(y + c * N * D, table, ids, N, D);
    }
    float *got = back(y, CALLS * N * D);
    for (int c = 0; c < CALLS; c++)
        for (int n = 0; n < N; n++)
            expect(got[(c * N + n) * D] == x[(c % 90 * 7 + n * 3) % WORDS * D], "call %d, row %d: the wrong word", c, n);
    free(got);
    free(x);
    pac_device_free(table);
    pac_device_free(y);
}

/* ---- faults ---- */

static void check_faults(void)
{
    void *p = NULL;
    enum { BUCKETS = 1025 };
    int64_t toff[2] = {0, 1}, total, available;
    float *x = device_floats(BUCKETS), *y = device_floats(4 * 8 + BUCKETS);
    pac_attn a = {.B = 1,
                  .H = 1,
                  .K = 8,
                  .toff = toff,
                  .soff = toff,
                  .scale = 1,
                  .bias_table = x,
                  .buckets = BUCKETS,
                  .max_distance = 128};
    gpu->attn_bwd(y, y + 8, y + 16, y + 32, x, 8, x, 8, x, 8, x, 8, x, &a);
    expect(pac_device_sync() == PAC_ESHAPE && strstr(pac_err_message(), "1024") != NULL, "too many buckets are a fault: %s",
           pac_err_message());
    expect(pac_device_sync() == PAC_OK, "a fault is told once");
    int64_t ticket;
    must(pac_device_pinned_alloc(4, &p));
    gpu->attn_bwd(y, y + 8, y + 16, y + 32, x, 8, x, 8, x, 8, x, 8, x, &a);
    expect(isnan(gpu->sumsq(x, 8)), "a sum behind a fault is not a number");
    must(pac_device_download_start(p, x, 4, &ticket));
    expect(pac_device_wait(ticket) == PAC_ESHAPE, "who waits for a copy is told of a fault before it");
    pac_device_pinned_free(p);
    p = NULL;
    pac_device_free(y);
    pac_device_free(x);
    must(pac_device_memory(&total, &available));
    expect(total > 0 && available > 0 && available <= total, "%lld of %lld bytes free", (long long)available, (long long)total);
    expect(pac_device_alloc((size_t)1 << 46, &p) == PAC_ENOMEM && strstr(pac_err_message(), "free") != NULL, "too much: %s",
           pac_err_message());
    must(pac_device_sync());
    expect(pac_device_open(0) == PAC_OK, "opening twice is nothing");
    expect(pac_device_open(pac_device_count()) == PAC_ECONFIG, "no device beyond the last");
    expect(pac_device_open(-1) == PAC_ECONFIG, "no device before the first");
}

/* ---- products ---- */

/* The worst error of c over the sum of the absolute products. */
static double product_error(const float *c, const float *a, const float *b, int64_t m, int64_t n, int64_t k, float limit)
{
    double worst = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (int64_t l = 0; l < k; l++) {
                double x = fmin(fmax(a[i * k + l], -limit), limit), p = x * b[l * n + j];
                sum += p;
                size += fabs(p);
            }
            double e = fabs(c[i * n + j] - sum) / size;
            worst = e > worst || isnan(e) ? e : worst;
        }
    return worst;
}

/*
 * Bounds: a rounded operand is off by half a unit in its last place (2^-11 with TF32's and f16's 10 bits of mantissa, 2^-9 with
 * bf16's 7), so a product by twice that; TF32 units may cut instead of round (2^-10), so twice that again. Errors far below
 * the bound would mean that the mode was not in effect.
 */
static const struct {
    pac_precision mode;
    const char *name;
    double bound, least;
} modes[] = {
    {PAC_PREC_F32, "f32", 1e-5, 0},
    {PAC_PREC_TF32, "tf32", 0x1p-9, 1e-6},
    {PAC_PREC_BF16, "bf16", 0x1p-8, 1e-5},
    {PAC_PREC_F16, "f16", 0x1p-10, 1e-6},
};

/* exact: a mode that is not in effect is noticed, which units for aligned operands may need. */
static void check_products(int64_t m, int64_t n, int64_t k, bool exact)
{
    float *a = floats(m * k, 3), *b = floats(k * n, 4), *da = there(a, m * k), *db = there(b, k * n),
          *dc = device_floats(m * n);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (pac_device_precision(modes[i].mode) != modes[i].mode) {
            printf("%s products are not to be had on this device\n", modes[i].name);
            continue;
        }
        for (int kept = 0; kept < 2; kept++) {
            if (kept)
                pac_device_constant(db, k * n);
            gpu->gemm(dc, n, da, k, false, db, n, false, m, n, k, 1, 0);
            float *c = back(dc, m * n);
            double e = product_error(c, a, b, m, n, k, INFINITY);
            printf("%s products, weights %s: error %.2g of the sum of absolute products, bound %.2g\n", modes[i].name,
                   kept ? "kept" : "not kept", e, modes[i].bound);
            expect(e <= modes[i].bound && (!exact || e >= modes[i].least), "%s products: error %.2g", modes[i].name, e);
            free(c);
        }
        pac_device_constant_release(db);
    }
    if (pac_device_precision(PAC_PREC_F16) == PAC_PREC_F16) {
        a[5] = 1e6f;
        must(pac_device_upload(da, a, (size_t)(m * k) * sizeof *a));
        gpu->gemm(dc, n, da, k, false, db, n, false, m, n, k, 1, 0);
        float *c = back(dc, m * n);
        double e = product_error(c, a, b, m, n, k, 65504);
        expect(e <= 0x1p-10, "f16 holds what is too large at 65504: error %.2g", e);
        free(c);
    }
    pac_device_precision(PAC_PREC_F32);
    pac_device_free(da);
    pac_device_free(db);
    pac_device_free(dc);
    free(a);
    free(b);
}

/* ---- an operand of several products ---- */

extern int64_t emu_launched(void) __attribute__((weak)); /* tests/cuda/emu: kernels so far, without products */

static float first_of(const float *device)
{
    float x;
    must(pac_device_download(&x, device, sizeof x));
    return x;
}

/* x W^T with all ones in W: the sum of a row of x, for each of n columns. */
static void check_steady(void)
{
    const int64_t m = 64, n = 512, k = 512; /* 2^24 */
    float *x = floats(m * k, 15), *ones = host((size_t)(n * k) * sizeof *ones);
    for (int64_t i = 0; i < n * k; i++)
        ones[i] = 1;
    float *dx = there(x, m * k), *w = there(ones, n * k), *y = device_floats(m * n);
    if (pac_device_precision(PAC_PREC_F16) != PAC_PREC_F16)
        return;
    pac_device_constant(w, n * k);
    gpu->gemm(y, n, dx, k, false, w, k, true, m, n, k, 1, 0);
    const float before = first_of(y);
    int64_t launched = emu_launched != NULL ? emu_launched() : 0;
    pac_steady_begin(gpu, dx);
    for (int i = 0; i < 3; i++) {
        pac_steady_begin(gpu, dx);
        gpu->gemm(y, n, dx, k, false, w, k, true, m, n, k, 1, 0);
        pac_steady_end(gpu, dx);
    }
    expect(first_of(y) == before, "three products of one operand are one");
    gpu->gemm(y, n, dx, k, false, w, k, true, m / 2, n, k, 1, 0);
    pac_steady_end(gpu, dx);
    if (emu_launched != NULL)
        expect(emu_launched() - launched == 2, "what several products read is rounded %lld times, not twice",
               (long long)(emu_launched() - launched));
    gpu->scale(dx, m * k, 2);
    gpu->gemm(y, n, dx, k, false, w, k, true, m, n, k, 1, 0);
    expect(first_of(y) == 2 * before, "behind the end, what was written since is read");
    pac_device_precision(PAC_PREC_F32);
    pac_device_free(dx);
    pac_device_free(w);
    pac_device_free(y);
    free(x);
    free(ones);
}

/* ---- a product for each head ---- */

/* One factor or result of `count` products: element (i, j) of the h-th, as the product sees it. */
typedef struct strided {
    float *x, *device;
    int64_t n, ld, step;
} strided;

static double element(const strided *s, bool turned, int64_t h, int64_t i, int64_t j)
{
    return s->x[h * s->step + (turned ? j * s->ld + i : i * s->ld + j)];
}

static strided strided_new(int64_t n, int64_t ld, int64_t step, uint64_t seed)
{
    float *x = floats(n, seed);
    return (strided){.x = x, .device = there(x, n), .n = n, .ld = ld, .step = step};
}

static void strided_free(strided *s)
{
    free(s->x);
    pac_device_free(s->device);
}

/* c_h = beta c_h + op(a_h) op(b_h) on the device, then on the host; the worst error over the sum of the absolute products. */
static double each_error(int64_t count, strided *c, const strided *a, bool ta, const strided *b, bool tb, int64_t m, int64_t n,
                         int64_t k, float beta)
{
    double worst = 0;
    pac_gemm_each(gpu, count, c->device, c->ld, c->step, a->device, a->ld, a->step, ta, b->device, b->ld, b->step, tb, m, n, k,
                  1, beta);
    float *got = back(c->device, c->n);
    for (int64_t h = 0; h < count; h++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                const int64_t at = h * c->step + i * c->ld + j;
                double sum = beta * (double)c->x[at], size = fabs(sum);
                for (int64_t l = 0; l < k; l++) {
                    double p = element(a, ta, h, i, l) * element(b, tb, h, l, j);
                    sum += p;
                    size += fabs(p);
                }
                double e = fabs(got[at] - sum) / size;
                worst = e > worst || isnan(e) ? e : worst;
            }
    free(c->x);
    c->x = got; /* what follows reads what the device made */
    return worst;
}

typedef struct heads {
    int64_t count, head, rows, wide;
} heads;

/* As in src/model/absorb.c: wide_h = narrow_h W_h, narrow_h = wide_h W_h^T, and dW_h += narrow_h^T wide_h. */
static void check_heads_as(const heads *s, size_t mode, bool kept)
{
    const int64_t H = s->count, K = s->head, N = s->rows, D = s->wide;
    strided narrow = strided_new(N * H * K, H * K, K, 13), w = strided_new(H * K * D, D, K * D, 14),
            wide = strided_new(N * H * D, H * D, D, 16), dw = strided_new(H * K * D, D, K * D, 17);
    if (kept)
        pac_device_constant(w.device, w.n);
    const double error[] = {each_error(H, &wide, &narrow, false, &w, false, N, D, K, 0),
                            each_error(H, &narrow, &wide, false, &w, true, N, K, D, 0),
                            each_error(H, &dw, &narrow, true, &wide, false, K, D, N, 1)};
    static const char *const what[] = {"forth", "back", "learned"};
    const bool exact = (K % 8 == 0 && D % 8 == 0) || modes[mode].mode >= PAC_PREC_BF16; /* as for check_products() */
    printf("%s, %lld products of %lld x %lld x %lld, weights %s: errors", modes[mode].name, (long long)H, (long long)N,
           (long long)K, (long long)D, kept ? "kept" : "not kept");
    for (int i = 0; i < 3; i++) {
        printf(" %.2g", error[i]);
        expect(error[i] <= modes[mode].bound && (!exact || error[i] >= modes[mode].least), "%s, %lld products, %s: error %.2g",
               modes[mode].name, (long long)H, what[i], error[i]);
    }
    putchar('\n');
    pac_device_constant_release(w.device);
    strided *all[] = {&narrow, &w, &wide, &dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        strided_free(all[i]);
}

/* At least 2^24 multiply-adds, so that they are rounded whether the weight is kept or not. */
static void check_heads(void)
{
    static const heads sizes[] = {{16, 64, 64, 256}, {16, 60, 71, 250}, {1, 301, 261, 250}, {3, 65, 350, 251}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (pac_device_precision(modes[i].mode) != modes[i].mode)
            continue;
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            check_heads_as(&sizes[j], i, false);
            check_heads_as(&sizes[j], i, true);
        }
    }
    pac_device_precision(PAC_PREC_F32);
}

/* ---- attention beyond the sizes of tests/ops ---- */

typedef struct shape {
    int64_t K, T, S, buckets;
    bool causal;
    double tolerance;
} shape;

/* Two sequences, the second shorter; T5's scale with a bias, else that of BART. */
static void check_attention(const shape *s)
{
    enum { H = 2 };
    int64_t toff[3] = {0, s->T, s->T + s->T / 2 + 1}, soff[3] = {0, s->S, s->S + s->S / 2 + 1};
    int64_t N = toff[2], M = soff[2], w = H * s->K, q_n = N * w, k_n = M * w, bias_n = s->buckets * H;
    float *q = floats(q_n, 5), *k = floats(k_n, 6), *v = floats(k_n, 7), *g = floats(q_n, 8), *bias = floats(bias_n, 9);
    float *o = host((size_t)q_n * 4), *lse = host((size_t)(N * H) * 4), *dq = host((size_t)q_n * 4),
          *dk = host((size_t)k_n * 4);
    float *dv = host((size_t)k_n * 4), *dbias = host((size_t)bias_n * 4);
    pac_attn p = {.B = 2,
                  .H = H,
                  .K = s->K,
                  .toff = toff,
                  .soff = soff,
                  .scale = (float)pow((double)s->K, -0.5),
                  .causal = s->causal,
                  .bias_table = s->buckets > 0 ? bias : NULL,
                  .buckets = s->buckets,
                  .max_distance = 128,
                  .bidirectional = !s->causal};
    ref->attn_fwd(o, w, lse, q, w, k, w, v, w, &p);
    ref->attn_bwd(dq, dk, dv, s->buckets > 0 ? dbias : NULL, g, w, q, w, k, w, v, w, lse, &p);
    float *q_ = there(q, q_n), *k_ = there(k, k_n), *v_ = there(v, k_n), *g_ = there(g, q_n), *bias_ = there(bias, bias_n + 1);
    float *o_ = device_floats(q_n), *lse_ = device_floats(N * H), *dq_ = device_floats(q_n), *dk_ = device_floats(k_n);
    float *dv_ = device_floats(k_n), *dbias_ = device_floats(bias_n + 1);
    pac_attn d = p;
    d.bias_table = s->buckets > 0 ? bias_ : NULL;
    must(pac_device_fill(dbias_, 0, (size_t)bias_n * 4));
    gpu->attn_fwd(o_, w, lse_, q_, w, k_, w, v_, w, &d);
    gpu->attn_bwd(dq_, dk_, dv_, s->buckets > 0 ? dbias_ : NULL, g_, w, q_, w, k_, w, v_, w, lse_, &d);
    printf("attention K %lld, T %lld, S %lld\n", (long long)s->K, (long long)s->T, (long long)s->S);
    near("o", o_, o, q_n, s->tolerance);
    near("lse", lse_, lse, N * H, s->tolerance);
    near("dq", dq_, dq, q_n, s->tolerance);
    near("dk", dk_, dk, k_n, s->tolerance);
    near("dv", dv_, dv, k_n, s->tolerance);
    if (s->buckets > 0)
        near("dbias", dbias_, dbias, bias_n, s->tolerance);
    float *owned[] = {q, k, v, g, bias, o, lse, dq, dk, dv, dbias};
    float *device[] = {q_, k_, v_, g_, bias_, o_, lse_, dq_, dk_, dv_, dbias_};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        free(owned[i]);
        pac_device_free(device[i]);
    }
}

static void check_attentions(void)
{
    static const shape shapes[] = {{32, 150, 150, 32, false, 1e-5},
                                   {64, 300, 300, 32, true, 1e-5},
                                   {96, 70, 90, 0, false, 1e-5},
                                   {128, 70, 70, 32, true, 1e-5},
                                   {200, 40, 50, 0, false, 1e-5},
                                   {256, 40, 40, 32, false, 1e-5},
                                   {64, 1, 400, 0, false, 1e-5},
                                   {128, 1, 100, 0, false, 1e-5},
                                   {257, 20, 30, 32, true, 1e-5},
                                   {768, 12, 50, 0, false, 1e-5},
                                   {520, 1, 33, 16, false, 1e-5},
                                   {16, 520, 60, 32, false, 1e-5}}; /* the last: parts of the bias table in several chunks */
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_attention(&shapes[i]);
}

/* A vocabulary of T5, with a label in front, one at the end, one left out; logits of -infinity; all rows of one word. */
static void check_vocabulary(void)
{
    enum { N = 4, V = 32128, D = 130, R = 300 };
    int32_t labels[N] = {0, V - 1, -1, 777}, ids[R];
    float *x = floats((int64_t)N * V, 10), loss[N];
    for (int64_t v = 100; v < 9000; v++)
        x[3 * V + v] = v == 777 ? 1 : -INFINITY;
    float *logits = there(x, (int64_t)N * V), *loss_ = device_floats(N), *best = device_floats(N);
    gpu->argmax((int32_t *)(void *)best, logits, N, V);
    gpu->xent(loss_, logits, labels, N, V, 0.5f, true);
    int32_t want[N];
    ref->argmax(want, x, N, V);
    ref->xent(loss, x, labels, N, V, 0.5f, true);
    near("loss", loss_, loss, N, 1e-6);
    near("dlogits", logits, x, (int64_t)N * V, 1e-6);
    float *got = back(best, N);
    expect(memcmp(got, want, sizeof want) == 0, "argmax over a vocabulary");
    free(got);
    free(x);
    float *dy = floats((int64_t)R * D, 11), *dtable = floats(7 * D, 12), *dy_ = there(dy, (int64_t)R * D),
          *dtable_ = there(dtable, 7 * D);
    for (int i = 0; i < R; i++)
        ids[i] = i % 100 == 0 ? 6 : 3;
    gpu->embed_bwd(dtable_, dy_, ids, R, D);
    ref->embed_bwd(dtable, dy, ids, R, D);
    near("dtable", dtable_, dtable, 7 * D, 0);
    expect(fabs(gpu->sumsq(dy_, (int64_t)R * D) / ref->sumsq(dy, (int64_t)R * D) - 1) < 1e-7,
           "sum of squares: runs in f32, their sum in double");
    free(dy);
    free(dtable);
    float *device[] = {logits, loss_, best, dy_, dtable_};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        pac_device_free(device[i]);
}

/* ---- what the emulator promises ---- */

static bool child_dies(void (*act)(float *), float *p)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        act(p);
        _exit(0);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status);
}

static void read_on_host(float *p)
{
    volatile float x = *p;
    (void)x;
}

static void write_on_host(float *p)
{
    *(volatile float *)p = 1;
}

static void give_host_pointer(float *p)
{
    float x[4] = {0};
    gpu->add(p, p, x, 4);
    pac_device_sync();
}

static void give_host_bias(float *p)
{
    float bias[16] = {0};
    gpu->bias_fwd(p, bias, 1, 16); /* in a functor's member */
    must(pac_device_sync());
}

static void write_behind(float *unused)
{
    float *block = device_floats(61);
    (void)unused;
    must(pac_device_fill(block, 0, 62 * sizeof *block));
    pac_device_free(block);
}

extern int64_t emu_blocks(void) __attribute__((weak)); /* of both kinds of memory */
extern void emu_refuse_launch(void) __attribute__((weak));

/* A copy that is under way may be overtaken by the next op, and must not be: one of two times it is. */
static bool overtaken(float *p)
{
    void *pinned;
    int64_t ticket;
    bool found = false;
    must(pac_device_pinned_alloc(sizeof(float), &pinned));
    for (int i = 0; i < 2; i++) {
        gpu->zero(p, 16);
        must(pac_device_download_start(pinned, p, sizeof(float), &ticket));
        must(pac_device_fill(p, 0x3f, sizeof(float)));
        must(pac_device_wait(ticket));
        found = found || *(float *)pinned != 0;
        must(pac_device_sync());
    }
    pac_device_pinned_free(pinned);
    return found;
}

static void check_emulator(void)
{
    float *p = device_floats(16);
    expect(overtaken(p), "an op that overtakes a copy is not noticed");
    expect(child_dies(give_host_bias, p), "a kernel takes a pointer of the host in a functor");
    expect(child_dies(write_behind, NULL), "what is behind a block can be written");
    emu_refuse_launch();
    gpu->zero(p, 16);
    gpu->add(p, p, p, 16);
    expect(pac_device_sync() == PAC_EINTERNAL && strstr(pac_err_message(), "kernel") != NULL,
           "a kernel that is not launched: %s", pac_err_message());
    gpu->zero(p, 16);
    must(pac_device_sync());
    expect(child_dies(read_on_host, p), "the host can read device memory");
    expect(child_dies(write_on_host, p), "the host can write device memory");
    expect(child_dies(give_host_pointer, p), "a kernel takes a pointer of the host");
    pac_device_free(p);
}

int main(void)
{
    ref = pac_backend_all()[0];
    gpu = pac_device_backend();
    if (pac_device_count() == 0) {
        printf("SKIP %s\n", pac_device_absence());
        return 77;
    }
    must(pac_device_open(0));
    pac_device_info info;
    must(pac_device_query(&info));
    printf("%s: %s, compute capability %lld.%lld, %lld MiB%s\n", gpu->name, info.name, (long long)info.major,
           (long long)info.minor, (long long)(info.total >> 20), info.integrated ? ", shared with the host" : "");
    check_copies();
    check_tickets();
    check_indices();
    check_faults();
    check_products(261, 270, 301, false);
    check_products(256, 272, 304, true);
    check_steady();
    check_heads();
    check_attentions();
    check_vocabulary();
    if (strcmp(gpu->name, "cuda-emu") == 0)
        check_emulator();
    must(pac_device_sync());
    pac_device_close();
    if (emu_blocks != NULL)
        expect(emu_blocks() == 0, "%lld blocks of device or pinned memory are left", (long long)emu_blocks());
    pac_backend_release();
    expect(pac_mem_blocks() == 0, "%lld blocks are still allocated", (long long)pac_mem_blocks());
    printf("%d checks, %d failed\n", checks, failures);
    return failures > 0;
}
