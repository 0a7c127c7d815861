/*
 * cpu kernels, element by element: activation functions and their gated form. Each kernel is a switch over the activation
 * around a loop that is specialised for it, so that the loop is vector code without branches.
 */
#include "cpu.h"

static const float root_2_over_pi = 0.797884561f;
static const float root_1_over_2pi = 0.398942280f;

typedef struct value {
    float y, slope; /* act(x), act'(x) */
} value;

/* (1 + tanh(u)) / 2 = sigmoid(2u), without cancellation for negative u. */
ALWAYS_INLINE float gelu_new_gate(float x)
{
    return sigmoid_(2 * root_2_over_pi * (x + 0.044715f * x * x * x));
}

ALWAYS_INLINE value evaluate(float x, pac_act act)
{
    float s, e;
    switch (act) {
    case PAC_ACT_RELU:
        return (value){x > 0 ? x : 0, x > 0 ? 1.0f : 0.0f};
    case PAC_ACT_GELU:
        e = exp_(-0.5f * x * x);
        s = normal_cdf(x, e);
        return (value){x * s, s + x * root_1_over_2pi * e};
    case PAC_ACT_GELU_NEW:
        s = gelu_new_gate(x);
        return (value){x * s, s + x * s * (1 - s) * (2 * root_2_over_pi) * (1 + 3 * 0.044715f * x * x)};
    case PAC_ACT_SILU:
        s = sigmoid_(x);
        return (value){x * s, s + x * s * (1 - s)};
    default:
        s = tanh_(x);
        return (value){s, 1 - s * s};
    }
}

/* LOOP(kind) with the activation as a constant. */
#define FOR_EACH_ACT(act, LOOP)                                                                                                \
    switch (act) {                                                                                                             \
    case PAC_ACT_RELU:                                                                                                         \
        LOOP(PAC_ACT_RELU) break;                                                                                              \
    case PAC_ACT_GELU:                                                                                                         \
        LOOP(PAC_ACT_GELU) break;                                                                                              \
    case PAC_ACT_GELU_NEW:                                                                                                     \
        LOOP(PAC_ACT_GELU_NEW) break;                                                                                          \
    case PAC_ACT_SILU:                                                                                                         \
        LOOP(PAC_ACT_SILU) break;                                                                                              \
    default:                                                                                                                   \
        LOOP(PAC_ACT_TANH) break;                                                                                              \
    }

void CPU(act_fwd)(float *y, const float *x, int64_t n, pac_act act)
{
#define LOOP(kind) SIMD for (int64_t i = 0; i < n; i++) y[i] = evaluate(x[i], kind).y;
    FOR_EACH_ACT(act, LOOP)
#undef LOOP
}

void CPU(act_bwd)(float *dx, const float *dy, const float *x, int64_t n, pac_act act)
{
#define LOOP(kind) SIMD for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * evaluate(x[i], kind).slope;
    FOR_EACH_ACT(act, LOOP)
#undef LOOP
}

void CPU(glu_fwd)(float *y, const float *a, const float *b, int64_t n, pac_act act)
{
#define LOOP(kind) SIMD for (int64_t i = 0; i < n; i++) y[i] = evaluate(a[i], kind).y * b[i];
    FOR_EACH_ACT(act, LOOP)
#undef LOOP
}

void CPU(glu_bwd)(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act)
{
#define LOOP(kind)                                                                                                             \
    SIMD for (int64_t i = 0; i < n; i++)                                                                                       \
    {                                                                                                                          \
        value f = evaluate(a[i], kind);                                                                                        \
        float g = dy[i];                                                                                                       \
        da[i] = g * b[i] * f.slope;                                                                                            \
        db[i] = g * f.y;                                                                                                       \
    }
    FOR_EACH_ACT(act, LOOP)
#undef LOOP
}
