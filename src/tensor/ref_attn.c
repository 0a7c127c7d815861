/*
 * Reference attention: every score, probability and gradient is computed one by one in double, straight from the formulas in
 * ops.h. The backward pass keeps two [T, S] matrices of one sequence and head, p and dscore, in scratch.
 */
#include "kernels.h"

#include <math.h>

PAC_PROTOTYPES(ref)

/* One head of one sequence. Rows of q start at q, those of k at k, v; bias and dbias point to the head's column of the tables.
 */
typedef struct head {
    int64_t T, S, K, ldq, ldk, ldv, ldo;
    const float *q, *k, *v, *bias;
    const pac_attn *p;
} head;

static head head_of(const pac_attn *p, int64_t b, int64_t h, const float *q, int64_t ldq, const float *k, int64_t ldk,
                    const float *v, int64_t ldv)
{
    return (head){.T = p->toff[b + 1] - p->toff[b],
                  .S = p->soff[b + 1] - p->soff[b],
                  .K = p->K,
                  .ldq = ldq,
                  .ldk = ldk,
                  .ldv = ldv,
                  .q = q + p->toff[b] * ldq + h * p->K,
                  .k = k + p->soff[b] * ldk + h * p->K,
                  .v = v + p->soff[b] * ldv + h * p->K,
                  .bias = p->bias_table != NULL ? p->bias_table + h : NULL,
                  .p = p};
}

static int64_t keys_seen(const head *x, int64_t t)
{
    int64_t n = x->p->qpos + t + 1;
    return x->p->causal && n < x->S ? n : x->S;
}

static int64_t bucket(const head *x, int64_t t, int64_t s)
{
    return pac_rel_bucket(s - (x->p->qpos + t), x->p->bidirectional, x->p->buckets, x->p->max_distance);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static double score(const head *x, int64_t t, int64_t s)
{
    double value = x->p->scale * dot(x->q + t * x->ldq, x->k + s * x->ldk, x->K);
    return x->bias != NULL ? value + x->bias[bucket(x, t, s) * x->p->H] : value;
}

/* p[0..S) = softmax of row t, zero where the mask hides a key. Returns log(sum exp(score)). */
static double softmax_row(const head *x, int64_t t, double *p)
{
    int64_t seen = keys_seen(x, t);
    double max = -INFINITY, sum = 0;
    for (int64_t s = 0; s < seen; s++) {
        p[s] = score(x, t, s);
        max = p[s] > max ? p[s] : max;
    }
    for (int64_t s = 0; s < seen; s++)
        sum += exp(p[s] - max);
    for (int64_t s = 0; s < x->S; s++)
        p[s] = s < seen ? exp(p[s] - max) / sum : 0;
    return max + log(sum);
}

static int64_t largest(const int64_t *offsets, int64_t B)
{
    int64_t n = 0;
    for (int64_t b = 0; b < B; b++)
        n = offsets[b + 1] - offsets[b] > n ? offsets[b + 1] - offsets[b] : n;
    return n;
}

void pac_ref_attn_fwd(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                      const float *v, int64_t ldv, const pac_attn *p)
{
    double *row = pac_scratch((size_t)largest(p->soff, p->B) * sizeof *row);
    if (row == NULL) {
        pac_fill_nan(o, ldo, p->toff[p->B], p->H * p->K);
        return;
    }
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++) {
            head x = head_of(p, b, h, q, ldq, k, ldk, v, ldv);
            for (int64_t t = 0; t < x.T; t++) {
                double l = softmax_row(&x, t, row);
                if (lse != NULL)
                    lse[(p->toff[b] + t) * p->H + h] = (float)l;
                for (int64_t c = 0; c < p->K; c++) {
                    double sum = 0;
                    for (int64_t s = 0; s < x.S; s++)
                        sum += row[s] * x.v[s * ldv + c];
                    o[(p->toff[b] + t) * ldo + h * p->K + c] = (float)sum;
                }
            }
        }
}

/* o = p v, so dp[t,s] = <do[t], v[s]>; p = softmax(score), so dscore[t,s] = p (dp[t,s] - sum_s p dp). */
static void dscore_row(const head *x, int64_t t, const float *d_o, const double *p, double *ds)
{
    double sum = 0;
    for (int64_t s = 0; s < x->S; s++) {
        ds[s] = dot(d_o + t * x->ldo, x->v + s * x->ldv, x->K);
        sum += p[s] * ds[s];
    }
    for (int64_t s = 0; s < x->S; s++)
        ds[s] = p[s] * (ds[s] - sum);
}

/* score = scale <q, k> + bias: dq = scale ds k, dk = scale ds^T q, dv = p^T do; dbias[bucket] += ds. */
static void head_bwd(const head *x, float *dq, float *dk, float *dv, float *dbias, const float *d_o, const double *p,
                     const double *ds)
{
    double scale = x->p->scale;
    for (int64_t c = 0; c < x->K; c++) {
        for (int64_t t = 0; t < x->T; t++) {
            double sum = 0;
            for (int64_t s = 0; s < x->S; s++)
                sum += ds[t * x->S + s] * x->k[s * x->ldk + c];
            dq[t * x->ldq + c] = (float)(scale * sum);
        }
        for (int64_t s = 0; s < x->S; s++) {
            double sum_k = 0, sum_v = 0;
            for (int64_t t = 0; t < x->T; t++) {
                sum_k += ds[t * x->S + s] * x->q[t * x->ldq + c];
                sum_v += p[t * x->S + s] * d_o[t * x->ldo + c];
            }
            dk[s * x->ldk + c] = (float)(scale * sum_k);
            dv[s * x->ldv + c] = (float)sum_v;
        }
    }
    for (int64_t t = 0; t < x->T && dbias != NULL; t++)
        for (int64_t s = 0; s < keys_seen(x, t); s++)
            dbias[bucket(x, t, s) * x->p->H] += (float)ds[t * x->S + s];
}

void pac_ref_attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                      int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                      const pac_attn *p)
{
    (void)lse; /* the soft-max is taken anew, in double */
    int64_t tile = largest(p->toff, p->B) * largest(p->soff, p->B);
    double *prob = pac_scratch((size_t)tile * 2 * sizeof *prob), *ds = prob + tile;
    if (prob == NULL) {
        pac_fill_nan(dq, ldq, p->toff[p->B], p->H * p->K);
        pac_fill_nan(dk, ldk, p->soff[p->B], p->H * p->K);
        pac_fill_nan(dv, ldv, p->soff[p->B], p->H * p->K);
        return;
    }
    for (int64_t b = 0; b < p->B; b++)
        for (int64_t h = 0; h < p->H; h++) {
            head x = head_of(p, b, h, q, ldq, k, ldk, v, ldv);
            x.ldo = ldo;
            const float *d_o_head = d_o + p->toff[b] * ldo + h * p->K;
            for (int64_t t = 0; t < x.T; t++) {
                softmax_row(&x, t, prob + t * x.S);
                dscore_row(&x, t, d_o_head, prob + t * x.S, ds + t * x.S);
            }
            head_bwd(&x, dq + (x.q - q), dk + (x.k - k), dv + (x.v - v), dbias_table != NULL ? dbias_table + h : NULL, d_o_head,
                     prob, ds);
        }
}
