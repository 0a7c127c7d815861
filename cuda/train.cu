/* Optimizers, and the sum of squares in double. */
#include "kernel.cuh"

namespace
{

/* v: w, g */
struct Sgd {
    float lr, decay;
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = v[0] - lr * fmaf(decay, v[0], v[1]);
    }
};

/* v: w, m, v, g. c1, c2: 1 / (1 - beta^step). */
struct AdamW {
    float lr, beta1, beta2, rest1, rest2, eps, decay, c1, c2;
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        float g = v[3], m = beta1 * v[1] + rest1 * g, s = beta2 * v[2] + rest2 * (g * g);
        w[0] = v[0] - lr * decay * v[0] - lr * (m * c1) / (sqrtf(s * c2) + eps);
        w[1] = m;
        w[2] = s;
    }
};

enum { SUM_THREADS = 256, RUN = 16 }; /* sixteen squares in f32, then double, which most devices are slow at */

__global__ void squares_kernel(double *partial, const float *x, int64_t n)
{
    const int64_t stride = (int64_t)gridDim.x * SUM_THREADS;
    double sum = 0;
    for (int64_t first = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x; first < n; first += RUN * stride) {
        float run = 0;
        for (int64_t i = first; i < n && i < first + RUN * stride; i += stride)
            run = fmaf(x[i], x[i], run);
        sum += (double)run;
    }
    sum = block_sum<SUM_THREADS>(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

__global__ void total_kernel(double *total, const double *partial, int n)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += SUM_THREADS)
        sum += partial[i];
    sum = block_sum<SUM_THREADS>(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

} // namespace

void pac_cuda_sgd(float *w, const float *g, int64_t n, float lr, float weight_decay)
{
    map<2, 1>({{w, g}, {w}}, n, Sgd{lr, weight_decay});
}

void pac_cuda_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    double c1 = 1 - pow(p->beta1, (double)p->step), c2 = 1 - pow(p->beta2, (double)p->step);
    AdamW f = {
        p->lr,           p->beta1,        p->beta2,       (float)(1 - (double)p->beta1), (float)(1 - (double)p->beta2), p->eps,
        p->weight_decay, (float)(1 / c1), (float)(1 / c2)};
    map<4, 3>({{w, m, v, g}, {w, m, v}}, n, f);
}

void pac_cuda_sumsq_into(double *sum, double *partial, const float *x, int64_t n)
{
    unsigned blocks = blocks_for(n, 4 * SUM_THREADS, PAC_SUM_BLOCKS);
    PAC_LAUNCH(squares_kernel, blocks, SUM_THREADS, 0, pac_gpu.compute, partial, x, n);
    PAC_LAUNCH(total_kernel, 1, SUM_THREADS, 0, pac_gpu.compute, sum, partial, (int)blocks);
}
