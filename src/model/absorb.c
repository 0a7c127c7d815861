/*
 * Cross-attention of few queries without keys and values of the source rows: the projections are absorbed into the queries.
 *
 *   score[h,t,s] = scale q[t,h] . (W_k,h e_s + b_k,h) = scale (W_k,h^T q[t,h]) . e_s + what is the same for all s
 *
 *   o[t,h] = sum_s p[h,t,s] (W_v,h e_s + b_v,h) = W_v,h (sum_s p[h,t,s] e_s) + b_v,h
 *
 * and soft-max ignores what is the same for all s.
 *
 * So each query and head has a row as wide as the model, wide[t,h] = W_k,h^T q[t,h], and all heads attend to the same rows e,
 * once as keys and once as values: to the attention op that is one head, as wide as the model, with H query rows for each
 * target row. It is exact but for rounding, in every gradient; that of b_k is zero, as it is of any constant under soft-max.
 *
 * Both W_k and W_v appear in the form sum_h narrow_h W_h wide_h^T, narrow [N, H, K], wide [N, H, D], whose three derivatives
 * are the three functions below.
 */
#include "block.h"

#include <math.h>
#include <string.h>

static _Thread_local pac_cross forced;

void pac_cross_force(pac_cross way)
{
    forced = way;
}

/*
 * Multiply-adds of a forward and a backward with frozen weights, what the backward makes again included: the projections of a
 * row 2 + 2 (absorbed 2 + 3), the products of query and key 2 + 5. One rule for every use, so that a forward that is recomputed
 * or has no backward gives the rows that training gave. The second condition bounds scratch: no wide array is larger than k
 * was.
 */
static bool cheaper(const pac_block_cfg *c, double N, double S, double pairs)
{
    double D = (double)c->D, I = (double)(c->H * c->K), H = (double)c->H;
    return 5 * N * I * D + 7 * pairs * H * D < 4 * S * I * D + 7 * pairs * I && N * H * fmax(D, I) <= S * I;
}

pac_cross pac_cross_of(const pac_block_cfg *c, double T, double S)
{
    return cheaper(c, T, S, T * S) ? PAC_CROSS_ABSORBED : PAC_CROSS_PLAIN;
}

bool pac_absorbs(const block_ctx *c)
{
    const pac_batch *b = c->io->batch;
    double pairs = 0;
    if (forced != PAC_CROSS_CHEAPER)
        return forced == PAC_CROSS_ABSORBED;
    for (int64_t i = 0; i < b->B; i++)
        pairs += (double)(b->toff[i + 1] - b->toff[i]) * (double)(b->soff[i + 1] - b->soff[i]);
    return cheaper(c->cfg, (double)c->N, (double)c->S, pairs);
}

static pac_err scratch(const block_ctx *c, int64_t rows, int64_t width, float **out)
{
    return pac_arena_floats(c->io->work, rows * width, out);
}

/* The attention of pac_block_attn() with the heads as query rows. */
static pac_err shared_attn(const block_ctx *c, pac_attn *out)
{
    const pac_batch *b = c->io->batch;
    void *p;
    PAC_TRY(pac_arena_get(c->io->work, (size_t)(b->B + 1) * sizeof(int64_t), &p));
    int64_t *toff = p;
    for (int64_t i = 0; i <= b->B; i++)
        toff[i] = b->toff[i] * c->cfg->H;
    *out = (pac_attn){.B = b->B, .H = 1, .K = c->D, .toff = toff, .soff = b->soff, .scale = c->cfg->scale};
    return PAC_OK;
}

/* ---- wide_h = narrow_h W_h, W_h = w_h + scale b_h a ---- */

/* z[n,h] = scale narrow_h b_h, the part of the low-rank change that is [N, H, r] */
static void lora_narrow(const block_ctx *c, float *z, const float *narrow, const pac_lora *l)
{
    int64_t H = c->cfg->H, K = c->cfg->K;
    pac_gemm_each(c->be, H, z, H * l->r, l->r, narrow, c->I, K, false, l->b, l->r, K * l->r, false, c->N, l->r, K, l->scale,
                  0.0f);
}

/* z[n,h] = wide_h a^T */
static void lora_wide(const block_ctx *c, float *z, const float *wide, const pac_lora *l)
{
    c->be->gemm(z, l->r, wide, c->D, false, l->a, c->D, true, c->N * c->cfg->H, l->r, c->D, 1.0f, 0.0f);
}

/* w's values, in scratch where they are packed. */
static pac_err values(const block_ctx *c, const pac_linear *w, pac_widened *out)
{
    float *to;
    *out = (pac_widened){w->w, c->D, false};
    if (w->packed == NULL)
        return PAC_OK;
    PAC_TRY(pac_arena_floats(c->io->work, pac_packed_numbers(w->packed), &to));
    *out = pac_packed_widen(to, w->packed);
    return PAC_OK;
}

