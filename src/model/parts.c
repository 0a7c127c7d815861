/*
 * The smallest parts of a layer, over the op table: linear and norm. A part with a NULL gradient is frozen: its backward only
 * passes the gradient on.
 */
#include "pac/model.h"

void pac_linear_fwd(const pac_backend *be, float *y, const float *x, const pac_linear *w, int64_t N, int64_t in, int64_t out)
{
    be->gemm(y, out, x, in, false, w->w, in, true, N, out, in, 1.0f, 0.0f);
    if (w->b != NULL)
        be->bias_fwd(y, w->b, N, out);
}

void pac_linear_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const float *x, const pac_linear *w,
                    int64_t N, int64_t in, int64_t out)
{
    /* y = x w^T + b */
    if (w->dw != NULL)
        be->gemm(w->dw, in, dy, out, true, x, in, false, out, in, N, 1.0f, 1.0f);
    if (w->db != NULL)
        be->bias_bwd(w->db, dy, N, out);
    if (dx != NULL)
        be->gemm(dx, in, dy, out, false, w->w, in, false, N, in, out, 1.0f, accumulate ? 1.0f : 0.0f);
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
