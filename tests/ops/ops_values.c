/*
 * Values known without the reference: numbers worked out by hand, exactness that others rely on, accuracy of the elementary
 * functions, and behaviour at the edge (huge logits, no memory).
 */
#include "ops_fixture.h"

#include "pac/device.h"
#include "pac/mem.h"
#include "pac/tensor.h"

#include <math.h>
#include <string.h>

bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}

static void check_registry(void)
{
    const pac_backend *be, *cpu;
    expect(pac_backend_find("auto", &cpu) == PAC_OK && pac_backend_find("cpu", &be) == PAC_OK && be == cpu, "auto is cpu");
    expect(pac_backend_find("ref", &be) == PAC_OK && be == ref, "ref is found");
    expect(pac_backend_find("cpu-base", &be) == PAC_OK && strcmp(be->name, "cpu-base") == 0, "a variant is found by name");
    pac_err cuda = pac_backend_find("cuda", &be);
    if (pac_device_count() > 0)
        expect(cuda == PAC_OK && be == pac_device_backend(), "cuda is found");
    else
        expect(cuda == (pac_device_backend() != NULL ? PAC_ECONFIG : PAC_ENOTBUILT), "cuda is missed");
    expect(pac_backend_find("gpu", &be) == PAC_ECONFIG && strstr(pac_err_message(), "gpu") != NULL, "gpu is unknown");
}

