/*
 * Reference kernels around the loss: cross-entropy, argmax, squared error, and the optimizers. Double arithmetic.
 */
#include "kernels.h"

#include <math.h>

PAC_PROTOTYPES(ref)

static double row_max(const float *x, int64_t n)
{
    double max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

void pac_ref_xent(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    for (int64_t n = 0; n < N; n++) {
        float *x = logits + n * V;
        double max = row_max(x, V), sum = 0;
        for (int64_t v = 0; v < V; v++)
            sum += exp(x[v] - max);
        loss[n] = labels[n] < 0 ? 0 : (float)(log(sum) + max - x[labels[n]]);
        for (int64_t v = 0; v < V && grad; v++)
            x[v] = labels[n] < 0 ? 0 : (float)(scale * (exp(x[v] - max) / sum - (v == labels[n])));
    }
}

void pac_ref_argmax(int32_t *best, const float *x, int64_t N, int64_t V)
{
    for (int64_t n = 0; n < N; n++, x += V) {
        best[n] = 0;
        for (int64_t v = 1; v < V; v++)
            if (x[v] > x[best[n]])
                best[n] = (int32_t)v;
    }
}

/* loss = (y - v)^2, so d(loss)/dy = 2 (y - v). */
void pac_ref_mse(float *loss, float *y, const float *value, int64_t n, float scale, bool grad)
{
    for (int64_t i = 0; i < n; i++) {
        double error = (double)y[i] - value[i];
        loss[i] = (float)(error * error);
        if (grad)
            y[i] = (float)(2 * (double)scale * error);
    }
}

void pac_ref_sgd(float *w, const float *g, int64_t n, float lr, float weight_decay)
{
    for (int64_t i = 0; i < n; i++)
        w[i] = (float)(w[i] - (double)lr * (g[i] + (double)weight_decay * w[i]));
}

void pac_ref_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    double b1 = p->beta1, b2 = p->beta2;
    double c1 = 1 - pow(b1, (double)p->step), c2 = 1 - pow(b2, (double)p->step);
    for (int64_t i = 0; i < n; i++) {
        double mi = b1 * m[i] + (1 - b1) * g[i];
        double vi = b2 * v[i] + (1 - b2) * g[i] * g[i];
        double wi = w[i] - (double)p->lr * p->weight_decay * w[i];
        m[i] = (float)mi;
        v[i] = (float)vi;
        w[i] = (float)(wi - p->lr * (mi / c1) / (sqrt(vi / c2) + p->eps));
    }
}
