/*
 * Each kernel of the CUDA backend beside what the device can do, measured in the same run: bytes over the bandwidth of a long
 * copy, FLOP over the rate of a large product. A line is the mean of queued calls between two waits, so what it costs to queue
 * a call counts where a call is shorter than that. Sizes are those of a step of T5-Base (16 sequences of 128), and sixteen
 * times that, which no cache holds.
 *
 *   cuda_bench [--json] [WORD]     only kernels whose name contains WORD; ends with 77 where there is no device
 */
#include "pac/clock.h"
#include "pac/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const pac_backend *be;
static bool json;
static double copy_rate, product_rate[4]; /* bytes/s; FLOP/s by precision */
static const char *const precision_names[] = {"f32", "tf32", "bf16", "f16"};

static void must(pac_err err)
{
    if (err == PAC_OK)
        return;
    fprintf(stderr, "cuda_bench: %s\n", pac_err_message());
    exit(1);
}

/* ---- one call: arrays in device memory, and how much it moves and computes ---- */

enum { MOST_ROWS = 16 * 2048, B = 16, LENGTH = 128 };

typedef struct sizes {
    int64_t N, D, H, K; /* rows, width; attention: heads and their width, N / 128 sequences of 128 rows (T5's target: of one) */
    int64_t target;     /* attention: query rows of a sequence */
} sizes;

typedef struct bench {
    const char *name;
    void (*call)(const sizes *s);
    sizes s;
    double floats; /* read and written, per N * D; 0: attention or product, whose FLOP count */
} bench;

static float *x[6], *table; /* [MOST_ROWS * 3072] each; a vocabulary */
static float *small;        /* [65536] */
static int32_t ids[MOST_ROWS];
static uint64_t rows[MOST_ROWS];
static int64_t soff[MOST_ROWS / LENGTH + 1], toff[MOST_ROWS / LENGTH + 1];

static pac_attn attention_of(const sizes *s)
{
    int64_t sequences = s->N / LENGTH;
    for (int64_t b = 0; b <= sequences; b++) {
        soff[b] = b * LENGTH;
        toff[b] = b * s->target;
    }
    return (pac_attn){.B = sequences,
                      .H = s->H,
                      .K = s->K,
                      .toff = toff,
                      .soff = soff,
                      .scale = 1,
                      .bias_table = s->target == LENGTH ? small : NULL,
                      .buckets = 32,
                      .max_distance = 128,
                      .bidirectional = true};
}

static void attn_fwd(const sizes *s)
{
    pac_attn p = attention_of(s);
    int64_t w = s->H * s->K;
    be->attn_fwd(x[0], w, x[4], x[1], w, x[2], w, x[3], w, &p);
}

static void attn_bwd(const sizes *s)
{
    pac_attn p = attention_of(s);
    int64_t w = s->H * s->K, n = s->N * w;
    be->attn_bwd(x[0], x[0] + n, x[0] + 2 * n, s->target == LENGTH ? small + 4096 : NULL, x[5], w, x[1], w, x[2], w, x[3], w,
                 x[4], &p);
}

static void copy(const sizes *s)
{
    be->copy(x[0], x[1], s->N * s->D);
}

static void add(const sizes *s)
{
    be->add(x[0], x[1], x[2], s->N * s->D);
}

static void axpy(const sizes *s)
{
    be->axpy(x[0], x[1], s->N * s->D, 0.5f);
}

static void bias_fwd(const sizes *s)
{
    be->bias_fwd(x[0], small, s->N, s->D);
}

static void bias_bwd(const sizes *s)
{
    be->bias_bwd(small, x[0], s->N, s->D);
}

static void rmsnorm_fwd(const sizes *s)
{
    be->rmsnorm_fwd(x[0], x[4], x[1], small, s->N, s->D, 1e-6f);
}

static void rmsnorm_bwd(const sizes *s)
{
    be->rmsnorm_bwd(x[0], small, x[1], x[2], small + 4096, x[4], s->N, s->D);
}

static void layernorm_fwd(const sizes *s)
{
    be->layernorm_fwd(x[0], x[4], x[5], x[1], small, small + 4096, s->N, s->D, 1e-5f);
}

static void layernorm_bwd(const sizes *s)
{
    be->layernorm_bwd(x[0], small, small + 4096, x[1], x[2], small + 8192, x[4], x[5], s->N, s->D);
}

