/*
 * Values known without the reference: numbers worked out by hand, exactness that others rely on, accuracy of the elementary
 * functions, and behaviour at the edge (huge logits, no memory).
 */
#include "ops_fixture.h"

#include "pac/mem.h"

#include <math.h>
#include <string.h>

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}

static void check_registry(void)
{
    const pac_backend *be, *cpu;
    expect(pac_backend_find("auto", &cpu) == PAC_OK && pac_backend_find("cpu", &be) == PAC_OK && be == cpu, "auto is cpu");
    expect(pac_backend_find("ref", &be) == PAC_OK && be == ref, "ref is found");
    expect(pac_backend_find("cpu-base", &be) == PAC_OK && strcmp(be->name, "cpu-base") == 0, "a variant is found by name");
    expect(pac_backend_find("cuda", &be) == PAC_ENOTBUILT, "cuda is not built");
    expect(pac_backend_find("gpu", &be) == PAC_ECONFIG && strstr(pac_err_message(), "gpu") != NULL, "gpu is unknown");
}

/* Hugging Face's T5Attention._relative_position_bucket at the borders between buckets (32 buckets, maximum distance 128). */
static void check_buckets(void)
{
    static const struct {
        int64_t r;
        int both, causal;
    } known[] = {
        {0, 0, 0},      {1, 17, 0},     {-1, 1, 1},     {7, 23, 0},    {-7, 7, 7},    {8, 24, 0},
        {-8, 8, 8},     {-11, 8, 11},   {-12, 9, 12},   {-15, 9, 15},  {-16, 10, 16}, {-22, 10, 18},
        {-23, 11, 18},  {-31, 11, 21},  {-32, 12, 21},  {-64, 14, 26}, {-91, 15, 29}, {-90, 14, 29},
        {-127, 15, 31}, {-128, 15, 31}, {-500, 15, 31}, {12, 25, 0},   {16, 26, 0},   {91, 31, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int64_t both = pac_rel_bucket(known[i].r, true, 32, 128), causal = pac_rel_bucket(known[i].r, false, 32, 128);
        expect(both == known[i].both, "bucket of %lld is %lld, not %d", (long long)known[i].r, (long long)both, known[i].both);
        expect(causal == known[i].causal, "causal bucket of %lld is %lld, not %d", (long long)known[i].r, (long long)causal,
               known[i].causal);
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
    be->attn_bwd(dq, dk, dv, dbias, d_o, W, q, W, k, W, v, W, lse, &p);
    for (int i = 0; i < T * W; i++) {
        expect(o[i] == v[i] && dv[i] == d_o[i], "%s: one key gives its value", be->name);
        expect(dq[i] == 0 && dk[i] == 0, "%s: one key has no score gradient", be->name);
    }
    for (int i = 0; i < 4 * H; i++)
        expect(dbias[i] == 0, "%s: one key has no bias gradient", be->name);
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

void check_values(void)
{
    check_registry();
    check_buckets();
    for (const pac_backend *const *all = pac_backend_all(); *all != NULL; all++) {
        check_by_hand(*all);
        check_huge_logits(*all);
        check_single_key(*all);
        check_accuracy(*all);
        check_no_memory(*all);
    }
}
