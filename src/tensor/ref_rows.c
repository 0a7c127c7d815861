/*
 * Reference kernels, row by row and element by element: norms, activations, gates. Double arithmetic throughout.
 */
#include "kernels.h"

#include <math.h>

PAC_PROTOTYPES(ref)

void pac_ref_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    for (int64_t n = 0; n < N; n++, x += D, y += D) {
        double squares = 0;
        for (int64_t d = 0; d < D; d++)
            squares += (double)x[d] * x[d];
        double r = 1 / sqrt(squares / (double)D + eps);
        for (int64_t d = 0; d < D; d++)
            y[d] = (float)(x[d] * r * w[d]);
        if (rrms != NULL)
            rrms[n] = (float)r;
    }
}

/* y = x r w, dr/dx[e] = -r^3 x[e] / D, so dx[e] = r (w dy)[e] - x[e] r^3/D sum_d (w dy x)[d]. */
void pac_ref_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                         int64_t D)
{
    for (int64_t d = 0; d < D && dw != NULL; d++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++)
            sum += (double)dy[n * D + d] * x[n * D + d] * rrms[n];
        dw[d] = (float)(dw[d] + sum);
    }
    for (int64_t n = 0; n < N; n++, x += D, dy += D, dx += D) {
        double r = rrms[n], dot = 0;
        for (int64_t d = 0; d < D; d++)
            dot += (double)w[d] * dy[d] * x[d];
        for (int64_t d = 0; d < D; d++)
            dx[d] = (float)(r * w[d] * dy[d] - x[d] * r * r * r * dot / (double)D);
    }
}

void pac_ref_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                           int64_t D, float eps)
{
    for (int64_t n = 0; n < N; n++, x += D, y += D) {
        double m = 0, squares = 0;
        for (int64_t d = 0; d < D; d++)
            m += x[d];
        m /= (double)D;
        for (int64_t d = 0; d < D; d++)
            squares += (x[d] - m) * (x[d] - m);
        double r = 1 / sqrt(squares / (double)D + eps);
        for (int64_t d = 0; d < D; d++)
            y[d] = (float)((x[d] - m) * r * w[d] + b[d]);
        if (mean != NULL) {
            mean[n] = (float)m;
            rstd[n] = (float)r;
        }
    }
}

/* With h = (x - mean) rstd: dx = rstd (w dy - avg(w dy) - h avg(w dy h)). */
void pac_ref_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, const float *mean,
                           const float *rstd, int64_t N, int64_t D)
{
    for (int64_t d = 0; d < D && dw != NULL; d++) {
        double sw = 0, sb = 0;
        for (int64_t n = 0; n < N; n++) {
            sw += (double)dy[n * D + d] * (((double)x[n * D + d] - mean[n]) * rstd[n]);
            sb += dy[n * D + d];
        }
        dw[d] = (float)(dw[d] + sw);
        db[d] = (float)(db[d] + sb);
    }
    for (int64_t n = 0; n < N; n++, x += D, dy += D, dx += D) {
        double m = mean[n], r = rstd[n], avg = 0, avg_h = 0;
        for (int64_t d = 0; d < D; d++) {
            avg += (double)w[d] * dy[d] / (double)D;
            avg_h += (double)w[d] * dy[d] * (x[d] - m) * r / (double)D;
        }
        for (int64_t d = 0; d < D; d++)
            dx[d] = (float)(r * ((double)w[d] * dy[d] - avg - (x[d] - m) * r * avg_h));
    }
}

static const double root_half = 0.70710678118654752440;       /* sqrt(1/2) */
static const double root_2_over_pi = 0.79788456080286535588;  /* sqrt(2/pi) */
static const double root_1_over_2pi = 0.39894228040143267794; /* sqrt(1/(2 pi)) */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* (1 + tanh(u)) / 2 = sigmoid(2u), without cancellation for negative u. */
static double gelu_new_gate(double x)
{
    return sigmoid(2 * root_2_over_pi * (x + 0.044715 * x * x * x));
}

static double act(double x, pac_act kind)
{
    switch (kind) {
    case PAC_ACT_RELU:
        return x > 0 ? x : 0;
    case PAC_ACT_GELU:
        return 0.5 * x * erfc(-x * root_half);
    case PAC_ACT_GELU_NEW:
        return x * gelu_new_gate(x);
    case PAC_ACT_SILU:
        return x * sigmoid(x);
    default:
        return tanh(x);
    }
}

static double act_derivative(double x, pac_act kind)
{
    double s;
    switch (kind) {
    case PAC_ACT_RELU:
        return x > 0;
    case PAC_ACT_GELU:
        return 0.5 * erfc(-x * root_half) + x * root_1_over_2pi * exp(-0.5 * x * x);
    case PAC_ACT_GELU_NEW:
        s = gelu_new_gate(x);
        return s + x * s * (1 - s) * 2 * root_2_over_pi * (1 + 3 * 0.044715 * x * x);
    case PAC_ACT_SILU:
        s = sigmoid(x);
        return s + x * s * (1 - s);
    default:
        return 1 - tanh(x) * tanh(x);
    }
}

void pac_ref_act_fwd(float *y, const float *x, int64_t n, pac_act kind)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)act(x[i], kind);
}

void pac_ref_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act kind)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = (float)(dy[i] * act_derivative(x[i], kind));
}

void pac_ref_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act kind)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(act(a[i], kind) * b[i]);
}

void pac_ref_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act kind)
{
    for (int64_t i = 0; i < n; i++) {
        double g = dy[i], x = a[i];
        da[i] = (float)(g * b[i] * act_derivative(x, kind));
        db[i] = (float)(g * act(x, kind));
    }
}

void pac_ref_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                      float temperature)
{
    for (int64_t i = 0; i < N * D; i++) {
        double g = sigmoid((double)alpha[A == 1 ? 0 : i % D] / temperature);
        y[i] = (float)(g * a[i] + (1 - g) * b[i]);
    }
}

void pac_ref_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b, const float *alpha,
                      int64_t N, int64_t D, int64_t A, float temperature)
{
    for (int64_t j = 0; j < A; j++) {
        double sum = 0, g = sigmoid((double)alpha[j] / temperature);
        for (int64_t i = j; i < N * D; i += A)
            sum += (double)dy[i] * ((double)a[i] - b[i]);
        dalpha[j] = (float)(dalpha[j] + sum * g * (1 - g) / temperature);
    }
    for (int64_t i = 0; i < N * D; i++) {
        double g = sigmoid((double)alpha[A == 1 ? 0 : i % D] / temperature), d = dy[i];
        if (da != NULL)
            da[i] = (float)(g * d);
        if (db != NULL)
            db[i] = (float)((1 - g) * d);
    }
}
