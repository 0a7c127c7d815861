/*
 * The op table: every operation of a model on packed batches, one struct of function pointers per backend.
 *
 * `ref` is plain C with double accumulation, the definition of right; `cpu` uses OpenBLAS and vectorised row kernels; `cuda` is
 * the same table on a GPU. Kernels cannot fail: their callers (src/model, src/tune) have validated the sizes. Attention keeps
 * scratch per thread (tag WORK); where it cannot be had, outputs become NaN and the caller's loss check stops the run.
 *
 * Conventions. Size letters: B sequences, N rows (sum of sequence lengths), T target rows, S source rows, D model width, H
 * heads, K head width, F feed-forward width, V vocabulary. Matrices are row-major and dense unless a leading dimension is
 * given. Arguments: outputs, inputs, sizes, scalars. Where the backend has a space of its own, every float array and the
 * outputs of argmax and of losses lie there; ids, labels, offsets, dropout's row and structs are the host's, and are read
 * before an op returns. Gradients of parameters ACCUMULATE (+=); gradients of activations are OVERWRITTEN unless the comment
 * says otherwise. Rows may be zero in number.
 */
#ifndef PAC_OPS_H
#define PAC_OPS_H

#include "pac/space.h"

#include <stdbool.h>
#include <stdint.h>

/* relu(x) = max(x, 0); gelu: exact, with erf; gelu_new: tanh approximation; silu = x * sigmoid(x); tanh. */
typedef enum pac_act { PAC_ACT_RELU, PAC_ACT_GELU, PAC_ACT_GELU_NEW, PAC_ACT_SILU, PAC_ACT_TANH, PAC_NACTS } pac_act;

/*
 * Attention over a packed batch: sequence b has query rows toff[b]..toff[b+1) and key/value rows soff[b]..soff[b+1).
 *   score[h,t,s] = scale * <q[t,h,:], k[s,h,:]> + bias(s - (qpos + t))[h]      (t, s counted from 0 inside the sequence)
 *   o[t,h,:] = sum_s softmax_s(score)[s] * v[s,h,:]; causal: s <= qpos + t only.
 * bias_table [buckets, H] holds T5's relative position bias (NULL: none), looked up by pac_rel_bucket().
 */
typedef struct pac_attn {
    int64_t B, H, K;
    const int64_t *toff, *soff; /* [B + 1] each */
    float scale;                /* T5: 1; BART, BERT: K^-0.5 */
    bool causal;
    int64_t qpos; /* position of a sequence's first query row (0, or the prefix length when decoding with a cache) */
    const float *bias_table;
    int64_t buckets, max_distance;
    bool bidirectional;
} pac_attn;

/**
 * T5's bucket of a relative position r = key position - query position. Source: Raffel et al. 2020; Hugging Face
 * T5Attention._relative_position_bucket (float32 logarithm, truncated).
 */
int64_t pac_rel_bucket(int64_t r, bool bidirectional, int64_t buckets, int64_t max_distance);

typedef struct pac_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    int64_t step; /* counted from 1, for the bias correction */
} pac_adamw;