static void relu_fwd(const sizes *s)
{
    be->act_fwd(x[0], x[1], s->N * s->D, PAC_ACT_RELU);
}

static void relu_bwd(const sizes *s)
{
    be->act_bwd(x[0], x[1], x[2], s->N * s->D, PAC_ACT_RELU);
}

static void gelu_fwd(const sizes *s)
{
    be->act_fwd(x[0], x[1], s->N * s->D, PAC_ACT_GELU);
}

static void glu_fwd(const sizes *s)
{
    be->glu_fwd(x[0], x[1], x[2], s->N * s->D, PAC_ACT_GELU_NEW);
}

static void glu_bwd(const sizes *s)
{
    be->glu_bwd(x[0], x[1], x[2], x[3], x[4], s->N * s->D, PAC_ACT_GELU_NEW);
}

static void gate_fwd(const sizes *s)
{
    be->gate_fwd(x[0], x[1], x[2], small, s->N, s->D, 1, 0.1f);
}

static void gate_bwd(const sizes *s)
{
    be->gate_bwd(x[0], x[1], small, x[2], x[3], x[4], small + 4096, s->N, s->D, 1, 0.1f);
}

static void embed_fwd(const sizes *s)
{
    be->embed_fwd(x[0], table, ids, s->N, s->D);
}

static void embed_bwd(const sizes *s)
{
    be->embed_bwd(table, x[0], ids, s->N, s->D);
}

static void dropout(const sizes *s)
{
    be->dropout(x[0], x[1], rows, s->N, s->D, 77, 0.1f);
}

static void xent(const sizes *s)
{
    be->xent(x[4], x[0], ids, s->N, s->D, 1, true);
}

static void argmax(const sizes *s)
{
    be->argmax((int32_t *)(void *)x[4], x[0], s->N, s->D);
}

static void adamw(const sizes *s)
{
    pac_adamw p = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .step = 7};
    be->adamw(x[0], x[1], x[2], x[3], s->N * s->D, &p);
}

static void sgd(const sizes *s)
{
    be->sgd(x[0], x[1], s->N * s->D, 1e-3f, 0);
}

static void sumsq(const sizes *s)
{
    be->sumsq(x[0], s->N * s->D);
}

#define STEP 2048, 768, 12, 64, LENGTH
#define LONG MOST_ROWS, 768, 12, 64, LENGTH
#define SIDE 2048, 96, 12, 8, LENGTH

static const bench benches[] = {
    {"copy", copy, {LONG}, 2},
    {"add", add, {STEP}, 3},
    {"add", add, {LONG}, 3},
    {"axpy", axpy, {LONG}, 3},
    {"bias_fwd", bias_fwd, {LONG}, 2},
    {"bias_bwd", bias_bwd, {SIDE}, 1},
    {"bias_bwd", bias_bwd, {LONG}, 1},
    {"rmsnorm_fwd", rmsnorm_fwd, {STEP}, 2},
    {"rmsnorm_fwd", rmsnorm_fwd, {SIDE}, 2},
    {"rmsnorm_fwd", rmsnorm_fwd, {LONG}, 2},
    {"rmsnorm_bwd", rmsnorm_bwd, {SIDE}, 5},
    {"rmsnorm_bwd", rmsnorm_bwd, {LONG}, 5},
    {"layernorm_fwd", layernorm_fwd, {LONG}, 2},
    {"layernorm_bwd", layernorm_bwd, {LONG}, 5},
    {"relu_fwd", relu_fwd, {2048, 3072, 0, 0, 0}, 2},
    {"relu_fwd", relu_fwd, {MOST_ROWS, 3072, 0, 0, 0}, 2},
    {"relu_bwd", relu_bwd, {2048, 384, 0, 0, 0}, 3},
    {"gelu_fwd", gelu_fwd, {MOST_ROWS, 3072, 0, 0, 0}, 2},
    {"glu_fwd", glu_fwd, {2048, 2048, 0, 0, 0}, 3},
    {"glu_bwd", glu_bwd, {MOST_ROWS, 2048, 0, 0, 0}, 5},
    {"gate_fwd", gate_fwd, {SIDE}, 3},
    {"gate_bwd", gate_bwd, {SIDE}, 6},
    {"embed_fwd", embed_fwd, {STEP}, 2},
    {"embed_bwd", embed_bwd, {STEP}, 2},
    {"dropout", dropout, {LONG}, 2},
    {"xent", xent, {16, 32128, 0, 0, 0}, 3},
    {"xent", xent, {2048, 32128, 0, 0, 0}, 3},
    {"argmax", argmax, {16, 32128, 0, 0, 0}, 1},
    {"sgd", sgd, {2500, 2048, 0, 0, 0}, 3},
    {"adamw", adamw, {2500, 2048, 0, 0, 0}, 7},
    {"sumsq", sumsq, {2500, 2048, 0, 0, 0}, 1},
    {"attn_fwd", attn_fwd, {STEP}, 0},
    {"attn_fwd", attn_fwd, {LONG}, 0},
    {"attn_fwd", attn_fwd, {SIDE}, 0},
    {"attn_fwd", attn_fwd, {2048, 768, 12, 64, 1}, 0},
    {"attn_fwd", attn_fwd, {2048, 1024, 1, 1024, 16}, 0}, /* absorbed cross-attention: one head, as wide as T5-Large */
    {"attn_fwd", attn_fwd, {2048, 128, 1, 128, 16}, 0},   /* and of its side network */
    {"attn_bwd", attn_bwd, {STEP}, 0},
    {"attn_bwd", attn_bwd, {SIDE}, 0},
    {"attn_bwd", attn_bwd, {2048, 96, 12, 8, 1}, 0},
    {"attn_bwd", attn_bwd, {2048, 128, 1, 128, 16}, 0},
};

