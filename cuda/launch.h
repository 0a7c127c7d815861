/*
 * The functions that the .cu files define. Those with the name and arguments of an op are the op; the others are called by
 * table.c, which has taken what the host knows (ids, offsets) to the device first.
 */
#ifndef PAC_LAUNCH_H
#define PAC_LAUNCH_H

#include "gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* rows.cu */
/* Does this program hold kernels for the device that is set? */
bool pac_cuda_runs_here(void);
void pac_cuda_bias_fwd(float *y, const float *b, int64_t N, int64_t D);
void pac_cuda_bias_bwd(float *db, const float *dy, int64_t N, int64_t D);
void pac_cuda_add(float *y, const float *a, const float *b, int64_t n);
void pac_cuda_axpy(float *y, const float *x, int64_t n, float alpha);
void pac_cuda_zero(float *x, int64_t n);
void pac_cuda_scale(float *x, int64_t n, float a);
void pac_cuda_copy(float *y, const float *x, int64_t n);
void pac_cuda_add_squares(float *y, const float *x, int64_t n);
void pac_cuda_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                       float temperature);
void pac_cuda_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b, const float *alpha,
                       int64_t N, int64_t D, int64_t A, float temperature);

/* norm.cu */
void pac_cuda_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps);
void pac_cuda_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                          int64_t D);
void pac_cuda_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                            int64_t D, float eps);
void pac_cuda_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, const float *mean,
                            const float *rstd, int64_t N, int64_t D);

/* act.cu */
void pac_cuda_act_fwd(float *y, const float *x, int64_t n, pac_act act);
void pac_cuda_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act act);
void pac_cuda_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act act);
void pac_cuda_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act);

/* loss.cu; labels on the device */
void pac_cuda_xent_at(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad);
void pac_cuda_argmax(int32_t *best, const float *x, int64_t N, int64_t V);
void pac_cuda_mse(float *loss, float *y, const float *value, int64_t n, float scale, bool grad);

/* train.cu */
void pac_cuda_sgd(float *w, const float *g, int64_t n, float lr, float weight_decay);
void pac_cuda_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p);
/* *sum (device) = the sum of squares; partial has room for PAC_SUM_BLOCKS doubles */
enum { PAC_SUM_BLOCKS = 512 };
void pac_cuda_sumsq_into(double *sum, double *partial, const float *x, int64_t n);

/* gather.cu; indices on the device */
void pac_cuda_embed_fwd_at(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D);
/* Word u of U: id word[u], its rows row[from[u]..from[u+1]) in rising order. */
void pac_cuda_embed_bwd_at(float *dtable, const float *dy, const int32_t *word, const int32_t *from, const int32_t *row,
                           int64_t U, int64_t D);
void pac_cuda_dropout_at(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t mixed_key,
                         uint32_t below, float scale);
void pac_cuda_mean_rows_fwd_at(float *y, const float *x, const int64_t *off, int64_t A, int64_t D);
void pac_cuda_mean_rows_bwd_at(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D);
void pac_cuda_pair_fwd(float *y, float *cosine, const float *uv, int64_t B, int64_t D);
void pac_cuda_pair_bwd(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D);

/*
 * attn_fwd.cu, attn_bwd.cu: attention of pac_attn, with offsets on the device, the longest sequences, and the bucket of each
 * relative position: bucket[s - t + last] for |s - t| <= last (NULL without a bias table).
 */
typedef struct pac_attn_at {
    int64_t B, H, K, longest_t, longest_s;
    const int64_t *toff, *soff;
    float scale;
    int causal;
    int64_t qpos, buckets, last;
    const float *bias_table;
    const int32_t *bucket;
} pac_attn_at;

void pac_cuda_attn_fwd_at(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                          const float *v, int64_t ldv, const pac_attn_at *p);
/* Floats of scratch that the backward pass wants for N query rows. */
int64_t pac_cuda_attn_bwd_scratch(const pac_attn_at *p, int64_t N, bool dbias);
void pac_cuda_attn_bwd_at(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                          int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                          const pac_attn_at *p, int64_t N, float *scratch);

/* cast.cu: to [rows, columns] with row stride ldto, from [rows, columns] with row stride ld */
void pac_cuda_to_bf16(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns);
void pac_cuda_to_f16(uint16_t *to, int64_t ldto, const float *from, int64_t ld, int64_t rows, int64_t columns);
/* c[m, n] *= beta, or = 0 */
void pac_cuda_scale_matrix(float *c, int64_t ldc, int64_t m, int64_t n, float beta);

/* blas.c */
void pac_cuda_steady(const float *x, bool begins);
void pac_cuda_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                   int64_t n, int64_t k, float alpha, float beta);
void pac_cuda_gemm_each(int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda, int64_t sa, bool ta,
                        const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                        float beta);

#ifdef __cplusplus
}
#endif
#endif
