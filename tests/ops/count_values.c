/*
 * The backend "count": products and attention by hand, no memory touched, and the forward pass of T5-Base from the shapes of
 * its products, against the figure that the paper prints.
 */
#include "ops_fixture.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const pac_backend *const be = &pac_backend_count;

/* A product of N rows, [N, in] x [in, out]. No array is given: a read or a write would be a crash. */
static void product(int64_t N, int64_t in, int64_t out)
{
    be->gemm(NULL, out, NULL, in, false, NULL, out, false, N, out, in, 1, 0);
}

static void attend(int64_t B, int64_t T, int64_t S, int64_t H, int64_t K, bool backward)
{
    int64_t toff[MAX_BATCH * 2], soff[MAX_BATCH * 2];
    for (int64_t b = 0; b <= B; b++) {
        toff[b] = b * T;
        soff[b] = b * S;
    }
    pac_attn p = {.B = B, .H = H, .K = K, .toff = toff, .soff = soff, .scale = 1};
    if (backward)
        be->attn_bwd(NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, &p);
    else
        be->attn_fwd(NULL, 0, NULL, NULL, 0, NULL, 0, NULL, 0, &p);
}

static double taken(void)
{
    return pac_backend_counted(true);
}

static void check_rules(void)
{
    pac_backend_counted(true);
    product(3, 5, 7);
    expect(pac_backend_counted(false) == 210 && taken() == 210 && taken() == 0, "2mnk of a product, reset on request");
    int64_t toff[3] = {0, 2, 5}, soff[3] = {0, 7, 8}; /* 2 x 7 + 3 x 1 pairs */
    pac_attn p = {.B = 2, .H = 3, .K = 5, .toff = toff, .soff = soff, .scale = 1, .causal = true};
    be->attn_fwd(NULL, 0, NULL, NULL, 0, NULL, 0, NULL, 0, &p);
    expect(taken() == 4 * 17 * 15, "attention counts every pair, causal or not");
    be->attn_bwd(NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, &p);
    expect(taken() == 8 * 17 * 15, "its backward pass counts twice that");
    const pac_backend *found;
    expect(pac_backend_find("count", &found) == PAC_ECONFIG, "nobody trains on it");
}

/* Every op is there, takes arrays that do not exist and counts nothing but products and attention. */
static void check_all_present(void)
{
    be->bias_fwd(NULL, NULL, 9, 9), be->bias_bwd(NULL, NULL, 9, 9);
    be->rmsnorm_fwd(NULL, NULL, NULL, NULL, 9, 9, 1), be->rmsnorm_bwd(NULL, NULL, NULL, NULL, NULL, NULL, 9, 9);
    be->layernorm_fwd(NULL, NULL, NULL, NULL, NULL, NULL, 9, 9, 1);
    be->layernorm_bwd(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 9, 9);
    be->act_fwd(NULL, NULL, 9, PAC_ACT_RELU), be->act_bwd(NULL, NULL, NULL, 9, PAC_ACT_RELU);
    be->glu_fwd(NULL, NULL, NULL, 9, PAC_ACT_RELU), be->glu_bwd(NULL, NULL, NULL, NULL, NULL, 9, PAC_ACT_RELU);
    be->embed_fwd(NULL, NULL, NULL, 9, 9), be->embed_bwd(NULL, NULL, NULL, 9, 9);
    be->add(NULL, NULL, NULL, 9), be->axpy(NULL, NULL, 9, 1);
    be->gate_fwd(NULL, NULL, NULL, NULL, 9, 9, 9, 1), be->gate_bwd(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 9, 9, 9, 1);
    be->xent(NULL, NULL, NULL, 9, 9, 1, true), be->argmax(NULL, NULL, 9, 9), be->mse(NULL, NULL, NULL, 9, 1, true);
    be->dropout(NULL, NULL, NULL, 9, 9, 1, 0.1f);
    be->mean_rows_fwd(NULL, NULL, NULL, 9, 9), be->mean_rows_bwd(NULL, NULL, NULL, 9, 9);
    be->pair_fwd(NULL, NULL, NULL, 9, 9), be->pair_bwd(NULL, NULL, NULL, NULL, 9, 9);
    be->zero(NULL, 9), be->scale(NULL, 9, 1), be->copy(NULL, NULL, 9), be->add_squares(NULL, NULL, 9);
    be->sgd(NULL, NULL, 9, 1, 0), be->adamw(NULL, NULL, NULL, NULL, 9, NULL);
    expect(be->sumsq(NULL, 9) == 0 && taken() == 0, "the other ops count nothing");
    void (*entry)(void);
    const char *table = (const char *)be;
    for (size_t at = offsetof(pac_backend, gemm); at < sizeof *be; at += sizeof entry) {
        memcpy(&entry, table + at, sizeof entry);
        expect(entry != NULL, "entry %zu of the table is missing", at / sizeof entry);
    }
}

typedef struct shape {
    int64_t d, ff, layers, heads;
} shape;

/* A T5 without its vocabulary, which the paper's 0.4188 does not hold: N encoder and B decoder rows. */
static double t5_forward(const shape *s, int64_t B, int64_t length)
{
    int64_t N = B * length, head = s->d / s->heads;
    for (int64_t l = 0; l < s->layers; l++) {
        for (int i = 0; i < 4; i++) { /* q, k, v, o of the encoder, of the decoder's self-attention; of cross-attention */
            product(N, s->d, s->d);
            product(B, s->d, s->d);
            product(i < 2 ? B : N, s->d, s->d);
        }
        attend(B, length, length, s->heads, head, false);
        attend(B, 1, 1, s->heads, head, false);
        attend(B, 1, length, s->heads, head, false);
        product(N, s->d, s->ff), product(N, s->ff, s->d);
        product(B, s->d, s->ff), product(B, s->ff, s->d);
    }
    return taken();
}

static void check_t5(void)
{
    static const shape base = {768, 3072, 12, 12}, large = {1024, 4096, 24, 16};
    double b = t5_forward(&base, 16, 128) * 1e-12, l = t5_forward(&large, 16, 128) * 1e-12;
    expect(fabs(b - 0.4188) < 5e-5, "T5-Base forward is %.5f TFLOP, not 0.4188", b);
    expect(fabs(l - 1.4804) < 5e-5, "T5-Large forward is %.5f TFLOP, not 1.4804", l);
    attend(16, 128, 128, 12, 64, false);
    double forward = taken();
    attend(16, 128, 128, 12, 64, true);
    expect(taken() == 2 * forward, "backward is twice forward, as in the paper's Fig. 3");
}

void check_counts(void)
{
    check_rules();
    check_all_present();
    check_t5();
}
