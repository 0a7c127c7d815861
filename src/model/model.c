/*
 * Run a loaded slice: embeddings, one block, the final norm, the head. The backbone is frozen, so nothing is kept; only the
 * head has a backward, because the loss's gradient reaches the side network through it.
 */
#include "model.h"

#include <string.h>

static pac_err check_ids(const pac_model *m, const int32_t *ids, int64_t N)
{
    for (int64_t i = 0; i < N; i++)
        PAC_CHECK(ids[i] >= 0 && ids[i] < m->desc.vocab, PAC_EDATA,
                  "token id %d lies outside the model's vocabulary of %lld: do model and tokenizer belong together?",
                  (int)ids[i], (long long)m->desc.vocab);
    return PAC_OK;
}

pac_err pac_model_embed(const pac_model *m, pac_stack stack, const pac_batch *batch, float *x)
{
    const int32_t *ids = stack == PAC_ENC ? batch->sids : batch->tids;
    int64_t N = stack == PAC_ENC ? batch->soff[batch->B] : batch->toff[batch->B];
    PAC_CHECK(m->riders[stack].embed != NULL, PAC_EINVAL, "the slice [%lld, %lld) does not hold the stack's embedding",
              (long long)m->first, (long long)m->last);
    PAC_TRY(check_ids(m, ids, N));
    m->desc.family->embed(&m->desc, m->be, &m->riders[stack], stack, batch, x);
    return PAC_OK;
}

pac_err pac_model_block(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, float *y, const float *x,
                        pac_arena *work)
{
    PAC_CHECK(layer >= m->first && layer < m->last, PAC_EINVAL, "layer %lld is not in the slice [%lld, %lld)", (long long)layer,
              (long long)m->first, (long long)m->last);
    pac_stack stack = layer < m->desc.layers[PAC_ENC] ? PAC_ENC : PAC_DEC;
    pac_block_io io = {
        .be = m->be, .work = work, .batch = batch, .stack = stack, .bias_table = m->riders[stack].bias_table, .enc = enc};
    return pac_block_fwd(y, x, &m->desc.block[stack], &m->blocks[layer - m->first], &io, NULL, NULL);
}

pac_err pac_model_final(const pac_model *m, pac_stack stack, float *y, const float *x, int64_t N)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    if (!m->desc.final_norm[stack]) {
        if (y != x)
            memcpy(y, x, (size_t)(N * b->D) * sizeof *y);
        return PAC_OK;
    }
    pac_norm w = {.w = m->riders[stack].final_norm};
    PAC_CHECK(w.w != NULL, PAC_EINVAL, "the slice [%lld, %lld) does not hold the stack's final norm", (long long)m->first,
              (long long)m->last);
    pac_norm_fwd(m->be, b->norm, y, NULL, NULL, x, &w, N, b->D, b->eps);
    return PAC_OK;
}

static const float *head_of(const pac_model *m)
{
    return m->riders[PAC_DEC].head != NULL ? m->riders[PAC_DEC].head : m->riders[PAC_ENC].head;
}

/* logits = scale h head^T */
pac_err pac_model_logits(const pac_model *m, float *logits, const float *h, int64_t N, pac_arena *work)
{
    (void)work;
    const float *head = head_of(m);
    int64_t D = m->desc.block[PAC_DEC].D, V = m->desc.vocab;
    PAC_CHECK(head != NULL, PAC_EINVAL, "the model was loaded without its head");
    m->be->gemm(logits, V, h, D, false, head, D, true, N, V, D, m->desc.head_scale, 0.0f);
    return PAC_OK;
}

/* logits = scale h head^T */
pac_err pac_model_logits_bwd(const pac_model *m, float *dh, const float *dlogits, int64_t N, pac_arena *work)
{
    (void)work;
    const float *head = head_of(m);
    int64_t D = m->desc.block[PAC_DEC].D, V = m->desc.vocab;
    PAC_CHECK(head != NULL, PAC_EINVAL, "the model was loaded without its head");
    m->be->gemm(dh, D, dlogits, V, false, head, D, false, N, D, V, m->desc.head_scale, 0.0f);
    return PAC_OK;
}

const pac_block_weights *pac_model_block_weights(const pac_model *m, int64_t layer)
{
    return layer >= m->first && layer < m->last ? &m->blocks[layer - m->first] : NULL;
}

const float *pac_model_bias_table(const pac_model *m, pac_stack stack)
{
    return m->riders[stack].bias_table;
}

const float *pac_model_final_norm(const pac_model *m, pac_stack stack)
{
    return m->riders[stack].final_norm;
}