/* The smallest distance of each bucket, from Hugging Face's T5Attention._relative_position_bucket (32 buckets, up to 128). */
static const int64_t causal_borders[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                         16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
static const int64_t both_borders[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};

static int64_t last_border(const int64_t *borders, int64_t n, int64_t distance)
{
    int64_t bucket = 0;
    while (bucket + 1 < n && borders[bucket + 1] <= distance)
        bucket++;
    return bucket;
}

static void check_buckets(void)
{
    for (int64_t r = -1000; r <= 1000; r++) {
        int64_t causal = last_border(causal_borders, 32, r < 0 ? -r : 0);
        int64_t both = last_border(both_borders, 16, r < 0 ? -r : r) + (r > 0 ? 16 : 0);
        expect(pac_rel_bucket(r, false, 32, 128) == causal, "causal bucket of %lld is not %lld", (long long)r,
               (long long)causal);
        expect(pac_rel_bucket(r, true, 32, 128) == both, "bucket of %lld is not %lld", (long long)r, (long long)both);
    }
    for (int64_t r = -300; r <= 300; r++)
        for (int64_t buckets = 0; buckets < 9; buckets++)
            for (int64_t far = 0; far < 9; far++) {
                int64_t bucket = pac_rel_bucket(r, r % 2, buckets, far), most = buckets > 0 ? buckets : 1;
                expect(bucket >= 0 && bucket < most + 1, "bucket %lld of %lld", (long long)bucket, (long long)buckets);
            }
}

static void check_by_hand(const pac_backend *be)
{
    float a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, c[4];
    be->gemm(c, 2, a, 2, false, b, 2, true, 2, 2, 2, 1, 0);
    expect(c[0] == 17 && c[1] == 23 && c[2] == 39 && c[3] == 53, "%s: gemm by hand", be->name);
    float x[2] = {3, 4}, w[2] = {1, 2}, y[2], r;
    be->rmsnorm_fwd(y, &r, x, w, 1, 2, 0);
    expect(near(r, 1 / sqrt(12.5), 1e-6) && near(y[1], 8 / sqrt(12.5), 1e-6), "%s: rmsnorm by hand", be->name);
    float zero[2] = {0, 0}, mean, rstd;
    be->layernorm_fwd(y, &mean, &rstd, x, w, zero, 1, 2, 0);
    expect(near(y[0], -1, 1e-6) && near(y[1], 2, 1e-6) && mean == 3.5f && near(rstd, 2, 1e-6), "%s: layernorm by hand",
           be->name);
    float logits[3] = {0, 0, 0}, loss;
    int32_t label = 1, ignored = -1;
    be->xent(&loss, logits, &label, 1, 3, 3, true);
    expect(near(loss, log(3), 1e-6) && near(logits[0], 1, 1e-6) && near(logits[1], -2, 1e-6), "%s: xent by hand", be->name);
    be->xent(&loss, logits, &ignored, 1, 3, 3, true);
    expect(loss == 0 && logits[0] == 0 && logits[1] == 0 && logits[2] == 0, "%s: xent skips a row", be->name);
    float half = 0, ga[2] = {2, 4}, gb[2] = {4, 8};
    be->gate_fwd(y, ga, gb, &half, 1, 2, 1, 0.1f);
    expect(y[0] == 3 && y[1] == 6, "%s: a gate at 0 is the mean", be->name);
    pac_adamw p = {.lr = 0.1f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 0, .weight_decay = 0.5f, .step = 1};
    float wt = 2, m = 0, v = 0, g = -3;
    be->adamw(&wt, &m, &v, &g, 1, &p);
    expect(near(wt, 2 * 0.95 + 0.1, 1e-6) && near(m, -0.3, 1e-6) && near(v, 0.009, 1e-6), "%s: adamw by hand", be->name);
}

enum { SIDE = 48, LONG = 200 }; /* enough for every way of multiplying, and no multiple of what they cut */

/*
 * Products of numbers with all 24 bits are exact to f32's rounding, however the kernel multiplies: scaled by 2^90 and 2^-90, so
 * that parts of the numbers that are themselves numbers stay within the exponent's range. What is not finite stays so in its
 * row and nowhere else.
 */
static void check_precision(const pac_backend *be)
{
    static float a[SIDE * LONG], b[SIDE * LONG], c[SIDE * SIDE];
    double worst = 0;
    bool spread = false;
    for (int64_t i = 0; i < SIDE * LONG; i++) {
        a[i] = ldexpf((float)sin((double)i + 1), 90);
        b[i] = ldexpf((float)cos(3.0 * (double)i), -90);
    }
    for (int64_t k = 0; k < LONG; k++) /* mantissas that parts of 8 bits fit worst */
        a[k] = 0x1.00ff7ep90f, b[k] = 0x1.00ff7ep-90f;
    be->gemm(c, SIDE, a, LONG, false, b, LONG, true, SIDE, SIDE, LONG, 1, 0);
    for (int64_t i = 0; i < SIDE * SIDE; i++) {
        double exact = 0, sizes = 0;
        for (int64_t k = 0; k < LONG; k++) {
            double p = (double)a[i / SIDE * LONG + k] * b[i % SIDE * LONG + k];
            exact += p;
            sizes += fabs(p);
        }
        worst = fmax(worst, fabs(c[i] - exact) / sizes);
    }
    expect(worst < 4e-7, "%s: a product is off by %g of the sum of sizes", be->name, worst);
    a[5 * LONG + 7] = INFINITY;
    a[9 * LONG + 8] = NAN;
    be->gemm(c, SIDE, a, LONG, false, b, LONG, true, SIDE, SIDE, LONG, 1, 0);
    for (int64_t i = 0; i < SIDE * SIDE; i++)
        spread = spread || (isfinite(c[i]) == (i / SIDE == 5 || i / SIDE == 9));
    expect(!spread, "%s: what is not finite is lost, or not where it belongs", be->name);
}

/* Two keys with scores 0 and log 3: probabilities 1/4 and 3/4. Causal: the first query sees only the first key. */
static void check_attention_by_hand(const pac_backend *be)
{
    float q[2] = {2, 2}, k[2] = {0, 0.549306144f}, v[2] = {0, 4}, o[2], lse[2], bias[2] = {0, -0.549306144f};
    int64_t off[2] = {0, 2};
    pac_attn p = {.B = 1, .H = 1, .K = 1, .toff = off, .soff = off, .scale = 1};
    be->attn_fwd(o, 1, lse, q, 1, k, 1, v, 1, &p);
    expect(near(o[0], 3, 1e-6) && near(o[1], 3, 1e-6) && near(lse[1], log(4), 1e-6), "%s: attention by hand", be->name);
    p.causal = true;
    be->attn_fwd(o, 1, lse, q, 1, k, 1, v, 1, &p);
    expect(o[0] == 0 && near(o[1], 3, 1e-6) && lse[0] == 0, "%s: causal attention by hand", be->name);
    p.bias_table = bias; /* bucket 0: the key at the query's position; bucket 1: the one before it */
    p.buckets = 2;
    p.max_distance = 8;
    be->attn_fwd(o, 1, NULL, q, 1, k, 1, v, 1, &p);
    expect(near(o[1], 4 * 3 / (3 + 1 / sqrt(3)), 1e-6), "%s: biased attention by hand", be->name);
}

static void check_huge_logits(const pac_backend *be)
{
    float logits[3] = {1e4f, -1e4f, 9999}, loss;
    int32_t label = 2;
    be->xent(&loss, logits, &label, 1, 3, 1, true);
    expect(near(loss, 1 + log(1 + exp(-1)), 1e-6) && logits[1] == 0, "%s: xent of huge logits is %g", be->name, loss);
    float bad[2] = {NAN, 1};
    label = 1;
    be->xent(&loss, bad, &label, 1, 2, 1, false);
    expect(isnan(loss), "%s: xent lets NaN through", be->name);
}

/* One key: the output is its value, and nothing flows back into the scores, to the last bit. */
static void check_single_key(const pac_backend *be)
{
    enum { K = 5, H = 2, T = 3, W = K * H };
    float q[T * W], k[T * W], v[T * W], o[T * W], d_o[T * W], dq[T * W], dk[T * W], dv[T * W], lse[T * H], bias[4 * H],
        dbias[4 * H];
    int64_t off[T + 1] = {0, 1, 2, 3};
    for (int i = 0; i < T * W; i++) {
        q[i] = (float)sin(i) * 9, k[i] = (float)cos(i * 3) * 9, v[i] = (float)sin(i * i), d_o[i] = (float)cos(i);
        bias[i % (4 * H)] = (float)i / 7;
    }
    memset(dbias, 0, sizeof dbias);
    pac_attn p = {.B = T,
                  .H = H,
                  .K = K,
                  .toff = off,
                  .soff = off,
                  .scale = 0.9f,
                  .bias_table = bias,
                  .buckets = 4,
                  .max_distance = 8,
                  .bidirectional = true};
    be->attn_fwd(o, W, lse, q, W, k, W, v, W, &p);
    for (int i = 0; i < T * H; i++) /* scores may be rounded otherwise the second time; here by far more than that */
        lse[i] += 1e-3f * (float)(i + 1);
    be->attn_bwd(dq, dk, dv, dbias, d_o, W, q, W, k, W, v, W, lse, &p);
    for (int i = 0; i < T * W; i++) {
        expect(o[i] == v[i] && dv[i] == d_o[i], "%s: one key gives its value", be->name);
        expect(dq[i] == 0 && dk[i] == 0, "%s: one key has no score gradient", be->name);
    }
    for (int i = 0; i < 4 * H; i++)
        expect(dbias[i] == 0, "%s: one key has no bias gradient", be->name);
}

/*
 * Decoding step by step over a growing cache gives the rows of the whole sequence at once: positions 0..40, with T5's bias, two
 * sequences in a cache with room to grow.
 */
static void check_decoding(const pac_backend *be)
{
    enum { LENGTH = 41, ROOM = 50, K = 7, H = 3, W = K * H, B = 2 };
    static float q[B * LENGTH * W], k[B * ROOM * W], v[B * ROOM * W], whole[LENGTH * W], row[W], bias[32 * H];
    for (int i = 0; i < B * ROOM * W; i++)
        k[i] = (float)sin(i * 1.3) * 2, v[i] = (float)cos(i * 0.7), q[i % (B * LENGTH * W)] = (float)sin(i * 0.9 + 1) * 2;
    for (int i = 0; i < 32 * H; i++)
        bias[i] = (float)sin(i * 5);
    int64_t all[2] = {0, LENGTH}, one[2] = {0, 1}, seen[2] = {0, 0};
    pac_attn p = {.B = 1, .H = H, .K = K, .scale = 1, .causal = true, .bias_table = bias, .buckets = 32, .max_distance = 128};
    for (int b = 0; b < B; b++) {
        const float *qb = q + b * LENGTH * W, *kb = k + b * ROOM * W, *vb = v + b * ROOM * W;
        p.toff = p.soff = all;
        p.qpos = 0;
        ref->attn_fwd(whole, W, NULL, qb, W, kb, W, vb, W, &p);
        p.toff = one;
        p.soff = seen;
        for (int t = 0; t < LENGTH; t++) {
            p.qpos = t;
            seen[1] = t % 2 ? ROOM : t + 1; /* the mask hides what the cache does not hold yet */
            be->attn_fwd(row, W, NULL, qb + t * W, W, kb, W, vb, W, &p);
            for (int c = 0; c < W; c++)
                expect(near(row[c], whole[t * W + c], 4e-6), "%s: decoding at %d gives %g, not %g", be->name, t, row[c],
                       whole[t * W + c]);
        }
    }
}

/* Relative error of the activations over the whole line; below 1e-30 only smallness counts. */
static void check_accuracy(const pac_backend *be)
{
    enum { STEPS = 20011 };
    static float x[STEPS], y[STEPS], want[STEPS];
    static const double tolerance[PAC_NACTS] = {
        [PAC_ACT_RELU] = 0, [PAC_ACT_GELU] = 6e-6, [PAC_ACT_GELU_NEW] = 3e-5, [PAC_ACT_SILU] = 5e-6, [PAC_ACT_TANH] = 4e-7};
    for (int i = 0; i < STEPS; i++)
        x[i] = 100.0f * powf((float)(i - STEPS / 2) / (STEPS / 2), 3);
    for (pac_act act = 0; act < PAC_NACTS; act++) {
        double worst = 0;
        be->act_fwd(y, x, STEPS, act);
        ref->act_fwd(want, x, STEPS, act);
        for (int i = 0; i < STEPS; i++) {
            double error = fabs((double)y[i] - want[i]);
            worst = error > 1e-30 ? fmax(worst, error / fmax(fabs(want[i]), 1e-30)) : worst;
        }
        expect(worst <= tolerance[act], "%s: activation %d is off by %.2g", be->name, (int)act, worst);
    }
}

/* Without memory for scratch, attention says so with NaN, and works again afterwards. */
static void check_no_memory(const pac_backend *be)
{
    float q[4] = {1, 2, 3, 4}, o[4];
    int64_t off[2] = {0, 2};
    pac_attn p = {.B = 1, .H = 1, .K = 2, .toff = off, .soff = off, .scale = 1};
    pac_backend_release();
    pac_mem_fail_at(1);
    be->attn_fwd(o, 2, NULL, q, 2, q, 2, q, 2, &p);
    pac_mem_fail_at(0);
    expect(isnan(o[0]) && isnan(o[3]), "%s: no memory gives NaN", be->name);
    be->attn_fwd(o, 2, NULL, q, 2, q, 2, q, 2, &p);
    expect(isfinite(o[0]) && isfinite(o[3]), "%s: works again with memory", be->name);
}

/* Every 16-bit number comes back from f32 as it was (a NaN as some NaN), at an odd address too. */
static void check_round_trip(pac_dtype type)
{
    enum { ALL = 65536 };
    static float wide[ALL];
    static unsigned char in[2 * ALL + 1], out[2 * ALL + 1];
    for (int i = 0; i < ALL; i++) {
        uint16_t h = (uint16_t)i;
        memcpy(in + 1 + 2 * i, &h, sizeof h);
    }
    expect(pac_to_f32(wide, in + 1, type, ALL) == PAC_OK && pac_from_f32(out + 1, wide, type, ALL) == PAC_OK, "conversion");
    for (int i = 0; i < ALL; i++)
        expect(isnan(wide[i]) ? (out[2 + 2 * i] & 0x7c) == 0x7c : memcmp(in + 1 + 2 * i, out + 1 + 2 * i, 2) == 0,
               "%s %04x does not come back", pac_dtype_name(type), i);
}

static void check_rounding(void)
{
    static const struct {
        float f;
        uint16_t bf16, f16;
    } known[] = {
        {1.0f, 0x3f80, 0x3c00},          {-2.0f, 0xc000, 0xc000},      {0x1.01p0f, 0x3f80, 0x3c04}, {0x1.03p0f, 0x3f82, 0x3c0c},
        {0x1.002p0f, 0x3f80, 0x3c00},    {0x1.006p0f, 0x3f80, 0x3c02}, {0x1p-24f, 0x3380, 0x0001},  {0x1p-25f, 0x3300, 0x0000},
        {0x1.8p-24f, 0x33c0, 0x0002},    {65504.0f, 0x4780, 0x7bff},   {65520.0f, 0x4780, 0x7c00},  {65519.0f, 0x4780, 0x7bff},
        {3.4028235e38f, 0x7f80, 0x7c00}, {-INFINITY, 0xff80, 0xfc00},  {-0.0f, 0x8000, 0x8000},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint16_t b = 0, h = 0;
        pac_from_f32(&b, &known[i].f, PAC_BF16, 1);
        pac_from_f32(&h, &known[i].f, PAC_F16, 1);
        expect(b == known[i].bf16 && h == known[i].f16, "%a rounds to %04x and %04x", known[i].f, b, h);
    }
}

static void check_dtypes(void)
{
    float x = 1;
    check_round_trip(PAC_BF16);
    check_round_trip(PAC_F16);
    check_rounding();
    expect(pac_to_f32(&x, &x, PAC_I8, 1) == PAC_EINVAL && pac_from_f32(&x, &x, PAC_I64, 1) == PAC_EINVAL,
           "integers are refused");
    expect(pac_to_f32(NULL, NULL, PAC_F32, 0) == PAC_OK, "nothing to convert");
    expect(strcmp(pac_dtype_name(PAC_BF16), "bf16") == 0 && pac_dtype_size(PAC_I64) == 8, "names and sizes");
    pac_tensor t = {.dtype = PAC_F32, .ndim = 3, .shape = {2, 3, 4}};
    expect(pac_tensor_elements(&t) == 24, "elements of a tensor");
}

void check_values(void)
{
    check_registry();
    check_dtypes();
    check_buckets();
    for (const pac_backend *const *all = pac_backend_all(); *all != NULL; all++) {
        check_by_hand(*all);
        check_precision(*all);
        check_attention_by_hand(*all);
        check_huge_logits(*all);
        check_single_key(*all);
        check_decoding(*all);
        check_accuracy(*all);
        check_no_memory(*all);
        check_pool_values(*all);
    }
    check_counts();
}
