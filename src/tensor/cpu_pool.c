/*
 * cpu kernels beside the layers: dropout, mean of rows, features of a pair of sentences.
 */
#include "cpu.h"
#include "drop.h"

void CPU(dropout)(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    const uint32_t below = pac_drop_below(p);
    const float keep = pac_drop_scale(p);
    for (int64_t n = 0; n < N; n++, x += D, y += D) {
        uint64_t bits = pac_drop_row(key, row[n]);
        const uint32_t low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
        SIMD for (int64_t d = 0; d < D; d++)
        {
            float kept = x[d] * keep;
            y[d] = pac_drop_hash(low, high, (uint32_t)d) < below ? 0 : kept;
        }
    }
}

void CPU(mean_rows_fwd)(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    for (int64_t a = 0; a < A; a++, y += D) {
        CPU(zero)(y, D);
        for (int64_t n = off[a]; n < off[a + 1]; n++) {
            const float *row = x + n * D;
            SIMD for (int64_t d = 0; d < D; d++) y[d] += row[d];
        }
        if (off[a + 1] > off[a])
            CPU(scale)(y, D, 1 / (float)(off[a + 1] - off[a]));
    }
}

void CPU(mean_rows_bwd)(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    for (int64_t a = 0; a < A; a++, dy += D)
        for (int64_t n = off[a]; n < off[a + 1]; n++) {
            const float share = 1 / (float)(off[a + 1] - off[a]);
            float *row = dx + n * D;
            SIMD for (int64_t d = 0; d < D; d++) row[d] = share * dy[d];
        }
}

/* Products of a pair in double: a cosine near 1 and its gradient are differences of nearly equal numbers. */
typedef struct products {
    double uu, vv, uv, length; /* length: |u| |v|, at least `smallest` */
    bool held;
} products;

static const double smallest = 1e-8;

static products products_of(const float *u, const float *v, int64_t D)
{
    double uu = 0, vv = 0, uv = 0;
    PAC_PRAGMA(omp simd reduction(+ : uu, vv, uv))
    for (int64_t d = 0; d < D; d++) {
        uu += (double)u[d] * u[d];
        vv += (double)v[d] * v[d];
        uv += (double)u[d] * v[d];
    }
    double length = sqrt(uu * vv);
    bool held = length < smallest;
    return (products){.uu = uu, .vv = vv, .uv = uv, .length = held ? smallest : length, .held = held};
}

void CPU(pair_fwd)(float *y, float *cosine, const float *uv, int64_t B, int64_t D)
{
    for (int64_t b = 0; b < B; b++) {
        const float *u = uv + 2 * b * D, *v = u + D;
        if (y != NULL) {
            float *row = y + 4 * b * D;
            SIMD for (int64_t d = 0; d < D; d++)
            {
                row[d] = u[d];
                row[D + d] = v[d];
                row[2 * D + d] = fabsf(u[d] - v[d]);
                row[3 * D + d] = u[d] * v[d];
            }
        }
        if (cosine != NULL) {
            products p = products_of(u, v, D);
            cosine[b] = (float)(p.uv / p.length);
        }
    }
}

/* cosine = u.v / l, l = |u| |v|: du = dcosine (v / l - cosine u / |u|^2), without the second term where l is held. */
static void cosine_bwd(float *du, float *dv, double dcosine, const float *u, const float *v, int64_t D)
{
    products p = products_of(u, v, D);
    double across = dcosine / p.length, along = p.held ? 0 : across * p.uv;
    double along_u = p.held ? 0 : along / p.uu, along_v = p.held ? 0 : along / p.vv;
    SIMD for (int64_t d = 0; d < D; d++)
    {
        du[d] = (float)(across * v[d] - along_u * u[d]);
        dv[d] = (float)(across * u[d] - along_v * v[d]);
    }
}

/* y = [u, v, |u-v|, u*v]: du += dy0 + sign(u-v) dy2 + v dy3, dv += dy1 - sign(u-v) dy2 + u dy3. */
static void features_bwd(float *du, float *dv, const float *dy, const float *u, const float *v, int64_t D)
{
    SIMD for (int64_t d = 0; d < D; d++)
    {
        float g = dy[2 * D + d], side = u[d] > v[d] ? g : u[d] < v[d] ? -g : 0;
        du[d] += dy[d] + side + v[d] * dy[3 * D + d];
        dv[d] += dy[D + d] - side + u[d] * dy[3 * D + d];
    }
}

void CPU(pair_bwd)(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D)
{
    CPU(zero)(duv, dcosine == NULL ? 2 * B * D : 0);
    for (int64_t b = 0; b < B; b++) {
        const float *u = uv + 2 * b * D, *v = u + D;
        float *du = duv + 2 * b * D, *dv = du + D;
        if (dcosine != NULL)
            cosine_bwd(du, dv, dcosine[b], u, v, D);
        if (dy != NULL)
            features_bwd(du, dv, dy + 4 * b * D, u, v, D);
    }
}
