/*
 * cpu kernels around the loss: cross-entropy in the logits' own memory, argmax, squared error, and the optimizers.
 */
#include "cpu.h"

static float row_max(const float *x, int64_t n)
{
    float max = -INFINITY;
    SIMD_MAX(max)
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static double row_loss(const float *x, int64_t V, int32_t label, float max)
{
    float sum = 0;
    SIMD_SUM(sum)
    for (int64_t v = 0; v < V; v++)
        sum += exp_(x[v] - max);
    return log((double)sum) + ((double)max - x[label]);
}

/* d(loss)/d(logit[v]) = softmax[v] - (v == label): exponentials first, then one multiplication once their sum is known. */
static double row_loss_grad(float *x, int64_t V, int32_t label, float max, float scale)
{
    double at_label = x[label];
    float sum = 0;
    SIMD_SUM(sum)
    for (int64_t v = 0; v < V; v++) {
        x[v] = exp_(x[v] - max);
        sum += x[v];
    }
    float c = scale / sum;
    SIMD for (int64_t v = 0; v < V; v++) x[v] *= c;
    x[label] -= scale;
    return log((double)sum) + ((double)max - at_label);
}

void CPU(xent)(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    for (int64_t n = 0; n < N; n++) {
        float *x = logits + n * V;
        if (labels[n] < 0) {
            loss[n] = 0;
            if (grad)
                memset(x, 0, (size_t)V * sizeof *x);
            continue;
        }
        float max = row_max(x, V);
        loss[n] = (float)(grad ? row_loss_grad(x, V, labels[n], max, scale) : row_loss(x, V, labels[n], max));
    }
}

enum { STRIDE = 128 }; /* how far argmax looks at a time */

static bool occurs(const float *x, int64_t n, float value)
{
    int32_t found = 0;
    PAC_PRAGMA(omp simd reduction(| : found))
    for (int64_t i = 0; i < n; i++)
        found |= x[i] == value;
    return found;
}

void CPU(argmax)(int32_t *best, const float *x, int64_t N, int64_t V)
{
    for (int64_t n = 0; n < N; n++, x += V) {
        float max = row_max(x, V);
        int64_t v = 0;
        while (v + STRIDE < V && !occurs(x + v, STRIDE, max))
            v += STRIDE;
        while (v < V - 1 && x[v] != max)
            v++;
        best[n] = (int32_t)v;
    }
}

void CPU(mse)(float *loss, float *y, const float *value, int64_t n, float scale, bool grad)
{
    SIMD for (int64_t i = 0; i < n; i++)
    {
        float error = y[i] - value[i];
        loss[i] = error * error;
    }
    if (grad) {
        SIMD for (int64_t i = 0; i < n; i++) y[i] = 2 * scale * (y[i] - value[i]);
    }
}

void CPU(sgd)(float *w, const float *g, int64_t n, float lr, float weight_decay)
{
    SIMD for (int64_t i = 0; i < n; i++) w[i] -= lr * (g[i] + weight_decay * w[i]);
}

void CPU(adamw)(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    const float b1 = p->beta1, b2 = p->beta2, eps = p->eps, keep = (float)(1 - (double)p->lr * p->weight_decay);
    const float a1 = (float)(1 - (double)p->beta1), a2 = (float)(1 - (double)p->beta2);
    const float step = (float)(p->lr / (1 - pow(p->beta1, (double)p->step)));
    const float c2 = (float)(1 / sqrt(1 - pow(p->beta2, (double)p->step)));
    SIMD for (int64_t i = 0; i < n; i++)
    {
        float mi = b1 * m[i] + a1 * g[i], vi = b2 * v[i] + a2 * g[i] * g[i];
        m[i] = mi;
        v[i] = vi;
        w[i] = w[i] * keep - step * mi / (sqrtf(vi) * c2 + eps);
    }
}
