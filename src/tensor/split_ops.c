/*
 * The ops of the backend "split": each checks where its arrays lie, and is the reference's.
 *
 * OURS: arrays of the backend; HOSTS: index arrays, which are the host's.
 */
#include "split.h"

PAC_PROTOTYPES(ref)
PAC_PROTOTYPES(split)

#define OURS(p)  split_must_be_ours(p, #p)
#define HOSTS(p) split_must_be_hosts(p, #p)

/* The reference's op, while the memory may be touched. */
#define RUN(call)                                                                                                              \
    split_enter();                                                                                                             \
    pac_ref_##call;                                                                                                            \
    split_leave()

void pac_split_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb,
                    int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    OURS(c), OURS(a), OURS(b);
    RUN(gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta));
}

void pac_split_bias_fwd(float *y, const float *b, int64_t N, int64_t D)
{
    OURS(y), OURS(b);
    RUN(bias_fwd(y, b, N, D));
}

void pac_split_bias_bwd(float *db, const float *dy, int64_t N, int64_t D)
{
    OURS(db), OURS(dy);
    RUN(bias_bwd(db, dy, N, D));
}

void pac_split_rmsnorm_fwd(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps)
{
    OURS(y), OURS(rrms), OURS(x), OURS(w);
    RUN(rmsnorm_fwd(y, rrms, x, w, N, D, eps));
}

void pac_split_rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                           int64_t D)
{
    OURS(dx), OURS(dw), OURS(dy), OURS(x), OURS(w), OURS(rrms);
    RUN(rmsnorm_bwd(dx, dw, dy, x, w, rrms, N, D));
}

void pac_split_layernorm_fwd(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                             int64_t D, float eps)
{
    OURS(y), OURS(mean), OURS(rstd), OURS(x), OURS(w), OURS(b);
    RUN(layernorm_fwd(y, mean, rstd, x, w, b, N, D, eps));
}

void pac_split_layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                             const float *mean, const float *rstd, int64_t N, int64_t D)
{
    OURS(dx), OURS(dw), OURS(db), OURS(dy), OURS(x), OURS(w), OURS(mean), OURS(rstd);
    RUN(layernorm_bwd(dx, dw, db, dy, x, w, mean, rstd, N, D));
}

void pac_split_act_fwd(float *y, const float *x, int64_t n, pac_act act)
{
    OURS(y), OURS(x);
    RUN(act_fwd(y, x, n, act));
}

void pac_split_act_bwd(float *dx, const float *dy, const float *x, int64_t n, pac_act act)
{
    OURS(dx), OURS(dy), OURS(x);
    RUN(act_bwd(dx, dy, x, n, act));
}

void pac_split_glu_fwd(float *y, const float *a, const float *b, int64_t n, pac_act act)
{
    OURS(y), OURS(a), OURS(b);
    RUN(glu_fwd(y, a, b, n, act));
}

void pac_split_glu_bwd(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act)
{
    OURS(da), OURS(db), OURS(dy), OURS(a), OURS(b);
    RUN(glu_bwd(da, db, dy, a, b, n, act));
}

void pac_split_attn_fwd(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                        const float *v, int64_t ldv, const pac_attn *p)
{
    OURS(o), OURS(lse), OURS(q), OURS(k), OURS(v), OURS(p->bias_table), HOSTS(p->toff), HOSTS(p->soff), HOSTS(p);
    RUN(attn_fwd(o, ldo, lse, q, ldq, k, ldk, v, ldv, p));
}

void pac_split_attn_bwd(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                        int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                        const pac_attn *p)
{
    OURS(dq), OURS(dk), OURS(dv), OURS(dbias_table), OURS(d_o), OURS(q), OURS(k), OURS(v), OURS(lse), OURS(p->bias_table),
        HOSTS(p->toff), HOSTS(p->soff), HOSTS(p);
    RUN(attn_bwd(dq, dk, dv, dbias_table, d_o, ldo, q, ldq, k, ldk, v, ldv, lse, p));
}

void pac_split_embed_fwd(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D)
{
    OURS(y), OURS(table), HOSTS(ids);
    RUN(embed_fwd(y, table, ids, N, D));
}

