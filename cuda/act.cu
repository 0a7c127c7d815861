/* Activations and gated feed-forwards: maps, one kernel for each activation. Formulas as in src/tensor/ref_rows.c. */
#include "kernel.cuh"

namespace
{

template <pac_act A> struct Act {
    static __device__ float f(float x);
    static __device__ float d(float x); /* derivative */
};

static __device__ __forceinline__ float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

template <> struct Act<PAC_ACT_RELU> {
    static __device__ float f(float x)
    {
        return x > 0 ? x : 0;
    }
    static __device__ float d(float x)
    {
        return x > 0 ? 1.0f : 0.0f;
    }
};

template <> struct Act<PAC_ACT_GELU> {
    static __device__ float f(float x)
    {
        return 0.5f * x * erfcf(-x * 0.70710678f);
    }
    static __device__ float d(float x)
    {
        return 0.5f * erfcf(-x * 0.70710678f) + x * 0.39894228f * expf(-0.5f * x * x);
    }
};

/* (1 + tanh(u)) / 2 = sigmoid(2u), without cancellation for negative u. */
template <> struct Act<PAC_ACT_GELU_NEW> {
    static __device__ float gate(float x)
    {
        return sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    }
    static __device__ float f(float x)
    {
        return x * gate(x);
    }
    static __device__ float d(float x)
    {
        float s = gate(x);
        return s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
    }
};

template <> struct Act<PAC_ACT_SILU> {
    static __device__ float f(float x)
    {
        return x * sigmoid(x);
    }
    static __device__ float d(float x)
    {
        float s = sigmoid(x);
        return s + x * s * (1.0f - s);
    }
};

template <> struct Act<PAC_ACT_TANH> {
    static __device__ float f(float x)
    {
        return tanhf(x);
    }
    static __device__ float d(float x)
    {
        float t = tanhf(x);
        return 1.0f - t * t;
    }
};

template <pac_act A> struct ActFwd {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = Act<A>::f(v[0]);
    }
};

template <pac_act A> struct ActBwd {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = v[0] * Act<A>::d(v[1]);
    }
};

template <pac_act A> struct GluFwd {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = Act<A>::f(v[0]) * v[1];
    }
};

/* v: dy, a, b */
template <pac_act A> struct GluBwd {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = v[0] * v[2] * Act<A>::d(v[1]);
        w[1] = v[0] * Act<A>::f(v[1]);
    }
};

template <template <pac_act> class F, int I, int O> void map_act(const Pointers<I, O> &p, int64_t n, pac_act act)
{
    switch (act) {
    case PAC_ACT_RELU:
        return map<I, O>(p, n, F<PAC_ACT_RELU>());
    case PAC_ACT_GELU:
        return map<I, O>(p, n, F<PAC_ACT_GELU>());
    case PAC_ACT_GELU_NEW:
        return map<I, O>(p, n, F<PAC_ACT_GELU_NEW>());
    case PAC_ACT_SILU:
        return map<I, O>(p, n, F<PAC_ACT_SILU>());
    default:
        return map<I, O>(p, n, F<PAC_ACT_TANH>());
    }
}

} // namespace

void pac_cuda_act_fwd(float *y, const float *x, int64_t n, pac_act act)
{
    map_act<ActFwd, 1, 1>({{x}, {y}}, n, act);
}

void pac_cuda_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act act)
{
    map_act<ActBwd, 2, 1>({{dy, x}, {dx}}, n, act);
}

void pac_cuda_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act act)
{
    map_act<GluFwd, 2, 1>({{a, b}, {y}}, n, act);
}

void pac_cuda_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act)
{
    map_act<GluBwd, 3, 2>({{dy, a, b}, {da, db}}, n, act);
}