/* From a head's values to the next one's. */
static int64_t head_step(const block_ctx *c, const pac_widened *w)
{
    return c->cfg->K * (w->turned ? 1 : w->ld);
}

/*
 * Native products with the whole matrix for every head cost less than widening it where rows are few; a head's own part is on a
 * diagonal. Packed rows are the host's. At most D rows at once, so that this takes no more scratch than a widened matrix, which
 * is what a dry run counts.
 */
static bool is_native(const pac_linear *w)
{
    return w->packed != NULL && pac_packed_is_native(w->packed);
}

static int64_t rows_at_once(const block_ctx *c)
{
    int64_t rows = c->N * c->cfg->H;
    return rows < c->D ? rows : c->D;
}

static pac_err widen_native(const block_ctx *c, float *wide, const float *narrow, const pac_packed *w)
{
    int64_t H = c->cfg->H, K = c->cfg->K, rows = c->N * H, most = rows_at_once(c);
    float *z;
    PAC_TRY(scratch(c, most, c->I, &z));
    for (int64_t lo = 0; lo < rows; lo += most) {
        int64_t n = rows - lo < most ? rows - lo : most;
        memset(z, 0, (size_t)(n * c->I) * sizeof *z);
        for (int64_t i = lo; i < lo + n; i++)
            memcpy(z + (i - lo) * c->I + i % H * K, narrow + i * K, (size_t)K * sizeof *z);
        pac_packed_bwd(c->be, wide + lo * c->D, false, z, w, n, 1.0f);
    }
    return PAC_OK;
}

static pac_err narrow_native(const block_ctx *c, float *narrow, const float *wide, const pac_packed *w)
{
    int64_t H = c->cfg->H, K = c->cfg->K, rows = c->N * H, most = rows_at_once(c);
    float *z;
    PAC_TRY(scratch(c, most, c->I, &z));
    for (int64_t lo = 0; lo < rows; lo += most) {
        int64_t n = rows - lo < most ? rows - lo : most;
        pac_packed_fwd(c->be, z, wide + lo * c->D, w, NULL, n, 1.0f);
        for (int64_t i = lo; i < lo + n; i++)
            memcpy(narrow + i * K, z + (i - lo) * c->I + i % H * K, (size_t)K * sizeof *z);
    }
    return PAC_OK;
}

/* wide_h = narrow_h w_h, or narrow_h = wide_h w_h^T */
static pac_err widen_plain(const block_ctx *c, float *wide, const float *narrow, const pac_linear *w)
{
    int64_t H = c->cfg->H, K = c->cfg->K, D = c->D;
    pac_widened v;
    if (is_native(w))
        return widen_native(c, wide, narrow, w->packed);
    PAC_TRY(values(c, w, &v));
    pac_gemm_each(c->be, H, wide, H * D, D, narrow, c->I, K, false, v.w, v.ld, head_step(c, &v), v.turned, c->N, D, K, 1.0f,
                  0.0f);
    return PAC_OK;
}

static pac_err narrow_plain(const block_ctx *c, float *narrow, const float *wide, const pac_linear *w)
{
    int64_t H = c->cfg->H, K = c->cfg->K, D = c->D;
    pac_widened v;
    if (is_native(w))
        return narrow_native(c, narrow, wide, w->packed);
    PAC_TRY(values(c, w, &v));
    pac_gemm_each(c->be, H, narrow, c->I, K, wide, H * D, D, false, v.w, v.ld, head_step(c, &v), !v.turned, c->N, K, D, 1.0f,
                  0.0f);
    return PAC_OK;
}

static pac_err widen(const block_ctx *c, float *wide, const float *narrow, const pac_linear *w)
{
    int64_t H = c->cfg->H, D = c->D;
    PAC_TRY(widen_plain(c, wide, narrow, w));
    if (w->lora == NULL)
        return PAC_OK;
    float *z;
    PAC_TRY(scratch(c, c->N * H, w->lora->r, &z));
    lora_narrow(c, z, narrow, w->lora);
    c->be->gemm(wide, D, z, w->lora->r, false, w->lora->a, D, false, c->N * H, D, w->lora->r, 1.0f, 1.0f);
    return PAC_OK;
}

/* narrow_h = wide_h W_h^T */
static pac_err narrow_down(const block_ctx *c, float *narrow, const float *wide, const pac_linear *w)
{
    const pac_lora *l = w->lora;
    int64_t H = c->cfg->H, K = c->cfg->K;
    PAC_TRY(narrow_plain(c, narrow, wide, w));
    if (l == NULL)
        return PAC_OK;
    float *z;
    PAC_TRY(scratch(c, c->N * H, l->r, &z));
    lora_wide(c, z, wide, l);
    pac_gemm_each(c->be, H, narrow, c->I, K, z, H * l->r, l->r, false, l->b, l->r, K * l->r, true, c->N, K, l->r, l->scale,
                  1.0f);
    return PAC_OK;
}