void pac_split_embed_bwd(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D)
{
    OURS(dtable), OURS(dy), HOSTS(ids);
    RUN(embed_bwd(dtable, dy, ids, N, D));
}

void pac_split_add(float *y, const float *a, const float *b, int64_t n)
{
    OURS(y), OURS(a), OURS(b);
    RUN(add(y, a, b, n));
}

void pac_split_axpy(float *y, const float *x, int64_t n, float alpha)
{
    OURS(y), OURS(x);
    RUN(axpy(y, x, n, alpha));
}

void pac_split_gate_fwd(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                        float temperature)
{
    OURS(y), OURS(a), OURS(b), OURS(alpha);
    RUN(gate_fwd(y, a, b, alpha, N, D, A, temperature));
}

void pac_split_gate_bwd(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b,
                        const float *alpha, int64_t N, int64_t D, int64_t A, float temperature)
{
    OURS(da), OURS(db), OURS(dalpha), OURS(dy), OURS(a), OURS(b), OURS(alpha);
    RUN(gate_bwd(da, db, dalpha, dy, a, b, alpha, N, D, A, temperature));
}

void pac_split_xent(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad)
{
    OURS(loss), OURS(logits), HOSTS(labels);
    RUN(xent(loss, logits, labels, N, V, scale, grad));
}

void pac_split_argmax(int32_t *best, const float *x, int64_t N, int64_t V)
{
    OURS(best), OURS(x);
    RUN(argmax(best, x, N, V));
}

void pac_split_mse(float *loss, float *y, const float *value, int64_t n, float scale, bool grad)
{
    OURS(loss), OURS(y), OURS(value);
    RUN(mse(loss, y, value, n, scale, grad));
}

void pac_split_dropout(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p)
{
    OURS(y), OURS(x), HOSTS(row);
    RUN(dropout(y, x, row, N, D, key, p));
}

void pac_split_mean_rows_fwd(float *y, const float *x, const int64_t *off, int64_t A, int64_t D)
{
    OURS(y), OURS(x), HOSTS(off);
    RUN(mean_rows_fwd(y, x, off, A, D));
}

void pac_split_mean_rows_bwd(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D)
{
    OURS(dx), OURS(dy), HOSTS(off);
    RUN(mean_rows_bwd(dx, dy, off, A, D));
}

void pac_split_pair_fwd(float *y, float *cosine, const float *uv, int64_t B, int64_t D)
{
    OURS(y), OURS(cosine), OURS(uv);
    RUN(pair_fwd(y, cosine, uv, B, D));
}

void pac_split_pair_bwd(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D)
{
    OURS(duv), OURS(dy), OURS(dcosine), OURS(uv);
    RUN(pair_bwd(duv, dy, dcosine, uv, B, D));
}

void pac_split_zero(float *x, int64_t n)
{
    OURS(x);
    RUN(zero(x, n));
}

void pac_split_scale(float *x, int64_t n, float a)
{
    OURS(x);
    RUN(scale(x, n, a));
}

void pac_split_copy(float *y, const float *x, int64_t n)
{
    OURS(y), OURS(x);
    RUN(copy(y, x, n));
}

void pac_split_add_squares(float *y, const float *x, int64_t n)
{
    OURS(y), OURS(x);
    RUN(add_squares(y, x, n));
}

void pac_split_sgd(float *w, const float *g, int64_t n, float lr, float weight_decay)
{
    OURS(w), OURS(g);
    RUN(sgd(w, g, n, lr, weight_decay));
}

void pac_split_adamw(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p)
{
    OURS(w), OURS(m), OURS(v), OURS(g), HOSTS(p);
    RUN(adamw(w, m, v, g, n, p));
}

double pac_split_sumsq(const float *x, int64_t n)
{
    OURS(x);
    split_enter();
    double r = pac_ref_sumsq(x, n);
    split_leave();
    return r;
}

const pac_backend pac_split_backend = {.name = "split", .space = &pac_split_space, PAC_EACH_OP(PAC_ENTRY, split)};
