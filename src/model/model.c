/*
 * Run a loaded slice behind its embedding: one block, the final norm, the lm head; forward and backward. A part with a NULL
 * gradient is frozen, and without an arena to keep activations in nothing is kept.
 */
#include "stream.h"

static pac_err check_layer(const pac_model *m, int64_t layer)
{
    PAC_CHECK(layer >= m->first && layer < m->last, PAC_EINVAL, "layer %lld is not in the slice [%lld, %lld)", (long long)layer,
              (long long)m->first, (long long)m->last);
    return PAC_OK;
}

static pac_block_io io_of(const pac_model *m, int64_t layer, const pac_pass *p, const float *enc)
{
    pac_stack stack = pac_stack_of(&m->desc, layer);
    return (pac_block_io){.be = m->be,
                          .work = p->work,
                          .batch = p->batch,
                          .stack = stack,
                          .bias_table = m->riders[stack].bias_table.w,
                          .dbias_table = m->riders[stack].bias_table.dw,
                          .enc = enc,
                          .drop = p->drop,
                          .layer = layer};
}

pac_err pac_model_layer_fwd(const pac_model *m, int64_t layer, const pac_pass *p, const float *enc, float *y, const float *x,
                            pac_block_saved **saved)
{
    PAC_TRY(check_layer(m, layer));
    PAC_TRY(pac_stream_use(m->stream, layer));
    pac_block_io io = io_of(m, layer, p, enc);
    return pac_block_fwd(y, x, &m->desc.block[io.stack], &m->blocks[layer - m->first], &io, p->keep, saved);
}

pac_err pac_model_layer_bwd(const pac_model *m, int64_t layer, const pac_pass *p, const float *enc, float *dx, float *denc,
                            const float *dy, const pac_block_saved *saved)
{
    PAC_TRY(check_layer(m, layer));
    pac_block_io io = io_of(m, layer, p, enc);
    return pac_block_bwd(dx, denc, dy, &m->desc.block[io.stack], &m->blocks[layer - m->first], &io, saved);
}

pac_err pac_model_block(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, float *y, const float *x,
                        pac_arena *work)
{
    const pac_pass frozen = {.batch = batch, .work = work};
    return pac_model_layer_fwd(m, layer, &frozen, enc, y, x, NULL);
}

void pac_model_rest(const pac_model *m)
{
    pac_stream_rest(m->stream);
}

/* ---- the final norm of a stack ---- */

static pac_err check_final(const pac_model *m, pac_stack stack)
{
    PAC_CHECK(m->riders[stack].final_norm.w != NULL, PAC_EINVAL, "the slice [%lld, %lld) does not hold the stack's final norm",
              (long long)m->first, (long long)m->last);
    return PAC_OK;
}

static int64_t rows_in(const pac_batch *b, pac_stack stack)
{
    return stack == PAC_ENC ? b->soff[b->B] : b->toff[b->B];
}

static void copy_rows(const pac_model *m, float *y, const float *x, int64_t n)
{
    if (y != x)
        m->be->copy(y, x, n);
}

pac_err pac_model_final(const pac_model *m, pac_stack stack, float *y, const float *x, int64_t N)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    if (!m->desc.final_norm[stack]) {
        copy_rows(m, y, x, N * b->D);
        return PAC_OK;
    }
    PAC_TRY(check_final(m, stack));
    pac_norm_fwd(m->be, b->norm, y, NULL, NULL, x, &m->riders[stack].final_norm, N, b->D, b->eps);
    return PAC_OK;
}

pac_err pac_model_final_fwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *y, const float *x,
                            pac_norm_saved *saved)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    const int64_t N = rows_in(p->batch, stack);
    pac_norm_saved s = {.x = x};
    if (!m->desc.final_norm[stack]) {
        copy_rows(m, y, x, N * b->D);
        return PAC_OK;
    }
    PAC_TRY(check_final(m, stack));
    if (p->keep != NULL) {
        PAC_TRY(pac_arena_floats(p->keep, N, &s.mean));
        PAC_TRY(pac_arena_floats(p->keep, N, &s.rstd));
        *saved = s;
    }
    pac_norm_fwd(m->be, b->norm, y, s.mean, s.rstd, x, &m->riders[stack].final_norm, N, b->D, b->eps);
    pac_drop(m->be, p->drop, stack, pac_span_of_stack(&m->desc, stack).last, PAC_SITE_FINAL, y, N, b->D);
    return PAC_OK;
}