static pac_err learn_lora(const block_ctx *c, const float *narrow, const float *wide, const pac_lora *l)
{
    int64_t H = c->cfg->H, K = c->cfg->K, D = c->D;
    float *z;
    PAC_TRY(scratch(c, c->N * H, l->r, &z));
    if (l->da != NULL) {
        lora_narrow(c, z, narrow, l);
        c->be->gemm(l->da, D, z, l->r, true, wide, D, false, l->r, D, c->N * H, 1.0f, 1.0f);
    }
    if (l->db == NULL)
        return PAC_OK;
    lora_wide(c, z, wide, l);
    pac_gemm_each(c->be, H, l->db, l->r, K * l->r, narrow, c->I, K, true, z, H * l->r, l->r, false, K, l->r, c->N, l->scale,
                  1.0f);
    return PAC_OK;
}

/* dW_h += narrow_h^T wide_h, one of the two a gradient */
static pac_err learn(const block_ctx *c, const float *narrow, const float *wide, const pac_linear *w)
{
    int64_t H = c->cfg->H, K = c->cfg->K, D = c->D;
    if (w->dw != NULL)
        pac_gemm_each(c->be, H, w->dw, D, K * D, narrow, c->I, K, true, wide, H * D, D, false, K, D, c->N, 1.0f, 1.0f);
    return w->lora != NULL ? learn_lora(c, narrow, wide, w->lora) : PAC_OK;
}

/* ---- forward and backward ---- */

pac_err pac_absorb_fwd(const block_ctx *c, const pac_attn_weights *w, attn_saved *s)
{
    const float *e = c->io->enc;
    int64_t D = c->D;
    float *q, *u;
    pac_attn p;
    PAC_TRY(shared_attn(c, &p));
    PAC_TRY(scratch(c, c->N * c->cfg->H, D, &q));
    PAC_TRY(scratch(c, c->N * c->cfg->H, D, &u));
    if (c->keep != NULL)
        PAC_TRY(pac_arena_floats(c->keep, c->N * c->cfg->H, &s->lse));
    PAC_TRY(widen(c, q, s->q, &w->k));
    c->be->attn_fwd(u, D, s->lse, q, D, e, D, e, D, &p);
    PAC_TRY(narrow_down(c, s->o, u, &w->v));
    if (w->v.b != NULL)
        c->be->bias_fwd(s->o, w->v.b, c->N, c->I);
    s->absorbed = true;
    return PAC_OK;
}

/* Forward: o_h = u_h W_v,h^T + b_v. The wide rows u are made again in t. */
static pac_err learn_values(const block_ctx *c, const float *d_o, const float *q, const pac_attn *p, const pac_linear *v,
                            float *t)
{
    if (pac_block_learns(v)) {
        c->be->attn_fwd(t, c->D, NULL, q, c->D, c->io->enc, c->D, c->io->enc, c->D, p);
        PAC_TRY(learn(c, d_o, t, v));
    }
    if (v->db != NULL)
        c->be->bias_bwd(v->db, d_o, c->N, c->I);
    return PAC_OK;
}

pac_err pac_absorb_bwd(const block_ctx *c, float *dq, float *denc, const float *d_o, const pac_attn_weights *w,
                       const attn_saved *s)
{
    const float *e = c->io->enc;
    int64_t D = c->D, rows = c->N * c->cfg->H;
    float *q, *du, *t, *de_k, *de_v;
    pac_attn p;
    PAC_TRY(shared_attn(c, &p));
    PAC_TRY(scratch(c, rows, D, &q));
    PAC_TRY(scratch(c, rows, D, &du));
    PAC_TRY(scratch(c, rows, D, &t));
    PAC_TRY(scratch(c, c->S, D, &de_k));
    PAC_TRY(scratch(c, c->S, D, &de_v));
    PAC_TRY(widen(c, q, s->q, &w->k));
    PAC_TRY(widen(c, du, d_o, &w->v));
    PAC_TRY(learn_values(c, d_o, q, &p, &w->v, t));
    /* u = attention(q, e, e), q_h = q W_k,h */
    c->be->attn_bwd(t, de_k, de_v, NULL, du, D, q, D, e, D, e, D, s->lse, &p);
    PAC_TRY(narrow_down(c, dq, t, &w->k));
    PAC_TRY(learn(c, s->q, t, &w->k));
    if (denc != NULL) {
        c->be->axpy(denc, de_k, c->S * D, 1.0f);
        c->be->axpy(denc, de_v, c->S * D, 1.0f);
    }
    return PAC_OK;
}
