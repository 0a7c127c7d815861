/*
 * Classification head: out(tanh(dense(row of a sequence's last token))). It always learns. Source: Hugging Face
 * T5ClassificationHead, BartClassificationHead (without their dropout).
 */
#include "side.h"

#include <string.h>

typedef struct hidden {
    int32_t *last;           /* [B] row of each sequence's last token */
    float *row, *pre, *tanh; /* [B, D] */
} hidden;

static pac_err last_rows(const pac_side *s, const pac_batch *batch, pac_arena *work, int32_t **out)
{
    const int64_t *off = pac_side_last_stack(&s->desc) == PAC_DEC ? batch->toff : batch->soff;
    void *rows;
    PAC_TRY(pac_arena_get(work, (size_t)batch->B * sizeof(int32_t), &rows));
    for (int64_t b = 0; b < batch->B; b++) {
        PAC_CHECK(off[b + 1] > off[b], PAC_EDATA, "sequence %lld is empty: a classification head needs a last token",
                  (long long)b);
        ((int32_t *)rows)[b] = (int32_t)(off[b + 1] - 1);
    }
    *out = rows;
    return PAC_OK;
}

/* row = h[last]; pre = dense(row); tanh */
static pac_err hidden_fwd(const pac_side *s, const pac_batch *batch, const float *h, pac_arena *work, hidden *x)
{
    int64_t n = batch->B * s->D;
    PAC_TRY(last_rows(s, batch, work, &x->last));
    PAC_TRY(pac_arena_floats(work, n, &x->row));
    PAC_TRY(pac_arena_floats(work, n, &x->pre));
    PAC_TRY(pac_arena_floats(work, n, &x->tanh));
    s->be->embed_fwd(x->row, h, x->last, batch->B, s->D);
    pac_linear_fwd(s->be, x->pre, x->row, &s->tail.dense, batch->B, s->D, s->D);
    s->be->act_fwd(x->tanh, x->pre, n, PAC_ACT_TANH);
    return PAC_OK;
}

static pac_err check_head(const pac_side *s)
{
    PAC_CHECK(s->tail.dense.w != NULL, PAC_EINVAL, "this slice of the side network has no classification head");
    return PAC_OK;
}

pac_err pac_cls_fwd(pac_side *s, const pac_batch *batch, float *logits, const float *h, pac_arena *keep, pac_arena *work)
{
    (void)keep; /* the hidden layer is made again in the backward pass */
    hidden x;
    PAC_TRY(check_head(s));
    size_t mark = pac_arena_mark(work);
    pac_err err = hidden_fwd(s, batch, h, work, &x);
    if (err == PAC_OK)
        pac_linear_fwd(s->be, logits, x.tanh, &s->tail.out, batch->B, s->D, s->opts.classes);
    pac_arena_release(work, mark);
    return err;
}

static pac_err backward(pac_side *s, const pac_batch *batch, float *dh, const float *dlogits, const float *h, pac_arena *work)
{
    hidden x;
    float *d;
    int64_t B = batch->B, D = s->D, N = (pac_side_last_stack(&s->desc) == PAC_DEC ? batch->toff : batch->soff)[B];
    PAC_TRY(hidden_fwd(s, batch, h, work, &x));
    PAC_TRY(pac_arena_floats(work, B * D, &d));
    /* logits = out(tanh(pre)) */
    pac_linear_bwd(s->be, d, false, dlogits, x.tanh, &s->tail.out, B, D, s->opts.classes);
    s->be->act_bwd(d, d, x.pre, B * D, PAC_ACT_TANH);
    /* pre = dense(h[last]); dtanh is no longer needed, its place takes the rows' gradient */
    pac_linear_bwd(s->be, x.tanh, false, d, x.row, &s->tail.dense, B, D, D);
    memset(dh, 0, (size_t)(N * D) * sizeof *dh);
    s->be->embed_bwd(dh, x.tanh, x.last, B, D);
    return PAC_OK;
}

pac_err pac_cls_bwd(pac_side *s, const pac_batch *batch, float *dh, const float *dlogits, const float *h, pac_arena *work)
{
    PAC_TRY(check_head(s));
    size_t mark = pac_arena_mark(work);
    pac_err err = backward(s, batch, dh, dlogits, h, work);
    pac_arena_release(work, mark);
    return err;
}