typedef struct pac_backend {
    const char *name;       /* "ref", "cpu-avx512", "cpu-avx2", "cpu-base", "split", "cuda" */
    const pac_space *space; /* where its rows live; NULL: memory of the host */
    bool counts;            /* it computes nothing: operations and bytes are counted as published */

    /* What pac_steady() says; NULL: nothing. */
    void (*steady)(const float *x, bool begins);
    /* What pac_gemm_each() says, in one launch; NULL: as many calls of gemm. */
    void (*gemm_each)(int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda, int64_t sa, bool ta,
                      const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k, float alpha,
                      float beta);
    /*
     * xent() with `grad` of logits = alpha h w^T, h [N, D], w [V, D], which are not kept: loss [N], and dh [N, D] = scale *
     * d(loss)/dh. Labels are below V. false: nothing was done, making the logits is the faster way; NULL: it always is.
     */
    bool (*head_xent)(float *loss, float *dh, const float *h, const float *w, const int32_t *labels, int64_t N, int64_t D,
                      int64_t V, float alpha, float scale);

    /* C[m,n] = alpha * op(A) op(B) + beta * C; op(A) is [m,k], transposed when ta. beta == 0 does not read C. */
    void (*gemm)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                 int64_t n, int64_t k, float alpha, float beta);

    /* y[n,:] += b */
    void (*bias_fwd)(float *y, const float *b, int64_t N, int64_t D);
    /* db += sum_n dy[n,:] */
    void (*bias_bwd)(float *db, const float *dy, int64_t N, int64_t D);

    /* y[n,:] = x[n,:] * rrms[n] * w, rrms[n] = 1/sqrt(mean_d x^2 + eps). y may alias x; rrms [N] may be NULL. */
    void (*rmsnorm_fwd)(float *y, float *rrms, const float *x, const float *w, int64_t N, int64_t D, float eps);
    /* dx overwritten (may alias dy), dw += (NULL: frozen) */
    void (*rmsnorm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w, const float *rrms, int64_t N,
                        int64_t D);

    /* y = (x - mean) * rstd * w + b; y may alias x; mean, rstd [N] may be NULL together. */
    void (*layernorm_fwd)(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N,
                          int64_t D, float eps);
    /* dx overwritten (may alias dy); dw, db += (both NULL: frozen) */
    void (*layernorm_bwd)(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w, const float *mean,
                          const float *rstd, int64_t N, int64_t D);

    /* y = act(x); y may alias x. */
    void (*act_fwd)(float *y, const float *x, int64_t n, pac_act act);
    /* dx = dy * act'(x); dx may alias dy. */
    void (*act_bwd)(float *dx, const float *dy, const float *x, int64_t n, pac_act act);
    /* y = act(a) * b (gated feed-forward); y may alias a or b. */
    void (*glu_fwd)(float *y, const float *a, const float *b, int64_t n, pac_act act);
    /* da = dy * b * act'(a), db = dy * act(a); da or db may alias dy (not both). */
    void (*glu_bwd)(float *da, float *db, const float *dy, const float *a, const float *b, int64_t n, pac_act act);

    /*
     * q, o: [T, H*K] with row stride ldq, ldo; k, v: [S, H*K] with row stride ldk, ldv. lse [T, H] receives
     * log(sum_s exp(score)) for the backward pass (NULL: not wanted).
     */
    void (*attn_fwd)(float *o, int64_t ldo, float *lse, const float *q, int64_t ldq, const float *k, int64_t ldk,
                     const float *v, int64_t ldv, const pac_attn *p);
    /*
     * dq, dk, dv overwritten (strides as q, k, v); dbias_table [buckets, H] += (NULL: frozen or none). The probabilities are
     * recomputed from lse; dscore = p * (dp - sum_s p*dp), so that a single key gives exactly zero.
     */
    void (*attn_bwd)(float *dq, float *dk, float *dv, float *dbias_table, const float *d_o, int64_t ldo, const float *q,
                     int64_t ldq, const float *k, int64_t ldk, const float *v, int64_t ldv, const float *lse,
                     const pac_attn *p);

    /* y[n,:] = table[ids[n],:]; ids are valid. */
    void (*embed_fwd)(float *y, const float *table, const int32_t *ids, int64_t N, int64_t D);
    /* dtable[ids[n],:] += dy[n,:], in the order of n */
    void (*embed_bwd)(float *dtable, const float *dy, const int32_t *ids, int64_t N, int64_t D);

    /* y = a + b; y may alias either. */
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    /* y += alpha * x */
    void (*axpy)(float *y, const float *x, int64_t n, float alpha);

    /*
     * Learned gate: g_j = sigmoid(alpha[j] / temperature), y[n,d] = g a[n,d] + (1 - g) b[n,d]. A = number of gates: 1 (one for
     * all channels) or D (one per channel). y may alias a or b.
     */
    void (*gate_fwd)(float *y, const float *a, const float *b, const float *alpha, int64_t N, int64_t D, int64_t A,
                     float temperature);
    /* da = g dy, db = (1-g) dy (each may be NULL; da may alias dy), dalpha[j] += sum dy*(a-b) * g(1-g)/temperature */
    void (*gate_bwd)(float *da, float *db, float *dalpha, const float *dy, const float *a, const float *b, const float *alpha,
                     int64_t N, int64_t D, int64_t A, float temperature);

    /*
     * Cross-entropy with soft-max over V, in place: logits becomes scale * d(loss)/d(logits) when `grad`, else it is unchanged.
     * loss[n] = -log softmax(logits[n])[label[n]] (0 where label < 0, and gradient 0).
     */
    void (*xent)(float *loss, float *logits, const int32_t *labels, int64_t N, int64_t V, float scale, bool grad);
    /* best[n] = smallest index of the row maximum */
    void (*argmax)(int32_t *best, const float *x, int64_t N, int64_t V);

    /* Mean squared error: loss[n] = (y - v)^2; y becomes 2 scale (y - v) when `grad`, else it is unchanged. */
    void (*mse)(float *loss, float *y, const float *value, int64_t n, float scale, bool grad);

    /*
     * y[n,d] = x[n,d] * 1/(1 - p) where hash(key, row[n], d) >= p, else 0; 0 <= p < 1; y may alias x. The same call turns dy
     * into dx. The hash is integer arithmetic (src/tensor/drop.h), so every backend drops the same elements.
     */
    void (*dropout)(float *y, const float *x, const uint64_t *row, int64_t N, int64_t D, uint64_t key, float p);

    /* y[a,:] = mean of the rows off[a]..off[a+1) of x (0 where there are none) */
    void (*mean_rows_fwd)(float *y, const float *x, const int64_t *off, int64_t A, int64_t D);
    /* dx[n,:] = dy[a,:] / rows of a, for the rows that off covers */
    void (*mean_rows_bwd)(float *dx, const float *dy, const int64_t *off, int64_t A, int64_t D);
    /*
     * Features of a pair (Reimers & Gurevych 2019), u = uv[2b], v = uv[2b+1]: y[b] = [u, v, |u-v|, u*v] [B, 4D] and
     * cosine[b] = u.v / max(|u| |v|, 1e-8). Either output may be NULL.
     */
    void (*pair_fwd)(float *y, float *cosine, const float *uv, int64_t B, int64_t D);
    /* duv overwritten; dy or dcosine may be NULL (0); the derivative of |x| at 0 is 0 */
    void (*pair_bwd)(float *duv, const float *dy, const float *dcosine, const float *uv, int64_t B, int64_t D);

    /* x = 0; x *= a; y = x; y += x * x (Fisher information) */
    void (*zero)(float *x, int64_t n);
    void (*scale)(float *x, int64_t n, float a);
    void (*copy)(float *y, const float *x, int64_t n);
    void (*add_squares)(float *y, const float *x, int64_t n);

    /* w -= lr * (g + weight_decay * w) */
    void (*sgd)(float *w, const float *g, int64_t n, float lr, float weight_decay);
    /* Loshchilov & Hutter 2019, as torch.optim.AdamW: w -= lr*wd*w; m, v updated; w -= lr * mhat / (sqrt(vhat) + eps) */
    void (*adamw)(float *w, float *m, float *v, const float *g, int64_t n, const pac_adamw *p);
    /*
     * Sum of squares, in a fixed order. Runs of at most sixteen squares may be added in f32 before double (cuda): from |x| of
     * 4.6e18 on that is infinite where double is not.
     */
    double (*sumsq)(const float *x, int64_t n);
} pac_backend;

