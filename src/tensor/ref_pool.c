/*
 * Reference kernels beside the layers: dropout, mean of rows, features of a pair of sentences. Double arithmetic, but dropout,
 * whose one multiplication is defined in float.
 */
#include "drop.h"
#include "kernels.h"

#include <math.h>

PAC_PROTOTYPES(ref)

void pac_ref_dropout(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t d = 0; d < D; d++) {
            uint64_t bits = pac_drop_row(key, row[n]);
            bool dropped = pac_drop_hash((uint32_t)bits, (uint32_t)(bits >> 32), (uint32_t)d) < pac_drop_below(p);
            y[n * D + d] = dropped ? 0 : x[n * D + d] * pac_drop_scale(p);
        }
}

void pac_ref_mean_rows_fwd(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t d = 0; d < D; d++) {
            double sum = 0;
            for (int64_t n = off[a]; n < off[a + 1]; n++)
                sum += x[n * D + d];
            y[a * D + d] = off[a + 1] > off[a] ? (float)(sum / (double)(off[a + 1] - off[a])) : 0;
        }
}

void pac_ref_mean_rows_bwd(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    for (int64_t a = 0; a < A; a++)
        for (int64_t n = off[a]; n < off[a + 1]; n++)
            for (int64_t d = 0; d < D; d++)
                dx[n * D + d] = (float)(dy[a * D + d] / (double)(off[a + 1] - off[a]));
}

static const double smallest = 1e-8; /* what the product of two lengths is taken to be at least */

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

void pac_ref_pair_fwd(float *y, float *cosine, const float *uv, int64_t B, int64_t D)
{
    for (int64_t b = 0; b < B; b++) {
        const float *u = uv + 2 * b * D, *v = u + D;
        float *row = y != NULL ? y + 4 * b * D : NULL;
        for (int64_t d = 0; d < D && y != NULL; d++) {
            row[d] = u[d];
            row[D + d] = v[d];
            row[2 * D + d] = (float)fabs((double)u[d] - v[d]);
            row[3 * D + d] = (float)((double)u[d] * v[d]);
        }
        if (cosine != NULL)
            cosine[b] = (float)(dot(u, v, D) / fmax(sqrt(dot(u, u, D) * dot(v, v, D)), smallest));
    }
}

/*
 * y = [u, v, |u-v|, u*v]: du = dy0 + sign(u-v) dy2 + v dy3, dv = dy1 - sign(u-v) dy2 + u dy3.
 * cosine = u.v / l, l = |u| |v|: du += dcosine (v / l - cosine u / |u|^2), without the second term where l is held at its
 * least.
 */
void pac_ref_pair_bwd(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D)
{
    for (int64_t b = 0; b < B; b++) {
        const float *u = uv + 2 * b * D, *v = u + D, *g = dy != NULL ? dy + 4 * b * D : NULL;
        float *du = duv + 2 * b * D, *dv = du + D;
        double uu = dot(u, u, D), vv = dot(v, v, D), length = sqrt(uu * vv), dc = dcosine != NULL ? dcosine[b] : 0;
        bool held = length < smallest;
        double across = dc / (held ? smallest : length), along = held ? 0 : across * dot(u, v, D);
        double along_u = held ? 0 : along / uu, along_v = held ? 0 : along / vv;
        for (int64_t d = 0; d < D; d++) {
            double gu = across * v[d] - along_u * u[d], gv = across * u[d] - along_v * v[d];
            if (g != NULL) {
                double sign = (u[d] > v[d]) - (u[d] < v[d]);
                gu += g[d] + sign * g[2 * D + d] + (double)v[d] * g[3 * D + d];
                gv += g[D + d] - sign * g[2 * D + d] + (double)u[d] * g[3 * D + d];
            }
            du[d] = (float)gu;
            dv[d] = (float)gv;
        }
    }
}
