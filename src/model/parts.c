/*
 * The smallest parts of a layer, over the op table: linear, its low-rank change, norm, dropout. A part with a NULL gradient is
 * frozen: its backward only passes the gradient on.
 */
#include "pac/model.h"
#include "pac/rng.h"

void pac_linear_fwd(const pac_backend *be, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out)
{
    if (w->packed != NULL) {
        pac_packed_fwd(be, y, x, w->packed, w->b, N, 1.0f);
        return;
    }
    be->gemm(y, out, x, in, false, w->w, in, true, N, out, in, 1.0f, 0.0f);
    if (w->b != NULL)
        be->bias_fwd(y, w->b, N, out);
}

void pac_linear_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const float *x, const pac_linear *w,
                    int64_t N, int64_t in, int64_t out)
{
    /* y = x w^T + b */
    pac_steady_begin(be, dy);
    if (w->dw != NULL)
        be->gemm(w->dw, in, dy, out, true, x, in, false, out, in, N, 1.0f, 1.0f);
    if (w->db != NULL)
        be->bias_bwd(w->db, dy, N, out);
    if (dx != NULL && w->packed != NULL)
        pac_packed_bwd(be, dx, accumulate, dy, w->packed, N, 1.0f);
    else if (dx != NULL)
        be->gemm(dx, in, dy, out, false, w->w, in, false, N, in, out, 1.0f, accumulate ? 1.0f : 0.0f);
    pac_steady_end(be, dy);
}

/* u = x a^T; y += scale u b^T */
pac_err pac_lora_fwd(const pac_backend *be, float *y, const float *x, const pac_lora *l, int64_t N, int64_t in, int64_t out,
                     pac_arena *work)
{
    float *u;
    size_t mark = pac_arena_mark(work);
    PAC_TRY(pac_arena_floats(work, N * l->r, &u));
    be->gemm(u, l->r, x, in, false, l->a, in, true, N, l->r, in, 1.0f, 0.0f);
    be->gemm(y, out, u, l->r, false, l->b, l->r, true, N, out, l->r, l->scale, 1.0f);
    pac_arena_release(work, mark);
    return PAC_OK;
}

/* du = scale dy b: da += du^T x, dx += du a; db += scale dy^T u, u made again */
pac_err pac_lora_bwd(const pac_backend *be, float *dx, const float *dy, const float *x, const pac_lora *l, int64_t N,
                     int64_t in, int64_t out, pac_arena *work)
{
    float *u;
    size_t mark = pac_arena_mark(work);
    PAC_TRY(pac_arena_floats(work, N * l->r, &u));
    if (l->db != NULL) {
        be->gemm(u, l->r, x, in, false, l->a, in, true, N, l->r, in, 1.0f, 0.0f);
        be->gemm(l->db, l->r, dy, out, true, u, l->r, false, out, l->r, N, l->scale, 1.0f);
    }
    be->gemm(u, l->r, dy, out, false, l->b, l->r, false, N, l->r, out, l->scale, 0.0f);
    if (l->da != NULL)
        be->gemm(l->da, in, u, l->r, true, x, in, false, l->r, in, N, 1.0f, 1.0f);
    if (dx != NULL)
        be->gemm(dx, in, u, l->r, false, l->a, in, false, N, in, l->r, 1.0f, 1.0f);
    pac_arena_release(work, mark);
    return PAC_OK;
}

void pac_drop_to(const pac_backend *be, const pac_dropout *drop, pac_stack stack, int64_t layer, pac_site site, float *y,
                 const float *x, int64_t N, int64_t D)
{
    enum { SITES = 16 };
    uint64_t key = pac_rng_u64(drop->key, PAC_STREAM_DROPOUT, (uint64_t)layer * SITES + (uint64_t)site);
    be->dropout(y, x, drop->row[stack], N, D, key, drop->p);
}

void pac_drop(const pac_backend *be, const pac_dropout *drop, pac_stack stack, int64_t layer, pac_site site, float *x,
              int64_t N, int64_t D)
{
    if (drop != NULL)
        pac_drop_to(be, drop, stack, layer, site, x, x, N, D);
}

void pac_norm_fwd(const pac_backend *be, pac_norm_kind kind, float *y, float *mean, float *rstd, const float *x,
                  const pac_norm *w, int64_t N, int64_t D, float eps)
{
    if (kind == PAC_NORM_RMS)
        be->rmsnorm_fwd(y, rstd, x, w->w, N, D, eps);
    else
        be->layernorm_fwd(y, mean, rstd, x, w->w, w->b, N, D, eps);
}

void pac_norm_bwd(const pac_backend *be, pac_norm_kind kind, float *dx, const float *dy, const float *x, const pac_norm *w,
                  const float *mean, const float *rstd, int64_t N, int64_t D)
{
    if (kind == PAC_NORM_RMS)
        be->rmsnorm_bwd(dx, w->dw, dy, x, w->w, rstd, N, D);
    else
        be->layernorm_bwd(dx, w->dw, w->db, dy, x, w->w, mean, rstd, N, D);
}
