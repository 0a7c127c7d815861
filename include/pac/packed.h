/*
 * Frozen matrices held once in bf16, half the bytes of f32, and their products with rows in f32.
 *
 * Where there are fast bf16 products (own ones on AMX, or oneDNN's), a matrix lies in the tiles that they read, and rows
 * are rounded to bf16 block by block on the way; elsewhere it lies row by row and is widened panel by panel for the f32 product
 * of the backend. Sums are f32 either way.
 */
#ifndef PAC_PACKED_H
#define PAC_PACKED_H

#include "pac/ops.h"
#include "pac/tensor.h"

typedef struct pac_packed pac_packed;

/**
 * Pack w [out, in], elements of type `from` (f32, bf16, f16, any alignment), for products on `be`, whose rows lie in memory of
 * the host. w is not kept. Not collective. The caller owns *p. Ledger: PAC_MEM_WEIGHTS. Errors: PAC_EINVAL (type), PAC_ENOMEM.
 */
pac_err pac_packed_new(const pac_backend *be, const void *w, pac_dtype from, int64_t out, int64_t in, pac_packed **p);
void pac_packed_free(pac_packed **p);
/** Bytes that such a matrix holds on `be`. */
int64_t pac_packed_size(const pac_backend *be, int64_t out, int64_t in);
/** A number for the order of its elements, which depends on the backend and the processor: equal numbers, equal orders. */
int64_t pac_packed_layout(const pac_backend *be, int64_t out, int64_t in);
/**
 * As pac_packed_new(), at a place of pac_packed_size() bytes, aligned to 64 and zero, that outlives *p. made: its values are
 * there, from such a call in another process; w is not read. Ledger: PAC_MEM_WEIGHTS all the same.
 */
pac_err pac_packed_place(const pac_backend *be, const void *w, pac_dtype from, int64_t out, int64_t in, void *place, bool made,
                         pac_packed **p);
/** Bytes held. */
int64_t pac_packed_bytes(const pac_packed *p);

/**
 * y = alpha x w^T + bias: x [N, in], y [N, out], bias [out] or NULL. Native products round x (and alpha x) to bf16, others do
 * not. When memory runs out y becomes NaN, as with every op.
 */
void pac_packed_fwd(const pac_backend *be, float *y, const float *x, const pac_packed *p, const float *bias, int64_t N,
                    float alpha);
/** dx = alpha dy w (+= when accumulate): dy [N, out], dx [N, in]. */
void pac_packed_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const pac_packed *p, int64_t N,
                    float alpha);

/*
 * Around a frozen sub-layer f: y = x + f(norm(x)), or, `post`, y = norm(x + f(x)). The norm is LayerNorm with w and b where
 * `layer`, else RMS with w.
 */
typedef struct pac_packed_edge {
    const float *w, *b;
    float eps;
    bool layer, post;
} pac_packed_edge;

/* The linears of a feed-forward: f(x) = wo(act(wi x) * (wg x)), without the product where wg is NULL. Biases may be NULL. */
typedef struct pac_packed_ff {
    const pac_packed *wi, *wg, *wo;
    const float *bi, *bg, *bo;
    pac_act act;
} pac_packed_ff;

/* Those of self-attention. */
typedef struct pac_packed_attn {
    const pac_packed *q, *k, *v, *o;
    const float *bq, *bk, *bv, *bo;
} pac_packed_attn;

/**
 * y = a frozen feed-forward of x [N, D] with what is around it, group by group of rows, so that what lies between its products
 * stays in the cache, in bf16: rows are rounded where they enter a product and nowhere else. y may alias x. When memory runs
 * out y becomes NaN. false: no own products with these matrices on `be`, nothing was done. Whether there are depends on the
 * matrices alone, and a row's result not on the rows beside it.
 */
bool pac_packed_feed(const pac_backend *be, float *y, const float *x, const pac_packed_ff *w, const pac_packed_edge *edge,
                     int64_t N);
/**
 * The same of self-attention, group by group of sequences; p->toff are the rows' offsets. Queries, keys, values and
 * probabilities (before their division by the sum) are rounded to bf16, scores and sums are f32. false: also where the heads'
 * width is no multiple of 32.
 */
bool pac_packed_attend(const pac_backend *be, float *y, const float *x, const pac_packed_attn *w, const pac_packed_edge *edge,
                       const pac_attn *p);

/** y[n,:] = w[ids[n],:], widened; ids are valid. */
void pac_packed_rows(float *y, const pac_packed *p, const int32_t *ids, int64_t N);
/** w [out, in], widened. */
void pac_packed_read(float *w, const pac_packed *p);

/* A matrix in f32: element (n, k) at w[n ld + k], or, turned, at w[k ld + n]. */
typedef struct pac_widened {
    const float *w;
    int64_t ld;
    bool turned;
} pac_widened;
/** Numbers that pac_packed_widen() fills. */
int64_t pac_packed_numbers(const pac_packed *p);
/** w as a whole in `to`, the way round that is quicker, for products with parts of it. */
pac_widened pac_packed_widen(float *to, const pac_packed *p);

/** Are products with it native, so that more of them cost less than widening it? */
bool pac_packed_is_native(const pac_packed *p);
/** Do products on `be` use bf16 instructions here? `why` ("AMX", "oneDNN 2.6.3, AMX", "no oneDNN in this build") is a static text. */
bool pac_packed_native(const pac_backend *be, const char **why);

#endif
