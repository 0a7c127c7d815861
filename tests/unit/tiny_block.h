/* A small transformer block with random weights, for the block's tests: every kind of block and every technique. */
#ifndef PAC_TEST_TINY_BLOCK_H
#define PAC_TEST_TINY_BLOCK_H

#include "pac/model.h"
#include "pac/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

enum { D = 5, H = 3, K = 2, I = H * K, F = 7, R = 2, WIDTH = 3, BUCKETS = 8, ALL = 4096 };

typedef enum technique { FROZEN, FULL, LORA, ADAPTERS } technique;

/* Parameters p of a block, gradients g, and which of them learn, in one array each. */
typedef struct tiny {
    pac_block_cfg cfg;
    pac_block_weights w;
    pac_lora lora[4];
    float p[ALL], g[ALL];
    bool learns[ALL];
    int64_t n;
    const float *bias_table;
    float *dbias_table;
} tiny;

static inline pac_block_cfg tiny_t5(bool decoder, bool gated)
{
    return (pac_block_cfg){.D = D,
                           .H = H,
                           .K = K,
                           .F = F,
                           .norm = PAC_NORM_RMS,
                           .eps = 1e-6f,
                           .act = gated ? PAC_ACT_GELU_NEW : PAC_ACT_SILU,
                           .gated = gated,
                           .cross = decoder,
                           .causal = decoder,
                           .inner_dropout = true,
                           .scale = 1,
                           .buckets = BUCKETS,
                           .max_distance = 16};
}

static inline pac_block_cfg tiny_bart(bool decoder, bool post_norm)
{
    return (pac_block_cfg){.D = D,
                           .H = H,
                           .K = K,
                           .F = F,
                           .norm = PAC_NORM_LAYER,
                           .post_norm = post_norm,
                           .eps = 1e-5f,
                           .act = PAC_ACT_GELU,
                           .biases = true,
                           .cross = decoder,
                           .causal = decoder,
                           .scale = 0.7f};
}

static inline int64_t tiny_take(tiny *t, int64_t n, float mean, float scale, bool learns)
{
    int64_t at = t->n;
    assert_true(at + n <= ALL);
    for (int64_t i = 0; i < n; i++) {
        t->p[at + i] = mean + scale * pac_rng_normal(1, PAC_STREAM_TEST, (uint64_t)(at + i));
        t->learns[at + i] = learns;
    }
    t->n += n;
    return at;
}

static inline void tiny_linear(tiny *t, pac_linear *w, int64_t in, int64_t out, bool bias, bool learns)
{
    int64_t at = tiny_take(t, in * out, 0, 0.5f, learns);
    w->w = t->p + at;
    w->dw = learns ? t->g + at : NULL;
    if (!bias)
        return;
    at = tiny_take(t, out, 0, 0.3f, learns);
    w->b = t->p + at;
    w->db = learns ? t->g + at : NULL;
}

static inline void tiny_norm(tiny *t, pac_norm *w, bool learns)
{
    int64_t at = tiny_take(t, D, 1, 0.2f, learns);
    w->w = t->p + at;
    w->dw = learns ? t->g + at : NULL;
    if (t->cfg.norm != PAC_NORM_LAYER)
        return;
    at = tiny_take(t, D, 0, 0.2f, learns);
    w->b = t->p + at;
    w->db = learns ? t->g + at : NULL;
}

static inline void tiny_lora(tiny *t, pac_lora *l, pac_linear *w, int64_t in, int64_t out)
{
    int64_t a = tiny_take(t, R * in, 0, 0.5f, true), b = tiny_take(t, out * R, 0, 0.5f, true);
    *l = (pac_lora){.a = t->p + a, .b = t->p + b, .da = t->g + a, .db = t->g + b, .r = R, .scale = 0.5f};
    w->lora = l;
}

static inline void tiny_attn(tiny *t, pac_attn_weights *w, pac_lora *lora, technique how)
{
    bool bias = t->cfg.biases, full = how == FULL;
    tiny_norm(t, &w->norm, full);
    tiny_linear(t, &w->q, D, I, bias, full);
    tiny_linear(t, &w->k, D, I, bias, full);
    tiny_linear(t, &w->v, D, I, bias, full);
    tiny_linear(t, &w->o, I, D, bias, full);
    if (how == LORA) {
        tiny_lora(t, &lora[0], &w->q, D, I);
        tiny_lora(t, &lora[1], &w->v, D, I);
    }
}

static inline void tiny_bottleneck(tiny *t, pac_bottleneck *a)
{
    a->width = WIDTH;
    tiny_linear(t, &a->down, D, WIDTH, true, true);
    tiny_linear(t, &a->up, WIDTH, D, true, true);
}

static inline void tiny_new(tiny *t, pac_block_cfg cfg, technique how)
{
    bool full = how == FULL;
    *t = (tiny){.cfg = cfg};
    tiny_attn(t, &t->w.self, t->lora, how);
    if (cfg.cross)
        tiny_attn(t, &t->w.cross, t->lora + 2, how);
    tiny_norm(t, &t->w.ff_norm, full);
    tiny_linear(t, &t->w.wi, D, F, cfg.biases, full);
    if (cfg.gated)
        tiny_linear(t, &t->w.wg, D, F, cfg.biases, full);
    tiny_linear(t, &t->w.wo, F, D, cfg.biases, full);
    if (how == ADAPTERS) {
        tiny_bottleneck(t, &t->w.self_adapter);
        tiny_bottleneck(t, &t->w.ff_adapter);
    }
    if (cfg.buckets > 0) {
        int64_t at = tiny_take(t, BUCKETS * H, 0, 0.5f, full);
        t->bias_table = t->p + at;
        t->dbias_table = full ? t->g + at : NULL;
    }
}

static inline void tiny_random(float *x, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = pac_rng_normal(seed, PAC_STREAM_TEST, (uint64_t)i);
}

#endif