/* ---- measuring ---- */

static int rising(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return p < q ? -1 : p > q;
}

/*
 * Seconds of a call: enough calls between two waits for 20 ms, the median of five such rounds. Arrays of the sizes of a step
 * stay in the device's cache from call to call, as many of a step's do; the lines of MOST_ROWS are too large for that.
 */
static double seconds_of(void (*call)(const void *), const void *what)
{
    double seconds[5];
    int64_t calls = 1;
    call(what);
    must(pac_device_sync());
    for (int round = 0; round < 5;) {
        double start = pac_now();
        for (int64_t i = 0; i < calls; i++)
            call(what);
        must(pac_device_sync());
        double t = pac_now() - start;
        if (t < 0.02 && calls < 100000) {
            calls *= t < 0.002 ? 8 : 2;
            continue;
        }
        seconds[round++] = t / (double)calls;
    }
    qsort(seconds, 5, sizeof *seconds, rising);
    return seconds[2];
}

static void call_bench(const void *what)
{
    const bench *b = what;
    b->call(&b->s);
}

typedef struct product {
    int64_t m, n, k;
} product;

static void call_product(const void *what)
{
    const product *p = what;
    be->gemm(x[0], p->n, x[1], p->k, false, x[2], p->k, true, p->m, p->n, p->k, 1, 0);
}

static void line(const char *name, int64_t n, int64_t d, int64_t k, double seconds, double rate, const char *unit,
                 double fraction)
{
    if (json)
        printf("{\"kernel\":\"%s\",\"n\":%lld,\"d\":%lld,\"k\":%lld,\"us\":%.3f,\"rate\":%.4g,\"unit\":\"%s\",\"fraction\":%."
               "4f}\n",
               name, (long long)n, (long long)d, (long long)k, seconds * 1e6, rate, unit, fraction);
    else
        printf("| %s | %lld x %lld%s%.0lld | %.1f | %.4g %s | %.0f %% |\n", name, (long long)n, (long long)d,
               k > 0 ? " x " : "", (long long)k, seconds * 1e6, rate, unit, 100 * fraction);
}

static void measure_limits(void)
{
    sizes longest = {MOST_ROWS, 3072, 0, 0, 0};
    bench whole = {"copy", copy, longest, 2};
    product big = {8192, 8192, 8192};
    double bytes = 2.0 * MOST_ROWS * 3072 * sizeof(float);
    copy_rate = bytes / seconds_of(call_bench, &whole);
    line("copy (limit)", MOST_ROWS, 3072, 0, bytes / copy_rate, copy_rate / 1e9, "GB/s", 1);
    for (int p = 0; p < 4; p++) {
        if (pac_device_precision((pac_precision)p) != (pac_precision)p)
            continue;
        pac_device_constant(x[2], big.n * big.k);
        double flop = 2.0 * 8192 * 8192 * 8192, t = seconds_of(call_product, &big);
        pac_device_constant_release(x[2]);
        char name[64];
        product_rate[p] = flop / t;
        snprintf(name, sizeof name, "product %s (limit)", precision_names[p]);
        line(name, big.m, big.n, big.k, t, flop / t / 1e12, "TFLOP/s", 1);
    }
    pac_device_precision(PAC_PREC_F32);
}

