/*
 * The ops without attention: arrays, call, loss. Array 0 is the first argument of the op, and so on, so a call reads like
 * ops.h.
 */
#include "ops_fixture.h"

#include <math.h>
#include <string.h>

/* A large eps: what forgets it fails, and a row of one element does not cancel to nothing. */
static const float eps = 0.1f, temperature = 0.7f;

/* ---- matrix product: N x D x V with V varied by variant; bits of the variant: ta, tb, then beta 0, 1, 0.5 ---- */

static float beta_of(int variant)
{
    static const float betas[3] = {0, 1, 0.5f};
    return betas[variant / 4 % 3];
}

static void gemm_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    static const int64_t depth[] = {17, 1, 64, 0, 130};
    bool ta = variant & 1, tb = variant & 2;
    static const int64_t bench_depth[] = {96, 768, 3072, 2048};
    int64_t m = n, k = variant < GEMM_SIDE ? (n == 65 && d == 65 ? 1601 : depth[(n + d) % 5]) : bench_depth[variant / 12 - 1];
    if (n == 17 && d == 65)
        d = 48; /* whole vectors */
    if (n == 33 && d == 127 && variant < GEMM_SIDE)
        d = 700, k = 801; /* several blocks of columns, and of depth */
    f->N = m, f->D = d, f->V = k;
    f->flops = 2.0 * (double)m * (double)d * (double)k;
    add_strided(f, beta_of(variant) == 0 ? OUT : CHANGED, "c", m, d, d + 3);
    add_strided(f, IN, "a", ta ? k : m, ta ? m : k, (ta ? m : k) + 1);
    add_strided(f, IN, "b", tb ? d : k, tb ? k : d, (tb ? k : d) + 2);
}

static void gemm_call(const pac_backend *be, const fixture *f)
{
    bool ta = f->variant & 1, tb = f->variant & 2;
    be->gemm(X(0), f->a[0].ld, X(1), f->a[1].ld, ta, X(2), f->a[2].ld, tb, f->N, f->D, f->V, 0.75f, beta_of(f->variant));
}

/* ---- several products: heads side by side in a and c; b a weight's rows, head under head, or side by side too ---- */

static void gemm_each_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    enum { HEADS = 3 };
    const int64_t K = variant & 1 ? 8 : 7, m = variant & 4 ? K : n, rows = variant & 4 ? n : K;
    f->N = m, f->D = d, f->V = rows;
    f->flops = 2.0 * HEADS * (double)m * (double)d * (double)rows;
    if (variant & 4) { /* dW_h += narrow_h^T wide_h */
        add(f, ADDED, "c", HEADS * K, d);
        add_strided(f, IN, "a", n, HEADS * K, HEADS * K + 1);
        add_strided(f, IN, "b", n, HEADS * d, HEADS * d + 3);
    } else { /* wide_h = narrow_h W_h, or with W_h transposed */
        add_strided(f, variant & 2 ? OUT : CHANGED, "c", n, HEADS * d, HEADS * d + 3);
        add_strided(f, IN, "a", n, HEADS * K, HEADS * K + 1);
        add(f, IN, "b", variant & 2 ? HEADS * d : HEADS * K, variant & 2 ? K : d);
    }
}

static void gemm_each_call(const pac_backend *be, const fixture *f)
{
    const int64_t K = f->variant & 1 ? 8 : 7, d = f->D, H = 3;
    const bool learns = f->variant & 4, turned = !learns && (f->variant & 2);
    pac_gemm_each(be, H, X(0), f->a[0].ld, learns ? K * d : d, X(1), f->a[1].ld, K, learns, X(2), f->a[2].ld,
                  learns ? d : K * d, turned, f->N, d, f->V, 0.75f, turned ? 0.0f : 1.0f);
}

/* ---- bias ---- */

static void bias_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, CHANGED, "y", n, d);
    add(f, IN, "b", 1, d);
}

