/* Bias, sums, copies, gates: maps over elements, and sums over the rows of a batch. */
#include "kernel.cuh"

namespace
{

struct AddBias {
    const float *b;
    Column column;
    __device__ void operator()(const float *v, float *w, int64_t i) const
    {
        w[0] = v[0] + b[column.at(i)];
    }
};

struct RowOf {
    const float *dy;
    int64_t D;
    __device__ void operator()(float *w, int64_t n, int64_t d) const
    {
        w[0] = dy[n * D + d];
    }
    __device__ float last(float sum, int64_t) const
    {
        return sum;
    }
};

struct Add {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = v[0] + v[1];
    }
};

struct Axpy {
    float alpha;
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = fmaf(alpha, v[1], v[0]);
    }
};

struct Scale {
    float a;
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = a * v[0];
    }
};

struct Copy {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = v[0];
    }
};

struct AddSquare {
    __device__ void operator()(const float *v, float *w, int64_t) const
    {
        w[0] = fmaf(v[1], v[1], v[0]);
    }
};

/* g = sigmoid(alpha / temperature): y = g a + (1 - g) b */
struct Gate {
    const float *alpha;
    Column column;
    int one; /* a single gate */
    float temperature;
    __device__ float of(int64_t d) const
    {
        return 1.0f / (1.0f + expf(-alpha[d] / temperature));
    }
    __device__ float at(int64_t i) const
    {
        return of(one ? 0 : column.at(i));
    }
};

struct GateFwd {
    Gate gate;
    __device__ void operator()(const float *v, float *w, int64_t i) const
    {
        float g = gate.at(i);
        w[0] = g * v[0] + (1.0f - g) * v[1];
    }
};

/* da = g dy, db = (1 - g) dy */
struct GateBwd {
    Gate gate;
    __device__ void operator()(const float *v, float *w, int64_t i) const
    {
        float g = gate.at(i);
        w[0] = g * v[0];
        w[1] = (1.0f - g) * v[0];
    }
};

/* dalpha = sum dy (a - b) * g (1 - g) / temperature; with one gate the rows are first summed along. */
struct GateAlpha {
    Gate gate;
    const float *dy, *a, *b;
    int64_t D;
    __device__ void operator()(float *w, int64_t n, int64_t d) const
    {
        int64_t i = n * D + d;
        w[0] = dy[i] * (a[i] - b[i]);
    }
    __device__ float last(float sum, int64_t d) const
    {
        float g = gate.of(d);
        return sum * g * (1.0f - g) / gate.temperature;
    }
};

struct GateAlphaRow {
    GateAlpha each;
    const float *row_sum; /* [N] */
    __device__ void operator()(float *w, int64_t n, int64_t) const
    {
        w[0] = row_sum[n];
    }
    __device__ float last(float sum, int64_t d) const
    {
        return each.last(sum, d);
    }
};

__global__ void gate_rows_kernel(float *row_sum, GateAlpha f, int64_t N)
{
    const int64_t n = (int64_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (n >= N)
        return;
    float sum = 0, w[1];
    for (int64_t d = threadIdx.x % WARP; d < f.D; d += WARP) {
        f(w, n, d);
        sum += w[0];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        row_sum[n] = sum;
}

__global__ void nothing_kernel()
{
}

} // namespace

bool pac_cuda_runs_here(void)
{
    cudaFuncAttributes facts;
    const bool here = cudaFuncGetAttributes(&facts, nothing_kernel) == cudaSuccess;
    cudaGetLastError();
    return here;
}

void pac_cuda_bias_fwd(float *y, const float *b, int64_t N, int64_t D)
{
    map<1, 1>({{y}, {y}}, N * D, AddBias{b, Column::of(N * D, D)});
}

void pac_cuda_bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    sum_columns<1>({{nullptr}, {db}}, N, D, RowOf{dy, D});
}

void pac_cuda_add(float *y, const float *a, const float *b, int64_t n)
{
    map<2, 1>({{a, b}, {y}}, n, Add{});
}

void pac_cuda_axpy(float *y, const float *x, int64_t n, float alpha)
{
    map<2, 1>({{y, x}, {y}}, n, Axpy{alpha});
}

void pac_cuda_zero(float *x, int64_t n)
{
    if (n > 0)
        pac_gpu_ok(cudaMemsetAsync(x, 0, (size_t)n * sizeof *x, pac_gpu.compute), "zero");
}

void pac_cuda_scale(float *x, int64_t n, float a)
{
    map<1, 1>({{x}, {x}}, n, Scale{a});
}

void pac_cuda_copy(float *y, const float *x, int64_t n)
{
    map<1, 1>({{x}, {y}}, n, Copy{});
}

void pac_cuda_add_squares(float *y, const float *x, int64_t n)
{
    map<2, 1>({{y, x}, {y}}, n, AddSquare{});
}

static Gate gate_of(const float *alpha, int64_t N, int64_t D, int64_t A, float temperature)
{
    return {alpha, Column::of(N * D, D), A == 1, temperature};
}

void pac_cuda_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                       float temperature)
{
    map<2, 1>({{a, b}, {y}}, N * D, GateFwd{gate_of(alpha, N, D, A, temperature)});
}

/* dalpha first: da may be dy. */
void pac_cuda_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b, const float *alpha,
                       int64_t N, int64_t D, int64_t A, float temperature)
{
    Gate gate = gate_of(alpha, N, D, A, temperature);
    GateAlpha each = {gate, dy, a, b, D};
    if (N == 0)
        return;
    if (A == 1) {
        float *row_sum = (float *)pac_gpu_scratch(PAC_SCRATCH_OP, (size_t)N * sizeof(float));
        if (row_sum == nullptr)
            return;
        PAC_LAUNCH(gate_rows_kernel, blocks_for(N, 8, INT32_MAX), 8 * WARP, 0, pac_gpu.compute, row_sum, each, N);
        sum_columns<1>({{nullptr}, {dalpha}}, N, 1, GateAlphaRow{each, row_sum});
    } else {
        sum_columns<1>({{nullptr}, {dalpha}}, N, D, each);
    }
    map<1, 2>({{dy}, {da, db}}, N * D, GateBwd{gate});
}
