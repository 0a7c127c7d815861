/*
 * cpu kernels, row by row: norms and gates. A row is read twice at most and stays in the first-level cache in between; the
 * gradients of weights are summed over rows in place, contiguously.
 */
#include "cpu.h"

void CPU(rmsnorm_fwd)(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    for (int64_t n = 0; n < N; n++, x += D, y += D) {
        float squares = 0;
        SIMD_SUM(squares)
        for (int64_t d = 0; d < D; d++)
            squares += x[d] * x[d];
        float r = 1 / sqrtf(squares / (float)D + eps);
        SIMD for (int64_t d = 0; d < D; d++) y[d] = x[d] * r * w[d];
        if (rrms != NULL)
            rrms[n] = r;
    }
}

/* y = x r w, dr/dx[e] = -r^3 x[e] / D, so dx = r w dy - x r^3/D sum_d (w dy x). dw first: dx may overwrite dy. */
void CPU(rmsnorm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                      int64_t D)
{
    for (int64_t n = 0; n < N; n++, x += D, dy += D, dx += D) {
        float r = rrms[n], dot = 0;
        SIMD_SUM(dot)
        for (int64_t d = 0; d < D; d++)
            dot += w[d] * dy[d] * x[d];
        if (dw != NULL) {
            SIMD for (int64_t d = 0; d < D; d++) dw[d] += dy[d] * (x[d] * r);
        }
        float c = r * r * (dot / (float)D);
        SIMD for (int64_t d = 0; d < D; d++) dx[d] = r * (w[d] * dy[d] - c * x[d]);
    }
}

void CPU(layernorm_fwd)(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                        int64_t D, float eps)
{
    for (int64_t n = 0; n < N; n++, x += D, y += D) {
        float sum = 0, squares = 0;
        SIMD_SUM(sum)
        for (int64_t d = 0; d < D; d++)
            sum += x[d];
        float m = sum / (float)D;
        SIMD_SUM(squares)
        for (int64_t d = 0; d < D; d++)
            squares += (x[d] - m) * (x[d] - m);
        float r = 1 / sqrtf(squares / (float)D + eps);
        SIMD for (int64_t d = 0; d < D; d++) y[d] = (x[d] - m) * r * w[d] + b[d];
        if (mean != NULL) {
            mean[n] = m;
            rstd[n] = r;
        }
    }
}

/* With h = (x - mean) rstd: dx = rstd (w dy - avg(w dy) - h avg(w dy h)). */
void CPU(layernorm_bwd)(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, const float *mean,
                        const float *rstd, int64_t N, int64_t D)
{
    for (int64_t n = 0; n < N; n++, x += D, dy += D, dx += D) {
        float m = mean[n], r = rstd[n], avg = 0, avg_h = 0;
        PAC_PRAGMA(omp simd reduction(+ : avg, avg_h))
        for (int64_t d = 0; d < D; d++) {
            avg += w[d] * dy[d];
            avg_h += w[d] * dy[d] * (x[d] - m);
        }
        if (dw != NULL) {
            SIMD for (int64_t d = 0; d < D; d++)
            {
                dw[d] += dy[d] * ((x[d] - m) * r);
                db[d] += dy[d];
            }
        }
        avg /= (float)D;
        avg_h *= r * r / (float)D;
        SIMD for (int64_t d = 0; d < D; d++) dx[d] = r * (w[d] * dy[d] - avg - (x[d] - m) * avg_h);
    }
}

/* The gates of one block of columns are computed once and then used for every row. */
enum { GATES = 256 };

static int64_t load_gates(float *g, const float *alpha, int64_t first, int64_t D, int64_t A, float temperature)
{
    int64_t n = D - first < GATES ? D - first : GATES;
    SIMD for (int64_t j = 0; j < n; j++) g[j] = sigmoid_(alpha[A == 1 ? 0 : first + j] / temperature);
    return n;
}

void CPU(gate_fwd)(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                   float temperature)
{
    float g[GATES];
    for (int64_t first = 0; first < D; first += GATES) {
        int64_t width = load_gates(g, alpha, first, D, A, temperature);
        for (int64_t i = first; i < N * D; i += D) {
            SIMD for (int64_t j = 0; j < width; j++) y[i + j] = g[j] * a[i + j] + (1 - g[j]) * b[i + j];
        }
    }
}

/* y = g a + (1-g) b and g = sigmoid(alpha / T): dg = sum dy (a - b), dalpha = dg g (1-g) / T. */
void CPU(gate_bwd)(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b, const float *alpha,
                   int64_t N, int64_t D, int64_t A, float temperature)
{
    float g[GATES];
    double dg[GATES], total = 0; /* long sums; total: of the one gate of all channels */
    for (int64_t first = 0; first < D; first += GATES) {
        int64_t width = load_gates(g, alpha, first, D, A, temperature);
        memset(dg, 0, sizeof dg);
        for (int64_t i = first; i < N * D; i += D) {
            SIMD for (int64_t j = 0; j < width; j++) dg[j] += dy[i + j] * (a[i + j] - b[i + j]);
            if (db != NULL) {
                SIMD for (int64_t j = 0; j < width; j++) db[i + j] = (1 - g[j]) * dy[i + j];
            }
            if (da != NULL) {
                SIMD for (int64_t j = 0; j < width; j++) da[i + j] = g[j] * dy[i + j];
            }
        }
        for (int64_t j = 0; j < width; j++) {
            double slope = dg[j] * (g[j] * (1 - g[j]) / temperature);
            total += slope;
            if (A > 1)
                dalpha[first + j] += (float)slope;
        }
    }
    if (A == 1)
        dalpha[0] += (float)total;
}