static void bias_fwd_call(const pac_backend *be, const fixture *f)
{
    be->bias_fwd(X(0), X(1), f->N, f->D);
}

static void bias_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, ADDED, "db", 1, d);
    add(f, IN, "dy", n, d);
}

static void bias_bwd_call(const pac_backend *be, const fixture *f)
{
    be->bias_bwd(X(0), X(1), f->N, f->D);
}

/* ---- norms ---- */

static void rmsnorm_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "y", n, d);
    add(f, OUT, "rrms", 1, n);
    add(f, IN, "x", n, d);
    add(f, IN, "w", 1, d);
    f->a[1].null = variant == 1;
    if (variant == 2)
        alias(f, 0, 2);
}

static void rmsnorm_fwd_call(const pac_backend *be, const fixture *f)
{
    be->rmsnorm_fwd(X(0), X(1), X(2), X(3), f->N, f->D, eps);
}

static void rmsnorm_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "dx", n, d);
    add(f, ADDED, "dw", 1, d);
    add(f, IN, "dy", n, d);
    add(f, IN, "x", n, d);
    add(f, IN, "w", 1, d);
    add(f, IN, "rrms", 1, n);
    ref->rmsnorm_fwd(temporary(n * d), INIT(5), INIT(3), INIT(4), n, d, eps);
    f->a[1].null = variant == 1;
    if (variant == 2)
        alias(f, 0, 2);
}

static void rmsnorm_bwd_call(const pac_backend *be, const fixture *f)
{
    be->rmsnorm_bwd(X(0), X(1), X(2), X(3), X(4), X(5), f->N, f->D);
}

static double rmsnorm_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->rmsnorm_fwd(y, NULL, INIT(3), INIT(4), f->N, f->D, eps);
    return dot(y, INIT(2), f->N * f->D);
}

static void layernorm_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "y", n, d);
    add(f, OUT, "mean", 1, n);
    add(f, OUT, "rstd", 1, n);
    add(f, IN, "x", n, d);
    add(f, IN, "w", 1, d);
    add(f, IN, "b", 1, d);
    f->a[1].null = f->a[2].null = variant == 1;
    if (variant == 2)
        alias(f, 0, 3);
}

static void layernorm_fwd_call(const pac_backend *be, const fixture *f)
{
    be->layernorm_fwd(X(0), X(1), X(2), X(3), X(4), X(5), f->N, f->D, eps);
}

static void layernorm_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "dx", n, d);
    add(f, ADDED, "dw", 1, d);
    add(f, ADDED, "db", 1, d);
    add(f, IN, "dy", n, d);
    add(f, IN, "x", n, d);
    add(f, IN, "w", 1, d);
    add(f, IN, "mean", 1, n);
    add(f, IN, "rstd", 1, n);
    add(f, IN, "b", 1, d);
    ref->layernorm_fwd(temporary(n * d), INIT(6), INIT(7), INIT(4), INIT(5), INIT(8), n, d, eps);
    f->a[1].null = f->a[2].null = variant == 1;
    if (variant == 2)
        alias(f, 0, 3);
}

static void layernorm_bwd_call(const pac_backend *be, const fixture *f)
{
    be->layernorm_bwd(X(0), X(1), X(2), X(3), X(4), X(5), X(6), X(7), f->N, f->D);
}

static double layernorm_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->layernorm_fwd(y, NULL, NULL, INIT(4), INIT(5), INIT(8), f->N, f->D, eps);
    return dot(y, INIT(3), f->N * f->D);
}

/* ---- activations: the variant is the activation, then the same with aliases ---- */

static void act_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->act = (pac_act)(variant % PAC_NACTS);
    add(f, OUT, "y", n, d);
    add(f, IN, "x", n, d);
    if (variant >= PAC_NACTS)
        alias(f, 0, 1);
}

static void act_fwd_call(const pac_backend *be, const fixture *f)
{
    be->act_fwd(X(0), X(1), f->N * f->D, f->act);
}