static void measure_products(const char *only)
{
    static const product products[] = {{2048, 768, 768},   {2048, 3072, 768}, {2048, 768, 3072}, {2048, 96, 768},
                                       {2048, 96, 96},     {2048, 384, 96},   {16, 768, 768},    {16, 32128, 768},
                                       {2048, 1024, 1024}, {2048, 4096, 1024}};
    for (int p = 0; p < 4; p++)
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
            const product *s = &products[i];
            char name[64];
            snprintf(name, sizeof name, "product %s", precision_names[p]);
            if ((only != NULL && strstr(name, only) == NULL) || pac_device_precision((pac_precision)p) != (pac_precision)p)
                continue;
            pac_device_constant(x[2], s->n * s->k); /* as the frozen backbone's weights are */
            double flop = 2.0 * (double)s->m * (double)s->n * (double)s->k, t = seconds_of(call_product, s);
            pac_device_constant_release(x[2]);
            line(name, s->m, s->n, s->k, t, flop / t / 1e12, "TFLOP/s", flop / t / product_rate[p]);
        }
    pac_device_precision(PAC_PREC_F32);
}

static void measure(const bench *b)
{
    double t = seconds_of(call_bench, b);
    const sizes *s = &b->s;
    if (b->floats > 0) {
        double rate = b->floats * (double)s->N * (double)s->D * sizeof(float) / t;
        line(b->name, s->N, s->D, 0, t, rate / 1e9, "GB/s", rate / copy_rate);
    } else {
        double products =
            strcmp(b->name, "attn_fwd") == 0 ? 2 : 5; /* of [target, 128] and [128, K]; those made again are not counted */
        double rate = products * 2 * (double)(s->N / LENGTH * s->target * LENGTH * s->H * s->K) / t;
        line(b->name, s->N / LENGTH * s->target, s->H * s->K, s->K, t, rate / 1e12, "TFLOP/s", rate / product_rate[0]);
    }
}

static float *filled(int64_t n)
{
    float *host = malloc((size_t)n * sizeof *host);
    void *p = NULL;
    if (host == NULL)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        host[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
    must(pac_device_alloc((size_t)n * sizeof *host, &p));
    must(pac_device_upload(p, host, (size_t)n * sizeof *host));
    free(host);
    return p;
}

static void prepare(void)
{
    for (int i = 0; i < 6; i++)
        x[i] = filled((int64_t)MOST_ROWS * 3072);
    table = filled((int64_t)32128 * 768);
    small = filled(65536);
    for (int i = 0; i < MOST_ROWS; i++) {
        ids[i] = (int32_t)((uint32_t)i * 40503u % 768u);
        rows[i] = (uint64_t)i;
    }
}

static void release(void)
{
    for (int i = 0; i < 6; i++)
        pac_device_free(x[i]);
    pac_device_free(table);
    pac_device_free(small);
    pac_device_close();
}

int main(int argc, char **argv)
{
    json = argc > 1 && strcmp(argv[1], "--json") == 0;
    const char *only = argc > 1 + json ? argv[1 + json] : NULL;
    if (pac_device_count() == 0) {
        printf("cuda_bench: %s; nothing was measured\n", pac_device_absence());
        return 77;
    }
    must(pac_device_open(0));
    be = pac_device_backend();
    pac_device_info info;
    must(pac_device_query(&info));
    prepare();
    printf(json ? "{\"device\":\"%s\",\"backend\":\"%s\",\"capability\":\"%lld.%lld\"}\n"
                : "%s (%s), compute capability %lld.%lld\n\n",
           info.name, be->name, (long long)info.major, (long long)info.minor);
    if (!json)
        printf("| kernel | size | us | rate | of the limit |\n|---|---|---|---|---|\n");
    measure_limits();
    measure_products(only);
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        if (only == NULL || strstr(benches[i].name, only) != NULL)
            measure(&benches[i]);
    release();
    return 0;
}