/**
 * A promise that nothing writes the rows at x between begin and end, which products read several times (q, k and v of one
 * input; a gradient, for the weights' and for the rows'): a backend that rounds operands then does so once. Pairs may be
 * nested, of different rows. Who fails between them says the end too.
 */
void pac_steady_begin(const pac_backend *be, const float *x);
void pac_steady_end(const pac_backend *be, const float *x);

/**
 * `count` products of one size, C_h = alpha * op(A_h) op(B_h) + beta * C_h: each operand of a product starts sc, sa, sb numbers
 * behind that of the one before (heads lie side by side: K apart; a head's rows of a weight: K rows apart). The C_h do not
 * overlap.
 */
void pac_gemm_each(const pac_backend *be, int64_t count, float *c, int64_t ldc, int64_t sc, const float *a, int64_t lda,
                   int64_t sa, bool ta, const float *b, int64_t ldb, int64_t sb, bool tb, int64_t m, int64_t n, int64_t k,
                   float alpha, float beta);

/**
 * The backend called `name`: "ref", "cpu" or "auto" (the fastest that this processor runs), "cuda" (its arrays are in the
 * memory of a device that pac_device_open() opens), or the full name of a variant. Errors: PAC_ECONFIG (unknown; no device),
 * PAC_ENOTBUILT
 * ("cuda" in a program that was built without).
 */
pac_err pac_backend_find(const char *name, const pac_backend **out);

/*
 * The backend "count" computes nothing and touches no memory but the offsets of a pac_attn: it adds up the floating-point
 * operations of the calls. 2 for a multiply-add; attention for every query with every key of its sequence, masked or not, its
 * backward pass twice its forward (scores computed anew are not counted); all else is not counted, as in the paper's Fig. 3.
 * Losses and other outputs keep what they held (sumsq is 0): where the host reads them, they must have been zeroed.
 * `pac estimate` runs on it; pac_backend_find() does not know it.
 */
extern const pac_backend pac_backend_count;
/**
 * The same in the place of a device: rows live in a memory of their own that is only addresses, and the ledger counts what the
 * device's backend holds by itself too: its scratch and, with `rounds` (precision bf16 or f16), the rounded copies of frozen
 * matrices. Static memory; scratch is given back by pac_backend_count_device_release(). Not for several threads at once.
 */
const pac_backend *pac_backend_count_device(bool rounds);
void pac_backend_count_device_release(void);
/** Operations counted by this thread since the last call with reset. */
double pac_backend_counted(bool reset);
/* An op on "count": operations (0 but for products and attention), bytes of its operands (each once), the smallest extent of
 * its products. */
typedef void pac_op_seen(void *user, double flop, double bytes, double extent);
/** From now on `seen` is told of every op of this thread on the backend "count"; NULL: nobody. */
void pac_backend_watch(pac_op_seen *seen, void *user);

/** A backend for arrays of the host: `be` itself, or the fastest of this processor where be has a space of its own. */
const pac_backend *pac_backend_host(const pac_backend *be);

/** Backends that run here, ref first, NULL after the last: what the op tests iterate over. */
const pac_backend *const *pac_backend_all(void);

/**
 * Scratch of kernels: of each thread at most 1.6 MB for products and, for attention, some 128 rows as long as the longest
 * sequence; with bf16 weights a widened panel or, of the thread that starts a backward product, a transposed matrix of at most
 * 16 MiB. Not in the ledger's bytes. Give back the scratch memory that kernels keep for the threads of the pool, within a part
 * for the calling thread. They get it again when they need it. */
void pac_backend_release(void);

#endif