static void act_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->act = (pac_act)(variant % PAC_NACTS);
    add(f, OUT, "dx", n, d);
    add(f, IN, "dy", n, d);
    add(f, IN, "x", n, d);
    if (variant >= PAC_NACTS)
        alias(f, 0, 1);
}

static void act_bwd_call(const pac_backend *be, const fixture *f)
{
    be->act_bwd(X(0), X(1), X(2), f->N * f->D, f->act);
}

static double act_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->act_fwd(y, INIT(2), f->N * f->D, f->act);
    return dot(y, INIT(1), f->N * f->D);
}

static void glu_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->act = (pac_act)(variant % PAC_NACTS);
    add(f, OUT, "y", n, d);
    add(f, IN, "a", n, d);
    add(f, IN, "b", n, d);
    if (variant >= PAC_NACTS)
        alias(f, 0, 1 + variant % 2);
}

static void glu_fwd_call(const pac_backend *be, const fixture *f)
{
    be->glu_fwd(X(0), X(1), X(2), f->N * f->D, f->act);
}

static void glu_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->act = (pac_act)(variant % PAC_NACTS);
    add(f, OUT, "da", n, d);
    add(f, OUT, "db", n, d);
    add(f, IN, "dy", n, d);
    add(f, IN, "a", n, d);
    add(f, IN, "b", n, d);
    if (variant >= PAC_NACTS)
        alias(f, variant % 2, 2);
}

static void glu_bwd_call(const pac_backend *be, const fixture *f)
{
    be->glu_bwd(X(0), X(1), X(2), X(3), X(4), f->N * f->D, f->act);
}

static double glu_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->glu_fwd(y, INIT(3), INIT(4), f->N * f->D, f->act);
    return dot(y, INIT(2), f->N * f->D);
}

/* ---- embedding ---- */

enum { WORDS = 29 };

static void embed_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, OUT, "y", n, d);
    add(f, IN, "table", WORDS, d);
    add_ids(f, "ids", n, 0, WORDS);
}

static void embed_fwd_call(const pac_backend *be, const fixture *f)
{
    be->embed_fwd(X(0), X(1), (const int32_t *)X(2), f->N, f->D);
}

static void embed_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, ADDED, "dtable", WORDS, d);
    add(f, IN, "dy", n, d);
    add_ids(f, "ids", n, 0, WORDS);
    add(f, IN, "table", WORDS, d);
}

static void embed_bwd_call(const pac_backend *be, const fixture *f)
{
    be->embed_bwd(X(0), X(1), (const int32_t *)X(2), f->N, f->D);
}

static double embed_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->embed_fwd(y, INIT(3), (const int32_t *)INIT(2), f->N, f->D);
    return dot(y, INIT(1), f->N * f->D);
}

/* ---- sums ---- */

static void add_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "y", n, d);
    add(f, IN, "a", n, d);
    add(f, IN, "b", n, d);
    if (variant > 0)
        alias(f, 0, variant);
}

static void add_call(const pac_backend *be, const fixture *f)
{
    be->add(X(0), X(1), X(2), f->N * f->D);
}

static void axpy_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, CHANGED, "y", n, d);
    add(f, IN, "x", n, d);
}

static void axpy_call(const pac_backend *be, const fixture *f)
{
    be->axpy(X(0), X(1), f->N * f->D, -0.3f);
}

static void sumsq_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    f->a[add(f, OUT, "sum", 1, 1)].host = true;
    add(f, IN, "x", n, d);
}

static void sumsq_call(const pac_backend *be, const fixture *f)
{
    X(0)[0] = (float)be->sumsq(X(1), f->N * f->D);
}

/* ---- gate: variants with one gate for all channels, one each, and aliases or missing outputs ---- */