pac_err pac_model_final_bwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *dx, float *dy,
                            const pac_norm_saved *saved)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    const int64_t N = rows_in(p->batch, stack);
    if (!m->desc.final_norm[stack]) {
        copy_rows(m, dx, dy, N * b->D);
        return PAC_OK;
    }
    PAC_TRY(check_final(m, stack));
    pac_drop(m->be, p->drop, stack, pac_span_of_stack(&m->desc, stack).last, PAC_SITE_FINAL, dy, N, b->D);
    pac_norm_bwd(m->be, b->norm, dx, dy, saved->x, &m->riders[stack].final_norm, saved->mean, saved->rstd, N, b->D);
    return PAC_OK;
}

/* ---- the lm head ---- */

static pac_err head_of(const pac_model *m, const pac_linear **out)
{
    const pac_linear *head = &m->riders[pac_last_stack(&m->desc)].head;
    PAC_CHECK(m->desc.lm, PAC_ECONFIG, "a %s model has no language-model head: set head: classification", m->desc.family->name);
    PAC_CHECK(pac_has_values(head), PAC_EINVAL, "the model was loaded without its head");
    *out = head;
    return pac_stream_use(m->stream, m->last);
}

/* logits = scale h head^T + bias */
pac_err pac_model_logits(const pac_model *m, float *logits, const float *h, int64_t N)
{
    const pac_linear *head = NULL;
    const int64_t D = m->desc.block[pac_last_stack(&m->desc)].D, V = m->desc.vocab;
    PAC_TRY(head_of(m, &head));
    if (head->packed != NULL) {
        pac_packed_fwd(m->be, logits, h, head->packed, head->b, N, m->desc.head_scale);
        return PAC_OK;
    }
    m->be->gemm(logits, V, h, D, false, head->w, D, true, N, V, D, m->desc.head_scale, 0.0f);
    if (head->b != NULL)
        m->be->bias_fwd(logits, head->b, N, V);
    return PAC_OK;
}

bool pac_model_head_xent(const pac_model *m, float *loss, float *dh, const float *h, const int32_t *labels, int64_t N,
                         float scale)
{
    const pac_linear *head = NULL;
    const int64_t D = m->desc.block[pac_last_stack(&m->desc)].D, V = m->desc.vocab;
    if (m->be->head_xent == NULL || m->stream != NULL || head_of(m, &head) != PAC_OK)
        return false;
    bool plain = head->packed == NULL && head->b == NULL && head->dw == NULL;
    return plain && m->be->head_xent(loss, dh, h, head->w, labels, N, D, V, m->desc.head_scale, scale);
}

/* logits = scale h head^T + bias */
pac_err pac_model_logits_bwd(const pac_model *m, float *dh, const float *dlogits, int64_t N)
{
    const pac_linear *head = NULL;
    const int64_t D = m->desc.block[pac_last_stack(&m->desc)].D, V = m->desc.vocab;
    PAC_TRY(head_of(m, &head));
    if (head->packed != NULL)
        pac_packed_bwd(m->be, dh, false, dlogits, head->packed, N, m->desc.head_scale);
    else
        m->be->gemm(dh, D, dlogits, V, false, head->w, D, false, N, D, V, m->desc.head_scale, 0.0f);
    return PAC_OK;
}

/* logits = scale h head^T + bias */
void pac_model_head_bwd(const pac_model *m, const float *dlogits, const float *h, int64_t N)
{
    const pac_linear *head = &m->riders[pac_last_stack(&m->desc)].head;
    const int64_t D = m->desc.block[pac_last_stack(&m->desc)].D, V = m->desc.vocab;
    if (head->dw != NULL)
        m->be->gemm(head->dw, D, dlogits, V, true, h, D, false, V, D, N, m->desc.head_scale, 1.0f);
}