static void gate_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->V = variant % 2 ? d : 1;
    add(f, OUT, "y", n, d);
    add(f, IN, "a", n, d);
    add(f, IN, "b", n, d);
    add(f, IN, "alpha", 1, f->V);
    if (variant >= 2)
        alias(f, 0, variant / 2);
}

static void gate_fwd_call(const pac_backend *be, const fixture *f)
{
    be->gate_fwd(X(0), X(1), X(2), X(3), f->N, f->D, f->V, temperature);
}

static void gate_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->V = variant % 2 ? d : 1;
    add(f, OUT, "da", n, d);
    add(f, OUT, "db", n, d);
    add(f, ADDED, "dalpha", 1, f->V);
    add(f, IN, "dy", n, d);
    add(f, IN, "a", n, d);
    add(f, IN, "b", n, d);
    add(f, IN, "alpha", 1, f->V);
    f->a[0].null = variant / 2 == 1;
    f->a[1].null = variant / 2 == 2;
    if (variant / 2 == 3)
        alias(f, 0, 3);
}

static void gate_bwd_call(const pac_backend *be, const fixture *f)
{
    be->gate_bwd(X(0), X(1), X(2), X(3), X(4), X(5), X(6), f->N, f->D, f->V, temperature);
}

static double gate_loss(const fixture *f)
{
    float *y = temporary(f->N * f->D);
    ref->gate_fwd(y, INIT(4), INIT(5), INIT(6), f->N, f->D, f->V, temperature);
    return dot(y, INIT(3), f->N * f->D);
}

/* ---- loss and optimizers ---- */

static void xent_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, OUT, "loss", 1, n);
    add(f, variant == 0 ? IN : CHANGED, "logits", n, d);
    add_ids(f, "labels", n, variant < 2 ? 0 : -1, (int32_t)d);
    f->f = 0.5f;
}

static void xent_call(const pac_backend *be, const fixture *f)
{
    be->xent(X(0), X(1), (const int32_t *)X(2), f->N, f->D, f->f, f->variant > 0);
}

static double xent_loss(const fixture *f)
{
    float *each = temporary(f->N);
    double sum = 0;
    ref->xent(each, INIT(1), (const int32_t *)INIT(2), f->N, f->D, 0, false);
    for (int64_t i = 0; i < f->N; i++)
        sum += each[i];
    return f->variant > 0 ? sum * f->f : 0;
}

/* ---- the head: its logits are made where they are not avoided, and wiped out, so that both ways leave the same ---- */

static void head_xent_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    const int64_t D = f->bench ? 768 : d;
    f->V = f->bench ? d : 3 * d + 70;
    f->D = D;
    add(f, OUT, "loss", 1, n);
    add(f, OUT, "dh", n, D);
    add(f, CHANGED, "logits", n, f->V);
    add(f, IN, "h", n, D);
    add(f, IN, "w", f->V, D);
    add_ids(f, "labels", n, variant < 1 ? 0 : -1, (int32_t)f->V);
    f->f = (variant < 2 ? 1.0f : -5.0f) / sqrtf((float)D);
}

static void head_xent_call(const pac_backend *be, const fixture *f)
{
    const int64_t N = f->N, D = f->D, V = f->V;
    const int32_t *labels = (const int32_t *)X(5);
    if (be->head_xent == NULL || !be->head_xent(X(0), X(1), X(3), X(4), labels, N, D, V, f->f, 0.3f)) {
        be->gemm(X(2), V, X(3), D, false, X(4), D, true, N, V, D, f->f, 0);
        be->xent(X(0), X(2), labels, N, V, 0.3f, true);
        be->gemm(X(1), D, X(2), V, false, X(4), D, false, N, D, V, f->f, 0);
    }
    if (!f->bench)
        be->zero(X(2), N * V);
}

static void argmax_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    add(f, IDS_OUT, "best", 1, n);
    add(f, IN, "x", n, d);
    for (int64_t i = 0; i < n * d && variant == 1; i++) /* many ties */
        INIT(1)[i] = rintf(INIT(1)[i]);
}

static void argmax_call(const pac_backend *be, const fixture *f)
{
    be->argmax((int32_t *)X(0), X(1), f->N, f->D);
}

static void sgd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    f->f = variant ? 0.1f : 0;
    add(f, CHANGED, "w", n, d);
    add(f, IN, "g", n, d);
}

static void sgd_call(const pac_backend *be, const fixture *f)
{
    be->sgd(X(0), X(1), f->N * f->D, 0.01f, f->f);
}

static void adamw_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    (void)variant;
    add(f, CHANGED, "w", n, d);
    add(f, CHANGED, "m", n, d);
    add(f, CHANGED, "v", n, d);
    add(f, IN, "g", n, d);
    for (int64_t i = 0; i < n * d; i++)
        INIT(2)[i] *= INIT(2)[i];
}

static void adamw_call(const pac_backend *be, const fixture *f)
{
    static const int64_t steps[] = {1, 2, 1000};
    pac_adamw p = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.01f, .step = steps[f->variant]};
    be->adamw(X(0), X(1), X(2), X(3), f->N * f->D, &p);
}

#define CASE(op) .name = #op, .setup = op##_setup, .call = op##_call

const op_case row_cases[] = {
    {CASE(gemm), .variants = 12, .tolerance = SUM},
    {CASE(gemm_each), .variants = 6, .tolerance = SUM},
    {CASE(bias_fwd), .variants = 1, .tolerance = EXACT},
    {CASE(bias_bwd), .variants = 1, .tolerance = SUM},
    {CASE(rmsnorm_fwd), .variants = 3, .tolerance = ROUND},
    {CASE(rmsnorm_bwd), .variants = 3, .tolerance = SUM, .loss = rmsnorm_loss, .grads = {{0, 3}, {1, 4}}, .ngrads = 2},
    {CASE(layernorm_fwd), .variants = 3, .tolerance = SUM},
    {CASE(layernorm_bwd), .variants = 3, .tolerance = SUM, .loss = layernorm_loss, .grads = {{0, 4}, {1, 5}, {2, 8}},
     .ngrads = 3},
    {CASE(act_fwd), .variants = 2 * PAC_NACTS, .tolerance = ROUND},
    {CASE(act_bwd), .variants = 2 * PAC_NACTS, .tolerance = ROUND, .loss = act_loss, .grads = {{0, 2}}, .ngrads = 1},
    {CASE(glu_fwd), .variants = 2 * PAC_NACTS, .tolerance = ROUND},
    {CASE(glu_bwd), .variants = 2 * PAC_NACTS, .tolerance = ROUND, .loss = glu_loss, .grads = {{0, 3}, {1, 4}}, .ngrads = 2},
    {CASE(embed_fwd), .variants = 1, .tolerance = EXACT},
    {CASE(embed_bwd), .variants = 1, .tolerance = ROUND, .loss = embed_loss, .grads = {{0, 3}}, .ngrads = 1},
    {CASE(add), .variants = 3, .tolerance = EXACT},
    {CASE(axpy), .variants = 1, .tolerance = ROUND},
    {CASE(sumsq), .variants = 1, .tolerance = ROUND},
    {CASE(gate_fwd), .variants = 6, .tolerance = ROUND},
    {CASE(gate_bwd), .variants = 8, .tolerance = SUM, .loss = gate_loss, .grads = {{0, 4}, {1, 5}, {2, 6}}, .ngrads = 3},
    {CASE(xent), .variants = 3, .tolerance = SUM, .loss = xent_loss, .grads = {{1, 1}}, .ngrads = 1},
    {CASE(head_xent), .variants = 3, .tolerance = EXP},
    {CASE(argmax), .variants = 2, .tolerance = EXACT},
    {CASE(sgd), .variants = 2, .tolerance = ROUND},
    {CASE(adamw), .variants = 3, .tolerance = ROUND},
    {0},
};
